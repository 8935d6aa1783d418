#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How good the judge is, from its GGUF file, in plain numpy (tools/guide/readback.py).

    python evaluate.py                        # the held-out list (heldout.jsonl)
    python evaluate.py --guide                # false positives on guide's questions and answers that were not trained on
    python evaluate.py --around 400           # the held-out texts, each somewhere within so many words of harmless talk
    python evaluate.py --lines 600            # texts of the corpus's held-out lines
    python evaluate.py --paragraphs FILE...   # harmless prose: each paragraph as a user's and as an agent's text
    python evaluate.py --say "a text" ["an agent's text"]

A text is unsafe when the probability of the answer's first token being `unsafe` reaches the threshold.
"""
import argparse
import collections
import json
import os
import random

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")      # more only wait for one another on a busy machine

import numpy as np                # noqa: E402

import texts                      # noqa: E402  also makes tools/guide importable
from form import CATEGORIES, prompt      # noqa: E402

import corpus as guide            # noqa: E402
from readback import Model        # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
GUIDE = os.path.join(HERE, "..", "guide")
FILE = os.path.join(HERE, "..", "..", "mnt-example", "models", "judge", "judge.gguf")


class Judge:
    def __init__(self, path):
        self.m = Model(path)
        names = self.m.kv["tokenizer.ggml.tokens"]
        self.start, self.end, self.safe, self.unsafe = (names.index(x) for x in ("<|im_start|>", "<|im_end|>", "safe", "unsafe"))

    def ids(self, user, agent=None):
        enc = lambda s: self.m.tok.encode(s, add_special_tokens=False).ids
        return [self.start] + enc("user\n" + prompt(user, agent)) + [self.end] + enc("\n") + [self.start] + enc("assistant\n")

    def first(self, user, agent=None):
        """Probabilities of all tokens as the answer's first."""
        x = self.m.logits(self.ids(user, agent)).astype(np.float64)
        x = np.exp(x - x.max())
        return x / x.sum()

    def p(self, user, agent=None):
        return float(self.first(user, agent)[self.unsafe])

    def categories(self, user, agent=None):
        """What it names when it is made to say `unsafe`."""
        ids, out = self.ids(user, agent), [self.unsafe]
        while len(out) < 12 and out[-1] != self.end:
            out.append(int(self.m.logits(ids + out).argmax()))
        return self.m.tok.decode(out[1:-1]).strip().split(",")


def share(n, of):
    return f"{n}/{of} = {n / of:.1%}" if of else "none"


def judged(judge, entries):
    return [(e, judge.p(e["user"], e.get("agent"))) for e in entries]


def report(judge, seen, threshold, others):
    safe = [(e, p) for e, p in seen if e["verdict"] == "safe"]
    bad = [(e, p) for e, p in seen if e["verdict"] != "safe"]
    for t in sorted({threshold, *others}):
        fp, fn = sum(p >= t for _, p in safe), sum(p < t for _, p in bad)
        print(f"threshold {t}: accuracy {share(len(seen) - fp - fn, len(seen))}; false positives {share(fp, len(safe))}; "
              f"false negatives {share(fn, len(bad))}")
    for role in ("user", "agent"):
        print(f"at {threshold}, {role}: false positives {share(sum(p >= threshold for e, p in safe if e['role'] == role), sum(e['role'] == role for e, _ in safe))}; "
              f"false negatives {share(sum(p < threshold for e, p in bad if e['role'] == role), sum(e['role'] == role for e, _ in bad))}")
    for kind in sorted({e["kind"] for e, _ in safe}):
        of = [p for e, p in safe if e["kind"] == kind]
        print(f"at {threshold}, safe texts ({kind}): false positives {share(sum(p >= threshold for p in of), len(of))}")
    named = 0
    for code, title in CATEGORIES.items():
        of = [(e, p) for e, p in bad if e["kind"] == code]
        found = [e for e, p in of if p >= threshold]
        right = sum(code in judge.categories(e["user"], e.get("agent")) for e in found)
        named += right
        if of:
            print(f"at {threshold}, {code} {title}: false negatives {share(len(of) - len(found), len(of))}; of {len(found)} found {right} named so")
    print(f"of the unsafe texts found at {threshold}, the right category is named for {share(named, sum(p >= threshold for _, p in bad))}")


def heldout():
    return [json.loads(line) for line in open(os.path.join(HERE, "heldout.jsonl"), encoding="utf-8")]


def heldout_within(words):
    corpus, rng, out = texts.Texts(), random.Random(13), heldout()
    for e in out:
        part = "agent" if e["role"] == "agent" else "user"
        e[part] = corpus.around(e[part], words, rng)
    return out


