#include <array>
#include <cmath>

#include "segcore/models/blocks/csp_layers.hpp"
#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/start_values.hpp"
#include "segcore/models/nn/deform_conv.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// A size of YOLOv5 or YOLOv8: factors of the numbers of blocks and of the widths.
struct YoloSize {
  const char* name;
  const char* size;
  double depth, width;
  int64_t max_width;  ///< before the factor
};
constexpr YoloSize kYoloV5[] = {{"n", "nano", 0.33, 0.25, 1024},
                                {"s", "small", 0.33, 0.5, 1024},
                                {"m", "medium", 0.67, 0.75, 1024},
                                {"l", "large", 1, 1, 1024},
                                {"x", "extra large", 1.33, 1.25, 1024}};
constexpr YoloSize kYoloV8[] = {{"n", "nano", 0.33, 0.25, 1024},
                                {"s", "small", 0.33, 0.5, 1024},
                                {"m", "medium", 0.67, 0.75, 768},
                                {"l", "large", 1, 1, 512},
                                {"x", "extra large", 1, 1.25, 512}};
constexpr std::array<int64_t, 4> kYoloV5Blocks{3, 6, 9, 3}, kYoloV8Blocks{3, 6, 6, 3};

struct ElanStage {
  int64_t out, middle, branch;
};
/// A size of YOLOv9, whose sizes differ in more than factors.
struct YoloV9Size {
  const char* name;
  const char* size;
  std::array<int64_t, 2> stem;
  std::array<int64_t, 3> down;  ///< widths of the layers that halve the size
  std::array<ElanStage, 4> stages;
  int64_t blocks;
  bool first_is_plain;  ///< whether the first stage has no blocks
  bool two_way_down;
};
constexpr YoloV9Size kYoloV9[] = {
    {"t",
     "tiny",
     {16, 32},
     {64, 96, 128},
     {{{32, 32, 16}, {64, 64, 32}, {96, 96, 48}, {128, 128, 64}}},
     3,
     true,
     false},
    {"s",
     "small",
     {32, 64},
     {128, 192, 256},
     {{{64, 64, 32}, {128, 128, 64}, {192, 192, 96}, {256, 256, 128}}},
     3,
     true,
     false},
    {"m",
     "medium",
     {32, 64},
     {240, 360, 480},
     {{{128, 128, 64}, {240, 240, 120}, {360, 360, 180}, {480, 480, 240}}},
     1,
     false,
     false},
    {"c",
     "compact",
     {64, 128},
     {256, 512, 512},
     {{{256, 128, 64}, {512, 256, 128}, {512, 512, 256}, {512, 512, 256}}},
     1,
     false,
     true},
};

/// Beginnings of the names of the layers behind the backbone.
std::vector<std::string> detector_layers(int64_t first) {
  std::vector<std::string> out;
  constexpr int64_t kMoreThanAny = 50;
  for (int64_t i = first; i < kMoreThanAny; ++i) out.push_back(text("model.", i, "."));
  return out;
}

EncoderFacts yolo_facts(const std::string& name, std::vector<int64_t> channels,
                        int64_t layers = 10) {
  return {.name = name,
          .channels = std::move(channels),
          .classifier = detector_layers(layers),
          .dilates = false};
}

/// Ten layers `model.0` to `model.9`: two convolutions with stride 2, and four stages with layers
/// between them that halve the size; then pooling.
class YoloBackbone : public ChainEncoder {
 public:
  /// PyTorch's own values, as ultralytics.
  void init_weights() override {
    ChainEncoder::init_weights();
    start_as_torch(*this);
    for_each_module(*this, [](torch::nn::Module& m) {
      if (auto* conv = dynamic_cast<ModulatedDeformConv2d*>(&m)) conv->init_weights();
    });
  }

 protected:
  using ChainEncoder::ChainEncoder;
  void push(const std::shared_ptr<Layer>& layer) { add(text("model.", count_++), layer); }
  void push_stem(int64_t out, int64_t kernel) {
    const auto conv = std::make_shared<Conv2d>(ConvOptions{.in_channels = in_channels(),
                                                           .out_channels = out,
                                                           .kernel_size = kernel,
                                                           .stride = 2,
                                                           .padding = (kernel - 1) / 2,
                                                           .bias = false});
    push(yolo_conv(conv));
    set_first_conv("model.0.conv.weight", conv);
    end_level();
  }

 private:
  int64_t count_ = 0;
};

/// The multiple of 8 that is not less.
int64_t yolo_width(const YoloSize& size, int64_t width) {
  const double scaled = static_cast<double>(std::min(width, size.max_width)) * size.width;
  return 8 * static_cast<int64_t>(std::ceil(scaled / 8));
}

