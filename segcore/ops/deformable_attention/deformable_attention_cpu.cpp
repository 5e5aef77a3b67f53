// Channels of a head are neighbours in memory, and are added up eight at a time. The forward pass
// gives a thread some queries of a head, the backward pass a level of a head: of these no two
// threads write to the same values, and sums have one order.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "segcore/cpu_vector.hpp"
#include "segcore/ops/deformable_attention/deformable_attention.hpp"

namespace seg {
namespace {

constexpr int64_t kQueriesOfPart = 256;
/// Vectors of a block of channels: 32, the width of a head in published models.
constexpr int64_t kAttentionBlock = 4;

/// A pixel that has a share in a value.
struct AttendedPixel {
  const float* channels;
  float share;
};

struct AttendedPart {
  const float *value, *locations, *weights;
  float* out;
  const DeformableAttentionGeometry& g;
  int64_t image, head, begin, end;  ///< queries
  AttendedPixel* pixels;            ///< scratch: four of each sample
};

/// The pixels of a query's samples that are in their maps.
SEG_VECTOR_BODY int64_t attended_pixels(const AttendedPart& a, int64_t place) {
  const int64_t row = a.g.heads * a.g.channels;
  const float* values = a.value + (a.image * a.g.pixels * a.g.heads + a.head) * a.g.channels;
  int64_t sample = place * a.g.levels * a.g.points, count = 0;
  for (int64_t level = 0; level < a.g.levels; ++level) {
    const float* map = values + a.g.first[level] * row;
    for (int64_t point = 0; point < a.g.points; ++point, ++sample) {
      const auto around = pixels_of_sample(a.locations + 2 * sample, a.g, level);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        if (around.pixels[k] < 0) continue;
        a.pixels[count++] = {map + around.pixels[k] * row, a.weights[sample] * around.shares[k]};
      }
    }
  }
  return count;
}

template <int64_t kVectors>
SEG_VECTOR_BODY void sum_of_pixels(const AttendedPixel* pixels, int64_t count, int64_t channel,
                                   float* out) {
  vec::F8 sum[kVectors] = {};
  for (int64_t i = 0; i < count; ++i) {
    const vec::F8 share = vec::all(pixels[i].share);
    for (int64_t v = 0; v < kVectors; ++v) {
      sum[v] += share * vec::load(pixels[i].channels + channel + v * vec::kLanes);
    }
  }
  for (int64_t v = 0; v < kVectors; ++v) vec::store(out + channel + v * vec::kLanes, sum[v]);
}

SEG_VECTOR_BODY void attended_part_body(const AttendedPart& a) {
  constexpr int64_t kBlock = kAttentionBlock * vec::kLanes;
  const int64_t channels = a.g.channels;
  for (int64_t query = a.begin; query < a.end; ++query) {
    const int64_t place = (a.image * a.g.queries + query) * a.g.heads + a.head;
    const int64_t count = attended_pixels(a, place);
    float* out = a.out + place * channels;
    int64_t c = 0;
    for (; c + kBlock <= channels; c += kBlock) {
      sum_of_pixels<kAttentionBlock>(a.pixels, count, c, out);
    }
    for (; c + vec::kLanes <= channels; c += vec::kLanes) {
      sum_of_pixels<1>(a.pixels, count, c, out);
    }
    for (; c < channels; ++c) {
      float sum = 0;
      for (int64_t i = 0; i < count; ++i) sum += a.pixels[i].share * a.pixels[i].channels[c];
      out[c] = sum;
    }
  }
}
SEG_VECTOR_KERNEL(attended_part, attended_part_body, AttendedPart)

struct AttentionLevel {
  const AttentionOperands<float>& in;
  const AttentionGradients<float>& out;
  const DeformableAttentionGeometry& g;
  int64_t image, head, level;
};

/// The gradients of a block of a pixel's channels; returns the products of its values.
template <int64_t kVectors>
SEG_VECTOR_BODY vec::F8 add_to_pixel(const vec::F8 (&grad)[kVectors], float share,
                                     const float* value, float* grad_value) {
  vec::F8 products{};
  for (int64_t v = 0; v < kVectors; ++v) {
    const int64_t c = v * vec::kLanes;
    products += grad[v] * vec::load(value + c);
    vec::store(grad_value + c, vec::load(grad_value + c) + vec::all(share) * grad[v]);
  }
  return products;
}

/// The same of the four pixels around a sample, whose first channels are at `first`.
template <int64_t kVectors>
SEG_VECTOR_BODY void add_to_pixels(const AttentionLevel& a, const PixelsAround<float>& around,
                                   float weight, int64_t first, const float* grad,
                                   vec::F8 (&products)[4]) {
  vec::F8 from[kVectors];
  for (int64_t v = 0; v < kVectors; ++v) from[v] = vec::load(grad + v * vec::kLanes);
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    if (around.pixels[k] < 0) continue;
    const int64_t at = first + around.pixels[k] * a.g.heads * a.g.channels;
    products[k] += add_to_pixel(from, weight * around.shares[k], a.in.value + at, a.out.value + at);
  }
}

