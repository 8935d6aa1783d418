#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The last lines of ./quickstart: how to read the manual page with man, with mandoc, or with neither.

usage: check_quickstart.py ROOT

The function that prints them is cut out of the script and run by sh with a PATH that has just the
commands of a case. Whatever command it names is then run as a person would type it, and has to
show the page: by programs that stand for man and mandoc, and by the real ones where they are.
Exit status: 0 all is well, 1 something is not.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

FUNCTIONS = ("say", "quoted", "how_to_read")
# Stands for a program of that name: takes its one option and a page, and shows the page.
FAKE = '#!/bin/sh\n[ "$#" -eq 2 ] && [ "$1" = %s ] || exit 9\nwhile read -r line; do echo "$line"; done < "$2"\n'


def function(script, name):
    found = re.search(r"^%s\(\) (\{.*?^\}|\{[^\n]*\})$" % name, script, re.S | re.M)
    assert found, "quickstart has no function " + name
    return found.group()


def directory_of(top, name, commands):
    """A PATH of the shell's needs, with those commands."""
    path = os.path.join(top, name)
    os.mkdir(path)
    os.symlink(shutil.which("sed"), os.path.join(path, "sed"))
    for command, text in commands.items():
        file = os.path.join(path, command)
        if text is None:
            os.symlink(shutil.which(command), file)
            continue
        with open(file, "w") as f:
            f.write(text)
        os.chmod(file, 0o755)
    return path


def run(text, path, **more):
    done = subprocess.run([shutil.which("sh"), "-euc", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=dict({"PATH": path, "LC_ALL": "C", "PAGER": "cat", "MANPAGER": "cat"}, **more))
    assert done.returncode == 0, (text[-200:], done.stderr)
    return done.stdout.decode(errors="replace")


def says(functions, pages, path):
    return run("%s\nhow_to_read \"$PAGES\"\n" % functions, path, PAGES=pages).splitlines()


def check_named(functions, pages, top, command, option):
    """The one line that is printed is a command, and shows the page where the command is one that
    stands for it."""
    path = directory_of(top, command, {command: FAKE % option})
    lines = says(functions, pages, path)
    assert len(lines) == 1 and lines[0].split()[:2] == [command, option], lines
    shown = run(lines[0], path)
    assert ".Dt LLMFS-FILES 7" in shown, (lines, shown[:80])


def check_real(functions, pages, top, command):
    """The same with the program itself, which knows the option."""
    if not shutil.which(command):
        print("%s is not here: only a stand-in was asked" % command)
        return
    path = directory_of(top, "real-" + command, {command: None})
    line = says(functions, pages, path)[0]
    try:
        shown = run(line, os.environ["PATH"])
    except AssertionError as e:
        if "minimized" in str(e):  # a stub in containers, which says how to get the real one
            print("%s is a stub here" % command)
            return
        raise
    shown = re.sub(r".\x08|\x1b\[[0-9;]*m", "", shown)
    assert "the files of an llmfs mount" in shown, (line, shown[:300])


def check_first(functions, pages, top):
    path = directory_of(top, "both", {"man": FAKE % "-l", "mandoc": FAKE % "-a"})
    assert says(functions, pages, path)[0].split()[0] == "man"


def check_neither(functions, pages, top):
    """Which package has man; what follows is right once it is there."""
    lines = says(functions, pages, directory_of(top, "neither", {}))
    assert len(lines) == 2 and lines[0].split()[:3] == ["apt-get", "install", "man-db"], lines
    assert "root" in lines[0], lines
    shown = run(lines[1], directory_of(top, "later", {"man": FAKE % "-l"}))
    assert ".Dt LLMFS-FILES 7" in shown, lines


def main(root):
    with open(os.path.join(root, "quickstart")) as f:
        script = f.read()
    functions = "\n".join(function(script, name) for name in FUNCTIONS)
    assert re.search(r"^how_to_read ", script, re.M), "quickstart does not call it"
    page = os.path.join(root, "docs", "man", "llmfs-files.7")
    for name in ("plain", "with blanks, a 'quote' and $HOME"):
        with tempfile.TemporaryDirectory(prefix="llmfs-quickstart-") as top:
            pages = os.path.join(top, name)
            os.mkdir(pages)
            shutil.copy(page, pages)
            check_named(functions, pages, top, "man", "-l")
            check_named(functions, pages, top, "mandoc", "-a")
            check_real(functions, pages, top, "man")
            check_real(functions, pages, top, "mandoc")
            check_first(functions, pages, top)
            check_neither(functions, pages, top)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
