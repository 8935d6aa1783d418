#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model somewhere else is a model: its answers stream through the same files, and what goes wrong over
there is an errno and a sentence here."""
import errno
import os
import re
import socket
import time

import harness
from harness import claim, equal, read, read_bytes, refused, shown, until_it_fails, wait_for, write
from servers import ANSWER, Server, models

server = Server()
SECRETS = ("sk-test-0123456789abcdef", "token-abc123", "correcthorsebattery", "user:correct-horse")


def sent_key():
    """The key that the last request came with."""
    headers = {k.lower(): v for k, v in dict(server.requests()[-1]["headers"]).items()}
    return headers["authorization"].removeprefix("Bearer ")


def closed_port():
    """A port of the loopback where nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(m, model, prompt="hello", **settings):
    s = m.session(model=model, **settings)
    return s, s.ask(prompt)


@claim()
def an_answer_of_an_upstream_comes_like_any_other(m):
    server.reset()
    with models(m, far={"endpoint": server.url(), "remote_name": "gpt-x"}):
        s, got = ask(m, "far", system="Be brief.", max_tokens=77)
        equal(got, shown(ANSWER))
        equal(s.status(), "done")
        body = server.requests()[-1]["body"]
        body = body if isinstance(body, dict) else __import__("json").loads(body)
        equal(body["model"], "gpt-x")
        equal([x["role"] for x in body["messages"]], ["system", "user"])
        equal(body["messages"][1]["content"], "hello")
        equal(s.messages()[-1]["content"], ANSWER.decode())
        assert s.usage("output_tokens") > 0 and s.usage("prompt_tokens") > 0
        s.ask("and again")
        equal(len(s.messages()), 5)
        equal(read(m("models", "far", "state")), "ready\n")


@claim(limit=90)
def format_json_gives_json_or_an_error_whatever_a_server_says(m):
    whole = '{"a": [1, "two words"]}'
    told = [(whole, whole + "\n", 0, ""), ("```json\n%s\n```" % whole, whole + "\n", 0, ""),
            ("\n %s \n" % whole, whole + "\n", 0, ""),
            ("Sure, here you are: " + whole, "", errno.EPROTO, "its answer is no JSON, which format asks for"),
            (whole + " I hope it helps.", whole, errno.EPROTO, "its answer goes on behind the JSON"),
            ('{"a": [1, second]}', '{"a": [1, ', errno.EPROTO, "its answer does not go on as JSON"),
            ('{"a": [1, ', '{"a": [1, ', errno.EPROTO, "its answer ended before the JSON was whole")]
    for protocol in "openai", "anthropic":
        server.reset()
        for how in None, "split", "ok-json":
            with models(m, far={"endpoint": server.url(how), "protocol": protocol}):
                for says, gives, code, why in told:
                    server.control(answer=says)
                    s = m.session(model="far", format="json")
                    s.submit("hello")
                    got, e = until_it_fails(s("out"))
                    equal((protocol, how, says, got.decode(), e), (protocol, how, says, gives, code))
                    equal(s.status(), "failed" if code else "done")
                    assert why in read(s("error")), read(s("error"))
                    assert s.usage("output_tokens") > 0
                    # Only where it was asked for; and no server is left alone for it.
                    s = m.session(model="far")
                    equal(s.ask("hello"), shown(says.encode()))
                equal(read(m("models", "far", "state")), "ready\n")
        asked = server.requests()[-2]["body"]
        equal("json_object" in str(asked), protocol == "openai")
    server.reset()


@claim(limit=60)
def a_connection_that_breaks_before_the_json_begins_is_tried_again_from_the_start(m):
    server.reset()
    with models(m, far={"endpoint": server.url(), "retries": 1}):
        server.control(answer='``` json {"a": 1} ```', next=["close-middle"])
        s = m.session(model="far", format="json")
        equal(s.ask("hello"), b'{"a": 1}\n')
        equal(len(server.requests()), 2)
    server.reset()


