#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""models/NAME as files of an upstream: its settings, the key that nobody reads, references to secrets
in TREE; models/auto and models/cascade, which are always there. What servers answer is not here."""
import errno
import os
import shutil
import signal
import stat
import threading

import harness
from harness import MODEL, claim, equal, exists, read, refused, wait_for, write

NUMBERS = ["context", "max_tokens", "weight", "requests_max", "queue_max", "queue_timeout_ms",
           "connect_timeout_ms", "first_byte_timeout_ms", "idle_timeout_ms", "timeout_ms", "retries",
           "breaker_failures", "breaker_successes", "breaker_open_ms"]
SETTINGS = {
    "path": ([MODEL], []),
    "endpoint": (["http://127.0.0.1:1/v1", "https://127.0.0.1:1/v1\nhttp://127.0.0.1:2/v1 weight=2"],
                 ["not a url"]),
    "protocol": (["openai", "anthropic"], ["grpc", "OpenAI"]),
    "remote_name": (["gpt-4o-mini", "org/model:latest"], []),
    "template": (["chatml"], ["klingon"]),
    "backend": (["auto", "cpu", "cuda"], ["gpu"]), "gpu": (["0", "3"], ["-1", "256"]),
    "price_input": (["0.15"], ["cheap"]), "price_cached": (["0.075"], ["-1"]),
    "price_output": (["0.60"], ["x"]),
    "quality": (["0", "0.8", "1"], ["good"]),
    "capabilities": (["chat", "chat json"], []),
    "fallback": (["tiny", "tiny short"], []),
    "retry_ratio": (["0.1", "0"], ["often"]),
    "health_interval_ms": (["0", "1000"], ["many", "7"]),
    "proxy": (["none", "http://127.0.0.1:3128"], ["http://user:password@127.0.0.1:3128"]),
    "ca_file": (["/etc/ssl/certs/ca-certificates.crt"], []),
    **{name: (["7", "9"], ["many", "-1"]) for name in NUMBERS},
}
LIVE = {"error": 0o400,
        "key": 0o200, "ctl": 0o200, "ask": 0o666, "embed": 0o666, "state": 0o444, "info": 0o444,
        "metrics": 0o444}
SECRET = "sk-proj-Zq83hVxTestOnly"
SECRETS = (SECRET, "token-abc123", "correcthorsebattery", "user:correct-horse")


def model(m, name):
    os.mkdir(m("models", name))
    return lambda *names: m("models", name, *names)


def in_tree(m, *names):
    return os.path.join(m.tree, "models", *names)


def kept(m, name):
    """What the state directory has as that model's key; None: nothing."""
    path = os.path.join(m.state, "keys", name)
    return read(path).rstrip("\n") if exists(path) else None


def soon(done, what, explain=None):
    wait_for(done, what + " within a second", 1.5, explain)


def has_key(m, name, value):
    soon(lambda: kept(m, name) == value, "key %r" % value, lambda: repr(kept(m, name)))


def status_has(m, *words):
    soon(lambda: all(w in read(m("status")) for w in words), "report", lambda: read(m("status")))


def status_is_ok(m):
    soon(lambda: read(m("status")) == "ok\n", "end of the report", lambda: read(m("status")))


def passed(m):
    """Returns when all that was in TREE before has been seen: by the pass that ends this fault."""
    m.expects("models/probe/protocol")
    os.mkdir(in_tree(m, "probe"))
    write(in_tree(m, "probe", "protocol"), "grpc\n")
    status_has(m, "models/probe/protocol")
    shutil.rmtree(in_tree(m, "probe"))
    status_is_ok(m)


# ---- settings ----

