#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every kernel begins with device_begin(): one that does not would run before what it reads is written,
and a card would not say so. Before it there may stand declarations that read no memory, and calls of
load_weights(), which reads what no launch writes; whether it does is the emulator's to see
(tests/simt/race.c). Nothing else, and no way out: a thread that ended before it would let later kernels
begin too early. And only weights, w, may be __restrict__: all else may be written still by the kernel
before (engine/cuda/device.h).

One way out there is: a block of those that are there for nothing but to ask for weights ends before it,
by `if (ahead_load_weights_aside(aside)) return;` (engine/cuda/ahead_device.h). That other blocks of the
launch wait is the emulator's to see.

usage: check_kernels.py ROOT | --self-test
"""
import glob
import os
import re
import sys

BODY = re.compile(r"\n\{\n(.*?)\n\}", re.S)
SHARES = re.compile(r"DEVICE_SHARED\(\w+, \w+\)$")
DECLARES = re.compile(r"(const |typename )*[A-Za-z_][\w:<>]*[ *&]+\w[^(){}]*$")
LOADS = re.compile(r"(\w+\.(template )?load_weights(<\w+>)?|(\w+_)?load_weights(_by_all)?)\(")
ENDS = re.compile(r"if \(ahead_load_weights_aside\(\w+\)\) return$")
# A memory read, something that waits or meets, a way out, a change of something.
ACTS = re.compile(r"->|\b(__\w+|atomic\w*|cp_async\w*|return|while|for|goto|if|asm|reinterpret_cast)\b"
                  r"|\+\+|--|[^=<>!]=(?!=)")
INDEX = re.compile(r"[\w)\]]\s*\[")
STAR = re.compile(r"(^|[-=({,?:&|*+/%<>!~^]) *\*")  # *x, not a * b
CALL = re.compile(r"[\w>)\]]\s*[({]")
CAST = re.compile(r"\bstatic_cast<[\w ]+>(?=\()")
# What may be restricted (device.h): only weights, which are named so.
RESTRICTED = re.compile(r"__restrict__\s+(?!w\b)\w+")


def computes(value):
    """Whether an expression is made of indices and arguments alone."""
    value = CAST.sub("", value)
    return not (ACTS.search(value) or INDEX.search(value) or STAR.search(value) or CALL.search(value))


def closes(text):
    """Where the bracket ends with which the text begins."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "({[") - (c in ")}]")
        if depth == 0:
            return i
    return -1


def loads(statement):
    """Whether it is a call of load_weights() and nothing else."""
    if statement.startswith("if ("):
        end = closes(statement[3:]) + 3
        if not computes(statement[4:end]):
            return False
        statement = statement[end + 1:].strip()
    m = LOADS.match(statement)
    if not m or closes(statement[m.end() - 1:]) != len(statement) - m.end():
        return False
    return computes(statement[m.end():-1])


def declares(statement):
    """Whether it declares something, of what was known before."""
    declared, is_set, value = statement.partition("=")
    if SHARES.match(statement):
        return True
    if not DECLARES.match(declared.strip()) or ACTS.search(declared):
        return False
    # Each further declarator with a value of its own: commas outside of brackets.
    parts, depth = [""], 0
    for c in value:
        depth += (c in "({[") - (c in ")}]")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    for i, part in enumerate(parts if is_set else []):
        if i > 0:
            name, _, part = part.partition("=")
            if not re.match(r" ?[*&]?\w+( ?\[\w+\])? ?$", name):
                return False
        if not computes(part.strip()):
            return False
    return True


def begins(body):
    before, found, _ = body.partition("device_begin();")
    if not found or before.rpartition("\n")[2].strip():
        return False
    statements = (" ".join(s.split()) for s in before.split(";"))
    return all(not s or loads(s) or declares(s) or ENDS.match(s) for s in statements)


def faults(name, text):
    """A line for each kernel of a file that begins with something else."""
    out = []
    text = re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    for m in re.finditer(r"\b__global__\b", text):
        body = BODY.search(text, m.end())
        line = text.count("\n", 0, m.start()) + 1
        if not body or not begins(body.group(1)):
            out.append("%s:%d: a kernel that does not begin with device_begin()" % (name, line))
        if body and RESTRICTED.search(text, m.end(), body.start()):
            out.append("%s:%d: a kernel that restricts more than weights" % (name, line))
    return out


