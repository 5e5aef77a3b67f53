/// Albumentations that change the values of an image. Values of float32 are taken to be those of
/// bytes, 0 to 255, as files have them.
#include <cmath>
#include <numeric>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "segcore/data/transforms/albu.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct AlbuBrightnessContrastParams : AlbuParams {
  AlbuLimit brightness_limit = 0.2, contrast_limit = 0.2;
  bool brightness_by_max = true;
};

struct AlbuGammaParams : AlbuParams {
  AlbuLimit gamma_limit = std::array<double, 2>{80, 120};
};

struct AlbuHsvParams : AlbuParams {
  AlbuLimit hue_shift_limit = 20.0, sat_shift_limit = 30.0, val_shift_limit = 20.0;
};

struct AlbuRgbShiftParams : AlbuParams {
  AlbuLimit r_shift_limit = 20.0, g_shift_limit = 20.0, b_shift_limit = 20.0;
};

struct AlbuClaheParams : AlbuParams {
  AlbuLimit clip_limit = 4.0;
  std::array<int64_t, 2> tile_grid_size{8, 8};
};

struct AlbuNoiseParams : AlbuParams {
  AlbuLimit var_limit = std::array<double, 2>{10, 50};
  double mean = 0;
  bool per_channel = true;
};

struct AlbuPlainParams : AlbuParams {};

namespace {

using AlbuTable = std::array<uint8_t, 256>;

double albu_draw(const std::array<double, 2>& range, Rng& rng) {
  return rng.uniform(range[0], range[1]);
}

/// Replaces each value of an image: bytes by a table, floats one by one.
void map_albu_values(cv::Mat& image, const AlbuTable& table,
                     const std::function<float(float)>& change) {
  if (image.depth() == CV_8U) {
    apply_table(image, table);
    return;
  }
  const int width = image.cols * image.channels();
  for (int y = 0; y < image.rows; ++y) {
    auto* row = image.ptr<float>(y);
    for (int x = 0; x < width; ++x) row[x] = std::clamp(change(row[x]), 0.0F, 255.0F);
  }
}

/// value + shift, cut to 0..255 and truncated.
AlbuTable albu_shift_table(double shift) {
  AlbuTable table{};
  for (size_t i = 0; i < table.size(); ++i) {
    table[i] = static_cast<uint8_t>(std::clamp(static_cast<double>(i) + shift, 0.0, 255.0));
  }
  return table;
}

class AlbuRandomBrightnessContrast final : public AlbuTransform {
 public:
  using Params = AlbuBrightnessContrastParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Changes brightness and contrast.")
        .optional("brightness_limit", &Params::brightness_limit,
                  "bounds of what is added, as a share of 255 or of the mean")
        .optional("contrast_limit", &Params::contrast_limit, "bounds of the factor less 1")
        .optional("brightness_by_max", &Params::brightness_by_max,
                  "brightness is a share of 255; else of the mean of the image");
  }
  explicit AlbuRandomBrightnessContrast(const Params& p)
      : AlbuTransform(p),
        brightness_(albu_range(p.brightness_limit)),
        contrast_(albu_range(p.contrast_limit)),
        by_max_(p.brightness_by_max) {}
  void apply(Sample& sample, Rng& rng) const override {
    require_albu_image(sample, "RandomBrightnessContrast", 0, false);
    const double alpha = 1 + albu_draw(contrast_, rng), beta = albu_draw(brightness_, rng);
    for_albu_images(sample, [&](cv::Mat& image) {
      double added = beta * 255;
      if (!by_max_) {
        const cv::Scalar sums = cv::sum(image.reshape(1));
        added = alpha * beta * sums[0] / (static_cast<double>(image.total()) * image.channels());
      }
      const auto change = [a = static_cast<float>(alpha), b = static_cast<float>(added)](float v) {
        return v * a + b;
      };
      AlbuTable table{};
      for (size_t i = 0; i < table.size(); ++i) {
        table[i] = static_cast<uint8_t>(std::clamp(change(static_cast<float>(i)), 0.0F, 255.0F));
      }
      map_albu_values(image, table, change);
    });
  }

 private:
  std::array<double, 2> brightness_, contrast_;
  bool by_max_;
};
SEG_REGISTER_AS(AlbuTransform, AlbuRandomBrightnessContrast, "RandomBrightnessContrast");

