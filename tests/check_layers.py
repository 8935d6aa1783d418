#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The layer arrow fs -> gateway -> engine -> base, as a test.

usage: check_layers.py ROOT          holds every #include below ROOT against the rules
       check_layers.py --self-test   shows that each rule catches a file that breaks it

The rules, for a project include ("folder/name.h" from the root, or "name.h" beside the file):

  1. A layer includes its own headers, the door of the layer directly below, and base.
     The door of a folder is FOLDER/FOLDER.h, and what DOORS adds to it; every header of base is a
     door.
  2. A layer includes nothing of a layer above, and nothing of tests or tools.
  3. fs cannot tell a local model from a remote one: it does not see the engine, not even its door.
  4. A test or tool includes doors, base, and the internals of at most one layer: the one it tests.
     In tests/<layer>/ that layer is <layer>.
  5. No one includes a .c file, climbs with "..", or names a header that does not exist.
"""
import os
import re
import sys
import tempfile

LAYERS = ["base", "engine", "gateway", "fs"]  # bottom to top
BELOW = {"base": None, "engine": "base", "gateway": "engine", "fs": "gateway"}
OTHERS = ["tests", "tools"]
DOORS = {  # a door in several headers, by subject
    "gateway": ["accounts", "guards", "keys", "models", "parts", "sessions", "shim"],  # gateway/gateway_models.h ...
}
SOURCES = (".c", ".h", ".cc", ".hh", ".cpp", ".cu", ".cuh", ".inc")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">\n]+)[">]', re.M)
COMMENT = re.compile(r"/\*.*?\*/", re.S)


def door(folder):
    return f"{folder}/{folder}.h"


def is_door(included):
    folder = included.split("/")[0]
    subjects = DOORS.get(folder, [])
    return included in [door(folder)] + [f"{folder}/{folder}_{s}.h" for s in subjects]


def sources(root):
    for top in LAYERS + OTHERS:
        for where, folders, names in os.walk(os.path.join(root, top)):
            folders.sort()
            for name in sorted(names):
                if name.endswith(SOURCES):
                    yield os.path.relpath(os.path.join(where, name), root)


def resolve(root, includer, bracket, target):
    """The included file from the root; None for a system header; "" when there is no such file."""
    if ".." in target.split("/"):
        return ""
    if bracket == '"':
        beside = os.path.normpath(os.path.join(os.path.dirname(includer), target))
        if os.path.isfile(os.path.join(root, beside)):
            return beside
    if os.path.isfile(os.path.join(root, target)):
        return os.path.normpath(target)
    return "" if bracket == '"' else None


def judge_layer(layer, included):
    """Rules 1 to 3. A reason, or None."""
    folder = included.split("/")[0]
    if folder in (layer, "base"):
        return None
    if folder in OTHERS:
        return f"{layer} includes nothing of {folder}"
    if LAYERS.index(folder) > LAYERS.index(layer):
        return f"{layer} is below {folder}"
    if folder != BELOW[layer]:
        return f"{layer} sees only {BELOW[layer]} and base"
    if not is_door(included):
        return f"an internal of {folder}; its door is {door(folder)}"
    return None


def judge_other(includer, included, internals):
    """Rule 4. internals: the layers whose inside this file has seen so far; grows."""
    folder = included.split("/")[0]
    if folder in OTHERS or folder == "base" or is_door(included):
        return None
    if folder not in LAYERS:
        return "neither a layer nor tests nor tools"
    under_test = includer.split("/")[1]
    if includer.startswith("tests/") and under_test in LAYERS and folder != under_test:
        return f"a test of {under_test} includes an internal of {folder}"
    internals.add(folder)
    if len(internals) > 1:
        return "internals of more than one layer: " + ", ".join(sorted(internals))
    return None


def check_file(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        # Comments go, their lines stay, so that line numbers are right.
        text = COMMENT.sub(lambda m: "\n" * m.group(0).count("\n"), f.read())
    layer = path.split("/")[0]
    internals = set()
    for match in INCLUDE.finditer(text):
        bracket, target = match.groups()
        included = resolve(root, path, bracket, target)
        if included is None:
            continue
        if included == "":
            reason = "no such file below the root, or a path with .."
        elif included.endswith((".c", ".cc", ".cpp")):
            reason = "link a library, never include its source"
        elif layer in LAYERS:
            reason = judge_layer(layer, included)
        else:
            reason = judge_other(path, included, internals)
        if reason:
            line = text.count("\n", 0, match.start(1)) + 1
            yield f"{path}:{line}: #include {target}: {reason}"


def check_tree(root):
    """(number of files, list of violations)"""
    paths = list(sources(root))
    return len(paths), [violation for path in paths for violation in check_file(root, path)]


CLEAN = {
    "base/err.h": "",
    "base/err.c": '#include "base/err.h"\n#include <errno.h>\n',
    "engine/engine.h": '#include "base/err.h"\n',
    "engine/gguf.h": '/* #include "fs/table.h" is only a comment */\n',
    "engine/gguf.c": '#include "engine/gguf.h"\n#include "gguf.h"\n',
    "gateway/gateway.h": '#include "base/err.h"\n',
    "gateway/gateway_models.h": "",
    "gateway/gateway_secrets.h": "",
    "gateway/store.h": "",
    "gateway/local.c": '#include "engine/engine.h"\n#include "gateway/store.h"\n',
    "fs/table.h": "",
    "fs/main.c": '#include "gateway/gateway.h"\n#include "gateway/gateway_models.h"\n#include "fs/table.h"\n#include <fuse_lowlevel.h>\n',
    "tests/run.h": "",
    "tests/engine/test_gguf.c": '#include "engine/gguf.h"\n#include "tests/run.h"\n',
    "tests/gateway/test_local.c": '#include "gateway/store.h"\n#include "engine/engine.h"\n',
    "tests/fuzz/fuzz_gguf.c": '#include "engine/gguf.h"\n#include "base/err.h"\n',
}
BROKEN = [  # (file, its text, what the violation must say)
    ("base/err.c", '#include "engine/engine.h"\n', "base is below engine"),
    ("engine/gguf.c", '#include "gateway/gateway.h"\n', "engine is below gateway"),
    ("engine/gguf.c", "#include <gateway/gateway.h>\n", "engine is below gateway"),
    ("gateway/local.c", '#include "engine/gguf.h"\n', "its door is engine/engine.h"),
    ("gateway/local.c", '# include "../engine/gguf.h"\n', "a path with .."),
    ("gateway/local.c", '#include "fs/table.h"\n', "gateway is below fs"),
    ("fs/main.c", '#include "engine/engine.h"\n', "fs sees only gateway and base"),
    ("fs/main.c", '#include "gateway/store.h"\n', "its door is gateway/gateway.h"),
    ("fs/main.c", '#include "gateway/gateway_secrets.h"\n', "its door is gateway/gateway.h"),
    ("fs/main.c", '#include "tests/run.h"\n', "fs includes nothing of tests"),
    ("fs/main.c", '#include "fs/gone.h"\n', "no such file"),
    ("tests/engine/test_gguf.c", '#include "engine/gguf.c"\n', "never include its source"),
    ("tests/engine/test_gguf.c", '#include "gateway/store.h"\n', "a test of engine"),
    ("tests/fuzz/fuzz_gguf.c", '#include "engine/gguf.h"\n#include "fs/table.h"\n', "more than one"),
]


def write_tree(root, files):
    for path, text in files.items():
        os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
        with open(os.path.join(root, path), "w", encoding="utf-8") as f:
            f.write(text)


def self_test():
    failures = 0
    with tempfile.TemporaryDirectory() as root:
        write_tree(root, CLEAN)
        found = check_tree(root)[1]
        if found:
            failures += 1
            print("a clean tree is called broken:", *found, sep="\n  ")
    for path, text, wanted in BROKEN:
        with tempfile.TemporaryDirectory() as root:
            write_tree(root, {**CLEAN, path: text})
            found = check_tree(root)[1]
            if len(found) != 1 or wanted not in found[0] or not found[0].startswith(path + ":"):
                failures += 1
                print(f"{path} with {text!r}: wanted one violation with {wanted!r}, got {found}")
    print(f"self-test: {1 + len(BROKEN) - failures} right, {failures} wrong")
    return 1 if failures else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__.split("The rules")[0], file=sys.stderr)
        return 2
    n_files, violations = check_tree(sys.argv[1])
    for violation in violations:
        print(violation)
    if n_files == 0:
        print(f"{sys.argv[1]}: no source files here")
        return 1
    print(f"{n_files} files, {len(violations)} violations of the layers")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
