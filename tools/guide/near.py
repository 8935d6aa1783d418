# SPDX-License-Identifier: Apache-2.0
"""Lines of data/ that come near a held-out question: they are taken out before anything is trained.

    python near.py [--share 0.55] data/20-later.txt ...

Each line is expanded many times, without noise; near is what shares that part of its words with a
question, common words left out. Questions of heldout.jsonl are not printed: their author wrote them
so that the author of the data does not know them. Exit status 1 when something is near.
"""
import argparse
import glob
import json
import os
import random
import re
import sys

from corpus import HERE, Corpus, top_split

COMMON = set("the a an of to do does i is are my in for it with on can that and how what which be".split())


def words(text):
    return {w for w in re.findall(r"[a-z0-9_/]+", text.lower()) if w not in COMMON}


def questions():
    """[(id, question, its words, whether it may be shown)]"""
    out = []
    for path in sorted(glob.glob(os.path.join(HERE, "heldout*.jsonl"))):
        for line in open(path, encoding="utf-8"):
            e = json.loads(line)
            out.append((e["id"], e["q"], words(e["q"]), not path.endswith("heldout.jsonl")))
    return out


def lines(path):
    for raw in open(path, encoding="utf-8"):
        kind, text = raw[:1], raw[2:].strip()
        if raw[1:2] == ":" and kind in "QVNSERB":
            yield from ((kind, part) for part in (top_split(text) if kind in "NEB" else [text]))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("files", nargs="+")
    ap.add_argument("--share", type=float, default=0.55)
    ap.add_argument("--samples", type=int, default=120)
    a = ap.parse_args()
    corpus, rng, asked, near = Corpus(holdout=False), random.Random(3), questions(), {}
    for path in a.files:
        for kind, text in lines(path):
            for _ in range(a.samples):
                phrase = corpus.phrase(kind, text, rng)
                mine = words(phrase)
                for name, q, theirs, shown in asked:
                    share = len(mine & theirs) / max(1, len(mine | theirs))
                    if share >= a.share and share > near.get((path, text, name), (0,))[0]:
                        near[path, text, name] = share, phrase, q if shown else "(not shown)"
    for (path, text, name), (share, phrase, q) in sorted(near.items(), key=lambda x: -x[1][0]):
        print(f"{share:.2f} {name} {os.path.basename(path)} | {phrase} | {q}\n     {text}")
    return 1 if near else 0


if __name__ == "__main__":
    sys.exit(main())
