#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "segcore/data/dataset.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"

namespace seg {
namespace {

using test::config_error;
using test::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

const std::string kCamVid = source_path("../shared/data/camvid");
const std::string kAdeSample = source_path("../shared/data/ade_sample");
const std::string kLoad =
    "[{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]";

std::unique_ptr<Dataset> dataset_of(const std::string& yaml) {
  return Spec<Dataset>::of(yaml).build();
}

/// A BaseSegDataset of img/ and ann/ of a folder.
std::string tiny(const TempDir& dir, const std::string& more = "") {
  return "{type: BaseSegDataset, data_root: " + dir.path().string() +
         ", data_prefix: {img_path: img, seg_map_path: ann}, img_suffix: .png, metainfo: {classes: "
         "[a, b, c]}, pipeline: " +
         kLoad + more + "}";
}

std::string build_error(const std::string& yaml) {
  return config_error([&] { dataset_of(yaml); });
}

std::vector<int64_t> values_of(const torch::Tensor& labels) {
  const auto unique = std::get<0>(torch::_unique(labels.to(torch::kLong), /*sorted=*/true));
  return {unique.data_ptr<int64_t>(), unique.data_ptr<int64_t>() + unique.numel()};
}

TEST(BaseSegDataset, ListsFoldersSortedAndRecursively) {
  const TempDir dir;
  for (const char* name : {"b/2", "a/10", "a/9", "c", ".hidden"}) {
    write_png(dir / (std::string("img/") + name + ".png"), test::tiny_image(4, 5, 1));
  }
  dir.write("img/a/notes.txt", "no image");
  std::filesystem::create_directory(dir / "ann");
  const auto data = dataset_of(tiny(dir));
  ASSERT_EQ(data->size(), 4u);
  EXPECT_THAT(data->paths(0), Pair(dir / "img/a/10.png", dir / "ann/a/10.png"));
  EXPECT_THAT(data->paths(1), Pair(dir / "img/a/9.png", dir / "ann/a/9.png"));
  EXPECT_THAT(data->paths(2), Pair(dir / "img/b/2.png", dir / "ann/b/2.png"));
  EXPECT_THAT(data->paths(3), Pair(dir / "img/c.png", dir / "ann/c.png"));
}

TEST(BaseSegDataset, SamplesGoThroughThePipeline) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 3);
  const auto samples = dataset_of(tiny(dir))->get(1, 0, 0);
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].meta.index, 1);
  EXPECT_EQ(samples[0].meta.img_path, dir / "img/01.png");
  EXPECT_EQ(samples[0].meta.ori_shape, (std::array<int64_t, 2>{10, 12}));
  EXPECT_EQ(samples[0].image.sizes(), torch::IntArrayRef({3, 10, 12}));
  EXPECT_EQ(samples[0].image[0][0][0].item<int>(), 1);
  EXPECT_THAT(values_of(samples[0].labels), ElementsAre(0, 1, 2));
}

TEST(BaseSegDataset, ListsOfNamesAndOfPairs) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 3);
  dir.write("names.txt", "02\r\n\n  00\n");
  dir.write("with_suffix.txt", "02.png\n");
  dir.write("pairs.txt", "img/01.png ann/00.png\n");
  dir.write("pairs_inside.txt", "01.png\t00.png\n");
  const auto names = dataset_of(tiny(dir, ", ann_file: names.txt"));
  ASSERT_EQ(names->size(), 2u);
  EXPECT_THAT(names->paths(0), Pair(dir / "img/02.png", dir / "ann/02.png"));
  EXPECT_THAT(names->paths(1), Pair(dir / "img/00.png", dir / "ann/00.png"));
  EXPECT_EQ(dataset_of(tiny(dir, ", ann_file: with_suffix.txt"))->paths(0).first,
            dir / "img/02.png");
  for (const char* list : {"pairs.txt", "pairs_inside.txt"}) {
    EXPECT_THAT(dataset_of(tiny(dir, std::string(", ann_file: ") + list))->paths(0),
                Pair(dir / "img/01.png", dir / "ann/00.png"));
  }
}

