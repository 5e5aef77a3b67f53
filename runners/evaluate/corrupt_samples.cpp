#include "runners/evaluate/corrupt_samples.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "segcore/data/dataset.hpp"
#include "segcore/dist/communicator.hpp"

namespace seg {

int64_t count_corrupt(const Dataset& dataset, Communicator& communicator) {
  const auto mine = dataset.corrupt_samples();
  at::Tensor met = at::tensor({static_cast<int64_t>(mine.size())}, at::kLong);
  communicator.all_reduce_sum_(met);
  // Shuffled passes show one sample to several processes, so that their counts do not add up.
  if (communicator.size() == 1 || met.item<int64_t>() == 0) return met.item<int64_t>();
  at::Tensor found = at::zeros({static_cast<int64_t>(dataset.size())}, at::kInt);
  for (const size_t index : mine) found.data_ptr<int32_t>()[index] = 1;
  communicator.all_reduce_sum_(found);
  return found.gt(0).sum().item<int64_t>();
}

}  // namespace seg