@claim()
def error_says_what_was_wrong_with_the_last_write(m):
    f = model(m, "wrong")
    equal(read(f("error")), "")
    with refused(errno.EINVAL):
        write(f("protocol"), "grpc\n")
    equal(read(f("error")), "protocol: must be openai or anthropic\n")
    with refused(errno.EINVAL):
        write(f("ctl"), "jump\n")
    assert read(f("error")).startswith("ctl: jump: "), read(f("error"))
    with refused(errno.EINVAL):
        write(f("key"), "sk-\x01canary\n")
    assert "key: " in read(f("error")) and "canary" not in read(f("error")), read(f("error"))
    # A list of which a later line is refused: what was before is put back, and the fault stays.
    done = m.sh("printf 'http://127.0.0.1:1/v1\nftp://x\n' > models/wrong/endpoint")
    assert "endpoint: " in read(f("error")), (read(f("error")), done)
    write(f("protocol"), "openai\n")
    equal(read(f("error")), "")
    for file, value in (("router/policy", "luck"), ("cache/ttl", "soon")):
        directory, name = file.split("/")
        with refused(errno.EINVAL):
            write(m(directory, name), value + "\n")
        assert read(m(directory, "error")).startswith(name + ": "), read(m(directory, "error"))
        os.unlink(m(directory, name))
        equal(read(m(directory, "error")), "")
    # One of the same name is another.
    with refused(errno.EINVAL):
        write(f("quality"), "good\n")
    os.rmdir(f())
    f = model(m, "wrong")
    equal(read(f("error")), "")
    os.rmdir(f())
    me = m.sh("id -un").stdout.strip()
    with refused(errno.EINVAL):
        m.sh("mkdir -p budgets/%s" % me, check=True)
        write(m("budgets", me, "limit"), "much\n")
    assert read(m("budgets", me, "error")).startswith("limit: must be dollars")
    os.rmdir(m("budgets", me))


@claim()
def a_model_is_copied_by_copying_its_directory_in_the_tree(m):
    f = model(m, "original")
    write(f("endpoint"), "http://127.0.0.1:1/v1\n")
    write(f("price_input"), "0.4\n")
    write(f("key"), SECRET + "\n")
    m.sh("cp -r $T/models/original $T/models/copied", T=m.tree, check=True)
    soon(lambda: exists(m("models", "copied")), "models/copied")
    copied = lambda name: m("models", "copied", name)
    soon(lambda: read(copied("price_input")) == "0.4\n", "its price")
    equal(read(copied("endpoint")), "http://127.0.0.1:1/v1\n")
    has_key(m, "copied", None)
    for name in ("original", "copied"):
        os.rmdir(m("models", name))


@claim()
def every_file_is_there_with_its_bits(m):
    f = model(m, "files")
    equal(set(os.listdir(f())), set(SETTINGS) | set(LIVE))
    for name in os.listdir(f()):
        st = os.stat(f(name))
        equal((name, st.st_uid, st.st_mode), (name, os.geteuid(),
                                              stat.S_IFREG | LIVE.get(name, 0o644)))
    m.sh("rm -r models/files", check=True)


@claim(limit=60)
def a_good_value_comes_back_and_is_in_tree(m):
    f = model(m, "good")
    for name, (values, _) in SETTINGS.items():
        for value in values:
            write(f(name), value + "\n")
            equal((name, read(f(name)), read(in_tree(m, "good", name))),
                  (name,) + (value + "\n",) * 2)
        os.unlink(f(name))
        equal((name, read(f(name))), (name, ""))
        assert not exists(in_tree(m, "good", name)), name
    equal(read(m("status")), "ok\n")
    m.sh("rm -r models/good", check=True)


@claim(limit=60)
def nonsense_is_refused_at_the_write_and_changes_nothing(m):
    f = model(m, "bad")
    for name, (values, bad) in SETTINGS.items():
        for value in bad:
            write(f(name), values[0] + "\n")
            done = m.sh("printf '%s\\n' \"$V\" > $F", F=f(name), V=value)
            assert done.returncode and "Invalid argument" in done.stderr, (name, value, done)
            equal((read(f(name)), read(in_tree(m, "bad", name))), (values[0] + "\n",) * 2)
    m.sh("rm -r models/bad", check=True)


