# SPDX-License-Identifier: Apache-2.0
"""The HTTP front end for mount tests: keys, requests as http.client makes them, streams event by event, and bare sockets
for what no client library would send."""
import getpass
import http.client
import json
import os
import socket

import harness
from harness import read, wait_for, write

ME = getpass.getuser()
CHAT = "/v1/chat/completions"
TEXTS = "/v1/completions"
VECTORS = "/v1/embeddings"
PATHS = (CHAT, TEXTS, VECTORS)
OPTION = ("-o", "http=127.0.0.1:0")


def address(m):
    """(host, port) where the daemon listens, by the file http of its mount."""
    text = read(m("http"))
    assert text.startswith("http://") and text.endswith("\n"), repr(text)
    host, _, port = text[7:-1].rpartition(":")
    return host.strip("[]"), int(port)


def url(m):
    return "http://%s:%d/v1" % address(m)


def new_secret(m, name):
    """Writes `new` to a key's ctl and reads what is told once."""
    fd = os.open(m("keys", name, "ctl"), os.O_RDWR)
    try:
        os.write(fd, b"new\n")
        got = b"".join(iter(lambda: os.read(fd, 4096), b""))
    finally:
        os.close(fd)
    assert got.startswith(b"sk-llmfs-") and got.endswith(b"\n"), got
    return got.decode().strip()


def make_key(m, name="tester", user=ME, **settings):
    """keys/NAME with a new secret, which comes back."""
    if not harness.exists(m("keys", name)):
        os.mkdir(m("keys", name))
    for file, value in dict(settings, user=user).items():
        write(m("keys", name, file), "%s\n" % value)
    return new_secret(m, name)


def user(text):
    return {"role": "user", "content": text}


def chat_body(messages, model="far", **settings):
    if isinstance(messages, str):
        messages = [user(messages)]
    return dict({"model": model, "messages": messages}, **settings)


class Reply:
    """What came back whole."""

    def __init__(self, response):
        self.status, self.headers = response.status, response.headers
        self.data = response.read()
        self.version = response.version

    def json(self):
        assert self.headers["content-type"].startswith("application/json"), self.headers["content-type"]
        return json.loads(self.data)

    def error(self):
        """(status, type, code, param) of OpenAI's error object; its sentence is not empty."""
        e = self.json()["error"]
        assert set(e) == {"message", "type", "param", "code"} and e["message"], e
        return self.status, e["type"], e["code"], e["param"]

    def message(self):
        return self.json()["error"]["message"]

    def text(self):
        """The first choice's, of an answer that must be there."""
        assert self.status == 200, (self.status, self.data)
        choice = self.json()["choices"][0]
        return choice["message"]["content"] if "message" in choice else choice["text"]

    def request(self):
        """The request's number in trace/ and ledgers, by its header."""
        name = self.headers["x-request-id"]
        assert name.startswith("req_") and name[4:].isdigit(), name
        return int(name[4:])


class Web:
    """One who asks over HTTP: a mount's address and a key."""

    def __init__(self, m, key=None):
        self.m, self.key = m, key

    def connect(self, timeout=60):
        return http.client.HTTPConnection(*address(self.m), timeout=timeout * harness.slow())

    def headers(self, body, more):
        out = {"Authorization": "Bearer " + self.key} if self.key else {}
        if body is not None:
            out["Content-Type"] = "application/json"
        return dict(out, **(more or {}))

    def begin(self, method, path, body=None, headers=None, connection=None):
        """(connection, response) of which nothing but the head is read."""
        c = connection or self.connect()
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        c.request(method, path, data, self.headers(data, headers))
        return c, c.getresponse()

    def call(self, method, path, body=None, headers=None, connection=None):
        c, response = self.begin(method, path, body, headers, connection)
        reply = Reply(response)
        if not connection:
            c.close()
        return reply

    def get(self, path, **more):
        return self.call("GET", path, **more)

    def post(self, path, body, **more):
        return self.call("POST", path, body, **more)

    def chat(self, messages, model="far", **settings):
        return self.post(CHAT, chat_body(messages, model, **settings))

    def complete(self, prompt, model="far", **settings):
        return self.post(TEXTS, dict({"model": model, "prompt": prompt}, **settings))

    def embed(self, text, model="far", **settings):
        return self.post(VECTORS, dict({"model": model, "input": text}, **settings))

    def stream(self, messages, model="far", **settings):
        return Stream(self, CHAT, chat_body(messages, model, stream=True, **settings))


