#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cache/embedding_model, with all-MiniLM-L6-v2: who gets the answer to a question that says the same in other words,
and who must not. LLMFS_MINILM_GGUF is where the model is, or is made when it is not there (tests/real_models.py); where it
cannot be, nothing is tested."""
import contextlib
import json
import os
import sys

import harness
from harness import Session, claim, equal, read, read_bytes, shown, wait_for, write
from servers import Server, models

sys.path.append(os.path.dirname(harness.HERE))

import real_models  # noqa: E402

harness.CACHE = True
PLACE = os.environ.get("LLMFS_MINILM_GGUF", os.path.join(
    os.path.dirname(os.path.dirname(harness.MODEL)), "engine", "minilm.gguf"))
PARAPHRASES = [
    ("How can I open a bank account in Spain?", "How do I open a bank account in Spain?"),
    ("What is the population of Norway in 2020?", "What is Norway's population in 2020?"),
    ("Compare the iPhone 14 with the iPhone 15.", "Compare the iPhone 14 and the iPhone 15."),
    ("Plan a two day trip to Prague.", "Plan a 2-day trip to Prague."),
    ("Why does my program crash with a segmentation fault?",
     "Why is my program crashing with a segmentation fault?"),
]
LOOK_ALIKES = [
    ("negation", "Why does the engine start in the morning?", "Why does the engine not start in the morning?"),
    ("opposite", "Sort the users by age in ascending order.", "Sort the users by age in descending order."),
    ("number", "How long should I bake a chicken at 200 degrees?",
     "How long should I bake a chicken at 180 degrees?"),
    ("number", "What is the median of 3, 7, 8, 12 and 20?", "What is the median of 3, 7, 9, 12 and 20?"),
    ("name", "What is the capital of Austria?", "What is the capital of Australia?"),
    ("name", "How do I cook pasta for Anna?", "How do I cook pasta for Anne?"),
    ("roles", "Does the dog bite the postman?", "Does the postman bite the dog?"),
    ("roles", "How do I get from Munich to Vienna by train?", "How do I get from Vienna to Munich by train?"),
    ("unit", "Convert 5 miles to kilometers.", "Convert 5 kilometers to miles."),
]
server = None  # started when the model is there


def used(s):
    """The cache's part in the newest answer, or None."""
    for line in read(s("usage")).splitlines():
        if line.split()[0] == "cache":
            return line.split()[1]
    return None


def stats(m, name):
    return float(dict(x.split() for x in read(m("cache", "stats")).splitlines())[name])


def answers(text):
    """From now on that is what the server says."""
    server.control(answer=text)
    return text


def ask(m, prompt, **settings):
    """(the answer without its newline, how the cache took part)"""
    s = m.session(model="far", **settings)
    got = s.ask(prompt).decode().rstrip("\n")
    return got, used(s)


def learn(m, prompt, **settings):
    """Asked and stored, and its vector known."""
    n = stats(m, "vectors")
    equal(ask(m, prompt, **settings)[1], None)
    wait_for(lambda: stats(m, "vectors") > n, "vector of the prompt", timeout=20)


@contextlib.contextmanager
def semantic(m):
    """The model in force, an empty cache, and `far`, a model that a server has."""
    os.mkdir(m("models", "minilm"))
    write(m("models", "minilm", "path"), MODEL + "\n")
    write(m("models", "minilm", "ctl"), "load\n")
    wait_for(lambda: read(m("models", "minilm", "state")) == "ready\n", "embedding model", timeout=30)
    write(m("cache", "embedding_model"), "minilm\n")
    write(m("cache", "ctl"), "flush\n")
    server.reset()
    try:
        with models(m, far=server.url()):
            yield
    finally:
        write(m("cache", "embedding_model"), "")
        with contextlib.suppress(OSError):
            os.rmdir(m("models", "minilm"))


@contextlib.contextmanager
def far_as_default(m):
    m.sh("ln -sfn far models/default", check=True)
    try:
        yield
    finally:
        m.sh("ln -sfn tiny models/default", check=True)


def lookup(m, prompt):
    with open(m("cache", "lookup"), "r+b", buffering=0) as f:
        f.write(prompt.encode())
        return json.loads(b"".join(iter(lambda: f.read(65536), b"")))


