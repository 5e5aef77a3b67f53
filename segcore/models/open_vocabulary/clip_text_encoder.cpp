#include <torch/nn/modules/embedding.h>

#include <array>
#include <cmath>
#include <limits>

#include "segcore/data/dataset.hpp"
#include "segcore/io/model_zoo.hpp"
#include "segcore/models/blocks/pre_norm_layer.hpp"
#include "segcore/models/nn/freeze.hpp"
#include "segcore/models/nn/keeps_results.hpp"
#include "segcore/models/nn/normalize.hpp"
#include "segcore/models/open_vocabulary/clip_tokenizer.hpp"
#include "segcore/models/open_vocabulary/prompt_templates.hpp"
#include "segcore/models/open_vocabulary/text_encoder.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct ClipTextEncoderParams {
  std::optional<std::string> dataset_name;
  std::optional<std::vector<std::string>> vocabulary;
  std::variant<std::string, std::vector<std::string>> templates = std::string("vild");
  std::string vocabulary_file =
      "https://github.com/openai/CLIP/raw/main/clip/bpe_simple_vocab_16e6.txt.gz";
  int64_t total_vocab_size = 49408;
  int64_t context_length = 77;
  int64_t embed_dims = 512;
  int64_t num_layers = 12;
  int64_t num_heads = 8;
  int64_t mlp_ratio = 4;
  int64_t output_dims = 512;
  bool cache_feature = true;
  bool cat_bg = true;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  InitCfg init_cfg;
};

namespace {

/// The data sets whose classes `dataset_name` may name, as mmseg's get_classes does.
constexpr std::pair<std::string_view, std::string_view> kDatasetNames[] = {
    {"cityscapes", "CityscapesDataset"},
    {"ade", "ADE20KDataset"},
    {"ade20k", "ADE20KDataset"},
    {"voc", "PascalVOCDataset"},
    {"pascal_voc", "PascalVOCDataset"},
    {"voc12", "PascalVOCDataset"},
    {"voc12aug", "PascalVOCDataset"},
    {"pcontext", "PascalContextDataset59"},
    {"pascal_context", "PascalContextDataset59"},
    {"voc2010", "PascalContextDataset59"},
    {"loveda", "LoveDADataset"},
    {"potsdam", "PotsdamDataset"},
    {"vaihingen", "ISPRSDataset"},
    {"cocostuff", "COCOStuffDataset"},
    {"cocostuff10k", "COCOStuffDataset"},
    {"cocostuff164k", "COCOStuffDataset"},
    {"coco-stuff", "COCOStuffDataset"},
    {"coco-stuff10k", "COCOStuffDataset"},
    {"coco-stuff164k", "COCOStuffDataset"},
    {"coco_stuff", "COCOStuffDataset"},
    {"coco_stuff10k", "COCOStuffDataset"},
    {"coco_stuff164k", "COCOStuffDataset"},
    {"isaid", "iSAIDDataset"},
    {"iSAID", "iSAIDDataset"},
    {"stare", "STAREDataset"},
    {"STARE", "STAREDataset"},
    {"LIP", "LIPDataset"},
    {"lip", "LIPDataset"},
    {"mapillary_v1", "MapillaryDataset_v1"},
    {"mapillary_v2", "MapillaryDataset_v2"},
    {"bdd100k", "BDD100KDataset"},
};

std::vector<std::string> dataset_names() {
  std::vector<std::string> out;
  for (const auto& [name, type] : kDatasetNames) out.emplace_back(name);
  return out;
}

/// The classes of a data set; a background at the front has an embedding of its own.
std::vector<std::string> classes_of_dataset(const std::string& dataset) {
  const auto* found = std::ranges::find(kDatasetNames, std::string_view(dataset),
                                        &std::pair<std::string_view, std::string_view>::first);
  // No file is read: VOC alone needs a list to be named.
  auto names =
      Spec<Dataset>::of(text("{type: ", found->second, ", ann_file: none}")).facts().classes;
  if (names.at(0) == "background" || names[0] == "Background") names.erase(names.begin());
  return names;
}

}  // namespace

