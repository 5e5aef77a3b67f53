#include "runners/evaluate/corrupt_samples.hpp"

#include <gtest/gtest.h>

#include "segcore/data/dataset.hpp"
#include "segcore/dist/communicator.hpp"
#include "segcore/torch.hpp"

namespace seg::test {
namespace {

/// Ten samples, some of which were found corrupt.
class CorruptDataset final : public Dataset {
 public:
  explicit CorruptDataset(std::vector<size_t> corrupt) : corrupt_(std::move(corrupt)) {}
  size_t size() const override { return 10; }
  std::vector<PackedSample> get(size_t, uint64_t, uint64_t, Unusable) const override { return {}; }
  const DatasetMeta& meta() const override { return meta_; }
  std::pair<std::string, std::string> paths(size_t) const override { return {}; }
  std::vector<size_t> corrupt_samples() const override { return corrupt_; }

 private:
  std::vector<size_t> corrupt_;
  DatasetMeta meta_;
};

/// This process with another that met its own samples.
class CorruptPeer final : public Communicator {
 public:
  explicit CorruptPeer(std::vector<size_t> met) : met_(std::move(met)) {}
  int rank() const override { return 0; }
  int size() const override { return 2; }
  void all_reduce_sum_(at::Tensor& tensor) override {
    if (tensor.numel() == 1) {
      tensor += static_cast<int64_t>(met_.size());
    } else {
      for (const size_t index : met_) tensor[static_cast<int64_t>(index)] += 1;
    }
  }
  void broadcast_(at::Tensor&, int) override {}
  void barrier() override {}

 private:
  std::vector<size_t> met_;
};

TEST(CountCorrupt, OneThatSeveralProcessesMetCountsOnce) {
  SingleProcess alone;
  EXPECT_EQ(count_corrupt(CorruptDataset({}), alone), 0);
  EXPECT_EQ(count_corrupt(CorruptDataset({2, 5}), alone), 2);
  CorruptPeer peer({5, 7});
  EXPECT_EQ(count_corrupt(CorruptDataset({}), peer), 2);
  EXPECT_EQ(count_corrupt(CorruptDataset({2, 5}), peer), 3);
  CorruptPeer idle({});
  EXPECT_EQ(count_corrupt(CorruptDataset({}), idle), 0);
}

}  // namespace
}  // namespace seg::test
