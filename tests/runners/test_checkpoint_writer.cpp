#include "runners/checkpoint/writer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <mutex>

#include "registry/error.hpp"
#include "runners/checkpoint/snapshot.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/torch.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Value numbered(double number) {
  Value out = Value::dict();
  out.set("weight", torch::full({3}, number));
  return out;
}

double number_in(const std::string& path) {
  return read_checkpoint(path).at("weight").as_tensor()[0].item<double>();
}

TEST(CheckpointWriter, WritesInOrderAndReportsWhatIsOnTheDisk) {
  const TempDir dir;
  std::vector<double> found;
  {
    CheckpointWriter writer;
    for (const double number : {1.0, 2.0, 3.0}) {
      // The same name each time: what is reported is what was written last.
      writer.write(dir / "a.pth", numbered(number),
                   [&found, path = dir / "a.pth"] { found.push_back(number_in(path)); });
    }
    writer.wait();
    EXPECT_THAT(found, ElementsAre(1, 2, 3));
    writer.write(dir / "b.pth", numbered(4), {});
  }
  EXPECT_EQ(number_in(dir / "b.pth"), 4) << "what was begun is ended";
}

TEST(CheckpointWriter, AFailureReachesTheNextCallOnce) {
  const TempDir dir;
  CheckpointWriter writer;
  bool reported = false;
  writer.write(dir / "missing/a.pth", numbered(1), [&] { reported = true; });
  try {
    writer.write(dir / "b.pth", numbered(2), {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("cannot write"));
    EXPECT_THAT(e.what(), HasSubstr("missing/a.pth"));
  }
  EXPECT_FALSE(reported);
  EXPECT_FALSE(std::filesystem::exists(dir / "b.pth"));
  EXPECT_NO_THROW(writer.wait());
}

TEST(Snapshot, KeepsItsValuesAndWhatIsSharedAndTheLayout) {
  const at::Tensor weight = torch::arange(24, torch::kFloat).view({1, 2, 3, 4});
  const at::Tensor last = weight.contiguous(at::MemoryFormat::ChannelsLast).clone();
  Value contents = Value::dict();
  contents.set("weight", weight);
  contents.set("part", weight.select(1, 1));
  contents.set("last", last);
  Value inner = Value::list();
  inner.push_back(Value(int64_t{7}));
  contents.set("list", inner);
  const Value copy = snapshot(contents);
  weight.fill_(-1);
  last.zero_();
  inner.push_back(Value(int64_t{8}));
  EXPECT_TRUE(
      copy.at("weight").as_tensor().equal(torch::arange(24, torch::kFloat).view({1, 2, 3, 4})));
  EXPECT_TRUE(copy.at("part").as_tensor().is_alias_of(copy.at("weight").as_tensor()));
  EXPECT_EQ(copy.at("part").as_tensor().storage_offset(), 12);
  EXPECT_EQ(copy.at("last").as_tensor().strides(), last.strides());
  EXPECT_EQ(copy.at("last").as_tensor()[0][1][2][3].item<float>(), 23);
  EXPECT_EQ(copy.at("list").as_list().size(), 1u);
}

}  // namespace
}  // namespace seg::test