@claim(limit=60)
def the_lines_of_endpoint_are_edited_with_editors(m):
    f = model(m, "edited")
    before = "http://127.0.0.1:1/old\nhttp://127.0.0.1:2/v1 weight=2\n"
    after = before.replace("old", "new")
    for script in ("sed -i s/old/new/ $F", "printf '1s/old/new/\\nw\\nq\\n' | ed -s $F",
                   "sed s/old/new/ $F > $F.new && mv $F.new $F",
                   "vim -u NONE -i NONE -es -c 'set backupskip= backupcopy=no' -c '1s/old/new/' "
                   "-c wq $F </dev/null",
                   "{ echo http://127.0.0.1:1/new; echo 'http://127.0.0.1:2/v1 weight=2'; } > $F"):
        if script.startswith(("ed", "vim")) and not shutil.which(script.split()[0]) or \
                "| ed" in script and not shutil.which("ed"):
            continue
        write(f("endpoint"), before)
        m.sh(script, F=f("endpoint"), check=True)
        equal((script, read(f("endpoint")), read(in_tree(m, "edited", "endpoint"))),
              (script, after, after))
    m.sh("echo http://127.0.0.1:3/v1 >> $F", F=f("endpoint"), check=True)
    equal(read(f("endpoint")), after + "http://127.0.0.1:3/v1\n")
    equal(set(os.listdir(f())), set(SETTINGS) | set(LIVE))
    m.sh("rm -r models/edited", check=True)


@claim()
def an_endpoint_of_which_a_line_is_refused_changes_nothing(m):
    f = model(m, "lines")
    write(f("endpoint"), "http://127.0.0.1:1/v1\n")
    done = m.sh("{ echo http://127.0.0.1:2/v1; echo nonsense here; } > $F; echo $?", F=f("endpoint"))
    equal(done.stdout, "1\n")
    equal((read(f("endpoint")), read(in_tree(m, "lines", "endpoint"))), ("http://127.0.0.1:1/v1\n",) * 2)
    m.sh("rm -r models/lines", check=True)


@claim()
def an_upstream_made_in_tree_appears_and_a_bad_value_there_is_reported(m):
    m.expects("models/outside/protocol")
    os.mkdir(in_tree(m, "outside"))
    write(in_tree(m, "outside", "endpoint"), "http://127.0.0.1:1/v1\n")
    write(in_tree(m, "outside", "protocol"), "openai\n")
    soon(lambda: exists(m("models", "outside", "protocol"))
         and read(m("models", "outside", "protocol")) == "openai\n", "model")
    write(in_tree(m, "outside", "protocol"), "grpc\n")
    status_has(m, "models/outside/protocol in TREE")
    write(in_tree(m, "outside", "protocol"), "anthropic\n")
    status_is_ok(m)
    shutil.rmtree(in_tree(m, "outside"))
    soon(lambda: not exists(m("models", "outside")), "end of the model")


@claim()
def ca_file_is_relative_to_its_directory_in_tree(m):
    f = model(m, "ca")
    write(in_tree(m, "ca", "own.pem"), "not read before it is used\n")
    write(f("ca_file"), "own.pem\n")
    equal((read(f("ca_file")), read(in_tree(m, "ca", "ca_file"))), ("own.pem\n",) * 2)
    equal(read(m("status")), "ok\n")
    with refused(errno.ENOTEMPTY):
        os.rmdir(f())
    os.unlink(in_tree(m, "ca", "own.pem"))
    os.rmdir(f())


# ---- key ----

@claim()
def a_key_is_not_opened_for_reading_by_anybody(m):
    f = model(m, "secret")
    write(f("key"), SECRET + "\n")
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC, os.O_RDONLY | os.O_NONBLOCK):
        with refused(errno.EACCES):
            os.open(f("key"), flags)
    done = m.sh("cat models/secret/key; exec 3<> models/secret/key")
    assert SECRET not in done.stdout + done.stderr and done.returncode
    fd = os.open(f("key"), os.O_WRONLY)
    with refused(errno.EBADF):
        os.read(fd, 10)
    os.close(fd)
    equal((os.stat(f("key")).st_size, os.stat(f("key")).st_mode & 0o7777), (0, 0o200))
    has_key(m, "secret", SECRET)
    m.sh("rm -r models/secret", check=True)


@claim(root=True)
def other_users_neither_read_nor_write_a_key(m):
    f = model(m, "mine")
    write(f("key"), SECRET + "\n")
    for script in ("cat models/mine/key", "echo x > models/mine/key", "rm -f models/mine/key"):
        done = m.sh(script, user=12345)
        assert done.returncode, script
        assert "Permission denied" in done.stderr or "not permitted" in done.stderr, done
    has_key(m, "mine", SECRET)
    m.sh("rm -r models/mine", check=True)


