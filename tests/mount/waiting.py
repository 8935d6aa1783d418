#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""interface.md 3, first half: who waits, for how long, and how waiting ends: signals, O_NONBLOCK,
poll, select, epoll, a thousand parked readers."""
import errno
import os
import resource
import select
import signal
import subprocess
import threading
import time

import harness
from harness import quick, claim, equal, exists, read, read_bytes, refused, shown, wait_for, write
from programs import waits_in

FAR = 1 << 24  # an offset that no answer reaches: a read there is parked until the end


def parked(m, s):
    """A cat that waits for the end of an answer."""
    p = waits_in(subprocess.Popen(["tail", "-c", "+%d" % FAR, s("out")],
                                  stdout=subprocess.PIPE), s("out"))
    equal(p.poll(), None)
    return p


def ended_by(m, number):
    s = m.session()
    s.begin()

    def end_one(start):
        p = waits_in(start(), s("out"))
        begin = time.monotonic()
        p.send_signal(number)
        p.wait()
        took = time.monotonic() - begin
        equal(p.returncode, -number)
        return took

    quick(lambda: end_one(
        lambda: subprocess.Popen(["cat", s("out")], stdout=subprocess.DEVNULL)), 0.1)
    quick(lambda: end_one(lambda: parked(m, s)), 0.1)
    equal(s.status(), "generating")
    return s


@claim()
def ctrl_c_ends_a_parked_cat_within_100_ms_and_the_answer_goes_on(m):
    s = ended_by(m, signal.SIGINT)
    size = os.stat(s("chat")).st_size
    wait_for(lambda: os.stat(s("chat")).st_size > size, "more of the answer")
    s.cancel()


@claim()
def the_answer_completes_after_ctrl_c(m):
    s = m.session(tokens=400)
    s.submit("tell me")
    p = waits_in(subprocess.Popen(["cat", s("out")], stdout=subprocess.DEVNULL), s("out"))
    p.send_signal(signal.SIGINT)
    p.wait()
    s.wait("done")
    equal(shown(s.messages()[-1]["content"]), read_bytes(s("out")))


@claim()
def sigkill_ends_a_parked_cat_at_once(m):
    ended_by(m, signal.SIGKILL).cancel()


@claim()
def sigterm_ends_a_parked_cat_at_once(m):
    ended_by(m, signal.SIGTERM).cancel()


@claim()
def a_parked_read_with_a_handler_returns_eintr(m):
    class Rang(Exception):
        pass

    def ring(*_):
        raise Rang
    s = m.session()
    s.begin()
    fd = os.open(s("out"), os.O_RDONLY)
    old = signal.signal(signal.SIGALRM, ring)

    def ringing():
        begin = time.monotonic()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            os.pread(fd, 100, FAR)
            raise AssertionError("the read came back")
        except Rang:
            return time.monotonic() - begin - 0.3

    try:
        quick(ringing, 0.1)
    finally:
        signal.signal(signal.SIGALRM, old)
        os.close(fd)
    s.cancel()


@claim()
def a_signal_to_a_waiting_program_never_kills_the_mount(m):
    s = m.session()
    s.begin()
    for _ in range(10):
        ps = [parked(m, s) for _ in range(1)]
        for p in ps:
            p.send_signal(signal.SIGINT)
            p.wait()
    assert exists(m("version"))
    s.cancel()


@claim()
def o_nonblock_gives_eagain_while_nothing_is_there(m):
    s = m.session()
    s.begin()
    fd = os.open(s("out"), os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(fd, 100)
    with refused(errno.EAGAIN):
        os.pread(fd, 100, FAR)
    s.cancel()
    os.close(fd)


@claim()
def o_nonblock_set_later_counts_too(m):
    s = m.session()
    s.begin()
    fd = os.open(s("out"), os.O_RDONLY)
    os.set_blocking(fd, False)
    with refused(errno.EAGAIN):
        os.pread(fd, 100, FAR)
    s.cancel()
    os.close(fd)


def collect(m, wait):
    """Reads an answer with O_NONBLOCK and the given way to wait; the bytes must be all of it."""
    s = m.session(tokens=150)
    s.submit("tell me")
    fd = os.open(s("out"), os.O_RDONLY | os.O_NONBLOCK)
    text, waits = b"", 0
    while True:
        assert wait(fd), "not ready within 10 s"
        waits += 1
        try:
            more = os.read(fd, 4096)
        except BlockingIOError:
            continue
        if not more:
            break
        text += more
    assert wait(fd), "out polls ready at its end"
    os.close(fd)
    equal(text, shown(s.messages()[-1]["content"]))
    assert waits < 2000, "woken %d times for 150 tokens" % waits


@claim()
def select_wakes_when_there_is_something_to_read(m):
    collect(m, lambda fd: select.select([fd], [], [], 10 * harness.slow())[0])


@claim()
def poll_wakes_when_there_is_something_to_read(m):
    def wait(fd):
        p = select.poll()
        p.register(fd, select.POLLIN)
        return p.poll(10000 * harness.slow())
    collect(m, wait)


@claim()
def epoll_wakes_when_there_is_something_to_read(m):
    with select.epoll() as e:
        known = set()

        def wait(fd):
            if fd not in known:
                e.register(fd, select.EPOLLIN)
                known.add(fd)
            return e.poll(10 * harness.slow())
        collect(m, wait)


@claim()
def edge_triggered_epoll_wakes_when_there_is_something_to_read(m):
    s = m.session(tokens=150)
    s.submit("tell me")
    fd = os.open(s("out"), os.O_RDONLY | os.O_NONBLOCK)
    text, end = b"", False
    with select.epoll() as e:
        e.register(fd, select.EPOLLIN | select.EPOLLET)
        while not end:
            assert e.poll(10 * harness.slow()), "not woken, %d bytes so far" % len(text)
            try:
                while True:
                    more = os.read(fd, 4096)
                    if not more:
                        end = True
                        break
                    text += more
            except BlockingIOError:
                pass
    os.close(fd)
    equal(text, shown(s.messages()[-1]["content"]))


@claim()
def poll_does_not_report_ready_while_nothing_is_there(m):
    s = m.session()
    s.begin()
    fd = os.open(s("out"), os.O_RDONLY | os.O_NONBLOCK)
    busy = 0
    for _ in range(50):
        try:
            while os.read(fd, 1 << 20):
                pass
        except BlockingIOError:
            busy += 1
        select.select([fd], [], [], 1)
    assert busy, "never had to wait"
    s.cancel()
    os.close(fd)


@claim()
def out_of_an_idle_session_polls_ready(m):
    fd = os.open(m.session()("out"), os.O_RDONLY)
    assert select.select([fd], [], [], 5)[0]
    equal(os.read(fd, 10), b"")
    os.close(fd)


@claim()
def out_polls_ready_when_the_answer_is_cancelled(m):
    s = m.session()
    s.begin()
    fd = os.open(s("out"), os.O_RDONLY)
    threading.Timer(0.3, write, (s("ctl"), "cancel\n")).start()
    end = time.monotonic() + 10 * harness.slow()
    with refused(errno.ECANCELED):
        while time.monotonic() < end:
            assert select.select([fd], [], [], 10 * harness.slow())[0]
            os.read(fd, 1 << 20)
    os.close(fd)
    s.idle()


@claim(limit=90)
def a_thousand_parked_readers_take_no_thread_and_stat_still_answers(m):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    s = m.session()
    s.begin()
    before = harness.threads(m.proc.pid)
    fds = [os.open(s("out"), os.O_RDONLY) for _ in range(1000)]
    ended = []

    def reader(fd):
        try:
            ended.append(os.pread(fd, 100, FAR))
        except OSError as e:
            ended.append(e.errno)
    old = threading.stack_size(128 << 10)
    readers = [threading.Thread(target=reader, args=(fd,), daemon=True) for fd in fds]
    for r in readers:
        r.start()
    threading.stack_size(old)
    wait_for(lambda: len(harness.threads(os.getpid())) > 1000, "1,000 readers")
    time.sleep(0.5)

    def looked():
        worst = 0
        for _ in range(50):
            begin = time.monotonic()
            os.stat(m("sessions", "main", "status"))
            assert read(m("models", "tiny", "state"))
            worst = max(worst, time.monotonic() - begin)
        return worst

    quick(looked, 0.5)
    after = harness.threads(m.proc.pid)
    equal(len(ended), 0)
    assert len(after) - len(before) <= 10, "threads: %d, then %d" % (len(before), len(after))
    s.cancel()
    for r in readers:
        r.join()
    equal(ended, [errno.ECANCELED] * 1000)
    for fd in fds:
        os.close(fd)


@claim()
def a_parked_reader_ends_when_the_session_is_removed(m):
    s = m.session()
    s.begin()
    p = waits_in(subprocess.Popen(["cat", s("out")], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL), s("out"))
    m.sh("rm -r $S", check=True, S=s.path)
    p.wait(10 * harness.slow())
    assert not exists(s.path)


@claim()
def poll_of_chat_and_events_ends_when_the_session_is_removed(m):
    s = m.session()
    files = [os.open(s(name), os.O_RDONLY) for name in ("chat", "events")]
    subprocess.run(["rmdir", os.path.dirname(s("chat"))], check=True)
    for fd in files:
        os.read(fd, 1 << 16)
        p = select.poll()
        p.register(fd, select.POLLIN)
        equal(p.poll(5000), [(fd, select.POLLIN)])
        os.close(fd)


@claim()
def only_out_and_channels_make_a_reader_wait(m):
    s = m.session()
    s.begin()

    def looked():
        begin = time.monotonic()
        for name in os.listdir(s.path):
            if name not in ("in", "out", "ctl"):
                read_bytes(s(name))
        return time.monotonic() - begin

    quick(looked, 1)
    equal(s.status(), "generating")
    s.cancel()


harness.main()
