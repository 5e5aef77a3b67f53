// Training in mixed precision: autocast in the forward pass, and for float16 a scaled loss.
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <charconv>
#include <map>

#include "registry/log.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "segcore/models/nn/slow_bfloat16.hpp"

namespace seg {

/// How the scale of the loss moves, as torch.amp.GradScaler has it.
struct GradScalerCfg {
  double init_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  int64_t growth_interval = 2000;
  bool enabled = true;
  static Schema<GradScalerCfg> schema() {
    using P = GradScalerCfg;
    return Schema<P>("A moving scale of the loss.")
        .optional("init_scale", &P::init_scale, "initial scale", above(0))
        .optional("growth_factor", &P::growth_factor,
                  "factor of the scale after growth_interval finite steps", above(1))
        .optional("backoff_factor", &P::backoff_factor,
                  "factor of the scale after a step whose gradients overflowed", in_range(0, 1))
        .optional("growth_interval", &P::growth_interval, "finite steps in a row before growth",
                  at_least(1))
        .optional("enabled", &P::enabled, "scale the loss");
  }
};

struct AmpOptimWrapperParams : OptimWrapperParams {
  std::variant<double, GradScalerCfg, std::string> loss_scale = std::string("dynamic");
  std::optional<std::string> dtype;
};

class AmpOptimWrapper : public OptimWrapper {
 public:
  using Params = AmpOptimWrapperParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Updates from a forward pass in mixed precision.")
        .source("Mixed precision training, Micikevicius et al. 2018, arXiv:1710.03740")
        .include(OptimWrapper::schema())
        .optional("loss_scale", &P::loss_scale,
                  "'dynamic', a fixed scale of the loss, or how the scale moves")
        .optional("dtype", &P::dtype,
                  "type of the forward pass: float16 on GPUs and bfloat16 on CPUs by default; "
                  "float32 switches mixed precision off",
                  one_of({"float16", "bfloat16", "float32", "float64"}))
        .accepted("use_fsdp", "of sharded training in Python")
        .validate([](const P& p, Problems& problems) {
          const auto* word = std::get_if<std::string>(&p.loss_scale);
          if (word && *word != "dynamic") {
            problems.error("loss_scale",
                           "expected 'dynamic', a number or a mapping, got '" + *word + "'");
          }
        });
  }

  AmpOptimWrapper(const Params& params, torch::nn::Module& model) : OptimWrapper(params, model) {
    const bool cpu = device().is_cpu();
    const std::string name = params.dtype.value_or(cpu ? "bfloat16" : "float16");
    if (name == "float16" && cpu) {
      // Few kernels for float16 exist on CPUs, and those that do are slow.
      log::warn("AmpOptimWrapper: float16 is for GPUs; bfloat16 is used on this CPU");
      type_ = at::kBFloat16;
    } else if (name == "float16") {
      type_ = at::kHalf;
    } else if (name == "bfloat16") {
      type_ = at::kBFloat16;
    }
    if (cpu && type_) warn_of_slow_bfloat16("Train without --amp (AmpOptimWrapper)");
    if (const auto* fixed = std::get_if<double>(&params.loss_scale)) {
      fixed_scale_ = *fixed;
      scaler_.init_scale = *fixed;
    } else if (const auto* cfg = std::get_if<GradScalerCfg>(&params.loss_scale)) {
      scaler_ = *cfg;
    }
    // bfloat16 reaches as far as float32, so nothing underflows without a scale. On GPUs mmengine
    // scales all the same, which also skips steps that are not finite; on CPUs only a scale
    // that the config spells out is worth its time.
    scaling_ = scaler_.enabled && (!cpu || !std::holds_alternative<std::string>(params.loss_scale));
    scale_ = at::full({}, scaler_.init_scale, at::TensorOptions(device()).dtype(at::kFloat));
    growth_tracker_ = at::zeros({}, at::TensorOptions(device()).dtype(at::kInt));
  }

  std::unique_ptr<Autocast> precision() const override {
    return std::make_unique<Autocast>(device().type(), type_);
  }

  at::Tensor scale_loss(const at::Tensor& loss) const override {
    const at::Tensor scaled = OptimWrapper::scale_loss(loss);
    return scaling_ ? scaled * scale_ : scaled;
  }

  Value state_dict() const override {
    Value out = OptimWrapper::state_dict();
    Value scaler = Value::dict();
    scaler.set("scale", scale_.item<double>());
    scaler.set("growth_factor", scaler_.growth_factor);
    scaler.set("backoff_factor", scaler_.backoff_factor);
    scaler.set("growth_interval", scaler_.growth_interval);
    scaler.set("_growth_tracker", static_cast<int64_t>(growth_tracker_.item<int>()));
    out.set("loss_scaler", scaler);
    return out;
  }