@claim(limit=120)
def a_key_is_in_the_state_directory_and_nowhere_else(m):
    f = model(m, "hidden")
    own = os.path.join(m.state, "keys", "hidden")
    for secret in SECRETS:
        write(f("key"), secret + "\n")
        has_key(m, "hidden", secret)
        equal(os.stat(own).st_mode & 0o7777, 0o600)
        equal(os.stat(os.path.dirname(own)).st_mode & 0o7777, 0o700)
        assert not exists(in_tree(m, "hidden", "key"))
        done = m.sh("grep -rF \"$S\" . ; grep -rF \"$S\" $TREE; find . -type f -exec cat {} + 2>&1; ls -lR",
                    S=secret, timeout=50)
        assert secret not in done.stdout + done.stderr, secret
        assert secret not in m.log_text(), secret
        # Only the key's own file, wherever else the state is: the store, the logs.
        done = m.sh("grep -rlF \"$S\" $STATE", S=secret, STATE=m.state)
        equal(done.stdout.split(), [own])
    m.sh("rm -r models/hidden", check=True)
    for secret in SECRETS:
        equal(m.sh("grep -rlF \"$S\" $STATE", S=secret, STATE=m.state).stdout, "")


@claim(limit=60)
def a_key_is_written_as_files_are(m):
    f = model(m, "ways")
    other = os.path.join(m.top, "secret.txt")
    write(other, "sk-new\n")
    for script in ("echo sk-new > $F", "printf sk-new > $F", "echo sk-new >> $F", "cat $O > $F",
                   "cp $O $F", "echo sk-new | tee $F > /dev/null",
                   "dd if=$O of=$F bs=1 status=none", "dd if=$O of=$F bs=1 status=none conv=notrunc",
                   "cat > $F <<< sk-new",
                   "python3 -c 'import sys; open(sys.argv[1], \"w\").write(\"sk-new\")' $F"):
        write(f("key"), "sk-old\n")
        has_key(m, "ways", "sk-old")
        m.sh(script, F=f("key"), O=other, check=True)
        equal((script, kept(m, "ways")), (script, "sk-new"))
    equal(set(os.listdir(f())), set(SETTINGS) | set(LIVE))
    m.sh("rm -r models/ways", check=True)


@claim()
def what_is_no_key_is_refused_and_the_one_before_stays(m):
    f = model(m, "refusing")
    write(f("key"), "sk-old\n")
    for bad in ("two\nlines\n", "gr\u00fc\u00dfe\n", "tab\there\n", "x" * 5000 + "\n", "x" * 9000):
        with refused(errno.EINVAL):
            write(f("key"), bad)
        done = m.sh("printf '%s' \"$V\" | cat > $F", F=f("key"), V=bad)
        assert bad.endswith("\n") is False or done.returncode == 0 or \
            "Invalid argument" in done.stderr, done
        equal(kept(m, "refusing"), "sk-old")
    fd = os.open(f("key"), os.O_WRONLY)
    os.write(fd, b"env:not-a-variable")
    with refused(errno.EINVAL):
        os.fsync(fd)
    with refused(errno.EINVAL):
        os.write(fd, b"\n")
    with refused(errno.EINVAL):
        os.close(fd)
    equal(kept(m, "refusing"), "sk-old")
    m.sh("rm -r models/refusing", check=True)


@claim()
def of_two_lines_none_is_ever_the_key(m):
    f = model(m, "twice")
    write(f("key"), "sk-old\n")
    done = m.sh("{ echo sk-a; echo sk-b; } > $F", F=f("key"))
    assert done.returncode and "Invalid argument" in done.stderr, done
    equal(kept(m, "twice"), "sk-old")
    fd = os.open(f("key"), os.O_WRONLY)
    os.write(fd, b"sk-a\n")
    equal(kept(m, "twice"), "sk-old")
    for more in (b"sk-b\n", b"\n"):
        with refused(errno.EINVAL):
            os.write(fd, more)
        equal(kept(m, "twice"), "sk-old")
    with refused(errno.EINVAL):
        os.close(fd)
    equal(kept(m, "twice"), "sk-old")
    m.sh("rm -r models/twice", check=True)


