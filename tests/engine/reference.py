#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a test that compares a real model with what a library computes of it, and fetches the model beforehand.

usage: reference.py minilm|smollm2 TEST FIXTURES MODEL

MODEL is fetched when it is not there (tests/real_models.py). Where it cannot be there is nothing to compare: exit 77,
with the reason.
"""

import os
import subprocess
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import real_models  # noqa: E402


def main():
    which, test, fixtures, model = sys.argv[1:]
    model = real_models.or_skip({"minilm": real_models.minilm, "smollm2": real_models.smollm2}[which], model)
    return subprocess.run([test, model, fixtures]).returncode


if __name__ == "__main__":
    sys.exit(main())
