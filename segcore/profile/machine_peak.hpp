/// What a device reaches at best, as a scale for what a model reaches.
#pragma once
#include <c10/core/Device.h>

namespace seg {

struct MachinePeak {
  double flops = 0;  ///< multiplications with additions a second, of a product of float32 matrices
  double bytes = 0;  ///< read and written a second by a copy that no cache holds
};

/// Measures for about half a second with the threads that operators have; the best of some tries.
MachinePeak measure_peak(c10::Device device);

}  // namespace seg
