#include "segcore/models/backbones/spatial_prior.hpp"

#include "segcore/models/nn/norm.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

void add_conv(Sequential& to, int64_t in, int64_t out, int64_t stride) {
  to.push_back(std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                    .out_channels = out,
                                                    .kernel_size = 3,
                                                    .stride = stride,
                                                    .padding = 1,
                                                    .bias = false}));
  to.push_back(Spec<Norm>::of("{type: SyncBN}").build(out));
  to.push_back(
      std::make_shared<Lambda>([](const torch::Tensor& x) { return torch::Tensor(x).relu_(); }));
}

}  // namespace

SpatialPrior::SpatialPrior(const AdapterParams& p) {
  const int64_t width = p.conv_inplane;
  auto stem = std::make_shared<Sequential>();
  add_conv(*stem, p.in_chans, width, 2);
  add_conv(*stem, width, width, 1);
  add_conv(*stem, width, width, 1);
  stem->push_back(std::make_shared<Lambda>([](const torch::Tensor& x) {
    return at::max_pool2d(x, /*kernel_size=*/3, /*stride=*/2, /*padding=*/1);
  }));
  convs_.push_back(register_module("stem", stem));
  const std::vector<int64_t> widths{width, 2 * width, 4 * width, 4 * width};
  for (size_t i = 1; i < 4; ++i) {
    auto conv = std::make_shared<Sequential>();
    add_conv(*conv, widths[i - 1], widths[i], 2);
    convs_.push_back(register_module(text("conv", i + 1), conv));
  }
  for (size_t i = 0; i < 4; ++i) {
    layers_.push_back(register_module(
        text("fc", i + 1), std::make_shared<Conv2d>(ConvOptions{.in_channels = widths[i],
                                                                .out_channels = p.embed_dim})));
  }
}

std::vector<torch::Tensor> SpatialPrior::forward(const torch::Tensor& images) {
  std::vector<torch::Tensor> out;
  auto x = images;
  for (size_t i = 0; i < 4; ++i) {
    x = convs_[i]->forward(x);
    out.push_back(layers_[i]->forward(x));
  }
  return out;
}

}  // namespace seg
