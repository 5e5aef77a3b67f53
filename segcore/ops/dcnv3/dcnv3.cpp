#include "segcore/ops/dcnv3/dcnv3.hpp"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "registry/error.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/ops/pixels_around.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

// --- Definition ---------------------------------------------------------------------------------

/// Maps and places as grid_sampler takes them, a group as an image of its own.
struct GroupedTaps {
  at::Tensor maps;  ///< [N * groups, C, H, W]
  at::Tensor grid;  ///< [N * groups, H' * W', taps, 2]
  at::Tensor mask;  ///< [N * groups, 1, H' * W', taps]
};

/// Places of the taps on one axis in pixels, without offsets: [outputs] and [kernel].
at::Tensor dcnv3_outputs(int64_t first, int64_t stride, int64_t outputs,
                         const at::TensorOptions& options) {
  return at::arange(outputs, options) * stride + first;
}
at::Tensor dcnv3_taps(int64_t before, int64_t dilation, int64_t kernel, double scale,
                      const at::TensorOptions& options) {
  return (at::arange(kernel, options) * dilation - before) * scale;
}

GroupedTaps grouped_taps(const at::Tensor& x, const at::Tensor& offset, const at::Tensor& mask,
                         const Dcnv3Geometry& g) {
  const int64_t parts = g.images * g.groups, outputs = g.out_height * g.out_width;
  const auto options = offset.options().requires_grad(false);
  // [N, H', W', groups, columns, rows, 2], then pixels plus offsets.
  const auto moved =
      offset.reshape({g.images, g.out_height, g.out_width, g.groups, g.kernel_w, g.kernel_h, 2});
  const auto right =
      dcnv3_outputs(g.first_w, g.stride_w, g.out_width, options).view({1, 1, -1, 1, 1, 1}) +
      dcnv3_taps(g.before_w, g.dilation_w, g.kernel_w, g.offset_scale, options)
          .view({1, 1, 1, 1, -1, 1});
  const auto down =
      dcnv3_outputs(g.first_h, g.stride_h, g.out_height, options).view({1, -1, 1, 1, 1, 1}) +
      dcnv3_taps(g.before_h, g.dilation_h, g.kernel_h, g.offset_scale, options)
          .view({1, 1, 1, 1, 1, -1});
  // From pixels to grid_sampler's -1 to 1, which are the outer edges of the map.
  const auto side = [](const at::Tensor& pixels, int64_t length) {
    return (2 * pixels + 1) / static_cast<double>(length) - 1;
  };
  const auto grid = at::stack({side(moved.select(6, 0) * g.offset_scale + right, g.width),
                               side(moved.select(6, 1) * g.offset_scale + down, g.height)},
                              -1);
  const auto by_group = [&](const at::Tensor& t) {
    return t.reshape({g.images, outputs, g.groups, -1}).transpose(1, 2);
  };
  return {x.reshape({g.images, g.height, g.width, g.groups, g.channels})
              .permute({0, 3, 4, 1, 2})
              .reshape({parts, g.channels, g.height, g.width}),
          by_group(grid).reshape({parts, outputs, g.kernel_h * g.kernel_w, 2}),
          by_group(mask).reshape({parts, 1, outputs, g.kernel_h * g.kernel_w})};
}

/// From [N * groups, C, places] to [N, height, width, groups * C].
at::Tensor channels_last_of(const at::Tensor& parts, const Dcnv3Geometry& g, int64_t height,
                            int64_t width) {
  return parts.reshape({g.images, g.groups, g.channels, height, width})
      .permute({0, 3, 4, 1, 2})
      .reshape({g.images, height, width, -1});
}

// --- CPU ----------------------------------------------------------------------------------------

