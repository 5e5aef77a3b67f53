#include "runners/dist/gather.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <cstring>

#include "registry/error.hpp"

namespace seg {
namespace {

/// The defined ones, concatenated.
at::Tensor packed_bytes(const std::vector<at::Tensor>& tensors, int64_t bytes) {
  at::Tensor out = at::empty({bytes}, at::kByte);
  auto* place = out.mutable_data_ptr<uint8_t>();
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined()) continue;
    const at::Tensor plain = tensor.detach().to(at::kCPU).contiguous();
    std::memcpy(place, plain.const_data_ptr(), plain.nbytes());
    place += plain.nbytes();
  }
  return out;
}

std::vector<at::Tensor> unpacked_bytes(const at::Tensor& bytes, const at::Tensor& present,
                                       const std::vector<at::Tensor>& like) {
  std::vector<at::Tensor> out(like.size());
  const auto* place = bytes.const_data_ptr<uint8_t>();
  for (size_t i = 0; i < like.size(); ++i) {
    if (present[static_cast<int64_t>(i)].item<uint8_t>() == 0) continue;
    out[i] = at::empty(like[i].sizes(), at::TensorOptions(like[i].scalar_type()));
    std::memcpy(out[i].mutable_data_ptr(), place, out[i].nbytes());
    place += out[i].nbytes();
  }
  return out;
}

}  // namespace

std::vector<std::vector<at::Tensor>> gather_tensors(Communicator& communicator,
                                                    const std::vector<at::Tensor>& own,
                                                    const std::vector<at::Tensor>& like) {
  SEG_CHECK(own.size() == like.size(), "expected ", like.size(), " tensors, got ", own.size());
  std::vector<std::vector<at::Tensor>> out;
  const bool first = communicator.rank() == 0;
  if (first) out.push_back(own);
  // By broadcasts, since sums with the zeros of other ranks would lose the sign of a zero; and
  // through memory of the CPU, since that of a GPU may not hold a model once more.
  for (int rank = 1; rank < communicator.size(); ++rank) {
    const bool sends = communicator.rank() == rank;
    at::Tensor present = at::zeros({static_cast<int64_t>(like.size())}, at::kByte);
    for (size_t i = 0; sends && i < own.size(); ++i) {
      if (own[i].defined()) present[static_cast<int64_t>(i)] = 1;
    }
    communicator.broadcast_(present, rank);
    int64_t bytes = 0;
    for (size_t i = 0; i < like.size(); ++i) {
      if (present[static_cast<int64_t>(i)].item<uint8_t>() != 0) {
        bytes += static_cast<int64_t>(like[i].nbytes());
      }
    }
    at::Tensor data = sends ? packed_bytes(own, bytes) : at::empty({bytes}, at::kByte);
    communicator.broadcast_(data, rank);
    if (first) out.push_back(unpacked_bytes(data, present, like));
  }
  return out;
}

}  // namespace seg
