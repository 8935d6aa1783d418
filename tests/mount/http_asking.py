#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""interface.md 7: what is asked over HTTP and answered, whole and as events, in OpenAI's shapes. Clients are
http.client and sockets; the official client is openai_client.py's."""
import base64
import json
import struct

import harness
import web
from harness import claim, equal, read
from servers import ANSWER, Server, models
from web import CHAT, TEXTS, VECTORS, Web, chat_body, texts, user

server = Server()
TEXT = ANSWER.decode()
WORDS = [w if i == 0 else " " + w for i, w in enumerate(TEXT.split(" "))]


def asker(m):
    """One with a key that may all."""
    if not hasattr(m, "asker"):
        m.asker = Web(m, web.make_key(m, "asker"))
    return m.asker


def sent():
    """The last body that the upstream was sent."""
    return json.loads(server.requests()[-1]["body"])


def head_of(events):
    """What is the same in all events of a stream."""
    heads = {(e["id"], e["object"], e["created"], e["model"]) for e in events if e != "[DONE]"}
    equal(len(heads), 1)
    return heads.pop()


# ---- what is there ----

@claim()
def the_file_http_has_the_url_and_health_ready_and_metrics_need_no_key(m):
    assert read(m("http")) == "http://127.0.0.1:%d\n" % web.address(m)[1]
    anybody = Web(m)
    reply = anybody.get("/health")
    equal((reply.status, reply.json()), (200, {"status": "ok"}))
    m.session(tokens=1).ask("load it")
    equal(anybody.get("/ready").status, 200)
    reply = anybody.get("/metrics")
    equal((reply.status, reply.headers["content-type"].split(";")[0]), (200, "text/plain"))
    names = {line.split()[0] for line in reply.data.decode().splitlines() if not line.startswith("#")}
    mine = {line.split()[0] for line in read(m("metrics", "prometheus")).splitlines()
            if not line.startswith("#")}
    assert "llmfs_requests_total" in names and mine <= names, mine - names


@claim()
def head_is_as_get_without_its_body(m):
    w = asker(m)
    for path in ("/health", "/v1/models", "/v1/models/tiny", "/metrics"):
        c = w.connect()
        got = w.call("GET", path, connection=c)
        reply = w.call("HEAD", path, connection=c)
        equal((path, reply.status, reply.data), (path, 200, b""))
        equal(reply.headers["content-type"], got.headers["content-type"])
        equal(w.get("/health", connection=c).status, 200)  # nothing of a body lies in the way
        c.close()


@claim()
def models_are_listed_as_the_directory_has_them(m):
    w = asker(m)
    with models(m, far=server.url()):
        listed = w.get("/v1/models").json()
        equal(listed["object"], "list")
        ids = [x["id"] for x in listed["data"]]
        equal((len(ids), set(ids)), (len(set(ids)), {"default", "auto", "cascade", "tiny", "short", "far"}))
        for x in listed["data"]:
            equal((x["object"], x["owned_by"], type(x["created"])), ("model", "llmfs", int))
        one = w.get("/v1/models/far")
        equal((one.status, one.json()), (200, next(x for x in listed["data"] if x["id"] == "far")))
        equal(w.get("/v1/models/nobody").error()[0:3], (404, "invalid_request_error", "model_not_found"))
    assert "far" not in [x["id"] for x in w.get("/v1/models").json()["data"]]


# ---- whole ----

@claim()
def a_whole_answer_has_openais_shape(m):
    w = asker(m)
    with models(m, far=server.url("ok-cached")):
        reply = w.chat("hello, and how are you today?")
        got = reply.json()
        assert got["id"].startswith("chatcmpl-") and isinstance(got["created"], int), got
        equal((got["object"], got["model"], len(got["choices"])), ("chat.completion", "far", 1))
        choice = got["choices"][0]
        equal((choice["index"], choice["finish_reason"], choice["logprobs"]), (0, "stop", None))
        equal(choice["message"], {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []})
        usage = got["usage"]
        equal((usage["completion_tokens"], usage["prompt_tokens_details"]["cached_tokens"]), (9, 3))
        equal(usage["total_tokens"], usage["prompt_tokens"] + 9)
        assert usage["prompt_tokens"] >= 1, usage
        assert int(reply.headers["openai-processing-ms"]) >= 0
        assert "llmfs" in reply.headers["server"]
        equal([h for h in reply.headers if h.lower().startswith("x-ratelimit")], [])  # there is no limit


