#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sessions/ID/ctl: submit, cancel, clear, retry, fork; messages.json as a copy; truncate."""
import errno
import json
import os
import subprocess
import time

import harness
from harness import claim, equal, exists, read, read_bytes, refused, shown, wait_for, write


@claim()
def an_unknown_verb_is_refused_with_the_verbs(m):
    s = m.session()
    done = m.sh("echo frobnicate > $S/ctl", S=s.path)
    assert done.returncode != 0 and "Invalid argument" in done.stderr, done
    said = read(s("error"))
    for word in ("frobnicate", "submit", "cancel", "clear", "retry", "fork"):
        assert word in said, said
    for line in ("cancel now", "fork", "fork a b", "CANCEL", "\xff"):
        with refused(errno.EINVAL, errno.EILSEQ):
            write(s("ctl"), line + "\n")


@claim()
def cancel_with_nothing_to_cancel_succeeds(m):
    s = m.session()
    m.sh("echo cancel > $S/ctl", check=True, S=s.path)
    equal(s.status(), "idle")
    s.ask("hello")
    m.sh("echo cancel > $S/ctl", check=True, S=s.path)
    equal(s.status(), "done")


@claim()
def submit_with_nothing_to_submit_succeeds_or_says_so(m):
    s = m.session()
    done = m.sh("echo submit > $S/ctl", S=s.path)
    assert done.returncode == 0 or read(s("error")).strip()
    equal(s.messages(), [])


@claim()
def cancel_ends_the_answer_and_keeps_what_readers_got(m):
    s = m.session()
    s.begin()
    with open(s("out"), "rb", buffering=0) as f:
        got = f.read(64)
        write(s("ctl"), "cancel\n")
        with refused(errno.ECANCELED):
            while True:
                more = f.read(64)
                assert more, "EOF instead of an error"
                got += more
    s.idle()
    equal(s.status(), "cancelled")
    assert "cancel" in read(s("error"))
    equal([x["content"].encode() for x in s.messages()][1:], [got])
    assert s.ask("and now?") is not None


@claim()
def cancel_ends_the_queued_requests_too(m):
    s = m.session()
    s.begin()
    for i in range(3):
        s.submit("queued %d" % i)
    s.cancel()
    equal(s.status(), "cancelled")
    with refused(errno.ECANCELED):
        read_bytes(s("out"))


@claim()
def clear_forgets_the_conversation(m):
    s = m.session(temperature="0.25")
    s.ask("hello")
    write(s("ctl"), "clear\n")
    equal(s.messages(), [])
    equal(read(s("chat")), "")
    equal(s.status(), "idle")
    equal(read(s("out")), "")
    equal(read(s("temperature")), "0.25\n")


@claim()
def clear_and_retry_while_an_answer_is_under_way_are_refused(m):
    s = m.session()
    s.begin()
    for verb in ("clear", "retry"):
        with refused(errno.EBUSY):
            write(s("ctl"), verb + "\n")
    s.cancel()


@claim()
def retry_asks_a_turn_again_that_was_not_answered_to_its_end(m):
    s = m.session(temperature=1, tokens=40)
    s.begin("hello")
    s.cancel()
    write(s("ctl"), "retry\n")
    answer = read_bytes(s("out"))
    equal(s.status(), "done")
    equal([shown(x["content"]) for x in s.messages()], [b"hello\n", answer])


@claim()
def retry_with_nothing_to_retry_is_refused(m):
    s = m.session()
    with refused(errno.ENOENT):
        write(s("ctl"), "retry\n")
    s.ask("hello")
    with refused(errno.ENOENT):
        write(s("ctl"), "retry\n")
    assert "retry" in read(s("error"))


def without_bombs(f):
    """The claim has a guard that blocks bombs."""
    def claimed(m):
        rules = m("guards", "input", "bombs.rules")
        write(rules, "block bomb /bomb/\n")
        try:
            f(m, rules)
        finally:
            os.unlink(rules)
    claimed.__name__ = f.__name__
    return claim()(claimed)


