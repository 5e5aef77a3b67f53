#include "runners/dist/data_errors.hpp"

#include <ATen/Functions.h>

namespace seg {

DataError data_error_elsewhere() {
  return DataError("another process of this run met an error in its data, which it reports");
}

void throw_together(Communicator& communicator, const std::optional<DataError>& mine) {
  at::Tensor failed = at::tensor({int64_t{mine.has_value()}}, at::kLong);
  communicator.all_reduce_sum_(failed);
  if (mine) throw *mine;
  if (failed.item<int64_t>() > 0) throw data_error_elsewhere();
}

}  // namespace seg
