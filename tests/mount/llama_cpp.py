#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model on a server that we have not written: that of llama-cpp-python (llama_server.py), with the model that ships.
What it answers through the mount is what it answers without us.

Its claims were kept with version 0.3.36 (Python 3.11, 2026-11-26; built with -DGGML_NATIVE=OFF).

That server answers one request at a time, and by default leaves an answer as soon as another request comes, with
an end that looks like any other but for the reason to finish: `requests_max` 1 keeps us from that, or its own
--interrupt_requests false.
"""
import errno
import json
import os

import harness
import llama_server
from harness import claim, equal, read, read_bytes, refused, shown, wait_for, write
from llama_server import GUIDE, QUESTION, LlamaCpp, far, user
from servers import models

server = None


@claim(limit=90)
def an_answer_is_what_the_server_gives_without_us(m):
    with models(m, far=server.url()):
        for question in (QUESTION, "What does EDQUOT mean?", "What is top_p?", "Où est l'\u00e9t\u00e9 ?"):
            text, finish, _ = server.chat([user(question)], max_tokens=200)
            s = far(m)
            equal((question, s.ask(question).decode()), (question, shown(text).decode()))
            equal((s.status(), s.messages()[-1]["content"]), ("done", text))
            assert "finish %s\n" % finish in read(s("usage")), (finish, read(s("usage")))


@claim()
def it_streams(m):
    with models(m, far=server.url()):
        s = far(m)
        s.submit(QUESTION)
        with open(s("out"), "rb", buffering=0) as f:
            pieces = list(iter(lambda: f.read(65536), b""))
        assert len(pieces) > 3, "%d pieces" % len(pieces)
        equal(b"".join(pieces).decode(), shown(server.chat([user(QUESTION)], max_tokens=200)[0]).decode())


@claim()
def a_connection_is_used_again(m):
    with models(m, far=server.url()):
        assert far(m).ask(QUESTION)
        open_now = server.connections(m.proc.pid)
        equal(len(open_now), 1)
        for _ in range(3):
            assert far(m).ask(QUESTION)
        equal(server.connections(m.proc.pid), open_now)


@claim()
def what_was_used_is_what_it_says_or_about_what_it_would(m):
    with models(m, far={"endpoint": server.url(), "price_output": 1}):
        s = far(m)
        s.ask(QUESTION)
        streamed = server.chat([user(QUESTION)], max_tokens=200)[2]
        usage = server.whole([user(QUESTION)], max_tokens=200)["usage"]
        got = s.usage("prompt_tokens"), s.usage("output_tokens")
        print("    the server says %r in a stream, %r otherwise; usage says %r" % (streamed, usage, got))
        if streamed:
            equal(got, (streamed["prompt_tokens"], streamed["completion_tokens"]))
        else:  # counted by us, without its tokens
            for mine, its in zip(got, (usage["prompt_tokens"], usage["completion_tokens"])):
                assert its / 3 <= mine <= its * 3 + 10, (got, usage)
        assert s.usage("cost") > 0


@claim()
def max_tokens_and_stop_end_it(m):
    with models(m, far=server.url()):
        text, finish, _ = server.chat([user(QUESTION)], max_tokens=5)
        equal(finish, "length")
        s = far(m, max_tokens=5)
        equal(s.ask(QUESTION).decode(), shown(text).decode())
        assert "finish length\n" in read(s("usage")), read(s("usage"))
        whole = server.chat([user(QUESTION)], max_tokens=200)[0]
        word = whole.split()[4]
        s = far(m, stop=word)
        equal(s.ask(QUESTION).decode().rstrip("\n"), whole[:whole.index(word)].rstrip("\n"))
        assert "finish stop\n" in read(s("usage")), read(s("usage"))


@claim()
def the_same_seed_gives_what_it_gives_there(m):
    other = LlamaCpp(harness.MODEL, context=256)
    try:
        wait_for(other.is_there, "second server", timeout=30)
        with models(m, far=other.url()):
            said = {}
            for seed in (7, 8, 9, 7):
                text, _, _ = other.chat([user(QUESTION)], max_tokens=30, temperature=1.5, seed=seed)
                s = far(m, max_tokens=30, temperature=1.5, seed=seed)
                equal((seed, s.ask(QUESTION).decode()), (seed, shown(text).decode()))
                equal(said.setdefault(seed, text), text)
            assert len(set(said.values())) > 1, said
    finally:
        other.close()


@claim()
def json_is_json(m):
    whole = 0
    with models(m, far=server.url()):
        for question in ("What does EDQUOT mean?", "How do I cancel an answer?", "What is a session?",
                         "Which models are there?", "What is 2 + 2?", "How do I set a budget?"):
            s = far(m, format="json")
            assert not server.chat([user(question)], max_tokens=200)[0].startswith("{")
            try:
                text = s.ask(question).decode()
            except OSError as e:
                # One that goes on to the end of the context, as a small model may, is the half of one.
                equal(e.errno, errno.EPROTO)
                assert "before the JSON was whole" in read(s("error")), read(s("error"))
                continue
            equal((s.status(), text[:1]), ("done", "{"))
            json.loads(text)
            whole += 1
    print("    %d of 6 ended by themselves" % whole)
    assert whole


@claim()
def a_second_turn_and_a_system_prompt_arrive(m):
    with models(m, far=server.url()):
        s = far(m, system="You are llmfs.")
        first = s.ask(QUESTION)
        second = s.ask("What is top_p?")
        history = [{"role": "system", "content": "You are llmfs."}, user(QUESTION)]
        text = server.chat(history, max_tokens=200)[0]
        equal(first.decode(), shown(text).decode())
        history += [{"role": "assistant", "content": text}, user("What is top_p?")]
        equal(second.decode(), shown(server.chat(history, max_tokens=200)[0]).decode())


@claim()
def many_at_once_get_their_own(m):
    questions = [QUESTION, "What does EDQUOT mean?", "What is top_p?", "What is a fork?", "What is top_k?",
                 "How do I unmount?"]
    with models(m, far={"endpoint": server.url(), "requests_max": 1}):
        expected = [shown(server.chat([user(q)], max_tokens=200)[0]).decode() for q in questions]
        sessions = [far(m) for _ in questions]
        for s, q in zip(sessions, questions):
            s.submit(q)
        equal([read_bytes(s("out")).decode() for s in sessions], expected)


@claim(limit=90)
def an_answer_that_it_leaves_is_not_taken_for_a_whole_one(m):
    m.expects("far")
    questions = [QUESTION, "What does EDQUOT mean?", "What is top_p?", "What is a fork?"]
    expected = [shown(server.chat([user(q)], max_tokens=200)[0]).decode() for q in questions]
    with models(m, far={"endpoint": server.url(), "retries": 0, "breaker_failures": 1000}):
        left = 0
        for _ in range(5):
            sessions = [far(m) for _ in questions]
            for s, q in zip(sessions, questions):
                s.submit(q)
            for s, text in zip(sessions, expected):
                try:
                    equal(read_bytes(s("out")).decode(), text)
                except OSError as e:
                    left += 1
                    equal((e.errno, s.status()), (errno.EPROTO, "failed"))
        print("    it left %d of 20 answers" % left)


@claim(limit=90)
def cancel_closes_the_connection_and_the_next_request_is_served(m):
    # Held to JSON, the model that ships does not find an end.
    other = LlamaCpp(GUIDE)
    try:
        wait_for(other.is_there, "second server", timeout=30)
        with models(m, far=other.url(), near=server.url()):
            before = other.connections(m.proc.pid)
            s = far(m, max_tokens=1500, format="json")
            s.submit("What is top_p?")
            with open(s("out"), "rb", buffering=0) as f:
                assert f.read(1)
                during = other.connections(m.proc.pid) - before
                equal((s.status(), len(during)), ("generating", 1))
                s.cancel()
                equal(s.status(), "cancelled")
            wait_for(lambda: not during & other.connections(m.proc.pid), "closed connection", timeout=5)
            s = far(m, max_tokens=3)
            assert s.ask(QUESTION)
            equal(s.status(), "done")
    finally:
        other.close()


@claim()
def it_ends_and_comes_back(m):
    m.expects("far")
    mine = LlamaCpp(GUIDE)
    try:
        wait_for(mine.is_there, "a server of its own", timeout=30)
        with models(m, far={"endpoint": mine.url(), "retries": 0, "fallback": "tiny"}):
            expected = shown(mine.chat([user(QUESTION)], max_tokens=200)[0])
            equal(far(m).ask(QUESTION), expected)
            mine.close()
            s = far(m, max_tokens=8)
            assert s.ask(QUESTION) != expected
            assert '"tiny"' in read(s("trace")), read(s("trace"))
            os.unlink(m("models", "far", "fallback"))
            s = far(m)
            s.submit(QUESTION)
            with refused(errno.EHOSTUNREACH):
                read_bytes(s("out"))
            write(m("models", "far", "endpoint"), server.url() + "\n")
            equal(far(m).ask(QUESTION), expected)
    finally:
        mine.close()


def use(its):
    global server
    server = its


llama_server.main(use)
