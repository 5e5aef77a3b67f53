// Names of published weights, and the message if their files are missing.
#include <gtest/gtest.h>

#include <cstdlib>

#include "registry/error.hpp"
#include "segcore/io/model_zoo.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

class ModelZoo : public ::testing::Test {
 protected:
  ModelZoo() { setenv("SEGCORE_HOME", dir_.path().c_str(), 1); }
  ~ModelZoo() override { unsetenv("SEGCORE_HOME"); }
  std::string cached(const std::string& name) const { return dir_ / ("checkpoints/" + name); }
  static std::string problem(const std::string& location) {
    try {
      return resolve_checkpoint(location) + " was found";
    } catch (const CheckpointError& error) {
      return error.what();
    }
  }
  const test::TempDir dir_;
};

TEST_F(ModelZoo, GivesPathsBack) {
  for (const char* path : {"a.pth", "/work/a.pth", "../x/a-12345678.pth", "", "://x"}) {
    EXPECT_EQ(resolve_checkpoint(path), path);
    EXPECT_FALSE(zoo_file(path)) << path;
  }
}

TEST_F(ModelZoo, KnowsNames) {
  const auto v1c = zoo_file("open-mmlab://resnet50_v1c");
  ASSERT_TRUE(v1c);
  EXPECT_EQ(v1c->url,
            "https://download.openmmlab.com/pretrain/third_party/resnet50_v1c-2cccc1ad.pth");
  EXPECT_EQ(v1c->path, cached("resnet50_v1c-2cccc1ad.pth"));
  EXPECT_EQ(v1c->sha256_prefix, "2cccc1ad");
  EXPECT_EQ(v1c->prefix, "");
  const auto classifier = zoo_file("mmcls://mobilenet_v2");
  ASSERT_TRUE(classifier);
  EXPECT_EQ(classifier->url,
            "https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/"
            "mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth");
  EXPECT_EQ(classifier->prefix, "backbone.");
  EXPECT_EQ(zoo_file("torchvision://resnet50")->sha256_prefix, "0676ba61");
  EXPECT_EQ(zoo_file("torchvision://resnet50.imagenet1k_v1")->sha256_prefix, "0676ba61");
  EXPECT_EQ(zoo_file("torchvision://resnet50.default")->sha256_prefix, "11ad3fa6");
  EXPECT_EQ(zoo_file("torchvision://resnet18.default")->sha256_prefix, "f37072fd");
  EXPECT_EQ(zoo_file("open-mmlab://resnet101_caffe")->url,
            zoo_file("openmmlab://detectron/resnet101_caffe")->url);
  EXPECT_EQ(zoo_file("open-mmlab://mmdet/mobilenet_v2")->url,
            "https://download.openmmlab.com/mmdetection/v2.0/third_party/"
            "mobilenet_v2_batch256_imagenet-ff34753d.pth");
}

TEST_F(ModelZoo, KeepsFilesOfOneNameApart) {
  const auto named = zoo_file("https://host.org/a/b/net_20220412-6580f57d.pth?download=true");
  EXPECT_EQ(named->path, cached("net_20220412-6580f57d.pth"));
  EXPECT_EQ(named->sha256_prefix, "6580f57d");
  const auto unnamed = zoo_file("https://host.org/a/b/model.safetensors");
  EXPECT_EQ(unnamed->path, cached("host.org/a/b/model.safetensors"));
  EXPECT_EQ(unnamed->sha256_prefix, "");
  // A date is no digest, and neither is a word.
  EXPECT_EQ(zoo_file("https://host.org/net-20210928.pth")->sha256_prefix, "");
  EXPECT_EQ(zoo_file("https://host.org/vgg13-19584684.pth")->sha256_prefix, "19584684");
  EXPECT_EQ(zoo_file("https://host.org/net-best.pth")->sha256_prefix, "");
}

TEST_F(ModelZoo, UsesAFileThatIsThere) {
  const std::string path = dir_.write("checkpoints/resnet18_v1c-b5776b93.pth", "x");
  EXPECT_EQ(resolve_checkpoint("open-mmlab://resnet18_v1c"), path);
}

TEST_F(ModelZoo, ReportsWhatIsMissing) {
  EXPECT_EQ(problem("open-mmlab://resnet50_v1c"),
            "open-mmlab://resnet50_v1c: its file is not there, and nothing is downloaded unasked. "
            "Run 'tools/fetch_weights CONFIG', or copy "
            "https://download.openmmlab.com/pretrain/third_party/resnet50_v1c-2cccc1ad.pth to " +
                cached("resnet50_v1c-2cccc1ad.pth"));
  EXPECT_EQ(problem("https://host.org/a/net.pth"),
            "https://host.org/a/net.pth: its file is not there, and nothing is downloaded unasked. "
            "Run 'tools/fetch_weights CONFIG', or copy it to " +
                cached("host.org/a/net.pth"));
}

TEST_F(ModelZoo, ReportsUnknownNames) {
  EXPECT_EQ(problem("open-mmlab://resnet50_v1x"),
            "open-mmlab://resnet50_v1x: no weights of this name are known. Did you mean "
            "'resnet50_v1c'? A path or an https:// address works too.");
  EXPECT_EQ(problem("s3://bucket/net.pth"),
            "s3://bucket/net.pth: weights cannot come from 's3://'. Known: a path, https://, "
            "http://, open-mmlab://, mmcls://, torchvision://.");
  EXPECT_EQ(problem("https://host.org/"),
            "https://host.org/: expected the address of a file, found no file name in it");
  EXPECT_EQ(problem("https://host.org/a/../b.pth"),
            "https://host.org/a/../b.pth: an address of weights may not hold '..'");
}

TEST(WeightsCache, IsInTheHomeFolder) {
  const char* old = std::getenv("HOME");
  const std::string home = old ? old : "";
  unsetenv("SEGCORE_HOME");
  setenv("HOME", "/home/a", 1);
  EXPECT_EQ(weights_cache(), "/home/a/.cache/segcore/checkpoints");
  unsetenv("HOME");
  EXPECT_THROW(weights_cache(), CheckpointError);
  if (old) setenv("HOME", home.c_str(), 1);
}

}  // namespace
}  // namespace seg
