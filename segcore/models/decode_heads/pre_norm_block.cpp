#include "segcore/models/decode_heads/pre_norm_block.hpp"

#include <algorithm>

#include "segcore/models/nn/conv_module.hpp"
#include "segcore/torch.hpp"

namespace seg {

std::shared_ptr<Sequential> pre_norm_block(const DecodeHeadParams& p, int64_t in, int64_t out,
                                           const std::array<std::string, 3>& names) {
  if (!p.norm_cfg) throw OptionError("norm_cfg", "must not be null: the head begins with a norm");
  if (!p.act_cfg) throw OptionError("act_cfg", "must not be null: it follows the norms");
  auto block = std::make_shared<Sequential>();
  block->push_back(names[0],
                   std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                                  .out_channels = out,
                                                                  .kernel_size = 3,
                                                                  .padding = 1,
                                                                  .norm_cfg = p.norm_cfg,
                                                                  .act_cfg = p.act_cfg,
                                                                  .order = {'n', 'a', 'c'}}));
  block->push_back(names[1], p.norm_cfg->build(out));
  block->push_back(names[2], p.act_cfg->build(false));
  return block;
}

void check_head_of_branches(const DecodeHeadParams& p, const std::vector<std::string>& losses,
                            Problems& problems) {
  if (!p.loss_decode.is_list || p.loss_decode.values.size() != losses.size()) {
    problems.error("loss_decode",
                   text("must be a list of ", losses.size(), " losses, ", join(losses, ", ")));
  }
  const auto* index = std::get_if<int64_t>(&p.in_index);
  if (!index || *index != -1) {
    problems.error("in_index", "must be left out: the head takes all maps of the backbone");
  }
  if (p.sampler) problems.warn("sampler", "has no effect, as in MMSegmentation");
}

void check_branches(const std::string& head, const std::vector<FeatureInfo>& inputs, int64_t in,
                    size_t auxiliary) {
  const bool fits = inputs.size() == auxiliary + 1 && in % 2 == 0 &&
                    std::all_of(inputs.begin(), inputs.end() - 1,
                                [in](const FeatureInfo& map) { return 2 * map.channels == in; });
  if (fits) return;
  std::vector<int64_t> widths;
  for (const auto& map : inputs) widths.push_back(map.channels);
  throw OptionError("type", text(head, " takes ", auxiliary + 1,
                                 " maps, the last twice as wide as "
                                 "the others; the backbone gives [",
                                 join(widths, ", "), "] channels"));
}

}  // namespace seg
