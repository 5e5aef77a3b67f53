/// Copies of a data set's files: fewer reads, never an old picture.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "registry/text.hpp"
#include "segcore/data/dataset.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/file_cache.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;

class DatasetCacheTest : public ::testing::Test {
 protected:
  DatasetCacheTest() { write_tiny_dataset(dir_, 4, 5, 40, 40); }

  std::string yaml(const std::string& cache) const {
    return text("{type: BaseSegDataset, data_root: ", dir_.path().string(),
                ", data_prefix: {img_path: img, seg_map_path: ann}, img_suffix: .png, metainfo: "
                "{classes: [background, disc, square, triangle, ring]}, pipeline: [{type: "
                "LoadImageFromFile}, {type: "
                "LoadAnnotations}, {type: PackSegInputs}]",
                cache.empty() ? "" : ", cache: " + cache, "}");
  }
  static size_t copies(const std::string& folder) {
    size_t count = 0;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      count += entry.is_regular_file() && entry.path().filename() != "lock";
    }
    return count;
  }
  static at::Tensor image(const Dataset& dataset, size_t i) {
    return dataset.get(i, 0, 0, Unusable::kLeftOut).at(0).image;
  }

  TempDir dir_;
};

TEST_F(DatasetCacheTest, KeepsPixelsInPlaceOfFiles) {
  const std::string folder = dir_ / "copies";
  const auto pipeline = [](std::string config, const std::string& steps) {
    const std::string end = "{type: PackSegInputs}";
    return config.replace(config.find(end), end.size(), steps + ", " + end);
  };
  // Parts of what is kept, and all of it.
  for (const std::string steps :
       {"{type: RandomResize, scale: [60, 60], ratio_range: [0.5, 2.0]}, {type: RandomCrop, "
        "crop_size: 25}",
        "{type: RandomFlip, prob: 0.5}"}) {
    const auto plain = Spec<Dataset>::of(pipeline(yaml(""), steps)).build();
    const auto cached =
        Spec<Dataset>::of(pipeline(yaml(text("{to: ", folder, ", decoded: true}")), steps)).build();
    for (uint64_t epoch = 0; epoch < 3; ++epoch) {
      for (size_t i = 0; i < 4; ++i) {
        const auto expected = plain->get(i, 7, epoch).at(0), got = cached->get(i, 7, epoch).at(0);
        EXPECT_TRUE(got.image.equal(expected.image));
        EXPECT_TRUE(got.labels.equal(expected.labels));
      }
    }
  }
  EXPECT_EQ(copies(folder), 8u) << "images and annotations";
  size_t largest = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) largest = std::max<size_t>(largest, entry.file_size());
  }
  EXPECT_GE(largest, 40u * 40 * 3) << "they are decoded";

  // Copies that were cut are not used, and made again.
  const auto plain = Spec<Dataset>::of(yaml("")).build();
  const auto cached = Spec<Dataset>::of(yaml(text("{to: ", folder, ", decoded: true}"))).build();
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename() != "lock") {
      fs::resize_file(entry.path(), entry.file_size() / 2);
    }
  }
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(image(*cached, i).equal(image(*plain, i)));
  write_png(dir_ / "img/01.png", cv::Mat(40, 40, CV_8UC3, cv::Scalar(9, 9, 9)));
  EXPECT_EQ(image(*cached, 1)[0][5][5].item<int>(), 9) << "of a file that has changed";
}

