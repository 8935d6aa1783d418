#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""router/cascade_judge and router/classifier_model: models that the router asks."""
import contextlib
import json
import os
import pwd
import subprocess
import threading
import time

import harness
from harness import claim, equal, read, shown, wait_for, write
from routed_parts import decision, explain, steps
from servers import ANSWER, Server, models, without_local_models

harness.CACHE = True  # what has no verdict must not be kept

FIRST = "A fox jumps over a dog."
ASKED = "What does a fox do?"
server, other, judge = Server(), Server(), Server()


@contextlib.contextmanager
def setting(m, **values):
    for file, value in values.items():
        write(m("router", file), "%s\n" % value)
    try:
        yield
    finally:
        for file in values:
            harness.reset(m("router", file))


@contextlib.contextmanager
def default_kept(m):
    """The default may be another meanwhile: without the local models, it has to."""
    old = os.readlink(m("models", "default"))
    try:
        yield
    finally:
        m.sh("ln -sfn %s models/default" % old, check=True)


@contextlib.contextmanager
def judged(m, says, threshold=0.5, judge_settings=None, **router):
    """A cascade of two; what the first says is judged by `big`, which says that."""
    for s in (server, other, judge):
        s.reset()
    server.control(answer=FIRST)
    judge.control(answer=says)
    big = dict({"endpoint": judge.url(), "retries": 0, "capabilities": "embed"},
               **(judge_settings or {}))
    with models(
            m, first={"endpoint": server.url(), "price_output": 0.1, "quality": 0.1},
            second={"endpoint": other.url(), "price_output": 9, "quality": 0.9},
            big=big), default_kept(m), without_local_models(m), setting(
                m, threshold=threshold, cascade_judge="big", **router):
        m.sh("ln -sfn first models/default", check=True)
        yield


def outcomes(s):
    return [(x["model"], x["outcome"]) for x in steps(s)]


def fresh(m):
    """A session whose question the cache has not."""
    fresh.n = getattr(fresh, "n", 0) + 1
    return m.session(model="cascade", system="Number %d." % fresh.n)


# ---- the judge of a cascade ----

@claim()
def an_answer_that_its_judge_calls_good_is_shown_and_no_other_model_asked(m):
    with judged(m, "yes"):
        s = fresh(m)
        equal(s.ask(ASKED), shown(FIRST))
        equal(len(other.requests()), 0)
        (a, verdict), (b, quality), (c, last) = outcomes(s)
        equal((a, verdict), ("big", "judges the answer of first: good, 1.000"))
        equal(b, "first")
        assert "judge 1.00), not below the threshold of 0.50" in quality, quality
        equal((c, last), ("first", "answered"))
        asked = json.dumps(judge.requests()[0]["body"])
        assert FIRST in asked and ASKED in asked, asked


@claim()
def a_no_has_another_model_tried(m):
    with judged(m, "no\nincomplete"):
        s = fresh(m)
        equal(s.ask(ASKED), shown(ANSWER))
        (a, verdict), (b, quality), last = outcomes(s)
        equal((a, verdict), ("big", "judges the answer of first: bad, 0.000"))
        assert "quality 0.00 (judged, " in quality and "below the threshold" in quality, quality
        equal(last, ("second", "answered"))
        # The last model's answer is not held back, and not judged.
        equal(len(judge.requests()), 1)
        assert FIRST not in read(s("chat"))


@claim()
def a_verdict_ends_the_question_and_what_it_took_is_paid(m):
    # The server sends two words and then nothing.
    for protocol, says, want in (("openai", "no for many reasons", ": bad, 0.000"),
                                 ("openai", "Yes\nfor many reasons", ": good, 1.000"),
                                 ("anthropic", "no\nfor many reasons", ": bad, 0.000"),
                                 ("anthropic", "Yes\nfor many reasons", ": good, 1.000"),
                                 ("anthropic", "Well,\nno in short", "neither yes nor no")):
        with judged(m, says, cascade_judge_timeout_ms=600000, judge_settings={
                "endpoint": judge.url("hang-middle"), "protocol": protocol,
                "price_input": 100, "price_output": 100}):
            s = fresh(m)
            s.ask(ASKED)
            assert want in outcomes(s)[0][1], outcomes(s)
            assert s.usage("judge_prompt_tokens") > 20, read(s("usage"))
            assert s.usage("judge_cost") > 0.002, read(s("usage"))


