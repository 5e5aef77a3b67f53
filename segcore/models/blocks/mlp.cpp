#include "segcore/models/blocks/mlp.hpp"

#include "segcore/memory/recomputation.hpp"
#include "segcore/torch.hpp"

namespace seg {

Mlp::Mlp(const MlpOptions& o) : kind_(o.kind), silu_(o.silu) {
  using Kind = MlpOptions::Kind;
  if (kind_ == Kind::kGated) {
    gate_ = register_module(o.gate, std::make_shared<Linear>(o.dims, o.hidden));
  }
  const int64_t width = kind_ == Kind::kPacked ? 2 * o.hidden : o.hidden;
  first_ = register_module(o.first, std::make_shared<Linear>(o.dims, width));
  last_ = register_module(o.last, std::make_shared<Linear>(o.hidden, o.dims));
  drop_ = register_module("drop", std::make_shared<Dropout>(o.drop));
}

torch::Tensor Mlp::forward(const torch::Tensor& x) {
  const auto act = [this](const torch::Tensor& in) {
    return recomputable({in}, [silu = silu_](const auto& given) {
      return silu ? at::silu(given[0]) : at::gelu(given[0]);
    });
  };
  auto y = first_->forward(x);
  switch (kind_) {
    case MlpOptions::Kind::kPlain:
      y = act(y);
      break;
    case MlpOptions::Kind::kPacked: {
      const auto halves = y.chunk(2, -1);
      y = act(halves[0]) * halves[1];
      break;
    }
    case MlpOptions::Kind::kGated:
      y = act(gate_->forward(x)) * y;
      break;
  }
  return drop_->forward(last_->forward(drop_->forward(y)));
}

}  // namespace seg
