#include "segcore/models/decode_head.hpp"

#include <ATen/record_function.h>

#include <algorithm>

#include "registry/log.hpp"
#include "registry/yaml.hpp"
#include "segcore/models/nn/draws_random_numbers.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/resized_accuracy.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

void add_loss(LossMap& losses, const std::string& name, const torch::Tensor& value) {
  for (auto& [known, sum] : losses) {
    if (known == name) {
      sum = sum + value;
      return;
    }
  }
  losses.emplace_back(name, value);
}

namespace {

/// A default is written in no file, so what is wrong with it is reported at the option itself.
std::shared_ptr<Loss> build_decode_loss(const Spec<Loss>& spec, int64_t channels) {
  const bool is_default = spec.path().empty();
  if (!is_default) return build_loss(spec, channels);
  auto loss = spec.build();
  try {
    loss->check_channels(channels);
  } catch (const OptionError& e) {
    throw OptionError("loss_decode", text("the default, ", dump_flow(spec.config()),
                                          ", does not fit: ", e.what()));
  }
  return loss;
}

}  // namespace

std::vector<std::shared_ptr<Loss>> register_losses(torch::nn::Module& parent,
                                                   const OneOrMany<Spec<Loss>>& option,
                                                   int64_t channels) {
  std::vector<std::shared_ptr<Loss>> out;
  if (option.is_list) {
    auto all = parent.register_module("loss_decode", std::make_shared<ListOf<Loss>>());
    BuildErrors errors;
    for (const auto& spec : option.values) {
      errors.attempt([&] { out.push_back(all->push_back(build_decode_loss(spec, channels))); });
    }
    errors.throw_if_any();
  } else {
    for (const auto& spec : option.values) {
      out.push_back(parent.register_module("loss_decode", build_decode_loss(spec, channels)));
    }
  }
  return out;
}

LossMap losses_of(const std::vector<std::shared_ptr<Loss>>& losses, const PixelSampler* sampler,
                  const torch::Tensor& logits, const torch::Tensor& labels, int64_t ignore_index,
                  bool align_corners) {
  RECORD_USER_SCOPE("loss");
  torch::Tensor resized;
  const auto full = [&]() -> const torch::Tensor& {
    if (!resized.defined()) {
      resized = resize(full_precision(logits), map_size(labels), align_corners);
    }
    return resized;
  };
  torch::Tensor weight;
  if (sampler) {
    torch::NoGradGuard no_grad;
    const auto pixel_losses = [&] {
      torch::Tensor sum;
      for (const auto& loss : losses) {
        const auto one = loss->per_pixel(logits, labels, ignore_index, align_corners);
        sum = sum.defined() ? sum + one : one;
      }
      return sum;
    };
    weight = sampler->sample(logits, labels, ignore_index, pixel_losses, align_corners);
  }
  LossMap out;
  torch::Tensor accuracy;
  for (const auto& loss : losses) {
    const auto of_small = loss->of_small(logits, labels, weight, ignore_index, align_corners);
    if (of_small && of_small->accuracy.defined()) accuracy = of_small->accuracy;
    add_loss(out, loss->loss_name(),
             of_small ? of_small->loss : loss->forward(full(), labels, weight, ignore_index));
  }
  if (!accuracy.defined()) {
    accuracy = resized.defined() || logits.size(1) == 1
                   ? pixel_accuracy(full(), labels, ignore_index)
                   : resized_accuracy(logits, labels, ignore_index, align_corners);
  }
  out.emplace_back("acc_seg", accuracy);
  return out;
}

OneOrMany<Spec<Loss>> DecodeHeadParams::default_loss() {
  OneOrMany<Spec<Loss>> out;
  out.values.push_back(
      Spec<Loss>::of("{type: CrossEntropyLoss, use_sigmoid: false, loss_weight: 1.0}"));
  return out;
}