/// The pixels around each tap of a group at an output, in the order of the taps.
/// \param offset  of the group at the output.
template <class Real, class Use>
void for_taps(const Real* offset, int64_t out_y, int64_t out_x, const Dcnv3Geometry& g,
              const Use& use) {
  const auto scale = static_cast<Real>(g.offset_scale);
  const auto middle_x = static_cast<Real>(out_x * g.stride_w + g.first_w);
  const auto middle_y = static_cast<Real>(out_y * g.stride_h + g.first_h);
  for (int64_t i = 0, tap = 0; i < g.kernel_w; ++i) {
    for (int64_t j = 0; j < g.kernel_h; ++j, ++tap) {
      const auto x = static_cast<Real>(i * g.dilation_w - g.before_w) + offset[2 * tap];
      const auto y = static_cast<Real>(j * g.dilation_h - g.before_h) + offset[2 * tap + 1];
      use(tap, pixels_around<Real>(middle_x + x * scale, middle_y + y * scale, g.height, g.width));
    }
  }
}

template <class Real>
void cpu_forward(const Real* x, const Real* offset, const Real* mask, const Dcnv3Geometry& g,
                 Real* out) {
  const int64_t taps = g.kernel_h * g.kernel_w, width = g.groups * g.channels;
  at::parallel_for(0, g.images * g.out_height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const Real* image = x + row / g.out_height * g.height * g.width * width;
      for (int64_t out_x = 0; out_x < g.out_width; ++out_x) {
        for (int64_t group = 0; group < g.groups; ++group) {
          const int64_t place = (row * g.out_width + out_x) * g.groups + group;
          Real* sum = out + place * g.channels;
          std::fill(sum, sum + g.channels, Real(0));
          for_taps(offset + place * taps * 2, row % g.out_height, out_x, g,
                   [&](int64_t tap, const PixelsAround<Real>& around) {
                     for (int k = 0; k < 4; ++k) {
                       if (around.pixels[k] < 0) continue;
                       const Real factor = mask[place * taps + tap] * around.shares[k];
                       const Real* value = image + around.pixels[k] * width + group * g.channels;
                       for (int64_t c = 0; c < g.channels; ++c) sum[c] += factor * value[c];
                     }
                   });
        }
      }
    }
  });
}

template <class Real>
struct Dcnv3GradientsOf {
  Real *x, *offset, *mask;  ///< the first holds zeros
};

template <class Real>
void cpu_backward(const Real* grad, const Real* x, const Real* offset, const Real* mask,
                  const Dcnv3Geometry& g, const Dcnv3GradientsOf<Real>& out) {
  const int64_t taps = g.kernel_h * g.kernel_w, width = g.groups * g.channels;
  const auto scale = static_cast<Real>(g.offset_scale);
  // Groups of an image touch different channels, so that threads never add to one value.
  at::parallel_for(0, g.images * g.groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t image = part / g.groups, group = part % g.groups;
      const int64_t first = image * g.height * g.width * width + group * g.channels;
      for (int64_t p = 0; p < g.out_height * g.out_width; ++p) {
        const int64_t place = (image * g.out_height * g.out_width + p) * g.groups + group;
        const Real* from = grad + place * g.channels;
        for_taps(offset + place * taps * 2, p / g.out_width, p % g.out_width, g,
                 [&](int64_t tap, const PixelsAround<Real>& around) {
                   const Real factor = mask[place * taps + tap];
                   Real dot[4] = {};  // of the gradient and each pixel
                   for (int k = 0; k < 4; ++k) {
                     if (around.pixels[k] < 0) continue;
                     const int64_t at = first + around.pixels[k] * width;
                     const Real share = factor * around.shares[k];
                     Real sum = 0;
                     for (int64_t c = 0; c < g.channels; ++c) {
                       sum += from[c] * x[at + c];
                       out.x[at + c] += share * from[c];
                     }
                     dot[k] = sum;
                   }
                   out.mask[place * taps + tap] = around.mean(dot);
                   out.offset[(place * taps + tap) * 2] = factor * scale * around.slope_right(dot);
                   out.offset[(place * taps + tap) * 2 + 1] =
                       factor * scale * around.slope_down(dot);
                 });
      }
    }
  });
}

