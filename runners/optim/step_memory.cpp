#include "runners/optim/step_memory.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "registry/log.hpp"
#include "segcore/memory/device_memory.hpp"

namespace seg {
namespace {

/// Of what is free: for allocators that cannot use all, and for other programs.
constexpr double kShareOfFree = 0.9;
/// By which share of the limit what is held may grow before blocks are chosen again.
constexpr double kTolerance = 0.01;

struct SizeUnit {
  const char* name;
  double bytes;
};
constexpr std::array<SizeUnit, 9> kSizeUnits{{{"B", 1},
                                              {"KB", 1e3},
                                              {"MB", 1e6},
                                              {"GB", 1e9},
                                              {"TB", 1e12},
                                              {"KiB", 1024.0},
                                              {"MiB", 1048576.0},
                                              {"GiB", 1073741824.0},
                                              {"TiB", 1099511627776.0}}};

std::optional<double> bytes_in(const std::string& size) {
  double number = 0;
  const char* const end = size.data() + size.size();
  auto [unit, failure] = std::from_chars(size.data(), end, number);
  if (failure != std::errc()) return std::nullopt;
  while (unit != end && *unit == ' ') ++unit;
  for (const SizeUnit& known : kSizeUnits) {
    if (std::string(unit, end) == known.name) return number * known.bytes;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> limit_bytes(const MemoryLimit& limit, int64_t total) {
  const auto* number = std::get_if<double>(&limit);
  std::optional<double> bytes;
  if (number) {
    bytes = *number <= 1 ? *number * static_cast<double>(total) : *number;
  } else {
    bytes = bytes_in(std::get<std::string>(limit));
  }
  if (!bytes || !(*bytes > 0) || *bytes > 1e18) return std::nullopt;
  return static_cast<int64_t>(*bytes);
}

std::string size_text(int64_t bytes) {
  std::array<char, 32> out{};
  std::snprintf(out.data(), out.size(), "%.2f GB", static_cast<double>(bytes) / 1e9);
  return out.data();
}

StepMemory::StepMemory(const torch::nn::Module& model, c10::Device device,
                       std::optional<int64_t> limit)
    : plan_(model), device_(device) {
  const auto can_be_held =
      static_cast<double>(memory_use(device).used + free_memory(device)) * kShareOfFree;
  limit_ = limit.value_or(static_cast<int64_t>(can_be_held));
}

std::unique_ptr<FollowsPlan> StepMemory::begin(const at::Tensor& images) {
  const int64_t held = memory_use(device_).used;
  const Shape shape{.values = images.numel(), .pixels = images.size(-2) * images.size(-1)};
  measures_ = !fits_measured(shape);
  if (measures_) {
    being_measured_ = {.values = std::max(shape.values, measured_.values),
                       .pixels = std::max(shape.pixels, measured_.pixels)};
    held_ = held;
    forget_memory_peak(device_);
    plan_.measure();
  } else {
    const auto tolerance = static_cast<int64_t>(kTolerance * static_cast<double>(limit_));
    if (held_ < 0 || held > held_ + tolerance) choose(held);
    plan_.follow(kept_);
  }
  return std::make_unique<FollowsPlan>(plan_);
}

void StepMemory::end() {
  if (!std::exchange(measures_, false)) return;
  measured_ = being_measured_;
  for_step_ = std::max<int64_t>(memory_use(device_).peak - held_, 0);
  costs_ = plan_.costs();
  held_ = -1;
}

void StepMemory::choose(int64_t held) {
  held_ = held;
  const int64_t least = held + for_step_;
  auto kept = blocks_to_keep(costs_, limit_ - least);
  if (least > limit_ && !std::exchange(warned_, true)) {
    log::warn("memory: a step needs about ", size_text(least),
              " even with all blocks recomputed, more than the limit of ", size_text(limit_),
              ": a smaller batch or crop needs less");
  }
  if (chosen_ && kept == kept_) return;
  chosen_ = true;
  kept_ = std::move(kept);
  int64_t needed = least;
  for (size_t i = 0; i < kept_.size(); ++i) {
    if (kept_[i]) needed += costs_[i].bytes;
  }
  log::info("memory: ", std::count(kept_.begin(), kept_.end(), false), " of ", kept_.size(),
            " blocks are recomputed in the backward pass, about ", size_text(needed),
            " of the limit of ", size_text(limit_));
}

}  // namespace seg
