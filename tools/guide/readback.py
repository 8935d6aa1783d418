"""Reads a GGUF back, dequantises it and answers greedily in plain numpy, as a
check of the file that shares no code with the trainer.

    python readback.py ../../mnt-example/models/guide/guide.gguf "How do I set the temperature?"
"""
import sys

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers


class Model:
    def __init__(self, path):
        r = gguf.GGUFReader(path)
        self.kv = {k: f.contents() for k, f in r.fields.items() if not k.startswith("GGUF.")}
        self.t = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in r.tensors}
        self.types = {t.name: t.tensor_type.name for t in r.tensors}
        tokens, merges = self.kv["tokenizer.ggml.tokens"], self.kv["tokenizer.ggml.merges"]
        self.tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ", 1)) for m in merges]))
        self.tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        self.tok.decoder = decoders.ByteLevel()

    def logits(self, ids):
        """All of ids in one go; the last row's logits."""
        kv, t = self.kv, self.t
        heads, kvh = kv["llama.attention.head_count"], kv["llama.attention.head_count_kv"]
        d, eps = kv["llama.rope.dimension_count"], kv["llama.attention.layer_norm_rms_epsilon"]
        n = len(ids)
        ang = np.arange(n)[:, None] * kv["llama.rope.freq_base"] ** (-np.arange(0, d, 2) / d)
        cos, sin = np.cos(ang)[:, None].astype(np.float32), np.sin(ang)[:, None].astype(np.float32)

        def norm(x, w):
            return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w

        def rope(x):
            a, b = x[..., 0::2], x[..., 1::2]
            return np.stack((a * cos - b * sin, a * sin + b * cos), -1).reshape(x.shape)

        x = t["token_embd.weight"][ids]
        mask = np.triu(np.full((n, n), -np.inf, np.float32), 1)
        for i in range(kv["llama.block_count"]):
            p = f"blk.{i}."
            h = norm(x, t[p + "attn_norm.weight"])
            q = rope((h @ t[p + "attn_q.weight"].T).reshape(n, heads, d))
            k = rope((h @ t[p + "attn_k.weight"].T).reshape(n, kvh, d)).repeat(heads // kvh, 1)
            v = (h @ t[p + "attn_v.weight"].T).reshape(n, kvh, d).repeat(heads // kvh, 1)
            s = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(d) + mask
            s = np.exp(s - s.max(-1, keepdims=True))
            s /= s.sum(-1, keepdims=True)
            x = x + np.einsum("hqk,khd->qhd", s, v).reshape(n, -1) @ t[p + "attn_output.weight"].T
            h = norm(x, t[p + "ffn_norm.weight"])
            g = h @ t[p + "ffn_gate.weight"].T
            x = x + (g / (1 + np.exp(-g)) * (h @ t[p + "ffn_up.weight"].T)) @ t[p + "ffn_down.weight"].T
        return norm(x[-1], t["output_norm.weight"]) @ t["token_embd.weight"].T

    def answer(self, question, limit=100):
        enc = lambda s: self.tok.encode(s, add_special_tokens=False).ids
        start, end = (self.kv["tokenizer.ggml.tokens"].index(x) for x in ("<|im_start|>", "<|im_end|>"))
        ids = [start] + enc("user\n" + question) + [end] + enc("\n") + [start] + enc("assistant\n")
        out = []
        while len(out) < limit:
            best = int(self.logits(ids + out).argmax())
            if best == end:
                break
            out.append(best)
        return self.tok.decode(out)


if __name__ == "__main__":
    m = Model(sys.argv[1])
    for k, v in m.kv.items():
        print(k, "=", v if not isinstance(v, list) else f"[{len(v)}]")
    print({ty: sum(x == ty for x in m.types.values()) for ty in set(m.types.values())}, len(m.types), "tensors")
    for q in sys.argv[2:] or ["How do I set the temperature?"]:
        print(q, "->", m.answer(q))
