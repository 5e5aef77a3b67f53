#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "registry/error.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/dtypes.hpp"
#include "segcore/io/unpickle.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using Json = nlohmann::json;

std::string data_file(const std::string& name) { return source_path("tests/data/io/" + name); }

Json read_json(const std::string& path) {
  std::ifstream in(path);
  return Json::parse(in);
}

std::string read_error(const std::string& path) {
  try {
    read_checkpoint(path);
  } catch (const CheckpointError& e) {
    return e.what();
  }
  return "no error";
}

/// What is at a path like the ones in expected.json.
Value at_path(const Value& root, const std::string& path) {
  Value here = root;
  size_t begin = 0;
  while (begin <= path.size() && !path.empty()) {
    const size_t dot = std::min(path.find('.', begin), path.size());
    const std::string part = path.substr(begin, dot - begin);
    if (here.is_dict()) {
      if (const Value* found = here.find(part)) {
        here = *found;
      } else {
        bool other = false;
        for (const auto& [key, value] : here.as_dict()) {
          if ((key.is_int() && part == std::to_string(key.as_int())) ||
              (key.is_tuple() && part == "(1, 2)")) {
            const Value next = value;
            here = next;
            other = true;
            break;
          }
        }
        if (!other) throw CheckpointError("no " + path);
      }
    } else {
      const Value next = here.as_list().at(std::stoul(part));
      here = next;
    }
    begin = dot + 1;
  }
  return here;
}

void expect_equal(const Value& found, const Json& expected, const std::string& path) {
  SCOPED_TRACE(path);
  if (expected.is_object()) {
    if (expected.contains("dtype")) {
      ASSERT_TRUE(found.is_tensor()) << found.kind_text();
      const at::Tensor t = found.as_tensor();
      EXPECT_EQ(dtype_name(t.scalar_type()), expected["dtype"]);
      EXPECT_EQ(t.sizes().vec(), expected["shape"].get<std::vector<int64_t>>());
      const at::Tensor flat = (t.is_complex() ? at::view_as_real(t) : t).to(at::kDouble).flatten();
      const auto values = expected["values"].get<std::vector<double>>();
      ASSERT_EQ(flat.numel(), static_cast<int64_t>(values.size()));
      for (int64_t i = 0; i < flat.numel(); ++i) {
        EXPECT_EQ(flat[i].item<double>(), values[static_cast<size_t>(i)]) << i;
      }
    } else if (expected.contains("size")) {
      EXPECT_EQ(found.as_list().size(), expected["size"]);
    } else if (expected.contains("bytes")) {
      std::string hex;
      for (const char c : found.as_bytes()) {
        constexpr char kDigits[] = "0123456789abcdef";
        hex += {kDigits[static_cast<uint8_t>(c) >> 4], kDigits[c & 15]};
      }
      EXPECT_EQ(hex, expected["bytes"]);
    } else {
      ASSERT_TRUE(found.is_opaque()) << found.kind_text();
      EXPECT_EQ(found.as_opaque().type, expected["object"]);
    }
  } else if (expected.is_null()) {
    EXPECT_TRUE(found.is_none()) << found.kind_text();
  } else if (expected.is_boolean()) {
    ASSERT_TRUE(found.is_bool()) << found.kind_text();
    EXPECT_EQ(found.as_bool(), expected.get<bool>());
  } else if (expected.is_number_integer()) {
    ASSERT_TRUE(found.is_int()) << found.kind_text();
    EXPECT_EQ(found.as_int(), expected.get<int64_t>());
  } else if (expected.is_number()) {
    ASSERT_TRUE(found.is_float()) << found.kind_text();
    EXPECT_EQ(found.as_float(), expected.get<double>());
  } else {
    ASSERT_TRUE(found.is_string()) << found.kind_text();
    EXPECT_EQ(found.as_string(), expected.get<std::string>());
  }
}

void expect_all(const Value& root, const Json& expected) {
  ASSERT_GT(expected.size(), 10u);
  for (const auto& [path, value] : expected.items()) expect_equal(at_path(root, path), value, path);
}

class ReadTorchSave : public ::testing::TestWithParam<const char*> {};

