#include <algorithm>
#include <array>

#include "segcore/models/decode_heads/mask_set_losses.hpp"
#include "segcore/models/nn/draws_random_numbers.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/models/nn/uses_communicator.hpp"
#include "segcore/models/open_vocabulary/mask_recognition.hpp"
#include "segcore/models/open_vocabulary/side_adapter_network.hpp"
#include "segcore/models/open_vocabulary/vocabulary_head.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// A loss of `loss_decode`, whose `loss_name` says what it compares.
struct NamedMaskLoss {
  std::string name;
  Spec<QueryClassLoss> classes;  ///< empty: of masks
  Spec<MaskLoss> masks;          ///< empty: of classes
};

namespace {
constexpr std::string_view kClassLoss = "loss_cls_ce", kPixelLoss = "loss_mask_ce",
                           kOverlapLoss = "loss_mask_dice";
}  // namespace

template <>
struct Convert<NamedMaskLoss> {
  static TypeDoc type() {
    return {.kind = TypeDoc::Kind::kMap,
            .name = "loss with 'loss_name'",
            .items = {Convert<Config>::type()}};
  }
  static std::optional<NamedMaskLoss> from(const Config& c, const std::string& path,
                                           Diagnostics& problems) {
    const auto* name = c.find("loss_name");
    const std::string given = name && name->value.is_scalar() ? name->value.scalar : "";
    NamedMaskLoss out{.name = given, .classes = {}, .masks = {}};
    if (given == kClassLoss) {
      auto spec = Spec<QueryClassLoss>::parse(c, path, problems);
      if (!spec) return std::nullopt;
      out.classes = std::move(*spec);
      return out;
    }
    if (given != kPixelLoss && given != kOverlapLoss) {
      problems.error(name ? name->value.origin : c.origin, path,
                     text("loss_name must be ", kClassLoss, ", ", kPixelLoss, " or ", kOverlapLoss,
                          ": it says what the loss compares"));
      return std::nullopt;
    }
    auto spec = Spec<MaskLoss>::parse(c, path, problems);
    if (!spec) return std::nullopt;
    if (spec->build()->measures_overlap() != (given == kOverlapLoss)) {
      problems.error(name->value.origin, path + ".loss_name",
                     text("a loss of this type must be called ",
                          given == kOverlapLoss ? kPixelLoss : kOverlapLoss));
      return std::nullopt;
    }
    out.masks = std::move(*spec);
    return out;
  }
  static std::string show(const NamedMaskLoss& v) { return "{loss_name: " + v.name + "}"; }
};

struct SideAdapterCLIPHeadParams {
  int64_t num_classes = 0;
  SideAdapterCfg san_cfg;
  MaskRecognitionCfg maskgen_cfg;
  std::vector<int64_t> deep_supervision_idxs;
  std::optional<MaskTrainCfg> train_cfg;
  OneOrMany<NamedMaskLoss> loss_decode;
  bool align_corners = false;
  std::optional<int64_t> ignore_index = 255;
  InitCfg init_cfg;
};