TEST_F(DatasetCacheTest, ReadsCopiesAndNeverAnOldPicture) {
  const std::string folder = dir_ / "copies";
  const auto plain = Spec<Dataset>::of(yaml("")).build();
  const auto cached = Spec<Dataset>::of(yaml(folder)).build();
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(image(*cached, i).equal(image(*plain, i)));
  EXPECT_EQ(copies(folder), 8u) << "images and annotations";

  // A copy is what is read: put another picture in its place.
  std::string copy;
  const auto wanted = fs::file_size(dir_ / "img/00.png");
  const auto bytes = read_file_bytes(dir_ / "img/00.png");
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || entry.file_size() != wanted) continue;
    if (read_file_bytes(entry.path().string()) == bytes) copy = entry.path().string();
  }
  ASSERT_NE(copy, "");
  write_png(copy, cv::Mat(40, 40, CV_8UC3, cv::Scalar(1, 2, 3)));
  EXPECT_EQ(image(*cached, 0)[0][5][5].item<int>(), 1);

  // A changed file is another file, even with the times and size of the old one.
  struct stat before {};
  ASSERT_EQ(stat((dir_ / "img/01.png").c_str(), &before), 0);
  write_png(dir_ / "img/01.png", cv::Mat(40, 40, CV_8UC3, cv::Scalar(9, 9, 9)));
  const timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(utimensat(AT_FDCWD, (dir_ / "img/01.png").c_str(), times, 0), 0);
  EXPECT_EQ(image(*cached, 1)[0][5][5].item<int>(), 9);

  fs::remove(dir_ / "img/02.png");
  try {
    image(*cached, 2);
    FAIL() << "a file that is gone is an error, copy or not";
  } catch (const DataError& e) {
    EXPECT_THAT(e.what(), HasSubstr("img/02.png: there is no such file"));
  }
}

TEST_F(DatasetCacheTest, KeepsItsBoundAndMakesRoomFromOldCopiesAlone) {
  const std::string folder = dir_ / "copies";
  for (int i = 0; i < 12; ++i)
    dir_.write(text("f", i), std::string(1000, static_cast<char>('a' + i)));
  const auto put = [&](const FileCache& cache, int i) {
    const std::string path = dir_ / text("f", i), state = FileCache::state_of(path);
    if (!cache.find(state)) cache.keep(path, state, read_file_bytes(path));
    return cache.find(state).has_value();
  };
  {
    const FileCache cache(folder, 5500, /*temporary=*/false);
    int kept = 0;
    for (int i = 0; i < 8; ++i) kept += put(cache, i);
    EXPECT_GE(kept, 4);
    EXPECT_LE(kept, 5);
  }
  // As an hour later.
  const timespec old[2] = {{.tv_sec = time(nullptr) - 3600}, {.tv_sec = time(nullptr) - 3600}};
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    ASSERT_EQ(utimensat(AT_FDCWD, entry.path().c_str(), old, 0), 0);
  }
  const FileCache cache(folder, 5500, /*temporary=*/true);
  EXPECT_TRUE(put(cache, 9)) << "old copies make room";
  uint64_t total = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) total += entry.file_size();
  }
  EXPECT_LE(total, 5500u);
}

TEST_F(DatasetCacheTest, AFolderInMemoryGoesWithItsLastUser) {
  const std::string folder = dir_ / "memory";
  auto first = std::make_unique<FileCache>(folder, 1 << 20, /*temporary=*/true);
  auto second = std::make_unique<FileCache>(folder, 1 << 20, /*temporary=*/true);
  first.reset();
  EXPECT_TRUE(fs::exists(folder));
  second.reset();
  EXPECT_FALSE(fs::exists(folder));
}

TEST_F(DatasetCacheTest, AFullCacheIsReportedOnceAndTheRunGoesOn) {
  dir_.write("tiny.yaml", tiny_run_yaml());
  dir_.write("run.yaml", "_base_: tiny.yaml\ntrain_dataloader: {dataset: {_delete_: true, " +
                             yaml("{to: " + dir_ / "copies" + ", max_gb: 0.5}").substr(1) + "}\n");
  const CommandResult run = run_command("bash -c 'cd " + dir_.path().string() +
                                        " && OMP_NUM_THREADS=1 " + program_path("train") +
                                        " run.yaml --work-dir w --cfg-options "
                                        "train_dataloader.dataset.cache.max_gb=0.000001'");
  EXPECT_EQ(run.status, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr("copies is full (0 MB); further files are read from where "
                                    "they are"));
  EXPECT_TRUE(fs::exists(dir_ / "w/iter_12.pth"));
}

TEST_F(DatasetCacheTest, OptionsAreChecked) {
  EXPECT_THAT(spec_error<Dataset>(yaml("{to: ram, max_gb: 0}")),
              HasSubstr("cache.max_gb: must be above 0"));
  dir_.write("taken", "");
  try {
    Spec<Dataset>::of(yaml(dir_ / "taken")).build();
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_THAT(e.what(), HasSubstr("error: cache: cannot"));
  }
}

}  // namespace
}  // namespace seg::test
