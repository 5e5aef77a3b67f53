#include "segcore/ops/deformable_attention/deformable_attention.hpp"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "registry/error.hpp"
#include "segcore/torch.hpp"

namespace seg::deformable_attention_test {

using ::testing::HasSubstr;
using torch::Tensor;

/// Random arguments of a call; a fifth of the locations is outside of the maps.
struct Call {
  std::vector<int64_t> sizes;
  Tensor value, locations, weights;

  Call(std::vector<int64_t> levels, int64_t heads, int64_t channels, int64_t points,
       int64_t queries = 11, at::ScalarType type = torch::kFloat64)
      : sizes(std::move(levels)) {
    int64_t pixels = 0;
    for (size_t i = 0; i < sizes.size(); i += 2) pixels += sizes[i] * sizes[i + 1];
    const auto count = static_cast<int64_t>(sizes.size()) / 2;
    torch::manual_seed(0);
    value = torch::randn({2, pixels, heads, channels}, torch::kFloat64).to(type);
    locations = 1.25 * torch::rand({2, queries, heads, count, points, 2}, torch::kFloat64) - 0.125;
    locations = locations.to(type);
    weights = torch::randn({2, queries, heads, count, points}, torch::kFloat64).to(type);
  }
};

/// Widths of a head: one channel, less than a vector, vectors and a rest, blocks, and published.
std::vector<Call> calls(at::ScalarType type) {
  return {Call({5, 7}, 1, 1, 1, 11, type), Call({4, 6, 2, 3}, 3, 5, 4, 11, type),
          Call({8, 8, 4, 4, 2, 2}, 8, 32, 4, 84, type), Call({1, 1, 3, 2}, 2, 8, 3, 11, type),
          Call({6, 1, 1, 9, 3, 3, 2, 5}, 2, 45, 2, 300, type)};
}

using Attention =
    std::function<Tensor(const Tensor&, at::IntArrayRef, const Tensor&, const Tensor&)>;

/// Gradients of value, locations and weights through the weighted sum of a result.
std::vector<Tensor> gradients_through(const Call& c, const Attention& attention) {
  std::vector<Tensor> inputs;
  for (const auto& t : {c.value, c.locations, c.weights}) {
    inputs.push_back(t.detach().clone().requires_grad_());
  }
  const auto out = attention(inputs[0], c.sizes, inputs[1], inputs[2]);
  (out * torch::arange(out.numel(), out.options()).view(out.sizes()).cos()).sum().backward();
  return {inputs[0].grad(), inputs[1].grad(), inputs[2].grad()};
}

void expect_near(const Tensor& found, const Tensor& expected, double relative, const char* name) {
  ASSERT_EQ(found.sizes(), expected.sizes()) << name;
  const double most = expected.abs().max().item<double>();
  EXPECT_GT(most, 0.01) << name;
  EXPECT_LE((found.to(torch::kFloat64) - expected).abs().max().item<double>(), relative * most)
      << name << " of " << expected.sizes();
}

constexpr const char* kGradients[] = {"value", "locations", "weights"};

TEST(DeformableAttention, SumsWeightedValues) {
  // Two levels of one channel: 1x3 pixels and one pixel.
  const auto value = torch::tensor({1.0f, 2.0f, 4.0f, 8.0f}).view({1, 4, 1, 1});
  const auto sum = [&](double x, double y, double first, double second) {
    const auto locations = torch::tensor({x, y, x, y}, torch::kFloat).view({1, 1, 1, 2, 1, 2});
    const auto weights = torch::tensor({first, second}, torch::kFloat).view({1, 1, 1, 2, 1});
    return deformable_attention(value, {1, 3, 1, 1}, locations, weights).item<double>();
  };
  EXPECT_NEAR(sum(0.5, 0.5, 1, 0), 2, 1e-6);  // the middle of the second pixel
  EXPECT_NEAR(sum(0.5, 0.5, 2, 3), 28, 1e-5);
  EXPECT_NEAR(sum(2.0 / 3, 0.5, 1, 0), 3, 1e-6);   // between the second and the third
  EXPECT_NEAR(sum(0, 0.5, 1, 0), 0.5, 1e-6);       // at the left edge
  EXPECT_NEAR(sum(5.0 / 6, 1.25, 1, 0), 1, 1e-6);  // three quarters of a pixel below the last
  EXPECT_NEAR(sum(5.0 / 6, 1.5, 1, 1), 0, 1e-6);   // a whole pixel below
  EXPECT_NEAR(sum(1.0 / 6, -0.25, 0, 1), 4.0 / 3, 1e-5);  // of the second level: 1/3 off, 3/4 above
}

TEST(DeformableAttention, KernelIsItsDefinition) {
  for (const auto type : {torch::kFloat64, torch::kFloat}) {
    const auto exact = calls(torch::kFloat64), given = calls(type);
    for (size_t i = 0; i < given.size(); ++i) {
      const auto& e = exact[i];
      const auto& c = given[i];
      const auto found = deformable_attention(c.value, c.sizes, c.locations, c.weights);
      EXPECT_EQ(found.scalar_type(), type);
      expect_near(found, composed_deformable_attention(e.value, e.sizes, e.locations, e.weights),
                  type == torch::kFloat ? 1e-5 : 1e-12, "sums");
    }
  }
}

TEST(DeformableAttention, GradientsAreThoseOfTheDefinition) {
  for (const auto type : {torch::kFloat64, torch::kFloat}) {
    const auto exact = calls(torch::kFloat64), given = calls(type);
    for (size_t i = 0; i < given.size(); ++i) {
      const auto expected = gradients_through(exact[i], &composed_deformable_attention);
      const auto found = gradients_through(given[i], &deformable_attention);
      for (size_t k = 0; k < 3; ++k) {
        EXPECT_EQ(found[k].scalar_type(), type);
        expect_near(found[k], expected[k], type == torch::kFloat ? 2e-5 : 1e-11, kGradients[k]);
      }
    }
  }
}

TEST(DeformableAttention, AtEdgesAndOutsideItIsTheDefinition) {
  // Places at centres of pixels, at edges of maps, one pixel and far beside them.
  const std::vector<double> places{-3, -1, -0.25, -0.125, 0, 0.125, 0.5, 0.875, 1, 1.125, 1.25, 4};
  const auto axis = torch::tensor(places, torch::kFloat64);
  const auto count = axis.size(0);
  Call c({4, 4, 2, 8}, 1, 9, 1, count * count);
  c.locations = torch::stack({axis.repeat({count}), axis.repeat_interleave(count)}, 1)
                    .view({1, -1, 1, 1, 1, 2})
                    .expand_as(c.locations)
                    .contiguous();
  Call narrow = c;
  for (auto* t : {&narrow.value, &narrow.locations, &narrow.weights}) *t = t->to(torch::kFloat);
  expect_near(deformable_attention(narrow.value, c.sizes, narrow.locations, narrow.weights),
              composed_deformable_attention(c.value, c.sizes, c.locations, c.weights), 1e-6,
              "sums");
  const auto expected = gradients_through(c, &composed_deformable_attention);
  const auto found = gradients_through(narrow, &deformable_attention);
  for (size_t k = 0; k < 3; ++k) expect_near(found[k], expected[k], 1e-5, kGradients[k]);
}

TEST(DeformableAttention, PlacesThatAreNoNumbersGiveZero) {
  const Call c({4, 5}, 2, 9, 2, 3, torch::kFloat);
  for (const double place : {std::numeric_limits<double>::quiet_NaN(), 1e30, -1e30}) {
    const auto nowhere = torch::full_like(c.locations, place);
    const auto out = deformable_attention(c.value, c.sizes, nowhere, c.weights);
    EXPECT_EQ(out.abs().max().item<double>(), 0) << place;
    auto moved = c;
    moved.locations = nowhere;
    for (const auto& g : gradients_through(moved, &deformable_attention)) {
      EXPECT_EQ(g.abs().max().item<double>(), 0) << place;
    }
  }
}

TEST(DeformableAttention, TakesViewsOfTensors) {
  const auto wide = calls(torch::kFloat)[2];
  const auto strided = [](const Tensor& t) {
    return t.transpose(0, 1).contiguous().transpose(0, 1);
  };
  EXPECT_TRUE(
      torch::equal(deformable_attention(strided(wide.value), wide.sizes, strided(wide.locations),
                                        strided(wide.weights)),
                   deformable_attention(wide.value, wide.sizes, wide.locations, wide.weights)));
}

TEST(DeformableAttention, ResultsDoNotDependOnThreads) {
  const Call c({12, 10, 6, 5, 3, 3}, 4, 24, 4, 700, torch::kFloat);
  const int threads = at::get_num_threads();
  std::vector<std::vector<Tensor>> results;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    results.push_back(gradients_through(c, &deformable_attention));
    results.back().push_back(deformable_attention(c.value, c.sizes, c.locations, c.weights));
  }
  at::set_num_threads(threads);
  for (size_t k = 0; k < 4; ++k) {
    EXPECT_TRUE(torch::equal(results[0][k], results[1][k])) << k;
    EXPECT_TRUE(torch::equal(results[0][k], results[2][k])) << k;
  }
}

