#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""guards/moderation: a model that judges prompts and answers. The judge here is a random model, so
the threshold decides: with a tiny one everything is unsafe, with 1 nothing is."""
import contextlib
import errno
import json
import os
import pwd
import time

import harness
from harness import claim, equal, read, read_bytes, refused, until_it_fails, wait_for, write
from servers import ANSWER, Server, models

UNSAFE, SAFE = "0.000001", "1"


@contextlib.contextmanager
def judge(m, threshold=UNSAFE, model="short", **lines):
    text = "model %s\nthreshold %s\ncategory S1 Violence\n" % (model, threshold)
    text += "".join("%s %s\n" % item for item in lines.items())
    write(m("guards", "moderation"), text)
    try:
        yield
    finally:
        os.unlink(m("guards", "moderation"))


def audit(m, s):
    return [a for a in map(json.loads, read(m("guards", "audit")).splitlines())
            if a["session"] == s.name]


@claim()
def an_unsafe_prompt_is_refused_by_the_read_of_out(m):
    s = m.session()
    with judge(m, stages="input"):
        s.submit("hello")
        with refused(errno.EPERM):
            read_bytes(s("out"))
        equal(s.status(), "blocked")
        assert "judge" in read(s("error")) and "unsafe" in read(s("error")), read(s("error"))
        equal(s.messages(), [])
        found = audit(m, s)
        equal([(a["stage"], a["guard"], a["action"]) for a in found],
              [("input", "moderation", "block")])
        equal(s.usage("output_tokens"), 0)
    assert s.ask("hello")


@claim()
def a_refused_prompt_leaves_the_conversation_as_it_was(m):
    s = m.session()
    s.ask("first")
    before = s.messages()
    with judge(m, stages="input"):
        s.submit("second")
        s.wait("blocked")
    equal(s.messages(), before)
    s.ask("third")
    equal(s.prompts(), ["first", "third"])


@claim()
def an_unsafe_prompt_can_be_answered_with_a_text(m):
    s = m.session()
    with judge(m, stages="input", action="replace", replacement="Let us talk of cats."):
        equal(s.ask("hello"), b"Let us talk of cats.\n")
        equal(s.status(), "done")
        equal(s.messages()[-1]["content"], "Let us talk of cats.")


@claim()
def judges_are_paid_by_whose_text_they_judge(m):
    me = pwd.getpwuid(os.getuid()).pw_name
    s = m.session()
    write(m("models", "short", "price_input"), "1000000\n")
    try:
        with judge(m, SAFE, action="warn"):
            s.ask("hello")
            equal(s.usage("output_tokens") > 0, True)
            input_tok, cost = s.usage("judge_prompt_tokens"), s.usage("judge_cost")
            assert 0 < cost <= input_tok and s.usage("cost") == cost, (cost, input_tok)
        lines = [json.loads(a) for a in read(m("budgets", me, "ledger")).splitlines()]
        lines = [a for a in lines if a.get("session") == s.name]
        equal([(a["model"], a.get("judge"), a["status"]) for a in lines],
              [("short", True, "done"), ("tiny", None, "done")])
        equal([a["prompt_tokens"] for a in lines], [input_tok, s.usage("prompt_tokens")])
        equal(lines[0]["request"], lines[1]["request"])
        # What is left pays for no judge: the write says so.
        write(m("budgets", me, "limit"), "%s\n" % (float(read(m("budgets", me, "spent"))) + 1))
        with judge(m, SAFE, on_error="allow"):
            with refused(errno.EDQUOT):
                write(s("in"), "hello once more")
    finally:
        harness.reset(m("models", "short", "price_input"))
        if read(m("budgets", me, "limit")).strip():
            os.rmdir(m("budgets", me))


@claim()
def a_warning_lets_prompt_and_answer_through(m):
    s = m.session()
    plain = s.ask("hello")
    write(s("ctl"), "clear\n")
    with judge(m, action="warn"):
        equal(s.ask("hello"), plain)
        wait_for(lambda: {a["stage"] for a in audit(m, s)} == {"input", "output"}, "two warnings")


@claim()
def nothing_of_an_unsafe_answer_is_shown(m):
    s = m.session(tokens=40)
    with judge(m, stages="output", window_chars="1000000"):
        s.submit("hello")
        with refused(errno.EPERM):
            read_bytes(s("out"))
        equal(s.status(), "blocked")
        assert "[blocked by the output" in read(s("chat"))
        assert s.usage("output_tokens") > 0
    write(s("ctl"), "clear\n")
    with judge(m, stages="output", action="replace", replacement="No."):
        equal(s.ask("hello"), b"No.\n")


@claim()
def the_rest_of_an_answer_that_breaks_off_is_judged_before_it_is_shown(m):
    with Server() as server, models(m, far={"endpoint": server.url("error-middle"), "retries": 0}):
        s = m.session(model="far")

        def ask(threshold, **lines):
            with judge(m, threshold, stages="output", window_chars="1000000", **lines):
                s.submit("hello")
                got = until_it_fails(s("out"))
            why = read(s("error"))
            judged = "judge_prompt_tokens" in read(s("usage"))
            write(s("ctl"), "clear\n")
            return got, why, judged

        (plain, code), why, judged = ask(SAFE)
        assert plain and ANSWER.startswith(plain) and plain != ANSWER, plain
        assert code and code != errno.EPERM and judged, (code, judged)
        assert "models/far" in why and "judge" not in why, why
        (got, code), why, judged = ask(UNSAFE)
        equal((got, code), (b"", errno.EPERM))
        assert "output judge" in why and judged, (why, judged)
        equal([(a["stage"], a["guard"], a["action"]) for a in audit(m, s)][-1:],
              [("output", "moderation", "block")])
        (got, code), why, judged = ask(UNSAFE, action="replace", replacement="No.")
        equal((got, code), (b"No.\n", 0))
        n = len(audit(m, s))
        (got, code), why, judged = ask(UNSAFE, action="warn")
        assert got == plain and code and len(audit(m, s)) == n + 1, (got, code)
        # A judge without a verdict: nothing is shown, and the reason stays what it was.
        (got, code), why, judged = ask(SAFE, model="gone")
        equal(got, b"")
        assert code and code != errno.EPERM and "models/far" in why, (code, why)


@claim()
def of_a_cancelled_answer_nothing_is_shown_that_was_not_judged(m):
    s = m.session(tokens=2000, ignore_eos=1)
    with judge(m, SAFE, model="tiny", stages="output", window_chars="1000000"):
        s.submit("tell me")
        s.wait("generating")
        wait_for(lambda: s.usage("output_tokens") > 20, "text")
        s.cancel()
        equal(until_it_fails(s("out")), (b"", errno.ECANCELED))
        equal(s.messages()[-1]["role"], "user")


@claim(limit=90)
def a_judged_answer_streams_window_by_window(m):
    s = m.session(tokens=150)
    plain = s.ask("hello")
    write(s("ctl"), "clear\n")
    with judge(m, SAFE, model="tiny", stages="output", window_chars="20"):
        equal(s.ask("hello"), plain)
        write(s("ctl"), "clear\n")
        # One that would go on for long: each window is there while the answer is under way.
        write(s("max_tokens"), "20000\n")
        s.submit("hello")
        with open(s("out"), "rb", buffering=0) as f:
            got = b""
            while len(got) < len(plain):
                more = f.read(20)
                assert more, "EOF after %d bytes" % len(got)
                got += more
                equal(s.status(), "generating")
        s.cancel()
        equal(s.status(), "cancelled")
        # The short one ends in U+FFFD where its last token is half a character.
        begin = plain.decode().rstrip("\n\ufffd").encode()
        assert len(begin) > 100 and got.startswith(begin), (got, plain)


@claim()
def a_judge_that_is_missing_or_slow_closes_the_stage_unless_told_otherwise(m):
    m.expects("model nowhere", "models/dead: ")
    s = m.session()
    with judge(m, SAFE, model="nowhere"):
        s.submit("hello")
        with refused(errno.EPERM):
            read_bytes(s("out"))
        assert "no verdict" in read(s("error")), read(s("error"))
    with judge(m, SAFE, model="nowhere", on_error="allow"):
        assert s.ask("hello")
    os.mkdir(m("models", "dead"))
    write(m("models", "dead", "path"), "/dev/null\n")
    with judge(m, SAFE, model="dead"):
        s.submit("hello")
        with refused(errno.EPERM):
            read_bytes(s("out"))
    os.rmdir(m("models", "dead"))
    with judge(m, SAFE, model="tiny", timeout_ms="1"):
        begin = time.monotonic()
        s.submit("long " * 4000)
        with refused(errno.EPERM):
            read_bytes(s("out"))
        assert time.monotonic() - begin < 5 * harness.slow()
    assert s.ask("hello")


@claim()
def a_cancel_while_the_judge_looks_ends_the_request(m):
    s = m.session(tokens=5000)
    with judge(m, SAFE, model="tiny"):
        for n in range(20):
            s.submit("cancel me " * (n + 1) * 20)
            s.wait("queued", "generating")  # its close is told late
            write(s("ctl"), "cancel\n")
            equal(s.status(), "cancelled")
    write(s("max_tokens"), "12\n")
    assert s.ask("hello")


@claim()
def a_moderation_file_with_a_fault_leaves_the_last_good_one_in_force(m):
    m.expects("guards/moderation")
    s = m.session()
    with judge(m, UNSAFE, stages="input"):
        with refused(errno.EINVAL):
            write(m("guards", "moderation"), "model short\nthreshold many\n")
        assert "moderation:2:" in read(m("guards", "status")), read(m("guards", "status"))
        s.submit("hello")
        s.wait("blocked")


@claim()
def guards_test_has_the_judges_verdict(m):
    with judge(m, UNSAFE):
        done = m.sh("exec 3<>guards/test; echo hello >&3; cat <&3", check=True)
        v = json.loads(done.stdout)["moderation"]
        equal(v["verdict"], "unsafe")
        assert 0 < v["p"] <= 1


def overall(m):
    done = m.sh("exec 3<>guards/test; echo hello >&3; cat <&3", check=True)
    v = json.loads(done.stdout)
    return v["verdict"], v["text"]


@claim()
def the_first_verdict_of_guards_test_is_of_all_guards_together(m):
    equal(overall(m), ("pass", "hello"))
    with judge(m, SAFE):
        equal(overall(m), ("pass", "hello"))
    with judge(m, UNSAFE):
        equal(overall(m), ("block", ""))
    with judge(m, UNSAFE, action="warn"):
        equal(overall(m), ("warn", "hello"))
    with judge(m, UNSAFE, action="replace", replacement="No."):
        equal(overall(m), ("redact", "No."))
    with judge(m, UNSAFE, model="nowhere", on_error="allow"):
        equal(overall(m), ("warn", "hello"))
    with judge(m, UNSAFE, model="nowhere"):
        equal(overall(m), ("block", ""))


harness.main()
