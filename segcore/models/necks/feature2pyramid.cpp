#include <algorithm>
#include <array>
#include <cmath>

#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/neck.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct Feature2PyramidParams {
  int64_t embed_dim = 0;
  std::vector<double> rescales{4, 2, 1, 0.5};
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: SyncBN, requires_grad: true}");
};

namespace {

struct Feature2PyramidScale {
  double factor;
  const char* child;  ///< without weights for factors of 1 and less
};

const std::array<Feature2PyramidScale, 5> kFeature2PyramidScales{{{4, "upsample_4x"},
                                                                  {2, "upsample_2x"},
                                                                  {1, "identity"},
                                                                  {0.5, "downsample_2x"},
                                                                  {0.25, "downsample_4x"}}};

const Feature2PyramidScale* feature2pyramid_scale(double factor) {
  const auto* found = std::find_if(kFeature2PyramidScales.begin(), kFeature2PyramidScales.end(),
                                   [factor](const auto& scale) { return scale.factor == factor; });
  return found == kFeature2PyramidScales.end() ? nullptr : found;
}

std::shared_ptr<Layer> feature2pyramid_op(const Feature2PyramidParams& p, double factor) {
  const auto doubled = [&p] {
    return std::make_shared<ConvTranspose2d>(p.embed_dim, p.embed_dim, /*kernel_size=*/2,
                                             /*stride=*/2, /*padding=*/0);
  };
  if (factor == 4) {
    auto out = std::make_shared<Sequential>();
    out->push_back(doubled());
    out->push_back(p.norm_cfg.build(p.embed_dim));
    out->push_back(std::make_shared<Lambda>([](const torch::Tensor& x) { return at::gelu(x); }));
    out->push_back(doubled());
    return out;
  }
  if (factor == 2) {
    auto out = std::make_shared<Sequential>();
    out->push_back(doubled());
    return out;
  }
  if (factor == 1) return std::make_shared<Identity>();
  const auto side = std::llround(1 / factor);
  return std::make_shared<Lambda>(
      [side](const torch::Tensor& x) { return at::max_pool2d(x, side, side); });
}

}  // namespace

/// Makes a pyramid from maps of one size (of a plain vision transformer): children `upsample_4x`,
/// `upsample_2x`.
class Feature2Pyramid final : public Neck {
 public:
  using Params = Feature2PyramidParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Makes a pyramid from maps of one size by transposed convolutions and pools.")
        .source("BEiT, Bao et al. 2021, arXiv:2106.08254")
        .required("embed_dim", &P::embed_dim, "width of all maps", at_least(1))
        .optional("rescales", &P::rescales,
                  "factor of each map, in order: 4, 2, 1, 0.5 or 0.25, none twice")
        .optional("norm_cfg", &P::norm_cfg, "norm inside the factor 4")
        .validate([](const P& p, Problems& problems) {
          for (size_t i = 0; i < p.rescales.size(); ++i) {
            const double factor = p.rescales[i];
            if (!feature2pyramid_scale(factor)) {
              problems.error("rescales", text("must be 4, 2, 1, 0.5 or 0.25, got ", factor));
            } else if (std::find(p.rescales.begin(), p.rescales.begin() + i, factor) !=
                       p.rescales.begin() + i) {
              problems.error("rescales", text("has ", factor, " twice"));
            }
          }
        });
  }

  Feature2Pyramid(const Params& p, const std::vector<FeatureInfo>& inputs) {
    if (inputs.size() != p.rescales.size()) {
      throw OptionError("rescales",
                        text("has ", p.rescales.size(), " factors for ", inputs.size(), " maps"));
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].channels != p.embed_dim) {
        throw OptionError("embed_dim", text("is ", p.embed_dim, ", but map ", i, " has ",
                                            inputs[i].channels, " channels"));
      }
      const double factor = p.rescales[i];
      ops_.push_back(
          register_module(feature2pyramid_scale(factor)->child, feature2pyramid_op(p, factor)));
      const double stride = static_cast<double>(inputs[i].stride) / factor;
      features_.push_back({p.embed_dim, std::max<int64_t>(1, std::llround(stride))});
    }
  }

  std::vector<torch::Tensor> forward(const std::vector<torch::Tensor>& maps) override {
    std::vector<torch::Tensor> out;
    for (size_t i = 0; i < ops_.size(); ++i) out.push_back(ops_[i]->forward(maps.at(i)));
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

 private:
  std::vector<std::shared_ptr<Layer>> ops_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Neck, Feature2Pyramid);

}  // namespace seg
