#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The trial of the semantic cache with the engine's own vectors: of all hits at the shipped threshold at most 1 % are
wrong, and there are hits.

usage: semantic_trial.py EVALUATE EMBED MODEL [SANITIZER]

EVALUATE and EMBED are tools/semantic/evaluate.c and embed.c; MODEL is made when it is not there (tests/real_models.py).
Where it cannot be: exit 77, with the reason; so, too, under the thread sanitizer (SANITIZER is meson's b_sanitize),
which makes minutes of it and has nothing to find, as nothing here runs beside anything. Under the address sanitizer
the programs run on the pairs of two languages, and nothing is said of their quality.
"""

import glob
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.append(os.path.dirname(HERE))

import real_models  # noqa: E402

PAIRS = sorted(glob.glob(os.path.join(HERE, "semantic_pairs", "*.txt")))
# "0.95 | hit rate % wrong of hits wrong % (every) | the same again, with agreement"
ROW = re.compile(r" *([\d.]+) +\|.*\| +([\d.]+) % +(\d+) of +(\d+) +[\d.]+ % +\((\d+) of (\d+)\)$")


def row(table, threshold):
    """(hit rate, wrong, hits, wrong with every paraphrase, traps with every paraphrase), agreement on."""
    for line in table.splitlines():
        m = ROW.match(line)
        if m and float(m[1]) == threshold:
            return float(m[2]), *map(int, m.groups()[2:])
    raise AssertionError("no row of %g in\n%s" % (threshold, table))


def main():
    evaluate, embed, model, sanitizer = (sys.argv[1:] + ["none"])[:4]
    if sanitizer == "thread":
        print("skip: a quality of single threads, and too slow under the thread sanitizer")
        return 77
    model = real_models.or_skip(real_models.minilm, model)
    pairs_of = [p for p in PAIRS if sanitizer == "none" or os.path.basename(p) in ("french.txt", "german.txt")]
    threshold = float(open(os.path.join(ROOT, "mnt-example", "cache", "threshold")).read())
    with tempfile.NamedTemporaryFile() as vectors:
        texts = subprocess.run([evaluate, "-l", *pairs_of], stdout=subprocess.PIPE, check=True).stdout
        subprocess.run([embed, model], input=texts, stdout=vectors, check=True)
        table = subprocess.run([evaluate, "-v", vectors.name, *pairs_of], stdout=subprocess.PIPE, check=True,
                               text=True).stdout
    print(table)
    rate, wrong, hits, wrong_of_all, traps = row(table, threshold)
    print("at %g: %.1f %% of the paraphrases hit; %d of %d hits are wrong" % (threshold, rate, wrong, hits))
    if sanitizer != "none":
        return 0
    pairs, firsts = map(int, re.match(r"(\d+) paraphrase pairs, (\d+) traps", table).groups())
    assert pairs >= 500 and firsts >= 500, "too few pairs"
    assert hits >= 200, "too few hits to tell"
    assert wrong * 100 <= hits, "more than 1 % of the hits are wrong"
    assert wrong_of_all * 100 <= traps, "more than 1 % of the traps hit"
    return 0


if __name__ == "__main__":
    sys.exit(main())
