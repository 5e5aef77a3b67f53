#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "registry/error.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/safetensors.hpp"
#include "segcore/io/zip_file.hpp"
#include "segcore/torch.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

std::string write_error(const std::string& path, const Value& v) {
  try {
    write_checkpoint(path, v);
  } catch (const CheckpointError& e) {
    return e.what();
  }
  return "no error";
}

/// One of everything that a checkpoint of a run holds.
Value everything() {
  const at::Tensor base = torch::arange(24, torch::kFloat32);
  Value state = Value::dict();
  state.set("base", base);
  state.set("view", base.slice(0, 4, 16).view({3, 4}));
  state.set("transposed", torch::arange(6, torch::kInt64).view({2, 3}).t());
  state.set("slice", torch::arange(1000, torch::kFloat64).slice(0, 10, 12));
  state.set("channels_last", torch::arange(16, torch::kFloat16)
                                 .view({1, 2, 2, 4})
                                 .contiguous(torch::MemoryFormat::ChannelsLast));
  state.set("counter", torch::tensor(7, torch::kInt64));
  state.set("empty", torch::zeros({0, 3}));
  state.set("grad", torch::ones({2}, torch::requires_grad()));
  state.set("bool", torch::tensor({true, false}));
  state.set("bf16", torch::tensor({1.5f, -2.0f}).to(torch::kBFloat16));
  state.set("uint16", torch::tensor({1, 65535}).to(torch::kUInt16));
  state.set("float8", torch::tensor({1.0f, -2.0f}).to(torch::kFloat8_e4m3fn));
  state.set("expanded", torch::tensor({3.0f}).expand({4}));
  state.set("conj", torch::conj(torch::complex(torch::tensor({1.0f}), torch::tensor({2.0f}))));
  Value meta = Value::dict();
  meta.set("iter", 160000);
  meta.set("big", int64_t{1} << 40);
  meta.set("negative", -5);
  meta.set("lr", 6e-5);
  meta.set("none", Value());
  meta.set("flag", true);
  meta.set("text", "caf\xc3\xa9\n");
  meta.set("broken text",
           "a\xff"
           "b");
  meta.set("bytes", Value::Bytes{std::string("\x00\xff", 2)});
  meta.set("tuple", Value::tuple({1, Value::tuple({}), "x"}));
  Value shared = Value::list();
  shared.push_back(1);
  meta.set("shared", ValueList{shared, shared});
  Value optimizer = Value::dict();
  optimizer.set(0, "integer key");
  Value out = Value::dict();
  out.set("meta", meta);
  out.set("state_dict", state);
  out.set("optimizer", optimizer);
  return out;
}

TEST(WriteCheckpoint, ReadsBackTheSame) {
  const test::TempDir dir;
  write_checkpoint(dir / "a.pth", everything());
  const Value wrote = everything(), read = read_checkpoint(dir / "a.pth");
  for (const auto& [name, value] : wrote.at("state_dict").as_dict()) {
    SCOPED_TRACE(name.as_string());
    const at::Tensor a = value.as_tensor().detach();
    const at::Tensor b = read.at("state_dict").at(name.as_string()).as_tensor();
    EXPECT_EQ(a.scalar_type(), b.scalar_type());
    EXPECT_EQ(a.sizes(), b.sizes());
    const at::ScalarType wide = a.is_complex() ? torch::kComplexDouble : torch::kDouble;
    EXPECT_TRUE(torch::equal(a.to(wide), b.to(wide)));
  }
  const Value& state = read.at("state_dict");
  EXPECT_EQ(state.at("view").as_tensor().storage().data(),
            state.at("base").as_tensor().storage().data());
  EXPECT_EQ(state.at("slice").as_tensor().storage().nbytes(), 16u);
  EXPECT_FALSE(state.at("channels_last").as_tensor().is_contiguous());
  const Value& meta = read.at("meta");
  EXPECT_EQ(meta.at("iter").as_int(), 160000);
  EXPECT_EQ(meta.at("big").as_int(), int64_t{1} << 40);
  EXPECT_EQ(meta.at("negative").as_int(), -5);
  EXPECT_EQ(meta.at("lr").as_float(), 6e-5);
  EXPECT_TRUE(meta.at("none").is_none());
  EXPECT_TRUE(meta.at("flag").as_bool());
  EXPECT_EQ(meta.at("text").as_string(), "caf\xc3\xa9\n");
  EXPECT_EQ(meta.at("broken text").as_string(),
            "a\xef\xbf\xbd"
            "b");
  EXPECT_EQ(meta.at("bytes").as_bytes(), std::string("\x00\xff", 2));
  EXPECT_TRUE(meta.at("tuple").is_tuple());
  EXPECT_EQ(&meta.at("shared").as_list()[0].as_list(), &meta.at("shared").as_list()[1].as_list());
  EXPECT_EQ(read.at("optimizer").as_dict()[0].first.as_int(), 0);
}

