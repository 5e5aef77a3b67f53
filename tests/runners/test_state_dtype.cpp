/// Optimizers whose running means are kept in 16 or 8 bits.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "runners/optim/dynamic_map.hpp"
#include "runners/optim/kept_mean.hpp"
#include "runners/optim/optimizer.hpp"
#include "runners/start/options.hpp"
#include "runners/start/run_config.hpp"
#include "runners/train/training_run.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

const std::vector<std::string> kCompact{"bfloat16", "int8"};
/// Of each kind of update; "%" is where the type goes.
const std::vector<std::string> kUpdates{
    "{type: AdamW, lr: 0.01, weight_decay: 0.1, state_dtype: %}",
    "{type: Adam, lr: 0.01, weight_decay: 0.1, amsgrad: true, maximize: true, state_dtype: %}",
    "{type: SGD, lr: 0.1, momentum: 0.9, weight_decay: 0.1, nesterov: true, state_dtype: %}",
    "{type: SGD, lr: 0.1, momentum: 0.9, dampening: 0.3, maximize: true, state_dtype: %}"};

std::string with_type(std::string config, const std::string& dtype) {
  return config.replace(config.find('%'), 1, dtype);
}

at::Tensor hashed(const std::string& name, at::IntArrayRef shape) {
  return (reference::uniform(name, c10::multiply_integers(shape)) * 2 - 1)
      .reshape(shape)
      .to(at::kFloat);
}

/// Weights of a number of values that no block divides, a kernel of a convolution whose channels
/// are last in memory, and a bias.
class CompactToy {
 public:
  explicit CompactToy(const std::string& config, bool channels_last = true)
      : optimizer_(Spec<Optimizer>::of(config).build()) {
    ParamGroup group;
    group.params = {hashed("w", {61, 83}), hashed("c", {24, 24, 3, 3}), hashed("b", {61})};
    if (channels_last) {
      group.params[1] = group.params[1].contiguous(at::MemoryFormat::ChannelsLast);
    }
    for (at::Tensor& p : group.params) p.set_requires_grad(true);
    group.names = {"w", "c", "b"};
    optimizer_->add_group(std::move(group));
  }
  void train(int from, int to, const at::Tensor& found_inf = {}) {
    for (int k = from; k < to; ++k) {
      for (size_t i = 0; i < params().size(); ++i) {
        at::Tensor p = params()[i];
        // Of sizes that differ by a thousand within a block, as those of a network do.
        const at::Tensor grad = hashed(text("g", i, '.', k), p.sizes());
        p.mutable_grad() = at::empty_like(p.detach()).copy_(grad * grad * grad);
      }
      optimizer_->step(found_inf);
    }
  }
  /// Continues where another one is.
  void resume(const CompactToy& other) {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < params().size(); ++i) {
      at::Tensor p = params()[i];
      p.copy_(other.params()[i]);
    }
    optimizer_->load_state_dict(other.optimizer_->state_dict());
  }
  const std::vector<at::Tensor>& params() const { return optimizer_->groups()[0].params; }
  Value state() const { return optimizer_->state_dict(); }
  Optimizer& optimizer() { return *optimizer_; }
  int64_t bytes() const {
    int64_t sum = 0;
    const Value state = this->state();
    for (const auto& [index, entry] : state.at("state").as_dict()) {
      for (const auto& [name, value] : entry.as_dict()) {
        sum += static_cast<int64_t>(value.as_tensor().nbytes());
      }
    }
    return sum;
  }

 private:
  std::unique_ptr<Optimizer> optimizer_;
};

bool same_weights(const CompactToy& a, const CompactToy& b) {
  for (size_t i = 0; i < a.params().size(); ++i) {
    if (!torch::equal(a.params()[i], b.params()[i])) return false;
  }
  return true;
}