@claim()
def truncating_alone_keeps_a_key_an_empty_line_or_rm_removes_it(m):
    f = model(m, "emptied")
    write(f("key"), SECRET + "\n")
    os.truncate(f("key"), 0)
    m.sh(": > models/emptied/key", check=True)
    equal(kept(m, "emptied"), SECRET)
    m.sh("echo > models/emptied/key", check=True)
    equal(kept(m, "emptied"), None)
    write(f("key"), SECRET + "\n")
    os.unlink(f("key"))
    equal(kept(m, "emptied"), None)
    assert "key" in os.listdir(f())
    os.unlink(f("key"))
    os.rmdir(f())


@claim()
def a_key_goes_with_its_model(m):
    for script in ("rm -r models/going", "rmdir models/going"):
        f = model(m, "going")
        write(f("endpoint"), "http://127.0.0.1:1/v1\n")
        write(f("key"), SECRET + "\n")
        late = os.open(f("key"), os.O_WRONLY)
        m.sh(script, check=True)
        assert not exists(f()) and not exists(in_tree(m, "going"))
        equal((script, kept(m, "going")), (script, None))
        os.mkdir(f())
        with refused(errno.ENOENT):
            os.write(late, b"sk-late\n")
        with refused(errno.ENOENT):
            os.close(late)
        equal(kept(m, "going"), None)
        os.rmdir(f())


@claim(limit=60)
def a_key_outlasts_a_moment_without_its_directory_in_tree(m):
    f = model(m, "checkout")
    write(f("endpoint"), "http://127.0.0.1:1/v1\n")
    write(f("key"), SECRET + "\n")
    os.rename(in_tree(m, "checkout"), os.path.join(m.top, "stash"))
    soon(lambda: not exists(f()), "end of the model")
    passed(m)
    equal(kept(m, "checkout"), SECRET)
    os.rename(os.path.join(m.top, "stash"), in_tree(m, "checkout"))
    soon(lambda: exists(f("endpoint")), "model")
    passed(m)
    equal(kept(m, "checkout"), SECRET)
    assert harness.json.loads(read(f("info")))["key"] is True, read(f("info"))
    m.sh("rm -r models/checkout", check=True)
    equal(kept(m, "checkout"), None)


@claim(limit=60)
def a_reference_in_tree_goes_with_its_directory_there(m):
    f = model(m, "borrowed")
    write(in_tree(m, "borrowed", "key"), "env:BORROWED\n")
    has_key(m, "borrowed", "env:BORROWED")
    shutil.rmtree(in_tree(m, "borrowed"))
    soon(lambda: not exists(f()), "end of the model")
    has_key(m, "borrowed", None)


@claim(limit=60)
def a_key_that_is_written_while_its_model_is_removed_is_not_the_next_ones(m):
    stop, late = threading.Event(), []

    def writer():
        while not stop.is_set():
            try:
                write(m("models", "raced", "key"), SECRET + "\n")
                late.append(1)
            except OSError as e:
                assert e.errno in (errno.ENOENT, errno.EINVAL), e
    threads = [threading.Thread(target=writer) for _ in range(3)]
    for t in threads:
        t.start()
    try:
        for _ in range(40):
            os.mkdir(m("models", "raced"))
            written = len(late)
            wait_for(lambda: len(late) > written, "a key")
            os.rmdir(m("models", "raced"))
            assert not exists(os.path.join(m.state, "keys", "raced"))
    finally:
        stop.set()
        for t in threads:
            t.join()
    equal(kept(m, "raced"), None)


@claim(own=True)
def a_key_survives_a_restart(Mount):
    with Mount() as m:
        write(model(m, "lasting")("key"), SECRET + "\n")
        m.stop()
        m.start()
        passed(m)
        equal(kept(m, "lasting"), SECRET)


# ---- references in TREE ----

