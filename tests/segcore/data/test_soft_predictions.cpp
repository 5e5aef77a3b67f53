/// Predictions of other models in the place of an image's pixels.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/registry.hpp"
#include "segcore/data/pipeline.hpp"
#include "segcore/data/soft_predictions.hpp"
#include "segcore/data/transform.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/torch.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

class LoadsSoftPredictions : public ::testing::Test {
 protected:
  std::string stored(const std::string& file, const std::string& name, const at::Tensor& map) {
    Value tensors = Value::dict();
    tensors.set(name, map);
    write_safetensors(dir_ / file, tensors);
    return dir_ / file;
  }
  /// The sample of this name after the transform.
  static Sample loaded(const std::string& models, const std::string& name) {
    const auto transform =
        Spec<Transform>::of("{type: LoadSoftPredictions, models: [" + models + "]}").build();
    Sample sample;
    sample.meta.name = name;
    sample.meta.img_path = "img/" + name + ".png";
    Rng rng(0, RngPurpose::kAugmentation, 0, 0);
    transform->apply(sample, rng);
    return sample;
  }
  static std::string message(const std::string& models, const std::string& name) {
    try {
      loaded(models, name);
    } catch (const DataError& e) {
      return e.what();
    }
    return "no error";
  }

  test::TempDir dir_;
};

TEST_F(LoadsSoftPredictions, StacksTheClassesOfAllModelsInTheirOrder) {
  const auto first = torch::rand({2, 3, 5}).to(torch::kHalf);
  const auto second = torch::rand({4, 3, 5});
  const std::string models = stored("first.safetensors", "street/1", first) + ", " +
                             stored("second.safetensors", "street/1", second);
  const Sample sample = loaded(models, "street/1");
  EXPECT_EQ(sample.image.rows, 3);
  EXPECT_EQ(sample.image.cols, 5);
  EXPECT_EQ(sample.image.channels(), 6);
  EXPECT_EQ(sample.meta.ori_shape, (std::array<int64_t, 2>{3, 5}));
  EXPECT_EQ(sample.meta.img_shape, (std::array<int64_t, 2>{3, 5}));
  const auto expected = torch::cat({first.to(torch::kFloat), second});
  EXPECT_TRUE(torch::equal(pack(sample).image.contiguous(), expected));
}

TEST_F(LoadsSoftPredictions, SaysWhatIsMissing) {
  const std::string file = stored("a.safetensors", "1", torch::rand({2, 3, 5}));
  EXPECT_EQ(message(file, "2"), "img/2.png: " + file + " has no predictions for '2'");
  EXPECT_THAT(message(dir_ / "b.safetensors", "1"),
              HasSubstr("b.safetensors; 'tools/test CONFIG CHECKPOINT --out-probs FILE' writes"));
  EXPECT_EQ(message(stored("flat.safetensors", "1", torch::rand({3, 5})), "1"),
            dir_ / "flat.safetensors: '1' is no map of probabilities [classes, height, width]");
  const std::string larger = stored("c.safetensors", "1", torch::rand({2, 4, 5}));
  EXPECT_EQ(message(file + ", " + larger, "1"), "img/1.png: the predictions of " + larger +
                                                    " have 4x5 pixels, those of " + file + " 3x5");
  EXPECT_THAT(message(stored("wide.safetensors", "1", torch::rand({600, 1, 1})), "1"),
              EndsWith("the predictions have 600 bands together, and an image holds 512"));
}

}  // namespace
}  // namespace seg
