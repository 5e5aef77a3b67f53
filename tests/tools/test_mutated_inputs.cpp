/// Damaged configs, pictures, masks, lists and checkpoints: whatever was done to a file, no program
/// ends with an internal error (exit code 70). $SEGCORE_MUTATIONS sets how many of each kind are
/// tried; tests/fuzz/mutate_inputs tries many.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <sstream>

#include "registry/yaml.hpp"
#include "runners/start/parts.hpp"
#include "segcore/data/dataset.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/named_weights.hpp"
#include "segcore/torch.hpp"
#include "tests/support/mutations.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"
#include "tools/common/report_exception.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Damaged sizes must not take the memory of the machine.
class MemoryLimit {
 public:
  MemoryLimit() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    getrlimit(RLIMIT_AS, &before_);
    rlimit limited = before_;
    limited.rlim_cur = std::min<rlim_t>(before_.rlim_max, rlim_t{12} << 30);
    setrlimit(RLIMIT_AS, &limited);
#endif
  }
  ~MemoryLimit() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    setrlimit(RLIMIT_AS, &before_);
#endif
  }
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  rlimit before_{};
};

class MutatedInputs : public ::testing::Test {
 protected:
  static int count() {
    const char* wanted = std::getenv("SEGCORE_MUTATIONS");
    return wanted ? std::atoi(wanted) : 40;
  }

  /// Runs a use of a damaged file as a program would, and expects an exit code for users. The file
  /// of an internal error is kept.
  template <class Use>
  void expect_no_internal_error(const std::string& file, const Use& use) {
    std::ostringstream messages;
    auto* console = std::cerr.rdbuf(messages.rdbuf());
    int code = 0;
    try {
      use();
    } catch (...) {
      code = report_exception("test");
    }
    std::cerr.rdbuf(console);
    ++(code == 0 ? used_ : refused_);
    if (code != 70) return;
    const fs::path kept = fs::temp_directory_path() /
                          ("segcore-mutated-" + kind_ + "-" + fs::path(file).filename().string());
    std::error_code ignored;
    fs::copy_file(file, kept, fs::copy_options::overwrite_existing, ignored);
    ADD_FAILURE() << messages.str() << "the file is kept as " << kept;
  }

  MemoryLimit limit_;
  TempDir dir_;
  std::mt19937 random_{7};
  std::string kind_;
  int used_ = 0, refused_ = 0;
};

TEST_F(MutatedInputs, PicturesOfEveryFormat) {
  kind_ = "picture";
  std::vector<std::string> pictures;
  for (const auto& entry : fs::directory_iterator(source_path("tests/data/images"))) {
    if (!entry.path().string().ends_with(".py") && entry.path().extension() != ".json") {
      pictures.push_back(entry.path().string());
    }
  }
  std::sort(pictures.begin(), pictures.end());
  for (const std::string& picture : pictures) {
    const std::string original = bytes_of(picture);
    for (int i = 0; i < std::max(1, count() / 8); ++i) {
      const std::string damaged = mutated(original, random_);
      const std::string file = dir_.write(fs::path(picture).filename().string(), damaged);
      const std::span bytes(reinterpret_cast<const uint8_t*>(damaged.data()), damaged.size());
      expect_no_internal_error(file, [&] { decode_image(bytes, file); });
      expect_no_internal_error(file, [&] { decode_image(bytes, file, ImageFlag::kUnchanged); });
      expect_no_internal_error(file, [&] { decode_image_in_file_order(bytes, file); });
      expect_no_internal_error(file, [&] { decode_labels(bytes, file); });
    }
  }
  EXPECT_GT(refused_, 0);
}

TEST_F(MutatedInputs, PicturesMasksAndListsOfDataSets) {
  write_tiny_dataset(dir_, 2, 3);
  const std::string names = dir_.write("classes.txt", "sky\nroad\ncar\n");
  dir_.write("list.txt", "00\n01\n");
  const std::string yaml =
      "{type: BaseSegDataset, data_root: " + dir_.path().string() +
      ", ann_file: list.txt, img_suffix: .png, data_prefix: {img_path: img, seg_map_path: ann}, "
      "metainfo: {classes: " +
      names +
      "}, pipeline: [{type: LoadImageFromFile}, {type: "
      "LoadAnnotations}, {type: RandomCrop, crop_size: [8, 8]}, {type: PackSegInputs}]}";
  for (const char* name : {"img/01.png", "ann/01.png", "list.txt", "classes.txt"}) {
    kind_ = "data";
    const std::string original = dir_.read(name);
    for (int i = 0; i < count(); ++i) {
      const std::string file = dir_.write(name, mutated(original, random_));
      expect_no_internal_error(file, [&] {
        const auto dataset = Spec<Dataset>::of(yaml).build();
        for (size_t k = 0; k < dataset->size(); ++k) dataset->get(k, 0, 0);
      });
    }
    dir_.write(name, original);
  }
  EXPECT_GT(used_, 0);
  EXPECT_GT(refused_, 0);
}

/// Puts an odd value in place of one that the text has after a colon or in brackets.
std::string with_odd_value(const std::string& yaml, std::mt19937& random) {
  static const std::vector<std::string> odd{"-1",   "0",    "1.5", "null", "[]",       "{}", "''",
                                            "true", "[-1]", "x",   "1e30", "[1, [2]]", "7"};
  std::vector<std::pair<size_t, size_t>> values;
  for (size_t at = 0; (at = yaml.find(": ", at)) != std::string::npos; at += 2) {
    const size_t begin = at + 2, end = yaml.find_first_of(",]}\n", begin);
    if (end != std::string::npos && end > begin) values.emplace_back(begin, end - begin);
  }
  std::string out = yaml;
  const auto [begin, length] = values[random() % values.size()];
  return out.replace(begin, length, odd[random() % odd.size()]);
}

TEST_F(MutatedInputs, Configs) {
  kind_ = "config";
  const std::string original = tiny_run_yaml();
  for (int i = 0; i < count(); ++i) {
    const std::string text =
        i % 2 == 0 ? mutated(original, random_) : with_odd_value(original, random_);
    const std::string file = dir_.write("config.yaml", text);
    expect_no_internal_error(file, [&] { build_all(load_run_config(file)); });
  }
  EXPECT_GT(used_, 0);
  EXPECT_GT(refused_, 0);
}

TEST_F(MutatedInputs, Checkpoints) {
  kind_ = "checkpoint";
  const std::string yaml = dir_.write("tiny.yaml", tiny_run_yaml());
  const auto model = load_run_config(yaml).model.build();
  Value checkpoint = Value::dict(), weights = Value::dict();
  for (const auto& parameter : model->named_parameters()) {
    weights.set(parameter.key(), parameter.value().detach());
  }
  for (const auto& buffer : model->named_buffers()) weights.set(buffer.key(), buffer.value());
  checkpoint.set("state_dict", weights);
  for (const char* name : {"whole.pth", "whole.safetensors"}) {
    const std::string file = dir_ / name;
    if (file.ends_with(".pth")) {
      write_checkpoint(file, checkpoint);
    } else {
      write_safetensors(file, weights);
    }
    const std::string original = bytes_of(file);
    for (int i = 0; i < count(); ++i) {
      dir_.write(name, mutated(original, random_));
      expect_no_internal_error(file,
                               [&] { load_whole_model(*model, read_checkpoint(file), file); });
    }
  }
  EXPECT_GT(refused_, 0);
}

}  // namespace
}  // namespace seg::test
