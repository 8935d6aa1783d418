#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cache/: who gets an answer that was given before, and who must not."""
import errno
import json
import os
import pwd
import random
import shutil
import tempfile
import threading
import time

import harness
from harness import claim, equal, read, read_bytes, refused, shown, wait_for, write
from servers import ANSWER, Server, models

server = Server()
harness.CACHE = True


def used(s):
    """The cache's part in the newest answer, or None."""
    for line in read(s("usage")).splitlines():
        if line.split()[0] == "cache":
            return line.split()[1]
    return None


def asked():
    return len(server.requests())


def stats(m):
    return {k: float(v) for k, v in (x.split() for x in read(m("cache", "stats")).splitlines())}


def looked_up(m, prompt):
    with open(m("cache", "lookup"), "r+b", buffering=0) as f:
        f.write(prompt.encode())
        return json.loads(f.read(1 << 20))


def far(m, **settings):
    return m.session(model="far", **settings)


@claim()
def the_same_question_is_answered_once(m):
    server.reset()
    with models(m, far=server.url()):
        a, b = far(m), far(m)
        equal(a.ask("why is the sky blue?"), shown(ANSWER))
        equal((used(a), asked()), (None, 1))
        equal(b.ask("why is the sky blue?"), shown(ANSWER))
        equal((used(b), asked()), ("l1", 1))
        equal(b.usage("cost"), 0)
        equal(b.messages()[-1]["content"], ANSWER.decode())
        assert stats(m)["hits_l1"] >= 1


@claim()
def a_spent_budget_refuses_nothing_that_the_cache_has(m):
    me = pwd.getpwuid(os.getuid()).pw_name
    server.reset()
    with models(m, far=server.url()):
        write(m("models", "far", "price_output"), "1000000\n")
        s = far(m)
        long = "why? " * 2000
        for prompt in ("why is the sky blue?", long):
            s.ask(prompt)
            write(s("ctl"), "clear\n")
        write(m("budgets", me, "limit"), "0.01\n")
        try:
            with refused(errno.EDQUOT):
                write(s("in"), "why is the grass green?")
            assert "budget" in read(s("error")), read(s("error"))
            n = asked()
            s = far(m)
            equal(s.ask("why is the sky blue?"), shown(ANSWER))
            equal((used(s), s.usage("cost"), asked()), ("l1", 0, n))
            s = far(m)
            # In pieces of whole pages, as cp and cat write; the end is at the close.
            with open(s("in"), "wb", buffering=0) as f:
                for at in range(0, len(long), 4096):
                    f.write(long.encode()[at:at + 4096])
            equal(read_bytes(s("out")), shown(ANSWER))
            s = far(m)
            fd = os.open(s("in"), os.O_WRONLY)
            os.write(fd, b"x" * 8192)
            with refused(errno.EDQUOT):
                os.close(fd)
            equal(asked(), n)
            # The rules come first, and limits count.
            write(m("guards", "input", "t.rules"), "block sky /sky/\n")
            with refused(errno.EPERM):
                write(far(m)("in"), "why is the sky blue?")
            os.unlink(m("guards", "input", "t.rules"))
            write(m("budgets", me, "requests_per_day"), "1\n")
            with refused(errno.EAGAIN):
                write(far(m)("in"), "why is the sky blue?")
        finally:
            os.rmdir(m("budgets", me))


@claim()
def whatever_can_change_the_answer_misses(m):
    with models(m, far=server.url(), other=server.url()):
        far(m).ask("same")
        server.reset()
        server.control(answer='"JSON, too"')
        n = 0
        for change in ({"system": "Be brief."}, {"max_tokens": 13}, {"stop": "fox"}, {"seed": 7},
                       {"format": "json"}, {"top_p": 0.5}, {"ignore_eos": 0},
                       {"repetition_penalty": 1.1}, {"presence_penalty": 0.5},
                       {"frequency_penalty": -1}, {"model": "other"},
                       {"temperature": 0.5}, {"cache": "off"}):
            s = m.session(**dict({"model": "far"}, **change))
            s.ask("same")
            n += 1
            equal((change, used(s), asked()), (change, None, n))
        s = far(m)
        s.ask("another conversation")
        s.ask("same")
        equal(used(s), None)
    server.reset()


