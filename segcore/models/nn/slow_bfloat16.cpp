#include "segcore/models/nn/slow_bfloat16.hpp"

#include <ATen/cpu/Utils.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/full.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <string_view>

#include "registry/log.hpp"

namespace seg {
namespace {

/// Seconds, the least of three.
double time_of_convolution(at::ScalarType type) {
  const auto options = at::TensorOptions(type);
  const auto x = at::full({1, 32, 24, 24}, 0.5, options);
  const auto weight = at::full({32, 32, 3, 3}, 0.5, options);
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 3; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    at::conv2d(x, weight, {}, 1, 1);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    least = std::min(least, took.count());
  }
  return least;
}

}  // namespace

bool has_bfloat16_instructions(const char* most) {
  // AVX2_VNNI_2 has instructions, but oneDNN uses them in no backward pass.
  constexpr std::array<std::string_view, 7> kWithout{
      "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"};
  const auto known = at::cpu::get_cpu_capabilities();
  const auto has = [&](const char* name) {
    const auto found = known.find(name);
    return found != known.end() && found->second.isBool() && found->second.toBool();
  };
  if (!has("sse2")) return true;  // no x86
  if (most && std::find(kWithout.begin(), kWithout.end(), most) != kWithout.end()) return false;
  return has("avx512_bf16") || has("amx_bf16");
}

std::optional<double> slowdown_by_bfloat16() {
  if (has_bfloat16_instructions(std::getenv("ONEDNN_MAX_CPU_ISA"))) return std::nullopt;
  const c10::InferenceMode no_grad;
  const double ratio = time_of_convolution(at::kBFloat16) / time_of_convolution(at::kFloat);
  return ratio > 1 ? std::optional(ratio) : std::nullopt;
}

void warn_of_slow_bfloat16(const std::string& switch_off) {
  static std::once_flag once;
  std::call_once(once, [&] {
    const auto slowdown = slowdown_by_bfloat16();
    if (!slowdown) return;
    const double shown = *slowdown < 10 ? std::round(*slowdown * 10) / 10 : std::round(*slowdown);
    log::warn(
        "mixed precision: this CPU has no instructions for bfloat16 (avx512_bf16 or "
        "amx_bf16), in which a convolution takes ",
        shown, " times as long as in float32. ", switch_off);
  });
}

}  // namespace seg