TEST(BaseSegDataset, Indices) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 5);
  const auto first_of = [&](const std::string& indices) {
    const auto data = dataset_of(tiny(dir, ", indices: " + indices));
    return std::pair(data->size(), std::filesystem::path(data->paths(0).first).stem().string());
  };
  EXPECT_THAT(first_of("2"), Pair(2u, "00"));
  EXPECT_THAT(first_of("-2"), Pair(2u, "03"));
  EXPECT_THAT(first_of("99"), Pair(5u, "00"));
  EXPECT_THAT(first_of("[4, -4]"), Pair(2u, "04"));
  EXPECT_THAT(build_error(tiny(dir, ", indices: [5]")),
              HasSubstr("indices: 5 is no index into the 5 samples of this data set"));
}

TEST(BaseSegDataset, PathsOfWindowsAreToldApart) {
  const auto error = [](const std::string& root) {
    return build_error("{type: BaseSegDataset, data_root: '" + root + "'}");
  };
  for (const char* root : {R"(D:\data\camvid)", "c:/data/camvid", R"(\\server\data)"}) {
    EXPECT_THAT(error(root), HasSubstr(text("data_root: there is no folder '", root,
                                            "', which is a path of Windows: set data_root to "
                                            "where the data set is")));
  }
  EXPECT_THAT(error(R"(data\camvid)"),
              HasSubstr(R"(there is no folder 'data\camvid' (folders are separated by '/' here, )"
                        R"(not by '\' as on Windows): set data_root)"));
}

TEST(BaseSegDataset, MissingFoldersAndFiles) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 2);
  const std::string root = dir.path().string();
  EXPECT_THAT(build_error("{type: BaseSegDataset, data_root: " + root + "/no}"),
              HasSubstr("data_root: there is no folder '" + root +
                        "/no': set data_root to where the data set is"));
  EXPECT_THAT(
      build_error("{type: BaseSegDataset, data_root: " + root + ", data_prefix: {img_path: imgs}}"),
      HasSubstr("data_prefix.img_path: there is no folder '" + root +
                "/imgs', where data_prefix.img_path says that the images are"));
  EXPECT_THAT(build_error("{type: BaseSegDataset, data_root: " + root +
                          ", data_prefix: {img_path: img, seg_map_path: anns}}"),
              HasSubstr("data_prefix.seg_map_path: there is no folder '" + root +
                        "/anns', where data_prefix.seg_map_path says that the annotations are"));
  EXPECT_THAT(
      build_error("{type: BaseSegDataset, data_root: " + root + ", data_prefix: {img_path: img}}"),
      HasSubstr("data_prefix.img_path: there are no images in the folder '" + root +
                "/img': none of its files ends in '.jpg' (img_suffix); 2 end in '.png'"));
  EXPECT_THAT(build_error(tiny(dir, ", ann_file: train.txt")),
              HasSubstr("ann_file: there is no file '" + root +
                        "/train.txt', which shall list the samples"));
  dir.write("none.txt", "\n");
  EXPECT_THAT(build_error(tiny(dir, ", ann_file: none.txt")),
              HasSubstr("ann_file: the list '" + root + "/none.txt' names no samples"));
  EXPECT_THAT(build_error("{type: BaseSegDataset, data_prefix: {seg_map_path: x}}"),
              HasSubstr("data_prefix: needs 'img_path': the folder of the images"));
  EXPECT_THAT(
      build_error(tiny(dir, ", backend_args: {backend: petrel}")),
      HasSubstr("backend_args: files are read from the local disk only, not from 'petrel'"));
  EXPECT_THAT(build_error("{type: BaseSegDataset, test_mode: true, img_suffix: .png, data_root: " +
                          root + "}"),
              HasSubstr("test_mode: test_mode needs the names of the classes"));
  // Nothing is looked for before the first use.
  const auto lazy = dataset_of("{type: ADE20KDataset, data_root: /nowhere, lazy_init: true}");
  EXPECT_EQ(lazy->meta().classes.size(), 150u);
}

