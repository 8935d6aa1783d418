#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""models/auto, models/cascade and router/: who answers, and why."""
import collections
import contextlib
import errno
import json
import os
import pwd
import re

import harness
from harness import claim, equal, read, read_bytes, refused, shown, wait_for, write
from routed_parts import decision, explain, steps
from servers import ANSWER, Server, models, without_local_models

server = Server()


def policy(m, word):
    write(m("router", "policy"), word + "\n")


def three(m):
    """Cheap and weak, in between, dear and good: `tiny` and `short` are local and free."""
    return models(
        m, cheap={"endpoint": server.url(), "price_input": 0.1, "price_output": 0.2, "quality": 0.3},
        good={"endpoint": server.url(), "price_input": 5, "price_output": 15, "quality": 0.95})


def answered_by(s):
    trace = read(s("trace"))
    return json.loads(trace[trace.index('{"models"'):].splitlines()[0])["models"][0]


@claim()
def auto_picks_by_policy_and_says_why(m):
    with three(m):
        policy(m, "quality")
        s = m.session(model="auto")
        equal(s.ask("hello"), shown(ANSWER))
        assert '"good"' in read(s("trace")), read(s("trace"))
        assert "\nmodel good\nprovider openai\n" in read(s("usage")), read(s("usage"))
        equal(explain(m, "hello")["chosen"], "good")
        policy(m, "cost")
        assert explain(m, "hello")["chosen"] not in ("good", "cheap")
        policy(m, "")


@claim()
def what_is_dropped_has_its_reason(m):
    with models(m, down={"endpoint": server.url("500"), "retries": 0, "breaker_failures": 1,
                         "quality": 1}):
        s = m.session(model="down")
        s.submit("hello")
        with refused(errno.EHOSTUNREACH):
            read_bytes(s("out"))
        d = explain(m, "hello")
        why = {x["model"]: x["why"] for x in d["dropped"]}
        assert "down" in why and "down" in why["down"], d


@claim()
def a_model_that_has_just_failed_is_behind_the_others_and_explain_says_why(m):
    policy(m, "quality")
    with models(m, dead={"endpoint": "http://127.0.0.1:9/v1", "quality": 1, "retries": 0}):
        equal(explain(m, "hello")["chosen"], "dead")  # nobody knows yet
        s = m.session(model="auto")
        assert s.ask("hello")
        d = explain(m, "hello")
        equal([c["model"] for c in d["candidates"]][-1], "dead")
        equal([c["model"] for c in d["candidates"] if "failed" in c], ["dead"])
        assert "cannot connect" in d["candidates"][-1]["failed"], d
        s = m.session(model="dead")
        for _ in range(4):
            s.submit("hello")
            with refused(errno.EHOSTUNREACH):
                read_bytes(s("out"))
        why = {x["model"]: x["why"] for x in explain(m, "hello")["dropped"]}
        assert "has failed 5 times (cannot connect" in why["dead"], why
        assert "has failed 5 times (cannot connect" in read(m("status")), read(m("status"))
    policy(m, "")


@claim(limit=120)
def a_model_that_dies_costs_no_request_of_auto(m):
    policy(m, "quality")
    with models(m, dying={"endpoint": server.url("503"), "quality": 1, "retries": 0}):
        for _ in range(10):
            s = m.session(model="auto")
            assert s.ask("hello")
            equal(s.status(), "done")
    policy(m, "")


@claim(limit=120)
def nobody_healthy_is_an_errno_with_the_reasons(m):
    with models(m, dear={"endpoint": server.url(), "price_input": 1000000, "price_output": 1000000}):
        s = m.session(model="auto", max_cost="0.000001", format="json")
        for name in ("tiny", "short"):
            if harness.exists(m("models", name)):
                write(m("models", name, "capabilities"), "embed\n")
        try:
            with refused(errno.EHOSTUNREACH):
                s.submit("hello")
                read_bytes(s("out"))
            assert "dear" in read(s("error")), read(s("error"))
        finally:
            for name in ("tiny", "short"):
                if harness.exists(m("models", name)):
                    write(m("models", name, "capabilities"), "")


def each_step_is_paid(m, s, names):
    """What steps took is what lines of the ledger say, and their sum is the request's."""
    took = [x for x in steps(s) if "cost" in x]
    me = pwd.getpwuid(os.getuid()).pw_name
    number = int(re.search(r"^request (\d+)$", read(s("trace")), re.M).group(1))
    lines = [json.loads(x) for x in read(m("budgets", me, "ledger")).splitlines()]
    lines = [x for x in lines if x.get("request") == number]
    equal([x["model"] for x in took], names)
    equal([x["model"] for x in lines], names)
    equal([x.get("step", False) for x in lines], [True] * (len(names) - 1) + [False])
    for key in ("prompt_tokens", "output_tokens", "cost"):
        equal([x[key] for x in took], [x[key] for x in lines])
        equal(round(sum(x[key] for x in took), 9), s.usage(key))
    assert all(x["cost"] > 0 for x in took), took