@claim(limit=60)
def what_is_no_json_from_its_first_byte_on_may_be_answered_by_the_fallback(m):
    with Server() as other, models(m, good={"endpoint": other.url()},
                                   far={"endpoint": server.url(), "fallback": "good"}):
        server.reset()
        server.control(answer="Sure, here you are: {}")
        other.control(answer='{"a": 1}')
        s = m.session(model="far", format="json")
        equal(s.ask("hello"), b'{"a": 1}\n')
        assert "\nmodel good\n" in read(s("usage")), read(s("usage"))
        assert "is no JSON" in read(s("trace")), read(s("trace"))
        equal(len(server.requests()), 1)  # it would say the same again
        # What was shown stays shown: no other model goes on.
        server.control(answer='{"a": one}')
        s.submit("hello")
        equal(until_it_fails(s("out")), (b'{"a": ', errno.EPROTO))
        equal(len(other.requests()), 1)
    server.reset()


@claim()
def it_streams(m):
    with models(m, far=server.url("hang-middle")):
        s = m.session(model="far")
        s.submit("hello")
        with open(s("out"), "rb", buffering=0) as f:
            first = f.read(4096)
            assert first and ANSWER.startswith(first), first
            equal(s.status(), "generating")
            s.cancel()
        equal(s.status(), "cancelled")
        wait_for(lambda: server.requests()[-1]["state"] == "gone", "closed connection")


@claim()
def the_key_is_sent_and_nowhere_else_to_be_found(m):
    server.reset()
    for secret in SECRETS:
        with models(m, far=server.url()):
            write(m("models", "far", "key"), secret + "\n")
            equal(ask(m, "far")[1], shown(ANSWER))
            equal(sent_key(), secret)
            for leak in ("leak", "leak=plain"):
                write(m("models", "far", "endpoint"), server.url(leak) + "\n")
                s = m.session(model="far")
                s.submit("hello")
                with refused(errno.EACCES):
                    read_bytes(s("out"))
                equal(sent_key(), secret)
                part = secret.split(":")[-1]
                for where in (s.path, m("models", "far"), m("metrics"), m("trace")):
                    done = m.sh("grep -rsF -- '%s' %s" % (part, where), timeout=60)
                    equal((secret, leak, done.stdout), (secret, leak, ""))
                equal([x for x in m.log_text().splitlines() if part in x], [])


@claim(own=True)
def a_key_is_sent_after_a_restart_as_before(Mount):
    server.reset()
    with Mount() as m, models(m, far=server.url()):
        write(m("models", "far", "key"), SECRETS[0] + "\n")
        equal(ask(m, "far")[1], shown(ANSWER))
        m.stop()
        m.start()
        n = len(server.requests())
        equal((ask(m, "far")[1], len(server.requests())), (shown(ANSWER), n + 1))
        equal(sent_key(), SECRETS[0])


@claim(limit=120)
def with_one_of_two_endpoints_dead_no_request_fails(m):
    gone = "http://127.0.0.1:%d/v1" % closed_port()
    for dead in (gone, server.url("503"), server.url("close")):
        server.reset()
        with models(m, pair={"endpoint": dead + "\n" + server.url(), "health_interval_ms": 0}):
            for i in range(12):
                s, got = ask(m, "pair", "question %d" % i)
                equal((dead, got, s.status()), (dead, shown(ANSWER), "done"))
            equal((dead, [r["behaviour"] for r in server.requests()].count("ok")), (dead, 12))


@claim()
def a_ca_file_that_never_ends_is_refused_and_stops_nobody(m):
    m.expects("models/far/ca_file: .*: not a regular file")
    fifo = os.path.join(m.top, "fifo.pem")
    os.mkfifo(fifo)
    for ca in (fifo, "/dev/zero"):
        with models(m, far={"endpoint": "https://127.0.0.1:%d/v1" % server.port, "retries": 0,
                            "ca_file": ca}):
            s = m.session(model="far")
            try:
                s.submit("hello")
                read_bytes(s("out"))
                raise AssertionError("an answer without certificates")
            except OSError as e:
                assert e.errno not in (errno.ETIMEDOUT, errno.ECANCELED), e
            assert ca in read(s("error")), read(s("error"))
            m.sh("ls -lR models sessions > /dev/null", check=True)
            assert m.session(model="tiny").ask("still there?")


