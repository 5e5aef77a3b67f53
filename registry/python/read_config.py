"""Evaluates configs that are written in Python, as mmengine 0.10.7's Config.fromfile does.

The programs start this script once and talk to it in lines of JSON, a request a line on standard
input and an answer a line on standard output:

  {"do": "bases", "file": F}               -> {"bases": [{"name", "line", "column"}], "lazy": bool}
  {"do": "run", "file": F, "files": [...], "bases": NODE or null}
      -> {"tree": NODE, "files": [...], "referred", "used", "imports", "left_out", "bases",
          "deprecated"}
  or, for either,                             {"error": {"file", "line", "column", "message"}}

The caller reads the bases first, merges them, hands them over as `bases` and merges the tree into
them. `bases` of an answer is null, or the bases as the file has changed them (a config may write
`_base_.model.depth = 50`): then the tree is merged into these. A config in the lazy style ("lazy")
reads its bases by itself, and its tree is complete.

A NODE is [kind, file, line, column, payload]: where the value was written, the file as an index
into `files` (0 is F), lines and columns from 1, line 0 for an unknown place. Kinds: null, bool, int
and float (as text), str, list and tuple (payload: nodes), map (payload: [key, file, line, column,
NODE], the place being that of the key).

`referred`: the keys of the bases that the file refers to. `used`: the names of the file that its
own code reads, or that a loop or an import binds. `imports`: what was imported and is known only by
name. `left_out`: variables of the file (all of them `used`) that no config can hold, such as a list
of files to open; with the message to give if the name is one that the caller needs. `deprecated`:
the warning of `_deprecation_`, or null.

Places are kept by containers that remember where their entries were written: the syntax tree of a
config is changed so that displays and calls of dict() make such containers. They are subclasses of
dict, list and tuple, and behave as these do.

Only the standard library is used, of Python 3.9 or newer.
"""
import ast
import builtins
import collections
import contextlib
import copy
import gc
import itertools
import json
import os
import re
import signal
import sys
import types
from typing import Any, Callable, Dict, Iterable, Iterator, List, NoReturn, Optional, Set, Tuple

Place = Tuple[int, int, int]  # index into PATHS, line and column from 1; line 0: unknown
Entry = Tuple[Optional[Place], Optional[Place]]  # of a key and of its value

BASE_KEY = "_base_"
DELETE_KEY = "_delete_"
DEPRECATION_KEY = "_deprecation_"
RESERVED_KEYS = ("filename", "text", "pretty_text", "env_variables")
# Not imported even where they are installed, so that a config has the same tree on every machine.
NEVER_IMPORTED = frozenset(
    ["torch", "torchvision", "mmseg", "mmcv", "mmengine", "mmdet", "mmpretrain", "mmcls", "timm",
     "cv2", "numpy"])
MAX_VALUES = 1_000_000
MAX_DEPTH = 100
MAX_TEXT = 64 << 20  # characters of all strings together
MAX_INT_BITS = 14_000  # about 4300 digits, beyond which Python itself refuses to write an int
MAX_MEMORY = 4 << 30
PROCESS = os.getpid()

PATHS: List[str] = []
MODULES: Dict[str, "Module"] = {}  # by the file name of their code objects


class Problem(Exception):
    """What is wrong with a config, in a sentence, and where."""

    def __init__(self, place: Place, message: str):
        super().__init__(message)
        self.place = place
        self.message = message


class Unholdable(Problem):
    """A value of a kind that configs do not have; fine for a variable of the code."""


def path_index(path: str) -> int:
    if path not in PATHS:
        PATHS.append(path)
    return PATHS.index(path)


def one_line(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit] + "..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    import difflib  # only errors need it
    close = difflib.get_close_matches(name, [k for k in known if isinstance(k, str)], 1, 0.7)
    return f". Did you mean '{close[0]}'?" if close else ""


# ---------------------------------------------------------------- the text of a file


def read_text(path: str) -> str:
    index = path_index(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise Problem((index, 0, 0), f"cannot read the file: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        message = f"the byte 0x{data[start]:02x} is not UTF-8; save the file as UTF-8"
        raise Problem((index, line, start - data.rfind(b"\n", 0, start)), message) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Problem((index, line, 1), "a null character; this is not the text of a Python file")
    return text


class Source:
    """The text that Python reads of a file, with mmengine's `{{...}}` replaced, and the way back
    from places in it to places in the file."""

    def __init__(self, path: str):
        self.path = path
        self.index = path_index(path)
        self.file_text = read_text(path)
        self.text = self.file_text
        self._lines: Optional[List[str]] = None
        # For each character of `text`, its offset in the file; None as long as nothing is replaced.
        self._origins: Optional[List[int]] = None
        self.base_variables: Dict[str, str] = {}  # by the string that stands for `{{_base_.x}}`

    def substitute(self) -> None:
        name = os.path.basename(self.path)
        values = {
            "fileDirname": os.path.dirname(self.path),
            "fileBasename": name,
            "fileBasenameNoExtension": os.path.splitext(name)[0],
            "fileExtname": os.path.splitext(name)[1],
        }
        self._replace(r"\{\{\s*(" + "|".join(values) + r")\s*\}\}", lambda m: values[m[1]])
        self._replace(r"""\{\{['"]?\s*\$(\w+)\s*:\s*(\S*?)\s*['"]?\}\}""", self._environment)
        token = os.urandom(6).hex()

        def base_variable(match: "re.Match[str]") -> str:
            text = f"_{match[1]}_{token}"
            self.base_variables[text] = match[1]
            return f'"{text}"'

        self._replace(r"\{\{\s*" + BASE_KEY + r"\.([\w.]+)\s*\}\}", base_variable)

    def _environment(self, match: "re.Match[str]") -> str:
        value = os.environ.get(match[1], match[2])
        if not value:
            line = self.text.count("\n", 0, match.start()) + 1
            column = match.start() - (self.text.rfind("\n", 0, match.start()) + 1)
            raise Problem(self.place(line, column),
                          f"the environment variable {match[1]} is not set; set it, or write a "
                          f"default after the ':'")
        return value

    def _replace(self, pattern: str, replacement: Callable[["re.Match[str]"], str]) -> None:
        if "{{" not in self.text:
            return
        parts: List[str] = []
        origins: List[int] = []
        before = self._origins or range(len(self.text))
        end = 0
        for match in re.finditer(pattern, self.text):
            value = replacement(match)
            parts += [self.text[end:match.start()], value]
            origins += before[end:match.start()]
            origins += [before[match.start()]] * len(value)
            end = match.end()
        if end:
            self._origins = origins + list(before[end:])
            self.text = "".join(parts) + self.text[end:]
            self._lines = None

    def parse(self) -> ast.Module:
        with self.problems_of_compiler():
            return ast.parse(self.text, self.path)

    @contextlib.contextmanager
    def problems_of_compiler(self) -> Iterator[None]:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, 10_000))  # long chains of operators are deep trees
        try:
            yield
        except SyntaxError as error:
            raise self.syntax_problem(error) from None
        except (RecursionError, MemoryError):
            raise Problem((self.index, 1, 1), "the code is nested too deeply for Python") from None
        finally:
            sys.setrecursionlimit(limit)

    def syntax_problem(self, error: SyntaxError) -> Problem:
        message = one_line(error.msg or "invalid syntax")
        line = error.lineno or 0
        if re.search(r"\{\{\s*\$", self.line(line)):
            message += "; mmengine wants an environment variable in quotes: {{'$NAME:default'}}"
        if any(token in self.line(line) for token in self.base_variables):
            message += f"; '{{{{{BASE_KEY}.name}}}}' stands without quotes"
        return Problem(self.place(line, (error.offset or 1) - 1), f"syntax error: {message}")

    @property
    def lines(self) -> List[str]:
        if self._lines is None:
            self._lines = self.text.split("\n")
        return self._lines

    def line(self, number: int) -> str:
        return self.lines[number - 1] if 1 <= number <= len(self.lines) else ""

    def place(self, line: int, column: int) -> Place:
        """Of a line from 1 and a column, in characters, from 0 of `text`."""
        line = min(line, len(self.lines))
        if line < 1:
            return self.index, 0, 0
        if self._origins is None:
            return self.index, line, max(column, 0) + 1
        offset = sum(len(text) + 1 for text in self.lines[:line - 1]) + max(column, 0)
        origin = self._origins[offset] if offset < len(self._origins) else len(self.file_text)
        start = self.file_text.rfind("\n", 0, origin) + 1
        return self.index, self.file_text.count("\n", 0, origin) + 1, origin - start + 1

    def byte_place(self, line: int, column: int) -> Place:
        """The same for a column in bytes, as syntax trees and code objects count."""
        if column > 0 and not self.line(line).isascii():
            start = self.line(line).encode("utf-8", "surrogatepass")[:column]
            column = len(start.decode("utf-8", "ignore"))
        return self.place(line, column)

    def of(self, node: Any) -> Place:
        return self.byte_place(node.lineno, node.col_offset)

    def line_start(self, line: int) -> Place:
        text = self.line(line)
        return self.place(line, len(text) - len(text.lstrip()))


# ---------------------------------------------------------------- containers that know places


def own_place(value: Any) -> Optional[Place]:
    return value._seg_place if isinstance(value, TRACKED) else None


def item_places(value: Any) -> Optional[List[Optional[Place]]]:
    """A place for each item, or None. Code in C can change a list behind our back."""
    if isinstance(value, (TrackedList, TrackedTuple)):
        places = value._seg_places
        if places is not None and len(places) == len(value):
            return list(places)
    return None


def places_or_unknown(value: Any, count: int) -> List[Optional[Place]]:
    places = item_places(value)
    return places if places is not None and len(places) == count else [None] * count


def writing_code() -> Tuple[Optional["Module"], int]:
    """The config, and its line, whose code runs."""
    frame = sys._getframe(2)
    while frame is not None:
        module = MODULES.get(frame.f_code.co_filename)
        if module is not None:
            return module, frame.f_lineno
        frame = frame.f_back
    return None, 0


def entry_written_here() -> Entry:
    module, line = writing_code()
    if module is None:
        return None, None
    place = module.source.line_start(line)
    return module.stores.get(line, (place, place))


def argument_written_here() -> Optional[Place]:
    module, line = writing_code()
    return None if module is None else module.arguments.get(line) or module.source.line_start(line)


