#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs test_embed_reference with all-MiniLM-L6-v2, which it has made beforehand.

usage: embed_reference.py TEST FIXTURES MODEL

MODEL is made when it is not there (tests/minilm.py). Where it cannot be there is nothing to compare: exit 77, with the
reason.
"""

import os
import subprocess
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import minilm  # noqa: E402


def main():
    test, fixtures, model = sys.argv[1:]
    try:
        model = minilm.model(model)
    except minilm.Missing as e:
        print("skip: %s" % e)
        return 77
    return subprocess.run([test, model, fixtures]).returncode


if __name__ == "__main__":
    sys.exit(main())