@claim()
def another_judge_misses_also_where_neither_is_loaded_when_it_is_looked_for(m):
    server.reset()
    os.mkdir(m("models", "judge"))
    write(m("models", "judge", "path"), harness.SHORT + "\n")
    write(m("guards", "moderation"), "model judge\nthreshold 1\nstages output\ncategory S1 Violence\n")
    try:
        with models(m, far=server.url()):
            for path, cache in ((harness.SHORT, None), (harness.SHORT, "l1"), (harness.MODEL, None)):
                write(m("models", "judge", "path"), path + "\n")
                s = far(m)
                s.ask("is it judged?")
                equal((path, used(s)), (path, cache))
                write(m("models", "judge", "ctl"), "unload\n")
    finally:
        os.unlink(m("guards", "moderation"))
        os.rmdir(m("models", "judge"))


@claim()
def another_user_misses_unless_the_scope_is_global(m):
    if os.getuid():
        raise harness.Skip("only root can be two users")
    with models(m, far=server.url()):
        far(m).ask("mine")
        server.reset()
        script = ("d=$(mktemp -d sessions/uXXXXXX) && echo far > $d/model && echo 1 > $d/ignore_eos && "
                  "echo 12 > $d/max_tokens && echo mine > $d/in && cat $d/out && { grep '^cache ' $d/usage || :; }")
        done = m.sh(script, user=12345)
        equal((done.stdout.splitlines(), done.stderr), ([ANSWER.decode()], ""))
        equal(asked(), 1)
        write(m("cache", "scope"), "global\n")
        try:
            done = m.sh(script, user=12345)
            done = m.sh(script, user=12346)
            equal(done.stdout.splitlines(), [ANSWER.decode(), "cache l1"])
        finally:
            write(m("cache", "scope"), "")


@claim(limit=120)
def equal_requests_at_once_cost_one_generation(m):
    server.reset()
    with models(m, far=server.url("pace=30")):
        sessions = [far(m) for _ in range(12)]
        for s in sessions:
            s.submit("all at once")
        for s in sessions:
            equal(read_bytes(s("out")), shown(ANSWER))
        equal(asked(), 1)
        equal(sum(used(s) == "shared" for s in sessions) + sum(used(s) == "l1" for s in sessions), 11)


@claim(limit=120)
def when_the_first_is_cancelled_the_others_get_their_answer_once(m):
    server.reset()
    with models(m, far=server.url()):
        server.control(next=["hang-middle"])
        sessions = [far(m) for _ in range(5)]
        sessions[0].submit("together")
        wait_for(lambda: asked() == 1, "one request")
        for s in sessions[1:]:
            s.submit("together")
        with open(sessions[1]("out"), "rb", buffering=0) as f:
            assert f.read(4), "a follower streams"
            sessions[0].cancel()
            for s in sessions[1:]:
                equal(read_bytes(s("out")), shown(ANSWER))
        equal(asked(), 2)


@claim()
def a_broken_answer_is_not_kept(m):
    server.reset()
    with models(m, far=server.url()):
        server.control(next=["close-middle"])
        s = far(m)
        s.submit("will it?")
        try:
            with open(s("out"), "rb", buffering=0) as f:
                while f.read(4096):
                    pass
        except OSError:
            pass
        equal(s.status(), "failed")
        s = far(m)
        equal((s.ask("will it?"), used(s)), (shown(ANSWER), None))


@claim()
def flush_and_enabled_take_effect_at_once(m):
    with models(m, far=server.url()):
        far(m).ask("to be forgotten")
        write(m("cache", "ctl"), "flush\n")
        s = far(m)
        s.ask("to be forgotten")
        equal(used(s), None)
        write(m("cache", "enabled"), "0\n")
        try:
            s = far(m)
            s.ask("to be forgotten")
            equal(used(s), None)
        finally:
            write(m("cache", "enabled"), "")
        with refused(errno.EINVAL):
            write(m("cache", "ctl"), "polish\n")


