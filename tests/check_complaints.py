#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds docs/complaints.md against the tests: what it names must be there, and must be run.

usage: check_complaints.py ROOT          says which names are none, and which complaints have no test
       check_complaints.py --self-test   shows that each rule catches a table that breaks it

The rules, for each row of a table in that file:

  1. It has a test: `FOLDER/FILE:NAME`, with the file below tests/.
  2. A .c file defines the test, START_TEST(NAME), and adds it to a suite, tcase_add...(..., NAME...).
  3. A .py file has the claim: @claim above def NAME, with nothing but decorators in between.
  4. The folder's meson.build names the file, so that ./check runs it.
"""
import os
import re
import sys
import tempfile

TABLE = "docs/complaints.md"
ROW = re.compile(r"^\|(?!\s*-)(?!\s*complaint\s*\|)(.*)\|\s*$")
TEST = re.compile(r"`([a-z]+/\w+\.(?:c|py)):(\w+)`")


def read(root, path):
    try:
        with open(os.path.join(root, path), encoding="utf-8") as f:
            return f.read()
    except FileNotFoundError:
        return None


def has_test(path, text, name):
    """A reason why not, or None."""
    if path.endswith(".py"):
        claimed = re.search(r"^@claim\(.*\)\n(?:@.*\n)*def %s\(" % name, text, re.M)
        return None if claimed else "it has no such claim"
    if not re.search(r"^START_TEST\(%s\)" % name, text, re.M):
        return "it has no such test"
    added = re.search(r"\btcase_add\w*\(\s*\w+,\s*%s\b" % name, text)
    return None if added else "no suite has that test"


def is_run(root, path):
    """meson's lists have the names of C tests without their test_."""
    folder, file = path.split("/")
    stem = re.sub(r"^test_", "", file.rsplit(".", 1)[0])
    build = read(root, "tests/%s/meson.build" % folder) or ""
    return re.search(r"'(?:%s/)?%s'" % (folder, stem), build)


def check_test(root, path, name):
    text = read(root, "tests/" + path)
    if text is None:
        return "there is no such file"
    if not is_run(root, path):
        return "tests/%s/meson.build does not run it" % path.split("/")[0]
    return has_test(path, text, name)


def check(root):
    """(number of complaints, number of tests, list of faults)"""
    rows, tests, faults = 0, 0, []
    for number, line in enumerate((read(root, TABLE) or "").splitlines(), 1):
        row = ROW.match(line)
        if not row:
            continue
        rows += 1
        cells = row.group(1).split("|")
        named = TEST.findall(cells[-1])
        if len(cells) != 3 or not named or TEST.sub("", cells[-1]).strip():
            faults.append("%s:%d: a row has a complaint, whose it is, and the names of its tests" % (TABLE, number))
        for path, name in named:
            tests += 1
            reason = check_test(root, path, name)
            if reason:
                faults.append("%s:%d: %s:%s: %s" % (TABLE, number, path, name, reason))
    return rows, tests, faults


HEAD = "| complaint | of | tests |\n|---|---|---|\n"
CLEAN = {
    TABLE: HEAD + "| a | x #1 | `gateway/test_x.c:it_works` `mount/y.py:it_works_too` |\n",
    "tests/gateway/test_x.c": "START_TEST(it_works)\nSTART_TEST(never)\n\ttcase_add_test(c, it_works);\n",
    "tests/gateway/meson.build": "foreach name : ['x']\n",
    "tests/mount/y.py": "@claim(limit=60)\n@soon\ndef it_works_too(m):\ndef helper(m):\n",
    "tests/mount/z.py": "@claim()\ndef it_works_too(m):\n",
    "tests/mount/meson.build": "foreach name : ['y']\n",
}
BROKEN = [  # (the last cell of a row, what the fault must say)
    ("", "a row has"),
    ("it is tested", "a row has"),
    ("`gateway/test_x.c:it_works`, mostly", "a row has"),
    ("`gateway/test_x.c:it_work`", "it has no such test"),
    ("`gateway/test_x.c:never`", "no suite has that test"),
    ("`gateway/test_w.c:it_works`", "there is no such file"),
    ("`mount/y.py:it_works`", "it has no such claim"),
    ("`mount/y.py:helper`", "it has no such claim"),
    ("`mount/z.py:it_works_too`", "does not run it"),
]


def self_test():
    wrong = 0
    for cell, wanted in [(None, None)] + BROKEN:
        files = dict(CLEAN)
        if cell is not None:
            files[TABLE] += "| b | y #2 | %s |\n" % cell
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                    f.write(text)
            rows, _, faults = check(root)
        good = not faults and rows == 1 if wanted is None else len(faults) == 1 and wanted in faults[0]
        if not good:
            wrong += 1
            print("%r: wanted %r, got %r" % (cell, wanted, faults))
    print("self-test: %d right, %d wrong" % (1 + len(BROKEN) - wrong, wrong))
    return 1 if wrong else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__.split("The rules")[0], file=sys.stderr)
        return 2
    rows, tests, faults = check(sys.argv[1])
    for fault in faults:
        print(fault)
    if rows == 0:
        print("%s has no complaints" % TABLE)
        return 1
    print("%d complaints, %d tests, %d faults" % (rows, tests, len(faults)))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