@claim()
def the_answer_is_what_a_file_gives(m):
    w = asker(m)
    s = m.session(tokens=24, temperature=0, model="tiny")
    mine = s.ask("Tell me more.").decode(errors="replace")
    for more in ({}, {"stream": True}):
        body = chat_body("Tell me more.", "tiny", max_tokens=24, temperature=0, ignore_eos=True, **more)
        if more:
            text = web.Stream(w, CHAT, body).text()
        else:
            reply = w.post(CHAT, body)
            text = reply.text()
            equal(reply.json()["choices"][0]["finish_reason"], "length")
            equal(reply.json()["usage"]["completion_tokens"], 24)
            equal(reply.json()["usage"]["prompt_tokens"], s.usage("prompt_tokens"))
        equal(harness.shown(text).decode(), mine)


@claim()
def the_request_is_the_one_of_the_trace_and_counts_in_metrics(m):
    w = asker(m)
    with models(m, far=server.url()):
        before = web.metric(m, "requests_total")
        reply = w.chat("hello")
        record = web.traced(m, reply.request())
        equal((record["status"], record["model"], record["errno"]), ("done", "far", 0))
        equal(record["output_tokens"], reply.json()["usage"]["completion_tokens"])
        with w.stream("again") as s:
            equal(s.text(), TEXT)
            equal(web.traced(m, s.request())["status"], "done")
        equal(web.metric(m, "requests_total") - before, 2)
        assert reply.request() != s.request()


@claim()
def the_model_has_the_name_by_which_it_was_asked(m):
    w = asker(m)
    for name in ("tiny", "default", "auto"):
        got = w.chat("hi", name, max_tokens=2).json()
        equal(got["model"], name)
    for body in ({"messages": [user("hi")], "max_tokens": 2}, chat_body("hi", "", max_tokens=2)):
        reply = w.post(CHAT, body)
        equal((reply.status, reply.json()["model"]), (200, "default"))
        equal(web.traced(m, reply.request())["model"], "tiny")


@claim()
def messages_and_settings_reach_the_model(m):
    w = asker(m)
    server.reset()
    with models(m, far=server.url()):
        messages = [{"role": "system", "content": "Be brief."}, user("one"),
                    {"role": "assistant", "content": "uno"},
                    {"role": "user", "content": [{"type": "text", "text": "tw"}, {"type": "text", "text": "o"}]}]
        equal(w.chat(messages, temperature=0.25, top_p=0.5, max_tokens=77, seed=5, stop=["END", "FIN"]).text(), TEXT)
        body = sent()
        messages[-1]["content"] = "two"
        equal([(x["role"], x["content"]) for x in body["messages"]], [(x["role"], x["content"]) for x in messages])
        equal((body["temperature"], body["top_p"], body["seed"], body["stop"]), (0.25, 0.5, 5, ["END", "FIN"]))
        equal(body.get("max_completion_tokens") or body.get("max_tokens"), 77)
        equal(w.chat([{"role": "developer", "content": "Be long."}, user("x")], max_completion_tokens=5).json()
              ["choices"][0]["finish_reason"], "length")
        equal(sent()["messages"][0]["content"], "Be long.")
        # What changes no answer is taken.
        equal(w.chat("x", user="me", store=False, metadata={"a": "b"}, n=1, tools=[], logprobs=False,
                     frequency_penalty=0, presence_penalty=0, response_format={"type": "text"}).text(), TEXT)


@claim()
def no_conversation_is_kept(m):
    w = asker(m)
    server.reset()
    before = m.sh("ls sessions", check=True).stdout
    with models(m, far=server.url()):
        w.chat("first")
        w.chat("second")
        equal([x["content"] for x in sent()["messages"]], ["second"])
    equal(m.sh("ls sessions", check=True).stdout, before)


@claim()
def every_language_and_every_character_arrive(m):
    w = asker(m)
    text = "\u00e9\u4f60\U0001f600 \"quoted\" back\\slash tab\there <b>&amp;</b> \u2028\u2029\x7f end"
    with models(m, echo=server.url("echo"), wide=server.url("wide")):
        equal(w.chat(text, "echo").text(), text + "\n")
        escaped = json.dumps(chat_body(text, "echo"))  # with surrogates, as most clients send it
        assert "\\ud83d" in escaped
        equal(w.post(CHAT, escaped.encode()).text(), text + "\n")
        plain = json.dumps(chat_body(text, "echo"), ensure_ascii=False).encode()
        equal(w.post(CHAT, plain).text(), text + "\n")
        equal(w.stream(text, "echo").text(), text + "\n")
        equal(w.stream("x", "wide").text(), "na\u00efve \u4f60\u597d \U0001f600\u20ac")


