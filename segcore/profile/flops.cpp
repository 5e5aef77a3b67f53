#include "segcore/profile/flops.hpp"

#include <ATen/record_function.h>

#include <mutex>

#include "segcore/torch.hpp"

namespace seg {
namespace {

struct FlopCounts {
  std::mutex mutex;
  std::map<std::string, int64_t> by_operation;
  bool active = false;
};

FlopCounts& flop_counts() {
  static FlopCounts counts;
  return counts;
}

int64_t product(at::IntArrayRef sizes) { return c10::multiply_integers(sizes); }

/// \param options  stride, padding and dilation, as operators take them.
int64_t convolution_flops(const at::Tensor& x, const at::Tensor& w,
                          c10::ArrayRef<const c10::IValue> options, bool transposed = false) {
  const auto stride = options[0].toIntVector(), padding = options[1].toIntVector(),
             dilation = options[2].toIntVector();
  int64_t positions = x.size(0);
  for (int64_t d = 2; d < x.dim(); ++d) {
    const auto k = static_cast<size_t>(d - 2);
    const auto at = [k](const std::vector<int64_t>& v) { return v.size() == 1 ? v[0] : v.at(k); };
    positions *=
        transposed
            ? x.size(d)
            : (x.size(d) + 2 * at(padding) - at(dilation) * (w.size(d) - 1) - 1) / at(stride) + 1;
  }
  return positions * w.numel();
}

int64_t attention_flops(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return q.numel() * k.size(-2) + q.numel() / q.size(-1) * k.size(-2) * v.size(-1);
}

/// Of the gradients of input and weight, those that are wanted cost as much as the forward pass.
int64_t wanted_of(const c10::IValue& mask) {
  const auto wanted = mask.toBoolList();
  return wanted.get(0) + wanted.get(1);
}

}  // namespace

int64_t operator_flops(const std::string& name, c10::ArrayRef<const c10::IValue> in) {
  const auto tensor = [&](size_t i) {
    return i < in.size() && in[i].isTensor() ? in[i].toTensor() : at::Tensor();
  };
  if (name == "aten::convolution")
    return convolution_flops(tensor(0), tensor(1), in.slice(3), in[6].toBool());
  if (name == "aten::convolution_backward") {
    return convolution_flops(tensor(1), tensor(2), in.slice(4), in[7].toBool()) * wanted_of(in[10]);
  }
  if (name == "segcore::conv2d") return convolution_flops(tensor(0), tensor(1), in.slice(3));
  if (name == "segcore::conv2d_backward") {
    return convolution_flops(tensor(1), tensor(2), in.slice(3)) * wanted_of(in[7]);
  }
  if (name == "aten::linear") return tensor(0).numel() * tensor(1).size(0);
  const bool plus = name == "aten::addmm" || name == "aten::baddbmm";  // of a product and the first
  if (plus || name == "aten::matmul" || name == "aten::bmm" || name == "aten::mm") {
    const auto a = tensor(plus ? 1 : 0), b = tensor(plus ? 2 : 1);
    if (a.dim() < 2 || b.dim() < 2) return std::max(a.numel(), b.numel());
    return std::max(product(a.sizes().slice(0, static_cast<size_t>(a.dim() - 2))),
                    product(b.sizes().slice(0, static_cast<size_t>(b.dim() - 2)))) *
           a.size(-2) * a.size(-1) * b.size(-1);
  }
  if (name == "aten::scaled_dot_product_attention" || name == "segcore::attention") {
    return attention_flops(tensor(0), tensor(1), tensor(2));
  }
  if (name == "segcore::attention_backward") {  // and the products of queries with keys again
    return 2 * attention_flops(tensor(1), tensor(2), tensor(3)) +
           tensor(1).numel() * tensor(2).size(-2);
  }
  if (name == "aten::batch_norm") return tensor(0).numel() * (tensor(1).defined() ? 2 : 1);
  if (name == "segcore::layer_norm") return tensor(0).numel() * (tensor(1).defined() ? 5 : 4);
  if (name == "aten::layer_norm" || name == "aten::group_norm" || name == "aten::instance_norm") {
    return tensor(0).numel() * (tensor(name == "aten::instance_norm" ? 1 : 2).defined() ? 5 : 4);
  }
  if (name == "aten::upsample_bilinear2d") {
    const auto x = tensor(0);
    const auto size = in[1].toIntVector();
    return 4 * x.size(0) * x.size(1) * size.at(0) * size.at(1);
  }
  if (name == "aten::adaptive_avg_pool2d") return tensor(0).numel();
  return 0;
}

/// Operations that call others which would be counted again.
bool is_counted_as_whole(const std::string& name) {
  return name == "aten::linear" || name == "aten::matmul" ||
         name == "aten::scaled_dot_product_attention" || name == "segcore::attention" ||
         name == "segcore::attention_backward" || name == "aten::convolution" ||
         name == "aten::addmm" || name == "aten::baddbmm" || name == "aten::convolution_backward" ||
         name == "segcore::conv2d" || name == "segcore::conv2d_backward" ||
         name == "aten::layer_norm" || name == "segcore::layer_norm" ||
         name == "aten::group_norm" || name == "aten::instance_norm" ||
         name == "aten::batch_norm" || name == "aten::adaptive_avg_pool2d";
}

namespace {

thread_local int flop_depth = 0;

struct FlopContext : at::ObserverContext {
  bool whole = false;
};

std::unique_ptr<at::ObserverContext> flop_enter(const at::RecordFunction& call) {
  auto context = std::make_unique<FlopContext>();
  auto& counts = flop_counts();
  if (!counts.active) return context;
  const std::string name = call.name();
  if (flop_depth == 0) {
    if (const int64_t flops = operator_flops(name, call.inputs()); flops > 0) {
      std::lock_guard<std::mutex> lock(counts.mutex);
      counts.by_operation[name.substr(name.find("::") + 2)] += flops;
    }
  }
  context->whole = is_counted_as_whole(name);
  if (context->whole) ++flop_depth;
  return context;
}

void flop_leave(const at::RecordFunction&, at::ObserverContext* context) {
  if (static_cast<FlopContext*>(context)->whole) --flop_depth;
}

}  // namespace

std::map<std::string, int64_t> count_flops(const std::function<void()>& run) {
  auto& counts = flop_counts();
  counts.by_operation.clear();
  const auto handle = at::addThreadLocalCallback(at::RecordFunctionCallback(flop_enter, flop_leave)
                                                     .needsInputs(true)
                                                     .scopes({at::RecordScope::FUNCTION}));
  counts.active = true;
  at::RecordFunctionGuard enabled(true);
  try {
    run();
  } catch (...) {
    counts.active = false;
    at::removeCallback(handle);
    throw;
  }
  counts.active = false;
  at::removeCallback(handle);
  return counts.by_operation;
}

}  // namespace seg
