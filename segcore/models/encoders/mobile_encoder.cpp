#include "segcore/models/encoders/mobile_encoder.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "segcore/models/blocks/named_chain.hpp"
#include "segcore/models/blocks/se_layer.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/start_values.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

int64_t scaled_width(int64_t width, double factor) {
  return make_divisible(static_cast<double>(width) * factor, 8);
}

int64_t mobile_stem_width(const MobileNetwork& n) {
  return n.keeps_stem ? n.stem : scaled_width(n.stem, n.width);
}

/// The rows of each stage with their numbers of blocks scaled: the stage's sum rounds up, and rows
/// get their shares from the last to the first.
std::vector<std::vector<MobileRow>> scaled_stages(const MobileNetwork& n) {
  std::vector<std::vector<MobileRow>> stages(static_cast<size_t>(n.rows.back().stage) + 1);
  for (const auto& row : n.rows) stages[static_cast<size_t>(row.stage)].push_back(row);
  for (auto& stage : stages) {
    if (n.keeps_ends && (&stage == &stages.front() || &stage == &stages.back())) continue;
    int64_t blocks = 0;
    for (const auto& row : stage) blocks += row.repeats;
    auto scaled = static_cast<int64_t>(std::ceil(static_cast<double>(blocks) * n.depth));
    for (auto row = stage.rbegin(); row != stage.rend(); ++row) {
      const double share = static_cast<double>(row->repeats) / static_cast<double>(blocks);
      blocks -= row->repeats;
      row->repeats =
          std::max<int64_t>(1, std::llrint(share * static_cast<double>(scaled)));  // half to even
      scaled -= row->repeats;
    }
  }
  return stages;
}

/// A block and the map that it is computed for: 1 is that of 1/2.
struct PlannedBlock {
  MobileBlockOptions options;
  int64_t level = 1;
};

/// The blocks of all stages.
class MobilePlan {
 public:
  MobilePlan(const MobileNetwork& n, int64_t output_stride, double drop_path_rate)
      : n_(n),
        in_(mobile_stem_width(n)),
        output_stride_(output_stride),
        drop_path_rate_(drop_path_rate),
        size_((n.nominal_size + 1) / 2) {
    const auto stages = scaled_stages(n);
    for (const auto& stage : stages) {
      for (const auto& row : stage) total_ += row.repeats;
    }
    for (const auto& stage : stages) {
      auto& blocks = stages_.emplace_back();
      for (const auto& row : stage) {
        for (int64_t i = 0; i < row.repeats; ++i) blocks.push_back(next(row, blocks.empty()));
      }
    }
  }
  const std::vector<std::vector<PlannedBlock>>& stages() const { return stages_; }
  /// Whether a block is the last before a map.
  bool ends_map(size_t stage, size_t block) const {
    const bool last_of_stage = block + 1 == stages_[stage].size();
    if (last_of_stage && stage + 1 == stages_.size()) return !n_.head_makes_map;
    const auto& following = last_of_stage ? stages_[stage + 1][0] : stages_[stage][block + 1];
    const int64_t level = stages_[stage][block].level;
    return following.level > level && !(level == 1 && n_.stem_makes_map);
  }
  bool stem_makes_map() const { return n_.stem_makes_map || stages_[0][0].level > 1; }

 private:
  PlannedBlock next(const MobileRow& row, bool first) {
    MobileBlockOptions o{.kind = row.kind,
                         .in = in_,
                         .middle = make_divisible(static_cast<double>(in_) * row.expand, 8),
                         .out = scaled_width(row.channels, n_.width),
                         .kernel = row.kernel,
                         .start_kernel = row.start_kernel,
                         .act = row.act,
                         .acts_last = row.acts_last,
                         .drop_path_rate = drop_path_rate_ * static_cast<double>(count_) /
                                           static_cast<double>(total_),
                         .heads = row.heads,
                         .key_dim = row.key_dim,
                         .key_stride = row.key_stride,
                         .nominal_size = size_};
    const int64_t stride = first ? row.stride : 1;
    if (stride > 1) ++strides_;
    const int64_t level =
        n_.fourth_map_after > 0 && count_ >= n_.fourth_map_after ? 5 : strides_ + 1;
    const int64_t dilation = std::max<int64_t>((int64_t{1} << level) / output_stride_, 1);
    o.dilation = n_.dilates_following ? dilation_ : dilation;
    o.stride = dilation > 1 ? 1 : stride;
    dilation_ = dilation;
    if (row.squeeze > 0) {
      o.squeezed = n_.squeezes_middle
                       ? make_divisible(static_cast<double>(o.middle) * row.squeeze, 8)
                       : std::llrint(static_cast<double>(in_) * row.squeeze);
    }
    o.shortcut = row.shortcut && o.in == o.out && o.stride == 1;
    size_ = (size_ + stride - 1) / stride;
    in_ = o.out;
    ++count_;
    return {o, level};
  }

  const MobileNetwork& n_;
  int64_t in_, output_stride_;
  double drop_path_rate_;
  int64_t size_;  ///< of the next block's input, for images of the nominal size
  int64_t strides_ = 0, dilation_ = 1, total_ = 0, count_ = 0;
  std::vector<std::vector<PlannedBlock>> stages_;
};