class TrackedDict(dict):
    __slots__ = ("_seg_place", "_seg_places")
    __class__ = property(lambda self: dict)

    def __init__(self, *args, **kwargs):
        dict.__init__(self, *args, **kwargs)
        places = dict(args[0]._seg_places) if args and isinstance(args[0], TrackedDict) else {}
        set_places(self, None, places)

    def __setitem__(self, key, value):
        dict.__setitem__(self, key, value)
        self._seg_places[key] = entry_written_here()

    def setdefault(self, key, default=None):
        if key not in self:
            dict.__setitem__(self, key, default)
            place = argument_written_here()
            self._seg_places[key] = (place, place)
        return dict.__getitem__(self, key)

    def update(self, *args, **kwargs):
        dict.update(self, *args, **kwargs)
        self._note_update(args[0] if args else {}, kwargs)

    def _note_update(self, other: Any, keywords: Dict[str, Any]) -> None:
        module, line = writing_code()
        if module is None:
            return
        start = module.source.line_start(line)
        known = other._seg_places if isinstance(other, TrackedDict) else {}
        keys = list(other) if isinstance(other, dict) else []
        for key in keys:
            self._seg_places[key] = known.get(key, (start, start))
        written = module.keywords.get(line, {})
        for key in keywords:
            self._seg_places[key] = written.get(key, (start, start))

    def __ior__(self, other):
        dict.update(self, other)
        self._note_update(other, {})
        return self

    def __or__(self, other):
        return self._joined(dict.__or__(self, other), self, other)

    def __ror__(self, other):
        return self._joined(dict.__ror__(self, other), other, self)

    @staticmethod
    def _joined(made: Any, *parts: Any) -> Any:
        if made is NotImplemented:
            return made
        joined = TrackedDict(made)
        for part in parts:
            joined._seg_places.update(part._seg_places if isinstance(part, TrackedDict) else {})
        joined._seg_place = own_place(parts[0]) or own_place(parts[1])
        return joined

    def __copy__(self):
        made = TrackedDict(self)
        made._seg_place = self._seg_place
        return made

    def copy(self):
        return self.__copy__()

    def __deepcopy__(self, memo):
        made = TrackedDict()
        memo[id(self)] = made
        for key, value in dict.items(self):
            dict.__setitem__(made, copy.deepcopy(key, memo), copy.deepcopy(value, memo))
        set_places(made, self._seg_place, dict(self._seg_places))
        return made

    def __reduce_ex__(self, protocol):
        return dict, (list(dict.items(self)),)


class TrackedList(list):
    __slots__ = ("_seg_place", "_seg_places")
    __class__ = property(lambda self: list)

    def __init__(self, items=()):
        list.__init__(self, items)
        set_places(self, None, item_places(items))

    def _places(self) -> List[Optional[Place]]:
        """To be changed in step with the items."""
        if self._seg_places is None or len(self._seg_places) != len(self):
            self._seg_places = [None] * len(self)
        return self._seg_places

    def append(self, item):
        self._places().append(argument_written_here())
        list.append(self, item)

    def insert(self, index, item):
        places = self._places()
        list.insert(self, index, item)
        places.insert(index, argument_written_here())

    def extend(self, items):
        self._extend(items, argument_written_here())

    def __iadd__(self, items):
        self._extend(items, entry_written_here()[1])
        return self

    def _extend(self, items: Any, place: Optional[Place]) -> None:
        places, before, added = self._places(), len(self), item_places(items)
        list.extend(self, items)
        added = added or [place] * (len(self) - before)
        places += added

    def __setitem__(self, index, value):
        places = self._places()
        if isinstance(index, slice):
            value = list(value) if not isinstance(value, list) else value
            new = item_places(value) or [entry_written_here()[1]] * len(value)
            list.__setitem__(self, index, value)
            places[index] = new
        else:
            list.__setitem__(self, index, value)
            places[index] = entry_written_here()[1]

    def __delitem__(self, index):
        places = self._places()
        list.__delitem__(self, index)
        del places[index]

    def pop(self, index=-1):
        places = self._places()
        item = list.pop(self, index)
        del places[index]
        return item

    def remove(self, value):
        places, before = self._places(), list(self)
        list.remove(self, value)
        # The first item that is missing now; list.remove compares by the items' own __eq__.
        at = next((i for i, (a, b) in enumerate(zip(before, self)) if a is not b), len(self))
        del places[at]

    def clear(self):
        list.clear(self)
        self._seg_places = []

    def reverse(self):
        self._places().reverse()
        list.reverse(self)

    def sort(self, *, key=None, reverse=False):
        waiting: Dict[int, List[Optional[Place]]] = {}
        for item, place in zip(self, self._places()):
            waiting.setdefault(id(item), []).append(place)
        list.sort(self, key=key, reverse=reverse)
        self._seg_places = [waiting[id(item)].pop(0) for item in self]

    def __imul__(self, count):
        places = self._places()
        list.__imul__(self, count)
        self._seg_places = places * (len(self) // len(places)) if places else []
        return self

    def __getitem__(self, index):
        item = list.__getitem__(self, index)
        return self._made(item, self._places()[index]) if isinstance(index, slice) else item

    def __add__(self, other):
        if not isinstance(other, list):
            return list.__add__(self, other)  # raises
        made = list.__add__(self, other)
        return self._made(made, self._places() + places_or_unknown(other, len(other)))

    def __radd__(self, other):
        if not isinstance(other, list):
            return NotImplemented
        made = list.__add__(other, self)
        return self._made(made, places_or_unknown(other, len(other)) + self._places())

    def __mul__(self, count):
        made = list.__mul__(self, count)
        return made if made is NotImplemented else self._made(made, self._places() * count)

    __rmul__ = __mul__

    def _made(self, items: list, places: List[Optional[Place]]) -> "TrackedList":
        made = TrackedList(items)
        set_places(made, self._seg_place, places)
        return made

    def __copy__(self):
        return self._made(self, list(self._places()))

    def copy(self):
        return self.__copy__()

    def __deepcopy__(self, memo):
        made = TrackedList()
        memo[id(self)] = made
        for item in self:
            list.append(made, copy.deepcopy(item, memo))
        set_places(made, self._seg_place, list(self._places()))
        return made

    def __reduce_ex__(self, protocol):
        return list, (list(self[:]),)


class TrackedTuple(tuple):
    __class__ = property(lambda self: tuple)
    _seg_place: Optional[Place] = None
    _seg_places: Optional[List[Optional[Place]]] = None

    def __getitem__(self, index):
        item = tuple.__getitem__(self, index)
        if isinstance(index, slice):
            return made_tuple(item, self._seg_place, places_or_unknown(self, len(self))[index])
        return item

    def __add__(self, other):
        made = tuple.__add__(self, other)
        if made is NotImplemented:
            return made
        places = places_or_unknown(self, len(self)) + places_or_unknown(other, len(other))
        return made_tuple(made, self._seg_place, places)

    def __radd__(self, other):
        if not isinstance(other, tuple):
            return NotImplemented
        places = places_or_unknown(other, len(other)) + places_or_unknown(self, len(self))
        return made_tuple(tuple.__add__(other, self), self._seg_place, places)

    def __mul__(self, count):
        made = tuple.__mul__(self, count)
        if made is NotImplemented:
            return made
        return made_tuple(made, self._seg_place, places_or_unknown(self, len(self)) * count)

    __rmul__ = __mul__

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        items = [copy.deepcopy(item, memo) for item in self]
        if all(a is b for a, b in zip(items, self)):
            return self
        return made_tuple(items, self._seg_place, self._seg_places)

    def __reduce_ex__(self, protocol):
        return tuple, (list(self),)


class ConfigDict(TrackedDict):
    """What a config gets of its bases: keys are attributes too, update() merges mappings within,
    and pop() of a missing key is None, as in mmengine."""
    __slots__ = ()
    __class__ = property(lambda self: ConfigDict)

    def __init__(self, *args, **kwargs):
        TrackedDict.__init__(self)
        for arg in itertools.chain(args, [kwargs]):
            pairs = dict.items(arg) if isinstance(arg, dict) else arg or ()
            for key, value in pairs:
                dict.__setitem__(self, key, self._hook(value))
            if isinstance(arg, TrackedDict):
                set_places(self, arg._seg_place, {**self._seg_places, **arg._seg_places})

    @classmethod
    def _hook(cls, item: Any) -> Any:
        if type(item) in (dict, TrackedDict, collections.OrderedDict):
            return cls(item)
        if type(item) in (list, tuple, TrackedList, TrackedTuple):
            return like(item, [cls._hook(element) for element in item])
        return item

    def __setitem__(self, key, value):
        dict.__setitem__(self, key, self._hook(value))
        self._seg_places[key] = entry_written_here()

    def __getattr__(self, name):
        if name in self:
            return dict.__getitem__(self, name)
        raise AttributeError(f"there is no key '{name}' here{did_you_mean(name, self)}")

    def __setattr__(self, name, value):
        if hasattr(type(self), name):
            raise AttributeError(f"'{name}' is a method of mappings; write ['{name}'] instead")
        dict.__setitem__(self, name, self._hook(value))
        self._seg_places[name] = entry_written_here()

    def __delattr__(self, name):
        del self[name]

    def __copy__(self):
        return ConfigDict(self)

    def copy(self):
        return self.__copy__()

    def deepcopy(self):
        return copy.deepcopy(self)

    def __deepcopy__(self, memo):
        made = ConfigDict()
        memo[id(self)] = made
        for key, value in dict.items(self):
            dict.__setitem__(made, copy.deepcopy(key, memo), copy.deepcopy(value, memo))
        set_places(made, self._seg_place, dict(self._seg_places))
        return made

    def values(self):
        return list(dict.values(self))

    def items(self):
        return list(dict.items(self))

    def pop(self, key, default=None):
        return dict.pop(self, key, default)

    def setdefault(self, key, default=None):
        if key not in self:
            dict.__setitem__(self, key, self._hook(default))
            place = argument_written_here()
            self._seg_places[key] = (place, place)
            return default
        return dict.__getitem__(self, key)

    def update(self, *args, **kwargs):
        if len(args) > 1:
            raise TypeError("update only accept one positional argument")
        if args and not isinstance(args[0], dict):
            raise TypeError("update() of a mapping of the bases wants a mapping")
        noted = TrackedDict()
        for other in [*args[:1], kwargs]:
            for key, value in dict.items(other):
                dict.__setitem__(noted, key, value)
        noted._note_update(args[0] if args else {}, kwargs)
        self._merge_in(noted)

    def _merge_in(self, other: dict) -> None:
        places = other._seg_places if isinstance(other, TrackedDict) else {}
        for key, value in dict.items(other):
            old = dict.get(self, key)
            if isinstance(old, ConfigDict) and isinstance(value, dict):
                old._merge_in(value)
                continue
            if isinstance(old, dict) and isinstance(value, dict):
                old.update(value)
                continue
            dict.__setitem__(self, key, self._hook(value))
            self._seg_places[key] = places.get(key, (None, None))

    def __ior__(self, other):
        self.update(other)
        return self

    def __or__(self, other):
        if not isinstance(other, dict):
            return NotImplemented
        made = copy.deepcopy(self)
        made._merge_in(other)
        return made

    def __ror__(self, other):
        if not isinstance(other, dict):
            return NotImplemented
        made = ConfigDict(other)
        made._merge_in(self)
        return made

    def merge(self, other: dict) -> None:
        """Merges as a config is merged into its bases, `_delete_` included."""
        merged = merged_over(copy.deepcopy(other), copy.deepcopy(self))
        dict.clear(self)
        for key, value in dict.items(merged):
            dict.__setitem__(self, key, self._hook(value))
        if isinstance(merged, TrackedDict):
            self._seg_places.update(merged._seg_places)

    def to_dict(self) -> dict:
        return plain(self)

    def __eq__(self, other):
        return isinstance(other, dict) and dict.__eq__(self, other)

    def __ne__(self, other):
        return not self == other

    __hash__ = None


TRACKED = (TrackedDict, TrackedList, TrackedTuple)
PLAIN_TYPES = {TrackedDict: dict, TrackedList: list, TrackedTuple: tuple}
for _tracked, _plain in PLAIN_TYPES.items():  # so that Python's own messages name the plain type
    _tracked.__name__ = _tracked.__qualname__ = _plain.__name__
    _tracked.__module__ = "builtins"


def set_places(container: Any, place: Optional[Place], places: Any) -> None:
    object.__setattr__(container, "_seg_place", place)
    object.__setattr__(container, "_seg_places", places)


def made_tuple(items: Iterable, place: Optional[Place], places: Any) -> TrackedTuple:
    made = TrackedTuple(items)
    set_places(made, place, places)
    return made


def like(container: Any, items: list) -> Any:
    """A list or tuple of the kind and the places of `container`."""
    kind = tuple if isinstance(container, tuple) else list
    if not isinstance(container, (TrackedList, TrackedTuple)):
        return kind(items)
    if kind is tuple:
        return made_tuple(items, container._seg_place, item_places(container))
    made = TrackedList(items)
    set_places(made, container._seg_place, item_places(container))
    return made


def merged_over(new: dict, old: Any) -> dict:
    """`new` over `old`, as ConfigDict.merge() of mmengine: `_delete_: True` drops the old keys."""
    delete = dict.pop(new, DELETE_KEY, False)
    if not isinstance(old, dict):
        return new
    made = TrackedDict() if delete else TrackedDict(old)
    made._seg_place = own_place(old) or own_place(new)
    for key, value in dict.items(new):
        if isinstance(value, dict):
            value = merged_over(value, None if delete else dict.get(old, key))
        dict.__setitem__(made, key, value)
        made._seg_places[key] = new._seg_places.get(key, (None, None)) \
            if isinstance(new, TrackedDict) else (None, None)
    return made


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in dict.items(value)}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value) if type(value) not in PLAIN_TYPES else \
            PLAIN_TYPES[type(value)](plain(item) for item in value)
    return value


