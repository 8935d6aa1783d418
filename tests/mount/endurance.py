#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Not part of the suite: many users of a mount at once for LLMFS_ENDURANCE_S seconds (60), with
readers that are killed, requests that are cancelled, sessions that come and go, models that are
loaded and unloaded, and now and then kill -9 of the daemon. Conversations must stay whole, memory
and descriptors must not grow. And LLMFS_ENDURANCE_REQUESTS requests (10000) over servers with every fault there is,
with the cache, auto, cascade and cancels.

    python3 tests/mount/endurance.py
"""
import collections
import errno
import os
import random
import signal
import subprocess
import threading
import time

import harness
from harness import Session, claim, read, shown, write
from servers import ANSWER, Server, models

SECONDS = float(os.environ.get("LLMFS_ENDURANCE_S", "60"))
REQUESTS = int(os.environ.get("LLMFS_ENDURANCE_REQUESTS", "10000"))


def resident_kb(m):
    for line in read("/proc/%d/status" % m.proc.pid).splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def user(m, k, until, faults, counts):
    """One user's life: every answer read whole must be the one that messages.json has."""
    dice = random.Random(k)
    n = 0
    try:
        while time.monotonic() < until:
            # The short model's KV pool is small: what grows for long is a leak.
            s = m.session("u%d.%d" % (k, n), tokens=dice.randint(1, 60), temperature=1,
                          model="short")
            n += 1
            for turn in range(dice.randint(1, 4)):
                s.submit("user %d, turn %d" % (k, turn))
                what = dice.random()
                if what < 0.5:
                    answer = harness.read_bytes(s("out"))
                    last = s.messages()[-1]
                    if shown(last["content"]) != answer:
                        faults.append("%s: %r was read, %r is kept" % (s.name, answer, last))
                elif what < 0.7:
                    p = subprocess.Popen(["cat", s("out")], stdout=subprocess.DEVNULL)
                    time.sleep(dice.random() / 20)
                    p.send_signal(dice.choice((signal.SIGINT, signal.SIGKILL)))
                    p.wait()
                elif what < 0.9:
                    write(s("ctl"), "cancel\n")
                s.idle()
                counts[k] += 1
            if dice.random() < 0.1:
                s.submit("removed while it is answered")
            os.rmdir(s.path)
    except (OSError, AssertionError) as e:
        faults.append("user %d: %r" % (k, e))


@claim(own=True, limit=SECONDS + 120)
def many_users_for_long(Mount):
    with Mount() as m:
        faults, counts = [], [0] * 16
        until = time.monotonic() + SECONDS
        users = [threading.Thread(target=user, args=(m, k, until, faults, counts))
                 for k in range(16)]
        for u in users:
            u.start()
        half = 0
        os.mkdir(m("models", "other"))
        write(m("models", "other", "path"), harness.SHORT + "\n")
        while time.monotonic() < until and not faults:
            time.sleep(1)
            write(m("models", "other", "ctl"), random.choice(("load\n", "unload\n")))
            m.kill(signal.SIGHUP)
            if not half and time.monotonic() > until - SECONDS / 2:
                half = resident_kb(m)
        for u in users:
            u.join()
        end, fds = resident_kb(m), len(os.listdir("/proc/%d/fd" % m.proc.pid))
        print("    %d turns; resident %d kB at half time, %d kB at the end; %d descriptors" % (
            sum(counts), half, end, fds))
        assert not faults, faults[:3]
        assert fds < 200, "%d descriptors are open" % fds
        assert harness.sanitizer() or end < half * 1.25 + 20000, "memory grows"


@claim(own=True, limit=SECONDS + 120)
def killed_again_and_again(Mount):
    with Mount() as m:
        dice = random.Random(1)
        s = m.session("kept", tokens=20)
        answers = []
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            answers.append(s.ask("turn %d" % len(answers)).decode())
            other = m.session()
            other.begin()
            time.sleep(0.1 + dice.random() / 5)  # what has begun is written behind
            m.kill()
            m.wait()
            m.start()
            s = Session(m, "kept")
            got = [x["content"] for x in s.messages() if x["role"] == "assistant"]
            assert [shown(x).decode() for x in got] == answers, "an answer that was read is lost or changed"
            assert other.status() == "failed", other.status()


# ---- upstreams ----

GOOD = ["ok", "ok-crlf", "ok-comments", "ok-json", "ok-close", "ok-nousage", "ok-cached", "ok-reasoning", "slow=20",
        "pace=2", "split", "no-done"]
BAD = ["500", "503", "401", "404", "529", "html=502", "429=1", "429-ms=20", "context", "redirect", "close",
       "close-headers", "close-middle", "no-end", "reset", "garbage", "garbage-sse", "garbage-json", "garbage-body",
       "garbage-shape", "hang-first", "hang-headers", "hang-middle", "utf8", "error-first", "error-middle"]


