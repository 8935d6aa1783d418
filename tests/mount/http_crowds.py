#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A thousand clients of the HTTP front end at once: each gets its own answer, whole; who does not speak, or speaks slowly,
holds nobody up."""
import json
import resource
import selectors
import socket
import time

import harness
import web
from harness import claim, equal, read
from servers import ANSWER, Server, models
from web import Web, chat_body

N = 1000 if not harness.sanitizer() else 200
server = Server()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 6 * N)), hard))


def asker(m):
    if not hasattr(m, "asker"):
        m.asker = Web(m, web.make_key(m, "asker"))
    return m.asker


class Crowd:
    """N sockets, each with a request of its own, all written before any is read."""

    def __init__(self, m, bodies):
        self.got, self.socks = [b""] * len(bodies), []
        for body in bodies:
            s = web.dial(m)
            s.sendall(web.raw_request(asker(m).key, body, close=True))
            self.socks.append(s)

    def read(self, timeout):
        """Until all are closed."""
        end = time.monotonic() + timeout * harness.slow()
        with selectors.DefaultSelector() as wait:
            for i, s in enumerate(self.socks):
                s.setblocking(False)
                wait.register(s, selectors.EVENT_READ, i)
            while wait.get_map():
                assert time.monotonic() < end, "%d of %d are not over" % (len(wait.get_map()), len(self.socks))
                for key, _ in wait.select(1):
                    more = key.fileobj.recv(65536)
                    self.got[key.data] += more
                    if not more:
                        wait.unregister(key.fileobj)
                        key.fileobj.close()
        return self.got


def unchunked(body):
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        n = int(size, 16)
        out, body = out + body[:n], body[n + 2:]
        if not n:
            return out
    raise AssertionError("no last chunk")


def streamed(data):
    """The text of a streamed answer's bytes, which end as they should."""
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    events = (unchunked(body) if b"chunked" in head.lower() else body).split(b"\n\n")
    equal((events[-1], events[-2]), (b"", b"data: [DONE]"))
    events = [json.loads(e[6:]) for e in events[:-2]]
    equal(len({e["id"] for e in events}), 1)
    return "".join(web.texts(events))


def whole(data):
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), data[:300]
    return json.loads(body)["choices"][0]["message"]["content"]


@claim(limit=200)
def a_thousand_streams_at_once_are_each_whole_and_their_own(m):
    server.control(answer="The quick brown fox jumps over the lazy dog.")
    with models(m, far=server.url("echo=5")):
        crowd = Crowd(m, [chat_body("number %d" % i, stream=True) for i in range(N)])
        m.sh("cat status version > /dev/null; ls -l models > /dev/null", check=True, timeout=60)
        got = crowd.read(120)
        for i, data in enumerate(got):
            equal((i, streamed(data)), (i, "number %d\n" % i * 5))


@claim(limit=200)
def a_thousand_whole_answers_at_once_are_each_their_own(m):
    with models(m, far=server.url("echo")):
        for i, data in enumerate(Crowd(m, [chat_body("number %d" % i) for i in range(N)]).read(120)):
            equal((i, whole(data)), (i, "number %d\n" % i))


@claim(limit=200)
def a_thousand_that_stream_slowly_lose_no_piece(m):
    """All are under way at the same time: the server waits before each of its nine pieces."""
    with models(m, far=server.url("pace=500")):
        crowd = Crowd(m, [chat_body("number %d" % i, stream=True) for i in range(N)])
        for data in crowd.read(150):
            equal(streamed(data), ANSWER.decode())
    equal(web.metric(m, "requests_running"), 0)


@claim(limit=120)
def a_thousand_connections_that_say_nothing_or_half_a_head_hold_nobody_up(m):
    w = asker(m)
    with models(m, far=server.url()):
        idle = [web.dial(m) for _ in range(N)]
        for i, s in enumerate(idle):
            s.sendall((b"", b"P", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n",
                       web.raw_request(w.key, chat_body("hi"))[:-1])[i % 4])

        def asked():
            begin = time.monotonic()
            for _ in range(10):
                equal(w.chat("hi").text(), ANSWER.decode())
                equal(w.get("/health").status, 200)
            return time.monotonic() - begin
        harness.quick(asked, 3)
        # Who goes on at last is answered.
        late = idle[3]
        late.sendall(b"}")
        equal(web.replies(late, 1)[0].text(), ANSWER.decode())
        for s in idle:
            s.close()


@claim(limit=120)
def a_connection_gets_its_answers_at_once_on_the_hundredth_time_too(m):
    """No wait of 40 ms for an acknowledgement: a hundred small answers, whole and streamed, on one connection."""
    w = asker(m)
    with models(m, far=server.url()):
        c = w.connect()
        for stream in (False, True):
            def hundred():
                begin = time.monotonic()
                for _ in range(100):
                    _, response = w.begin("POST", web.CHAT, chat_body("hi", stream=stream), connection=c)
                    equal((response.status, bool(response.read())), (200, True))
                return time.monotonic() - begin
            harness.quick(hundred, 2.5)
        equal(c.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
        c.close()


@claim(limit=120)
def its_memory_does_not_grow_with_the_requests_it_has_answered(m):
    w = asker(m)

    def resident():
        return int(read("/proc/%d/statm" % m.proc.pid).split()[1]) * resource.getpagesize()
    rounds = 3 if harness.sanitizer() else 12
    with models(m, far=server.url("echo=3")):
        c = w.connect()
        sizes = []
        for _ in range(rounds):
            for i in range(100):
                _, response = w.begin("POST", web.CHAT, chat_body("z" * 2000, stream=bool(i % 2)), connection=c)
                response.read()
            sizes.append(resident())
        c.close()
    if not harness.sanitizer():  # those keep freed memory
        assert sizes[-1] - sizes[rounds // 2] < 4 << 20, sizes


try:
    harness.main(*web.OPTION)
finally:
    server.close()