// --- Operator -----------------------------------------------------------------------------------

using Dcnv3Signature = at::Tensor(const at::Tensor& x, const at::Tensor& offset,
                                  const at::Tensor& mask, at::IntArrayRef window, int64_t groups,
                                  double offset_scale);
using Dcnv3BackwardSignature = Dcnv3Gradients(const at::Tensor& grad, const at::Tensor& x,
                                              const at::Tensor& offset, const at::Tensor& mask,
                                              at::IntArrayRef window, int64_t groups,
                                              double offset_scale);

at::Tensor dcnv3_by_aten(const at::Tensor& x, const at::Tensor& offset, const at::Tensor& mask,
                         at::IntArrayRef window, int64_t groups, double offset_scale) {
  return composed_dcnv3(x, offset, mask, dcnv3_window(window, groups, offset_scale));
}

Dcnv3Gradients dcnv3_backward_by_aten(const at::Tensor& grad, const at::Tensor& x,
                                      const at::Tensor& offset, const at::Tensor& mask,
                                      at::IntArrayRef window, int64_t groups, double offset_scale) {
  return composed_dcnv3_backward(grad, x, offset, mask, dcnv3_window(window, groups, offset_scale));
}

at::Tensor cpu_dcnv3(const at::Tensor& x, const at::Tensor& offset, const at::Tensor& mask,
                     at::IntArrayRef window, int64_t groups, double offset_scale) {
  const auto g = dcnv3_geometry(x, offset, mask, dcnv3_window(window, groups, offset_scale));
  const auto xs = x.contiguous(), offsets = offset.contiguous(), masks = mask.contiguous();
  auto out = at::empty({g.images, g.out_height, g.out_width, g.groups * g.channels}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "dcnv3", [&] {
    cpu_forward<scalar_t>(xs.const_data_ptr<scalar_t>(), offsets.const_data_ptr<scalar_t>(),
                          masks.const_data_ptr<scalar_t>(), g, out.mutable_data_ptr<scalar_t>());
  });
  return out;
}

Dcnv3Gradients cpu_dcnv3_backward(const at::Tensor& grad, const at::Tensor& x,
                                  const at::Tensor& offset, const at::Tensor& mask,
                                  at::IntArrayRef window, int64_t groups, double offset_scale) {
  const auto g = dcnv3_geometry(x, offset, mask, dcnv3_window(window, groups, offset_scale));
  const auto from = grad.contiguous();
  const auto xs = x.contiguous(), offsets = offset.contiguous(), masks = mask.contiguous();
  auto grad_x = at::zeros_like(xs), grad_offset = at::empty_like(offsets),
       grad_mask = at::empty_like(masks);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "dcnv3_backward", [&] {
    cpu_backward<scalar_t>(
        from.const_data_ptr<scalar_t>(), xs.const_data_ptr<scalar_t>(),
        offsets.const_data_ptr<scalar_t>(), masks.const_data_ptr<scalar_t>(), g,
        {grad_x.mutable_data_ptr<scalar_t>(), grad_offset.mutable_data_ptr<scalar_t>(),
         grad_mask.mutable_data_ptr<scalar_t>()});
  });
  return {grad_x, grad_offset, grad_mask};
}

at::Tensor call_dcnv3(const at::Tensor& x, const at::Tensor& offset, const at::Tensor& mask,
                      at::IntArrayRef window, int64_t groups, double offset_scale) {
  static const auto op = find_operator<Dcnv3Signature>("segcore::dcnv3");
  return op.call(x, offset, mask, window, groups, offset_scale);
}