@claim()
def a_reference_in_tree_is_taken_followed_and_let_go(m):
    f = model(m, "refer")
    write(in_tree(m, "refer", "key"), "env:LLMFS_TEST_KEY\n")
    has_key(m, "refer", "env:LLMFS_TEST_KEY")
    write(in_tree(m, "refer", "key.new"), "file:/run/secrets/refer\n")
    os.rename(in_tree(m, "refer", "key.new"), in_tree(m, "refer", "key"))
    has_key(m, "refer", "file:/run/secrets/refer")
    with refused(errno.EACCES):
        os.open(f("key"), os.O_RDONLY)
    os.unlink(in_tree(m, "refer", "key"))
    has_key(m, "refer", None)
    equal(read(m("status")), "ok\n")
    os.rmdir(f())


@claim()
def a_secret_in_tree_is_not_taken_and_said_without_being_shown(m):
    m.expects("models/spilled/key: a secret does not belong in TREE")
    f = model(m, "spilled")
    write(f("key"), "sk-before\n")
    write(in_tree(m, "spilled", "key"), SECRET + "\n")
    status_has(m, "models/spilled/key: a secret does not belong in TREE: write it to the mount, or "
               "put env:NAME or file:PATH there")
    equal(kept(m, "spilled"), "sk-before")
    assert SECRET not in read(m("status")) + m.log_text()
    assert SECRET not in m.sh("grep -r %s . $STATE" % SECRET, STATE=m.state).stdout
    write(in_tree(m, "spilled", "key"), "env:SPILLED\n")
    status_is_ok(m)
    has_key(m, "spilled", "env:SPILLED")
    m.sh("rm -r models/spilled", check=True)
    assert not exists(in_tree(m, "spilled"))


@claim()
def a_key_written_to_the_mount_ends_the_reference_in_tree(m):
    m.expects("models/newer/key: a secret")
    f = model(m, "newer")
    for text in ("env:NEWER", "sk-spilled"):
        write(in_tree(m, "newer", "key"), text + "\n")
        if text.startswith("env:"):
            has_key(m, "newer", text)
        else:
            status_has(m, "models/newer/key")
        write(f("key"), SECRET + "\n")
        assert not exists(in_tree(m, "newer", "key"))
        equal(kept(m, "newer"), SECRET)
        status_is_ok(m)
        # What a pass does afterwards does not bring the old one back.
        m.kill(signal.SIGHUP)
        passed(m)
        equal((kept(m, "newer"), exists(in_tree(m, "newer", "key"))), (SECRET, False))
    write(f("key"), "env:NEWER\n")
    equal((kept(m, "newer"), exists(in_tree(m, "newer", "key"))), ("env:NEWER", False))
    m.sh("rm -r models/newer", check=True)


@claim()
def a_refused_key_leaves_the_reference_in_tree(m):
    f = model(m, "staying")
    write(in_tree(m, "staying", "key"), "env:STAYING\n")
    has_key(m, "staying", "env:STAYING")
    with refused(errno.EINVAL):
        write(f("key"), "two\nlines\n")
    equal((kept(m, "staying"), read(in_tree(m, "staying", "key"))), ("env:STAYING", "env:STAYING\n"))
    m.sh("rm -r models/staying", check=True)


@claim(own=True)
def references_are_in_force_from_the_start_and_at_sighup(Mount):
    m = Mount(start=False)
    os.mkdir(in_tree(m, "early"))
    write(in_tree(m, "early", "key"), "env:EARLY\n")
    with m.start():
        has_key(m, "early", "env:EARLY")
        write(in_tree(m, "early", "key"), "env:LATER\n")
        m.kill(signal.SIGHUP)
        has_key(m, "early", "env:LATER")


@claim()
def what_is_no_regular_file_is_no_key_in_tree(m):
    m.expects("models/odd/key")
    model(m, "odd")
    os.mkfifo(in_tree(m, "odd", "key"))
    status_has(m, "models/odd/key: not a regular file")
    os.unlink(in_tree(m, "odd", "key"))
    os.symlink("/etc/passwd", in_tree(m, "odd", "key"))
    m.kill(signal.SIGHUP)
    status_has(m, "models/odd/key: not a regular file")
    os.unlink(in_tree(m, "odd", "key"))
    status_is_ok(m)
    equal(kept(m, "odd"), None)
    m.sh("rm -r models/odd", check=True)


