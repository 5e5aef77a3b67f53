#include "segcore/models/encoders/inception_block.hpp"

#include <limits>
#include <utility>

#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Convolution, batch norm and ReLU under any names.
class InceptionUnit final : public Layer {
 public:
  struct Names {
    std::string conv, norm;
  };
  InceptionUnit(int64_t in, const InceptionConv& c, const Names& names, bool bias,
                const Spec<Norm>& norm)
      : conv_(register_module(
            names.conv, std::make_shared<Conv2d>(ConvOptions{
                            .in_channels = in,
                            .out_channels = c.out,
                            .kernel_size = c.kernel,
                            .stride = c.stride,
                            .padding = c.padded ? Size2(c.kernel.h / 2, c.kernel.w / 2) : Size2(0),
                            .bias = bias}))),
        norm_(register_module(names.norm, norm.build(c.out))) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    return norm_->forward(conv_->forward(x)).relu_();
  }

 private:
  std::shared_ptr<Conv2d> conv_;
  std::shared_ptr<Norm> norm_;
};

/// The child `branch1` of a block, whose children are the steps.
class InceptionBranchFolder final : public BaseModule {};

}  // namespace

InceptionStep inception_conv(int64_t out, Size2 kernel, int64_t stride, bool padded) {
  return {.conv = {.out = out, .kernel = kernel, .stride = stride, .padded = padded}};
}

InceptionStep inception_max_pool(int64_t stride, int64_t padding, bool ceil_mode) {
  return {.conv = {}, .pool = [=](const torch::Tensor& x) {
            return at::max_pool2d(x, /*kernel_size=*/3, stride, padding, /*dilation=*/1, ceil_mode);
          }};
}

InceptionStep inception_halving_max_pool() {
  return {.conv = {}, .pool = [](const torch::Tensor& x) {
            const auto even = pad2d(x, 0, x.size(3) % 2, 0, x.size(2) % 2, "zeros",
                                    -std::numeric_limits<double>::infinity());
            return at::max_pool2d(even, /*kernel_size=*/3, /*stride=*/2, /*padding=*/0,
                                  /*dilation=*/1, /*ceil_mode=*/true);
          }};
}

InceptionStep inception_average_pool(bool counts_padding) {
  return {.conv = {}, .pool = [=](const torch::Tensor& x) {
            return at::avg_pool2d(x, /*kernel_size=*/3, /*stride=*/1, /*padding=*/1,
                                  /*ceil_mode=*/false, counts_padding);
          }};
}

InceptionBranch inception_branch(const std::string& name, InceptionBranch steps) {
  for (size_t i = 0; i < steps.size(); ++i) {
    steps[i].name = steps.size() == 1 ? name : text(name, ".", i);
  }
  return steps;
}

std::shared_ptr<Layer> inception_unit(int64_t in, const InceptionConv& conv) {
  return std::make_shared<InceptionUnit>(in, conv, InceptionUnit::Names{"conv", "bn"},
                                         /*bias=*/false, Spec<Norm>::of("{type: BN, eps: 0.001}"));
}

std::shared_ptr<Layer> biased_inception_unit(int64_t in, const InceptionConv& conv,
                                             const std::string& name) {
  return std::make_shared<InceptionUnit>(in, conv, InceptionUnit::Names{name, name + "_bn"},
                                         /*bias=*/true, Spec<Norm>::of("{type: BN}"));
}

InceptionBlock::InceptionBlock(int64_t in, const InceptionBlockOptions& o)
    : residual_scale_(o.residual_scale), residual_relu_(o.residual_relu) {
  for (const auto& branch : o.branches) {
    auto& steps = branches_.emplace_back();
    int64_t taken = in, given = in;  // widths
    for (const auto& step : branch) {
      if (!step.beside) taken = std::exchange(given, 0);
      steps.push_back(make_step(taken, step, o.biased));
      given += step.pool ? taken : step.conv.out;
    }
    out_channels_ += given;
  }
  if (residual_scale_ != 0) {
    conv2d_ = register_module("conv2d", std::make_shared<Conv2d>(ConvOptions{
                                            .in_channels = out_channels_, .out_channels = in}));
    out_channels_ = in;
  }
}

InceptionBlock::Step InceptionBlock::make_step(int64_t in, const InceptionStep& step, bool biased) {
  if (step.pool) return {step.pool, step.beside};
  std::shared_ptr<Layer> unit;
  if (biased) {
    unit = biased_inception_unit(in, step.conv, step.name);
    for (const auto& child : unit->named_children()) register_module(child.key(), child.value());
  } else {
    unit = inception_unit(in, step.conv);
    const size_t dot = step.name.find('.');
    torch::nn::Module* parent = this;
    if (dot != std::string::npos) {
      const auto folder = step.name.substr(0, dot);
      const auto children = named_children();
      const auto* known = children.find(folder);
      parent = known ? known->get()
                     : register_module(folder, std::make_shared<InceptionBranchFolder>()).get();
    }
    parent->register_module(step.name.substr(dot + 1), unit);  // npos + 1 is 0
  }
  return {[unit](const torch::Tensor& x) { return unit->forward(x); }, step.beside};
}

torch::Tensor InceptionBlock::forward(const torch::Tensor& x) {
  std::vector<torch::Tensor> out;
  for (const auto& steps : branches_) {
    torch::Tensor taken;
    std::vector<torch::Tensor> given{x};
    for (const auto& step : steps) {
      if (!step.beside) {
        taken = given.size() == 1 ? given[0] : torch::cat(given, 1);
        given.clear();
      }
      given.push_back(step.run(taken));
    }
    out.insert(out.end(), given.begin(), given.end());
  }
  const auto joined = torch::cat(out, 1);
  if (!conv2d_) return joined;
  const auto sum = conv2d_->forward(joined) * residual_scale_ + x;
  return residual_relu_ ? sum.relu() : sum;
}

}  // namespace seg
