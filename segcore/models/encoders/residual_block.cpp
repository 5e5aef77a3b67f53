#include "segcore/models/encoders/residual_block.hpp"

#include "segcore/models/weights/init.hpp"
#include "segcore/torch.hpp"

namespace seg {

std::shared_ptr<Conv2d> residual_conv(const ResidualConv& c) {
  return std::make_shared<Conv2d>(ConvOptions{.in_channels = c.in,
                                              .out_channels = c.out,
                                              .kernel_size = c.kernel,
                                              .stride = c.stride,
                                              .padding = c.kernel / 2 * c.dilation,
                                              .dilation = c.dilation,
                                              .groups = c.groups,
                                              .bias = false});
}

ResidualBlock::ResidualBlock(const ResidualBlockParts& parts)
    : attention_(parts.attention), shortcut_(parts.shortcut), zero_init_(parts.zero_init) {
  const auto norm = Spec<Norm>::of("{type: BN}");
  for (const auto& conv : parts.convs) {
    const size_t number = convs_.size() + 1;
    convs_.push_back(register_module(text("conv", number), residual_conv(conv)));
    norms_.push_back(register_module(text("bn", number), norm.build(conv.out)));
  }
  if (attention_) register_module(parts.attention_name, attention_);
  if (parts.shortcut) register_module("downsample", parts.shortcut);
  if (parts.drop_path_rate > 0) {
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(parts.drop_path_rate));
  }
}

torch::Tensor ResidualBlock::forward(const torch::Tensor& x) {
  auto out = x;
  for (size_t i = 0; i < convs_.size(); ++i) {
    out = norms_[i]->forward(convs_[i]->forward(out));
    if (i + 1 < convs_.size()) out = out.relu_();
  }
  if (attention_) out = attention_->forward(out);
  if (drop_path_) out = drop_path_->forward(out);
  return (out + (shortcut_ ? shortcut_->forward(x) : x)).relu_();
}

void ResidualBlock::init_weights() {
  Layer::init_weights();
  if (zero_init_) constant_init(*norms_.back(), 0);
}

}  // namespace seg
