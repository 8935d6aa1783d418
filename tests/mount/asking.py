#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""models/NAME/ask: a channel. Opened read-write, private per open: write a text, read the result,
again and again."""
import errno
import os
import select
import signal
import socket
import subprocess
import threading
import time

import harness
from harness import claim, equal, read, refused, wait_for, write
from programs import waits_in


@claim()
def bash_asks_and_reads_on_one_descriptor(m):
    done = m.sh("echo 8 > sessions/main/max_tokens; exec 3<> models/short/ask; echo hi >&3; "
                "cat <&3 | head -c 100000 | wc -c", check=True)
    assert int(done.stdout) > 0, done


@claim()
def a_channel_answers_again_and_again(m):
    done = m.sh("exec 3<>models/short/ask\nfor i in 1 2 3; do echo question $i >&3; "
                "cat <&3 > %s/a$i; done; exec 3>&-; wc -c < %s/a1" % (m.top, m.top), check=True)
    assert int(done.stdout) > 0, done
    for i in (1, 2, 3):
        assert os.stat(os.path.join(m.top, "a%d" % i)).st_size, i


@claim(tools=("dash",))
def dash_asks_and_reads_on_one_descriptor(m):
    done = m.sh("exec 3<>models/short/ask; echo hi >&3; head -c 5 <&3 | wc -c", "dash", check=True)
    assert int(done.stdout) > 0, done


def ask(fd, text):
    os.write(fd, text)
    got = b""
    while True:
        more = os.read(fd, 65536)
        if not more:
            return got
        got += more


@claim()
def several_writes_before_a_read_are_one_text(m):
    os.mkdir(m("models", "counted"))  # nobody else asks this one
    write(m("models", "counted", "path"), harness.SHORT + "\n")

    def count():
        return sum(int(line.split()[1])
                   for line in read(m("models", "counted", "metrics")).splitlines()
                   if line.startswith("llm_requests_total{"))
    fd = os.open(m("models", "counted", "ask"), os.O_RDWR)
    os.write(fd, b"one ")
    os.write(fd, b"two")
    assert ask(fd, b" three")
    os.close(fd)
    wait_for(lambda: count() == 1, "one request", 10, lambda: str(count()))
    time.sleep(0.3)
    equal(count(), 1)
    os.rmdir(m("models", "counted"))


@claim()
def requests_of_channels_are_among_those_that_run(m):
    def numbers():
        text = read(m("metrics", "prometheus"))
        return [int(read(m("metrics", name))) for name in ("requests_running", "requests_queued")] + \
            [int(line.split()[1]) for line in text.splitlines()
             if line.startswith(("llmfs_requests_running ", "llmfs_requests_queued "))]
    server = socket.create_server(("127.0.0.1", 0))  # takes connections, answers nothing
    os.mkdir(m("models", "silent"))
    write(m("models", "silent", "endpoint"), "http://127.0.0.1:%d/v1\n" % server.getsockname()[1])
    wait_for(lambda: numbers() == [0] * 4, "nothing under way", 10, lambda: str(numbers()))
    fds = [os.open(m("models", "silent", "ask"), os.O_RDWR | os.O_NONBLOCK) for _ in range(20)]
    for fd in fds:
        os.write(fd, b"hello")
        with refused(errno.EAGAIN):
            os.read(fd, 1)
    wait_for(lambda: numbers() == [20, 0, 20, 0], "20 to run", 10, lambda: str(numbers()))
    for fd in fds:
        os.close(fd)
    wait_for(lambda: numbers() == [0] * 4, "all to end", 10, lambda: str(numbers()))
    os.rmdir(m("models", "silent"))
    server.close()


@claim()
def offsets_are_ignored(m):
    fd = os.open(m("models", "short", "ask"), os.O_RDWR)
    os.pwrite(fd, b"hello", 12345)
    first = os.pread(fd, 5, 99999)
    assert first
    os.close(fd)


@claim()
def the_result_ends_with_eof_and_eof_stays_until_more_is_written(m):
    fd = os.open(m("models", "short", "ask"), os.O_RDWR)
    assert ask(fd, b"hello")
    equal(os.read(fd, 100), b"")
    assert ask(fd, b"hello again")
    os.close(fd)


@claim()
def the_result_ends_with_a_newline(m):
    fd = os.open(m("models", "short", "ask"), os.O_RDWR)
    for i in range(5):
        assert ask(fd, b"hello %d" % i).endswith(b"\n")
    os.close(fd)


@claim()
def two_opens_are_private(m):
    a, b = (os.open(m("models", "short", "ask"), os.O_RDWR) for _ in "ab")
    os.write(a, b"hello")
    equal(os.read(b, 100), b"")
    got = []
    t = threading.Thread(target=lambda: got.append(ask(b, b"other")))
    t.start()
    assert ask(a, b" there")
    t.join()
    assert got[0]
    os.close(a)
    os.close(b)


@claim()
def a_read_before_any_write_is_empty(m):
    equal(m.sh("cat models/short/ask", check=True).stdout, "")
    equal(m.sh("grep -c x models/short/ask").stdout, "0\n")


@claim()
def a_refused_text_is_the_error_of_the_write_and_the_channel_goes_on(m):
    fd = os.open(m("models", "short", "ask"), os.O_RDWR)
    with refused(errno.EILSEQ):
        os.write(fd, b"\xff")
    with refused(errno.EILSEQ):
        os.read(fd, 100)
    assert ask(fd, b"fine again")
    os.close(fd)


@claim()
def why_an_ask_failed_is_in_ask_error_until_one_goes_well(m):
    os.mkdir(m("models", "gone"))
    write(m("models", "gone", "endpoint"), "http://127.0.0.1:9/v1\n")
    write(m("models", "gone", "retries"), "0\n")
    why = m("models", "gone", "ask_error")
    equal(read(why), "")
    done = m.sh("exec 3<>models/gone/ask; echo hi >&3; cat <&3; cat models/gone/ask_error")
    assert "No route to host" in done.stderr, done
    assert done.stdout.startswith("ask: ") and "cannot connect" in done.stdout, done
    equal(os.stat(why).st_size, len(read(why)))
    assert abs(os.stat(why).st_mtime - time.time()) < 60
    equal(read(m("models", "gone", "error")), "")  # settings were well
    done = m.sh("exec 3<>models/gone/embed; echo hi >&3; cat <&3; cat models/gone/ask_error")
    assert done.stdout.startswith("embed: "), done
    os.unlink(m("models", "gone", "endpoint"))
    write(m("models", "gone", "path"), harness.SHORT + "\n")
    m.sh("exec 3<>models/gone/ask; echo hi >&3; cat <&3", check=True)
    equal(read(why), "")
    os.rmdir(m("models", "gone"))
    os.mkdir(m("models", "gone"))
    equal(read(why), "")
    os.rmdir(m("models", "gone"))


@claim()
def a_prompt_that_is_closed_unread_is_given_up_and_the_error_of_its_channel_says_so(m):
    for channel, error in (("models/short/ask", "models/short/ask_error"),
                           ("guards/test", "guards/test_error"),
                           ("router/explain", "router/explain_error"),
                           ("cache/lookup", "cache/lookup_error")):
        name, said = os.path.basename(channel), lambda: read(m(*error.split("/")))
        done = m.sh("exec 3<>%s; echo hi >&3; exec 3>&-; cat %s" % (channel, channel), check=True)
        equal(done.stdout, "")
        wait_for(lambda: said().startswith(name + ": the prompt was given up"), error, 10, said)
        assert said().endswith("exec 3<>%s\n" % name), said()
        m.sh("exec 3<>%s; printf '\\377' >&3" % channel)  # of a refusal the reason stays
        time.sleep(0.2)
        assert "UTF-8" in said(), said()
    m.sh("exec 3<>models/short/ask; echo hi >&3; cat <&3; echo again >&3", check=True)
    wait_for(lambda: "given up" in read(m("models", "short", "ask_error")), "the second one")
    m.sh("exec 3<>models/short/ask; echo hi >&3; cat <&3", check=True)
    time.sleep(0.2)
    equal(read(m("models", "short", "ask_error")), "")


@claim()
def a_write_whose_answer_nobody_can_read_fails_and_the_error_of_its_channel_says_why(m):
    for channel in ("models/short/ask", "guards/test", "router/explain", "cache/lookup"):
        said = lambda: read(m(*(channel + "_error").split("/")))
        m.sh("exec 3<>%s; printf '\\377' >&3" % channel)  # another sentence
        done = m.sh("echo hi > %s" % channel)
        assert done.returncode and "Invalid argument" in done.stderr, done
        wait_for(lambda: "open it once for both" in said(), channel, 10, said)
    m.sh("exec 3<>models/short/ask; echo hi >&3; cat <&3", check=True)


@claim()
def a_refused_write_says_why_in_ask_error(m):
    done = m.sh("exec 3<>models/short/ask; printf '\\377' >&3; cat models/short/ask_error")
    equal(done.stdout, "ask: the prompt is not UTF-8 (byte 1)\n")
    done = m.sh("exec 3<>models/auto/ask; printf '\\377' >&3; cat models/auto/ask_error")
    equal(done.stdout, "ask: the prompt is not UTF-8 (byte 1)\n")
    m.sh("exec 3<>models/short/ask; echo hi >&3; cat <&3", check=True)
    equal(read(m("models", "short", "ask_error")), "")


@claim()
def o_nonblock_and_poll_work_on_a_channel(m):
    fd = os.open(m("models", "short", "ask"), os.O_RDWR | os.O_NONBLOCK)
    os.write(fd, b"hello")
    got = b""
    end = time.monotonic() + 20 * harness.slow()
    while time.monotonic() < end:
        try:
            more = os.read(fd, 4096)
        except BlockingIOError:
            assert select.select([fd], [], [], 10 * harness.slow())[0]
            continue
        if not more:
            break
        got += more
    assert got
    os.close(fd)


@claim()
def ctrl_c_on_a_channel_ends_the_reader_at_once(m):
    path = m("models", "short", "ask")

    def interrupted():
        p = subprocess.Popen(["bash", "-c", "exec 3<>%s; echo hello >&3; exec cat <&3" % path],
                             stdout=subprocess.DEVNULL)
        waits_in(p, path)
        begin = time.monotonic()
        p.send_signal(signal.SIGINT)
        p.wait()
        return time.monotonic() - begin

    harness.quick(interrupted, 0.1)


@claim()
def closing_a_channel_in_mid_answer_does_no_harm(m):
    for _ in range(10):
        fd = os.open(m("models", "short", "ask"), os.O_RDWR)
        os.write(fd, b"hello")
        os.read(fd, 1)
        os.close(fd)
    fd = os.open(m("models", "short", "ask"), os.O_RDWR)
    os.write(fd, b"never read")
    os.close(fd)
    assert m.session().ask("still there")


@claim()
def a_channel_leaves_no_session_behind(m):
    before = os.listdir(m("sessions"))
    fd = os.open(m("models", "short", "ask"), os.O_RDWR)
    os.write(fd, b"hello")
    os.read(fd, 1)
    equal(os.listdir(m("sessions")), before)
    os.close(fd)
    equal(os.listdir(m("sessions")), before)


@claim()
def thirty_two_channels_answer_at_once(m):
    got = []

    def one(k):
        fd = os.open(m("models", "short", "ask"), os.O_RDWR)
        os.write(fd, b"hello %d" % k)
        got.append(os.read(fd, 4096))
        os.close(fd)
    ts = [threading.Thread(target=one, args=(k,)) for k in range(32)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    equal(len([g for g in got if g]), 32)


harness.main()
