#include <array>

#include "segcore/models/blocks/csp_layers.hpp"
#include "segcore/models/blocks/named_chain.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/start_values.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Widths of the stages, the first of which is a convolution.
constexpr std::array<int64_t, 5> kYoloV9EOut{64, 256, 512, 1024, 1024};
constexpr std::array<int64_t, 5> kYoloV9EMiddle{0, 128, 256, 512, 512};
/// Widths of the second path where the first one's maps are added.
constexpr std::array<int64_t, 5> kYoloV9EAdded{64, 128, 256, 512, 1024};
constexpr int64_t kYoloV9ELast = 512;

/// YOLOv9 E: a first path, each of whose maps is added at its own and every finer stage of a second
/// one, which gives the maps.
///
/// Wang et al. 2024, arXiv:2402.13616; layers `model.0` to `model.29` of ultralytics' yolov9e.
class YoloV9E final : public Encoder {
 public:
  explicit YoloV9E(const EncoderOptions& options)
      : Encoder({.name = "yolov9e",
                 .channels = {kYoloV9EOut[0], kYoloV9EOut[1], kYoloV9EOut[2], kYoloV9EOut[3],
                              kYoloV9ELast},
                 .classifier = detector(),
                 .dilates = false},
                options),
        layers_(register_module("model", std::make_shared<ListOf<Layer>>())) {
    push(std::make_shared<Identity>());
    first_ = push_path(/*adds=*/false);
    set_first_conv("model.1.conv.weight", first_conv_);
    std::vector<int64_t> widths;
    for (size_t i = 0; i < kYoloV9EOut.size(); ++i) {
      widths.push_back(kYoloV9EAdded[i]);
      auto chain = std::make_shared<NamedChain>();
      int64_t out = 0;
      for (const int64_t width : widths) out += width;
      chain->add("conv", std::make_shared<Conv2d>(
                             ConvOptions{.in_channels = kYoloV9EOut[i], .out_channels = out}));
      push(chain);
      linear_.push_back(chain);
    }
    second_ = push_path(/*adds=*/true);
    pool_ = pooled_pyramid(kYoloV9EOut.back(), kYoloV9ELast / 2, kYoloV9ELast, "cv5");
    push(pool_);
    for (size_t i = static_cast<size_t>(depth()); i < second_.size(); ++i) {
      for (const auto& layer : second_[i]) leave_untrained(*layer);
    }
    if (depth() < static_cast<int64_t>(second_.size())) leave_untrained(*pool_);
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<std::vector<torch::Tensor>> added;
    auto x = images;
    for (size_t i = 0; i < first_.size(); ++i) {
      for (const auto& layer : first_[i]) x = forward_block(*layer, x);
      const auto begin = kYoloV9EAdded.begin();
      const std::vector<int64_t> widths(begin, begin + static_cast<std::ptrdiff_t>(i) + 1);
      added.push_back(linear_[i]->forward(x).split_with_sizes(widths, 1));
    }
    std::vector<torch::Tensor> out{images};
    x = images;
    for (size_t i = 0; i < static_cast<size_t>(depth()); ++i) {
      x = second_[i][0]->forward(x);
      const auto size = x.sizes().slice(2);
      for (size_t from = i; from < added.size(); ++from) {
        x = x + at::upsample_nearest2d(added[from][i], size);
      }
      if (second_[i].size() > 1) x = forward_block(*second_[i][1], x);
      if (i + 1 == second_.size()) x = pool_->forward(x);
      out.push_back(x);
    }
    return out;
  }
  void init_weights() override {
    Encoder::init_weights();
    start_as_torch(*this);
  }

 private:
  using Stage = std::vector<std::shared_ptr<Layer>>;  ///< what halves the size, and the rest

  static std::vector<std::string> detector() {
    std::vector<std::string> out;
    for (int64_t i = 30; i < 50; ++i) out.push_back(text("model.", i, "."));
    return out;
  }
  void push(const std::shared_ptr<Layer>& layer) { layers_->push_back(layer); }

  /// \param adds  whether the layers that add maps have numbers, too.
  std::vector<Stage> push_path(bool adds) {
    std::vector<Stage> path;
    for (size_t i = 0; i < kYoloV9EOut.size(); ++i) {
      const int64_t in = i == 0 ? in_channels() : kYoloV9EOut[i - 1];
      const int64_t halved = kYoloV9EAdded[i];
      Stage stage;
      if (i < 2) {
        const auto conv = std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                               .out_channels = halved,
                                                               .kernel_size = 3,
                                                               .stride = 2,
                                                               .padding = 1,
                                                               .bias = false});
        if (i == 0 && !first_conv_) first_conv_ = conv;
        stage.push_back(yolo_conv(conv));
      } else {
        stage.push_back(two_way_down(in, halved));
      }
      push(stage[0]);
      if (adds) push(std::make_shared<Identity>());
      if (i > 0) {
        stage.push_back(elan({.in = halved,
                              .out = kYoloV9EOut[i],
                              .middle = kYoloV9EMiddle[i],
                              .branch = kYoloV9EMiddle[i] / 2,
                              .blocks = 2}));
        push(stage[1]);
      }
      path.push_back(std::move(stage));
    }
    return path;
  }

  std::shared_ptr<ListOf<Layer>> layers_;
  std::shared_ptr<Conv2d> first_conv_;
  std::vector<Stage> first_, second_;
  std::vector<std::shared_ptr<Layer>> linear_;
  std::shared_ptr<Layer> pool_;
};

std::vector<EncoderEntry> yolov9e_encoders() {
  return {
      {.name = "yolov9e",
       .summary = "YOLOv9 extended.",
       .source = "Wang et al. 2024, arXiv:2402.13616",
       .build = [](const EncoderOptions& options) { return std::make_shared<YoloV9E>(options); }}};
}
SEG_REGISTER_ENCODERS(yolov9e_encoders);

}  // namespace
}  // namespace seg