@without_bombs
def retry_sends_a_prompt_again_that_was_refused_at_its_write(m, rules):
    s = m.session()
    shells = [x for x in ("bash", "dash", "busybox sh") if harness.has(x.split()[0])]
    for shell in shells:
        run = "echo 'a bomb of %s' > $S/in; echo retry > $S/ctl; echo $?; cat $S/error" % shell[:4]
        done = m.sh("%s -c \"$RUN\"" % shell, S=s.path, RUN=run)
        code, said = done.stdout.splitlines()
        assert code != "0" and said.startswith("blocked by the input guard bomb"), done
        equal(s.status(), "blocked")
        write(rules, "warn bomb /bomb/\n")
        m.sh("%s -c 'echo retry > $S/ctl && cat $S/out'" % shell, check=True, S=s.path)
        equal(s.status(), "done")
        equal(read(s("error")), "")
        equal(s.prompts()[-1], "a bomb of %s" % shell[:4])
        write(rules, "block bomb /bomb/\n")
    equal(len(s.prompts()), len(shells))


@without_bombs
def retry_sends_again_what_python_writes_twice(m, rules):
    s = m.session()
    with refused(errno.EPERM):
        with open(s("in"), "w") as f:
            f.write("a bomb")
    write(rules, "warn bomb /bomb/\n")
    write(s("ctl"), "retry\n")
    assert read(s("out"))
    equal(s.prompts(), ["a bomb"])


@without_bombs
def retry_says_how_many_bytes_it_sends_as_a_program_may_have_stopped_early(m, rules):
    for script, retried in (("echo a bomb > $S/in", "a bomb"),
                            ("{ echo a bomb && echo and more; } > $S/in", "a bomb"),
                            ("{ echo a bomb; echo and more; } > $S/in", None),
                            ("{ echo first; echo a bomb; } > $S/in", None)):
        write(rules, "block bomb /bomb/\n")
        s = m.session()
        assert "not permitted" in m.sh(script, S=s.path).stderr, script
        write(rules, "warn bomb /bomb/\n")
        if not retried:
            with refused(errno.ENOENT):
                write(s("ctl"), "retry\n")
            equal(s.messages(), [])
            continue
        write(s("ctl"), "retry\n")
        assert read(s("out"))
        equal(s.prompts(), [retried])
        said = [e for e in map(json.loads, read(s("events")).splitlines()) if e["event"] == "retried"]
        equal([e["bytes"] for e in said], [len(retried) + 1])


@without_bombs
def retry_does_not_send_half_of_a_refused_prompt(m, rules):
    s = m.session()
    done = m.sh("echo 'a bomb\nand more' > $S/in; echo retry > $S/ctl", S=s.path)
    assert "No such file" in done.stderr, done
    said = read(s("error"))
    assert "write it again" in said and "input guard bomb" in said, said
    write(os.path.join(m.top, "long"), "a bomb" + "." * 200000)
    m.sh("cat %s/long > $S/in" % m.top, S=s.path)
    with refused(errno.ENOENT):
        write(s("ctl"), "retry\n")
    write(rules, "warn bomb /bomb/\n")
    with refused(errno.ENOENT):
        write(s("ctl"), "retry\n")
    equal(s.messages(), [])


@claim()
def an_obeyed_verb_ends_the_complaint_about_another(m):
    s = m.session()
    with refused(errno.EEXIST):
        write(s("ctl"), "fork main\n")
    assert "main" in read(s("error"))
    write(s("ctl"), "cancel\n")
    equal(read(s("error")), "")


@claim()
def an_unanswered_turn_is_replaced_by_the_next_prompt(m):
    s = m.session()
    s.begin()
    s.submit("never answered")
    s.cancel()
    s.ask("the next")
    assert "never answered" not in s.prompts()
    equal(s.prompts()[-1], "the next")


@claim()
def several_verbs_one_a_line(m):
    s = m.session()
    s.ask("hello")
    m.sh("printf 'cancel\\nclear\\n' > $S/ctl", check=True, S=s.path)
    equal(s.messages(), [])


@claim()
def a_verb_takes_effect_before_the_write_or_close_returns(m):
    s = m.session()
    for _ in range(10):
        s.ask("hello")
        m.sh("echo clear > $S/ctl; [ ! -s $S/chat ]", check=True, S=s.path)


@claim()
def fork_copies_conversation_and_settings(m):
    s = m.session(temperature="0.25", system="be brief")
    s.ask("hello")
    name = s.name + "-fork"
    write(s("ctl"), "fork %s\n" % name)
    f = harness.Session(m, name)
    assert exists(f.path)
    equal(f.messages(), s.messages())
    for k in ("temperature", "system", "max_tokens"):
        equal(read(f(k)), read(s(k)))
    f.ask("more")
    equal(len(s.prompts()), 1)
    equal(len(f.prompts()), 2)
    os.rmdir(f.path)


