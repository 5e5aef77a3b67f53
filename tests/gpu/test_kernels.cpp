/// Each kernel against the composition that it replaces.
#include <ATen/OpMathType.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <limits>

#include "registry/text.hpp"
#include "segcore/ops/class_histogram/class_histogram.hpp"
#include "segcore/ops/dcnv3/dcnv3.hpp"
#include "segcore/ops/deformable_attention/deformable_attention.hpp"
#include "segcore/ops/resize_argmax/resize_argmax.hpp"
#include "segcore/ops/resize_class_sums/resize_class_sums.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"
#include "segcore/ops/resize_focal_loss/resize_focal_loss.hpp"
#include "segcore/torch.hpp"
#include "tests/support/gpu.hpp"

namespace seg::test {
namespace {

class GpuKernels : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped()) need_module();
  }
  /// Weights on the GPU, of the type that belongs to logits of a type; undefined ones stay so.
  at::Tensor moved(const at::Tensor& weights, at::ScalarType of_logits) const {
    return weights.defined() ? weights.to(device(), at::toOpMathType(of_logits)) : weights;
  }
};

std::vector<LogitsGeometry> kernel_geometries() {
  std::vector<LogitsGeometry> out;
  for (const bool align : {false, true}) {
    out.push_back({{64, 96}, {64, 96}, {64, 96}, false, false, align});
    out.push_back({{64, 96}, {64, 96}, {137, 201}, false, false, align});
    out.push_back({{64, 96}, {64, 96}, {31, 45}, false, false, align});
    out.push_back({{64, 96}, {50, 77}, {123, 90}, false, false, align});
    out.push_back({{64, 96}, {50, 77}, {123, 90}, true, false, align});
    out.push_back({{64, 96}, {50, 77}, {123, 90}, false, true, align});
    out.push_back({{64, 96}, {50, 77}, {50, 77}, true, true, align});
    out.push_back({{16, 24}, {16, 24}, {33, 50}, false, false, align});
    out.push_back({{16, 24}, {16, 24}, {16, 24}, true, true, align});
    out.push_back({{16, 24}, {13, 24}, {33, 50}, true, true, align});
    out.push_back({{64, 96}, {64, 96}, {1, 1}, false, false, align});
  }
  return out;
}

TEST_F(GpuKernels, ResizeArgmaxIsItsCompositionInDoublePrecision) {
  torch::manual_seed(0);
  for (const int64_t channels : {1, 2, 7, 150}) {
    const auto logits = torch::randn({channels, 16, 24}, torch::kFloat64);
    const auto on_gpu = logits.to(device());
    for (const auto& g : kernel_geometries()) {
      const auto expected = composed_resize_argmax(LogitRows(logits, g), 0.3);
      const auto found = resize_argmax(LogitRows(on_gpu, g), 0.3);
      ASSERT_TRUE(found.is_cuda());
      EXPECT_EQ(found.scalar_type(), torch::kLong);
      EXPECT_TRUE(torch::equal(found.cpu(), expected))
          << channels << " channels, to " << g.original[0] << "x" << g.original[1];
      const auto composed = composed_resize_argmax(LogitRows(on_gpu, g), 0.3);
      EXPECT_TRUE(torch::equal(found, composed));
    }
  }
}

TEST_F(GpuKernels, ResizeArgmaxIsItsCompositionInSinglePrecisionButForTies) {
  torch::manual_seed(1);
  const auto logits = torch::randn({150, 32, 64}, at::TensorOptions(device()));
  for (const auto& g : kernel_geometries()) {
    if (g.input[0] != 64) continue;
    const LogitRows rows(logits, g);
    const auto found = resize_argmax(rows, 0.3);
    const auto values = rows.rows(0, rows.height());
    const auto best = std::get<0>(values.max(0));
    const auto chosen = values.gather(0, found.unsqueeze(0)).squeeze(0);
    EXPECT_LT((best - chosen).max().item<double>(), 1e-5);
  }
}