def as_config(value: Any) -> Any:
    """All mappings within become ConfigDicts, in new containers."""
    if isinstance(value, dict):
        made = ConfigDict()
        for key, item in dict.items(value):
            dict.__setitem__(made, key, as_config(item))
        if isinstance(value, TrackedDict):
            set_places(made, value._seg_place, dict(value._seg_places))
        return made
    if type(value) in (list, tuple, TrackedList, TrackedTuple):
        return like(value, [as_config(item) for item in value])
    return value


# ------------------------------------------------------------ what the changed syntax tree calls


class Carried:
    """A value on its way from one container to another, with its place."""
    __slots__ = ("value", "entry")

    def __init__(self, value: Any, entry: Entry):
        self.value = value
        self.entry = entry


class Site:
    """Where the code of a config makes a container: its place, and those of the entries."""
    __slots__ = ("place", "entries")

    def __init__(self, place: Place, entries: Any):
        self.place = place
        self.entries = entries


class Builder:
    """What the changed code of configs calls, under the names __segcore_<method>__, with the number
    of a site. It belongs to one request; functions that outlive that keep theirs."""

    def __init__(self) -> None:
        self.sites: List[Site] = []

    def add(self, place: Place, entries: Any) -> int:
        self.sites.append(Site(place, entries))
        return len(self.sites) - 1

    def methods(self) -> Dict[str, Callable]:
        return {f"__segcore_{name}__": getattr(self, name)
                for name in vars(Builder) if name[0] != "_" and name not in ("add", "methods")}

    def make_dict(self, function, site, /, *args, **kwargs):
        """dict(...), unless the config has given that name to something else."""
        entries: Dict[str, Entry] = {}
        written = self.sites[site].entries
        for key, value in kwargs.items():
            if type(value) is Carried:
                kwargs[key] = value.value
                entries[key] = value.entry
            else:
                entries[key] = written.get(key, (None, None))
        if function is not dict:
            return function(*args, **kwargs)
        made = TrackedDict(*args, **kwargs)
        set_places(made, self.sites[site].place, {**made._seg_places, **entries})
        return made

    # Python names it in "dict() got multiple values".
    make_dict.__name__ = make_dict.__qualname__ = "dict"
    make_dict.__module__ = "builtins"

    def carried_keywords(self, mapping):
        """Of `**mapping` in a call of dict()."""
        if not is_mapping(mapping):
            name = type(mapping).__name__
            raise TypeError(f"dict() argument after ** must be a mapping, not {name}")
        return {key: Carried(mapping[key], entry_of(mapping, key)) for key in mapping.keys()}

    def make_map(self, site, pairs):
        """{k: v, **other}; `pairs` has Carried ones where `**` stands."""
        made = TrackedDict()
        written = iter(self.sites[site].entries)
        for pair in pairs:
            if type(pair) is Carried:
                key, value = pair.value
                entry = pair.entry
            else:
                key, value = pair
                entry = next(written)
            dict.__setitem__(made, key, value)
            made._seg_places[key] = entry
        made._seg_place = self.sites[site].place
        return made

    def carried_pairs(self, mapping):
        if not is_mapping(mapping):
            raise TypeError(f"'{type(mapping).__name__}' object is not a mapping")
        return [Carried((key, mapping[key]), entry_of(mapping, key)) for key in mapping.keys()]

    def make_map_of(self, site, made):
        """{k: v for ...}"""
        result = TrackedDict(made)
        set_places(result, self.sites[site].place, dict.fromkeys(made, self.sites[site].entries))
        return result

    def make_list(self, site, items):
        made = TrackedList()
        set_places(made, self.sites[site].place, fill(made, items, self.sites[site].entries))
        return made

    def make_tuple(self, site, items):
        values: List[Any] = []
        places = fill(values, items, self.sites[site].entries)
        return made_tuple(values, self.sites[site].place, places)

    def carried_items(self, items):
        values = list(items)
        places = places_or_unknown(items, len(values))
        return [Carried(value, (None, place)) for value, place in zip(values, places)]

    def make_list_of(self, site, items):
        """[x for ...]"""
        made = TrackedList(items)
        set_places(made, self.sites[site].place, [self.sites[site].entries] * len(made))
        return made

    def convert(self, function, site, items, /):
        """list(items) and tuple(items)"""
        if function is not list and function is not tuple:
            return function(items)
        values = list(items)
        places = places_or_unknown(items, len(values))
        if function is tuple:
            return made_tuple(values, self.sites[site].place, places)
        made = TrackedList(values)
        set_places(made, self.sites[site].place, places)
        return made

    def type_of(self, function, value, /):
        if function is not type:
            return function(value)
        return PLAIN_TYPES.get(type(value), type(value))

    def note(self, site):
        """A variable with several assignments has got its value from this one."""
        module, name, entry = self.sites[site].entries
        module.bound[name] = entry


def is_mapping(value: Any) -> bool:
    if type(value) is Placeholder:
        used(value)
    return hasattr(type(value), "keys")


def entry_of(mapping: Any, key: Any) -> Entry:
    places = mapping._seg_places if isinstance(mapping, TrackedDict) else {}
    return places.get(key, (None, None))


def fill(values: list, items: list, written: List[Place]) -> List[Optional[Place]]:
    """Adds items to `values`, Carried ones unwrapped, and says where each was written."""
    if len(items) == len(written) and not any(type(item) is Carried for item in items):
        list.extend(values, items)
        return list(written)
    places: List[Optional[Place]] = []
    left = iter(written)
    for item in items:
        carried = type(item) is Carried
        list.append(values, item.value if carried else item)
        places.append(item.entry[1] if carried else next(left))
    return places


# ---------------------------------------------------------------- the syntax tree


