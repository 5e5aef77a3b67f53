#include "segcore/evaluation/image_scores.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>

#include "registry/printed.hpp"
#include "registry/text.hpp"

namespace seg {
namespace {

constexpr double kNoScore = std::numeric_limits<double>::quiet_NaN();

/// "63.25" for a share of 0.6325.
std::string score_percent(double share, const char* format = "%.2f") {
  return std::isnan(share) ? "" : printed(format, share * 100);
}

std::string csv_cell(const std::string& words) {
  if (words.find_first_of(",\"\r\n") == std::string::npos) return words;
  std::string out = "\"";
  for (const char c : words) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string html_text(const std::string& words) {
  std::string out;
  for (const char c : words) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// A relative path as a link: bytes with a meaning in URLs are written as %XX.
std::string html_link(const std::string& path) {
  std::string out;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || std::string_view("/-_.~").find(c) != std::string_view::npos) {
      out += c;
    } else {
      char buffer[4];
      std::snprintf(buffer, sizeof(buffer), "%%%02X", byte);
      out += buffer;
    }
  }
  return out;
}

/// The classes that are worst in an image, as "fence 0.0, pole 12.5".
std::string worst_classes(const ScoredImage& image, const std::vector<std::string>& classes) {
  std::vector<size_t> present;
  for (size_t c = 0; c < image.score.iou.size() && c < classes.size(); ++c) {
    if (!std::isnan(image.score.iou[c])) present.push_back(c);
  }
  std::stable_sort(present.begin(), present.end(),
                   [&](size_t a, size_t b) { return image.score.iou[a] < image.score.iou[b]; });
  constexpr size_t kShown = 3;
  std::vector<std::string> words;
  for (size_t i = 0; i < std::min(kShown, present.size()); ++i) {
    words.push_back(classes[present[i]] + " " + score_percent(image.score.iou[present[i]], "%.1f"));
  }
  return join(words, ", ");
}

const char* const kPageStyle =
    "body{font:15px/1.45 system-ui,sans-serif;margin:24px;background:#f6f6f4;color:#222}"
    "h1{font-size:21px;margin:0 0 4px}p{margin:0 0 18px;color:#555}"
    "main{display:grid;grid-template-columns:repeat(auto-fill,minmax(440px,1fr));gap:18px}"
    "figure{margin:0;background:#fff;border:1px solid #ddd;border-radius:6px;overflow:hidden}"
    "img{display:block;width:100%}figcaption{padding:8px 12px 10px}"
    "b{font-size:17px;margin-right:10px}code{overflow-wrap:anywhere}small{color:#666}";

}  // namespace

ImageScore image_score(const at::Tensor& counts) {
  const auto n = static_cast<size_t>(counts.size(1) - 1);
  const int64_t* both = counts.const_data_ptr<int64_t>();
  const int64_t* predicted = both + n + 1;
  const int64_t* labelled = predicted + n + 1;
  ImageScore out;
  double sum = 0, right = 0, pixels = 0, defined = 0;
  for (size_t c = 0; c < n; ++c) {
    const auto all = static_cast<double>(predicted[c] + labelled[c] - both[c]);
    out.iou.push_back(all > 0 ? static_cast<double>(both[c]) / all : kNoScore);
    if (all > 0) sum += out.iou.back(), ++defined;
    right += static_cast<double>(both[c]);
    pixels += static_cast<double>(labelled[c]);
  }
  out.mean_iou = defined > 0 ? sum / defined : kNoScore;
  out.accuracy = pixels > 0 ? right / pixels : kNoScore;
  return out;
}

ImageScores::ImageScores(size_t images, int64_t classes)
    : counts_(at::zeros({static_cast<int64_t>(images), 3, classes + 1}, at::kLong)),
      seen_(at::zeros({static_cast<int64_t>(images)}, at::kLong)) {}

void ImageScores::add(size_t index, const at::Tensor& counts) {
  const auto i = static_cast<int64_t>(index);
  counts_[i].copy_(counts);
  seen_[i].fill_(1);
}

std::vector<ScoredImage> ImageScores::gather(const Dataset& dataset,
                                             Communicator& communicator) const {
  at::Tensor counts = counts_.clone(), seen = seen_.clone();
  communicator.all_reduce_sum_(counts);
  communicator.all_reduce_sum_(seen);
  std::vector<ScoredImage> out;
  for (int64_t i = 0; i < seen.size(0); ++i) {
    const int64_t times = seen[i].item<int64_t>();
    if (times == 0) continue;
    const auto index = static_cast<size_t>(i);
    const at::Tensor once = at::floor_divide(counts[i], times).contiguous();
    out.push_back({index, dataset.paths(index).first, image_score(once)});
  }
  return out;
}

std::string scores_csv(const std::vector<ScoredImage>& images,
                       const std::vector<std::string>& classes) {
  std::string out = "image,mIoU,aAcc";
  for (const auto& name : classes) out += "," + csv_cell("IoU." + name);
  out += "\n";
  for (const ScoredImage& image : images) {
    out += csv_cell(image.path) + "," + score_percent(image.score.mean_iou) + "," +
           score_percent(image.score.accuracy);
    for (const double iou : image.score.iou) out += "," + score_percent(iou);
    out += "\n";
  }
  return out;
}

std::string scores_page(const std::string& title, const std::vector<ScoredImage>& images,
                        const std::vector<std::string>& pictures,
                        const std::vector<std::string>& classes) {
  std::vector<size_t> order(images.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto rank = [&](size_t i) {
    const double iou = images[i].score.mean_iou;
    return std::isnan(iou) ? 2.0 : iou;  // nothing to compare with: at the end
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return rank(a) < rank(b); });
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\n<title>" +
                    html_text(title) + "</title>\n<style>" + kPageStyle +
                    "</style></head>\n<body>\n<h1>" + html_text(title) + "</h1>\n<p>" +
                    text(images.size(), images.size() == 1 ? " image" : " images",
                         ", lowest mIoU first; the mIoU of an image is the mean over the classes "
                         "that its truth or its prediction has.</p>\n<main>\n");
  for (const size_t i : order) {
    const ScoredImage& image = images[i];
    const std::string link = html_link(pictures.at(i));
    const bool scored = !std::isnan(image.score.mean_iou);
    out += "<figure><a href=\"" + link + "\"><img loading=\"lazy\" src=\"" + link + "\" alt=\"" +
           html_text(pictures[i]) + "\"></a>\n<figcaption><b>" +
           (scored ? "mIoU " + score_percent(image.score.mean_iou, "%.1f") : "no truth") + "</b>" +
           "<code>" + html_text(image.path) + "</code>";
    if (scored) {
      out += "<br><small>" + score_percent(image.score.accuracy, "%.1f") +
             " % of the pixels right; lowest: " + html_text(worst_classes(image, classes)) +
             "</small>";
    }
    out += "</figcaption></figure>\n";
  }
  return out + "</main>\n</body>\n</html>\n";
}

}  // namespace seg
