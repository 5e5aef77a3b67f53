#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>
#include <unordered_map>

#include "registry/error.hpp"
#include "segcore/io/byte_order.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/dtypes.hpp"
#include "segcore/io/file_storage.hpp"
#include "segcore/io/safetensors.hpp"
#include "segcore/io/unpickle.hpp"
#include "segcore/io/zip_file.hpp"

namespace seg {
namespace {

constexpr bool kLittleEndian = std::endian::native == std::endian::little;

/// Storages of a file by key, each made once, so that views of one storage share it.
class CheckpointStorages {
 public:
  CheckpointStorages(const std::shared_ptr<MappedFile>& file, bool swapped)
      : views_(file), swapped_(swapped) {}

  /// The bytes at `offset` for a reference; there are `size` of them.
  at::Tensor get(const StorageReference& reference, uint64_t offset, uint64_t size) {
    const auto element = static_cast<uint64_t>(c10::elementSize(reference.dtype));
    uint64_t wanted = 0;
    if (__builtin_mul_overflow(static_cast<uint64_t>(reference.numel), element, &wanted) ||
        wanted > size) {
      throw CheckpointError(text("storage '", reference.key, "' should have ", reference.numel,
                                 " elements of ", element, " bytes, the file has ", size,
                                 " bytes of it"));
    }
    auto [place, fresh] = made_.try_emplace(reference.key);
    if (fresh) {
      // Complex numbers of 16 bytes are read with instructions that insist on their alignment.
      place->second = views_.view(offset, size, at::kByte, std::max<uint64_t>(8, element));
      // Files name the order of their bytes; untyped storages are never turned.
      if (swapped_ && element > 1) {
        const uint64_t part = at::isComplexType(reference.dtype) ? element / 2 : element;
        swap_bytes(static_cast<char*>(place->second.mutable_data_ptr()), wanted / part, part);
      }
    }
    at::Tensor bytes = place->second.narrow(0, 0, static_cast<int64_t>(wanted));
    if (reference.dtype == at::kByte) return bytes;
    if (reinterpret_cast<uintptr_t>(bytes.const_data_ptr()) % element != 0) {
      throw CheckpointError(text("storage '", reference.key, "' is used with several types"));
    }
    if (reference.dtype == at::kBool) {
      normalize_bools(static_cast<char*>(bytes.mutable_data_ptr()), wanted);
    }
    at::Tensor typed = at::detail::make_tensor<c10::TensorImpl>(
        c10::Storage(bytes.storage()), c10::DispatchKeySet(c10::DispatchKey::CPU),
        c10::scalarTypeToTypeMeta(reference.dtype));
    typed.unsafeGetTensorImpl()->set_sizes_contiguous({reference.numel});
    return typed;
  }

