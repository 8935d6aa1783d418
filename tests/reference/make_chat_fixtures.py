#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/fixtures/chat/: conversations and the ids that `transformers` makes of them.

The test engine/chat_reference reads these files; it needs no Python. To make them again:

    pip install transformers tokenizers sentencepiece jinja2     (made with transformers 5.23.0)
    tests/reference/make_chat_fixtures.py tests/fixtures/chat

For each family of templates a small vocabulary with the family's control tokens is trained (with the text of
make_tokenizer_fixtures.py), a template of the family's published shape is set, and apply_chat_template() tokenises random
conversations. For SentencePiece vocabularies the tokenizer is put together as the published tokenizer.json files of those
families are: with a space put in front of every stretch of text between control tokens (Llama 2, Mistral 7B
v0.1, Zephyr), of the first only (Mistral 7B v0.3), or of none (Gemma).

Messages hold no control tokens: there we differ on purpose, a message is plain text for us. Answers begin with a letter,
because we tokenise answers apart from what stands before them.

    cases.bin   u32 number of cases; each: family, file (varint length, bytes), u8 whether the answer's turn is opened,
                varint number of messages, each u8 role (0 system, 1 user, 2 assistant) and text; varint number of ids, ids
"""

import io
import json
import random
import struct
import sys
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from make_tokenizer_fixtures import (SEED, byte_alphabet, byte_level_cases, make_lines, mixed, sentence, training_text, varint,
                                     write_gguf)

EACH = "{% for m in messages %}"
END = "{% endfor %}"
FOLD = ("{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set turns = messages[1:] %}"
        "{% else %}{% set turns = messages %}{% endif %}{% for m in turns %}")

TEMPLATES = {
    "chatml": EACH + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n" + END
    + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "llama3": "{{ bos_token }}" + EACH + "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>" + END
    + "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    "zephyr": EACH + "<|{{ m.role }}|>\n{{ m.content + eos_token }}\n" + END
    + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    "llama2": FOLD + "{% if loop.index0 == 0 and system is defined %}"
    "{% set text = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m.content %}{% else %}{% set text = m.content %}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + text.strip() + ' ' + eos_token }}{% endif %}" + END,
    "mistral": "{{ bos_token }}" + FOLD
    + "{% if m.role == 'user' %}{{ '[INST] ' }}{% if loop.index0 == 0 and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}" + END,
    "mistral v3": "{{ bos_token }}" + FOLD
    + "{% if m.role == 'user' %}{{ '[INST] ' }}{% if loop.index0 == 0 and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ m.content + '[/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}" + END,
    "mistral tekken": "{{ bos_token }}" + FOLD
    + "{% if m.role == 'user' %}{{ '[INST]' }}{% if loop.index0 == 0 and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ m.content + '[/INST]' }}{% else %}{{ m.content + eos_token }}{% endif %}" + END,
    "gemma": "{{ bos_token }}" + FOLD
    + "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{% if loop.index0 == 0 and system is defined %}{{ system + '\n\n' }}{% endif %}{{ m.content | trim }}<end_of_turn>\n" + END
    + "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
}

# family, template, kind of vocabulary, its control tokens, bos, eos
CASES = [
    ("chatml", "chatml", "gpt2", ["<|im_start|>", "<|im_end|>"], None, "<|im_end|>"),
    ("chatml", "chatml", "qwen2", ["<|im_start|>", "<|im_end|>"], None, "<|im_end|>"),
    ("chatml", "chatml", "always", ["<|im_start|>", "<|im_end|>"], None, "<|im_end|>"),
    ("llama3", "llama3", "llama3", ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|begin_of_text|>",
     "<|eot_id|>"),
    ("zephyr", "zephyr", "always", [], None, "</s>"),
    ("llama2", "llama2", "always", [], "<s>", "</s>"),
    ("mistral", "mistral", "always", [], "<s>", "</s>"),
    ("mistral", "mistral v3", "first", ["[INST]", "[/INST]"], "<s>", "</s>"),
    ("mistral", "mistral tekken", "tekken", ["<s>", "</s>", "[INST]", "[/INST]"], "<s>", "</s>"),
    ("gemma", "gemma", "none", ["<start_of_turn>", "<end_of_turn>"], "<s>", "</s>"),
]
ROLES = ["system", "user", "assistant"]


def train_byte_level(text, kind):
    name, pre, pre_tokenizer, *_ = next(c for c in byte_level_cases() if c[0] == kind)
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizer
    trained.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=sorted(byte_alphabet().values()), show_progress=False))
    model = json.loads(trained.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    keys = [("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", pre),
            ("tokenizer.ggml.merges", [" ".join(m) for m in model["merges"]])]
    return trained, tokens, [1] * len(tokens), keys


def train_sentencepiece(text, kind):
    """kind: where the published tokenizer puts a space in front: "always", "first", "none"."""
    proto = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_writer=proto, model_type="bpe", vocab_size=1200, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, character_coverage=0.98,
        num_threads=1, minloglevel=2)
    library = sentencepiece.SentencePieceProcessor(model_proto=proto.getvalue())
    n = library.get_piece_size()
    tokens = [library.id_to_piece(i) for i in range(n)]
    scores = [library.get_score(i) for i in range(n)]
    types = [2 if library.is_unknown(i) else 3 if library.is_control(i) else 6 if library.is_byte(i) else 1 for i in range(n)]
    ids = {t: i for i, t in enumerate(tokens)}
    normal = {t for t, kind_ in zip(tokens, types) if kind_ == 1}
    merges = [(-scores[ids[t]], t[:k], t[k:]) for t in normal for k in range(1, len(t)) if t[:k] in normal and t[k:] in normal]
    backend = Tokenizer(models.BPE(vocab=ids, merges=[(a, b) for _, a, b in sorted(merges)], unk_token="<unk>", fuse_unk=True,
                                   byte_fallback=True))
    if kind == "always":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    elif kind == "first":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first", split=False)
    else:
        backend.normalizer = normalizers.Replace(" ", "\u2581")
    backend.decoder = decoders.ByteFallback()
    backend.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ["<unk>", "<s>", "</s>"]])
    keys = [("tokenizer.ggml.model", "llama"), ("tokenizer.ggml.scores", scores), ("tokenizer.ggml.add_space_prefix", kind != "none")]
    return backend, tokens, types, keys


def make_vocabulary(path, text, kind, controls, bos, eos):
    """The library's tokenizer; writes ours."""
    make = train_sentencepiece if kind in ("always", "first", "none") else train_byte_level
    backend, tokens, types, keys = make(text, kind)
    backend.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in controls])
    tokens += controls
    types += [3] * len(controls)
    keys += [("tokenizer.ggml.tokens", tokens), ("tokenizer.ggml.token_type", types),
             ("tokenizer.ggml.eos_token_id", tokens.index(eos)), ("tokenizer.ggml.add_bos_token", bos is not None)]
    if bos:
        keys.append(("tokenizer.ggml.bos_token_id", tokens.index(bos)))
    for i, (key, value) in enumerate(keys):
        if key == "tokenizer.ggml.scores":
            keys[i] = (key, value + [0.0] * len(controls))
    write_gguf(path, keys)
    assert [backend.token_to_id(t) for t in controls] == list(range(len(tokens) - len(controls), len(tokens)))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos)


