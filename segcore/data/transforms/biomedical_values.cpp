/// Noise, blur and gamma of volumes.
#include <ATen/CPUGeneratorImpl.h>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/volume.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct BioMedicalGaussianNoiseParams {
  double prob = 0.1;
  double mean = 0;
  double std = 0.1;
};

struct BioMedicalGaussianBlurParams {
  std::array<double, 2> sigma_range{0.5, 1.0};
  double prob = 0.2;
  double prob_per_channel = 0.5;
  bool different_sigma_per_channel = true;
  bool different_sigma_per_axis = true;
};

struct BioMedicalRandomGammaParams {
  double prob = 0.5;
  std::array<double, 2> gamma_range{0.5, 2};
  bool invert_image = false;
  bool per_channel = false;
  bool retain_stats = false;
};

namespace {

class BioMedicalGaussianNoise final : public Transform {
 public:
  using Params = BioMedicalGaussianNoiseParams;
  static Schema<Params> schema() {
    return Schema<Params>("Adds Gaussian noise to a volume with a probability.")
        .source("batchgenerators (DKFZ); MMSegmentation 1.2")
        .optional("prob", &Params::prob, "probability of noise", in_range(0, 1))
        .optional("mean", &Params::mean, "mean of the noise")
        .optional("std", &Params::std, "upper bound of its standard deviation, which is drawn",
                  at_least(0));
  }
  explicit BioMedicalGaussianNoise(const Params& p) : p_(p) {}

  void apply(Sample& sample, Rng& rng) const override {
    require_volume(sample, "BioMedicalGaussianNoise");
    if (!rng.chance(p_.prob)) return;
    const double spread = rng.uniform(0, p_.std);
    const auto generator = at::make_generator<at::CPUGeneratorImpl>(rng.bits());
    at::Tensor noise = torch::empty(sample.volume.image.sizes(), torch::kDouble);
    noise.normal_(p_.mean, spread, generator);
    sample.volume.image = sample.volume.image + noise.to(sample.volume.image.scalar_type());
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, BioMedicalGaussianNoise);

class BioMedicalGaussianBlur final : public Transform {
 public:
  using Params = BioMedicalGaussianBlurParams;
  static Schema<Params> schema() {
    return Schema<Params>("Blurs the modalities of a volume, each with a probability.")
        .source("batchgenerators (DKFZ); MMSegmentation 1.2")
        .optional("sigma_range", &Params::sigma_range, "bounds of sigma, in voxels", at_least(0))
        .optional("prob", &Params::prob, "probability that there is any blur", in_range(0, 1))
        .optional("prob_per_channel", &Params::prob_per_channel, "probability of a modality",
                  in_range(0, 1))
        .optional("different_sigma_per_channel", &Params::different_sigma_per_channel,
                  "draw anew for each modality")
        .optional("different_sigma_per_axis", &Params::different_sigma_per_axis,
                  "draw apart for z, y and x");
  }
  explicit BioMedicalGaussianBlur(const Params& p) : p_(p) {}

  void apply(Sample& sample, Rng& rng) const override {
    require_volume(sample, "BioMedicalGaussianBlur");
    if (!rng.chance(p_.prob)) return;
    at::Tensor image = sample.volume.image.clone();
    std::optional<std::array<double, 3>> sigma;
    for (int64_t modality = 0; modality < image.size(0); ++modality) {
      if (!rng.chance(p_.prob_per_channel)) continue;
      if (!sigma || p_.different_sigma_per_channel) sigma = draw_sigma(rng);
      image[modality].copy_(gaussian_filter(image[modality], *sigma));
    }
    sample.volume.image = image;
  }

 private:
  std::array<double, 3> draw_sigma(Rng& rng) const {
    std::array<double, 3> out{};
    out.fill(rng.uniform(p_.sigma_range[0], p_.sigma_range[1]));
    if (p_.different_sigma_per_axis) {
      out[1] = rng.uniform(p_.sigma_range[0], p_.sigma_range[1]);
      out[2] = rng.uniform(p_.sigma_range[0], p_.sigma_range[1]);
    }
    return out;
  }

  Params p_;
};
SEG_REGISTER(Transform, BioMedicalGaussianBlur);

class BioMedicalRandomGamma final : public Transform {
 public:
  using Params = BioMedicalRandomGammaParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Raises the values of a volume, scaled to 0..1, to a random power, with a "
               "probability.")
        .source("batchgenerators (DKFZ); MMSegmentation 1.2")
        .optional("prob", &Params::prob, "probability of a change", in_range(0, 1))
        .optional("gamma_range", &Params::gamma_range,
                  "bounds of the power; half of the draws are below 1 where the lower one is",
                  above(0))
        .optional("invert_image", &Params::invert_image, "change the negative of the values")
        .optional("per_channel", &Params::per_channel, "change each modality by itself")
        .optional("retain_stats", &Params::retain_stats,
                  "restore mean and standard deviation afterwards");
  }
  explicit BioMedicalRandomGamma(const Params& p) : p_(p) {}

  void apply(Sample& sample, Rng& rng) const override {
    require_volume(sample, "BioMedicalRandomGamma");
    if (!rng.chance(p_.prob)) return;
    at::Tensor image = p_.invert_image ? -sample.volume.image : sample.volume.image.clone();
    if (p_.per_channel) {
      for (int64_t c = 0; c < image.size(0); ++c) image[c].copy_(changed(image[c], rng));
    } else {
      image = changed(image, rng);
    }
    sample.volume.image = p_.invert_image ? -image : image;
  }

 private:
  at::Tensor changed(const at::Tensor& image, Rng& rng) const {
    const auto [low, high] = p_.gamma_range;
    const bool darker = rng.chance(0.5) && low < 1;
    const double gamma = darker ? rng.uniform(low, 1) : rng.uniform(std::max(low, 1.0), high);
    const at::Tensor smallest = image.min(), range = image.max() - smallest;
    at::Tensor out = ((image - smallest) / (range + 1e-7)).pow(gamma) * range + smallest;
    if (p_.retain_stats) {
      out = out - out.mean();
      out = out / (out.std(/*unbiased=*/false) + 1e-8) * image.std(/*unbiased=*/false);
      out = out + image.mean();
    }
    return out;
  }

  Params p_;
};
SEG_REGISTER(Transform, BioMedicalRandomGamma);

}  // namespace
}  // namespace seg