class Module:
    """The code of one config, and the places that its syntax tree knows."""

    def __init__(self, source: Source, tree: ast.Module, builder: Builder):
        self.source = source
        self.builder = builder
        self.stores: Dict[int, Entry] = {}  # `x[k] = v`, by line
        self.keywords: Dict[int, Dict[str, Entry]] = {}  # of method calls, by line
        self.arguments: Dict[int, Place] = {}  # the last one of method calls, by line
        self.bound: Dict[str, Entry] = {}  # the variables of the file
        self.helper_names: Set[str] = set()  # bound by imports, loops, def and class
        self.assigned: Set[str] = set()
        self.names_read = {node.id for node in ast.walk(tree)
                           if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        self.reads_by_text = any(is_read_by_text(node) for node in ast.walk(tree))
        MODULES[source.path] = self

    def compile(self, tree: ast.Module) -> types.CodeType:
        """May change `tree`."""
        with self.source.problems_of_compiler():
            Bindings(self).collect(tree)
            tree = Tracking(self).visit(tree)
            return compile(tree, self.source.path, "exec", dont_inherit=True)


def is_read_by_text(node: ast.AST) -> bool:
    """globals()['name'], whose name only the running code knows."""
    return (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and
            isinstance(node.value, ast.Call) and
            getattr(node.value.func, "id", "") in ("globals", "locals", "vars"))


def call_helper(name: str, at: Any, args: List[ast.expr],
                keywords: Optional[List[ast.keyword]] = None) -> ast.Call:
    function = ast.copy_location(ast.Name(f"__segcore_{name}__", ast.Load()), at)
    return ast.copy_location(ast.Call(function, args, keywords or []), at)


def blocks_of(statement: ast.stmt) -> Iterator[List[ast.stmt]]:
    """The blocks within a statement that belong to its scope."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return
    for field in ("body", "orelse", "finalbody"):
        if getattr(statement, field, None):
            yield getattr(statement, field)
    for part in [*getattr(statement, "handlers", []), *getattr(statement, "cases", [])]:
        yield part.body


class Bindings:
    """Finds where the variables of a file are bound. For one with several places, the code gets
    calls that note which of them was run last."""

    def __init__(self, module: Module):
        self.module = module
        self.source = module.source
        self.counts: Dict[str, int] = {}

    def collect(self, tree: ast.Module) -> None:
        self._visit(tree.body, self._count)
        self._visit(tree.body, self._insert)

    def _visit(self, block: List[ast.stmt], action: Callable) -> None:
        for statement in list(block):
            for inner in blocks_of(statement):
                self._visit(inner, action)
            action(block, statement, list(self._bound_by(statement)))

    def _count(self, block, statement, bound) -> None:
        for name, entry in bound:
            self.counts[name] = self.counts.get(name, 0) + 1
            self.module.bound.setdefault(name, entry)

    def _insert(self, block, statement, bound) -> None:
        notes = [self._note(statement, name, entry) for name, entry in bound
                 if self.counts[name] > 1]
        if isinstance(statement, (ast.For, ast.AsyncFor)):
            statement.body[:0] = notes
        elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            at = next(i for i, other in enumerate(block) if other is statement)
            block[at + 1:at + 1] = notes

    def _note(self, statement: ast.stmt, name: str, entry: Entry) -> ast.stmt:
        site = self.module.builder.add(entry[0], (self.module, name, entry))
        call = call_helper("note", statement, [ast.copy_location(ast.Constant(site), statement)])
        return ast.copy_location(ast.Expr(call), statement)

    def _bound_by(self, statement: ast.stmt) -> Iterator[Tuple[str, Entry]]:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                yield from self._targets(target, statement.value)
        elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
            if statement.value is not None:
                yield from self._targets(statement.target, statement.value)
        elif isinstance(statement, (ast.For, ast.AsyncFor)):
            yield from self._helpers(self._targets(statement.target, statement.iter))
        elif isinstance(statement, (ast.With, ast.AsyncWith)):
            for item in statement.items:
                if item.optional_vars is not None:
                    yield from self._helpers(self._targets(item.optional_vars, item.context_expr))
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            place = self.source.of(statement)
            names = [(alias.asname or alias.name.split(".")[0]) for alias in statement.names]
            yield from self._helpers((name, (place, place)) for name in names)
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            place = self.source.of(statement)
            yield from self._helpers([(statement.name, (place, place))])
        for node in walrus_targets(statement):
            self.module.helper_names.add(node.target.id)
            place = self.source.of(node.target)
            self.module.bound.setdefault(node.target.id, (place, self.source.of(node.value)))

    def _helpers(self, bound: Iterable[Tuple[str, Entry]]) -> Iterator[Tuple[str, Entry]]:
        for name, entry in bound:
            self.module.helper_names.add(name)
            self.module.assigned.discard(name)
            yield name, entry

    def _targets(self, target: ast.expr, value: ast.expr) -> Iterator[Tuple[str, Entry]]:
        if isinstance(target, ast.Starred):
            target = target.value
        if isinstance(target, ast.Name):
            self.module.assigned.add(target.id)
            yield target.id, (self.source.of(target), self.source.of(value))
        elif isinstance(target, (ast.Tuple, ast.List)):
            values: List[ast.expr] = [value] * len(target.elts)
            if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
                values = value.elts
            for inner, inner_value in zip(target.elts, values):
                yield from self._targets(inner, inner_value)


def walrus_targets(statement: ast.stmt) -> Iterator[ast.NamedExpr]:
    """The `name := value` of the expressions of a statement, not of the blocks within it."""
    waiting: List[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.NamedExpr):
            yield node
        waiting += [child for child in ast.iter_child_nodes(node)
                    if not isinstance(child, (ast.stmt, ast.Lambda, ast.excepthandler))]


class Tracking(ast.NodeTransformer):
    """Replaces the expressions that make containers by calls of the Builder."""

    def __init__(self, module: Module):
        self.module = module
        self.place = module.source.of

    def site(self, at: Any, entries: Any) -> ast.Constant:
        site = self.module.builder.add(self.place(at), entries)
        return ast.copy_location(ast.Constant(site), at)

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        entries = [(self.place(key), self.place(value))
                   for key, value in zip(node.keys, node.values) if key is not None]
        site = self.site(node, entries)
        pairs: List[ast.expr] = []
        for key, value in zip(node.keys, node.values):
            if key is None:
                call = call_helper("carried_pairs", value, [self.visit(value)])
                pairs.append(ast.copy_location(ast.Starred(call, ast.Load()), value))
            else:
                pair = ast.Tuple([self.visit(key), self.visit(value)], ast.Load())
                pairs.append(ast.copy_location(pair, key))
        items = ast.copy_location(ast.List(pairs, ast.Load()), node)
        return call_helper("make_map", node, [site, items])

    def visit_List(self, node: ast.List) -> ast.expr:
        return self._sequence("make_list", node)

    def visit_Tuple(self, node: ast.Tuple) -> ast.expr:
        return self._sequence("make_tuple", node)

    def _sequence(self, helper: str, node: Any) -> ast.expr:
        if not isinstance(node.ctx, ast.Load):
            return self.generic_visit(node)
        written = [self.place(item) for item in node.elts if not isinstance(item, ast.Starred)]
        site = self.site(node, written)
        items = [self._starred(item) if isinstance(item, ast.Starred) else self.visit(item)
                 for item in node.elts]
        values = ast.copy_location(ast.List(items, ast.Load()), node)
        return call_helper(helper, node, [site, values])

    def _starred(self, item: ast.Starred) -> ast.expr:
        item.value = call_helper("carried_items", item.value, [self.visit(item.value)])
        return item

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        site = self.site(node, self.place(node.elt))
        return call_helper("make_list_of", node, [site, self.generic_visit(node)])

    def visit_DictComp(self, node: ast.DictComp) -> ast.expr:
        site = self.site(node, (self.place(node.key), self.place(node.value)))
        return call_helper("make_map_of", node, [site, self.generic_visit(node)])

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "dict":
            return self._dict_call(node)
        starred = any(isinstance(arg, ast.Starred) for arg in node.args)
        if len(node.args) == 1 and not starred and not node.keywords:
            if name in ("list", "tuple"):
                site = self.site(node, None)
                return call_helper("convert", node, [node.func, site, self.visit(node.args[0])])
            if name == "type":
                return call_helper("type_of", node, [node.func, self.visit(node.args[0])])
        if isinstance(node.func, ast.Attribute):
            self._method_call(node)
        return self.generic_visit(node)

    def _dict_call(self, node: ast.Call) -> ast.expr:
        entries = self._keyword_places(node)
        site = self.site(node, entries)
        for keyword in node.keywords:
            value = self.visit(keyword.value)
            if keyword.arg is None:
                value = call_helper("carried_keywords", keyword.value, [value])
            keyword.value = value
        args = [self.visit(arg) for arg in node.args]
        return call_helper("make_dict", node, [node.func, site, *args], node.keywords)

    def _keyword_places(self, node: ast.Call) -> Dict[str, Entry]:
        return {keyword.arg: (self.place(keyword), self.place(keyword.value))
                for keyword in node.keywords if keyword.arg is not None}

    def _method_call(self, node: ast.Call) -> None:
        # A call of several lines runs, by the version of Python, in its first line or in that of
        # the method's name.
        for line in {node.lineno, node.func.end_lineno}:
            self.module.keywords.setdefault(line, {}).update(self._keyword_places(node))
            if node.args:
                self.module.arguments.setdefault(line, self.place(node.args[-1]))

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        for target in node.targets:
            self._store(node, target, node.value)
        node.targets = [self.visit(target) for target in node.targets]
        if isinstance(node.value, ast.Tuple) and isinstance(node.targets[0], ast.Tuple):
            # Such a tuple lives only until it is unpacked: a, b = b, a
            node.value = self.generic_visit(node.value)
        else:
            node.value = self.visit(node.value)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        self._store(node, node.target, node.value)
        return self.generic_visit(node)

    def _store(self, statement: ast.stmt, target: ast.expr, value: ast.expr) -> None:
        key = target
        if isinstance(target, ast.Subscript):
            key = target.slice
        for line in {statement.lineno, target.lineno, target.end_lineno}:
            self.module.stores[line] = (self.place(key), self.place(value))

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        node.value = self.visit(node.value)
        if isinstance(node.slice, ast.Tuple):
            node.slice = self.generic_visit(node.slice)
        else:
            node.slice = self.visit(node.slice)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        return node  # containers within become text; and the places there are wrong before 3.12

    visit_TemplateStr = visit_JoinedStr


# ---------------------------------------------------------------- imports


class PlaceholderUsed(Exception):
    """The config does more with an import than to name it."""


class Placeholder:
    """Stands for something that was not imported. Its only use is its name, as a `type`."""
    __slots__ = ("_seg_name",)

    def __init__(self, name: str):
        object.__setattr__(self, "_seg_name", name)

    def __getattr__(self, name):
        if name == "__all__":
            return ()
        if name.startswith("__") and name not in ("__version__", "__file__"):
            raise AttributeError(f"{self._seg_name} has no attribute '{name}' here")
        return placeholder(f"{self._seg_name}.{name}")

    def __deepcopy__(self, memo):
        return self

    def __copy__(self):
        return self

    def __repr__(self):
        return self._seg_name

    def __reduce_ex__(self, protocol):
        return placeholder, (self._seg_name,)


def used(self, *args, **kwargs) -> NoReturn:
    name = self._seg_name
    package = name.split(".")[0]
    package = MISSING.get(package, package)
    needs = f"needs the package {package}" if package else "is imported only by name here"
    raise PlaceholderUsed(f"this config computes with {name}, which {needs}")


for _name in """call add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow
        rpow matmul rmatmul and rand or ror xor rxor lshift rlshift rshift rrshift neg pos abs
        invert iadd lt le gt ge bool int float complex index len iter next reversed contains getitem
        setitem delitem enter exit str format bytes fspath setattr delattr mro_entries instancecheck
        subclasscheck round""".split():
    setattr(Placeholder, f"__{_name}__", used)

Placeholder.__name__ = "type"  # most stand for a class, and Python's messages say "not type"
PLACEHOLDERS: Dict[str, Placeholder] = {}
MISSING: Dict[str, str] = {}  # by the module whose import failed, the package that it imports


def placeholder(name: str) -> Placeholder:
    """Always the same for a name, as a class is the same however it is imported."""
    if name not in PLACEHOLDERS:
        PLACEHOLDERS[name] = Placeholder(name)
    return PLACEHOLDERS[name]


def is_standard(name: str) -> bool:
    """A module of Python itself, by mmengine's rule for the imports that it executes in a config of
    the lazy style."""
    top = name.split(".")[0]
    if not top:
        return False
    if hasattr(sys, "stdlib_module_names"):
        return top in sys.stdlib_module_names
    if top in sys.builtin_module_names:
        return True
    from importlib.util import find_spec
    try:
        origin = getattr(find_spec(top), "origin", None) or ""
    except (ImportError, ValueError):
        return False
    library = os.path.dirname(os.__file__)
    packages = ("site-packages", "dist-packages")
    return origin == "frozen" or (origin.startswith(library + os.sep)
                                  and not any(name in origin for name in packages))


class Importer:
    """The `__import__` of a config."""

    def __init__(self, lazy: bool):
        self.lazy = lazy
        self.imports: List[Dict[str, Any]] = []
        self.starred: List[str] = []

    def __call__(self, name, globals=None, locals=None, fromlist=(), level=0):
        top = name.split(".")[0]
        if level > 0:
            if not self.lazy:
                raise ImportError("a relative import works only in a config without '_base_', "
                                  "whose bases are imported in 'with read_base():'")
            return self._placeholder("." * level + name, fromlist)
        if top in NEVER_IMPORTED or (self.lazy and not is_standard(top)):
            return self._placeholder(name, fromlist)
        try:
            return builtins.__import__(name, globals, locals, fromlist, level)
        except ImportError as error:
            if is_standard(top):
                raise
            if error.name:
                MISSING[top] = error.name.split(".")[0]
            return self._placeholder(name, fromlist)
        except Exception as error:
            raise ImportError(f"the import of '{name}' fails: {error}") from error

    def _placeholder(self, name: str, fromlist: Any) -> Placeholder:
        module, line = writing_code()
        place = module.source.line_start(line) if module else (0, 0, 0)
        if not name.startswith("mmengine.config"):
            self.imports.append({"module": name, "file": place[0], "line": place[1]})
        if fromlist and "*" in fromlist:
            self.starred.append(name)
        return placeholder(name if fromlist else name.split(".")[0])


# ---------------------------------------------------------------- running a config


class Run:
    """What the files of one request share."""

    def __init__(self, lazy: bool):
        self.importer = Importer(lazy)
        self.names_read: Set[str] = set()
        self.builtins = dict(vars(builtins))
        self.builder = Builder()
        self.builtins.update(self.builder.methods())
        self.builtins["__import__"] = self.importer

    def execute(self, module: Module, code: types.CodeType, scope: Dict[str, Any]) -> None:
        self.names_read |= module.names_read | module.helper_names
        scope["__builtins__"] = self.builtins
        saved = {name: getattr(os, name) for name in ("_exit", "abort")}
        limit = sys.getrecursionlimit()
        for name, function in saved.items():
            setattr(os, name, self._refuse(f"os.{name}", function))
        if sys.stdin is None or sys.stdin.closed:  # exit() closes it
            sys.stdin = open(os.devnull)
        try:
            exec(code, scope)
        except Problem:
            raise
        except BaseException as error:
            sys.setrecursionlimit(limit)
            raise problem_of(error, module, scope, self.importer) from None
        finally:
            sys.setrecursionlimit(limit)
            for name, function in saved.items():
                setattr(os, name, function)
        if os.getpid() != PROCESS:
            os._exit(0)  # a fork of the config's must not answer

    @staticmethod
    def _refuse(name: str, function: Callable) -> Callable:
        def refuse(*args):
            if os.getpid() != PROCESS:
                function(*args)
            raise SystemExit(name)
        return refuse


def problem_of(error: BaseException, module: Module, scope: Dict[str, Any],
               importer: Importer) -> Problem:
    """Placed at the innermost frame that belongs to a config."""
    place = (module.source.index, 0, 0)
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        found = MODULES.get(code.co_filename)
        if found is not None:
            place = found.source.line_start(trace.tb_lineno)
            module = found
            if hasattr(code, "co_positions"):  # Python 3.11
                at = next(itertools.islice(code.co_positions(), trace.tb_lasti // 2, None), None)
                if at and at[0] is not None and at[2] is not None:
                    place = found.source.byte_place(at[0], at[2])
        trace = trace.tb_next
    message = one_line(sentence(error, module, scope, importer))
    for token, name in module.source.base_variables.items():
        message = message.replace(token, f"{{{{{BASE_KEY}.{name}}}}}")
    return Problem(place, message)


def sentence(error: BaseException, module: Module, scope: Dict[str, Any],
             importer: Importer) -> str:
    try:
        text = str(error)
    except BaseException:  # the exception may be a class of the config
        text = ""
    if isinstance(error, SystemExit):
        call = error.code if error.code in ("os._exit", "os.abort") else "sys.exit"
        said = f" ({error.code})" if isinstance(error.code, str) and call == "sys.exit" else ""
        return f"the config calls {call}(){said}; a config must not end the program"
    if isinstance(error, UnboundLocalError):
        name = text.split("'")[1] if "'" in text else "a variable"
        return f"the variable '{name}' is used before it has a value"
    if isinstance(error, NameError):
        return unknown_name(text, scope, importer)
    if isinstance(error, KeyError):
        return f"there is no key {text}"
    if isinstance(error, RecursionError):
        return "the config calls itself without end, deeper than Python allows"
    if isinstance(error, MemoryError):
        return f"the config needs more than {MAX_MEMORY >> 30} GB of memory"
    if isinstance(error, AssertionError):
        return f"an assertion of the config fails: {text or assertion_text(error, module)}"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"cannot open '{error.filename}': {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the Python package '{error.name.split('.')[0]}' is not installed"
    if isinstance(error, EOFError) and text.startswith("EOF when reading"):
        return "the config asks for input, which a config cannot get"
    text = text.replace("'NoneType' object", "None").replace("'NoneType'", "None")
    return text or f"the config raises {type(error).__name__}"


def assertion_text(error: AssertionError, module: Module) -> str:
    trace, line = error.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == module.source.path:
            line = trace.tb_lineno
        trace = trace.tb_next
    text = module.source.line(line).strip()
    return text[len("assert"):].strip() if text.startswith("assert") else text


def unknown_name(text: str, scope: Dict[str, Any], importer: Importer) -> str:
    name = text.split("'")[1] if text.count("'") >= 2 else text
    if name == "__file__":
        return "the name '__file__' is not defined; the config's folder is '{{ fileDirname }}'"
    message = f"the name '{name}' is not defined"
    if importer.starred:
        packages = " or ".join(sorted({module.split(".")[0] for module in importer.starred}))
        return f"{message}; if it comes from an 'import *', this needs the package {packages}"
    meant = {"null": "None", "nil": "None", "inf": "float('inf')", "nan": "float('nan')"}.get(name)
    if meant:
        return f"{message}. Did you mean {meant}?"
    return message + did_you_mean(name, [k for k in [*scope, *vars(builtins)] if k[:2] != "__"])


class Result:
    """The variables of a file, and what the caller wants to know of how it came to them."""

    def __init__(self, values: TrackedDict, module: Module):
        self.values = values
        self.module = module
        self.referred: List[str] = []
        self.bases: Optional[ConfigDict] = None
        self.deprecated: Optional[str] = None
        self.imported: Set[str] = set()  # lazy style: names that are no keys of the config


def variables(module: Module, scope: Dict[str, Any]) -> TrackedDict:
    values = TrackedDict()
    for name, value in scope.items():
        # mmengine keeps names with one underscore: they are keys, which files above can refer to.
        if isinstance(name, str) and not name.startswith("__") and name != BASE_KEY:
            dict.__setitem__(values, name, value)
            values._seg_places[name] = module.bound.get(name, (None, None))
    values._seg_place = (module.source.index, 1, 1)
    return values


def run_plain(path: str, bases: ConfigDict, run: Run) -> Result:
    source = Source(path)
    source.substitute()
    tree = source.parse()
    check_base_assignments(source, tree)
    tree = without_base_assignments(tree)
    module = Module(source, tree, run.builder)
    referred = referred_keys(tree, source, bases)
    before = copy.deepcopy(bases) if BASE_KEY in module.names_read else None
    scope: Dict[str, Any] = {BASE_KEY: bases}
    run.execute(module, module.compile(tree), scope)
    result = Result(variables(module, scope), module)
    result.referred = referred
    result.bases = bases if before is not None and not same(before, bases) else None
    deprecation = dict.pop(result.values, DEPRECATION_KEY, None)
    if deprecation is not None:
        result.deprecated = deprecation_text(deprecation)
    return result


def deprecation_text(value: Any) -> str:
    text = "this config is deprecated"
    if isinstance(value, dict) and "expected" in value:
        text += f"; use {value['expected']} instead"
    if isinstance(value, dict) and "reference" in value:
        text += f" ({value['reference']})"
    return one_line(text)


def same(a: Any, b: Any) -> bool:
    """Equal, types included: 1 is not True."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(dict.__getitem__(a, key), dict.__getitem__(b, key))
                                          for key in dict.keys(a))
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a is b or a == b or (a != a and b != b)