TEST(WriteCheckpoint, PythonReadsItWithWeightsOnly) {
  const std::string python = test::python_with_torch();
  if (python.empty()) GTEST_SKIP() << "no Python with PyTorch (see $SEGCORE_PYTHON)";
  const test::TempDir dir;
  write_checkpoint(dir / "a.pth", everything());
  const auto result = test::run_python(python, R"(
import sys, torch, zipfile
for mmap in (False, True):
    c = torch.load(sys.argv[1], weights_only=True, mmap=mmap)
    s, m = c["state_dict"], c["meta"]
    assert s["base"].equal(torch.arange(24.0)) and s["base"].dtype == torch.float32
    assert s["view"].equal(torch.arange(4.0, 16).view(3, 4))
    s["base"][4] = 9
    assert s["view"][0, 0] == 9, "views share their storage"
    assert s["transposed"].equal(torch.arange(6).view(2, 3).t())
    assert s["slice"].tolist() == [10, 11] and len(s["slice"].untyped_storage()) == 16
    assert s["channels_last"].is_contiguous(memory_format=torch.channels_last)
    assert s["channels_last"].flatten().tolist() == list(range(16))
    assert s["counter"].item() == 7 and s["counter"].shape == ()
    assert s["empty"].shape == (0, 3) and not s["grad"].requires_grad
    assert s["bool"].tolist() == [True, False] and s["bf16"].tolist() == [1.5, -2]
    assert s["uint16"].dtype == torch.uint16 and s["uint16"].tolist() == [1, 65535]
    assert s["float8"].dtype == torch.float8_e4m3fn and s["float8"].float().tolist() == [1, -2]
    assert s["expanded"].tolist() == [3] * 4 and s["conj"].item() == 1 - 2j
    assert m["iter"] == 160000 and m["big"] == 2 ** 40 and m["negative"] == -5 and m["lr"] == 6e-5
    assert m["none"] is None and m["flag"] is True and m["text"] == "caf\u00e9\n"
    assert m["bytes"] == b"\x00\xff" and m["tuple"] == (1, (), "x")
    assert m["shared"][0] is m["shared"][1] and c["optimizer"] == {0: "integer key"}
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None, "checksums"
data = open(sys.argv[1], "rb").read()
for info in archive.infolist():
    at = info.header_offset
    begin = at + 30 + int.from_bytes(data[at + 26:at + 28], "little") + int.from_bytes(
        data[at + 28:at + 30], "little")
    assert begin % 64 == 0, info
print("good")
)",
                                       dir / "a.pth");
  EXPECT_EQ(result.output, "good\n");
}

TEST(WriteCheckpoint, FilesOfEqualContentsAreEqual) {
  const test::TempDir dir;
  write_checkpoint(dir / "a.pth", everything());
  write_checkpoint(dir / "b.pth", everything());
  EXPECT_EQ(dir.read("a.pth"), dir.read("b.pth"));
}

TEST(WriteCheckpoint, LargeArchivesUse64Bits) {
  const test::TempDir dir;
  AtomicFile file(dir / "a.zip");
  ZipWriter zip(file, /*always_zip64=*/true);
  zip.add("archive/one", "first");
  zip.add("archive/two", std::string(100000, 'x'));
  zip.finish();
  file.commit();
  const std::string bytes = dir.read("a.zip");
  const auto entries = read_zip_directory(bytes);
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(bytes.substr(entries[0].offset, entries[0].size), "first");
  EXPECT_EQ(entries[1].size, 100000u);
  const std::string python = test::python_with_torch();
  if (python.empty()) GTEST_SKIP() << "no Python with PyTorch (see $SEGCORE_PYTHON)";
  const auto result =
      test::run_python(python,
                       "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\n"
                       "print(z.testzip(), z.read('archive/one'), len(z.read('archive/two')))",
                       dir / "a.zip");
  EXPECT_EQ(result.output, "None b'first' 100000\n");
}

TEST(WriteCheckpoint, ReportsWhatCannotBeWritten) {
  const test::TempDir dir;
  const std::string place = dir.path().string();
  EXPECT_EQ(write_error(dir / "no/a.pth", Value::dict()),
            "cannot write " + place + "/no/a.pth: there is no folder " + place + "/no");
  EXPECT_EQ(write_error(place, Value::dict()), "cannot write " + place + ": it is a folder");
  EXPECT_EQ(write_error(dir / "a.pth", Value(OpaqueObject{"a.B", {}, {}})),
            "cannot write " + place +
                "/a.pth: it would hold an object of a.B, which is only known by name");
  Value loop = Value::list();
  loop.push_back(Value::tuple({loop}));
  EXPECT_EQ(write_error(dir / "a.pth", Value::tuple({loop})), "no error");  // as Python does
  const_cast<ValueList&>(loop.as_list()).clear();
  std::filesystem::remove(dir / "a.pth");
  Value deep = Value::list();
  for (int i = 0; i < 2000; ++i) deep = Value(ValueList{deep});
  EXPECT_EQ(write_error(dir / "a.pth", deep),
            "cannot write " + place + "/a.pth: its contents are nested too deeply");
  EXPECT_TRUE(std::filesystem::is_empty(dir.path())) << "a temporary file was left";
}

