#include "segcore/data/transforms/albu.hpp"

#include <numeric>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct AlbuListParams {
  std::vector<Spec<AlbuTransform>> transforms;
};

struct AlbuOneOfParams : AlbuParams {
  std::vector<Spec<AlbuTransform>> transforms;
};

struct AlbuSequentialParams : AlbuOneOfParams {
  AlbuSequentialParams() { p = 1; }
};

namespace {

using AlbuChain = std::vector<std::unique_ptr<AlbuTransform>>;

AlbuChain built_albu(const std::vector<Spec<AlbuTransform>>& specs) {
  AlbuChain out;
  for (const auto& spec : specs) out.push_back(spec.build());
  return out;
}

class Albu final : public Transform {
 public:
  using Params = AlbuListParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Runs transforms of Albumentations on image and labels, and with the same draws on "
               "the second image of a pair.")
        .source("MMSegmentation 1.2 with Albumentations 1.3.1")
        .required("transforms", &Params::transforms, "what to run, in order")
        .accepted("keymap", "image and labels have fixed names here: no effect")
        .accepted("update_pad_shape", "the shape of a sample is always that of its image");
  }
  explicit Albu(const Params& p) : chain_(built_albu(p.transforms)) {}
  void apply(Sample& sample, Rng& rng) const override {
    require_image(sample, "Albu");
    for (const auto& step : chain_) step->run(sample, rng);
  }

 private:
  AlbuChain chain_;
};
SEG_REGISTER(Transform, Albu);

class AlbuOneOf final : public AlbuTransform {
 public:
  using Params = AlbuOneOfParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Applies one of several transforms, drawn by their p as weights.")
        .required("transforms", &Params::transforms, "what to choose from")
        .validate([](const Params& p, Problems& problems) {
          if (p.transforms.empty()) problems.error("transforms", "needs at least one transform");
        });
  }
  explicit AlbuOneOf(const Params& p) : AlbuTransform(p), choices_(built_albu(p.transforms)) {
    for (const auto& choice : choices_) weights_ += choice->p();
    if (weights_ <= 0) throw OptionError("transforms", "one of them needs a p above 0");
  }
  void apply(Sample& sample, Rng& rng) const override {
    double left = rng.uniform() * weights_;
    size_t chosen = 0;
    while (chosen + 1 < choices_.size() && left >= choices_[chosen]->p()) {
      left -= choices_[chosen++]->p();
    }
    choices_[chosen]->apply(sample, rng);
  }

 private:
  AlbuChain choices_;
  double weights_ = 0;
};
SEG_REGISTER_AS(AlbuTransform, AlbuOneOf, "OneOf");

class AlbuSequential final : public AlbuTransform {
 public:
  using Params = AlbuSequentialParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Runs several transforms in order.")
        .required("transforms", &Params::transforms, "what to run");
  }
  explicit AlbuSequential(const Params& p) : AlbuTransform(p), chain_(built_albu(p.transforms)) {}
  void apply(Sample& sample, Rng& rng) const override {
    for (const auto& step : chain_) step->run(sample, rng);
  }

 private:
  AlbuChain chain_;
};
SEG_REGISTER_AS(AlbuTransform, AlbuSequential, "Sequential");
SEG_REGISTER_AS(AlbuTransform, AlbuSequential, "Compose");

}  // namespace

std::array<double, 2> albu_range(const AlbuLimit& limit) {
  if (const auto* one = std::get_if<double>(&limit)) return {-*one, *one};
  return std::get<std::array<double, 2>>(limit);
}

std::array<double, 2> albu_range_from(double low, const AlbuLimit& limit) {
  if (const auto* one = std::get_if<double>(&limit)) {
    return {std::min(low, *one), std::max(low, *one)};
  }
  return std::get<std::array<double, 2>>(limit);
}

void for_albu_images(Sample& sample, const std::function<void(cv::Mat&)>& change) {
  for (cv::Mat* image : {&sample.image, &sample.image2}) {
    if (image->empty()) continue;
    make_unique(*image);
    change(*image);
  }
}

void require_albu_image(const Sample& sample, std::string_view transform, int bands,
                        bool only_bytes) {
  const cv::Mat& image = sample.image;
  const bool depth = image.depth() == CV_8U || (!only_bytes && image.depth() == CV_32F);
  if (depth && (bands == 0 || image.channels() == bands)) return;
  throw DataError(text(sample_name(sample), ": ", transform, " of Albu needs images with ",
                       bands == 0 ? "bands" : text(bands, " bands"), " of uint8",
                       only_bytes ? "" : " or float32", ", this one has ", pixel_text(image)));
}

}  // namespace seg
