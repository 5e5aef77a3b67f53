#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "runners/optim/param_scheduler.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"

namespace seg {
namespace {

using Json = nlohmann::json;

/// Parameters by the names p0, p1, ..., each in a group of its own with a learning rate of its own.
struct ScheduledToy : torch::nn::Module {
  explicit ScheduledToy(size_t n) {
    for (size_t i = 0; i < n; ++i) register_parameter(text("p", i), torch::zeros({1}));
  }
};

std::unique_ptr<OptimWrapper> toy_wrapper(torch::nn::Module& model, const Json& c) {
  std::string keys;
  const auto lrs = c["lrs"].get<std::vector<double>>();
  for (size_t i = 0; i < lrs.size(); ++i) {
    keys += text(i ? ", " : "", "p", i, ": {lr: ", lrs[i], "}");
  }
  const std::string optimizer =
      c["adam"].get<bool>() ? "{type: AdamW, lr: 0.5}" : "{type: SGD, lr: 0.5, momentum: 0.9}";
  return Spec<OptimWrapper>::of("{type: OptimWrapper, optimizer: " + optimizer +
                                ", paramwise_cfg: {custom_keys: {" + keys + "}}}")
      .build(model);
}

std::vector<std::unique_ptr<ParamScheduler>> toy_schedulers(OptimWrapper& wrapper, const Json& c) {
  ScheduleLength length;
  length.max_iters = c["iters"];
  length.max_epochs = c["max_epochs"];
  length.epoch_length = c["epoch_length"];
  std::vector<std::unique_ptr<ParamScheduler>> out;
  for (const Json& spec : c["specs"]) {
    out.push_back(Spec<ParamScheduler>::of(spec.dump()).build(wrapper, length));
  }
  return out;
}

std::vector<double> scheduled_values(OptimWrapper& wrapper, bool momentum) {
  std::vector<double> out;
  if (momentum) {
    for (const auto& g : wrapper.optimizer().groups()) out.push_back(g.momentum());
    return out;
  }
  const auto groups = wrapper.scheduled_groups();
  if (groups.size() > wrapper.optimizer().groups().size()) {
    out.push_back(groups.back()->hyper->lr);
  }
  for (const auto& g : wrapper.optimizer().groups()) out.push_back(g.hyper->lr);
  return out;
}

void scheduled_step(std::vector<std::unique_ptr<ParamScheduler>>& schedulers, int64_t i,
                    int64_t epoch_length) {
  for (auto& s : schedulers) {
    if (!s->by_epoch()) s->step();
  }
  if ((i + 1) % epoch_length != 0) return;
  for (auto& s : schedulers) {
    if (s->by_epoch()) s->step();
  }
}

/// Numbers, texts and lists of a state, to be compared with mmengine's.
void expect_state(const Value& found, const Json& expected) {
  for (const auto& [key, want] : expected.items()) {
    if (key == "anneal_func" || key == "div_factor" || key == "final_div_factor" ||
        key == "eta_max") {
      continue;
    }
    SCOPED_TRACE(key);
    const Value* value = found.find(key);
    ASSERT_TRUE(value) << "missing";
    if (want.is_null()) {
      EXPECT_TRUE(value->is_none());
    } else if (want.is_boolean()) {
      EXPECT_EQ(value->as_bool(), want.get<bool>());
    } else if (want.is_number()) {
      EXPECT_DOUBLE_EQ(value->as_float(), want.get<double>());
    } else if (want.is_string()) {
      EXPECT_EQ(value->as_string(), want.get<std::string>());
    } else if (want.is_array()) {
      ASSERT_EQ(value->as_list().size(), want.size());
      for (size_t i = 0; i < want.size(); ++i) {
        if (!want[i].is_number()) continue;
        EXPECT_NEAR(value->as_list()[i].as_float(), want[i].get<double>(), 1e-15);
      }
    } else if (key == "milestones") {
      ASSERT_EQ(value->as_dict().size(), want.size());
      for (const auto& [step, count] : value->as_dict()) {
        EXPECT_EQ(count.as_int(), want[std::to_string(step.as_int())].get<int64_t>());
      }
    }
  }
}

TEST(Schedulers, ValuesAndStatesAreThoseOfMmengine) {
  const Json cases = Json::parse(std::ifstream(source_path("tests/data/optim/schedules.json")));
  ASSERT_FALSE(cases.empty());
  for (const Json& c : cases) {
    SCOPED_TRACE(c["specs"].dump());
    const bool momentum = c["specs"][0]["type"].get<std::string>().ends_with("Momentum");
    ScheduledToy model(c["lrs"].size());
    auto wrapper = toy_wrapper(model, c);
    auto schedulers = toy_schedulers(*wrapper, c);
    const auto rows = c["values"].get<std::vector<std::vector<double>>>();
    for (int64_t i = 0; i <= c["iters"].get<int64_t>(); ++i) {
      const auto values = scheduled_values(*wrapper, momentum);
      ASSERT_EQ(values.size(), rows[i].size());
      for (size_t g = 0; g < values.size(); ++g) {
        if (momentum && g > 0) continue;
        EXPECT_NEAR(values[g], rows[i][g], 1e-12 * std::abs(rows[i][g]) + 1e-18) << "step " << i;
      }
      if (i < c["iters"].get<int64_t>()) scheduled_step(schedulers, i, c["epoch_length"]);
    }
    for (size_t s = 0; s < schedulers.size(); ++s) {
      expect_state(schedulers[s]->state_dict(), c["states"][s]);
    }
  }
}

TEST(Schedulers, ContinueFromASavedState) {
  const Json cases = Json::parse(std::ifstream(source_path("tests/data/optim/schedules.json")));
  for (const Json& c : cases) {
    SCOPED_TRACE(c["specs"].dump());
    const int64_t iters = c["iters"], epoch_length = c["epoch_length"];
    ScheduledToy model(c["lrs"].size());
    auto wrapper = toy_wrapper(model, c);
    auto schedulers = toy_schedulers(*wrapper, c);
    for (int64_t i = 0; i < iters / 2; ++i) scheduled_step(schedulers, i, epoch_length);
    const Value saved = wrapper->state_dict();
    std::vector<Value> states;
    for (auto& s : schedulers) states.push_back(s->state_dict());

    auto again = toy_wrapper(model, c);
    auto resumed = toy_schedulers(*again, c);
    again->load_state_dict(saved);
    for (size_t s = 0; s < resumed.size(); ++s) resumed[s]->load_state_dict(states[s]);
    for (int64_t i = iters / 2; i < iters; ++i) {
      scheduled_step(schedulers, i, epoch_length);
      scheduled_step(resumed, i, epoch_length);
      EXPECT_EQ(scheduled_values(*wrapper, false), scheduled_values(*again, false));
      EXPECT_EQ(scheduled_values(*wrapper, true), scheduled_values(*again, true));
    }
  }
}

TEST(Schedulers, ContinueInAnotherRange) {
  Json c{{"lrs", {0.5}}, {"adam", false}, {"iters", 20}, {"max_epochs", 1}, {"epoch_length", 20}};
  const auto poly = [](int begin, int end) {
    return Json::array({{{"type", "PolyLR"}, {"by_epoch", false}, {"begin", begin}, {"end", end}}});
  };
  c["specs"] = poly(0, 20);
  ScheduledToy model(1);
  auto wrapper = toy_wrapper(model, c);
  auto schedulers = toy_schedulers(*wrapper, c);
  for (int64_t i = 0; i < 15; ++i) scheduled_step(schedulers, i, 20);
  const Value saved = wrapper->state_dict(), state = schedulers[0]->state_dict();
  for (const auto& [begin, end] : {std::pair(10, 20), std::pair(0, 12), std::pair(0, 40)}) {
    SCOPED_TRACE(text(begin, " to ", end));
    c["specs"] = poly(begin, end);
    auto again = toy_wrapper(model, c);
    auto resumed = toy_schedulers(*again, c);
    again->load_state_dict(saved);
    resumed[0]->load_state_dict(state);
    double before = scheduled_values(*again, false)[0];
    EXPECT_GT(before, 0);
    for (int64_t i = 15; i < 40; ++i) {
      scheduled_step(resumed, i, 20);
      const double now = scheduled_values(*again, false)[0];
      EXPECT_GE(now, 0);
      EXPECT_LE(now, before);
      before = now;
    }
    // At its end it is at eta_min, where the range had not ended before.
    if (end > 15) {
      EXPECT_NEAR(before, 0, 1e-12);
    }
  }
}

TEST(Schedulers, ALineMayBeginAtZero) {
  Json c{{"lrs", {0.5}}, {"adam", false}, {"iters", 5}, {"max_epochs", 1}, {"epoch_length", 5}};
  c["specs"] = Json::array({{{"type", "LinearLR"},
                             {"by_epoch", false},
                             {"start_factor", 0.0},
                             {"begin", 0},
                             {"end", 5}}});
  ScheduledToy model(1);
  auto wrapper = toy_wrapper(model, c);
  auto schedulers = toy_schedulers(*wrapper, c);
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(scheduled_values(*wrapper, false)[0], 0.5 * static_cast<double>(i) / 4, 1e-12);
    scheduled_step(schedulers, i, 5);
  }
}

TEST(Schedulers, ReportConfigErrors) {
  EXPECT_EQ(test::spec_error<ParamScheduler>("{type: PolyLR, begin: 5, end: 5}"),
            "<default>:1:31: error: end: must be above begin, 5, got 5\n"
            "1 error in the configuration");
  EXPECT_EQ(
      test::spec_error<ParamScheduler>("{type: CosineAnnealingLR, eta_min: 0, eta_min_ratio: 0.1}"),
      "<default>:1:54: error: eta_min_ratio: either eta_min or eta_min_ratio, not both\n"
      "1 error in the configuration");
  ScheduledToy model(1);
  auto wrapper =
      Spec<OptimWrapper>::of("{type: OptimWrapper, optimizer: {type: SGD}}").build(model);
  const auto late = Spec<ParamScheduler>::of("{type: PolyLR, by_epoch: false, begin: 50}");
  EXPECT_EQ(test::config_error([&] {
              late.build(*wrapper, ScheduleLength{40, 1, 40});
            }),
            "<default>:1:40: error: begin: the schedule begins at step 50, the run ends at 40\n"
            "1 error in the configuration");
}

}  // namespace
}  // namespace seg