class AlbuRandomGamma final : public AlbuTransform {
 public:
  using Params = AlbuGammaParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Raises the values, scaled to 0..1, to a power.")
        .optional("gamma_limit", &Params::gamma_limit,
                  "bounds of the power in hundredths; one number v is 80 to v", above(0))
        .accepted("eps", "deprecated: no effect");
  }
  explicit AlbuRandomGamma(const Params& p)
      : AlbuTransform(p), range_(albu_range_from(80, p.gamma_limit)) {}
  void apply(Sample& sample, Rng& rng) const override {
    require_albu_image(sample, "RandomGamma", 0, false);
    const double gamma = albu_draw(range_, rng) / 100;
    AlbuTable table{};
    for (size_t i = 0; i < table.size(); ++i) {
      const double share = static_cast<double>(i) * (1.0 / 255);
      table[i] = static_cast<uint8_t>(std::pow(share, gamma) * 255);
    }
    for_albu_images(sample, [&](cv::Mat& image) {
      map_albu_values(image, table, [gamma](float v) {
        return std::pow(std::max(v, 0.0F) / 255, static_cast<float>(gamma)) * 255;
      });
    });
  }

 private:
  std::array<double, 2> range_;
};
SEG_REGISTER_AS(AlbuTransform, AlbuRandomGamma, "RandomGamma");

class AlbuHueSaturationValue final : public AlbuTransform {
 public:
  using Params = AlbuHsvParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Shifts hue, saturation and value; for 8-bit images.")
        .optional("hue_shift_limit", &Params::hue_shift_limit, "in units of two degrees")
        .optional("sat_shift_limit", &Params::sat_shift_limit, "of 0..255")
        .optional("val_shift_limit", &Params::val_shift_limit, "of 0..255");
  }
  explicit AlbuHueSaturationValue(const Params& p)
      : AlbuTransform(p),
        hue_(albu_range(p.hue_shift_limit)),
        sat_(albu_range(p.sat_shift_limit)),
        val_(albu_range(p.val_shift_limit)) {}
  void apply(Sample& sample, Rng& rng) const override {
    require_albu_image(sample, "HueSaturationValue", 3, true);
    const double hue = albu_draw(hue_, rng), sat = albu_draw(sat_, rng), val = albu_draw(val_, rng);
    AlbuTable hues{};
    for (size_t i = 0; i < hues.size(); ++i) {
      const double turned = std::fmod(static_cast<double>(i) + hue, 180);
      hues[i] = static_cast<uint8_t>(turned < 0 ? turned + 180 : turned);
    }
    const std::array<AlbuTable, 3> tables{hues, albu_shift_table(sat), albu_shift_table(val)};
    for_albu_images(sample, [&](cv::Mat& image) {
      cv::Mat hsv;
      cv::cvtColor(image, hsv, cv::COLOR_BGR2HSV);
      for (int y = 0; y < hsv.rows; ++y) {
        auto* row = hsv.ptr<uint8_t>(y);
        for (int x = 0; x < 3 * hsv.cols; ++x) row[x] = tables[static_cast<size_t>(x % 3)][row[x]];
      }
      cv::cvtColor(hsv, image, cv::COLOR_HSV2BGR);
    });
  }

 private:
  std::array<double, 2> hue_, sat_, val_;
};
SEG_REGISTER_AS(AlbuTransform, AlbuHueSaturationValue, "HueSaturationValue");

class AlbuRGBShift final : public AlbuTransform {
 public:
  using Params = AlbuRgbShiftParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Adds a value to each of red, green and blue.")
        .optional("r_shift_limit", &Params::r_shift_limit, "bounds for red, of 0..255")
        .optional("g_shift_limit", &Params::g_shift_limit, "bounds for green")
        .optional("b_shift_limit", &Params::b_shift_limit, "bounds for blue");
  }
  explicit AlbuRGBShift(const Params& p)
      : AlbuTransform(p),
        red_(albu_range(p.r_shift_limit)),
        green_(albu_range(p.g_shift_limit)),
        blue_(albu_range(p.b_shift_limit)) {}
  void apply(Sample& sample, Rng& rng) const override {
    require_albu_image(sample, "RGBShift", 3, false);
    const double red = albu_draw(red_, rng), green = albu_draw(green_, rng),
                 blue = albu_draw(blue_, rng);
    const std::array<double, 3> shifts{blue, green, red};
    for_albu_images(sample, [&](cv::Mat& image) {
      std::array<cv::Mat, 3> bands;
      cv::split(image, bands.data());
      for (size_t i = 0; i < 3; ++i) {
        map_albu_values(bands[i], albu_shift_table(shifts[i]),
                        [s = static_cast<float>(shifts[i])](float v) { return v + s; });
      }
      cv::merge(bands.data(), 3, image);
    });
  }

 private:
  std::array<double, 2> red_, green_, blue_;
};
SEG_REGISTER_AS(AlbuTransform, AlbuRGBShift, "RGBShift");