def upstream_settings(server):
    """A model for each behaviour, and one for each way of not being reached."""
    common = {"breaker_open_ms": 100}
    short = {"first_byte_timeout_ms": 150, "idle_timeout_ms": 150, "connect_timeout_ms": 150, "timeout_ms": 5000}
    out = {}
    for i, behaviour in enumerate(GOOD + BAD):
        name = "%s-%s" % ("good" if behaviour in GOOD else "bad", behaviour.replace("=", "."))
        out[name] = dict(common, endpoint=server.url(behaviour), retries=i % 3, quality=(i % 10) / 10,
                         price_output=i % 7, protocol="anthropic" if i % 4 == 3 else "openai")
        if behaviour in BAD:
            out[name].update(short)
        if i % 5 == 4:
            out[name]["fallback"] = "good-ok"
    for port in ("closed", "deaf", "mute"):
        out["bad-" + port] = dict(common, **short, endpoint=server.url(port=port), retries=1)
    # Replicas, one of which is well.
    out["good-replicas"] = dict(common, endpoint="%s\n%s" % (server.url("500"), server.url()), retries=2)
    return out


def client(m, k, names, left, faults, counts):
    """Asks until nothing is left; what it gets is the whole answer, or the beginning of it and an errno."""
    dice = random.Random(k)
    whole = shown(ANSWER)
    try:
        while left:
            s = m.session("c%d.%d" % (k, counts[k, "sessions"]), tokens=1000)
            counts[k, "sessions"] += 1
            for _ in range(dice.randint(1, 6)):
                try:
                    left.pop()
                except IndexError:
                    break
                name = dice.choice(names + ["auto"] * 4 + ["cascade"] * 2)
                write(s("model"), name + "\n")
                write(s("cache"), dice.choice(("off", "auto", "all")) + "\n")
                one_request(s, name, dice, whole, faults, counts)
            os.rmdir(s.path)
    except (OSError, AssertionError) as e:
        faults.append("client %d: %r" % (k, e))


def one_request(s, name, dice, whole, faults, counts):
    got, code = b"", 0
    cancel = dice.random() < 0.1
    try:
        s.submit("question %d" % dice.randint(0, 200))
        with open(s("out"), "rb", buffering=0) as f:
            if cancel:
                time.sleep(dice.random() / 50)
                write(s("ctl"), "cancel\n")
            while piece := f.read(65536):
                got += piece
    except OSError as e:
        code = e.errno
    s.idle()
    counts["cancelled" if cancel else name.split("-")[0], errno.errorcode.get(code, "done")] += 1
    if not code and got != whole and not (cancel and whole.startswith(got)) or code and not whole.startswith(got):
        faults.append("%s gave %r and %d" % (name, got, code))
    # One of the replicas fails: its retries have a budget, which may be spent.
    if name.startswith("good-") and code and not cancel and name != "good-replicas":
        faults.append("%s failed: %s, %s" % (name, errno.errorcode[code], read(s("error"))))
    if name in ("auto", "cascade") and code and not got and not cancel:
        faults.append("%s failed before its first byte: %s" % (name, read(s("error"))))


@claim(own=True, limit=3600)
def ten_thousand_requests_over_faults(Mount):
    with Mount(allow=[""]) as m, Server() as server:
        # The local models are not for auto here: whoever answers gives the one answer.
        for name in ("tiny", "short"):
            write(m("models", name, "capabilities"), "embed\n")
        write(m("cache", "enabled"), "1\n")
        write(m("cache", "max_memory"), "65536\n")
        settings = upstream_settings(server)
        with models(m, **settings):
            faults, counts, left = [], collections.Counter(), [None] * REQUESTS
            clients = [threading.Thread(target=client, args=(m, k, sorted(settings), left, faults, counts))
                       for k in range(16)]
            begin, seen = time.monotonic(), []
            for c in clients:
                c.start()
            while any(c.is_alive() for c in clients):
                time.sleep(0.2)
                if len(seen) < 10 and REQUESTS - len(left) >= REQUESTS * (len(seen) + 1) // 10:
                    seen.append((resident_kb(m), len(os.listdir("/proc/%d/fd" % m.proc.pid))))
                    server.call("POST", "/reset")  # its log
                    print("    %d requests, %.0f s: resident %d kB, %d descriptors" % (
                        REQUESTS - len(left), time.monotonic() - begin, *seen[-1]), flush=True)
            print("    " + ", ".join("%s %s %d" % (*k, v) for k, v in sorted(counts.items(), key=str)
                                     if isinstance(k[0], str)))
            print("    " + " ".join(read(m("cache", "stats")).split("\n")[:8]))
        assert not faults, (len(faults), faults[:3])
        time.sleep(1)
        fds, kb = len(os.listdir("/proc/%d/fd" % m.proc.pid)), resident_kb(m)
        print("    at the end, without the models: resident %d kB, %d descriptors" % (kb, fds))
        assert fds < seen[0][1] + 20, "descriptors grow: %s, %d" % (seen, fds)
        assert harness.sanitizer() or seen[-1][0] < seen[1][0] * 1.1 + 8000, "memory grows: %s" % seen


harness.main()