TEST(BaseSegDataset, ClassesInAnotherOrder) {
  const TempDir dir;
  write_png(dir / "img/a.jpg", test::tiny_image(4, 6, 0));
  cv::Mat labels(4, 6, CV_8UC1, cv::Scalar(255));
  for (int i = 0; i < 6; ++i) labels.at<uint8_t>(0, i) = static_cast<uint8_t>(i);
  write_png(dir / "ann/a.png", labels);
  dir.write("list.txt", "a\n");
  const std::string options =
      ", ann_file: list.txt, data_root: " + dir.path().string() +
      ", data_prefix: {img_path: img, seg_map_path: ann}, pipeline: " + kLoad;
  // 0 background, 1 aeroplane, 2 bicycle, 3 bird, 4 boat, 5 bottle.
  const auto data = dataset_of("{type: PascalVOCDataset, metainfo: {classes: [bird, background]}" +
                               options + "}");
  const auto sample = data->get(0, 0, 0).at(0);
  const auto row = sample.labels[0].to(torch::kLong);
  EXPECT_TRUE(torch::equal(row, torch::tensor({1, 255, 255, 0, 255, 255})));
  EXPECT_THAT(data->meta().classes, ElementsAre("bird", "background"));
  EXPECT_THAT(data->meta().palette,
              ElementsAre(std::array<int, 3>{128, 128, 0}, std::array<int, 3>{0, 0, 0}));
  EXPECT_THAT(
      build_error("{type: PascalVOCDataset, metainfo: {classes: [brid]}" + options + "}"),
      HasSubstr("metainfo.classes: 'brid' is no class of this data set. Did you mean 'bird'?"));
  EXPECT_THAT(build_error("{type: PascalVOCDataset}"),
              HasSubstr("ann_file: PascalVOCDataset needs 'ann_file'"));
}

TEST(BaseSegDataset, HasThePaletteOfTheConfigOrNone) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 1);
  EXPECT_TRUE(dataset_of(tiny(dir))->meta().palette.empty());
  dir.write("classes.txt", "x\ny\n");
  const auto from_file = dataset_of(
      "{type: BaseSegDataset, img_suffix: .png, data_root: " + (dir / "img") +
      ", metainfo: {classes: " + (dir / "classes.txt") + ", palette: [[1, 2, 3], [4, 5, 6]]}}");
  EXPECT_THAT(from_file->meta().classes, ElementsAre("x", "y"));
  EXPECT_THAT(build_error("{type: BaseSegDataset, metainfo: {classes: [a], palette: [[1, 2, 3], "
                          "[4, 5, 6]]}}"),
              HasSubstr("metainfo.palette: the palette has 2 colours for 1 classes"));
  EXPECT_THAT(
      build_error("{type: BaseSegDataset, metainfo: {classes: [a], palette: [[1, 2, 300]]}}"),
      HasSubstr("metainfo.palette: colours are numbers from 0 to 255, got 300"));
}

TEST(BaseSegDataset, SkipCorruptReplacesAndCounts) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 4);
  dir.write("img/01.png", "\x89PNG\r\n\x1A\n and no more");
  dir.write("ann/02.png", "");
  const std::string message = [&]() -> std::string {
    try {
      dataset_of(tiny(dir))->get(1, 0, 0);
    } catch (const DataError& e) {
      return e.what();
    }
    return "no error";
  }();
  EXPECT_THAT(message, HasSubstr(dir / "img/01.png"));
  const auto data = dataset_of(tiny(dir, ", skip_corrupt: true"));
  EXPECT_EQ(data->get(1, 0, 0).at(0).meta.index, 3);
  EXPECT_THAT(data->corrupt_samples(), ElementsAre(1u, 2u));
  EXPECT_EQ(data->get(2, 0, 1).at(0).meta.index, 3);
  EXPECT_EQ(data->get(0, 0, 1).at(0).meta.index, 0);
  EXPECT_THAT(data->corrupt_samples(), ElementsAre(1u, 2u));
  const auto impatient = dataset_of(tiny(dir, ", skip_corrupt: true, max_refetch: 1"));
  EXPECT_THROW(impatient->get(1, 0, 0), DataError);
}

TEST(BaseSegDataset, AnEvaluationLeavesOutWhatIsCorrupt) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 4);
  dir.write("img/01.png", "no picture");
  EXPECT_THROW(dataset_of(tiny(dir))->get(1, 0, 0, Unusable::kLeftOut), DataError);
  const std::string skipping = tiny(dir, ", skip_corrupt: true");
  const auto data = dataset_of(skipping);
  EXPECT_TRUE(data->get(1, 0, 0, Unusable::kLeftOut).empty());
  EXPECT_EQ(data->get(2, 0, 0, Unusable::kLeftOut).at(0).meta.index, 2);
  EXPECT_THAT(data->corrupt_samples(), ElementsAre(1u));
  const auto both =
      dataset_of("{type: ConcatDataset, datasets: [" + tiny(dir) + ", " + skipping + "]}");
  EXPECT_TRUE(both->get(5, 0, 0, Unusable::kLeftOut).empty());
  EXPECT_THAT(both->corrupt_samples(), ElementsAre(5u));
  const auto twice = dataset_of("{type: RepeatDataset, times: 2, dataset: " + skipping + "}");
  EXPECT_TRUE(twice->get(5, 0, 0, Unusable::kLeftOut).empty());
  EXPECT_THAT(twice->corrupt_samples(), ElementsAre(1u, 5u));
}

