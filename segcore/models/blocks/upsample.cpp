#include "segcore/models/blocks/upsample.hpp"

#include <torch/nn/modules/conv.h>

#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<InterpolateParams> InterpolateParams::schema() {
  using P = InterpolateParams;
  return Schema<P>("How a map is resized.")
      .optional("size", &P::size, "height and width of the result; null: by scale_factor")
      .optional("scale_factor", &P::scale_factor, "factor of height and width", above(0))
      .optional("mode", &P::mode, "how values are interpolated",
                one_of({"nearest", "bilinear", "bicubic", "area"}))
      .optional("align_corners", &P::align_corners,
                "whether the centres of the corner pixels meet; null: no")
      .validate([](const P& p, Problems& problems) {
        if (p.size.has_value() == p.scale_factor.has_value()) {
          problems.error("scale_factor", "give either size or scale_factor");
        }
      });
}

std::shared_ptr<Layer> make_interpolation(const InterpolateParams& p) {
  return std::make_shared<Lambda>([p](const torch::Tensor& x) {
    Size2 size = p.size.value_or(Size2(0));
    if (!p.size) {
      const auto scaled = [&](int64_t side) {
        return static_cast<int64_t>(static_cast<double>(side) * *p.scale_factor);
      };
      size = {scaled(x.size(2)), scaled(x.size(3))};
    }
    return resize(x, size, p.align_corners.value_or(false), p.mode);
  });
}

/// Layers in a row, recomputed in the backward pass under `with_cp`.
class UpsampleSequence : public UpsampleLayer {
 public:
  torch::Tensor forward(const torch::Tensor& x) final {
    const auto run = [this](const torch::Tensor& in) { return layers_->forward(in); };
    return run_block(with_cp_, run, x);
  }

 protected:
  explicit UpsampleSequence(bool with_cp)
      : layers_(std::make_shared<Sequential>()), with_cp_(with_cp) {}
  std::shared_ptr<Sequential> layers_;

 private:
  bool with_cp_;
};

// --- Interpolation and a convolution ------------------------------------------------------------

struct InterpConvParams {
  ConvCfg conv_cfg;
  bool conv_first = false;
  int64_t kernel_size = 1;
  int64_t stride = 1;
  int64_t padding = 0;
  InterpolateParams upsample_cfg{
      .size = {}, .scale_factor = 2.0, .mode = "bilinear", .align_corners = false};
};

class InterpConv final : public UpsampleSequence {
 public:
  using Params = InterpConvParams;
  static Schema<Params> schema() {
    return Schema<Params>("Interpolation and a convolution, in either order.")
        .optional("conv_cfg", &Params::conv_cfg, "type of the convolution")
        .optional("conv_first", &Params::conv_first, "the convolution comes first")
        .optional("kernel_size", &Params::kernel_size, "of the convolution", at_least(1))
        .optional("stride", &Params::stride, "of the convolution", at_least(1))
        .optional("padding", &Params::padding, "of the convolution", at_least(0))
        .optional("upsample_cfg", &Params::upsample_cfg, "the interpolation");
  }
  InterpConv(const Params& p, const UpsampleOptions& o) : UpsampleSequence(o.with_cp) {
    auto conv = std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = o.in_channels,
                                                               .out_channels = o.out_channels,
                                                               .kernel_size = p.kernel_size,
                                                               .stride = p.stride,
                                                               .padding = p.padding,
                                                               .conv_cfg = p.conv_cfg,
                                                               .norm_cfg = o.norm_cfg,
                                                               .act_cfg = o.act_cfg});
    auto interpolation = make_interpolation(p.upsample_cfg);
    if (p.conv_first) {
      layers_->push_back(conv);
      layers_->push_back(interpolation);
    } else {
      layers_->push_back(interpolation);
      layers_->push_back(conv);
    }
    register_module("interp_upsample", layers_);
  }
};
SEG_REGISTER(UpsampleLayer, InterpConv);

// --- Transposed convolution ---------------------------------------------------------------------

ConvTranspose2d::ConvTranspose2d(int64_t in, int64_t out, int64_t kernel_size, int64_t stride,
                                 int64_t padding, int64_t output_padding, bool bias)
    : stride_(stride), padding_(padding), output_padding_(output_padding) {
  const torch::nn::ConvTranspose2d made(torch::nn::ConvTranspose2dOptions(in, out, kernel_size)
                                            .stride(stride)
                                            .padding(padding)
                                            .bias(bias));
  weight_ = register_parameter("weight", made->weight.detach());
  if (bias) bias_ = register_parameter("bias", made->bias.detach());
}

torch::Tensor ConvTranspose2d::forward(const torch::Tensor& x) {
  return at::conv_transpose2d(x, weight_, bias_, stride_, padding_, output_padding_);
}

struct DeconvModuleParams {
  int64_t kernel_size = 4;
  int64_t scale_factor = 2;
};

class DeconvModule final : public UpsampleSequence {
 public:
  using Params = DeconvModuleParams;
  static Schema<Params> schema() {
    return Schema<Params>("Transposed convolution, norm and activation.")
        .optional("kernel_size", &Params::kernel_size, "of the transposed convolution", at_least(1))
        .optional("scale_factor", &Params::scale_factor, "factor of height and width", at_least(1))
        .validate([](const Params& p, Problems& problems) {
          const int64_t more = p.kernel_size - p.scale_factor;
          if (more < 0 || more % 2 != 0) {
            problems.error("kernel_size", text("must exceed scale_factor by an even number, got ",
                                               p.kernel_size, " and ", p.scale_factor));
          }
        });
  }
  DeconvModule(const Params& p, const UpsampleOptions& o) : UpsampleSequence(o.with_cp) {
    layers_->push_back(std::make_shared<ConvTranspose2d>(o.in_channels, o.out_channels,
                                                         p.kernel_size, p.scale_factor,
                                                         (p.kernel_size - p.scale_factor) / 2));
    if (o.norm_cfg) layers_->push_back(o.norm_cfg->build(o.out_channels));
    if (o.act_cfg) layers_->push_back(o.act_cfg->build(true));
    register_module("deconv_upsamping", layers_);  // as MMSegmentation spells it
  }
};
SEG_REGISTER(UpsampleLayer, DeconvModule);

}  // namespace seg
