"""How many held-out phrasings get the right answer, greedily, alone and in depth.

    python validate.py --out build-guide [--depth 3500] [--limit 300]
"""
import argparse
import collections
import os
import random

import torch

import tokenizer as tk
from corpus import Corpus, validation
from model import Config, Guide
from train import IM_END, IM_START


class Chat:
    """Greedy decoding over a fixed context that is computed once."""

    def __init__(self, net, tok):
        self.net, self.tok = net, tok
        self.caches, self.n = [[] for _ in net.blocks], 0

    def turn(self, role, text=None):
        ids = [IM_START] + self.tok.encode(role + "\n").ids
        if text is not None:
            ids += self.tok.encode(text).ids + [IM_END] + self.tok.encode("\n").ids
        return ids

    def feed(self, ids, caches, start):
        with torch.no_grad():
            return self.net.hidden(torch.tensor([ids]), start, caches)

    def add(self, role, text):
        ids = self.turn(role, text)
        self.feed(ids, self.caches, self.n)
        self.n += len(ids)

    def answer(self, question, limit=120):
        caches = [list(c) for c in self.caches]
        ids, n = self.turn("user", question) + self.turn("assistant"), self.n
        out = []
        while len(out) < limit and n + len(ids) < self.net.cfg.context:
            h = self.feed(ids, caches, n)
            n += len(ids)
            ids = [int(self.net.logits(h[0, -1]).argmax())]
            if ids[0] == IM_END:
                break
            out += ids
        return self.tok.decode(out)

    def exact(self, question, answer):
        """Whether greedy decoding gives this answer, by one forward."""
        ids = self.turn("user", question) + self.turn("assistant")
        ans = self.tok.encode(answer).ids + [IM_END]
        h = self.feed(ids + ans[:-1], [list(c) for c in self.caches], self.n)
        with torch.no_grad():
            best = self.net.logits(h[0, len(ids) - 1:]).argmax(-1)
        return bool((best == torch.tensor(ans)).all())


def filler(chat, corpus, tokens, seed):
    """A conversation of that many tokens about this and that."""
    rng = random.Random(seed)
    while chat.n < tokens:
        for role, text, _ in corpus.conversation(rng, filler=0.5):
            chat.add(role, text)
            if chat.n >= tokens and role == "assistant":
                return


def load(path):
    ck = torch.load(path, weights_only=False)
    cfg = Config(**ck["cfg"])
    net = Guide(cfg)
    net.load_state_dict(ck["net"])
    return net.eval()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", default="build-guide")
    ap.add_argument("--depth", type=int, default=0)
    ap.add_argument("--limit", type=int, default=10**9)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--show", type=int, default=60)
    ap.add_argument("--seed", type=int, default=5)
    ap.add_argument("--ask", help="a file of questions to answer instead")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    net, tok = load(os.path.join(a.out, "last.pt")), tk.load(os.path.join(a.out, "tokenizer.json"))
    corpus = Corpus()
    chat = Chat(net, tok)
    if a.depth:
        filler(chat, corpus, a.depth, a.seed)
    if a.ask:
        for q in open(a.ask):
            if q.strip():
                print(q.strip(), "\n    ->", chat.answer(q.strip()))
        return
    items = validation(corpus, seed=a.seed)
    random.Random(a.seed).shuffle(items)
    right, seen, bad = collections.Counter(), collections.Counter(), []
    owner = {x: it.name for it in corpus.intents.values() for x in it.answers}
    for it, q, answers in items[:a.limit]:
        group = "llmfs" if it.topic[0].isdigit() or it.topic not in ("unknown", "smalltalk", "facts", "capitals", "opposites", "sums", "amounts") else it.topic
        ok = any(chat.exact(q, x) for x in answers)
        for key in (group, "all", "= " + it.name):
            seen[key] += 1
            right[key] += ok
        if not ok:
            bad.append((it.name, q))
    for name, q in bad[:a.show]:
        got = chat.answer(q)
        print(f"{name:22} {q[:90]!r}\n{'':22} -> {owner.get(got, '?')}: {got[:110]}")
    weak = [(right[k] / seen[k], k[2:], seen[k]) for k in seen if k.startswith("= ") and right[k] < seen[k]]
    print("weak:", ", ".join(f"{n} {r:.0%} of {s}" for r, n, s in sorted(weak)))
    for k in seen:
        if not k.startswith("= "):
            print(f"{k:10} {right[k]}/{seen[k]} {right[k] / seen[k]:.1%}")


if __name__ == "__main__":
    main()
