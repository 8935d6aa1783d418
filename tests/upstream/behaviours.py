# SPDX-License-Identifier: Apache-2.0
"""How faulty.py answers one request, well or badly.

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
  silent=PINGS      an event stream without an event: so many comments (default 0), and its end
  garbage           what is not HTTP
  garbage-sse       an event stream whose lines are no events
  garbage-json      an event whose data is broken JSON
  garbage-body      a JSON body that is broken
  garbage-shape     good JSON that is not this protocol
  status=N          this status with an error object; N alone will do: 400 401 404 500 503 529 ...
  quote=N           this status with an error object that has the prompt in it
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
"""
import asyncio
import email.utils
import hashlib
import json
import socket
import struct
import time

from protocols import Anthropic, OpenAI, words


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

    async def do_quote(self):
        """As a server that says in its error what it was sent."""
        asked = self.request.json
        text = asked["messages"][-1]["content"] if "messages" in asked else asked["input"][-1]
        await self.body(int(self.argument or "500"),
                        {"error": {"message": f"cannot parse: {text}", "type": "server_error", "code": None}})

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

    async def do_silent(self):
        await self.head()
        for _ in range(int(self.number(0))):
            await self.bytes(b": ping\r\n\r\n")
        await self.finish()

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
