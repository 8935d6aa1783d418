#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""interface.md 4: who may do what. A second and a third user against a daemon of root."""
import os
import stat

import harness
from harness import claim, equal, exists, read, write
from servers import Server, models

A, B = 12345, 23456


def session(m, user, name):
    """A session made by that user, with short answers."""
    m.sh("umask 022; mkdir sessions/%s && echo 5 > sessions/%s/max_tokens && "
         "echo 1 > sessions/%s/ignore_eos" % (name, name, name), check=True, user=user)
    return harness.Session(m, name)


def denied(m, user, script):
    done = m.sh(script, user=user)
    assert done.returncode != 0, "%r was allowed" % script
    assert "Permission denied" in done.stderr or "not permitted" in done.stderr, done.stderr
    return done


@claim(root=True)
def a_session_belongs_to_who_made_it_and_is_private(m):
    s = session(m, A, "private")
    st = os.stat(s.path)
    equal((st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)), (A, A, 0o700))
    assert m.sh("echo hello > $S/in; cat $S/out", user=A, S=s.path, check=True).stdout
    for script in ("ls sessions/private", "cat sessions/private/chat", "cat sessions/private/out",
                   "echo hi > sessions/private/in", "cat sessions/private/messages.json",
                   "echo cancel > sessions/private/ctl", "cat sessions/private/system"):
        denied(m, B, script)


@claim(root=True)
def ask_error_is_another_text_for_each_user(m):
    script = "exec 3<>models/short/ask; printf '\\377' >&3; "
    show = "cat models/short/ask_error; stat -c %s models/short/ask_error"
    m.sh(script, user=A)
    equal(m.sh(show, user=B, check=True).stdout, "0\n")
    equal(m.sh(show, check=True).stdout, "0\n")
    own = "ask: the prompt is not UTF-8 (byte 1)\n"
    equal(m.sh(show, user=A, check=True).stdout, own + "%d\n" % len(own))
    equal(m.sh("ls -l models/short >/dev/null; " + show, user=A, check=True).stdout,
          own + "%d\n" % len(own))


@claim(root=True)
def what_a_server_says_of_a_prompt_is_told_to_who_wrote_it_only(m):
    """A server whose errors quote what it was asked: they are in files that all may read as ours."""
    everything = ("find status models metrics trace router cache guards budgets -type f ! -name ask ! -name embed "
                  "! -name explain ! -name lookup ! -name test -exec grep -l hunter2 {} +; true")
    ask = "mkdir -p $S; echo far > $S/model; echo \"$P\" > $S/in; cat $S/out; cat $S/error"
    with Server() as server:
        far = {"endpoint": server.url("quote=500"), "retries": 0, "breaker_failures": 2}
        with models(m, far=far, vec=dict(far, breaker_failures=9)):
            write(m("cache", "embedding_model"), "vec\n")
            write(m("cache", "enabled"), "1\n")
            try:
                for i in range(2):
                    told = m.sh(ask, user=A, S="sessions/quoted%d" % i, P="my password is hunter2")
                    assert "cannot parse: my password is hunter2" in told.stdout, told
                    equal(m.sh(everything, user=B).stdout, "")
                    equal(m.sh("ls sessions/quoted%d" % i, user=B).stdout, "")
                told = m.sh(ask, user=B, S="sessions/bystander", P="and I?")
                assert "has failed 2 times (HTTP 500, the server failed); it is tried" in told.stdout, told
                told = m.sh("cat sessions/bystander/*; exec 3<>router/explain; echo hello >&3; cat <&3", user=B)
                assert '"dropped": [{"model": "far", "why": "down: ' in told.stdout, told
                assert "hunter2" not in told.stdout, told
                status = m.sh("cat status", user=B).stdout
                assert "(HTTP 500, the server failed)" in status, status
                assert "cache/embedding_model: " in status, status
                equal(m.sh(everything).stdout, "")  # and root
            finally:
                m.sh("rm -rf sessions/quoted? sessions/bystander")
                write(m("cache", "enabled"), "0\n")
                write(m("cache", "embedding_model"), "")


@claim(root=True)
def chmod_shares_a_session_for_reading(m):
    s = session(m, A, "shared")
    m.sh("echo hello > $S/in; cat $S/out >/dev/null; chmod 755 $S", user=A, S=s.path, check=True)
    assert "hello" in m.sh("cat $S/chat", user=B, S=s.path, check=True).stdout
    denied(m, B, "echo hi > sessions/shared/in")
    denied(m, B, "echo clear > sessions/shared/ctl")
    m.sh("chmod 700 $S", user=A, S=s.path, check=True)
    denied(m, B, "cat sessions/shared/chat")


