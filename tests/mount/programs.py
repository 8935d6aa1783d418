# SPDX-License-Identifier: Apache-2.0
"""Other programs beside a mount, and how to wait for them without guessing how long they take:
until one has opened a file and sleeps in it, until it has printed something, until its screen shows
it."""
import contextlib
import os
import pty
import signal
import subprocess
import time

import harness
from harness import wait_for


def sleeps(pid):
    with open("/proc/%d/stat" % pid) as f:
        return f.read().rsplit(") ", 1)[1][0] in "SD"


def has_open(pid, path):
    for fd in os.listdir("/proc/%d/fd" % pid):
        with contextlib.suppress(OSError):
            if os.readlink("/proc/%d/fd/%s" % (pid, fd)) == path:
                return True
    return False


def waits_in(p, path):
    """The process, once it has that file open and waits there, or once it has ended."""
    wait_for(lambda: p.poll() is not None or has_open(p.pid, path) and sleeps(p.pid),
             "%s waiting in %s" % (p.args[0], path))
    return p


def is_running(p, name):
    """Whether the process has become that program."""
    with open("/proc/%d/comm" % p.pid) as f:
        return f.read().strip() == name


@contextlib.contextmanager
def running(*command):
    """A program whose output so far is what more() gives."""
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    os.set_blocking(p.stdout.fileno(), False)
    p.text = b""

    def more():
        p.text += p.stdout.read() or b""
        return p.text
    p.more = more
    try:
        yield p
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


@contextlib.contextmanager
def follower(path):
    """tail -f of a file, once it has shown what is in it already."""
    with running("tail", "-c", "+1", "-f", path) as p:
        wait_for(lambda: p.more() == harness.read_bytes(path), "what is there", 10,
                 lambda: repr(p.text[-200:]))
        yield p


def typed(path, first, *keys):
    """What nano shows while keys are typed into it: `first` is seen before any, and after each
    (keys, words...) one of the words. It is killed at the end, unless it has ended."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", LC_ALL="C.UTF-8")
        os.execvp("nano", ["nano", "--ignorercfiles", "--backup", path])
    os.set_blocking(fd, False)
    shown = b""

    def see(*words):
        nonlocal shown
        seen, end = b"", time.monotonic() + 10 * harness.slow()
        while not any(w in seen for w in words):
            assert time.monotonic() < end, (words, seen)
            try:
                seen += os.read(fd, 4096)
            except BlockingIOError:
                time.sleep(0.01)
        shown += seen
    try:
        see(first)
        for k, *words in keys:
            os.write(fd, k)
            see(*words)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)
    return shown.decode(errors="replace")