def is_base_assignment(node: ast.AST) -> bool:
    return (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == BASE_KEY)


def check_base_assignments(source: Source, tree: ast.Module) -> None:
    """What mmengine ignores without a word, or fails on with none."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            if isinstance(node.target, ast.Name) and node.target.id == BASE_KEY:
                raise Problem(source.of(node), f"write the bases as one '{BASE_KEY} = [...]'")
        elif is_base_assignment(node) and node not in tree.body:
            raise Problem(source.of(node), f"'{BASE_KEY}' must stand at the top level of the file, "
                                           "not within another statement")


def without_base_assignments(tree: ast.Module) -> ast.Module:
    tree.body = [node for node in tree.body if not is_base_assignment(node)]
    return tree


def referred_keys(tree: ast.Module, source: Source, bases: ConfigDict) -> List[str]:
    found = {name.split(".")[0] for name in source.base_variables.values()}
    plain_reads = sum(isinstance(node, ast.Name) and node.id == BASE_KEY for node in ast.walk(tree))
    for node in ast.walk(tree):
        if not (isinstance(node, (ast.Attribute, ast.Subscript))
                and isinstance(node.value, ast.Name) and node.value.id == BASE_KEY):
            continue
        if isinstance(node, ast.Attribute) and not hasattr(dict, node.attr):
            found.add(node.attr)
            plain_reads -= 1
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            found.add(node.slice.value)
            plain_reads -= 1
    # The bases as a whole: `for key in _base_`, `_base_.get('model')`
    return [key for key in bases if plain_reads > 0 or key in found]


# ---------------------------------------------------------------- the lazy style


ONLY_READ_BASE = ("mmengine refuses a config with a 'with' statement other than "
                  "'with read_base():'; write it without")


def lazy_reason(source: Source, tree: ast.Module) -> Optional[ast.stmt]:
    """What makes a file one of the lazy style by mmengine's rules; None for the other style. The
    first of certain statements decides, level by level of the syntax tree."""
    for node in ast.walk(tree):
        if is_base_assignment(node):
            return None
        if isinstance(node, ast.With):
            if not calls_read_base(node.items[0].context_expr):
                raise Problem(source.of(node), ONLY_READ_BASE)
            return node
        if isinstance(node, ast.ImportFrom):
            if node.level:
                return node
            if node.module == "mmengine" and [alias.name for alias in node.names] == ["Config"]:
                continue
            if not counts_as_builtin(node.module or ""):
                return node
        if isinstance(node, ast.Import):
            if not all(counts_as_builtin(alias.name) for alias in node.names):
                return node
    return None


def counts_as_builtin(module: str) -> bool:
    return module.startswith("mmengine.config") or is_standard(module)


def calls_read_base(node: ast.expr) -> bool:
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id == "read_base")


def check_lazy(source: Source, tree: ast.Module, reason: Optional[ast.stmt]) -> None:
    for node in tree.body:
        if not is_base_assignment(node):
            continue
        if reason is None:
            message = (f"a config of the lazy style reads this one as a base, and must not meet a "
                       f"'{BASE_KEY}' in it")
        elif isinstance(reason, ast.With):
            message = (f"'{BASE_KEY}' cannot stand beside 'with read_base():'; import all bases in "
                       "the latter")
        else:
            message = (f"a file that imports another package (line {source.of(reason)[1]}) before "
                       f"'{BASE_KEY}' counts as one of mmengine's lazy style, which has no "
                       f"'{BASE_KEY}'; move '{BASE_KEY}' to the top")
        raise Problem(source.of(node), message)


class LazyBase:
    def __init__(self, result: Result, values: ConfigDict):
        self.result = result
        self.values = values


def run_lazy(path: str, given_path: str, run: Run, below: Tuple[str, ...]) -> Result:
    """`given_path` is what the file finds in `__file__`; `below` are the files that import it."""
    source = Source(path)
    tree = source.parse()
    check_lazy(source, tree, lazy_reason(source, tree))
    bases: Dict[str, LazyBase] = {}
    for node in base_imports(source, tree):
        name = "." * node.level + node.module
        base_path = lazy_base_path(source, node, name, given_path)
        normal = os.path.normpath(base_path)
        if normal in (*below, path):
            raise Problem(source.of(node), f"the base '{name}' is read by itself, in a circle")
        result = run_lazy(normal, base_path, run, (*below, path))
        bases[name] = LazyBase(result, as_config(result.values))
    scope: Dict[str, Any] = {"__file__": given_path}
    module = Module(source, tree, run.builder)
    inherited: Dict[str, Entry] = {}
    imports = LazyImports(source, bases, scope, inherited)
    tree = imports.visit(tree)
    code = module.compile(tree)
    module.bound = {**inherited, **module.bound}
    run.execute(module, code, scope)
    result = Result(variables(module, scope), module)
    result.imported = imports.imported | {
        name for base in bases.values() for name in base.result.imported}
    return result


def base_imports(source: Source, tree: ast.Module) -> List[ast.ImportFrom]:
    """Puts the imports of `with read_base():` in its place."""
    first = next((node for node in tree.body if isinstance(node, ast.With)), None)
    if first is not None and (not calls_read_base(first.items[0].context_expr)
                              or len(first.items) > 1):
        raise Problem(source.of(first), ONLY_READ_BASE)
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and node is not first and \
                calls_read_base(node.items[0].context_expr):
            raise Problem(source.of(node), "mmengine reads one 'with read_base():' of a config, at "
                                           "the top level; put all imports of bases into that")
    if first is None:
        return []
    for node in first.body:
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            raise Problem(source.of(node), "only 'from .some.file import ...' can stand in "
                                           "'with read_base():'")
    at = tree.body.index(first)
    tree.body[at:at + 1] = first.body
    return [node for node in first.body if isinstance(node, ast.ImportFrom)]


def lazy_base_path(source: Source, node: ast.ImportFrom, name: str, given_path: str) -> str:
    parts = (node.module or "").split(".")
    if node.level:
        folder = os.path.join(os.path.dirname(given_path), *[".."] * (node.level - 1))
    else:
        if len(parts) == 1:
            raise Problem(source.of(node), f"'{name}' is a package, not a config; write "
                                           f"'from {name}.configs.some_config import *'")
        found = next((entry for entry in sys.path
                      if os.path.isdir(os.path.join(entry or ".", parts[0]))), None)
        if found is None:
            raise Problem(source.of(node), f"the base '{name}' needs the package {parts[0]}, which "
                                           "is not installed")
        folder = os.path.abspath(found)
    path = os.path.join(folder, *parts) + ".py"
    if not os.path.isfile(path):
        raise Problem(source.of(node), f"the base '{name}' is not there: {os.path.normpath(path)}")
    return path


class LazyImports(ast.NodeTransformer):
    """Binds what is imported from bases, before any code runs, and takes those imports out."""

    def __init__(self, source: Source, bases: Dict[str, LazyBase], scope: Dict[str, Any],
                 bound: Dict[str, Entry]):
        self.source = source
        self.bases = bases
        self.scope = scope
        self.bound = bound
        self.imported: Set[str] = set()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        name = "." * node.level + (node.module or "")
        names = [alias.name for alias in node.names]
        if name not in self.bases:
            if names == ["*"]:
                raise Problem(self.source.of(node),
                              "'import *' works only for bases, within 'with read_base():'")
            self.imported |= {alias.asname or alias.name for alias in node.names}
            return node
        values = self.bases[name].values
        if names == ["*"]:
            self.scope.update(dict.items(values))
            self.bound.update(values._seg_places)
        else:
            for alias in node.names:
                if alias.name not in values:
                    raise Problem(self.source.of(node),
                                  f"the base '{name}' has no '{alias.name}'"
                                  f"{did_you_mean(alias.name, values)}")
                target = alias.asname or alias.name
                self.scope[target] = dict.__getitem__(values, alias.name)
                self.bound[target] = values._seg_places.get(alias.name, (None, None))
        return ast.copy_location(ast.Pass(), node)

    def visit_Import(self, node: ast.Import) -> ast.stmt:
        if len(node.names) > 1:
            raise Problem(self.source.of(node), "mmengine's lazy style has one module an 'import'; "
                                                "write a line for each")
        self.imported.add(node.names[0].asname or node.names[0].name.split(".")[0])
        return node


# ---------------------------------------------------------------- trees


class Files:
    """The files of an answer; a node has an index into them."""

    def __init__(self, first: str):
        self.paths = [first]
        self._indices = {path_index(first): 0}

    def __getitem__(self, place: Optional[Place]) -> Tuple[int, int, int]:
        if place is None:
            return 0, 0, 0
        index = self._indices.get(place[0])
        if index is None:
            index = self._indices[place[0]] = len(self.paths)
            self.paths.append(PATHS[place[0]])
        return index, place[1], place[2]


# Read-only views, iterators and sets; a list holds the same.
LISTABLE = (set, frozenset, types.GeneratorType, map, filter, zip, enumerate, reversed,
            type({}.keys()), type({}.values()), type({}.items()))


class Encoder:
    def __init__(self, files: Files, tokens: Dict[str, str], bases: ConfigDict):
        self.files = files
        self.tokens = tokens
        self.bases = bases
        self.path: List[str] = []
        self.depth = 0
        self.count = 0
        self.text = 0

    def node(self, value: Any, inherited: Optional[Place]) -> List[Any]:
        """`inherited` is the place for a value that does not know its own."""
        place = own_place(value) or inherited
        self._count(1, place)
        kind = type(value)
        if kind is str:
            return self._string(value, place)
        if value is None:
            return ["null", *self.files[place], None]
        if kind is bool:
            return ["bool", *self.files[place], value]
        if isinstance(value, int):
            if value.bit_length() > MAX_INT_BITS:
                self._fail(place, "is an integer of more than 4300 digits")
            return ["int", *self.files[place], int.__repr__(value)]
        if isinstance(value, float):
            return ["float", *self.files[place], float.__repr__(value)]
        if isinstance(value, str):
            return self._string(str.__str__(value), place)
        if isinstance(value, dict):
            return ["map", *self.files[place], self._nested(self._entries, value, place)]
        if isinstance(value, (list, range)):
            return ["list", *self.files[place], self._nested(self._items, value, place)]
        if isinstance(value, tuple):
            return ["tuple", *self.files[place], self._nested(self._items, value, place)]
        if kind is Placeholder:
            return ["str", *self.files[place], value._seg_name]
        if "pathlib" in sys.modules and isinstance(value, sys.modules["pathlib"].PurePath):
            return self._string(str(value), place)
        return self._refuse(value, place)

    def _nested(self, encode: Callable, value: Any, place: Optional[Place]) -> List[Any]:
        if self.depth >= MAX_DEPTH:
            self.path = self.path[:4] + ["..."]
            self._fail(place, f"is nested deeper than {MAX_DEPTH} levels, or holds itself")
        self._count(0, place, len(value))
        self.depth += 1
        try:
            return encode(value, place)
        finally:
            self.depth -= 1

    def _items(self, items: Any, place: Optional[Place]) -> List[Any]:
        places = item_places(items) or itertools.repeat(None)
        nodes = []
        for index, (item, own) in enumerate(zip(items, places)):
            self.path.append(f"[{index}]")
            nodes.append(self.node(item, own or place))
            self.path.pop()
        return nodes

    def _entries(self, mapping: dict, place: Optional[Place]) -> List[Any]:
        places = mapping._seg_places if isinstance(mapping, TrackedDict) else {}
        entries = []
        seen: Set[str] = set()
        for key, value in dict.items(mapping):
            key_place, value_place = places.get(key, (None, None))
            key_place = key_place or own_place(value) or place
            text = self._key(key, key_place)
            if text in seen:
                self._fail(key_place, f"has the key '{text}' both as a text and as a number")
            seen.add(text)
            self.path.append("." + text)
            entries.append([text, *self.files[key_place],
                            self.node(value, value_place or key_place)])
            self.path.pop()
        return entries

    def _key(self, key: Any, place: Optional[Place]) -> str:
        if isinstance(key, str):
            key = str.__str__(key)
            self._check_text(key, place)
            return key
        if key is None or isinstance(key, (bool, int, float)):
            return str(key)
        return self._fail(place, f"has {in_words(key)} as a key; a key of a config must be a text",
                          Unholdable)

    def _string(self, value: str, place: Optional[Place]) -> List[Any]:
        if self.tokens and any(token in value for token in self.tokens):
            return self._base_variable(value, place)
        self._check_text(value, place)
        return ["str", *self.files[place], value]

    def _check_text(self, value: str, place: Optional[Place]) -> None:
        self.text += len(value)
        if self.text > MAX_TEXT:
            self._fail(place,
                       f"is too long: the config holds more than {MAX_TEXT >> 20} MB of text")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                self._fail(place, "holds half a character (a surrogate), which is not Unicode")

    def _base_variable(self, value: str, place: Optional[Place]) -> List[Any]:
        if value not in self.tokens:
            name = next(name for token, name in self.tokens.items() if token in value)
            self._fail(place, f"has '{{{{{BASE_KEY}.{name}}}}}' within a text, where mmengine does "
                              f"not replace it; write {{{{{BASE_KEY}.{name}}}}} without quotes, or "
                              f"f'{{{BASE_KEY}.{name}}}'")
        name, found = self.tokens[value], self.bases
        for key in name.split("."):
            if not isinstance(found, dict) or key not in found:
                hint = did_you_mean(key, found) if isinstance(found, dict) else ""
                raise Problem(place or (0, 0, 0), f"the bases have no '{name}'{hint}")
            found = dict.__getitem__(found, key)
        tokens, self.tokens = self.tokens, {}
        node = self.node(found, place)
        self.tokens = tokens
        return node

    def _refuse(self, value: Any, place: Optional[Place]) -> NoReturn:
        advice = "; write a list" if isinstance(value, LISTABLE) else ""
        self._fail(place, f"is {in_words(value)}, which no config can hold{advice}", Unholdable)

    def _count(self, values: int, place: Optional[Place], ahead: int = 0) -> None:
        self.count += values
        if self.count + ahead > MAX_VALUES:
            self.path = self.path[:4]
            self._fail(place, f"is too large: the config has more than {MAX_VALUES:,} values")

    def _fail(self, place: Optional[Place], message: str, kind: type = Problem) -> NoReturn:
        path = "".join(self.path).lstrip(".") or "the config"
        raise kind(place or (path_index(self.files.paths[0]), 0, 0), f"{path} {message}")


def in_words(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, types.FunctionType):
        return "a lambda" if value.__name__ == "<lambda>" else f"the function {value.__name__}"
    if isinstance(value, (types.BuiltinFunctionType, types.MethodType)):
        return f"the function {value.__name__}"
    if isinstance(value, types.ModuleType):
        return f"the module {value.__name__}"
    if isinstance(value, bytes):
        return "bytes"
    name = PLAIN_TYPES.get(type(value), type(value)).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def decode(node: List[Any], files: List[int]) -> Any:
    kind, file, line, column, payload = node
    if kind in ("null", "bool", "str"):
        return payload
    if kind == "int":
        return int(payload)
    if kind == "float":
        return float(payload)
    place = (files[file], line, column) if line else None
    if kind == "map":
        made = ConfigDict()
        entries: Dict[str, Entry] = {}
        for key, key_file, key_line, key_column, value in payload:
            dict.__setitem__(made, key, decode(value, files))
            entries[key] = ((files[key_file], key_line, key_column) if key_line else None,
                            (files[value[1]], value[2], value[3]) if value[2] else None)
        set_places(made, place, entries)
        return made
    items = [decode(item, files) for item in payload]
    places = [(files[item[1]], item[2], item[3]) if item[2] else None for item in payload]
    if kind == "tuple":
        return made_tuple(items, place, places)
    made_list = TrackedList(items)
    set_places(made_list, place, places)
    return made_list


# ---------------------------------------------------------------- classes of data sets


class NotLiteral(Exception):
    """An expression whose value only running code would tell."""


# What an expression may be made of to be computed: nothing that could do more than make a value.
PURE_NODES = (
    ast.Constant, ast.Name, ast.Load, ast.Store, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Starred,
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Subscript, ast.Slice,
    ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp, ast.comprehension, ast.JoinedStr,
    ast.FormattedValue, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.keyword)
PURE_FUNCTIONS = {function.__name__: function for function in (
    abs, dict, divmod, enumerate, float, int, len, list, max, min, range, reversed, round, set,
    sorted, str, sum, tuple, zip)}
PURE_METHODS = frozenset(
    ["capitalize", "copy", "get", "items", "join", "keys", "lower", "replace", "rstrip", "lstrip",
     "split", "splitlines", "strip", "title", "upper", "values"])
# Methods of BaseSegDataset and of its bases, also in MMSegmentation 0.x. One of another name is
# called by nothing but the class itself.
BASE_METHODS = frozenset(
    ["evaluate", "filter_data", "format_results", "full_init", "get_ann_info", "get_cat_ids",
     "get_classes_and_palette", "get_data_info", "get_gt_seg_map_by_idx", "get_gt_seg_maps",
     "get_label_map", "get_palette_for_custom_classes", "get_subset", "get_subset_",
     "load_annotations", "load_data_list", "metainfo", "parse_data_info", "pre_eval",
     "pre_pipeline", "prepare_data", "prepare_test_img", "prepare_train_img", "results2img",
     "_copy_without_annotation", "_get_serialized_data", "_get_unserialized_subset", "_join_prefix",
     "_load_metainfo", "_rand_another", "_serialize_data", "_update_palette"])


class ClassReader:
    """The data set classes of a module, from its syntax tree. Its code is not run; only expressions
    that cannot do more than make a value are computed."""

    def __init__(self, tree: ast.Module) -> None:
        self.values: Dict[str, ast.expr] = {}
        self.names: Dict[str, List[str]] = {}  # of classes that are registered by a call, by class
        changed: Set[str] = set()
        for statement in tree.body:
            names = assigned_names(statement)
            self.values.update((name, statement.value) for name in names)
            known = names or isinstance(statement, KNOWN_STATEMENTS) or is_text(statement)
            if not known:
                self.read_registration(statement)
                changed.update(node.id for node in ast.walk(statement)
                               if isinstance(node, ast.Name))
        # Loops and calls may have changed what these names stand for.
        for name in changed:
            self.values.pop(name, None)

    def read_registration(self, statement: ast.stmt) -> None:
        """DATASETS.register_module(name='X', module=MyDataset)"""
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not is_registration(call):
            return
        module = next((k.value for k in call.keywords if k.arg == "module"), None)
        self.names.setdefault(getattr(module, "id", ""), []).extend(registered_names(call))

    def describe(self, node: ast.ClassDef) -> Dict[str, Any]:
        """Its bases, METAINFO, the options that its constructor sets, and what goes beyond that.

        Classes for MMSegmentation 0.x have CLASSES and PALETTE instead of METAINFO.
        """
        beyond: List[str] = []
        options: Dict[str, Any] = {}
        facts: Dict[str, List[Any]] = {}  # items of a mapping
        own: Dict[str, ast.expr] = {}  # attributes
        for statement in node.body:
            names = assigned_names(statement)
            if is_text(statement) or isinstance(statement, ast.Pass):
                continue
            if names:
                self.read_attribute(names, statement, own, facts, beyond)
            elif isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                self.read_constructor(statement, options, beyond)
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if may_override(statement):
                    beyond.append(f"defines {statement.name}()")
            else:
                beyond.append(f"holds more in line {statement.lineno}")
        metainfo = None
        if "METAINFO" in facts:
            metainfo = facts["METAINFO"][-1]
        elif "CLASSES" in facts or "PALETTE" in facts:
            metainfo = ["map", 0, node.lineno, node.col_offset + 1, list(facts.values())]
        return {"name": node.name, "file": 0, "line": node.lineno, "column": node.col_offset + 1,
                "registered": self.registered(node),
                "bases": [ast.unparse(base).rpartition(".")[2] for base in node.bases],
                "metainfo": metainfo, "options": list(options.items()), "beyond": beyond}

    def registered(self, node: ast.ClassDef) -> List[str]:
        """The names that configs have for it."""
        names = list(self.names.get(node.name, []))
        for decorator in node.decorator_list:
            if is_registration(decorator):
                names += registered_names(decorator)
        return names or [node.name]

    def read_attribute(self, names: List[str], statement: Any, own: Dict[str, ast.expr],
                       facts: Dict[str, List[Any]], beyond: List[str]) -> None:
        for name in names:
            known = name in ("METAINFO", "CLASSES", "PALETTE")
            try:
                value = self.literal(statement.value, own)
                if known:
                    facts[name] = [name.lower(), 0, statement.lineno, statement.col_offset + 1,
                                   value]
            except NotLiteral:
                beyond.append(f"computes {name}" if known
                              else f"holds more in line {statement.lineno}")
            own[name] = statement.value

    def read_constructor(self, function: ast.FunctionDef, options: Dict[str, Any],
                         beyond: List[str]) -> None:
        arguments = function.args
        names = [argument.arg for argument in arguments.posonlyargs + arguments.args]
        defaults = dict(zip(reversed(names), reversed(arguments.defaults)))
        defaults.update((argument.arg, default)
                        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults)
                        if default is not None)
        for statement in function.body:
            if is_text(statement) or isinstance(statement, (ast.Assert, ast.Pass)):
                continue
            call = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "print":
                continue
            if not is_constructor_of_base(call):
                beyond.append(f"does more in line {statement.lineno}")
                continue
            for keyword in call.keywords:
                if keyword.arg is not None:
                    self.take_option(keyword.arg, keyword.value, defaults, options, beyond)

    def take_option(self, name: str, value: ast.expr, defaults: Dict[str, ast.expr],
                    options: Dict[str, Any], beyond: List[str]) -> None:
        # What is passed on as it was given is an option of the class itself.
        if isinstance(value, ast.Name) and value.id == name and name not in defaults:
            return
        try:
            options[name] = self.literal(value, defaults)
        except NotLiteral:
            beyond.append(f"computes '{name}' in line {value.lineno}")

    def literal(self, node: ast.expr, names: Dict[str, ast.expr], depth: int = 0) -> List[Any]:
        """As a NODE, with the places of what is written out."""
        if depth > MAX_DEPTH:
            raise NotLiteral
        inner = lambda value: self.literal(value, names, depth + 1)  # noqa: E731
        place = [0, node.lineno, node.col_offset + 1]
        if isinstance(node, ast.Constant):
            return constant_kind(node.value, place)
        if isinstance(node, ast.Name):
            return inner(self.meaning(node, names))
        if isinstance(node, (ast.List, ast.Tuple)) and \
                not any(isinstance(item, ast.Starred) for item in node.elts):
            kind = "list" if isinstance(node, ast.List) else "tuple"
            return [kind, *place, [inner(item) for item in node.elts]]
        pairs = written_pairs(node)
        if pairs is None:
            return made_kind(self.computed(node, names, depth), place)
        items = []
        for key, value in pairs:
            text = key.arg if isinstance(key, ast.keyword) else getattr(key, "value", None)
            if not isinstance(text, str):
                raise NotLiteral
            where = key if isinstance(key, ast.expr) else value
            items.append([text, 0, where.lineno, where.col_offset + 1, inner(value)])
        return ["map", *place, items]

    def meaning(self, node: ast.Name, names: Dict[str, ast.expr]) -> ast.expr:
        value = names.get(node.id, self.values.get(node.id))
        if value is None:
            raise NotLiteral
        return value

    def computed(self, node: ast.expr, names: Dict[str, ast.expr], depth: int) -> Any:
        """The value of an expression of which every part is known to be harmless."""
        if depth > MAX_DEPTH:
            raise NotLiteral
        called = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
        bound = {name.id for name in ast.walk(node)
                 if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
        scope: Dict[str, Any] = {"__builtins__": {}}
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute):
                if part not in called or part.attr not in PURE_METHODS:
                    raise NotLiteral
            elif isinstance(part, ast.Name) and part in called:
                if part.id not in PURE_FUNCTIONS or part.id in bound:
                    raise NotLiteral
                scope[part.id] = PURE_FUNCTIONS[part.id]
            elif isinstance(part, ast.Name):
                if part.id not in bound:
                    scope[part.id] = self.computed(self.meaning(part, names), names, depth + 1)
            elif not isinstance(part, (ast.Call,) + PURE_NODES):
                raise NotLiteral
        try:
            return eval(compile(ast.Expression(node), "<class>", "eval"), scope)
        except Exception:
            raise NotLiteral from None


# Those that cannot change a value of the module.
KNOWN_STATEMENTS = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef,
                    ast.AsyncFunctionDef, ast.Pass, ast.Assert)


def written_pairs(node: ast.expr) -> Optional[List[Any]]:
    """Keys and values of a mapping that is written out; None for any other expression."""
    if isinstance(node, ast.Dict) and None not in node.keys:
        return list(zip(node.keys, node.values))
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict" and not node.args and \
            all(keyword.arg is not None for keyword in node.keywords):
        return [(keyword, keyword.value) for keyword in node.keywords]
    return None


def made_kind(value: Any, place: List[int], depth: int = 0) -> List[Any]:
    """A computed value as a NODE."""
    if depth > MAX_DEPTH:
        raise NotLiteral
    if type(value) in (list, tuple):
        return [type(value).__name__, *place, [made_kind(item, place, depth + 1) for item in value]]
    if type(value) is dict:
        if not all(isinstance(key, str) for key in value):
            raise NotLiteral
        return ["map", *place, [[key, *place, made_kind(item, place, depth + 1)]
                                for key, item in value.items()]]
    return constant_kind(value, place)


def is_registration(node: Any) -> bool:
    """X.register_module(...)"""
    return isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "register_module"


def registered_names(call: ast.Call) -> List[str]:
    given = call.args[:1] + [k.value for k in call.keywords if k.arg == "name"]
    texts = [text for node in given
             for text in (node.elts if isinstance(node, (ast.List, ast.Tuple)) else [node])]
    return [text.value for text in texts
            if isinstance(text, ast.Constant) and isinstance(text.value, str)]


def may_override(function: Any) -> bool:
    special = function.name.startswith("__") and function.name.endswith("__")
    # A property can hide an attribute.
    methods = all(getattr(decorator, "id", "") in ("staticmethod", "classmethod")
                  for decorator in function.decorator_list)
    return special or function.name in BASE_METHODS or not methods


def constant_kind(value: Any, place: List[int]) -> List[Any]:
    if value is None:
        return ["null", *place, None]
    if isinstance(value, bool):
        return ["bool", *place, value]
    if isinstance(value, (int, float)):
        return [type(value).__name__, *place, repr(value)]
    if isinstance(value, str):
        return ["str", *place, value]
    raise NotLiteral


def assigned_names(statement: ast.stmt) -> List[str]:
    """a = b = value; empty where anything else than names is assigned to."""
    targets: List[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names if len(names) == len(targets) else []


def is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def is_constructor_of_base(call: Optional[ast.expr]) -> bool:
    """super().__init__(...) or super(MyDataset, self).__init__(...), with keywords, and `*args` as
    they were given."""
    return (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and
            call.func.attr == "__init__" and isinstance(call.func.value, ast.Call) and
            getattr(call.func.value.func, "id", "") == "super" and
            all(isinstance(argument, ast.Starred) for argument in call.args))


def answer_classes(request: Dict[str, Any]) -> Dict[str, Any]:
    tree = Source(request["file"]).parse()
    reader = ClassReader(tree)
    return {"classes": [reader.describe(node) for node in tree.body
                        if isinstance(node, ast.ClassDef)]}


# ---------------------------------------------------------------- requests


def answer_bases(request: Dict[str, Any]) -> Dict[str, Any]:
    source = Source(os.path.abspath(request["file"]))
    tree = source.parse()
    reason = lazy_reason(source, tree)
    if reason is not None:
        check_lazy(source, tree, reason)
        return {"bases": [], "lazy": True}
    source.substitute()
    tree = source.parse()
    check_base_assignments(source, tree)
    node = next((node for node in tree.body if is_base_assignment(node)), None)
    bases = [] if node is None else named_bases(source, node.value)
    return {"bases": bases, "lazy": False}


def named_bases(source: Source, node: ast.expr) -> List[Dict[str, Any]]:
    value = base_value(source, node)
    names = value if isinstance(value, list) else [value]
    for name in names:
        if not isinstance(name, str) or not name:
            kind = in_words(name) if name != "" else "an empty text"
            raise Problem(source.of(node),
                          f"'{BASE_KEY}' must be a path or a list of paths, not {kind}")
        if any(token in name for token in source.base_variables):
            raise Problem(source.of(node), f"'{BASE_KEY}' cannot refer to the bases themselves")
    places = [source.of(node)] * len(names)
    if isinstance(node, ast.List) and len(node.elts) == len(names):
        places = [source.of(item) for item in node.elts]
    return [{"name": name, "line": place[1], "column": place[2]}
            for name, place in zip(names, places)]


def base_value(source: Source, node: ast.expr) -> Any:
    """mmengine evaluates the expression by itself, in a scope that has these modules."""
    scope: Dict[str, Any] = {"os": os, "osp": os.path, "sys": sys, "re": re, "copy": copy}
    try:
        code = compile(ast.Expression(node), source.path, "eval", dont_inherit=True)
        return eval(code, scope)
    except NameError as error:
        name = str(error).split("'")[1] if "'" in str(error) else "a variable"
        message = (f"'{BASE_KEY}' is read before the rest of the file and cannot use '{name}'; "
                   "write the paths in full")
        raise Problem(source.of(node), message) from None
    except BaseException as error:
        raise Problem(source.of(node),
                      f"'{BASE_KEY}' cannot be computed: {one_line(str(error))}") from None


def answer_run(request: Dict[str, Any]) -> Dict[str, Any]:
    path = os.path.abspath(request["file"])
    files = [path_index(name) for name in request.get("files", [])]
    bases = decode(request["bases"], files) if request.get("bases") else ConfigDict()
    source = Source(path)
    lazy = lazy_reason(source, source.parse()) is not None
    run = Run(lazy)
    result = run_lazy(path, path, run, ()) if lazy else run_plain(path, bases, run)
    answered = Files(path)
    gc.disable()  # a tree of a million nodes has no garbage, but would be searched for it often
    tree, left_out = encoded(result, run, answered, bases)
    for entry in run.importer.imports:
        entry["file"] = answered[entry["file"], entry["line"], 1][0]
    changed = None
    if result.bases is not None:
        changed = Encoder(answered, {}, bases).node(result.bases, None)
    return {
        "tree": tree,
        "bases": changed,
        "referred": result.referred,
        "used": sorted(used_names(result, run, bases)),
        "imports": run.importer.imports,
        "left_out": left_out,
        "deprecated": result.deprecated,
        "files": answered.paths,
    }


def used_names(result: Result, run: Run, bases: ConfigDict) -> Set[str]:
    # A whole config that mmengine has written keeps the variables that its file was written with,
    # and has no code that could read them.
    written = (not bases and run.names_read <= {"dict"} and
               {"default_scope", "model"} <= result.values.keys())
    if written or result.module.reads_by_text:
        return set(result.values)
    return run.names_read & set(result.values)


def encoded(result: Result, run: Run, files: Files,
            bases: ConfigDict) -> Tuple[List[Any], List[Dict[str, Any]]]:
    """The tree, and the variables that it leaves out because no config can hold them."""
    encoder = Encoder(files, result.module.source.base_variables, bases)
    entries: List[Any] = []
    left_out: List[Dict[str, Any]] = []
    for name, value in dict.items(result.values):
        if is_helper(name, value, result):
            continue
        entry = result.values._seg_places.get(name, (None, None))
        if name in RESERVED_KEYS:
            raise Problem(entry[0] or result.values._seg_place,
                          f"mmengine keeps the name '{name}' for itself; choose another")
        encoder.path = [name]
        try:
            entries.append([name, *files[entry[0]], encoder.node(value, entry[1] or entry[0])])
        except Unholdable as problem:
            if name not in run.names_read:
                raise
            file, line, column = files[problem.place]
            left_out.append({"name": name, "file": file, "line": line, "column": column,
                             "message": problem.message})
            encoder.depth = 0
    return ["map", *files[result.values._seg_place], entries], left_out


def is_helper(name: str, value: Any, result: Result) -> bool:
    """Part of the code rather than of the config."""
    if isinstance(value, (types.FunctionType, types.ModuleType, type, types.BuiltinFunctionType,
                          types.MethodType)):
        return True
    if type(value).__module__ == "typing":  # an alias, for the signatures of functions
        return True
    if isinstance(value, Placeholder) and name in result.imported | result.module.helper_names:
        return True
    if name in result.imported - result.module.assigned:
        return True
    imported_here = name in result.module.helper_names and name not in result.module.assigned
    return imported_here and not isinstance(value, (bool, int, float, str, list, tuple, dict,
                                                    type(None)))


class TookTooLong(BaseException):
    """Not an Exception, which the code of a config may catch."""


def interrupt_after(seconds: float) -> None:
    """Ends the code of a config, or what is made of its result; 0: no longer."""
    def interrupt(number: int, frame: Any) -> NoReturn:
        raise TookTooLong(f"its evaluation has not ended after {seconds:g} s")

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def answer(line: bytes) -> Dict[str, Any]:
    request = json.loads(line)
    MODULES.clear()
    try:
        interrupt_after(request.get("patience", 0))
        if request["do"] == "bases":
            return answer_bases(request)
        if request["do"] == "run":
            return answer_run(request)
        if request["do"] == "classes":
            return answer_classes(request)
        raise ValueError(f"unknown request '{request['do']}'")
    except Problem as problem:
        file, line_number, column = problem.place
        found = {"file": PATHS[file], "line": line_number, "column": column,
                 "message": problem.message}
    except TookTooLong as error:
        found = {"file": request["file"], "line": 0, "column": 0, "message": str(error)}
    except Exception as error:  # objects of a config can do anything when they are looked at
        message = one_line(f"the config cannot be evaluated: {str(error) or type(error).__name__}")
        found = {"file": request["file"], "line": 0, "column": 0, "message": message}
    finally:
        interrupt_after(0)
        gc.enable()
    return {"error": found}


def keep_descriptors() -> Tuple[Any, Any]:
    """The channel to the caller, kept from the code of configs: what that prints goes nowhere."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(encoding="utf-8", errors="replace")
    return requests, answers


def limit_memory() -> None:
    try:
        import resource
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limits = [limit for limit in (soft, hard, MAX_MEMORY) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    except (ImportError, OSError, ValueError):
        pass  # not every system has it


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    requests, answers = keep_descriptors()
    limit_memory()
    # Python was started without these. mmengine finds modules of a project there.
    sys.path[:0] = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    with contextlib.suppress(OSError):  # the folder may have been deleted
        sys.path.append(os.getcwd())
    leave = os._exit
    for line in requests:
        text = json.dumps(answer(line), separators=(",", ":"))
        answers.write(text.encode("ascii") + b"\n")
        answers.flush()
    leave(0)  # threads and exit handlers of a config must not keep the process


if __name__ == "__main__":
    main()