class Dcnv3Function final : public torch::autograd::Function<Dcnv3Function> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& offset, const at::Tensor& mask,
                            at::IntArrayRef window, int64_t groups, double offset_scale) {
    ctx->save_for_backward({x, offset, mask});
    ctx->saved_data["window"] = window.vec();
    ctx->saved_data["groups"] = groups;
    ctx->saved_data["offset_scale"] = offset_scale;
    const at::AutoDispatchBelowADInplaceOrView below;
    return call_dcnv3(x, offset, mask, window, groups, offset_scale);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = find_operator<Dcnv3BackwardSignature>("segcore::dcnv3_backward");
    SEG_CHECK(!at::GradMode::is_enabled(), "dcnv3 has no second derivative");
    const auto saved = ctx->get_saved_variables();
    const auto [x, offset, mask] =
        op.call(grads[0], saved[0], saved[1], saved[2], ctx->saved_data["window"].toIntVector(),
                ctx->saved_data["groups"].toInt(), ctx->saved_data["offset_scale"].toDouble());
    return {x, offset, mask, {}, {}, {}};
  }
};

at::Tensor differentiable_dcnv3(const at::Tensor& x, const at::Tensor& offset,
                                const at::Tensor& mask, at::IntArrayRef window, int64_t groups,
                                double offset_scale) {
  return Dcnv3Function::apply(x, offset, mask, window, groups, offset_scale);
}

}  // namespace

Dcnv3Window dcnv3_window(at::IntArrayRef window, int64_t groups, double offset_scale) {
  SEG_CHECK(window.size() == 8, "dcnv3: expected the eight sides of a window, got ", window);
  const auto pair = [&](size_t first) {
    return std::array<int64_t, 2>{window[first], window[first + 1]};
  };
  return {.kernel = pair(0),
          .stride = pair(2),
          .padding = pair(4),
          .dilation = pair(6),
          .groups = groups,
          .offset_scale = offset_scale};
}

Dcnv3Geometry dcnv3_geometry(const at::Tensor& x, const at::Tensor& offset, const at::Tensor& mask,
                             const Dcnv3Window& w) {
  SEG_CHECK(x.dim() == 4, "dcnv3: expected a map [N, H, W, C], got ", x.sizes());
  SEG_CHECK(w.groups > 0 && x.size(3) % w.groups == 0, "dcnv3: ", x.size(3),
            " channels cannot be divided into ", w.groups, " groups");
  const auto side = [&](size_t axis) {
    SEG_CHECK(
        w.kernel[axis] > 0 && w.stride[axis] > 0 && w.dilation[axis] > 0 && w.padding[axis] >= 0,
        "dcnv3: kernel, stride and dilation must be positive, padding not negative");
    const int64_t length = x.size(static_cast<int64_t>(axis) + 1) + 2 * w.padding[axis];
    const int64_t span = w.dilation[axis] * (w.kernel[axis] - 1) + 1;
    SEG_CHECK(length >= span, "dcnv3: a window of ", span, " pixels does not fit a map of ",
              x.sizes());
    return (length - span) / w.stride[axis] + 1;
  };
  const int64_t height = side(0), width = side(1), taps = w.kernel[0] * w.kernel[1];
  const auto check = [&](const at::Tensor& t, const char* name, int64_t numbers) {
    const std::vector<int64_t> shape{x.size(0), height, width, w.groups * taps * numbers};
    SEG_CHECK(t.sizes() == at::IntArrayRef(shape), "dcnv3: ", name, ": expected ",
              at::IntArrayRef(shape), ", got ", t.sizes());
    SEG_CHECK(t.scalar_type() == x.scalar_type(), "dcnv3: ", name, " is ", t.scalar_type(),
              ", the map ", x.scalar_type());
  };
  check(offset, "offset", 2);
  check(mask, "mask", 1);
  const auto before = [&](size_t axis) { return w.dilation[axis] * (w.kernel[axis] - 1) / 2; };
  return {.images = x.size(0),
          .height = x.size(1),
          .width = x.size(2),
          .out_height = height,
          .out_width = width,
          .groups = w.groups,
          .channels = x.size(3) / w.groups,
          .kernel_h = w.kernel[0],
          .kernel_w = w.kernel[1],
          .stride_h = w.stride[0],
          .stride_w = w.stride[1],
          .dilation_h = w.dilation[0],
          .dilation_w = w.dilation[1],
          .first_h = before(0) - w.padding[0],
          .first_w = before(1) - w.padding[1],
          .before_h = before(0),
          .before_w = before(1),
          .offset_scale = w.offset_scale};
}