/// `ignore_empty: true` allows unreadable pictures; with `test_mode` none may be missing.
TEST(BaseSegDataset, AnEvaluationLeavesOutEmptyImagesButInTestMode) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 2);
  dir.write("img/01.png", "no picture");
  const auto data = [&](const std::string& more) {
    return dataset_of("{type: BaseSegDataset, data_root: " + dir.path().string() +
                      ", data_prefix: {img_path: img, seg_map_path: ann}, img_suffix: .png, "
                      "metainfo: {classes: [a, b, c]}, pipeline: [{type: LoadImageFromFile, "
                      "ignore_empty: true}, {type: PackSegInputs}]" +
                      more + "}");
  };
  EXPECT_TRUE(data("")->get(1, 0, 0, Unusable::kLeftOut).empty());
  EXPECT_THROW(data(", test_mode: true")->get(1, 0, 0, Unusable::kLeftOut), DataError);
}

TEST(KnownDatasets, CamVid) {
  if (!std::filesystem::exists(kCamVid)) GTEST_SKIP() << "there is no " << kCamVid;
  const std::string options =
      "{type: CamVidDataset, data_root: " + kCamVid +
      ", data_prefix: {img_path: train, seg_map_path: trainannot}, pipeline: " + kLoad;
  const auto data = dataset_of(options + "}");
  EXPECT_EQ(data->size(), 367u);
  EXPECT_EQ(data->meta().classes.size(), 11u);
  EXPECT_THAT(values_of(data->get(0, 0, 0).at(0).labels), ::testing::Contains(255));
  const auto own = dataset_of(options + ", ignore_index: 11, ann_file: train.txt}");
  EXPECT_EQ(own->size(), 367u);
  EXPECT_EQ(own->paths(3), data->paths(3));
  const auto values = values_of(own->get(0, 0, 0).at(0).labels);
  EXPECT_THAT(values, ::testing::Contains(11));
  EXPECT_THAT(values, ::testing::Not(::testing::Contains(255)));
}

TEST(KnownDatasets, Ade20k) {
  if (!std::filesystem::exists(kAdeSample)) GTEST_SKIP() << "there is no " << kAdeSample;
  const auto data = dataset_of("{type: ADE20KDataset, data_root: " + kAdeSample +
                               ", data_prefix: {img_path: images/validation, seg_map_path: "
                               "annotations/validation}, pipeline: " +
                               kLoad + "}");
  ASSERT_EQ(data->size(), 3u);
  EXPECT_TRUE(data->meta().reduce_zero_label);
  const cv::Mat raw = read_labels(data->paths(0).second);
  const auto labels = data->get(0, 0, 0).at(0).labels;
  for (const int x : {0, 100, 300, 600}) {
    const int stored = raw.at<uint8_t>(200, x);
    EXPECT_EQ(labels[200][x].item<int>(), stored == 0 ? 255 : stored - 1);
  }
}

TEST(KnownDatasets, FactsOfTheFour) {
  const auto meta = [](const std::string& yaml) { return dataset_of(yaml)->meta(); };
  const std::string lazy = ", lazy_init: true}";
  EXPECT_EQ(meta("{type: CityscapesDataset" + lazy).classes.size(), 19u);
  EXPECT_EQ(meta("{type: PascalVOCDataset, ann_file: x" + lazy).classes.size(), 21u);
  const auto ade = meta("{type: ADE20KDataset" + lazy);
  EXPECT_EQ(ade.classes[0], "wall");
  EXPECT_EQ(ade.classes[149], "flag");
  EXPECT_EQ(ade.palette.size(), 150u);
  EXPECT_EQ(ade.palette[149], (std::array<int, 3>{92, 0, 255}));
  const auto info = [](const std::string& type) {
    for (const auto& known : Registry<Dataset>::instance().types()) {
      if (known.name != type) continue;
      for (const auto& option : known.options) {
        if (option.name == "seg_map_suffix") return option.default_value;
      }
    }
    return std::string();
  };
  EXPECT_THAT(info("CityscapesDataset"), HasSubstr("_gtFine_labelTrainIds.png"));
}