@claim()
def a_judge_of_another_protocol_is_read_strictly(m):
    for says, want in (("Yes.", "good"), ("No\n\n**off-topic**", "bad"), ("no\nbecause", "bad"),
                       ("Yes, I think so", None), ("It is good: yes", None)):
        with judged(m, says, judge_settings={"protocol": "anthropic"}):
            s = fresh(m)
            s.ask(ASKED)
            verdict = outcomes(s)[0][1]
            if want:
                assert verdict.startswith("judges the answer of first: %s, " % want), (says, verdict)
            else:
                assert "no verdict" in verdict and "neither yes nor no" in verdict, (says, verdict)


@claim()
def a_judge_that_is_down_late_or_gone_has_no_say_and_the_trace_says_so(m):
    for settings, router, why in (
            ({"endpoint": judge.url("500")}, {}, "no verdict: model big: "),
            ({"endpoint": judge.url("hang-first")}, {"cascade_judge_timeout_ms": 150}, "within 150 ms"),
            ({"endpoint": "http://127.0.0.1:%d/v1" % judge.ports["closed"]}, {}, "cannot connect")):
        with judged(m, "no", judge_settings=settings, **router):
            s = fresh(m)
            equal(s.ask(ASKED), shown(FIRST))
            (a, verdict), (_, quality), _ = outcomes(s)
            assert a == "big" and verdict.startswith("no verdict: ") and why in verdict, verdict
            assert "judge" not in quality and "not below" in quality, quality
            # Another user of the same words may have a judge: it is not from the cache.
            equal(s.ask(ASKED), shown(FIRST))
            assert "cache l" not in read(s("usage")), read(s("usage"))
    with judged(m, "yes"):
        os.rmdir(m("models", "big"))
        s = fresh(m)
        equal(s.ask(ASKED), shown(FIRST))
        assert "there is no such model" in outcomes(s)[0][1], outcomes(s)


@claim()
def nothing_is_shown_before_the_verdict_and_a_cancel_ends_the_waiting(m):
    with judged(m, "yes", judge_settings={"endpoint": judge.url("hang-first")}):
        s = fresh(m)
        s.submit(ASKED)
        wait_for(lambda: judge.requests(), "question to the judge")
        got = []
        reader = threading.Thread(target=lambda: got.append(m.sh("cat sessions/%s/out" % s.name)))
        reader.start()
        time.sleep(0.2)
        equal((got, s.status()), ([], "generating"))
        equal(m.session(model="second").ask(ASKED), shown(ANSWER))  # the loop goes on meanwhile
        before = time.monotonic()
        s.cancel()
        reader.join()
        equal(s.status(), "cancelled")
        assert time.monotonic() - before < 8 * harness.slow()
        assert FIRST not in read(s("chat"))


@claim()
def no_judge_is_asked_about_what_is_not_good_enough_anyway_nor_where_none_is_set(m):
    with judged(m, "yes", threshold=0.99):  # the server is half sure of its words
        s = fresh(m)
        equal(s.ask(ASKED), shown(ANSWER))
        equal(judge.requests(), [])
    with judged(m, "no"):
        write(m("router", "cascade_judge"), "\n")
        s = fresh(m)
        equal(s.ask(ASKED), shown(FIRST))
        equal(judge.requests(), [])


@claim()
def the_judges_tokens_are_paid_by_whose_answer_it_judges(m):
    me = pwd.getpwuid(os.getuid()).pw_name
    with judged(m, "yes", judge_settings={"price_input": 100, "price_output": 100}):
        s = fresh(m)
        s.ask(ASKED)
        tok, cost = s.usage("judge_prompt_tokens"), s.usage("judge_cost")
        assert tok > 20 and abs(cost - (tok + s.usage("judge_output_tokens")) / 1e4) < 1e-9, (tok, cost)
        lines = [json.loads(a) for a in read(m("budgets", me, "ledger")).splitlines()]
        lines = [a for a in lines if a.get("session") == s.name]
        equal([(a["model"], a.get("judge")) for a in lines], [("big", True), ("first", None)])


