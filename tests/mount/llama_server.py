# SPDX-License-Identifier: Apache-2.0
"""The server of llama-cpp-python for mount tests: an OpenAI-compatible server that we have not written.

The server is a Python module with a C++ part that pip has to build, so it is not installed by anything here:

    python3 -m venv venv && CMAKE_ARGS=-DGGML_NATIVE=OFF venv/bin/pip install 'llama-cpp-python[server]'
    LLMFS_LLAMA_CPP_PYTHON=venv/bin/python python3 tests/mount/llama_cpp.py

Where the module is not there, nothing is tested; nor where it crashes when it is asked a question: on a virtual
machine with AMX it did, hence -DGGML_NATIVE=OFF. What it is like stands in docs/servers.md.
"""
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile

import harness
from harness import wait_for

PYTHON = os.environ.get("LLMFS_LLAMA_CPP_PYTHON", "python3")
GUIDE = os.path.join(harness.ROOT, "mnt-example", "models", "guide", "guide.gguf")
QUESTION = "How do I set the temperature?"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class LlamaCpp:
    """The server, with one model; ends with its object, and with this process."""

    def __init__(self, gguf, context=2048, embedding=False, port=None):
        self.gguf, self.context, self.embedding, self.port = gguf, context, embedding, port or free_port()
        self.log = tempfile.TemporaryFile()
        # Its standard input is a pipe of ours: a thread beside it ends it when that is closed.
        run = ("import os, runpy, sys, threading\n"
               "threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()\n"
               "sys.argv[0] = 'llama_cpp.server'\n"
               "runpy.run_module('llama_cpp.server', run_name='__main__')\n")
        self.proc = subprocess.Popen(
            [PYTHON, "-c", run, "--model", gguf, "--host", "127.0.0.1", "--port", str(self.port),
             "--n_ctx", str(context), "--n_threads", "1", "--n_threads_batch", "1", "--verbose", "false"] +
            (["--embedding", "true"] if embedding else []),
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

    def cpu(self):
        """Seconds of processor that it has used."""
        with open("/proc/%d/stat" % self.proc.pid) as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        """At once, as a machine that loses its power; its sockets are closed by the kernel."""
        self.proc.kill()
        self.proc.wait()

    def again(self):
        """Another one in its place, on the same port; it is there."""
        new = LlamaCpp(self.gguf, self.context, self.embedding, self.port)
        wait_for(new.is_there, "server that is back", timeout=60)
        return new

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
    return m.session(**dict({"model": "far", "ignore_eos": 0, "max_tokens": 200, "temperature": 0}, **settings))


def missing():
    """Why nothing can be tested here, or None."""
    has = subprocess.run([PYTHON, "-c", "import llama_cpp.server.app"], stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    if has.returncode:
        return "%s has no module llama_cpp.server" % PYTHON
    if not os.path.exists(GUIDE):
        return "the model that ships is not in this tree"
    return None


def main(use):
    """The claims of a script; use() is given a server with the model that ships, which ends with them."""
    reason = missing()
    if reason:
        print("skip: " + reason)
        sys.exit(77)
    server = LlamaCpp(GUIDE)
    try:
        wait_for(server.is_there, "server", timeout=60)
        finish = None
        with contextlib.suppress(OSError, http.client.HTTPException):
            finish = server.chat([user(QUESTION)], max_tokens=3)[1]
        with contextlib.suppress(subprocess.TimeoutExpired):  # a crash takes a while
            server.proc.wait(0 if finish else 10)
        if server.proc.poll() is not None:
            print("skip: asked a question, that server ends with status %d, without us" % server.proc.returncode)
            sys.exit(77)
        use(server)
        harness.main()
    finally:
        server.close()
