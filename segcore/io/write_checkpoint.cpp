#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "registry/error.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/dtypes.hpp"
#include "segcore/io/zip_file.hpp"

namespace seg {
namespace {

/// Which storages of the tensors are written as they are, shared by all their views, and which
/// tensors get a compact copy because they use little of a large storage.
class StoragePlan {
 public:
  void add(const at::Tensor& t) {
    Use& use = uses_[t.storage().unsafeGetStorageImpl()];
    use.used += static_cast<uint64_t>(t.numel()) * t.element_size();
    use.tensors += 1;
    use.dense = use.dense && t.is_non_overlapping_and_dense();
  }
  /// Tensors that together use less than half of a storage would carry the rest of it along. A
  /// storage of a single tensor is written exactly.
  bool keeps_storage(const at::Tensor& t) const {
    const Use& use = uses_.at(t.storage().unsafeGetStorageImpl());
    const uint64_t size = t.storage().nbytes();
    if (use.tensors == 1) return use.dense && use.used == size;
    return use.used >= size / 2;
  }

 private:
  struct Use {
    uint64_t used = 0;
    int64_t tensors = 0;
    bool dense = true;
  };
  std::unordered_map<const void*, Use> uses_;
};

/// A storage that goes into the archive as data/KEY.
struct PlannedStorage {
  at::Tensor bytes;   ///< uint8 over the storage of the tensors
  at::Tensor tensor;  ///< or one tensor of which a compact copy is written
  uint64_t size = 0;
};

/// Invalid UTF-8 (a path of an old file system) would make the file unreadable in Python: each such
/// byte becomes U+FFFD.
std::string valid_utf8(const std::string& in) {
  std::string out;
  out.reserve(in.size());
  for (size_t i = 0; i < in.size();) {
    const auto c = static_cast<uint8_t>(in[i]);
    const size_t tails = c < 0x80             ? 0
                         : (c & 0xe0) == 0xc0 ? 1
                         : (c & 0xf0) == 0xe0 ? 2
                         : (c & 0xf8) == 0xf0 ? 3
                                              : 4;
    bool good = tails < 4 && i + tails < in.size();
    uint32_t code = tails == 0 ? c : c & (0x3fu >> tails);
    for (size_t k = 1; good && k <= tails; ++k) {
      const auto tail = static_cast<uint8_t>(in[i + k]);
      good = (tail & 0xc0) == 0x80;
      code = code << 6 | (tail & 0x3f);
    }
    constexpr uint32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
    good = good && code >= kSmallest[tails] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    if (good) {
      out.append(in, i, tails + 1);
      i += tails + 1;
    } else {
      out += "\xef\xbf\xbd";
      i += 1;
    }
  }
  return out;
}

/// Writes a value as a pickle of protocol 2, as torch.save does.
class Pickler {
 public:
  explicit Pickler(std::string path) : path_(std::move(path)) {}

  std::string run(const Value& root) {
    plan(root, 0);
    planned_.clear();
    out_ = "\x80\x02";
    save(root, 0);
    out_ += '.';
    return std::move(out_);
  }
  const std::vector<PlannedStorage>& storages() const { return storages_; }

 private:
  static constexpr int kDeepest = 1000;
  [[noreturn]] void fail(const std::string& what) const {
    throw CheckpointError(text("cannot write ", path_, ": ", what));
  }

  /// Looks at all tensors first: whether a storage is written whole depends on all its views.
  void plan(const Value& v, int depth) {
    if (depth > kDeepest) fail("its contents are nested too deeply");
    if (v.is_tensor()) {
      const at::Tensor& t = v.as_tensor();
      if (!t.defined()) fail("it would hold an undefined tensor");
      if (t.layout() != at::kStrided || t.is_quantized() || t.is_meta()) {
        fail("it would hold " + v.kind_text() + " that is sparse, quantized or has no data");
      }
      plan_.add(t);
    } else if (v.is_list() || v.is_tuple()) {
      if (!planned_.emplace(&v.as_list(), true).second) return;
      for (const Value& item : v.as_list()) plan(item, depth + 1);
    } else if (v.is_dict()) {
      if (!planned_.emplace(&v.as_dict(), true).second) return;
      for (const auto& [key, value] : v.as_dict()) {
        plan(key, depth + 1);
        plan(value, depth + 1);
      }
    } else if (v.is_opaque()) {
      fail("it would hold " + v.kind_text() + ", which is only known by name");
    }
  }

