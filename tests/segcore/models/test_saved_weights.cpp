/// Weights saved here are MMSegmentation's: names, shapes and types, for our reader and Python's.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"

namespace seg::test {
namespace {

/// Compares a file with the rows of a fixture, and its sum with the one that the fixture gives.
/// Where Python has MMSegmentation, its model takes the weights too, strictly.
constexpr const char* kReadSaved = R"(
import json, sys, torch
fixture = json.load(open(sys.argv[1]))
state = torch.load(sys.argv[2], weights_only=True, map_location='cpu')['state_dict']
rows = {name: (list(shape), dtype) for name, shape, dtype in fixture['state']['rows']}
found = {name: (list(t.shape), str(t.dtype).split('.')[-1]) for name, t in state.items()}
print('missing', sorted(set(rows) - set(found)))
print('unexpected', sorted(set(found) - set(rows)))
print('different', [n for n in rows if n in found and rows[n] != found[n]])
assert rows == found
assert list(rows) == list(found), 'another order'
total = sum(t.double().abs().sum().item() for t in state.values() if t.is_floating_point())
assert abs(total - fixture['state']['abs_sum']) < 1e-9 * total, total
try:
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules
except ImportError:
    sys.exit()
from mmengine.config import ConfigDict
register_all_modules()
def with_tuples(v):  # some models insist on them
    if isinstance(v, dict):
        return {k: with_tuples(x) for k, x in v.items()}
    if isinstance(v, list) and all(isinstance(x, int) for x in v):
        return tuple(v)
    return [with_tuples(x) for x in v] if isinstance(v, list) else v
MODELS.build(ConfigDict(with_tuples(fixture['model']))).load_state_dict(state, strict=True)
print('loaded by mmseg')
)";

class SavedWeights : public ::testing::TestWithParam<const char*> {};

TEST_P(SavedWeights, LoadInPythonByName) {
  const std::string path =
      source_path(std::string("tests/data/reference/mmseg/") + GetParam() + ".json");
  std::ifstream file(path);
  const auto fixture = nlohmann::json::parse(file);
  const auto spec = Spec<Segmentor>::of(fixture.at("model").dump());
  const auto model = spec.build();
  reference::fill(*model, fixture.value("gain", 1.0));
  const TempDir dir;
  const std::string saved = dir / "saved.pth";
  Value checkpoint = Value::dict();
  checkpoint.set("meta", Value::dict());
  checkpoint.set("state_dict", state_dict(*model));
  write_checkpoint(saved, checkpoint);

  const auto again = spec.build();
  EXPECT_TRUE(load_state_dict(*again, read_checkpoint(saved), {.strict = true}, saved).exact());
  const Value mine = state_dict(*model), theirs = state_dict(*again);
  const auto& rows = fixture.at("state").at("rows");
  ASSERT_EQ(mine.as_dict().size(), rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto& [name, tensor] = mine.as_dict()[i];
    ASSERT_EQ(name.as_string(), rows[i][0].get<std::string>());
    ASSERT_EQ(tensor.as_tensor().sizes().vec(), rows[i][1].get<std::vector<int64_t>>());
    ASSERT_TRUE(tensor.as_tensor().equal(theirs.at(name.as_string()).as_tensor()))
        << name.as_string();
  }

  const std::string python = python_with_torch();
  if (python.empty()) GTEST_SKIP() << "no Python with torch: the file was read here only";
  const CommandResult read = run_python(python, kReadSaved, path + " " + saved);
  EXPECT_EQ(read.status, 0) << read.output;
}

INSTANTIATE_TEST_SUITE_P(Models, SavedWeights,
                         ::testing::Values("segformer_mit-b0", "segmenter_vit-t_mask",
                                           "lraspp_m-v3-d8", "upernet_swin-t", "ocrnet_hr18"));

}  // namespace
}  // namespace seg::test
