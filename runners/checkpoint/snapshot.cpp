#include "runners/checkpoint/snapshot.hpp"

#include <ATen/Functions.h>

#include <unordered_map>

namespace seg {
namespace {

class Snapshot {
 public:
  Value copy(const Value& value) {
    if (value.is_tensor()) return copy(value.as_tensor());
    if (value.is_dict()) {
      ValueDict items;
      for (const auto& [key, item] : value.as_dict()) items.emplace_back(copy(key), copy(item));
      return Value::dict(std::move(items));
    }
    if (value.is_tuple()) return Value::tuple(copy(value.as_list()));
    if (value.is_list()) {
      const Value::List& list = value.as_list_of_kind();
      return Value::list_of_kind(copy(*list.items), list.kind, list.limit);
    }
    return value;
  }

 private:
  ValueList copy(const ValueList& items) {
    ValueList out;
    for (const Value& item : items) out.push_back(copy(item));
    return out;
  }

  /// The same view of a copied storage.
  at::Tensor copy(const at::Tensor& tensor) {
    const auto* storage = tensor.storage().unsafeGetStorageImpl();
    auto [found, is_new] = storages_.try_emplace(storage);
    if (is_new) {
      const auto size = static_cast<int64_t>(storage->nbytes());
      const at::Tensor bytes =
          at::empty({0}, tensor.options().dtype(at::kByte)).set_(tensor.storage(), 0, {size}, {1});
      found->second = bytes.to(at::kCPU, /*non_blocking=*/false, /*copy=*/true);
    }
    return at::empty({0}, tensor.options().device(at::kCPU))
        .set_(found->second.storage(), tensor.storage_offset(), tensor.sizes(), tensor.strides());
  }

  std::unordered_map<const void*, at::Tensor> storages_;
};

}  // namespace

Value snapshot(const Value& contents) { return Snapshot().copy(contents); }

}  // namespace seg
