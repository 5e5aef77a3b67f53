#include "segcore/models/losses/class_weight.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "registry/file_text.hpp"
#include "registry/schema.hpp"
#include "registry/yaml.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

OptionError class_weight_error(const std::string& path, const std::string& wrong) {
  return OptionError("class_weight", text("cannot read '", path, "': ", wrong));
}

/// NumPy's format 1 to 3: magic, version, length of the header, header (a Python dict), numbers.
std::vector<double> read_npy(const std::string& path, const std::string& bytes) {
  if (bytes.size() < 12 || bytes.compare(0, 6, "\x93NUMPY") != 0) {
    throw class_weight_error(path, "it is not a .npy file");
  }
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const size_t start = bytes[6] == 1 ? 10 : 12;
  size_t header_size = byte(8) + 256u * byte(9);
  if (start == 12) header_size += 65536u * byte(10) + 16777216u * byte(11);
  if (start + header_size > bytes.size()) throw class_weight_error(path, "it is truncated");
  const std::string header = bytes.substr(start, header_size);
  const char* data = bytes.data() + start + header_size;
  const size_t size = bytes.size() - start - header_size;
  const auto numbers = [&]<class T>(T) {
    std::vector<double> out(size / sizeof(T));
    for (size_t i = 0; i < out.size(); ++i) {
      T value;
      std::memcpy(&value, data + i * sizeof(T), sizeof(T));
      out[i] = static_cast<double>(value);
    }
    return out;
  };
  const auto has = [&](const char* type) { return header.find(type) != std::string::npos; };
  if (has("'<f4'")) return numbers(float{});
  if (has("'<f8'")) return numbers(double{});
  if (has("'<i8'")) return numbers(int64_t{});
  if (has("'<i4'")) return numbers(int32_t{});
  throw class_weight_error(path, "expected float32, float64, int32 or int64 numbers");
}

std::vector<double> read_class_weight(const std::string& path) {
  const auto read = file_text(path);
  if (!read) throw class_weight_error(path, "there is no such file");
  const std::string& bytes = *read;
  if (path.ends_with(".npy")) return read_npy(path, bytes);
  if (!path.ends_with(".json") && !path.ends_with(".yaml") && !path.ends_with(".yml")) {
    throw class_weight_error(path, "expected a .npy, .json or .yaml file");
  }
  // JSON is YAML.
  const Config tree = parse_config(bytes, path);
  Diagnostics problems;
  auto values = Convert<std::vector<double>>::from(tree, "", problems);
  if (!values) throw ConfigError(problems);
  return *values;
}

}  // namespace

ClassWeight::ClassWeight(const ClassWeightOption& option) {
  if (!option) return;
  if (const auto* values = std::get_if<std::vector<double>>(&*option)) {
    values_ = *values;
  } else if (const auto& word = std::get<std::string>(*option);
             word == "median_frequency" || word == "inverse") {
    rule_ = word;
    return;
  } else {
    values_ = read_class_weight(word);
  }
  if (values_.empty()) throw OptionError("class_weight", "must not be empty");
  for (const double weight : values_) {
    if (!std::isfinite(weight) || weight < 0) {
      throw OptionError("class_weight", text("weights are numbers from 0 on, got ", weight));
    }
  }
  if (std::all_of(values_.begin(), values_.end(), [](double weight) { return weight == 0; })) {
    throw OptionError("class_weight", "all weights are 0: nothing would be learned");
  }
}

void ClassWeight::set_counts(const std::vector<double>& pixels, const std::vector<double>& around) {
  std::vector<double> shares;
  double all = 0;
  for (size_t c = 0; c < pixels.size(); ++c) {
    all += pixels[c];
    if (pixels[c] > 0) shares.push_back(pixels[c] / around[c]);
  }
  if (shares.empty()) {
    throw DataError("class_weight: no pixel of the training data is labelled with a class");
  }
  std::sort(shares.begin(), shares.end());
  const size_t half = shares.size() / 2;
  const double median =
      shares.size() % 2 == 1 ? shares[half] : (shares[half - 1] + shares[half]) / 2;
  const double share_of_all = all / static_cast<double>(shares.size());
  values_.clear();
  for (size_t c = 0; c < pixels.size(); ++c) {
    values_.push_back(pixels[c] == 0                ? 0
                      : rule_ == "median_frequency" ? median / (pixels[c] / around[c])
                                                    : share_of_all / pixels[c]);
  }
}

at::Tensor ClassWeight::of(const at::Tensor& like) const {
  return values_.empty() ? at::Tensor() : tensor_.of(values_, like.options());
}

void ClassWeight::check(int64_t channels) const {
  const auto given = static_cast<int64_t>(values_.size());
  if (values_.empty() || given == channels) return;
  throw OptionError("class_weight", text("has ", given, given == 1 ? " value" : " values",
                                         ", but the head's logits have ", channels,
                                         channels == 1 ? " channel" : " channels"));
}

}  // namespace seg