/// Proposes masks by a network beside CLIP's image encoder and recognises them by its last layers.
class SideAdapterCLIPHead final : public VocabularyHead,
                                  public UsesCommunicator,
                                  public DrawsRandomNumbers {
 public:
  using Params = SideAdapterCLIPHeadParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Masks of a side network, recognised by the last layers of CLIP.")
        .source("SAN, Xu et al. 2023, arXiv:2302.12242")
        .required("num_classes", &P::num_classes, "classes, without the ignored one", at_least(1))
        .required("san_cfg", &P::san_cfg, "the network that proposes masks")
        .required("maskgen_cfg", &P::maskgen_cfg, "the layers of CLIP that recognise them")
        .required("deep_supervision_idxs", &P::deep_supervision_idxs,
                  "layers of the side network, from 1, that learn besides the last", at_least(1))
        .optional("train_cfg", &P::train_cfg, "matching; null: only prediction")
        .required("loss_decode", &P::loss_decode,
                  "losses, each with the loss_name loss_cls_ce, loss_mask_ce or loss_mask_dice")
        .optional("align_corners", &P::align_corners, "how the model resizes scores")
        .optional("ignore_index", &P::ignore_index, "label without loss; null: none")
        .optional("init_cfg", &P::init_cfg, "weights of the layers of CLIP")
        .validate([](const P& p, Problems& problems) {
          if (p.san_cfg.num_queries != p.maskgen_cfg.sos_token_num) {
            problems.error("maskgen_cfg.sos_token_num",
                           text("must be san_cfg.num_queries, ", p.san_cfg.num_queries));
          }
          const auto& decoder = p.san_cfg.cfg_decoder;
          check_biases(problems, "san_cfg.cfg_decoder.num_heads", decoder.num_heads,
                       "maskgen_cfg.num_heads", p.maskgen_cfg.num_heads);
          check_biases(problems, "san_cfg.cfg_decoder.num_layers", decoder.num_layers,
                       "maskgen_cfg.num_layers", p.maskgen_cfg.num_layers);
          // Published settings for testing alone keep the weights of other classes.
          const auto problem = problem_with_classes(p);
          if (!problem.empty()) problems.warn("loss_decode", problem + "; training will fail");
        });
  }
  static VocabularyHeadFacts facts(const Params& p) { return {.num_classes = p.num_classes}; }

  SideAdapterCLIPHead(const Params& p, const std::vector<FeatureInfo>& inputs,
                      const TextEncoder& text_encoder)
      : p_(p) {
    check_inputs(inputs, text_encoder);
    network_ =
        register_module("side_adapter_network", std::make_shared<SideAdapterNetwork>(p.san_cfg));
    recognition_ = register_module("rec_with_attnbias",
                                   std::make_shared<MaskRecognition>(p.maskgen_cfg, p.init_cfg));
    if (!p.train_cfg) return;
    std::vector<MaskSetTerm> terms;
    for (const auto& loss : p.loss_decode.values) {
      const bool of_classes = loss.name == kClassLoss;
      terms.push_back({.name = loss.name,
                       .classes = of_classes ? loss.classes.build() : nullptr,
                       .masks = of_classes ? nullptr : loss.masks.build()});
    }
    losses_.emplace(
        MaskSetLosses::Options{
            .num_classes = p.num_classes, .ignore_index = ignore_index(), .count_of_empty = 0},
        p.train_cfg->assigner.build(), compare_at_points(*p.train_cfg), std::move(terms));
  }

  torch::Tensor predict(const VocabularyInputs& inputs) override {
    auto last = outputs(inputs, {}).back();
    last.masks = resize(full_precision(last.masks), map_size(inputs.images));
    return semantic_scores(last);
  }

  LossMap loss(const VocabularyInputs& inputs, const Targets& targets) override {
    if (!losses_) {
      throw Error("a head without train_cfg cannot be trained: give it train_cfg.assigner");
    }
    const auto problem = problem_with_classes(p_);
    if (!problem.empty()) throw OptionError("loss_decode", problem);
    const auto layers = (*losses_)(
        outputs(inputs, p_.deep_supervision_idxs), targets.labels,
        [this](at::Tensor& counts) { average_over_processes_(counts); }, random_source());
    LossMap out = layers.back();
    for (size_t i = 0; i + 1 < layers.size(); ++i) {
      for (const auto& [name, value] : layers[i]) {
        out.emplace_back(text("d", p_.deep_supervision_idxs[i], ".", name), value);
      }
    }
    return out;
  }

  int64_t num_classes() const override { return p_.num_classes; }
  int64_t ignore_index() const override { return p_.ignore_index.value_or(-100); }
  bool align_corners() const override { return p_.align_corners; }

 private:
  /// Why the loss of classes cannot be used; empty if it can.
  static std::string problem_with_classes(const Params& p) {
    for (const auto& loss : p.loss_decode.values) {
      if (loss.name != kClassLoss) continue;
      const auto problem = loss.classes.build()->problem_with(p.num_classes);
      if (!problem.empty()) return problem;
    }
    return {};
  }

  static void check_biases(Problems& problems, const char* option, int64_t count,
                           const char* of_clip, int64_t all) {
    if (count == 1 || count == all) return;
    problems.error(option, text("must be 1 or ", of_clip, ", ", all));
  }

  void check_inputs(const std::vector<FeatureInfo>& inputs, const TextEncoder& text_encoder) const {
    std::vector<int64_t> widths;
    bool tokens = inputs.size() % 2 == 0 && !inputs.empty();
    for (size_t i = 0; i < inputs.size(); ++i) {
      tokens &= inputs[i].is_token() == (i % 2 == 1);
      if (!inputs[i].is_token()) widths.push_back(inputs[i].channels);
    }
    if (!tokens) {
      throw OptionError("type",
                        "SideAdapterCLIPHead needs the class token beside each map: set "
                        "image_encoder.output_cls_token");
    }
    if (widths.size() != p_.san_cfg.fusion_index.size()) {
      throw OptionError("san_cfg.fusion_index",
                        text("names ", p_.san_cfg.fusion_index.size(), " layers for the ",
                             widths.size(), " maps of the image encoder"));
    }
    if (std::ranges::any_of(widths, [&](int64_t w) { return w != p_.san_cfg.clip_channels; })) {
      throw OptionError("san_cfg.clip_channels",
                        text("is ", p_.san_cfg.clip_channels,
                             ", but the image encoder's maps have ", widths[0], " channels"));
    }
    if (widths[0] != p_.maskgen_cfg.embed_dims) {
      throw OptionError("maskgen_cfg.embed_dims",
                        text("is ", p_.maskgen_cfg.embed_dims,
                             ", but the image encoder's maps have ", widths[0], " channels"));
    }
    if (text_encoder.width() != p_.maskgen_cfg.out_dims) {
      throw OptionError("maskgen_cfg.out_dims",
                        text("is ", p_.maskgen_cfg.out_dims, ", but text_encoder.output_dims ",
                             text_encoder.width()));
    }
    const auto classes = static_cast<int64_t>(text_encoder.classes().size());
    if (classes != p_.num_classes) {
      throw OptionError("num_classes", text("is ", p_.num_classes, ", but the text encoder has ",
                                            classes, " classes"));
    }
    if (!text_encoder.has_background()) {
      throw OptionError("type", "SideAdapterCLIPHead needs text_encoder.cat_bg");
    }
  }

  std::vector<QueryOutput> outputs(const VocabularyInputs& inputs,
                                   const std::vector<int64_t>& supervised) {
    std::vector<torch::Tensor> maps;
    for (size_t i = 0; i < inputs.features.size(); i += 2) maps.push_back(inputs.features[i]);
    std::vector<QueryOutput> out;
    for (auto& proposals : network_->forward(inputs.images, maps, supervised)) {
      const auto masks =
          recognition_->forward(proposals.biases, maps.back(), inputs.features.back());
      out.push_back({at::einsum("bqc,nc->bqn", {masks, inputs.classes}), proposals.masks});
    }
    return out;
  }

  Params p_;
  std::shared_ptr<SideAdapterNetwork> network_;
  std::shared_ptr<MaskRecognition> recognition_;
  std::optional<MaskSetLosses> losses_;  ///< empty without train_cfg
};

SEG_REGISTER(VocabularyHead, SideAdapterCLIPHead);

}  // namespace seg