@claim(root=True)
def chmod_shares_a_session_for_asking(m):
    s = session(m, A, "both")
    m.sh("chmod 777 $S", user=A, S=s.path, check=True)
    assert m.sh("echo hi > $S/in; cat $S/out", user=B, S=s.path, check=True).stdout


@claim(root=True)
def the_bits_of_files_follow_their_directory(m):
    s = session(m, A, "bits")
    for mode in (0o700, 0o750, 0o755, 0o770, 0o777):
        os.chmod(s.path, mode)
        equal(stat.S_IMODE(os.stat(s.path).st_mode), mode)
        bits = {f: stat.S_IMODE(os.stat(s(f)).st_mode) for f in os.listdir(s.path)}
        equal(oct(bits["chat"]), oct(mode & 0o444))
        equal(oct(bits["in"]), oct(mode & 0o666))
        equal(oct(bits["ctl"]), oct(mode & 0o666))
        equal(oct(bits["temperature"]), oct(mode & 0o666))
        equal(os.stat(s("chat")).st_uid, A)


@claim(root=True)
def the_sessions_directory_is_sticky(m):
    st = os.stat(m("sessions"))
    equal(oct(stat.S_IMODE(st.st_mode)), oct(0o1777))
    s = session(m, A, "sticky")
    os.chmod(s.path, 0o777)
    denied(m, B, "rmdir sessions/sticky")
    assert exists(s.path)
    m.sh("rm -r sessions/sticky", user=A, check=True)
    assert not exists(s.path)


@claim(root=True)
def others_cannot_chmod_or_chown_a_session(m):
    session(m, A, "held")
    denied(m, B, "chmod 777 sessions/held")
    denied(m, B, "chown %d sessions/held" % B)
    denied(m, A, "chown %d sessions/held" % B)


@claim(root=True)
def chown_by_root_gives_a_session_away(m):
    s = session(m, A, "given")
    os.chown(s.path, B, B)
    denied(m, A, "ls sessions/given")
    assert m.sh("echo hi > $S/in; cat $S/out", user=B, S=s.path, check=True).stdout


@claim(root=True)
def a_fork_belongs_to_who_says_it(m):
    s = session(m, A, "origin")
    os.chmod(s.path, 0o777)
    m.sh("echo 'fork copy' > $S/ctl", user=B, S=s.path, check=True)
    st = os.stat(m("sessions", "copy"))
    equal((st.st_uid, stat.S_IMODE(st.st_mode)), (B, 0o700))


@claim(root=True)
def main_belongs_to_the_daemons_user(m):
    equal(os.stat(m("sessions", "main")).st_uid, 0)
    denied(m, A, "cat sessions/main/chat")


@claim(root=True)
def models_belong_to_the_daemons_user(m):
    denied(m, A, "mkdir models/mine")
    denied(m, A, "echo /etc/passwd > models/tiny/path")
    denied(m, A, "rmdir models/tiny")
    denied(m, A, "echo unload > models/tiny/ctl")
    denied(m, A, "ln -sfn other models/default")
    denied(m, A, "rm models/default")
    m.sh("cat models/tiny/state models/tiny/info version status README; ls -lR models",
         user=A, check=True)


@claim(root=True)
def any_user_may_ask_a_model(m):
    done = m.sh("exec 3<> models/default/ask; echo hi >&3; head -c 10 <&3", user=A, check=True)
    assert done.stdout


@claim(root=True)
def any_user_may_make_a_session_with_mktemp(m):
    done = m.sh("S=$(mktemp -d sessions/XXXXXX) && stat -c '%u %a' $S && rmdir $S", user=B,
                check=True)
    equal(done.stdout, "%d 700\n" % B)


@claim(root=True)
def a_walk_by_a_user_shows_nothing_of_others(m):
    s = session(m, A, "walled")
    m.sh("echo 'my secret word' > $S/in; cat $S/out", user=A, S=s.path, check=True)
    done = m.sh("find . -type f ! -name ask ! -name out -exec cat {} + 2>/dev/null", user=B)
    assert "my secret word" not in done.stdout
    assert "walled" not in read(m("metrics", "prometheus"))


@claim(root=True)
def a_thousand_sessions_are_counted_for_each_user(m):
    m.sh("cd sessions && for i in $(seq 990); do mkdir u$i || exit 1; done", user=A, timeout=60)
    done = m.sh("cd sessions && for i in $(seq 100); do mkdir v$i || exit 1; done", user=A)
    assert "Disk quota exceeded" in done.stderr, done.stderr
    m.sh("mkdir sessions/other", user=B, check=True)


@claim(own=True, root=True)
def without_allow_other_no_other_user_gets_in(Mount):
    with Mount() as m:
        done = m.sh("ls", user=A)
        assert done.returncode == 99, done


harness.main(*(["-o", "allow_other"] if os.getuid() == 0 else []))
