#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""interface.md 3, second half: files that are followed, walks over the whole mount, sizes."""
import contextlib
import json
import os
import select
import struct
import subprocess
import time

import harness
from harness import claim, equal, read, read_bytes, wait_for, write
from programs import follower, running


@contextlib.contextmanager
def busy(m):
    """An answer is under way while the body runs, before and after it."""
    s = m.session()
    s.begin()
    yield s
    equal(s.status(), "generating")
    s.cancel()


@claim()
def tail_f_follows_chat(m):
    s = m.session(tokens=20)
    s.ask("the first question")
    with follower(s("chat")) as tail:
        assert b"the first question" in tail.text
        s.ask("the second question")
        wait_for(lambda: tail.more() == read_bytes(s("chat")), "the second turn", 10,
                 lambda: repr(tail.text[-200:]))
    assert b"the second question" in tail.text


@claim()
def tail_f_follows_prompts_that_fail_and_are_asked_again(m):
    s = m.session(tokens=20)
    s.ask("the first question")
    with follower(s("chat")) as tail:
        os.mkdir(m("models", "nothing"))
        write(m("models", "nothing", "endpoint"), "http://127.0.0.1:9/v1\n")
        write(m("models", "nothing", "retries"), "0\n")
        write(s("model"), "nothing\n")
        for n in range(3):
            s.submit("question %d" % n)
            s.submitted(n + 2)
            s.wait("failed")
        write(s("model"), "tiny\n")
        os.rmdir(m("models", "nothing"))
        write(s("ctl"), "retry\n")
        s.wait("done")
        s.ask("the last question")
        # Had it been truncated, tail would have printed its beginning again.
        wait_for(lambda: tail.more() == read_bytes(s("chat")), "all of it", 10,
                 lambda: repr(tail.text[-400:]))
    equal([tail.text.count(b"> question %d" % n) for n in range(3)], [1, 1, 2])
    assert b"> the last question" in tail.text


@claim()
def tail_f_follows_an_answer_under_way(m):
    with busy(m) as s, running("tail", "-f", s("chat")) as tail:
        wait_for(lambda: tail.more(), "text")
        n = len(tail.text)
        wait_for(lambda: len(tail.more()) > n, "more text")


@claim()
def chat_has_the_size_that_stat_says(m):
    s = m.session(tokens=30)
    for i in range(3):
        s.ask("question %d" % i)
        equal(os.stat(s("chat")).st_size, len(read_bytes(s("chat"))))
        equal(os.stat(s("events")).st_size, len(read_bytes(s("events"))))


@claim()
def the_size_of_chat_grows_while_an_answer_is_generated(m):
    with busy(m) as s:
        sizes = []

        def look():
            sizes.append(os.stat(s("chat")).st_size)
            text = read_bytes(s("chat"))
            assert sizes[-1] <= len(text) <= os.stat(s("chat")).st_size
            return len(set(sizes)) > 5
        wait_for(look, "five times more", 10, lambda: str(sizes))
        equal(sizes, sorted(sizes))


@claim()
def chat_only_grows_at_its_end_while_an_answer_is_generated(m):
    s = m.session(tokens=300)
    s.ask("one")
    before = read_bytes(s("chat"))
    s.submit("two")
    seen = before
    while s.status() != "done":
        text = read_bytes(s("chat"))
        assert text.startswith(seen), "what was there changed"
        seen = text
    assert read_bytes(s("chat")).startswith(seen)


@claim()
def chat_shows_both_sides(m):
    s = m.session()
    answer = s.ask("a question").decode()
    chat = read(s("chat"))
    assert "a question" in chat and answer in chat, chat
    assert chat.endswith("\n")


def woken(m, name):
    s = m.session(tokens=5)
    fd = os.open(s(name), os.O_RDONLY | os.O_NONBLOCK)
    p = select.poll()
    p.register(fd, select.POLLIN)
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 65536):
            pass
    equal(p.poll(200), [])
    s.submit("hello")
    assert p.poll(10000 * harness.slow()), "not woken"
    assert os.read(fd, 65536)
    s.idle()
    os.close(fd)


@claim()
def chat_is_pollable(m):
    woken(m, "chat")


@claim()
def events_is_pollable(m):
    woken(m, "events")


@claim()
def events_are_json_lines(m):
    s = m.session()
    s.ask("hello")
    lines = read(s("events")).splitlines()
    assert lines
    for line in lines:
        assert isinstance(json.loads(line), dict)


