#!/usr/bin/env python3
"""Checks that every header compiles when it is the first and only include of a file.

    check_headers.py --root ROOT --compiler CLANG --flags FILE --build DIR [HEADER...]

Headers outside registry/ see segcore/torch.hpp, precompiled: without it each would take ten seconds.
What that hides is checked by reading: a header that names torch:: or a standard type includes, itself
or through a header of ours, the header that declares it. Exit code 77: no compiler to check with.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys

ROOMS = ["registry", "segcore", "runners", "tools/common", "tests/support"]
TORCH_FREE = "registry/"
TORCH_HEADER = "segcore/torch.hpp"
SKIPPED_EXIT_CODE = 77

# What is used -> the headers that declare it, as regular expressions.
DECLARED_BY = {
    r"\b(?:torch|at|c10)::": r"torch/|ATen/|c10/|segcore/torch\.hpp",
    r"\bcv::": r"opencv2/",
    r"\bstd::string\b": r"string",
    r"\bstd::string_view\b": r"string_view|string",
    r"\bstd::vector\b": r"vector",
    r"\bstd::array\b": r"array",
    r"\bstd::map\b": r"map",
    r"\bstd::set\b": r"set",
    r"\bstd::unordered_map\b": r"unordered_map",
    r"\bstd::unordered_set\b": r"unordered_set",
    r"\bstd::(?:shared_ptr|unique_ptr|make_shared|make_unique|weak_ptr)\b": r"memory",
    r"\bstd::optional\b": r"optional",
    r"\bstd::variant\b": r"variant",
    r"\bstd::function\b": r"functional",
    r"\bstd::(?:pair|move|forward)\b": r"utility|map|memory|vector|string|functional|tuple",
    r"\bstd::tuple\b": r"tuple",
    r"\bstd::filesystem\b": r"filesystem",
    r"\bstd::thread\b": r"thread",
    r"\bstd::mutex\b": r"mutex",
    r"\bstd::condition_variable\b": r"condition_variable",
    r"\bstd::atomic\b": r"atomic",
    r"\bstd::chrono\b": r"chrono",
    r"\bstd::ostringstream\b": r"sstream",
}


def included(text):
    return re.findall(r'^#include [<"]([^>"]+)[>"]', text, re.MULTILINE)


def code_of(text):
    return re.sub(r"//[^\n]*", "", text)


class Headers:
    """The project's headers, and what each includes, directly or not."""

    def __init__(self, root):
        self.root = root
        self.paths = sorted(
            str(path.relative_to(root)) for room in ROOMS for path in (root / room).rglob("*.hpp"))
        self.texts = {path: (root / path).read_text() for path in self.paths}

    def reaches(self, path, seen=None):
        seen = set() if seen is None else seen
        for name in included(self.texts[path]):
            if name not in seen:
                seen.add(name)
                if name in self.texts:
                    self.reaches(name, seen)
        return seen

    def undeclared(self, path):
        """Messages for names whose header is not included."""
        reached = self.reaches(path) | {path}
        code = code_of(self.texts[path])
        for used, declared_by in DECLARED_BY.items():
            found = re.search(used, code)
            if found and not any(re.match(declared_by, name) for name in reached):
                yield f"{path}: uses {found.group()} but includes no header that declares it"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--compiler", required=True, help="clang++, or what find_program left")
    parser.add_argument("--flags", type=pathlib.Path, required=True, help="one compiler flag a line")
    parser.add_argument("--build", type=pathlib.Path, required=True, help="folder for the precompiled header")
    parser.add_argument("headers", nargs="*", help="default: all")
    args = parser.parse_args()

    headers = Headers(args.root)
    paths = args.headers or headers.paths
    if not args.headers and len(paths) < 100:
        sys.exit(f"only {len(paths)} headers were found below '{args.root}'")
    problems = [message for path in paths for message in headers.undeclared(path)]

    if os.path.isabs(args.compiler):
        problems += compile_alone(args, paths)
    if problems:
        sys.exit("\n".join(problems))
    if not os.path.isabs(args.compiler):
        print("skipped: clang++ is not installed (apt-get install clang-tidy brings it)")
        sys.exit(SKIPPED_EXIT_CODE)
    print(f"{len(paths)} headers compile alone")


def compile_alone(args, paths):
    flags = ["-w", "-std=c++20", *filter(None, args.flags.read_text().split("\n"))]
    args.build.mkdir(parents=True, exist_ok=True)
    pch = args.build / "torch.pch"
    instantiate = "-fpch-instantiate-templates"  # once, in the precompiled header: a third of the time
    subprocess.run([args.compiler, *flags, instantiate, "-x", "c++-header", TORCH_HEADER, "-o", str(pch)],
                   cwd=args.root, check=True)

    def check(path):
        torch = [] if path.startswith(TORCH_FREE) else [instantiate, "-include-pch", str(pch)]
        done = subprocess.run([args.compiler, "-fsyntax-only", *flags, *torch, "-x", "c++", "-"],
                              input=f'#include "{path}"\n', cwd=args.root, capture_output=True, text=True)
        return f"{path} does not compile alone:\n{done.stderr}" if done.returncode else None

    return [message for message in map(check, paths) if message]


if __name__ == "__main__":
    main()