@claim()
def a_model_that_cannot_be_paid_has_no_say_and_refuses_nothing(m):
    me = pwd.getpwuid(os.getuid()).pw_name
    dear = {"price_input": 100000000, "price_output": 100000000}
    if not os.path.isdir(m("budgets", me)):
        os.mkdir(m("budgets", me))
    with judged(m, "no", judge_settings=dear), classified(m, "complex", settings=dear):
        judge.control(answer="no")
        write(m("budgets", me, "limit"), "%.9f\n" % (float(read(m("budgets", me, "spent"))) + 1))
        try:
            s = fresh(m)
            equal(s.ask(ASKED), shown(FIRST))
            equal(judge.requests(), [])
            why = outcomes(s)[0][1]
            assert why.startswith("no verdict") and "budget" in why, why
            d = decision(s)
            equal((d["class_by"], d["classifier"]["class"]), ("rules", None))
            assert "budget" in d["classifier"]["why"], d
            equal(explain(m, "hi")["class_by"], "rules")
        finally:
            harness.reset(m("budgets", me, "limit"))
        s = fresh(m)  # the session's own ceiling is one, too
        write(s("max_cost"), "1\n")
        equal(s.ask(ASKED), shown(FIRST))
        equal(judge.requests(), [])


@claim()
def a_local_model_judges_by_probabilities(m):
    with judged(m, "unused"):
        write(m("router", "cascade_judge"), "short\n")
        s = fresh(m)
        s.ask(ASKED)
        who, verdict = outcomes(s)[0]
        equal(who, "short")
        p = float(verdict.rsplit(", ", 1)[1])
        assert verdict.startswith("judges the answer of first: ") and 0 < p < 1, verdict
        assert s.usage("judge_prompt_tokens") > 20


@claim(root=True)
def what_a_judge_has_computed_is_found_again_for_the_same_user_only(m):
    script = ("d=$(mktemp -d sessions/uXXXXXX) && echo cascade > $d/model && echo off > $d/cache && "
              "echo 'Is a fox a dog?' > $d/in && cat $d/out > /dev/null && grep '^judge_' $d/usage")
    with judged(m, "unused"):
        write(m("router", "cascade_judge"), "short\n")
        known = []
        for user in (None, None, 12345):
            usage = dict(line.split() for line in m.sh(script, user=user, check=True).stdout.splitlines())
            assert int(usage["judge_prompt_tokens"]) > 20, usage
            known.append(int(usage["judge_cached_tokens"]))
        assert known[1] > 200 and known[2] == 0, known  # of the form, too: the first of that user


@claim()
def one_that_hangs_takes_no_judge_from_the_guards(m):
    judge.reset()
    with models(m, clever={"endpoint": judge.url("hang-first"), "capabilities": "embed"}), setting(
            m, classifier_model="clever", classifier_timeout_ms=600000):
        script = 'exec 3<>"$0"; echo "Who is $1?" >&3; exec cat <&3'
        asking = [subprocess.Popen(["sh", "-c", script, m("router", "explain"), str(n)],
                                   stdout=subprocess.DEVNULL) for n in range(70)]
        try:
            wait_for(lambda: len(judge.requests()) >= 32, "questions", timeout=30)
            write(m("guards", "moderation"), "model tiny\nthreshold 1\non_error block\ntimeout_ms 20000\n")
            s = m.session(cache="off")
            s.ask("What is it?")
            assert s.usage("judge_prompt_tokens") > 20
        finally:
            os.unlink(m("guards", "moderation"))
            for p in asking:
                p.kill()
                p.wait()


# ---- the classifier ----

@contextlib.contextmanager
def classified(m, says, endpoint=None, settings=None, **router):
    judge.reset()
    judge.control(answer=says)
    clever = dict({"endpoint": endpoint or judge.url(), "retries": 0, "protocol": "anthropic",
                   "capabilities": "embed"}, **(settings or {}))
    with models(m, clever=clever), setting(m, classifier_model="clever", **router):
        yield


