/// The layers of YOLO backbones: part of the channels passes, the rest goes through convolutions,
/// and all are joined. Names and order of the tensors are those of ultralytics 8.4.
#pragma once
#include <memory>
#include <string>

#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

struct YoloConvOptions {
  int64_t in = 0, out = 0, kernel = 1, stride = 1;
  bool acts = true;  ///< SiLU
  ConvCfg conv_cfg;
  NormCfg norm_cfg;  ///< null: batch norm with YOLO's options
};

/// Convolution, batch norm and SiLU: children `conv`, `bn`. Pads by half the kernel, without its
/// middle.
std::shared_ptr<Layer> yolo_conv(const YoloConvOptions& options);
std::shared_ptr<Layer> yolo_conv(std::shared_ptr<Conv2d> conv, bool acts = true,
                                 const NormCfg& norm_cfg = {});

/// C3 of YOLOv5: one 1x1 convolution before the blocks, one beside them, one after. Wang et al.
/// 2019, arXiv:1911.11929.
/// \param conv_cfg  of the 3x3 convolutions in the blocks.
/// \param norm_cfg  of all convolutions; null: YOLO's own.
std::shared_ptr<Layer> csp_of_3(int64_t in, int64_t out, int64_t blocks, const ConvCfg& conv_cfg,
                                const NormCfg& norm_cfg = {});
/// C2f of YOLOv8: the outputs of all blocks are joined.
std::shared_ptr<Layer> csp_of_2(int64_t in, int64_t out, int64_t blocks,
                                const NormCfg& norm_cfg = {});

struct ElanOptions {
  int64_t in = 0, out = 0, middle = 0, branch = 0;
  int64_t blocks = 1;  ///< of each of the two branches; 0: they are plain 3x3 convolutions
};
/// The layer of YOLOv9 (RepNCSPELAN4, ELAN1). Wang et al. 2024, arXiv:2402.13616.
std::shared_ptr<Layer> elan(const ElanOptions& options);

/// Max pooling once, twice and three times, joined: the child of the last convolution is `last`,
/// "cv2" in SPPF and "cv5" in SPPELAN.
std::shared_ptr<Layer> pooled_pyramid(int64_t in, int64_t middle, int64_t out,
                                      const std::string& last);

/// Halves the size: mean of 2x2 pixels at each pixel, then a convolution (AConv).
std::shared_ptr<Layer> averaging_down(int64_t in, int64_t out);
/// The same for half of the channels, and max pooling for the others (ADown).
std::shared_ptr<Layer> two_way_down(int64_t in, int64_t out);

}  // namespace seg