@claim()
def anthropics_protocol_is_spoken(m):
    server.reset()
    with models(m, claude={"endpoint": server.url(), "protocol": "anthropic"}):
        write(m("models", "claude", "key"), "k\n")
        equal(ask(m, "claude", system="Be brief.")[1], shown(ANSWER))
        seen = server.requests()[-1]
        assert seen["path"].endswith("/messages"), seen["path"]


FAULTS = [("500", errno.EHOSTUNREACH), ("404", errno.EHOSTUNREACH), ("401", errno.EACCES),
          ("garbage", errno.EPROTO), ("garbage-body", errno.EPROTO), ("close", errno.EHOSTUNREACH),
          ("context", errno.EMSGSIZE), ("429=600", errno.EBUSY)]


@claim(limit=120)
def what_goes_wrong_there_is_an_errno_and_a_sentence_here(m):
    for behaviour, code in FAULTS:
        with models(m, far={"endpoint": server.url(behaviour), "retries": 0}):
            s = m.session(model="far")
            s.submit("hello")
            try:
                read_bytes(s("out"))
                raise AssertionError(behaviour + " gave an answer")
            except OSError as e:
                assert e.errno == code or (behaviour in ("garbage", "close") and e.errno in (
                    errno.EPROTO, errno.EHOSTUNREACH)), (behaviour, e, read(s("error")))
            equal(s.status(), "failed")
            assert len(read(s("error"))) > 10, read(s("error"))


@claim(limit=120)
def an_answer_that_breaks_off_gives_its_bytes_and_then_the_errno(m):
    for behaviour in ("close-middle", "reset", "error-middle"):
        with models(m, far=server.url(behaviour)):
            s = m.session(model="far")
            s.submit("hello")
            got = b""
            with open(s("out"), "rb", buffering=0) as f:
                try:
                    while piece := f.read(4096):
                        got += piece
                    raise AssertionError("%s ended well with %r" % (behaviour, got))
                except OSError as e:
                    assert e.errno not in (errno.ECANCELED, errno.EIO), (behaviour, e)
            assert ANSWER.startswith(got), (behaviour, got)


@claim(limit=120)
def a_hang_ends_at_its_time_limit(m):
    with models(m, far={"endpoint": server.url("hang-first"), "first_byte_timeout_ms": 200,
                        "retries": 0}):
        s = m.session(model="far")
        s.submit("hello")
        with refused(errno.ETIMEDOUT):
            read_bytes(s("out"))
    with models(m, far={"endpoint": server.url("hang-middle"), "idle_timeout_ms": 200}):
        s = m.session(model="far")
        s.submit("hello")
        with refused(errno.ETIMEDOUT):
            with open(s("out"), "rb", buffering=0) as f:
                while f.read(4096):
                    pass


@claim(limit=120)
def a_server_that_fails_five_times_is_left_alone_for_a_while(m):
    with models(m, far={"endpoint": server.url("500"), "retries": 0, "breaker_open_ms": 600000}):
        for _ in range(5):
            s = m.session(model="far")
            s.submit("hello")
            with refused(errno.EHOSTUNREACH):
                read_bytes(s("out"))
        equal(read(m("models", "far", "state")), "open\n")
        n = len(server.requests())
        s = m.session(model="far")
        with refused(errno.EHOSTUNREACH):
            s.submit("hello")
            read_bytes(s("out"))
        equal(len(server.requests()), n)
        assert 'llm_circuit_breaker_state' in read(m("metrics", "prometheus"))
        write(m("models", "far", "endpoint"), server.url() + "\n")
        equal(ask(m, "far")[1], shown(ANSWER))


@claim(limit=120)
def a_model_with_fallback_costs_no_request_when_it_dies(m):
    with models(m, far={"endpoint": server.url("503"), "retries": 0, "fallback": "near"},
                near=server.url()):
        for _ in range(8):
            s, got = ask(m, "far", cache="off")
            equal(got, shown(ANSWER))
        assert '"near"' in read(s("trace")), read(s("trace"))
    with models(m, far={"endpoint": server.url("500"), "retries": 0, "fallback": "tiny"}):
        s, got = ask(m, "far")
        assert got and got != shown(ANSWER)


def times(s):
    """The stages of trace and the times of usage."""
    lines = (read(s("trace")) + read(s("usage"))).splitlines()
    return {x.split()[0]: float(x.split()[1]) for x in lines if re.match(r"\w+_ms ", x)}


