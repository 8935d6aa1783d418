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

behaviours.py has the behaviours and what each does, protocols.py what is said in which protocol.

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
import json
import os
import socket
import ssl
import sys
import urllib.parse

from behaviours import Answer
from protocols import ANSWER, OpenAI

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