TEST(WriteSafetensors, ReadsBackTheSame) {
  const test::TempDir dir;
  Value state = Value::dict();
  state.set("b", torch::arange(6, torch::kFloat32).view({2, 3}).t());
  state.set("a", torch::tensor({1.5f}).to(torch::kBFloat16));
  state.set("scalar", torch::tensor(3));
  write_safetensors(dir / "a.safetensors", state);
  const Value read = read_checkpoint(dir / "a.safetensors");
  for (const auto& [name, value] : state.as_dict()) {
    EXPECT_TRUE(torch::equal(value.as_tensor(), read.at(name.as_string()).as_tensor()));
  }
  EXPECT_EQ(read.as_dict()[0].first.as_string(), "b");
  state.set("c", 3);
  try {
    write_safetensors(dir / "b.safetensors", state);
    FAIL();
  } catch (const CheckpointError& e) {
    EXPECT_EQ(std::string(e.what()), "cannot write " + (dir / "b.safetensors") +
                                         ": 'c' is an int; a .safetensors file holds tensors "
                                         "only");
  }
}

TEST(AtomicFile, KeepsTheOldFileUntilTheNewOneIsWhole) {
  const test::TempDir dir;
  dir.write("a.txt", "old");
  {
    AtomicFile file(dir / "a.txt");
    file.write("ne");
    EXPECT_EQ(dir.read("a.txt"), "old");
    AtomicFile other(dir / "a.txt");  // two writers do not meet
    other.write("other");
    other.commit();
    EXPECT_EQ(dir.read("a.txt"), "other");
    file.write("w");
  }
  EXPECT_EQ(dir.read("a.txt"), "other");
  dir.write("a.txt.tmp", "left by a killed process");
  write_file_atomically(dir / "a.txt", "new");
  EXPECT_EQ(dir.read("a.txt"), "new");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(AtomicFile, AFullDiskIsReportedAndLeavesNothing) {
  const test::TempDir dir;
  dir.write("a.pth", "old");
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 100000;
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  Value state = Value::dict();
  state.set("w", torch::zeros({100000}));
  const std::string error = write_error(dir / "a.pth", state);
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(error, "cannot write " + (dir / "a.pth") + ": File too large");
  EXPECT_EQ(dir.read("a.pth"), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(SafetensorsWriter, GrowsTensorByTensor) {
  const test::TempDir dir;
  const std::string path = dir / "grown.safetensors";
  const auto a = torch::arange(6, torch::kHalf).view({1, 2, 3});
  const auto b = torch::arange(4, torch::kFloat).view({2, 2}).t();
  {
    SafetensorsWriter writer(path, 400);
    writer.add("Bäume/1", a);
    writer.add("b", b);
    EXPECT_TRUE(writer.has("b"));
    EXPECT_FALSE(writer.has("c"));
    EXPECT_EQ(writer.size(), 2u);
    EXPECT_FALSE(std::filesystem::exists(path));
    writer.commit();
  }
  const Value read = read_checkpoint(path);
  ASSERT_EQ(read.as_dict().size(), 2u);
  EXPECT_TRUE(torch::equal(read.at("Bäume/1").as_tensor(), a));
  EXPECT_EQ(read.at("Bäume/1").as_tensor().scalar_type(), torch::kHalf);
  EXPECT_TRUE(torch::equal(read.at("b").as_tensor(), b));
}

TEST(SafetensorsWriter, RefusesWhatTheFileCannotHold) {
  const test::TempDir dir;
  const std::string path = dir / "refused.safetensors";
  SafetensorsWriter writer(path, 100);
  const auto message = [&](const std::string& name, const at::Tensor& tensor) -> std::string {
    try {
      writer.add(name, tensor);
    } catch (const CheckpointError& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_EQ(message("a", torch::zeros({1})), "no error");
  EXPECT_EQ(message("a", torch::zeros({1})), "cannot write " + path + ": 'a' occurs twice");
  EXPECT_EQ(message("c", torch::zeros({1}, torch::kComplexDouble)),
            "cannot write " + path + ": .safetensors files know no complex128 (tensor 'c')");
  const std::string long_name(200, 'n');
  EXPECT_EQ(
      message(long_name, torch::zeros({1})),
      "cannot write " + path + ": its header has no room for '" + long_name + "' behind 1 others");
}

}  // namespace
}  // namespace seg
