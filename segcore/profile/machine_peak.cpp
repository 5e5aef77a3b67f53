#include "segcore/profile/machine_peak.hpp"

#include <ATen/DeviceAccelerator.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "segcore/ops/linear/linear.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

double least_seconds(c10::Device device, const std::function<void()>& work) {
  constexpr int kTries = 6;  // the first also warms up
  const auto wait = [&] {
    if (device.is_cpu()) return;
    at::accelerator::synchronizeDevice(device.index());
  };
  double least = 1e9;
  for (int i = 0; i < kTries; ++i) {
    wait();
    const auto begin = std::chrono::steady_clock::now();
    work();
    wait();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    least = std::min(least, taken.count());
  }
  return least;
}

}  // namespace

MachinePeak measure_peak(c10::Device device) {
  const torch::NoGradGuard no_grad;
  const int64_t side = device.is_cpu() ? 1024 : 8192;
  const int64_t megabytes = device.is_cpu() ? 64 : 1024;
  const auto floats = at::TensorOptions(at::kFloat).device(device);
  const auto a = at::ones({side, side}, floats), b = at::ones({side, side}, floats);
  const auto from = at::ones({megabytes << 18}, floats);
  auto to = at::ones_like(from);
  const double multiplying = least_seconds(device, [&] { linear_rows(a, b, at::Tensor()); });
  const double copying = least_seconds(device, [&] { to.copy_(from); });
  const auto cubed =
      static_cast<double>(side) * static_cast<double>(side) * static_cast<double>(side);
  return {.flops = cubed / multiplying, .bytes = 2 * static_cast<double>(from.nbytes()) / copying};
}

}  // namespace seg
