#include "segcore/testing/reference.hpp"

#include <torch/nn/functional/loss.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <unordered_set>

#include "registry/registry.hpp"
#include "registry/yaml.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/sha256.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/nn/draws_random_numbers.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/models/smp/encoder.hpp"
#include "segcore/torch.hpp"

namespace seg::reference {

using nlohmann::json;

uint64_t fnv1a(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

torch::Tensor uniform(std::string_view name, int64_t count) {
  const uint64_t seed = fnv1a(name);
  auto out = torch::empty({count}, torch::kFloat64);
  auto* data = out.data_ptr<double>();
  for (int64_t i = 0; i < count; ++i) {
    uint64_t z = seed + (static_cast<uint64_t>(i) + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    data[i] = static_cast<double>(z >> 40) / 16777216.0;
  }
  return out;
}

torch::Tensor random_numbers(at::IntArrayRef shape, const at::TensorOptions& options) {
  const auto values = uniform("rand", c10::multiply_integers(shape)).reshape(shape);
  return values.to(options.device(), options.dtype().toScalarType());
}

torch::Tensor weight_values(std::string_view name, const torch::Tensor& like, double gain) {
  if (!like.is_floating_point()) return {};
  auto s = uniform(name, like.numel()).mul_(2).sub_(1);
  if (name.ends_with("running_var")) {
    s.mul_(0.25).add_(1);
  } else if (name.ends_with("running_mean")) {
    s.mul_(0.1);
  } else if (like.dim() >= 2 && like.size(0) == 1 && !name.ends_with("weight")) {
    s.mul_(0.5);
  } else if (like.dim() >= 2) {
    const double fan_in = static_cast<double>(like.numel()) / static_cast<double>(like.size(0));
    s.mul_(std::sqrt(3.0 * gain / fan_in));
  } else if (like.dim() == 1 && name.ends_with("weight")) {
    s.mul_(0.1).add_(1);
  } else {
    s.mul_(0.1);
  }
  return s.to(torch::kFloat32).to(torch::kFloat64).reshape(like.sizes());
}

void fill(torch::nn::Module& model, double gain) {
  torch::NoGradGuard no_grad;
  const Value state = state_dict(model);
  for (const auto& [name, value] : state.as_dict()) {
    auto tensor = value.as_tensor();
    const auto values = weight_values(name.as_string(), tensor, gain);
    if (values.defined()) tensor.copy_(values);
  }
}

torch::Tensor image(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t n : shape) count *= n;
  return uniform("image", count)
      .mul_(2)
      .sub_(1)
      .to(torch::kFloat32)
      .mul_(2)
      .to(torch::kFloat64)
      .reshape(shape);
}

namespace {

/// Values of blocks, [N * rows * columns], as maps [N, H, W].
torch::Tensor spread_blocks(const torch::Tensor& values, const std::vector<int64_t>& shape,
                            int64_t side) {
  const int64_t rows = (shape[1] + side - 1) / side;
  const int64_t columns = (shape[2] + side - 1) / side;
  return values.reshape({shape[0], rows, columns})
      .repeat_interleave(side, 1)
      .repeat_interleave(side, 2)
      .narrow(1, 0, shape[1])
      .narrow(2, 0, shape[2])
      .contiguous();
}

int64_t block_count(const std::vector<int64_t>& shape, int64_t side) {
  return shape[0] * ((shape[1] + side - 1) / side) * ((shape[2] + side - 1) / side);
}

}  // namespace

torch::Tensor labels(const std::vector<int64_t>& shape, int64_t classes, bool ignored) {
  const int64_t count = block_count(shape, 8);
  auto values = uniform("labels", count).mul(static_cast<double>(classes)).floor().to(torch::kLong);
  if (ignored) values.masked_fill_(uniform("ignored", count) < 1.0 / 16, 255);
  return spread_blocks(values, shape, 8);
}

torch::Tensor edges(const std::vector<int64_t>& shape) {
  const auto values = (uniform("edges", block_count(shape, 4)) < 0.25).to(torch::kLong);
  return spread_blocks(values, shape, 4);
}

// --- Comparing
// ------------------------------------------------------------------------------------

namespace {

struct ReferenceTolerance {
  double exact, single;
};
constexpr ReferenceTolerance kTensorTolerance{1e-6, 1e-4};
constexpr ReferenceTolerance kLossTolerance{1e-6, 1e-4};
constexpr ReferenceTolerance kGradientTolerance{1e-5, 1e-3};
constexpr ReferenceTolerance kBufferTolerance{1e-6, 1e-4};

std::string shown(double v) {
  std::ostringstream out;
  out << std::setprecision(10) << v;
  return out.str();
}

std::string shape_text(const std::vector<int64_t>& shape) { return join(shape, "x"); }

/// The error of Python's own single precision, or 0 where the fixture has none.
double error_at(const json& errors, const std::vector<std::string>& path) {
  const json* node = &errors;
  for (const auto& key : path) {
    if (node->is_array()) {
      const size_t i = std::stoul(key);
      if (i >= node->size()) return 0;
      node = &(*node)[i];
    } else {
      const auto it = node->find(key);
      if (it == node->end()) return 0;
      node = &*it;
    }
  }
  return node->is_number() ? node->get<double>() : 0;
}

class Comparer {
 public:
  Comparer(const json& fixture, bool single) : fixture_(fixture), single_(single) {}

  void equal(const std::string& name, const std::string& expected, const std::string& found) {
    out.quantities.push_back(
        {name, expected, found, expected == found ? 0.0 : 1.0, 0, expected == found});
  }

  void scalar(const std::string& name, double expected, double found, double error,
              double allowed) {
    out.quantities.push_back(
        {name, shown(expected), shown(found), error, allowed, error <= allowed});
  }

  double limit(const ReferenceTolerance& tolerance, double float32_error) const {
    return single_ ? std::max(tolerance.single, 20 * float32_error) : tolerance.exact;
  }

  void tensor(const std::string& name, const json& expected, const torch::Tensor& found,
              double float32_error) {
    const auto shape = expected.at("shape").get<std::vector<int64_t>>();
    if (found.sizes() != at::IntArrayRef(shape)) {
      equal(name + ".shape", shape_text(shape), shape_text(found.sizes().vec()));
      return;
    }
    const auto flat = found.detach().to(torch::kFloat64).flatten();
    const double std = expected.at("std"), low = expected.at("min"), high = expected.at("max");
    const double scale = std::max({std, 1e-6 * std::max(std::abs(low), std::abs(high)), 1e-30});
    Quantity worst{name, "", "", -1, limit(kTensorTolerance, float32_error), true};
    const auto compare = [&](const std::string& what, double e, double f) {
      const double error = std::abs(e - f) / scale;
      // A value that is not a number must not pass as small.
      if (!(error <= worst.error)) {
        worst.name = name + "." + what;
        worst.expected = shown(e);
        worst.found = shown(f);
        worst.error = error;
      }
    };
    compare("mean", expected.at("mean"), flat.mean().item<double>());
    compare("std", std, flat.std(/*unbiased=*/false).item<double>());
    compare("min", low, flat.min().item<double>());
    compare("max", high, flat.max().item<double>());
    const auto index = expected.at("index").get<std::vector<int64_t>>();
    const auto value = expected.at("value").get<std::vector<double>>();
    for (size_t i = 0; i < index.size(); ++i) {
      compare(text("[", index[i], "]"), value[i], flat[index[i]].item<double>());
    }
    worst.holds = worst.error <= worst.allowed;
    out.quantities.push_back(worst);
  }

  void tensors(const std::string& name, const std::vector<torch::Tensor>& found) {
    const auto& expected = fixture_.at(name);
    if (expected.size() != found.size()) {
      equal(name, text(expected.size(), " tensors"), text(found.size(), " tensors"));
      return;
    }
    for (size_t i = 0; i < found.size(); ++i) {
      tensor(text(name, "[", i, "]"), expected[i], found[i],
             error_at(fixture_.at("float32_error"), {name, std::to_string(i)}));
    }
  }

  /// Named scalars under `path` of the fixture; `floor` bounds what errors are relative to.
  void scalars(const std::vector<std::string>& path, const json& expected,
               const std::map<std::string, double>& found, const ReferenceTolerance& tolerance,
               double floor) {
    const std::string prefix = join(path, ".") + ".";
    for (const auto& [key, value] : expected.items()) {
      const auto it = found.find(key);
      const double e = value;
      if (it == found.end()) {
        equal(prefix + key, shown(e), "nothing");
        continue;
      }
      if (key.find("acc") != std::string::npos) {
        // In percent: in single precision one pixel that changes its class is no error.
        scalar(prefix + key, e, it->second, std::abs(e - it->second), single_ ? 0.1 : 1e-4);
        continue;
      }
      auto where = path;
      where.push_back(key);
      scalar(prefix + key, e, it->second,
             std::abs(e - it->second) / std::max({std::abs(e), floor, 1e-30}),
             limit(tolerance, error_at(fixture_.at("float32_error"), where)));
    }
  }

  Comparison out;

 private:
  const json& fixture_;
  bool single_;
};

std::vector<std::string> dtype_and_shape_rows(const Value& state) {
  std::vector<std::string> rows;
  for (const auto& [name, value] : state.as_dict()) {
    const auto& t = value.as_tensor();
    std::string dtype(c10::toString(t.scalar_type()));
    if (t.scalar_type() == torch::kFloat32) dtype = "float32";
    if (t.scalar_type() == torch::kFloat64) dtype = "float64";
    if (t.scalar_type() == torch::kFloat16) dtype = "float16";
    if (t.scalar_type() == torch::kLong) dtype = "int64";
    if (t.scalar_type() == torch::kInt) dtype = "int32";
    if (t.scalar_type() == torch::kBool) dtype = "bool";
    rows.push_back(name.as_string() + "\t" + shape_text(t.sizes().vec()) + "\t" + dtype);
  }
  return rows;
}

void compare_state(Comparer& compare, const json& expected, const torch::nn::Module& model) {
  const Value state = state_dict(model);
  const auto rows = dtype_and_shape_rows(state);
  int64_t elements = 0;
  double sum = 0;
  for (const auto& [name, value] : state.as_dict()) {
    const auto& t = value.as_tensor();
    elements += t.numel();
    if (t.is_floating_point()) sum += t.to(torch::kFloat64).abs().sum().item<double>();
  }
  compare.equal("state.tensors", text(expected.at("tensors").get<int64_t>()), text(rows.size()));
  compare.equal("state.elements", text(expected.at("elements").get<int64_t>()), text(elements));
  auto sorted = rows;
  std::sort(sorted.begin(), sorted.end());
  if (const auto it = expected.find("rows"); it != expected.end()) {
    std::vector<std::string> wanted;
    for (const auto& row : *it) {
      wanted.push_back(row[0].get<std::string>() + "\t" +
                       shape_text(row[1].get<std::vector<int64_t>>()) + "\t" +
                       row[2].get<std::string>());
    }
    compare.out.same_order = wanted == rows;
    auto wanted_sorted = wanted;
    std::sort(wanted_sorted.begin(), wanted_sorted.end());
    std::vector<std::string> missing, extra;
    std::set_difference(wanted_sorted.begin(), wanted_sorted.end(), sorted.begin(), sorted.end(),
                        std::back_inserter(missing));
    std::set_difference(sorted.begin(), sorted.end(), wanted_sorted.begin(), wanted_sorted.end(),
                        std::back_inserter(extra));
    const auto spaced = [](std::string row) {
      std::replace(row.begin(), row.end(), '\t', ' ');
      return row;
    };
    for (const auto& row : missing) compare.equal("state.rows", spaced(row), "nothing");
    for (const auto& row : extra) compare.equal("state.rows", "nothing", spaced(row));
  }
  compare.equal("state.sha256", expected.at("sha256").get<std::string>(),
                sha256_of_text(join(sorted, "\n")));
  const double wanted = expected.at("abs_sum");
  compare.scalar("state.abs_sum", wanted, sum, std::abs(wanted - sum) / std::max(wanted, 1e-30),
                 1e-9);
}

/// Floating point tensors alone: Module::to would turn counters and indices into fractions, too.
void set_precision(torch::nn::Module& model, torch::ScalarType type) {
  torch::NoGradGuard no_grad;
  for (auto& parameter : model.parameters()) parameter.set_data(parameter.to(type));
  for (auto& buffer : model.buffers()) {
    if (buffer.is_floating_point()) buffer.set_data(buffer.to(type));
  }
}

double norm_of(const torch::Tensor& t) {
  return t.detach().to(torch::kFloat64).norm().item<double>();
}

double root_of_squares(const std::map<std::string, double>& values) {
  double sum = 0;
  for (const auto& [name, v] : values) sum += v * v;
  return std::sqrt(sum);
}

/// DiceLoss(mode="multiclass", ignore_index=255) of segmentation_models_pytorch, with which its
/// fixtures were trained.
torch::Tensor smp_dice(const torch::Tensor& logits, const torch::Tensor& target) {
  const int64_t n = logits.size(0), c = logits.size(1);
  const auto mask = (target != 255).view({n, -1});
  const auto y = target.view({n, -1}) * mask;
  const auto p = logits.log_softmax(1).exp().view({n, c, -1}) * mask.unsqueeze(1);
  const auto one_hot =
      torch::one_hot(y, c).permute({0, 2, 1}).to(p.scalar_type()) * mask.unsqueeze(1);
  const auto intersection = (p * one_hot).sum(at::IntArrayRef({0, 2}));
  const auto cardinality = (p + one_hot).sum(at::IntArrayRef({0, 2}));
  const auto loss = 1 - 2 * intersection / cardinality.clamp_min(1e-7);
  return (loss * (one_hot.sum(at::IntArrayRef({0, 2})) > 0)).mean();
}

void compare_evaluation(Comparer& compare, const json& fixture, Segmentor& model,
                        const torch::Tensor& x, bool smp) {
  torch::NoGradGuard no_grad;
  model.eval();
  if (fixture.contains("backbone")) compare.tensors("backbone", model.backbone_features(x));
  if (fixture.contains("features")) {
    auto features = model.extract_feat(x);
    if (smp) {
      // The encoder's first output is the image itself, and some encoders give an empty tensor.
      std::erase_if(features, [&](const torch::Tensor& t) {
        return t.numel() == 0 || t.sizes().slice(1) == x.sizes().slice(1);
      });
    }
    compare.tensors("features", features);
  }
  const auto& errors = fixture.at("float32_error");
  if (const auto it = fixture.find("logits"); it != fixture.end()) {
    compare.tensor("logits", *it, model.encode_decode(x), error_at(errors, {"logits"}));
  }
  if (const auto it = fixture.find("slide_logits"); it != fixture.end()) {
    compare.tensor("slide_logits", *it, model.inference(x), error_at(errors, {"slide_logits"}));
  }
}

void compare_training(Comparer& compare, const json& fixture, Segmentor& model,
                      const torch::Tensor& x, const Targets& targets, bool smp) {
  std::map<std::string, torch::Tensor> before;
  for (const auto& item : model.named_buffers()) before[item.key()] = item.value().clone();
  model.train();
  model.zero_grad();
  std::map<std::string, double> losses;
  torch::Tensor total;
  if (smp) {
    const auto logits = model.encode_decode(x);
    const auto entropy = torch::nn::functional::cross_entropy(
        logits, targets.labels, torch::nn::functional::CrossEntropyFuncOptions().ignore_index(255));
    const auto dice = smp_dice(logits, targets.labels);
    total = entropy + dice;
    losses = {{"cross_entropy", entropy.item<double>()}, {"dice", dice.item<double>()}};
  } else {
    const auto map = model.loss(x, targets);
    total = total_loss(map);
    for (const auto& [name, value] : map) losses[name] = value.mean().item<double>();
  }
  losses["loss"] = total.item<double>();
  total.backward();
  compare.scalars({"losses"}, fixture.at("losses"), losses, kLossTolerance, 0);
  for (const auto& [name, value] : losses) {
    if (!fixture.at("losses").contains(name))
      compare.equal("losses." + name, "nothing", shown(value));
  }

  // A shared module is a child twice; Python counts its tensors once, under the first name.
  std::unordered_set<const void*> seen;
  std::map<std::string, double> gradients;
  for (const auto& item : model.named_parameters()) {
    if (!seen.insert(item.value().unsafeGetTensorImpl()).second) continue;
    if (item.value().grad().defined()) gradients[item.key()] = norm_of(item.value().grad());
  }
  const auto& expected = fixture.at("gradients");
  const double scale = expected.at("total_norm");
  compare.equal("gradients.with_grad", text(expected.at("with_grad").get<int64_t>()),
                text(gradients.size()));
  compare.scalars({"gradients"}, {{"total_norm", scale}},
                  {{"total_norm", root_of_squares(gradients)}}, kGradientTolerance, 0);
  compare.scalars({"gradients", "some"}, expected.at("some"), gradients, kGradientTolerance,
                  1e-6 * scale);

  const auto buffers = fixture.find("buffers");
  std::map<std::string, double> moved;
  for (const auto& item : model.named_buffers()) {
    const auto& now = item.value();
    if (!seen.insert(now.unsafeGetTensorImpl()).second) continue;
    if (now.is_floating_point() && !torch::equal(now, before.at(item.key()))) {
      moved[item.key()] = norm_of(now);
    }
  }
  compare.equal("buffers.moved",
                text(buffers == fixture.end() ? 0 : buffers->at("moved").get<int64_t>()),
                text(moved.size()));
  if (buffers == fixture.end()) return;
  const double buffer_scale = buffers->at("total_norm");
  compare.scalars({"buffers"}, {{"total_norm", buffer_scale}},
                  {{"total_norm", root_of_squares(moved)}}, kBufferTolerance, 0);
  compare.scalars({"buffers", "some"}, buffers->at("some"), moved, kBufferTolerance,
                  1e-6 * buffer_scale);
}

bool is_smp(const json& fixture) {
  return fixture.at("source").get<std::string>().starts_with("segmentation_models_pytorch");
}

}  // namespace

bool Comparison::holds() const {
  return std::all_of(quantities.begin(), quantities.end(), [](const auto& q) { return q.holds; });
}

std::string Comparison::text(bool failures_only) const {
  std::ostringstream out;
  out << std::setprecision(3);
  for (const auto& q : quantities) {
    if (failures_only && q.holds) continue;
    out << (q.holds ? "ok    " : "WRONG ") << q.name << "  expected " << q.expected << "  found "
        << q.found << "  error " << q.error << "  allowed " << q.allowed << "\n";
  }
  return out.str();
}

Fixture::Fixture(const std::string& path) : path_(path) {
  const auto bytes = read_file_bytes(path);
  json parsed;
  try {
    parsed = json::parse(bytes.begin(), bytes.end());
  } catch (const json::parse_error& e) {
    throw DataError(e.byte > bytes.size()
                        ? seg::text(path, ": the JSON in it is cut short")
                        : seg::text(path, ": is no JSON: byte ", e.byte, " does not fit"));
  }
  if (!parsed.is_object()) throw DataError(seg::text(path, ": is no fixture: it is no object"));
  for (const char* key : {"source", "config", "input", "state", "float32_error"}) {
    if (!parsed.contains(key)) {
      throw DataError(seg::text(path, ": is no fixture: it has no '", key, "'"));
    }
  }
  json_ = std::make_shared<const json>(std::move(parsed));
}

Config Fixture::model() const {
  try {
    json model;
    if (json_->contains("model")) {
      model = json_->at("model");
    } else if (is_smp(*json_)) {
      const std::string config = json_->at("config");
      const size_t slash = config.find('/');
      model["type"] = config.substr(0, slash);
      model["encoder_name"] = slash == std::string::npos ? "" : config.substr(slash + 1);
      model["encoder_weights"] = nullptr;
      model["classes"] = json_->at("classes");
      model["in_channels"] = json_->at("input").at(1);
      if (const auto it = json_->find("options"); it != json_->end()) model.update(*it);
    } else {
      throw DataError(seg::text(path_, ": has no 'model', and models of ",
                                json_->at("source").get<std::string>(),
                                " cannot be built from their name"));
    }
    return parse_config(model.dump(), path_);
  } catch (const json::exception& e) {
    throw DataError(seg::text(path_, ": is no fixture: ", e.what()));
  }
}

std::string Fixture::not_there_yet() const {
  if (!json_->contains("model") && !is_smp(*json_)) {
    return seg::text("models of ", json_->at("source").get<std::string>());
  }
  const Config config = model();
  if (const auto* encoder = config.find("encoder_name");
      encoder && !Registry<smp::Encoder>::instance().find(encoder->value.scalar)) {
    return seg::text("no encoder is called '", encoder->value.scalar, "'");
  }
  Diagnostics problems;
  Spec<Segmentor>::parse(config, "model", problems);
  for (const auto& problem : problems.list()) {
    if (problem.message.starts_with("no ") &&
        problem.message.find(" is called '") != std::string::npos) {
      return problem.message.substr(0, problem.message.find("'.") + 1);
    }
  }
  return {};
}

Comparison Fixture::compare(bool single, const std::optional<Config>& given,
                            c10::Device device) const {
  Diagnostics problems;
  const auto spec = Spec<Segmentor>::parse(given ? *given : model(), "model", problems);
  if (problems.has_errors()) throw ConfigError(problems);
  const auto model = spec->build();
  try {
    const json& fixture = *json_;
    Comparer compare(fixture, single);
    fill(*model, fixture.value("gain", 1.0));
    compare_state(compare, fixture.at("state"), *model);
    if (!compare.out.holds()) return std::move(compare.out);
    const auto type = single ? torch::kFloat32 : torch::kFloat64;
    set_precision(*model, type);
    model->to(device);
    set_drop_probability(*model, 0);
    set_random_source(*model, random_numbers);
    const auto shape = fixture.at("input").get<std::vector<int64_t>>();
    const auto x = image(shape).to(device, type);
    const bool smp = is_smp(fixture);
    compare_evaluation(compare, fixture, *model, x, smp);
    if (fixture.contains("losses")) {
      const bool ignored = !fixture.contains("labels");
      const std::vector<int64_t> size{shape.at(0), shape.at(2), shape.at(3)};
      const Targets targets(labels(size, fixture.at("classes"), ignored).to(device),
                            edges(size).to(device),
                            fixture.value("img_shapes", std::vector<std::array<int64_t, 2>>{}));
      compare_training(compare, fixture, *model, x, targets, smp);
    }
    return std::move(compare.out);
  } catch (const json::exception& e) {
    throw DataError(seg::text(path_, ": is no fixture: ", e.what()));
  }
}

}  // namespace seg::reference