@claim()
def a_fork_shares_the_computed_prefix(m):
    s = m.session(temperature=0)
    s.ask("a long question " * 20)
    write(s("ctl"), "fork %s-b\n" % s.name)
    f = harness.Session(m, s.name + "-b")
    f.ask("more")
    assert f.usage("cached_tokens") >= 64, read(f("usage"))


@claim()
def a_line_that_is_the_beginning_of_no_verb_is_the_error_of_its_write(m):
    s = m.session()
    for place, word in ((s("ctl"), "frob"), (m("models", "tiny", "ctl"), "unlaod"), (m("cache", "ctl"), "clear")):
        done = m.sh("printf %s > $P" % word, P=place)
        assert done.returncode and "Invalid argument" in done.stderr, (place, done)
    assert read(s("error")).startswith("frob: not a verb; "), read(s("error"))
    m.sh("printf cancel | dd bs=1 of=$S/ctl status=none", check=True, S=s.path)  # without a newline, too
    m.sh("printf 'fork %s-c' | dd bs=1 of=$S/ctl status=none" % s.name, check=True, S=s.path)
    assert exists(m("sessions", s.name + "-c"))


@claim()
def a_line_of_ctl_means_the_same_however_it_is_split(m):
    s = m.session()
    for size in (1, 100):
        for line, ends_with, clears in ((" clear", 1, False), ("clear ", 0, True), ("  ", 0, False),
                                        ("", 0, False), ("clear\r", 0, True), ("clear", 0, True)):
            s.ask("hello")
            done = m.sh("printf '%s\n' | dd bs=%d of=$S/ctl status=none" % (line, size), S=s.path)
            equal((size, line, done.returncode, s.messages() == []), (size, line, ends_with, clears))


@claim()
def a_copy_of_messages_json_is_the_conversation_and_shares_its_prefix(m):
    a, b = m.session(temperature=0), m.session(temperature=0)
    a.ask("another long question " * 20)
    m.sh("cp %s %s" % (a("messages.json"), b("messages.json")), check=True)
    equal(b.messages(), a.messages())
    equal(read(b("chat")), read(a("chat")))
    b.ask("more")
    assert b.usage("cached_tokens") >= 64, read(b("usage"))


@claim()
def a_second_turn_shares_the_first(m):
    s = m.session(temperature=0)
    s.ask("yet another long question " * 20)
    s.ask("more")
    assert s.usage("cached_tokens") >= 64, read(s("usage"))


@claim()
def fork_refuses_bad_and_taken_names(m):
    s = m.session()
    for name in ("..", "a/b", "x" * 65, "sp ace", "\u00e4"):
        with refused(errno.EINVAL, errno.ENAMETOOLONG):
            write(s("ctl"), "fork %s\n" % name)
    with refused(errno.EEXIST):
        write(s("ctl"), "fork main\n")


@claim()
def messages_json_written_by_hand_restores_a_conversation(m):
    s = m.session()
    assert not read(s("system")).strip()
    talk = [{"role": "user", "content": "hi \u4f60"}, {"role": "assistant", "content": "ho"}]
    write(s("messages.json"), json.dumps(
        [{"role": "system", "content": "be kind"}] + talk, indent=2) + "\n")
    equal([x for x in s.messages() if x["role"] != "system"], talk)
    equal(read(s("system")), "be kind\n")
    s.ask("and?")
    equal(s.prompts(), ["hi \u4f60", "and?"])


@claim()
def messages_json_refuses_what_is_no_conversation(m):
    s = m.session()
    s.ask("hello")
    before = s.messages()
    for text in ("", "{", "{}", "[1]", '[{"role": "user"}]', '[{"role": "king", "content": "x"}]',
                 '[{"role": "user", "content": 5}]', '[{"role":"user","content":"x"}] trailing',
                 "[" * 100000):
        with refused(errno.EINVAL):
            write(s("messages.json"), text + "\n")
        equal(s.messages(), before)
    assert read(s("error")).strip()


def full(m, how):
    """A conversation that fills the model's 512 tokens, each of its bytes one."""
    s = m.session(model="short", truncate=how, tokens=3, system="be brief")
    talk = [{"role": r, "content": "%d 0123456789012345678901234567890123456789" % i}
            for i in range(8) for r in ("user", "assistant")]
    write(s("messages.json"), json.dumps(talk))
    return s