@claim(limit=120)
def times_begin_with_the_try_that_answered(m):
    """A server that says nothing for 400 ms and is left, or that wants to be asked later: no prefill."""
    hangs = {"first_byte_timeout_ms": 400, "breaker_failures": 50}
    with models(m, far=dict(hangs, endpoint=server.url("hang-first"), retries=0, fallback="near"),
                near=server.url()):
        def left(done):
            s = ask(m, "far", cache="off")[0]
            done()
            t = times(s)
            assert t["earlier_ms"] >= 400 and t["queued_ms"] >= 400, t
            assert t["prefill_ms"] < 300 and t["load_ms"] < 300, t
        harness.in_time(left, 0.7)  # 400 ms of it are the server's that hangs
    other = Server()
    try:
        with models(m, far=dict(hangs, endpoint=other.url(), retries=1)):
            def again(done):
                other.control(next=["429-ms=600", "ok"])
                s = ask(m, "far", cache="off")[0]
                done()
                t = times(s)
                assert "earlier_ms" not in t, t
                assert t["queue_ms"] >= 600 and t["prefill_ms"] < 400, t
            harness.in_time(again, 1)  # 600 ms of it are the server's wish
    finally:
        other.close()


@claim(limit=120)
def an_answer_in_one_burst_has_no_rate(m):
    with models(m, far=server.url()):
        bursts = 0
        for _ in range(10):  # a busy machine may be slow at some of them
            s, got = ask(m, "far", cache="off")
            equal(got, shown(ANSWER))
            burst = times(s)["decode_ms"] < 20
            equal("tokens_per_second" in read(s("usage")), not burst)
            bursts += burst
        assert bursts, "no answer came in less than 20 ms"
    with models(m, far=server.url("pace=30")):
        s, got = ask(m, "far", cache="off")
        assert s.usage("tokens_per_second") < 100, read(s("usage"))


@claim(limit=120)
def a_broken_answer_is_never_begun_again_by_another_model(m):
    with models(m, far={"endpoint": server.url("close-middle"), "fallback": "near"},
                near=server.url()):
        s = m.session(model="far")
        s.submit("hello")
        got = b""
        with open(s("out"), "rb", buffering=0) as f:
            try:
                while piece := f.read(4096):
                    got += piece
                raise AssertionError("it ended well")
            except OSError:
                pass
        assert len(got) < len(ANSWER) and ANSWER.startswith(got), got


@claim()
def requests_max_holds_the_others_at_the_gate(m):
    server.reset()
    with models(m, far={"endpoint": server.url("hang-middle"), "requests_max": 1, "queue_max": 1}):
        a, b, c = m.session(model="far"), m.session(model="far"), m.session(model="far")
        a.submit("hello")
        with open(a("out"), "rb", buffering=0) as f:
            assert f.read(1)
        b.submit("another one")
        wait_for(lambda: b.status() == "queued", "queued request")
        def full():
            try:
                c.submit("a third")
                c.cancel()
                return False
            except OSError as e:
                equal(e.errno, errno.EAGAIN)
                return True
        wait_for(full, "refusal")
        equal(len(server.requests()), 1)
        a.cancel()
        with open(b("out"), "rb", buffering=0) as f:
            assert f.read(1)
        b.cancel()


@claim()
def a_vector_of_an_upstream(m):
    import json
    with models(m, vec=server.url()):
        with open(m("models", "vec", "embed"), "r+b", buffering=0) as f:
            f.write(b"a sentence")
            vector = json.loads(f.read(1 << 20))
            assert len(vector) > 1 and abs(sum(x * x for x in vector) - 1) < 1e-3, vector[:4]


@claim()
def ls_answers_while_every_server_hangs(m):
    with models(m, far=server.url("hang-first"), deaf=server.url(port="deaf")):
        sessions = [m.session(model=name) for name in ("far", "deaf") * 8]
        for s in sessions:
            s.submit("hello")
        began = time.monotonic()
        m.sh("ls -lR models sessions > /dev/null", check=True)
        assert time.monotonic() - began < 20 * harness.slow()
        for s in sessions:
            s.cancel()


try:
    harness.main()
finally:
    server.close()
