#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tiny random llama models, and what the transformers library computes from them.

usage: make_logits_fixtures.py [DIRECTORY]      (default: tests/fixtures/logits beside this script)

Needs torch, transformers, gguf and numpy (made with torch 2.15, transformers 5.23, gguf 0.19); nothing is downloaded. For each row of
MODELS it makes a LlamaForCausalLM with random weights, rounds the matrices to the row's type, puts the rounded values back
into the model, and writes

  NAME.gguf      the model: matrices in the type, norms and biases in F32, Q and K rows in the order of interleaved rotary pairs
  NAME.expected  little endian: u32 n_prompt, n_greedy, n_vocab; u32 prompt[n_prompt]; u32 greedy[n_greedy], the tokens that
                 follow the prompt; f32 logits[n_prompt][n_vocab], of each position of the prompt

computed in float32. A row whose greedy tokens hang on less than MARGIN of the range of the logits gets another seed, since no two
programs need agree on those. The seeds are fixed: the same libraries give the same files.
"""
import os
import struct
import sys

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

N_PROMPT, N_GREEDY, N_VOCAB = 40, 64, 128
MARGIN = 1e-3

TYPES = {
    "F32": gguf.GGMLQuantizationType.F32,
    "F16": gguf.GGMLQuantizationType.F16,
    "BF16": gguf.GGMLQuantizationType.BF16,
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
    "Q4_0": gguf.GGMLQuantizationType.Q4_0,
}
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}

# name, type, embedding, layers, heads, kv heads, feed forward, extra
MODELS = [
    ("f32-mha-untied", "F32", 48, 2, 4, 4, 64, {}),
    ("f32-gqa-tied-bias", "F32", 48, 2, 4, 2, 80, {"tied": True, "attention_bias": True, "mlp_bias": True}),
    ("f32-gqa-untied-linear", "F32", 48, 2, 6, 2, 64, {"rope": LINEAR, "attention_bias": True}),
    ("f32-mqa-tied-llama3", "F32", 64, 2, 4, 1, 64, {"rope": LLAMA3, "tied": True}),
    ("f32-gqa-llama3-by-keys", "F32", 48, 2, 4, 2, 64, {"rope": LLAMA3, "by_keys": True}),
    ("f32-wide-heads-theta", "F32", 36, 2, 2, 1, 52, {"head_dim": 32, "theta": 500000.0, "epsilon": 1e-6}),
    ("f16-gqa-untied", "F16", 64, 2, 4, 2, 96, {}),
    ("f16-mha-tied-llama3", "F16", 64, 2, 4, 4, 80, {"rope": LLAMA3, "tied": True, "attention_bias": True}),
    ("bf16-mha-tied-linear", "BF16", 64, 2, 4, 4, 96, {"rope": LINEAR, "tied": True}),
    ("bf16-gqa-untied-bias", "BF16", 64, 2, 8, 2, 80, {"attention_bias": True, "mlp_bias": True}),
    ("q8_0-gqa-untied", "Q8_0", 96, 2, 6, 2, 160, {}),
    ("q4_0-mha-tied-bias", "Q4_0", 96, 2, 6, 6, 160, {"tied": True, "mlp_bias": True}),
]


def config_of(embd, layers, heads, kv, ff, extra):
    rope = dict(extra.get("rope", {"rope_type": "default"}), rope_theta=extra.get("theta", 10000.0))
    return LlamaConfig(
        vocab_size=N_VOCAB, hidden_size=embd, intermediate_size=ff, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv, head_dim=extra.get("head_dim", embd // heads),
        max_position_embeddings=256, rms_norm_eps=extra.get("epsilon", 1e-5), rope_parameters=rope,
        tie_word_embeddings=extra.get("tied", False), attention_bias=extra.get("attention_bias", False),
        mlp_bias=extra.get("mlp_bias", False), hidden_act="silu", use_cache=False,
        bos_token_id=None, eos_token_id=None, pad_token_id=None)


def round_to(values, kind):
    """(what the file holds, the same as float32)"""
    if kind == "F32":
        return values, values
    data = gguf.quants.quantize(values, TYPES[kind])
    return data, gguf.quants.dequantize(data, TYPES[kind]).astype(np.float32)


def make_model(config, kind, seed):
    """The model with rounded weights, and {our name: (array, its GGUF type)}."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).float().eval()
    tensors = {}
    for name, weight in model.named_parameters():
        ours = rename(name)
        if weight.dim() == 1:
            center = 1.0 if "norm" in ours else 0.0
            weight.data = center + 0.2 * torch.randn_like(weight)
            values = weight.detach().numpy()
            data, used = values, "F32"
        else:
            weight.data = 1.2 * torch.randn_like(weight) / weight.shape[1] ** 0.5
            data, exact = round_to(weight.detach().numpy(), kind)
            weight.data = torch.from_numpy(exact.copy())
            used = kind
        heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
        for letter, n in heads.items():
            if f"attn_{letter}." in ours:
                data = interleave(data, n)
        tensors[ours] = (data, TYPES[used])
    return model, tensors


