// Damaged files: each is read or refused with a message, whatever was done to it.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "registry/error.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/unpickle.hpp"
#include "segcore/io/zip_file.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

std::string file_bytes(const std::string& name) {
  std::ifstream in(source_path("tests/data/io/" + name), std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Flips bytes, cuts, repeats, and enlarges what may be a length.
std::string mutated(std::string bytes, std::mt19937& random) {
  auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  const size_t changes = 1 + below(4);
  for (size_t i = 0; i < changes && !bytes.empty(); ++i) {
    const size_t at = below(bytes.size());
    switch (below(6)) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, 1 + below(8));
        break;
      case 4:
        bytes.insert(at, bytes.substr(below(bytes.size()), below(64)));
        break;
      default:
        for (size_t k = at; k < std::min(bytes.size(), at + 1 + below(8)); ++k) bytes[k] = '\xff';
    }
  }
  return bytes;
}

/// Uses every tensor, so that one that reaches beyond its storage is noticed.
void touch(const Value& v, int depth = 0) {
  if (depth > 20) return;
  if (v.is_tensor() && v.as_tensor().defined()) {
    const at::Tensor& t = v.as_tensor();
    if (t.numel() < 1000000) t.clone();
  } else if (v.is_list() || v.is_tuple()) {
    for (const Value& item : v.as_list()) touch(item, depth + 1);
  } else if (v.is_dict()) {
    for (const auto& [key, value] : v.as_dict()) touch(value, depth + 1);
  }
}

struct Outcome {
  int read = 0, refused = 0;
};

template <class Read>
Outcome mutate_and_read(const std::string& original, int times, const Read& read) {
  std::mt19937 random(1);
  Outcome out;
  for (int i = 0; i < times; ++i) {
    const std::string bytes = mutated(original, random);
    if (bytes.empty()) continue;
    try {
      touch(read(bytes));
      ++out.read;
    } catch (const CheckpointError& e) {
      EXPECT_STRNE(e.what(), "");
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
