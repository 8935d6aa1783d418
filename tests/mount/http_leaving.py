#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients of the HTTP front end that leave, at each point of a request, and that read slowly or not at all: what was under
way for them ends, nothing of theirs is left, and nobody else notices."""
import json
import os
import random
import socket
import struct
import threading
import time

import harness
import web
from harness import claim, equal, read, wait_for
from servers import ANSWER, Server, models
from web import CHAT, VECTORS, Web, chat_body

server = Server()
TEXT = ANSWER.decode()


def asker(m):
    if not hasattr(m, "asker"):
        m.asker = Web(m, web.make_key(m, "asker"))
    return m.asker


def descriptors(m):
    return len(os.listdir("/proc/%d/fd" % m.proc.pid))


def nothing_runs(m):
    wait_for(lambda: web.metric(m, "requests_running") == 0, "end of what ran")


def sent(m, body, path=CHAT):
    """A socket by which that was asked; what it asks is there."""
    before = len(server.requests())
    s = web.dial(m)
    s.sendall(web.raw_request(asker(m).key, body, path))
    wait_for(lambda: len(server.requests()) > before, "request at the server")
    return s


def left(s, how):
    """Goes, as a client may."""
    if how == "reset":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half":
        s.shutdown(socket.SHUT_WR)
        return
    s.close()


def all_gone(n=1):
    wait_for(lambda: [r["state"] for r in server.requests()[-n:]] == ["gone"] * n, "end at the server",
             explain=lambda: str([r["state"] for r in server.requests()]))


def new_records(m, known):
    return [r for r in web.trace(m) if r["id"] not in known]


def cancelled(m, known, n=1):
    """n requests more are in the trace, and all are cancelled."""
    wait_for(lambda: len(new_records(m, known)) >= n, "trace of %d" % n, explain=lambda: str(new_records(m, known)))
    equal([r["status"] for r in new_records(m, known)], ["cancelled"] * n)


@claim(limit=120)
def who_leaves_cancels_what_is_generated_however_and_whenever(m):
    m.session(tokens=1).ask("load it")
    with models(m, far=server.url("hang-middle"), mute=server.url("hang-first")):
        for how in ("close", "reset", "half"):
            for model, settings in (("far", {"stream": True}), ("far", {}), ("mute", {"stream": True}), ("mute", {})):
                known = {r["id"] for r in web.trace(m)}
                s = sent(m, chat_body("hi %s" % how, model, **settings))
                if model == "far" and settings:
                    while b"quick" not in s.recv(65536):
                        pass
                left(s, how)
                all_gone()
                cancelled(m, known)
                if how == "half":
                    got = web.until_closed(s)
                    assert b"[DONE]" not in got, got
                    s.close()
    nothing_runs(m)


@claim(limit=90)
def who_leaves_a_local_model_cancels_its_generation(m):
    for settings in ({"stream": True}, {}):
        known = {r["id"] for r in web.trace(m)}
        s = web.dial(m)
        s.sendall(web.raw_request(asker(m).key, chat_body("go on", "tiny", ignore_eos=True, max_tokens=20000, **settings)))
        if settings:
            while b"data: " not in s.recv(65536):
                pass
        else:
            wait_for(lambda: web.metric(m, "requests_running") == 1, "generation")
        s.close()
        cancelled(m, known)
        assert new_records(m, known)[0]["output_tokens"] < 20000
    assert m.session(tokens=3).ask("and you?")


@claim(limit=90)
def who_leaves_with_several_choices_or_texts_under_way_cancels_each(m):
    with models(m, far=server.url("hang-first")):
        for path, body, n in ((CHAT, chat_body("hi", n=3, stream=True), 3),
                              (web.TEXTS, {"model": "far", "prompt": ["a", "b"]}, 2),
                              (VECTORS, {"model": "far", "input": "a"}, 1)):
            before = len(server.requests())
            s = sent(m, body, path)
            wait_for(lambda: len(server.requests()) == before + n, "%d at the server" % n)
            s.close()
            all_gone(n)
    nothing_runs(m)


@claim(limit=90)
def who_leaves_while_queued_is_never_sent_on(m):
    with models(m, far={"endpoint": server.url("hang-first"), "requests_max": 1}):
        first = sent(m, chat_body("first"))
        n, known = len(server.requests()), {r["id"] for r in web.trace(m)}
        waiting = [web.dial(m) for _ in range(5)]
        for i, s in enumerate(waiting):
            s.sendall(web.raw_request(asker(m).key, chat_body("later %d" % i)))
        wait_for(lambda: web.metric(m, "requests_running") == 6, "queue")
        for s in waiting:
            s.close()
        cancelled(m, known, 5)
        first.close()
        all_gone()
        equal(len(server.requests()), n)
    nothing_runs(m)


@claim(limit=90)
def who_leaves_before_the_end_of_its_body_asks_nothing(m):
    w = asker(m)
    n = len(server.requests())
    with models(m, far=server.url()):
        equal(w.chat("warm").status, 200)
        before = descriptors(m)
        whole = web.raw_request(w.key, chat_body("hi"))
        for i in range(0, len(whole) - 1, max(1, len(whole) // 60)):
            s = web.dial(m)
            s.sendall(whole[:i])
            left(s, ("close", "reset", "half")[i % 3])
            if i % 3 == 2:
                s.close()
        wait_for(lambda: descriptors(m) <= before, "end of their connections", explain=lambda: str(descriptors(m)))
        equal(len(server.requests()), n + 1)
    nothing_runs(m)


@claim(limit=90)
def what_is_pipelined_behind_an_answer_that_nobody_reads_is_not_asked(m):
    with models(m, far=server.url("hang-first")):
        n = len(server.requests())
        s = web.dial(m)
        s.sendall(web.raw_request(asker(m).key, chat_body("one")) + web.raw_request(asker(m).key, chat_body("two")))
        wait_for(lambda: len(server.requests()) == n + 1, "first request")
        s.close()
        wait_for(lambda: server.requests()[n]["state"] == "gone", "end at the server")
        nothing_runs(m)
        equal(len(server.requests()), n + 1)


@claim(limit=120)
def hundreds_that_leave_at_any_instant_leave_nothing(m):
    w = asker(m)
    dice = random.Random(3)
    with models(m, far=server.url("pace=2")):
        equal(w.chat("warm").status, 200)
        before = descriptors(m)

        def one(k):
            for i in range(30):
                s = web.dial(m)
                s.sendall(web.raw_request(w.key, chat_body("hi", stream=bool(i % 2), n=1 + i % 2)))
                time.sleep(dice.random() * 0.03)
                left(s, "reset" if i % 3 else "close")
        threads = [threading.Thread(target=one, args=(k,)) for k in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        nothing_runs(m)
        equal(w.chat("after").text(), TEXT)
        # The upstream's connections are kept for a while, no more than there were requests at once.
        wait_for(lambda: descriptors(m) <= before + 30, "end of their connections", timeout=20,
                 explain=lambda: "%d, %d before" % (descriptors(m), before))


@claim(own=True)
def what_was_cancelled_costs_what_was_produced(Mount):
    with Mount(*web.OPTION) as m, models(m, far={"endpoint": server.url("hang-middle"), "price_output": 1000000}):
        web.set_account(m, limit="1000")
        s = sent(m, chat_body("hi", stream=True, max_tokens=100))
        while b"quick" not in s.recv(65536):
            pass
        assert float(read(m("budgets", web.ME, "remaining"))) <= 900
        s.close()
        all_gone()
        nothing_runs(m)
        wait_for(lambda: float(read(m("budgets", web.ME, "remaining"))) > 900, "release of the reservation")
        spent = float(read(m("budgets", web.ME, "spent")))
        assert 1 <= spent <= 5, spent
        equal(float(read(m("budgets", web.ME, "remaining"))), 1000 - spent)


@claim(limit=120)
def who_reads_slowly_holds_nobody_up_and_gets_all_of_it(m):
    w = asker(m)
    line = "x" * 50000
    with models(m, far={"endpoint": server.url("echo=15"), "context": 2000000}, near=server.url()):  # 12 MB of answers
        slow = web.dial(m, timeout=60, room=256 << 10)
        slow.sendall(web.raw_request(w.key, chat_body(line, stream=True, n=16, max_tokens=900000), close=True))
        wait_for(lambda: [r["state"] for r in server.requests()[-16:]] == ["done"] * 16, "end at the server", timeout=30,
                 explain=lambda: str([r["state"] for r in server.requests()[-16:]]))

        def others():
            begin = time.monotonic()
            for _ in range(20):
                equal(w.chat("hi", "near").text(), TEXT)
            equal(w.stream("hi", "near").text(), TEXT)
            return time.monotonic() - begin
        harness.quick(others, 2)
        data = web.replies(slow, 1)[0].data
        slow.close()
    events = data.split(b"\n\n")
    equal(events[-2:], [b"data: [DONE]", b""])
    events = [json.loads(e[6:]) for e in events[:-2]]
    for i in range(16):
        equal("".join(web.texts(events, i)) == (line + "\n") * 15, True)


@claim(limit=120)
def many_who_never_read_hold_nobody_up(m):
    w = asker(m)
    with models(m, far={"endpoint": server.url("echo=20"), "context": 2000000}, near=server.url()):
        socks = []
        for i in range(20):
            s = web.dial(m, room=4096)
            s.sendall(web.raw_request(w.key, chat_body("%d " % i + "y" * 40000, stream=True, max_tokens=900000)))
            socks.append(s)
        for _ in range(20):
            equal(w.chat("hi", "near").text(), TEXT)
        for s in socks:
            left(s, "reset")
        nothing_runs(m)


try:
    harness.main(*web.OPTION)
finally:
    server.close()
