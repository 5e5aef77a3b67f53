#include <algorithm>

#include "registry/yaml.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/diffusion_autoencoder.hpp"
#include "segcore/models/backbones/diffusion_unet.hpp"
#include "segcore/models/nn/activation.hpp"
#include "segcore/models/takes_categories.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"
#include "segcore/models/weights/load_pretrained.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// A class of ldm with its parameters, as ldm's configs name them.
template <class P>
struct LdmPart {
  std::string target = P::target();
  P params;
  static Schema<LdmPart> schema() {
    return Schema<LdmPart>("A part of a latent diffusion model.")
        .optional("target", &LdmPart::target, "its class in ldm",
                  one_of({std::string(P::target())}))
        .optional("params", &LdmPart::params, "its options");
  }
};

struct LdmUNet : UNetModelParams {
  static const char* target() { return "ldm.modules.diffusionmodules.openaimodel.UNetModel"; }
  static Schema<LdmUNet> schema() { return Schema<LdmUNet>("").include(UNetModelParams::schema()); }
};

struct LdmAutoencoder : AutoencoderKLParams {
  static const char* target() { return "ldm.models.autoencoder.AutoencoderKL"; }
  static Schema<LdmAutoencoder> schema() {
    return Schema<LdmAutoencoder>("").include(AutoencoderKLParams::schema());
  }
};

/// The options of a LatentDiffusion. What concerns diffusion itself has no effect on VPD.
struct LatentDiffusionParams {
  LdmPart<LdmUNet> unet_config;
  LdmPart<LdmAutoencoder> first_stage_config;
  static Schema<LatentDiffusionParams> schema() {
    using P = LatentDiffusionParams;
    Schema<P> schema("A latent diffusion model.");
    schema.optional("unet_config", &P::unet_config, "the network whose maps are the features")
        .optional("first_stage_config", &P::first_stage_config, "makes latents of the images");
    for (const char* option :
         {"linear_start", "linear_end", "num_timesteps_cond", "log_every_t", "timesteps",
          "first_stage_key", "cond_stage_key", "image_size", "channels", "cond_stage_trainable",
          "conditioning_key", "monitor", "scale_factor", "use_ema", "scheduler_config",
          "cond_stage_config"}) {
      schema.accepted(option,
                      "has no effect: no noise is added, and embeddings of texts are given");
    }
    return schema;
  }
};

struct DiffusionCfg {
  std::string target = "ldm.models.diffusion.ddpm.LatentDiffusion";
  std::optional<std::string> checkpoint;
  LatentDiffusionParams params;
  static Schema<DiffusionCfg> schema() {
    return Schema<DiffusionCfg>("A latent diffusion model and its weights.")
        .optional("target", &DiffusionCfg::target, "its class in ldm",
                  one_of({"ldm.models.diffusion.ddpm.LatentDiffusion"}))
        .optional("checkpoint", &DiffusionCfg::checkpoint,
                  "its weights, a file or the address of a published one; null: none")
        .optional("params", &DiffusionCfg::params, "its options; those of Stable Diffusion v1")
        .accepted("base_learning_rate", "the optimizer has its own");
  }
};

struct VpdUnetCfg {
  bool use_attn = false;
  static Schema<VpdUnetCfg> schema() {
    const std::string without = "has no effect without use_attn";
    return Schema<VpdUnetCfg>("What is taken from the U-Net.")
        .optional("use_attn", &VpdUnetCfg::use_attn, "must be false: no maps of attention")
        .accepted("base_size", without)
        .accepted("max_attn_size", without)
        .accepted("attn_selector", without)
        .validate([](const VpdUnetCfg& p, Problems& problems) {
          if (p.use_attn) {
            problems.error("use_attn",
                           "must be false: maps of attention are not joined to the features");
          }
        });
  }
};

struct VPDParams {
  DiffusionCfg diffusion_cfg;
  std::optional<std::string> class_embed_path;
  int64_t num_class_embeddings = 27;
  VpdUnetCfg unet_cfg;
  double gamma = 1e-4;
  bool class_embed_select = false;
  std::optional<Size2> pad_shape;
  double pad_val = 0;
  InitCfg init_cfg;
};