std::vector<int64_t> yolo_widths(const YoloSize& size) {
  std::vector<int64_t> out;
  for (const int64_t width : {64, 128, 256, 512, 1024}) out.push_back(yolo_width(size, width));
  return out;
}

/// YOLOv5 with C3 layers, YOLOv8 with C2f layers.
class YoloV5Or8 final : public YoloBackbone {
 public:
  /// \param conv_cfg  of the 3x3 convolutions in YOLOv5's blocks.
  YoloV5Or8(const std::string& name, const YoloSize& size, bool v8, const ConvCfg& conv_cfg,
            const EncoderOptions& options)
      : YoloBackbone(yolo_facts(name, yolo_widths(size)), options) {
    const auto widths = yolo_widths(size);
    push_stem(widths[0], v8 ? 3 : 6);
    for (size_t i = 0; i < 4; ++i) {
      const int64_t in = widths[i], out = widths[i + 1];
      push(yolo_conv({.in = in, .out = out, .kernel = 3, .stride = 2}));
      const double rows = static_cast<double>((v8 ? kYoloV8Blocks : kYoloV5Blocks)[i]) * size.depth;
      const auto blocks = std::max<int64_t>(1, std::llrint(rows));  // half to even, as Python
      push(v8 ? csp_of_2(out, out, blocks) : csp_of_3(out, out, blocks, conv_cfg));
      if (i < 3) end_level();
    }
    push(pooled_pyramid(widths[4], widths[4] / 2, widths[4], "cv2"));
    end_level();
  }
};

class YoloV9 final : public YoloBackbone {
 public:
  YoloV9(const std::string& name, const YoloV9Size& size, const EncoderOptions& options)
      : YoloBackbone(yolo_facts(name, {size.stem[0], size.stages[0].out, size.stages[1].out,
                                       size.stages[2].out, size.stages[3].out}),
                     options) {
    push_stem(size.stem[0], 3);
    push(yolo_conv({.in = size.stem[0], .out = size.stem[1], .kernel = 3, .stride = 2}));
    int64_t in = size.stem[1];
    for (size_t i = 0; i < size.stages.size(); ++i) {
      const auto& stage = size.stages[i];
      if (i > 0) {
        const int64_t out = size.down[i - 1];
        push(size.two_way_down ? two_way_down(in, out) : averaging_down(in, out));
        in = out;
      }
      push(elan({.in = in,
                 .out = stage.out,
                 .middle = stage.middle,
                 .branch = stage.branch,
                 .blocks = i == 0 && size.first_is_plain ? 0 : size.blocks}));
      in = stage.out;
      if (i < 3) end_level();
    }
    push(pooled_pyramid(in, in / 2, in, "cv5"));
    end_level();
  }
};

std::vector<EncoderEntry> yolo_encoders() {
  std::vector<EncoderEntry> out;
  const auto add = [&](const std::string& name, const std::string& summary,
                       const std::string& source, auto build) {
    out.push_back({.name = name, .summary = summary, .source = source, .build = build});
  };
  const std::string v5_source = "Jocher et al. 2020, ultralytics 8.4's yolov5u";
  for (const auto& size : kYoloV5) {
    for (const bool deforms : {false, true}) {
      const auto name = text("yolov5", size.name, deforms ? "-dcn" : "");
      add(name,
          text("YOLOv5 ", size.size,
               deforms ? ", with deformable convolutions in its blocks." : "."),
          v5_source, [=](const EncoderOptions& options) {
            const auto cfg = deforms ? ConvCfg(Spec<Conv2d>::of("{type: DCNv2}")) : ConvCfg();
            return std::make_shared<YoloV5Or8>(name, size, false, cfg, options);
          });
    }
  }
  for (const auto& size : kYoloV8) {
    const auto name = text("yolov8", size.name);
    add(name, text("YOLOv8 ", size.size, "."), "Jocher et al. 2023, ultralytics 8.4",
        [=](const EncoderOptions& options) {
          return std::make_shared<YoloV5Or8>(name, size, true, ConvCfg(), options);
        });
  }
  for (const auto& size : kYoloV9) {
    const auto name = text("yolov9", size.name);
    add(name, text("YOLOv9 ", size.size, "."), "Wang et al. 2024, arXiv:2402.13616",
        [=](const EncoderOptions& options) {
          return std::make_shared<YoloV9>(name, size, options);
        });
  }
  return out;
}
SEG_REGISTER_ENCODERS(yolo_encoders);

}  // namespace
}  // namespace seg
