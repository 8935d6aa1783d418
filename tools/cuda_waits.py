#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What kernels read before they wait for the one before them, in machine code.

usage: cuda_waits.py [--cuobjdump PROGRAM] BUILD_FOLDER
       cuda_waits.py --self-test

device_begin() stands first in the source (tests/check_kernels.py), but compilers move loads across it
that they take for constants: activations that are read too early are wrong now and then, weights that
are asked for too late are slow. Disassembles every .cu.o in BUILD_FOLDER (-Dcuda=enabled) and looks at
each kernel for sm_90 and later: kernels that are to ask for weights early (EARLY) must do so for all of
their first piece, and touch no other memory before the wait; no other kernel may touch any. An early load
of weights is one that leaves no line in the L1 cache and is not of the path for constants (.NA;
cuda_product_stream_early()): nothing else in the source becomes that. Kernels that ask for weights of
the next product (ahead_device.h) must do it where they are meant to: before the wait (ASKS_EARLY), or,
products, behind it; no others may. cuobjdump and nvdisasm, which it calls, come with the whole toolkit, or from PyPI as nvidia-cuda-cuobjdump and
nvidia-cuda-nvdisasm. Exit status 77 without them.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

# Kernels that ask for weights early and for how many bytes of them a lane does, at least: gemv<TENSOR_...,
# ODD, TAIL> of gemv_q.cu, as many as head and steps of a chunk have (chunk_device.h); gemv<cuda_type, END>
# of gemv.cu, a piece. Bytes and not loads: for sm_100 ptxas makes one of the two halves of what lies together.
EARLY = [(re.compile("_Z4gemvIL%sEL" % of), n) for of, n in
         (("i8", 80), ("i2", 48), ("i3", 64), ("i7", 72), ("i12", 104), ("i13", 120), ("i14", 132),
          (r"9cuda_type\d+", 128))]
# Kernels that ask for weights of the next product.
ASKS_EARLY = re.compile(r"_Z\d+(norm|rope|embed|plain|scaled|decode)_kernel|_Z11sample_best")
ASKS_LATE = re.compile(r"_Z4gemvI|_Z8gemv_f32I")
ASK = re.compile(r"UBLKPF(\.|$)")
ARCH = re.compile(r"code for sm_(\d+)")
FUNCTION = re.compile(r"Function : (\S+)")
CODE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+ )?([A-Z][\w.]*)")
WAIT = "ACQBULK"
MEMORY = re.compile(r"(LDG|LD|LDGSTS|STG|ST|ATOM|ATOMG|RED|REDG|UBLKCP|UTMALDG)(\.|$)")
WEIGHTS = re.compile(r"LDG\.(?!.*CONSTANT)(.*\.)?NA(\.|$)")
WIDTH = re.compile(r"\.(64|128|256)(\.|$)")


def kernels(lines):
    """(arch, name, before the wait: [bytes of weights, other accesses], asks ahead: [before it, behind it];
    None: it does not wait)."""
    arch, name, early, asks, waits = 0, None, [0, 0], [0, 0], False
    for line in lines:
        new_arch, new_name, code = ARCH.search(line), FUNCTION.search(line), CODE.match(line)
        if new_arch or new_name:
            if name:
                yield arch, name, (early, asks) if waits else None
            name, waits = (new_name.group(1) if new_name else None), False
            early, asks = [0, 0], [0, 0]
            arch = int(new_arch.group(1)) if new_arch else arch
        elif name and code and ASK.match(code.group(1)):
            asks[waits] += 1
        elif name and code and not waits:
            waits = code.group(1) == WAIT
            if WEIGHTS.match(code.group(1)):
                width = WIDTH.search(code.group(1))
                early[0] += int(width.group(1)) // 8 if width else 4
            elif MEMORY.match(code.group(1)):
                early[1] += 1
    if name:
        yield arch, name, (early, asks) if waits else None


def verdict(name, found):
    if found is None:
        return "does not wait for the kernel before it"
    (weights, others), asks = found
    early, late = bool(ASKS_EARLY.match(name)), bool(ASKS_LATE.match(name))
    if [n > 0 for n in asks] != [early, late]:
        return "asks ahead %d times before it waits and %d times behind that" % tuple(asks)
    least = next((n for which, n in EARLY if which.match(name)), None)
    if least is None and name.startswith("_Z4gemvI"):
        return "is a gemv of which EARLY says nothing"
    if least is None or others:
        if others:
            return "makes %d accesses to memory before it waits" % others
        return "asks for %d bytes of weights before it waits" % weights if weights else None
    if weights < least:
        return "asks for %d of %d bytes of weights before it waits" % (weights, least)
    return None