@claim()
def a_prompt_of_a_megabyte_comes_back_whole(m):
    w = asker(m)
    text = "".join(chr(0x4e00 + i % 5000) if i % 9 == 0 else "word "[i % 5] for i in range(600000))
    with models(m, far={"endpoint": server.url("echo"), "context": 2000000}):
        equal(w.chat(text, max_tokens=900000).text(), text + "\n")
        equal(w.stream(text, max_tokens=900000).text(), text + "\n")


# ---- streamed ----

@claim()
def a_stream_is_the_role_its_pieces_the_reason_and_done(m):
    w = asker(m)
    with models(m, far=server.url("pace=30")):
        with w.stream("hello") as s:
            assert "no-cache" in s.headers["cache-control"], s.headers["cache-control"]
            events = list(s)
        equal(events.pop(), "[DONE]")
        name, kind, created, model = head_of(events)
        assert name.startswith("chatcmpl-") and isinstance(created, int), events[0]
        equal((kind, model), ("chat.completion.chunk", "far"))
        for e in events:
            equal([c["index"] for c in e["choices"]], [0])
        deltas = [e["choices"][0]["delta"] for e in events]
        equal((deltas[0]["role"], deltas[0].get("content") or ""), ("assistant", ""))
        equal([d for d in deltas[1:-1] if set(d) != {"content"}], [])
        equal((deltas[-1], events[-1]["choices"][0]["finish_reason"]), ({}, "stop"))
        equal({e["choices"][0]["finish_reason"] for e in events[:-1]}, {None})
        # One that is 30 ms before the next is an event of its own.
        equal([d["content"] for d in deltas[1:-1]], WORDS)
        assert not any(e.get("usage") for e in events), events


@claim()
def pieces_come_when_they_are_there_and_not_later(m):
    w = asker(m)
    with models(m, far=server.url("hang-middle")):
        with w.stream("hello") as s:  # the server says two words, and nothing more
            equal("".join(s.pieces(1)).startswith(WORDS[0]), True)
            got = WORDS[0]
        with w.stream("hello") as s:
            got = ""
            while got != WORDS[0] + WORDS[1]:
                got += s.pieces(1)[0]


@claim()
def usage_comes_last_and_alone_to_who_asks_for_it(m):
    w = asker(m)
    with models(m, far=server.url()):
        events = list(w.stream("hello", stream_options={"include_usage": True}))
        equal(events.pop(), "[DONE]")
        last = events.pop()
        equal(last["choices"], [])
        equal((last["usage"]["completion_tokens"], last["usage"]["total_tokens"]),
              (9, 9 + last["usage"]["prompt_tokens"]))
        equal([e["usage"] for e in events], [None] * len(events))
        head_of(events + [last])
        events = list(w.stream("hello", stream_options={"include_usage": False}))
        equal([e for e in events[:-1] if e.get("usage") or not e["choices"]], [])


@claim()
def several_choices_come_each_with_its_index(m):
    w = asker(m)
    with models(m, far=server.url("pace=5")):
        got = w.chat("hello", n=3).json()
        equal([(c["index"], c["message"]["content"]) for c in got["choices"]], [(i, TEXT) for i in range(3)])
        equal(got["usage"]["completion_tokens"], 27)
        events = list(w.stream("hello", n=3))
        equal(events.pop(), "[DONE]")
        head_of(events)
        for i in range(3):
            equal("".join(texts(events, i)), TEXT)
            mine = [c for e in events for c in e["choices"] if c["index"] == i]
            equal((mine[0]["delta"]["role"], [c["finish_reason"] for c in mine]),
                  ("assistant", [None] * (len(mine) - 1) + ["stop"]))
        order = [c["index"] for e in events for c in e["choices"]]
        assert order != sorted(order), "one after the other: %s" % order
    said = w.chat("hello", "tiny", n=2, seed=3, temperature=1.5, max_tokens=12, ignore_eos=True).json()["choices"]
    assert said[0]["message"]["content"] != said[1]["message"]["content"], said


# ---- completions ----

@claim()
def completions_answer_a_text_whole_and_streamed(m):
    w = asker(m)
    with models(m, far=server.url(), echo=server.url("echo")):
        got = w.complete("hello").json()
        assert got["id"].startswith("cmpl-"), got["id"]
        equal((got["object"], got["model"]), ("text_completion", "far"))
        equal(got["choices"], [{"index": 0, "text": TEXT, "logprobs": None, "finish_reason": "stop"}])
        equal(got["usage"]["completion_tokens"], 9)
        events = list(web.Stream(w, TEXTS, {"model": "far", "prompt": "hello", "stream": True}))
        equal(events.pop(), "[DONE]")
        equal((head_of(events)[1], "".join(texts(events))), ("text_completion", TEXT))
        equal(events[-1]["choices"][0]["finish_reason"], "stop")
        got = w.complete(["one", "two", "three"], "echo").json()
        equal([(c["index"], c["text"]) for c in got["choices"]], [(0, "one\n"), (1, "two\n"), (2, "three\n")])
        got = w.complete(["one", "two"], "echo", n=2).json()
        equal([c["text"] for c in got["choices"]], ["one\n", "one\n", "two\n", "two\n"])
        equal(w.complete("I say: ", "far", echo=True).text(), "I say: " + TEXT)


