#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""keys/: API keys, whose secrets are read once, by who has made them, and are kept nowhere."""
import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess

import harness
from harness import claim, equal, exists, read, refused, wait_for, write

SECRET = re.compile(r"sk-llmfs-[A-Za-z0-9_-]{43}\n")
NEW = "exec 3<>keys/%s/ctl; echo new >&3; cat <&3"
ME = str(os.getuid())


def make(m, name, user=ME):
    os.mkdir(m("keys", name))
    if user:
        write(m("keys", name, "user"), user + "\n")
    return lambda file: m("keys", name, file)


def new(m, name, shell="bash"):
    """A new secret, without the end of its line."""
    done = m.sh(NEW % name, shell=shell, check=True)
    equal(done.stderr, "")
    assert SECRET.fullmatch(done.stdout), done.stdout
    return done.stdout.rstrip("\n")


def kept(m, name):
    """What the state directory has of it; None: nothing."""
    path = os.path.join(m.state, "api_keys", name)
    return read(path).rstrip("\n") if exists(path) else None


def is_in_force(m, name, secret):
    """The digest that is kept is that one's."""
    equal(kept(m, name), "sha256:" + hashlib.sha256(secret.encode()).hexdigest())


def state(f):
    return read(f("state")).rstrip("\n")


def soon(f, word):
    wait_for(lambda: state(f) == word, "state " + word, explain=lambda: state(f))


def in_tree(m, *names):
    return os.path.join(m.tree, "keys", *names)


# ---- a secret ----

@claim()
def a_new_secret_is_read_once_from_the_handle_that_made_it(m):
    f = make(m, "once")
    equal(state(f), "no secret")
    for shell in ("bash", "dash"):
        secret = new(m, "once", shell)
        is_in_force(m, "once", secret)
        equal((state(f), read(f("error")), read(f("ctl"))), ("ready", "", ""))
        done = m.sh(NEW % "once" + "; echo -; cat <&3; cat <&3; echo new >&3; cat <&3; echo -; cat <&3",
                    shell=shell, check=True)
        parts = done.stdout.split("-\n")
        equal(len(parts), 3)
        assert SECRET.fullmatch(parts[0]) and SECRET.fullmatch(parts[1]) and parts[0] != parts[1], parts
        equal(parts[2], "")
        is_in_force(m, "once", parts[1].rstrip("\n"))
    m.sh("rm -r keys/once", check=True)


@claim()
def each_way_to_read_it_gives_all_of_it(m):
    f = make(m, "ways")
    for shell, script in (
            ("bash", "exec 3<>keys/ways/ctl; echo new >&3; read -r x <&3; echo $x"),
            ("dash", "exec 3<>keys/ways/ctl; echo new >&3; read -r x <&3; echo $x"),
            ("bash", "exec 3<>keys/ways/ctl; printf new >&3; cat <&3"),
            ("bash", "exec 3<>keys/ways/ctl; /bin/echo new >&3; dd bs=7 <&3 2> /dev/null"),
            ("bash", "exec 3<>keys/ways/ctl; echo new >&3; head -c 52 <&3; echo"),
            ("bash", "{ echo new >&0; cat; } <>keys/ways/ctl")):
        done = m.sh(script, shell=shell, check=True)
        assert SECRET.fullmatch(done.stdout), (script, done)
        is_in_force(m, "ways", done.stdout.rstrip("\n"))
    fd = os.open(f("ctl"), os.O_RDWR)
    os.write(fd, b"new\n")
    got = os.read(fd, 4096)
    equal(os.read(fd, 4096), b"")
    equal(os.pread(fd, 4096, 0), b"")
    os.close(fd)
    assert SECRET.fullmatch(got.decode()), got
    is_in_force(m, "ways", got.decode().rstrip("\n"))
    m.sh("rm -r keys/ways", check=True)


@claim()
def a_handle_that_cannot_read_makes_no_secret(m):
    f = make(m, "blind")
    secret = new(m, "blind")
    for script in ("echo new > keys/blind/ctl", "echo new >> keys/blind/ctl", "printf new > keys/blind/ctl"):
        done = m.sh(script)
        assert done.returncode and "Invalid argument" in done.stderr, (script, done)
        assert "3<>ctl" in read(f("error")), read(f("error"))
    is_in_force(m, "blind", secret)
    m.sh("echo revoke > keys/blind/ctl", check=True)
    equal((state(f), kept(m, "blind"), read(f("error"))), ("no secret", None, ""))
    done = m.sh("echo make > keys/blind/ctl")
    assert done.returncode and "new and revoke" in read(f("error")), read(f("error"))
    m.sh("rm -r keys/blind", check=True)