TEST_P(ReadTorchSave, FindsWhatPythonWrote) {
  const Json expected = read_json(data_file("expected.json"));
  const Value root = read_checkpoint(data_file(GetParam()));
  expect_all(root.at("state_dict"), expected["tensors"]);
  expect_all(root.at("plain"), expected["plain"]);
  EXPECT_EQ(root.at("size").as_list().at(1).as_int(), 3);
  EXPECT_EQ(root.at("device").as_string(), "cuda:1");
  EXPECT_EQ(root.at("dtype").as_opaque().type, "torch.float16");
}

TEST_P(ReadTorchSave, SharesStoragesOfViews) {
  const Value state = read_checkpoint(data_file(GetParam())).at("state_dict");
  const at::Tensor base = state.at("base").as_tensor(), view = state.at("view").as_tensor();
  EXPECT_EQ(view.storage().data(), base.storage().data());
  base[4] = 100.0f;  // copy on write: the file is not changed
  EXPECT_EQ(view[0][0].item<float>(), 100.0f);
  const Value again = read_checkpoint(data_file(GetParam())).at("state_dict");
  EXPECT_EQ(again.at("base").as_tensor()[4].item<float>(), -1.0f);
}

INSTANTIATE_TEST_SUITE_P(Formats, ReadTorchSave,
                         ::testing::Values("zip.pt", "zip_protocol5.pt", "legacy.pt"),
                         [](const auto& given) {
                           const std::string name = given.param;
                           return name.substr(0, name.find('.'));
                         });