# ---- embeddings ----

@claim()
def embeddings_are_those_of_the_file_embed(m):
    w = asker(m)
    with models(m, far=server.url()):
        fd = harness.os.open(m("models", "far", "embed"), harness.os.O_RDWR)
        harness.os.write(fd, b"one")
        mine = json.loads(b"".join(iter(lambda: harness.os.read(fd, 65536), b"")))
        harness.os.close(fd)
        got = w.embed("one").json()
        equal((got["object"], got["model"], len(got["data"])), ("list", "far", 1))
        equal((got["data"][0]["object"], got["data"][0]["index"]), ("embedding", 0))
        close(got["data"][0]["embedding"], mine)
        many = w.embed(["two", "one", "three"]).json()
        equal([d["index"] for d in many["data"]], [0, 1, 2])
        close(many["data"][1]["embedding"], mine)
        equal(len({str(d["embedding"]) for d in many["data"]}), 3)
        assert many["usage"]["prompt_tokens"] == many["usage"]["total_tokens"] > 0, many["usage"]
        packed = w.embed("one", encoding_format="base64").json()["data"][0]["embedding"]
        data = base64.b64decode(packed, validate=True)
        close(list(struct.unpack("<%df" % (len(data) // 4), data)), mine)
        equal(w.embed("one", dimensions=len(mine)).status, 200)
        equal(w.embed("one", dimensions=len(mine) - 1).error()[0], 400)


def close(a, b):
    assert len(a) == len(b) and all(abs(x - y) < 1e-5 for x, y in zip(a, b)), (a, b)


@claim()
def a_model_that_gives_no_embeddings_is_told_so(m):
    reply = asker(m).embed(["a", "b"], "tiny")
    equal(reply.error()[0:3], (400, "invalid_request_error", "unsupported_value"))
    assert "embeddings" in reply.message(), reply.message()


# ---- connections ----

@claim()
def one_connection_takes_any_number_of_requests_of_every_kind(m):
    w = asker(m)
    with models(m, far=server.url()):
        c = w.connect()
        c.connect()
        port = c.sock.getsockname()[1]
        for _ in range(20):
            equal(w.post(CHAT, chat_body("hi"), connection=c).text(), TEXT)
            _, response = w.begin("POST", CHAT, chat_body("hi", stream=True), connection=c)
            assert response.read().endswith(b"data: [DONE]\n\n")
            equal(w.get("/v1/models", connection=c).status, 200)
            equal(w.post(CHAT, b"{", connection=c).status, 400)
            equal(w.get("/nowhere", connection=c).status, 404)
            equal(w.post(VECTORS, {"model": "far", "input": "x"}, connection=c).status, 200)
            equal(c.sock.getsockname()[1], port)
        c.close()


@claim()
def requests_that_come_ahead_are_answered_in_their_order(m):
    w = asker(m)
    with models(m, far=server.url("echo")):
        s = web.dial(m)
        s.sendall(b"".join(web.raw_request(w.key, chat_body("number %d" % i)) for i in range(10)))
        equal([r.text() for r in web.replies(s, 10)], ["number %d\n" % i for i in range(10)])
        s.close()


@claim()
def a_request_in_pieces_of_a_byte_is_a_request(m):
    w = asker(m)
    with models(m, far=server.url()):
        s = web.dial(m)
        for byte in web.raw_request(w.key, chat_body("hello")):
            s.send(bytes([byte]))
        equal(web.replies(s, 1)[0].text(), TEXT)
        s.close()


@claim()
def http_1_0_and_chunked_bodies_are_answered(m):
    w = asker(m)
    with models(m, far=server.url()):
        s = web.dial(m)
        s.sendall(web.raw_request(w.key, chat_body("hello")).replace(b"HTTP/1.1", b"HTTP/1.0"))
        equal(json.loads(web.until_closed(s).partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"], TEXT)
        s.close()
        data = json.dumps(chat_body("hello")).encode()
        equal(w.call("POST", CHAT, iter([data[:9], data[9:]])).text(), TEXT)


try:
    harness.main(*web.OPTION)
finally:
    server.close()