/// The sums of four vectors.
SEG_VECTOR_BODY void sums_of(const vec::F8 (&x)[4], float (&out)[4]) {
  // 0, 2, 1, 3, 0, 2, 1, 3
  const vec::F8 sums = vec::folded(vec::folded(x[0], x[1]), vec::folded(x[2], x[3]));
  out[0] = sums[0] + sums[4];
  out[1] = sums[2] + sums[6];
  out[2] = sums[1] + sums[5];
  out[3] = sums[3] + sums[7];
}

SEG_VECTOR_BODY void level_gradients_body(const AttentionLevel& a) {
  constexpr int64_t kBlock = kAttentionBlock * vec::kLanes;
  const int64_t channels = a.g.channels, row = a.g.heads * channels;
  const int64_t first =
      ((a.image * a.g.pixels + a.g.first[a.level]) * a.g.heads + a.head) * channels;
  for (int64_t query = 0; query < a.g.queries; ++query) {
    const int64_t place = (a.image * a.g.queries + query) * a.g.heads + a.head;
    const float* grad = a.in.grad + place * channels;
    int64_t sample = (place * a.g.levels + a.level) * a.g.points;
    for (int64_t point = 0; point < a.g.points; ++point, ++sample) {
      const auto around = pixels_of_sample(a.in.locations + 2 * sample, a.g, a.level);
      const float weight = a.in.weights[sample];
      vec::F8 products[4] = {};
      int64_t c = 0;
      for (; c + kBlock <= channels; c += kBlock) {
        add_to_pixels<kAttentionBlock>(a, around, weight, first + c, grad + c, products);
      }
      for (; c + vec::kLanes <= channels; c += vec::kLanes) {
        add_to_pixels<1>(a, around, weight, first + c, grad + c, products);
      }
      float dot[4];  // of the gradient and each pixel
      sums_of(products, dot);
      for (; c < channels; ++c) {
        for (int k = 0; k < 4; ++k) {
          if (around.pixels[k] < 0) continue;
          const int64_t at = first + around.pixels[k] * row + c;
          dot[k] += grad[c] * a.in.value[at];
          a.out.value[at] += weight * around.shares[k] * grad[c];
        }
      }
      a.out.weights[sample] = around.mean(dot);
      a.out.locations[2 * sample] =
          weight * static_cast<float>(a.g.width[a.level]) * around.slope_right(dot);
      a.out.locations[2 * sample + 1] =
          weight * static_cast<float>(a.g.height[a.level]) * around.slope_down(dot);
    }
  }
}
SEG_VECTOR_KERNEL(level_gradients, level_gradients_body, AttentionLevel)

at::Tensor cpu_deformable_attention(const at::Tensor& value, at::IntArrayRef sizes,
                                    const at::Tensor& locations, const at::Tensor& weights) {
  if (value.scalar_type() != at::kFloat) {
    return composed_deformable_attention(value, sizes, locations, weights);
  }
  const auto g = deformable_attention_geometry(value, sizes, locations, weights);
  const auto values = value.contiguous(), places = locations.contiguous(),
             factors = weights.contiguous();
  auto out = at::empty({g.images, g.queries, g.heads * g.channels}, value.options());
  const int64_t blocks = (g.queries + kQueriesOfPart - 1) / kQueriesOfPart;
  at::parallel_for(0, g.images * g.heads * blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<AttendedPixel> pixels(static_cast<size_t>(4 * g.levels * g.points));
    for (int64_t part = begin; part < end; ++part) {
      const int64_t block = part % blocks, head = part / blocks;
      attended_part({.value = values.const_data_ptr<float>(),
                     .locations = places.const_data_ptr<float>(),
                     .weights = factors.const_data_ptr<float>(),
                     .out = out.mutable_data_ptr<float>(),
                     .g = g,
                     .image = head / g.heads,
                     .head = head % g.heads,
                     .begin = block * kQueriesOfPart,
                     .end = std::min(g.queries, (block + 1) * kQueriesOfPart),
                     .pixels = pixels.data()});
    }
  });
  return out;
}

DeformableAttentionGradients cpu_deformable_attention_backward(const at::Tensor& grad,
                                                               const at::Tensor& value,
                                                               at::IntArrayRef sizes,
                                                               const at::Tensor& locations,
                                                               const at::Tensor& weights) {
  if (value.scalar_type() != at::kFloat) {
    return composed_deformable_attention_backward(grad, value, sizes, locations, weights);
  }
  const auto g = deformable_attention_geometry(value, sizes, locations, weights);
  const auto from = grad.contiguous(), values = value.contiguous(), places = locations.contiguous(),
             factors = weights.contiguous();
  auto grad_value = at::zeros_like(values), grad_locations = at::empty_like(places),
       grad_weights = at::empty_like(factors);
  const AttentionOperands<float> in{from.const_data_ptr<float>(), values.const_data_ptr<float>(),
                                    places.const_data_ptr<float>(),
                                    factors.const_data_ptr<float>()};
  const AttentionGradients<float> out{grad_value.mutable_data_ptr<float>(),
                                      grad_locations.mutable_data_ptr<float>(),
                                      grad_weights.mutable_data_ptr<float>()};
  at::parallel_for(0, g.images * g.heads * g.levels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t head = part / g.levels;
      level_gradients({in, out, g, head / g.heads, head % g.heads, part % g.levels});
    }
  });
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("deformable_attention", &cpu_deformable_attention);
  m.impl("deformable_attention_backward", &cpu_deformable_attention_backward);
}

}  // namespace seg