EncoderFacts mobile_facts(const std::string& name, const MobileNetwork& n,
                          std::vector<EncoderWeights> published) {
  EncoderFacts facts{.name = name,
                     .channels = {},
                     .published = std::move(published),
                     .classifier = n.classifier,
                     .drops_paths = n.drops_paths};
  const MobilePlan plan(n, /*output_stride=*/32, /*drop_path_rate=*/0);
  if (plan.stem_makes_map()) facts.channels.push_back(mobile_stem_width(n));
  for (size_t s = 0; s < plan.stages().size(); ++s) {
    for (size_t b = 0; b < plan.stages()[s].size(); ++b) {
      if (plan.ends_map(s, b)) facts.channels.push_back(plan.stages()[s][b].options.out);
    }
  }
  if (n.head_makes_map) facts.channels.push_back(n.head);
  return facts;
}

/// Names of the layers around blocks.
struct MobileLayerNames {
  std::string stem_conv, stem_norm;  ///< below the layer `stem`, where there is one
  std::string stem;
  std::string blocks;  ///< before the number of a stage or block
  std::string head_conv, head_norm;
};

const MobileLayerNames& layer_names_of(MobileNames names) {
  static const MobileLayerNames timm{"conv_stem", "bn1", "", "blocks.", "conv_head", "bn2"};
  static const MobileLayerNames torchvision{"0", "1", "features.0", "features.", "0", "1"};
  static const MobileLayerNames pytorch{"_conv_stem", "_bn0", "", "_blocks.", "_conv_head", "_bn1"};
  if (names == MobileNames::kTimm) return timm;
  return names == MobileNames::kEfficientNetPytorch ? pytorch : torchvision;
}

}  // namespace

MobileEncoder::MobileEncoder(const std::string& name, const MobileNetwork& n,
                             std::vector<EncoderWeights> published, const EncoderOptions& options)
    : ChainEncoder(mobile_facts(name, n, std::move(published)), options), start_(n.start) {
  if (n.counts_one_level_more) run_one_level_more();
  const double drop_path_rate =
      options.drop_path_rate > 0 ? options.drop_path_rate : n.drop_path_rate;
  const MobilePlan plan(n, options.output_stride, drop_path_rate);
  const auto& names = layer_names_of(n.style.names);
  add_stem(n);
  if (plan.stem_makes_map()) end_level();
  size_t layers = names.stem.empty() ? 0 : 1;
  for (size_t s = 0; s < plan.stages().size(); ++s) {
    const auto& blocks = plan.stages()[s];
    auto stage = std::make_shared<Sequential>();
    for (size_t b = 0; b < blocks.size(); ++b) {
      const auto block = mobile_block(n.style, blocks[b].options);
      if (n.numbers_stages) {
        stage->push_back(block);
        if (b + 1 < blocks.size()) continue;
      }
      const auto layer_name = text(names.blocks, layers++);
      if (n.numbers_stages) {
        add(layer_name, stage);
      } else {
        add(layer_name, block);
      }
      if (plan.ends_map(s, b)) end_level();
    }
  }
  if (n.head > 0) add_head(n, plan.stages().back().back().options.out, layers);
}

void MobileEncoder::add_stem(const MobileNetwork& n) {
  const int64_t width = mobile_stem_width(n);
  const auto conv = mobile_conv({.in = in_channels(),
                                 .out = width,
                                 .kernel = 3,
                                 .stride = 2,
                                 .padding = n.style.padding,
                                 .nominal_size = n.nominal_size});
  const auto norm = std::make_shared<BatchNormAct>(n.style.norm, width, n.style.act);
  const auto& names = layer_names_of(n.style.names);
  if (names.stem.empty()) {
    add(names.stem_conv, conv);
    add(names.stem_norm, norm);
    set_first_conv(names.stem_conv + ".weight", conv);
    return;
  }
  auto chain = std::make_shared<NamedChain>();
  chain->add(names.stem_conv, conv);
  chain->add(names.stem_norm, norm);
  add(names.stem, chain);
  set_first_conv(text(names.stem, ".", names.stem_conv, ".weight"), conv);
}

void MobileEncoder::add_head(const MobileNetwork& n, int64_t in, size_t layers) {
  const auto conv = mobile_conv({in, n.head});
  const auto norm = std::make_shared<BatchNormAct>(n.style.norm, n.head, n.style.act);
  const auto& names = layer_names_of(n.style.names);
  if (n.head_makes_map) {
    auto chain = std::make_shared<NamedChain>();
    chain->add(names.head_conv, conv);
    chain->add(names.head_norm, norm);
    add(text(names.blocks, layers), chain);
    end_level();
    return;
  }
  // Part of the published weights, but no map is computed from it.
  register_module(names.head_conv, conv);
  register_module(names.head_norm, norm);
  leave_untrained(*conv);
  leave_untrained(*norm);
}

void MobileEncoder::init_weights() {
  ChainEncoder::init_weights();
  if (start_ == MobileNetwork::Start::kTorch) start_as_torch(*this);
  if (start_ == MobileNetwork::Start::kGroupFanOut) start_by_group_fan_out(*this);
  for_each_module(*this, [](torch::nn::Module& m) {
    if (auto* attention = dynamic_cast<MobileAttention*>(&m)) attention->init_weights();
  });
}

EncoderEntry mobile_entry(const std::string& name, const std::string& summary,
                          const std::string& source, const MobileNetwork& network,
                          const std::vector<EncoderWeights>& published) {
  return {.name = name,
          .summary = summary,
          .source = source,
          .build = [name, network, published](const EncoderOptions& options) {
            return std::make_shared<MobileEncoder>(name, network, published, options);
          }};
}

}  // namespace seg
