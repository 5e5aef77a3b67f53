// Damaged files: each is read or refused with a message, whatever was done to it.
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "registry/error.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/unpickle.hpp"
#include "segcore/io/zip_file.hpp"
#include "segcore/torch.hpp"
#include "tests/support/largest_request.hpp"
#include "tests/support/mutations.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

std::string file_bytes(const std::string& name) {
  std::ifstream in(source_path("tests/data/io/" + name), std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The memory of tensors does not come from operator new.
class NotedTensors final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    test::largest_request = std::max(test::largest_request, size);
    return inner_->allocate(size);
  }
  void copy_data(void* to, const void* from, size_t size) const override {
    inner_->copy_data(to, from, size);
  }
  c10::DeleterFnPtr raw_deleter() const override { return inner_->raw_deleter(); }

 private:
  c10::Allocator* inner_ = c10::GetDefaultCPUAllocator();
};

/// Notes requests for tensors while it lives.
class NotingTensors {
 public:
  NotingTensors() { c10::SetCPUAllocator(&noted_, /*priority=*/1); }
  ~NotingTensors() { c10::SetCPUAllocator(c10::GetDefaultCPUAllocator(), /*priority=*/1); }

 private:
  static inline NotedTensors noted_;
};

/// Uses every tensor, so that one that reaches beyond its storage is noticed. No storage may be
/// larger than the file.
void touch(const Value& v, size_t file_size, int depth = 0) {
  if (depth > 20) return;
  if (v.is_tensor() && v.as_tensor().defined()) {
    const at::Tensor& t = v.as_tensor();
    if (t.has_storage()) {
      EXPECT_LE(t.storage().nbytes(), file_size);
    }
    if (t.numel() < 1000000) t.clone();
  } else if (v.is_list() || v.is_tuple()) {
    for (const Value& item : v.as_list()) touch(item, file_size, depth + 1);
  } else if (v.is_dict()) {
    for (const auto& [key, value] : v.as_dict()) touch(value, file_size, depth + 1);
  }
}

/// The storages of PicklesBehindAGoodChecksum do not come from the file.
constexpr size_t kStorageOfPickle = 16000;

struct Outcome {
  int read = 0, refused = 0;
};

template <class Read>
Outcome mutate_and_read(const std::string& original, int times, const Read& read) {
  const NotingTensors noting;
  std::mt19937 random(1);
  Outcome out;
  for (int i = 0; i < times; ++i) {
    const std::string bytes = test::mutated(original, random);
    if (bytes.empty()) continue;
    test::largest_request = 0;
    try {
      const Value value = read(bytes);
      EXPECT_LE(test::largest_request, test::request_limit(bytes.size()));
      touch(value, bytes.size() + kStorageOfPickle);
      ++out.read;
    } catch (const CheckpointError& e) {
      EXPECT_STRNE(e.what(), "");
      EXPECT_LE(test::largest_request, test::request_limit(bytes.size()));
      ++out.refused;
    }
  }
  return out;
}

TEST(MutatedFiles, AreReadOrRefused) {
  const test::TempDir dir;
  const auto from_file = [&](const std::string& bytes) {
    std::filesystem::remove(dir / "a.pth");  // overwriting would wait for the disk
    return read_checkpoint(dir.write("a.pth", bytes));
  };
  for (const char* name : {"zip.pt", "legacy.pt", "safe.bin", "big_endian.pt", "plain4.bin"}) {
    SCOPED_TRACE(name);
    const Outcome outcome = mutate_and_read(file_bytes(name), 600, from_file);
    EXPECT_GT(outcome.read, 0);
    EXPECT_GT(outcome.refused, 0);
  }
}

TEST(MutatedFiles, PicklesBehindAGoodChecksum) {
  const std::string archive = file_bytes("zip.pt");
  std::string pickle;
  for (const ZipEntry& entry : read_zip_directory(archive)) {
    if (entry.name.find("data.pkl") != std::string::npos) {
      pickle = archive.substr(entry.offset, entry.size);
    }
  }
  ASSERT_FALSE(pickle.empty());
  const StorageSource storages = [](const StorageReference& reference) {
    if (reference.numel > 1000) throw CheckpointError("too large");
    return torch::zeros({reference.numel}, reference.dtype);
  };
  const Outcome outcome = mutate_and_read(
      pickle, 2000, [&](const std::string& bytes) { return unpickle(bytes, storages).value; });
  EXPECT_GT(outcome.read, 0);
  EXPECT_GT(outcome.refused, 0);
}

}  // namespace
}  // namespace seg
