#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server of language models for tests: speaks OpenAI's and Anthropic's protocols, well or badly.

usage: faulty.py [--fast] [--cert FILE --key FILE] [--name NAME]

Prints one line when it listens, then serves on 127.0.0.1 until its standard input ends or it is
told to: "port N deaf N closed N mute N", and " tls N" with a certificate.

  port    the server
  deaf    its queue of connections is full: a connect hangs
  closed  nobody listens: a connect is refused
  mute    takes connections and says nothing, not even to a TLS client
  tls     the server, over TLS

--fast answers every POST with the same short stream at once and knows nothing of the rest: for
benchmarks (tools/loopback_server.c is faster).

How a request is answered is named by a behaviour, the first of these that is there:

  the path       /b/BEHAVIOUR/v1/chat/completions: an endpoint http://127.0.0.1:PORT/b/BEHAVIOUR/v1
  the queue      POST /control {"next": ["500", "hang-first"]}: for the next requests, one each
  the model      "model": "faulty-BEHAVIOUR"
  the default    POST /control {"default": "503"}; at first "ok"

A GET of .../models (a health check) has a queue and a default of its own: {"health": "503"}.

Behaviours, with their argument where they take one (":" is written "%3A" or "=" in a path):

  ok                answers in as many pieces as words
  ok-crlf ok-cr     the stream's lines end so
  ok-comments       comments, empty events, ids, retry fields and unknown fields in between
  ok-bom            a byte order mark first
  ok-json           ignores "stream": one JSON body
  ok-close          without a length, ended by closing the connection
  ok-nousage        does not say what was used
  ok-cached         says that 3 tokens of the prompt were cached
  ok-reasoning      thinks aloud first (reasoning_content, thinking_delta)
  finish=REASON     ends for this reason
  echo=N            the last message, N times, each a line and a piece (default 1)
  slow=MS           MS before the head, then ok
  pace=MS           MS before each piece
  trickle=MS        each byte alone, MS after the one before (default 1)
  split             each byte alone, as fast as it goes
  wide              pieces of characters of 2 to 4 bytes, written and escaped
  hang-first        never answers
  hang-headers      a head, and nothing more
  hang-middle       two pieces, and nothing more
  garbage           what is not HTTP
  garbage-sse       an event stream whose lines are no events
  garbage-json      an event whose data is broken JSON
  garbage-body      a JSON body that is broken
  garbage-shape     good JSON that is not this protocol
  status=N          this status with an error object; N alone will do: 400 401 404 500 503 529 ...
  html=N            this status with a page
  429=S             too many requests; retry-after: S seconds
  429-date=S        retry-after: a date, in S seconds
  429-ms=MS         retry-after-ms: MS (and a retry-after of 77)
  context           400: the context is too long
  endless=N         this status with a body that does not end
  error=TYPE        an error event of this type at the beginning
  leak, leak=plain  401 with the request's own headers in the body; with nothing but the key
  redirect          302 to /elsewhere
  close             closes before the head
  close-headers     closes after the head
  close-middle      closes in the middle of an event
  no-done           ends whole and says why, but without the protocol's end
  no-end            ends in the middle of the answer, as if that were the end
  reset             resets the connection after two pieces
  long              a stream that does not end
  long-line         a line that does not end
  utf8              a piece that is not UTF-8
  error-first       an error event at the beginning
  error-middle      an error event after two pieces
  short-vectors     one embedding too few
  other-order       embeddings in another order than asked, rightly numbered

GET  /log        what was asked: {"requests": [{"target", "path", "method", "headers", "body", "behaviour",
                 "connection", "tls", "state"}], "open", "connections"}. state: running, done, gone
                 (the client closed before the end). open does not count those that ask this.
