#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""interface.md 2.3: how an answer is read. The newest one, from its first byte, as it is generated,
by any number of readers, in whole characters."""
import errno
import os
import subprocess
import threading
import time

import harness
from harness import claim, equal, in_time, quick, read, read_bytes, refused, shown, write
from programs import waits_in


def answers(s):
    """What `out` gave, one after the other."""
    return [shown(x["content"]) for x in s.messages() if x["role"] == "assistant"]


@claim()
def out_is_empty_where_nothing_was_asked(m):
    s = m.session()
    equal(m.sh("cat $S/out", check=True, S=s.path).stdout, "")
    equal(m.sh("cat sessions/main/out", check=True).stdout, "")


@claim()
def out_gives_the_whole_answer_and_ends(m):
    s = m.session(tokens=50)
    done = m.sh("echo hello > $S/in; cat $S/out", check=True, S=s.path)
    equal([done.stdout.encode("utf-8", "surrogateescape")], answers(s))
    assert len(done.stdout) > 10
    equal(s.status(), "done")


@claim()
def a_complete_answer_ends_with_a_newline_one_is_added_where_it_does_not(m):
    s = m.session(temperature=1)
    added = 0
    for i in range(10):
        out = s.ask("hello %d" % i)
        said = s.messages()[-1]["content"].encode()
        equal(out, said if said.endswith(b"\n") else said + b"\n")
        equal(os.stat(s("out")).st_size, len(out))
        added += len(out) - len(said)
    assert added


@claim()
def out_streams_while_the_answer_is_generated(m):
    s = m.session()
    s.begin()
    equal(s.status(), "generating")
    with open(s("out"), "rb", buffering=0) as f:
        got = [f.read(65536) for _ in range(10)]
        assert all(got)
        equal(s.status(), "generating")
    s.cancel()


@claim()
def an_answer_under_way_is_read_from_its_first_byte(m):
    s = m.session()
    s.begin()
    time.sleep(0.1)
    a, b = (os.open(s("out"), os.O_RDONLY) for _ in "ab")
    first = os.read(a, 10)
    time.sleep(0.1)
    equal(os.read(b, 10), first)
    os.close(a)
    os.close(b)
    s.cancel()


@claim()
def echo_then_cat_never_shows_an_older_answer(m):
    s = m.session(tokens=3)
    for i in range(40):
        m.sh("echo prompt %d > $S/in; cat $S/out > %s/got" % (i, m.top), check=True, S=s.path)
        equal(len(answers(s)), i + 1)
        equal(read_bytes(os.path.join(m.top, "got")), answers(s)[-1])


@claim()
def write_then_read_in_one_process_never_shows_an_older_answer(m):
    s = m.session(tokens=3, temperature=1)
    for i in range(60):
        got = s.ask("prompt %d" % i)
        equal(len(answers(s)), i + 1)
        equal(got, answers(s)[-1])


@claim()
def an_empty_line_is_refused_and_hides_the_older_answer(m):
    s = m.session()
    assert s.ask("hello")
    done = m.sh("echo > $S/in; cat $S/out", S=s.path)
    equal(done.stdout, "")
    assert done.returncode != 0 and "Invalid argument" in done.stderr, done.stderr
    assert "empty" in read(s("error"))
    equal(s.status(), "failed")
    equal(len(answers(s)), 1)


@claim()
def a_pending_request_holds_a_reader_back_for_a_second_at_most(m):
    def waited():
        s = m.session()
        older = s.ask("hello")
        fd = os.open(s("in"), os.O_WRONLY)
        os.write(fd, b"pending")
        begin = time.monotonic()
        os.close(os.dup(fd))
        equal(read_bytes(s("out")), older)
        took = time.monotonic() - begin
        os.close(fd)
        s.wait("done")
        assert took > 0.9, took
        return took

    quick(waited, 1.5)


@claim()
def a_read_gets_the_pending_request_if_it_ends_in_time(m):
    def attempt(done):
        s = m.session(temperature=1)
        s.ask("hello")
        fd = os.open(s("in"), os.O_WRONLY)
        os.write(fd, b"pending")
        os.close(os.dup(fd))

        def close():
            os.close(fd)
            done()
        closer = threading.Timer(0.2, close)
        closer.start()
        got = read_bytes(s("out"))
        closer.join()
        s.wait("done")
        equal(len(answers(s)), 2)
        equal(got, answers(s)[1])

    in_time(attempt, 0.5)


@claim()
def an_open_out_belongs_to_the_request_newest_at_its_first_read(m):
    s = m.session(temperature=1)
    first = s.ask("one")
    early = os.open(s("out"), os.O_RDONLY)
    bound = os.open(s("out"), os.O_RDONLY)
    equal(os.read(bound, 4), first[:len(os.pread(bound, 4, 0))])
    second = s.ask("two")
    equal(os.pread(early, 1 << 20, 0), second)
    equal(os.pread(bound, 1 << 20, 0), first)
    os.close(early)
    os.close(bound)


@claim()
def an_open_out_belongs_to_the_request_newest_at_its_first_poll(m):
    s = m.session(temperature=1)
    first = s.ask("one")
    fd = os.open(s("out"), os.O_RDONLY)
    assert harness.select.select([fd], [], [], 5)[0]
    s.ask("two")
    equal(os.pread(fd, 1 << 20, 0), first)
    os.close(fd)


@claim()
def a_finished_answer_comes_at_once_and_again(m):
    s = m.session()
    got = s.ask("hello")

    def again():
        begin = time.monotonic()
        for _ in range(20):
            equal(read_bytes(s("out")), got)
        return time.monotonic() - begin

    quick(again, 1)


@claim()
def a_reader_may_start_at_any_offset(m):
    s = m.session(tokens=60)
    got = s.ask("hello")
    fd = os.open(s("out"), os.O_RDONLY)
    for at in range(0, len(got) + 5, 7):
        equal(os.pread(fd, 1 << 20, at), got[at:])
    os.close(fd)
    equal(m.sh("tail -c +11 $S/out", check=True, S=s.path).stdout.encode(
        "utf-8", "surrogateescape"), got[10:])


@claim()
def sixteen_readers_get_the_same_bytes_one_from_the_middle(m):
    s = m.session(tokens=150)
    s.submit("tell me")
    got = {}

    def reader(k):
        fd = os.open(s("out"), os.O_RDONLY)
        at = 40 if k == 15 else 0
        text = b""
        while True:
            more = os.pread(fd, 7 + 100 * k, at + len(text))
            if not more:
                break
            text += more
        os.close(fd)
        got[k] = text
    readers = [threading.Thread(target=reader, args=(k,)) for k in range(16)]
    for r in readers:
        r.start()
    for r in readers:
        r.join()
    whole = answers(s)[0]
    for k in range(15):
        equal(got[k], whole)
    equal(got[15], whole[40:])


@claim()
def sixteen_cats_get_the_same_bytes(m):
    s = m.session(tokens=150)
    s.submit("tell me")
    m.sh("for i in $(seq 16); do cat $S/out > %s/cat$i & done; wait" % m.top, check=True, S=s.path)
    for i in range(16):
        equal(read_bytes(os.path.join(m.top, "cat%d" % (i + 1))), answers(s)[0])


@claim()
def every_read_of_four_bytes_or_more_ends_with_a_character(m):
    s = m.session(tokens=200, temperature=1)
    wide = 0
    for size in (4, 5, 7, 16):
        s.submit("tell me")
        fd = os.open(s("out"), os.O_RDONLY)
        text = b""
        while True:
            more = os.read(fd, size)
            if not more:
                break
            wide += len(more) - len(more.decode())
            text += more
        os.close(fd)
        equal(text, answers(s)[-1])
    assert wide, "the random model never said a character of several bytes"


@claim()
def reads_of_single_bytes_give_everything(m):
    s = m.session(tokens=40)
    whole = s.ask("hello")
    fd = os.open(s("out"), os.O_RDONLY)
    equal(b"".join(iter(lambda: os.read(fd, 1), b"")), whole)
    os.close(fd)
    equal(m.sh("dd bs=1 if=$S/out status=none", check=True, S=s.path).stdout.encode(
        "utf-8", "surrogateescape"), whole)


@claim()
def head_takes_the_beginning_and_leaves_the_rest_running(m):
    s = m.session(tokens=150)
    s.submit("tell me")
    part = m.sh("head -c 20 $S/out", check=True, S=s.path).stdout
    s.wait("done")
    assert answers(s)[0].startswith(part.encode("utf-8", "surrogateescape"))


@claim()
def an_answer_piped_into_a_prompt_is_the_whole_answer(m):
    a, b = m.session(tokens=150), m.session()
    a.submit("tell me")
    m.sh("cat %s > %s" % (a("out"), b("in")), check=True)
    b.wait("done")
    equal(b.prompts(), [answers(a)[0].decode()[:-1]])


@claim()
def cp_of_an_answer_under_way_is_the_whole_answer(m):
    s = m.session(tokens=150)
    s.submit("tell me")
    m.sh("cp $S/out %s/copy" % m.top, check=True, S=s.path)
    equal(read_bytes(os.path.join(m.top, "copy")), answers(s)[0])


@claim()
def copy_file_range_is_refused_so_tools_read(m):
    s = m.session()
    s.ask("hello")
    a = os.open(s("out"), os.O_RDONLY)
    b = os.open(m.session()("in"), os.O_WRONLY)
    with refused(errno.EINVAL, errno.EXDEV, errno.EOPNOTSUPP):
        os.copy_file_range(a, b, 100)
    os.close(a)
    os.close(b)


@claim()
def out_cannot_be_written(m):
    s = m.session()
    with refused(errno.EACCES, errno.EPERM, errno.EINVAL):
        write(s("out"), "mine")


@claim()
def a_reader_that_waits_sees_the_cancel_after_the_bytes(m):
    s = m.session()
    s.begin()
    cat = subprocess.Popen(["cat", s("out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    waits_in(cat, s("out"))
    write(s("ctl"), "cancel\n")
    out, err = cat.communicate()
    assert cat.returncode == 1 and b"canceled" in err, err
    s.idle()
    equal(s.status(), "cancelled")
    said = [x["content"].encode() for x in s.messages() if x["role"] == "assistant"]
    equal(out, said[-1] if said else b"")


@claim()
def two_sessions_answer_at_once(m):
    a, b = m.session(), m.session()
    a.begin()
    assert b.ask("short")
    equal(a.status(), "generating")
    a.cancel()


@claim()
def a_cached_size_never_cuts_an_answer(m):
    s = m.session(tokens=30)
    for i in range(3):
        os.stat(s("out"))
        got = s.ask("again %d" % i)
        equal(m.sh("cat $S/out | wc -c", check=True, S=s.path).stdout.strip(), str(len(got)))
        with open(s("out"), "rb") as f:
            equal(f.read(), got)


harness.main()