TEST(DeformableAttention, KeepsTheTypeOfTheValues) {
  const auto c = calls(torch::kFloat)[1];
  const auto value = c.value.to(torch::kBFloat16).requires_grad_();
  const auto out = deformable_attention(value, c.sizes, c.locations, c.weights);
  EXPECT_EQ(out.scalar_type(), torch::kBFloat16);
  out.sum().backward();
  EXPECT_EQ(value.grad().scalar_type(), torch::kBFloat16);
  const auto exact =
      deformable_attention(value.detach().to(torch::kFloat), c.sizes, c.locations, c.weights);
  EXPECT_TRUE(torch::equal(out.detach(), exact.to(torch::kBFloat16)));
}

/// One thread in the place of a GPU's.
struct OneThread {
  int index = 0, count = 1;
  bool writes = true;
  double sum(double x) const { return x; }
  void add(double* to, double x) const { *to += x; }
};

TEST(DeformableAttention, ArithmeticOfGpuKernelsIsTheDefinition) {
  for (const auto& c : calls(torch::kFloat64)) {
    const auto g = deformable_attention_geometry(c.value, c.sizes, c.locations, c.weights);
    const auto expected = composed_deformable_attention(c.value, c.sizes, c.locations, c.weights);
    const auto grad = torch::randn_like(expected);
    auto found = torch::empty_like(expected);
    for (int64_t n = 0; n < found.numel(); ++n) {
      found.data_ptr<double>()[n] =
          attended_value(c.value.data_ptr<double>(), c.locations.data_ptr<double>(),
                         c.weights.data_ptr<double>(), g, n);
    }
    expect_near(found, expected, 1e-12, "sums");
    const std::vector<Tensor> gradients{torch::zeros_like(c.value), torch::empty_like(c.locations),
                                        torch::empty_like(c.weights)};
    for (int64_t place = 0; place < g.images * g.queries * g.heads; ++place) {
      sample_gradients<double>({grad.data_ptr<double>(), c.value.data_ptr<double>(),
                                c.locations.data_ptr<double>(), c.weights.data_ptr<double>()},
                               g, place, OneThread(),
                               {gradients[0].data_ptr<double>(), gradients[1].data_ptr<double>(),
                                gradients[2].data_ptr<double>()});
    }
    const auto [value, locations, weights] =
        composed_deformable_attention_backward(grad, c.value, c.sizes, c.locations, c.weights);
    const std::vector<Tensor> composed{value, locations, weights};
    for (size_t k = 0; k < 3; ++k) expect_near(gradients[k], composed[k], 1e-11, kGradients[k]);
  }
}