@claim()
def a_rule_that_changes_makes_old_answers_worthless(m):
    with models(m, far=server.url()):
        far(m).ask("guarded?")
        rules = m("guards", "output", "fox.rules")
        write(rules, "block fox /fox/\n")
        try:
            s = far(m)
            s.submit("guarded?")
            with refused(errno.EPERM):
                with open(s("out"), "rb", buffering=0) as f:
                    while f.read(4096):
                        pass
        finally:
            os.unlink(rules)


@claim()
def lookup_says_what_would_be_served(m):
    far_model = models(m, far=server.url())
    with far_model:
        os.unlink(m("models", "default"))
        os.symlink("far", m("models", "default"))
        try:
            s = m.session()
            os.unlink(s("ignore_eos"))
            os.unlink(s("max_tokens"))
            equal(s.ask("look me up"), shown(ANSWER))
            found = looked_up(m, "look me up")
            equal(found["outcome"], "hit")
            equal((found["exact"]["level"], found["exact"]["served"]), ("l1", True))
            found = looked_up(m, "look another one up")
            equal((found["outcome"], found["exact"]), ("miss", None))
            write(m("cache", "enabled"), "0\n")
            found = looked_up(m, "look me up")
            equal((found["outcome"], found["exact"]["served"]), ("miss", False))
            assert found["exact"]["why"], found
            write(m("cache", "enabled"), "")
            write(m("cache", "ctl"), "flush\n")
            equal(looked_up(m, "look me up")["outcome"], "miss")
        finally:
            write(m("cache", "enabled"), "")
            os.unlink(m("models", "default"))
            os.symlink("tiny", m("models", "default"))


@claim(own=True)
def what_is_not_looked_for_is_told_with_the_reason_and_in_the_same_shape(Mount):
    with Mount() as m:
        wait_for(lambda: read(m("models", "tiny", "state")) == "ready\n", "loaded model")
        shape = list(looked_up(m, "hello"))
        assert "no_vector" in shape, shape
        wanted = ["not_looked_for" if x == "no_vector" else x for x in shape]
        for target, why in (("gone", "models/default names no model that is there"),
                            ("short", "the model short is not loaded")):
            os.unlink(m("models", "default"))
            os.symlink(target, m("models", "default"))
            found = looked_up(m, "hello")
            equal(list(found), wanted)
            equal((found["exact"], found["nearest"], found["outcome"]), (None, [], "miss"))
            assert found["not_looked_for"].startswith(why), found


@claim(own=True)
def what_was_stored_is_there_after_a_restart_and_a_kill(Mount):
    with Mount() as m, models(m, far=server.url()):
        far(m).ask("to be remembered")
        wait_for(lambda: stats(m).get("disk_bytes", 0) > 0, "entry on disk")
        m.stop()
        m.start()
        server.reset()
        s = far(m)
        equal((s.ask("to be remembered"), used(s), asked()), (shown(ANSWER), "l2", 0))
        far(m).ask("another")
        m.kill()
        m.wait()
        m.start()
        s = far(m)
        equal(s.ask("to be remembered"), shown(ANSWER))
        equal(used(s), "l2")


@claim(own=True)
def an_answer_to_what_would_be_rendered_otherwise_today_is_not_served(Mount):
    """The file is the same for stat(2), and the program that reads it finds another system message in it: as one that
    has learned to read it finds one."""
    header = b"<|im_start|>system\n"

    def put(path, opening):
        with open(path, "rb+") as f:
            data, times = f.read(), os.stat(path)
            at = max(data.find(header), data.find(b"{% for message in messages %}"))
            f.seek(at)
            f.write(header + opening + b"<|im_end|>")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    with tempfile.TemporaryDirectory() as top:
        path = os.path.join(top, "own.gguf")
        shutil.copy(harness.SHORT, path)
        with Mount(model=path) as m, models(m, far=server.url()):
            m.session(max_tokens=8).ask("who are you?")
            far(m).ask("who are you?")
            for opening, found in ((b"Be kind.", None), (None, "l2"), (b"Be wise.", None), (None, "l2")):
                m.stop()
                if opening:
                    put(path, opening)
                m.start()
                s = m.session(max_tokens=8)
                s.ask("who are you?")
                equal((opening, used(s)), (opening, found))
                server.reset()
                s = far(m)
                equal((s.ask("who are you?"), used(s), asked()), (shown(ANSWER), "l2", 0))


