#include "segcore/io/file_storage.hpp"

#include <ATen/ATen.h>
#include <c10/core/TensorImpl.h>

#include <cstring>

#include "registry/error.hpp"
#include "segcore/io/byte_order.hpp"

namespace seg {

at::Tensor FileStorages::view(uint64_t offset, uint64_t size, at::ScalarType dtype,
                              uint64_t alignment) {
  uint8_t* data = file_->data() + offset;
  c10::Storage storage;
  if (reinterpret_cast<uintptr_t>(data) % alignment == 0) {
    auto* owner = new std::shared_ptr<MappedFile>(file_);
    storage = c10::Storage(
        c10::Storage::use_byte_size_t(), size,
        c10::DataPtr(
            data, owner,
            [](void* context) { delete static_cast<std::shared_ptr<MappedFile>*>(context); },
            c10::DeviceType::CPU),
        nullptr, false);
  } else {
    if (size > copies_left_) throw CheckpointError("its tensors overlap each other");
    copies_left_ -= size;
    at::Tensor copy = at::empty({static_cast<int64_t>(size)}, at::kByte);
    if (size > 0) std::memcpy(copy.mutable_data_ptr(), data, size);
    storage = copy.storage();
  }
  if (dtype == at::kBool) {
    normalize_bools(static_cast<char*>(storage.mutable_data()), size);
  }
  at::Tensor out = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU),
      c10::scalarTypeToTypeMeta(dtype));
  out.unsafeGetTensorImpl()->set_sizes_contiguous(
      {static_cast<int64_t>(size / c10::elementSize(dtype))});
  return out;
}

}  // namespace seg
