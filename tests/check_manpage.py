#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""llmfs-files(7) documents each file of the tree, and no other.

usage: check_manpage.py PAGE LLMFS
       check_manpage.py --self-test

`LLMFS --files` prints the table that the filesystem is made of, a line each: path, mode, a few
words; a directory's path ends with a slash. The page has an item `.It Pa PATH` for each of them
(several on one line: `.It Pa PATH , Pa PATH`), with text below it.
"""
import re
import subprocess
import sys

ITEM = re.compile(r"^\.It Pa (.+)$")
ANY_TEXT = re.compile(r"^[^.\s]|^\.(Ql|Ar|Em|Dv|Er|Xr|Pa)\b")


def documented(page):
    """{path: has text} in the page's order."""
    items = {}
    current = []
    for line in page.splitlines():
        item = ITEM.match(line)
        if item:
            current = [path for path in re.split(r"\s*,\s*Pa\s+|\s+", item.group(1)) if path != ","]
            for path in current:
                items[path] = False
        elif ANY_TEXT.match(line):
            for path in current:
                items[path] = True
        elif line.startswith((".El", ".Sh", ".Ss")):
            current = []
    return items


def faults(page, listing):
    items = documented(page)
    files = [line.split()[0] for line in listing.splitlines() if line.strip()]
    if not files:
        yield "the table is empty"
    for path in files:
        if path not in items:
            yield f"{path} is in the tree and not in the page"
        elif not items[path]:
            yield f"{path} stands in the page without a word about it"
    for path in items:
        if path not in files:
            yield f"{path} is in the page and not in the tree"


def self_test():
    page = ".Bl\n.It Pa a\nText.\n.It Pa d/\n.Ql mkdir\nmakes it.\n.It Pa d/b , Pa d/c\nText.\n.El\n"
    listing = "a 0444 text\nd/ 0755 text\nd/b 0444 text\nd/c 0444 text\n"
    cases = [
        (page, listing, None),
        (page.replace(".It Pa a\nText.\n", ""), listing, "a is in the tree"),
        (page, listing.replace("d/c 0444 text\n", ""), "d/c is in the page and not"),
        (page.replace("Pa a\nText.", "Pa a"), listing, "a stands in the page without"),
        (".Bl\n.El\n", "", "the table is empty"),
    ]
    wrong = 0
    for case_page, case_listing, wanted in cases:
        found = list(faults(case_page, case_listing))
        if (found != [] if wanted is None else len(found) != 1 or wanted not in found[0]):
            wrong += 1
            print(f"wanted {wanted!r}, got {found}")
    print(f"self-test: {len(cases) - wrong} right, {wrong} wrong")
    return 1 if wrong else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    with open(sys.argv[1], encoding="utf-8") as f:
        page = f.read()
    listing = subprocess.run([sys.argv[2], "--files"], check=True, text=True, timeout=60,
                             stdout=subprocess.PIPE).stdout
    found = list(faults(page, listing))
    for fault in found:
        print(fault)
    print(f"{len(listing.splitlines())} files, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
