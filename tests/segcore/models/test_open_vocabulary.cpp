/// Models that know classes by name. Fixtures: mmsegmentation 1.2.2 with the vocabulary of
/// tests/data/open_vocabulary; the numbers of texts: its tokenizer with the same file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/error.hpp"
#include "registry/merge.hpp"
#include "registry/yaml.hpp"
#include "segcore/models/open_vocabulary/clip_tokenizer.hpp"
#include "segcore/models/open_vocabulary/text_encoder.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::open_vocabulary_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string vocabulary() { return source_path("tests/data/open_vocabulary/vocabulary.txt"); }

Config model_of(const reference::Fixture& fixture) {
  Config model = fixture.model();
  model.find("text_encoder")->value.set("vocabulary_file", Config::of(vocabulary()));
  return model;
}

TEST(OpenVocabulary, SanGivesTheNumbersOfPython) {
  at::set_num_threads(1);
  for (const char* name : {"san.json", "san_cross_attention.json"}) {
    const reference::Fixture fixture(
        source_path(std::string("tests/data/open_vocabulary/") + name));
    const auto comparison = fixture.compare(/*single=*/false, model_of(fixture));
    EXPECT_TRUE(comparison.holds()) << name << '\n' << comparison.text(/*failures_only=*/true);
    EXPECT_TRUE(comparison.same_order) << name;
  }
}

// --- Text ---------------------------------------------------------------------------------------

std::vector<int64_t> parts(const std::string& text) {
  auto out = ClipTokenizer(vocabulary()).encode(text, 20);
  while (!out.empty() && out.back() == 0) out.pop_back();
  return out;
}

TEST(ClipTokenizer, JoinsPairsInTheirOrder) {
  EXPECT_THAT(parts("a photo of a car."), ElementsAre(544, 320, 515, 516, 320, 520, 269, 545));
  EXPECT_THAT(parts("This is a photo of a large  tree"),
              ElementsAre(544, 517, 72, 338, 72, 338, 320, 515, 516, 320, 528, 543, 545));
  EXPECT_THAT(parts("Traffic light (red) ROAD"),
              ElementsAre(544, 540, 64, 69, 69, 72, 322, 75, 72, 70, 71, 339, 263, 81, 68, 323, 264,
                          525, 545));
}

TEST(ClipTokenizer, CutsWhatIsTooLong) {
  EXPECT_THAT(parts("the dog's 2 sky-scrapers, don't"),
              ElementsAre(544, 518, 67, 78, 326, 6, 338, 273, 522, 268, 534, 81, 64, 79, 68, 81,
                          338, 267, 67, 545));
}

std::string tokenizer_error(const std::string& file) {
  try {
    const ClipTokenizer tokenizer(file);
  } catch (const DataError& e) {
    return e.what();
  }
  return "";
}

TEST(ClipTokenizer, NamesAFileThatItCannotRead) {
  const test::TempDir dir;
  EXPECT_THAT(tokenizer_error((dir.path() / "none.txt").string()),
              HasSubstr("/none.txt: cannot be read. The text encoder needs CLIP's vocabulary"));
  EXPECT_THAT(tokenizer_error(dir.write("a.txt", "#version\na b\nword\n")),
              HasSubstr("a.txt: line 3 is no pair of parts: 'word'"));
  EXPECT_THAT(tokenizer_error(dir.write("b.txt", "#version\n")), HasSubstr("holds no pairs"));
}

// --- Models -------------------------------------------------------------------------------------

/// The errors of the fixture's model with further options.
std::string errors_of(const std::string& yaml) {
  const test::TempDir dir;
  const reference::Fixture fixture(source_path("tests/data/open_vocabulary/san.json"));
  Config config = fixture.model();
  Diagnostics problems;
  detail::merge_into(config, load_config(dir.write("a.yaml", yaml)), /*index_lists=*/false,
                     problems);
  try {
    const auto spec = Spec<Segmentor>::parse(config, "model", problems);
    if (spec && !problems.has_errors()) spec->build();
  } catch (const ConfigError& e) {
    return e.what();
  }
  return problems.text();
}

