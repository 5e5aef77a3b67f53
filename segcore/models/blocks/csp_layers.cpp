#include "segcore/models/blocks/csp_layers.hpp"

#include <utility>
#include <vector>

#include "segcore/models/blocks/batch_norm_act.hpp"
#include "segcore/models/blocks/named_chain.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

torch::Tensor max_pool_5(const torch::Tensor& x) {
  return at::max_pool2d(x, /*kernel_size=*/5, /*stride=*/1, /*padding=*/2);
}

torch::Tensor mean_of_2x2(const torch::Tensor& x) {
  return at::avg_pool2d(x, /*kernel_size=*/2, /*stride=*/1);
}

/// A 3x3 and a 1x1 convolution side by side, which one 3x3 could replace once trained.
class RepConv final : public Layer {
 public:
  RepConv(int64_t in, int64_t out)
      : conv1_(register_module("conv1",
                               yolo_conv({.in = in, .out = out, .kernel = 3, .acts = false}))),
        conv2_(register_module("conv2", yolo_conv({.in = in, .out = out, .acts = false}))) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    return at::silu(conv1_->forward(x) + conv2_->forward(x));
  }

 private:
  std::shared_ptr<Layer> conv1_, conv2_;
};

/// Two convolutions with a shortcut around them.
std::shared_ptr<Layer> yolo_bottleneck(std::shared_ptr<Layer> first,
                                       std::shared_ptr<Layer> second) {
  auto out = std::make_shared<NamedChain>();
  out->add("cv1", std::move(first));
  out->add("cv2", std::move(second));
  out->add_shortcut();
  return out;
}

/// Blocks beside a 1x1 convolution.
class CspOf3 final : public Layer {
 public:
  CspOf3(int64_t in, int64_t out, std::shared_ptr<Sequential> blocks,
         const NormCfg& norm_cfg = {}) {
    const int64_t middle = out / 2;
    const auto conv = [&](int64_t from, int64_t to) {
      return yolo_conv({.in = from, .out = to, .norm_cfg = norm_cfg});
    };
    cv1_ = register_module("cv1", conv(in, middle));
    cv2_ = register_module("cv2", conv(in, middle));
    cv3_ = register_module("cv3", conv(2 * middle, out));
    m_ = register_module("m", std::move(blocks));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return cv3_->forward(joined_maps({m_->forward(cv1_->forward(x)), cv2_->forward(x)}));
  }

 private:
  std::shared_ptr<Layer> cv1_, cv2_, cv3_;
  std::shared_ptr<Sequential> m_;
};

/// Both halves of a 1x1 convolution, and the outputs of layers in a row behind the second half.
class JoinedOutputs : public Layer {
 public:
  torch::Tensor forward(const torch::Tensor& x) override {
    auto maps = first_->forward(x).chunk(2, 1);
    for (const auto& layer : row_) maps.push_back(layer->forward(maps.back()));
    return last_->forward(joined_maps(maps));
  }

 protected:
  std::shared_ptr<Layer> first_, last_;
  std::vector<std::shared_ptr<Layer>> row_;
};

class CspOf2 final : public JoinedOutputs {
 public:
  CspOf2(int64_t in, int64_t out, int64_t blocks, const NormCfg& norm_cfg) {
    const int64_t middle = out / 2;
    first_ = register_module("cv1", yolo_conv({.in = in, .out = 2 * middle, .norm_cfg = norm_cfg}));
    last_ = register_module(
        "cv2", yolo_conv({.in = (2 + blocks) * middle, .out = out, .norm_cfg = norm_cfg}));
    auto list = register_module("m", std::make_shared<ListOf<Layer>>());
    const YoloConvOptions conv{.in = middle, .out = middle, .kernel = 3, .norm_cfg = norm_cfg};
    for (int64_t i = 0; i < blocks; ++i) {
      row_.push_back(list->push_back(yolo_bottleneck(yolo_conv(conv), yolo_conv(conv))));
    }
  }
};

class Elan final : public JoinedOutputs {
 public:
  explicit Elan(const ElanOptions& o) {
    first_ = register_module("cv1", yolo_conv({.in = o.in, .out = o.middle}));
    row_ = {register_module("cv2", branch(o, o.middle / 2)),
            register_module("cv3", branch(o, o.branch))};
    last_ = register_module("cv4", yolo_conv({.in = o.middle + 2 * o.branch, .out = o.out}));
  }

