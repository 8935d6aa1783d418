#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""interface.md 2.1: how a prompt may be written. Each open of `in` is one request, submitted by its
last close."""
import errno
import os
import signal
import subprocess
import threading

import harness
from harness import claim, equal, in_time, read, write, wait_for
from programs import is_running


def one_request(m, script, prompt, shell="bash", check=True):
    """The script, run with $S at a new session, asks exactly this."""
    s = m.session()
    m.sh(script, shell, check=check, S=s.path)
    s.wait("done")
    equal(s.prompts(), [prompt])


@claim()
def echo_is_one_request(m):
    one_request(m, "echo 'Why is the sky blue?' > $S/in", "Why is the sky blue?")


@claim(tools=("dash",))
def dash_echo_is_one_request(m):
    one_request(m, "echo 'Why is the sky blue?' > $S/in", "Why is the sky blue?", "dash")


@claim(tools=("busybox",))
def busybox_echo_is_one_request(m):
    one_request(m, "exec busybox sh -c \"echo hello > $S/in\"", "hello")


@claim()
def printf_without_newline_is_one_request(m):
    one_request(m, "printf hello > $S/in", "hello")


@claim()
def one_trailing_newline_is_dropped(m):
    one_request(m, r"printf 'hello\n' > $S/in", "hello")


@claim()
def only_one_trailing_newline_is_dropped(m):
    one_request(m, r"printf '\nhello\n\n' > $S/in", "\nhello\n")


@claim()
def cat_file_is_one_request(m):
    text = "".join("line %d\n" % i for i in range(60))
    write(os.path.join(m.top, "prompt"), text)
    one_request(m, "cat %s/prompt > $S/in" % m.top, text[:-1])


@claim()
def cp_is_one_request(m):
    write(os.path.join(m.top, "prompt"), "copied\n")
    one_request(m, "cp %s/prompt $S/in" % m.top, "copied")


@claim()
def here_document_is_one_request(m):
    one_request(m, "cat > $S/in <<END\nfirst\nsecond\nEND\n", "first\nsecond")


@claim(tools=("dash",))
def dash_here_document_is_one_request(m):
    one_request(m, "cat > $S/in <<END\nfirst\nsecond\nEND\n", "first\nsecond", "dash")


@claim()
def here_string_is_one_request(m):
    one_request(m, "cat > $S/in <<< 'a string'", "a string")


@claim()
def tee_is_one_request(m):
    one_request(m, "echo shown | tee $S/in > /dev/null", "shown")


@claim()
def tee_into_two_sessions_is_one_request_each(m):
    a, b = m.session(), m.session()
    m.sh("echo both | tee %s %s > /dev/null" % (a("in"), b("in")), check=True)
    for s in (a, b):
        s.wait("done")
        equal(s.prompts(), ["both"])


@claim()
def dd_of_single_bytes_is_one_request(m):
    one_request(m, "printf 'byte for byte\\n' | dd bs=1 of=$S/in status=none", "byte for byte")


@claim()
def dd_of_single_bytes_may_split_characters(m):
    one_request(m, "printf 'gr\u00fc\u00dfe \u4f60 \U0001f600' | dd bs=1 of=$S/in status=none",
                "gr\u00fc\u00dfe \u4f60 \U0001f600")


@claim()
def dd_with_seek_and_notrunc_is_one_request(m):
    one_request(m, "printf offsets | dd bs=1 seek=100 conv=notrunc of=$S/in status=none", "offsets")


@claim()
def builtins_in_braces_are_one_request(m):
    one_request(m, "{ echo a; echo b; } > $S/in", "a\nb")


@claim()
def commands_in_braces_are_one_request(m):
    one_request(m, "{ /bin/echo a; /bin/echo b; } > $S/in", "a\nb")


@claim(tools=("dash",))
def commands_in_braces_are_one_request_in_dash(m):
    one_request(m, "{ /bin/echo a; sleep 0.2; /bin/echo b; } > $S/in", "a\nb", "dash")


@claim()
def a_subshell_is_one_request(m):
    one_request(m, "( echo a; /bin/echo b; for i in 1 2 3; do echo $i; done ) > $S/in",
                "a\nb\n1\n2\n3")


@claim()
def append_redirect_is_one_request(m):
    one_request(m, "echo more >> $S/in", "more")


@claim()
def a_pipe_into_cat_is_one_request_even_if_slow(m):
    one_request(m, "{ echo a; sleep 0.3; echo b; } | cat > $S/in", "a\nb")


@claim()
def python_open_write_is_one_request(m):
    s = m.session()
    with open(s("in"), "w") as f:
        f.write("from Python")
    s.wait("done")
    equal(s.prompts(), ["from Python"])


@claim()
def python_text_larger_than_its_buffer_is_one_request(m):
    s = m.session()
    with open(s("in"), "wb", buffering=100) as f:
        for _ in range(250):
            f.write(b"12345\n")
    s.wait("done")
    equal(s.prompts(), [("12345\n" * 250)[:-1]])


@claim()
def many_small_writes_are_one_request(m):
    s = m.session()
    with open(s("in"), "wb", buffering=0) as f:
        for i in range(200):
            f.write(b"%d " % i)
    s.wait("done")
    equal(s.prompts(), [" ".join(map(str, range(200))) + " "])


@claim()
def duplicated_descriptors_submit_at_the_last_close(m):
    s = m.session()
    a = os.open(s("in"), os.O_WRONLY)
    b = os.dup(a)
    os.write(a, b"first, ")
    os.close(a)
    equal(s.status(), "idle")
    os.write(b, b"second")
    os.close(b)
    s.wait("done")
    equal(s.prompts(), ["first, second"])


@claim()
def a_forked_child_does_not_submit(m):
    s = m.session()
    fd = os.open(s("in"), os.O_WRONLY)
    os.write(fd, b"parent")
    subprocess.run(["true"], pass_fds=(fd,), check=True)
    equal(s.status(), "idle")
    os.close(fd)
    s.wait("done")
    equal(s.prompts(), ["parent"])


@claim()
def an_open_without_a_write_is_no_request(m):
    s = m.session()
    m.sh(": > $S/in; cat /dev/null > $S/in; exec 3> $S/in; exec 3>&-; touch $S/in",
         check=True, S=s.path)
    os.close(os.open(s("in"), os.O_WRONLY | os.O_TRUNC))
    fd = os.open(s("in"), os.O_WRONLY)
    os.write(fd, b"")
    os.close(fd)
    equal(s.status(), "idle")
    equal(s.messages(), [])
    equal(read(s("out")), "")


@claim()
def a_program_that_keeps_the_file_open_says_submit(m):
    s = m.session()
    m.sh("exec 3> $S/in; /bin/echo one >&3; [ $(cat $S/status) = idle ] || exit 1\n"
         "echo submit > $S/ctl; cat $S/out > /dev/null\n"
         "/bin/echo two >&3; echo submit > $S/ctl; cat $S/out > /dev/null; exec 3>&-",
         check=True, S=s.path)
    equal(s.prompts(), ["one", "two"])


@claim()
def dash_keeps_the_file_open_and_says_submit(m):
    s = m.session()
    m.sh("exec 3> $S/in; echo one >&3; echo submit > $S/ctl; cat $S/out > /dev/null; exec 3>&-",
         "dash", check=True, S=s.path)
    equal(s.prompts(), ["one"])


@claim()
def two_writers_never_mix(m):
    s = m.session()
    a, b = (os.open(s("in"), os.O_WRONLY) for _ in "ab")
    for _ in range(10):
        os.write(a, b"a")
        os.write(b, b"b")
    os.close(b)
    os.close(a)
    wait_for(lambda: len(s.prompts()) == 2, "both requests")
    equal(s.prompts(), ["b" * 10, "a" * 10])


@claim()
def many_writers_at_once_never_mix(m):
    s = m.session(tokens=2)

    def writer(k):
        for i in range(4):
            with open(s("in"), "wb", buffering=0) as f:
                for _ in range(5):
                    f.write(b"%d.%d " % (k, i))
    threads = [threading.Thread(target=writer, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    wait_for(lambda: len(s.prompts()) == 24, "24 requests")
    for k in range(6):
        equal([p for p in s.prompts() if p.startswith("%d." % k)],
              [("%d.%d " % (k, i)) * 5 for i in range(4)])


@claim()
def requests_queue_in_the_order_they_were_closed(m):
    def attempt(_):
        s = m.session(tokens=3)
        fds = [os.open(s("in"), os.O_WRONLY) for _ in range(8)]
        for i, fd in enumerate(fds):
            os.write(fd, b"%d" % i)
        order = [3, 1, 4, 0, 5, 7, 2, 6]
        for i in order:
            os.close(fds[i])
        wait_for(lambda: len(s.prompts()) == 8, "8 requests")
        equal(s.prompts(), [str(i) for i in order])

    # A last close that is told more than 0.1 s after its flush is overtaken, and nobody sees when
    # it was told.
    in_time(attempt, 0.1)


@claim()
def an_interrupted_writer_submits_what_it_wrote(m):
    s = m.session()
    with open(s("in"), "wb") as f:
        writer = subprocess.Popen(["sh", "-c", "echo unfinished; exec sleep 60"], stdout=f)
    wait_for(lambda: is_running(writer, "sleep"), "end of its writing")
    equal(s.status(), "idle")
    writer.send_signal(signal.SIGINT)
    writer.wait()
    s.wait("done")
    equal(s.prompts(), ["unfinished"])


@claim()
def in_gives_nothing_to_a_reader(m):
    s = m.session()
    s.submit("hello")
    try:
        equal(harness.read_bytes(s("in")), b"")
    except OSError as e:
        equal(e.errno, errno.EACCES)


harness.main()