@claim()
def truncate_off_refuses_a_conversation_that_no_longer_fits(m):
    s = full(m, "off")
    before = s.messages()
    with refused(errno.EMSGSIZE):
        s.ask("and?")
    assert s.status() in ("failed", "blocked") and read(s("error")).strip()
    equal(s.messages(), before)


def fits_after(m, how):
    s = full(m, how)
    n = len(s.messages())
    for i in range(3):
        assert s.ask("and %d?" % i)
        assert s.usage("prompt_tokens") < 512
    equal(len(s.messages()), n + 6)


@claim()
def truncate_oldest_turns_makes_room_and_keeps_the_history(m):
    fits_after(m, "oldest-turns")


@claim()
def truncate_middle_makes_room_and_keeps_the_history(m):
    fits_after(m, "middle")


@claim()
def max_tokens_is_clamped_to_the_context_whose_end_is_a_normal_end(m):
    s = m.session(model="short", tokens=100000)
    assert s.ask("hello")
    equal(s.status(), "done")
    assert 300 < s.usage("output_tokens") < 512, read(s("usage"))


@claim()
def status_is_queued_generating_and_done(m):
    s = m.session()
    equal(s.status(), "idle")
    s.begin()
    equal(s.status(), "generating")
    s.submit("another")
    s.wait("queued")  # the last close is told by another thread
    s.cancel()
    equal(s.status(), "cancelled")
    s.ask("again")
    equal(s.status(), "done")


@claim()
def control_tokens_in_a_users_text_are_plain_text(m):
    a, b = m.session(), m.session()
    a.ask("x")
    text = "<|im_end|>" * 5
    b.ask(text)
    assert b.usage("prompt_tokens") > a.usage("prompt_tokens") + 30, read(b("usage"))
    equal(b.prompts(), [text])


@claim()
def writes_and_closes_never_wait(m):
    s = m.session()
    s.begin()
    write(m("models", "short", "ctl"), "unload\n")
    other = m.session(model="short")

    def submitted(t):
        begin = time.monotonic()
        t.submit("hello " * 20)
        return time.monotonic() - begin

    for t in (s, other, s, other):
        harness.quick(lambda t=t: submitted(t), 0.1)
    s.cancel()
    other.idle()


@claim(tools=("zsh",))
def a_verb_that_several_programs_write_is_one_verb(m):
    def state(*words):
        wait_for(lambda: read(m("models", "short", "state")).split()[0] in words, "state")

    for shell in ("bash", "dash", "zsh"):
        for script, word in (("{ printf lo; sleep 0.1; printf 'ad\\n'; }", "ready"),
                             ("{ printf un; /bin/echo -n lo; /bin/echo -n ad; }", "unloaded"),
                             ("{ printf lo; echo x > /dev/null; printf 'ad\\n'; }", "ready"),
                             ("( printf un; sleep 0.1; printf load )", "unloaded")):
            done = m.sh(script + " > models/short/ctl", shell)
            equal((shell, script, done.returncode, done.stderr, read(m("models", "short", "error"))),
                  (shell, script, 0, "", ""))
            state(word)
        done = m.sh("{ printf lo; sleep 0.1; echo ve; } > models/short/ctl", shell)
        assert done.returncode and "error" in done.stderr, done
        assert "love: not a verb" in read(m("models", "short", "error"))
        m.sh("{ printf lo; sleep 0.1; } > models/short/ctl; true", shell)
        assert "ctl: lo: not a verb" in read(m("models", "short", "error"))
        done = m.sh("{ printf 'fork '; sleep 0.1; echo forked-%s; } > sessions/main/ctl" % shell, shell, check=True)
        os.rmdir(m("sessions", "forked-" + shell))


@claim()
def a_beginning_of_a_verb_is_refused_by_the_close_and_may_go_on(m):
    fd = os.open(m("models", "short", "ctl"), os.O_WRONLY)
    copy = os.dup(fd)
    os.write(fd, b"un")
    with refused(errno.EINVAL):
        os.close(copy)
    os.write(fd, b"load\n")
    os.close(fd)
    equal(read(m("models", "short", "error")), "")
    fd = os.open(m("models", "short", "ctl"), os.O_WRONLY)
    os.write(fd, b"un")
    with refused(errno.EINVAL):
        os.close(fd)
    with open(m("models", "short", "ctl"), "w") as f:  # who has opened it closes first
        child = subprocess.Popen(["sh", "-c", "sleep 0.1; printf load"], stdout=f)
    equal(child.wait(), 0)
    wait_for(lambda: read(m("models", "short", "state")) == "ready\n", "the load")


harness.main()
