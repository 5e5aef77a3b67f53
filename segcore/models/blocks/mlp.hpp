/// Feed-forward layers of transformers outside of mmcv.
#pragma once
#include <string>

#include "segcore/models/nn/drop.hpp"

namespace seg {

struct MlpOptions {
  enum class Kind {
    kPlain,   ///< last(act(first(x)))
    kPacked,  ///< last(act(a) * b), a and b the halves of first(x)
    kGated,   ///< last(act(gate(x)) * first(x))
  };
  int64_t dims = 0;
  int64_t hidden = 0;  ///< width of the last layer's input
  Kind kind = Kind::kPlain;
  bool silu = false;  ///< the activation: SiLU or GELU
  double drop = 0;    ///< dropout before and after the last layer
  std::string first = "fc1", gate = "fc1_g", last = "fc2";  ///< names of the layers
};

/// Two layers over channels with an activation between them, or SwiGLU (Shazeer 2020,
/// arXiv:2002.05202), over the last dimension.
class Mlp final : public Layer {
 public:
  explicit Mlp(const MlpOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;
  Linear& last() { return *last_; }

 private:
  MlpOptions::Kind kind_;
  bool silu_;
  std::shared_ptr<Linear> gate_;  ///< null but in gated ones
  std::shared_ptr<Linear> first_, last_;
  std::shared_ptr<Dropout> drop_;
};

}  // namespace seg
