/// A trial of the batch of one sample that ends an epoch.
#pragma once
#include <c10/core/Device.h>

namespace seg {

class DataLoader;
class Segmentor;

/// Computes the losses of one training sample: a batch norm on maps of one pixel has no variance to
/// learn from. Weights, running statistics and generators are left as they were.
/// \throws DataError
void try_one_sample(Segmentor& model, const DataLoader& loader, c10::Device device);

}  // namespace seg
