#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/fixtures/quant: blocks of quantised types and the f32 values that the package `gguf` (an
independent implementation in numpy) reads in them.

usage: python3 tests/reference/make_quant_fixtures.py   (needs numpy and gguf 0.17 or later)

A file is, for each block, its bytes and then its 32 or 256 values. The bytes are random, so that every bit
of a block counts; only the binary16 scales are kept finite.
"""
import pathlib

import gguf
import numpy as np

N_BLOCKS = 4
TYPES = {  # values and bytes of a block, where the binary16 numbers lie
    "Q4_K": (256, 144, (0, 2)),
    "Q5_K": (256, 176, (0, 2)),
    "Q6_K": (256, 210, (208,)),
    "Q4_1": (32, 20, (0, 2)),
    "Q5_0": (32, 22, (0,)),
    "Q5_1": (32, 24, (0, 2)),
}


def main():
    out = pathlib.Path(__file__).parent.parent / "fixtures" / "quant"
    out.mkdir(exist_ok=True)
    random = np.random.default_rng(20261126)
    for name, (n_values, size, halves) in TYPES.items():
        blocks = random.integers(0, 256, (N_BLOCKS, size), dtype=np.uint8)
        for i, block in enumerate(blocks):
            for at in halves:  # a subnormal one, a negative one, a large one, a usual one
                half = np.float16([3e-6, -0.01, 123.0, 0.002][(i + at) % 4])
                block[at : at + 2] = np.frombuffer(half.tobytes(), dtype=np.uint8)
        kind = gguf.GGMLQuantizationType[name]
        values = gguf.quants.dequantize(blocks, kind).astype("<f4")
        assert values.shape == (N_BLOCKS, n_values)
        with open(out / f"{name.lower()}.bin", "wb") as f:
            for block, row in zip(blocks, values):
                f.write(block.tobytes())
                f.write(row.tobytes())


main()
