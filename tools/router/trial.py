#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How well a model judges the answers of a cascade, and says how much prompts ask.

usage: LLMFS=build/llmfs tools/router/trial.py [MODEL | FILE.gguf]     (by default guide, then judge)

Mounts mnt-example with a server of tests/upstream as the model that answers, and has MODEL judge a
good and a bad answer to each of the prompts of pairs.jsonl, as router/cascade_judge does: what is
measured is what a request would see. Then it is router/classifier_model for the prompts of
tests/gateway/classify_prompts.h, which have the class that a person gave them.

Prints, of the verdicts: how often the good answer of a pair has the higher one (ties are half), how
many are right at 0.5, the means, and the same order by the estimate alone; of the classes: how many
are right, by the model and by the rules.
"""
import ast
import json
import os
import re
import shutil
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "mount"))

import harness
from harness import Mount, read, wait_for, write
from routed_parts import explain, steps
from servers import Server, models

PROMPTS = os.path.join(ROOT, "tests", "gateway", "classify_prompts.h")


def mounted():
    m = Mount(start=False, allow=["warning: "])
    shutil.rmtree(m.tree)
    shutil.copytree(os.path.join(ROOT, "mnt-example"), m.tree, symlinks=True)
    m.start()
    wait_for(lambda: read(m("models", "default", "state")) == "ready\n", "ready")
    return m


def outcome(m, server, prompt, answer):
    """(p(yes) or None, the quality, milliseconds) of that answer."""
    server.control(answer=answer)
    s = m.session(model="cascade", tokens=200, cache="off")
    before = time.monotonic()
    s.ask(prompt)
    took = (time.monotonic() - before) * 1000
    said = {x["model"]: x["outcome"] for x in reversed(steps(s))}
    quality = float(re.search(r"quality ([\d.]+)", said["said"]).group(1))
    verdict = next((x["outcome"] for x in steps(s) if "judges the answer" in x["outcome"]), None)
    os.rmdir(s.path)
    return (float(verdict.rsplit(", ", 1)[1]) if verdict else None), quality, took


def higher(pairs):
    return sum((g > b) + (g == b) / 2 for g, b in pairs) / len(pairs)


def judge(m, server, name, pairs):
    with models(m, said={"endpoint": server.url(), "price_output": 0.1},
                last={"endpoint": server.url(), "price_output": 9}):
        for other in ("guide", "judge"):
            write(m("models", other, "capabilities"), "embed\n")
        write(m("router", "threshold"), "0\n")
        plain = [[outcome(m, server, p["prompt"], p[k])[1] for k in ("good", "bad")] for p in pairs]
        write(m("router", "cascade_judge"), name + "\n")
        got = [[outcome(m, server, p["prompt"], p[k]) for k in ("good", "bad")] for p in pairs]
        os.unlink(m("router", "cascade_judge"))
    verdicts = [(g[0], b[0]) for g, b in got if g[0] is not None and b[0] is not None]
    print("%s as cascade_judge: a verdict on both answers of %d of %d pairs" % (
        name, len(verdicts), len(got)))
    print("  by the estimate alone the good answer is the higher of %.1f%%" % (100 * higher(plain)))
    if not verdicts:
        return
    good, bad = [g for g, _ in verdicts], [b for _, b in verdicts]
    right = sum(g >= 0.5 for g in good) + sum(b < 0.5 for b in bad)
    print("  by the verdict it is the higher of %.1f%%; right at 0.5: %d of %d" % (
        100 * higher(verdicts), right, 2 * len(verdicts)))
    print("  p(yes): good answers mean %.3f (%.3f to %.3f), bad ones mean %.3f (%.3f to %.3f)" % (
        statistics.mean(good), min(good), max(good), statistics.mean(bad), min(bad), max(bad)))
    print("  a request with its verdict: median %.1f ms" % statistics.median(
        x[2] for pair in got for x in pair))


def classes(m, name):
    table = re.findall(r"\{'[th]', '([SMC])',((?:\s*\"(?:[^\"\\]|\\.)*\")+)\}", read(PROMPTS))
    word = {"S": "simple", "M": "moderate", "C": "complex"}
    right = by_rules = said = 0
    write(m("router", "classifier_model"), name + "\n")
    write(m("router", "classifier_timeout_ms"), "20000\n")
    for want, text in table:
        pieces = re.findall(r'"(?:[^"\\]|\\.)*"', text)
        prompt = b"".join(ast.literal_eval("b" + x) for x in pieces).decode()
        d = explain(m, prompt)
        said += d["class_by"] == "model"
        right += d["classifier"]["class"] == word[want]
        by_rules += d["class_by_rules"] == word[want]
    os.unlink(m("router", "classifier_model"))
    print("%s as classifier_model: it says a class of %d of %d prompts, %d right; the rules %d right" % (
        name, said, len(table), right, by_rules))


def main():
    with open(os.path.join(HERE, "pairs.jsonl")) as f:
        pairs = [json.loads(line) for line in f]
    with mounted() as m, Server() as server:
        for name in sys.argv[1:] or ["guide", "judge"]:
            if os.path.isfile(name):
                os.mkdir(m("models", "tried"))
                write(m("models", "tried", "path"), os.path.abspath(name) + "\n")
                name = "tried"
            judge(m, server, name, pairs)
            # It is asked only where there is a choice.
            with models(m, one={"endpoint": server.url()}, two={"endpoint": server.url()}):
                classes(m, name)


harness.slow()
harness.WARDEN = harness.Warden()
try:
    main()
finally:
    harness.WARDEN.bye()
