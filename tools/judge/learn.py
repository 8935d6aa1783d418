# SPDX-License-Identifier: Apache-2.0
"""Trains the judge on the CPU.

    python learn.py --out ../../build-judge --minutes 38

The network, the tokenizer's training and the exporter are tools/guide's. What stands before the
judged text is the same in every row of a step, so it is computed once and its keys and values are
shared by the rows; a gradient flows back into it from all of them. The loss counts the answer only:
safe or unsafe, and the categories. Every step is a function of the seed and its number.
"""
import argparse
import os
import random
import time

import texts                      # also makes tools/guide importable
from form import CATEGORIES, HAZARDS, after, answer, before

import torch                      # noqa: E402
import torch.nn.functional as F   # noqa: E402

import tokenizer as tk            # noqa: E402
from model import Config, Guide, rope   # noqa: E402

VOCAB = 4096
IM_START, IM_END = 1, 2
POOL = 8                          # steps whose rows are sorted by length together


def lines(corpus, n, seed=1):
    """What the tokenizer learns from."""
    rng = random.Random(seed)
    for i in range(n):
        role = rng.choice(["User", "Agent"])
        text, violated = corpus.example(role, corpus.codes, rng)
        if i % 12 == 0:           # often, so that each of its words is one token
            yield before(role, rng.choice([CATEGORIES, HAZARDS])) + text + after(role)
        else:
            yield text
        if i % 4 == 0:
            yield answer(violated)


class Coder:
    """Texts to tokens in the engine's way: control tokens by id, everything between them as one text."""

    def __init__(self, out):
        path = os.path.join(out, "tokenizer.json")
        self.tok, self.dropping = tk.load(path), tk.load(path, 0.1)
        self.safe, self.unsafe = (self.ids(w) for w in ("safe", "unsafe"))
        assert len(self.safe) == len(self.unsafe) == 1, (self.safe, self.unsafe)

    def ids(self, text, tok=None):
        return (tok or self.tok).encode(text, add_special_tokens=False).ids

    def head(self, role, categories=CATEGORIES):
        """Without the last word before the text: what follows may be merged with it."""
        return [IM_START] + self.ids("user\n" + before(role, categories)[:-1])

    def tail(self, role, text, dropping=False, short=False):
        """The rest of the prompt, up to where the answer begins. A blank is part of the word that it precedes.
        short: without the form's last sentences, to learn faster at first."""
        end = after(role)
        body = self.ids(" " + text + (end[:end.index("Provide")] if short else end), self.dropping if dropping else None)
        return body + [IM_END] + self.ids("\n") + [IM_START] + self.ids("assistant\n")


def text_end(coder, role, prompt, short):
    """How many tokens of a tail are the text's; at most."""
    return len(prompt) - len(coder.tail(role, "", short=short))


