/// Options and convolutions of necks that bring all maps to one width.
#pragma once
#include <optional>
#include <vector>

#include "segcore/models/neck.hpp"
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

/// Options of a neck that brings all maps to one width. A neck's own struct derives from it and
/// includes schema().
struct NeckConvParams {
  std::optional<std::vector<int64_t>> in_channels;
  int64_t out_channels = 0;
  NormCfg norm_cfg;
  ActCfg act_cfg;

  static Schema<NeckConvParams> schema() {
    using P = NeckConvParams;
    return Schema<P>("Options of a neck that brings all maps to one width.")
        .optional("in_channels", &P::in_channels,
                  "widths of all input maps; null: those of the backbone")
        .required("out_channels", &P::out_channels, "width of all output maps", at_least(1))
        .optional("norm_cfg", &P::norm_cfg, "norm after convolutions; null: none")
        .optional("act_cfg", &P::act_cfg, "activation after convolutions; null: none");
  }
};

/// A 1x1 convolution of a map to the neck's width.
inline std::shared_ptr<ConvModule> lateral_conv(const NeckConvParams& p, int64_t in_channels) {
  return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in_channels,
                                                        .out_channels = p.out_channels,
                                                        .norm_cfg = p.norm_cfg,
                                                        .act_cfg = p.act_cfg});
}

/// A 3x3 convolution of a map that has the neck's width.
inline std::shared_ptr<ConvModule> output_conv(const NeckConvParams& p) {
  return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = p.out_channels,
                                                        .out_channels = p.out_channels,
                                                        .kernel_size = 3,
                                                        .padding = 1,
                                                        .norm_cfg = p.norm_cfg,
                                                        .act_cfg = p.act_cfg});
}

}  // namespace seg
