#include "runners/dist/gather_texts.hpp"

#include <algorithm>
#include <cstring>

#include "segcore/torch.hpp"

namespace seg {

std::vector<std::vector<std::string>> gather_texts(Communicator& communicator,
                                                   const std::vector<std::string>& own) {
  if (communicator.size() == 1) return {own};
  const auto count = static_cast<int64_t>(own.size());
  at::Tensor sizes = at::zeros({communicator.size(), count}, at::kLong);
  std::string joined;
  for (int64_t i = 0; i < count; ++i) {
    const std::string& one = own[static_cast<size_t>(i)];
    sizes[communicator.rank()][i] = static_cast<int64_t>(one.size());
    joined += one;
  }
  communicator.all_reduce_sum_(sizes);
  // Each row is that of one rank alone, so that sums do not overflow.
  const int64_t longest = sizes.sum(1).max().item<int64_t>();
  at::Tensor bytes = at::zeros({communicator.size(), std::max<int64_t>(1, longest)}, at::kByte);
  std::memcpy(bytes[communicator.rank()].data_ptr(), joined.data(), joined.size());
  communicator.all_reduce_sum_(bytes);
  std::vector<std::vector<std::string>> out;
  for (int64_t rank = 0; rank < communicator.size(); ++rank) {
    const auto* next = reinterpret_cast<const char*>(bytes[rank].const_data_ptr<uint8_t>());
    std::vector<std::string>& texts = out.emplace_back();
    for (int64_t i = 0; i < count; ++i) {
      const auto size = static_cast<size_t>(sizes[rank][i].item<int64_t>());
      texts.emplace_back(next, size);
      next += size;
    }
  }
  return out;
}

}  // namespace seg