@claim(limit=120)
def a_cascade_goes_on_where_an_answer_is_not_good_enough_and_shows_one_answer_only(m):
    server.control(answer="As an AI, I cannot help with that.")
    other = Server()
    try:
        with models(m, first={"endpoint": server.url(), "price_output": 0.1, "quality": 0.1},
                    second={"endpoint": other.url(), "price_output": 9, "quality": 0.9}):
            for name in ("tiny", "short"):
                if harness.exists(m("models", name)):
                    write(m("models", name, "capabilities"), "embed\n")
            write(m("router", "threshold"), "0.9\n")
            s = m.session(model="cascade")
            got = s.ask("Explain in a few sentences what a fox and a dog did, and why.")
            equal(got, shown(ANSWER))
            trace = read(s("trace"))
            assert "refuses" in trace and "below" in trace, trace
            equal(s.usage("output_tokens") > len(ANSWER.split()), True)
            equal(s.messages()[-1]["content"], ANSWER.decode())
            each_step_is_paid(m, s, ["first", "second"])
    finally:
        write(m("router", "threshold"), "")
        for name in ("tiny", "short"):
            if harness.exists(m("models", name)):
                write(m("models", name, "capabilities"), "")
        other.close()
        server.reset()


@claim(limit=200)
def a_split_keeps_sessions_on_their_arm(m):
    policy(m, "split")
    with models(m, a={"endpoint": server.url(), "weight": 3}, b={"endpoint": server.url(), "weight": 1}):
        for name in ("tiny", "short"):
            if harness.exists(m("models", name)):
                write(m("models", name, "weight"), "0\n")
        try:
            arms = collections.Counter()
            for _ in range(24):
                s = m.session(model="auto", cache="off")
                s.ask("hello")
                arm = decision(s)["arm"]
                s.ask("hello again")
                equal(decision(s)["arm"], arm)
                arms[arm] += 1
            equal(set(arms) <= {"a", "b"}, True)
            assert arms["a"] > arms["b"], arms
        finally:
            for name in ("tiny", "short"):
                if harness.exists(m("models", name)):
                    write(m("models", name, "weight"), "")
            policy(m, "")


def arms_of(m):
    """What metrics say by arm: {name of the value: {labels: number}}."""
    out = collections.defaultdict(dict)
    for line in read(m("metrics", "prometheus")).splitlines():
        if line.startswith("llm_router_arm_"):
            name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (.*)", line).groups()
            out[name[len("llm_router_arm_"):]][labels] = float(value)
    return out


@claim(limit=200)
def results_of_a_split_are_in_metrics_by_arm(m):
    policy(m, "split")
    server.reset()
    with without_local_models(m), models(
            m, dear={"endpoint": server.url(), "weight": 1, "price_output": 10, "retries": 0},
            free={"endpoint": server.url("500"), "weight": 1, "retries": 0, "breaker_failures": 1000}):
        equal(any("dear" in x or "free" in x for x in arms_of(m)["requests_total"]), False)
        arms = collections.Counter()
        spent = collections.Counter()
        for _ in range(14):
            s = m.session(model="auto", cache="off")
            s.ask("hello")
            arms[decision(s)["arm"]] += 1
            spent[decision(s)["arm"]] += s.usage("cost")
        server.control(default="503")  # now nobody answers: that is a failure of the arm
        failed = collections.Counter()
        while len(failed) < 2:
            s = m.session(model="auto", cache="off")
            s.submit("hello")
            s.wait("failed")
            failed[decision(s)["arm"]] += 1
        equal(set(arms), {"dear", "free"})
        wait_for(lambda: sum(v for k, v in arms_of(m)["requests_total"].items()
                             if "dear" in k or "free" in k) == 14 + sum(failed.values()), "the last")
        now = arms_of(m)
        for arm in arms:
            for status, n in (("done", arms[arm]), ("failed", failed[arm]), ("blocked", 0)):
                equal(now["requests_total"]['arm="%s",status="%s"' % (arm, status)], n)
            # Those of `free` were answered by `dear`, and paid: that is a result of their arm.
            assert abs(now["cost_dollars"]['arm="%s"' % arm] - spent[arm]) < 1e-8, (now, spent)
            assert now["tokens_total"]['arm="%s",direction="output"' % arm] >= arms[arm]
            equal(now["latency_seconds_count"]['arm="%s"' % arm], arms[arm])
            equal(now["first_token_seconds_count"]['arm="%s"' % arm], arms[arm])
            assert now["latency_seconds_sum"]['arm="%s"' % arm] > 0
    server.reset()
    policy(m, "")


