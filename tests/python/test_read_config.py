"""The script that evaluates configs in Python, driven as the programs drive it: `python3 -I -c
SCRIPT` and lines of JSON. Run: python3 tests/python/test_read_config.py"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = (ROOT / "registry/python/read_config.py").read_text()


class Refused(Exception):
    def __init__(self, error):
        super().__init__(error["message"])
        self.file, self.line, self.message = error["file"], error["line"], error["message"]


class Reader:
    def __init__(self, **options):
        self.process = subprocess.Popen([sys.executable, "-I", "-c", SCRIPT], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, **options)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(10)


def value(node):
    kind, _, _, _, payload = node
    if kind in ("int", "float"):
        return {"int": int, "float": float}[kind](payload)
    if kind == "map":
        return {key: value(item) for key, _, _, _, item in payload}
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](value(item) for item in payload)
    return payload


def node(item, place=(0, 0, 0)):
    """The node of a value; all of it from one place."""
    if isinstance(item, dict):
        return ["map", *place, [[key, *place, node(value, place)] for key, value in item.items()]]
    if isinstance(item, (list, tuple)):
        return [type(item).__name__, *place, [node(value, place) for value in item]]
    if isinstance(item, (int, float)) and not isinstance(item, bool):
        return [type(item).__name__, *place, repr(item)]
    return ["null" if item is None else type(item).__name__, *place, item]


def find(tree, *keys):
    """The node at a path of keys and indices, and the line of the last key."""
    line = None
    for key in keys:
        if isinstance(key, str):
            entry = next(entry for entry in tree[4] if entry[0] == key)
            line, tree = entry[2], entry[4]
        else:
            tree = tree[4][key]
    return tree, line


def setUpModule():
    global shared_reader
    shared_reader = Reader(env={**os.environ, "SEGCORE_TEST_CLASSES": "21"})


def tearDownModule():
    shared_reader.close()


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.reader = shared_reader
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, text, name="config.py"):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return path

    def run_file(self, path, bases=None, files=()):
        return self.reader.ask(do="run", file=path, files=list(files),
                               bases=None if bases is None else node(bases))

    def answer(self, text, bases=None):
        return self.run_file(self.write(text), bases)

    def read(self, text, bases=None):
        return value(self.answer(text, bases)["tree"])

    def bases(self, text):
        return self.reader.ask(do="bases", file=self.write(text))

    def assert_refused(self, text, line, message, bases=None, ask="run"):
        path = self.write(text)
        with self.assertRaises(Refused) as caught:
            self.run_file(path, bases) if ask == "run" else self.reader.ask(do=ask, file=path)
        self.assertEqual((caught.exception.line, caught.exception.message), (line, message))
        self.assertEqual(caught.exception.file, path)


class Bases(Case):
    def names(self, text):
        return [(base["name"], base["line"], base["column"]) for base in self.bases(text)["bases"]]

    def test_a_list_has_a_place_for_each(self):
        self.assertEqual(self.names("""\
            import os
            _base_ = [
                '../a.py', '../b.py',
                f'{"c"}.py']
            """), [("../a.py", 3, 5), ("../b.py", 3, 16), ("c.py", 4, 5)])

    def test_one_path_and_none(self):
        self.assertEqual(self.names("_base_ = './' + 'a.py'"), [("./a.py", 1, 10)])
        self.assertEqual(self.names("a = 1"), [])

    def test_modules_that_mmengine_has_at_hand(self):
        self.assertEqual(self.names("_base_ = osp.join('..', 'a.py')"), [("../a.py", 1, 10)])

    def test_variables_of_the_file_are_out_of_reach(self):
        self.assert_refused("root = '..'\n_base_ = root + '/a.py'\n", 2,
                            "'_base_' is read before the rest of the file and cannot use 'root'; "
                            "write the paths in full", ask="bases")

    def test_wrong_types(self):
        for text, found in (("dict(a=1)", "a dict"), ("('a.py', 'b.py')", "a tuple"),
                            ("['a.py', 3]", "an int"), ("None", "None"), ("''", "an empty text")):
            self.assert_refused(f"_base_ = {text}", 1,
                                f"'_base_' must be a path or a list of paths, not {found}",
                                ask="bases")

    def test_only_at_the_top_level_and_once(self):
        self.assert_refused("if True:\n    _base_ = 'a.py'\n", 2,
                            "'_base_' must stand at the top level of the file, not within another "
                            "statement", ask="bases")
        self.assert_refused("_base_ = ['a.py']\n_base_ += ['b.py']\n", 2,
                            "write the bases as one '_base_ = [...]'", ask="bases")

    def test_the_lazy_style_is_told_apart(self):
        lazy = "from mmengine.config import read_base\nwith read_base():\n    from .a import *\n"
        self.assertEqual(self.bases(lazy), {"bases": [], "lazy": True})
        self.assertTrue(self.bases("import torch\n")["lazy"])
        self.assertTrue(self.bases("from mmseg.models import SegformerHead\n")["lazy"])
        self.assertFalse(self.bases("import os.path as osp\nfrom mmengine import Config\n")["lazy"])
        self.assertFalse(self.bases("_base_ = 'a.py'\nimport torch\n")["lazy"])

    def test_an_import_before_the_bases(self):
        self.assert_refused("import torch\n_base_ = 'a.py'\n", 2,
                            "a file that imports another package (line 1) before '_base_' counts "
                            "as one of mmengine's lazy style, which has no '_base_'; move '_base_' "
                            "to the top", ask="bases")

    def test_other_with_statements(self):
        self.assert_refused("with open('x') as f:\n    pass\n", 1,
                            "mmengine refuses a config with a 'with' statement other than 'with "
                            "read_base():'; write it without", ask="bases")

    def test_a_file_that_is_not_there(self):
        with self.assertRaises(Refused) as caught:
            self.reader.ask(do="bases", file=os.path.join(self.folder, "none.py"))
        self.assertEqual(caught.exception.message,
                         "cannot read the file: No such file or directory")


class Values(Case):
    def test_kinds(self):
        self.assertEqual(self.answer("""\
            a = [1, 10 ** 30, -0.0, 1e-05, float('nan'), float('inf'), True, None, 'ä', (1,)]
            """)["tree"][4][0][4][4],
                         [["int", 0, 1, 6, "1"], ["int", 0, 1, 9, "1" + 30 * "0"],
                          ["float", 0, 1, 19, "-0.0"], ["float", 0, 1, 25, "1e-05"],
                          ["float", 0, 1, 32, "nan"], ["float", 0, 1, 46, "inf"],
                          ["bool", 0, 1, 60, True], ["null", 0, 1, 66, None],
                          ["str", 0, 1, 72, "ä"], ["tuple", 0, 1, 77, [["int", 0, 1, 78, "1"]]]])

    def test_computed_values(self):
        self.assertEqual(self.read("""\
            import copy
            import json
            import os.path as osp
            pipeline = [dict(type='Load')]
            for scale in (0.5, 2.0):
                pipeline.append(dict(type='Resize', scale=(int(512 * scale), 512)))
            keys = {f'stages.{i}.norm': dict(lr_mult=0.1) for i in range(2)}
            def head(classes, **options):
                return dict(type='FCNHead', num_classes=classes, **options)
            class Colours:
                red = [255, 0, 0]
            model = dict(head=head(19, loss=None), palette=[Colours.red])
            other = copy.deepcopy(model)
            other['head'].update(num_classes=7)
            first, *rest = [1, 2, 3]
            root = osp.join('data', f'{"ade"}')
            merged = dict(a=1) | {'b': 2, **dict(c=3)}
            text_of = json.dumps(dict(a=(1, 2))) + str([dict(b=1)]) + f'{(1,)}'
            batch = 2 if (n := len(rest)) > 5 else 8
            """), {
                "pipeline": [dict(type="Load"), dict(type="Resize", scale=(256, 512)),
                             dict(type="Resize", scale=(1024, 512))],
                "scale": 2.0,
                "keys": {"stages.0.norm": dict(lr_mult=0.1), "stages.1.norm": dict(lr_mult=0.1)},
                "model": dict(head=dict(type="FCNHead", num_classes=19, loss=None),
                              palette=[[255, 0, 0]]),
                "other": dict(head=dict(type="FCNHead", num_classes=7, loss=None),
                              palette=[[255, 0, 0]]),
                "first": 1, "rest": [2, 3], "root": "data/ade",
                "merged": dict(a=1, b=2, c=3), "text_of": '{"a": [1, 2]}[{\'b\': 1}](1,)',
                "n": 2, "batch": 8})

    def test_containers_are_those_of_python(self):
        self.assertEqual(self.read("""\
            import pickle
            checks = [type({}) is dict, type([]) == list, type(()) is tuple, {}.__class__ is dict,
                      isinstance({}, dict), [1] == [1], (1, 2) == (1, 2), {(1, 2): 3}[(1, 2)] == 3,
                      '%d-%d' % (1, 2) == '1-2', 'ab'.startswith(('a',)),
                      repr([{}, ()]) == '[{}, ()]',
                      pickle.loads(pickle.dumps(dict(a=[(1,)]))) == {'a': [(1,)]},
                      dict(dict(a=1), b=2) == {'a': 1, 'b': 2}, max([2, 1], [1, 9]) == [2, 1]]
            numbers = [3, 1, 2]
            numbers.sort(); numbers[1:2] = [7, 8]; numbers *= 2; del numbers[0]; numbers.remove(3)
            swapped = [1, 2]
            swapped[0], swapped[1] = swapped[1], swapped[0]
            """), {"checks": [True] * 14, "numbers": [7, 8, 1, 7, 8, 3], "swapped": [2, 1]})

    def test_what_is_left_out(self):
        answer = self.answer("""\
            import os
            from functools import partial
            def f(): pass
            class C: pass
            g = lambda: 0
            __hidden = 1
            _kept = 2
            opts = {1: 'a', None: 'b', 2.5: 'c', True: 'd'}
            """)
        self.assertEqual(value(answer["tree"]),
                         {"_kept": 2, "opts": {"1": "d", "None": "b", "2.5": "c"}})

    def test_variables_that_no_config_can_hold(self):
        answer = self.answer("""\
            from pathlib import Path
            odd = {1, 2}
            files = [Path('a'), odd]
            names = [str(f) for f in files[:1]]
            """)
        self.assertEqual(value(answer["tree"]), {"names": ["a"]})
        self.assertEqual(answer["left_out"], [
            {"name": "odd", "file": 0, "line": 2, "column": 7,
             "message": "odd is a set, which no config can hold; write a list"},
            {"name": "files", "file": 0, "line": 3, "column": 21,
             "message": "files[1] is a set, which no config can hold; write a list"}])

    def test_used_names(self):
        answer = self.answer("""\
            depth = 50
            typo = 3
            for i in range(2):
                last = [i]
            model = dict(depth=depth)
            """)
        self.assertEqual(answer["used"], ["depth", "i"])

    def test_deprecation(self):
        answer = self.answer("_deprecation_ = dict(expected='b.py', reference='#1')\na = 1\n")
        self.assertEqual(value(answer["tree"]), {"a": 1})
        self.assertEqual(answer["deprecated"], "this config is deprecated; use b.py instead (#1)")

    def test_byte_order_mark_and_line_ends(self):
        answer = self.answer(b"\xef\xbb\xbfa = 1\r\nb = dict(\r\n  c='x')\r\n")
        self.assertEqual(value(answer["tree"]), {"a": 1, "b": {"c": "x"}})
        self.assertEqual(find(answer["tree"], "b", "c")[0][1:4], [0, 3, 5])

    def test_output_of_a_config_goes_nowhere(self):
        self.assertEqual(self.read("""\
            import os, subprocess, sys
            print('{"tree": 1}', file=sys.stderr)
            os.write(1, b'noise')
            subprocess.run(['echo', 'more'])
            a = 1
            """), {"a": 1})

    def test_a_fork_does_not_answer(self):
        self.assertEqual(self.read("import os\npid_is_zero = os.fork() == 0\n"),
                         {"pid_is_zero": False})
        self.assertEqual(self.read("a = 2"), {"a": 2})


class Substitution(Case):
    def test_predefined_variables(self):
        path = self.write("work_dir = './work_dirs/{{ fileBasenameNoExtension }}'\n"
                          "rest = ['{{fileBasename}}', '{{fileDirname}}', '{{ fileExtname }}']\n",
                          "sub/my.config.py")
        self.assertEqual(value(self.run_file(path)["tree"]), {
            "work_dir": "./work_dirs/my.config",
            "rest": ["my.config.py", os.path.join(self.folder, "sub"), ".py"]})

    def test_environment(self):
        answer = self.answer("root = '{{$SEGCORE_NO_SUCH:/data}}/x'; classes = "
                             "{{'$SEGCORE_TEST_CLASSES:19'}}; lr = 0.1\n")
        self.assertEqual(value(answer["tree"]), {"root": "/data/x", "classes": 21, "lr": 0.1})
        # Places are those of the file, not of the text with the values put in.
        self.assertEqual(find(answer["tree"], "lr")[0][1:4], [0, 1, 87])

    def test_environment_without_default(self):
        self.assert_refused("a = 1\nroot = '{{$SEGCORE_NO_SUCH:}}'\n", 2,
                            "the environment variable SEGCORE_NO_SUCH is not set; set it, or write "
                            "a default after the ':'")

    def test_base_variables(self):
        bases = dict(size=(512, 512), model=dict(depth=50), unused=1)
        answer = self.answer("_base_ = 'a.py'\n"
                             "crop = {{_base_.size}}\n"
                             "model = dict(depth={{ _base_.model.depth }}, x=[_base_.size, 1])\n",
                             bases)
        self.assertEqual(value(answer["tree"]), {
            "crop": (512, 512), "model": dict(depth=50, x=[(512, 512), 1])})
        self.assertEqual(answer["referred"], ["size", "model"])

    def test_base_variable_within_a_text(self):
        self.assert_refused("_base_ = 'a.py'\na = dict(\n    b='{{_base_.name}}/x')\n", 3,
                            "a.b has '{{_base_.name}}' within a text, where mmengine does not "
                            "replace it; write {{_base_.name}} without quotes, or f'{_base_.name}'",
                            dict(name="n"))

    def test_unknown_base_variables(self):
        bases = dict(model=dict(depth=50))
        self.assert_refused("_base_ = 'a.py'\na = {{_base_.model.dept}}\n", 2,
                            "the bases have no 'model.dept'. Did you mean 'depth'?", bases)
        self.assert_refused("_base_ = 'a.py'\na = 1\nb = _base_.modle\n", 3,
                            "there is no key 'modle' here. Did you mean 'model'?", bases)


class FromBases(Case):
    def test_values_of_bases_keep_their_file(self):
        path = self.write("_base_ = 'a.py'\nmodel = dict(head=_base_.head, n=_base_.head.n)\n")
        bases = node(dict(head=dict(n=19)), (1, 7, 3))
        answer = self.reader.ask(do="run", file=path, files=["/x/unused.py", "/x/a.py"],
                                 bases=bases)
        self.assertEqual(answer["files"], [path, "/x/a.py"])
        self.assertEqual(find(answer["tree"], "model", "head", "n")[0], ["int", 1, 7, 3, "19"])
        self.assertEqual(find(answer["tree"], "model", "n")[0], ["int", 0, 2, 34, "19"])

    def test_unchanged_bases_are_not_returned(self):
        answer = self.answer("_base_ = 'a.py'\nmodel = _base_.model.copy()\nmodel.depth = 3\n",
                             dict(model=dict(depth=50)))
        self.assertIsNone(answer["bases"])
        self.assertEqual(value(answer["tree"]), {"model": {"depth": 3}})

    def test_changed_bases_are_returned(self):
        answer = self.answer("""\
            _base_ = 'a.py'
            _base_.model.depth = 101
            _base_.pipeline.insert(1, dict(type='New'))
            _base_.model.update(dict(head=dict(classes=7)))
            _base_.model.pop('missing')
            """, dict(model=dict(depth=50, head=dict(type='H')), pipeline=[1, 2]))
        self.assertEqual(value(answer["bases"]), {
            "model": dict(depth=101, head=dict(type='H', classes=7)),
            "pipeline": [1, dict(type="New"), 2]})
        self.assertEqual(find(answer["bases"], "model", "depth")[0][2], 2)
        self.assertEqual(find(answer["bases"], "pipeline", 1, "type")[0][2], 3)

    def test_merge_of_bases(self):
        self.assertEqual(self.read("""\
            _base_ = 'a.py'
            norm = _base_.norm | dict(type='BN')
            merged = _base_.norm.copy()
            merged.merge(dict(x=dict(_delete_=True, c=3)))
            """, dict(norm=dict(type="SyncBN", x=dict(a=1)))), {
                "norm": dict(type="BN", x=dict(a=1)),
                "merged": dict(type="SyncBN", x=dict(c=3))})


class Imports(Case):
    def test_an_imported_name_is_a_type(self):
        answer = self.answer("""\
            _base_ = []
            import torch.nn as nn
            from mmseg.models import SegformerHead as Head
            model = dict(type=Head, act=nn.GELU, many=(Head, [nn.modules.conv.Conv2d]))
            """)
        self.assertEqual(value(answer["tree"]), {"model": dict(
            type="mmseg.models.SegformerHead", act="torch.nn.GELU",
            many=("mmseg.models.SegformerHead", ["torch.nn.modules.conv.Conv2d"]))})
        self.assertEqual(answer["imports"], [{"module": "torch.nn", "file": 0, "line": 2},
                                             {"module": "mmseg.models", "file": 0, "line": 3}])

    def test_computing_with_an_import(self):
        for use in ("torch.cuda.device_count()", "torch.x + 1", "[*torch.x]", "{**torch.x}",
                    "f'{torch.x}'", "1 if torch.x else 2", "torch.x < 3", "dict(**torch.x)"):
            name = "torch.cuda.device_count" if "count" in use else "torch.x"
            self.assert_refused(f"_base_ = []\nimport torch\na = {use}\n", 3,
                                f"this config computes with {name}, which needs the package torch")

    def test_names_of_a_star_import(self):
        self.assert_refused("_base_ = []\nfrom mmseg.datasets import *\na = dict(type=ADE)\n", 3,
                            "the name 'ADE' is not defined; if it comes from an 'import *', this "
                            "needs the package mmseg")

    def test_modules_of_the_project(self):
        self.write("WIDTHS = (32, 64)\n", "project/my_widths.py")
        self.write("import torch\nWIDTHS = 1\n", "project/my_torch.py")
        reader = Reader(env={**os.environ, "PYTHONPATH": os.path.join(self.folder, "project")})
        self.addCleanup(reader.close)
        path = self.write("_base_ = []\nfrom my_widths import WIDTHS\na = WIDTHS[0]\n")
        answer = reader.ask(do="run", file=path, bases=None)
        self.assertEqual(value(answer["tree"])["a"], 32)
        path = self.write("_base_ = []\nimport my_torch\na = my_torch.WIDTHS + 1\n")
        with self.assertRaises(Refused) as caught:
            reader.ask(do="run", file=path, bases=None)
        self.assertEqual(caught.exception.message,
                         "this config computes with my_torch.WIDTHS, which needs the package torch")


class LazyStyle(Case):
    def test_bases_are_read_and_changed(self):
        self.write("""\
            from mmseg.models import ResNet
            from torch.optim import SGD
            model = dict(backbone=dict(type=ResNet, depth=50), head=dict(classes=19))
            optimizer = dict(type=SGD, lr=0.1)
            pipeline = [dict(type='Load')]
            def twice(x):
                return [x, x]
            """, "_base_/part.py")
        path = self.write("""\
            from mmengine.config import read_base
            with read_base():
                from .._base_.part import *
                from .._base_.part import optimizer as sgd, twice
            import torch.nn as nn
            model.backbone.depth = 101
            model.update(head=dict(classes=7, act=nn.GELU))
            pipeline.append(dict(type='Pack'))
            loader = dict(pipeline=pipeline, two=twice(3))
            """, "exp/config.py")
        answer = self.run_file(path)
        self.assertEqual(value(answer["tree"]), {
            "model": dict(backbone=dict(type="mmseg.models.ResNet", depth=101),
                          head=dict(classes=7, act="torch.nn.GELU")),
            "optimizer": dict(type="torch.optim.SGD", lr=0.1),
            "sgd": dict(type="torch.optim.SGD", lr=0.1),
            "pipeline": [dict(type="Load"), dict(type="Pack")],
            "loader": dict(pipeline=[dict(type="Load"), dict(type="Pack")], two=[3, 3])})
        part = answer["files"].index(os.path.join(self.folder, "_base_", "part.py"))
        self.assertEqual(find(answer["tree"], "optimizer", "lr")[0][1:3], [part, 4])
        self.assertEqual(find(answer["tree"], "model", "backbone", "depth")[0][1:3], [0, 6])

    def test_errors(self):
        read_base = "from mmengine.config import read_base\nwith read_base():\n"
        self.assert_refused(read_base + "    from .none import *\n", 3,
                            f"the base '.none' is not there: {self.folder}/none.py")
        self.assert_refused(read_base + "    from .config import *\n", 3,
                            "the base '.config' is read by itself, in a circle")
        self.write("model = 1\n", "part.py")
        self.assert_refused(read_base + "    from .part import modle\n", 3,
                            "the base '.part' has no 'modle'. Did you mean 'model'?")
        self.assert_refused("from mmseg.models import *\n", 1,
                            "'import *' works only for bases, within 'with read_base():'")
        self.assert_refused("import torch, os\n", 1,
                            "mmengine's lazy style has one module an 'import'; write a line for "
                            "each")


class Errors(Case):
    def test_syntax(self):
        for text, line in ((b"a = 1\nb = (1,, 2)\n", 2), (b"a = 1\n  b = 2\n", 2),
                           (b"if 1:\n        a = 1\n\tb = 2\n", 3), (b"a = 'x\n", 1),
                           (b"a = 1\nreturn a\n", 2)):
            with self.assertRaises(Refused) as caught:
                self.answer(text)
            self.assertEqual(caught.exception.line, line, text)
            self.assertRegex(caught.exception.message, "^syntax error: ")

    def test_encoding(self):
        self.assert_refused(b"a = 1\nb = '\xe9t\xe9'\n", 2,
                            "the byte 0xe9 is not UTF-8; save the file as UTF-8")
        self.assert_refused(b"a = 1\nb = '\0'\n", 2,
                            "a null character; this is not the text of a Python file")

    def test_unknown_names(self):
        self.assert_refused("num_classes = 19\nmodel = dict(\n    n=num_clases)\n", 3,
                            "the name 'num_clases' is not defined. Did you mean 'num_classes'?")
        self.assert_refused("a = null\n", 1, "the name 'null' is not defined. Did you mean None?")
        self.assert_refused("a = __file__\n", 1, "the name '__file__' is not defined; the config's "
                            "folder is '{{ fileDirname }}'")

    def test_exceptions_are_placed_in_the_config(self):
        self.assert_refused("def f(x):\n    raise ValueError('no\\n luck')\na = 1\nb = f(1)\n", 2,
                            "no luck")
        self.assert_refused("a = dict(\n    b=1,\n    c=1 / 0)\n", 3, "division by zero")
        self.assert_refused("a = dict(1, 2)\n", 1, "dict expected at most 1 argument, got 2")
        self.assert_refused("d = dict(a=1)\ne = dict(a=2, **d)\n", 2,
                            "dict() got multiple values for keyword argument 'a'")
        self.assert_refused("a = dict(b=1) + 3\n", 1,
                            "unsupported operand type(s) for +: 'dict' and 'int'")
        self.assert_refused("a = dict(b=1)['c']\n", 1, "there is no key 'c'")
        self.assert_refused("f = open('/nowhere/a.txt')\n", 1,
                            "cannot open '/nowhere/a.txt': No such file or directory")
        self.assert_refused("a = 3\nassert a < 2\n", 2, "an assertion of the config fails: a < 2")
        self.assert_refused("def f(x):\n    return f(x)\nf(1)\n", 2,
                            "the config calls itself without end, deeper than Python allows")
        self.assert_refused("a = input()\n", 1,
                            "the config asks for input, which a config cannot get")

    def test_a_config_does_not_end_the_process(self):
        for call in ("sys.exit(3)", "os._exit(3)", "os.abort()"):
            self.assert_refused(f"import os\nimport sys\n{call}\n", 3,
                                f"the config calls {call.split('(')[0]}(); a config must not end "
                                "the program")
        self.assertEqual(self.read("a = 1"), {"a": 1})

    def test_values_that_no_config_can_hold(self):
        for text, message in (
                ("{1, 2}", "a set, which no config can hold; write a list"),
                ("lambda: 0", "a lambda, which no config can hold"),
                ("int", "the class int, which no config can hold"),
                ("len", "the function len, which no config can hold"),
                ("(i for i in 'ab')", "a generator, which no config can hold; write a list"),
                ("b'x'", "bytes, which no config can hold"),
                ("object()", "an object, which no config can hold")):
            self.assert_refused(f"a = dict(b=[\n    1,\n    {text}])\n", 3, f"a.b[1] is {message}")
        self.assert_refused("a = dict(b={(1, 2): 3})\n", 1,
                            "a.b has a tuple as a key; a key of a config must be a text")
        self.assert_refused("a = {1: 'a', '1': 'b'}\n", 1,
                            "a has the key '1' both as a text and as a number")
        self.assert_refused("text = 'x'\n", 1,
                            "mmengine keeps the name 'text' for itself; choose another")

    def test_sizes(self):
        self.assert_refused("a = []\na.append(a)\n", 1,
                            "a[0][0][0]... is nested deeper than 100 levels, or holds itself")
        self.assert_refused("a = [0] * 2000000\n", 1,
                            "a is too large: the config has more than 1,000,000 values")
        self.assert_refused("a = 'x' * 70000000\n", 1,
                            "a is too long: the config holds more than 64 MB of text")
        self.assert_refused("a = 10 ** 10000\n", 1, "a is an integer of more than 4300 digits")

    def test_an_endless_loop_can_be_killed(self):
        reader = Reader()
        path = self.write("while True: pass\n")
        reader.process.stdin.write(json.dumps({"do": "run", "file": path}).encode() + b"\n")
        reader.process.stdin.flush()
        time.sleep(0.1)
        reader.process.kill()
        self.assertEqual(reader.process.stdout.read(), b"")
        reader.process.stdin.close()
        reader.process.stdout.close()
        reader.process.wait(10)

    def test_the_process_ends_with_its_input(self):
        reader = Reader()
        path = self.write("import threading, time\n"
                          "threading.Thread(target=time.sleep, args=(60,)).start()\n")
        reader.ask(do="run", file=path, bases=None)
        self.assertEqual(reader.close(), 0)


class Places(Case):
    def lines(self, text, *paths):
        tree = self.answer(text)["tree"]
        return [find(tree, *path)[0][2] for path in paths]

    def test_keys_and_values(self):
        tree = self.answer("""\
            depth = 50
            model = dict(
                type='A',
                backbone={
                    'depth': depth,
                    'out':
                        (1,
                         2)})
            """)["tree"]
        self.assertEqual(find(tree, "depth"), (["int", 0, 1, 9, "50"], 1))
        self.assertEqual(find(tree, "model")[0][1:4], [0, 2, 9])
        self.assertEqual(find(tree, "model", "type"), (["str", 0, 3, 10, "A"], 3))
        self.assertEqual(find(tree, "model", "backbone", "depth"), (["int", 0, 5, 18, "50"], 5))
        self.assertEqual(find(tree, "model", "backbone", "out", 1)[0], ["int", 0, 8, 14, "2"])
        self.assertEqual(find(tree, "model", "backbone", "out")[1], 6)

    def test_changes(self):
        self.assertEqual(self.lines("""\
            a = dict(x=1, y=[1])
            a['x'] = 2
            a.update(
                z=3)
            a['y'].append(
                4)
            a['y'] += [
                5]
            a.setdefault('w', 6)
            b = [*a['y'], 7]
            b.insert(0, 8)
            b.sort()
            """, ["a", "x"], ["a", "z"], ["a", "y", 0], ["a", "y", 1], ["a", "y", 2], ["a", "w"],
                                    ["b", 0], ["b", 4]),
                         [2, 4, 1, 6, 8, 9, 1, 11])

    def test_copies(self):
        self.assertEqual(self.lines("""\
            import copy
            a = dict(x=1, y=[2])
            b = [copy.deepcopy(a), a.copy(), dict(a), {**a}, dict(**a), a | {}, copy.copy(a)]
            c = [2,
                 3]
            d = [c + c, c * 2, c[1:], list(c), tuple(c), [*c]]
            e = (4,
                 5)
            f = [e + e, e * 2, e[1:], list(e)]
            """, *[["b", i, "x"] for i in range(7)], *[["b", i, "y", 0] for i in range(7)],
                                    *[["d", i, -1] for i in range(6)],
                                    *[["f", i, -1] for i in range(4)]),
                         [2] * 14 + [5] * 6 + [8] * 4)

    def test_the_assignment_that_ran(self):
        text = """\
            if {}:
                a = 1
            else:
                a = 2
            """
        self.assertEqual(self.lines(text.format("True"), ["a"]), [2])
        self.assertEqual(self.lines(text.format("False"), ["a"]), [4])

    def test_functions_and_comprehensions(self):
        self.assertEqual(self.lines("""\
            def conv(n):
                return dict(
                    n=n)
            a = [conv(i)
                 for i in range(2)]
            b = {k:
                 1 for k in 'x'}
            import json
            c = json.loads('{"d": [1]}')
            """, ["a"], ["a", 1], ["a", 1, "n"], ["b", "x"], ["c", "d", 0]), [4, 2, 3, 7, 9])

    def test_columns_count_characters(self):
        tree = self.answer("a = dict(b='äöü', c=1)\n")["tree"]
        self.assertEqual(find(tree, "a", "c")[0][1:4], [0, 1, 21])

    def test_names_that_only_the_code_knows_are_used(self):
        text = "a = [1]\nb = [2]\nc = dict(d={}()['a' * 1])\n"
        self.assertEqual(self.answer(text.format("globals"))["used"], ["a", "b", "c"])
        self.assertEqual(self.answer("a = [1]\nglobals()['b'] = a\n")["used"], ["a"])


    def test_a_config_that_mmengine_has_written_keeps_its_variables(self):
        text = "crop_size = (1, 2, )\ndefault_scope = 'mmseg'\nmodel = dict(size=(1, 2, ), type='A')\n"
        self.assertEqual(self.answer(text)["used"], ["crop_size", "default_scope", "model"])
        self.assertEqual(self.answer(text + "x = model\n")["used"], ["model"])
        self.assertEqual(self.answer("crop_size = 1\nmodel = dict(a=1)\n")["used"], [])


class Classes(Case):
    """Data set classes, whose code is not run."""

    def described(self, text, name=None):
        path = self.write(text, "street.py")
        classes = self.reader.ask(do="classes", file=path)["classes"]
        return next(one for one in classes if name in (None, one["name"]))

    def metainfo(self, value_of_classes, before=""):
        found = self.described(f"{before}\nclass A(B):\n    METAINFO = dict(classes="
                               f"{value_of_classes})\n")
        return value(found["metainfo"])["classes"] if found["metainfo"] else found["beyond"]

    def test_values_are_computed_where_nothing_else_can_happen(self):
        for text, before, expected in [
                ("('a',) + NAMES", "NAMES = ('b', 'c')", ("a", "b", "c")),
                ("[f'x{i}' for i in range(2)]", "", ["x0", "x1"]),
                ("['x'] * N", "M = N = 2", ["x", "x"]),
                ("TEXT.strip().split(',')", "TEXT = ' a,b'", ["a", "b"]),
                ("tuple(COLOURS)", "COLOURS = {'a': 1, **dict(b=2)}", ("a", "b")),
                ("(*NAMES, 'z')", "NAMES = sorted({'b', 'a'})", ("a", "b", "z"))]:
            self.assertEqual(self.metainfo(text, before), expected, text)

    def test_other_values_are_named(self):
        for text, before in [
                ("open('x').read()", ""), ("NAMES", ""), ("().__class__", ""), ("[1][3]", ""),
                ("'{0.x}'.format(1)", ""), ("(lambda: ['a'])()", ""), ("f()", "f = list"),
                ("NAMES", "NAMES = NAMES + ['a']"),
                # What the module does to a value later is not known.
                ("NAMES", "NAMES = []\nfor i in range(2):\n    NAMES.append(i)"),
                ("NAMES", "NAMES = ['a']\nNAMES += ['b']"),
                ("NAMES", "NAMES = ['a']\nNAMES[0] = 'b'")]:
            self.assertEqual(self.metainfo(text, before), ["computes METAINFO"], (text, before))

    def test_attributes_and_methods_of_its_own(self):
        found = self.described("""\
            class A(B):
                classes = ('a', 'b')
                palette = [[i] * 3 for i in range(len(classes))]
                METAINFO = dict(classes=classes, palette=palette)
                folds = 5

                def colour(self, i):
                    return self.palette[i]
            """)
        self.assertEqual(found["beyond"], [])
        self.assertEqual(value(found["metainfo"]),
                         {"classes": ("a", "b"), "palette": [[0] * 3, [1] * 3]})
        for method in ("def load_data_list(self): pass", "def __len__(self): return 1",
                       "@property\n    def size(self): return 1"):
            found = self.described(f"class A(B):\n    {method}\n")
            name = method.partition("def ")[2].partition("(")[0]
            self.assertEqual(found["beyond"], [f"defines {name}()"])

    def test_constructors(self):
        found = self.described("""\
            class A(B):
                def __init__(self, *args, img_suffix='.tif', seg_map_suffix='.png', mode=None,
                             zero=False, **kwargs):
                    print('reading')
                    super(B, self).__init__(*args, img_suffix=img_suffix, reduce_zero_label=zero,
                                            ignore_index=0, seg_map_suffix=seg_map_suffix, **kwargs)
                    assert self.metainfo
            """)
        self.assertEqual(found["beyond"], [])
        # 'mode' does not reach the base.
        self.assertEqual({name: value(option) for name, option in found["options"]},
                         {"img_suffix": ".tif", "seg_map_suffix": ".png",
                          "reduce_zero_label": False, "ignore_index": 0})
        found = self.described("""\
            class A(B):
                def __init__(self, root, **kwargs):
                    super().__init__(root, **kwargs)
                    self.files = sorted(root)
            """)
        self.assertEqual(found["beyond"], ["does more in line 3", "does more in line 4"])

    def test_names_that_they_are_registered_under(self):
        for text, expected in [
                ("@DATASETS.register_module()\nclass A(B): pass", ["A"]),
                ("@DATASETS.register_module(name='X', force=True)\nclass A(B): pass", ["X"]),
                ("@DATASETS.register_module(['X', 'Y'])\nclass A(B): pass", ["X", "Y"]),
                ("class A(B): pass", ["A"]),
                ("class A(B): pass\nDATASETS.register_module(name='X', module=A)", ["X"]),
                ("class A(B): pass\nDATASETS.register_module(module=A)", ["A"])]:
            self.assertEqual(self.described(text)["registered"], expected, text)


if __name__ == "__main__":
    unittest.main()