@claim(root=True)
def a_reference_that_others_can_write_is_not_taken(m):
    m.expects("models/open/key")
    model(m, "open")
    write(in_tree(m, "open", "key.new"), "file:/etc/shadow\n")
    os.chmod(in_tree(m, "open", "key.new"), 0o666)
    os.rename(in_tree(m, "open", "key.new"), in_tree(m, "open", "key"))
    status_has(m, "models/open/key", "can be written by a user other than root")
    equal(kept(m, "open"), None)
    os.unlink(in_tree(m, "open", "key"))
    status_is_ok(m)
    m.sh("rm -r models/open", check=True)


# ---- models/auto, models/cascade ----

VIRTUAL = {"ask": 0o666, "state": 0o444, "info": 0o444, "metrics": 0o444}


@claim()
def auto_and_cascade_are_listed_once_with_what_can_be_asked_and_read(m):
    names = os.listdir(m("models"))
    for name in ("auto", "cascade"):
        equal(names.count(name), 1)
        equal(set(os.listdir(m("models", name))), set(VIRTUAL))
        for file, mode in VIRTUAL.items():
            equal((file, os.stat(m("models", name, file)).st_mode & 0o7777), (file, mode))
        assert read(m("models", name, "state")).strip()
        harness.json.loads(read(m("models", name, "info")))


@claim()
def auto_and_cascade_are_neither_made_nor_removed_nor_changed(m):
    for name in ("auto", "cascade"):
        with refused(errno.EEXIST):
            os.mkdir(m("models", name))
        with refused(errno.EPERM):
            os.rmdir(m("models", name))
        with refused(errno.EPERM, errno.EACCES):
            write(m("models", name, "path"), "/etc/passwd\n")
        with refused(errno.EPERM, errno.EACCES, errno.EXDEV):
            os.rename(m("models", name), m("models", "other"))
        done = m.sh("rm -r models/%s" % name)
        assert done.returncode and "not permitted" in done.stderr, done
        assert not exists(in_tree(m, name))
        equal(set(os.listdir(m("models", name))), set(VIRTUAL))


@claim()
def default_may_point_to_auto(m):
    try:
        m.sh("ln -sfn auto models/default", check=True)
        equal((os.readlink(m("models", "default")), os.readlink(in_tree(m, "default"))),
              ("auto", "auto"))
        equal(set(os.listdir(m("models", "default"))), set(VIRTUAL))
        with refused(errno.EPERM):
            os.rmdir(m("models", "auto"))
        passed(m)
    finally:
        m.sh("ln -sfn tiny models/default", check=True)
    s = m.session(model="auto")
    equal(read(s("model")), "auto\n")


@claim()
def what_tree_has_of_their_names_is_ignored(m):
    os.mkdir(in_tree(m, "auto"))
    try:
        write(in_tree(m, "auto", "path"), MODEL + "\n")
        write(in_tree(m, "auto", "key"), "env:NOTHING\n")
        passed(m)
        equal(set(os.listdir(m("models", "auto"))), set(VIRTUAL))
        equal((read(m("status")), kept(m, "auto")), ("ok\n", None))
    finally:
        shutil.rmtree(in_tree(m, "auto"))
    passed(m)
    assert exists(m("models", "auto", "state"))


# ---- walks ----

@claim(limit=120)
def walks_over_models_end_and_complain_of_keys_only(m):
    f = model(m, "walked")
    write(f("endpoint"), "http://127.0.0.1:1/v1\n")
    write(f("key"), SECRET + "\n")
    m.sh("ls -lR models > /dev/null", check=True)
    done = m.sh("grep -r 127.0.0.1 models", timeout=50)
    assert "models/walked/endpoint:http://127.0.0.1:1/v1" in done.stdout, done
    for line in done.stderr.splitlines():
        assert "/key: Permission denied" in line or "/ctl: Permission denied" in line, line
    done = m.sh("find models -type f -exec cat {} + > /dev/null", timeout=50)
    for line in done.stderr.splitlines():
        assert "/key: Permission denied" in line or "/ctl: Permission denied" in line, line
    done = m.sh("tar cf - --ignore-failed-read models | tar tf -", timeout=50)
    assert "models/walked/endpoint" in done.stdout.split(), done
    m.sh("rm -r models/walked", check=True)


harness.main(*(["-o", "allow_other"] if os.getuid() == 0 else []),
             allow=["does not pass its health check"])