TEST_F(GpuKernels, ResizeArgmaxTakesTheFirstOfEqualsAndWhatIsNotANumber) {
  auto logits = torch::zeros({3, 2, 2}, at::TensorOptions(device()));
  const LogitsGeometry g{{4, 4}, {4, 4}, {4, 4}, false, false, false};
  EXPECT_EQ(resize_argmax(LogitRows(logits, g), 0.3).sum().item<int64_t>(), 0);
  logits[1].fill_(std::numeric_limits<double>::quiet_NaN());
  logits[2].fill_(5.0);
  EXPECT_TRUE((resize_argmax(LogitRows(logits, g), 0.3) == 1).all().item<bool>());
}

TEST_F(GpuKernels, ClassHistogramIsItsCompositionAndTheCountOnACpu) {
  torch::manual_seed(2);
  for (const int64_t classes : {2, 19, 150, 5000}) {
    const auto prediction = torch::randint(0, classes, {123, 457}, torch::kLong);
    auto labels = torch::randint(-2, classes + 3, {123, 457}, torch::kLong);
    labels.masked_fill_(torch::rand({123, 457}) < 0.2, 255);
    labels = torch::where(torch::rand({123, 457}) < 0.5, prediction, labels);
    for (const bool bytes : {false, true}) {
      const auto l = bytes ? labels.clamp(0, 255).to(torch::kByte) : labels;
      const auto expected = class_histogram(prediction, l, classes, 255);
      const auto on_gpu = prediction.to(device());
      EXPECT_TRUE(torch::equal(class_histogram(on_gpu, l, classes, 255).cpu(), expected));
      EXPECT_TRUE(torch::equal(composed_class_histogram(on_gpu, l, classes, 255).cpu(), expected));
    }
  }
}

TEST_F(GpuKernels, ResizeArgmaxOfABandOfRowsTakesTheDefinition) {
  torch::manual_seed(4);
  const auto logits = torch::randn({5, 8, 8}, at::TensorOptions(device()).dtype(at::kDouble));
  const LogitsGeometry g{{8, 8}, {8, 8}, {8, 12}, false, false, false};
  EXPECT_TRUE(torch::equal(resize_argmax(LogitRows(logits, g, /*first_row=*/0), 0.3),
                           composed_resize_argmax(LogitRows(logits, g), 0.3)));
}

TEST_F(GpuKernels, WorkOnTheStreamThatIsCurrent) {
  torch::manual_seed(3);
  const auto logits = torch::randn({19, 64, 64}, at::TensorOptions(device()));
  const LogitsGeometry g{{512, 512}, {512, 512}, {512, 512}, false, false, false};
  const auto expected = resize_argmax(LogitRows(logits, g), 0.3);
  synchronize_device(device());
  const c10::impl::VirtualGuardImpl streams(device().type());
  const c10::Stream side = streams.getStreamFromGlobalPool(device());
  at::Tensor found;
  {
    const c10::StreamGuard guard(side);
    found = resize_argmax(LogitRows(logits, g), 0.3);
    side.synchronize();
  }
  EXPECT_TRUE(torch::equal(found, expected));
}

