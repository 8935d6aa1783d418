#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""interface.md 2: a refusal reaches a person at a shell: prompts too long or not UTF-8, a second
write that is refused, full queues, names and numbers of sessions."""
import errno
import json
import os
import subprocess
import sys

import harness
from harness import claim, equal, exists, read, read_bytes, refused, write

TOO_LONG = b"0123456789" * 100  # each byte is a token, the context of `short` has 512


def broken(s, code):
    """The refusal is the session's newest request: out fails with it, status and error say it."""
    with refused(code):
        read_bytes(s("out"))
    assert s.status() in ("failed", "blocked"), s.status()
    assert len(read(s("error"))) > 10


@claim()
def a_prompt_longer_than_the_context_is_refused(m):
    s = m.session(model="short", truncate="off")
    with refused(errno.EMSGSIZE):
        s.submit(TOO_LONG)
        read_bytes(s("out"))
    broken(s, errno.EMSGSIZE)
    equal(s.messages(), [])
    equal(s.ask("short") != b"", True)


@claim()
def a_prompt_longer_than_the_context_is_refused_whatever_truncate_says(m):
    for how in ("oldest-turns", "middle"):
        s = m.session(model="short", truncate=how)
        s.ask("hello")
        with refused(errno.EMSGSIZE):
            s.submit(TOO_LONG)
            read_bytes(s("out"))
        equal(len(s.messages()), 2)


@claim()
def bash_prints_that_a_prompt_is_too_long(m):
    s = m.session(model="short")
    write(os.path.join(m.top, "long"), TOO_LONG)
    done = m.sh("cat %s/long > $S/in; cat $S/out" % m.top, S=s.path)
    assert "Message too long" in done.stderr, done
    assert "512" in read(s("error")) or "context" in read(s("error")), read(s("error"))