@claim()
def a_question_in_other_words_is_answered_from_the_cache(m):
    with semantic(m):
        for first, other in PARAPHRASES:
            told = answers("The answer to: " + first)
            learn(m, first)
            answers("Something else.")
            n = len(server.requests())
            equal((other, ask(m, other)), (other, (told, "semantic")))
            equal(len(server.requests()), n)
        s = m.session(model="far")
        s.ask(PARAPHRASES[0][1])
        equal((s.usage("cost"), s.usage("output_tokens"), stats(m, "hits_l3") >= 5), (0, 0, True))
        equal(s.messages()[-1]["content"], "The answer to: " + PARAPHRASES[0][0])
        assert 'llm_cache_hits_total{cache_level="l3"}' in read(m("metrics", "prometheus"))


@claim()
def what_only_looks_alike_is_computed(m):
    for threshold in ("", "0.5\n"):  # the second leaves all of it to agreement
        with semantic(m):
            hits, refused = stats(m, "hits_l3"), stats(m, "near_refused")
            write(m("cache", "threshold"), threshold)
            try:
                for kind, first, other in LOOK_ALIKES:
                    answers("The answer to: " + first)
                    learn(m, first)
                    told = answers("The other answer.")
                    equal((kind, other, ask(m, other)), (kind, other, (told, None)))
            finally:
                write(m("cache", "threshold"), "")
            equal(stats(m, "hits_l3"), hits)
            assert stats(m, "near_refused") - refused >= len(LOOK_ALIKES) // 2, read(m("cache", "stats"))


@claim()
def another_conversation_system_prompt_or_setting_gets_none_of_it(m):
    first, other = PARAPHRASES[0]
    with semantic(m):
        answers("One.")
        learn(m, first)
        told = answers('"Two."')  # JSON, too
        for change in ({"system": "Be brief."}, {"max_tokens": 13}, {"stop": "fox"}, {"seed": 7}, {"format": "json"},
                       {"temperature": 0.5}, {"cache": "off"}):
            s = m.session(**dict({"model": "far"}, **change))
            equal((change, s.ask(other), used(s)), (change, shown(told), None))
        s = m.session(model="far")
        s.ask("Hello.")
        equal((s.ask(other), used(s)), (shown(told), None))


@claim(root=True)
def another_user_gets_none_of_it(m):
    first, other = PARAPHRASES[1]
    with semantic(m), far_as_default(m):
        answers("One.")
        learn(m, first)
        answers("Two.")
        script = ("d=$(mktemp -d sessions/uXXXXXX) && echo far > $d/model && echo 1 > $d/ignore_eos && "
                  "echo 12 > $d/max_tokens && echo '%s' > $d/in && cat $d/out && { grep '^cache ' $d/usage || :; }"
                  % other.replace("'", "'\\''"))
        done = m.sh(script, user=12345)
        equal((done.stdout, done.stderr), ("Two.\n", ""))
        done = m.sh("exec 3<>cache/lookup; echo \"%s\" >&3; cat <&3" % first, user=12346)
        equal(json.loads(done.stdout)["nearest"], [])
        equal(ask(m, other), ("One.", "semantic"))


@claim()
def lookup_names_the_nearest_with_its_score_and_why_not(m):
    with semantic(m), far_as_default(m):
        answers("One.")
        n = stats(m, "vectors")
        for prompt in ("What is the capital of France?", "What is the median of 3, 7, 8, 12 and 20?"):
            s = Session(m, "defaults%d" % stats(m, "stored"))  # lookup is for a session with all defaults
            os.mkdir(s.path)
            s.ask(prompt)
        wait_for(lambda: stats(m, "vectors") == n + 2, "vectors", timeout=20)
        found = lookup(m, "What's the capital of France?")
        best = found["nearest"][0]
        equal((found["exact"], found["outcome"]), (None, "hit"))
        equal((best["prompt"], best["served"], best["agreement"]), ("What is the capital of France?", True, "agree"))
        assert 0.95 <= best["score"] <= 1, best
        found = lookup(m, "What is the median of 3, 7, 9, 12 and 20?")
        best = found["nearest"][0]
        equal((found["outcome"], best["served"], best["agreement"]), ("miss", False, "numbers"))
        assert best["score"] >= 0.95 and "numbers" in best["why"], best
        found = lookup(m, "Who wrote Faust?")
        equal((found["outcome"], found["nearest"][0]["served"]), ("miss", False))
        assert found["nearest"][0]["score"] < 0.5 and "threshold" in found["nearest"][0]["why"], found


