#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A thousand at once of a model that a server has: who asks the same shares one generation, who asks something else
gets an answer of their own, and the mount answers everybody meanwhile."""
import errno
import os
import resource
import threading
import time

import harness
from harness import claim, equal, read, refused, shown, wait_for
from servers import ANSWER, Server, models

N = 1000 if not harness.sanitizer() else 200
harness.CACHE = True
server = Server()
threading.stack_size(256 << 10)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * N)), hard))


class Crowd:
    """N threads, each with a channel of its own to models/NAME/ask: all ask, and only then all read."""

    def __init__(self, m, model, prompts):
        self.answers, self.fds = [None] * len(prompts), []
        for prompt in prompts:
            fd = os.open(m("models", model, "ask"), os.O_RDWR)
            self.fds.append(fd)
            os.write(fd, prompt.encode())
        self.threads = [threading.Thread(target=self.read, args=(i,)) for i in range(len(prompts))]
        for t in self.threads:
            t.start()

    def read(self, i):
        try:
            self.answers[i] = b"".join(iter(lambda: os.read(self.fds[i], 65536), b""))
        except OSError as e:
            self.answers[i] = e
        os.close(self.fds[i])

    def n_waiting(self):
        return sum(t.is_alive() for t in self.threads)

    def join(self):
        for t in self.threads:
            t.join()
        return self.answers


def asked():
    return sum(r["path"].endswith("/chat/completions") for r in server.requests())


def stats(m, name):
    return float(dict(x.split() for x in read(m("cache", "stats")).splitlines())[name])


def walk(m):
    """How long the mount takes to be listed and to take a setting."""
    begin = time.monotonic()
    m.sh("ls -lR models cache router sessions > /dev/null && echo 1 > sessions/main/temperature && "
         "rm sessions/main/temperature && cat status version cache/stats > /dev/null", check=True, timeout=60)
    return time.monotonic() - begin


@claim(limit=120)
def a_thousand_equal_questions_at_once_cost_one_generation(m):
    server.reset()
    # Nine words, so that it is under way until all have come.
    with models(m, far=server.url("pace=1500" if harness.sanitizer() else "pace=600")):
        hits = stats(m, "hits_flight") + stats(m, "hits_l1")
        crowd = Crowd(m, "far", ["Tell all of us of the fox."] * N)
        took = walk(m)
        assert crowd.n_waiting() == N, "%d wait" % crowd.n_waiting()
        answers = crowd.join()
        equal({a if isinstance(a, OSError) else bytes(a) for a in answers}, {shown(ANSWER)})
        equal(asked(), 1)
        equal(stats(m, "hits_flight") + stats(m, "hits_l1") - hits, N - 1)
        print("    %d readers; the mount was listed in %.2f s while they waited" % (N, took))
        assert took < 10 * harness.slow(), "ls took %g s" % took


@claim(limit=120)
def a_thousand_different_questions_at_once_get_an_answer_each(m):
    server.reset()
    with models(m, far={"endpoint": server.url("echo"), "requests_max": 64},
                stuck={"endpoint": server.url("hang-first"), "first_byte_timeout_ms": 600000}):
        fds = len(os.listdir("/proc/%d/fd" % m.proc.pid))
        held = m.session(model="stuck")
        held.submit("hello")
        begin = time.monotonic()
        crowd = Crowd(m, "far", ["question number %d" % i for i in range(N)])
        took = walk(m)
        for i, answer in enumerate(crowd.join()):
            equal((i, answer), (i, b"question number %d\n" % i))
        print("    %d different ones in %.2f s; the mount was listed in %.2f s" % (N, time.monotonic() - begin, took))
        equal(asked(), N + 1)
        assert took < 10 * harness.slow(), "ls took %g s" % took
        assert held.status() in ("queued", "generating"), held.status()
        most = max(r["connection"] for r in server.requests())
        used = len({r["connection"] for r in server.requests()})
        assert used <= 66, "%d connections, of %d" % (used, most)
        wait_for(lambda: len(os.listdir("/proc/%d/fd" % m.proc.pid)) <= fds + 70, "descriptors that are closed")
        # Asked again, none of it is computed.
        crowd = Crowd(m, "far", ["question number %d" % i for i in range(N)])
        for i, answer in enumerate(crowd.join()):
            equal((i, answer), (i, b"question number %d\n" % i))
        equal(asked(), N + 1)
        held.cancel()


@claim(limit=120)
def who_leaves_is_not_waited_for(m):
    """Of N that follow one answer all but one go away; the last one has it whole."""
    server.reset()
    with models(m, far=server.url("pace=400")):
        fds = []
        for _ in range(100):
            fds.append(os.open(m("models", "far", "ask"), os.O_RDWR | os.O_NONBLOCK))
            os.write(fds[-1], b"Who stays?")
            with refused(errno.EAGAIN):
                os.read(fds[-1], 1)
        for fd in fds[1:-1] + fds[:1]:
            os.close(fd)
        os.set_blocking(fds[-1], True)
        equal(b"".join(iter(lambda: os.read(fds[-1], 65536), b"")), shown(ANSWER))
        os.close(fds[-1])
        # The first has left too, and its generation ended with it unless it went on for the others.
        assert 1 <= asked() <= 2, "%d generations" % asked()


try:
    harness.main()
finally:
    server.close()
