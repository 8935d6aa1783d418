#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks a mounted llmfs for verdicts and puts beside them numpy's from the file and PyTorch's from the checkpoint.

    python compare.py --binary ../../build/llmfs [--checkpoint ../../build-judge/last.pt] [-n 20]

Exit status 1 when llmfs answers a text otherwise than the file's own arithmetic says. Texts on which the two
first words are as good as equally likely (a difference below 0.01) are not counted: sums in another order may turn them.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from evaluate import FILE, Judge, heldout
from form import prompt


def ask(mount, text):
    fd = os.open(mount / "models" / "judge" / "ask", os.O_RDWR)
    try:
        data = (text + "\n").encode()
        while data:
            data = data[os.write(fd, data):]
        out = b""
        while piece := os.read(fd, 4096):
            out += piece
    finally:
        os.close(fd)
    return out.decode().strip()


class Mount:
    """llmfs with this one model, on a private mount point."""

    def __init__(self, binary, file):
        self.binary, self.file = binary, file

    def __enter__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="judge-compare-")
        top = pathlib.Path(self.dir.name)
        model = top / "tree" / "models" / "judge"
        model.mkdir(parents=True)
        shutil.copy(self.file, model / "judge.gguf")
        (model / "path").write_text("judge.gguf\n")
        (top / "tree" / "models" / "default").symlink_to("judge")
        self.at = top / "mnt"
        self.at.mkdir()
        subprocess.run([self.binary, top / "tree", self.at, "-o", f"state={top}/state"], check=True)
        return self.at

    def __exit__(self, *_):
        subprocess.run(["fusermount3", "-u", self.at], check=False)
        time.sleep(0.3)
        self.dir.cleanup()


class Checkpoint:
    def __init__(self, path):
        import torch
        from model import Config, Guide
        self.torch = torch
        torch.set_num_threads(1)
        ck = torch.load(path, weights_only=False)
        self.net = Guide(Config(**ck["cfg"])).eval()
        self.net.load_state_dict(ck["net"])

    def p(self, ids, token):
        with self.torch.no_grad():
            return float(self.net(self.torch.tensor([ids]))[0, -1].softmax(-1)[token])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--binary", default="../../build/llmfs")
    ap.add_argument("--gguf", default=FILE)
    ap.add_argument("--checkpoint")
    ap.add_argument("-n", type=int, default=20)
    a = ap.parse_args()
    judge, torch_side = Judge(a.gguf), a.checkpoint and Checkpoint(a.checkpoint)
    entries = heldout()
    step = max(len(entries) // a.n, 1)
    differ, apart = 0, 0.0
    with Mount(a.binary, a.gguf) as mount:
        for e in entries[::step][:a.n]:
            user, agent = e["user"], e.get("agent")
            first = judge.first(user, agent)
            p, q = float(first[judge.unsafe]), float(first[judge.safe])
            said = ask(mount, prompt(user, agent))
            want = "safe" if q > p else "unsafe"
            same = said.split("\n")[0] == want or abs(p - q) < 0.01
            differ += not same
            line = f"{'same ' if same else 'DIFFER'} llmfs {said!r:16} numpy p(unsafe) {p:.4f} p(safe) {q:.4f}"
            if torch_side:
                t = torch_side.p(judge.ids(user, agent), judge.unsafe)
                apart = max(apart, abs(t - p))
                line += f" PyTorch p(unsafe) {t:.4f}"
            print(line, e["id"])
    print(f"{differ} of {a.n} differ" + (f"; greatest distance of p(unsafe), PyTorch to file: {apart:.4f}" if torch_side else ""))
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
