#include "segcore/models/blocks/batch_norm_act.hpp"

#include "segcore/torch.hpp"

namespace seg {

torch::Tensor relu_of(torch::Tensor x) { return at::relu_(x); }
torch::Tensor relu6_of(torch::Tensor x) { return at::hardtanh_(x, 0, 6); }
torch::Tensor silu_of(torch::Tensor x) { return at::silu(x); }
torch::Tensor hard_swish_of(torch::Tensor x) { return at::hardswish(x); }
torch::Tensor gelu_of(torch::Tensor x) { return at::gelu(x); }
torch::Tensor sigmoid_of(torch::Tensor x) { return at::sigmoid(x); }
torch::Tensor hard_sigmoid_of(torch::Tensor x) { return at::hardsigmoid(x); }

}  // namespace seg