@claim()
def the_model_decides_on_the_class_and_both_words_are_shown(m):
    with classified(m, "Complex"):
        d = explain(m, "hi")
        equal((d["class"], d["class_by"], d["class_by_rules"]), ("complex", "model", "simple"))
        equal(d["classifier"], {"model": "clever", "class": "complex", "shares": [0, 0, 1],
                                "remembered": False})
        assert "hi" in json.dumps(judge.requests()[0]["body"])
        s = m.session(model="auto")
        s.ask("hi there")
        d = decision(s)
        equal((d["class"], d["class_by"]), ("complex", "model"))


@claim()
def the_same_prompt_is_asked_about_once(m):
    with classified(m, "moderate"):
        for _ in range(3):
            equal(explain(m, "What is love?")["class"], "moderate")
        equal(explain(m, "What is love?")["classifier"]["remembered"], True)
        s = m.session(model="auto", cache="off")
        for _ in range(2):
            s.ask("What is love?")
            equal(decision(s)["classifier"]["remembered"], True)
            write(s("ctl"), "clear\n")
        equal(len([r for r in judge.requests() if "Say how much" in json.dumps(r["body"])]), 1)
        explain(m, "What is hate?")
        equal(len([r for r in judge.requests() if "Say how much" in json.dumps(r["body"])]), 2)


@claim(root=True)
def what_was_said_of_another_users_prompt_is_not_known(m):
    with classified(m, "moderate"):
        script = "exec 3<>router/explain; echo 'What is rain?' >&3; cat <&3"
        for user in (None, 12345):
            d = json.loads(m.sh(script, user=user, check=True).stdout)
            equal(d["classifier"]["remembered"], False)


@claim()
def a_model_that_is_down_late_or_babbles_leaves_it_to_the_rules(m):
    for endpoint, says, why in (
            (judge.url("500"), "x", "model clever: "),
            (judge.url("hang-first"), "x", "within 120 ms"),
            (judge.url(), "It is simple.", "none of simple, moderate and complex"),
            (judge.url(), "simple or moderate", "none of simple, moderate and complex")):
        # Whoever is only late is given up soon, the others never: a busy machine is no reason.
        with classified(m, says, endpoint, classifier_timeout_ms=120 if "hang" in endpoint else 600000):
            d = explain(m, "hi")
            equal((d["class"], d["class_by"], d["class_by_rules"]), ("simple", "rules", "simple"))
            assert d["classifier"]["class"] is None and why in d["classifier"]["why"], d["classifier"]
            # What kept it from saying anything is not remembered.
            judge.control(answer="complex")
            write(m("models", "clever", "endpoint"), judge.url() + "\n")
            write(m("router", "classifier_timeout_ms"), "\n")
            equal(explain(m, "hi")["class_by"], "model")


@claim()
def where_none_is_set_nothing_is_asked_and_nothing_more_is_said(m):
    d = explain(m, "hi")
    assert "classifier" not in d and "class_by" not in d, d


@claim()
def a_cancel_while_the_model_thinks_ends_the_request(m):
    with classified(m, "x", judge.url("hang-first"), classifier_timeout_ms=600000):
        s = m.session(model="auto")
        s.submit("Who are you?")
        wait_for(lambda: judge.requests(), "question to the model")
        s.cancel()
        equal(s.status(), "cancelled")
        wait_for(lambda: [r["state"] for r in judge.requests()] == ["gone"], "end of its connection")
        # And so does the last close of a channel.
        reader = subprocess.Popen(["sh", "-c", 'exec 3<>"$0"; echo "Who am I?" >&3; exec cat <&3',
                                   m("router", "explain")], stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: len(judge.requests()) == 2, "question of explain")
            equal(judge.requests()[1]["state"], "running")
        finally:
            reader.kill()
            reader.wait()
        wait_for(lambda: judge.requests()[1]["state"] == "gone", "end of its connection")


@claim()
def where_the_class_changes_nothing_nobody_is_asked_for_it(m):
    server.reset()
    one = {"endpoint": server.url()}
    with classified(m, "complex"):
        for policy in ("cost", "latency", "quality", "split"):
            with setting(m, policy=policy):
                d = explain(m, "How do I choose by %s?" % policy)
            assert "class_by" not in d and d["class"] != "complex", d
        equal(judge.requests(), [])
        equal(explain(m, "How do I choose?")["class_by"], "model")
        equal(len(judge.requests()), 1)
    with models(m, only=one), default_kept(m), without_local_models(m), classified(m, "complex"):
        m.sh("ln -sfn only models/default", check=True)
        assert "class_by" not in explain(m, "Whom do I choose?")
        for model in ("auto", "cascade"):
            s = m.session(model=model, cache="off")
            equal(s.ask("Whom?"), shown(ANSWER))
            assert "class_by" not in decision(s), decision(s)
        equal(judge.requests(), [])


