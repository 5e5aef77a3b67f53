#include "segcore/models/neck.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/plain_list.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// How a coarser map is brought to the size of a finer one.
struct FPNUpsampleCfg {
  std::string mode = "nearest";
  std::optional<double> scale_factor;
  std::optional<bool> align_corners;
  static Schema<FPNUpsampleCfg> schema() {
    return Schema<FPNUpsampleCfg>("Enlargement of coarser maps.")
        .optional("mode", &FPNUpsampleCfg::mode, "interpolation",
                  one_of({"nearest", "bilinear", "bicubic", "area"}))
        .optional("scale_factor", &FPNUpsampleCfg::scale_factor,
                  "fixed factor; null: to the size of the finer map", above(0))
        .optional("align_corners", &FPNUpsampleCfg::align_corners, "how resizing maps corners");
  }
};

struct FPNParams {
  std::optional<std::vector<int64_t>> in_channels;
  int64_t out_channels = 0;
  int64_t num_outs = 0;
  int64_t start_level = 0;
  int64_t end_level = -1;
  std::variant<bool, std::string> add_extra_convs = false;
  bool extra_convs_on_inputs = false;
  bool relu_before_extra_convs = false;
  bool no_norm_on_lateral = false;
  ConvCfg conv_cfg;
  NormCfg norm_cfg;
  ActCfg act_cfg;
  FPNUpsampleCfg upsample_cfg;
  InitCfg init_cfg = init_cfg_of("{type: Xavier, layer: Conv2d, distribution: uniform}");
};

