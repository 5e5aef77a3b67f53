/// tools/fetch_weights as people call it, with a server on this machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "segcore/io/sha256.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;

class FetchWeights : public ::testing::Test {
 protected:
  CommandResult fetch(const std::string& arguments) const {
    return run_command("cd " + dir_.path().string() + " && SEGCORE_HOME=" + dir_ / "home" +
                       " no_proxy='*' " + program_path("fetch_weights") + " " + arguments);
  }
  std::string cached(const std::string& name) const { return dir_ / ("home/checkpoints/" + name); }
  /// The files below the cache folder.
  std::vector<std::string> kept() const {
    std::vector<std::string> out;
    if (!fs::exists(cached(""))) return out;
    for (const auto& entry : fs::recursive_directory_iterator(cached(""))) {
      if (entry.is_regular_file()) {
        out.push_back(fs::relative(entry.path(), cached("")).string());
      }
    }
    return out;
  }
  const TempDir dir_;
  const std::string weights_ = std::string(300000, 'w') + "end";
  const std::string digest_ = sha256_of_text(weights_);
};

TEST_F(FetchWeights, DownloadsWhatAConfigurationNames) {
  const std::string name = "net-" + digest_.substr(0, 8) + ".pth";
  const HttpServer server({{"/a/" + name, {.body = weights_}},
                           {"/a/model.bin", {.status = 302, .headers = "Location: /b\r\n"}},
                           {"/b", {.body = "other"}}});
  const std::string address = "http://" + server.host() + "/a/";
  dir_.write("local.pth", "x");
  dir_.write("a.yaml",
             "load_from: local.pth\ndefault_hooks: {checkpoint: {type: CheckpointHook}}\n"
             "model:\n  pretrained: " +
                 address + name + "\n  backbone: {init_cfg: [{type: Pretrained, checkpoint: '" +
                 address + "model.bin'}]}\n  neck: {pretrained: null}\n");
  const CommandResult result = fetch("a.yaml");
  EXPECT_EQ(result.status, 0);
  const std::string other = cached(server.host() + "/a/model.bin");
  EXPECT_EQ(result.output, address + name + " downloaded 300.0 kB: " + cached(name) + "\n" +
                               address + "model.bin downloaded 0.0 kB: " + other + "\n  sha256 " +
                               sha256_of_text("other") + " (no digest to check it by)\n");
  EXPECT_EQ(dir_.read("home/checkpoints/" + name), weights_);
  EXPECT_EQ(kept().size(), 2U);
  const CommandResult again = fetch("a.yaml");
  EXPECT_EQ(again.status, 0);
  EXPECT_EQ(again.output, address + name + " is there: " + cached(name) + "\n" + address +
                              "model.bin is there: " + other + "\n");
}

TEST_F(FetchWeights, KeepsNoFileThatDoesNotMatchItsName) {
  const HttpServer server({{"/net-12345678.pth", {.body = weights_}}});
  const std::string address = "http://" + server.host() + "/net-12345678.pth";
  const CommandResult result = fetch(address);
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.output, "error: " + address + ": its SHA-256 is " + digest_ +
                               ", expected one that begins with 12345678; it was not kept\n");
  EXPECT_EQ(kept().size(), 0U);
  EXPECT_EQ(fetch(address + " --sha256 " + digest_).status, 0);
  const CommandResult spoilt = fetch(address);
  EXPECT_EQ(spoilt.status, 1);
  EXPECT_EQ(spoilt.output, "error: " + cached("net-12345678.pth") + ": its SHA-256 is " + digest_ +
                               ", expected one that begins with 12345678; remove it to have it "
                               "downloaded\n");
}