TEST(StateDtype, TheMapIsThatOfThePaper) {
  // create_dynamic_map(signed) of bitsandbytes.
  const DynamicMap& with = DynamicMap::of(true);
  const DynamicMap& without = DynamicMap::of(false);
  ASSERT_EQ(with.values.size(), 256u);
  ASSERT_EQ(without.values.size(), 256u);
  EXPECT_TRUE(std::is_sorted(with.values.begin(), with.values.end()));
  EXPECT_EQ(with.values[static_cast<size_t>(with.zero)], 0);
  EXPECT_FLOAT_EQ(with.values[0], -0.99296875f);
  EXPECT_FLOAT_EQ(with.values[128], 5.5e-7f);
  EXPECT_FLOAT_EQ(with.values[255], 1);
  EXPECT_EQ(without.zero, 0);
  EXPECT_FLOAT_EQ(without.values[1], 3.25e-7f);
  EXPECT_FLOAT_EQ(without.values[254], 0.996484375f);
}

TEST(StateDtype, EachValueOfTheMapIsItsOwnCode) {
  for (const bool squares : {false, true}) {
    const DynamicMap& map = DynamicMap::of(!squares);
    const at::Tensor values = torch::tensor(map.values).repeat(16) * 0.37;
    const KeptMean mean{values, {}, squares};
    const KeptMean kept = mean.converted(values, StateDtype::kInt8);
    EXPECT_TRUE(torch::equal(kept.values, torch::arange(256, torch::kByte).repeat(16)));
    EXPECT_TRUE(kept.fits());
    EXPECT_TRUE(torch::allclose(kept.decoded(), values, 1e-6, 0));
  }
}

/// Tensors of an update, twice.
struct UpdateCase {
  UpdateCase(StateDtype dtype, const at::Tensor& like)
      : param(like.clone()),
        mean(KeptMean::zeros(like, dtype, false)),
        square(KeptMean::zeros(like, dtype, true)),
        largest(KeptMean::zeros(like, dtype, true)) {}
  at::Tensor param;
  KeptMean mean, square, largest;
};

/// Values that another order of sums has rounded to the neighbour are few.
void expect_same_mean(const KeptMean& a, const KeptMean& b) {
  const at::Tensor x = a.decoded().to(at::kFloat), y = b.decoded().to(at::kFloat);
  EXPECT_LE(at::isclose(x, y, 1e-4, 1e-12).logical_not_().to(at::kFloat).mean().item<double>(),
            0.01);
  EXPECT_LE((x - y).abs().max().item<double>(), 0.01 * x.abs().max().item<double>());
}