@claim(own=True, limit=120)
def the_first_question_after_a_mount_finds_what_was_stored_before_it(Mount):
    """Asked at once, while the model is being loaded: it is one of some megabytes."""
    with Mount(model=os.path.join(harness.ROOT, "mnt-example", "models", "guide", "guide.gguf")) as m:
        first = m.session().ask("to be remembered")
        for i in range(8):
            if i % 2:
                m.kill()
                m.wait()
            else:
                m.stop()
            m.start()
            s = m.session()
            equal((i, s.ask("to be remembered"), used(s)), (i, first, "l2"))


@claim(own=True, limit=60)
def who_waits_for_the_model_before_he_looks_can_be_cancelled_and_told_why_there_is_none(Mount):
    with Mount() as m:
        wait_for(lambda: read(m("models", "tiny", "state")) == "ready\n", "loaded model")
        os.mkdir(m("models", "bad"))
        with open(os.path.join(m.top, "bad.gguf"), "wb") as f:
            f.write(b"GGUF" + bytes(100))
        write(m("models", "bad", "path"), os.path.join(m.top, "bad.gguf") + "\n")
        m.expects("bad")
        s = m.session(model="bad")
        s.submit("hello")
        with refused(errno.EBADMSG, errno.ENOTSUP):
            read_bytes(s("out"))
        assert "GGUF" in read(s("error")), read(s("error"))
        for i in range(10):
            write(m("models", "tiny", "ctl"), "unload\n")
            s = m.session()
            s.submit("not asked before %d" % i)
            s.cancel()
            s.wait("cancelled", "done")
        assert m.session().ask("and it goes on")


@claim(own=True, limit=180)
def a_kill_while_answers_are_stored_tears_none(Mount):
    """The server says of each question what only that question gets, some 20 kB of it. Killed at any moment, the daemon
    serves nothing else afterwards, whether it has an answer or not."""
    kills, dice, faults, n, from_disk = 20, random.Random(4), [], 0, 0

    def check(m, i):
        prompt = "question %d, " % i + " " * (i % 97) + "."  # long, of few tokens
        with open(m("models", "far", "ask"), "r+b", buffering=0) as f:
            f.write(prompt.encode())
            got = b"".join(iter(lambda: f.read(65536), b""))
        assert got == (prompt + "\n").encode() * 400, "%d bytes for %r" % (len(got), prompt)

    def store(m):
        nonlocal n
        try:
            while True:
                n += 1
                check(m, n)
        except OSError:
            pass  # it was killed
        except AssertionError as e:
            faults.append(e)

    with Mount() as m, models(m, far=server.url("echo=400")):
        for _ in range(kills):
            writer = threading.Thread(target=store, args=(m,))
            writer.start()
            time.sleep(0.05 + dice.random() / 5)
            m.kill()
            m.wait()
            writer.join()
            m.start()
            before = stats(m).get("hits_l2", 0)
            for i in range(max(1, n - 12), n + 1):
                check(m, i)
            for _ in range(4):
                check(m, dice.randint(1, n))
            from_disk += stats(m)["hits_l2"] - before
            equal((read(m("status")), faults), ("ok\n", []))
        print("    %d kills, %d questions, %d answers came from the disk" % (kills, n, from_disk))
        assert from_disk > kills, "only %d answers came from the disk" % from_disk


try:
    harness.main(*(["-o", "allow_other"] if os.getuid() == 0 else []))
finally:
    server.close()
