// Published data sets: their classes, colours and suffixes against those of MMSegmentation 1.2.2,
// in tests/data/datasets/known_datasets.json; and the data sets of other shapes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "registry/yaml.hpp"
#include "segcore/data/dataset_check.hpp"
#include "segcore/data/loader.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/sha256.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"

namespace seg {
namespace {

using nlohmann::json;
using test::config_error;
using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::unique_ptr<Dataset> known_dataset(const std::string& yaml) {
  return Spec<Dataset>::of(yaml).build();
}

std::string known_dataset_error(const std::string& yaml) {
  return config_error([&] { known_dataset(yaml); });
}

/// The default of an option, as tools/list shows it.
std::string default_of(const std::string& type, const std::string& option) {
  for (const auto& doc : Registry<Dataset>::instance().find(type)->info().options) {
    if (doc.name == option) return doc.default_value;
  }
  return "no such option";
}

TEST(KnownDatasets, ClassesColoursAndSuffixesAreThoseOfMmsegmentation) {
  const json expected =
      json::parse(std::ifstream(source_path("tests/data/datasets/known_datasets.json")));
  ASSERT_EQ(expected["datasets"].size(), 24u);
  for (const json& entry : expected["datasets"]) {
    const std::string type = entry["type"];
    SCOPED_TRACE(type);
    ASSERT_NE(Registry<Dataset>::instance().find(type), nullptr);
    const std::string list = type == "PascalVOCDataset" ? ", ann_file: a.txt" : "";
    const auto spec =
        Spec<Dataset>::of("{type: " + type + ", data_root: /nowhere, lazy_init: true" + list + "}");
    const auto data = spec.build();
    const DatasetMeta& meta = data->meta();
    EXPECT_EQ(meta.classes.size(), entry["classes"].get<size_t>());
    EXPECT_EQ(meta.palette.size(), entry["colors"].get<size_t>());
    EXPECT_EQ(spec.facts().classes, meta.classes);
    std::string lines;
    for (size_t i = 0; i < meta.classes.size(); ++i) {
      lines += meta.classes[i];
      if (!meta.palette.empty()) {
        const auto [r, g, b] = meta.palette[i];
        lines += text(' ', r, ' ', g, ' ', b);
      }
      lines += "\n";
    }
    EXPECT_EQ(sha256_of_text(lines), entry["digest"].get<std::string>());
    EXPECT_EQ(meta.reduce_zero_label, entry["reduce_zero_label"].get<bool>());
    EXPECT_EQ(default_of(type, "img_suffix"), entry["img_suffix"].get<std::string>());
    EXPECT_EQ(default_of(type, "seg_map_suffix"), entry["seg_map_suffix"].get<std::string>());
  }
}

/// Writes a data set of one type with its own suffixes, and reads it.
TEST(KnownDatasets, FilesArePairedByTheirSuffixes) {
  const TempDir dir;
  write_png(dir / "img/zurich/a_rgb_anon.png", test::tiny_image(4, 5, 1));
  write_png(dir / "ann/zurich/a_gt_labelTrainIds.png", test::tiny_labels(4, 5, 3));
  const auto data = known_dataset(
      "{type: DarkZurichDataset, data_root: " + dir.path().string() +
      ", data_prefix: {img_path: img, seg_map_path: ann}, pipeline: [{type: LoadImageFromFile}, "
      "{type: LoadAnnotations}, {type: PackSegInputs}]}");
  ASSERT_EQ(data->size(), 1u);
  EXPECT_EQ(data->get(0, 0, 0)[0].labels.max().item<int64_t>(), 2);
  EXPECT_EQ(data->output_name(0), "zurich/a_rgb_anon");
}

TEST(KnownDatasets, EveryDatasetOfTheConfigsIsValid) {
  size_t configs = 0;
  for (const auto& file :
       std::filesystem::directory_iterator(source_path("configs/_base_/datasets"))) {
    const std::string path = file.path().string();
    const Config config = load_config(path);
    if (!config.find("train_dataloader")) continue;  // weights of classes
    SCOPED_TRACE(path);
    ++configs;
    for (const char* name : {"train_dataloader", "val_dataloader", "test_dataloader"}) {
      Diagnostics problems;
      const auto loader = Convert<DataLoaderParams>::from(config.find(name)->value, name, problems);
      ASSERT_FALSE(problems.has_errors()) << ConfigError(problems).what();
      if (const auto* classes = config.find("num_classes")) {
        EXPECT_EQ(std::to_string(loader->dataset.facts().classes.size()), classes->value.scalar);
      }
    }
  }
  EXPECT_GE(configs, 31u);
}

const std::string kLoadPair =
    "[{type: LoadMultipleRSImageFromFile}, {type: LoadAnnotations}, {type: ConcatCDInput}, {type: "
    "PackSegInputs}]";

void write_pairs(const TempDir& dir) {
  for (int i = 0; i < 3; ++i) {
    const std::string name = std::to_string(i) + ".png";
    write_png(dir / ("A/" + name), test::tiny_image(6, 7, i));
    write_png(dir / ("B/" + name), test::tiny_image(6, 7, i + 100));
    write_png(dir / ("label/" + name), test::tiny_labels(6, 7, 2));
  }
}

std::string levir(const TempDir& dir, const std::string& more = "") {
  return "{type: LEVIRCDDataset, data_root: " + dir.path().string() +
         ", data_prefix: {img_path: A, img_path2: B, seg_map_path: label}, pipeline: " + kLoadPair +
         more + "}";
}

TEST(ChangeDetection, TwoImagesBecomeOneOfSixBands) {
  const TempDir dir;
  write_pairs(dir);
  const auto data = known_dataset(levir(dir));
  ASSERT_EQ(data->size(), 3u);
  EXPECT_EQ(data->describe(1).meta.img_path2, dir / "B/1.png");
  const auto sample = data->get(1, 0, 0)[0];
  EXPECT_EQ(sample.image.sizes(), torch::IntArrayRef({6, 6, 7}));
  EXPECT_EQ(sample.image.scalar_type(), torch::kFloat);
  // tiny_image numbers the blue band; remote-sensing files keep the order of the file, RGB.
  EXPECT_EQ(sample.image[2][0][0].item<float>(), 1);
  EXPECT_EQ(sample.image[5][0][0].item<float>(), 101);
  EXPECT_EQ(sample.labels.sizes(), torch::IntArrayRef({6, 7}));
}

TEST(ChangeDetection, ListsNameOneFileOfThreeFolders) {
  const TempDir dir;
  write_pairs(dir);
  dir.write("list.txt", "2.png\n0\n");
  const auto data = known_dataset(levir(dir, ", ann_file: list.txt"));
  ASSERT_EQ(data->size(), 2u);
  EXPECT_THAT(data->paths(0), Pair(dir / "A/2.png", dir / "label/2.png"));
  EXPECT_EQ(data->describe(0).meta.img_path2, dir / "B/2.png");
  EXPECT_EQ(data->describe(1).meta.img_path2, dir / "B/0.png");
}

TEST(ChangeDetection, MissingSecondImagesAreReported) {
  const TempDir dir;
  write_pairs(dir);
  std::filesystem::remove(dir / "B/1.png");
  const auto data = known_dataset(levir(dir));
  try {
    check_files(*data, "train", true, {});
    FAIL() << "no error";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()), "train: 1 of 6 images is missing: " + dir / "B/1.png");
  }
}

