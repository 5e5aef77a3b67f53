#include <algorithm>

#include "segcore/io/weights.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/draws_random_numbers.hpp"
#include "segcore/models/nn/normalize.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// The matrix decomposition of the Hamburger.
struct HamParams {
  int64_t MD_S = 1;
  int64_t MD_R = 64;
  int64_t train_steps = 6;
  int64_t eval_steps = 7;
  double inv_t = 100;
  bool rand_init = true;
  static Schema<HamParams> schema() {
    using P = HamParams;
    return Schema<P>("Decomposition of the map into bases and coefficients.")
        .optional("MD_S", &P::MD_S, "groups of channels that are decomposed alone", at_least(1))
        .optional("MD_R", &P::MD_R, "number of bases", at_least(1))
        .optional("train_steps", &P::train_steps, "updates in training", at_least(0))
        .optional("eval_steps", &P::eval_steps, "updates in evaluation", at_least(0))
        .optional("inv_t", &P::inv_t, "has no effect: the decomposition uses 1")
        .optional("rand_init", &P::rand_init,
                  "new random bases for every batch; else one set, which is kept");
  }
};

namespace {

/// Non-negative matrix factorisation by multiplicative updates.
class NMF2D final : public Layer, public DrawsRandomNumbers {
 public:
  NMF2D(const HamParams& p, int64_t channels) : params_(p), channels_(channels) {}

  /// Registers the buffer `bases`, which is kept without rand_init, if it is still missing.
  void keep_bases(const torch::TensorOptions& options) {
    if (params_.rand_init || bases_.defined()) return;
    bases_ = register_buffer("bases", make_bases(params_.MD_S, channels_ / params_.MD_S, options));
  }

  /// x [N, C, H, W], not negative.
  torch::Tensor forward(const torch::Tensor& map) override {
    const int64_t n = map.size(0), groups = params_.MD_S, d = map.size(1) / groups;
    const auto x = map.reshape({n * groups, d, -1});  // [N * S, D, H * W]
    auto bases = params_.rand_init ? make_bases(n * groups, d, x.options())
                                   : bases_.repeat({n, 1, 1});     // [N * S, D, R]
    auto coef = torch::bmm(x.transpose(1, 2), bases).softmax(-1);  // [N * S, H * W, R]
    const int64_t steps = is_training() ? params_.train_steps : params_.eval_steps;
    for (int64_t i = 0; i < steps; ++i) {
      coef = updated_coef(x, bases, coef);
      const auto wanted = torch::bmm(x, coef);
      const auto given = torch::bmm(bases, torch::bmm(coef.transpose(1, 2), coef));
      bases = bases * wanted / (given + 1e-6);
    }
    coef = updated_coef(x, bases, coef);
    return torch::bmm(bases, coef.transpose(1, 2)).view_as(map);
  }

 private:
  torch::Tensor make_bases(int64_t count, int64_t d, const torch::TensorOptions& options) const {
    return normalize(uniform({count, d, params_.MD_R}, options), 1);
  }
  static torch::Tensor updated_coef(const torch::Tensor& x, const torch::Tensor& bases,
                                    const torch::Tensor& coef) {
    const auto wanted = torch::bmm(x.transpose(1, 2), bases);
    const auto given = torch::bmm(coef, torch::bmm(bases.transpose(1, 2), bases));
    return coef * wanted / (given + 1e-6);
  }

  HamParams params_;
  int64_t channels_;
  torch::Tensor bases_;  ///< [S, D, R]; undefined with rand_init, or while it was not needed
};

/// A decomposition between two 1x1 convolutions: `ham_in`, `ham`, `ham_out`.
///
/// As in MMSegmentation, a model that was only built has no `ham.bases`: they are loaded with
/// weights that have them, or drawn when they are first needed.
class Hamburger final : public Layer, public ChangesBeforeLoad {
 public:
  Hamburger(int64_t channels, const HamParams& p, const NormCfg& norm) {
    const auto conv = [channels](const NormCfg& cfg) {
      return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = channels,
                                                            .out_channels = channels,
                                                            .norm_cfg = cfg,
                                                            .act_cfg = std::nullopt});
    };
    ham_in_ = register_module("ham_in", conv(std::nullopt));
    ham_ = register_module("ham", std::make_shared<NMF2D>(p, channels));
    ham_out_ = register_module("ham_out", conv(norm));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    ham_->keep_bases(like_weights());
    return (x + ham_out_->forward(ham_->forward(ham_in_->forward(x).relu_()))).relu_();
  }
  void before_load(NamedTensors& weights) override {
    const bool there = std::any_of(weights.begin(), weights.end(),
                                   [](const auto& item) { return item.first == "ham.bases"; });
    if (there) ham_->keep_bases(like_weights());
  }
  /// Registers the bases before the first step, since a run copies all buffers when it starts.
  void train(bool on = true) override {
    Layer::train(on);
    if (on) ham_->keep_bases(like_weights());
  }

 private:
  torch::TensorOptions like_weights() const {
    return ham_in_->conv()->weight.options().requires_grad(false);
  }

  std::shared_ptr<ConvModule> ham_in_, ham_out_;
  std::shared_ptr<NMF2D> ham_;
};

}  // namespace

struct LightHamHeadParams : DecodeHeadParams {
  int64_t ham_channels = 512;
  HamParams ham_kwargs;
  LightHamHeadParams() {
    input_transform = "multiple_select";
    in_index = std::vector<int64_t>{1, 2, 3};
  }
};

/// Joins maps and adds global context by a matrix decomposition.
///
/// SegNeXt, Guo et al. 2022, arXiv:2209.08575; Hamburger, Geng et al. 2021, arXiv:2109.04553.
class LightHamHead final : public DecodeHead {
 public:
  using Params = LightHamHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Joins maps and adds global context by a matrix decomposition.")
        .source("SegNeXt, Guo et al. 2022, arXiv:2209.08575")
        .include(DecodeHead::base_schema())
        .optional("ham_channels", &Params::ham_channels, "width of the decomposed map", at_least(1))
        .optional("ham_kwargs", &Params::ham_kwargs, "the decomposition")
        .validate([](const Params& p, Problems& problems) {
          if (p.ham_channels % p.ham_kwargs.MD_S != 0) {
            problems.error("ham_channels",
                           text("is not a multiple of ham_kwargs.MD_S, ", p.ham_kwargs.MD_S));
          }
        });
  }

  LightHamHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all) {
    const auto conv = [&p](int64_t in, int64_t out) {
      return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                            .out_channels = out,
                                                            .conv_cfg = p.conv_cfg,
                                                            .norm_cfg = p.norm_cfg,
                                                            .act_cfg = p.act_cfg});
    };
    int64_t joined = 0;
    for (const auto& input : inputs()) joined += input.channels;
    squeeze_ = register_module("squeeze", conv(joined, p.ham_channels));
    hamburger_ = register_module(
        "hamburger", std::make_shared<Hamburger>(p.ham_channels, p.ham_kwargs, p.norm_cfg));
    align_ = register_module("align", conv(p.ham_channels, p.channels));
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto maps = select(features);
    const auto x = squeeze_->forward_resized(maps, map_size(maps[0]), align_corners());
    return cls_seg(align_->forward(hamburger_->forward(x)));
  }

 private:
  std::shared_ptr<ConvModule> squeeze_, align_;
  std::shared_ptr<Hamburger> hamburger_;
};

SEG_REGISTER(DecodeHead, LightHamHead);

}  // namespace seg