HEAD = "__global__ void a(const int *w, int *x)\n{\n"
GOOD = [
    "\tdevice_begin();\n\tx[0]++;\n}\n",
    "\tDEVICE_SHARED(float, s);\n\tunsigned i = threadIdx.x / 32, k = 3;\n\tfloat acc[4] = {};\n"
    "\tconst bool there[2] = {i < 3, i + 8 < 3};\n\tconst int *p = w + i * 2;\n\tpiece next;\n"
    "\tif (i < 3)\n\t\tnext.load_weights<true>(p, i);\n\tdevice_begin();\n\tx[0] = acc[0];\n}\n",
    "\tif (ahead_load_weights_aside(aside))\n\t\treturn;\n\tdevice_begin();\n\tx[0]++;\n}\n",
    "\tahead_load_weights_by_all(a.ahead);\n\tdevice_begin();\n\tx[0]++;\n}\n",
    "\tpiece p;\n\tsize_t at = static_cast<size_t>(blockIdx.x) * 8, b = at + (1 ? 0 : 8);\n"
    "\tif (at < b)\n\t\tp.template load_weights<early>(w + static_cast<size_t>(at) * 4, 1);\n"
    "\tdevice_begin();\n}\n",
]
BAD = [
    "\tx[0]++;\n}\n",
    "\tint y = x[0];\n\tdevice_begin();\n}\n",
    "\tint y = *x;\n\tdevice_begin();\n}\n",
    "\tx[0] = 1;\n\tdevice_begin();\n}\n",
    "\tif (threadIdx.x)\n\t\treturn;\n\tdevice_begin();\n}\n",
    "\tif (threadIdx.x)\n\t\tdevice_begin();\n}\n\n",
    "\tpiece next;\n\tnext.load(w);\n\tdevice_begin();\n}\n",
    "\tint y = __ldg(w);\n\tdevice_begin();\n}\n",
    "\t__syncthreads();\n\tdevice_begin();\n}\n",
    "\tfloat4 y = s->x;\n\tdevice_begin();\n}\n",
    "\tif (ahead_load_weights_aside(x[0]))\n\t\treturn;\n\tdevice_begin();\n}\n",
    "\tif (ahead_load_weights_aside(aside))\n\t\tx[0]++;\n\tdevice_begin();\n}\n",
    "\tif (ahead_is_aside(aside))\n\t\treturn;\n\tdevice_begin();\n}\n",
    "\tif (!ahead_load_weights_aside(aside))\n\t\treturn;\n\tdevice_begin();\n}\n",
    "\tahead_load_weights_by_all(f(x));\n\tdevice_begin();\n}\n",
] + ["\tpiece p;\n\t%s;\n\tdevice_begin();\n}\n" % early for early in (
    "int y(x[0])", "int y{x[0]}", "int y = first(x)", "int y = 3 * *x", "int y = 1, z(x[0])",
    "int y = 1, z = x[0]", "int y = {first(x)}", "int y = piece{x}.a", "int y = x[0] = 1", "int y = -*x",
    "p.load_weights(w), x[0] = f(1)", "p.load_weights(x[0])", "p.load_weights(*x)", "p.load_weights(f(x))",
    "if (x[0])\n\t\tp.load_weights(w)", "if (first(x))\n\t\tp.load_weights(w)", "p.load_weights(w) + f(1)")]


def self_test():
    bad = "/* __global__ */\ntemplate <int N>\n__global__ void b(int x)\n{\n\tx++;\n}\n"
    right = faults("x", HEAD + GOOD[0] + bad) == [
        "x:8: a kernel that does not begin with device_begin()"]
    right = right and not any(faults("x", HEAD + b) for b in GOOD)
    right = right and all(faults("x", HEAD + b) for b in BAD)
    right = right and not faults("x", HEAD.replace("int *w", "int *__restrict__ w") + GOOD[0])
    right = right and faults("x", HEAD.replace("int *x", "int *__restrict__ x") + GOOD[0])
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