TEST_F(GpuKernels, Dcnv3IsItsComposition) {
  torch::manual_seed(4);
  // Channels of a group: one, fewer than a warp, as published, more than a warp.
  for (const int64_t channels : {1, 3, 16, 40}) {
    for (const Dcnv3Window& window :
         {Dcnv3Window{.groups = 4, .offset_scale = 2},
          Dcnv3Window{.kernel = {3, 5}, .stride = {2, 1}, .padding = {1, 2}, .groups = 3}}) {
      const int64_t taps = window.groups * window.kernel[0] * window.kernel[1];
      const int64_t height = 13 / window.stride[0] + (window.stride[0] > 1), width = 10;
      const auto x = torch::randn({2, 13, 10, window.groups * channels}, torch::kFloat64);
      const auto offset = 2 * torch::randn({2, height, width, 2 * taps}, torch::kFloat64);
      const auto mask = torch::randn({2, height, width, taps}, torch::kFloat64);
      const auto expected = composed_dcnv3(x, offset, mask, window);
      const auto grad = torch::randn_like(expected);
      const auto [grad_x, grad_offset, grad_mask] =
          composed_dcnv3_backward(grad, x, offset, mask, window);
      for (const auto type : {torch::kFloat64, torch::kFloat32}) {
        const double allowed = type == torch::kFloat64 ? 1e-9 : 1e-3;
        const auto on_gpu = [&](const torch::Tensor& t) {
          return t.to(device(), type).requires_grad_();
        };
        const auto gx = on_gpu(x), go = on_gpu(offset), gm = on_gpu(mask);
        const auto found = dcnv3(gx, go, gm, window);
        found.backward(grad.to(device(), type));
        const auto expect = [&](const torch::Tensor& f, const torch::Tensor& e, const char* name) {
          const auto error = (f.detach().cpu().to(torch::kFloat64) - e).abs().max().item<double>();
          EXPECT_LT(error, allowed * e.abs().max().item<double>()) << name << ", " << channels;
        };
        expect(found, expected, "sums");
        expect(gx.grad(), grad_x, "x");
        expect(go.grad(), grad_offset, "offset");
        expect(gm.grad(), grad_mask, "mask");
      }
    }
  }
}

TEST_F(GpuKernels, DeformableAttentionIsItsComposition) {
  torch::manual_seed(5);
  const std::vector<int64_t> sizes{9, 12, 5, 6, 1, 3};
  const int64_t pixels = 9 * 12 + 5 * 6 + 3, queries = 133;
  // Channels of a head: one, fewer than a warp, as published, more than a warp.
  for (const int64_t channels : {1, 3, 32, 40}) {
    const auto value = torch::randn({2, pixels, 3, channels}, torch::kFloat64);
    const auto locations = 1.25 * torch::rand({2, queries, 3, 3, 4, 2}, torch::kFloat64) - 0.125;
    const auto weights = torch::randn({2, queries, 3, 3, 4}, torch::kFloat64);
    const auto expected = composed_deformable_attention(value, sizes, locations, weights);
    const auto grad = torch::randn_like(expected);
    const auto [grad_value, grad_locations, grad_weights] =
        composed_deformable_attention_backward(grad, value, sizes, locations, weights);
    for (const auto type : {torch::kFloat64, torch::kFloat32}) {
      const double allowed = type == torch::kFloat64 ? 1e-9 : 1e-3;
      const auto on_gpu = [&](const torch::Tensor& t) {
        return t.to(device(), type).requires_grad_();
      };
      const auto gv = on_gpu(value), gl = on_gpu(locations), gw = on_gpu(weights);
      const auto found = deformable_attention(gv, sizes, gl, gw);
      found.backward(grad.to(device(), type));
      const auto expect = [&](const torch::Tensor& f, const torch::Tensor& e, const char* name) {
        const auto error = (f.detach().cpu().to(torch::kFloat64) - e).abs().max().item<double>();
        EXPECT_LT(error, allowed * e.abs().max().item<double>()) << name << ", " << channels;
      };
      expect(found, expected, "sums");
      expect(gv.grad(), grad_value, "value");
      expect(gl.grad(), grad_locations, "locations");
      expect(gw.grad(), grad_weights, "weights");
    }
  }
}

TEST_F(GpuKernels, OperatorsOfSmallLogitsHaveKernels) {
  for (const char* name :
       {"resize_cross_entropy", "resize_pixel_cross_entropy", "resize_class_sums",
        "resize_class_sums_backward", "resize_focal_loss", "resize_pixel_focal_loss"}) {
    const auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow(text("segcore::", name).c_str(), "");
    EXPECT_TRUE(op.hasKernelForDispatchKey(c10::DispatchKey::CUDA)) << name;
  }
}

/// Sizes of small logits and of labels: of the usual factor, many classes, few places that reach
/// many pixels, and fewer pixels than places.
struct SmallLogits {
  int64_t classes, height, width, out_height, out_width;
  bool align_corners;