class Stream:
    """A streamed answer; iterating gives each event's JSON, and at last "[DONE]", as they come."""

    def __init__(self, web, path, body, headers=None):
        self.c, self.response = web.begin("POST", path, body, headers)
        if self.response.status != 200:
            reply = Reply(self.response)
            self.c.close()
            raise AssertionError("status %d: %r" % (reply.status, reply.data))
        self.headers = self.response.headers
        kind = self.headers["content-type"]
        assert kind.split(";")[0] == "text/event-stream", kind

    def request(self):
        return Reply.request(self)

    def event(self):
        """The next one, or None at the end. Each is one line of data and an empty one, nothing else."""
        line = self.response.readline()
        if not line:
            return None
        assert line.startswith(b"data: ") and line.endswith(b"\n"), line
        empty = self.response.readline()
        assert empty == b"\n", (line, empty)
        data = line[6:-1]
        return "[DONE]" if data == b"[DONE]" else json.loads(data)

    def __iter__(self):
        return iter(self.event, None)

    def pieces(self, n):
        """The next n texts, as they come."""
        got = []
        while len(got) < n:
            event = self.event()
            assert event and event != "[DONE]", (got, event)
            assert "error" not in event, event
            got += [t for t in texts([event]) if t]
        return got

    def text(self):
        """The whole of it, which ends as it should."""
        events = list(self)
        assert events and events[-1] == "[DONE]", events[-2:]
        self.close()
        return "".join(texts(events))

    def close(self):
        self.response.close()
        self.c.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def texts(events, index=None):
    """The texts in events of a stream, of one choice or of all."""
    out = []
    for e in events:
        for c in e.get("choices", []) if isinstance(e, dict) else []:
            if index is None or c["index"] == index:
                out.append(c["delta"].get("content") or "" if "delta" in c else c["text"])
    return out


# ---- bare sockets ----

def dial(m, timeout=30, room=None):
    """room: bytes that the kernel takes for who does not read. (Below two segments of the loopback, 128 KB, it trickles
    for ever.)"""
    s = socket.socket()
    s.settimeout(timeout * harness.slow())
    if room:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    s.connect(address(m))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def raw_request(key, body, path=CHAT, method="POST", close=False, length=None, headers=()):
    """The bytes of a request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: here", "Authorization: Bearer " + key,
             "Content-Type: application/json",
             "Content-Length: %d" % (len(data) if length is None else length)] + list(headers)
    lines += ["Connection: close"] if close else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


def until_closed(s):
    """All that comes before the other side ends it, however it does."""
    got = b""
    try:
        while more := s.recv(65536):
            got += more
    except ConnectionError:
        pass
    return got


class Kept:
    """A socket's bytes as http.client reads them: one reader for several answers, which closes nothing."""

    def __init__(self, s):
        self.file = s.makefile("rb")
        self.read, self.readline, self.readinto = self.file.read, self.file.readline, self.file.readinto
        self.read1, self.peek = self.file.read1, self.file.peek

    def makefile(self, *unused):
        return self

    def close(self):
        pass

    def flush(self):
        pass

    closed = False


def replies(s, n):
    """n whole answers from one socket, in order."""
    kept, out = Kept(s), []
    for _ in range(n):
        response = http.client.HTTPResponse(kept)
        response.begin()
        out.append(Reply(response))
    return out


# ---- what the daemon says of it ----

def trace(m):
    return [json.loads(line) for line in read(m("trace", "recent.jsonl")).splitlines()]


def traced(m, request, timeout=10):
    """The record of one request, once it is over."""
    found = []

    def there():
        found[:] = [r for r in trace(m) if r["id"] == request]
        return found
    wait_for(there, "trace of request %d" % request, timeout,
             lambda: str([r["id"] for r in trace(m)][-5:]))
    return found[0]


def metric(m, name):
    return float(read(m("metrics", name)))


def set_account(m, name=ME, **settings):
    """budgets/NAME with these settings; without any it is gone, and what was used with it."""
    path = m("budgets", name)
    if not harness.exists(path):
        os.mkdir(path)
    for file, value in settings.items():
        write(os.path.join(path, file), "%s\n" % value)
    return path
