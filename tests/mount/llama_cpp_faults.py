#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with a server that we have not written, that of llama-cpp-python (llama_server.py): it is killed and
comes back, one of two replicas goes, a prompt is too long for it, a reader leaves, its vectors are none of a text.

Its claims were kept with version 0.3.36 (Python 3.11, 2026-11-26; built with -DGGML_NATIVE=OFF).
"""
import errno
import json
import os
import sys
import time

import harness
import llama_server
from harness import Skip, claim, equal, read, read_bytes, refused, shown, wait_for, write
from llama_server import GUIDE, QUESTION, LlamaCpp, far, user
from servers import models

sys.path.insert(0, os.path.join(harness.ROOT, "tests"))
import real_models  # noqa: E402

PLACE = os.environ.get("LLMFS_MINILM_GGUF", os.path.join(
    os.path.dirname(os.path.dirname(harness.MODEL)), "engine", "minilm.gguf"))
# Held to JSON, the model that ships does not find an end of its answer to this.
ENDLESS = "What is top_p?"
server = None


def own(gguf=GUIDE, **options):
    """A server that the claim may kill; it is there."""
    s = LlamaCpp(gguf, **options)
    wait_for(s.is_there, "server of its own", timeout=60)
    return s


def state(m, model):
    return read(m("models", model, "state")).strip()


def begin(m):
    """(session, out, first byte) of a long answer under way."""
    s = far(m, max_tokens=900, format="json")
    s.submit(ENDLESS)
    out = open(s("out"), "rb", buffering=0)
    first = out.read(1)
    assert first
    return s, out, first


@claim(limit=120)
def killed_in_mid_stream_it_is_an_error_and_once_back_it_is_asked_again(m):
    m.expects("far")
    mine = own()
    try:
        with models(m, far={"endpoint": mine.url(), "retries": 0, "breaker_failures": 3, "breaker_successes": 1,
                            "breaker_open_ms": 300}):
            s, out, got = begin(m)
            mine.kill()
            with refused(errno.EPROTO):
                while True:
                    more = out.read(65536)
                    assert more, "an end like that of a whole answer"
                    got += more
            out.close()
            equal(s.status(), "failed")
            assert read(s("error")).strip(), "no sentence"
            for _ in range(3):
                with refused(errno.EHOSTUNREACH):
                    far(m, max_tokens=2).ask(QUESTION)
            assert state(m, "far") in ("open", "half-open"), state(m, "far")
            mine = mine.again()

            def answers():
                try:
                    return bool(far(m, max_tokens=2).ask(QUESTION))
                except OSError as e:
                    equal(e.errno, errno.EHOSTUNREACH)
                    return False
            wait_for(answers, "answer of the server that is back", timeout=20)
            equal(state(m, "far"), "ready")
    finally:
        mine.close()


@claim(limit=120)
def of_two_replicas_both_work_and_one_alone_goes_on_without_a_loss(m):
    m.expects("pair")
    one, two = own(), own()
    try:
        with models(m, pair={"endpoint": one.url() + "\n" + two.url(), "requests_max": 2, "health_interval_ms": 0,
                             "retry_ratio": 1}):
            questions = ["What is top_p?", "What does EDQUOT mean?", "How do I unmount?", "What is a fork?"]
            whole = {q: shown(server.chat([user(q)], max_tokens=200)[0]) for q in questions}

            def ask(q):
                equal((q, far(m, model="pair").ask(q)), (q, whole[q]))

            before = one.cpu(), two.cpu()
            for i in range(4):  # two at a time, as each of them takes one at a time
                sessions = [far(m, model="pair") for _ in range(2)]
                for k, s in enumerate(sessions):
                    s.submit(questions[(2 * i + k) % 4])
                for k, s in enumerate(sessions):
                    equal(read_bytes(s("out")), whole[questions[(2 * i + k) % 4]])
            used = one.cpu() - before[0], two.cpu() - before[1]
            assert min(used) > 0, "one had nothing to do: %r s" % (used,)
            one.kill()
            for _ in range(3):
                for q in questions:
                    ask(q)
    finally:
        one.close()
        two.close()


@claim(limit=120)
def cancel_has_it_stop_long_before_its_end(m):
    # Each token is text, and so is sent at once: that is when this server sees that nobody listens. (Of a character
    # that is not whole it sends nothing, and goes on.)
    mine = own()
    try:
        whole = mine.cpu()
        _, finish, _ = mine.chat([user(ENDLESS)], max_tokens=900, response_format={"type": "json_object"})
        whole = mine.cpu() - whole
        equal(finish, "length")
        with models(m, far=mine.url()):
            part = mine.cpu()
            s, out, _ = begin(m)
            s.cancel()
            out.close()
            equal(s.status(), "cancelled")
            was = [mine.cpu()]

            def is_idle():
                time.sleep(0.5)
                was.append(mine.cpu())
                return was[-1] - was[-2] <= 0.02
            wait_for(is_idle, "end of its computing", timeout=30)
            part = was[-1] - part
            print("    it used %.2f s of processor, of %.2f s for a whole answer" % (part, whole))
            assert part < whole / 2, (part, whole)
            assert far(m, max_tokens=3).ask(QUESTION)
    finally:
        mine.close()


@claim()
def a_prompt_too_long_for_it_is_no_empty_answer(m):
    m.expects("far")
    mine = own(GUIDE, context=512)
    try:
        with models(m, far={"endpoint": mine.url(), "retries": 2, "breaker_failures": 1}):
            s = far(m)
            s.submit("word " * 2000)
            try:
                got = read_bytes(s("out"))
                raise AssertionError("an answer: %r, status %s" % (got, s.status()))
            except OSError as e:
                print("    it is %s: %s" % (errno.errorcode[e.errno], read(s("error")).strip()))
                assert e.errno in (errno.EPROTO, errno.EMSGSIZE), e
            equal(s.status(), "failed")
            equal(state(m, "far"), "ready")  # others may ask
            # Told of its context, we do not ask it at all.
            write(m("models", "far", "context"), "512\n")
            s = far(m, truncate="off")
            with refused(errno.EMSGSIZE):
                s.submit("word " * 2000)
                read_bytes(s("out"))
            equal(shown(server.chat([user(QUESTION)], max_tokens=200)[0]), far(m).ask(QUESTION))
    finally:
        mine.close()


def vector(m, text):
    with open(m("models", "far", "embed"), "r+b", buffering=0) as f:
        f.write(text.encode())
        return json.loads(f.read(1 << 20))


@claim(limit=90)
def its_vectors_are_ours_of_the_same_model(m):
    try:
        gguf = real_models.minilm(PLACE)
    except real_models.Missing as e:
        raise Skip(str(e)) from e
    mine = own(gguf, context=256, embedding=True)
    try:
        with models(m, far=mine.url(), near={"path": gguf}):
            write(m("models", "near", "ctl"), "load\n")
            wait_for(lambda: state(m, "near") == "ready", "our own", timeout=60)
            for text in ("A cat sat on the mat.", "Où est l'été ?", "word " * 50):
                a = vector(m, text)
                with open(m("models", "near", "embed"), "r+b", buffering=0) as f:
                    f.write(text.encode())
                    b = json.loads(f.read(1 << 20))
                equal(len(a), len(b))
                norm = (sum(x * x for x in a) * sum(x * x for x in b)) ** 0.5
                cosine = sum(x * y for x, y in zip(a, b)) / norm
                assert cosine > 0.999, (text, cosine)
    finally:
        mine.close()


@claim()
def a_vector_for_each_token_is_none_of_the_text(m):
    m.expects("far")
    mine = own(GUIDE, context=256, embedding=True)
    try:
        with models(m, far={"endpoint": mine.url(), "retries": 0}):
            with refused(errno.EPROTO):
                vector(m, "A cat sat on the mat.")
            assert "embed" in read(m("models", "far", "ask_error")), read(m("models", "far", "ask_error"))
    finally:
        mine.close()


def use(its):
    global server
    server = its


llama_server.main(use)
