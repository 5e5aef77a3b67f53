// load_config: bases, substitution, origins, unused variables.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "registry/yaml.hpp"
#include "tests/support/config_files.hpp"
#include "tests/support/paths.hpp"

namespace seg {
namespace {

class LoadConfig : public test::ConfigFiles {};

TEST_F(LoadConfig, MergesMappingsDeeplyAndReplacesLists) {
  dir_.write("base.yaml", "a: {x: 1, y: {z: 2, w: 3}}\nl: [1, 2]\nk: 5\n");
  dir_.write("child.yaml", "_base_: base.yaml\na: {y: {z: 20}, n: 4}\nl: [9]\nm: 1\n");
  EXPECT_EQ(flow("child.yaml"), "{a: {x: 1, y: {z: 20, w: 3}, n: 4}, l: [9], k: 5, m: 1}");
}

TEST_F(LoadConfig, ChangesElementsOfListsByIndexAndByType) {
  dir_.write("base.yaml",
             "steps:\n- {type: mmseg.Load}\n- {type: Crop, size: 1}\n- {type: Flip}\n"
             "- {type: Crop, size: 2}\nplain: [1, 2]\n");
  dir_.write("child.yaml",
             "_base_: base.yaml\nsteps: {Flip: {prob: 0.5}, 3: {size: 4}, Load: {a: 1}}\n");
  EXPECT_EQ(flow("child.yaml"),
            "{steps: [{type: mmseg.Load, a: 1}, {type: Crop, size: 1}, {type: Flip, prob: 0.5}, "
            "{type: Crop, size: 4}], plain: [1, 2]}");
  EXPECT_EQ(dump_flow(load("base.yaml", {"steps.Flip.prob=0.1"}).at_path("steps")->list[2]),
            "{type: Flip, prob: 0.1}");
  dir_.write("wrong.yaml", "_base_: base.yaml\nsteps: {Crop: {size: 3}, Flop: {}, 2: {}}\n");
  EXPECT_EQ(error("wrong.yaml"),
            "wrong.yaml:2:9: error: steps.Crop: steps has several elements of the type Crop; use "
            "the index of one: 1, 3\n"
            "wrong.yaml:2:26: error: steps.Flop: steps is a list; use the index of an element, "
            "from 0 to 3, or its type (Load, Crop, Flip), instead of 'Flop'. Did you mean 'Flip'?\n"
            "2 errors in the configuration");
}

TEST_F(LoadConfig, KeepsTheOriginOfEveryValue) {
  dir_.write("base.yaml", "a:\n  x: 1\n  y: 2\nl: [1, 2]\n");
  dir_.write("sub/child.yaml", "_base_: ../base.yaml\na:\n  y: 3\n");
  const Config tree = load("sub/child.yaml", {"a.z=4"});
  EXPECT_EQ(origin(tree, "a.x"), "base.yaml:2:6");
  EXPECT_EQ(origin(tree, "a.y"), "sub/child.yaml:3:6");
  EXPECT_EQ(origin(tree, "a.z"), "--cfg-options #1");
  EXPECT_EQ(origin(tree, "l.1"), "base.yaml:4:8");
}

TEST_F(LoadConfig, RemembersWhatWasReplaced) {
  dir_.write("a.yaml", "n: {v: 1}\nm: {x: 1}\n");
  dir_.write("b.yaml", "_base_: a.yaml\nn: {v: 2}\n");
  dir_.write("c.yaml", "_base_: [b.yaml]\nn: {v: 3}\nm: {_delete_: true, y: 2}\n");
  const Config tree = load("c.yaml", {"n.v=4"});
  std::string chain;
  for (const auto& old : tree.at_path("n.v")->history) {
    chain += without_dir(old.origin.text()) + "=" + old.shown + " ";
  }
  EXPECT_EQ(chain, "a.yaml:1:8=1 b.yaml:2:8=2 c.yaml:2:8=3 ");
  ASSERT_EQ(tree.at_path("m")->history.size(), 1u);
  EXPECT_EQ(tree.at_path("m")->history[0].shown, "{x: 1}");
}

TEST_F(LoadConfig, DeletesWhereAsked) {
  dir_.write("base.yaml", "a: {type: SGD, lr: 0.1, m: {x: 1}}\n");
  dir_.write("child.yaml", "_base_: base.yaml\na: {_delete_: true, type: Adam, m: {y: 2}}\n");
  EXPECT_EQ(flow("child.yaml"), "{a: {type: Adam, m: {y: 2}}}");
  dir_.write("child2.yaml",
             "_base_: base.yaml\na: {_delete_: false, lr: 1, m: {_delete_: true}}\n");
  EXPECT_EQ(flow("child2.yaml"), "{a: {type: SGD, lr: 1, m: {}}}");
  // With nothing to delete it leaves no trace.
  dir_.write("child3.yaml",
             "_base_: base.yaml\nb: {_delete_: true, c: [{_delete_: true, d: 1}]}\n");
  EXPECT_EQ(flow("child3.yaml"), "{a: {type: SGD, lr: 0.1, m: {x: 1}}, b: {c: [{d: 1}]}}");
  dir_.write("scalar.yaml", "a: 1\n");
  dir_.write("child4.yaml", "_base_: scalar.yaml\na: {_delete_: true, b: 2}\n");
  EXPECT_EQ(flow("child4.yaml"), "{a: {b: 2}}");
}

TEST_F(LoadConfig, RefusesAMappingOverSomethingElse) {
  dir_.write("base.yaml", "a: 1\nb: [1]\nc: null\n");
  dir_.write("child.yaml", "_base_: base.yaml\na: {x: 1}\nb: {x: 1}\nc: {x: 1}\n");
  EXPECT_EQ(error("child.yaml"),
            "child.yaml:2:4: error: a: cannot merge a mapping into the value 1 (base.yaml:1:4). "
            "Add '_delete_: true' to replace it\n"
            "child.yaml:3:4: error: b: cannot merge a mapping into a list (base.yaml:2:4). Add "
            "'_delete_: true' to replace it\n"
            "child.yaml:4:4: error: c: cannot merge a mapping into null (base.yaml:3:4). Add "
            "'_delete_: true' to replace it\n"
            "3 errors in the configuration");
  dir_.write("wrong.yaml", "_base_: base.yaml\nd: {_delete_: maybe}\n");
  EXPECT_EQ(flow("wrong.yaml"), "{a: 1, b: [1], c: null, d: {}}");
  dir_.write("top.yaml", "_base_: base.yaml\n_delete_: true\n");
  EXPECT_EQ(error("top.yaml"),
            "top.yaml:2:1: error: _delete_: there is nothing to delete at the top level; leave out "
            "'_base_'");
}

TEST_F(LoadConfig, ChangesElementsOfAListByTheirNumbers) {
  dir_.write("base.yaml", "heads: [{type: A, n: 1}, {type: B, l: [{m: 1}, 2]}]\n");
  dir_.write("child.yaml", "_base_: base.yaml\nheads:\n  1: {n: 3, l: {0: {m: 2}}}\n  0: {n: 2}\n");
  EXPECT_EQ(flow("child.yaml"), "{heads: [{type: A, n: 2}, {type: B, l: [{m: 2}, 2], n: 3}]}");
  dir_.write("beyond.yaml", "_base_: base.yaml\nheads: {2: {n: 3}}\n");
  EXPECT_EQ(error("beyond.yaml"),
            "beyond.yaml:2:9: error: heads.2: index 2 is beyond the end of the list heads, which "
            "has 2 elements");
}

TEST_F(LoadConfig, ReportsKeysDefinedByTwoBases) {
  dir_.write("a.yaml", "x: 1\nshared: 1\n");
  dir_.write("b.yaml", "y: 1\nshared: 2\n");
  dir_.write("child.yaml", "_base_:\n- a.yaml\n- b.yaml\nshared: 3\n");
  EXPECT_EQ(error("child.yaml"),
            "child.yaml:3:3: error: shared: two bases define this key: a.yaml:2:1 and "
            "b.yaml:2:1");
  dir_.write("twice.yaml", "_base_: [a.yaml, ./a.yaml]\n");
  EXPECT_EQ(error("twice.yaml"), "twice.yaml:1:18: error: _base_: a.yaml is listed twice");
}

TEST_F(LoadConfig, ReportsCyclesAndMissingFiles) {
  dir_.write("a.yaml", "_base_: b.yaml\n");
  dir_.write("b.yaml", "_base_: sub/../c.yaml\n");
  dir_.write("c.yaml", "x: 1\n_base_: a.yaml\n");
  std::filesystem::create_directory(dir_.path() / "sub");
  EXPECT_EQ(error("a.yaml"),
            "c.yaml:2:9: error: _base_: circular _base_: a.yaml -> b.yaml -> "
            "c.yaml -> a.yaml");
  dir_.write("self.yaml", "_base_: ./self.yaml\n");
  EXPECT_EQ(error("self.yaml"),
            "self.yaml:1:9: error: _base_: circular _base_: self.yaml -> "
            "self.yaml");
  dir_.write("models/segformer.yaml", "m: 1\n");
  dir_.write("near.yaml", "_base_: models/segforner.yaml\n");
  EXPECT_EQ(error("near.yaml"),
            "near.yaml:1:9: error: _base_: models/segforner.yaml: there is no such file. Did you "
            "mean 'segformer.yaml'?");
  dir_.write("far.yaml", "_base_: [models/segformer.yaml, modls/x.yaml]\n");
  EXPECT_EQ(error("far.yaml"),
            "far.yaml:1:33: error: _base_: modls/x.yaml: there is no such file. The folder modls "
            "does not exist.");
  EXPECT_EQ(error("nera.yaml"),
            "nera.yaml: error: there is no such file. Did you mean 'near.yaml'?");
  EXPECT_EQ(error("models"), "models: error: this is a folder, not a configuration file");
}

TEST_F(LoadConfig, ReportsBasesThatAreNotPaths) {
  dir_.write("a.yaml", "_base_: [3, {x: 1}, 'mmseg::x.py']\n");
  EXPECT_EQ(
      error("a.yaml"),
      "a.yaml:1:10: error: _base_: expected the path of a file, or a list of paths, got 3\n"
      "a.yaml:1:13: error: _base_: expected the path of a file, or a list of paths, got {x: 1}\n"
      "a.yaml:1:21: error: _base_: configs of installed packages ('mmseg::x.py') are not "
      "supported; give the path of a file\n"
      "3 errors in the configuration");
}

TEST_F(LoadConfig, ReportsAllErrorsOfAllFilesAtOnce) {
  dir_.write("a.yaml", "x: [1\n");
  dir_.write("b.yaml", "y: 1\ny: 2\n");
  dir_.write("child.yaml", "_base_: [a.yaml, b.yaml]\nz: '{{_base_.x}}'\nw: {{nothing}}\n");
  EXPECT_EQ(error("child.yaml", {"a[0=1"}),
            "child.yaml:3:4: error: w: unknown variable {{nothing}}. Known: _base_.KEY, "
            "fileDirname, fileBasename, fileBasenameNoExtension, fileExtname, $NAME:default\n"
            "a.yaml:2:1: error: not valid YAML: a ']' or a ',' is missing\n"
            "b.yaml:2:1: error: y: this key is there twice; it was first given in line 1\n"
            "3 errors in the configuration");
}

TEST_F(LoadConfig, RefusesFilesThatAreNotMappings) {
  dir_.write("list.yaml", "- a\n- b\n");
  EXPECT_EQ(error("list.yaml"), "list.yaml:1:1: error: the file must hold a mapping (key: value)");
  dir_.write("empty.yaml", "# nothing\n");
  EXPECT_EQ(flow("empty.yaml"), "{}");
}

TEST_F(LoadConfig, SubstitutesValuesOfBases) {
  dir_.write("base.yaml", "size: [512, 256]\nn: 19\nm: {a: {b: x, t: true}}\nname: ade\n");
  dir_.write("child.yaml",
             "_base_: base.yaml\n"
             "quoted: '{{_base_.size}}'\n"
             "plain: {{ _base_.n }}\n"
             "deep: {x: {{_base_.m.a}}, y: [ {{_base_.m.a.b}} ], z: {{_base_.size.1}}}\n"
             "text: work/{{_base_.name}}_{{_base_.n}}.x\n"
             "n: 150\n");
  const Config tree = load("child.yaml");
  EXPECT_EQ(dump_flow(*tree.at_path("quoted")), "[512, 256]");
  EXPECT_EQ(tree.find("plain")->value.kind, Config::Kind::kInt);
  EXPECT_EQ(dump_flow(*tree.at_path("deep")), "{x: {b: x, t: true}, y: [x], z: 256}");
  EXPECT_EQ(tree.find("text")->value.scalar, "work/ade_19.x");
  // It is the base's value, and what refers to it is in its history.
  EXPECT_EQ(origin(tree, "plain"), "base.yaml:2:4");
  ASSERT_EQ(tree.at_path("plain")->history.size(), 1u);
  EXPECT_EQ(without_dir(tree.at_path("plain")->history[0].origin.text()), "child.yaml:3:8");
}

TEST_F(LoadConfig, ReportsWhatCannotBeSubstituted) {
  dir_.write("base.yaml", "crop_size: [1]\nm: {width: 3}\n");
  dir_.write("child.yaml",
             "_base_: base.yaml\n"
             "a: {{_base_.crop_sise}}\n"
             "b: [{{_base_.m.widht}}]\n"
             "c: x{{_base_.m}}\n");
  EXPECT_EQ(
      error("child.yaml"),
      "child.yaml:2:4: error: a: the bases have no 'crop_sise'. Did you mean 'crop_size'?\n"
      "child.yaml:3:5: error: b.0: the bases have no 'm.widht'. Did you mean 'width'?\n"
      "child.yaml:4:4: error: c: {{_base_.m}} is a mapping and cannot be part of a longer string\n"
      "3 errors in the configuration");
  dir_.write("alone.yaml", "a: {{_base_.x}}\n");
  EXPECT_EQ(error("alone.yaml"),
            "alone.yaml:1:4: error: a: {{_base_.x}} in a file without '_base_'");
}

TEST_F(LoadConfig, SubstitutesTheNamesOfTheFile) {
  dir_.write("sub/x.v1.yaml",
             "a: '{{fileDirname}}'\n"
             "b: {{ fileBasename }}\n"
             "c: work/{{fileBasenameNoExtension}}/y\n"
             "d: {{fileExtname}}\n");
  EXPECT_EQ(flow("sub/x.v1.yaml"),
            "{a: " + (dir_ / "sub") + ", b: x.v1.yaml, c: work/x.v1/y, d: .yaml}");
  // The names are those of the file in which they stand.
  dir_.write("child.yaml", "_base_: sub/x.v1.yaml\ne: {{fileBasename}}\n");
  EXPECT_EQ(load("child.yaml").find("b")->value.scalar, "x.v1.yaml");
  EXPECT_EQ(load("child.yaml").find("e")->value.scalar, "child.yaml");
}

TEST_F(LoadConfig, SubstitutesTheEnvironment) {
  ASSERT_EQ(setenv("SEG_TEST_SET", "7", 1), 0);
  ASSERT_EQ(unsetenv("SEG_TEST_UNSET"), 0);
  dir_.write("a.yaml",
             "set: {{$SEG_TEST_SET:1}}\n"
             "unset: {{$SEG_TEST_UNSET:150}}\n"
             "quoted: '{{$SEG_TEST_UNSET:1e-3}}'\n"
             "path: {{$SEG_TEST_UNSET:/data/a b}}/images\n"
             "inner: {{'$SEG_TEST_UNSET:null'}}\n"
             "flow: [{{$SEG_TEST_UNSET:a,b}}, \"{{$SEG_TEST_SET}}\"]\n");
  const Config tree = load("a.yaml");
  EXPECT_EQ(dump_flow(tree),
            "{set: 7, unset: 150, quoted: 1.0e-3, path: /data/a b/images, inner: null, flow: "
            "['a,b', 7]}");
  EXPECT_EQ(tree.find("set")->value.kind, Config::Kind::kInt);
  dir_.write("b.yaml", "a: x{{$SEG_TEST_UNSET}}\nb: {{$SEG_TEST_UNSET: }}\n");
  EXPECT_EQ(error("b.yaml"),
            "b.yaml:1:4: error: a: the environment variable SEG_TEST_UNSET is not set, and "
            "{{$SEG_TEST_UNSET:default}} gives no default\n"
            "b.yaml:2:4: error: b: the environment variable SEG_TEST_UNSET is not set, and "
            "{{$SEG_TEST_UNSET:default}} gives no default\n"
            "2 errors in the configuration");
  dir_.write("c.yaml", "_base_: '{{$SEG_TEST_UNSET:./a}}.yaml'\n");
  EXPECT_EQ(load("c.yaml").at_path("set")->scalar, "7");
}

TEST_F(LoadConfig, KeepsAliasesAcrossValues) {
  dir_.write("a.yaml", "end: &iters 400\ncfg: {max_iters: *iters, <<: {b: 1}}\n");
  EXPECT_EQ(flow("a.yaml"), "{end: 400, cfg: {max_iters: 400, b: 1}}");
}

TEST_F(LoadConfig, WarnsOfVariablesThatNothingUses) {
  const std::vector<std::string> known{"model", "train_dataloader", "optim_wrapper",
                                       "default_scope"};
  dir_.write("base.yaml", "crop_size: 1\nnorm_cfg: 2\nshared: &s {a: 1}\nmodel: {b: *s}\n");
  dir_.write("child.yaml",
             "_base_: base.yaml\nmodel: {x: '{{_base_.crop_size}}'}\ntrain_dataloder: 1\n");
  EXPECT_EQ(warnings("child.yaml", known),
            "base.yaml:2:1: warning: norm_cfg: nothing uses this key.\n"
            "child.yaml:3:1: warning: train_dataloder: nothing uses this key. Did you mean "
            "'train_dataloader'?");
  EXPECT_EQ(warnings("child.yaml", known, {"crop_size=3", "optim_wraper.lr=1"}),
            "base.yaml:2:1: warning: norm_cfg: nothing uses this key.\n"
            "child.yaml:3:1: warning: train_dataloder: nothing uses this key. Did you mean "
            "'train_dataloader'?"
            "--cfg-options #1: error: crop_size: this changes nothing: files had the variable "
            "filled in before. Override the options that it fills; print_config --explain shows "
            "them\n"
            "--cfg-options #2: error: optim_wraper: nothing uses this key. Did you mean "
            "'optim_wrapper'?\n"
            "2 errors in the configuration");
  // Where the variable was used it has been filled in.
  dir_.write("late.yaml", "_base_: base.yaml\nnorm_cfg: 2\nshared: {a: 2}\n");
  EXPECT_EQ(
      warnings("late.yaml", known),
      "base.yaml:1:1: warning: crop_size: nothing uses this key.\n"
      "late.yaml:2:1: warning: norm_cfg: nothing uses this key.\n"
      "base.yaml:3:1: warning: shared: this changes nothing: files had the variable filled in "
      "before. Override the options that it fills; print_config --explain shows them");
  dir_.write("same.yaml", "_base_: base.yaml\nshared: &s {a: 2}\nmodel: {b: *s}\n");
  EXPECT_EQ(warnings("same.yaml", {"crop_size", "norm_cfg", "model"}), "");
  // A dump keeps the variables of the original; a base that only names its scope is none.
  dir_.write("dump.yaml", "default_scope: mmseg\nmodel: {}\nnorm_cfg: 1\n");
  EXPECT_EQ(warnings("dump.yaml", known), "");
  dir_.write("runtime.yaml", "default_scope: mmseg\nnorm_cfg: 1\n");
  EXPECT_EQ(warnings("runtime.yaml", known),
            "runtime.yaml:2:1: warning: norm_cfg: nothing uses this key.");
}

TEST_F(LoadConfig, IsNotMultipliedByReferences) {
  std::string list = "x";
  for (int i = 0; i < 30; ++i) {
    list = text("[", "{{_base_.v}}", ", {{_base_.v}}, {{_base_.v}}, {{_base_.v}}]");
    dir_.write(text("f", i, ".yaml"), i == 0 ? std::string("v: [1, 2, 3, 4]\n")
                                             : text("_base_: f", i - 1, ".yaml\nv: ", list, "\n"));
  }
  EXPECT_NE(
      error("f29.yaml").find("more than 500000 values; references within references multiply"),
      std::string::npos);
  for (int i = 0; i < 60; ++i) {
    dir_.write(text("d", i, ".yaml"),
               i == 0 ? std::string("x: 1\n") : text("_base_: d", i - 1, ".yaml\n"));
  }
  EXPECT_EQ(error("d59.yaml"),
            "d10.yaml:1:9: error: _base_: more than 50 files in a chain of _base_");
}

TEST_F(LoadConfig, ReadsARunOfMmengineBackTheSame) {
  const std::string path = source_path("../shared/reference/mmengine_run/config.yaml");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const Config tree = load_config(path);
  EXPECT_EQ(dump_yaml(parse_config(dump_yaml(tree, false, true)), false, true),
            dump_yaml(tree, false, true));
  EXPECT_EQ(tree.at_path("train_cfg.max_iters")->scalar, "4");
  EXPECT_TRUE(tree.at_path("crop_size")->is_tuple);
}

TEST_F(LoadConfig, ReadsJson) {
  dir_.write("a.json", "{\"a\": {\"b\": [1, 2.5, true, null, \"x\"]}}\n");
  EXPECT_EQ(flow("a.json"), "{a: {b: [1, 2.5, true, null, x]}}");
}

TEST(AllConfigs, Resolve) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source_path("configs"))) {
    if (entry.path().extension() != ".yaml") continue;
    if (entry.path().string().find("/_base_/") != std::string::npos) continue;
    ++count;
    EXPECT_EQ(test::config_error([&] { load_config(entry.path().string()); }), "no error");
  }
  EXPECT_GT(count, 0u);
}

}  // namespace
}  // namespace seg