  void number(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out_ += static_cast<char>(value >> (8 * i) & 0xff);
  }
  void integer(int64_t v) {
    if (v >= 0 && v < 256) {
      out_ += 'K';
      number(static_cast<uint64_t>(v), 1);
    } else if (v >= 0 && v < 65536) {
      out_ += 'M';
      number(static_cast<uint64_t>(v), 2);
    } else if (v >= INT32_MIN && v <= INT32_MAX) {
      out_ += 'J';
      number(static_cast<uint64_t>(v), 4);
    } else {
      out_ += "\x8a\x08";
      number(static_cast<uint64_t>(v), 8);
    }
  }
  void unicode(const std::string& raw) {
    const std::string utf8 = valid_utf8(raw);
    if (utf8.size() > UINT32_MAX) fail("it would hold a string of more than 4 GiB");
    out_ += 'X';
    number(utf8.size(), 4);
    out_ += utf8;
  }
  void put() {
    out_ += 'r';
    number(memo_size_++, 4);
  }
  void get(uint64_t place) {
    out_ += 'j';
    number(place, 4);
  }
  void global(std::string_view module, std::string_view name) {
    const std::string line = text('c', module, '\n', name, '\n');
    const auto [place, fresh] = globals_.emplace(line, memo_size_);
    if (!fresh) {
      get(place->second);
      return;
    }
    out_ += line;
    put();
  }
  void int_tuple(at::IntArrayRef items) {
    out_ += '(';
    for (int64_t item : items) integer(item);
    out_ += 't';
  }

  void save(const Value& v, int depth) {
    if (v.is_none()) {
      out_ += 'N';
    } else if (v.is_bool()) {
      out_ += v.as_bool() ? '\x88' : '\x89';
    } else if (v.is_int()) {
      integer(v.as_int());
    } else if (v.is_float()) {
      out_ += 'G';
      uint64_t bits = 0;
      const double value = v.as_float();
      std::memcpy(&bits, &value, sizeof(bits));
      for (int i = 8; i-- > 0;) out_ += static_cast<char>(bits >> (8 * i) & 0xff);
    } else if (v.is_string()) {
      unicode(v.as_string());
    } else if (v.is_bytes()) {
      save_bytes(v.as_bytes());
    } else if (v.is_tensor()) {
      save_tensor(v.as_tensor());
    } else if (v.is_tuple()) {
      save_tuple(v.as_list(), depth);
    } else if (v.is_list() && v.as_list_of_kind().kind != ListKind::kList) {
      save_made_of_list(v.as_list_of_kind(), depth);
    } else if (v.is_list()) {
      if (known(&v.as_list())) return;
      out_ += ']';
      remember(&v.as_list());
      if (v.as_list().empty()) return;
      out_ += '(';
      for (const Value& item : v.as_list()) save(item, depth + 1);
      out_ += 'e';
    } else if (v.is_dict()) {
      if (known(&v.as_dict())) return;
      out_ += '}';
      remember(&v.as_dict());
      if (v.as_dict().empty()) return;
      out_ += '(';
      for (const auto& [key, value] : v.as_dict()) {
        save(key, depth + 1);
        save(value, depth + 1);
      }
      out_ += 'u';
    }
  }
  /// Containers are shared as in Python: the second time only a reference is written.
  bool known(const void* container) {
    const auto found = places_.find(container);
    if (found == places_.end()) return false;
    get(found->second);
    return true;
  }
  void remember(const void* container) {
    places_.emplace(container, memo_size_);
    put();
  }
  void save_tuple(const ValueList& items, int depth) {
    // A tuple inside itself (through a list) would not end.
    if (depth > kDeepest) fail("its contents are nested too deeply");
    if (known(&items)) return;
    out_ += '(';
    for (const Value& item : items) save(item, depth + 1);
    out_ += 't';
    remember(&items);
  }
  /// A set or a deque: protocol 2 calls its class with a list.
  void save_made_of_list(const Value::List& made, int depth) {
    if (depth > kDeepest) fail("its contents are nested too deeply");
    if (known(made.items.get())) return;
    made.kind == ListKind::kDeque
        ? global("collections", "deque")
        : global("builtins", made.kind == ListKind::kSet ? "set" : "frozenset");
    out_ += "(](";
    for (const Value& item : *made.items) save(item, depth + 1);
    out_ += 'e';
    if (made.limit >= 0) integer(made.limit);
    out_ += "tR";
    remember(made.items.get());
  }
  /// Protocol 2 knows no bytes: a string of characters below 256 that is encoded.
  void save_bytes(const std::string& data) {
    global("_codecs", "encode");
    std::string utf8;
    for (const char c : data) {
      const auto b = static_cast<uint8_t>(c);
      if (b < 0x80) {
        utf8 += c;
      } else {
        utf8 += static_cast<char>(0xc0 | b >> 6);
        utf8 += static_cast<char>(0x80 | (b & 0x3f));
      }
    }
    out_ += '(';
    unicode(utf8);
    unicode("latin1");
    out_ += "tR";
  }