TEST(ReadCheckpoint, PlainPicklesOfAllProtocols) {
  const Json expected = read_json(data_file("expected.json"))["plain"];
  for (int protocol = 0; protocol < 6; ++protocol) {
    SCOPED_TRACE(protocol);
    const std::string path = data_file(text("plain", protocol, ".bin"));
    std::ifstream in(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    const StorageSource none = [](const StorageReference&) { return at::Tensor(); };
    expect_all(unpickle(bytes, none).value, expected);
    // Older ones begin like any text, so that as files they are not taken for pickles.
    if (protocol >= 2) expect_all(read_checkpoint(path), expected);
  }
}

TEST(ReadCheckpoint, Safetensors) {
  const Json expected = read_json(data_file("expected.json"))["tensors"];
  const Value root = read_checkpoint(data_file("safe.bin"));
  for (const auto& [name, value] : root.as_dict()) {
    expect_equal(value, expected.at(name.as_string()), name.as_string());
  }
  EXPECT_EQ(root.as_dict().size(), expected.size() - 1);  // complex128 does not exist there
}

TEST(ReadCheckpoint, QuantisedTensorsAreObjectsAroundTheirNumbers) {
  for (const char* file : {"quantised.pt", "quantised_legacy.pt"}) {
    SCOPED_TRACE(file);
    const Value root = read_checkpoint(data_file(file));
    EXPECT_EQ(root.at("w").as_tensor()[1].item<float>(), -2.0f);
    const auto stored = [&](const char* name) {
      const OpaqueObject& object = root.at(name).as_opaque();
      EXPECT_EQ(object.type, "torch._utils._rebuild_qtensor");
      return object.arguments->at(0).as_tensor();
    };
    EXPECT_TRUE(stored("int8").equal(torch::tensor({8, -7, 23}, at::kChar)));
    EXPECT_TRUE(stored("channels").equal(torch::tensor({2, 9}, at::kByte)));
    EXPECT_TRUE(stored("int32").equal(torch::tensor({2}, at::kInt)));
  }
}

TEST(ReadCheckpoint, NegatedAndConjugatedViewsHaveTheNumbersThatPythonReads) {
  const Value root = read_checkpoint(data_file("turned.pt"));
  const Value& state = root.at("state_dict");
  EXPECT_TRUE(state.at("neg").as_tensor().equal(torch::tensor({0.0f, -1.0f, -2.0f})));
  EXPECT_TRUE(state.at("imag").as_tensor().equal(torch::tensor({-2.0f, -4.0f})));
  EXPECT_TRUE(at::imag(state.at("conj").as_tensor()).equal(torch::tensor({-2.0f, -4.0f})));
  EXPECT_TRUE(at::real(state.at("conj").as_tensor()).equal(torch::tensor({1.0f, -3.0f})));
}

TEST(ReadCheckpoint, BigEndianFiles) {
  const Value root = read_checkpoint(data_file("big_endian.pt"));
  EXPECT_EQ(root.at("w").as_tensor()[1].item<float>(), -2.0f);
  EXPECT_EQ(root.at("v").as_tensor()[0][0].item<float>(), 0.25f);
}

TEST(ReadCheckpoint, TensorsOutliveEverythingElse) {
  at::Tensor kept;
  {
    const test::TempDir dir;
    std::filesystem::copy(data_file("zip.pt"), dir / "a.pth");
    kept = read_checkpoint(dir / "a.pth").at("state_dict").at("view").as_tensor();
  }
  EXPECT_EQ(kept.sum().item<float>(), 21.0f);
}

TEST(ReadCheckpoint, CyclesAreCut) {
  const Value root = read_checkpoint(data_file("cycle.bin"));
  EXPECT_EQ(root.at("list").as_list().at(1).at("self").as_opaque().type, "reference cycle");
  const OpaqueObject& loop = root.at("object").as_opaque();
  EXPECT_EQ(loop.type, "some.package.Custom");
  EXPECT_EQ(loop.state->at("value").as_opaque().type, "reference cycle");
}

TEST(ReadCheckpoint, NothingIsExecuted) {
  const test::TempDir dir;
  const std::string trace = dir / "trace";
  const std::string evil =
      dir.write("evil.pkl", text("\x80\x02"
                                 "cposix\nsystem\nX",
                                 std::string("\x0c\0\0\0", 4), "touch trace ", "\x85R."));
  const Value v = read_checkpoint(evil);
  EXPECT_EQ(v.as_opaque().type, "posix.system");
  EXPECT_FALSE(std::filesystem::exists(trace));
}

TEST(ReadCheckpoint, ReportsWhatIsWrongWithAFile) {
  const test::TempDir dir;
  const std::string place = dir.path().string();
  EXPECT_EQ(read_error(dir / "none.pth"),
            "cannot read " + place + "/none.pth: No such file or directory");
  EXPECT_EQ(read_error(place), "cannot read " + place + ": it is a folder, not a checkpoint");
  EXPECT_EQ(read_error(dir.write("empty.pth", "")),
            "cannot read " + place + "/empty.pth: the file is empty");
  EXPECT_EQ(read_error(dir.write("page.pth", "<!DOCTYPE html><html>")),
            "cannot read " + place +
                "/page.pth: it is a web page, not a checkpoint: the download went wrong");
  EXPECT_EQ(read_error(dir.write("lfs.pth", "version https://git-lfs.github.com/spec/v1\n")),
            "cannot read " + place +
                "/lfs.pth: it is a Git LFS pointer, not the file itself; fetch it with git lfs "
                "pull");
  EXPECT_EQ(read_error(dir.write("text.pth", "hello")),
            "cannot read " + place +
                "/text.pth: it is no checkpoint (neither a torch.save file nor .safetensors)");
  std::ifstream in(data_file("zip.pt"), std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), {}};
  EXPECT_EQ(read_error(dir.write("short.pth", whole.substr(0, whole.size() / 2))),
            "cannot read " + place +
                "/short.pth: the zip archive is damaged (its directory is missing: the file was "
                "cut short)");
  std::string flipped = whole;
  flipped[whole.find("_rebuild_tensor")] ^= 1;
  EXPECT_EQ(read_error(dir.write("flipped.pth", flipped)),
            "cannot read " + place +
                "/flipped.pth: the file is damaged: data.pkl has another checksum than it should");
  EXPECT_EQ(read_error(dir.write("cut.safetensors", std::string("\x40\0\0\0\0\0\0\0{", 9))),
            "cannot read " + place +
                "/cut.safetensors: the file was cut short: the safetensors header is longer than "
                "it");
}

