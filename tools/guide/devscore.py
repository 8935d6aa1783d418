"""Scores dev.txt: python devscore.py --out build-guide [--depth 3500]"""
import argparse
import os

import torch

import tokenizer as tk
from corpus import HERE, Corpus
from validate import Chat, filler, load

ap = argparse.ArgumentParser()
ap.add_argument("--out", default="build-guide")
ap.add_argument("--depth", type=int, default=0)
ap.add_argument("--seed", type=int, default=7)
ap.add_argument("--system")
ap.add_argument("--prefix", default="")
ap.add_argument("--every", type=int, default=1, help="only each Nth question")
a = ap.parse_args()
torch.set_num_threads(1)
tok = tk.load(os.path.join(a.out, "tokenizer.json"))
chat = Chat(load(os.path.join(a.out, "last.pt")), tok)
if a.system:
    chat.add("system", a.system)
if a.depth:
    filler(chat, Corpus(), a.depth, a.seed)
good = total = 0
for n, line in enumerate(open(os.path.join(HERE, "dev.txt"))):
    if line.startswith("#") or "|" not in line or n % a.every:
        continue
    q, keys = line.rsplit("|", 1)
    got = chat.answer(a.prefix + q.strip())
    ok = all(any(alt.strip().lower() in got.lower() for alt in k.split("/")) if not k.strip().startswith("sessions/") and "/" in k and "models/" not in k and "sessions/" not in k
             else k.strip().lower() in got.lower() for k in keys.split(","))
    good, total = good + ok, total + 1
    if not ok:
        print("-", q.strip(), "->", got[:150])
print(f"{good}/{total} = {good / total:.1%}")