POST /control    also {"answer": "words of the answer"}
POST /reset      forgets the log, the queues and the defaults
POST /quit       ends it
As a proxy it answers absolute targets itself, and tunnels CONNECT to 127.0.0.1.
"""
import argparse
import asyncio
import contextlib
import email.utils
import hashlib
import json
import math
import os
import socket
import ssl
import struct
import sys
import time
import urllib.parse

ANSWER = "The quick brown fox jumps over the lazy dog."
FAST_WORDS = ["Hello", " there", "."]


class Gone(Exception):
    """The client closed."""


class State:
    def __init__(self, name):
        self.name = name
        self.n_connections = 0
        self.open = set()
        self.reset()

    def reset(self):
        self.requests = []
        self.next = []
        self.next_health = []
        self.default = "ok"
        self.health = "ok"
        self.answer = ANSWER


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body
        path = urllib.parse.urlsplit(target).path if "://" in target else target.split("?")[0]
        self.behaviour = None
        parts = path.split("/")
        if len(parts) > 2 and parts[1] == "b":
            self.behaviour = urllib.parse.unquote(parts[2])
            path = "/" + "/".join(parts[3:])
        self.path = path
        try:
            self.json = json.loads(body) if body else {}
        except ValueError:
            self.json = None
        if not isinstance(self.json, dict):
            self.json = {}


# ---- what is said, by protocol ---------------------------------------------------------------


def words(text):
    """The text in pieces that begin with their space."""
    pieces, at = [], 0
    while at < len(text):
        end = text.find(" ", at + 1)
        end = len(text) if end < 0 else end
        pieces.append(text[at:end])
        at = end
    return pieces


def n_prompt(ask):
    total = len(str(ask.get("system") or "").split())
    for message in ask.get("messages") or []:
        total += len(str(message.get("content")).split())
    return max(1, total)


def logprobs_of(piece, i, n_top):
    """Made up, but it adds up: the piece itself has half, "safe" a quarter."""
    top = [{"token": piece, "logprob": math.log(0.5)}, {"token": "safe", "logprob": math.log(0.25)},
           {"token": "unsafe", "logprob": math.log(0.125)}]
    top = [dict(t, bytes=list(t["token"].encode())) for t in top]
    return {"content": [dict(top[0], top_logprobs=top[:n_top])]}


class OpenAI:
    """Chunks of chat.completion."""

    def __init__(self, ask, options):
        self.ask, self.options = ask, options
        self.base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                     "model": ask.get("model", "")}

    def chunk(self, delta, finish=None, logprobs=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        if logprobs:
            choice["logprobs"] = logprobs
        return ("", dict(self.base, choices=[choice]))

    def usage(self, n_output):
        n = n_prompt(self.ask)
        usage = {"prompt_tokens": n, "completion_tokens": n_output, "total_tokens": n + n_output}
        if self.options.get("cached"):
            usage["prompt_tokens_details"] = {"cached_tokens": self.options["cached"]}
        return usage

    def begin(self):
        yield self.chunk({"role": "assistant", "content": ""})

    def think(self, text):
        yield self.chunk({"reasoning_content": text})

    def piece(self, text, i):
        logprobs = None
        if self.ask.get("logprobs"):
            logprobs = logprobs_of(text, i, self.ask.get("top_logprobs") or 0)
        yield self.chunk({"content": text}, None, logprobs)

    def end(self, finish, n_output, usage):
        yield self.chunk({}, finish)
        wanted = (self.ask.get("stream_options") or {}).get("include_usage")
        if usage and wanted:
            yield ("", dict(self.base, choices=[], usage=self.usage(n_output)))

    def last(self):
        return b"[DONE]"

    def error(self):
        return ("", {"error": {"message": "the model fell over", "type": "server_error", "code": 500}})

    def whole(self, text, finish, n_output, usage):
        message = {"role": "assistant", "content": text}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1,
                "model": self.ask.get("model", ""),
                "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
        if self.ask.get("logprobs"):
            n_top = self.ask.get("top_logprobs") or 0
            body["choices"][0]["logprobs"] = {"content": [
                logprobs_of(w, i, n_top)["content"][0] for i, w in enumerate(words(text))]}
        if usage:
            body["usage"] = self.usage(n_output)
        return body

    FINISH = {"stop": "stop", "length": "length"}


class Anthropic:
    """Events of messages."""

    def __init__(self, ask, options):
        self.ask, self.options = ask, options

    @staticmethod
    def event(name, **members):
        return (name, dict({"type": name}, **members))

    def usage(self, n_output):
        cached = self.options.get("cached", 0)
        return {"input_tokens": n_prompt(self.ask) - cached, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": cached, "output_tokens": n_output}

    def message(self, content, finish, usage):
        message = {"id": "msg_1", "type": "message", "role": "assistant", "content": content,
                   "model": self.ask.get("model", ""), "stop_reason": finish, "stop_sequence": None}
        if usage:
            message["usage"] = usage
        return message

    def begin(self):
        usage = None if self.options.get("nousage") else self.usage(1)
        yield self.event("message_start", message=self.message([], None, usage))
        yield self.event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield self.event("ping")

    def think(self, text):
        yield self.event("content_block_delta", index=0,
                         delta={"type": "thinking_delta", "thinking": text})

    def piece(self, text, i):
        yield self.event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def end(self, finish, n_output, usage):
        yield self.event("content_block_stop", index=0)
        members = {"usage": {"output_tokens": n_output}} if usage else {}
        yield self.event("message_delta", delta={"stop_reason": finish, "stop_sequence": None},
                         **members)

    def last(self):
        return ("message_stop", {"type": "message_stop"})

    def error(self):
        return self.event("error", error={"type": "overloaded_error", "message": "Overloaded"})

    def whole(self, text, finish, n_output, usage):
        return self.message([{"type": "text", "text": text}], finish,
                            self.usage(n_output) if usage else None)

    FINISH = {"stop": "end_turn", "length": "max_tokens"}


# ---- one connection ----------------------------------------------------------------------------


class Connection:
    def __init__(self, state, reader, writer, tls):
        self.state, self.reader, self.writer, self.tls = state, reader, writer, tls
        self.pushed = b""  # a byte that came too early
        state.n_connections += 1
        self.number = state.n_connections
        state.open.add(self)

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def read_request(self):
        """None: the client has closed."""
        try:
            head = self.pushed + await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            return None
        self.pushed = b""
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            if line:
                name, value = line.split(":", 1)
                headers[name.strip().lower()] = value.strip()
        body = b""
        if int(headers.get("content-length", "0")):
            body = await self.reader.readexactly(int(headers["content-length"]))
        return Request(method, target, headers, body)

    async def serve(self):
        try:
            while True:
                request = await self.read_request()
                if request is None or not await self.take(request):
                    break
        except (OSError, asyncio.IncompleteReadError, ValueError, ssl.SSLError):
            pass
        finally:
            self.state.open.discard(self)
            self.writer.close()

    async def take(self, request):
        """Answers. False: the connection is over."""
        if request.method == "CONNECT":
            await self.tunnel(request)
            return False
        if request.path in ("/log", "/control", "/reset", "/quit"):
            await self.control(request)
            return True
        entry = {"target": request.target, "path": request.path, "method": request.method,
                 "headers": request.headers, "body": request.body.decode("utf-8", "replace"),
                 "connection": self.number, "tls": self.tls, "state": "running"}
        behaviour = self.behaviour_of(request)
        entry["behaviour"] = behaviour
        self.state.requests.append(entry)
        answer = asyncio.ensure_future(Answer(self, request, behaviour).run())
        # The client says nothing until it has its answer: what comes is its end.
        early = asyncio.ensure_future(self.reader.read(1))
        await asyncio.wait([answer, early], return_when=asyncio.FIRST_COMPLETED)
        if early.done() and not answer.done():
            self.pushed = b"" if early.exception() else early.result()
            if not self.pushed:
                answer.cancel()
                await asyncio.wait([answer])
                entry["state"] = "gone"
                return False
            await asyncio.wait([answer])
        elif not early.done():
            early.cancel()
            await asyncio.wait([early])
        if early.done() and not early.cancelled() and not early.exception() and early.result():
            self.pushed = early.result()
        failed = answer.exception()
        entry["state"] = "gone" if failed else "done"
        if failed and not isinstance(failed, OSError):
            raise failed
        return not failed and answer.result()

    def behaviour_of(self, request):
        state = self.state
        if request.behaviour:
            return request.behaviour.replace(":", "=")
        if request.path.endswith("/models"):
            return state.next_health.pop(0) if state.next_health else state.health
        if state.next:
            return state.next.pop(0)
        model = request.json.get("model")
        if isinstance(model, str) and model.startswith("faulty-"):
            return model[7:].replace(":", "=")
        return state.default

    async def control(self, request):
        state = self.state
        body = {}
        if request.path == "/log":
            others = state.open - {self}
            body = {"requests": state.requests, "connections": state.n_connections,
                    "open": len([c for c in others if not getattr(c, "asks", False)])}
        elif request.path == "/control":
            for name, value in request.json.items():
                if name not in ("next", "next_health", "default", "health", "answer"):
                    body = {"error": f"no such control: {name}"}
                else:
                    setattr(state, name, value)
        elif request.path == "/reset":
            state.reset()
        self.asks = True
        data = json.dumps(body).encode()
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                        b"content-length: %d\r\n\r\n%s" % (len(data), data))
        if request.path == "/quit":
            asyncio.get_running_loop().stop()

    async def tunnel(self, request):
        self.state.requests.append({"target": request.target, "path": "", "method": "CONNECT",
                                    "headers": request.headers, "body": "", "behaviour": "tunnel",
                                    "connection": self.number, "tls": self.tls, "state": "done"})
        port = int(request.target.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await self.send(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def copy(source, target):
            try:
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            except OSError:
                pass
            target.close()

        await asyncio.gather(copy(self.reader, writer), copy(reader, self.writer))


class Answer:
    """One answer, by its behaviour. run() is True when the connection can be used again."""

    def __init__(self, connection, request, behaviour):
        self.c, self.request = connection, request
        self.name, _, self.argument = behaviour.partition("=")
        self.keep = True
        self.chunked = True
        self.each_byte = None  # ms between bytes
        self.line_end = b"\n"
        self.pace_ms = 0
        self.raw = False  # characters as they are, not escaped
        options = {}
        if self.name == "ok-cached":
            options["cached"] = 3
        if self.name == "ok-nousage":
            options["nousage"] = True
        kind = Anthropic if request.path.endswith("/messages") else OpenAI
        self.protocol = kind(request.json, options)

    def number(self, default):
        return float(self.argument) if self.argument else default

    async def run(self):
        if self.name.isdigit() and self.name != "429":
            self.argument, self.name = self.name, "status"
        method = getattr(self, "do_" + self.name.replace("-", "_"), None)
        if not method:
            await self.body(400, {"error": {"message": f"no such behaviour: {self.name}"}})
        else:
            await method()
        return self.keep

    # -- bytes --

    async def send(self, data):
        if self.each_byte is None:
            await self.c.send(data)
            return
        for i in range(len(data)):
            await self.c.send(data[i:i + 1])
            # A sleep of nothing lets the other side read, and tell whether it has gone.
            await asyncio.sleep(self.each_byte / 1000)

    async def head(self, status=200, content_type="text/event-stream; charset=utf-8", length=None,
                   more=()):
        lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {content_type}",
                 "x-request-id: req-%d" % len(self.c.state.requests)]
        lines += more
        if length is not None:
            lines.append(f"content-length: {length}")
        elif self.chunked:
            lines.append("transfer-encoding: chunked")
        else:
            lines.append("connection: close")
            self.keep = False
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def bytes(self, data):
        if not data:
            return
        if not self.chunked:
            await self.send(data)
        elif self.each_byte is not None:
            for i in range(len(data)):
                await self.send(b"1\r\n%s\r\n" % data[i:i + 1])
        else:
            await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def finish(self):
        if self.chunked:
            await self.send(b"0\r\n\r\n")

    async def body(self, status, value, more=()):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        await self.head(status, "application/json", len(data), more)
        await self.send(data)

    def frame(self, event):
        name, value = event
        end = self.line_end
        data = json.dumps(value, ensure_ascii=not self.raw).encode()
        if self.name == "wide":  # the next one the other way
            self.raw = not self.raw
        return (b"event: " + name.encode() + end if name else b"") + b"data: " + data + end + end

    async def events(self, events):
        for event in events:
            await self.bytes(self.frame(event))

    # -- a good answer --

    def pieces(self):
        return words(self.c.state.answer)

    async def stream(self, pieces=None, finish=None, begin=b"", between=b""):
        pieces = self.pieces() if pieces is None else pieces
        most = self.request.json.get("max_tokens") or self.request.json.get("max_completion_tokens")
        if finish is None:
            finish = self.protocol.FINISH["length" if most and most < len(pieces) else "stop"]
        pieces = pieces[:most] if most else pieces
        await self.head()
        await self.bytes(begin)
        await self.events(self.protocol.begin())
        if self.name == "ok-reasoning":
            await self.events(self.protocol.think("Let me see."))
        for i, piece in enumerate(pieces):
            if self.pace_ms:
                await asyncio.sleep(self.pace_ms / 1000)
            await self.bytes(between)
            await self.events(self.protocol.piece(piece, i))
        await self.events(self.protocol.end(finish, len(pieces), self.name != "ok-nousage"))
        if self.name != "no-done":
            last = self.protocol.last()
            end = self.line_end
            await self.bytes(b"data: " + last + end + end if isinstance(last, bytes)
                             else self.frame(last))
        await self.finish()

    async def part(self, n=2):
        """The beginning of a good answer: a head and n pieces."""
        await self.head()
        await self.events(self.protocol.begin())
        for i, piece in enumerate(self.pieces()[:n]):
            await self.events(self.protocol.piece(piece, i))

    async def do_ok(self):
        if self.request.path.endswith("/models"):
            await self.body(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
        elif self.request.path.endswith("/embeddings"):
            await self.embeddings()
        elif self.request.json.get("stream"):
            await self.stream()
        else:
            await self.do_ok_json()

    async def do_ok_crlf(self):
        self.line_end = b"\r\n"
        await self.stream()

    async def do_ok_cr(self):
        self.line_end = b"\r"
        await self.stream()

    async def do_ok_comments(self):
        await self.stream(begin=b": hello\n\n\nretry: 10\n\n",
                          between=b": keep-alive\n\nid: 7\nnothing\ncolour: red\n\n:\n")

    async def do_ok_bom(self):
        await self.stream(begin=b"\xef\xbb\xbf")

    async def do_ok_json(self):
        text = self.c.state.answer
        await self.body(200, self.protocol.whole(text, self.protocol.FINISH["stop"],
                                                 len(words(text)), True))

    async def do_ok_close(self):
        self.chunked = False
        await self.stream()

    do_ok_nousage = do_ok_cached = do_ok_reasoning = do_no_done = do_ok

    async def do_finish(self):
        await self.stream(finish=self.argument)

    async def do_echo(self):
        last = (self.request.json.get("messages") or [{}])[-1].get("content", "")
        await self.stream(["%s\n" % last] * int(self.number(1)))

    async def do_slow(self):
        await asyncio.sleep(self.number(100) / 1000)
        await self.do_ok()

    async def do_pace(self):
        self.pace_ms = self.number(10)
        await self.do_ok()

    async def do_trickle(self):
        self.each_byte = self.number(1)
        await self.do_ok()

    async def do_split(self):
        self.each_byte = 0
        await self.do_ok()

    async def do_wide(self):
        self.raw = True
        await self.stream(["na\u00efve", " \u4f60\u597d", " \U0001f600", "\u20ac"])

    # -- faults --

    async def hang(self):
        self.keep = False
        await asyncio.sleep(3600)

    async def do_hang_first(self):
        await self.hang()

    async def do_hang_headers(self):
        await self.head()
        await self.hang()

    async def do_hang_middle(self):
        await self.part()
        await self.hang()

    async def do_garbage(self):
        self.keep = False
        await self.c.send(b"\x00\x01 220 mail.example.com ESMTP\r\nwhat?\r\n")

    async def do_garbage_sse(self):
        await self.head()
        await self.bytes(b"<html>\nno events here\n\n" * 3)
        await self.finish()

    async def do_garbage_json(self):
        await self.part()
        await self.bytes(b'data: {"choices": [{"delta": {"content": \n\n')
        await self.finish()

    async def do_garbage_body(self):
        await self.body(200, b'{"choices": [')

    async def do_garbage_shape(self):
        if self.request.json.get("stream"):
            await self.head()
            await self.bytes(b'data: {"choices": 5}\n\ndata: [1, 2]\n\n')
            await self.finish()
        else:
            await self.body(200, {"answer": 42})

    async def do_status(self):
        status = int(self.argument or "500")
        await self.body(status, {"error": {"message": f"a fault of kind {status}",
                                           "type": "invalid_request_error", "code": None}})

    async def do_html(self):
        page = b"<html><head><title>Bad gateway</title></head><body>nginx</body></html>"
        await self.head(int(self.argument or "502"), "text/html", len(page))
        await self.send(page)

    async def too_many(self, *more):
        await self.body(429, {"error": {"message": "Rate limit reached", "type": "requests"}}, more)

    async def do_429(self):
        await self.too_many(f"retry-after: {self.argument or '1'}")

    async def do_429_date(self):
        at = time.time() + self.number(1)
        await self.too_many("retry-after: " + email.utils.formatdate(at, usegmt=True))

    async def do_429_ms(self):
        await self.too_many(f"retry-after-ms: {self.argument or '50'}", "retry-after: 77")

    async def do_context(self):
        await self.body(400, {"error": {
            "message": "This model's maximum context length is 4096 tokens. However, your messages "
                       "resulted in 5000 tokens.",
            "type": "invalid_request_error", "code": "context_length_exceeded"}})

    async def do_leak(self):
        headers = {k.lower(): v for k, v in self.request.headers.items()}
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        shown = key if self.argument == "plain" else json.dumps(self.request.headers)
        await self.body(401, {"error": {"message": "Incorrect API key provided: %s. You can find your "
                                        "API key at the place where you left it." % shown,
                                        "type": "invalid_request_error"}})

    async def do_endless(self):
        self.keep = False
        await self.head(int(self.argument or "401"), "text/plain")
        while True:
            await self.bytes(b"no, and again no. " * 900)

    async def do_error(self):
        await self.head()
        error = {"message": "no", "type": self.argument}
        await self.events([("error", {"type": "error", "error": error})])
        await self.finish()

    async def do_redirect(self):
        await self.head(302, "text/plain", 0, ["location: /elsewhere"])

    async def do_close(self):
        self.keep = False

    async def do_close_headers(self):
        self.keep = False
        await self.head()

    async def do_close_middle(self):
        self.keep = False
        await self.part()
        await self.bytes(b'data: {"choices": [{"del')

    async def do_no_end(self):
        await self.part()
        await self.finish()

    async def do_reset(self):
        self.keep = False
        await self.part()
        await asyncio.sleep(0.02)
        s = self.c.writer.get_extra_info("socket")
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.c.writer.transport.abort()

    async def do_long(self):
        self.keep = False
        await self.head()
        await self.events(self.protocol.begin())
        while True:
            await self.events(self.protocol.piece(" more" * 200, 0))

    async def do_long_line(self):
        self.keep = False
        await self.head()
        await self.bytes(b"data: ")
        while True:
            await self.bytes(b"x" * 16384)

    async def do_utf8(self):
        await self.part()
        frame = self.frame(list(self.protocol.piece("@@", 0))[0])
        await self.bytes(frame.replace(b"@@", b"\xc3\x28"))
        await self.finish()

    async def do_error_first(self):
        await self.head()
        await self.events([self.protocol.error()])
        await self.finish()

    async def do_error_middle(self):
        await self.part()
        await self.events([self.protocol.error()])
        await self.finish()

    # -- embeddings --

    async def embeddings(self, drop=0, turn=False):
        texts = self.request.json.get("input")
        texts = [texts] if isinstance(texts, str) else texts or []
        data = []
        for i, text in enumerate(texts[:len(texts) - drop]):
            digest = hashlib.sha256(text.encode()).digest()
            vector = [(byte - 127.5) / 100 for byte in digest[:8]]
            data.append({"object": "embedding", "index": i, "embedding": vector})
        if turn:
            data.reverse()
        n = sum(max(1, len(text.split())) for text in texts)
        await self.body(200, {"object": "list", "data": data, "model": "m",
                              "usage": {"prompt_tokens": n, "total_tokens": n}})

    async def do_short_vectors(self):
        await self.embeddings(drop=1)

    async def do_other_order(self):
        await self.embeddings(turn=True)


class Fast(asyncio.Protocol):
    """--fast: the same answer to every POST, in one write."""

    @staticmethod
    def make():
        protocol = OpenAI({"stream_options": {"include_usage": True}}, {})
        events = list(protocol.begin())
        for i, word in enumerate(FAST_WORDS):
            events += protocol.piece(word, i)
        events += protocol.end("stop", len(FAST_WORDS), True)
        body = b"".join(b"data: " + json.dumps(e[1]).encode() + b"\n\n" for e in events)
        body += b"data: [DONE]\n\n"
        return (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
                % len(body)) + body

    answer = b""

    def connection_made(self, transport):
        self.transport, self.pending = transport, b""
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        self.pending += data
        while (end := self.pending.find(b"\r\n\r\n")) >= 0:
            head = self.pending[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15:].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.pending) < end + 4 + length:
                return
            self.pending = self.pending[end + 4 + length:]
            self.transport.write(self.answer)


def deaf_socket():
    """A listener whose queue is full. (listener, the connections that fill it)"""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        s = socket.socket()
        s.setblocking(False)
        try:
            s.connect(listener.getsockname())
        except BlockingIOError:
            pass
        fillers.append(s)
    return listener, fillers


def bound_socket():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    return s


def port_of(s):
    return s.getsockname()[1]


async def main(options):
    state = State(options.name)
    loop = asyncio.get_running_loop()

    def serve(tls):
        async def accept(reader, writer):
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(asyncio.CancelledError):  # when the server ends
                await Connection(state, reader, writer, tls).serve()
        return accept

    muted = []

    async def mute(reader, writer):
        muted.append(writer)  # and nothing more, as long as the server is

    if options.fast:
        Fast.answer = Fast.make()
        server = await loop.create_server(Fast, "127.0.0.1", 0)
    else:
        server = await asyncio.start_server(serve(False), "127.0.0.1", 0, backlog=1024)
    silent = await asyncio.start_server(mute, "127.0.0.1", 0)
    deaf, fillers = deaf_socket()
    closed = bound_socket()
    line = (f"port {port_of(server.sockets[0])} deaf {port_of(deaf)} closed {port_of(closed)} "
            f"mute {port_of(silent.sockets[0])}")
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)
        secure = await asyncio.start_server(serve(True), "127.0.0.1", 0, ssl=context)
        line += f" tls {port_of(secure.sockets[0])}"
    print(line, flush=True)

    # When whoever started it goes, its standard input ends.
    ended = loop.create_future()

    def look():
        if not os.read(0, 4096) and not ended.done():
            ended.set_result(None)
    try:
        loop.add_reader(0, look)
    except PermissionError:  # a file, which is always ready: only /quit and signals end it
        pass
    await ended


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1][7:])
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--name", default="faulty")
    try:
        asyncio.run(main(parser.parse_args()))
    except (KeyboardInterrupt, RuntimeError):
        sys.exit(0)
