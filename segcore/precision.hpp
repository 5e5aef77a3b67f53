/// The precision of a computation: autocast, and what stays wide beneath it.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

namespace seg {

/// Autocast on one kind of device, on or off, for as long as it lives.
///
/// Casts of weights are kept in one cache of the process. They are dropped when the outermost scope
/// of a thread ends: the next step has other weights.
class Autocast {
 public:
  /// \param type  of products and convolutions; none: off, whatever is on around it.
  Autocast(c10::DeviceType device, std::optional<at::ScalarType> type);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  c10::DeviceType device_;
  bool was_enabled_;
  at::ScalarType old_type_;
};

/// Of autocast as this thread has it now: what Autocast takes.
std::optional<at::ScalarType> autocast_type(c10::DeviceType device);

/// The type of positions on a map and of sums over it: double for a map in double, else float.
at::ScalarType wide_type(const at::Tensor& x);
/// Half precision becomes float; all else stays.
at::Tensor full_precision(const at::Tensor& x);

}  // namespace seg
