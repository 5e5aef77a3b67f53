/// Wrong configurations, command lines, data and checkpoints, each with all messages of the
/// programs of it and their exit code. The cases are tests/data/broken/*.yaml.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "registry/schema.hpp"
#include "registry/yaml.hpp"
#include "runners/start/parts.hpp"
#include "segcore/image/image_io.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

/// A file that is no text: a copy, or a picture of one value; then damaged.
struct BrokenFile {
  std::optional<std::string> copy;
  std::array<int64_t, 2> size{40, 40};
  int64_t bands = 1, value = 0;
  std::optional<int64_t> cut, flip;
  static Schema<BrokenFile> schema() {
    using P = BrokenFile;
    return Schema<P>("A file.")
        .optional("copy", &P::copy, "a file of the folder, or else of tests/data")
        .optional("size", &P::size, "height and width of a picture")
        .optional("bands", &P::bands, "bands of a picture")
        .optional("value", &P::value, "of all pixels of a picture")
        .optional("cut", &P::cut, "only so many bytes are kept")
        .optional("flip", &P::flip, "all bits of this byte are flipped");
  }
};

struct BrokenCase {
  std::string name, run;
  std::map<std::string, std::string> files;
  std::map<std::string, BrokenFile> make;
  std::vector<std::string> remove;
  int64_t exit = 1;
  std::string standard_error;
  std::optional<std::vector<std::string>> leaves;
  static Schema<BrokenCase> schema() {
    using P = BrokenCase;
    return Schema<P>("A wrong input.")
        .required("name", &P::name, "what is wrong")
        .required("run", &P::run, "program and arguments")
        .optional("files", &P::files, "texts of files")
        .optional("make", &P::make, "other files")
        .optional("remove", &P::remove, "files that are taken away first")
        .optional("exit", &P::exit, "exit code")
        .optional("leaves", &P::leaves, "all that is in the folder afterwards")
        .required("stderr", &P::standard_error,
                  "all that is written to standard error; DIR is the folder, '...' at the end of a "
                  "line stands for the rest of it");
  }
};

std::vector<BrokenCase> broken_cases(const std::string& table) {
  // Not as a configuration: "{{" in a case means nothing here.
  const std::string path = source_path("tests/data/broken/" + table + ".yaml");
  const auto bytes = read_file_bytes(path);
  const Config tree = parse_config(std::string(bytes.begin(), bytes.end()), path);
  Diagnostics problems;
  auto cases = Convert<std::vector<BrokenCase>>::from(tree, "", problems);
  if (!cases || problems.has_errors()) throw ConfigError(problems);
  return *cases;
}

/// The program of a case, started in the folder of the case.
std::string broken_command(const TempDir& dir, const std::string& run) {
  const std::string bin = fs::path(program_path("train")).parent_path().string();
  return "cd " + dir.path().string() + " && PATH=" + bin + ":$PATH OMP_NUM_THREADS=1 timeout 120 " +
         run + " >" + (dir / "out.txt") + " 2>" + (dir / "err.txt");
}

/// What every case finds: tiny.yaml draws its data, pairs.yaml reads img/ and ann/, good.pth has
/// weights for both.
void make_good_files(const TempDir& dir) {
  dir.write("tiny.yaml", tiny_run_yaml());
  dir.write("pairs.yaml", R"(_base_: tiny.yaml
train_dataloader:
  num_workers: 1
  batch_size: 2
  dataset:
    _delete_: true
    type: BaseSegDataset
    data_prefix: {img_path: img, seg_map_path: ann}
    img_suffix: .png
    seg_map_suffix: .png
    metainfo: {classes: [background, disc, square, triangle, ring]}
    pipeline:
    - {type: LoadImageFromFile}
    - {type: LoadAnnotations}
    - {type: RandomCrop, crop_size: [32, 32]}
    - {type: PackSegInputs}
train_cfg: {max_iters: 5}
)");
  write_tiny_dataset(dir, 3, 5, 40, 40);
}

void make_broken_file(const TempDir& dir, const std::string& name, const BrokenFile& file) {
  std::string bytes;
  if (file.copy) {
    const std::string mine = dir / *file.copy;
    const auto read =
        read_file_bytes(fs::exists(mine) ? mine : source_path("tests/data/" + *file.copy));
    bytes.assign(read.begin(), read.end());
  } else {
    const int type = CV_MAKETYPE(CV_8U, static_cast<int>(file.bands));
    const auto png =
        encode_png(cv::Mat(static_cast<int>(file.size[0]), static_cast<int>(file.size[1]), type,
                           cv::Scalar::all(static_cast<double>(file.value))));
    bytes.assign(png.begin(), png.end());
  }
  if (file.flip) {
    char& byte = bytes.at(static_cast<size_t>(*file.flip));
    byte = static_cast<char>(~byte);
  }
  if (file.cut) {
    ASSERT_LT(static_cast<size_t>(*file.cut), bytes.size()) << name;
    bytes.resize(static_cast<size_t>(*file.cut));
  }
  dir.write(name, bytes);
}

