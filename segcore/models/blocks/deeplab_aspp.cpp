#include "segcore/models/blocks/deeplab_aspp.hpp"

#include <utility>

#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/pool.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

void push_norm_relu(Sequential& layers, int64_t channels) {
  layers.push_back(Spec<Norm>::of("{type: BN}").build(channels));
  layers.push_back(std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); }));
}

}  // namespace

std::shared_ptr<Conv2d> deeplab_conv(int64_t in, int64_t out, int64_t kernel_size, int64_t dilation,
                                     int64_t groups) {
  return std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                              .out_channels = out,
                                              .kernel_size = kernel_size,
                                              .padding = kernel_size / 2 * dilation,
                                              .dilation = dilation,
                                              .groups = groups,
                                              .bias = false});
}

std::shared_ptr<Layer> deeplab_separable(int64_t in, int64_t out, int64_t dilation) {
  auto layers = std::make_shared<Sequential>();
  layers->push_back(deeplab_conv(in, in, 3, dilation, /*groups=*/in));
  layers->push_back(deeplab_conv(in, out, 1));
  return layers;
}

std::shared_ptr<Sequential> deeplab_block(std::shared_ptr<Layer> conv, int64_t out) {
  auto layers = std::make_shared<Sequential>();
  layers->push_back(std::move(conv));
  push_norm_relu(*layers, out);
  return layers;
}

DeepLabAspp::DeepLabAspp(const DeepLabAsppOptions& o) {
  auto convs = register_module("convs", std::make_shared<ListOf<Sequential>>());
  branches_.push_back(convs->push_back(deeplab_block(deeplab_conv(o.in, o.out, 1), o.out)));
  for (const int64_t rate : o.rates) {
    branches_.push_back(convs->push_back(deeplab_block(
        o.separable ? deeplab_separable(o.in, o.out, rate) : deeplab_conv(o.in, o.out, 3, rate),
        o.out)));
  }
  pooled_ = std::make_shared<Sequential>();
  pooled_->push_back(global_average());
  pooled_->push_back(deeplab_conv(o.in, o.out, 1));
  push_norm_relu(*pooled_, o.out);
  convs->push_back(pooled_);
  const auto joined = static_cast<int64_t>(convs->size()) * o.out;
  project_ = deeplab_block(deeplab_conv(joined, o.out, 1), o.out);
  project_->push_back(std::make_shared<Dropout>(o.dropout));
  register_module("project", project_);
}

torch::Tensor DeepLabAspp::forward(const torch::Tensor& x) {
  std::vector<torch::Tensor> maps;
  for (const auto& branch : branches_) maps.push_back(branch->forward(x));
  maps.push_back(resize(pooled_->forward(x), map_size(x)));
  return project_->forward(joined_maps(maps));
}

}  // namespace seg
