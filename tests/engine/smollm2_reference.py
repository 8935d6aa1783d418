#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs test_smollm2_reference with SmolLM2-135M-Instruct, which it has fetched beforehand.

usage: smollm2_reference.py TEST FIXTURES MODEL

MODEL is fetched when it is not there (tests/smollm2.py). Where it cannot be there is nothing to compare: exit 77, with the
reason.
"""

import os
import subprocess
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import smollm2  # noqa: E402


def main():
    test, fixtures, model = sys.argv[1:]
    try:
        model = smollm2.model(model)
    except smollm2.Missing as e:
        print("skip: %s" % e)
        return 77
    return subprocess.run([test, model, fixtures]).returncode


if __name__ == "__main__":
    sys.exit(main())
