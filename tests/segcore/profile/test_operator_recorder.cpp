#include "segcore/profile/operator_recorder.hpp"

#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "segcore/models/nn/conv.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::SizeIs;

/// Two convolutions, the first of whose maps goes through channels-last and back.
struct TwoConvs : torch::nn::Module {
  TwoConvs() {
    first = register_module("first", std::make_shared<Conv2d>(ConvOptions{
                                         .in_channels = 3, .out_channels = 4, .kernel_size = 3}));
    second = register_module(
        "second", std::make_shared<Conv2d>(ConvOptions{
                      .in_channels = 4, .out_channels = 2, .kernel_size = 3, .padding = 1}));
  }

  at::Tensor loss(const at::Tensor& x) {
    auto y = first->forward(x).relu().view({1, 4, 6, 6});
    y = y.contiguous(at::MemoryFormat::ChannelsLast).contiguous();
    y = second->forward(y);
    RECORD_USER_SCOPE("loss");
    return y.sigmoid().sum();
  }

  void step() {
    at::Tensor value;
    {
      RECORD_USER_SCOPE("forward");
      value = loss(torch::ones({1, 3, 8, 8}));
      seen = value.item<double>();
    }
    {
      RECORD_USER_SCOPE("backward");
      value.backward();
    }
    RECORD_USER_SCOPE("optimizer");
    const torch::NoGradGuard no_grad;
    for (auto& p : parameters()) p.sub_(p.grad());
  }

  std::shared_ptr<Conv2d> first, second;
  double seen = 0;
};

class RecordedOperators : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto begin = std::chrono::steady_clock::now();
    step_ = record_operators(model_, at::kCPU, [&] { model_.step(); });
    taken_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  /// The calls of an operator in a phase.
  std::vector<OperatorCall> calls(const std::string& name, const std::string& phase) const {
    std::vector<OperatorCall> out;
    std::ranges::copy_if(step_.calls, std::back_inserter(out), [&](const OperatorCall& call) {
      return call.name == name && call.phase == phase;
    });
    return out;
  }

  TwoConvs model_;
  RecordedStep step_;
  double taken_ = 0;
};

TEST_F(RecordedOperators, BelongToTheModuleOfTheLastParameter) {
  EXPECT_THAT(
      calls("aten::conv2d", "forward"),
      ElementsAre(Field(&OperatorCall::module, "first"), Field(&OperatorCall::module, "second")));
  EXPECT_THAT(calls("aten::relu", "forward"), ElementsAre(Field(&OperatorCall::module, "first")));
  EXPECT_THAT(calls("aten::sigmoid", "forward"),
              ElementsAre(Field(&OperatorCall::module, "second.loss")));
  EXPECT_THAT(calls("aten::sub_", "optimizer"), SizeIs(4));
  EXPECT_THAT(calls("aten::sub_", "optimizer"), Each(Field(&OperatorCall::module, "optimizer")));
}

TEST_F(RecordedOperators, OfTheBackwardPassBelongToTheModulesOfTheForwardPass) {
  EXPECT_THAT(
      calls("ConvolutionBackward0", "backward"),
      ElementsAre(Field(&OperatorCall::module, "second"), Field(&OperatorCall::module, "first")));
  EXPECT_THAT(calls("aten::sigmoid_backward", "backward"),
              ElementsAre(Field(&OperatorCall::module, "second.loss")));
  EXPECT_THAT(calls("aten::threshold_backward", "backward"),
              ElementsAre(Field(&OperatorCall::module, "first")));
}

TEST_F(RecordedOperators, HaveTheArithmeticAndTheBytesOfTheirTensors) {
  const int64_t first = 6 * 6 * 4 * 3 * 9, second = 6 * 6 * 2 * 4 * 9;
  EXPECT_THAT(calls("aten::conv2d", "forward"),
              ElementsAre(Field(&OperatorCall::flops, first), Field(&OperatorCall::flops, second)));
  // The image needs no gradient.
  EXPECT_THAT(
      calls("aten::convolution_backward", "backward"),
      ElementsAre(Field(&OperatorCall::flops, 2 * second), Field(&OperatorCall::flops, first)));
  EXPECT_THAT(calls("aten::relu", "forward"),
              ElementsAre(Field(&OperatorCall::bytes, 2 * 4 * 4 * 6 * 6)));
  EXPECT_THAT(calls("aten::view", "forward"), Contains(Field(&OperatorCall::bytes, 0)));
}

TEST_F(RecordedOperators, TakeNoMoreTimeThanTheStep) {
  double sum = 0;
  for (const OperatorCall& call : step_.calls) {
    EXPECT_GE(call.seconds, 0) << call.name;
    sum += call.seconds;
  }
  EXPECT_GT(sum, 0);
  EXPECT_LE(sum, taken_);
}

TEST_F(RecordedOperators, NameWaitsAndCopiesBetweenFormats) {
  ASSERT_THAT(step_.waits, SizeIs(1));
  EXPECT_EQ(step_.waits[0].name, "aten::item");
  EXPECT_EQ(step_.waits[0].phase, "forward");
  const int64_t bytes = 2 * 4 * 4 * 6 * 6;
  EXPECT_THAT(step_.format_copies, SizeIs(2));
  EXPECT_THAT(step_.format_copies, Each(Field(&OperatorNote::bytes, bytes)));
  EXPECT_THAT(step_.format_copies, Each(Field(&OperatorNote::module, "first")));
}

TEST(RecordingOperators, EndsWithTheStep) {
  const TwoConvs model;
  EXPECT_THROW(record_operators(model, at::kCPU, [] { throw std::runtime_error("broken"); }),
               std::runtime_error);
  const RecordedStep step = record_operators(model, at::kCPU, [] {});
  torch::ones({2}).relu();
  EXPECT_THAT(step.calls, IsEmpty());
}

}  // namespace
}  // namespace seg