@claim()
def inotify_sees_writes_through_the_mount(m):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    s = m.session()
    assert libc.inotify_add_watch(fd, s("temperature").encode(), 0x2 | 0x8) >= 0
    write(s("temperature"), "0.5\n")
    assert select.select([fd], [], [], 5)[0]
    mask = struct.unpack_from("iI", os.read(fd, 4096))[1]
    assert mask & 0xa
    os.close(fd)


def walk(m, script):
    """The command over the whole mount, begun in the middle of an answer, must end."""
    s = m.session(tokens=500, system="a needle in a haystack")
    s.submit("hello")
    done = m.sh(script, timeout=50)
    s.wait("done")
    return done


@claim()
def grep_r_over_the_mount_ends_while_answers_are_generated(m):
    done = walk(m, "grep -rl 'needle in a haystack' .")
    assert "/system" in done.stdout, done


@claim()
def tar_over_the_mount_ends_while_answers_are_generated(m):
    done = walk(m, "tar cf %s/all.tar --ignore-failed-read ." % m.top)
    assert done.returncode in (0, 1), done.stderr
    names = m.sh("tar tf %s/all.tar" % m.top, check=True).stdout
    assert "./sessions/main/chat" in names and "./models/tiny/state" in names


@claim()
def find_exec_cat_over_the_mount_ends_while_answers_are_generated(m):
    done = walk(m, r"find . -type f -exec cat {} \; 2>/dev/null")
    assert "a needle in a haystack" in done.stdout


@claim()
def cp_r_of_a_session_ends_and_copies_the_conversation(m):
    s = m.session()
    s.ask("hello")
    m.sh("cp -r $S %s/backup" % m.top, S=s.path)
    equal(json.loads(read(os.path.join(m.top, "backup", "messages.json"))), s.messages())


@claim()
def ls_l_shows_honest_sizes_owners_and_times(m):
    s = m.session(system="four score and seven")
    write(s("system"), "0123456789\n")
    s.ask("hello")
    st = os.stat(s("system"))
    equal((st.st_size, st.st_uid, st.st_gid), (11, os.getuid(), os.getgid()))
    for name in ("chat", "system", "temperature"):
        assert abs(os.stat(s(name)).st_mtime - time.time()) < 30 * harness.slow(), name
    read(s("usage"))
    equal(os.stat(s("usage")).st_size, len(read_bytes(s("usage"))))
    equal(m.sh("ls -lR >/dev/null", check=True).stderr, "")


@claim()
def every_readable_file_ends_with_a_newline_or_is_empty(m):
    s = m.session()
    s.ask("hello")
    for top, _, names in os.walk(m.path):
        for name in names:
            path = os.path.join(top, name)
            if name in ("in", "out", "ctl", "ask", "key") or os.path.islink(path):
                continue
            text = read_bytes(path)
            assert not text or text.endswith(b"\n"), "%s: %r" % (path, text[-40:])


@claim()
def usage_and_trace_are_name_value_lines(m):
    s = m.session(tokens=7)
    s.ask("hello")
    for line in read(s("usage")).splitlines():
        name, value = line.split(None, 1)
        assert name.replace("_", "").isalnum(), line
        assert value.strip(), line
    assert read(s("trace")).splitlines()


@claim()
def metrics_count_requests(m):
    before = int(read(m("metrics", "requests_total")))
    m.session().ask("hello")
    # What earlier claims have cancelled may be counted late.
    wait_for(lambda: int(read(m("metrics", "requests_total"))) > before, "one more request")
    for name in os.listdir(m("metrics")):
        if name not in ("prometheus", "slo"):
            float(read(m("metrics", name)))
    text = read(m("metrics", "prometheus"))
    assert "llm_requests_total{" in text and "# TYPE llm_requests_total counter" in text
    assert "llm_requests_total{" in read(m("models", "tiny", "metrics"))


@claim()
def trace_recent_has_a_json_line_for_a_request(m):
    s = m.session()
    s.ask("hello")
    wait_for(lambda: any(s.name in line for line in read(m("trace", "recent.jsonl")).splitlines()),
             "its line")
    for line in read(m("trace", "recent.jsonl")).splitlines():
        json.loads(line)


@claim()
def status_says_ok_and_version_and_readme_say_what_this_is(m):
    equal(read(m("status")), "ok\n")
    assert "llmfs" in read(m("version")) and read(m("README")).strip()


harness.main()
