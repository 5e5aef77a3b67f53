/// tools/convert as people call it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "segcore/io/checkpoint.hpp"
#include "segcore/io/sha256.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;

class Convert : public ::testing::Test {
 protected:
  Convert() {
    weights_.set("backbone.a", torch::arange(6).view({2, 3}).to(torch::kFloat));
    weights_.set("backbone.b", torch::ones({1}, torch::kHalf));
    Value meta = Value::dict();
    meta.set("iter", 5);
    Value whole = Value::dict();
    whole.set("meta", meta);
    whole.set("state_dict", weights_);
    whole.set("optimizer", Value::dict());
    whole.set("message_hub", Value::dict());
    write_checkpoint(dir_ / "run.pth", whole);
  }
  CommandResult convert(const std::string& arguments) const {
    return run_command("cd " + dir_.path().string() + " && OMP_NUM_THREADS=1 " +
                       program_path("convert") + " " + arguments);
  }
  Value read(const std::string& name) const { return read_checkpoint(dir_ / name); }
  const TempDir dir_;
  Value weights_ = Value::dict();
};

TEST_F(Convert, BetweenFormats) {
  const CommandResult there = convert("run.pth a.safetensors");
  EXPECT_EQ(there.output,
            "a.safetensors: 2 tensors, 0.0 MB\nleft out: meta, optimizer, message_hub\n");
  EXPECT_EQ(there.status, 0);
  EXPECT_EQ(first_difference(read("a.safetensors"), weights_), "");
  const CommandResult back = convert("a.safetensors b.pth");
  EXPECT_EQ(back.output, "b.pth: 2 tensors, 0.0 MB\n");
  EXPECT_EQ(first_difference(read("b.pth"), weights_), "");
  EXPECT_EQ(convert("run.pth copy.pth").status, 0);
  EXPECT_EQ(first_difference(read("copy.pth"), read("run.pth")), "");
}

TEST_F(Convert, StripsForPublishing) {
  const CommandResult result = convert("run.pth run.pth --strip");
  EXPECT_EQ(result.status, 0) << result.output;
  const std::string published = result.output.substr(0, result.output.find(':'));
  EXPECT_EQ(published, "run-" + sha256_of_file(dir_ / published).substr(0, 8) + ".pth");
  EXPECT_THAT(result.output, HasSubstr("left out: optimizer, message_hub\n"));
  const Value out = read(published);
  EXPECT_EQ(out.as_dict().size(), 2U);
  EXPECT_EQ(out.at("meta").at("iter").as_int(), 5);
  EXPECT_EQ(first_difference(out.at("state_dict"), weights_), "");
  EXPECT_TRUE(fs::exists(dir_ / "run.pth"));  // the original stays
  EXPECT_EQ(convert("run.pth run.pth --strip").output, result.output);
}

TEST_F(Convert, NamesAWeightThatIsNoTensor) {
  const CommandResult result = convert(source_path("tests/data/io/turned.pt") + " a.pth --strip");
  EXPECT_THAT(result.output, HasSubstr(".pth: 3 tensors, 0.0 MB\nleft out: sparse\n"));
}

TEST_F(Convert, MapsNamesAndChecksThem) {
  const std::string config = source_path("configs/segformer/b0_camvid.yaml");
  dir_.write("m.yaml", "rules: [{match: '^backbone\\.', name: ''}]\n");
  const CommandResult mapped = convert("run.pth a.pth --map m.yaml");
  EXPECT_EQ(mapped.output, "a.pth: 2 tensors, 0.0 MB\nleft out: optimizer, message_hub\n");
  EXPECT_TRUE(read("a.pth").at("state_dict").find("a"));
  const CommandResult wrong = convert("run.pth b.pth --check " + config);
  EXPECT_EQ(wrong.status, 3);
  EXPECT_THAT(wrong.output, HasSubstr("none of the 2 weights fits the model"));
  EXPECT_FALSE(fs::exists(dir_ / "b.pth"));
}

TEST_F(Convert, ReportsErrors) {
  Value long_name = Value::dict();
  long_name.set(std::string(80'000, 'a') + ".weight", torch::ones({1}));
  write_checkpoint(dir_ / "long.pth", long_name);
  dir_.write("long.yaml", "rules: [{match: '(a+)\\.weight', name: b}]\n");
  const std::pair<const char*, const char*> table[] = {
      {"long.pth a.pth --map long.yaml", "the name of a weight has 80007 bytes: 'aaaa"},
      {"run.pth a.pth --key optimizer", "error: run.pth: there are no weights under 'optimizer'"},
      {"run.pth a.onnx", "OUT must end in .pth, .pt or .safetensors, got 'a.onnx'"},
      {"none.pth a.pth", "error: cannot read none.pth: No such file or directory"},
      {"run.pth no/a.pth", "there is no folder no"},
      {"run.pth a.pth --key teacher",
       "error: run.pth: there is no state dict 'teacher' in it; it has state_dict"},
      {"run.pth a.pth --map none.yaml", "none.yaml"},
      {"run.pth a.pth --rename '^encoder' net",
       "error: run.pth: '^encoder' is in no name of the checkpoint, such as backbone.a"},
      {"--in run.pth --out a.pth", "IN is given without --in, as in the usage line"},
      {"open-mmlab://resnet18_v1d a.pth", "no weights of this name are known"},
  };
  for (const auto& [arguments, message] : table) {
    const CommandResult result = convert(arguments);
    EXPECT_TRUE(result.status == 1 || result.status == 2) << arguments;
    EXPECT_THAT(result.output, HasSubstr(message)) << arguments;
  }
}

}  // namespace
}  // namespace seg::test
