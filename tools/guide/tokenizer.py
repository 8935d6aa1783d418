"""Trains the byte-level BPE tokenizer (GPT-2 pre-tokenizer) on corpus text."""
import os
import random
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from corpus import Corpus

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCAB = 4096


def texts(corpus, n, seed=1):
    rng = random.Random(seed)
    for i in range(n):
        q, a = corpus.turn(rng)
        yield q
        if i % 4 == 0:
            yield a
        if i % 10 == 0:
            yield corpus.prose(rng, 30)
    for it in corpus.intents.values():
        yield from it.answers


def train(path, lines=None, vocab=VOCAB):
    """lines: what to learn from; by default guide's corpus."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=SPECIALS, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tok.train_from_iterator(texts(Corpus(), 60000) if lines is None else lines, trainer)
    tok.save(path)
    return tok


def load(path, dropout=None):
    tok = Tokenizer.from_file(path)
    if dropout:
        tok.model.dropout = dropout
    return tok


if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) > 1 else "build-guide"
    os.makedirs(out, exist_ok=True)
    t = train(os.path.join(out, "tokenizer.json"))
    print(t.get_vocab_size(), t.encode("How do I set the temperature? echo 0.2 > sessions/main/temperature").tokens)
