#include "segcore/models/decode_heads/kernel_updator.hpp"

#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct KernelUpdatorParams {
  int64_t in_channels = 256;
  int64_t feat_channels = 64;
  std::optional<int64_t> out_channels;
  bool gate_sigmoid = true;
  bool gate_norm_act = false;
  bool activate_out = false;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  Spec<Activation> act_cfg = Spec<Activation>::of("{type: ReLU, inplace: true}");
};

class KernelUpdator final : public KernelUpdatorBase {
 public:
  using Params = KernelUpdatorParams;
  static Schema<Params> schema() {
    return Schema<Params>("Gates between kernels and the features they gathered.")
        .source("K-Net, Zhang et al. 2021, arXiv:2106.14855, section 3.2")
        .optional("in_channels", &Params::in_channels, "width of kernels and features", at_least(1))
        .optional("feat_channels", &Params::feat_channels, "width inside", at_least(1))
        .optional("out_channels", &Params::out_channels, "width given; null: in_channels",
                  at_least(1))
        .optional("gate_sigmoid", &Params::gate_sigmoid, "gates are sigmoids")
        .optional("gate_norm_act", &Params::gate_norm_act, "norm and activation before the gates")
        .optional("activate_out", &Params::activate_out, "activate the gated values")
        .optional("norm_cfg", &Params::norm_cfg, "type of the norms")
        .optional("act_cfg", &Params::act_cfg, "type of the activations");
  }
  explicit KernelUpdator(const Params& p) : p_(p) {
    const int64_t in = p.in_channels, feat = p.feat_channels, out = p.out_channels.value_or(in);
    const auto linear = [this](const char* name, int64_t from, int64_t to) {
      return register_module(name, std::make_shared<Linear>(from, to));
    };
    const auto norm = [&](const char* name, int64_t width) {
      return register_module(name, p.norm_cfg.build(width));
    };
    dynamic_layer_ = linear("dynamic_layer", in, 2 * feat);
    input_layer_ = linear("input_layer", in, 2 * feat);
    input_gate_ = linear("input_gate", in, feat);
    update_gate_ = linear("update_gate", in, feat);
    if (p.gate_norm_act) gate_norm_ = norm("gate_norm", feat);
    norm_in_ = norm("norm_in", feat);
    norm_out_ = norm("norm_out", feat);
    input_norm_in_ = norm("input_norm_in", feat);
    input_norm_out_ = norm("input_norm_out", feat);
    activation_ = register_module("activation", p.act_cfg.build(false));
    fc_layer_ = linear("fc_layer", feat, out);
    fc_norm_ = norm("fc_norm", out);
    if (in != feat) {
      throw OptionError("feat_channels", text("must equal in_channels (", in, "), got ", feat));
    }
  }
  torch::Tensor forward(const torch::Tensor& update, const torch::Tensor& kernels) override {
    const int64_t feat = p_.feat_channels;
    const auto flat = update.reshape({-1, p_.in_channels});  // [N*K, C]
    const auto parameters = dynamic_layer_->forward(flat);
    const auto inputs = input_layer_->forward(kernels.reshape({flat.size(0), -1, feat}));
    auto gate = inputs.narrow(-1, 0, feat) * parameters.narrow(1, 0, feat).unsqueeze(1);
    if (gate_norm_) gate = activation_->forward(gate_norm_->forward(gate));
    auto input_gate = input_norm_in_->forward(input_gate_->forward(gate));
    auto update_gate = norm_in_->forward(update_gate_->forward(gate));
    if (p_.gate_sigmoid) {
      input_gate = input_gate.sigmoid();
      update_gate = update_gate.sigmoid();
    }
    auto from_update = norm_out_->forward(parameters.narrow(1, feat, feat));
    auto from_kernel = input_norm_out_->forward(inputs.narrow(-1, feat, feat));
    if (p_.activate_out) {
      from_update = activation_->forward(from_update);
      from_kernel = activation_->forward(from_kernel);
    }
    const auto out = update_gate * from_update.unsqueeze(1) + input_gate * from_kernel;
    return activation_->forward(fc_norm_->forward(fc_layer_->forward(out)));
  }

 private:
  Params p_;
  std::shared_ptr<Linear> dynamic_layer_, input_layer_, input_gate_, update_gate_, fc_layer_;
  std::shared_ptr<Norm> gate_norm_, norm_in_, norm_out_, input_norm_in_, input_norm_out_, fc_norm_;
  std::shared_ptr<Activation> activation_;
};

SEG_REGISTER(KernelUpdatorBase, KernelUpdator);

}  // namespace seg