TEST(Wrappers, ConcatAndRepeat) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 3);
  const std::string one = tiny(dir);
  const auto twice = dataset_of("{type: ConcatDataset, datasets: [" + one + ", " +
                                tiny(dir, ", indices: [2]") + "]}");
  ASSERT_EQ(twice->size(), 4u);
  EXPECT_EQ(twice->paths(3).first, dir / "img/02.png");
  EXPECT_EQ(twice->get(3, 0, 0).at(0).meta.index, 3);
  EXPECT_THAT(
      build_error("{type: ConcatDataset, datasets: [" + one + ", {type: SyntheticShapesDataset}]}"),
      HasSubstr("datasets: data set 1 (SyntheticShapesDataset) and data set 0 "
                "(BaseSegDataset) differ in classes; they must agree, or ignore_keys must "
                "name it"));
  const auto repeated = dataset_of("{type: RepeatDataset, times: 4, dataset: " + one + "}");
  ASSERT_EQ(repeated->size(), 12u);
  EXPECT_EQ(repeated->paths(10).first, dir / "img/01.png");
  EXPECT_EQ(repeated->get(10, 0, 0).at(0).meta.index, 10);
}

TEST(SyntheticShapes, DrawnFromSeedAndIndexAlone) {
  const std::string options =
      "{type: SyntheticShapesDataset, num_samples: 6, size: [48, 64], seed: ";
  const auto a = dataset_of(options + "1}"), b = dataset_of(options + "1}"),
             c = dataset_of(options + "2}");
  const auto same = [](const cv::Mat& x, const cv::Mat& y) {
    return cv::norm(x.reshape(1), y.reshape(1), cv::NORM_INF) == 0;
  };
  for (size_t i = 0; i < 6; ++i) {
    const Sample s = a->describe(i);
    EXPECT_EQ(s.image.type(), CV_8UC3);
    EXPECT_EQ(s.image.rows, 48);
    EXPECT_EQ(s.labels.cols, 64);
    EXPECT_TRUE(same(s.image, b->describe(i).image));
    EXPECT_TRUE(same(s.labels, b->describe(i).labels));
    EXPECT_FALSE(same(s.image, c->describe(i).image));
  }
  EXPECT_THAT(a->meta().classes, ElementsAre("background", "disc", "square", "triangle", "ring"));
}

TEST(SyntheticShapes, AllClassesAndAnyNumberOfBands) {
  std::set<int> seen;
  const auto data = dataset_of("{type: SyntheticShapesDataset, num_samples: 20}");
  for (size_t i = 0; i < 20; ++i) {
    const cv::Mat labels = data->describe(i).labels;
    seen.insert(labels.begin<uint8_t>(), labels.end<uint8_t>());
  }
  EXPECT_THAT(seen, ElementsAre(0, 1, 2, 3, 4));
  for (const int bands : {1, 2, 7}) {
    const auto wide = dataset_of(text("{type: SyntheticShapesDataset, bands: ", bands,
                                      ", pipeline: [{type: LoadImageFromFile}, {type: "
                                      "LoadAnnotations}, {type: PackSegInputs}]}"));
    const auto sample = wide->get(0, 0, 0).at(0);
    EXPECT_EQ(sample.image.size(0), bands);
    EXPECT_EQ(sample.labels.sizes(), torch::IntArrayRef({96, 96}));
  }
  const auto floats = dataset_of(
      "{type: SyntheticShapesDataset, pipeline: [{type: LoadImageFromFile, to_float32: true}]}");
  const auto bytes = dataset_of("{type: SyntheticShapesDataset, pipeline: []}");
  const auto image = floats->get(1, 0, 0).at(0).image;
  EXPECT_EQ(image.scalar_type(), torch::kFloat32);
  EXPECT_TRUE(torch::equal(image, bytes->get(1, 0, 0).at(0).image.to(torch::kFloat32)));
  EXPECT_THAT(build_error("{type: SyntheticShapesDataset, difficulty: 2}"),
              HasSubstr("difficulty: must be between 0 and 1, got 2"));
}

}  // namespace
}  // namespace seg