TEST(ChangeDetection, TheFolderOfTheSecondImagesMustBeKnown) {
  const TempDir dir;
  write_pairs(dir);
  const std::string root = "data_root: " + dir.path().string();
  EXPECT_THAT(known_dataset_error("{type: LEVIRCDDataset, " + root +
                                  ", data_prefix: {img_path: A, seg_map_path: label}}"),
              HasSubstr("data_prefix: needs 'img_path2': the folder of the second images"));
  EXPECT_THAT(
      known_dataset_error("{type: LEVIRCDDataset, " + root +
                          ", data_prefix: {img_path: A, img_path2: C, seg_map_path: label}}"),
      HasSubstr("data_prefix.img_path2: there is no folder '" + dir / "C" +
                "', where data_prefix.img_path2 says that the second images are"));
  EXPECT_THAT(
      known_dataset_error("{type: BaseSegDataset, data_prefix: {img_path: A, img_path2: B}}"),
      HasSubstr("data_prefix: 'img_path2' is of data sets with two images a sample: use "
                "BaseCDDataset, or remove it"));
}

TEST(NYUDataset, DepthAndTheSceneOfTheName) {
  const TempDir dir;
  write_png(dir / "images/living_room_0012.jpg.png", test::tiny_image(4, 5, 1));
  write_png(dir / "images/attic_1.png", test::tiny_image(4, 5, 2));
  const std::string root = "{type: NYUDataset, data_root: " + dir.path().string();
  std::filesystem::create_directory(dir / "annotations");
  const auto data = known_dataset(root + ", img_suffix: .png, depth_map_suffix: _depth.png}");
  ASSERT_EQ(data->size(), 2u);
  EXPECT_EQ(data->describe(0).meta.category_id, -1);
  EXPECT_EQ(data->meta().classes.at(data->describe(1).meta.category_id), "living_room");
  EXPECT_EQ(data->describe(0).meta.depth_map_path, dir / "annotations/attic_1_depth.png");
  EXPECT_EQ(data->describe(0).meta.seg_map_path, "");
  EXPECT_THAT(
      known_dataset_error(root + ", data_prefix: {img_path: images, seg_map_path: a}}"),
      HasSubstr("data_prefix: 'seg_map_path' has no effect: the folder of the depth maps is "
                "'depth_map_path'"));
  EXPECT_THAT(
      known_dataset_error("{type: BaseSegDataset, data_prefix: {img_path: a, "
                          "depth_map_path: b}}"),
      HasSubstr("data_prefix: 'depth_map_path' is of data sets of depth: use NYUDataset, or "
                "write 'seg_map_path'"));
}

