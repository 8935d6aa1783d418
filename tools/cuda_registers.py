#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each kernel takes of the card: registers, shared memory, spills, by architecture.

usage: cuda_registers.py [--hot FILE] [--all] BUILD_FOLDER
       cuda_registers.py --self-test

Reads what ptxas said while BUILD_FOLDER was compiled (-Dcuda=enabled). Prints one line a kernel, the
worst architecture of each number, or with --all one line a kernel and architecture. A spill is
marked; one in a hot kernel (FILE has the beginning of a name a line; without it
engine/cuda/hot_kernels) makes the exit status 1, and so does a name in FILE that no kernel has.
"""
import argparse
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile

ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)\w*'")
SPILL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
HOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../engine/cuda/hot_kernels")


def logs(folder):
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".o.ptxas"):
                yield os.path.join(where, name)


def read(path):
    """One dictionary a kernel and architecture."""
    kernel = None
    with open(path, encoding="utf-8") as log:
        for line in log:
            if match := ENTRY.search(line):
                kernel = {"symbol": match[1], "arch": int(match[2]), "stack": 0, "spill": 0,
                          "registers": 0, "shared": 0,
                          "file": os.path.basename(path)[:-len(".o.ptxas")]}
            elif kernel and (match := SPILL.search(line)):
                kernel["stack"] = int(match[1])
                kernel["spill"] = int(match[2]) + int(match[3])
            elif kernel and (match := USED.search(line)):
                kernel["registers"] = int(match[1])
                shared = SHARED.search(line)
                kernel["shared"] = int(shared[1]) if shared else 0
                yield kernel
                kernel = None


def names_of(symbols):
    """Readable: "attention_decode<128, unsigned short>"."""
    try:
        shown = subprocess.run(["c++filt"], input="\n".join(symbols), text=True,
                               capture_output=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        shown = symbols
    names = {}
    for symbol, name in zip(symbols, shown):
        name = re.sub(r"^void ", "", re.sub(r"\(anonymous namespace\)::", "", name))
        depth = 0
        for i, c in enumerate(name):  # up to the parameters
            depth += (c == "<") - (c == ">")
            if c == "(" and depth == 0:
                name = name[:i]
                break
        names[symbol] = name
    return names


def worst(kernels):
    """Over the architectures."""
    merged = {}
    for k in kernels:
        m = merged.setdefault((k["file"], k["symbol"]), dict(k, arch=[]))
        m["arch"].append(k["arch"])
        for field in ("registers", "shared", "stack", "spill"):
            m[field] = max(m[field], k[field])
    return list(merged.values())


def arch_of(k):
    return str(k["arch"]) if isinstance(k["arch"], int) else ",".join(map(str, sorted(k["arch"])))


def report(folder, hot_file, every):
    kernels = [k for path in logs(folder) for k in read(path)]
    if not kernels:
        print(f"no kernels in {folder}: was it built with -Dcuda=enabled?")
        return 1
    names = names_of(sorted({k["symbol"] for k in kernels}))
    with open(hot_file, encoding="utf-8") as f:
        hot = [line.split("#")[0].strip() for line in f]
    hot = [h for h in hot if h]
    rows = sorted(kernels if every else worst(kernels),
                  key=lambda k: (k["file"], names[k["symbol"]], arch_of(k)))
    bad = 0
    print(f"{'registers':>9} {'shared':>7} {'stack':>6} {'spills':>7}  kernel")
    for k in rows:
        name = names[k["symbol"]]
        is_hot = any(name.startswith(h) for h in hot)
        mark = ("  SPILLS" if is_hot else "  spills") if k["spill"] else ""
        bad += is_hot and k["spill"] > 0
        print(f"{k['registers']:9} {k['shared']:7} {k['stack']:6} {k['spill']:7}  "
              f"{name} [{k['file']}, sm {arch_of(k)}]{mark}")
    unknown = [h for h in hot if not any(n.startswith(h) for n in names.values())]
    for h in unknown:
        print(f"{hot_file} names {h}, which is no kernel")
    print(f"{len(rows)} lines, {bad} hot ones that spill")
    return 1 if bad or unknown else 0


SAMPLE = """ptxas info    : Compiling entry function '_Z3onePf' for 'sm_90'
ptxas info    : Function properties for _Z3onePf
    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 20 registers, used 1 barriers, 16 bytes smem, 372 bytes cmem[0]
ptxas info    : Compiling entry function '_Z3onePf' for 'sm_80'
ptxas info    : Function properties for _Z3onePf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers
"""


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "a.cu.o.ptxas"), "w", encoding="utf-8") as f:
            f.write(SAMPLE)
        for text, status in (("one\n", 1), ("two\n", 1), ("# none\n", 0)):
            hot = os.path.join(folder, "hot")
            with open(hot, "w", encoding="utf-8") as f:
                f.write(text)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                got = report(folder, hot, False)
            if got != status or not re.search(r"^ +32 +16 +8 +8 +one ", out.getvalue(), re.M):
                print(f"hot list {text!r}: exit status {got}, wanted {status}\n{out.getvalue()}")
                return 1
        with contextlib.redirect_stdout(io.StringIO()):
            if report(os.path.join(folder, "none"), HOT, False) != 1:
                return 1
    print("the self-test passed")
    return 0


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1])
    parser.add_argument("--hot", default=HOT)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("folder", nargs="?")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not options.folder:
        parser.error("which build folder?")
    return report(options.folder, options.hot, options.all)


if __name__ == "__main__":
    sys.exit(main())
