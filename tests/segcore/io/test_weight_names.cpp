// Names with words of wrappers in front, tensors that cannot be read, and values that a checkpoint
// must not lose.
#include "segcore/io/weight_names.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <fstream>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/unpickle.hpp"
#include "segcore/torch.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::weight_names_test {
namespace {

using ::testing::HasSubstr;

struct Wrapped : torch::nn::Module {
  Wrapped() {
    register_module("backbone", torch::nn::Linear(2, 3));
    register_module("decode_head", torch::nn::Linear(3, 4));
  }
};

Value filled(const std::string& prefix, double value) {
  const Wrapped model;
  Value out = Value::dict();
  const Value state = state_dict(model);
  for (const auto& [key, tensor] : state.as_dict()) {
    out.set(prefix + key.as_string(), torch::full_like(tensor.as_tensor(), value));
  }
  return out;
}

double loaded(const Value& state) {
  Wrapped model;
  EXPECT_TRUE(load_state_dict(model, state, {}, "a.pth").exact());
  return model.named_parameters()["decode_head.weight"].min().item<double>();
}

TEST(WeightNames, WordsOfWrappersAreRemovedInAnyOrder) {
  const test::TempDir dir;
  for (const char* prefix :
       {"module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.",
        "model._orig_mod.", "module.model.", "model.module._orig_mod.", "model.model.",
        "_orig_mod.model.module.", "_fsdp_wrapped_module."}) {
    log::open_file(dir / "log");
    EXPECT_EQ(loaded(filled(prefix, 2)), 2) << prefix;
    log::flush();
    log::open_file("");
    EXPECT_THAT(dir.read("log"), HasSubstr("a.pth: '")) << prefix;
    EXPECT_THAT(dir.read("log"), HasSubstr("' is removed from 4 names")) << prefix;
  }
}

TEST(WeightNames, PartsMayBeCompiledAlone) {
  Value state = Value::dict();
  const Value plain = filled("", 3);
  for (const auto& [key, tensor] : plain.as_dict()) {
    std::string name = key.as_string();
    if (name.starts_with("backbone.")) name.insert(9, "_orig_mod.");
    state.set(name, tensor);
  }
  EXPECT_EQ(loaded(state), 3);
}

TEST(WeightNames, AModelBesideItsWrappedCopyWins) {
  Value both = filled("", 4);
  const Value copy = filled("module.", 5);
  for (const auto& [key, tensor] : copy.as_dict()) both.set(key, tensor);
  Wrapped model;
  const LoadReport report = load_state_dict(model, both);
  EXPECT_EQ(report.matched.size(), 4U);
  EXPECT_EQ(report.unexpected.size(), 4U);
  EXPECT_EQ(model.named_parameters()["backbone.weight"].max().item<double>(), 4);
}

TEST(WeightNames, OptionsMayNameTheWordsThatAreRemoved) {
  Wrapped model;
  LoadOptions options;
  options.prefix = "_orig_mod.";
  EXPECT_TRUE(load_state_dict(model, filled("_orig_mod.", 1), options).exact());
  options.prefix = "net";
  EXPECT_TRUE(load_state_dict(model, filled("model.net.", 1), options).exact());
  options = {};
  options.revise_keys = {{"^_orig_mod\\.net\\.", "net."}, {"^net\\.", ""}};
  EXPECT_TRUE(load_state_dict(model, filled("_orig_mod.net.", 1), options).exact());
}

TEST(WeightNames, AModelMayHaveAModuleCalledModel) {
  struct Outer : torch::nn::Module {
    Outer() { register_module("model", std::make_shared<Wrapped>()); }
  };
  Outer outer;
  EXPECT_TRUE(load_state_dict(outer, filled("model.", 1)).exact());
  EXPECT_TRUE(load_state_dict(outer, filled("module.model.", 1)).exact());
}

TEST(UnreadTensors, DoNotKeepTheOthersFromBeingRead) {
  const test::TempDir dir;
  Value state = filled("", 1);
  state.set("half", torch::zeros({3}, torch::kComplexFloat).to(at::kComplexHalf));
  state.set("eight", torch::ones({3}).to(at::kFloat8_e4m3fn));
  state.set("four", at::zeros({3}, at::kByte).view(at::kFloat4_e2m1fn_x2));
  state.set("bits", at::zeros({3}, at::kByte).view(at::kBits8));
  write_checkpoint(dir / "a.pth", state);
  const Value read = read_checkpoint(dir / "a.pth");
  EXPECT_EQ(read.at("half").as_tensor().scalar_type(), at::kComplexHalf);
  EXPECT_EQ(read.at("four").as_tensor().scalar_type(), at::kFloat4_e2m1fn_x2);
  EXPECT_EQ(read.at("bits").kind_text(), "a tensor [3] bits8");
  Wrapped model;
  EXPECT_EQ(load_state_dict(model, read).matched.size(), 4U);

  Value wrong = filled("", 1);
  wrong.set("decode_head.bias", at::zeros({4}, at::kByte).view(at::kBits8));
  try {
    load_state_dict(model, wrong, {}, "a.pth");
    FAIL() << "bits were taken for numbers";
  } catch (const CheckpointError& error) {
    EXPECT_STREQ(error.what(),
                 "a.pth: 'decode_head.bias' is of type bits8, of which no weights can be made");
  }
}

TEST(UnreadTensors, MayBeOfATypeThatNobodyKnows) {
  using namespace std::string_literals;
  const std::string pickle =
      "\x80\x02"
      "ctorch._utils\n_rebuild_tensor_v3\n"
      "((X\7\0\0\0storagectorch.storage\nUntypedStorage\nX\1\0\0\0000X\3\0\0\0cpuK\2tQ"
      "K\0(K\2t(K\1t\x89Nctorch\nfloat3\ntR."s;
  const Value value =
      unpickle(pickle, [](const StorageReference&) { return at::zeros({2}, at::kByte); }).value;
  EXPECT_EQ(value.kind_text(), "an object of torch.Tensor of torch.float3");

  const test::TempDir dir;
  std::string header = R"({"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]},)"
                       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  dir.write("a.safetensors", file + header + "\1\2\3\4");
  const Value read = read_checkpoint(dir / "a.safetensors");
  EXPECT_EQ(read.at("a").kind_text(), "an object of torch.Tensor of F4");
  EXPECT_EQ(read.at("b").as_tensor()[1].item<int64_t>(), 4);
}