const char* const kDecathlonJson = R"({"name": "BRATS", "labels": {"0": "background", "1": "edema",
  "2": "tumour"}, "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
  "test": ["./imagesTs/b.nii.gz", "./imagesTs/c.nii.gz"]})";

TEST(DecathlonDataset, FilesAndClassesOfItsJson) {
  const TempDir dir;
  dir.write("dataset.json", kDecathlonJson);
  const std::string config =
      "{type: DecathlonDataset, data_root: " + dir.path().string() + ", ann_file: dataset.json";
  const auto train = known_dataset(config + "}");
  EXPECT_THAT(train->meta().classes, ElementsAre("background", "edema", "tumour"));
  ASSERT_EQ(train->size(), 1u);
  EXPECT_THAT(train->paths(0), Pair(dir / "imagesTr/a.nii.gz", dir / "labelsTr/a.nii.gz"));
  const auto test = known_dataset(config + ", test_mode: true}");
  ASSERT_EQ(test->size(), 2u);
  EXPECT_THAT(test->paths(1), Pair(dir / "imagesTs/c.nii.gz", ""));
  EXPECT_THAT(Spec<Dataset>::of(config + "}").facts().classes,
              ElementsAre("background", "edema", "tumour"));
}

TEST(DecathlonDataset, DamagedJson) {
  const TempDir dir;
  const std::string config =
      "{type: DecathlonDataset, data_root: " + dir.path().string() + ", ann_file: dataset.json}";
  const auto error_of = [&](const std::string& content) {
    dir.write("dataset.json", content);
    try {
      known_dataset(config);
    } catch (const DataError& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  const std::string file = dir / "dataset.json";
  EXPECT_THAT(error_of("{\"labels\": "), HasSubstr(file + ": is no JSON: "));
  EXPECT_EQ(error_of("[]"), file + ": is no object of JSON");
  EXPECT_EQ(error_of("{}"),
            file + ": has no \"labels\": the names of the classes by their numbers");
  EXPECT_EQ(error_of(R"({"labels": {"1": "a"}})"), file + ": \"labels\" lacks the name of 0");
  EXPECT_EQ(error_of(R"({"labels": {"0": "a"}})"), file + ": names no samples under \"training\"");
  EXPECT_EQ(error_of(R"({"labels": {"0": "a"}, "training": [{"image": "b"}]})"),
            file + ": a sample under \"training\" lacks \"image\" or \"label\"");
  std::filesystem::remove(file);
  EXPECT_THAT(known_dataset_error(config), HasSubstr("ann_file: there is no file '" + file + "'"));
}

TEST(DSDLSegDataset, SaysWhatToUseInstead) {
  EXPECT_THAT(
      known_dataset_error("{type: DSDLSegDataset, ann_file: a.yaml, used_labels: [a]}"),
      HasSubstr("only the Python package dsdl reads such data sets. Use BaseSegDataset: list "
                "an image and its annotation in each line of a text file (ann_file), and "
                "name the classes (metainfo)"));
}

std::string mosaic(const TempDir& dir, const std::string& mosaic_options,
                   const std::string& more = "") {
  return "{type: MultiImageMixDataset, dataset: {type: BaseSegDataset, data_root: " +
         dir.path().string() +
         ", data_prefix: {img_path: img, seg_map_path: ann}, img_suffix: .png, metainfo: {classes: "
         "[a, b, c]}, pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}]}, pipeline: "
         "[{type: RandomMosaic, " +
         mosaic_options + "}, {type: PackSegInputs}]" + more + "}";
}

TEST(MultiImageMixDataset, MosaicsOfFourSamples) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 5);
  const auto data = known_dataset(mosaic(dir, "prob: 1.0, img_scale: [10, 12], pad_val: 7"));
  ASSERT_EQ(data->size(), 5u);
  std::set<int> numbers;
  for (uint64_t epoch = 0; epoch < 4; ++epoch) {
    const auto sample = data->get(3, 5, epoch)[0];
    EXPECT_EQ(sample.meta.index, 3);
    EXPECT_EQ(sample.meta.ori_shape, (std::array<int64_t, 2>{20, 24}));
    ASSERT_EQ(sample.image.sizes(), torch::IntArrayRef({3, 20, 24}));
    ASSERT_EQ(sample.labels.sizes(), torch::IntArrayRef({20, 24}));
    // The blue band is the number of the image.
    const auto found = std::get<0>(torch::_unique(sample.image[0].to(torch::kLong)));
    for (int64_t i = 0; i < found.numel(); ++i) numbers.insert(found[i].item<int>());
    // Labels are padded where the image is, and only there.
    EXPECT_TRUE(torch::equal(sample.image[0] == 7, sample.labels == 255));
    EXPECT_TRUE(torch::equal(sample.image, data->get(3, 5, epoch)[0].image));
  }
  EXPECT_THAT(numbers, ::testing::IsSubsetOf({0, 1, 2, 3, 4, 7}));
  EXPECT_THAT(numbers, ::testing::IsSupersetOf({3, 7}));
  EXPECT_GE(numbers.size(), 4u);
}

