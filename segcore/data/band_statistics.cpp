#include "segcore/data/band_statistics.hpp"

#include <algorithm>
#include <cmath>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "registry/printed.hpp"
#include "segcore/data/for_each_sample.hpp"

namespace seg {
namespace {

/// Count, mean and sum of squared differences from it, of each band. Sums of squares themselves
/// would cancel where a mean is large beside its deviation.
struct BandMoments {
  double count = 0;
  std::vector<double> mean, squares;

  void add(const BandMoments& other) {
    if (other.count == 0) return;
    if (count == 0) {
      *this = other;
      return;
    }
    const double all = count + other.count;
    for (size_t b = 0; b < mean.size(); ++b) {
      const double apart = other.mean[b] - mean[b];
      mean[b] += apart * other.count / all;
      squares[b] += other.squares[b] + apart * apart * count * other.count / all;
    }
    count = all;
  }
};

BandMoments moments_of(const cv::Mat& image) {
  BandMoments out;
  out.count = static_cast<double>(image.total());
  for (int b = 0; b < image.channels(); ++b) {
    cv::Mat band;
    cv::extractChannel(image, band, b);
    cv::Scalar mean, deviation;
    cv::meanStdDev(band, mean, deviation);
    out.mean.push_back(mean[0]);
    out.squares.push_back(deviation[0] * deviation[0] * out.count);
  }
  return out;
}

std::string number_list(const std::vector<double>& values) {
  std::string out;
  for (const double value : values) out += (out.empty() ? "" : ", ") + printed("%.6g", value);
  return "[" + out + "]";
}

}  // namespace

BandStatistics band_statistics(const Dataset& dataset, size_t images) {
  const size_t count = std::min(images, dataset.size());
  std::vector<BandMoments> moments(count);
  std::vector<std::string> names(count);
  for_each_sample(count, dataset.skips_corrupt(), [&](size_t i) {
    const Sample sample = dataset.with_image(i * dataset.size() / count);
    names[i] = sample.meta.img_path;
    if (sample.image.empty()) throw DataError(names[i] + ": is no picture with bands");
    moments[i] = moments_of(sample.image);
  });
  // In the order of the samples, so that the sums do not depend on the threads.
  BandMoments sum;
  std::string first;
  BandStatistics out;
  for (size_t i = 0; i < count; ++i) {
    if (moments[i].count == 0) continue;
    if (sum.count > 0 && moments[i].mean.size() != sum.mean.size()) {
      throw DataError(text(names[i], ": has ", moments[i].mean.size(), " bands, ", first, " has ",
                           sum.mean.size()));
    }
    if (sum.count == 0) first = names[i];
    sum.add(moments[i]);
    ++out.images;
  }
  if (sum.count == 0) throw DataError("no image of the data set can be read");
  out.mean = sum.mean;
  for (const double squares : sum.squares) out.std.push_back(std::sqrt(squares / sum.count));
  return out;
}

std::string preprocessor_yaml(const BandStatistics& statistics) {
  std::vector<double> mean = statistics.mean, deviation = statistics.std;
  const bool colours = mean.size() == 3;
  if (colours) {
    std::reverse(mean.begin(), mean.end());
    std::reverse(deviation.begin(), deviation.end());
  }
  return text("mean: ", number_list(mean), "\nstd: ", number_list(deviation),
              colours ? "\nbgr_to_rgb: true" : "");
}

}  // namespace seg
