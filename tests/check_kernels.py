#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every kernel begins with device_begin(): one that does not would run before what it reads is written,
and neither the emulator nor a card would say so.

usage: check_kernels.py ROOT | --self-test
"""
import glob
import os
import re
import sys

BODY = re.compile(r"\n\{\n(\s*\S[^\n]*)")


def faults(name, text):
    """A line for each kernel of a file that begins with something else."""
    out = []
    text = re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    for m in re.finditer(r"\b__global__\b", text):
        body = BODY.search(text, m.end())
        if not body or body.group(1).strip() != "device_begin();":
            out.append("%s:%d: a kernel that does not begin with device_begin()" % (
                name, text.count("\n", 0, m.start()) + 1))
    return out


def self_test():
    good = "__global__ void a(int x)\n{\n\tdevice_begin();\n\tx++;\n}\n"
    bad = "/* __global__ */\ntemplate <int N>\n__global__ void b(int x)\n{\n\tx++;\n}\n"
    right = not faults("x", good) and faults("x", good + bad) == [
        "x:8: a kernel that does not begin with device_begin()"]
    print("self-test:", "right" if right else "wrong")
    return 0 if right else 1


def main(arg):
    if arg == "--self-test":
        return self_test()
    n, wrong = 0, []
    for path in sorted(glob.glob(arg + "/engine/cuda/*.cu") + glob.glob(arg + "/tests/simt/*.cu")):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        n += len(re.findall(r"\b__global__\b", text))
        wrong += faults(os.path.relpath(path, arg), text)
    print("\n".join(wrong + ["%d kernels, %d wrong" % (n, len(wrong))]))
    return 1 if wrong or not n else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