TEST_F(FetchWeights, ReportsWhatWentWrong) {
  const HttpServer server(
      {{"/cut.pth", {.body = "abc", .missing_end = 100}},
       {"/secret.pth", {.status = 403}},
       {"/tired.pth", {.status = 503}},
       {"/round.pth", {.status = 301, .headers = "Location: /round.pth\r\n"}},
       {"/file.pth", {.status = 301, .headers = "Location: file:///etc/x\r\n"}}});
  const std::string address = "http://" + server.host() + "/";
  const std::pair<const char*, const char*> table[] = {
      {"none.pth", "the server has no such file (HTTP 404)"},
      {"secret.pth", "the server does not give the file out (HTTP 403)"},
      {"tired.pth", "the server has a problem; try again later (HTTP 503)"},
      {"round.pth", "the server sends from address to address without end"},
      {"cut.pth", "the connection was cut before the end of the file; try again"},
  };
  for (const auto& [name, message] : table) {
    const CommandResult result = fetch(address + name);
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.output, "error: " + address + name + ": " + message + "\n");
  }
  EXPECT_EQ(fetch(address + "file.pth").status, 1);  // not the web
  EXPECT_EQ(kept().size(), 0U);
  dir_.write("a.yaml", "load_from: nowhere.pth\nmodel: {pretrained: 'open-mmlab://resnet51'}\n");
  const CommandResult result = fetch("a.yaml");
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.output,
            "a.yaml:1:12: error: nowhere.pth: there is no such file, and it is no address\n"
            "a.yaml:2:21: error: open-mmlab://resnet51: no weights of this name are known. Did you "
            "mean 'resnest50'? A path or an https:// address works too.\n");
}

TEST_F(FetchWeights, KnowsTheEncodersOfModelsThatNameThem) {
  dir_.write("usual.yaml", "model: {type: Unet, encoder_name: resnet34, classes: 5}\n");
  const std::string usual = fetch("usual.yaml --dry-run").output;
  EXPECT_THAT(usual, HasSubstr("https://huggingface.co/smp-hub/resnet34.imagenet/resolve/"));
  EXPECT_THAT(usual, HasSubstr("-> " + cached("huggingface.co/")));
  dir_.write("none.yaml", "model: {type: Unet, encoder_name: vgg11, encoder_weights: null}\n");
  EXPECT_EQ(fetch("none.yaml --dry-run").output, "none.yaml: names no weights\n");
  dir_.write("wrong.yaml", "model: {type: Unet, encoder_name: vgg11, encoder_weights: imagnet}\n");
  const CommandResult wrong = fetch("wrong.yaml --dry-run");
  EXPECT_NE(wrong.status, 0);
  EXPECT_THAT(wrong.output, HasSubstr("wrong.yaml:1:59: "));
  EXPECT_THAT(wrong.output, HasSubstr("Did you mean 'imagenet'?"));
  const std::string backbone = "model: {backbone: {type: SmpEncoder, name: resnet34";
  dir_.write("backbone.yaml", backbone + ", weights: imagenet}}\n");
  EXPECT_THAT(fetch("backbone.yaml --dry-run").output,
              HasSubstr("https://huggingface.co/smp-hub/resnet34.imagenet/resolve/"));
  dir_.write("random.yaml", backbone + "}}\n");
  EXPECT_EQ(fetch("random.yaml --dry-run").output, "random.yaml: names no weights\n");
}

TEST_F(FetchWeights, ChecksItsCommandLine) {
  EXPECT_EQ(fetch("open-mmlab://resnet18_v1c --dry-run").output,
            "open-mmlab://resnet18_v1c: "
            "https://download.openmmlab.com/pretrain/third_party/resnet18_v1c-b5776b93.pth -> " +
                cached("resnet18_v1c-b5776b93.pth") + "\n");
  EXPECT_THAT(fetch("open-mmlab://resnet18_v1c --sha256 xyz").output,
              HasSubstr("--sha256: expected 8 to 64 hexadecimal digits, got 'xyz'"));
  EXPECT_THAT(fetch("torchvision://resnet18 torchvision://resnet50 --sha256 12345678").output,
              HasSubstr("--sha256 is of one file, but 2 are wanted"));
  dir_.write("empty.yaml", "model: {type: EncoderDecoder}\n");
  EXPECT_EQ(fetch("empty.yaml").output, "empty.yaml: names no weights\n");
}

}  // namespace
}  // namespace seg::test