class Steps:
    def __init__(self, coder, corpus, seed, rows):
        self.coder, self.corpus, self.seed, self.rows = coder, corpus, seed, rows
        self.pool, self.at = [], None

    def row(self, role, codes, rng, long, short):
        text, violated = self.corpus.example(role, codes, rng, long=long)
        prompt = self.coder.tail(role, text, rng.random() < 0.2, short)
        if not violated and rng.random() < 0.25:      # words that nobody knows are no reason to flag
            end, share = text_end(self.coder, role, prompt, short), rng.choice([0.15, 0.3, 0.5, 1.0])
            prompt = [rng.randrange(300, VOCAB) if i < end and rng.random() < share else x for i, x in enumerate(prompt)]
        reply = self.coder.ids(answer(violated)) + [IM_END]
        return prompt, reply

    def fill(self, group, short):
        """The steps of a group: one half of them each role; a few have long texts or fewer categories."""
        rng = random.Random(f"{self.seed}:{group}")
        self.pool, self.at = [], group
        for role in ("User", "Agent"):
            for codes, n, long in self.kinds(rng):
                rows = sorted((self.row(role, codes, rng, long and rng.randint(20, long), short and not long) for _ in range(n)),
                              key=lambda r: len(r[0]))
                size = self.rows if not long else 8
                names = CATEGORIES if rng.random() < 0.7 else HAZARDS
                head = self.coder.head(role, {c: names[c] for c in codes})
                self.pool += [(head, rows[i:i + size]) for i in range(0, n, size)]
        rng.shuffle(self.pool)

    def kinds(self, rng):
        """-> (categories, rows, longest talk around) three times: plain, some categories less, long."""
        full = list(CATEGORIES)
        some = [c for c in full if rng.random() < 0.75] or full
        half = POOL // 2 * self.rows
        return [(full, half - self.rows, 0), (some if rng.random() < 0.6 else full, self.rows, 0), (full, 8, rng.choice([60, 150, 500]))]

    def step(self, n, short=False):
        size = POOL + 2
        if self.at != n // size:
            self.fill(n // size, short)
        return self.pool[n % size]


def states(net, head, tails, b, t):
    """Final states at the places t of the rows b of tails [len(b), dim]. The head is computed once, and of
    the last layer only what is asked for."""
    caches = [[] for _ in net.blocks]
    net.hidden(torch.tensor([head]), 0, caches)
    longest = max(map(len, tails))
    x = net.embd(torch.tensor([s + [0] * (longest - len(s)) for s in tails])).bfloat16()
    cos, sin = (c[len(head):len(head) + longest].bfloat16() for c in (net.cos, net.sin))
    for block, c in zip(net.blocks, caches):
        c[:] = [y.expand(len(tails), -1, -1, -1) for y in c]
        if block is not net.blocks[-1]:
            x = block(x, cos, sin, net.drop, c)
    return net.norm(last(net.blocks[-1], x, cos, sin, net.drop, caches[-1], torch.tensor(b), torch.tensor(t)))


def last(block, x, cos, sin, drop, cache, b, t):
    """What Block.forward gives at [b, t]."""
    c, (B, T, _) = block.c, x.shape
    h = block.attn_norm(x)
    k = rope(block.k(h).view(B, T, c.kv_heads, c.head_dim).transpose(1, 2), cos, sin)
    v = block.v(h).view(B, T, c.kv_heads, c.head_dim).transpose(1, 2)
    rep = c.heads // c.kv_heads
    k, v = (torch.cat((p, q), 2)[b].repeat_interleave(rep, 1) for p, q in zip(cache, (k, v)))
    q = rope(block.q(h[b, t]).view(len(b), c.heads, c.head_dim), cos[t][:, None], sin[t][:, None])
    far = torch.arange(k.shape[2])[None] > (t + k.shape[2] - T)[:, None]
    s = (q[:, :, None] * c.head_dim ** -0.5) @ k.transpose(-1, -2)
    a = s.masked_fill(far[:, None, None], float("-inf")).softmax(-1).to(v.dtype) @ v
    x = x[b, t] + F.dropout(block.o(a.reshape(len(b), c.dim)), drop, block.training)
    h = block.ffn_norm(x)
    return x + F.dropout(block.down(F.silu(block.gate(h)) * block.up(h)), drop, block.training)


def loss_of(net, head, rows, weight):
    """Cross entropy of the answers; the first token counts `weight` times as much as another."""
    b = [i for i, (p, r) in enumerate(rows) for _ in r]
    t = [len(p) - 1 + k for p, r in rows for k in range(len(r))]
    y = torch.tensor([x for _, r in rows for x in r])
    w = torch.tensor([weight if k == 0 else 1.0 for _, r in rows for k in range(len(r))])
    logits = net.logits(states(net, head, [p + r[:-1] for p, r in rows], b, t)).float()
    each = F.cross_entropy(logits, y, reduction="none")
    first = w == weight
    right = (logits.argmax(-1) == y)[first].float().mean().item()
    return (each * w).sum() / w.sum(), each[first].mean().item(), right


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", default="../../build-judge")
    ap.add_argument("--steps", type=int, default=6000)
    ap.add_argument("--minutes", type=float, default=38, help="the learning rate falls over this time or the steps, whichever ends first")
    ap.add_argument("--lr", type=float, default=1.6e-3)
    ap.add_argument("--muon", type=float, default=0.01)
    ap.add_argument("--lr-end", type=float, default=2e-5)
    ap.add_argument("--warmup", type=int, default=60)
    ap.add_argument("--rows", type=int, default=64)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--dim", type=int, default=128)
    ap.add_argument("--short", type=float, default=0.5, help="for this share of the time the form is without its last sentences")
    ap.add_argument("--all", action="store_true", help="train on the held-out lines of data/ too (guide's held-out intents stay out)")
    ap.add_argument("--go-on", help="a checkpoint whose weights are the beginning (a later stage, with a larger corpus)")
    ap.add_argument("--drop", type=float, default=0.05)
    ap.add_argument("--save-every", type=int, default=200)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    os.makedirs(a.out, exist_ok=True)
    corpus = texts.Texts(every=a.all)
    if not os.path.exists(os.path.join(a.out, "tokenizer.json")):
        tk.train(os.path.join(a.out, "tokenizer.json"), lines(corpus, 60000), VOCAB)
    coder = Coder(a.out)
    steps = Steps(coder, corpus, a.seed, a.rows)
    cfg = Config(vocab=coder.tok.get_vocab_size(), dim=a.dim, layers=4, heads=a.dim // 32, kv_heads=a.dim // 32, ffn=a.dim * 3)
    net = Guide(cfg)
    net.drop = a.drop
    if a.go_on:
        net.load_state_dict(torch.load(a.go_on, weights_only=False)["net"])
    inner = [p for n, p in net.named_parameters() if p.dim() == 2 and n != "embd.weight"]
    norms = [p for p in net.parameters() if p.dim() == 1]
    opts = [(torch.optim.AdamW([{"params": [net.embd.weight], "weight_decay": 0.05}, {"params": norms, "weight_decay": 0.0}],
                               lr=a.lr, betas=(0.9, 0.98), fused=True), a.lr),
            (torch.optim.Muon(inner, lr=a.muon, weight_decay=0.02, momentum=0.95, nesterov=True), a.muon)]
    for b in net.blocks:
        b.forward = torch.compile(b.forward, dynamic=True)
    print(sum(p.numel() for p in net.parameters()), "parameters", cfg, "prefix", len(coder.head("User")), "rest",
          len(coder.tail("User", "a")), flush=True)

    def save(step):
        path = os.path.join(a.out, "last.pt")
        torch.save({"net": net.state_dict(), "step": step, "cfg": vars(cfg), "args": vars(a)}, path + ".tmp")
        os.replace(path + ".tmp", path)

    start = t0 = time.time()
    seen = loss_sum = right_sum = wait = step = 0
    while step < a.steps:
        frac = max(step / a.steps, (time.time() - start) / 60 / a.minutes)
        if frac >= 1:
            break
        scale = (1 + (a.lr_end / a.lr - 1) * frac) * min(1, (step + 1) / a.warmup)
        for opt, lr in opts:
            for g in opt.param_groups:
                g["lr"] = lr * scale
        t1 = time.time()
        head, rows = steps.step(step, frac < a.short)
        wait += time.time() - t1
        with torch.autocast("cpu", torch.bfloat16):
            loss, first, right = loss_of(net, head, rows, 2.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for opt, _ in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        step += 1
        seen, loss_sum, right_sum = seen + len(rows), loss_sum + first, right_sum + right
        if step % 24 == 0:
            print(f"step {step} verdict loss {loss_sum / 24:.4f} right {right_sum / 24:.3f} lr x{scale:.3f} "
                  f"{seen / (time.time() - t0):.1f} texts/s, text making {wait / (time.time() - t0):.0%}", flush=True)
            t0, seen, loss_sum, right_sum, wait = time.time(), 0, 0, 0, 0
        if step % a.save_every == 0:
            save(step)
    save(step)
    print("step", step, "after", f"{(time.time() - start) / 60:.1f}", "minutes", flush=True)


if __name__ == "__main__":
    main()
