#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The official client of OpenAI's API (openai_package.py), which is told base_url and api_key and nothing else: it gets its
answers, in its own types, and what it makes of refusals; and llmfs as a client of llmfs."""
import asyncio
import errno
import json
import os
import time

import harness
import openai_package
import web
from harness import claim, equal, read, wait_for, write
from servers import ANSWER, Server, models
from web import ME, OPTION, set_account, user

openai = openai_package.get()
server = Server()
TEXT = ANSWER.decode()
HI = [user("Hello, and how are you today?")]


def client(m, kind=None, **settings):
    if not hasattr(m, "secret"):
        m.secret = web.make_key(m, "client")
    settings = dict({"max_retries": 0, "timeout": 60 * harness.slow(), "api_key": m.secret}, **settings)
    return (kind or openai.OpenAI)(base_url=web.url(m), **settings)


def raised(kind, f, *args, **settings):
    try:
        f(*args, **settings)
    except openai.OpenAIError as e:
        equal(type(e), kind)
        return e
    raise AssertionError("nothing was raised")


def request(name):
    return int(name.removeprefix("req_"))


def chat(c, messages=HI, model="far", **settings):
    return c.chat.completions.create(model=model, messages=messages, **settings)


# ---- answers ----

@claim()
def chat_comes_whole_and_streamed_and_with_its_usage(m):
    with models(m, far=server.url("ok-cached")):
        c = client(m)
        got = chat(c)
        equal((got.object, got.model, got.choices[0].finish_reason), ("chat.completion", "far", "stop"))
        message = got.choices[0].message
        equal((message.role, message.content, message.refusal, got.choices[0].logprobs), ("assistant", TEXT, None, None))
        equal((got.usage.completion_tokens, got.usage.prompt_tokens_details.cached_tokens), (9, 3))
        equal(web.traced(m, request(got._request_id))["status"], "done")
        chunks = list(chat(c, stream=True, stream_options={"include_usage": True}))
        equal(chunks[0].choices[0].delta.role, "assistant")
        equal("".join(x.choices[0].delta.content or "" for x in chunks[:-1]), TEXT)
        equal((chunks[-1].choices, chunks[-1].usage.completion_tokens), ([], 9))
        equal([x.usage for x in chunks[:-1]], [None] * (len(chunks) - 1))
        equal((len({x.id for x in chunks}), chunks[-2].choices[0].finish_reason), (1, "stop"))


@claim()
def its_own_helper_of_streams_puts_the_answer_together(m):
    with models(m, far=server.url()):
        with client(m).chat.completions.stream(model="far", messages=HI) as stream:
            said = [e.delta for e in stream if e.type == "content.delta"]
            final = stream.get_final_completion()
        equal(("".join(said), final.choices[0].message.content, final.choices[0].finish_reason), (TEXT, TEXT, "stop"))


@claim()
def many_at_once_from_one_asynchronous_client(m):
    async def ask():
        async with client(m, openai.AsyncOpenAI) as c:
            whole = [chat(c, [user("number %d" % i)], "echo") for i in range(25)]

            async def streamed(i):
                return "".join([x.choices[0].delta.content or "" async for x in
                                await chat(c, [user("number %d" % i)], "echo", stream=True)])
            return (await asyncio.gather(*whole), await asyncio.gather(*[streamed(i) for i in range(25)]))
    with models(m, echo=server.url("echo")):
        whole, streamed = asyncio.run(ask())
        equal([x.choices[0].message.content for x in whole], ["number %d\n" % i for i in range(25)])
        equal(streamed, ["number %d\n" % i for i in range(25)])


@claim()
def completions_embeddings_and_models(m):
    with models(m, far=server.url()):
        c = client(m)
        equal(c.completions.create(model="far", prompt="x").choices[0].text, TEXT)
        equal("".join(x.choices[0].text for x in c.completions.create(model="far", prompt="x", stream=True)), TEXT)
        packed = c.embeddings.create(model="far", input=["a", "b"])  # asks for base64
        plain = c.embeddings.create(model="far", input=["a", "b"], encoding_format="float")
        for a, b in zip(packed.data, plain.data):
            equal((a.index, [round(x, 4) for x in a.embedding]), (b.index, [round(x, 4) for x in b.embedding]))
        assert len(packed.data[0].embedding) == 8 and packed.usage.prompt_tokens > 0
        assert {"far", "tiny", "default"} <= {x.id for x in c.models.list()}
        equal(c.models.retrieve("far").id, "far")


@claim()
def json_answers_and_what_it_adds_to_a_request_are_taken(m):
    server.control(answer='{"a": [1, 2]}')
    try:
        with models(m, far=server.url()):
            got = chat(client(m), response_format={"type": "json_object"}, user="me", store=True, metadata={"k": "v"},
                       parallel_tool_calls=openai.NOT_GIVEN, temperature=0.5, seed=1, max_completion_tokens=50)
            equal(json.loads(got.choices[0].message.content), {"a": [1, 2]})
    finally:
        server.reset()


# ---- refusals ----

@claim()
def each_refusal_is_the_exception_that_it_knows(m):
    with models(m, far=server.url(), down={"endpoint": server.url(port="closed"), "retries": 0}):
        c = client(m)
        e = raised(openai.AuthenticationError, chat, client(m, api_key="sk-llmfs-wrong"))
        equal((e.code, e.type), ("invalid_api_key", "invalid_request_error"))
        e = raised(openai.NotFoundError, chat, c, model="nobody")
        equal((e.code, e.param), ("model_not_found", None))
        assert "nobody" in e.message and e.request_id, (e.message, e.request_id)
        e = raised(openai.BadRequestError, chat, c, temperature=9)
        equal(e.param, "temperature")
        e = raised(openai.BadRequestError, chat, c, tools=[{"type": "function", "function": {"name": "f"}}])
        equal((e.param, e.code), ("tools", "unsupported_parameter"))
        e = raised(openai.BadRequestError, chat, c, [user("word " * 4000)], "short")
        equal(e.code, "context_length_exceeded")
        equal(web.traced(m, request(e.request_id))["status"], "failed")
        write(m("keys", "client", "scopes"), "models chat model:far\n")
        try:
            raised(openai.PermissionDeniedError, chat, c, model="tiny")
            raised(openai.PermissionDeniedError, c.embeddings.create, model="far", input="x")
        finally:
            harness.reset(m("keys", "client", "scopes"))
        e = raised(openai.InternalServerError, chat, c, model="down")
        equal(e.status_code, 503)
        raised(openai.NotFoundError, c.responses.create, model="far", input="x")


@claim()
def a_guard_is_a_bad_request_and_of_an_answer_that_was_begun_its_end(m):
    write(m("guards", "input", "t.rules"), "block bomb /bomb/\n")
    write(m("guards", "output", "t.rules"), "block dog /lazy dog/\n")
    try:
        with models(m, far=server.url("pace=20")):
            c = client(m)
            equal(raised(openai.BadRequestError, chat, c, [user("a bomb")]).code, "content_filter")
            choice = chat(c).choices[0]
            equal((choice.finish_reason, "lazy" in choice.message.content), ("content_filter", False))
            chunks = list(chat(c, stream=True))
            equal(("".join(x.choices[0].delta.content or "" for x in chunks), chunks[-1].choices[0].finish_reason),
                  (choice.message.content, "content_filter"))
        with models(m, far={"endpoint": server.url("error-middle"), "retries": 0}):
            equal(raised(openai.APIError, lambda: list(chat(c, stream=True))).type, "server_error")
    finally:
        for where in ("input", "output"):
            os.unlink(m("guards", where, "t.rules"))


@claim()
def what_may_pass_by_itself_is_tried_again_and_a_spent_budget_is_not(m):
    c = client(m, max_retries=3)
    with models(m, far={"endpoint": server.url(), "retries": 0, "breaker_failures": 50, "price_output": 1000000}):
        server.reset()
        server.control(next=["500", "503"])
        equal(chat(c).choices[0].message.content, TEXT)
        equal(len(server.requests()), 3)
        path = set_account(m, limit="1")
        try:
            refusals = len([r for r in web.trace(m) if r["errno"] == errno.EDQUOT])
            e = raised(openai.RateLimitError, chat, c)
            equal((e.code, e.type, e.response.headers["x-should-retry"]),
                  ("insufficient_quota", "insufficient_quota", "false"))
            assert len([r for r in web.trace(m) if r["errno"] == errno.EDQUOT]) <= refusals + 1
        finally:
            os.rmdir(path)


@claim(own=True, limit=150)
def it_waits_for_the_next_minute_as_it_is_told(Mount):
    if harness.sanitizer():
        raise harness.Skip("it waits for up to a minute, which finds nothing under a sanitizer")
    with Mount(*OPTION) as m, models(m, far=server.url()):
        set_account(m, requests_per_minute=1)
        c = client(m, max_retries=1)
        minute = time.time() // 60
        chat(c)
        equal(chat(c).choices[0].message.content, TEXT)  # one try, and one more when it was told
        assert time.time() // 60 > minute
        e = raised(openai.RateLimitError, chat, client(m))
        equal((e.code, e.type), ("rate_limit_exceeded", "rate_limit_error"))
        assert 0 < float(e.response.headers["retry-after-ms"]) <= 60000
        raw = client(m).chat.completions.with_raw_response
        e = raised(openai.RateLimitError, raw.create, model="far", messages=HI)
        equal(e.response.headers["x-ratelimit-remaining-requests"], "0")


# ---- leaving ----

@claim()
def a_stream_that_is_closed_early_and_a_timeout_cancel(m):
    with models(m, far=server.url("hang-middle"), mute=server.url("hang-first")):
        stream = chat(client(m), stream=True)
        while "quick" not in (next(stream).choices[0].delta.content or ""):
            pass
        name = stream.response.headers["x-request-id"]
        stream.close()
        equal(web.traced(m, request(name))["status"], "cancelled")
        wait_for(lambda: server.requests()[-1]["state"] == "gone", "end at the server")
        raised(openai.APITimeoutError, chat, client(m, timeout=0.5), model="mute")
        wait_for(lambda: server.requests()[-1]["state"] == "gone", "end at the server")
        wait_for(lambda: web.metric(m, "requests_running") == 0, "rest")


# ---- llmfs and llmfs ----

@claim(own=True, limit=120)
def llmfs_is_an_upstream_of_llmfs(Mount):
    with Mount(*OPTION) as far, Mount(*OPTION) as near:
        os.mkdir(near("models", "x"))
        write(near("models", "x", "endpoint"), web.url(far) + "\n")
        write(near("models", "x", "key"), web.make_key(far, "near") + "\n")
        write(near("models", "x", "remote_name"), "tiny\n")
        write(near("models", "x", "retries"), "0\n")
        ask = dict(temperature=0, system="Be brief.", tokens=16)
        there = far.session(model="tiny", **ask)
        mine = there.ask("Tell me.")
        here = near.session(model="x", **dict(ask))
        got = here.ask("Tell me.")
        equal((here.status(), here.usage("prompt_tokens")), ("done", there.usage("prompt_tokens")))
        assert got and (mine.startswith(got.rstrip(b"\n")) or got == mine), (got, mine)
        # And through both fronts.
        c = client(near)
        equal("".join(x.choices[0].delta.content or "" for x in chat(c, model="x", stream=True, max_tokens=5)),
              chat(c, model="x", max_tokens=5).choices[0].message.content)
        # A spent budget, a guard and a revoked key over there are told here, in its words.
        set_account(far, limit="0")
        write(far("models", "tiny", "price_output"), "1\n")
        s = near.session(model="x")
        s.submit("once more")
        equal((s_error(s), "budget of " + ME in read(s("error"))), (errno.EBUSY, True))
        os.rmdir(far("budgets", ME))
        write(far("guards", "input", "t.rules"), "block bomb /bomb/\n")
        s = near.session(model="x")
        s.submit("a bomb")
        equal((s_error(s), "input guard bomb" in read(s("error"))), (errno.EPROTO, True))
        write(far("keys", "near", "ctl"), "revoke\n")
        near.expects("models/x|x: ")
        s = near.session(model="x")
        s.submit("and again")
        equal(s_error(s), errno.EACCES)
        assert "key" in read(s("error")), read(s("error"))


def s_error(s):
    """The errno of the newest answer."""
    got, code = harness.until_it_fails(s("out"))
    equal(got, b"")
    return code


try:
    harness.main(*OPTION)
finally:
    server.close()