namespace {

/// A rule that reads the part of a diffusion model below a prefix.
InitCfg weights_of_diffusion(const std::optional<std::string>& checkpoint,
                             const std::string& prefix) {
  if (!checkpoint) return {};
  return OneOrMany<Spec<Initializer>>{{pretrained_below(*checkpoint, prefix)}};
}

/// DiffusionWrapper of ldm; child `diffusion_model`.
class DiffusionWrapper final : public BaseModule {
 public:
  DiffusionWrapper(const UNetModelParams& p, InitCfg init_cfg) : BaseModule(std::move(init_cfg)) {
    model_ = register_module("diffusion_model", std::make_shared<UNetModel>(p));
  }
  UNetModel& model() { return *model_; }

 private:
  std::shared_ptr<UNetModel> model_;
};

/// UNetWrapper of MMSegmentation; child `unet`.
class UNetWrapper final : public BaseModule {
 public:
  UNetWrapper(const UNetModelParams& p, InitCfg init_cfg) {
    unet_ = register_module("unet", std::make_shared<DiffusionWrapper>(p, std::move(init_cfg)));
  }
  UNetModel& model() { return unet_->model(); }

 private:
  std::shared_ptr<DiffusionWrapper> unet_;
};

/// Adapts embeddings of texts; child `fc`.
class TextAdapter final : public BaseModule {
 public:
  explicit TextAdapter(int64_t width) {
    fc_ = std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
        std::make_shared<Linear>(width, width), act_cfg_of("{type: GELU}")->build(false),
        std::make_shared<Linear>(width, width)});
    register_module("fc", fc_);
  }
  /// \param texts  [tokens, width]
  /// \param gamma  [width]
  torch::Tensor forward(const torch::Tensor& texts, const torch::Tensor& gamma) {
    return texts + gamma * fc_->forward(texts);
  }

 private:
  std::shared_ptr<Sequential> fc_;
};

}  // namespace