TEST(MultiImageMixDataset, StepsOfSkippedTypesAreLeftOut) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 2);
  const auto data = known_dataset(mosaic(dir, "prob: 1.0", ", skip_type_keys: [RandomMosaic]"));
  EXPECT_EQ(data->get(0, 0, 0)[0].image.sizes(), torch::IntArrayRef({3, 10, 12}));
}

TEST(MultiImageMixDataset, StepsThatMixBelongToIt) {
  const std::string steps = "pipeline: [{type: RandomMosaic, prob: 0.5}, {type: PackSegInputs}]";
  EXPECT_THAT(
      known_dataset_error("{type: SyntheticShapesDataset, " + steps + "}"),
      HasSubstr("pipeline.0: RandomMosaic mixes several samples: put it into the pipeline of "
                "a MultiImageMixDataset around this data set"));
  EXPECT_THAT(
      known_dataset_error("{type: MultiImageMixDataset, dataset: {type: SyntheticShapesDataset}, "
                          "pipeline: [{type: RandomApply, transforms: [{type: RandomMosaic, prob: "
                          "0.5}]}]}"),
      HasSubstr(
          "transforms: RandomMosaic cannot be one of others: it has a probability of its own. "
          "Make it a step of the pipeline"));
}

}  // namespace
}  // namespace seg
