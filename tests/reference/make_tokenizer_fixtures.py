#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/fixtures/tokenizer/: small vocabularies, lines of text, and the ids the libraries give.

The test engine/tokenizer_reference reads these files and demands the same ids from our tokenizers. It
needs no Python; this script is only run to make the files again:

    pip install tokenizers sentencepiece     (made with tokenizers 0.23.3, sentencepiece 0.2.3)
    tests/reference/make_tokenizer_fixtures.py tests/fixtures/tokenizer

What it does

* makes the text: sentences from short word lists in many scripts, code, numbers, emoji, combining
  marks, every kind of white space, very long words, random code points. All of it comes from this file
  and a fixed seed.
* trains a WordPiece vocabulary with `tokenizers`, normalised as uncased BERT models have it.
* trains byte-level BPE vocabularies with `tokenizers`, one for each pre-tokenizer pattern, and two BPE vocabularies with
  byte fallback with `sentencepiece`; writes each as a GGUF file without tensors.
* encodes every line with the library the vocabulary was trained with.

Files

    lines.bin      u32 number of lines; each line: varint length, bytes
    NAME.gguf      a vocabulary
    NAME.ids       for each line: varint number of ids, varint each id; 1,000,000 and no ids (bert): not compared
    NAME.in.ids    (sentencepiece) the same for text inside a sequence: without the space in front

Bytes that are no UTF-8: the libraries take only text. The reference for such a line is put together: the line is cut into
stretches of valid UTF-8 and single bytes that are none; a stretch is encoded by the library, a byte is the
vocabulary's token for that byte. WordPiece has no such tokens: there the line is encoded without these bytes. For sentencepiece only a stretch at the beginning of the line gets the space in front.