TEST(DeformableAttention, SaysWhatDoesNotFit) {
  const Call c({4, 5, 2, 3}, 2, 4, 3);
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  const auto attended = [&](std::vector<int64_t> sizes, const Tensor& locations,
                            const Tensor& weights) {
    return message([&] { deformable_attention(c.value, sizes, locations, weights); });
  };
  EXPECT_THAT(attended({4, 5, 2, 2}, c.locations, c.weights),
              HasSubstr("deformable_attention: levels of 24 pixels, but values of 26"));
  EXPECT_THAT(attended({4, 5, 2}, c.locations, c.weights),
              HasSubstr("deformable_attention: expected height and width of one to 16 levels, got "
                        "[4, 5, 2]"));
  EXPECT_THAT(attended({0, 5, 2, 3}, c.locations, c.weights),
              HasSubstr("deformable_attention: a level of 0x5 pixels"));
  EXPECT_THAT(attended({26, 1}, c.locations, c.weights),
              HasSubstr("deformable_attention: locations: expected [2, 11, 2, 1, 3, 2], got [2, "
                        "11, 2, 2, 3, 2]"));
  EXPECT_THAT(attended(c.sizes, c.locations, c.weights.narrow(4, 0, 2)),
              HasSubstr("deformable_attention: weights: expected [2, 11, 2, 2, 3], got [2, 11, 2, "
                        "2, 2]"));
  EXPECT_THAT(attended(c.sizes, c.weights, c.weights),
              HasSubstr("deformable_attention: expected locations [N, Q, heads, levels, points, "
                        "2], got [2, 11, 2, 2, 3]"));
  const auto twice = c.value.detach().clone().requires_grad_();
  EXPECT_THAT(message([&] {
                const auto out = deformable_attention(twice, c.sizes, c.locations, c.weights);
                torch::autograd::grad({out.sum()}, {twice}, {}, true, /*create_graph=*/true);
              }),
              HasSubstr("deformable_attention has no second derivative"));
}

}  // namespace seg::deformable_attention_test