@claim()
def an_answer_is_kept_by_the_judge_that_its_name_stands_for(m):
    with judged(m, "yes"), models(m, strict={"endpoint": judge.url("500"), "retries": 0,
                                             "capabilities": "chat embed"}):
        write(m("models", "big", "capabilities"), "chat\n")
        m.sh("ln -sfn big models/default", check=True)
        write(m("router", "cascade_judge"), "default\n")
        for model in ("big", "strict"):  # which are no candidates: too small
            write(m("models", model, "context"), "1\n")
        s = fresh(m)
        for _ in range(3):  # the first one makes the models known
            equal(s.ask(ASKED), shown(FIRST))
            write(s("ctl"), "clear\n")
        equal(s.ask(ASKED), shown(FIRST))
        assert "cache l" in read(s("usage")), read(s("usage"))
        write(s("ctl"), "clear\n")
        m.sh("ln -sfn strict models/default", check=True)
        equal(s.ask(ASKED), shown(FIRST))
        assert "cache l" not in read(s("usage")), read(s("usage"))
        assert "no verdict: model default" in outcomes(s)[0][1], outcomes(s)
        m.sh("ln -sfn first models/default", check=True)


def requests_of_mine(m):
    me = pwd.getpwuid(os.getuid()).pw_name
    return read(m("budgets", me, "ledger")).splitlines()


@claim(own=True)
def what_asks_no_model_uses_no_ticket_and_what_does_takes_a_place_in_the_limits(Mount):
    me = pwd.getpwuid(os.getuid()).pw_name
    with Mount() as m, classified(m, "simple"):
        os.mkdir(m("budgets", me))
        write(m("budgets", me, "requests_per_day"), "1\n")
        write(m("router", "classifier_model"), "nobody\n")
        for n in range(3):
            done = m.sh("exec 3<>router/explain; echo 'Who is %d?' >&3; cat <&3" % n)
            assert '"class_by": "rules"' in done.stdout, (done, read(m("router", "explain_error")))
        equal(requests_of_mine(m), [])
        write(m("router", "classifier_model"), "clever\n")
        equal(explain(m, "Who is it?")["class_by"], "model")
        wait_for(lambda: len(requests_of_mine(m)) > 0, "line of the ledger")
        done = m.sh("exec 3<>router/explain; echo 'Who is it not?' >&3; cat <&3")
        assert "temporarily unavailable" in done.stderr and not done.stdout, done
        equal(len(judge.requests()), 1)


@claim()
def the_models_tokens_are_paid(m):
    me = pwd.getpwuid(os.getuid()).pw_name
    with classified(m, "simple"):
        write(m("models", "clever", "price_input"), "100\n")
        s = m.session(model="auto", cache="off")
        s.ask("What is it worth?")
        assert s.usage("judge_cost") > 0, read(s("usage"))
        spent = float(read(m("budgets", me, "spent")))
        explain(m, "What is this worth?")
        wait_for(lambda: float(read(m("budgets", me, "spent"))) > spent, "charge")


@claim()
def a_name_that_is_no_model_of_ones_own_is_refused(m):
    for file in ("cascade_judge", "classifier_model"):
        done = m.sh("echo auto > router/%s" % file)
        assert "Invalid argument" in done.stderr, done
        assert "none of the router's own" in read(m("router", "error")), read(m("router", "error"))
    # `default` is a name that may lead there.
    with judged(m, "yes"):
        m.sh("ln -sfn auto models/default", check=True)
        write(m("router", "cascade_judge"), "default\n")
        assert "router/cascade_judge: auto is the router's" in read(m("status")), read(m("status"))
        s = fresh(m)
        equal(s.ask(ASKED), shown(FIRST))
        assert "the router's own" in outcomes(s)[0][1], outcomes(s)


try:
    harness.main(*(["-o", "allow_other"] if os.getuid() == 0 else []))
finally:
    for each in (server, other, judge):
        each.close()
