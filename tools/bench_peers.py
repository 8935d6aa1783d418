#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""llmfs through its mount beside a Python gateway, before the same server (docs/bench.md).

    tools/bench_peers.py BUILD-DIR [--litellm VENV/bin/litellm] [--requests N] [--rounds N]

The server is BUILD-DIR/tools/loopback-server. Everything is asked one request at a time by this one
process, in turns (A B C ... A B C ...), so that all see the same moods of the machine:

    bare       the request on a kept-alive socket to the server itself
    mount      a prompt into sessions/S/in, its answer out of sessions/S/out up to its end: open,
               write, close, open, read, read. The cache is turned off.
    auto       the same to models/auto, with mnt-example's guards and router, prices, a budget and
               limits; temperature 0, so that the cache looks for each answer, and stores it
    hit        the same, and the answer is in the cache
    open       a model whose only server's breaker is open: until the error is there
    litellm    LiteLLM's proxy, streaming, on a kept-alive socket; one process, nothing configured
               but the model, no key, no database

So llmfs is measured with everything that the kernel and the filesystem cost, and this client with
what Python's system calls cost (some 10 us for those of `mount`). Times are microseconds from the
first system call to the last byte.
"""
import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROMPT = ("Question %d: please explain in a few plain words how a filesystem can stand in front of "
          "a language model, and what a person at a shell gains by it; the shorter the answer, the "
          "better.")
serial = 0


def fresh():
    global serial
    serial += 1
    return PROMPT % serial


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


# ---- HTTP, as little of it as there can be ----

class Socket:
    def __init__(self, port):
        self.port = port
        self.s = socket.create_connection(("127.0.0.1", port), 60)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, prompt):
        body = json.dumps({
            "model": "m", "messages": [{"role": "user", "content": prompt}], "stream": True,
            "max_tokens": 256, "temperature": 0}).encode()
        return (b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
                b"content-type: application/json\r\nauthorization: Bearer none\r\n"
                b"content-length: %d\r\n\r\n" % len(body)) + body

    def ask(self, prompt):
        """Microseconds until the end of the stream."""
        request = self.request(prompt)
        got = b""
        begin = time.perf_counter_ns()
        self.s.sendall(request)
        while b"[DONE]" not in got:
            more = self.s.recv(65536)
            if not more:
                raise SystemExit("port %d: the connection ended: %r" % (self.port, got[-300:]))
            got += more
        took = (time.perf_counter_ns() - begin) / 1e3
        if not got.startswith(b"HTTP/1.1 200"):
            raise SystemExit("port %d: %r" % (self.port, got[:600]))
        if b"chunked" in got.split(b"\r\n\r\n", 1)[0]:  # the last chunk is empty
            while not got.endswith(b"0\r\n\r\n"):
                got += self.s.recv(65536)
        return took


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# ---- the servers ----

@contextlib.contextmanager
def ended(proc):
    try:
        yield proc
    finally:
        proc.terminate()
        try:
            proc.wait(20)
        except subprocess.TimeoutExpired:
            proc.kill()
            proc.wait()


def start_loopback(path, *args):
    proc = subprocess.Popen([path] + [str(a) for a in args], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)
    return proc, int(re.match(rb"port (\d+)", proc.stdout.readline()).group(1))


def start_litellm(path, top, upstreams):
    """upstreams: a port for each model's name."""
    config = os.path.join(top, "litellm.yaml")
    write(config, "model_list:\n" + "".join(
        "  - model_name: %s\n    litellm_params:\n      model: openai/m\n"
        "      api_base: http://127.0.0.1:%d/v1\n      api_key: none\n" % it
        for it in upstreams.items()))
    port = free_port()
    log = open(os.path.join(top, "litellm.log"), "w")
    env = dict(os.environ, LITELLM_TELEMETRY="False", LITELLM_LOCAL_MODEL_COST_MAP="True",
               LITELLM_LOG="ERROR", LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY="true")
    proc = subprocess.Popen([path, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=top)
    for _ in range(1200):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return proc, port
        if proc.poll() is not None:
            break
        time.sleep(0.1)
    proc.kill()
    raise SystemExit("litellm does not start:\n" + open(log.name).read()[-3000:])


def start_llmfs(path, top, options=""):
    tree, mnt = os.path.join(top, "tree"), os.path.join(top, "mnt")
    os.mkdir(mnt)
    os.makedirs(os.path.join(tree, "models"))
    device = os.stat(mnt).st_dev
    options = "state=%s%s" % (os.path.join(top, "state"), options)
    proc = subprocess.Popen([path, "-f", "-o", options, tree, mnt], stdin=subprocess.DEVNULL)
    for _ in range(1000):
        if os.stat(mnt).st_dev != device:
            return proc, mnt
        if proc.poll() is not None:
            break
        time.sleep(0.01)
    raise SystemExit("llmfs does not mount")


# ---- llmfs ----

class Session:
    def __init__(self, mnt, name, **settings):
        path = os.path.join(mnt, "sessions", name)
        os.mkdir(path)
        for file, value in settings.items():
            write(os.path.join(path, file), value + "\n")
        self.path = path
        self.input, self.output = os.path.join(path, "in"), os.path.join(path, "out")

    def ask(self, prompt):
        """Microseconds until the end, and the error's number, or 0. The conversation is forgotten
        afterwards."""
        text = prompt.encode() + b"\n"
        code = 0
        begin = time.perf_counter_ns()
        try:
            fd = os.open(self.input, os.O_WRONLY | os.O_TRUNC)
            try:
                os.write(fd, text)
            finally:
                os.close(fd)
            fd = os.open(self.output, os.O_RDONLY)
            try:
                while os.read(fd, 65536):
                    pass
            finally:
                os.close(fd)
        except OSError as e:
            code = e.errno
        took = (time.perf_counter_ns() - begin) / 1e3
        write(os.path.join(self.path, "ctl"), "clear\n")
        return took, code


def configure(mnt, upstream):
    def model(name, **settings):
        os.mkdir(os.path.join(mnt, "models", name))
        for file, value in settings.items():
            write(os.path.join(mnt, "models", name, file), "%s\n" % value)

    url = "http://127.0.0.1:%d/v1" % upstream
    for k in range(10):
        model("m%d" % k, endpoint=url, remote_name="m", proxy="none", price_input="0.5",
              price_cached="0.5", price_output="0.5")
    model("down", endpoint="http://127.0.0.1:1/v1", proxy="none", retries="0",
          breaker_failures="1", breaker_open_ms="3600000", capabilities="embed")
    for part in ("guards/input", "guards/output", "router"):
        where = os.path.join(ROOT, "mnt-example", part)
        for file in os.listdir(where):
            with open(os.path.join(where, file)) as f:
                write(os.path.join(mnt, part, file), f.read())
    budget = os.path.join(mnt, "budgets", "default")
    for file, value in {"limit": "1000000", "requests_per_minute": "100000000",
                        "requests_per_day": "100000000", "tokens_per_minute": "1000000000",
                        "tokens_per_day": "1000000000", "requests_in_flight": "100000"}.items():
        write(os.path.join(budget, file), value + "\n")


def ways_of(mnt):
    off = Session(mnt, "off", model="m0", cache="off")
    auto = Session(mnt, "auto", model="auto", temperature="0")
    hit = Session(mnt, "hit", model="auto", temperature="0")
    down = Session(mnt, "down", model="down", cache="off")

    def good(session, prompt):
        took, code = session.ask(prompt)
        if code:
            with open(os.path.join(session.path, "error")) as f:
                raise SystemExit("%s: %s: %s" % (session.path, os.strerror(code), f.read()))
        return took

    def bad():
        took, code = down.ask(fresh())
        if not code:
            raise SystemExit("a model without a server has answered")
        return took

    return {"mount": lambda: good(off, fresh()), "auto": lambda: good(auto, fresh()),
            "hit": lambda: good(hit, PROMPT % 0), "open": bad}


# ---- numbers ----

def quantile(values, p):
    values = sorted(values)
    return values[min(int(p * len(values)), len(values) - 1)]


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("--litellm")
    p.add_argument("--requests", type=int, default=100, help="of each way in a round")
    p.add_argument("--rounds", type=int, default=10)
    a = p.parse_args()
    build = os.path.abspath(a.build)
    top = tempfile.mkdtemp(prefix="llmfs-bench-peers-")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, top, ignore_errors=True)
        loopback, upstream = start_loopback(os.path.join(build, "tools", "loopback-server"))
        stack.enter_context(ended(loopback))
        bare = Socket(upstream)
        ways = {"bare": lambda: bare.ask(fresh())}
        daemon, mnt = start_llmfs(os.path.join(build, "llmfs"), top)
        stack.enter_context(ended(daemon))
        configure(mnt, upstream)
        ways.update(ways_of(mnt))
        if a.litellm:
            proc, port = start_litellm(os.path.abspath(a.litellm), top, {"m": upstream})
            stack.enter_context(ended(proc))
            peer = Socket(port)
            ways["litellm"] = lambda: peer.ask(fresh())
        took = {name: [] for name in ways}
        for ask in ways.values():
            for _ in range(30):
                ask()
        for _ in range(a.rounds):
            for name, ask in ways.items():
                took[name] += [ask() for _ in range(a.requests)]
        print("us, %d requests each, load %.1f" % (a.rounds * a.requests, os.getloadavg()[0]))
        for name, values in took.items():
            print("%-8s p50 %9.1f  p99 %9.1f  less bare %9.1f" % (
                name, quantile(values, 0.5), quantile(values, 0.99),
                quantile(values, 0.5) - quantile(took["bare"], 0.5)))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
