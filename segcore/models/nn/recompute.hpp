/// Blocks that the backward pass runs once more, which trades time for memory: the option `with_cp`
/// of backbones, and `memory: save` of the optimizer wrapper.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <type_traits>
#include <vector>

namespace torch::nn {
class Module;
}

namespace seg {

class Layer;

/// f(x), keeping only x for the backward pass, which computes f again with the same random numbers
/// and precision: gradients have the same bits. Where f changes x in place, all is kept.
///
/// As in PyTorch, running statistics of norms inside f are updated twice where x has a gradient.
at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x);

/// The same for several tensors, all of them defined and at least one; statistics are updated twice
/// where any has a gradient.
at::Tensor recompute_of(const std::function<at::Tensor(at::TensorList)>& f, at::TensorList inputs);

/// f(x) of a block: `recompute` with `with_cp`, else as the RecomputationPlan of a FollowsPlan has
/// it, whose recomputed blocks update running statistics once. Of blocks within blocks the outer
/// one counts, but `with_cp` within a block that the plan keeps still recomputes.
at::Tensor run_block(bool with_cp, const std::function<at::Tensor(const at::Tensor&)>& f,
                     const at::Tensor& x);

/// The same for several tensors, all of them defined and at least one.
at::Tensor run_block_of(bool with_cp, const std::function<at::Tensor(at::TensorList)>& f,
                        at::TensorList inputs);

/// The same for a block whose backbone has the option for it. It acts where a RecomputesBlocks has
/// the block: inside Segmentor::loss alone.
at::Tensor run_block(const torch::nn::Module& block,
                     const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x);

/// block.forward(x, others...), as above; others are copied, for the second pass.
template <class Block, class... Others>
requires(!std::is_pointer_v<Others> && ...) at::Tensor
    forward_block(Block& block, const at::Tensor& x, const Others&... others) {
  return run_block(
      block, [&block, others...](const at::Tensor& in) { return block.forward(in, others...); }, x);
}

/// layer.forward(x) of a layer in a sequence, which is a block where a BlockSet has it.
at::Tensor forward_in_sequence(Layer& layer, const at::Tensor& x);

/// Whether this is the second pass of a block that must leave no traces beside its result: what
/// follows batches followed this one already.
bool is_silent_pass();

/// compute(), of which the second pass of a block gets the tensors of the first: for what other
/// processes take part in, which may keep the block.
std::vector<at::Tensor> computed_once(const std::function<std::vector<at::Tensor>()>& compute);

}  // namespace seg
