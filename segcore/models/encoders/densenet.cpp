#include <array>
#include <utility>

#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct DenseNetVariant {
  const char* name;
  const char* summary;
  std::array<int64_t, 4> layers;  ///< of each block
  int64_t growth;                 ///< maps that a layer adds
  const char* smp_revision;
  const char* timm_tags;
  const char* torchvision_digest;
};

constexpr DenseNetVariant kDenseNets[] = {
    {"densenet121",
     "DenseNet-121.",
     {6, 12, 24, 16},
     32,
     "a17c96896a265b61338f66f61d3887b24f61995a",
     "ra_in1k tv_in1k",
     "a639ec97"},
    {"densenet161",
     "DenseNet-161.",
     {6, 12, 36, 24},
     48,
     "9afe0fec51ab2a627141769d97d6f83756d78446",
     "tv_in1k",
     "8d451a50"},
    {"densenet169",
     "DenseNet-169.",
     {6, 12, 32, 32},
     32,
     "8facfba9fc72f7750879dac9ac6ceb3ab990de8d",
     "tv_in1k",
     "b2777c0a"},
    {"densenet201",
     "DenseNet-201.",
     {6, 12, 48, 32},
     32,
     "ed5deb355d71659391d46fae5e7587460fbb5f84",
     "tv_in1k",
     "c1103571"},
};

/// Which of a DenseNet's results a library gives.
struct DenseNetMaps {
  bool of_transitions;  ///< normalised ones; else those of the blocks
  bool last_relu;
};

std::shared_ptr<Conv2d> dense_conv(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1) {
  return std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                              .out_channels = out,
                                              .kernel_size = kernel,
                                              .stride = stride,
                                              .padding = kernel / 2,
                                              .bias = false});
}

/// Computes `growth` maps from all maps so far, and appends them.
class DenseLayer final : public Layer {
 public:
  DenseLayer(int64_t in, int64_t growth, const Spec<Norm>& norm) {
    const int64_t width = 4 * growth;
    norm1_ = register_module("norm1", norm.build(in));
    conv1_ = register_module("conv1", dense_conv(in, width, 1));
    norm2_ = register_module("norm2", norm.build(width));
    conv2_ = register_module("conv2", dense_conv(width, growth, 3));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto narrow = conv1_->forward(norm1_->forward(x).relu_());
    return torch::cat({x, conv2_->forward(norm2_->forward(narrow).relu_())}, 1);
  }

 private:
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<Conv2d> conv1_, conv2_;
};

/// DenseNet, whose tensors all libraries name alike. It pools between blocks and cannot be dilated.
class DenseNet final : public ChainEncoder {
 public:
  DenseNet(const DenseNetVariant& v, const std::string& name, const DenseNetMaps& maps,
           std::vector<EncoderWeights> published, const EncoderOptions& options)
      : ChainEncoder({.name = name,
                      .channels = widths(v),
                      .published = std::move(published),
                      .dilates = false,
                      .init = "[{type: Kaiming, layer: Conv2d, mode: fan_in}]"},
                     options) {
    const auto norm = Spec<Norm>::of("{type: BN}");
    int64_t width = 2 * v.growth;
    set_first_conv("features.conv0.weight",
                   add("features.conv0", dense_conv(in_channels(), width, 7, 2)));
    add_norm_relu("features.norm0", "features.relu0", norm.build(width));
    end_level();
    add("features.pool0", [](const torch::Tensor& x) {
      return at::max_pool2d(x, /*kernel_size=*/3, /*stride=*/2, /*padding=*/1);
    });
    for (size_t i = 0; i < v.layers.size(); ++i) {
      auto block = std::make_shared<Sequential>();
      for (int64_t k = 0; k < v.layers[i]; ++k) {
        block->push_back(text("denselayer", k + 1),
                         std::make_shared<DenseLayer>(width, v.growth, norm));
        width += v.growth;
      }
      add(text("features.denseblock", i + 1), block);
      if (i + 1 == v.layers.size()) break;
      if (!maps.of_transitions) end_level();
      const auto transition = text("features.transition", i + 1);
      add_norm_relu(transition + ".norm", transition + ".relu", norm.build(width));
      if (maps.of_transitions) end_level();
      add(transition + ".conv", dense_conv(width, width / 2, 1));
      add(transition + ".pool", [](const torch::Tensor& x) {
        return at::avg_pool2d(x, /*kernel_size=*/2, /*stride=*/2);
      });
      width /= 2;
    }
    add("features.norm5", norm.build(width));
    if (maps.last_relu) add("features.relu5", [](const torch::Tensor& x) { return x.relu(); });
    end_level();
  }

  /// The files of older releases have "denselayer1.norm.1.weight" for "denselayer1.norm1.weight".
  void adapt_pretrained(Value& state) const override {
    Value renamed = Value::dict();
    for (const auto& [key, value] : state.as_dict()) {
      std::string name = key.as_string();
      if (const size_t layer = name.find(".denselayer"); layer != std::string::npos) {
        for (const std::string part : {".norm.", ".conv."}) {
          const size_t at = name.find(part, layer);
          if (at != std::string::npos) name.erase(at + part.size() - 1, 1);
        }
      }
      renamed.set(name, value);
    }
    state = renamed;
    ChainEncoder::adapt_pretrained(state);
  }

 private:
  static std::vector<int64_t> widths(const DenseNetVariant& v) {
    std::vector<int64_t> out{2 * v.growth};
    int64_t width = out[0];
    for (const int64_t layers : v.layers) {
      out.push_back(width + layers * v.growth);
      width = out.back() / 2;
    }
    return out;
  }
  void add_norm_relu(const std::string& norm, const std::string& relu,
                     const std::shared_ptr<Norm>& layer) {
    add(norm, layer);
    add(relu, [](const torch::Tensor& x) { return x.relu_(); });
  }
};

std::vector<EncoderEntry> densenet_encoders() {
  std::vector<EncoderEntry> out;
  const auto add = [&](const DenseNetVariant& v, const std::string& name, const DenseNetMaps& maps,
                       const std::vector<EncoderWeights>& published) {
    out.push_back({.name = name,
                   .summary = v.summary,
                   .source = "Huang et al. 2016, arXiv:1608.06993",
                   .build = [v, name, maps, published](const EncoderOptions& options) {
                     return std::make_shared<DenseNet>(v, name, maps, published, options);
                   }});
  };
  for (const auto& v : kDenseNets) {
    add(v, v.name, {.of_transitions = true, .last_relu = false},
        {smp_weights(v.name, "imagenet", v.smp_revision)});
    add(v, text("tu-", v.name), {.of_transitions = false, .last_relu = true},
        timm_weights_of_tags(v.name, v.timm_tags));
    add(v, text("tv-", v.name), {.of_transitions = false, .last_relu = false},
        torchvision_versions(v.name, v.torchvision_digest));
  }
  return out;
}
SEG_REGISTER_ENCODERS(densenet_encoders);

}  // namespace
}  // namespace seg