TEST(ReadCheckpoint, DeepNestingIsRefused) {
  const StorageSource none = [](const StorageReference&) { return at::Tensor(); };
  // A list in a list in a list ..., 100,000 deep.
  std::string deep(100000, ']');
  deep += std::string(99999, 'a') + ".";
  EXPECT_THROW(unpickle(deep, none), CheckpointError);
  // 2^60 paths through 60 lists are one walk over 60 lists.
  std::string wide = "]";
  for (int i = 0; i < 60; ++i)
    wide += text("q", static_cast<char>(i), "0](h", static_cast<char>(i), "h", static_cast<char>(i),
                 "e");
  EXPECT_EQ(unpickle(wide + ".", none).value.as_list().size(), 2u);
}

TEST(ReadCheckpoint, ShortOpcodesCannotFillTheMemory) {
  // One string of 1 MB, asked for 100,000 times by two bytes each.
  std::string greedy = "(X" + std::string("\0\0\x10\0", 4) + std::string(1 << 20, 'x') + "q\x01";
  for (int i = 0; i < 100000; ++i) greedy += "h\x01";
  greedy += "l.";
  const StorageSource none = [](const StorageReference&) { return at::Tensor(); };
  try {
    unpickle(greedy, none);
    FAIL();
  } catch (const CheckpointError& e) {
    EXPECT_NE(std::string(e.what()).find("it repeats one string too often"), std::string::npos);
  }
}

/// The run of the original implementation beside the checkout, if present.
std::string reference_run() {
  const char* given = std::getenv("SEGCORE_REFERENCE");
  const std::string root = given ? given : source_path("../shared/reference");
  const std::string run = root + "/mmengine_run/";
  return std::filesystem::exists(run + "tensors.json") ? run : "";
}

void expect_reference_tensors(const Value& state, const Json& rows, double tolerance,
                              const std::string& dtype) {
  ASSERT_EQ(state.as_dict().size(), rows.size());
  for (const Json& row : rows) {
    SCOPED_TRACE(row[0].get<std::string>());
    const at::Tensor t = state.at(row[0].get<std::string>()).as_tensor();
    EXPECT_EQ(t.sizes().vec(), row[1].get<std::vector<int64_t>>());
    const bool floating = row[2] == "float32";
    EXPECT_EQ(dtype_name(t.scalar_type()), floating ? dtype : row[2].get<std::string>());
    const at::Tensor d = t.to(at::kDouble);
    auto near = [&](double found, double expected) {
      EXPECT_NEAR(found, expected, tolerance * std::max(1.0, std::abs(expected)));
    };
    near(d.sum().item<double>(), row[3].get<double>());
    near(d.abs().sum().item<double>(), row[4].get<double>());
    near(d.flatten()[0].item<double>(), row[5].get<double>());
  }
}

TEST(ReadCheckpoint, FilesOfTheOriginalImplementation) {
  const std::string run = reference_run();
  if (run.empty()) GTEST_SKIP() << "shared/reference/mmengine_run is not beside the checkout";
  const Json rows = read_json(run + "tensors.json")["tensors"];
  const Value iter_4 = read_checkpoint(run + "iter_4.pth");
  EXPECT_EQ(iter_4.at("meta").at("iter").as_int(), 4);
  expect_reference_tensors(find_state_dict(iter_4), rows, 1e-9, "float32");
  expect_reference_tensors(find_state_dict(read_checkpoint(run + "legacy_format.pth")), rows, 1e-9,
                           "float32");
  expect_reference_tensors(read_checkpoint(run + "model.safetensors"), rows, 1e-9, "float32");
  expect_reference_tensors(find_state_dict(read_checkpoint(run + "half.pth")), rows, 2e-3,
                           "float16");
  const Value bare = find_state_dict(read_checkpoint(run + "bare_module_prefix.pth"));
  Value stripped = Value::dict();
  for (const auto& [key, value] : bare.as_dict()) {
    EXPECT_EQ(key.as_string().substr(0, 7), "module.");
    stripped.set(key.as_string().substr(7), value);
  }
  expect_reference_tensors(stripped, rows, 1e-9, "float32");
  // Classes of its own and NumPy's numbers.
  const Value& scalars = iter_4.at("message_hub").at("log_scalars");
  ASSERT_FALSE(scalars.as_dict().empty());
  EXPECT_EQ(scalars.as_dict()[0].second.as_opaque().type,
            "mmengine.logging.history_buffer.HistoryBuffer");
}

}  // namespace
}  // namespace seg
