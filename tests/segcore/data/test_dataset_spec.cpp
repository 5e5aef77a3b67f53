#include "segcore/data/dataset_spec.hpp"

#include <gtest/gtest.h>

#include "registry/yaml.hpp"
#include "segcore/data/pipeline.hpp"

namespace seg {
namespace {

const char* const kWrapped = R"(
type: RepeatDataset
times: 2
dataset:
  type: ConcatDataset
  datasets:
  - type: mmseg.BaseSegDataset
    data_root: first
    metainfo: {classes: [sky, road, car]}
    pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]
  - {type: BaseSegDataset, data_root: second, metainfo: {classes: names.txt}}
)";

std::vector<std::string> type_names(const std::vector<Spec<Transform>>& steps) {
  std::vector<std::string> out;
  for (const auto& step : steps) out.push_back(step.type());
  return out;
}

std::string root_of(const Spec<Dataset>& spec) {
  const auto* root = spec.config().find("data_root");
  return root ? root->value.scalar : "";
}

TEST(DatasetSpec, WrappersNameWhatTheyWrap) {
  const auto repeated = Spec<Dataset>::of(kWrapped);
  const auto joined = repeated.facts().inner;
  ASSERT_EQ(joined.size(), 1u);
  EXPECT_EQ(joined[0].type(), "ConcatDataset");
  EXPECT_EQ(joined[0].path(), "dataset");
  const auto parts = joined[0].facts().inner;
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(root_of(parts[0]), "first");
  EXPECT_EQ(root_of(parts[1]), "second");
  EXPECT_EQ(parts[1].path(), "dataset.datasets.1");
  EXPECT_TRUE(parts[0].facts().inner.empty());
  EXPECT_EQ(root_of(innermost_dataset(repeated)), "first");
  EXPECT_EQ(root_of(innermost_dataset(parts[1])), "second");
}

TEST(DatasetSpec, ThePipelineIsThatOfTheInnermost) {
  const auto repeated = Spec<Dataset>::of(kWrapped);
  EXPECT_EQ(type_names(innermost_dataset(repeated).facts().pipeline),
            (std::vector<std::string>{"LoadImageFromFile", "LoadAnnotations", "PackSegInputs"}));
  EXPECT_TRUE(repeated.facts().pipeline.empty());
  EXPECT_TRUE(repeated.facts().inner[0].facts().inner[1].facts().pipeline.empty());
}

TEST(DatasetSpec, ClassesAreKnownBeforeAnythingIsBuilt) {
  const auto repeated = Spec<Dataset>::of(kWrapped);
  EXPECT_EQ(repeated.facts().classes, (std::vector<std::string>{"sky", "road", "car"}));
  // A file that is not there is reported when the data set is built.
  EXPECT_TRUE(repeated.facts().inner[0].facts().inner[1].facts().classes.empty());
  EXPECT_EQ(Spec<Dataset>::of("{type: ADE20KDataset}").facts().classes.size(), 150u);
}

TEST(DatasetSpec, APipelineIsReplacedInsideOfWrappers) {
  Config tree = parse_config(kWrapped);
  set_dataset_pipeline(tree, parse_config("[{type: LoadImageFromFile}, {type: PackSegInputs}]"));
  Diagnostics problems;
  const auto changed = Spec<Dataset>::parse(tree, "", problems);
  ASSERT_TRUE(changed) << problems.text();
  const std::vector<std::string> expected{"LoadImageFromFile", "PackSegInputs"};
  for (const auto& part : changed->facts().inner[0].facts().inner) {
    EXPECT_EQ(type_names(part.facts().pipeline), expected) << root_of(part);
  }
}

TEST(DatasetSpec, LazyOnesAreBuiltWithoutTheirFiles) {
  EXPECT_NO_THROW(
      lazy_dataset(Spec<Dataset>::of(kWrapped).facts().inner[0].facts().inner[0]).build());
  EXPECT_THROW(Spec<Dataset>::of(kWrapped).build(), ConfigError);
}

std::vector<Spec<Transform>> steps_of(const std::string& yaml) {
  Diagnostics problems;
  auto steps =
      Convert<std::vector<Spec<Transform>>>::from(parse_config(yaml), "pipeline", problems);
  if (problems.has_errors()) throw ConfigError(problems);
  return *std::move(steps);
}

TEST(SplitAfterLoading, LabelsAreLeftOut) {
  const auto split = split_after_loading(
      steps_of("[{type: LoadSingleRSImageFromFile}, {type: LoadAnnotations}, {type: SegRescale}, "
               "{type: Resize, scale: [8, 8]}, {type: GenerateEdge}, {type: PackSegInputs}]"));
  ASSERT_EQ(split.load.size(), 1u);
  EXPECT_TRUE(split.load.traits(0).loads_image);
  EXPECT_EQ(split.rest.size(), 2u);
  EXPECT_FALSE(split.rest.loads_labels());
}

TEST(SplitAfterLoading, AnImageIsLoadedWhereNoStepDoes) {
  const auto split = split_after_loading(steps_of("[{type: PackSegInputs}]"));
  ASSERT_EQ(split.load.size(), 1u);
  EXPECT_TRUE(split.load.traits(0).loads_image);
  EXPECT_EQ(split.rest.size(), 1u);
}

TEST(PipelineTraits, LabelsLoadedInsideOfOtherStepsCount) {
  for (const char* step :
       {"{type: LoadAnnotations}", "{type: TestTimeAug, transforms: [[{type: LoadAnnotations}]]}",
        "{type: RandomApply, transforms: [{type: LoadAnnotations}]}",
        "{type: RandomChoice, transforms: [[{type: LoadAnnotations}]]}"}) {
    EXPECT_TRUE(Pipeline(steps_of(text('[', step, ']'))).loads_labels()) << step;
  }
  EXPECT_FALSE(
      Pipeline(steps_of("[{type: RandomApply, transforms: [{type: RandomFlip, prob: 0.5}]}]"))
          .loads_labels());
}

}  // namespace
}  // namespace seg
