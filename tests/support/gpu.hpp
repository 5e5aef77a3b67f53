/// What tests of a GPU begin with.
#pragma once
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include "runners/start/device.hpp"

namespace seg::test {

/// Skips without a usable GPU, with the reason. Products and convolutions are in full float32, so
/// that they can be compared with a CPU's.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!load_cuda()) GTEST_SKIP() << "no GPU: " << cuda_problem();
    device_ = choose_device("cuda:0", /*local_rank=*/0);
    at::globalContext().setAllowTF32CuBLAS(false);
    at::globalContext().setAllowTF32CuDNN(false);
    at::globalContext().setDeterministicAlgorithms(false, /*warn_only=*/true);
  }
  /// Skips where segcore's own CUDA library is missing.
  void need_module() const {
    if (!cuda_module_problem().empty()) GTEST_SKIP() << cuda_module_problem();
  }
  c10::Device device() const { return device_; }

 private:
  c10::Device device_ = c10::kCPU;
};

}  // namespace seg::test