@claim()
def the_threshold_is_a_file(m):
    with semantic(m):
        first, other = "How do I open a bank account in Spain?", "In Spain, how can I open a bank account?"
        answers("One.")
        learn(m, first)
        answers("Two.")
        try:
            write(m("cache", "threshold"), "0.9999\n")
            equal(ask(m, other, cache="all")[1], None)
            write(m("cache", "ctl"), "flush\n")
            wait_for(lambda: stats(m, "vectors") == 0, "flushed vectors", timeout=20)
            answers("One.")
            learn(m, first)
            write(m("cache", "threshold"), "0.8\n")
            equal(ask(m, other), ("One.", "semantic"))
        finally:
            write(m("cache", "threshold"), "")


@claim(limit=90)
def without_its_model_requests_go_on_and_status_says_so(m):
    m.expects("models/minilm: .*: this is not a GGUF file")
    first, other = PARAPHRASES[0]
    with semantic(m):
        answers("One.")
        learn(m, first)
        equal(ask(m, other)[1], "semantic")
        told = answers("Two.")
        os.rmdir(m("models", "minilm"))
        equal(ask(m, other), (told, None))
        equal(ask(m, first), ("One.", "l1"))
        assert "cache/embedding_model" in read(m("status")), read(m("status"))
        assert stats(m, "embeddings_failed") >= 1
        # A file that is no model.
        os.mkdir(m("models", "minilm"))
        write(m("models", "minilm", "path"), "/etc/passwd\n")
        equal(ask(m, "What else do I need for a bank account in Spain?"), (told, None))
        assert "cache/embedding_model" in read(m("status")), read(m("status"))
        # A model that does not embed.
        write(m("cache", "embedding_model"), "tiny\n")
        equal(ask(m, "And what do I need in Portugal?"), (told, None))
        # And back.
        write(m("models", "minilm", "path"), MODEL + "\n")
        write(m("models", "minilm", "ctl"), "load\n")
        wait_for(lambda: read(m("models", "minilm", "state")) == "ready\n", "embedding model", timeout=30)
        write(m("cache", "embedding_model"), "minilm\n")
        learn(m, PARAPHRASES[1][0])
        equal(ask(m, PARAPHRASES[1][1]), (told, "semantic"))
        wait_for(lambda: "cache/embedding_model" not in read(m("status")), "end of the fault")


@claim()
def the_vectors_may_come_from_a_server(m):
    """Those of faulty.py mean nothing, so that nothing is near; but they are asked for, and when they fail the
    question is answered all the same."""
    with models(m, far=server.url(), vec=server.url()):
        server.reset()
        write(m("cache", "ctl"), "flush\n")
        write(m("cache", "embedding_model"), "vec\n")
        try:
            learn(m, "Is there anybody?")
            equal([r["path"] for r in server.requests()].count("/v1/embeddings"), 1)
            told = answers("Yes.")
            equal(ask(m, "Is somebody there?"), (told, None))
            write(m("models", "vec", "endpoint"), server.url("500") + "\n")
            write(m("models", "vec", "retries"), "0\n")
            failed = stats(m, "embeddings_failed")
            equal(ask(m, "Is nobody there?"), (told, None))
            equal(stats(m, "embeddings_failed"), failed + 1)
            assert "cache/embedding_model" in read(m("status")), read(m("status"))
        finally:
            write(m("cache", "embedding_model"), "")
            server.reset()


@claim(own=True, limit=90)
def it_survives_a_restart_and_a_kill(Mount):
    with Mount() as m, semantic(m):
        first, other = PARAPHRASES[2]
        told = answers("To be remembered.")
        learn(m, first)
        wait_for(lambda: stats(m, "disk_entries") == 1, "entry on disk")
        answers("Two.")
        for end in (m.stop, lambda: (m.kill(), m.wait())):
            end()
            m.start()
            write(m("models", "minilm", "ctl"), "load\n")
            wait_for(lambda: read(m("models", "minilm", "state")) == "ready\n", "embedding model", timeout=30)
            wait_for(lambda: stats(m, "vectors") == 1, "vector")
            n = len(server.requests())
            equal((ask(m, other), len(server.requests())), ((told, "semantic"), n))


MODEL = real_models.or_skip(real_models.minilm, PLACE)
server = Server()
try:
    harness.main(*(["-o", "allow_other"] if os.getuid() == 0 else []))
finally:
    server.close()
