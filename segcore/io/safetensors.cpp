#include "segcore/io/safetensors.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "registry/error.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/dtypes.hpp"
#include "segcore/io/file_storage.hpp"

namespace seg {
namespace {

constexpr uint64_t kLongestHeader = 100'000'000;  // the format's own limit

uint64_t safetensors_header_size(std::string_view file) {
  uint64_t size = 0;
  for (size_t i = 8; i-- > 0;) size = size << 8 | static_cast<uint8_t>(file[i]);
  return size;
}

struct SafetensorsEntry {
  std::string name, type;
  std::optional<at::ScalarType> dtype;  ///< nothing for types without numbers here (F4, F6_E2M3)
  std::vector<int64_t> shape;
  uint64_t begin, end;
};

SafetensorsEntry read_safetensors_entry(const std::string& name, const nlohmann::json& json,
                                        uint64_t data_size) {
  auto fail = [&](const auto&... parts) {
    throw CheckpointError(text("the safetensors header, tensor '", name, "': ", parts...));
  };
  auto member = [&](const char* key) -> const nlohmann::json& {
    if (!json.is_object() || !json.contains(key)) fail("there is no '", key, "'");
    return json[key];
  };
  auto count = [&](const nlohmann::json& v, const char* what) {
    if (!v.is_number_unsigned()) fail(what, " must be a number from 0 on");
    return v.get<uint64_t>();
  };
  SafetensorsEntry out{name, "", {}, {}, 0, 0};
  const auto& dtype = member("dtype");
  const auto known = dtype.is_string() ? dtype_of_safetensors(dtype.get_ref<const std::string&>())
                                       : std::optional<at::ScalarType>();
  if (!dtype.is_string()) fail("its dtype is no text");
  out.type = dtype.get<std::string>();
  out.dtype = known;
  const auto& shape = member("shape");
  const auto& offsets = member("data_offsets");
  if (!shape.is_array() || shape.size() > 64) fail("a wrong shape");
  if (!offsets.is_array() || offsets.size() != 2) fail("wrong data_offsets");
  auto bytes = static_cast<uint64_t>(known ? c10::elementSize(*known) : 1);
  for (const auto& size : shape) {
    const uint64_t n = count(size, "each size");
    if (n > INT64_MAX || __builtin_mul_overflow(bytes, n, &bytes) || bytes > INT64_MAX) {
      fail("its shape is too large");
    }
    out.shape.push_back(static_cast<int64_t>(n));
  }
  out.begin = count(offsets[0], "each offset");
  out.end = count(offsets[1], "each offset");
  if (out.begin > out.end || out.end > data_size) fail("its data lie beyond the end of the file");
  if (known && out.end - out.begin != bytes) {
    fail("its shape [", join(out.shape, ", "), "] needs ", bytes, " bytes, it has ",
         out.end - out.begin);
  }
  return out;
}

constexpr auto kReplaceBadText = nlohmann::json::error_handler_t::replace;

/// The length of a header as the file begins with it.
std::string header_size_text(uint64_t size) {
  std::string out;
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<char>(size >> (8 * i) & 0xff));
  return out;
}

/// What a header says of a tensor whose data begin at `begin`.
std::string entry_text(const std::string& name, const at::Tensor& tensor, uint64_t begin) {
  nlohmann::ordered_json one;
  one["dtype"] = safetensors_dtype(tensor.scalar_type());
  one["shape"] = std::vector<int64_t>(tensor.sizes().begin(), tensor.sizes().end());
  one["data_offsets"] = {begin, begin + tensor.nbytes()};
  return nlohmann::json(name).dump(-1, ' ', false, kReplaceBadText) + ":" +
         one.dump(-1, ' ', false, kReplaceBadText);
}

void write_tensor(AtomicFile& file, const at::Tensor& tensor) {
  const at::Tensor whole = tensor.detach().to(at::kCPU).resolve_conj().resolve_neg().contiguous();
  if (whole.numel() > 0) file.write(whole.const_data_ptr(), whole.nbytes());
}

/// \throws CheckpointError where files have no name for the tensor's type.
void check_dtype(const std::string& path, const std::string& name, const at::Tensor& tensor) {
  if (!safetensors_dtype(tensor.scalar_type()).empty()) return;
  throw CheckpointError(text("cannot write ", path, ": .safetensors files know no ",
                             dtype_name(tensor.scalar_type()), " (tensor '", name, "')"));
}

}  // namespace

bool looks_like_safetensors(std::string_view file) {
  if (file.size() < 9 || file[8] != '{') return false;
  // Also a truncated one, which gets its own error.
  return safetensors_header_size(file) <= kLongestHeader;
}