@claim()
def a_secret_that_nobody_read_is_revoked(m):
    f = make(m, "unread")
    for script in ("echo new 1<> keys/unread/ctl", "exec 3<>keys/unread/ctl; echo new >&3; head -c 20 <&3",
                   "exec 3<>keys/unread/ctl; echo new >&3; cat keys/unread/ctl /dev/fd/3"):
        done = m.sh(script, check=True)
        wait_for(lambda: "was not read" in read(f("error")), "error", explain=lambda: read(f("error")))
        equal((state(f), kept(m, "unread")), ("no secret", None))
        assert len(done.stdout) <= 20, done
    # One that somebody else has made since stays.
    old = os.open(f("ctl"), os.O_RDWR)
    os.write(old, b"new\n")
    secret = new(m, "unread")
    os.close(old)
    m.sh("sleep 0.3")
    is_in_force(m, "unread", secret)
    equal(state(f), "ready")
    m.sh("rm -r keys/unread", check=True)


@claim(limit=120)
def a_secret_is_in_no_file_and_no_walk_shows_or_consumes_it(m):
    f = make(m, "hidden")
    fd = os.open(f("ctl"), os.O_RDWR)
    os.write(fd, b"new\n")
    walks = m.sh("grep -r sk-llmfs- . $TREE; cp -a keys $T/copy; tar -cf $T/tar keys; tar -xOf $T/tar;"
                 " find keys -type f -exec cat {} + ; ls -lR keys; cat keys/hidden/ctl; rm -r $T/copy $T/tar",
                 T=m.top, timeout=60)
    assert "sk-llmfs-" not in walks.stdout + walks.stderr, walks
    secret = os.read(fd, 4096).decode().rstrip("\n")
    os.close(fd)
    is_in_force(m, "hidden", secret)
    m.stored()
    for part in (secret, secret[9:]):
        done = m.sh('grep -rF -e "$S" . $TREE $STATE', S=part, STATE=m.state, timeout=60)
        equal(done.stdout, "")
    assert secret[9:] not in m.log_text()
    own = os.path.join(m.state, "api_keys", "hidden")
    equal((os.stat(own).st_mode & 0o777, os.stat(os.path.dirname(own)).st_mode & 0o777), (0o600, 0o700))
    equal(sorted(os.listdir(in_tree(m, "hidden"))), ["user"])
    m.sh("rm -r keys/hidden", check=True)


@claim()
def a_key_that_is_made_again_is_another(m):
    f = make(m, "again")
    new(m, "again")
    old = os.open(f("ctl"), os.O_RDWR)
    os.rmdir(m("keys", "again"))
    equal(kept(m, "again"), None)
    f = make(m, "again")
    equal((state(f), kept(m, "again"), read(f("last_used"))), ("no secret", None, ""))
    with refused(errno.ENOENT):
        os.write(old, b"new\n")
    with refused(errno.ENOENT):
        os.close(old)
    equal(kept(m, "again"), None)
    new(m, "again")
    shutil.rmtree(in_tree(m, "again"))
    wait_for(lambda: not exists(m("keys", "again")), "the key goes")
    assert kept(m, "again")  # for a minute
    f = make(m, "again")
    equal((state(f), kept(m, "again")), ("no secret", None))
    m.sh("rm -r keys/again", check=True)


@claim()
def a_key_whose_directory_is_back_in_the_tree_has_its_secret_again(m):
    f = make(m, "back")
    secret = new(m, "back")
    old = os.open(f("ctl"), os.O_RDWR)
    away = os.path.join(m.top, "away")
    os.rename(in_tree(m, "back"), away)
    wait_for(lambda: not exists(m("keys", "back")), "the key goes")
    with refused(errno.ENOENT):
        os.write(old, b"new\n")
    with refused(errno.ENOENT):
        os.close(old)
    os.rename(away, in_tree(m, "back"))
    wait_for(lambda: exists(f("state")), "the key is there")
    soon(f, "ready")
    is_in_force(m, "back", secret)
    m.sh("rm -r keys/back", check=True)
    equal(kept(m, "back"), None)


# ---- settings ----

@claim()
def settings_are_plain_files_on_both_sides(m):
    f = make(m, "both", user=None)
    equal(state(f), "no user")
    write(f("user"), "root\n")
    write(f("scopes"), "chat model:tiny\n")
    equal((read(in_tree(m, "both", "user")), read(in_tree(m, "both", "scopes"))), ("root\n", "chat model:tiny\n"))
    write(in_tree(m, "both", "scopes"), "models\n")
    wait_for(lambda: read(f("scopes")) == "models\n", "scopes of TREE")
    for file, bad in (("user", "nobody-has-this-name"), ("user", "a b"), ("scopes", "chats"),
                      ("expires", "2026-02-30"), ("expires", "soon")):
        before = read(f(file))
        done = m.sh('echo "$V" > keys/both/%s' % file, V=bad)
        assert done.returncode and "Invalid argument" in done.stderr, (file, bad, done)
        assert read(f("error")).startswith(file + ": "), read(f("error"))
        equal((read(f(file)), exists(in_tree(m, "both", file))), (before, bool(before)))
    m.expects("keys/both/user in TREE: user: the system has no user nobody-has-this-name")
    write(in_tree(m, "both", "user"), "nobody-has-this-name\n")
    soon(f, "broken: user")
    assert "keys/both/user" in read(m("status"))
    os.unlink(in_tree(m, "both", "user"))
    soon(f, "no user")
    equal(read(m("status")), "ok\n")
    m.sh("rm keys/both/scopes", check=True)
    equal(read(f("scopes")), "")
    m.sh("rm -r keys/both", check=True)