TEST(OpenVocabulary, PartsThatDoNotFitAreReported) {
  EXPECT_THAT(errors_of("decode_head: {num_classes: 4, loss_decode: [{type: CrossEntropyLoss, "
                        "loss_name: loss_cls_ce}]}"),
              HasSubstr("num_classes: is 4, but the text encoder has 3 classes"));
  EXPECT_THAT(errors_of("decode_head: {maskgen_cfg: {sos_token_num: 5}}"),
              HasSubstr("maskgen_cfg.sos_token_num: must be san_cfg.num_queries, 6"));
  EXPECT_THAT(errors_of("image_encoder: {output_cls_token: false}"),
              HasSubstr("set image_encoder.output_cls_token"));
  EXPECT_THAT(errors_of("decode_head: {loss_decode: [{type: DiceLoss, loss_name: loss_mask_ce}]}"),
              HasSubstr("must be called loss_mask_dice"));
  EXPECT_THAT(errors_of("decode_head: {loss_decode: [{type: DiceLoss}]}"),
              HasSubstr("loss_name must be loss_cls_ce, loss_mask_ce or loss_mask_dice"));
  EXPECT_THAT(errors_of("text_encoder: {dataset_name: voc}"),
              HasSubstr("is given besides dataset_name"));
}

TEST(OpenVocabulary, ClassWeightsOfOtherClassesFailInTrainingAlone) {
  const reference::Fixture fixture(source_path("tests/data/open_vocabulary/san.json"));
  Config config = model_of(fixture);
  Config names;
  names.kind = Config::Kind::kList;
  names.list = {Config::of("car"), Config::of("tree")};
  config.find("text_encoder")->value.set("vocabulary", names);
  config.find("decode_head")->value.set("num_classes", Config::of(int64_t{2}));
  Diagnostics problems;
  const auto spec = Spec<Segmentor>::parse(config, "model", problems);
  EXPECT_THAT(problems.warnings_text(),
              HasSubstr("class_weight has 4 values, but there are 2 classes and one for nothing; "
                        "training will fail"));
  const auto model = spec->build();
  model->init_weights();
  const auto images = torch::rand({1, 3, 64, 64});
  EXPECT_EQ(model->encode_decode(images).sizes(), (std::vector<int64_t>{1, 2, 64, 64}));
  EXPECT_THROW(model->loss(images, torch::zeros({1, 64, 64}, torch::kLong)), OptionError);
}

TEST(OpenVocabulary, EmbeddingsFollowTheirWeights) {
  torch::manual_seed(0);
  const auto encoder = Spec<TextEncoder>::of(
                           "{type: CLIPTextEncoder, vocabulary: [car, tree], embed_dims: 8, "
                           "num_layers: 1, num_heads: 2, output_dims: 6, total_vocab_size: 547, "
                           "vocabulary_file: " +
                           vocabulary() + "}")
                           .build();
  encoder->init_weights();
  const auto first = encoder->class_embeddings();
  EXPECT_EQ(first.sizes(), (std::vector<int64_t>{3, 6}));
  EXPECT_TRUE(torch::equal(encoder->class_embeddings(), first));
  {
    const torch::NoGradGuard no_grad;
    encoder->named_parameters()["text_projection"].neg_();
  }
  const auto second = encoder->class_embeddings();
  EXPECT_TRUE(torch::allclose(second.narrow(0, 0, 2), -first.narrow(0, 0, 2), 1e-6, 1e-6));
  // The embedding of no class alone is trained.
  for (const auto& item : encoder->named_parameters()) {
    EXPECT_EQ(item.value().requires_grad(), item.key() == "bg_embed") << item.key();
  }
}

TEST(OpenVocabulary, ADataSetsBackgroundIsNoClassOfItsOwn) {
  const auto classes = [](const char* dataset) {
    return Spec<TextEncoder>::of(std::string("{type: CLIPTextEncoder, dataset_name: ") + dataset +
                                 ", embed_dims: 8, num_layers: 1}")
        .build()
        ->classes()
        .size();
  };
  EXPECT_EQ(classes("voc"), 20u);
  EXPECT_EQ(classes("pascal_context"), 59u);
  EXPECT_EQ(classes("coco-stuff164k"), 171u);
  EXPECT_EQ(classes("lip"), 19u);
}

}  // namespace seg::open_vocabulary_test
