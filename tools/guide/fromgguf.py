"""A GGUF that export.py wrote, as a place to go on training from.

    python train.py --start ../../mnt-example/models/guide/guide.gguf --out ../../build-guide ...

The checkpoints of the training are not kept, the shipped file is: its Q8_0 matrices are
dequantised, and the tokenizer that stands in it is written to OUT/tokenizer.json, since other
tokens would make the weights worthless. What Q8_0 rounded away is learned again in a few steps.
"""
import os

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from export import tensor_name
from model import Config, Guide


def config(kv):
    return Config(vocab=len(kv["tokenizer.ggml.tokens"]), dim=kv["llama.embedding_length"], layers=kv["llama.block_count"],
                  heads=kv["llama.attention.head_count"], kv_heads=kv["llama.attention.head_count_kv"],
                  ffn=kv["llama.feed_forward_length"], context=kv["llama.context_length"], theta=kv["llama.rope.freq_base"],
                  eps=kv["llama.attention.layer_norm_rms_epsilon"])


def tokenizer(kv):
    tokens, types = kv["tokenizer.ggml.tokens"], kv["tokenizer.ggml.token_type"]
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ", 1)) for m in kv["tokenizer.ggml.merges"]]))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, kind in zip(tokens, types) if kind == gguf.TokenType.CONTROL])
    if tok.get_vocab_size() != len(tokens):
        raise SystemExit("a control token of the GGUF is not in its vocabulary")
    return tok


def read(path, out):
    """-> (Config, state of Guide); writes out/tokenizer.json."""
    r = gguf.GGUFReader(path)
    kv = {k: f.contents() for k, f in r.fields.items() if not k.startswith("GGUF.")}
    if kv["general.architecture"] != "llama":
        raise SystemExit(f"{path} is not of the llama architecture")
    cfg = config(kv)
    have = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in r.tensors}
    state = {}
    for key, p in Guide(cfg).state_dict().items():
        a = have.pop(tensor_name(key), None)
        if a is None or a.shape != tuple(p.shape):
            raise SystemExit(f"{path} has no {tensor_name(key)} of shape {tuple(p.shape)}")
        state[key] = torch.from_numpy(a.copy())
    if have:
        raise SystemExit(f"{path} has tensors that guide has not: {', '.join(have)}")
    tokenizer(kv).save(os.path.join(out, "tokenizer.json"))
    return cfg, state
