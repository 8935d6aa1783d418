#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Not part of the suite: many users of a mount at once for LLMFS_ENDURANCE_S seconds (60), with
readers that are killed, requests that are cancelled, sessions that come and go, models that are
loaded and unloaded, and now and then kill -9 of the daemon. Conversations must stay whole, memory
and descriptors must not grow.

    python3 tests/mount/endurance.py
"""
import os
import random
import signal
import subprocess
import threading
import time

import harness
from harness import Session, claim, read, shown, write

SECONDS = float(os.environ.get("LLMFS_ENDURANCE_S", "60"))


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


harness.main()
