/// The interface of preprocessors, which turn a loader's batch into a model's input.
#pragma once
#include <memory>
#include <optional>

#include "registry/registry.hpp"
#include "segcore/data/sample.hpp"
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Moves a batch to the device, orders its bands, normalises and pads it. Holds no weights.
class DataPreProcessor {
 public:
  virtual ~DataPreProcessor() = default;
  /// \param training  pads to the size of training, else to that of `test_cfg`.
  /// \throws DataError where the images do not fit (band count, sizes that differ without padding).
  virtual ModelInput operator()(const Batch& batch, bool training, c10::Device device) const = 0;
  /// Height and width that training images are padded to; nothing if none are set.
  virtual std::optional<Size2> train_size() const = 0;

  /// How images lie in memory, [N, C, H, W] by their sizes all the same: contiguous unless set.
  void set_memory_format(at::MemoryFormat format) { format_ = format; }

 protected:
  at::MemoryFormat format_ = at::MemoryFormat::Contiguous;
};

template <>
struct Category<DataPreProcessor> {
  static constexpr std::string_view name = "data_preprocessor";
  using Signature = std::unique_ptr<DataPreProcessor>();
};

}  // namespace seg
