#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the HTTP front end refuses: with which status, which of OpenAI's words, which member of the body, and a sentence;
and that a connection outlives a refusal. What limits and guards refuse is http_sharing.py's."""
import contextlib
import json
import os
import time

import harness
import web
from harness import claim, equal, read, wait_for, write
from servers import ANSWER, Server, models
from web import CHAT, PATHS, TEXTS, VECTORS, Web, chat_body, user

server = Server()
TEXT = ANSWER.decode()
BAD = "invalid_request_error"


def asker(m):
    if not hasattr(m, "asker"):
        m.asker = Web(m, web.make_key(m, "asker"))
    return m.asker


@contextlib.contextmanager
def key(m, name, **settings):
    """One who has a key of that name; gone at the end."""
    try:
        yield Web(m, web.make_key(m, name, **settings))
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(m("keys", name))


def body_for(path, model="far"):
    return {CHAT: chat_body("hi", model), TEXTS: {"model": model, "prompt": "hi"},
            VECTORS: {"model": model, "input": "hi"}}[path]


# ---- who asks ----

@claim()
def who_has_no_key_gets_401_and_is_told_how_one_is_made(m):
    good = asker(m).key
    for shown in (None, "", "Bearer", "Bearer ", "Bearer sk-llmfs-" + "A" * 43, "Bearer " + good[:-1],
                  "Bearer " + good + "x", "Basic " + good, good, "Bearer " + "x" * 4000):
        for method, path in [("POST", p) for p in PATHS] + [("GET", "/v1/models"), ("GET", "/v1/models/tiny")]:
            headers = {"Authorization": shown} if shown is not None else {}
            reply = Web(m).call(method, path, body_for(path) if method == "POST" else None, headers=headers)
            equal((shown, path, reply.error()[0], reply.error()[2]), (shown, path, 401, "invalid_api_key"))
            assert reply.headers["www-authenticate"].startswith("Bearer"), reply.headers.items()
            assert "keys/" in reply.message() and "new" in reply.message(), reply.message()
            assert good[9:-2] not in reply.data.decode()
    for shown in ("bearer " + good, "BEARER " + good, "Bearer  " + good):
        equal((shown, Web(m).get("/v1/models", headers={"Authorization": shown}).status), (shown, 200))


@claim()
def a_wrong_key_is_told_before_its_body_is_judged(m):
    for path in PATHS:
        equal(Web(m, "sk-llmfs-nobody").post(path, b"{").status, 401)
    equal(Web(m, "sk-llmfs-nobody").get("/v1/models/nobody").status, 401)


@claim()
def a_key_that_is_over_lets_nobody_in(m):
    with models(m, far=server.url()):
        with key(m, "lost") as w:
            equal(w.chat("hi").status, 200)
            write(m("keys", "lost", "ctl"), "revoke\n")
            equal(w.chat("hi").status, 401)
            again = Web(m, web.new_secret(m, "lost"))
            equal((w.chat("hi").status, again.chat("hi").status), (401, 200))
            write(m("keys", "lost", "expires"), "2020-01-01\n")
            reply = again.chat("hi")
            equal((reply.status, reply.error()[2]), (401, "invalid_api_key"))
            assert "expire" in reply.message() or "over" in reply.message(), reply.message()
            end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
            write(m("keys", "lost", "expires"), end + "\n")
            equal(again.chat("hi").status, 200)
            wait_for(lambda: again.chat("hi").status == 401, "end of the key")
            harness.reset(m("keys", "lost", "expires"))
            equal(again.chat("hi").status, 200)
            harness.reset(m("keys", "lost", "user"))
            equal(again.chat("hi").status, 401)
            write(m("keys", "lost", "user"), web.ME + "\n")
            equal(again.chat("hi").status, 200)
            os.rmdir(m("keys", "lost"))
            equal(again.chat("hi").status, 401)
        with key(m, "lost") as other:  # one of the same name is another
            equal((again.chat("hi").status, other.chat("hi").status), (401, 200))


@claim()
def a_key_lets_nobody_in_while_its_directory_is_not_in_the_tree_and_the_same_ones_when_it_is_back(m):
    there, away = os.path.join(m.tree, "keys", "moved"), os.path.join(m.top, "moved")
    with key(m, "moved") as w:
        equal(w.get("/v1/models").status, 200)
        os.rename(there, away)
        wait_for(lambda: w.get("/v1/models").status == 401, "the key is out of force")
        os.rename(away, there)
        wait_for(lambda: w.get("/v1/models").status == 200, "the key is in force again")