  void save_tensor(const at::Tensor& tensor) {
    // Python marks lazily conjugated and negated tensors in the pickle; here they are computed.
    const bool lazy = tensor.is_conj() || tensor.is_neg();
    const at::Tensor t = lazy ? tensor.resolve_conj().resolve_neg() : tensor;
    const bool whole = !lazy && plan_.keeps_storage(t);
    const auto element = static_cast<int64_t>(t.element_size());
    std::string key;
    std::vector<int64_t> strides;
    int64_t offset = 0;
    uint64_t bytes = 0;
    if (whole) {
      const c10::Storage& storage = t.storage();
      bytes = storage.nbytes();
      const auto [place, fresh] =
          storage_keys_.emplace(storage.unsafeGetStorageImpl(), storages_.size());
      key = text(place->second);
      if (fresh) {
        const at::Tensor view = at::empty({0}, t.options().dtype(at::kByte).requires_grad(false))
                                    .set_(storage, 0, {static_cast<int64_t>(bytes)}, {1});
        storages_.push_back({view, {}, bytes});
      }
      offset = t.storage_offset();
      strides = t.strides().vec();
    } else {
      key = text(storages_.size());
      bytes = static_cast<uint64_t>(t.numel() * element);
      storages_.push_back({{}, t.detach(), bytes});
      strides = at::empty(t.sizes(), at::TensorOptions().device(at::kMeta)).strides().vec();
    }
    const std::string_view type = storage_class(t.scalar_type());
    const bool typed = !type.empty();
    global("torch._utils", typed ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3");
    out_ += "((";
    unicode("storage");
    typed ? global("torch", type) : global("torch.storage", "UntypedStorage");
    unicode(key);
    unicode("cpu");
    integer(static_cast<int64_t>(typed ? bytes / static_cast<uint64_t>(element) : bytes));
    out_ += "tQ";
    integer(offset);
    int_tuple(t.sizes());
    int_tuple(strides);
    out_ += '\x89';  // requires_grad
    global("collections", "OrderedDict");
    out_ += ")R";  // no backward hooks
    if (!typed) global("torch", dtype_name(t.scalar_type()));
    out_ += "tR";
  }

  std::string path_, out_;
  StoragePlan plan_;
  std::unordered_map<const void*, bool> planned_;
  std::unordered_map<const void*, uint64_t> places_;
  std::unordered_map<std::string, uint64_t> globals_;
  std::unordered_map<const void*, size_t> storage_keys_;
  std::vector<PlannedStorage> storages_;
  uint64_t memo_size_ = 0;
};

}  // namespace

void write_checkpoint(const std::string& path, const Value& contents) {
  Pickler pickler(path);
  const std::string pickle = pickler.run(contents);
  try {
    AtomicFile file(path);
    ZipWriter zip(file);
    zip.add("archive/data.pkl", pickle);
    zip.add("archive/byteorder", "little");
    for (size_t i = 0; i < pickler.storages().size(); ++i) {
      const PlannedStorage& storage = pickler.storages()[i];
      const at::Tensor data = storage.bytes.defined() ? storage.bytes.to(at::kCPU)
                                                      : storage.tensor.to(at::kCPU).contiguous();
      zip.add(text("archive/data/", i), data.numel() ? data.const_data_ptr() : nullptr,
              storage.size);
    }
    zip.add("archive/version", "3\n");
    zip.finish();
    file.commit();
  } catch (const FileError& error) {
    throw CheckpointError(error.what());
  }
}

}  // namespace seg