class AlbuCLAHE final : public AlbuTransform {
 public:
  using Params = AlbuClaheParams;
  static Schema<Params> schema() {
    return albu_schema<Params>(
               "Equalises the histogram of the lightness tile by tile; for 8-bit images.")
        .optional("clip_limit", &Params::clip_limit,
                  "bounds of the limit of contrast; one number v is 1 to v", above(0))
        .optional("tile_grid_size", &Params::tile_grid_size, "tiles in a row and in a column",
                  at_least(1));
  }
  explicit AlbuCLAHE(const Params& p)
      : AlbuTransform(p), range_(albu_range_from(1, p.clip_limit)), tiles_(p.tile_grid_size) {}
  void apply(Sample& sample, Rng& rng) const override {
    require_albu_image(sample, "CLAHE", sample.image.channels() == 1 ? 1 : 3, true);
    const auto clahe = cv::createCLAHE(
        albu_draw(range_, rng), cv::Size(static_cast<int>(tiles_[0]), static_cast<int>(tiles_[1])));
    for_albu_images(sample, [&](cv::Mat& image) {
      if (image.channels() == 1) {
        clahe->apply(image, image);
        return;
      }
      cv::Mat lab, lightness;
      cv::cvtColor(image, lab, cv::COLOR_BGR2Lab);
      cv::extractChannel(lab, lightness, 0);
      clahe->apply(lightness, lightness);
      cv::insertChannel(lightness, lab, 0);
      cv::cvtColor(lab, image, cv::COLOR_Lab2BGR);
    });
  }

 private:
  std::array<double, 2> range_;
  std::array<int64_t, 2> tiles_;
};
SEG_REGISTER_AS(AlbuTransform, AlbuCLAHE, "CLAHE");

class AlbuToGray final : public AlbuTransform {
 public:
  using Params = AlbuPlainParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Makes all bands the grey value; images of one band stay.");
  }
  explicit AlbuToGray(const Params& p) : AlbuTransform(p) {}
  void apply(Sample& sample, Rng&) const override {
    if (sample.image.channels() == 1) return;
    require_albu_image(sample, "ToGray", 3, false);
    for_albu_images(sample, [](cv::Mat& image) {
      cv::Mat gray;
      cv::cvtColor(image, gray, cv::COLOR_BGR2GRAY);
      cv::cvtColor(gray, image, cv::COLOR_GRAY2BGR);
    });
  }
};
SEG_REGISTER_AS(AlbuTransform, AlbuToGray, "ToGray");

class AlbuChannelShuffle final : public AlbuTransform {
 public:
  using Params = AlbuPlainParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Puts the bands in a random order.");
  }
  explicit AlbuChannelShuffle(const Params& p) : AlbuTransform(p) {}
  void apply(Sample& sample, Rng& rng) const override {
    std::vector<size_t> order(static_cast<size_t>(sample.image.channels()));
    std::iota(order.begin(), order.end(), size_t{0});
    for (size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[static_cast<size_t>(rng.below(static_cast<int64_t>(i)))]);
    }
    for_albu_images(sample, [&](cv::Mat& image) {
      std::vector<cv::Mat> bands, shuffled;
      cv::split(image, bands);
      for (const size_t band : order) shuffled.push_back(bands.at(band));
      cv::merge(shuffled, image);
    });
  }
};
SEG_REGISTER_AS(AlbuTransform, AlbuChannelShuffle, "ChannelShuffle");

class AlbuGaussNoise final : public AlbuTransform {
 public:
  using Params = AlbuNoiseParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Adds Gaussian noise.")
        .optional("var_limit", &Params::var_limit,
                  "bounds of the variance, of values 0..255; one number v is 0 to v", at_least(0))
        .optional("mean", &Params::mean, "mean of the noise")
        .optional("per_channel", &Params::per_channel, "noise of each band; else one for all");
  }
  explicit AlbuGaussNoise(const Params& p)
      : AlbuTransform(p),
        variance_(albu_range_from(0, p.var_limit)),
        mean_(p.mean),
        per_channel_(p.per_channel) {}
  void apply(Sample& sample, Rng& rng) const override {
    require_albu_image(sample, "GaussNoise", 0, false);
    const double sigma = std::sqrt(albu_draw(variance_, rng));
    cv::RNG noise_rng((static_cast<uint64_t>(rng.bits()) << 32) | rng.bits());
    const int bands = per_channel_ ? sample.image.channels() : 1;
    cv::Mat noise(sample.image.rows, sample.image.cols * bands, CV_32F);
    noise_rng.fill(noise, cv::RNG::NORMAL, mean_, sigma);
    for_albu_images(sample, [&](cv::Mat& image) {
      for (int y = 0; y < image.rows; ++y) {
        const auto* add = noise.ptr<float>(y);
        for (int i = 0; i < image.cols * image.channels(); ++i) {
          const float more = add[per_channel_ ? i : i / image.channels()];
          if (image.depth() == CV_8U) {
            uint8_t& value = image.ptr<uint8_t>(y)[i];
            value =
                static_cast<uint8_t>(std::clamp(static_cast<float>(value) + more, 0.0F, 255.0F));
          } else {
            float& value = image.ptr<float>(y)[i];
            value = std::clamp(value + more, 0.0F, 255.0F);
          }
        }
      }
    });
  }

 private:
  std::array<double, 2> variance_;
  double mean_;
  bool per_channel_;
};
SEG_REGISTER_AS(AlbuTransform, AlbuGaussNoise, "GaussNoise");

}  // namespace
}  // namespace seg