def conversation(rng):
    messages = [("system", sentence(rng))] if rng.random() < 0.5 else []
    for i in range(rng.randint(1, 3)):
        if i:
            messages.append(("assistant", sentence(rng) + rng.choice(["", "\n", "\n\n1. " + mixed(rng)]) + "x"))
        messages.append(("user", rng.choice([sentence, mixed])(rng)))
    return messages


def text_field(data):
    return varint(len(data)) + data


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: make_chat_fixtures.py DIRECTORY")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    make_lines(rng)
    text = training_text(rng)
    cases = []
    for number, (family, template, kind, controls, bos, eos) in enumerate(CASES):
        file = f"{number}-{family}-{kind}.gguf"
        library = make_vocabulary(folder / file, text, kind, controls, bos, eos)
        for _ in range(30):
            messages = conversation(rng)
            ids = library.apply_chat_template([{"role": r, "content": t} for r, t in messages], chat_template=TEMPLATES[template],
                                              add_generation_prompt=True, tokenize=True, return_dict=False)
            cases.append(text_field(family.encode()) + text_field(file.encode()) + b"\x01" + varint(len(messages))
                         + b"".join(bytes([ROLES.index(r)]) + text_field(t.encode()) for r, t in messages)
                         + varint(len(ids)) + b"".join(map(varint, ids)))
    (folder / "cases.bin").write_bytes(struct.pack("<I", len(cases)) + b"".join(cases))
    print(f"{len(cases)} conversations, {sum(f.stat().st_size for f in folder.iterdir())} bytes")


if __name__ == "__main__":
    main()