@claim()
def a_prompt_that_is_not_utf8_is_the_error_of_the_write(m):
    s = m.session()
    done = m.sh(r"printf 'a\xffb' > $S/in; echo $?", S=s.path)
    assert done.stdout.strip() != "0" and "write error: Invalid or incomplete" in done.stderr, done
    broken(s, errno.EILSEQ)
    equal(s.messages(), [])
    done = m.sh(r"printf 'a\377b' > $S/in || echo refused; cat $S/out", "dash", S=s.path)
    assert "refused" in done.stdout, done
    for text in (b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80", b"ok \xe2\x28\xa1"):
        with refused(errno.EILSEQ):
            s.submit(text)


@claim()
def a_prompt_that_ends_inside_a_character_is_refused_by_close(m):
    s = m.session()
    fd = os.open(s("in"), os.O_WRONLY)
    os.write(fd, b"half \xe4\xbd")
    with refused(errno.EILSEQ):
        os.close(fd)
    broken(s, errno.EILSEQ)


def shells():
    """Those that are there, as the beginnings of commands."""
    return [x for x in (["bash"], ["dash"], ["busybox", "sh"]) if harness.has(x[0])]


def run(m, shell, script, s):
    """In that shell; what it waits for must come."""
    done = subprocess.run(shell + ["-c", script], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=20 * harness.slow(), env=dict(os.environ, S=s.path))
    return done.stdout.decode(), done.stderr.decode()


def told(m, shell, s, script, *words):
    """A fault that only the close can find, of which the shell says nothing: a reader of out gets
    its error and not an older answer, and status and error say it."""
    for name in ("out", "status", "error"):
        script += "; cat $S/%s" % name
    out, complaints = run(m, shell, script, s)
    status, said = out.splitlines()
    assert complaints.startswith("cat: ") and "Invalid argument" in complaints, (shell, complaints)
    equal((shell, status), (shell, "failed"))
    for word in words:
        assert word in said, (shell, said)


@claim()
def a_prompt_of_blanks_is_told_by_out_status_and_error_in_every_shell(m):
    for shell in shells():
        s = m.session()
        for script in ("echo", "echo '  '", "printf ' \\n\\t\\n'", "{ echo; echo; }", "printf ' '",
                       "printf '\\000'", "printf '\\302\\240 \\342\\200\\213\\n'"):
            s.ask("hello")
            before = s.messages()
            told(m, shell, s, script + " > $S/in", "the prompt is empty", "blanks")
            equal(s.messages(), before)


@claim()
def a_prompt_of_blanks_is_no_error_of_close_as_more_may_come(m):
    s = m.session()
    for text in (b"\n", b" \t\n\n"):
        write(s("in"), text)
        with refused(errno.EINVAL):
            read_bytes(s("out"))
    fd = os.open(s("in"), os.O_WRONLY)
    other = os.dup(fd)
    os.write(fd, b"\n")
    os.close(other)
    os.write(fd, b"after a blank line")
    os.close(fd)
    assert read_bytes(s("out"))
    equal(s.prompts(), ["\nafter a blank line"])


@claim()
def programs_that_end_after_a_blank_line_do_not_fail(m):
    for program in ("mkdir -p $S", "date >/dev/null", "true | cat"):
        s = m.session()
        m.sh("set -e; { echo; %s; echo more; } > $S/in" % program, check=True, S=s.path)
        assert read_bytes(s("out"))
        equal(s.prompts(), ["\nmore"])


@claim()
def json_that_no_text_can_end_well_is_the_error_of_the_write_in_every_shell(m):
    for shell in shells():
        s = m.session()
        for text in ('[{"role" "user"', '[{"role": "user", "content": "x', '[nonsense',
                     '[{"role": "user", "content": "x"}} '):
            out, complaints = run(m, shell, "echo '%s' > $S/messages.json || echo refused; "
                                            "cat $S/error" % text, s)
            assert out.startswith("refused\nmessages.json: line 1, column "), (shell, text, out, complaints)
            equal(s.status(), "idle")


@claim()
def json_that_ends_too_early_is_told_by_out_status_and_error_in_every_shell(m):
    for shell in shells():
        s = m.session()
        for text in ('[{"role": "user", "content": "x"}', "[", '[\n{"role":\n"user",', " "):
            s.ask("hello")
            before = s.messages()
            told(m, shell, s, "echo '%s' > $S/messages.json" % text, "line ", "expected")
            equal(s.messages(), before)
        s.ask("and now?")
        equal(len(s.messages()), len(before) + 2)
        equal(read(s("error")), "")


@claim()
def json_that_goes_on_after_a_close_has_not_failed_in_between(m):
    s = m.session()
    s.ask("hello")
    fd = os.open(s("messages.json"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"[\n")
    with refused(errno.EINVAL):  # more may come: a program that a shell began has ended, say
        os.close(os.dup(fd))
    equal(s.status(), "done")
    assert read_bytes(s("out"))
    os.write(fd, b'{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]\n')
    os.close(fd)
    equal([x["content"] for x in s.messages()], ["x", "y"])
    equal((s.status(), read(s("error"))), ("idle", ""))


@claim()
def json_that_several_programs_write_is_judged_at_the_end_of_all(m):
    both = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    one, two = (os.path.join(m.top, name) for name in ("one", "two"))
    write(one, json.dumps(both[0]) + ",")
    write(two, json.dumps(both[1]) + "]")
    for shell in shells():
        for script in ("{ echo '['; cat %s; cat %s; }", "{ /bin/echo '['; cat %s; /bin/echo; cat %s; }",
                       "{ sh -c 'echo [; cat %s'; cat < /dev/null; cat %s | cat; }"):
            s = m.session()
            out, complaints = run(m, shell, "set -e; %s > $S/messages.json" % script % (one, two), s)
            equal((out, complaints), ("", ""))
            equal(s.messages(), both)
            equal((s.status(), read(s("error"))), ("idle", ""))


@claim()
def json_that_several_programs_leave_unfinished_is_told_after_the_last_close(m):
    for shell in shells():
        s = m.session()
        s.ask("hello")
        before = s.messages()
        told(m, shell, s, "{ /bin/echo '['; /bin/echo '{\"role\": \"user\",'; } > $S/messages.json",
             "line ", "expected")
        equal(s.messages(), before)


@claim()
def a_program_that_opens_a_file_of_json_and_leaves_it_unfinished_fails_itself(m):
    s = m.session()
    write(os.path.join(m.top, "half"), "[")
    done = m.sh("cp %s/half $S/messages.json" % m.top, S=s.path)
    assert done.returncode and "Invalid argument" in done.stderr, done


@claim()
def a_thread_that_closes_what_another_has_opened_is_the_same_program(m):
    s = m.session()
    script = ("import os, threading\n"
              "fd = os.open(%r, os.O_WRONLY | os.O_TRUNC)\n"
              "os.write(fd, b'[')\n"
              "def close():\n"
              "    try: os.close(fd)\n"
              "    except OSError as e: print(e.errno)\n"
              "t = threading.Thread(target=close)\n"
              "t.start(); t.join()\n" % s("messages.json"))
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    equal(done.stdout, b"%d\n" % errno.EINVAL)


@claim()
def json_that_ends_too_early_while_an_answer_is_under_way_does_not_fail_it(m):
    s = m.session()
    s.begin()
    with refused(errno.EINVAL):
        write(s("messages.json"), "[\n")
    for _ in range(20):
        equal(s.status(), "generating")
    assert read(s("error")).startswith("messages.json: line 2, "), read(s("error"))
    with open(s("out"), "rb", buffering=0) as f:
        assert f.read(16)
    s.cancel()
    equal(s.status(), "cancelled")


@claim()
def a_conversation_written_line_by_line_is_taken(m):
    talk = [{"role": r, "content": "text %d" % i} for i in range(40) for r in ("user", "assistant")]
    for indent in (1, 0):
        lines = json.dumps(talk, indent=indent).splitlines()
        for shell in shells():
            s = m.session()
            out, complaints = run(m, shell, "{ %s; } > $S/messages.json" % "; ".join(
                "echo '%s'" % line for line in lines), s)
            equal(complaints, "")
            equal(s.messages(), talk)
            equal(read(s("error")), "")


@claim()
def a_prompt_refused_in_its_second_write_submits_nothing(m):
    s = m.session()
    fd = os.open(s("in"), os.O_WRONLY)
    os.write(fd, b"all is well, ")
    for text in (b"\xff", b"and well again"):
        with refused(errno.EILSEQ):
            os.write(fd, text)
    with refused(errno.EILSEQ):
        os.close(fd)
    broken(s, errno.EILSEQ)
    equal(s.messages(), [])


@claim()
def a_megabyte_refused_in_its_second_write_submits_nothing(m):
    s = m.session()
    path = os.path.join(m.top, "big")
    write(path, b"a" * (1 << 20) + b"\xff" * (1 << 20))
    done = m.sh("cat %s > $S/in; echo $?; cp %s $S/in; echo $?; dd bs=1M if=%s of=$S/in; echo $?"
                % (path, path, path), S=s.path)
    equal(done.stdout.split(), ["1", "1", "1"])
    assert s.status() in ("failed", "blocked")
    equal(s.messages(), [])
    with refused(errno.EILSEQ, errno.EMSGSIZE):
        read_bytes(s("out"))


@claim()
def one_write_of_which_the_end_is_refused_submits_nothing(m):
    s = m.session()
    fd = os.open(s("in"), os.O_WRONLY)
    with refused(errno.EILSEQ, errno.EMSGSIZE):
        data = b"a" * 2400000 + b"\xff"
        while data:
            data = data[os.write(fd, data):]
        os.close(fd)
    try:
        os.close(fd)
    except OSError:
        pass
    equal(s.messages(), [])
    assert s.status() in ("failed", "blocked")


@claim()
def the_sentence_is_printed_by_cat_of_out(m):
    s = m.session()
    with refused(errno.EILSEQ):
        s.submit(b"\xff")
    done = m.sh("cat $S/out", S=s.path)
    assert done.returncode == 1 and "Invalid or incomplete" in done.stderr, done


@claim()
def a_refusal_is_forgotten_with_the_next_prompt(m):
    s = m.session()
    with refused(errno.EILSEQ):
        s.submit(b"\xff")
    assert s.ask("fine")
    equal(read(s("error")), "")
    equal(s.status(), "done")


@claim()
def sixty_four_requests_queue_and_the_next_is_busy(m):
    s = m.session()
    s.begin()
    n = 0
    with refused(errno.EBUSY):
        while n < 70:
            s.submit("one more")
            n += 1
    equal(n, 64)
    assert "64" in read(s("error")) or "queue" in read(s("error")), read(s("error"))
    done = m.sh("echo another > $S/in", S=s.path)
    assert "write error: Device or resource busy" in done.stderr, done
    s.cancel()


@claim()
def session_names_are_checked(m):
    good = ("a", "A.b_c-1", "x" * 64, "...a", ".hidden")
    for name in good:
        os.mkdir(m("sessions", name))
        os.rmdir(m("sessions", name))
    for name in ("x" * 65, "sp ace", "\u00e4", "a\nb", "a:b", "*"):
        with refused(errno.EINVAL, errno.ENAMETOOLONG):
            os.mkdir(m("sessions", name))
        assert not exists(m("sessions", name))
    for name in (".", "..", "main"):
        with refused(errno.EEXIST):
            os.mkdir(m("sessions", name))
    with refused(errno.ENOENT, errno.EINVAL):
        os.mkdir(m("sessions", "a/b"))
    with refused(errno.EINVAL, errno.ENAMETOOLONG):
        os.mkdir(m("sessions", "x" * 256))


@claim()
def mktemp_d_makes_a_session(m):
    done = m.sh("cd sessions && S=$(mktemp -d ./XXXXXXXX) && echo 5 > $S/max_tokens && "
                "echo 1 > $S/ignore_eos && echo hello > $S/in && cat $S/out && rm -r $S && "
                "ls -d $S; mktemp -d -p $M/sessions | xargs rmdir")
    assert done.stdout, done
    assert "write error" not in done.stderr and done.returncode == 0, done


@claim()
def rm_r_removes_a_session(m):
    s = m.session()
    s.ask("hello")
    m.sh("rm -r $S", check=True, S=s.path)
    assert not exists(s.path) and s.name not in os.listdir(m("sessions"))
    os.mkdir(s.path)
    equal(s.messages(), [])
    os.rmdir(s.path)
    with refused(errno.ENOENT):
        os.rmdir(s.path)


@claim()
def a_session_has_no_room_for_other_files(m):
    s = m.session()
    with refused(errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP):
        os.mkdir(s("subdirectory"))
    with refused(errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP):
        os.symlink("x", s("link"))
    with refused(errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP):
        os.mkfifo(m("sessions", "fifo"))
    with refused(errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.EMLINK):
        os.link(s("system"), s("link"))


@claim()
def main_exists_from_the_start_and_cannot_be_removed(m):
    with refused(errno.EBUSY):
        os.rmdir(m("sessions", "main"))
    assert exists(m("sessions", "main", "in"))


@claim(limit=90)
def a_flood_of_sessions_is_stopped_at_a_thousand(m):
    have = len(os.listdir(m("sessions")))
    made = []
    with refused(errno.EDQUOT):
        while len(made) < 1100:
            os.mkdir(m("sessions", "flood%d" % len(made)))
            made.append("flood%d" % len(made))
    assert 998 <= have + len(made) <= 1001, have + len(made)
    done = m.sh("mkdir sessions/onemore")
    assert "Disk quota exceeded" in done.stderr, done
    assert len(os.listdir(m("sessions"))) >= 999
    for name in made:
        os.rmdir(m("sessions", name))
    os.mkdir(m("sessions", "again"))


@claim()
def an_unknown_file_is_not_there_and_cannot_be_made(m):
    for path in ("nothing", "models/tiny/nothing", "metrics/nothing", "sessions/none/in"):
        with refused(errno.ENOENT):
            read(m(path))
    for path in ("mine", "metrics/mine", "trace/mine"):
        with refused(errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.ENOTSUP,
                     errno.ENOENT):
            write(m(path), "x")
        with refused(errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.ENOTSUP):
            os.mkdir(m(path))


@claim()
def live_files_cannot_be_written(m):
    s = m.session()
    paths = [s(x) for x in ("chat", "status", "error", "usage", "trace", "events")]
    paths += [m(x) for x in ("version", "status", "metrics/requests_total", "models/tiny/state",
                             "models/tiny/info", "metrics/prometheus", "trace/recent.jsonl")]
    for path in paths:
        with refused(errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL):
            write(path, "x")


@claim()
def directories_of_later_work_do_not_appear(m):
    equal(set(os.listdir(m.path)), {"README", "version", "status", "http", "models", "sessions", "metrics",
                                    "trace", "guards", "budgets", "keys", "router", "cache"})


harness.main()