@claim()
def a_key_may_what_its_scopes_say_and_no_more(m):
    may = {CHAT: "chat", TEXTS: "completions", VECTORS: "embeddings"}
    with models(m, far=server.url(), other=server.url()), key(m, "narrow") as w:
        for word in list(may.values()) + ["models"]:
            write(m("keys", "narrow", "scopes"), word + "\n")
            for path in PATHS:
                reply = w.post(path, body_for(path))
                equal((word, path, reply.status), (word, path, 200 if may[path] == word else 403))
                if reply.status == 403:
                    assert reply.error()[1:3] and may[path] in reply.message() or word in reply.message(), reply.message()
            equal((word, w.get("/v1/models").status), (word, 200 if word == "models" else 403))
        write(m("keys", "narrow", "scopes"), "chat models model:far model:default\n")
        equal([w.chat("hi", x).status for x in ("far", "other", "tiny", "auto")], [200, 403, 403, 403])
        equal(w.chat("hi", "default", max_tokens=1).status, 200)
        equal({x["id"] for x in w.get("/v1/models").json()["data"]}, {"far", "default"})
        assert w.get("/v1/models/other").status in (403, 404)
        # A model that is not named may not be learnt of, either: both are refused alike.
        equal(w.chat("hi", "nosuch").status, w.chat("hi", "other").status)


# ---- what is asked for ----

@claim()
def paths_and_methods_that_are_not_there_are_told_as_openai_does(m):
    w = asker(m)
    for path in ("/", "/v1", "/v1/", "/v1/chat", "/v1/chat/completions/", "/chat/completions", "/v1/models/",
                 "/v1/files", "/v1/responses", "/health/x", "/%2e%2e/etc/passwd", "/v1//models", "/v1/models/a/b"):
        for method in ("GET", "POST"):
            equal((path, method, w.call(method, path, b"{}" if method == "POST" else None).error()[0:2]),
                  (path, method, (404, BAD)))
    for path in PATHS:
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            reply = w.call(method, path)
            equal((path, method, reply.error()[0]), (path, method, 405))
            assert "POST" in reply.headers["allow"] and "GET" not in reply.headers["allow"], reply.headers["allow"]
    for path in ("/v1/models", "/v1/models/tiny", "/health", "/ready", "/metrics"):
        reply = w.post(path, b"{}")
        equal((path, reply.error()[0]), (path, 405))
        assert {"GET", "HEAD"} <= {x.strip() for x in reply.headers["allow"].split(",")}, reply.headers["allow"]
        equal(w.call("DELETE", path).status, 405)
    for path in PATHS + ("/v1/models", "/health"):
        reply = w.call("OPTIONS", path)
        equal((path, reply.status, reply.data), (path, 204, b""))
        assert reply.headers["allow"], path
    equal(w.get("/v1/models?limit=5&after=x").status, 200)


@claim()
def a_model_that_is_not_there_is_404_model_not_found(m):
    w = asker(m)
    for path in PATHS:
        reply = w.post(path, body_for(path, "nobody"))
        equal((path, reply.error()[0:3]), (path, (404, BAD, "model_not_found")))
        assert "nobody" in reply.message(), reply.message()
    for name in ("../tiny", "tiny/ask", "x" * 300, "a b", "\u00e9", "default/", "."):
        equal((name, w.chat("hi", name).error()[0]), (name, 404))


@claim()
def a_body_that_is_no_request_is_400_with_what_is_wrong(m):
    w = asker(m)
    for path in PATHS:
        for data in (b"", b"{", b"[]", b"null", b"7", b'"text"', b"hello", b'{"model": "far"}', b"{}" * 2, b"\x00",
                     b'{"model": "\xff"}', b'{"model": "\xed\xa0\x80"}', b"[" * 100000,
                     b'{"a":' * 5000 + b"1" + b"}" * 5000):
            reply = w.post(path, data)
            equal((path, data[:20], reply.error()[0:2]), (path, data[:20], (400, BAD)))
            assert len(reply.message()) > 10
    # JSON is what is read, however it is called: curl -d calls it a form.
    with models(m, far=server.url()):
        for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8"):
            reply = w.post(CHAT, chat_body("hi"), headers={"Content-Type": kind})
            assert reply.status == 200 or reply.error()[0] in (400, 415), (kind, reply.status)
            equal((kind, reply.status), (kind, 200))