Schema<DecodeHeadParams> DecodeHead::base_schema(bool channels_required) {
  using P = DecodeHeadParams;
  Schema<P> schema("");
  schema.optional("in_channels", &P::in_channels,
                  "width of the chosen maps; null: that of the backbone or neck");
  if (channels_required) {
    schema.required("channels", &P::channels, "width before the classifier", at_least(1));
  } else {
    schema.optional("channels", &P::channels, "width before the classifier", at_least(1));
  }
  schema.required("num_classes", &P::num_classes, "classes, without the ignored one", at_least(1))
      .optional("out_channels", &P::out_channels,
                "maps of logits: num_classes (null), or 1 for two classes by a threshold",
                at_least(1))
      .optional("threshold", &P::threshold,
                "probability above which a pixel is of the class, for out_channels 1 (null: 0.3)",
                in_range(0, 1))
      .optional("dropout_ratio", &P::dropout_ratio,
                "probability of a map to be zeroed before the classifier; below 0: none",
                in_range(-1, 1))
      .optional("conv_cfg", &P::conv_cfg, "convolutions; null: Conv2d")
      .optional("norm_cfg", &P::norm_cfg, "norm after convolutions; null: none")
      .optional("act_cfg", &P::act_cfg, "activation after convolutions; null: none")
      .optional("in_index", &P::in_index, "which maps the head takes; -1 is the last")
      .optional("input_transform", &P::input_transform,
                "several maps: joined at the size of the first, or as a list; null: one map",
                one_of({"resize_concat", "multiple_select"}))
      .optional("loss_decode", &P::loss_decode, "training objective, or a list of them")
      .optional("ignore_index", &P::ignore_index, "label without loss; null: none")
      .optional("sampler", &P::sampler, "chooses the pixels to learn from; null: all")
      .optional("align_corners", &P::align_corners, "how resizing maps corners")
      .optional("init_cfg", &P::init_cfg, "initialisation");
  schema.validate([](const P& p, Problems& problems) {
    if (p.out_channels && *p.out_channels != p.num_classes &&
        !(*p.out_channels == 1 && p.num_classes == 2)) {
      problems.error("out_channels", text("must be num_classes (", p.num_classes,
                                          "), or 1 with num_classes 2; got ", *p.out_channels));
    }
    const int64_t out = p.out_channels.value_or(p.num_classes);
    if (p.threshold && out != 1) {
      problems.warn("threshold", text("is ignored because there are ", out, " output channels"));
    }
    const bool index_list = std::holds_alternative<std::vector<int64_t>>(p.in_index);
    if (p.input_transform && !index_list) {
      problems.error("in_index",
                     text("input_transform '", *p.input_transform, "' needs a list of indices"));
    }
    if (!p.input_transform && index_list) {
      problems.error("in_index", "a list needs input_transform resize_concat or multiple_select");
    }
    if (p.in_channels && index_list == std::holds_alternative<int64_t>(*p.in_channels)) {
      problems.error("in_channels", index_list ? "must be a list, as in_index is"
                                               : "must be one number, as in_index is");
    } else if (p.in_channels && index_list &&
               std::get<1>(*p.in_channels).size() != std::get<1>(p.in_index).size()) {
      problems.error("in_channels",
                     text("has ", std::get<1>(*p.in_channels).size(), " numbers for ",
                          std::get<1>(p.in_index).size(), " indices"));
    }
  });
  return schema;
}

DecodeHead::DecodeHead(const DecodeHeadParams& p, const std::vector<FeatureInfo>& inputs)
    : BaseModule(p.init_cfg), params_(p), ignore_index_(p.ignore_index.value_or(-100)) {
  auto wrong = choose_inputs(inputs);
  out_channels_ = p.out_channels.value_or(p.num_classes);
  threshold_ = p.threshold.value_or(0.3);
  BuildErrors errors;
  errors.attempt([&] { losses_ = register_losses(*this, p.loss_decode, out_channels_); });
  if (wrong) {
    wrong->add_besides(errors.found());
    throw *wrong;
  }
  errors.throw_if_any();
  if (p.sampler) build_sampler(*p.sampler);
  if (p.channels > 0) {
    conv_seg_ =
        register_module("conv_seg", std::make_shared<Conv2d>(ConvOptions{
                                        .in_channels = p.channels, .out_channels = out_channels_}));
  }
  if (p.dropout_ratio > 0) {
    dropout_ = register_module("dropout", std::make_shared<Dropout2d>(p.dropout_ratio));
  }
}

std::optional<OptionError> DecodeHead::choose_inputs(const std::vector<FeatureInfo>& inputs) {
  const DecodeHeadParams& p = params_;
  const auto* list = std::get_if<std::vector<int64_t>>(&p.in_index);
  auto indices = list ? *list : std::vector<int64_t>{std::get<int64_t>(p.in_index)};
  std::vector<int64_t> maps;  // without the class tokens, which have no index of their own
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].is_token()) maps.push_back(static_cast<int64_t>(i));
  }
  const auto count = static_cast<int64_t>(maps.size());
  std::vector<int64_t> widths;
  for (auto& index : indices) {
    if (index < -count || index >= count) {
      return OptionError("in_index", text("there is no map ", index, ": the head is given ", count,
                                          count == 1 ? " map" : " maps"));
    }
    if (index < 0) index += count;
    indices_.push_back(maps[static_cast<size_t>(index)]);
    inputs_.push_back(inputs[static_cast<size_t>(indices_.back())]);
    widths.push_back(inputs_.back().channels);
  }
  if (p.in_channels) {
    const auto* given_list = std::get_if<std::vector<int64_t>>(&*p.in_channels);
    const auto given =
        given_list ? *given_list : std::vector<int64_t>{std::get<int64_t>(*p.in_channels)};
    if (given != widths) {
      const auto show = [](const std::vector<int64_t>& v) {
        return v.size() == 1 ? text(v[0]) : "[" + join(v, ", ") + "]";
      };
      return OptionError("in_channels", text("is ", show(given), ", but the chosen maps (in_index ",
                                             show(indices), ") have ", show(widths),
                                             " channels. Leave it out to take what they have"));
    }
  }
  if (p.input_transform == "resize_concat") {
    FeatureInfo joined{.channels = 0, .stride = inputs_[0].stride};
    for (const auto& input : inputs_) joined.channels += input.channels;
    inputs_ = {joined};
  }
  return std::nullopt;
}

