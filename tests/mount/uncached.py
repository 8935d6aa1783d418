#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Answers that the cache must not give to the next who asks: what was left after a failure, what a judge has
not seen, what a rule blocks, what another model gave under the same name."""
import errno
import os
import shutil

import harness
from harness import SHORT, claim, equal, read, read_bytes, refused, shown, wait_for, write
from servers import ANSWER, Server, models, without_local_models

harness.CACHE = True
server = Server()
QUESTION = "Explain in a few sentences what a fox and a dog did, and why."


def used(s):
    for line in read(s("usage")).splitlines():
        if line.split()[0] == "cache":
            return line.split()[1]
    return None


@claim()
def a_fallbacks_answer_is_not_that_of_the_model(m):
    server.reset()
    with Server() as other:
        other.control(answer="I am the backup.")
        with models(m, backup=other.url(),
                    far={"endpoint": server.url(), "retries": 0, "fallback": "backup"}):
            server.control(next=["500"])
            a = m.session(model="far")
            equal((a.ask("q"), used(a)), (b"I am the backup.\n", None))
            b = m.session(model="far")
            equal((b.ask("q"), used(b)), (shown(ANSWER), None))


@claim()
def an_answer_that_no_judge_has_seen_is_not_given_again(m):
    server.reset()
    with models(m, far=server.url(), judges={"endpoint": server.url("500"), "retries": 0}):
        write(m("guards", "moderation"),
              "model judges\non_error allow\nstages output\ncategory S1 Violence\n")
        try:
            for _ in range(2):
                s = m.session(model="far")
                equal((s.ask("q"), used(s)), (shown(ANSWER), None))
        finally:
            os.unlink(m("guards", "moderation"))


@claim()
def auto_does_not_answer_for_a_model_that_was_changed(m):
    server.reset()
    with Server() as other, without_local_models(m), models(m, far=server.url()):
        other.control(answer="I am another model.")
        equal(m.session(model="auto").ask("q"), shown(ANSWER))
        write(m("models", "far", "endpoint"), other.url() + "\n")
        s = m.session(model="auto")
        equal((s.ask("q"), used(s)), (b"I am another model.\n", None))


@claim()
def the_best_of_a_cascade_that_failed_is_not_its_answer(m):
    server.reset()
    server.control(answer="As an AI, I cannot help with that.")
    with Server() as other, without_local_models(m), models(
            m, first={"endpoint": server.url(), "price_output": 0.1, "quality": 0.1},
            second={"endpoint": other.url(), "retries": 0, "price_output": 9, "quality": 0.9}):
        write(m("router", "threshold"), "0.9\n")
        try:
            other.control(next=["500"])
            equal(m.session(model="cascade").ask(QUESTION), b"As an AI, I cannot help with that.\n")
            equal(m.session(model="cascade").ask(QUESTION), shown(ANSWER))
        finally:
            write(m("router", "threshold"), "")


@claim()
def an_answer_that_comes_out_shorter_the_second_time_is_an_error(m):
    server.reset()
    with models(m, far=server.url()):
        a, b = m.session(model="far"), m.session(model="far")
        server.control(next=["hang-middle"])
        a.submit("q")
        wait_for(lambda: len(server.requests()) == 1, "one request")
        b.submit("q")
        got = b""
        with open(b("out"), "rb", buffering=0) as f:
            while len(got) < 8:
                got += f.read(4096)
            server.control(answer="The")
            a.cancel()
            with refused(errno.EIO):
                while f.read(4096):
                    pass
        assert "differently" in read(b("error")), read(b("error"))
        c = m.session(model="far")
        equal((c.ask("q"), used(c)), (b"The\n", None))


@claim()
def text_that_a_rule_blocks_is_not_served_because_it_was_gone_for_a_moment(m):
    server.reset()
    rules = m("guards", "output", "fox.rules")
    with models(m, far={"endpoint": server.url(), "requests_max": 1}):
        write(rules, "block fox /fox/\n")
        server.control(next=["hang-middle", "pace=60"])
        first = m.session(model="far")
        first.submit("zero")
        wait_for(lambda: len(server.requests()) == 1, "first request")
        second = m.session(model="far")
        second.submit("q")
        wait_for(lambda: second.status() == "queued", "second one at the gate")
        os.unlink(rules)
        first.cancel()
        wait_for(lambda: len(server.requests()) == 2, "second request")
        write(rules, "block fox /fox/\n")
        try:
            for when in ("under way", "done"):
                s = m.session(model="far")
                s.submit("q")
                with refused(errno.EPERM):
                    with open(s("out"), "rb", buffering=0) as f:
                        while piece := f.read(4096):
                            assert b"fox" not in piece, (when, piece)
                second.idle()
        finally:
            os.unlink(rules)


@claim()
def another_file_at_the_same_path_is_another_model(m):
    path = os.path.join(m.top, "x.gguf")
    shutil.copy(harness.MODEL, path)
    with models(m, x={"path": path}):
        m.session(model="x").ask("q")
        write(m("models", "x", "ctl"), "unload\n")
        shutil.copy(SHORT, path + ".new")
        os.rename(path + ".new", path)
        s = m.session(model="x")
        s.ask("q")
        equal(used(s), None)


try:
    harness.main()
finally:
    server.close()