FAULTS = [  # members of a chat, the fault's param, its code (None: any)
    ({"messages": []}, "messages", None),
    ({"messages": "hi"}, "messages", "invalid_type"),
    ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", None),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", None),
    ({"messages": [{"role": "king", "content": "hi"}]}, "messages[0].role", None),
    ({"messages": [user("a"), {"role": "assistant", "content": "b"}]}, "messages[1].role", None),
    ({"messages": [user("a"), {"role": "tool", "tool_call_id": "x", "content": "b"}]}, "messages[1].role", None),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
     None, None),
    ({"model": 7}, "model", "invalid_type"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"temperature": 9}, "temperature", None),
    ({"top_p": -1}, "top_p", None),
    ({"max_tokens": 0}, "max_tokens", None),
    ({"max_tokens": 1.5}, "max_tokens", None),
    ({"max_completion_tokens": "12"}, "max_completion_tokens", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream": 1}, "stream", "invalid_type"),
    ({"n": 0}, "n", None), ({"n": 1000}, "n", None),
    ({"stop": 5}, "stop", "invalid_type"),
    ({"seed": "x"}, "seed", "invalid_type"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unsupported_parameter"),
    ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
    ({"logprobs": True}, "logprobs", None),
    ({"logit_bias": {"50256": -100}}, "logit_bias", None),
    ({"modalities": ["text", "audio"]}, "modalities", None),
    ({"response_format": {"type": "poem"}}, None, None),
]


@claim()
def what_cannot_be_done_is_refused_by_the_name_of_its_member(m):
    w = asker(m)
    server.reset()
    with models(m, far=server.url()):
        c = w.connect()
        for more, param, code in FAULTS:
            reply = w.post(CHAT, dict(chat_body("hi"), **more), connection=c)
            got = reply.error()
            equal((more, got[0:2]), (more, (400, BAD)))
            if param:
                assert got[3] and got[3].startswith(param), (more, got, reply.message())
            if code:
                equal((more, got[2]), (more, code))
            assert len(reply.message()) > 10, reply.message()
        equal(w.post(TEXTS, {"model": "far", "prompt": [1, 2, 3]}).error()[3], "prompt")
        equal(w.post(VECTORS, {"model": "far", "input": [[1, 2]]}).error()[0], 400)
        equal(w.post(VECTORS, {"model": "far", "input": "x", "encoding_format": "hex"}).error()[3], "encoding_format")
        equal(server.requests(), [])


@claim()
def a_prompt_longer_than_the_context_is_context_length_exceeded(m):
    w = asker(m)
    for settings in ({}, {"stream": True}):
        reply = w.chat("word " * 4000, "short", **settings)
        equal(reply.error()[0:3], (400, BAD, "context_length_exceeded"))


@claim()
def a_body_whose_end_is_told_in_two_ways_is_refused_and_nothing_behind_it_is_read(m):
    w = asker(m)
    with models(m, far=server.url()):
        n = len(server.requests())
        hidden = web.raw_request(w.key, chat_body("hidden"))
        for length, more in ((0, "Content-Length: %d" % len(hidden)), (len(hidden), "Content-Length: 0"),
                             (len(hidden), "Transfer-Encoding: chunked"), (0, "Transfer-Encoding: gzip")):
            s = web.dial(m)
            s.sendall(web.raw_request(w.key, b"", length=length, headers=[more]) + hidden)
            got = web.until_closed(s)
            equal((got[:12], got.count(b"HTTP/1.1 ")), (b"HTTP/1.1 400", 1))
            s.close()
        equal(len(server.requests()), n)


# ---- how large ----

@claim()
def a_body_past_16_mib_is_413_and_not_read(m):
    w = asker(m)
    s = web.dial(m)
    s.sendall(web.raw_request(w.key, b"", length=(16 << 20) + 1, headers=["Expect: 100-continue"]))
    reply = web.replies(s, 1)[0]  # and no 100 before it
    equal(reply.error()[0:2], (413, BAD))
    s.close()
    s = web.dial(m)
    s.sendall(web.raw_request(w.key, b"", length=1 << 40) + b"x" * 100000)
    equal(web.replies(s, 1)[0].error()[0], 413)
    s.close()
    # One that does not say how long it is.
    s = web.dial(m)
    s.sendall(web.raw_request(w.key, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
    piece = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    with contextlib.suppress(OSError):
        for _ in range(20):
            s.sendall(piece)
        s.sendall(b"0\r\n\r\n")
    equal(web.replies(s, 1)[0].error()[0], 413)
    s.close()
    # One as large as it may be is read.
    with models(m, far=server.url("ok-json")):
        data = json.dumps(chat_body("hi")).encode()
        equal(w.post(CHAT, data + b" " * ((16 << 20) - len(data))).status, 200)


@claim()
def expect_100_continue_is_answered(m):
    w = asker(m)
    with models(m, far=server.url()):
        s = web.dial(m)
        head, _, body = web.raw_request(w.key, chat_body("hi"), headers=["Expect: 100-continue"]).partition(b"\r\n\r\n")
        s.sendall(head + b"\r\n\r\n")
        equal(s.recv(1000), b"HTTP/1.1 100 Continue\r\n\r\n")
        s.sendall(body)
        equal(web.replies(s, 1)[0].text(), TEXT)
        s.close()
        s = web.dial(m)
        s.sendall(web.raw_request("sk-llmfs-nobody", b"", length=5, headers=["Expect: 100-continue"]))
        got = s.recv(100)
        assert b" 401 " in got or b" 100 " in got, got
        s.close()


@claim()
def heads_that_are_no_http_harm_nobody(m):
    w = asker(m)
    for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"GET\r\n\r\n", b"\r\n" * 100,
                 b"GET / HTTP/9.9\r\n\r\n", b"GET /health\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 5000,
                 b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                 b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
                 b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                 b"GET /" + b"x" * 200000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 300000 + b"\r\n\r\n",
                 b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20000)) + b"\r\n"):
        s = web.dial(m)
        with contextlib.suppress(OSError):
            s.sendall(data)
            s.shutdown(web.socket.SHUT_WR)
        web.until_closed(s)
        s.close()
        equal((data[:30], w.get("/health").status), (data[:30], 200))