/// `expected` if `actual` matches it, where "..." stands for the rest of a line; else `actual`.
std::string as_expected(const std::string& actual, const std::string& expected) {
  std::string out;
  size_t at = 0;
  for (size_t begin = 0; begin < expected.size();) {
    const size_t end = std::min(expected.find('\n', begin), expected.size() - 1);
    std::string line = expected.substr(begin, end + 1 - begin);
    begin = end + 1;
    out += line;
    if (line == "...\n") return out;
    const bool open = line.ends_with("...\n");
    if (open) line.resize(line.size() - 4);
    if (actual.compare(at, line.size(), line) != 0) return actual;
    at += line.size();
    if (open) at = std::min(actual.find('\n', at), actual.size() - 1) + 1;
  }
  return at == actual.size() ? out : actual;
}

/// The messages of `print_config --check a.yaml` in the folder.
std::string messages_of_config(const TempDir& dir) {
  const fs::path outside = fs::current_path();
  fs::current_path(dir.path());
  std::string actual = "no error";
  try {
    build_all(load_run_config("a.yaml"));
  } catch (const ConfigError& e) {
    const std::string warnings = e.diagnostics.warnings_text();
    actual = warnings + (warnings.empty() ? "" : "\n") + e.what() + "\n";
  }
  fs::current_path(outside);
  return actual;
}

class BrokenInput : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const TempDir dir;
    make_good_files(dir);
    const std::string train =
        "train tiny.yaml --work-dir w --cfg-options train_cfg.max_iters=1 train_cfg.val_interval=9";
    ASSERT_EQ(std::system(broken_command(dir, train).c_str()), 0) << dir.read("err.txt");
    checkpoint_ = dir.read("w/iter_1.pth");
  }

  static void check(const BrokenCase& broken) {
    SCOPED_TRACE(broken.name + ": " + broken.run);
    const TempDir dir;
    make_good_files(dir);
    dir.write("good.pth", checkpoint_);
    for (const auto& name : broken.remove) fs::remove_all(dir / name);
    for (const auto& [name, content] : broken.files) dir.write(name, content);
    for (const auto& [name, file] : broken.make) make_broken_file(dir, name, file);
    // In this process where the messages are the same, because it is much faster.
    const bool here = broken.run == "print_config --check a.yaml";
    const int status = here ? 0 : std::system(broken_command(dir, broken.run).c_str());
    std::string actual = here ? messages_of_config(dir) : dir.read("err.txt");
    const std::string folder = dir.path().string();
    for (size_t at = 0; (at = actual.find(folder, at)) != std::string::npos;) {
      actual.replace(at, folder.size(), "DIR");
    }
    EXPECT_EQ(as_expected(actual, broken.standard_error), broken.standard_error);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(here ? 1 : WEXITSTATUS(status), broken.exit);
    if (broken.leaves) {
      std::set<std::string> left;
      for (const auto& entry : fs::directory_iterator(dir.path())) {
        left.insert(entry.path().filename().string());
      }
      EXPECT_EQ(left, std::set<std::string>(broken.leaves->begin(), broken.leaves->end()));
    }
    // Whatever the table expects: these are not messages for people.
    for (const char* never : {"internal error", "terminate", "c10::", "std::", "frame #"}) {
      EXPECT_EQ(actual.find(never), std::string::npos) << actual;
    }
  }
  static void check_table(const std::string& table) {
    const auto cases = broken_cases(table);
    std::set<std::string> names;
    for (const BrokenCase& broken : cases) {
      check(broken);
      EXPECT_TRUE(names.insert(broken.name).second) << "twice: " << broken.name;
    }
    EXPECT_GE(cases.size(), 20u);
  }

  static std::string checkpoint_;
};
std::string BrokenInput::checkpoint_;

/// With `skip_corrupt: true` a damaged image is named, counted and replaced by another.
TEST_F(BrokenInput, CorruptImagesAreSkippedWhereAsked) {
  const TempDir dir;
  make_good_files(dir);
  dir.write("img/01.png", "no picture");
  dir.write("a.yaml", "_base_: pairs.yaml\ntrain_dataloader: {dataset: {skip_corrupt: true}}\n");
  const int status = std::system(broken_command(dir, "train a.yaml --work-dir w").c_str());
  const std::string log = dir.read("out.txt") + dir.read("err.txt");
  EXPECT_EQ(status, 0) << log;
  EXPECT_NE(log.find("sample 1 is skipped: img/01.png: is not a picture that can be read (JPEG, "
                     "PNG, TIFF, BMP, WebP or Netpbm), or is damaged (1 skipped so far)"),
            std::string::npos)
      << log;
  EXPECT_TRUE(fs::exists(dir / "w/iter_5.pth"));
}

TEST_F(BrokenInput, Configurations) { check_table("configs"); }
TEST_F(BrokenInput, CommandLines) { check_table("command_lines"); }
TEST_F(BrokenInput, Data) { check_table("data"); }
TEST_F(BrokenInput, Checkpoints) { check_table("checkpoints"); }

}  // namespace
}  // namespace seg::test
