#include "segcore/ops/resize_class_sums/resize_class_sums.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/error.hpp"
#include "segcore/ops/resize_class_sums/resize_class_sums_pixel.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/segcore/ops/gpu_gradient.hpp"

namespace seg::resize_class_sums_test {

struct Case {
  int64_t images, classes, height, width, out_height, out_width;
  ClassSumsOptions options;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.images << "x" << c.classes << "x" << c.height << "x" << c.width << " to "
             << c.out_height << "x" << c.out_width << ", activation "
             << static_cast<int64_t>(c.options.activation) << (c.options.squared ? ", squared" : "")
             << (c.options.ignore_index ? ", ignored" : "")
             << (c.options.align_corners ? ", corners" : "");
}

at::Tensor values(const std::string& name, at::IntArrayRef shape, double scale) {
  return (reference::uniform(name, c10::multiply_integers(shape)) * scale).reshape(shape);
}

/// The differentiable sums, by a one-hot map of the labels.
std::vector<at::Tensor> by_torch(const at::Tensor& x, const at::Tensor& labels,
                                 const ClassSumsOptions& o) {
  auto p = at::upsample_bilinear2d(x, labels.sizes().slice(1), o.align_corners);
  if (o.activation == LogitActivation::kSoftmax) p = p.softmax(1);
  if (o.activation == LogitActivation::kSigmoid) p = p.sigmoid();
  auto counts = at::ones_like(labels, at::kBool);
  if (o.ignore_index) counts = labels != *o.ignore_index;
  const auto classes = at::arange(x.size(1), at::kLong).view({1, -1, 1, 1});
  const auto truth = (labels.unsqueeze(1) == classes) & counts.unsqueeze(1);
  return {(p * truth).sum({2, 3}), ((o.squared ? p * p : p) * counts.unsqueeze(1)).sum({2, 3}),
          truth.sum(at::IntArrayRef{2, 3})};
}

/// A sum in which each hit and mass has another weight.
at::Tensor weighted(const at::Tensor& hit, const at::Tensor& mass) {
  const auto order = at::arange(hit.numel(), hit.options()).view(hit.sizes());
  return (hit * (order + 1).cos() - mass * (order + 0.5).sin()).sum();
}

double largest_difference(const at::Tensor& found, const at::Tensor& expected) {
  return (found.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
}
void expect_near(const at::Tensor& found, const at::Tensor& expected, double relative,
                 const char* name) {
  ASSERT_EQ(found.sizes(), expected.sizes()) << name;
  EXPECT_LE(largest_difference(found, expected),
            relative * expected.abs().max().item<double>() + 1e-12)
      << name;
}

class ResizeClassSums : public ::testing::TestWithParam<Case> {
 protected:
  ResizeClassSums() {
    const auto& c = GetParam();
    exact = values("logits", {c.images, c.classes, c.height, c.width}, 8).to(at::kFloat) - 4;
    exact = exact.to(at::kDouble).requires_grad_();
    // Two labels more than there are classes: ignored ones, and ones of no class.
    const std::vector<int64_t> size{c.images, c.out_height, c.out_width};
    labels = values("labels", size, static_cast<double>(c.classes + 2)).to(at::kLong);
    labels.masked_fill_(labels == c.classes, 255);
  }
  at::Tensor exact, labels;
};

TEST_P(ResizeClassSums, AreThoseOfResizedLogits) {
  const auto& c = GetParam();
  const auto expected = by_torch(exact, labels, c.options);
  weighted(expected[0], expected[1]).backward();
  for (const auto type : {at::kDouble, at::kFloat}) {
    const auto x = exact.detach().to(type).requires_grad_();
    const auto found = resize_class_sums(x, labels, c.options);
    const double allowed = type == at::kDouble ? 1e-12 : 6e-6;  // places are floats, too
    EXPECT_EQ(found.hit.scalar_type(), type);
    expect_near(found.hit, expected[0], allowed, "hit");
    expect_near(found.mass, expected[1], allowed, "mass");
    EXPECT_TRUE(torch::equal(found.present, expected[2]));
    EXPECT_FALSE(found.present.requires_grad());
    weighted(found.hit, found.mass).backward();
    EXPECT_EQ(x.grad().scalar_type(), type);
    expect_near(x.grad(), exact.grad(), allowed, "gradient");
  }
}

TEST_P(ResizeClassSums, OfHalfPrecisionAreThoseOfFloat) {
  const auto& c = GetParam();
  const auto half = exact.detach().to(at::kBFloat16).requires_grad_();
  const auto wide = half.detach().to(at::kFloat).requires_grad_();
  const auto of_half = resize_class_sums(half, labels, c.options);
  const auto of_wide = resize_class_sums(wide, labels, c.options);
  EXPECT_TRUE(torch::equal(of_half.hit, of_wide.hit));
  EXPECT_TRUE(torch::equal(of_half.mass, of_wide.mass));
  weighted(of_half.hit, of_half.mass).backward();
  weighted(of_wide.hit, of_wide.mass).backward();
  EXPECT_TRUE(torch::equal(half.grad(), wide.grad().to(at::kBFloat16)));
}

/// What the kernels of a GPU compute, one thread after the other.
struct OfKernels {
  at::Tensor hit, mass;  ///< float64
  at::Tensor present;
  at::Tensor gradient;
};

/// \param by_hit, by_mass  [N, C], the gradients of the sums
template <class Real, class Value>
OfKernels by_gpu_arithmetic(const at::Tensor& x, const at::Tensor& labels,
                            const ClassSumsOptions& o, const at::Tensor& by_hit,
                            const at::Tensor& by_mass) {
  constexpr int kClasses = 4;
  const ResizedCall call(x, labels, o.align_corners);
  const auto& g = call.geometry;
  const auto hit_weight = call.in_real(by_hit), mass_weight = call.in_real(by_mass);
  ClassSumOperands<Real, Value> in{call.logit_data<Value>(),
                                   call.labels.const_data_ptr<int64_t>(),
                                   o.activation,
                                   o.squared,
                                   o.ignore_index.has_value(),
                                   o.ignore_index.value_or(0),
                                   nullptr,
                                   nullptr};
  OfKernels out{at::zeros({g.images, g.classes}, at::kDouble),
                at::zeros({g.images, g.classes}, at::kDouble),
                at::zeros({g.images, g.classes}, at::kLong),
                {}};
  const int64_t pixels = labels[0].numel();
  for (int64_t pixel = 0; pixel < labels.numel(); ++pixel) {
    const auto note = class_sum_note(in, g, pixel);
    if (!note.counts()) continue;
    for (int first = 0; first < g.classes; first += kClasses) {
      ClassTerms<kClasses, Real> terms;
      add_pixel(in, g, note, pixel, first, g.classes, terms);
      for (int k = 0; k < std::min(kClasses, g.classes - first); ++k) {
        const int64_t map = pixel / pixels * g.classes + first + k;
        out.hit.mutable_data_ptr<double>()[map] += terms.hit[k];
        out.mass.mutable_data_ptr<double>()[map] += terms.mass[k];
        out.present.mutable_data_ptr<int64_t>()[map] += terms.present[k];
      }
    }
  }
  in.by_hit = hit_weight.template const_data_ptr<Real>();
  in.by_mass = mass_weight.template const_data_ptr<Real>();
  std::vector<ClassSumNote<Real>> notes;
  for (int64_t pixel = 0; pixel < labels.numel(); ++pixel) {
    notes.push_back(class_sum_note(in, g, pixel));
  }
  out.gradient = gradient_by_gpu_arithmetic<Real, Value>(
      ClassSumGradient<Real, Value>{in, notes.data()}, call, lanes_of_place(g));
  return out;
}

TEST_P(ResizeClassSums, ArithmeticOfGpuKernelsIsTheDefinition) {
  const auto& o = GetParam().options;
  const at::Tensor by_hit = values("by hit", {exact.size(0), exact.size(1)}, 2) - 1;
  const at::Tensor by_mass = values("by mass", by_hit.sizes(), 2) - 1;
  const auto check = [&](const OfKernels& found, const at::Tensor& x, double allowed) {
    const auto wide = x.to(at::kDouble);
    const auto activation = static_cast<int64_t>(o.activation);
    const auto [hit, mass, present] = composed_resize_class_sums(
        wide, labels, activation, o.squared, o.ignore_index, o.align_corners);
    expect_near(found.hit, hit, allowed, "hit");
    expect_near(found.mass, mass, allowed, "mass");
    EXPECT_TRUE(torch::equal(found.present, present));
    const auto gradient = composed_resize_class_sums_backward(
        by_hit, by_mass, wide, labels, activation, o.squared, o.ignore_index, o.align_corners);
    expect_near(found.gradient, gradient, allowed, "gradient");
  };
  const auto x = exact.detach();
  check(by_gpu_arithmetic<double, double>(x, labels, o, by_hit, by_mass), x, 1e-12);
  const auto single = x.to(at::kFloat);
  check(by_gpu_arithmetic<float, float>(single, labels, o, by_hit, by_mass), single, 1e-5);
  const auto half = x.to(at::kHalf), brain = x.to(at::kBFloat16);
  check(by_gpu_arithmetic<float, at::Half>(half, labels, o, by_hit, by_mass), half, 1e-5);
  check(by_gpu_arithmetic<float, at::BFloat16>(brain, labels, o, by_hit, by_mass), brain, 1e-5);
}

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const auto activation :
       {LogitActivation::kNone, LogitActivation::kSoftmax, LogitActivation::kSigmoid}) {
    for (const bool squared : {false, true}) {
      for (const bool corners : {false, true}) {
        ClassSumsOptions options{activation, squared, std::nullopt, corners};
        out.push_back({2, 11, 5, 7, 37, 26, options});
        options.ignore_index = 255;
        out.push_back({2, 19, 9, 6, 33, 24, options});
        options.ignore_index = 1;
        out.push_back({3, 8, 4, 4, 4, 4, options});
      }
    }
    out.push_back({1, 150, 6, 7, 24, 28, {activation, false, 255, false}});
    out.push_back({2, 1, 3, 5, 21, 9, {activation, true, 255, false}});
    out.push_back({1, 5, 33, 29, 17, 12, {activation, true, std::nullopt, false}});
    out.push_back({1, 3, 1, 1, 40, 3, {activation, false, 255, true}});
  }
  return out;
}
INSTANTIATE_TEST_SUITE_P(Shapes, ResizeClassSums, ::testing::ValuesIn(cases()));