@claim()
def what_the_cache_answered_is_of_no_arm(m):
    server.reset()
    policy(m, "split")
    write(m("cache", "enabled"), "1\n")
    try:
        with without_local_models(m), models(m, only={"endpoint": server.url(), "weight": 1}):
            s = m.session(model="auto")  # whose arm it is: another's would not have its answers

            def asks(prompt, n, cached):
                """When it is over, n requests of the arm are."""
                before = int(read(m("metrics", "requests_total")))
                write(s("ctl"), "clear\n")
                equal(s.ask(prompt), shown(ANSWER))
                equal("\ncache l1\n" in read(s("usage")), cached)
                wait_for(lambda: int(read(m("metrics", "requests_total"))) == before + 1, "end")
                wait_for(lambda: arms_of(m)["requests_total"].get(
                    'arm="only",status="done"', 0) >= n, "result of the arm")
                return arms_of(m)

            asks("why is the sky blue?", 1, cached=False)
            now = asks("why is the grass green?", 2, cached=False)
            for _ in range(3):
                asks("why is the sky blue?", 2, cached=True)
            last = asks("why is the grass green?", 2, cached=True)
            equal(last, now)  # nor of another one's
            equal(asks("why is the sea green?", 3, cached=False)["requests_total"]
                  ['arm="only",status="done"'], 3)
    finally:
        write(m("cache", "enabled"), "0\n")
        policy(m, "")
        server.reset()


QUESTION = "Explain in a few sentences what a fox and a dog did, and why."
NO = "As an AI, I cannot help with that."


@contextlib.contextmanager
def cascade(m, first, second):
    """Two steps: a refusal from the first is not good enough."""
    server.reset()
    server.control(answer=NO)
    with without_local_models(m), models(
            m, first=dict({"endpoint": server.url(), "price_output": 0.1, "quality": 0.1}, **first),
            second=dict({"retries": 0, "price_output": 9, "quality": 0.9}, **second)):
        write(m("router", "threshold"), "0.9\n")
        try:
            yield
        finally:
            write(m("router", "threshold"), "")
            server.reset()


@claim()
def a_cascade_whose_first_answer_is_good_enough_says_once_what_it_took(m):
    with Server() as other, cascade(m, {}, {"endpoint": other.url()}):
        server.reset()
        s = m.session(model="cascade")
        write(m("router", "threshold"), "0.1\n")
        equal(s.ask(QUESTION), shown(ANSWER))
        equal([x["outcome"] for x in steps(s)][-1], "answered")
        equal(other.requests(), [])
        each_step_is_paid(m, s, ["first"])


@claim()
def a_judged_cascade_whose_last_step_fails_gives_the_best_it_has_and_rests(m):
    with cascade(m, {}, {"endpoint": server.url("500")}):
        write(m("guards", "moderation"),
              "model short\nthreshold 1\nstages output\ncategory S1 Violence\n")
        try:
            s = m.session(model="cascade")
            equal(s.ask(QUESTION), (NO + "\n").encode())
            equal(read(s("trace")).count("the best answer before it is given"), 1)
            assert "\nmodel first\n" in read(s("usage")), read(s("usage"))
        finally:
            os.unlink(m("guards", "moderation"))


@claim()
def a_step_that_breaks_off_unseen_is_only_a_step(m):
    with Server() as other, cascade(m, {"endpoint": server.url("close-middle")},
                                    {"endpoint": other.url()}):
        s = m.session(model="cascade")
        equal(s.ask(QUESTION), shown(ANSWER))
        equal(s.status(), "done")


@claim()
def a_step_that_cannot_be_paid_leaves_what_was_paid_for(m):
    me = pwd.getpwuid(os.getuid()).pw_name
    with Server() as other, cascade(m, {}, {"endpoint": other.url(), "price_output": 500000}):
        if not os.path.isdir(m("budgets", me)):
            os.mkdir(m("budgets", me))
        write(m("budgets", me, "limit"), "1\n")
        try:
            s = m.session(model="cascade")
            equal(s.ask(QUESTION), (NO + "\n").encode())
            equal(len(s.messages()), 2)
            equal(other.requests(), [])
        finally:
            write(m("budgets", me, "limit"), "")


try:
    harness.main()
finally:
    server.close()