@claim()
def a_key_expires(m):
    f = make(m, "short")
    new(m, "short")
    write(f("expires"), "2020-01-01\n")
    equal(state(f), "expired")
    write(f("expires"), "2999-12-31T00:00:00Z\n")
    equal(state(f), "ready")
    soon_over = subprocess.run(["date", "-u", "-d", "+1 sec", "+%Y-%m-%dT%H:%M:%SZ"], stdout=subprocess.PIPE,
                               check=True).stdout.decode()
    write(f("expires"), soon_over)
    soon(f, "expired")
    os.unlink(f("expires"))
    equal(state(f), "ready")
    m.sh("rm -r keys/short", check=True)


@claim(own=True)
def what_is_wrong_in_tree_is_told_before_a_mount(Mount):
    with Mount(start=False) as m:
        os.makedirs(in_tree(m, "me"))
        write(in_tree(m, "me", "user"), "nobody-has-this-name\n")
        write(in_tree(m, "me", "scope"), "chat\n")
        done = subprocess.run([harness.LLMFS, "--check", m.tree], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=30 * harness.slow())
        text = done.stdout.decode()
        assert done.returncode, text
        assert "keys/me/user: " in text and "no user nobody-has-this-name" in text, text
        assert "keys/me/scope: " in text and "did you mean scopes?" in text, text
        m.proc = None


# ---- who ----

@claim(root=True)
def other_users_make_no_keys_and_see_no_secrets(m):
    f = make(m, "mine")
    secret = new(m, "mine")
    for script in (NEW % "mine", "echo revoke > keys/mine/ctl", "mkdir keys/yours", "rmdir keys/mine",
                   "echo 12345 > keys/mine/user", "cat keys/mine/last_used", "cat keys/mine/ctl",
                   "rm keys/mine/user"):
        done = m.sh(script, user=12345)
        assert "Permission denied" in done.stderr or "not permitted" in done.stderr, (script, done)
        assert secret not in done.stdout
    is_in_force(m, "mine", secret)
    equal(state(f), "ready")
    m.sh("rm -r keys/mine", check=True)


# ---- a restart ----

@claim(own=True)
def a_secret_outlives_the_daemon_also_one_that_is_killed_at_once(Mount):
    with Mount() as m:
        f = make(m, "kept")
        fd = os.open(f("ctl"), os.O_RDWR)
        os.write(fd, b"new\n")
        secret = os.read(fd, 4096).decode().rstrip("\n")
        m.kill(signal.SIGKILL)
        m.wait()
        with refused(errno.ENOTCONN):
            os.close(fd)
        m.start()
        equal(state(f), "ready")
        is_in_force(m, "kept", secret)
        m.stop()
        m.start()
        equal((state(f), read(f("user"))), ("ready", ME + "\n"))
        is_in_force(m, "kept", secret)


@claim(own=True)
def a_key_that_is_not_there_at_a_start_has_its_secret_when_it_is_back(Mount):
    with Mount() as m:
        f = make(m, "one")
        secret, other = new(m, "one"), os.path.join(m.top, "other")
        m.stop()
        os.rename(in_tree(m, "one"), other)
        m.start()
        assert not exists(m("keys", "one"))
        is_in_force(m, "one", secret)
        m.stop()
        m.start()  # once more without it
        os.rename(other, in_tree(m, "one"))
        wait_for(lambda: exists(f("state")), "the key is there")
        soon(f, "ready")
        is_in_force(m, "one", secret)


@claim(own=True)
def a_secret_that_was_not_read_when_the_mount_ends_is_revoked(Mount):
    with Mount() as m:
        f = make(m, "open")
        fd = os.open(f("ctl"), os.O_RDWR)
        os.write(fd, b"new\n")
        assert kept(m, "open")
        m.stop()
        with refused(errno.ENOTCONN):
            os.close(fd)
        equal(kept(m, "open"), None)
        m.start()
        equal(state(f), "no secret")


harness.main(*(["-o", "allow_other"] if os.getuid() == 0 else []))
