#include "segcore/data/loader.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>

#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"

namespace seg {
namespace {

using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Samples that carry their index, epoch and the seed; some are slow, some fail.
class CountingDataset final : public Dataset {
 public:
  explicit CountingDataset(size_t size, int64_t fails_at = -1, int delay_ms = 0)
      : size_(size), fails_at_(fails_at), delay_ms_(delay_ms) {}
  size_t size() const override { return size_; }
  std::vector<PackedSample> get(size_t index, uint64_t seed, uint64_t epoch,
                                Unusable unusable) const override {
    ++loaded;
    if (unusable == Unusable::kLeftOut && unusables.contains(index)) return {};
    // The later of a batch are ready first.
    if (delay_ms_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms_ * (index % 3)));
    }
    if (static_cast<int64_t>(index) == fails_at_) throw DataError("it is damaged");
    PackedSample sample;
    sample.meta.index = static_cast<int64_t>(index);
    sample.image = torch::tensor(
        {static_cast<int64_t>(index), static_cast<int64_t>(seed), static_cast<int64_t>(epoch)});
    return {sample};
  }
  const DatasetMeta& meta() const override { return meta_; }
  std::pair<std::string, std::string> paths(size_t index) const override {
    return {"img_" + std::to_string(index) + ".png", ""};
  }
  mutable std::atomic<size_t> loaded{0};
  std::set<size_t> unusables;

 private:
  size_t size_;
  int64_t fails_at_;
  int delay_ms_;
  DatasetMeta meta_;
};

DataLoaderParams loader_options(const std::string& yaml) {
  Diagnostics problems;
  auto options = Convert<DataLoaderParams>::from(
      detail::parse_default("{dataset: {type: SyntheticShapesDataset}, " + yaml + "}"),
      "train_dataloader", problems);
  if (problems.has_errors()) throw ConfigError(problems);
  return *options;
}

using Contents = std::vector<std::vector<int64_t>>;

/// The indices (with epochs) of each batch.
Contents drain(DataLoader& loader, uint64_t first, uint64_t end) {
  Contents out;
  loader.start(first, end);
  while (auto batch = loader.next()) {
    out.emplace_back();
    for (const auto& sample : batch->samples) {
      out.back().push_back(sample.meta.index + 100 * sample.image[2].item<int64_t>());
    }
  }
  return out;
}

TEST(DataLoader, SameBatchesForAnyNumberOfWorkersAndAnyStart) {
  const std::string options = "batch_size: 3, sampler: {type: InfiniteSampler, shuffle: true}";
  DataLoader alone(loader_options(options), std::make_shared<CountingDataset>(10), {.seed = 5});
  const Contents expected = drain(alone, 0, 20);
  ASSERT_EQ(expected.size(), 20u);
  for (const auto& batch : expected) ASSERT_EQ(batch.size(), 3u);
  for (const int workers : {1, 2, 5}) {
    for (const bool persistent : {false, true}) {
      DataLoader loader(
          loader_options(options + text(", num_workers: ", workers,
                                        ", persistent_workers: ", persistent ? "true" : "false")),
          std::make_shared<CountingDataset>(10, -1, 1), {.seed = 5});
      EXPECT_EQ(drain(loader, 0, 20), expected);
      EXPECT_EQ(drain(loader, 7, 20), Contents(expected.begin() + 7, expected.end()));
      loader.start(0);
      loader.next();
      loader.stop();
      EXPECT_EQ(drain(loader, 19, 20), Contents(expected.end() - 1, expected.end()));
    }
  }
}

TEST(DataLoader, ShortLastBatchOrNone) {
  const std::string options = "batch_size: 4, sampler: {type: DefaultSampler, shuffle: false}";
  const auto data = std::make_shared<CountingDataset>(10);
  DataLoader all(loader_options(options), data, {});
  EXPECT_EQ(all.batches_per_epoch(), 3u);
  EXPECT_THAT(drain(all, 0, 4), ElementsAre(ElementsAre(0, 1, 2, 3), ElementsAre(4, 5, 6, 7),
                                            ElementsAre(8, 9), ElementsAre(100, 101, 102, 103)));
  DataLoader whole(loader_options(options + ", drop_last: true, num_workers: 2"), data, {});
  EXPECT_EQ(whole.batches_per_epoch(), 2u);
  EXPECT_THAT(drain(whole, 1, 3),
              ElementsAre(ElementsAre(4, 5, 6, 7), ElementsAre(100, 101, 102, 103)));
  DataLoader few(loader_options(options + ", num_batch_per_epoch: 1"), data, {});
  EXPECT_EQ(few.batches_per_epoch(), 1u);
}

TEST(DataLoader, EvaluationCountsEverySampleOnce) {
  const std::string options =
      "batch_size: 2, num_workers: 1, sampler: {type: DefaultSampler, shuffle: false}";
  const auto data = std::make_shared<CountingDataset>(5);
  std::vector<int64_t> seen;
  for (int rank = 0; rank < 4; ++rank) {
    DataLoader loader(loader_options(options), data,
                      {.rank = rank, .world_size = 4, .training = false});
    for (const auto& batch : drain(loader, 0, loader.batches_per_epoch())) {
      seen.insert(seen.end(), batch.begin(), batch.end());
    }
  }
  EXPECT_THAT(seen, ElementsAre(0, 4, 1, 2, 3));
  // A process without a sample has no batch.
  DataLoader idle(loader_options(options), std::make_shared<CountingDataset>(2),
                  {.rank = 3, .world_size = 4, .training = false});
  EXPECT_EQ(idle.batches_per_epoch(), 0u);
  EXPECT_TRUE(drain(idle, 0, 10).empty());
}