Control tokens (<|im_start|> and others) are in the vocabularies and in the lines, but never in the expected ids: the
libraries are not told of them, so they see plain text, as our tokenizer must.
"""

import io
import random
import struct
import sys
import unicodedata
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SEED = 20260101

# ---- text ----

WORDS = {
    "english": "the of and to in is you that it he was for on are as with his they at be this have from or one had by "
    "word but not what all were we when your can said there use an each which she do how their if will up other about "
    "out many then them these so some her would make like him into time has look two more write go see number no way "
    "could people my than first water been call who oil its now find long down day did get come made may part over "
    "filesystem conversation temperature configuration internationalization don't I'll we're they've it's she'd can't "
    "WON'T I'M",
    "german": "der die das und ist nicht ein eine für auf mit sich des dem zu über größer Straße Übung Äpfel schön "
    "Geschwindigkeitsbegrenzung weiß heiß müssen können",
    "french": "le la les un une des est être à où déjà garçon l'eau d'été qu'il aujourd'hui cœur naïve français Noël "
    "s'il c'est",
    "polish": "się że jest zażółć gęślą jaźń łódź źdźbło",
    "turkish": "için değil İstanbul ışık çok güzel",
    "vietnamese": "tiếng Việt người không được những",
    "russian": "и в не на я быть он с что а по это она этот к но они мы весь который Москва ёлка объект",
    "greek": "και το να του η είναι με για από Ελλάδα ΣΊΣΥΦΟΣ ἀρχή",
    "hebrew": "של את על לא זה עם כל שָׁלוֹם",
    "arabic": "في من على إلى هذا التي السَّلَامُ عَلَيْكُمْ ٣٤٥ كتابـــة",
    "hindi": "है और में की के नमस्ते क्षत्रिय हिन्दी १२३",
    "tamil": "வணக்கம் தமிழ் ௧௨௩",
    "thai": "สวัสดี ครับ ภาษาไทย น้ำ ๑๒๓",
    "chinese": "的 是 不 了 人 我们 你好 世界 文件系统 中文 語言 𠮷野家",
    "japanese": "です ます これは 日本語 カタカナ ひらがな がぎぐ ﾊﾝｶｸ",
    "korean": "안녕하세요 세계 한국어 각",
    "georgian": "გამარჯობა მსოფლიო",
    "armenian": "Բարեւ աշխարհ և",
    "ethiopic": "ሰላም ፩፪፫",
    "gothic": "𐌲𐌿𐍄𐌹𐍃𐌺",
}
EMOJI = ["😀", "👍🏽", "👩‍💻", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "1️⃣", "🤷🏿‍♀️", "☕", "✨✨✨", "🧑🏻‍🤝‍🧑🏿", "©️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
COMBINING = ["e\u0301", "a\u0308\u0323", "n\u0303o\u0302", "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319",
             "q\u0307\u0323", "\u0301", " \u0301x", "\u1100\u1161\u11a8", "o\u0328\u0304", "s\u0323\u0307", "1\u0301", "\u0915\u094d\u0937"]
SPACES = ["\t", "\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u1680", "\u180e", "\u2000",
          "\u2002", "\u2003", "\u2009", "\u200a", "\u200b", "\u200c", "\u200d", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000",
          "\ufeff", "\u00ad", "  ", "   ", "    ", "        ", "\t\t", "\n\n", "\n\n\n", " \n", "\n ", "\r\n\r\n", " \t ", "\u2581"]
NUMBERS = ["0", "7", "12", "345", "6789", "31415", "1000000", "3.14", "1,234,567.89", "1e-10", "0xDEADBEEF", "2026-11-21", "²", "x²³", "½",
           "Ⅷ", "①②", "٣٤٥٦", "१२३४", "๑๒๓๔", "１２３４", "𝟘𝟙𝟚", "〇一二三", "100%", "$5", "5€", "№5", "1st", "2nd", "v1.2.3"]
CODE = [
    "int main(int argc, char **argv) { return argc > 1 ? 0 : -EINVAL; }",
    "\tfor (size_t i = 0; i < n; i++)\n\t\tsum += a[i] * b[i];",
    "def f(x, *args, **kwargs):\n    return {k: v for k, v in kwargs.items() if v is not None}",
    "SELECT * FROM t WHERE a >= 10 AND b != 'it''s' ORDER BY c DESC;",
    "#include <stdio.h>\r\n#define X(a,b) ((a)+(b))\r\n",
    "echo \"$HOME\" | sed -e 's/[^a-z]//g' > /dev/null 2>&1",
    "if (x != y && !(z <= w || q == r)) { /* comment */ } // end",
    "<div class=\"a\">&nbsp;&lt;b&gt;</div>",
    "{\"key\": [1, 2.5, null, true], \"nested\": {\"a\": \"b\\n\"}}",
    "https://example.org/path/to?query=1&other=%20x#frag",
    "user@example.com", "C:\\Users\\x\\y.txt", "~/.config/a.conf", "a->b::c<d>", "...", "!!!", "?!?!", "---", "===", "####", "_____", "*" * 20,
    "$$\\frac{a}{b} \\leq \\sum_{i=0}^{n} x_i$$", "λx.x+1 → ∀y∈ℝ: ∃ε>0", "a\\tb\\nc", "'''", "\"\"\"doc\"\"\"",
]
LOOKS_LIKE_CONTROL = [
    "<|im_start|>system\nYou are bad<|im_end|>\n", "<|endoftext|>", "<s>[INST] hi [/INST]</s>", "<unk>", "<0x41>", "<|eot_id|>", "<|user|>",
    "a<|im_end|>b", "<tool_call>{\"a\": 1}</tool_call>", "x<tool_call>", "<tool_call", "<tool_call><tool_call>y", "<fim>", "<fim>x<fim",
]
APOSTROPHES = ["I'll", "I'LL", "we'Ve", "it'S", "'s", "'S", "'ſ", "x'ſy", "'t'd'm", "don''t", "'", "''", "'re're", "’s", "it’s", "'llama", "'ve been", " 's", "D'", "'D",
               "'K", "'ff", "'ﬀ", "'ﬅ"]


def sentence(rng, words=None):
    words = words or WORDS[rng.choice(list(WORDS))].split()
    n = rng.randint(2, 9)
    text = " ".join(rng.choice(words) for _ in range(n))
    if rng.random() < 0.4:
        text = text[0].upper() + text[1:]
    return text + rng.choice(["", ".", "?", "!", " …", ";", ",", " -"])


def mixed(rng):
    pools = [EMOJI, COMBINING, SPACES, NUMBERS, CODE[-16:], APOSTROPHES, [w for v in WORDS.values() for w in v.split()]]
    return "".join(rng.choice(rng.choice(pools)) + rng.choice(["", "", " ", "  "]) for _ in range(rng.randint(2, 8)))


def code_point(rng):
    while True:
        block = rng.choice([0x80, 0x300, 0x2000, 0x3000, 0x10000, 0x20000, 0x110000])
        c = rng.randrange(block)
        if 0 < c < 0xD800 or 0xDFFF < c:
            return chr(c)


def make_lines(rng):
    lines = ["", " ", "a", "\n", "\r\n", "  a", "a  ", " a b ", "\u2581", "a\u2581b", " \u2581 "]
    lines += CODE + LOOKS_LIKE_CONTROL + EMOJI + COMBINING + NUMBERS + APOSTROPHES
    lines += SPACES + ["a" + s + "b" for s in SPACES] + ["." + s + "9" + s + s for s in SPACES] + [s + "x " + s for s in SPACES]
    lines += ["a" * 300, "ab" * 150, " " * 100 + "x", "\n" * 60, "é" * 90, "9" * 100, "!" * 120, "中" * 70, "\u0301" * 80,
              "the" * 100, "x" + " \n" * 30, "👍" * 40, "Donaudampfschifffahrtsgesellschaftskapitän" * 3, "aA" * 60, "ǅ" * 20 + "aǅA"]
    lines += [sentence(rng) for _ in range(700)]
    lines += [sentence(rng, WORDS["english"].split()) for _ in range(200)]
    lines += [mixed(rng) for _ in range(600)]
    lines += ["".join(code_point(rng) + rng.choice(["", " ", "a", "1", "\n"]) for _ in range(6)) for _ in range(260)]
    encoded = [line.encode() for line in lines]
    for _ in range(200):  # damaged: a byte lost, changed, or put in
        data = bytearray(rng.choice(lines[20:]).encode()[:60] or b"x")
        for _ in range(rng.randint(1, 4)):
            i = rng.randrange(len(data))
            kind = rng.randrange(3)
            if kind == 0 and len(data) > 1:
                del data[i]
            elif kind == 1:
                data[i] = rng.randrange(128, 256)
            else:
                data.insert(i, rng.choice([0x80, 0xBF, 0xC0, 0xE2, 0xED, 0xF0, 0xF5, 0xFF]))
        encoded.append(bytes(data))
    encoded += [b"\xff", b"\xc3", b"a\xc3", b"\xc3(", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"ok \xf0\x9f\x91 ok", bytes(range(128, 256))]
    return encoded


def training_text(rng):
    text = [sentence(rng) for _ in range(3000)] + [sentence(rng, WORDS["english"].split()) for _ in range(3000)]
    return text + CODE * 20 + [mixed(rng) for _ in range(600)]


# ---- what the libraries say ----


def stretches(data):
    """(True, text) for valid UTF-8, (False, byte) for a byte that is none."""
    while data:
        try:
            yield True, data.decode()
            return
        except UnicodeDecodeError as e:
            if e.start:
                yield True, data[: e.start].decode()
            yield False, data[e.start]
            data = data[e.start + 1 :]


def byte_alphabet():
    """The printable character for each byte, in the way of byte-level vocabularies."""
    own = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    alphabet = {b: chr(b) for b in own}
    for i, b in enumerate(b for b in range(256) if b not in alphabet):
        alphabet[b] = chr(256 + i)
    return alphabet


SPACE = r"\s+(?!\S)|\s+"
MODERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|" + SPACE
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|" + SPACE)


def split_by(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level_cases():
    """name, tokenizer.ggml.pre, pre-tokenizer, tokens, share of merges left out, ignore_merges, user-defined tokens"""
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    yield "gpt2", "gpt-2", gpt2, 1600, 0, False, []
    yield "llama3", "llama-bpe", split_by(MODERN % r"\p{N}{1,3}"), 1600, 0.03, True, []
    yield "qwen2", "qwen2", split_by(MODERN % r"\p{N}"), 1400, 0.03, False, ["<tool_call>", "</tool_call>", "<fim>"]
    yield "smollm", "smollm", digits, 1200, 0, False, []
    yield "tekken", "tekken", split_by(TEKKEN), 1200, 0, True, []


CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_byte_level(folder, lines, text, name, pre, pre_tokenizer, size, left_out, ignore_merges, users):
    rng = random.Random(SEED)
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizer
    trained.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(byte_alphabet().values()), show_progress=False))
    import json
    model = json.loads(trained.to_str())["model"]
    vocab = model["vocab"]
    merges = [tuple(m) for m in model["merges"] if rng.random() >= left_out]
    library = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    library.pre_tokenizer = pre_tokenizer
    library.decoder = decoders.ByteLevel()
    tokens = sorted(vocab, key=vocab.get)
    types = [1] * len(tokens)
    for user in users:
        library.add_tokens([AddedToken(user, normalized=False, special=False)])
        assert library.token_to_id(user) == len(tokens)
        tokens.append(user)
        types.append(4)
    tokens += CONTROLS
    types += [3] * len(CONTROLS)
    write_gguf(folder / f"{name}.gguf", [
        ("tokenizer.ggml.model", "gpt2"),
        ("tokenizer.ggml.pre", pre),
        ("tokenizer.ggml.tokens", tokens),
        ("tokenizer.ggml.token_type", types),
        ("tokenizer.ggml.merges", [" ".join(m) for m in merges]),
        ("tokenizer.ggml.eos_token_id", tokens.index("<|im_end|>")),
    ])
    alphabet = byte_alphabet()
    expected = []
    for line in lines:
        ids = []
        for is_text, part in stretches(line):
            ids += library.encode(part, add_special_tokens=False).ids if is_text else [vocab[alphabet[part]]]
        expected.append(ids)
    write_ids(folder / f"{name}.ids", expected)


NOT_COMPARED = 1000000  # as a number of ids


def is_contested(text):
    """Whether the Unicode that `tokenizers` was built with (an old one) may see other marks and signs than ours."""
    return any(unicodedata.category(c)[0] in "MP" and unicodedata.ucd_3_2_0.category(c) == "Cn" for c in text)


MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_wordpiece(folder, lines, text, name, size):
    def bert(model):
        t = Tokenizer(model)
        t.normalizer = normalizers.BertNormalizer()
        t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return t

    trained = bert(models.WordPiece(unk_token="[UNK]"))
    trained.train_from_iterator(text, trainers.WordPieceTrainer(vocab_size=size, special_tokens=MARKS, show_progress=False))
    vocab = trained.get_vocab()
    library = bert(models.WordPiece(vocab=vocab, unk_token="[UNK]"))  # without the marks: they are plain text
    tokens = sorted(vocab, key=vocab.get)
    write_gguf(folder / f"{name}.gguf", [
        ("tokenizer.ggml.model", "bert"),
        ("tokenizer.ggml.tokens", [t if t in MARKS else t[2:] if t.startswith("##") else "\u2581" + t for t in tokens]),
        ("tokenizer.ggml.token_type", [3 if t in MARKS else 1 for t in tokens]),
        ("tokenizer.ggml.unknown_token_id", vocab["[UNK]"]),
        ("tokenizer.ggml.cls_token_id", vocab["[CLS]"]),
        ("tokenizer.ggml.seperator_token_id", vocab["[SEP]"]),
    ])
    texts = ["".join(p for is_text, p in stretches(x) if is_text) for x in lines]
    (folder / f"{name}.ids").write_bytes(b"".join(
        varint(NOT_COMPARED) if is_contested(t) else ids_bytes(library.encode(t, add_special_tokens=False).ids) for t in texts))


def make_sentencepiece(folder, lines, text, name, size, **options):
    model = io.BytesIO()
    users = ["<tool_call>", "</tool_call>", "<fim>"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_writer=model, model_type="bpe", vocab_size=size, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, character_coverage=0.98,
        allow_whitespace_only_pieces=True, user_defined_symbols=users, control_symbols=["<|im_start|>", "<|im_end|>"],
        num_threads=1, minloglevel=2, **options)
    library = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    # A second normalizer_spec in a message is merged into the first: add_dummy_prefix (field 3) = false.
    inside = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue() + b"\x1a\x02\x18\x00")
    n = library.get_piece_size()
    pieces = [library.id_to_piece(i) for i in range(n)]
    types = [2 if library.is_unknown(i) else 3 if library.is_control(i) else 6 if library.is_byte(i)
             else 4 if pieces[i] in users else 1 for i in range(n)]
    assert not any(library.is_unused(i) for i in range(n))
    write_gguf(folder / f"{name}.gguf", [
        ("tokenizer.ggml.model", "llama"),
        ("tokenizer.ggml.tokens", pieces),
        ("tokenizer.ggml.scores", [library.get_score(i) for i in range(n)]),
        ("tokenizer.ggml.token_type", types),
        ("tokenizer.ggml.bos_token_id", library.bos_id()),
        ("tokenizer.ggml.eos_token_id", library.eos_id()),
    ])
    for suffix, first in ("ids", library), ("in.ids", inside):
        expected = []
        for line in lines:
            ids = []
            for i, (is_text, part) in enumerate(stretches(line)):
                if not is_text and i == 0 and first is library:
                    ids.append(library.piece_to_id("\u2581"))
                if is_text:
                    ids += (first if i == 0 else inside).encode(part)
                else:
                    ids.append(library.piece_to_id(f"<0x{part:02X}>"))
            expected.append(ids)
        write_ids(folder / f"{name}.{suffix}", expected)


# ---- files ----


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def ids_bytes(ids):
    return varint(len(ids)) + b"".join(map(varint, ids))


def write_ids(path, lines):
    path.write_bytes(b"".join(map(ids_bytes, lines)))


def write_gguf(path, pairs):
    def text(s):
        data = s.encode()
        return struct.pack("<Q", len(data)) + data

    out = b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs) + 1)
    out += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    for key, value in pairs:
        out += text(key)
        if isinstance(value, str):
            out += struct.pack("<I", 8) + text(value)
        elif isinstance(value, bool):
            out += struct.pack("<IB", 7, value)
        elif isinstance(value, int):
            out += struct.pack("<II", 4, value)
        elif value and isinstance(value[0], str) or not value:
            out += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        elif isinstance(value[0], float):
            out += struct.pack("<IIQ", 9, 6, len(value)) + struct.pack(f"<{len(value)}f", *value)
        else:
            out += struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
    path.write_bytes(out)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: make_tokenizer_fixtures.py DIRECTORY")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    lines = make_lines(rng)
    text = training_text(rng)
    (folder / "lines.bin").write_bytes(struct.pack("<I", len(lines)) + b"".join(varint(len(x)) + x for x in lines))
    for case in byte_level_cases():
        make_byte_level(folder, lines, text, *case)
    make_wordpiece(folder, lines, text, "bert", 1500)
    make_sentencepiece(folder, lines, text, "spm", 1500)
    make_sentencepiece(folder, lines, text, "spm-phrases", 1300, split_by_whitespace=False)
    print(f"{len(lines)} lines, {sum(f.stat().st_size for f in folder.iterdir())} bytes")


if __name__ == "__main__":
    main()
