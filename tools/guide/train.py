"""Trains guide on the CPU.

    python train.py --out build-guide --lr 2e-3 --lr-end 8e-4 --steps 5000

Every batch is a function of (seed, step), so a run that is stopped and started
again from its checkpoint continues as if nothing had happened
(with --first, the step at which the stage began).

Without a checkpoint in OUT, --start goes on from a GGUF, weights and tokenizer:

    python train.py --out build-guide --start ../../mnt-example/models/guide/guide.gguf ...
"""
import argparse
import json
import os
import random
import time

import torch
import torch.nn.functional as F

import fromgguf
import tokenizer as tk
from corpus import Corpus
from model import Config, Guide

SHAPES = [(16, 256), (4, 1024), (1, 4096)]      # rows, tokens: 4,096 tokens a step
IM_START, IM_END = 1, 2


class Batches:
    def __init__(self, out, seed, corpus, shares, short):
        self.c, self.seed, self.shares, self.short = corpus, seed, shares, short
        path = os.path.join(out, "tokenizer.json")
        self.tok, self.drop = tk.load(path), tk.load(path, 0.1)
        self.fixed = {}
        self.nl = self.ids("\n")

    def ids(self, text):
        if text not in self.fixed:
            self.fixed[text] = self.tok.encode(text, add_special_tokens=False).ids
        return self.fixed[text]

    def row(self, rng, length):
        """-> ids, learn flags; a conversation cut at length."""
        ids, learn = [], []
        filler = {256: 0.05, 1024: 0.25, 4096: 0.5}[length]
        for role, text, good in self.c.conversation(rng, filler):
            head = [IM_START] + self.ids(role + "\n")
            if role == "assistant" and good:
                body = self.ids(text)
            else:
                body = (self.drop if rng.random() < 0.3 else self.tok).encode(text, add_special_tokens=False).ids
            whole = not good or rng.random() >= self.short
            if not whole:
                body = body[:rng.randint(4, 10)]
            ids += head + body + [IM_END] + self.nl
            learn += [0] * len(head) + [int(good)] * len(body) + [int(good and whole)] + [0] * len(self.nl)
            if len(ids) > length:
                break
        return ids[:length + 1], learn[:length + 1]

    def batch(self, step):
        rng = random.Random(f"{self.seed}:{step}")
        rows, length = rng.choices(SHAPES, self.shares)[0]
        data = [self.row(rng, length) for _ in range(rows)]
        x = torch.tensor([d[0] for d in data])
        m = torch.tensor([d[1] for d in data], dtype=torch.bool)
        return x[:, :-1].contiguous(), x[:, 1:][m[:, 1:]], m[:, 1:]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", default="build-guide")
    ap.add_argument("--steps", type=int, default=6000)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--muon", type=float, default=0.0, help="learning rate of Muon for the layers' matrices (0: AdamW for all); falls as --lr does")
    ap.add_argument("--lr-end", type=float, default=8e-4, help="lr falls from --lr to this between the stage's first step and --steps")
    ap.add_argument("--minutes", type=float, help="end after this time at the latest, with the learning rate at its end (on a busy machine)")
    ap.add_argument("--first", type=int, help="the stage's first step, when a stage is taken up again")
    ap.add_argument("--until", type=int, help="stop the stage at this step, before --steps")
    ap.add_argument("--warmup", type=int, default=100)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--layers", type=int, default=6)
    ap.add_argument("--shares", default="65,23,12", help="percent of steps with rows of 256, 1024, 4096 tokens")
    ap.add_argument("--short", type=float, default=0.6, help="share of answers cut after 4-10 tokens: what decides which answer it is stands there")
    ap.add_argument("--all", action="store_true", help="train on the held-out lines too")
    ap.add_argument("--boost", help="JSON file: intent name -> weight")
    ap.add_argument("--start", help="a GGUF from export.py to begin from, when there is no checkpoint in --out (fromgguf.py)")
    ap.add_argument("--save-every", type=int, default=200)
    a = ap.parse_args()

    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    os.makedirs(a.out, exist_ok=True)
    path, cfg, state = os.path.join(a.out, "last.pt"), None, None
    if a.start and not os.path.exists(path):
        cfg, state = fromgguf.read(a.start, a.out)
    if not os.path.exists(os.path.join(a.out, "tokenizer.json")):
        tk.train(os.path.join(a.out, "tokenizer.json"))
    if a.boost:
        Corpus.boosts = json.load(open(a.boost))
    data = Batches(a.out, a.seed, Corpus(holdout=not a.all), [float(s) for s in a.shares.split(",")], a.short)
    cfg = cfg or Config(vocab=data.tok.get_vocab_size(), layers=a.layers)
    net = Guide(cfg)
    if state:
        net.load_state_dict(state)
    inner = [p for n, p in net.named_parameters() if p.dim() == 2 and n != "embd.weight"]
    norms = [p for p in net.parameters() if p.dim() == 1]
    groups = [{"params": [net.embd.weight] + ([] if a.muon else inner), "weight_decay": 0.05}, {"params": norms, "weight_decay": 0.0}]
    opts = {"opt": torch.optim.AdamW(groups, lr=a.lr, betas=(0.9, 0.98), fused=True)}
    if a.muon:
        opts["muon"] = torch.optim.Muon(inner, lr=a.muon, weight_decay=0.02, momentum=0.95, nesterov=True)
    step = 0
    if os.path.exists(path):
        ck = torch.load(path, weights_only=False)
        net.load_state_dict(ck["net"])
        if ("muon" in ck) == bool(a.muon):       # another optimizer begins afresh
            for name, opt in opts.items():
                opt.load_state_dict(ck[name])
        step = ck["step"]
        print("resumed at step", step, flush=True)
    print(sum(p.numel() for p in net.parameters()), "parameters", cfg, flush=True)
    for b in net.blocks:
        b.forward = torch.compile(b.forward, dynamic=False)

    def save():
        tmp = path + ".tmp"
        torch.save({"net": net.state_dict(), **{k: o.state_dict() for k, o in opts.items()}, "step": step, "cfg": vars(cfg), "args": vars(a)}, tmp)
        os.replace(tmp, path)

    start = time.time()
    t0, tokens, loss_sum, count, first = time.time(), 0, 0.0, 0, step if a.first is None else a.first
    while step < (a.until or a.steps):
        frac = (step - first) / (a.steps - first)
        if a.minutes:
            frac = max(frac, (time.time() - start) / 60 / a.minutes)
            if frac >= 1:
                break
        lr = (a.lr + (a.lr_end - a.lr) * frac) * min(1, (step + 1) / max(1, a.warmup))
        for name, opt in opts.items():
            for g in opt.param_groups:
                g["lr"] = lr if name == "opt" else a.muon * lr / a.lr
        x, y, m = data.batch(step)
        with torch.autocast("cpu", torch.bfloat16):
            h = net.hidden(x)
            logits = net.logits(h[m])
        loss = F.cross_entropy(logits.float(), y)
        loss.backward()
        tokens, loss_sum, count = tokens + x.numel(), loss_sum + loss.item(), count + 1
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for opt in opts.values():
            opt.step()
            opt.zero_grad(set_to_none=True)
        step += 1
        if step % 20 == 0:
            dt = time.time() - t0
            print(f"step {step} loss {loss_sum / count:.4f} lr {lr:.2e} tok/s {tokens / dt:.0f}", flush=True)
            t0, tokens, loss_sum, count = time.time(), 0, 0.0, 0
        if step % a.save_every == 0:
            save()
    save()


if __name__ == "__main__":
    main()