TEST(StateDtype, TheKernelDoesWhatTheOperatorsOfAtenDo) {
  for (const auto dtype : {StateDtype::kBfloat16, StateDtype::kInt8}) {
    for (const bool last : {false, true}) {
      at::Tensor like = hashed("c", {24, 24, 3, 3}).slice(0, 0, 23);
      like = like.contiguous(last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
      UpdateCase kernel(dtype, like), composed(dtype, like), sgd(dtype, like), plain(dtype, like);
      for (int k = 1; k < 6; ++k) {
        const at::Tensor grad = at::empty_like(like).copy_(hashed(text("g", k), like.sizes()));
        const AdamStep adam{.lr = 0.01,
                            .beta1 = 0.9,
                            .beta2 = 0.99,
                            .eps = 1e-8,
                            .weight_decay = 0.1,
                            .step = static_cast<double>(k),
                            .decoupled_weight_decay = last,
                            .maximize = last};
        const uint64_t key = rounding_key(3, k);
        adam_step_(kernel.param, grad, kernel.mean, kernel.square, last ? &kernel.largest : nullptr,
                   adam, key);
        composed_adam_step_(composed.param, grad, composed.mean, composed.square,
                            last ? &composed.largest : nullptr, adam, key);
        const SgdStep step{.lr = 0.01,
                           .momentum = 0.9,
                           .dampening = last ? 0.3 : 0,
                           .weight_decay = 0.1,
                           .nesterov = !last,
                           .maximize = last,
                           .first = k == 1};
        sgd_step_(sgd.param, grad, sgd.mean, step, key);
        composed_sgd_step_(plain.param, grad, plain.mean, step, key);
      }
      expect_same_mean(kernel.mean, composed.mean);
      expect_same_mean(kernel.square, composed.square);
      expect_same_mean(kernel.largest, composed.largest);
      expect_same_mean(sgd.mean, plain.mean);
      EXPECT_LE((kernel.param - composed.param).abs().mean().item<double>(), 1e-5);
      EXPECT_TRUE(torch::allclose(sgd.param, plain.param, 1e-3, 1e-3));
    }
  }
}

TEST(StateDtype, MeansFollowGradientsThatShrink) {
  // Rounded to the nearest, squares that shrink by a thousandth would stay.
  for (const std::string& dtype : kCompact) {
    const at::Tensor like = hashed("w", {64, 64});
    UpdateCase toy(state_dtype_of(dtype), like);
    at::Tensor exact = torch::zeros_like(like);
    for (int k = 1; k <= 3000; ++k) {
      // Half of them keep their size, and with it the scale of their block.
      const at::Tensor grad = like * (k < 300 ? 1.0 : 0.25);
      grad.slice(1, 0, 32).copy_(like.slice(1, 0, 32));
      adam_step_(toy.param, grad, toy.mean, toy.square, nullptr,
                 {.lr = 0.0, .beta1 = 0.9, .beta2 = 0.999, .step = static_cast<double>(k)},
                 rounding_key(0, k));
      exact.mul_(0.999).addcmul_(grad, grad, 0.001);
    }
    for (const int64_t begin : {0, 32}) {
      const double sum = exact.slice(1, begin, begin + 32).sum().item<double>();
      const double kept = toy.square.decoded().slice(1, begin, begin + 32).sum().item<double>();
      EXPECT_NEAR(kept, sum, 0.03 * sum) << dtype;
    }
  }
}

TEST(StateDtype, AMeanOfSquaresIsNeverZeroBesideALargeOne) {
  const at::Tensor like = torch::full({4096}, 1e-6);
  like[7] = 1;
  UpdateCase toy(StateDtype::kInt8, like);
  adam_step_(toy.param, like, toy.mean, toy.square, nullptr, {.beta1 = 0.9, .beta2 = 0.9}, 1);
  EXPECT_GT(toy.square.decoded().min().item<double>(), 0);
}

TEST(StateDtype, GradientsThatAreNoNumberAreNotHidden) {
  for (const std::string& dtype : kCompact) {
    const at::Tensor like = hashed("w", {64, 64});
    UpdateCase toy(state_dtype_of(dtype), like);
    const at::Tensor grad = like.clone();
    grad[5][5] = std::nanf("");
    grad[50][5] = std::numeric_limits<float>::infinity();
    for (const uint64_t key : {1, 2}) {
      sgd_step_(toy.param, grad, toy.mean, {.lr = 0.1, .momentum = 0.9, .first = true}, key);
    }
    const at::Tensor mean = toy.mean.decoded();
    EXPECT_FALSE(std::isfinite(mean[5][5].item<float>())) << dtype;
    EXPECT_FALSE(std::isfinite(mean[50][5].item<float>())) << dtype;
    EXPECT_TRUE(std::isfinite(mean[30][5].item<float>())) << dtype;
  }
}

/// The loss of a linear map that has learnt another one.
double learnt(const std::string& config) {
  auto optimizer = Spec<Optimizer>::of(config).build();
  ParamGroup group;
  at::Tensor weight = torch::zeros({64, 64}).set_requires_grad(true);
  group.params = {weight};
  optimizer->add_group(std::move(group));
  const at::Tensor target = hashed("target", {64, 64}) / 8;
  const auto loss_of = [&](int k) {
    const at::Tensor x = hashed(text("x", k), {32, 64});
    return (x.matmul(weight.t()) - x.matmul(target.t())).square().mean();
  };
  for (int k = 0; k < 400; ++k) {
    loss_of(k).backward();
    optimizer->step();
    optimizer->zero_grad();
  }
  return loss_of(1000).item<double>();
}

TEST(StateDtype, LearnsAsInFloat32) {
  for (const std::string update : {"{type: AdamW, lr: 0.002, weight_decay: 0, state_dtype: %}",
                                   "{type: SGD, lr: 0.5, momentum: 0.9, state_dtype: %}"}) {
    const double expected = learnt(with_type(update, "float32"));
    EXPECT_LT(expected, 0.002);  // from 0.1
    for (const std::string& dtype : kCompact) {
      EXPECT_NEAR(learnt(with_type(update, dtype)), expected, 5e-4) << update << dtype;
    }
  }
}

TEST(StateDtype, ResumesBitForBitWithAnyNumberOfThreads) {
  const int threads = at::get_num_threads();
  for (const std::string& update : kUpdates) {
    for (const std::string& dtype : kCompact) {
      const std::string config = with_type(update, dtype);
      SCOPED_TRACE(config);
      CompactToy whole(config), first(config), second(config);
      whole.train(0, 6);
      at::set_num_threads(1);
      first.train(0, 3);
      second.resume(first);
      at::set_num_threads(3);
      second.train(3, 6);
      at::set_num_threads(threads);
      EXPECT_TRUE(same_weights(whole, second));
      EXPECT_EQ(first_difference(whole.state(), second.state()), "");
      EXPECT_EQ(whole.state().at("state_dtype").as_string(), dtype);
      // The bits of a rounding depend on how many there were.
      EXPECT_EQ(whole.state().at("updates").as_int(), 6);
    }
  }
}

TEST(StateDtype, TakesAHalfOrAQuarterOfTheMemory) {
  for (const std::string& update : kUpdates) {
    CompactToy whole(with_type(update, "float32")), half(with_type(update, "bfloat16")),
        quarter(with_type(update, "int8"));
    for (CompactToy* toy : {&whole, &half, &quarter}) toy->train(0, 1);
    EXPECT_EQ(whole.state().find("state_dtype"), nullptr);
    const auto all = static_cast<double>(whole.bytes());
    // A scale is 1/64 of the codes of its block; the bias and the counters stay.
    EXPECT_NEAR(static_cast<double>(half.bytes()) / all, 0.5, 0.005);
    EXPECT_NEAR(static_cast<double>(quarter.bytes()) / all, 0.254, 0.007);
  }
}

TEST(StateDtype, StatesOfAnotherTypeAreConverted) {
  for (const std::string& update : kUpdates) {
    for (const std::string from : {"float32", "bfloat16", "int8"}) {
      for (const std::string to : {"float32", "bfloat16", "int8"}) {
        // Another layout in memory, too, which has other blocks.
        CompactToy first(with_type(update, from)), second(with_type(update, to), from == to);
        first.train(0, 3);
        second.resume(first);
        first.train(3, 5);
        second.train(3, 5);
        for (size_t i = 0; i < first.params().size(); ++i) {
          const double error = (first.params()[i] - second.params()[i]).abs().mean().item<double>();
          EXPECT_LE(error, i == 2 ? 0 : 0.003) << update << from << to;
        }
        const Value state = second.state();
        const Value* type = state.find("state_dtype");
        EXPECT_EQ(type ? type->as_string() : "float32", to);
      }
    }
  }
}

TEST(StateDtype, AStepThatOverflowedChangesNothing) {
  for (const std::string& update : kUpdates) {
    CompactToy toy(with_type(update, "int8"));
    const at::Tensor before = toy.params()[0].detach().clone();
    toy.train(0, 1, torch::ones({}));
    EXPECT_TRUE(torch::equal(toy.params()[0], before));
    toy.train(0, 1, torch::zeros({}));
    EXPECT_FALSE(torch::equal(toy.params()[0], before));
  }
}

std::string state_error(const Value& state) {
  CompactToy toy("{type: AdamW, state_dtype: int8}");
  try {
    toy.optimizer().load_state_dict(state);
  } catch (const CheckpointError& e) {
    return e.what();
  }
  return "no error";
}

TEST(StateDtype, ReportsStatesThatAreBroken) {
  CompactToy toy("{type: AdamW, state_dtype: int8}");
  toy.train(0, 1);
  Value state = toy.state();
  state.set("state_dtype", "int4");
  EXPECT_EQ(state_error(state),
            "the optimizer's states have the type int4, not float32, bfloat16 or int8");
  state.set("state_dtype", "int8");
  Value first = state.at("state").as_dict()[0].second;
  const at::Tensor scales = first.at("exp_avg_scales").as_tensor();
  first.set("exp_avg_scales", scales.slice(0, 1));
  EXPECT_EQ(state_error(state),
            "the optimizer's 'exp_avg' of w has 19 scales for 5063 codes of type Byte, not one for "
            "256 codes of type Byte");
  first.set("exp_avg_scales", scales);
  first.set("exp_avg_codes", torch::zeros({3}, torch::kByte));
  EXPECT_EQ(state_error(state),
            "the optimizer's 'exp_avg' of w has shape [3], the parameter has [61, 83]");
}

TEST(StateDtype, ReportsConfigErrors) {
  EXPECT_EQ(spec_error<Optimizer>("{type: AdamW, state_dtype: float16}"),
            "<default>:1:28: error: state_dtype: unknown value 'float16'. Did you mean "
            "'bfloat16'? Known: float32, bfloat16, int8\n1 error in the configuration");
  EXPECT_EQ(spec_error<Optimizer>("{type: Lion, state_dtype: int8}"),
            "<default>:1:14: error: Lion has no option 'state_dtype'. Known: lr, betas, "
            "weight_decay, use_triton\n1 error in the configuration");
  EXPECT_EQ(spec_warnings<Optimizer>("{type: SGD, state_dtype: int8}"),
            "<default>:1:26: warning: state_dtype: has no effect while momentum is 0");
}

/// Trains a tiny run whose head has 64x64 weights, and gives its last checkpoint.
Value compact_run(const std::string& work_dir, const std::string& dtype,
                  const std::string& resume_from = "") {
  const TempDir folder;
  const std::string path = folder.write("tiny.yaml", tiny_run_yaml());
  run_training(
      load_run_config(path,
                      {"model.decode_head.channels=64",
                       "optim_wrapper.optimizer.state_dtype=" + dtype, "work_dir=" + work_dir},
                      [&](Config& tree) {
                        TrainOptions options;
                        options.resume = !resume_from.empty();
                        if (options.resume) options.resume_from = resume_from;
                        apply_options(tree, options);
                      }));
  return read_checkpoint(work_dir + "/iter_12.pth");
}

TEST(StateDtype, AResumedRunEndsBitForBitAsAnUninterruptedOne) {
  for (const std::string& dtype : kCompact) {
    const TempDir whole, resumed;
    const Value expected = compact_run(whole.path().string(), dtype);
    const Value found = compact_run(resumed.path().string(), dtype, whole / "iter_4.pth");
    for (const char* part : {"state_dict", "ema_state_dict", "optimizer", "param_schedulers"}) {
      EXPECT_EQ(first_difference(expected.at(part), found.at(part)), "") << part;
    }
    EXPECT_EQ(expected.at("optimizer").at("state_dtype").as_string(), dtype);
    EXPECT_EQ(expected.at("optimizer").at("updates").as_int(), 12);
    const TempDir plain;
    compact_run(plain.path().string(), "float32", whole / "iter_4.pth");
  }
}

TEST(StateDtype, TorchReadsHalvesAndRefusesCodes) {
  const std::string python = python_with_torch();
  if (python.empty()) GTEST_SKIP() << "no Python with torch";
  for (const std::string& dtype : kCompact) {
    const TempDir dir;
    compact_run(dir.path().string(), dtype);
    const CommandResult result = run_python(python, R"(
import sys, torch
saved = torch.load(sys.argv[1], weights_only=True)['optimizer']
places = [p for g in saved['param_groups'] for p in g['params']]
weights = [torch.nn.Parameter(torch.zeros(1)) for _ in places]
for i, s in saved['state'].items():
    weights[places.index(i)].data = torch.zeros(s.get('exp_avg', s.get('exp_avg_codes')).shape)
at = iter(weights)
optimizer = torch.optim.AdamW([{'params': [next(at) for _ in g['params']]} for g in saved['param_groups']])
optimizer.load_state_dict({k: saved[k] for k in saved})
for w in weights:
    w.grad = torch.ones_like(w)
print({str(s['exp_avg'].dtype) if 'exp_avg' in s else 'codes' for s in optimizer.state.values()} == {'torch.float32'})
try:
    optimizer.step()
    print('stepped')
except KeyError as e:
    print('no', e)
)",
                                            dir / "iter_12.pth");
    EXPECT_EQ(result.output, dtype == "int8" ? "False\nno 'exp_avg'\n" : "True\nstepped\n");
  }
}

}  // namespace
}  // namespace seg::test