TEST(DataLoader, EvaluationLeavesOutUnusableSamplesAndTrainingDoesNot) {
  const auto data = std::make_shared<CountingDataset>(7);
  data->unusables = {1, 2, 3};
  for (const int workers : {0, 2}) {
    const auto options = loader_options(text(
        "batch_size: 2, sampler: {type: DefaultSampler, shuffle: false}, num_workers: ", workers));
    DataLoader evaluation(options, data, {.training = false});
    EXPECT_THAT(drain(evaluation, 0, 4),
                ElementsAre(ElementsAre(0), ElementsAre(), ElementsAre(4, 5), ElementsAre(6)));
    DataLoader training(options, data, {});
    EXPECT_THAT(drain(training, 0, 2), ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
  }
}

TEST(DataLoader, WithoutASamplerTrainingShufflesAndEvaluationDoesNot) {
  const auto data = std::make_shared<CountingDataset>(20);
  DataLoader training(loader_options("batch_size: 20"), data, {.seed = 1});
  DataLoader evaluation(loader_options("batch_size: 20"), data, {.seed = 1, .training = false});
  std::vector<int64_t> order(20);
  std::iota(order.begin(), order.end(), 0);
  EXPECT_THAT(drain(evaluation, 0, 1), ElementsAre(order));
  const auto shuffled = drain(training, 0, 1).at(0);
  EXPECT_NE(shuffled, order);
  EXPECT_THAT(shuffled, ::testing::UnorderedElementsAreArray(order));
}

TEST(DataLoader, ErrorsComeInTheirPlaceWithTheFile) {
  for (const int workers : {0, 1, 3}) {
    DataLoader loader(loader_options(text("batch_size: 2, num_workers: ", workers,
                                          ", sampler: {type: DefaultSampler, shuffle: false}")),
                      std::make_shared<CountingDataset>(10, 5, 1), {});
    loader.start(0);
    EXPECT_EQ(loader.next()->size(), 2u);
    EXPECT_EQ(loader.next()->size(), 2u);
    std::string message;
    try {
      loader.next();
    } catch (const DataError& e) {
      message = e.what();
    }
    EXPECT_EQ(message, "sample 5 (img_5.png): it is damaged");
    EXPECT_FALSE(loader.next());
    loader.start(3);
    EXPECT_EQ(loader.next()->samples[0].meta.index, 6);
  }
}

TEST(DataLoader, LoadsAheadWithinBounds) {
  const auto data = std::make_shared<CountingDataset>(1000);
  {
    DataLoader loader(loader_options("batch_size: 4, num_workers: 2, prefetch_factor: 3, "
                                     "sampler: {type: InfiniteSampler, shuffle: false}"),
                      data, {});
    loader.start(0);
    for (int i = 0; i < 400 && data->loaded < 24; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    EXPECT_EQ(data->loaded, 24u);  // 2 workers x 3 batches x 4 samples
  }
  // Destroyed with batches in the making.
  DataLoader slow(loader_options("batch_size: 4, num_workers: 3, sampler: {type: InfiniteSampler}"),
                  std::make_shared<CountingDataset>(1000, -1, 20), {});
  const auto begin = std::chrono::steady_clock::now();
  slow.start(0);
  slow.next();
  slow.stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST(DataLoader, Messages) {
  EXPECT_THAT(test::config_error([] { loader_options("batch_sise: 4"); }),
              HasSubstr("Did you mean 'batch_size'?"));
  EXPECT_THAT(test::config_error([] { loader_options("batch_size: 0"); }),
              HasSubstr("train_dataloader.batch_size: must be at least 1, got 0"));
  EXPECT_THAT(test::config_error([] { loader_options("sampler: {type: InfinitSampler}"); }),
              HasSubstr("InfiniteSampler"));
  const auto data = std::make_shared<CountingDataset>(3);
  try {
    DataLoader loader(loader_options("batch_size: 4, drop_last: true"), data, {});
    ADD_FAILURE() << "no error";
  } catch (const DataError& e) {
    EXPECT_STREQ(e.what(),
                 "not one batch of 4 can be made of 3 samples a process: drop_last leaves "
                 "them out");
  }
}

TEST(DataLoader, PicturesAndAugmentationsAreTheSameForAnyNumberOfWorkers) {
  const std::string options =
      "batch_size: 2, sampler: {type: InfiniteSampler}, dataset: {type: SyntheticShapesDataset, "
      "num_samples: 5, size: [32, 40], pipeline: [{type: RandomFlip, prob: 0.5}, {type: "
      "RandomCrop, "
      "crop_size: [24, 24]}, {type: PhotoMetricDistortion}, {type: PackSegInputs}]}";
  const auto images = [&](int workers) {
    Diagnostics problems;
    const auto params = Convert<DataLoaderParams>::from(
        detail::parse_default(text("{num_workers: ", workers, ", ", options, "}")), "", problems);
    if (!params) throw ConfigError(problems);
    DataLoader loader(*params, {.seed = 3});
    std::vector<torch::Tensor> out;
    loader.start(0, 6);
    while (auto batch = loader.next()) {
      for (const auto& sample : batch->samples) {
        out.push_back(sample.image.to(torch::kInt));
        out.push_back(sample.labels.to(torch::kInt));
      }
    }
    return out;
  };
  const auto alone = images(0), many = images(4);
  ASSERT_EQ(alone.size(), 24u);
  ASSERT_EQ(many.size(), 24u);
  for (size_t i = 0; i < alone.size(); ++i) EXPECT_TRUE(torch::equal(alone[i], many[i])) << i;
  // Passes differ: batches 0 to 2 are the first pass and a half.
  EXPECT_EQ(alone[0].sizes(), torch::IntArrayRef({3, 24, 24}));
}

}  // namespace
}  // namespace seg