at::Tensor composed_dcnv3(const at::Tensor& x, const at::Tensor& offset, const at::Tensor& mask,
                          const Dcnv3Window& window) {
  const auto g = dcnv3_geometry(x, offset, mask, window);
  const auto taps = grouped_taps(x, offset, mask, g);
  const auto sampled = at::grid_sampler(taps.maps, taps.grid, /*bilinear=*/0, /*zeros=*/0, false);
  return channels_last_of((sampled * taps.mask).sum(-1), g, g.out_height, g.out_width);
}

Dcnv3Gradients composed_dcnv3_backward(const at::Tensor& grad, const at::Tensor& x,
                                       const at::Tensor& offset, const at::Tensor& mask,
                                       const Dcnv3Window& window) {
  const auto g = dcnv3_geometry(x, offset, mask, window);
  const auto taps = grouped_taps(x, offset, mask, g);
  const auto sampled = at::grid_sampler(taps.maps, taps.grid, /*bilinear=*/0, /*zeros=*/0, false);
  // [N * groups, C, H' * W', 1]
  const auto from = grad.reshape({g.images, g.out_height * g.out_width, g.groups, g.channels})
                        .permute({0, 2, 3, 1})
                        .reshape({g.images * g.groups, g.channels, -1, 1});
  const auto [maps, grid] =
      at::grid_sampler_2d_backward(from * taps.mask, taps.maps, taps.grid, /*bilinear=*/0,
                                   /*zeros=*/0, false, {true, true});
  const auto by_output = [&](const at::Tensor& t) {
    return t.reshape({g.images, g.groups, g.out_height, g.out_width, -1})
        .permute({0, 2, 3, 1, 4})
        .reshape({g.images, g.out_height, g.out_width, -1});
  };
  // A pixel is 2 / length of the grid.
  const auto unit = at::tensor({2 * g.offset_scale / static_cast<double>(g.width),
                                2 * g.offset_scale / static_cast<double>(g.height)},
                               at::kDouble)
                        .to(grid.options());
  return {channels_last_of(maps, g, g.height, g.width), by_output(grid * unit),
          by_output((from * sampled).sum(1))};
}

at::Tensor dcnv3(const at::Tensor& x, const at::Tensor& offset, const at::Tensor& mask,
                 const Dcnv3Window& w) {
  const auto type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const std::array<int64_t, 8> window{w.kernel[0],  w.kernel[1],  w.stride[0],   w.stride[1],
                                      w.padding[0], w.padding[1], w.dilation[0], w.dilation[1]};
  return call_dcnv3(x.to(type), offset.to(type), mask.to(type), window, w.groups, w.offset_scale)
      .to(x.scalar_type());
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "dcnv3(Tensor x, Tensor offset, Tensor mask, int[] window, int groups, float offset_scale) "
      "-> Tensor");
  m.def(
      "dcnv3_backward(Tensor grad, Tensor x, Tensor offset, Tensor mask, int[] window, int groups, "
      "float offset_scale) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("dcnv3", &dcnv3_by_aten);
  m.impl("dcnv3_backward", &dcnv3_backward_by_aten);
}

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("dcnv3", &cpu_dcnv3);
  m.impl("dcnv3_backward", &cpu_dcnv3_backward);
}

TORCH_LIBRARY_IMPL(segcore, Autograd, m) { m.impl("dcnv3", &differentiable_dcnv3); }

}  // namespace seg