TEST(UnreadTensors, OfPython) {
  const std::string python = test::python_with_torch();
  if (python.empty()) GTEST_SKIP() << "no Python with torch";
  const test::TempDir dir;
  const auto made = test::run_python(python, R"(
import sys, torch, collections
w = torch.arange(6.).view(2, 3)
torch.save({'state_dict': {
    'w': w, 'q': torch.quantize_per_tensor(w, 0.1, 3, torch.qint8),
    'c': torch.quantize_per_channel(w, torch.tensor([.1, .2]), torch.tensor([0, 1]), 0, torch.quint8),
    'q2': torch.quantize_per_tensor(w, 0.1, 3, torch.qint32),
    'h': torch.zeros(2, dtype=torch.complex32), 'e': w.to(torch.float8_e5m2)},
    'set': {1, 2}, 'frozen': frozenset('a'), 'deque': collections.deque([1, 2], maxlen=5),
    'empty': set(), 'plain': collections.deque(['x'])}, sys.argv[1])
)",
                                     dir / "a.pth");
  ASSERT_EQ(made.status, 0) << made.output;
  const Value read = read_checkpoint(dir / "a.pth");
  const Value state = find_state_dict(read);
  EXPECT_EQ(state.at("w").as_tensor().sum().item<double>(), 15);
  EXPECT_TRUE(state.at("q").is_opaque());
  EXPECT_EQ(read.at("set").kind_text(), "a set");
  EXPECT_EQ(read.at("deque").as_list_of_kind().limit, 5);

  Value kept = Value::dict();
  for (const auto& [key, value] : read.as_dict()) {
    if (key.as_string() != "state_dict") kept.set(key, value);
  }
  write_checkpoint(dir / "b.pth", kept);
  const auto checked = test::run_python(python, R"(
import sys, torch, collections
b = torch.load(sys.argv[1], weights_only=False)
assert b == {'set': {1, 2}, 'frozen': frozenset('a'), 'deque': collections.deque([1, 2]),
             'empty': set(), 'plain': collections.deque(['x'])}, b
assert b['deque'].maxlen == 5 and b['plain'].maxlen is None
)",
                                        dir / "b.pth");
  EXPECT_EQ(checked.status, 0) << checked.output;
}

TEST(KeptValues, SetsAndDequesStayWhatTheyAre) {
  const test::TempDir dir;
  Value all = Value::dict();
  all.set("set", Value::list_of_kind({1, "a"}, ListKind::kSet));
  all.set("frozen", Value::list_of_kind({}, ListKind::kFrozenSet));
  all.set("deque", Value::list_of_kind({2.5}, ListKind::kDeque, 7));
  all.set("again", all.at("deque"));
  write_checkpoint(dir / "a.pth", all);
  const Value read = read_checkpoint(dir / "a.pth");
  EXPECT_EQ(read.at("set").kind_text(), "a set");
  EXPECT_EQ(read.at("set").as_list().size(), 2U);
  EXPECT_EQ(read.at("frozen").kind_text(), "a frozenset");
  EXPECT_EQ(read.at("deque").kind_text(), "a deque");
  EXPECT_EQ(read.at("deque").as_list_of_kind().limit, 7);
  EXPECT_EQ(&read.at("deque").as_list(), &read.at("again").as_list());
}

TEST(KeptValues, MetadataOfSafetensors) {
  const test::TempDir dir;
  Value texts = Value::dict();
  texts.set("format", "pt");
  texts.set("trained on", "roads \"and\" fields");
  Value state = filled("", 1);
  write_safetensors(dir / "plain.safetensors", state);
  EXPECT_FALSE(read_checkpoint(dir / "plain.safetensors").find(kSafetensorsMetadata));
  state.set(kSafetensorsMetadata, texts);
  write_safetensors(dir / "a.safetensors", state);
  const Value read = read_checkpoint(dir / "a.safetensors");
  EXPECT_EQ(read.at(kSafetensorsMetadata).at("trained on").as_string(), "roads \"and\" fields");
  EXPECT_EQ(loaded(read), 1);
}

}  // namespace
}  // namespace seg::weight_names_test