Value read_safetensors(const std::shared_ptr<MappedFile>& file) {
  const std::string_view view = file->view();
  const uint64_t header = view.size() < 8 ? 0 : safetensors_header_size(view);
  if (view.size() < 8 || header > view.size() - 8) {
    throw CheckpointError("the file was cut short: the safetensors header is longer than it");
  }
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(view.substr(8, header));
  } catch (const nlohmann::json::exception&) {
    throw CheckpointError("the safetensors header is no JSON");
  }
  if (!json.is_object()) throw CheckpointError("the safetensors header is no JSON object");
  const uint64_t data = 8 + header;
  std::vector<SafetensorsEntry> entries;
  Value metadata = Value::dict();
  for (const auto& [name, entry] : json.items()) {
    if (name == kSafetensorsMetadata) {
      for (const auto& [key, value] : entry.items()) {
        if (value.is_string()) metadata.set(key, value.get<std::string>());
      }
      continue;
    }
    entries.push_back(read_safetensors_entry(name, entry, view.size() - data));
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.begin < b.begin; });
  FileStorages storages(file);
  // Names of a JSON object are unique, so no search for earlier ones.
  ValueDict out;
  out.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) {
    if (!entry.dtype) {
      out.emplace_back(entry.name, OpaqueObject{"torch.Tensor of " + entry.type, {}, {}});
      continue;
    }
    const at::Tensor flat =
        storages.view(data + entry.begin, entry.end - entry.begin, *entry.dtype);
    out.emplace_back(entry.name, flat.view(entry.shape));
  }
  const bool says_more = metadata.as_dict().size() > (metadata.find("format") ? 1U : 0U);
  if (says_more) out.emplace_back(kSafetensorsMetadata, metadata);
  return Value::dict(std::move(out));
}

void write_safetensors(const std::string& path, const Value& tensors) {
  nlohmann::ordered_json metadata;
  metadata["format"] = "pt";
  std::vector<std::pair<std::string, at::Tensor>> entries;
  for (const auto& [name, value] : tensors.as_dict()) {
    if (name.is_string() && name.as_string() == kSafetensorsMetadata && value.is_dict()) {
      for (const auto& [key, word] : value.as_dict()) metadata[key.as_string()] = word.as_string();
      continue;
    }
    if (!name.is_string() || !value.is_tensor() || !value.as_tensor().defined()) {
      throw CheckpointError(text("cannot write ", path, ": '",
                                 name.is_string() ? name.as_string() : name.kind_text(), "' is ",
                                 value.kind_text(), "; a .safetensors file holds tensors only"));
    }
    check_dtype(path, name.as_string(), value.as_tensor());
    entries.emplace_back(name.as_string(), value.as_tensor());
  }
  uint64_t end = 0;
  std::string header =
      text("{\"", kSafetensorsMetadata, "\":", metadata.dump(-1, ' ', false, kReplaceBadText));
  std::unordered_set<std::string> seen;
  for (const auto& [name, tensor] : entries) {
    if (!seen.insert(name).second || name == kSafetensorsMetadata) {
      throw CheckpointError(text("cannot write ", path, ": '", name, "' occurs twice"));
    }
    header += "," + entry_text(name, tensor, end);
    end += tensor.nbytes();
  }
  header += "}";
  while (header.size() % 8 != 0) header.push_back(' ');  // so that data are aligned
  try {
    AtomicFile file(path);
    file.write(header_size_text(header.size()));
    file.write(header);
    for (const auto& [name, tensor] : entries) write_tensor(file, tensor);
    file.commit();
  } catch (const FileError& error) {
    throw CheckpointError(error.what());
  }
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, uint64_t header_room)
    : path_(path),
      header_(text("{\"", kSafetensorsMetadata, "\":{\"format\":\"pt\"}")),
      // The format allows spaces after the header.
      room_(std::min((header_.size() + header_room + 8) / 8 * 8, kLongestHeader)),
      file_(path) {
  file_.write(header_size_text(room_));
  file_.write(std::string(room_, ' '));
}

void SafetensorsWriter::add(const std::string& name, const at::Tensor& tensor) {
  check_dtype(path_, name, tensor);
  if (!names_.insert(name).second) {
    throw CheckpointError(text("cannot write ", path_, ": '", name, "' occurs twice"));
  }
  const std::string entry = "," + entry_text(name, tensor, file_.position() - 8 - room_);
  if (header_.size() + entry.size() + 1 > room_) {
    throw CheckpointError(text("cannot write ", path_, ": its header has no room for '", name,
                               "' behind ", names_.size() - 1, " others"));
  }
  header_ += entry;
  write_tensor(file_, tensor);
}

void SafetensorsWriter::commit() {
  header_ += "}";
  file_.write_at(8, header_.data(), header_.size());
  file_.commit();
}

}  // namespace seg
