#include "runners/optim/step_memory.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "registry/log.hpp"
#include "registry/printed.hpp"

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
  const auto b = static_cast<double>(bytes);
  return b < 1e9 ? printed("%.3g MB", b / 1e6) : printed("%.2f GB", b / 1e9);
}

StepMemory::StepMemory(const torch::nn::Module& model, c10::Device device,
                       std::optional<int64_t> limit, UseOfDevice use)
    : plan_(model), device_(device), use_(std::move(use)) {
  const auto can_be_held =
      static_cast<double>(use_(device).used + free_memory(device)) * kShareOfFree;
  limit_ = limit.value_or(static_cast<int64_t>(can_be_held));
}

std::unique_ptr<FollowsPlan> StepMemory::begin(const at::Tensor& images, int64_t gradients) {
  const int64_t held = use_(device_).used - gradients;
  const Shape shape{.values = images.numel(), .pixels = images.size(-2) * images.size(-1)};
  measures_ = !measured_.covers(shape);
  if (measures_) {
    being_measured_ = shape;
    held_ = held;
    forget_memory_peak(device_);
    plan_.measure();
  } else {
    const auto tolerance = static_cast<int64_t>(kTolerance * static_cast<double>(limit_));
    if (!chosen_for_costs_ || std::abs(held - held_) > tolerance) choose(held);
    plan_.follow(kept_);
  }
  return std::make_unique<FollowsPlan>(plan_);
}

void StepMemory::end() {
  if (!std::exchange(measures_, false)) return;
  const int64_t for_step = std::max<int64_t>(use_(device_).peak - held_, 0);
  if (being_measured_.covers(measured_)) {
    measured_ = being_measured_;
    for_step_ = for_step;
    costs_ = plan_.costs();
  } else {
    measured_.grow_to(being_measured_);
    for_step_ = std::max(for_step_, for_step);
    raise_costs(plan_.costs());
  }
  chosen_for_costs_ = false;
}

void StepMemory::raise_costs(const std::vector<BlockCost>& measured) {
  costs_.resize(std::max(costs_.size(), measured.size()));
  for (size_t i = 0; i < measured.size(); ++i) {
    costs_[i].bytes = std::max(costs_[i].bytes, measured[i].bytes);
    costs_[i].seconds = std::max(costs_[i].seconds, measured[i].seconds);
  }
}

void StepMemory::choose(int64_t held) {
  held_ = held;
  chosen_for_costs_ = true;
  const int64_t least = held + for_step_;
  auto kept = blocks_to_keep(costs_, limit_ - least);
  if (least > limit_ && !std::exchange(warned_, true)) {
    log::warn("memory: a step needs about ", size_text(least),
              " even with all blocks recomputed, more than the limit of ", size_text(limit_),
              ": a smaller batch or crop needs less");
  }
  if (reported_ && kept == kept_) return;
  reported_ = true;
  kept_ = std::move(kept);
  int64_t needed = least;
  for (size_t i = 0; i < kept_.size(); ++i) {
    if (kept_[i]) needed += costs_[i].bytes;
  }
  // Others take nothing when they are kept, such as those that `with_cp` recomputes in any case.
  const auto blocks =
      std::count_if(costs_.begin(), costs_.end(), [](const auto& cost) { return cost.bytes > 0; });
  log::info("memory: ", std::count(kept_.begin(), kept_.end(), false), " of ", blocks,
            " blocks are recomputed in the backward pass, about ", size_text(needed),
            " of the limit of ", size_text(limit_));
}

}  // namespace seg
