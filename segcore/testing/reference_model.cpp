#include "segcore/testing/reference_model.hpp"

#include <torch/nn/functional/loss.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "segcore/io/sha256.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference_compare.hpp"
#include "segcore/torch.hpp"

namespace seg::reference {

using nlohmann::json;

namespace {

constexpr Tolerance kLossTolerance{1e-6, 1e-4};
constexpr Tolerance kGradientTolerance{1e-5, 1e-3};
constexpr Tolerance kBufferTolerance{1e-6, 1e-4};

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

/// Whether the backbone is one whose maps for auxiliary losses Python gives in training only.
bool gives_loss_maps_first(const json& fixture) {
  const auto type = fixture.value("/model/backbone/type"_json_pointer, "");
  return type == "DDRNet" || type == "PIDNet";
}

/// Under torchvision's names. Its fixtures have the auxiliary loss before its weight of a half.
std::map<std::string, double> torchvision_losses(const std::map<std::string, double>& losses) {
  std::map<std::string, double> out;
  if (const auto it = losses.find("decode.loss_ce"); it != losses.end()) out["out"] = it->second;
  if (const auto it = losses.find("aux.loss_ce"); it != losses.end()) out["aux"] = 2 * it->second;
  return out;
}

}  // namespace

void compare_state(Comparer& compare, const json& expected, const Value& state) {
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
    if (gives_loss_maps_first(fixture)) features.erase(features.begin(), features.end() - 1);
    compare.tensors("features", features);
  }
  if (fixture.contains("logits")) compare.tensor("logits", model.encode_decode(x));
  if (fixture.contains("slide_logits")) compare.tensor("slide_logits", model.inference(x));
}

void compare_training(Comparer& compare, const json& fixture, Segmentor& model,
                      const torch::Tensor& x, const Targets& targets, bool smp) {
  const auto before = copied_buffers(model);
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
    if (fixture.at("losses").contains("out")) losses = torchvision_losses(losses);
  }
  losses["loss"] = total.item<double>();
  total.backward();
  compare.scalars({"losses"}, fixture.at("losses"), losses, kLossTolerance, 0);
  for (const auto& [name, value] : losses) {
    if (!fixture.at("losses").contains(name))
      compare.equal("losses." + name, "nothing", shown(value));
  }
  compare_gradients_and_buffers(compare, fixture, model, before);
}

std::map<std::string, torch::Tensor> copied_buffers(const torch::nn::Module& model) {
  std::map<std::string, torch::Tensor> out;
  for (const auto& item : model.named_buffers()) out[item.key()] = item.value().clone();
  return out;
}

void compare_gradients_and_buffers(Comparer& compare, const json& fixture,
                                   const torch::nn::Module& model,
                                   const std::map<std::string, torch::Tensor>& before,
                                   const std::vector<std::string>& lacking) {
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

  const auto is_lacking = [&](const std::string& name) {
    return std::ranges::any_of(lacking, [&](const auto& head) { return name.starts_with(head); });
  };
  const auto buffers = fixture.find("buffers");
  std::map<std::string, double> moved;
  for (const auto& item : model.named_buffers()) {
    const auto& now = item.value();
    if (!seen.insert(now.unsafeGetTensorImpl()).second) continue;
    if (now.is_floating_point() && !torch::equal(now, before.at(item.key()))) {
      moved[item.key()] = norm_of(now);
    }
  }
  int64_t expected_moved = buffers == fixture.end() ? 0 : buffers->at("moved").get<int64_t>();
  bool complete = true;
  for (const auto& row : fixture.at("state").value("rows", json::array())) {
    const std::string name = row[0];
    if (!is_lacking(name) || !(name.ends_with(".running_mean") || name.ends_with(".running_var"))) {
      continue;
    }
    --expected_moved;
    complete = false;
  }
  compare.equal("buffers.moved", text(expected_moved), text(moved.size()));
  if (buffers == fixture.end()) return;
  const double buffer_scale = buffers->at("total_norm");
  if (complete) {
    compare.scalars({"buffers"}, {{"total_norm", buffer_scale}},
                    {{"total_norm", root_of_squares(moved)}}, kBufferTolerance, 0);
  }
  json some = json::object();
  for (const auto& [name, norm] : buffers->at("some").items()) {
    if (!is_lacking(name)) some[name] = norm;
  }
  compare.scalars({"buffers", "some"}, some, moved, kBufferTolerance, 1e-6 * buffer_scale);
}

}  // namespace seg::reference