 private:
  FileStorages views_;
  bool swapped_;
  std::unordered_map<std::string, at::Tensor> made_;
};

/// torch.save since version 1.6: a zip archive with the pickle in NAME/data.pkl and each storage in
/// NAME/data/KEY.
Value read_zip_checkpoint(const std::shared_ptr<MappedFile>& file) {
  const std::string_view view = file->view();
  const std::vector<ZipEntry> entries = read_zip_directory(view);
  std::unordered_map<std::string_view, const ZipEntry*> by_name;
  const ZipEntry* pickle = nullptr;
  std::string folder;
  for (const ZipEntry& entry : entries) {
    by_name.emplace(entry.name, &entry);
    const size_t slash = entry.name.rfind('/');
    if (!pickle && entry.name.substr(slash == std::string::npos ? 0 : slash + 1) == "data.pkl") {
      pickle = &entry;
      folder = slash == std::string::npos ? "" : entry.name.substr(0, slash + 1);
    }
  }
  if (!pickle) {
    throw CheckpointError("it is a zip archive, but no torch.save file: there is no data.pkl");
  }
  if (by_name.count(folder + "constants.pkl")) {
    throw CheckpointError(
        "it is a TorchScript program, not a checkpoint; save its state_dict() with torch.save");
  }
  auto contents = [&](const ZipEntry& entry) {
    if (entry.compressed) {
      throw CheckpointError(
          text("its entry ", entry.name, " is compressed; torch.save stores entries as they are"));
    }
    return view.substr(entry.offset, entry.size);
  };
  auto small_record = [&](const std::string& name, std::string_view otherwise) {
    const auto found = by_name.find(name);
    return found == by_name.end() ? otherwise : contents(*found->second);
  };
  const std::string_view order = small_record(folder + "byteorder", "little");
  if (order != "little" && order != "big") {
    throw CheckpointError("its byteorder is neither little nor big");
  }
  const std::string_view text_of_pickle = contents(*pickle);
  if (zip_crc32(text_of_pickle.data(), text_of_pickle.size()) != pickle->crc) {
    throw CheckpointError("the file is damaged: data.pkl has another checksum than it should");
  }
  CheckpointStorages storages(file, (order == "little") != kLittleEndian);
  const auto source = [&](const StorageReference& reference) {
    const auto found = by_name.find(folder + "data/" + reference.key);
    if (found == by_name.end()) {
      throw CheckpointError(text("the data of storage '", reference.key, "' are missing"));
    }
    contents(*found->second);
    return storages.get(reference, found->second->offset, found->second->size);
  };
  return unpickle(text_of_pickle, source).value;
}

/// torch.save before version 1.6: five pickles (a number, the version, a description of the
/// machine, the object, the keys of its storages), then each storage as a count and raw data. A
/// file that starts with another object is a plain pickle.
Value read_pickle_checkpoint(const std::shared_ptr<MappedFile>& file) {
  const std::string_view view = file->view();
  size_t at = 0;
  const StorageSource none = [](const StorageReference& reference) -> at::Tensor {
    throw CheckpointError(text("the data of storage '", reference.key, "' are not in the file"));
  };
  auto next = [&](const StorageSource& source) {
    Unpickled out = unpickle(view.substr(at), source);
    at += out.size;
    return out.value;
  };
  const Value first = next(none);
  const bool legacy = first.is_opaque() && first.as_opaque().type == kLargeInteger &&
                      first.as_opaque().arguments && first.as_opaque().arguments->size() == 1 &&
                      first.as_opaque().arguments->at(0).as_string() == "1950a86a20f9469cfc6c";
  if (!legacy) return first;
  if (const int64_t version = next(none).as_int(); version != 1001) {
    throw CheckpointError(text("unknown version ", version, " of the torch.save format"));
  }
  const Value machine = next(none);
  const Value* little = machine.find("little_endian");
  const bool swapped = little && little->is_bool() && little->as_bool() != kLittleEndian;

  // The storages come after the object, so it is read twice: first for the sizes of its storages.
  struct Place {
    StorageReference reference;
    uint64_t offset = 0, size = 0;
    bool found = false;
  };
  std::unordered_map<std::string, Place> places;
  const size_t object_at = at;
  next([&](const StorageReference& reference) {
    places.try_emplace(reference.key).first->second.reference = reference;
    return at::Tensor();
  });
  const Value keys = next(none);
  for (const Value& key_value : keys.as_list()) {
    const std::string key =
        key_value.is_string() ? key_value.as_string() : text(key_value.as_int());
    const auto found = places.find(key);
    if (found == places.end()) {
      throw CheckpointError(text("storage '", key, "' is listed but not used"));
    }
    Place& place = found->second;
    if (view.size() - at < 8) throw CheckpointError("the file was cut short");
    uint64_t count = 0;
    for (size_t i = 0; i < 8; ++i) {
      const auto byte = static_cast<uint8_t>(view[at + i]);
      count |= static_cast<uint64_t>(byte) << (8 * (swapped == kLittleEndian ? 7 - i : i));
    }
    at += 8;
    const auto element = static_cast<uint64_t>(c10::elementSize(place.reference.dtype));
    uint64_t size = 0;
    if (__builtin_mul_overflow(count, element, &size) || size > view.size() - at) {
      throw CheckpointError(
          text("the file was cut short: the data of storage '", key, "' are not complete"));
    }
    place.offset = at;
    place.size = size;
    place.found = true;
    at += size;
  }
  CheckpointStorages storages(file, swapped);
  const auto source = [&](const StorageReference& reference) {
    const auto found = places.find(reference.key);
    if (found == places.end() || !found->second.found) {
      throw CheckpointError(text("the data of storage '", reference.key, "' are missing"));
    }
    return storages.get(reference, found->second.offset, found->second.size);
  };
  return unpickle(view.substr(object_at), source).value;
}

/// The path that a file such as last_checkpoint holds instead of weights; empty if it holds none.
std::string path_in_text(std::string_view file) {
  constexpr size_t kLongestPath = 4096;
  while (!file.empty() && (file.back() == '\n' || file.back() == '\r')) file.remove_suffix(1);
  const bool is_path = file.size() <= kLongestPath && file.find('\n') == file.npos &&
                       (file.ends_with(".pth") || file.ends_with(".safetensors"));
  return is_path ? std::string(file) : "";
}

/// The newest checkpoint of a work dir that was given in its place; empty if that is unknown.
std::string newest_in(const std::string& folder) {
  std::ifstream pointer(folder + "/last_checkpoint");
  std::string named;
  std::getline(pointer, named);
  named = path_in_text(named);
  if (named.empty()) return "";
  std::error_code ignored;
  // The name outlives a folder that is renamed, its path does not.
  const std::string beside = folder + "/" + std::filesystem::path(named).filename().string();
  return std::filesystem::exists(beside, ignored) ? beside : named;
}

/// A guess at a file of unknown format from its first bytes.
std::string unknown_format(std::string_view file) {
  auto begins = [&](std::string_view with) { return file.substr(0, with.size()) == with; };
  if (begins("version https://git-lfs")) {
    return "it is a Git LFS pointer, not the file itself; fetch it with git lfs pull";
  }
  if (begins("<!DOCTYPE") || begins("<html") || begins("<!doctype") || begins("<?xml")) {
    return "it is a web page, not a checkpoint: the download went wrong";
  }
  if (begins("\x1f\x8b")) return "it is compressed with gzip; unpack it first";
  if (file.size() > 262 && file.substr(257, 5) == "ustar") {
    return "it is a tar archive (a package, or torch.save of versions before 0.1.9)";
  }
  if (const std::string path = path_in_text(file); !path.empty()) {
    return text("it is a text that names a checkpoint, ", path);
  }
  return "it is no checkpoint (neither a torch.save file nor .safetensors)";
}

}  // namespace

Value read_checkpoint(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    const std::string newest = newest_in(path);
    throw CheckpointError(text("cannot read ", path, ": it is a folder, not a checkpoint",
                               newest.empty() ? "" : "; its newest checkpoint is " + newest));
  }
  const std::shared_ptr<MappedFile> file = MappedFile::open(path);
  const std::string_view view = file->view();
  try {
    if (view.substr(0, 4) == "PK\x03\x04") return read_zip_checkpoint(file);
    if (looks_like_safetensors(view)) return read_safetensors(file);
    if (view[0] == '\x80') return read_pickle_checkpoint(file);
    throw CheckpointError(unknown_format(view));
  } catch (const CheckpointError& error) {
    throw CheckpointError(text("cannot read ", path, ": ", error.what()));
  } catch (const c10::Error& error) {
    throw CheckpointError(text("cannot read ", path, ": ", error.what_without_backtrace()));
  }
}

}  // namespace seg