def rename(name):
    parts = name.split(".")
    last = parts[-1]
    if parts[0] == "lm_head":
        return "output." + last
    if parts[1] == "embed_tokens":
        return "token_embd." + last
    if parts[1] == "norm":
        return "output_norm." + last
    ours = {"input_layernorm": "attn_norm", "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v",
            "o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "gate_proj": "ffn_gate",
            "up_proj": "ffn_up", "down_proj": "ffn_down"}[parts[-2]]
    return f"blk.{parts[2]}.{ours}.{last}"


def interleave(rows, n_heads):
    """Rows of halves (0 .. d/2, d/2 .. d) to rows of pairs (0, d/2, 1, d/2 + 1 ...), head by head."""
    shape = rows.shape
    halves = rows.reshape(n_heads, 2, shape[0] // n_heads // 2, *shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(shape))


@torch.no_grad()
def answer(model, prompt):
    """Logits of the prompt, greedy tokens, and the smallest lead of one, in parts of the range."""
    ids, lead, logits = list(prompt), 1.0, None
    for step in range(N_GREEDY):
        out = model(torch.tensor([ids])).logits[0]
        logits = out.numpy().copy() if step == 0 else logits
        best = torch.topk(out[-1], 2).values
        lead = min(lead, float((best[0] - best[1]) / (out[-1].max() - out[-1].min())))
        ids.append(int(out[-1].argmax()))
    return logits, ids[len(prompt):], lead


def llama3_factors(config):
    """What the frequencies are divided by: how files carry this scaling."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    theta, d = config.rope_parameters["rope_theta"], config.head_dim
    plain = 1.0 / theta ** (torch.arange(0, d, 2).float() / d)
    return (plain / scaled).numpy().astype(np.float32)


def write_gguf(path, config, tensors, extra):
    w = gguf.GGUFWriter(path, "llama")
    w.add_block_count(config.num_hidden_layers)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_rope_freq_base(config.rope_parameters["rope_theta"])
    w.add_rope_dimension_count(config.head_dim)
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        w.add_key_length(config.head_dim)
        w.add_value_length(config.head_dim)
    rope = extra.get("rope", {})
    if rope is LINEAR or extra.get("by_keys"):
        w.add_string("llama.rope.scaling.type", rope["rope_type"])
        w.add_float32("llama.rope.scaling.factor", rope["factor"])
    if extra.get("by_keys"):
        w.add_float32("llama.rope.scaling.low_freq_factor", rope["low_freq_factor"])
        w.add_float32("llama.rope.scaling.high_freq_factor", rope["high_freq_factor"])
        w.add_uint32("llama.rope.scaling.original_context_length", rope["original_max_position_embeddings"])
    elif rope is LLAMA3:
        w.add_tensor("rope_freqs.weight", llama3_factors(config))
    for name, (data, kind) in tensors.items():
        w.add_tensor(name, data, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def make(directory, name, kind, embd, layers, heads, kv, ff, extra):
    config = config_of(embd, layers, heads, kv, ff, extra)
    prompt = np.random.default_rng(len(name)).integers(0, N_VOCAB, N_PROMPT)
    for seed in range(100):
        model, tensors = make_model(config, kind, seed)
        logits, greedy, lead = answer(model, prompt.tolist())
        if lead >= MARGIN:
            break
    else:
        sys.exit(f"{name}: no seed gives greedy tokens that are clear enough")
    write_gguf(os.path.join(directory, name + ".gguf"), config, tensors, extra)
    with open(os.path.join(directory, name + ".expected"), "wb") as f:
        f.write(struct.pack("<3I", N_PROMPT, N_GREEDY, N_VOCAB))
        f.write(np.asarray(prompt, "<u4").tobytes() + np.asarray(greedy, "<u4").tobytes())
        f.write(np.asarray(logits, "<f4").tobytes())
    print(f"{name}: seed {seed}, range {logits.max() - logits.min():.2f}, lead {lead:.4f}, "
          f"{len(set(greedy))} different tokens")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "fixtures", "logits")
    os.makedirs(directory, exist_ok=True)
    torch.set_num_threads(1)
    for row in MODELS:
        make(directory, *row)


if __name__ == "__main__":
    main()