/// The text encoder of CLIP, whose weights stay, over prompts about each class.
class CLIPTextEncoder final : public TextEncoder, public KeepsResults {
 public:
  using Params = ClipTextEncoderParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("The text encoder of CLIP over prompts about each class; its weights stay.")
        .source("CLIP, Radford et al. 2021, arXiv:2103.00020")
        .optional("dataset_name", &P::dataset_name, "the data set whose classes are embedded",
                  one_of(dataset_names()))
        .optional("vocabulary", &P::vocabulary, "names of classes, in place of a data set's")
        .optional("templates", &P::templates,
                  "prompts: 'vild', 'imagenet', or sentences with {} for the name")
        .optional("vocabulary_file", &P::vocabulary_file,
                  "the parts of words that CLIP knows: a file, or the address of a published one")
        .optional("total_vocab_size", &P::total_vocab_size, "parts of words", at_least(3))
        .optional("context_length", &P::context_length, "parts that a prompt may have", at_least(3))
        .optional("embed_dims", &P::embed_dims, "width of tokens", at_least(1))
        .optional("num_layers", &P::num_layers, "layers", at_least(1))
        .optional("num_heads", &P::num_heads, "attention heads", at_least(1))
        .optional("mlp_ratio", &P::mlp_ratio, "width of feed-forward blocks over embed_dims",
                  at_least(1))
        .optional("output_dims", &P::output_dims, "width of the embeddings", at_least(1))
        .optional("cache_feature", &P::cache_feature,
                  "embed the names once, and again only when weights change")
        .optional("cat_bg", &P::cat_bg, "learn an embedding for what is of no class")
        .optional("norm_cfg", &P::norm_cfg, "the last norm")
        .optional("init_cfg", &P::init_cfg, "initialisation")
        .validate([](const P& p, Problems& problems) {
          if (p.dataset_name && p.vocabulary) {
            problems.error("vocabulary", "is given besides dataset_name: write one of both");
          }
          if (!p.dataset_name && !p.vocabulary) {
            problems.error("dataset_name", "is needed, or a vocabulary: the names of the classes");
          }
          if (p.vocabulary && p.vocabulary->empty()) {
            problems.error("vocabulary", "holds no class");
          }
          if (p.embed_dims % p.num_heads != 0) {
            problems.error("num_heads", text("does not divide embed_dims ", p.embed_dims));
          }
          if (prompts_of(p).empty()) {
            problems.error("templates", "must be 'vild', 'imagenet' or a list of sentences");
          }
        });
  }

  explicit CLIPTextEncoder(const Params& p)
      : TextEncoder(p.init_cfg),
        p_(p),
        prompts_(prompts_of(p)),
        classes_(p.vocabulary ? *p.vocabulary : classes_of_dataset(*p.dataset_name)) {
    token_embedding_ = register_module(
        "token_embedding",
        std::make_shared<torch::nn::EmbeddingImpl>(p.total_vocab_size, p.embed_dims));
    positional_embedding_ =
        register_parameter("positional_embedding", torch::zeros({p.context_length, p.embed_dims}));
    text_projection_ =
        register_parameter("text_projection", torch::zeros({p.embed_dims, p.output_dims}));
    constexpr double kTemperature = 0.07;
    logit_scale_ = register_parameter("logit_scale", torch::full({}, std::log(1 / kTemperature)));
    transformer_ = register_module("transformer", std::make_shared<ListOf<PreNormLayer>>());
    for (int64_t i = 0; i < p.num_layers; ++i) {
      transformer_->push_back(std::make_shared<PreNormLayer>(
          PreNormLayerOptions{.embed_dims = p.embed_dims,
                              .num_heads = p.num_heads,
                              .feedforward_channels = p.mlp_ratio * p.embed_dims,
                              .act_cfg = act_cfg_of("{type: QuickGELU}")}));
    }
    ln_final_ = register_norm(*this, p.norm_cfg, p.embed_dims, "_final");
    freeze_all_but(*this, {});
    if (p.cat_bg) bg_embed_ = register_parameter("bg_embed", torch::zeros({1, p.output_dims}));
  }

  void init_weights() override {
    TextEncoder::init_weights();
    const torch::NoGradGuard no_grad;
    // As CLIP's: mmseg leaves these two to the file of weights.
    positional_embedding_.normal_(0, 0.01);
    text_projection_.normal_(0, 1 / std::sqrt(static_cast<double>(p_.embed_dims)));
    if (p_.cat_bg) bg_embed_.normal_(0, 1 / std::sqrt(static_cast<double>(p_.output_dims)));
  }

  torch::Tensor class_embeddings() override {
    auto classes = p_.cache_feature ? cached_embeddings() : embed_classes();
    if (p_.cat_bg) classes = normalize(at::cat({classes, bg_embed_}), -1);
    return logit_scale_.exp() * classes;
  }

  const std::vector<std::string>& classes() const override { return classes_; }
  int64_t width() const override { return p_.output_dims; }
  bool has_background() const override { return p_.cat_bg; }

 private:
  static std::vector<std::string> prompts_of(const Params& p) {
    const auto* name = std::get_if<std::string>(&p.templates);
    return name ? known_prompts(*name) : std::get<1>(p.templates);
  }

  /// The embeddings of the names, [classes, width], as long as no weight changes.
  torch::Tensor cached_embeddings() {
    uint64_t changes = 0;
    for (const auto& weight : parameters()) {
      if (!weight.requires_grad()) changes += weight._version();
    }
    const auto options = text_projection_.options();
    const bool known = cache_.defined() && changes == cached_at_ &&
                       cache_.device() == options.device() &&
                       cache_.scalar_type() == text_projection_.scalar_type();
    if (!known) {
      cache_ = embed_classes();
      cached_at_ = changes;
    }
    return cache_;
  }

  /// The mean over prompts, at length one.
  torch::Tensor embed_classes() {
    const torch::NoGradGuard no_grad;
    // Kept for steps of any precision.
    const Autocast off(text_projection_.device().type(), std::nullopt);
    if (!tokenizer_) tokenizer_.emplace(resolve_checkpoint(p_.vocabulary_file));
    torch::Tensor sum;
    for (const auto& prompt : prompts_) {
      std::vector<torch::Tensor> rows;
      for (const auto& name : classes_) {
        rows.push_back(
            at::tensor(tokenizer_->encode(prompt_of(prompt, name), p_.context_length), at::kLong));
      }
      const auto embedded = normalize(encode(at::stack(rows)), -1);
      sum = sum.defined() ? sum + embedded : embedded;
    }
    const auto mean = sum / static_cast<double>(prompts_.size());
    return mean / mean.norm(2, -1, /*keepdim=*/true);
  }

  /// \param parts  int64 [N, context_length]; the largest number of a row is the end of its text.
  /// \return [N, output_dims]
  torch::Tensor encode(const torch::Tensor& parts) {
    const auto device = text_projection_.device();
    if (parts.max().item<int64_t>() >= p_.total_vocab_size) {
      throw OptionError("total_vocab_size",
                        text("is ", p_.total_vocab_size, ", but ", p_.vocabulary_file,
                             " has a part ", parts.max().item<int64_t>()));
    }
    auto x = token_embedding_->forward(parts.to(device)) + positional_embedding_;
    // A part sees those before it.
    const auto later = at::full({p_.context_length, p_.context_length},
                                -std::numeric_limits<double>::infinity(), x.options())
                           .triu(1);
    for (const auto& layer : *transformer_) x = layer->forward(x, later);
    const auto ends = parts.argmax(-1).to(device);
    const auto rows = at::arange(x.size(0), ends.options());
    return at::matmul(ln_final_->forward(x).index({rows, ends}), text_projection_);
  }

  Params p_;
  std::vector<std::string> prompts_, classes_;
  std::optional<ClipTokenizer> tokenizer_;  ///< read at first use: building needs no file
  torch::Tensor cache_;
  uint64_t cached_at_ = 0;
  std::shared_ptr<torch::nn::EmbeddingImpl> token_embedding_;
  torch::Tensor positional_embedding_, text_projection_, logit_scale_, bg_embed_;
  std::shared_ptr<ListOf<PreNormLayer>> transformer_;
  std::shared_ptr<Norm> ln_final_;
};

SEG_REGISTER(TextEncoder, CLIPTextEncoder);

}  // namespace seg
