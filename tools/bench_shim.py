#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""llmfs's HTTP front end beside others before the same servers (docs/bench.md).

    tools/bench_shim.py BUILD-DIR [--nginx PATH] [--litellm VENV/bin/litellm] [--rounds N] [FIGURE...]

Starts three servers (tools/loopback_server.c): `m` answers with three words at once, `gap` with
three that are 5 ms apart, `slow` with twenty that are 200 ms apart. Before them: llmfs on a mount,
with an API key, prices, a budget, every limit, mnt-example's guards and router, the cache, which
looks for each answer and stores it, metrics and trace; nginx as a bare reverse proxy with one
worker; LiteLLM's proxy with one process, no database, and nothing configured but the models. Then
tools/bench_shim.c asks all of them in turns, for each FIGURE:

    one streamed    one request at a time
    many            64 at a time; CPU and memory under load
    first           the first token of an answer whose tokens come one by one
    hit hits        the answer is in llmfs's cache: one at a time, 64
    auto            models/auto among ten
    streams512 streams2048   so many streams at once

Without names all of them. LiteLLM is not asked for streams: it resets connections of 512 at once.
"""
import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import bench_peers
from bench_peers import ROOT, ended, free_port, write

MOCKS = {"m": (3, 0), "gap": (3, 5), "slow": (20, 200)}
#          arguments of bench-shim, and who is not asked
FIGURES = {
    "one": ("-c 1 -n 400", ()),
    "streamed": ("-c 1 -n 400 -s", ()),
    "many": ("-c 64 -n 4000", ()),
    "first": ("-c 1 -n 50 -s -m gap", ()),
    "hit": ("-c 1 -n 400 -h", ("nginx", "litellm")),
    "hits": ("-c 64 -n 4000 -h", ("nginx", "litellm")),
    "auto": ("-c 1 -n 400 -m auto", ("nginx", "litellm")),
    "streams512": ("-c 512 -n 512 -s -m slow -t 20 -g 2000", ("litellm",)),
    "streams2048": ("-c 2048 -n 2048 -s -m slow -t 20 -g 1500", ("litellm",)),
}
NGINX = """daemon off; worker_processes 1; pid %(top)s/nginx.pid; error_log %(top)s/nginx.log;
worker_rlimit_nofile 20000;
events { worker_connections 9000; }
http {
    access_log off; keepalive_requests 100000000; keepalive_timeout 600;
    client_body_temp_path %(top)s/body; proxy_temp_path %(top)s/proxy;
    fastcgi_temp_path %(top)s/f; uwsgi_temp_path %(top)s/u; scgi_temp_path %(top)s/s;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
%(servers)s}
"""
NGINX_SERVER = """    upstream u%(name)s { server 127.0.0.1:%(mock)d; keepalive 2100;
        keepalive_requests 100000000; }
    server { listen 127.0.0.1:%(port)d backlog=4096; location / { proxy_pass http://u%(name)s; } }
"""


def start_nginx(path, top, mocks):
    """The process, and a port for each server behind it."""
    ports = {name: free_port() for name in mocks}
    config = os.path.join(top, "nginx.conf")
    write(config, NGINX % {"top": top, "servers": "".join(
        NGINX_SERVER % {"name": name, "mock": mocks[name], "port": ports[name]}
        for name in mocks)})
    proc = subprocess.Popen([path, "-c", config, "-p", top], stdin=subprocess.DEVNULL)
    time.sleep(1)
    if proc.poll() is not None:
        raise SystemExit("nginx does not start")
    return proc, ports


def worker_of(proc):
    with open("/proc/%d/task/%d/children" % (proc.pid, proc.pid)) as f:
        return int(f.read().split()[0])


def make_key(mnt):
    """A new key of this user; its secret."""
    path = os.path.join(mnt, "keys", "bench")
    os.mkdir(path)
    write(os.path.join(path, "user"), "%d\n" % os.getuid())
    fd = os.open(os.path.join(path, "ctl"), os.O_RDWR)
    try:
        os.write(fd, b"new\n")
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def configure(mnt, mocks):
    bench_peers.configure(mnt, mocks["m"])  # ten models, rules, router, limits
    for name, port in mocks.items():
        path = os.path.join(mnt, "models", name)
        os.mkdir(path)
        # Those that are slow are dear, so that `auto` takes none of them.
        price = "0.5" if name == "m" else "500"
        for file, value in {"endpoint": "http://127.0.0.1:%d/v1" % port, "remote_name": "m",
                            "proxy": "none", "price_input": price, "price_cached": price,
                            "price_output": price, "requests_max": "4096"}.items():
            write(os.path.join(path, file), value + "\n")
    return make_key(mnt)


def start_all(a, build, top, stack):
    """For each figure's model, the servers as bench-shim wants to have them: name, words."""
    mocks = {}
    for name, args in MOCKS.items():
        proc, mocks[name] = bench_peers.start_loopback(
            os.path.join(build, "tools", "loopback-server"), *args)
        stack.enter_context(ended(proc))
    of = {name: [("mock", "mock:%d" % port)] for name, port in mocks.items()}
    daemon, mnt = bench_peers.start_llmfs(
        os.path.join(build, "llmfs"), top, ",http=127.0.0.1:0")
    stack.enter_context(ended(daemon))
    secret = configure(mnt, mocks)
    with open(os.path.join(mnt, "http")) as f:
        port = int(f.read().rsplit(":", 1)[1])
    for name in mocks:
        of[name].append(("llmfs", "llmfs:%d:%d:%s" % (port, daemon.pid, secret)))
    if a.nginx:
        proc, ports = start_nginx(a.nginx, top, mocks)
        stack.enter_context(ended(proc))
        for name in mocks:
            of[name].append(("nginx", "nginx:%d:%d" % (ports[name], worker_of(proc))))
    if a.litellm:
        proc, peer = bench_peers.start_litellm(os.path.abspath(a.litellm), top, mocks)
        stack.enter_context(ended(proc))
        for name in mocks:
            of[name].append(("litellm", "litellm:%d:%d" % (peer, proc.pid)))
    of["auto"] = of["m"]
    return of


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("figures", nargs="*", metavar="FIGURE")
    p.add_argument("--nginx")
    p.add_argument("--litellm")
    p.add_argument("--rounds", type=int, default=5)
    a = p.parse_args()
    unknown = set(a.figures) - set(FIGURES)
    if unknown:
        p.error("no such figure: %s; there are %s" % (" ".join(unknown), " ".join(FIGURES)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running
    build = os.path.abspath(a.build)
    top = tempfile.mkdtemp(prefix="llmfs-bench-shim-")
    failed = 0
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, top, ignore_errors=True)
        of = start_all(a, build, top, stack)
        for figure in a.figures or FIGURES:
            words, without = FIGURES[figure]
            args = words.split()
            model = args[args.index("-m") + 1] if "-m" in args else "m"
            rounds = 1 if figure.startswith("streams") else a.rounds
            print("\n%s: %s -r %d, load %.1f, us" % (figure, words, rounds, os.getloadavg()[0]))
            sys.stdout.flush()
            failed |= subprocess.call(
                [os.path.join(build, "tools", "bench-shim"), "-r", str(rounds)] + args +
                [text for name, text in of[model] if name not in without])
    return failed


if __name__ == "__main__":
    sys.exit(main())
