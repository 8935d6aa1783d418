#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A request that comes over HTTP takes the pipeline of one that comes by a file: the same user, limits, budget, guards and
cache, whichever way who asks goes."""
import errno
import json
import os
import threading
from decimal import Decimal

import harness
import web
from harness import claim, equal, read, refused, reset, shown, write
from minute import within_a_minute
from servers import ANSWER, Server, models
from web import ME, Web, set_account, user

server = Server()
harness.CACHE = True
TEXT = ANSWER.decode()
OTHER = "12345"  # a user who is not us, by number
DEAR = {"price_output": 1000000}  # a dollar a token


def asker(m):
    if not hasattr(m, "asker"):
        m.asker = Web(m, web.make_key(m, "asker"))
    return m.asker


def uncached(m):
    write(m("cache", "enabled"), "0\n")


def dollars(m, file, name=ME):
    return Decimal(read(m("budgets", name, file)))


def ledger(m, name=ME):
    return [json.loads(line, parse_float=Decimal) for line in read(m("budgets", name, "ledger")).splitlines()]


def asked():
    return len(server.requests())


def numbers(reply, kind):
    return tuple(int(reply.headers["x-ratelimit-%s-%s" % (x, kind)]) for x in ("limit", "remaining"))


# ---- limits ----

@claim(own=True, limit=200)
@within_a_minute
def of_several_choices_or_texts_all_begin_or_none(Mount):
    with Mount(*web.OPTION) as m, models(m, far=server.url()):
        uncached(m)
        w = asker(m)
        set_account(m, requests_per_minute=3)
        for reply in (w.chat("four at once", n=4), w.chat("four at once", n=4, stream=True),
                      w.embed(["a", "b", "c", "d"])):
            equal(reply.error()[0:3], (429, "rate_limit_error", "rate_limit_exceeded"))
            equal((reply.headers["x-should-retry"], reply.headers["retry-after"]), ("false", None))
            equal(numbers(reply, "requests"), (3, 3))
        equal(numbers(w.chat("two", n=2), "requests"), (3, 1))
        reply = w.chat("two more", n=2)
        equal((reply.status, numbers(reply, "requests")), (429, (3, 1)))
        assert reply.headers["x-should-retry"] != "false" and int(reply.headers["retry-after"]) > 0
        equal(w.chat("one more").status, 200)
        set_account(m, requests_per_minute=1000, tokens_per_minute=20)
        reply = w.chat("it alone may take more than that")
        equal((reply.status, reply.headers["x-should-retry"]), (429, "false"))


@claim(own=True, limit=200)
@within_a_minute
def exactly_n_requests_pass_and_the_next_is_told_when(Mount):
    with Mount(*web.OPTION) as m, models(m, far=server.url()):
        uncached(m)
        w = asker(m)
        set_account(m, requests_per_minute=6)
        left = []
        for i in range(3):
            reply = w.chat("question %d" % i)
            equal(reply.status, 200)
            left.append(numbers(reply, "requests"))
        equal(left, [(6, 5), (6, 4), (6, 3)])
        with w.stream("streamed") as s:
            equal(numbers(s, "requests"), (6, 2))
            equal(s.text(), TEXT)
        shell = m.session(model="far")
        equal(shell.ask("of a shell"), shown(ANSWER))
        reply = w.embed("a vector")
        equal((reply.status, numbers(reply, "requests")), (200, (6, 0)))
        for more in ({}, {"stream": True}):
            reply = w.chat("one too many", **more)
            equal(reply.error()[0:3], (429, "rate_limit_error", "rate_limit_exceeded"))
            assert "6 requests per minute" in reply.message(), reply.message()
            after, after_ms = int(reply.headers["retry-after"]), int(reply.headers["retry-after-ms"])
            assert 0 < after_ms <= 60000 and after == -(-after_ms // 1000), (after, after_ms)
            equal(numbers(reply, "requests"), (6, 0))
            assert reply.headers["x-ratelimit-reset-requests"].endswith("s")
            assert reply.headers["x-should-retry"] != "false"
            assert reply.headers["x-request-id"]
        with refused(errno.EAGAIN):
            shell.submit("and of a shell")


@claim(own=True, limit=200)
@within_a_minute
def a_limit_holds_for_many_connections_at_once(Mount):
    with Mount(*web.OPTION) as m, models(m, far=server.url()):
        uncached(m)
        w = asker(m)
        set_account(m, requests_per_minute=20)
        got = []

        def one(k):
            got.extend(w.chat("question %d of %d" % (i, k)).status for i in range(5))
        threads = [threading.Thread(target=one, args=(k,)) for k in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        equal((got.count(200), got.count(429)), (20, 30))


@claim(own=True, limit=200)
@within_a_minute
def tokens_of_the_minute_are_told_and_drawn_on(Mount):
    with Mount(*web.OPTION) as m, models(m, far=server.url()):
        uncached(m)
        w = asker(m)
        set_account(m, tokens_per_minute=500)
        reply = w.chat("hi", max_tokens=20)
        limit, left = numbers(reply, "tokens")
        assert limit == 500 and 450 <= left < 500, (limit, left)
        reply = w.chat("hi", max_tokens=1000)
        equal(reply.error()[0:3], (429, "rate_limit_error", "rate_limit_exceeded"))
        assert "500" in reply.message(), reply.message()


# ---- money ----

@claim(own=True, limit=90)
def http_and_a_shell_spend_the_same_money(Mount):
    with Mount(*web.OPTION) as m, models(m, far=dict(DEAR, endpoint=server.url())):
        uncached(m)
        w = asker(m)
        set_account(m, limit="40")
        shell = m.session(model="far", tokens=9)
        reply = w.chat("one", max_tokens=9)
        equal((reply.status, dollars(m, "spent"), dollars(m, "remaining")), (200, 9, 31))
        shell.ask("two")
        equal(dollars(m, "spent"), 18)
        with w.stream("three", max_tokens=9) as s:
            equal(s.text(), TEXT)
        equal(dollars(m, "spent"), 27)
        equal([(x["request"], x["cost"]) for x in ledger(m)][-1], (s.request(), 9))
        equal(sum(x["cost"] for x in ledger(m)), 27)
        for more in ({}, {"stream": True}):
            reply = w.chat("four", max_tokens=14, **more)
            equal(reply.error()[0:3], (429, "insufficient_quota", "insufficient_quota"))
            equal(reply.headers["x-should-retry"], "false")
            assert ME in reply.message() and "13" in reply.message(), reply.message()
        equal(w.chat("four", max_tokens=13).status, 200)
        equal(dollars(m, "spent"), 36)
        with refused(errno.EDQUOT):
            shell.submit("five")
        equal(w.chat("five", max_tokens=4).status, 200)
        equal((dollars(m, "spent"), dollars(m, "remaining")), (40, 0))


@claim(own=True, limit=90)
def a_long_history_is_claimed_with_the_prompt(Mount):
    with Mount(*web.OPTION) as m, models(m, far={"endpoint": server.url(), "price_input": 1000000}):
        uncached(m)
        w = asker(m)
        set_account(m, limit="200")
        equal(w.chat("short", max_tokens=9).status, 200)
        long = [user("word " * 400), {"role": "assistant", "content": "word " * 400}, user("short")]
        equal(w.chat(long, max_tokens=9).error()[0:2], (429, "insufficient_quota"))
        equal(w.chat([{"role": "system", "content": "word " * 800}, user("short")], max_tokens=9).error()[0], 429)


@claim(own=True, limit=120)
def a_budget_is_never_passed_by_many_who_leave(Mount):
    n = 200 if not harness.sanitizer() else 60
    with Mount(*web.OPTION) as m, models(m, far=dict(DEAR, endpoint=server.url("pace=3"))):
        uncached(m)
        w = asker(m)
        limit = n // 4 * 9
        set_account(m, limit=limit)
        got, faults = [], []

        def one(k):
            for i in range(n // 10):
                try:
                    if i % 3 == 2:  # leaves at once
                        s = web.dial(m)
                        s.sendall(web.raw_request(w.key, web.chat_body("q %d %d" % (i, k), max_tokens=9)))
                        s.close()
                    else:
                        got.append(w.chat("q %d %d" % (i, k), max_tokens=9).status)
                except (OSError, AssertionError) as e:
                    faults.append(e)
        threads = [threading.Thread(target=one, args=(k,)) for k in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        equal((faults, set(got) - {200, 429}), ([], set()))
        harness.wait_for(lambda: web.metric(m, "requests_running") == 0, "end of all")
        spent = dollars(m, "spent")
        assert got.count(200) * 9 <= spent <= limit, (got.count(200), spent, limit)
        equal((sum(x["cost"] for x in ledger(m)), dollars(m, "remaining")), (spent, limit - spent))
        assert 429 in got


# ---- who ----

@claim(own=True)
def a_key_asks_as_its_user(Mount):
    with Mount(*web.OPTION) as m, models(m, far=server.url()):
        uncached(m)
        w, other = asker(m), Web(m, web.make_key(m, "other", user=OTHER))
        equal([web.traced(m, x.chat("hi").request())["uid"] for x in (w, other)], [os.getuid(), int(OTHER)])
        set_account(m, limit="0")
        write(m("models", "far", "price_output"), "1\n")
        equal([x.chat("hi").status for x in (w, other)], [429, 200])
        write(m("keys", "asker", "user"), OTHER + "\n")
        equal(w.chat("hi").status, 200)


# ---- the cache ----

@claim()
def the_same_request_is_answered_once_and_costs_nothing(m):
    server.reset()
    w = asker(m)
    with models(m, far=dict(DEAR, endpoint=server.url())):
        first = w.chat("why is the sky blue?")
        equal((first.text(), asked()), (TEXT, 1))
        second = w.chat("why is the sky blue?")
        equal((second.text(), asked()), (TEXT, 1))
        equal([(r.headers["x-llmfs-model"], r.headers["x-llmfs-cache"]) for r in (first, second)],
              [("far", None), ("far", "hit")])
        equal(web.traced(m, second.request())["cost"], 0)
        with w.stream("why is the sky blue?", stream_options={"include_usage": True}) as s:
            events = list(s)
        equal(("".join(web.texts(events)), events[-1], asked()), (TEXT, "[DONE]", 1))
        # A shell asks the same, and so do completions.
        shell = m.session(model="far", tokens=4096)
        for file in ("max_tokens", "ignore_eos"):
            reset(shell(file))
        equal((shell.ask("why is the sky blue?"), asked()), (shown(ANSWER), 1))
        # Another question, another setting, another past: another answer.
        w.chat("why is the sky green?")
        equal(asked(), 2)
        w.chat("why is the sky blue?", max_tokens=3)
        equal(asked(), 3)
        past = [user("I am blind."), {"role": "assistant", "content": "I see."}, user("why is the sky blue?")]
        equal((w.chat(past).text(), asked()), (TEXT, 4))
        equal((w.chat(past).text(), asked()), (TEXT, 4))
        past[0] = user("I am a painter.")
        w.chat(past)
        equal(asked(), 5)


@claim()
def another_users_key_does_not_get_it_unless_the_scope_is_global(m):
    server.reset()
    w, other = asker(m), Web(m, web.make_key(m, "other", user=OTHER))
    mine_too = Web(m, web.make_key(m, "mine"))
    with models(m, far=server.url()):
        equal((w.chat("what is my name?").text(), asked()), (TEXT, 1))
        equal((mine_too.chat("what is my name?").text(), asked()), (TEXT, 1))
        equal((other.chat("what is my name?").text(), asked()), (TEXT, 2))
        write(m("cache", "scope"), "global\n")
        try:
            w.chat("what is our name?")
            n = asked()
            other.chat("what is our name?")
            equal(asked(), n)
        finally:
            write(m("cache", "scope"), "")


# ---- guards ----

RULES = """block   bomb   /\\bbomb\\b/
redact  card   /\\b(?:\\d[ -]?){12,18}\\d\\b/   check=luhn
"""


@claim()
def a_blocked_prompt_is_400_content_filter_and_a_redacted_one_goes_on_without_it(m):
    server.reset()
    w = asker(m)
    write(m("guards", "input", "t.rules"), RULES)
    try:
        with models(m, far=server.url("echo")):
            for more in ({}, {"stream": True}):
                reply = w.chat("how to make a bomb", **more)
                equal(reply.error()[0:3], (400, "invalid_request_error", "content_filter"))
                assert "bomb" in reply.message() and "t.rules" in reply.message(), reply.message()
                assert reply.request(), reply.headers.items()
            equal(w.complete("a bomb").error()[2], "content_filter")
            equal(w.chat([{"role": "system", "content": "Love the bomb."}, user("hi")]).error()[2], "content_filter")
            past = [user("a bomb"), {"role": "assistant", "content": "no"}, user("hi")]
            equal(w.chat(past).error()[2], "content_filter")
            equal(asked(), 0)
            equal(w.chat("my card is 4111 1111 1111 1111, thanks").text(), "my card is [card], thanks\n")
            audit = [json.loads(x) for x in read(m("guards", "audit")).splitlines()]
            assert {"bomb", "card"} <= {x.get("rule") for x in audit}, audit
    finally:
        os.unlink(m("guards", "input", "t.rules"))


@claim()
def a_guarded_answer_is_redacted_or_ends_where_it_is_safe(m):
    w = asker(m)
    write(m("guards", "output", "t.rules"), "redact fox /brown fox/\nblock dog /lazy dog/\n")
    try:
        with models(m, far=server.url("pace=20")):
            reply = w.chat("tell me")
            safe = reply.text()
            assert safe.startswith("The quick [fox] jumps") and "lazy" not in safe, safe
            equal(reply.json()["choices"][0]["finish_reason"], "content_filter")
            equal(web.traced(m, reply.request())["status"], "blocked")
            with w.stream("tell me") as s:
                events = list(s)
            equal((events.pop(), "".join(web.texts(events))), ("[DONE]", safe))
            equal(events[-1]["choices"][0]["finish_reason"], "content_filter")
            equal(web.traced(m, s.request())["status"], "blocked")
            server.control(answer="The quick brown fox is safe.")
            equal(w.chat("tell me more").text(), "The quick [fox] is safe.")
            equal(w.stream("tell me yet more").text(), "The quick [fox] is safe.")
            # Of one that is blocked before a byte of it is safe there is nothing but that.
            server.control(answer="lazy dog")
            choice = w.chat("and?").json()["choices"][0]
            equal((choice["message"]["content"], choice["finish_reason"]), ("", "content_filter"))
            with w.stream("and?") as s:
                events = list(s)
            equal((events.pop(), "".join(web.texts(events))), ("[DONE]", ""))
            equal(events[-1]["choices"][0]["finish_reason"], "content_filter")
    finally:
        server.reset()
        os.unlink(m("guards", "output", "t.rules"))


try:
    harness.main(*web.OPTION)
finally:
    server.close()
