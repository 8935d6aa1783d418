#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What users of other gateways complain of and no other script has a claim about: docs/complaints.md says which, and
where each of the others is."""
import errno
import json

from harness import claim, equal, read, read_bytes, refused, shown, wait_for, write
from servers import ANSWER, Server, models, without_local_models

import harness

BACKUP = "I am the backup."
harness.CACHE = True
server, other = Server(), Server()


def fresh():
    server.reset()
    other.reset()
    other.control(answer=BACKUP)


def used(s):
    """How the last answer of a session was found in the cache, or None."""
    for line in read(s("usage")).splitlines():
        if line.split()[0] == "cache":
            return line.split()[1]
    return None


def behaviours():
    return [r["behaviour"] for r in server.requests()]


@claim()
def a_server_that_has_had_enough_sends_nobody_away_while_another_has_room(m):
    fresh()
    with models(m, pair={"endpoint": server.url("429=25") + "\n" + server.url(), "health_interval_ms": 0}):
        for i in range(12):
            s = m.session(model="pair")
            equal(s.ask("question %d" % i), shown(ANSWER))
        # It is not asked again before the time it said.
        equal((behaviours().count("429=25"), behaviours().count("ok")), (1, 12))


@claim()
def a_model_that_is_down_is_tried_a_few_times_and_not_for_each_request(m):
    fresh()
    with models(m, near=other.url(), far={"endpoint": server.url("503"), "retries": 2, "retry_ratio": 1,
                                          "breaker_failures": 5, "breaker_open_ms": 600000, "fallback": "near"}):
        for i in range(20):
            equal(m.session(model="far").ask("question %d" % i), shown(BACKUP))
        equal((len(server.requests()), len(other.requests())), (5, 20))


@claim()
def a_chain_that_fails_as_a_whole_names_each_of_it_and_harms_no_other_model(m):
    fresh()
    m.expects("far", "near")
    bad = {"endpoint": server.url("503"), "retries": 0, "breaker_failures": 1, "breaker_open_ms": 600000}
    with models(m, far=dict(bad, fallback="near"), near=bad, well=other.url()):
        for when in ("closed", "open"):  # asked, and not asked any more
            s = m.session(model="far")
            with refused(errno.EHOSTUNREACH):
                s.ask("question " + when)
            said = read(s("error"))
            assert "far" in said and "near" in said, (when, said)
            equal(m.session(model="well").ask("question " + when), shown(BACKUP))
        equal(len(server.requests()), 2)


@claim(limit=90)
def an_error_inside_a_stream_before_its_first_text_falls_back_like_any_other(m):
    fresh()
    for behaviour in ("error-first", "error=overloaded_error", "close-headers", "garbage-sse",
                      "hang-first", "hang-headers"):
        for protocol in ("openai", "anthropic"):
            with models(m, near=other.url(), far={
                    "endpoint": server.url(behaviour), "protocol": protocol, "retries": 0, "fallback": "near",
                    "first_byte_timeout_ms": 300}):
                s = m.session(model="far", cache="off")
                s.submit("hello")
                try:
                    got = read_bytes(s("out"))
                except OSError as e:
                    raise AssertionError("%s, %s: %s, %s" % (behaviour, protocol, e, read(s("error")))) from e
                equal((behaviour, protocol, got), (behaviour, protocol, shown(BACKUP)))


@claim()
def a_prompt_too_long_for_one_goes_to_a_model_that_has_room_for_it(m):
    fresh()
    long = "word " * 100
    for how in ({"endpoint": server.url("context")}, {"endpoint": server.url(), "context": 50},
                {"endpoint": server.url("error=context_length_exceeded")}):
        with models(m, near=other.url(), far=dict(how, retries=2, fallback="near")):
            equal((how, m.session(model="far", cache="off").ask(long)), (how, shown(BACKUP)))
    # One of the chain that is too small is passed by; where all are, that is what is said.
    with models(m, big=other.url(), small={"endpoint": server.url(), "context": 50},
                far={"endpoint": server.url("503"), "retries": 0, "fallback": "small big"}):
        equal(m.session(model="far", cache="off").ask(long), shown(BACKUP))
    with models(m, small={"endpoint": server.url("context"), "retries": 0}):
        s = m.session(model="small")
        with refused(errno.EMSGSIZE):
            s.ask(long)


@claim()
def where_a_key_is_refused_another_model_answers_under_its_own_name(m):
    fresh()
    with models(m, near={"endpoint": other.url(), "remote_name": "gpt-near"},
                far={"endpoint": server.url("401"), "remote_name": "gpt-far", "retries": 2, "fallback": "near"}):
        equal(m.session(model="far").ask("hello"), shown(BACKUP))
        asked = [x["body"] if isinstance(x["body"], dict) else json.loads(x["body"])
                 for x in server.requests() + other.requests()]
        equal([x["model"] for x in asked], ["gpt-far", "gpt-near"])


@claim(limit=90)
def what_a_server_refused_is_not_given_as_an_answer_later(m):
    m.expects("far")
    for behaviour in ("400", "401", "404", "429=0", "500", "503", "html=502", "error-first", "garbage-shape", "no-end",
                      "error-middle", "context"):
        fresh()
        with models(m, far={"endpoint": server.url(), "retries": 0, "breaker_failures": 1000}):
            server.control(next=[behaviour])
            s = m.session(model="far")
            try:
                raise AssertionError("%s gave the answer %r" % (behaviour, s.ask("what was it?")))
            except OSError:
                pass
            for how in (None, "exact"):
                s = m.session(model="far")
                equal((behaviour, s.ask("what was it?")), (behaviour, shown(ANSWER)))
                assert (used(s) is None) == (how is None), (behaviour, how, used(s))
            equal(len(server.requests()), 2)
        write(m("cache", "ctl"), "flush\n")


@claim()
def another_server_under_the_same_name_is_asked_and_not_the_cache(m):
    fresh()
    with models(m, far=server.url()):
        equal(m.session(model="far").ask("who are you?"), shown(ANSWER))
        for settings in ({"endpoint": other.url()}, {"remote_name": "another"}, {"protocol": "anthropic"}):
            for file, value in settings.items():
                write(m("models", "far", file), value + "\n")
            n = len(other.requests())
            s = m.session(model="far")
            equal((settings, s.ask("who are you?"), used(s)), (settings, shown(BACKUP), None))
            equal(len(other.requests()), n + 1)


@claim()
def tokens_that_a_server_had_cached_are_counted_once_in_both_protocols(m):
    fresh()
    for protocol in ("openai", "anthropic"):  # one counts them in the prompt, the other beside it
        with models(m, far={"endpoint": server.url("ok-cached"), "protocol": protocol, "price_input": 1000000,
                            "price_cached": 1000, "price_output": 0}):
            s = m.session(model="far", cache="off")
            equal(s.ask("one two three four five"), shown(ANSWER))
            prompt, cached, cost = s.usage("prompt_tokens"), s.usage("cached_tokens"), s.usage("cost")
            equal((protocol, cached), (protocol, 3))
            assert prompt > cached, (protocol, prompt)
            assert abs(cost - ((prompt - cached) + cached / 1000)) < 1e-6, (protocol, prompt, cached, cost)


@claim()
def auto_leaves_no_answer_in_the_middle_to_begin_it_with_another_model(m):
    fresh()
    with without_local_models(m), models(
            m, best={"endpoint": server.url("close-middle"), "quality": 1, "retries": 2, "fallback": "next"},
            next={"endpoint": other.url(), "quality": 0.1}):
        write(m("router", "policy"), "quality\n")
        try:
            s = m.session(model="auto")
            s.submit("hello")
            got = b""
            with refused(errno.EPROTO):
                with open(s("out"), "rb", buffering=0) as f:
                    while piece := f.read(4096):
                        got += piece
            assert got and ANSWER.startswith(got), got
            equal((len(server.requests()), len(other.requests())), (1, 0))
        finally:
            write(m("router", "policy"), "")


@claim()
def a_model_that_is_well_again_is_asked_again_though_nobody_checks_it(m):
    fresh()
    with models(m, near=other.url(), far={"endpoint": server.url(), "retries": 0, "fallback": "near",
                                          "breaker_failures": 1, "breaker_successes": 1, "breaker_open_ms": 200,
                                          "health_interval_ms": 0}):
        server.control(next=["503"])
        equal(m.session(model="far", cache="off").ask("hello"), shown(BACKUP))
        equal(read(m("models", "far", "state")), "open\n")
        wait_for(lambda: m.session(model="far", cache="off").ask("hello") == shown(ANSWER), "answer of its own")
        equal(read(m("models", "far", "state")), "ready\n")


try:
    harness.main()
finally:
    server.close()
    other.close()