  void load_state_dict(const Value& state) override {
    OptimWrapper::load_state_dict(state);
    const Value* scaler = state.find("loss_scaler");
    if (!scaler || !scaler->find("scale")) return;
    const at::NoGradGuard no_grad;
    scale_.fill_(scaler->at("scale").as_float());
    growth_tracker_.fill_(scaler->at("_growth_tracker").as_int());
    scaler_.growth_factor = scaler->at("growth_factor").as_float();
    scaler_.backoff_factor = scaler->at("backoff_factor").as_float();
    scaler_.growth_interval = scaler->at("growth_interval").as_int();
  }

 protected:
  double loss_scale() const override { return scaling_ ? scale_.item<double>() : 1; }
  void update() override {
    if (!scaling_) {
      OptimWrapper::update();
      return;
    }
    const at::NoGradGuard no_grad;
    at::Tensor found_inf = at::zeros({}, scale_.options());
    const at::Tensor inverse = scale_.to(at::kDouble).reciprocal().to(at::kFloat);
    std::map<at::ScalarType, std::vector<at::Tensor>> grads;
    for (auto& group : optimizer().groups()) {
      for (auto& param : group.params) {
        if (!param.grad().defined()) continue;
        grads[param.grad().scalar_type()].push_back(param.grad().detach());
      }
    }
    for (auto& [type, list] : grads) {
      at::_amp_foreach_non_finite_check_and_unscale_(list, found_inf, inverse);
    }
    if (params_.clip_grad) clip_gradients();
    optimizer().step(found_inf);
    if (fixed_scale_) {
      scale_.fill_(*fixed_scale_);
    } else {
      at::_amp_update_scale_(scale_, growth_tracker_, found_inf, scaler_.growth_factor,
                             scaler_.backoff_factor, scaler_.growth_interval);
    }
  }

 private:
  std::optional<at::ScalarType> type_;
  GradScalerCfg scaler_;
  std::optional<double> fixed_scale_;
  bool scaling_ = false;
  at::Tensor scale_, growth_tracker_;
};
SEG_REGISTER(OptimWrapper, AmpOptimWrapper);

struct ApexOptimWrapperParams : OptimWrapperParams {
  std::string opt_level = "O1";
  std::optional<std::variant<double, std::string>> loss_scale = "dynamic";
  bool enabled = true;
};

/// NVIDIA's Apex, whose level O1 is what PyTorch's autocast grew out of.
class ApexOptimWrapper final : public AmpOptimWrapper {
 public:
  using Params = ApexOptimWrapperParams;
  static Schema<Params> schema() {
    using P = Params;
    constexpr const char* kOfApex = "of Apex, which is not used";
    Schema<P> out("The mixed precision of AmpOptimWrapper for configs of Apex.");
    out.source("MMEngine 0.10, ApexOptimWrapper")
        .include(OptimWrapper::schema())
        .optional("opt_level", &P::opt_level,
                  "O1: mixed precision; O0: full precision; O2 and O3 compute as O1",
                  one_of({"O0", "O1", "O2", "O3"}))
        .optional("loss_scale", &P::loss_scale, "'dynamic' or a fixed scale of the loss")
        .optional("enabled", &P::enabled, "false: full precision");
    for (const char* option :
         {"cast_model_type", "patch_torch_functions", "keep_batchnorm_fp32", "master_weights",
          "cast_model_outputs", "num_losses", "verbosity", "min_loss_scale", "max_loss_scale"}) {
      out.accepted(option, kOfApex);
    }
    return out.validate([](const P& p, Problems& problems) {
      const auto* word = p.loss_scale ? std::get_if<std::string>(&*p.loss_scale) : nullptr;
      if (word && *word != "dynamic" && !fixed_scale(p)) {
        problems.error("loss_scale", "expected 'dynamic' or a number, got '" + *word + "'");
      }
      problems.warn("type",
                    "Apex is a Python package: PyTorch's mixed precision stands for it, as in "
                    "AmpOptimWrapper");
      if (p.enabled && (p.opt_level == "O2" || p.opt_level == "O3")) {
        problems.warn("opt_level", p.opt_level + " computes as O1: weights stay in float32");
      }
    });
  }
  ApexOptimWrapper(const Params& params, torch::nn::Module& model)
      : AmpOptimWrapper(without_apex(params), model) {}

 private:
  /// A number, which Apex also reads from a word.
  static std::optional<double> fixed_scale(const Params& params) {
    if (!params.loss_scale) return std::nullopt;
    if (const auto* number = std::get_if<double>(&*params.loss_scale)) return *number;
    const auto& word = std::get<std::string>(*params.loss_scale);
    double out = 0;
    const auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), out);
    if (failure != std::errc() || end != word.data() + word.size()) return std::nullopt;
    return out;
  }
  static AmpOptimWrapperParams without_apex(const Params& params) {
    AmpOptimWrapperParams out;
    static_cast<OptimWrapperParams&>(out) = params;
    if (!params.enabled || params.opt_level == "O0") {
      out.dtype = "float32";
      out.loss_scale = GradScalerCfg{.enabled = false};
    } else if (const auto scale = fixed_scale(params)) {
      out.loss_scale = *scale;
    }
    return out;
  }
};
SEG_REGISTER(OptimWrapper, ApexOptimWrapper);

}  // namespace seg