  at::Tensor logits() const { return 5 * torch::randn({2, classes, height, width}, at::kDouble); }
  /// One in five is ignored, and one more than the classes is no class.
  at::Tensor labels() const {
    const auto all = torch::randint(0, classes + 1, {2, out_height, out_width}, at::kLong);
    return all.masked_fill(torch::rand(all.sizes()) < 0.2, 255);
  }
};
constexpr SmallLogits kSmallLogits[] = {{19, 16, 24, 64, 96, false},
                                        {150, 8, 9, 33, 35, true},
                                        {2, 1, 5, 80, 3, false},
                                        {7, 31, 20, 11, 13, false},
                                        {1, 12, 12, 100, 100, false}};
constexpr at::ScalarType kLogitTypes[] = {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16};

/// The largest difference that may be, as a part of the largest value.
double allowed_of_values(at::ScalarType type) { return type == at::kDouble ? 1e-10 : 1e-4; }
double allowed_of_gradient(at::ScalarType type) {
  if (type == at::kBFloat16) return 1e-2;
  return type == at::kHalf ? 2e-3 : allowed_of_values(type);
}
void expect_as_exact(const at::Tensor& found, const at::Tensor& exact, double allowed,
                     const char* name) {
  ASSERT_EQ(found.sizes(), exact.sizes()) << name;
  EXPECT_LE((found.cpu().to(at::kDouble) - exact).abs().max().item<double>(),
            allowed * exact.abs().max().item<double>() + 1e-12)
      << name;
}

TEST_F(GpuKernels, ResizeCrossEntropyIsThatOfACpu) {
  torch::manual_seed(6);
  for (const SmallLogits& c : kSmallLogits) {
    const auto logits = c.logits(), labels = c.labels(), on_gpu = labels.to(device());
    for (const bool weighted : {false, true}) {
      const auto weights = [&](at::IntArrayRef shape) {
        return weighted ? torch::rand(shape, at::kDouble) : at::Tensor();
      };
      const auto of_class = weights({c.classes}), of_pixel = weights(labels.sizes());
      for (const auto type : kLogitTypes) {
        const double allowed = allowed_of_values(type);
        const auto x = logits.to(device(), type).requires_grad_();
        const auto exact_x = x.detach().cpu().to(at::kDouble).requires_grad_();
        const auto run = [&](const at::Tensor& leaf) {
          const auto sums = resize_cross_entropy(leaf, on_gpu, moved(of_class, type),
                                                 moved(of_pixel, type), 255, c.align_corners);
          sums.loss.backward();
          return sums;
        };
        const auto found = run(x);
        const auto exact =
            resize_cross_entropy(exact_x, labels, of_class, of_pixel, 255, c.align_corners);
        exact.loss.backward();
        expect_as_exact(found.loss.detach(), exact.loss.detach(), allowed, "loss");
        expect_as_exact(found.weight, exact.weight, allowed, "weight");
        EXPECT_EQ(found.counts[1].item<int64_t>(), exact.counts[1].item<int64_t>());
        EXPECT_NEAR(found.counts[0].item<double>(), exact.counts[0].item<double>(), 3);
        expect_as_exact(x.grad(), exact_x.grad(), allowed_of_gradient(type), "gradient");
        const auto again = x.detach().clone().requires_grad_();
        EXPECT_TRUE(torch::equal(run(again).loss, found.loss));
        EXPECT_TRUE(torch::equal(again.grad(), x.grad()));
        expect_as_exact(resize_pixel_cross_entropy(x, on_gpu, 255, c.align_corners),
                        resize_pixel_cross_entropy(exact_x, labels, 255, c.align_corners), allowed,
                        "pixels");
      }
    }
  }
}