 private:
  static std::shared_ptr<Layer> branch(const ElanOptions& o, int64_t in) {
    if (o.blocks == 0) return yolo_conv({.in = in, .out = o.branch, .kernel = 3});
    const int64_t middle = o.branch / 2;
    auto blocks = std::make_shared<Sequential>();
    for (int64_t i = 0; i < o.blocks; ++i) {
      blocks->push_back(yolo_bottleneck(std::make_shared<RepConv>(middle, middle),
                                        yolo_conv({.in = middle, .out = middle, .kernel = 3})));
    }
    auto out = std::make_shared<Sequential>();
    out->push_back(std::make_shared<CspOf3>(in, o.branch, blocks));
    out->push_back(yolo_conv({.in = o.branch, .out = o.branch, .kernel = 3}));
    return out;
  }
};

class PooledPyramid final : public Layer {
 public:
  PooledPyramid(int64_t in, int64_t middle, int64_t out, const std::string& last)
      : first_(register_module("cv1", yolo_conv({.in = in, .out = middle}))),
        last_(register_module(last, yolo_conv({.in = 4 * middle, .out = out}))) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    std::vector<torch::Tensor> maps{first_->forward(x)};
    for (int i = 0; i < 3; ++i) maps.push_back(max_pool_5(maps.back()));
    return last_->forward(joined_maps(maps));
  }

 private:
  std::shared_ptr<Layer> first_, last_;
};

class TwoWayDown final : public Layer {
 public:
  TwoWayDown(int64_t in, int64_t out)
      : cv1_(register_module("cv1",
                             yolo_conv({.in = in / 2, .out = out / 2, .kernel = 3, .stride = 2}))),
        cv2_(register_module("cv2", yolo_conv({.in = in / 2, .out = out / 2}))) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto halves = mean_of_2x2(x).chunk(2, 1);
    const auto pooled = at::max_pool2d(halves[1], /*kernel_size=*/3, /*stride=*/2, /*padding=*/1);
    return at::cat({cv1_->forward(halves[0]), cv2_->forward(pooled)}, 1);
  }

 private:
  std::shared_ptr<Layer> cv1_, cv2_;
};

}  // namespace

std::shared_ptr<Layer> yolo_conv(const YoloConvOptions& o) {
  return yolo_conv(build_conv(o.conv_cfg, {.in_channels = o.in,
                                           .out_channels = o.out,
                                           .kernel_size = o.kernel,
                                           .stride = o.stride,
                                           .padding = (o.kernel - 1) / 2,
                                           .bias = false}),
                   o.acts, o.norm_cfg);
}

std::shared_ptr<Layer> yolo_conv(std::shared_ptr<Conv2d> conv, bool acts, const NormCfg& norm_cfg) {
  const BatchNormParams norm{.eps = 1e-3, .momentum = 0.03};
  const int64_t width = conv->options.out_channels;
  auto out = std::make_shared<NamedChain>();
  out->add("conv", std::move(conv));
  if (norm_cfg) {
    out->add("bn", norm_cfg->build(width));
    if (acts) out->then([](const torch::Tensor& x) { return at::silu(x); });
  } else {
    out->add("bn", std::make_shared<BatchNormAct>(norm, width, acts ? silu_of : nullptr));
  }
  return out;
}

std::shared_ptr<Layer> csp_of_3(int64_t in, int64_t out, int64_t blocks, const ConvCfg& conv_cfg,
                                const NormCfg& norm_cfg) {
  const int64_t middle = out / 2;
  auto row = std::make_shared<Sequential>();
  for (int64_t i = 0; i < blocks; ++i) {
    row->push_back(yolo_bottleneck(yolo_conv({.in = middle, .out = middle, .norm_cfg = norm_cfg}),
                                   yolo_conv({.in = middle,
                                              .out = middle,
                                              .kernel = 3,
                                              .conv_cfg = conv_cfg,
                                              .norm_cfg = norm_cfg})));
  }
  return std::make_shared<CspOf3>(in, out, row, norm_cfg);
}

std::shared_ptr<Layer> csp_of_2(int64_t in, int64_t out, int64_t blocks, const NormCfg& norm_cfg) {
  return std::make_shared<CspOf2>(in, out, blocks, norm_cfg);
}

std::shared_ptr<Layer> elan(const ElanOptions& options) { return std::make_shared<Elan>(options); }

std::shared_ptr<Layer> pooled_pyramid(int64_t in, int64_t middle, int64_t out,
                                      const std::string& last) {
  return std::make_shared<PooledPyramid>(in, middle, out, last);
}

std::shared_ptr<Layer> averaging_down(int64_t in, int64_t out) {
  auto chain = std::make_shared<NamedChain>();
  chain->then(mean_of_2x2);
  chain->add("cv1", yolo_conv({.in = in, .out = out, .kernel = 3, .stride = 2}));
  return chain;
}

std::shared_ptr<Layer> two_way_down(int64_t in, int64_t out) {
  return std::make_shared<TwoWayDown>(in, out);
}

}  // namespace seg
