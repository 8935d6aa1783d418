#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Manual pages can be read in narrow windows.

usage: check_narrow.py PAGE...

groff 1.22 shortens the titles at both ends of a page's head until there is room for the volume's name
between them; where there is none even without them, it never ends. Each page is rendered at some
widths, as man(1) does it, within a time. Exit status: 77 where there is no nroff.
"""
import os
import re
import shutil
import signal
import subprocess
import sys

WIDTHS = (20, 40, 80)
SECONDS = 20


def rendered(page, width):
    """What nroff makes of it, or None: it did not end. nroff is a shell: all that it began is killed."""
    nroff = subprocess.Popen(
        ["nroff", "-Tutf8", "-mandoc", f"-rLL={width}n", f"-rLT={width}n", page],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        text = nroff.communicate(timeout=SECONDS)[0].decode()
        return re.sub(r"\x1b\[[0-9;]*m|.\x08", "", text)  # bold, in either way
    except subprocess.TimeoutExpired:
        os.killpg(nroff.pid, signal.SIGKILL)
        nroff.communicate()
        return None


def main(pages):
    faults = []
    for page in pages:
        for width in WIDTHS:
            text = rendered(page, width)
            if text is None:
                faults.append(f"{page}: nroff has not ended at {width} columns")
            elif "NAME" not in text or "SEE ALSO" not in text:
                faults.append(f"{page}: at {width} columns there is not all of it")
    print("\n".join(faults), end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if not shutil.which("nroff"):
        print("there is no nroff here")
        sys.exit(77)
    sys.exit(main(sys.argv[1:]))