void DecodeHead::build_sampler(const Spec<PixelSampler>& spec) {
  sampler_ = spec.build();
  if (!sampler_->needs_pixel_losses()) return;
  for (const auto& loss : losses_) {
    if (loss->has_per_pixel()) continue;
    throw OptionError("sampler", text("needs losses of single pixels, which ", loss->loss_name(),
                                      " does not have"));
  }
}

void DecodeHead::remove_conv_seg() {
  if (conv_seg_) unregister_module("conv_seg");
  conv_seg_ = nullptr;
}

int64_t DecodeHead::in_channels() const {
  SEG_CHECK(inputs_.size() == 1, "the head takes ", inputs_.size(), " maps");
  return inputs_[0].channels;
}

std::vector<torch::Tensor> DecodeHead::chosen(const std::vector<torch::Tensor>& features) const {
  std::vector<torch::Tensor> out;
  for (const int64_t index : indices_) out.push_back(features.at(static_cast<size_t>(index)));
  return out;
}

std::vector<torch::Tensor> DecodeHead::select(const std::vector<torch::Tensor>& features) const {
  auto maps = chosen(features);
  if (params_.input_transform != "resize_concat") return maps;
  const Size2 size = map_size(maps[0]);
  for (auto& map : maps) map = resize(map, size, params_.align_corners);
  return {joined_maps(maps)};
}

torch::Tensor DecodeHead::select_one(const std::vector<torch::Tensor>& features) const {
  auto chosen = select(features);
  SEG_CHECK(chosen.size() == 1, "the head takes ", chosen.size(), " maps");
  return chosen[0];
}

torch::Tensor DecodeHead::cls_seg(const torch::Tensor& x) {
  return conv_seg_->forward(dropout_ ? dropout_->forward(x) : x);
}

torch::Tensor DecodeHead::forward_feature(const std::vector<torch::Tensor>&) {
  throw Error(text(name(), " has no map before its classifier"));
}

LossMap DecodeHead::loss(const std::vector<torch::Tensor>& features, const Targets& targets) {
  return loss_by_feat(forward(features), targets.labels);
}

bool DecodeHead::repeats_output() const {
  if (!learns_from_output()) return false;
  const auto parts = modules();
  return std::none_of(parts.begin(), parts.end(), [](const auto& part) {
    if (const auto* drop = dynamic_cast<const DropLayer*>(part.get())) return drop->active();
    return dynamic_cast<const DropsValues*>(part.get()) != nullptr ||
           dynamic_cast<const DrawsRandomNumbers*>(part.get()) != nullptr;
  });
}

torch::Tensor DecodeHead::predict(const std::vector<torch::Tensor>& features, Size2) {
  return forward(features);
}

LossMap DecodeHead::loss_by_feat(const torch::Tensor& logits, const torch::Tensor& labels) {
  return losses_of(losses_, sampler_.get(), logits, labels, ignore_index_, params_.align_corners);
}

torch::Tensor CascadeDecodeHead::forward(const std::vector<torch::Tensor>&) {
  throw Error("a head of a cascade was called without the output of the head before it");
}

LossMap CascadeDecodeHead::loss(const std::vector<torch::Tensor>& features,
                                const torch::Tensor& previous, const Targets& targets) {
  return loss_by_feat(forward(features, previous), targets.labels);
}

torch::Tensor CascadeDecodeHead::predict(const std::vector<torch::Tensor>& features,
                                         const torch::Tensor& previous, Size2) {
  return forward(features, previous);
}

Schema<TrainCfg> TrainCfg::schema() {
  return Schema<TrainCfg>("How heads that sample points are trained.")
      .optional("num_points", &TrainCfg::num_points, "points per image that the head learns from",
                at_least(1))
      .optional("oversample_ratio", &TrainCfg::oversample_ratio,
                "candidates for each point that is chosen by its uncertainty", at_least(1))
      .optional("importance_sample_ratio", &TrainCfg::importance_sample_ratio,
                "share of the points that are chosen by their uncertainty", in_range(0, 1))
      .accepted("sampler", "has no effect: samplers are options of heads");
}

torch::Tensor pixel_accuracy(const torch::Tensor& logits, const torch::Tensor& labels,
                             int64_t ignore_index) {
  torch::NoGradGuard no_grad;
  const auto valid = labels != ignore_index;
  // A single channel is that of label 1.
  const auto predicted =
      logits.size(1) == 1 ? logits.squeeze(1).gt(0).to(labels.scalar_type()) : logits.argmax(1);
  return accuracy_percent(((predicted == labels) & valid).sum(), valid.sum(), wide_type(logits));
}

}  // namespace seg
