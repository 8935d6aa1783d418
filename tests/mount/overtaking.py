#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Changes through the mount while TREE is being read without a pause: what a write, mkdir, rmdir or
ln was told is so is so from then on, and no pass that has read TREE before takes it back."""
import contextlib
import json
import os
import signal
import threading
import time

import harness
from harness import claim, read, soon, write

SECONDS = 1.5  # of changes, a claim


@contextlib.contextmanager
def passes(m):
    """TREE is touched, and read again, as fast as that goes."""
    end = threading.Event()
    edited = os.path.join(m.tree, "budgets", "edited", "limit")
    os.makedirs(os.path.dirname(edited))

    def touch():
        n = 0
        while not end.wait(0.01):
            for where, _, names in os.walk(m.tree):
                for path in [where] + [os.path.join(where, x) for x in names]:
                    with contextlib.suppress(OSError):
                        os.utime(path, follow_symlinks=False)
            n += 1
            write(edited, "%d\n" % n)
            m.kill(signal.SIGHUP)

    def again():
        while not end.wait(0.0005):
            m.kill(signal.SIGHUP)

    threads = [threading.Thread(target=x) for x in (touch, again)]
    for t in threads:
        t.start()
    try:
        yield
    finally:
        end.set()
        for t in threads:
            t.join()
        # No edit of TREE is lost for all that.
        soon(lambda: read(m("budgets", "edited", "remaining")) == read(edited), "last edit of TREE")
        os.rmdir(m("budgets", "edited"))


def rounds(m):
    """Numbers, for as long as the claim lasts."""
    until = time.monotonic() + SECONDS
    with passes(m):
        n = 0
        while time.monotonic() < until:
            n += 1
            yield n


def none_wrong(wrong, n):
    assert n and not wrong, "%d of %d: %s" % (len(wrong), n, wrong[:5])


@claim()
def a_limit_is_in_force_when_its_write_returns(m):
    wrong, n = [], 0
    os.mkdir(m("budgets", "ann"))
    for n in rounds(m):
        write(m("budgets", "ann", "limit"), "%d\n" % n)
        left = read(m("budgets", "ann", "remaining"))
        if left != "%d\n" % n or read(m("budgets", "ann", "limit")) != left:
            wrong.append((n, left))
    os.rmdir(m("budgets", "ann"))
    none_wrong(wrong, n)


@claim()
def what_a_model_is_made_from_is_so_when_its_write_returns(m):
    wrong, n = [], 0
    os.mkdir(m("models", "x"))
    for n in rounds(m):
        write(m("models", "x", "path"), harness.MODEL + "\n")
        there = read(m("models", "x", "state"))
        write(m("models", "x", "path"), "\n")
        gone = read(m("models", "x", "state"))
        if there != "unloaded\n" or not gone.startswith("unset"):
            wrong.append((n, there, gone))
    os.rmdir(m("models", "x"))
    none_wrong(wrong, n)


def verdict(m, text):
    fd = os.open(m("guards", "test"), os.O_RDWR)
    try:
        os.write(fd, text.encode())
        data = b""
        while more := os.read(fd, 65536):
            data += more
        return json.loads(data)["verdict"]
    finally:
        os.close(fd)


@claim()
def rules_are_in_force_when_their_close_returns(m):
    wrong, n = [], 0
    file = m("guards", "input", "z.rules")
    for n in rounds(m):
        write(file, "block z%d /zebra%d/\n" % (n, n))
        now = verdict(m, "a zebra%d" % n)
        os.unlink(file)
        then = verdict(m, "a zebra%d" % n)
        if (now, then) != ("block", "pass"):
            wrong.append((n, now, then))
    none_wrong(wrong, n)


@claim()
def a_key_is_there_from_its_write_to_its_unlink(m):
    wrong, n = [], 0
    os.mkdir(m("models", "far"))
    write(m("models", "far", "endpoint"), "http://127.0.0.1:9/v1\n")
    info = m("models", "far", "info")
    for n in rounds(m):
        write(m("models", "far", "key"), "sk-%d\n" % n)
        now = json.loads(read(info))["key"]
        # A reference of TREE goes with the key, and no pass brings it back.
        write(os.path.join(m.tree, "models", "far", "key"), "env:HOME\n")
        harness.reset(m("models", "far", "key"))
        then = [json.loads(read(info))["key"] for _ in range(4)]
        if not now or any(then):
            wrong.append((n, now, then))
    os.rmdir(m("models", "far"))
    none_wrong(wrong, n)


@claim()
def models_and_budgets_are_there_from_mkdir_to_rmdir_and_not_after(m):
    wrong, n = [], 0
    for n in rounds(m):
        for where in ("models", "budgets"):
            os.mkdir(m(where, "y"))
            listed = [os.listdir(m(where)).count("y") for _ in range(4)]
            write(m(where, "y", "price_input" if where == "models" else "limit"), "1\n")
            os.rmdir(m(where, "y"))
            listed += [os.listdir(m(where)).count("y") for _ in range(4)]
            if listed != [1] * 4 + [0] * 4:
                wrong.append((n, where, listed))
    none_wrong(wrong, n)


@claim()
def default_points_where_it_was_turned_to(m):
    wrong, n = [], 0
    for n in rounds(m):
        name = ("tiny", "short")[n % 2]
        m_link = m("models", "default")
        os.symlink(name, m("models", "next"))
        os.rename(m("models", "next"), m_link)
        points = {os.readlink(m_link) for _ in range(4)}
        if points != {name}:
            wrong.append((n, name, points))
    m.sh("ln -sfn tiny models/default", check=True)
    none_wrong(wrong, n)


@claim()
def two_who_write_at_once_leave_one_value_in_tree_and_in_force(m):
    wrong, n = [], 0
    os.mkdir(m("budgets", "bob"))
    for n in rounds(m):
        both = [threading.Thread(target=write, args=(m("budgets", "bob", "limit"), "%d\n" % x))
                for x in (2 * n, 2 * n + 1)]
        for t in both:
            t.start()
        for t in both:
            t.join()
        left, limit = read(m("budgets", "bob", "remaining")), read(m("budgets", "bob", "limit"))
        if left != limit or int(limit) // 2 != n:
            wrong.append((n, left, limit))
    os.rmdir(m("budgets", "bob"))
    none_wrong(wrong, n)


if __name__ == "__main__":
    harness.main()
