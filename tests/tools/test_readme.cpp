/// README.md's example of a head, as it stands there: CMakeLists.txt compiles it into a program
/// beside those of the build, and its config is read from the text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "registry/text.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;

/// The YAML block of README.md that names the example's head.
std::string readme_config() {
  std::ifstream in(source_path("README.md"));
  const std::string readme{std::istreambuf_iterator<char>(in), {}};
  const std::string open = "```yaml\n";
  for (size_t at = 0; (at = readme.find(open, at)) != std::string::npos;) {
    at += open.size();
    const std::string block = readme.substr(at, readme.find("```", at) - at);
    if (block.find("type: MyHead") != std::string::npos) return block;
  }
  return "";
}

class Readme : public ::testing::Test {
 protected:
  void SetUp() override {
    // The config belongs into configs/, whose files it names.
    std::filesystem::create_directory_symlink(source_path("configs/_base_"), dir_ / "_base_");
    std::filesystem::copy_file(source_path("configs/quickstart.yaml"), dir_ / "quickstart.yaml");
  }
  CommandResult train(const std::string& config) const {
    dir_.write("my_head.yaml", config);
    return run_command("cd " + dir_.path().string() + " && " + program_path("../readme/train") +
                       " my_head.yaml --cfg-options train_cfg.max_iters=1 "
                       "train_dataloader.batch_size=2 val_dataloader.dataset.num_samples=1");
  }
  TempDir dir_;
};

TEST_F(Readme, HeadTrainsWithItsConfig) {
  const std::string config = readme_config();
  ASSERT_NE(config, "") << "README.md has no config of MyHead";
  const CommandResult result = train(config);
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("Iter(train) [1/1]"));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "work_dirs/my_head/iter_1.pth")) << result.output;
}

TEST_F(Readme, MisspeltOptionOfTheHeadIsReported) {
  std::string config = readme_config();
  const size_t at = config.find("dilation");
  ASSERT_NE(at, std::string::npos);
  const auto line = std::count(config.begin(), config.begin() + static_cast<long>(at), '\n');
  const size_t column = at - config.rfind('\n', at);
  const CommandResult result = train(config.replace(at, 8, "dilatoin"));
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output,
              HasSubstr(text("my_head.yaml:", line + 1, ":", column,
                             ": error: model.decode_head: MyHead has no option 'dilatoin'. "
                             "Did you mean 'dilation'? Known: in_channels, ")));
}

}  // namespace
}  // namespace seg::test