/// Adds coarse maps to finer ones, all of one width.
///
/// Feature Pyramid Networks, Lin et al. 2017, arXiv:1612.03144.
class FPN final : public Neck {
 public:
  using Params = FPNParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Adds coarse maps to finer ones, all of one width.")
        .source("Feature Pyramid Networks, Lin et al. 2017, arXiv:1612.03144")
        .optional("in_channels", &P::in_channels,
                  "widths of all input maps; null: those of the backbone")
        .required("out_channels", &P::out_channels, "width of all output maps", at_least(1))
        .required("num_outs", &P::num_outs, "number of output maps", at_least(1))
        .optional("start_level", &P::start_level, "first map used", at_least(0))
        .optional("end_level", &P::end_level, "map to stop before; -1: all")
        .optional("add_extra_convs", &P::add_extra_convs,
                  "coarser maps by strided convolutions (on_input, on_lateral, on_output) rather "
                  "than pooling")
        .optional("extra_convs_on_inputs", &P::extra_convs_on_inputs,
                  "with add_extra_convs true: on_input rather than on_output")
        .optional("relu_before_extra_convs", &P::relu_before_extra_convs,
                  "a ReLU before the further of these convolutions")
        .optional("no_norm_on_lateral", &P::no_norm_on_lateral, "no norm on lateral convolutions")
        .optional("conv_cfg", &P::conv_cfg, "convolutions; null: Conv2d")
        .optional("norm_cfg", &P::norm_cfg, "norm after convolutions; null: none")
        .optional("act_cfg", &P::act_cfg, "activation after convolutions; null: none")
        .optional("upsample_cfg", &P::upsample_cfg, "enlargement of coarser maps")
        .optional("init_cfg", &P::init_cfg, "initialisation")
        .validate([](const P& p, Problems& problems) {
          const auto* source = std::get_if<std::string>(&p.add_extra_convs);
          if (source && *source != "on_input" && *source != "on_lateral" &&
              *source != "on_output") {
            problems.error("add_extra_convs",
                           text("unknown value '", *source,
                                "'. Known: true, false, on_input, on_lateral, on_output"));
          }
        });
  }

  FPN(const Params& p, const std::vector<FeatureInfo>& inputs)
      : Neck(p.init_cfg),
        params_(p),
        start_(static_cast<size_t>(p.start_level)),
        num_outs_(static_cast<size_t>(p.num_outs)) {
    check_in_channels(p.in_channels, inputs);
    end_ = p.end_level == -1 ? inputs.size() : static_cast<size_t>(p.end_level);
    if (end_ > inputs.size() || start_ >= end_) {
      throw OptionError("end_level", text("levels ", start_, " to ", end_, " of ", inputs.size(),
                                          " maps cannot be chosen"));
    }
    if (p.end_level == -1 ? num_outs_ < end_ - start_ : num_outs_ != end_ - start_) {
      throw OptionError("num_outs",
                        text("is ", num_outs_, ", but ", end_ - start_, " maps are used"));
    }
    if (const auto* source = std::get_if<std::string>(&p.add_extra_convs)) {
      extra_ = *source;
    } else if (std::get<bool>(p.add_extra_convs)) {
      extra_ = p.extra_convs_on_inputs ? "on_input" : "on_output";
    }
    lateral_ = register_module("lateral_convs", std::make_shared<PlainListOf<ConvModule>>());
    fpn_ = register_module("fpn_convs", std::make_shared<PlainListOf<ConvModule>>());
    const auto conv = [&p](int64_t in, Size2 kernel, Size2 stride, Size2 padding,
                           const NormCfg& norm) {
      return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                            .out_channels = p.out_channels,
                                                            .kernel_size = kernel,
                                                            .stride = stride,
                                                            .padding = padding,
                                                            .conv_cfg = p.conv_cfg,
                                                            .norm_cfg = norm,
                                                            .act_cfg = p.act_cfg,
                                                            .inplace = false});
    };
    int64_t stride = 1;
    for (size_t i = start_; i < end_; ++i) {
      lateral_->push_back(
          conv(inputs[i].channels, 1, 1, 0, p.no_norm_on_lateral ? NormCfg() : p.norm_cfg));
      fpn_->push_back(conv(p.out_channels, 3, 1, 1, p.norm_cfg));
      stride = inputs[i].stride;
      features_.push_back({p.out_channels, stride});
    }
    for (size_t i = end_ - start_; i < num_outs_; ++i) {
      if (!extra_.empty()) {
        const bool on_input = i == end_ - start_ && extra_ == "on_input";
        fpn_->push_back(
            conv(on_input ? inputs[end_ - 1].channels : p.out_channels, 3, 2, 1, p.norm_cfg));
      }
      stride *= 2;
      features_.push_back({p.out_channels, stride});
    }
  }

  std::vector<torch::Tensor> forward(const std::vector<torch::Tensor>& maps) override {
    std::vector<torch::Tensor> laterals;
    for (size_t i = start_; i < end_; ++i) {
      laterals.push_back((*lateral_)[i - start_].forward(maps.at(i)));
    }
    const auto& up = params_.upsample_cfg;
    for (size_t i = laterals.size() - 1; i > 0; --i) {
      const bool align = up.align_corners.value_or(false);
      const auto& coarse = laterals[i];
      laterals[i - 1] =
          laterals[i - 1] + (up.scale_factor
                                 ? resize_by(coarse, *up.scale_factor, align, up.mode)
                                 : resize(coarse, map_size(laterals[i - 1]), align, up.mode));
    }
    std::vector<torch::Tensor> out;
    for (size_t i = 0; i < laterals.size(); ++i) out.push_back((*fpn_)[i].forward(laterals[i]));
    const size_t used = out.size();
    for (size_t i = used; i < num_outs_; ++i) {
      if (extra_.empty()) {
        out.push_back(at::max_pool2d(out.back(), 1, 2));
        continue;
      }
      auto source = out.back();
      if (i == used && extra_ == "on_input") source = maps.at(end_ - 1);
      if (i == used && extra_ == "on_lateral") source = laterals.back();
      if (i > used && params_.relu_before_extra_convs) source = source.relu();
      out.push_back((*fpn_)[i].forward(source));
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

 private:
  Params params_;
  size_t start_, end_ = 0, num_outs_;
  std::string extra_;  ///< "" for pooling
  std::shared_ptr<PlainListOf<ConvModule>> lateral_, fpn_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Neck, FPN);

}  // namespace seg
