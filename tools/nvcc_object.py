#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles one .cu file into one object for all architectures.

usage: nvcc_object.py --nvcc NVCC --arch 80,90 --depfile FILE.d [NVCC OPTION...] SOURCE OBJECT

What ptxas says of each kernel (registers, shared memory, spills) goes to OBJECT.ptxas, for
tools/cuda_registers.py, and is shown only when the compilation fails. The last architecture's PTX is
in the object too, for cards that come later. $NVCC_LAUNCHER (ccache, say) is put before the compiler.
"""
import argparse
import os
import subprocess
import sys


def command_of(options, rest):
    archs = sorted({int(a) for a in options.arch.split(",")})
    command = os.environ.get("NVCC_LAUNCHER", "").split() + [options.nvcc]
    for arch in archs:
        command += ["-gencode", f"arch=compute_{arch},code=sm_{arch}"]
    command += ["-gencode", f"arch=compute_{archs[-1]},code=compute_{archs[-1]}"]
    command += ["-Xptxas", "-v", "-MD", "-MF", options.depfile]
    return command + rest + ["-c", options.source, "-o", options.object]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nvcc", required=True)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--depfile", required=True)
    options, rest = parser.parse_known_args()
    options.source, options.object, rest = rest[-2], rest[-1], rest[:-2]
    done = subprocess.run(command_of(options, rest), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    with open(options.object + ".ptxas", "w", encoding="utf-8") as log:
        log.write(done.stdout)
    if done.returncode:
        sys.stdout.write("".join(line for line in done.stdout.splitlines(keepends=True)
                                 if not line.startswith("ptxas info") and "bytes stack" not in line))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
