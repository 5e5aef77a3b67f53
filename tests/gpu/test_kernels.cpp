/// Each kernel against the composition that it replaces.
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <limits>

#include "segcore/ops/class_histogram/class_histogram.hpp"
#include "segcore/ops/dcnv3/dcnv3.hpp"
#include "segcore/ops/deformable_attention/deformable_attention.hpp"
#include "segcore/ops/resize_argmax/resize_argmax.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"
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

TEST_F(GpuKernels, ResizeCrossEntropyIsItsComposition) {
  torch::manual_seed(6);
  struct Case {
    int64_t classes, height, width, out_height, out_width;
    bool align_corners, weighted;
  };
  for (const Case& c : {Case{19, 16, 24, 64, 96, false, false}, Case{150, 8, 9, 33, 35, true, true},
                        Case{2, 1, 5, 40, 3, false, true}, Case{7, 31, 20, 11, 13, false, false}}) {
    const auto logits = 5 * torch::randn({2, c.classes, c.height, c.width}, torch::kFloat64);
    auto labels = torch::randint(0, c.classes, {2, c.out_height, c.out_width}, torch::kLong);
    labels.masked_fill_(torch::rand(labels.sizes()) < 0.2, 255);
    const auto weights = [&](at::IntArrayRef shape) {
      return c.weighted ? torch::rand(shape, torch::kFloat64) : torch::Tensor();
    };
    const auto of_class = weights({c.classes}), of_pixel = weights(labels.sizes());
    const auto moved = [&](const torch::Tensor& t, at::ScalarType type) {
      return t.defined() ? t.to(device(), type) : t;
    };
    for (const auto type : {torch::kFloat64, torch::kFloat32, torch::kFloat16, torch::kBFloat16}) {
      const double allowed = type == torch::kFloat64 ? 1e-10 : 1e-4;
      const double of_gradient = type == torch::kBFloat16  ? 1e-2
                                 : type == torch::kFloat16 ? 2e-3
                                                           : allowed;
      const auto wide = type == torch::kFloat64 ? type : torch::kFloat32;
      const auto x = logits.to(device(), type).requires_grad_();
      const auto exact = x.detach().cpu().to(torch::kFloat64).requires_grad_();
      const auto found = resize_cross_entropy(x, labels.to(device()), moved(of_class, wide),
                                              moved(of_pixel, wide), 255, c.align_corners);
      const auto expected =
          resize_cross_entropy(exact, labels, of_class, of_pixel, 255, c.align_corners);
      const double loss = expected.loss.item<double>();
      EXPECT_NEAR(found.loss.item<double>(), loss, allowed * loss);
      EXPECT_NEAR(found.weight.item<double>(), expected.weight.item<double>(), allowed * loss);
      EXPECT_EQ(found.counts[1].item<int64_t>(), expected.counts[1].item<int64_t>());
      EXPECT_NEAR(found.counts[0].item<double>(), expected.counts[0].item<double>(), 3);
      found.loss.backward();
      expected.loss.backward();
      const auto gradient = x.grad().cpu().to(torch::kFloat64);
      EXPECT_LT((gradient - exact.grad()).abs().max().item<double>(),
                of_gradient * exact.grad().abs().max().item<double>());
      const auto again = x.detach().requires_grad_();
      resize_cross_entropy(again, labels.to(device()), moved(of_class, wide), moved(of_pixel, wide),
                           255, c.align_corners)
          .loss.backward();
      EXPECT_TRUE(torch::equal(again.grad(), x.grad()));
      const auto pixels =
          resize_pixel_cross_entropy(x, labels.to(device()), 255, c.align_corners).cpu();
      EXPECT_LT((pixels - resize_pixel_cross_entropy(exact, labels, 255, c.align_corners))
                    .abs()
                    .max()
                    .item<double>(),
                allowed * 30);
    }
  }
}

}  // namespace
}  // namespace seg::test
