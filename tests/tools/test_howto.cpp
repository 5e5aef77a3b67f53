/// The recipes of docs/howto.md, run as they are written, on less data and for fewer steps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "registry/file_text.hpp"
#include "segcore/image/raster_writer.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

/// A section with its fenced blocks, in order.
struct Recipe {
  std::string title;
  std::vector<std::pair<std::string, std::string>> blocks;  ///< language, text
};

std::vector<Recipe> recipes() {
  std::vector<Recipe> out;
  std::ifstream in(source_path("docs/howto.md"));
  std::string language;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("## ")) {
      out.push_back({.title = line.substr(3), .blocks = {}});
    } else if (line.starts_with("```")) {
      language = line.substr(3);
      if (!language.empty()) out.back().blocks.emplace_back(language, "");
    } else if (!language.empty()) {
      out.back().blocks.back().second += line + "\n";
    }
  }
  return out;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  for (; at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// configs/quickstart.yaml in four steps of two images.
std::string short_quickstart() {
  std::string yaml = file_text(source_path("configs/quickstart.yaml")).value_or("");
  yaml = replaced(yaml, "&iters 800", "&iters 4");
  yaml = replaced(yaml, "&interval 200", "&interval 4");
  yaml = replaced(yaml, "&warm_up 50", "&warm_up 1");
  return yaml +
         "train_dataloader: {batch_size: 2, dataset: {num_samples: 8}}\n"
         "val_dataloader: {dataset: {num_samples: 2}}\n"
         "test_dataloader: {dataset: {num_samples: 2}}\n";
}

class Howto : public ::testing::TestWithParam<Recipe> {
 protected:
  void SetUp() override {
    setenv("OMP_NUM_THREADS", "1", 1);
    fs::create_directory(dir_ / "configs");
    fs::create_directory_symlink(source_path("configs/_base_"), dir_ / "configs/_base_");
    dir_.write("configs/quickstart.yaml", short_quickstart());
    fs::create_directory(dir_ / "tools");
    for (const char* tool :
         {"train", "test", "predict", "inspect", "browse_dataset", "analyze_logs", "ensemble"}) {
      fs::create_symlink(program_path(tool), dir_ / (std::string("tools/") + tool));
    }
    fs::create_directory(dir_ / "photos");
    write_png(dir_ / "photos/a.png", tiny_image(64, 96, 3));
    write_raster_pair();
    // Recipes may refer to files of those before them.
    for (const Recipe& recipe : recipes()) {
      for (const auto& [language, text] : recipe.blocks) {
        if (language == "yaml") write_config(text);
      }
    }
  }
  void write_raster_pair() const {
    fs::create_directories(dir_ / "data/rasters/img");
    fs::create_directories(dir_ / "data/rasters/ann");
    cv::Mat bands(96, 128, CV_16UC(10));
    cv::RNG(1).fill(bands, cv::RNG::UNIFORM, 500, 1500);
    write_raster(dir_ / "data/rasters/img/a.tif", bands, {});
    write_raster(dir_ / "data/rasters/ann/a.tif", tiny_labels(96, 128, 5), {});
  }
  void write_config(const std::string& text) const {
    ASSERT_TRUE(text.starts_with("# configs/")) << text;
    dir_.write(text.substr(2, text.find('\n') - 2), iterations_of_test(text));
  }
  static std::string iterations_of_test(std::string text) {
    for (size_t at; (at = text.find("29512")) != std::string::npos;) {
      static const std::string port = std::to_string(free_port());
      text.replace(at, 5, port);
    }
    for (size_t at; (at = text.find("iter_800")) != std::string::npos;) {
      text.replace(at, 8, "iter_4");
    }
    return text;
  }
  CommandResult shell(const std::string& script) const {
    dir_.write("script.sh", "set -e\n" + script);
    return run_command("cd " + dir_.path().string() + " && sh script.sh");
  }

  TempDir dir_;
};

TEST_P(Howto, RunsAsWritten) {
  const CommandResult quickstart = shell("tools/train configs/quickstart.yaml");
  ASSERT_EQ(quickstart.status, 0) << quickstart.output;
  bool ran = false;
  for (const auto& [language, text] : GetParam().blocks) {
    if (language != "sh") continue;
    ran = true;
    const CommandResult result = shell(iterations_of_test(text));
    EXPECT_EQ(result.status, 0) << text << "\n" << result.output;
    EXPECT_THAT(result.output, ::testing::Not(::testing::HasSubstr("error: "))) << text;
  }
  EXPECT_TRUE(ran) << "a recipe without a command";
}

INSTANTIATE_TEST_SUITE_P(Docs, Howto, ::testing::ValuesIn(recipes()), [](const auto& recipe) {
  std::string name;
  for (const char c : recipe.param.title) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) name += c;
  }
  return name;
});

}  // namespace
}  // namespace seg::test