TEST(ResizeClassSumsKernel, DoesNotDependOnTheNumberOfThreads) {
  const auto labels =
      (reference::uniform("labels", 3 * 70 * 70) * 20).to(at::kLong).reshape({3, 70, 70});
  std::vector<at::Tensor> masses, gradients;
  const int before = at::get_num_threads();
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    auto x = values("logits", {3, 20, 18, 18}, 9).to(at::kFloat).requires_grad_();
    const auto sums = resize_class_sums(x, labels, {.squared = true, .ignore_index = 4});
    weighted(sums.hit, sums.mass).backward();
    masses.push_back(at::cat({sums.hit, sums.mass}));
    gradients.push_back(x.grad());
  }
  at::set_num_threads(before);
  for (size_t i = 1; i < masses.size(); ++i) {
    EXPECT_TRUE(torch::equal(masses[i], masses[0]));
    EXPECT_TRUE(torch::equal(gradients[i], gradients[0]));
  }
}

TEST(ResizeClassSumsKernel, SurvivesLargeLogitsAndIgnoredImages) {
  for (const auto activation : {LogitActivation::kSoftmax, LogitActivation::kSigmoid}) {
    auto x = (values("logits", {1, 6, 4, 4}, 4000) - 2000).to(at::kFloat).requires_grad_();
    const auto sums =
        resize_class_sums(x, at::zeros({1, 16, 16}, at::kLong), {.activation = activation});
    weighted(sums.hit, sums.mass).backward();
    EXPECT_TRUE(sums.mass.isfinite().all().item<bool>());
    EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
    auto unseen = values("logits", {1, 6, 4, 4}, 2).to(at::kFloat).requires_grad_();
    const auto none = resize_class_sums(unseen, at::full({1, 16, 16}, 255, at::kLong),
                                        {.activation = activation, .ignore_index = 255});
    weighted(none.hit, none.mass).backward();
    EXPECT_EQ(none.mass.abs().sum().item<double>(), 0);
    EXPECT_EQ(unseen.grad().abs().sum().item<double>(), 0);
  }
}

TEST(ResizeClassSumsKernel, SaysWhatDoesNotFit) {
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  const auto x = at::ones({2, 3, 4, 4}).requires_grad_();
  EXPECT_THAT(message([&] {
                resize_class_sums(x, at::zeros({1, 8, 8}, at::kLong), {});
              }),
              ::testing::HasSubstr("labels [1, 8, 8] do not fit logits [2, 3, 4, 4]"));
  EXPECT_THAT(message([&] {
                const auto sums = resize_class_sums(x, at::zeros({2, 8, 8}, at::kLong), {});
                torch::autograd::grad({sums.mass.sum()}, {x}, {}, true, /*create_graph=*/true);
              }),
              ::testing::HasSubstr("resize_class_sums has no second derivative"));
}

TEST(ResizeClassSumsKernel, IsAnOperatorOfTheDispatcher) {
  for (const char* name : {"segcore::resize_class_sums", "segcore::resize_class_sums_backward"}) {
    const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
    EXPECT_TRUE(op.hasKernelForDispatchKey(c10::DispatchKey::CPU)) << name;
    EXPECT_TRUE(op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd)) << name;
  }
}

}  // namespace seg::resize_class_sums_test
