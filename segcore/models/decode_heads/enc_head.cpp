#include <cmath>

#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/decode_heads/several_maps.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct EncHeadParams : DecodeHeadParams {
  EncHeadParams() {
    input_transform = "multiple_select";
    in_index = std::vector<int64_t>{1, 2, 3};
  }
  int64_t num_codes = 32;
  bool use_se_loss = true;
  bool add_lateral = false;
  Spec<Loss> loss_se_decode =
      Spec<Loss>::of("{type: CrossEntropyLoss, use_sigmoid: true, loss_weight: 0.2}");
};

namespace {

/// Residuals of positions to learned codes, summed by how near they are.
class EncCodes final : public Layer {
 public:
  EncCodes(int64_t channels, int64_t codes) {
    const double std = 1 / std::sqrt(static_cast<double>(codes * channels));
    codewords_ =
        register_parameter("codewords", torch::empty({codes, channels}).uniform_(-std, std));
    scale_ = register_parameter("scale", torch::empty({codes}).uniform_(-1, 0));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto flat = x.flatten(2).transpose(1, 2);  // [N, H*W, C]
    // |x - c|^2 without the differences of all pairs.
    const auto distance = flat.square().sum(2, true) -
                          2 * at::matmul(flat, codewords_.transpose(0, 1)) +
                          codewords_.square().sum(1);  // [N, H*W, K]
    const auto weights = (scale_ * distance).softmax(2);
    // The sum of w (x - c) is that of w x less c times that of w.
    return at::bmm(weights.transpose(1, 2), flat) -
           weights.sum(1).unsqueeze(2) * codewords_;  // [N, K, C]
  }

 private:
  torch::Tensor codewords_, scale_;
};

/// Encodes a map and scales its channels by the code.
class EncModule final : public BaseModule {
 public:
  EncModule(const EncHeadParams& p) {
    encoding_project_ = register_module("encoding_project", head_conv(p, p.channels, p.channels));
    encoding_ = std::make_shared<Sequential>();
    encoding_->push_back(std::make_shared<EncCodes>(p.channels, p.num_codes));
    encoding_->push_back(p.norm_cfg.value_or(Spec<Norm>::of("{type: BN1d}")).build(p.num_codes));
    encoding_->push_back(std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); }));
    register_module("encoding", encoding_);
    fc_ = std::make_shared<Sequential>();
    fc_->push_back(std::make_shared<Linear>(p.channels, p.channels));
    register_module("fc", fc_);
  }
  /// \return the code [N, C] and the scaled map.
  std::pair<torch::Tensor, torch::Tensor> forward(const torch::Tensor& x) {
    const auto code = encoding_->forward(encoding_project_->forward(x)).mean(1);
    const auto gamma = fc_->forward(code).sigmoid().unsqueeze(2).unsqueeze(3);
    return {code, (x + x * gamma).relu()};
  }

 private:
  std::shared_ptr<ConvModule> encoding_project_;
  std::shared_ptr<Sequential> encoding_, fc_;
};

}  // namespace

/// Scales channels by an encoding of the whole map, which also predicts the classes present.
class EncHead final : public DecodeHead {
 public:
  using Params = EncHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Context encoding.")
        .source("EncNet, Zhang et al. 2018, arXiv:1803.08904")
        .include(DecodeHead::base_schema())
        .optional("num_codes", &Params::num_codes, "codes", at_least(1))
        .optional("use_se_loss", &Params::use_se_loss, "learn which classes an image has")
        .optional("add_lateral", &Params::add_lateral, "join the finer maps")
        .optional("loss_se_decode", &Params::loss_se_decode, "loss of the classes of an image")
        .validate(check_several_maps);
  }
  EncHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all) {
    bottleneck_ =
        register_module("bottleneck", head_conv(p, inputs().back().channels, p.channels, 3));
    if (p.add_lateral) {
      lateral_convs_ = register_module("lateral_convs", std::make_shared<ListOf<ConvModule>>());
      for (size_t i = 0; i + 1 < inputs().size(); ++i) {
        lateral_convs_->push_back(head_conv(p, inputs()[i].channels, p.channels));
      }
      const auto count = static_cast<int64_t>(inputs().size());
      fusion_ = register_module("fusion", head_conv(p, count * p.channels, p.channels, 3));
    }
    enc_module_ = register_module("enc_module", std::make_shared<EncModule>(p));
    if (p.use_se_loss) {
      // Each class of each image is a binary problem, a pixel of one channel to the loss.
      loss_se_decode_ = register_module("loss_se_decode", build_loss(p.loss_se_decode, 1));
      se_layer_ = register_module("se_layer", std::make_shared<Linear>(p.channels, p.num_classes));
    }
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return cls_seg(encode(features).second);
  }
  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override {
    const auto [code, map] = encode(features);
    LossMap out = loss_by_feat(cls_seg(map), targets.labels);
    if (se_layer_) {
      const auto logits = se_layer_->forward(code);  // [N, classes]
      const auto flat = targets.labels.flatten(1);
      // One column more takes the pixels that are ignored.
      const auto safe = flat.masked_fill((flat < 0) | (flat >= num_classes()), num_classes());
      const auto present = at::zeros({flat.size(0), num_classes() + 1}, flat.options())
                               .scatter_(1, safe, 1)
                               .narrow(1, 0, num_classes());
      out.emplace_back("loss_se", loss_se_decode_->forward(logits.reshape({-1, 1, 1, 1}),
                                                           present.reshape({-1, 1, 1}), {}, -100));
    }
    return out;
  }

 private:
  std::pair<torch::Tensor, torch::Tensor> encode(const std::vector<torch::Tensor>& features) {
    const auto maps = select(features);
    auto x = bottleneck_->forward(maps.back());
    if (lateral_convs_) {
      std::vector<torch::Tensor> parts{x};
      for (size_t i = 0; i < lateral_convs_->size(); ++i) {
        parts.push_back(
            resize((*lateral_convs_)[i].forward(maps[i]), map_size(x), align_corners()));
      }
      x = fusion_->forward(joined_maps(parts));
    }
    return enc_module_->forward(x);
  }

  std::shared_ptr<ConvModule> bottleneck_;
  std::shared_ptr<ListOf<ConvModule>> lateral_convs_;  ///< null without add_lateral
  std::shared_ptr<ConvModule> fusion_;                 ///< likewise
  std::shared_ptr<EncModule> enc_module_;
  std::shared_ptr<Loss> loss_se_decode_;  ///< null without use_se_loss
  std::shared_ptr<Linear> se_layer_;      ///< likewise
};

SEG_REGISTER(DecodeHead, EncHead);

}  // namespace seg