def check(program, folder):
    n, wrong = 0, 0
    for where, folders, names in os.walk(folder):
        folders.sort()
        for file in sorted(f for f in names if f.endswith(".cu.o")):
            done = subprocess.run([program, "-sass", os.path.join(where, file)], text=True, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if done.returncode:
                print(file + ": " + done.stderr.strip())
                return 77 if "nvdisasm" in done.stderr else 1
            for arch, name, found in kernels(done.stdout.splitlines()):
                if arch < 90:
                    continue
                n += 1
                why = verdict(name, found)
                if why:
                    wrong += 1
                    print("%s: %s for sm_%d %s" % (file, name, arch, why))
    print("%d kernels for sm_90 and later, %d wrong" % (n, wrong))
    return 1 if wrong or not n else 0


# The arguments of gemv, what is done before the wait, whether that is right.
WEIGHT = "@!P0 LDG.E.NA.128"
GEMVS = [
    ("L9cuda_type2EL", [WEIGHT] * 8 + ["LDS"], True),
    ("Li2EL", ["LDG.E.NA.128"] * 3, True),
    ("Li12EL", ["LDG.E.NA.128"] * 6 + ["LDG.E.NA.64"], True),
    ("Li13EL", ["LDG.E.NA.64"] + ["LDG.E.NA.128"] * 7, True),  # two of 8 bytes in one
    ("Li13EL", ["LDG.E.NA.64"] * 2 + ["LDG.E.NA.128"] * 6, False),  # one of them behind the wait
    ("Li14EL", ["LDG.E.NA"] + ["LDG.E.NA.128"] * 8, True),
    ("Li14EL", ["LDG.E.NA"] * 4 + ["LDG.E.NA.128"] * 7, False),
    ("L9cuda_type2EL", [], False),
    ("L9cuda_type2EL", [WEIGHT] * 7, False),  # one came to stand behind the wait
    ("Li2EL", [WEIGHT] * 2, False),
    ("Li2EL", [WEIGHT] * 2 + ["LDG.E.NA.128.CONSTANT"], False),
    ("L9cuda_type2EL", [WEIGHT] * 8 + ["LDG.E.128"], False),  # activations
    ("L9cuda_type2EL", [WEIGHT] * 8 + ["@P1 LDG.E.128.CONSTANT"], False),
    ("L9cuda_type2EL", [WEIGHT] * 8 + ["STG.E"], False),
    ("L9cuda_type2EL", [WEIGHT] * 8 + ["ATOMG.E.ADD"], False),
    ("L9cuda_type2EL", [WEIGHT] * 8 + ["REDG.E.ADD"], False),
    ("Li77EL", [WEIGHT] * 9, False),
]
PLAIN = [([], True), (["LDG.E.CONSTANT"], False), ([WEIGHT], False), (["ST.E"], False), (None, False)]


# The same, and what is done behind it, of the kernels' own names.
ASK_SAMPLE = "@!UP0 UBLKPF.L2"
ASKERS = [
    ("_Z11norm_kernelIL9cuda_type4ELi8EEv", ["EXIT", ASK_SAMPLE, "EXIT"], [], True),
    ("_Z11norm_kernelIL9cuda_type4ELi8EEv", [], [], False),
    ("_Z11norm_kernelIL9cuda_type4ELi8EEv", [], [ASK_SAMPLE], False),
    ("_Z11norm_kernelIL9cuda_type4ELi8EEv", [ASK_SAMPLE, "LDG.E"], [], False),
    ("_Z11sample_best12sample_state", [ASK_SAMPLE], [], True),
    ("_Z8gemv_f32ILi1EEv", [], [ASK_SAMPLE], True),
    ("_Z8gemv_f32ILi1EEv", [ASK_SAMPLE], [ASK_SAMPLE], False),
    ("_Z13gather_kernelIjEv", [ASK_SAMPLE], [], False),
]


def sample(name, before, behind=()):
    """The machine code of a kernel; before: None, it does not wait."""
    end = ["ACQBULK", "LDG.E"] + list(behind) + ["STG.E", "EXIT"]
    code = ["S2R"] + (["EXIT"] if before is None else before + end)
    return ["\t\tFunction : " + name] + [
        "        /*%04x*/ %24s R1, desc[UR4][R2.64] ;" % (16 * i, c) for i, c in enumerate(code)]


def self_test():
    lines, right = ["\tcode for sm_80"] + sample("_Z5plainPi", ["LDG.E"]) + ["\tcode for sm_90"], []
    for of, before, good in GEMVS:
        lines += sample("_Z4gemvI%sb1EEvi" % of, before, [ASK_SAMPLE])
        right.append(good)
    for before, good in PLAIN:
        lines += sample("_Z5plainPi", before)
        right.append(good)
    for name, before, behind, good in ASKERS:
        lines += sample(name, before, behind)
        right.append(good)
    found = [verdict(n, e) is None for a, n, e in kernels(lines) if a >= 90]
    wrong = [i for i, (f, r) in enumerate(zip(found, right)) if f != r]
    print("self-test:", "right" if found == right else "wrong: %s of %d" % (wrong, len(found)))
    return 0 if found == right else 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--cuobjdump", default=shutil.which("cuobjdump"))
    parser.add_argument("folder", nargs="?")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not options.folder:
        parser.error("BUILD_FOLDER is missing")
    if not options.cuobjdump:
        print("there is no cuobjdump")
        return 77
    return check(options.cuobjdump, options.folder)


if __name__ == "__main__":
    sys.exit(main())