TEST_F(GpuKernels, ResizeClassSumsAreThoseOfACpu) {
  torch::manual_seed(7);
  for (const SmallLogits& c : kSmallLogits) {
    const auto logits = c.logits(), labels = c.labels(), on_gpu = labels.to(device());
    const auto by_hit = torch::randn({2, c.classes}, at::kDouble), by_mass = by_hit.cos();
    for (const auto activation :
         {LogitActivation::kNone, LogitActivation::kSoftmax, LogitActivation::kSigmoid}) {
      for (const bool squared : {false, true}) {
        const ClassSumsOptions options{activation, squared,
                                       squared ? std::optional<int64_t>(255) : std::nullopt,
                                       c.align_corners};
        for (const auto type : kLogitTypes) {
          const auto x = logits.to(device(), type).requires_grad_();
          const auto exact_x = x.detach().cpu().to(at::kDouble).requires_grad_();
          const auto exact = resize_class_sums(exact_x, labels, options);
          (exact.hit * by_hit + exact.mass * by_mass).sum().backward();
          const auto run = [&](const at::Tensor& leaf) {
            const auto sums = resize_class_sums(leaf, on_gpu, options);
            (sums.hit * by_hit.to(sums.hit) + sums.mass * by_mass.to(sums.mass)).sum().backward();
            return sums;
          };
          const auto found = run(x);
          expect_as_exact(found.hit, exact.hit, allowed_of_values(type), "hit");
          expect_as_exact(found.mass, exact.mass, allowed_of_values(type), "mass");
          EXPECT_TRUE(torch::equal(found.present.cpu(), exact.present));
          EXPECT_EQ(x.grad().scalar_type(), type);
          expect_as_exact(x.grad(), exact_x.grad(), allowed_of_gradient(type), "gradient");
          const auto again = x.detach().clone().requires_grad_();
          const auto repeated = run(again);
          EXPECT_TRUE(torch::equal(repeated.hit, found.hit));
          EXPECT_TRUE(torch::equal(repeated.mass, found.mass));
          EXPECT_TRUE(torch::equal(again.grad(), x.grad()));
        }
      }
    }
  }
}

TEST_F(GpuKernels, ResizeFocalLossIsThatOfACpu) {
  torch::manual_seed(8);
  for (const SmallLogits& c : kSmallLogits) {
    const auto logits = c.logits(), labels = c.labels(), on_gpu = labels.to(device());
    for (const double gamma : {0.0, 1.5, 2.0}) {
      const bool weighted = gamma != 0;
      const auto weights = [&](at::IntArrayRef shape) {
        return weighted ? torch::rand(shape, at::kDouble) : at::Tensor();
      };
      FocalOptions options{weights({c.classes}), weights({c.classes}), gamma, 255, c.align_corners};
      const auto of_pixel = weights(labels.sizes());
      for (const auto type : kLogitTypes) {
        const FocalOptions there{moved(options.absent_weight, type),
                                 moved(options.present_weight, type), gamma, 255, c.align_corners};
        const auto weight = moved(of_pixel, type);
        const auto x = logits.to(device(), type).requires_grad_();
        const auto exact_x = x.detach().cpu().to(at::kDouble).requires_grad_();
        const auto exact = resize_focal_loss(exact_x, labels, of_pixel, options);
        const auto found = resize_focal_loss(x, on_gpu, weight, there);
        exact.backward();
        found.backward();
        expect_as_exact(found.detach(), exact.detach(), allowed_of_values(type), "loss");
        EXPECT_EQ(x.grad().scalar_type(), type);
        expect_as_exact(x.grad(), exact_x.grad(), allowed_of_gradient(type), "gradient");
        const auto again = x.detach().clone().requires_grad_();
        const auto repeated = resize_focal_loss(again, on_gpu, weight, there);
        repeated.backward();
        EXPECT_TRUE(torch::equal(repeated, found));
        EXPECT_TRUE(torch::equal(again.grad(), x.grad()));
        expect_as_exact(resize_pixel_focal_loss(x, on_gpu, there),
                        resize_pixel_focal_loss(exact_x, labels, options), allowed_of_values(type),
                        "pixels");
      }
    }
  }
}

}  // namespace
}  // namespace seg::test
