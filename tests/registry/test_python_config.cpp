// load_config of .py files: what they compute, mixtures with YAML, origins, and what goes wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "registry/python_json.hpp"
#include "registry/python_reader.hpp"
#include "registry/yaml.hpp"
#include "tests/support/config_files.hpp"

namespace seg {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class PythonConfig : public test::ConfigFiles {};

TEST_F(PythonConfig, IsWhatItsCodeComputes) {
  dir_.write("a.py", R"(
import copy
import os.path as osp
from math import pi

def stage(width, depth=2):
    return dict(width=width, depth=depth)

norm_cfg = dict(type='BN', requires_grad=True)
_hidden = 3
stages = [stage(2**i, depth=i + 1) for i in range(_hidden)]
model = dict(
    type='EncoderDecoder',
    norm_cfg=norm_cfg,
    size=(512, 1024),
    lr=1e-5, half=.5, big=1e22, nothing=None, yes=True, no=False,
    **{'from': 'display'})
other = copy.deepcopy(model)
other['norm_cfg']['type'] = 'SyncBN'
other.update(size=(1, 2), name=f'{model["type"]}_{_hidden}')
path = osp.join('data', 'ade')
)");
  EXPECT_EQ(
      flow("a.py"),
      "{pi: 3.141592653589793, norm_cfg: {type: BN, requires_grad: true}, _hidden: 3, "
      "stages: [{width: 1, depth: 1}, {width: 2, depth: 2}, {width: 4, depth: 3}], "
      "model: {type: EncoderDecoder, norm_cfg: {type: BN, requires_grad: true}, size: [512, "
      "1024], lr: 1.0e-05, half: 0.5, big: 1.0e+22, nothing: null, 'yes': true, 'no': false, "
      "from: display}, other: {type: EncoderDecoder, norm_cfg: {type: SyncBN, "
      "requires_grad: true}, size: [1, 2], lr: 1.0e-05, half: 0.5, big: 1.0e+22, nothing: "
      "null, 'yes': true, 'no': false, from: display, name: EncoderDecoder_3}, path: data/ade}");
  EXPECT_TRUE(load("a.py").at_path("model.size")->is_tuple);
}

TEST_F(PythonConfig, AndYamlAreBasesOfEachOther) {
  dir_.write("base.yaml", "model: {type: A, head: {classes: 19, lr: 1}}\nsteps: [1, 2]\nn: 4\n");
  dir_.write("middle.py",
             "_base_ = ['./base.yaml']\n"
             "n = _base_.n * 2\n"
             "steps = _base_.steps + [3]\n"
             "model = dict(head=dict(classes=150), name='{{fileBasenameNoExtension}}')\n");
  dir_.write("top.yaml", "_base_: middle.py\nmodel: {head: {_delete_: true, k: '{{_base_.n}}'}}\n");
  dir_.write("last.py", "_base_ = 'top.yaml'\nkind = _base_.model.type\n");
  EXPECT_EQ(flow("last.py"),
            "{model: {type: A, head: {k: 8}, name: middle}, steps: [1, 2, 3], n: 8, kind: A}");
  EXPECT_EQ(dump_flow(load("last.py", {"model.head.k=5", "steps.0=7"})),
            "{model: {type: A, head: {k: 5}, name: middle}, steps: [7, 2, 3], n: 8, kind: A}");
}

TEST_F(PythonConfig, ValuesKeepTheirLines) {
  dir_.write("base.py", "model = dict(\n    type='A',\n    head=dict(\n        classes=19))\n");
  dir_.write("a.py",
             "_base_ = 'base.py'\nlr = 0.1\nmodel = dict(head=dict(lr=lr))\n"
             "steps = [\n  {'type': 'Load'},\n  dict(type='Crop',\n       size=(1, 2))]\n");
  const Config tree = load("a.py");
  EXPECT_EQ(origin(tree, "model.type"), "base.py:2:10");
  EXPECT_EQ(origin(tree, "model.head.classes"), "base.py:4:17");
  EXPECT_THAT(origin(tree, "steps.0.type"), StartsWith("a.py:5:"));
  EXPECT_THAT(origin(tree, "steps.1.size"), StartsWith("a.py:7:"));
  EXPECT_THAT(origin(tree, "model.head.lr"), StartsWith("a.py:"));
}

TEST_F(PythonConfig, VariablesAreToldFromSlips) {
  dir_.write("base.py", "crop_size = (512, 512)\nmodel = dict(size=crop_size)\n");
  dir_.write("a.py", "_base_ = 'base.py'\nmodell = dict(x=1)\n");
  EXPECT_EQ(warnings("a.py", {"model"}),
            "a.py:2:1: warning: modell: nothing uses this key. Did you mean 'model'?");
  dir_.write("b.py", "_base_ = 'base.py'\ncrop_size = (64, 64)\n");
  EXPECT_EQ(warnings("b.py", {"model"}),
            "b.py:2:1: warning: crop_size: this changes nothing: files had the variable filled in "
            "before. Override the options that it fills; print_config --explain shows them");
  dir_.write("c.py", "_base_ = 'base.py'\ncrop_size = (64, 64)\nmodel = dict(size=crop_size)\n");
  EXPECT_EQ(warnings("c.py", {"model"}), "");
}

TEST_F(PythonConfig, MistakesHaveFileAndLine) {
  const struct {
    const char *text, *message;
  } table[] = {
      {"model = dict(type='A'\nx = 1\n", "a.py:1:13: error: syntax error: '(' was never closed"},
      {"x = 1\ny = dict(a=normcfg)\n", "a.py:2:"},
      {"x = 1\ny = 1 / 0\n", "a.py:2:"},
      {"_base_ = 'none.py'\n", "a.py:1:10: error: _base_: none.py: there is no such file."},
      {"_base_ = 'a.py'\n", "a.py:1:10: error: _base_: circular _base_: a.py -> a.py"},
      {"x = [1, {2, 3}]\n", "a.py:1:"},
      {"import sys\nsys.exit(3)\n", "a.py:2:"},
      {"def f():\n    return f()\nx = f()\n", "a.py:2:"},
      {"from mmcv.ops import nms\nx = nms(3)\n", "a.py:2:"},
      {"raise ValueError('no such stage')\n", "no such stage"},
  };
  for (const auto& [text, message] : table) {
    dir_.write("a.py", text);
    const std::string found = error("a.py");
    EXPECT_THAT(found, HasSubstr(message)) << text;
    EXPECT_EQ(std::count(found.begin(), found.end(), '\n'), 0) << found;
    EXPECT_THAT(found, ::testing::Not(HasSubstr("Traceback"))) << found;
  }
  dir_.write("b.yaml", "_base_: a.py\n");
  EXPECT_THAT(error("b.yaml"), HasSubstr("a.py:1:"));
}

TEST_F(PythonConfig, OutputOfItsCodeGoesNowhere) {
  dir_.write("a.py",
             "import os, sys\nprint('x' * 100000)\nos.system('echo {}')\n"
             "sys.stdout.write('{\"error\": 1}\\n')\nx = len(sys.stdin.read())\n");
  EXPECT_EQ(flow("a.py"), "{x: 0}");
}

TEST_F(PythonConfig, WithoutPythonSaysSo) {
  dir_.write("a.py", "x = 1\n");
  setenv("SEGCORE_PYTHON", "no-such-python", 1);
  const std::string missing = error("a.py");
  setenv("SEGCORE_PYTHON", "false", 1);
  const std::string silent = error("a.py");
  unsetenv("SEGCORE_PYTHON");
  EXPECT_EQ(missing,
            "a.py: error: there is no program 'no-such-python': configurations in Python need "
            "Python 3.9 or newer (SEGCORE_PYTHON names another interpreter), or convert them to "
            "YAML where one is, with tools/print_config");
  EXPECT_EQ(silent,
            "a.py: error: false, which evaluates it, ended without an answer (exit code 1); "
            "Python 3.9 or newer is needed");
}

TEST_F(PythonConfig, WhatDoesNotEndIsEnded) {
  const std::pair<const char*, const char*> endless[] = {
      {"x = 1\nwhile True:\n    x += 1\n", "a.py:"},
      // Nothing of Python can interrupt this one.
      {"import re\nre.match('(a+)+$', 'a' * 64 + 'b')\n", "a.py"}};
  for (const auto& [text, where] : endless) {
    dir_.write("a.py", text);
    Diagnostics problems;
    detail::PythonReader reader(problems, std::chrono::seconds(1));
    Config bases;
    bases.kind = Config::Kind::kMap;
    EXPECT_FALSE(reader.run(dir_ / "a.py", "a.py", bases));
    EXPECT_THAT(problems.text(), StartsWith(where));
    EXPECT_THAT(problems.text(), HasSubstr("has not ended after 1 s"));
    // The next file is evaluated by another interpreter.
    dir_.write("b.py", "y = 2\n");
    const auto next = reader.run(dir_ / "b.py", "b.py", bases);
    ASSERT_TRUE(next);
    EXPECT_EQ(dump_flow(*next), "{y: 2}");
  }
}

TEST(PythonJson, WritesNumbersAsPythonDoes) {
  for (const auto& [value, text] :
       std::vector<std::pair<double, const char*>>{{1, "1.0"},
                                                   {1e-5, "1e-05"},
                                                   {1e-4, "0.0001"},
                                                   {0.1, "0.1"},
                                                   {1e22, "1e+22"},
                                                   {1.5e16, "1.5e+16"},
                                                   {1e15, "1000000000000000.0"},
                                                   {123456789012345680.0, "1.2345678901234568e+17"},
                                                   {-2.5, "-2.5"},
                                                   {5e-324, "5e-324"},
                                                   {0, "0.0"}}) {
    EXPECT_EQ(python_float(value), text);
  }
  EXPECT_EQ(python_json(parse_config("b: [1, 0x10, 1_000, .inf, -.inf, 1e-3, ~, true]\n"
                                     "a: {\"z\\u00e9\\t\": '\"', 10: x, 9: y}\n")),
            R"({"a":{"10":"x","9":"y","z\u00e9\t":"\""},"b":[1,16,1000,Infinity,-Infinity,0.001,)"
            R"(null,true]})");
}

}  // namespace
}  // namespace seg