/// The U-Net of a text-to-image diffusion model as a backbone, conditioned by texts of classes.
///
/// Zhao et al. 2023, arXiv:2303.02153, as in MMSegmentation 1.2.2. Children `encoder_vq`, `unet`,
/// `text_adapter`; parameter `gamma`, buffer `class_embeddings`.
class VPD final : public Backbone, public TakesCategories, public AdaptsPretrained {
 public:
  using Params = VPDParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("The U-Net of Stable Diffusion, conditioned by texts of the classes.")
        .source("VPD, Zhao et al. 2023, arXiv:2303.02153; MMSegmentation 1.2")
        .optional("diffusion_cfg", &P::diffusion_cfg, "the diffusion model")
        .optional("class_embed_path", &P::class_embed_path,
                  "file or address of a tensor [classes, context_dim], CLIP's embeddings of texts; "
                  "null: those of the checkpoint that is loaded")
        .optional("num_class_embeddings", &P::num_class_embeddings,
                  "classes that class_embed_path has; 27: the scenes of NYUDataset", at_least(1))
        .optional("unet_cfg", &P::unet_cfg, "what is taken from the U-Net")
        .optional("gamma", &P::gamma, "first factor of the adapted embeddings")
        .optional("class_embed_select", &P::class_embed_select,
                  "each image has only the embedding of its category, or of an unknown one their "
                  "mean; else all")
        .optional("pad_shape", &P::pad_shape, "smaller images are padded to it; null: none is",
                  sides_at_least(1))
        .optional("pad_val", &P::pad_val, "value of padding, after normalisation")
        .accepted("with_cp", "use_checkpoint of unet_config recomputes blocks")
        .optional("init_cfg", &P::init_cfg, "initialisation")
        .validate([](const P& p, Problems& problems) {
          const auto& parts = p.diffusion_cfg.params;
          const int64_t made = parts.first_stage_config.params.embed_dim;
          const int64_t taken = parts.unet_config.params.in_channels;
          if (made != taken) {
            problems.error("diffusion_cfg",
                           text("the autoencoder's embed_dim is ", made,
                                ", the U-Net's in_channels ", taken, ": they must be equal"));
          }
        });
  }

  explicit VPD(const Params& p) : Backbone(with_embeddings(p)), p_(p) {
    const auto& cfg = p.diffusion_cfg;
    const int64_t width = cfg.params.unet_config.params.context_dim;
    gamma_ = register_parameter("gamma", torch::full({width}, p.gamma));
    const int64_t rows = p.num_class_embeddings + (p.class_embed_select ? 1 : 0);
    embeddings_ = register_buffer("class_embeddings", torch::randn({rows, width}));
    encoder_vq_ = register_module("encoder_vq",
                                  std::make_shared<AutoencoderKL>(
                                      cfg.params.first_stage_config.params,
                                      weights_of_diffusion(cfg.checkpoint, "first_stage_model.")));
    unet_ = register_module(
        "unet", std::make_shared<UNetWrapper>(cfg.params.unet_config.params,
                                              weights_of_diffusion(cfg.checkpoint, "model.")));
    text_adapter_ = register_module("text_adapter", std::make_shared<TextAdapter>(width));
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    return forward_categories(images, {});
  }
  std::vector<torch::Tensor> forward_categories(const torch::Tensor& images,
                                                const std::vector<int64_t>& categories) override {
    constexpr double kStep = 1;  // VPD looks at images with almost no noise
    const auto context = this->context(images.size(0), categories);
    return unet_->model().forward(encoder_vq_->encode(padded(images)), kStep, context);
  }

  std::vector<FeatureInfo> features() const override {
    std::vector<FeatureInfo> out;
    int64_t stride = encoder_vq_->stride();
    for (const int64_t channels : unet_->model().channels()) {
      out.push_back({.channels = channels, .stride = stride});
      stride *= 2;
    }
    return out;
  }

  /// Adds the mean of the embeddings, which stands for an unknown category, to those of a file.
  void adapt_pretrained(Value& state) const override {
    const Value* found = state.find("class_embeddings");
    if (!found || !found->is_tensor()) return;
    const at::Tensor& of_file = found->as_tensor();
    if (of_file.dim() != 2 || of_file.size(0) != p_.num_class_embeddings) return;
    if (p_.class_embed_select) {
      state.set("class_embeddings", at::cat({of_file, of_file.mean(0, /*keepdim=*/true)}));
    }
  }

 private:
  /// The rules of the config and the file of embeddings.
  static InitCfg with_embeddings(const Params& p) {
    if (!p.class_embed_path) return p.init_cfg;
    InitCfg out = init_cfg_of(text("{type: PretrainedTensor, name: class_embeddings, checkpoint: ",
                                   dump_flow(Config::of(*p.class_embed_path)), "}"));
    if (p.init_cfg) {
      out->values.insert(out->values.begin(), p.init_cfg->values.begin(), p.init_cfg->values.end());
    }
    return out;
  }

  /// What the U-Net's attention looks at, [images, tokens, context_dim].
  torch::Tensor context(int64_t images, const std::vector<int64_t>& categories) {
    if (!p_.class_embed_select) {
      return text_adapter_->forward(embeddings_, gamma_).unsqueeze(0).expand({images, -1, -1});
    }
    std::vector<int64_t> rows(static_cast<size_t>(images), p_.num_class_embeddings);
    for (size_t i = 0; i < std::min(rows.size(), categories.size()); ++i) {
      if (categories[i] >= p_.num_class_embeddings) {
        throw DataError(text("an image is of category ", categories[i], ", but ",
                             p_.num_class_embeddings,
                             " have embeddings: set model.backbone.num_class_embeddings and "
                             "class_embed_path, or class_embed_select: false"));
      }
      if (categories[i] >= 0) rows[i] = categories[i];
    }
    const auto index = torch::tensor(rows, torch::kLong).to(embeddings_.device());
    return text_adapter_->forward(embeddings_.index_select(0, index), gamma_).unsqueeze(1);
  }

  torch::Tensor padded(const torch::Tensor& images) const {
    torch::Tensor out = images;
    if (p_.pad_shape) {
      const int64_t right = std::max<int64_t>(0, p_.pad_shape->w - images.size(3));
      const int64_t below = std::max<int64_t>(0, p_.pad_shape->h - images.size(2));
      out = at::constant_pad_nd(images, {0, right, 0, below}, p_.pad_val);
    }
    const int64_t divisor = encoder_vq_->stride() * unet_->model().size_divisor();
    if (out.size(2) % divisor != 0 || out.size(3) % divisor != 0) {
      throw DataError(text("VPD takes images whose sides are multiples of ", divisor, ", got ",
                           out.size(2), "x", out.size(3),
                           ": set model.backbone.pad_shape, or predict by windows of such a size "
                           "(test_cfg)"));
    }
    return out;
  }

  Params p_;
  torch::Tensor gamma_, embeddings_;
  std::shared_ptr<AutoencoderKL> encoder_vq_;
  std::shared_ptr<UNetWrapper> unet_;
  std::shared_ptr<TextAdapter> text_adapter_;
};
SEG_REGISTER(Backbone, VPD);

}  // namespace seg
