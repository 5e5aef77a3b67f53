#include <algorithm>
#include <utility>

#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct EnsembleMember {
  std::optional<Spec<Segmentor>> model;
  std::optional<std::string> config;
  std::optional<std::string> checkpoint;
  double weight = 1;
  static Schema<EnsembleMember> schema() {
    using P = EnsembleMember;
    return Schema<P>("A model of an ensemble.")
        .optional("model", &P::model, "the model")
        .optional("config", &P::config, "the config that has the model, in place of `model`")
        .optional("checkpoint", &P::checkpoint,
                  "its weights, which a test without a checkpoint of the ensemble reads")
        .optional("weight", &P::weight, "of its probabilities in the mean", above(0))
        .validate([](const P& p, Problems& problems) {
          // Programs have replaced a config by its model.
          if (!p.model) problems.error("model", "needs a model, or the config that has it");
        });
  }
};

struct EnsembleSegmentorParams {
  std::vector<EnsembleMember> members;
  double threshold = 0.5;
  InitCfg init_cfg;
};

namespace {

/// Gives each member its own input: members may normalise and pad as they like.
class EnsemblePreProcessor final : public DataPreProcessor {
 public:
  explicit EnsemblePreProcessor(std::vector<const DataPreProcessor*> members)
      : members_(std::move(members)) {}
  ModelInput operator()(const Batch& batch, bool training, c10::Device device) const override {
    ModelInput out = (*members_[0])(batch, training, device);
    for (const auto* member : members_) {
      out.members.push_back((*member)(batch, training, device));
    }
    return out;
  }
  std::optional<Size2> train_size() const override { return members_[0]->train_size(); }

 private:
  std::vector<const DataPreProcessor*> members_;  ///< borrowed from the models
};

}  // namespace

/// The weighted mean of the probabilities of several models, which are trained apart. Each predicts
/// as its own test_cfg says. Children `members.0`, `members.1`, ...
class EnsembleSegmentor final : public Segmentor {
 public:
  using Params = EnsembleSegmentorParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("The weighted mean of the probabilities of several models.")
        .required("members", &P::members, "the models, with their weights")
        .optional("threshold", &P::threshold,
                  "probability above which a pixel belongs to the class, for models of one map",
                  in_range(0, 1))
        .optional("init_cfg", &P::init_cfg, "initialisation")
        .accepted("data_preprocessor", "each member has its own")
        .accepted("test_cfg", "each member has its own")
        .accepted("train_cfg", "an ensemble is not trained")
        .validate([](const P& p, Problems& problems) {
          if (p.members.empty()) problems.error("members", "must not be empty");
        });
  }
  static SegmentorFacts facts(const Params& p) {
    SegmentorFacts out = p.members.front().model->facts();
    for (auto& head : out.heads) head.option = "members.0.model." + head.option;
    return out;
  }

  explicit EnsembleSegmentor(const Params& p) : Segmentor(p.init_cfg), threshold_(p.threshold) {
    models_ = register_module("members", std::make_shared<ListOf<Segmentor>>());
    std::vector<const DataPreProcessor*> preprocessors;
    double sum = 0;
    for (size_t i = 0; i < p.members.size(); ++i) {
      const auto& member = p.members[i];
      check_member(member, i);
      models_->push_back(member.model->build());
      preprocessors.push_back(&(*models_)[i].data_preprocessor());
      sum += member.weight;
      if ((*models_)[i].num_classes() != (*models_)[0].num_classes()) {
        throw OptionError(text("members.", i),
                          text("has ", (*models_)[i].num_classes(), " classes, the first has ",
                               (*models_)[0].num_classes()));
      }
    }
    for (const auto& member : p.members) weights_.push_back(member.weight / sum);
    preprocessor_ = std::make_unique<EnsemblePreProcessor>(std::move(preprocessors));
  }

  std::vector<torch::Tensor> extract_feat(const torch::Tensor& /*images*/) override {
    throw DataError("the members of an ensemble have features of their own");
  }
  /// Logarithms of the mean probabilities, of images that all members take alike.
  torch::Tensor encode_decode(const torch::Tensor& images) override {
    return mean_logits([&](Segmentor& model) { return model.encode_decode(images); });
  }
  torch::Tensor inference(const torch::Tensor& images) override {
    return mean_logits([&](Segmentor& model) { return model.inference(images); });
  }
  LossMap compute_loss(const torch::Tensor& /*images*/, const Targets& /*targets*/) override {
    throw DataError("an ensemble is not trained: train its members, each by its own config");
  }
  std::vector<Prediction> predict(const ModelInput& input) override { return predict_tta({input}); }
  Prediction predict_windows(const ModelInput& /*input*/, Size2 /*crop*/,
                             Size2 /*stride*/) override {
    throw DataError(
        "an ensemble predicts windows as its members' test_cfg say: set mode: slide "
        "there");
  }
  std::vector<Prediction> predict_tta(const std::vector<ModelInput>& augmented) override {
    auto out = predict_scores(augmented);
    for (auto& prediction : out) prediction.scores.reset();
    return out;
  }
  std::vector<Prediction> predict_scores(const std::vector<ModelInput>& augmented) override {
    SEG_CHECK(!augmented.empty(), "no images to predict");
    std::vector<Prediction> out;
    for (size_t m = 0; m < models_->size(); ++m) {
      std::vector<ModelInput> own;
      for (const auto& input : augmented) {
        own.push_back(input.members.empty() ? input : input.members.at(m));
      }
      const auto predicted = (*models_)[m].predict_scores(own);
      out.resize(predicted.size());
      for (size_t i = 0; i < predicted.size(); ++i) {
        const auto weighted = predicted[i].scores * weights_[m];
        out[i].scores = m == 0 ? weighted : out[i].scores + weighted;
      }
    }
    for (auto& prediction : out) {
      prediction.ids = prediction.scores.size(0) == 1
                           ? prediction.scores[0].gt(threshold_).to(torch::kLong)
                           : prediction.scores.argmax(0);
    }
    return out;
  }
  const DataPreProcessor& data_preprocessor() const override { return *preprocessor_; }
  void set_memory_format(at::MemoryFormat format) override {
    for (size_t m = 0; m < models_->size(); ++m) (*models_)[m].set_memory_format(format);
  }
  int64_t num_classes() const override { return (*models_)[0].num_classes(); }
  int64_t ignore_index() const override { return (*models_)[0].ignore_index(); }
  const TestCfg& test_cfg() const override { return (*models_)[0].test_cfg(); }
  std::optional<int64_t> bands() const override { return (*models_)[0].bands(); }

 private:
  static void check_member(const EnsembleMember& member, size_t i) {
    if (!member.model->facts().estimates_depth) return;
    throw OptionError(text("members.", i), "estimates depth, of which there is no probability");
  }
  template <class F>
  torch::Tensor mean_logits(const F& logits_of) {
    torch::Tensor sum;
    bool one_map = false;
    for (size_t m = 0; m < models_->size(); ++m) {
      const auto logits = logits_of((*models_)[m]);
      one_map = logits.size(1) == 1;
      const auto weighted = (one_map ? logits.sigmoid() : logits.softmax(1)) * weights_[m];
      sum = sum.defined() ? sum + weighted : weighted;
    }
    return one_map ? sum.logit(1e-6) : sum.clamp_min(1e-12).log();
  }

  double threshold_;
  std::vector<double> weights_;  ///< their sum is 1
  std::shared_ptr<ListOf<Segmentor>> models_;
  std::unique_ptr<EnsemblePreProcessor> preprocessor_;
};
SEG_REGISTER(Segmentor, EnsembleSegmentor);

}  // namespace seg
