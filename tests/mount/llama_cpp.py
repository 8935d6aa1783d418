#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model on a server that we have not written: that of llama-cpp-python, with the model that ships. What it answers
through the mount is what it answers without us.

The server is a Python module with a C++ part that pip has to build, so it is not installed by anything here:

    python3 -m venv venv && venv/bin/pip install 'llama-cpp-python[server]'
    LLMFS_LLAMA_CPP_PYTHON=venv/bin/python python3 tests/mount/llama_cpp.py

Where the module is not there, nothing is tested. Its claims were kept with version 0.3.36 (Python 3.11, 2026-11-26;
built with -DGGML_NATIVE=OFF, as its AMX code ended with an illegal instruction on a virtual machine).

That server answers one request at a time, and by default leaves an answer as soon as another request comes, with
an end that looks like any other but for the reason to finish: `requests_max` 1 keeps us from that, or its own
--interrupt_requests false.
"""
import contextlib
import errno
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile

import harness
from harness import claim, equal, read, read_bytes, refused, shown, wait_for, write
from servers import models

PYTHON = os.environ.get("LLMFS_LLAMA_CPP_PYTHON", "python3")
GUIDE = os.path.join(harness.ROOT, "mnt-example", "models", "guide", "guide.gguf")
QUESTION = "How do I set the temperature?"
server = None


class LlamaCpp:
    """The server, with one model; ends with its object, and with this process."""

    def __init__(self, gguf, context=2048):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        # Its standard input is a pipe of ours: a thread beside it ends it when that is closed.
        run = ("import os, runpy, sys, threading\n"
               "threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()\n"
               "sys.argv[0] = 'llama_cpp.server'\n"
               "runpy.run_module('llama_cpp.server', run_name='__main__')\n")
        self.proc = subprocess.Popen(
            [PYTHON, "-c", run, "--model", gguf, "--host", "127.0.0.1", "--port", str(self.port),
             "--n_ctx", str(context), "--n_threads", "1", "--n_threads_batch", "1", "--verbose", "false"],
            stdin=subprocess.PIPE, stdout=self.log, stderr=self.log)

    def is_there(self):
        if self.proc.poll() is not None:
            self.log.seek(0)
            raise AssertionError("the server ended: " + self.log.read().decode(errors="replace")[-2000:])
        with contextlib.suppress(OSError, http.client.HTTPException):
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            c.request("GET", "/v1/models")
            ok = c.getresponse().status == 200
            c.close()
            return ok
        return False

    def url(self):
        return "http://127.0.0.1:%d/v1" % self.port

    def chat(self, messages, **settings):
        """(text, reason of its end, usage or None), streamed, without llmfs."""
        body = dict({"model": "m", "messages": messages, "temperature": 0, "top_p": 1, "stream": True,
                     "stream_options": {"include_usage": True}}, **settings)
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * harness.slow())
        c.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        response = c.getresponse()
        assert response.status == 200, response.read()
        text, finish, usage = "", None, None
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                text += choice["delta"].get("content") or ""
                finish = choice.get("finish_reason") or finish
        c.close()
        return text, finish, usage

    def whole(self, messages, **settings):
        """The body of an answer that is not streamed: with what it says of its usage."""
        body = dict({"model": "m", "messages": messages, "temperature": 0, "top_p": 1}, **settings)
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * harness.slow())
        c.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        data = json.loads(c.getresponse().read())
        c.close()
        return data

    def connections(self, pid):
        """Inodes of the sockets by which that process is connected to it."""
        ours = set()
        for fd in os.listdir("/proc/%d/fd" % pid):
            with contextlib.suppress(OSError):
                to = os.readlink("/proc/%d/fd/%s" % (pid, fd))
                if to.startswith("socket:["):
                    ours.add(to[8:-1])
        with open("/proc/net/tcp") as f:
            rows = [line.split() for line in f][1:]
        return {r[9] for r in rows if r[2] == "0100007F:%04X" % self.port and r[3] == "01" and r[9] in ours}

    def close(self):
        self.proc.stdin.close()
        try:
            self.proc.wait(10)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()


def user(text):
    return {"role": "user", "content": text}


def far(m, **settings):
    return m.session(model="far", **dict({"ignore_eos": 0, "max_tokens": 200, "temperature": 0}, **settings))


@claim(limit=90)
def an_answer_is_what_the_server_gives_without_us(m):
    with models(m, far=server.url()):
        for question in (QUESTION, "What does EDQUOT mean?", "What is top_p?", "Où est l'\u00e9t\u00e9 ?"):
            text, finish, _ = server.chat([user(question)], max_tokens=200)
            s = far(m)
            equal((question, s.ask(question).decode()), (question, shown(text).decode()))
            equal((s.status(), s.messages()[-1]["content"]), ("done", text))
            assert "finish %s\n" % finish in read(s("usage")), (finish, read(s("usage")))


@claim(limit=60)
def it_streams(m):
    with models(m, far=server.url()):
        s = far(m)
        s.submit(QUESTION)
        with open(s("out"), "rb", buffering=0) as f:
            pieces = list(iter(lambda: f.read(65536), b""))
        assert len(pieces) > 3, "%d pieces" % len(pieces)
        equal(b"".join(pieces).decode(), shown(server.chat([user(QUESTION)], max_tokens=200)[0]).decode())


@claim(limit=60)
def what_was_used_is_what_it_says_or_about_what_it_would(m):
    with models(m, far={"endpoint": server.url(), "price_output": 1}):
        s = far(m)
        s.ask(QUESTION)
        streamed = server.chat([user(QUESTION)], max_tokens=200)[2]
        usage = server.whole([user(QUESTION)], max_tokens=200)["usage"]
        got = s.usage("prompt_tokens"), s.usage("output_tokens")
        print("    the server says %r in a stream, %r otherwise; usage says %r" % (streamed, usage, got))
        if streamed:
            equal(got, (streamed["prompt_tokens"], streamed["completion_tokens"]))
        else:  # counted by us, without its tokens
            for mine, its in zip(got, (usage["prompt_tokens"], usage["completion_tokens"])):
                assert its / 3 <= mine <= its * 3 + 10, (got, usage)
        assert s.usage("cost") > 0


@claim(limit=60)
def max_tokens_and_stop_end_it(m):
    with models(m, far=server.url()):
        text, finish, _ = server.chat([user(QUESTION)], max_tokens=5)
        equal(finish, "length")
        s = far(m, max_tokens=5)
        equal(s.ask(QUESTION).decode(), shown(text).decode())
        assert "finish length\n" in read(s("usage")), read(s("usage"))
        whole = server.chat([user(QUESTION)], max_tokens=200)[0]
        word = whole.split()[4]
        s = far(m, stop=word)
        equal(s.ask(QUESTION).decode().rstrip("\n"), whole[:whole.index(word)].rstrip("\n"))
        assert "finish stop\n" in read(s("usage")), read(s("usage"))


@claim(limit=60)
def a_second_turn_and_a_system_prompt_arrive(m):
    with models(m, far=server.url()):
        s = far(m, system="You are llmfs.")
        first = s.ask(QUESTION)
        second = s.ask("What is top_p?")
        history = [{"role": "system", "content": "You are llmfs."}, user(QUESTION)]
        text = server.chat(history, max_tokens=200)[0]
        equal(first.decode(), shown(text).decode())
        history += [{"role": "assistant", "content": text}, user("What is top_p?")]
        equal(second.decode(), shown(server.chat(history, max_tokens=200)[0]).decode())


@claim(limit=60)
def many_at_once_get_their_own(m):
    questions = [QUESTION, "What does EDQUOT mean?", "What is top_p?", "What is a fork?", "What is top_k?",
                 "How do I unmount?"]
    with models(m, far={"endpoint": server.url(), "requests_max": 1}):
        expected = [shown(server.chat([user(q)], max_tokens=200)[0]).decode() for q in questions]
        sessions = [far(m) for _ in questions]
        for s, q in zip(sessions, questions):
            s.submit(q)
        equal([read_bytes(s("out")).decode() for s in sessions], expected)


@claim(limit=90)
def an_answer_that_it_leaves_is_not_taken_for_a_whole_one(m):
    m.expects("far")
    questions = [QUESTION, "What does EDQUOT mean?", "What is top_p?", "What is a fork?"]
    expected = [shown(server.chat([user(q)], max_tokens=200)[0]).decode() for q in questions]
    with models(m, far={"endpoint": server.url(), "retries": 0, "breaker_failures": 1000}):
        left = 0
        for _ in range(5):
            sessions = [far(m) for _ in questions]
            for s, q in zip(sessions, questions):
                s.submit(q)
            for s, text in zip(sessions, expected):
                try:
                    equal(read_bytes(s("out")).decode(), text)
                except OSError as e:
                    left += 1
                    equal((e.errno, s.status()), (errno.EPROTO, "failed"))
        print("    it left %d of 20 answers" % left)


@claim(limit=90)
def cancel_closes_the_connection_and_the_next_request_is_served(m):
    # A model of random weights does not end by itself but with its context. Its bytes are no UTF-8, for which that
    # server takes the longer the more of them there are, and it sees that nobody listens only when it sends: 6 to 8 s.
    other = LlamaCpp(harness.MODEL, context=256)
    try:
        wait_for(other.is_there, "second server", timeout=30)
        with models(m, far=other.url(), near=server.url()):
            before = other.connections(m.proc.pid)
            s = m.session(model="far", temperature=1, max_tokens=100000)
            s.submit("Go on for ever.")
            with open(s("out"), "rb", buffering=0) as f:
                assert f.read(1)
                during = other.connections(m.proc.pid) - before
                equal((s.status(), len(during)), ("generating", 1))
                s.cancel()
                equal(s.status(), "cancelled")
            wait_for(lambda: not during & other.connections(m.proc.pid), "closed connection", timeout=5)
            s = m.session(model="far", temperature=1, max_tokens=3)
            assert s.ask("And now?") is not None
            equal(s.status(), "done")
    finally:
        other.close()


@claim(limit=60)
def it_ends_and_comes_back(m):
    m.expects("far")
    mine = LlamaCpp(GUIDE)
    try:
        wait_for(mine.is_there, "a server of its own", timeout=30)
        with models(m, far={"endpoint": mine.url(), "retries": 0, "fallback": "tiny"}):
            expected = shown(mine.chat([user(QUESTION)], max_tokens=200)[0])
            equal(far(m).ask(QUESTION), expected)
            mine.close()
            s = far(m, max_tokens=8)
            assert s.ask(QUESTION) != expected
            assert '"tiny"' in read(s("trace")), read(s("trace"))
            os.unlink(m("models", "far", "fallback"))
            s = far(m)
            s.submit(QUESTION)
            with refused(errno.EHOSTUNREACH):
                read_bytes(s("out"))
            write(m("models", "far", "endpoint"), server.url() + "\n")
            equal(far(m).ask(QUESTION), expected)
    finally:
        mine.close()


def main():
    global server
    has = subprocess.run([PYTHON, "-c", "import llama_cpp.server.app"], stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    if has.returncode:
        print("skip: %s has no module llama_cpp.server" % PYTHON)
        sys.exit(77)
    if not os.path.exists(GUIDE):
        print("skip: the model that ships is not in this tree")
        sys.exit(77)
    server = LlamaCpp(GUIDE)
    try:
        wait_for(server.is_there, "server", timeout=60)
        harness.main()
    finally:
        server.close()


main()
