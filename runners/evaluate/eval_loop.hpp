/// How a validation or a test predicts.
#pragma once
#include <memory>

#include "registry/registry.hpp"

namespace seg {

class EvalLoop {
 public:
  virtual ~EvalLoop() = default;
  /// Half precision on a GPU, bfloat16 on a CPU.
  virtual bool fp16() const = 0;
};

template <>
struct Category<EvalLoop> {
  static constexpr std::string_view name = "evaluation loop";
  using Signature = std::unique_ptr<EvalLoop>();
};

}  // namespace seg