def of_lines(n):
    """Texts made of lines that the judge was not trained on."""
    corpus, rng, out = texts.Texts(held=True), random.Random(11), []
    have = {r: [c for c in corpus.codes if corpus.lines[c].get("A" if r == "agent" else "U")] for r in ("user", "agent")}
    while len(out) < n:
        role = rng.choice(["user", "agent"])
        code = rng.choice(have[role]) if rng.random() < 0.5 else "safe"
        e = {"role": role, "verdict": "safe" if code == "safe" else "unsafe", "kind": code}
        try:
            if role == "user":
                e["user"] = corpus.user(code, rng)
            else:
                e["user"], e["agent"] = corpus.agent(code, rng)
        except (KeyError, IndexError):      # this section has no held-out line of that letter
            continue
        out.append(e)
    return out


def of_guide(n):
    """Harmless texts about llmfs and this and that that the judge was not trained on: {name: [(user, agent)]}."""
    c, rng = guide.Corpus(), random.Random(5)
    out = collections.defaultdict(list)
    for line in open(os.path.join(GUIDE, "heldout.jsonl"), encoding="utf-8"):
        out["tools/guide/heldout.jsonl, questions"].append((json.loads(line)["q"], None))
    for line in open(os.path.join(GUIDE, "dev.txt"), encoding="utf-8"):
        if not line.startswith("#") and "|" in line:
            out["tools/guide/dev.txt, questions"].append((line.rsplit("|", 1)[0].strip(), None))
    for turn in open(os.path.join(GUIDE, "filler.txt"), encoding="utf-8").read().split("\n\n"):
        out["tools/guide/filler.txt, paragraphs as a user's"].append((turn.strip(), None))
        out["tools/guide/filler.txt, paragraphs as an agent's"].append(("Tell me something.", turn.strip()))
    held = texts.Texts(held=True).documents
    out["sentences of the project's documents, as an agent's"] = [("Tell me more.", d) for d in rng.sample(held, min(150, len(held)))]
    lines = guide.validation(c)
    rng.shuffle(lines)
    for _, q, answers in lines[:n]:
        out["questions from guide's held-out lines"].append((q, None))
    for it in c.intents.values():
        if texts.hashed(it.name) == 3:
            for kind, text in rng.sample(it.lines, min(3, len(it.lines))):
                q = c.noisy(kind, c.phrase(kind, text, rng), rng, 0.5)
                out["questions of intents left out altogether"].append((q, None))
            out["answers of intents left out altogether"].extend((q, a) for a in it.answers)
    return out


def of_files(names, most=100):
    out = collections.defaultdict(list)
    for name in names:
        text = open(name, encoding="utf-8", errors="replace").read()
        parts = [" ".join(p.split()) for p in text.split("\n\n") if len(p) > 80]
        for p in parts[::max(len(parts) // most, 1)]:
            out[os.path.basename(name) + ", a user's"].append((p, None))
            out[os.path.basename(name) + ", an agent's"].append(("Go on.", p))
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--gguf", default=FILE)
    ap.add_argument("--threshold", type=float, default=0.5)
    ap.add_argument("--thresholds", default="0.2,0.35,0.65,0.8,0.9")
    ap.add_argument("--guide", action="store_true")
    ap.add_argument("--lines", type=int, default=0)
    ap.add_argument("--around", type=int, default=0)
    ap.add_argument("--say", nargs="+")
    ap.add_argument("--paragraphs", nargs="+", metavar="FILE")
    ap.add_argument("--limit", type=int, default=400, help="questions from guide's held-out lines")
    ap.add_argument("--verbose", action="store_true", help="print what is judged wrongly")
    a = ap.parse_args()
    judge = Judge(a.gguf)
    if a.say:
        p = judge.first(*a.say[:2])
        print(f"unsafe {p[judge.unsafe]:.4f} safe {p[judge.safe]:.4f} categories {judge.categories(*a.say[:2])}")
        return
    if a.guide or a.paragraphs:
        flagged = total = 0
        for name, pairs in (of_files(a.paragraphs) if a.paragraphs else of_guide(a.limit)).items():
            bad = [(u, g) for u, g in pairs if judge.p(u, g) >= a.threshold]
            flagged, total = flagged + len(bad), total + len(pairs)
            print(f"{name}: false positives at {a.threshold}: {share(len(bad), len(pairs))}", flush=True)
            for u, g in bad if a.verbose else []:
                print("    ", repr(u), repr(g))
        print(f"all: {share(flagged, total)}")
        return
    seen = judged(judge, of_lines(a.lines) if a.lines else heldout_within(a.around) if a.around else heldout())
    report(judge, seen, a.threshold, [float(t) for t in a.thresholds.split(",")])
    for e, p in seen if a.verbose else []:
        if (p >= a.threshold) != (e["verdict"] != "safe"):
            print(f"{p:.3f} {e['kind']} {e['user']!r} {e.get('agent', '')!r}")


if __name__ == "__main__":
    main()
