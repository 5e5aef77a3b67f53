#include "segcore/ops/random.hpp"

#include "segcore/torch.hpp"

namespace seg {
namespace {

ReplaceModelRand::Source& replaced_source() {
  static ReplaceModelRand::Source source;
  return source;
}

}  // namespace

at::Tensor model_rand(at::IntArrayRef shape, const at::TensorOptions& options) {
  if (const auto& source = replaced_source()) {
    return source(shape).to(options.device()).to(options.dtype());
  }
  return at::rand(shape, options);
}

ReplaceModelRand::ReplaceModelRand(Source source) { replaced_source() = std::move(source); }

ReplaceModelRand::~ReplaceModelRand() { replaced_source() = nullptr; }

}  // namespace seg