# ---- what servers do ----

UPSTREAM = [("500", 503), ("404", 503), ("garbage-body", 502), ("garbage-json", 502), ("context", 400), ("429=600", 429),
            ("error-first", None), ("close", None),
            ("401", 502)]


@claim(limit=120)
def what_a_server_fails_at_is_a_status_also_when_it_is_to_be_streamed(m):
    w = asker(m)
    for behaviour, status in UPSTREAM:
        with models(m, far={"endpoint": server.url(behaviour), "retries": 0}):
            for settings in ({},) if behaviour == "garbage-json" else ({}, {"stream": True}):
                reply = w.chat("hi", **settings)
                got = reply.error()
                assert got[0] == status or status is None and got[0] in (502, 503), (behaviour, got, reply.message())
                equal((behaviour, web.traced(m, reply.request())["status"]), (behaviour, "failed"))
    with models(m, far={"endpoint": server.url(port="closed"), "retries": 0}):
        equal(w.chat("hi").error()[0], 503)
    with models(m, far={"endpoint": server.url("hang-first"), "retries": 0, "first_byte_timeout_ms": 200}):
        equal([w.chat("hi").error()[0], w.chat("hi", stream=True).error()[0]], [504, 504])


@claim(limit=120)
def a_server_that_falls_over_in_mid_answer_is_an_event_and_no_done(m):
    w = asker(m)
    m.expects("far")
    for behaviour in ("close-middle", "error-middle", "reset", "garbage-json"):
        with models(m, far={"endpoint": server.url(behaviour), "retries": 0}):
            with w.stream("hi") as s:
                events = list(s)
            error = events.pop()["error"]
            assert error["message"] and error["type"], error
            equal("".join(web.texts(events)), "The quick")
            equal([e for e in events if e == "[DONE]" or e["choices"][0]["finish_reason"]], [])
            equal(web.traced(m, s.request())["status"], "failed")
            assert w.chat("hi").error()[0] in (502, 503), behaviour


@claim()
def no_secret_is_in_any_log_trace_or_answer(m):
    w = asker(m)
    told = [w.chat("hi", "nobody").data, w.post(CHAT, b"{").data, w.get("/metrics").data,
            read(m("trace", "recent.jsonl")).encode(), read(m("status")).encode(), read(m.log).encode()]
    assert w.key.encode() not in b"".join(told)
    found = m.sh("grep -raF -e $KEY . $TREE $STATE; true", KEY=w.key, STATE=m.state).stdout
    equal(found, "")


try:
    harness.main(*web.OPTION, allow=["does not pass its health check", "far"])
finally:
    server.close()
