#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""models/NAME/key: the key that nobody reads, and references to secrets in TREE."""
import errno
import os
import shutil
import signal
import subprocess
import threading

import harness
from harness import claim, equal, exists, read, refused, wait_for, write
from upstream_files import (LIVE, SECRET, SECRETS, SETTINGS, has_key, in_tree, kept, model, passed, soon,
                            status_has, status_is_ok)


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


@claim()
def a_scratch_file_beside_a_key_is_nobody_elses(m):
    f = model(m, "secret")
    m.sh("umask 022; echo %s > models/secret/new" % SECRET)
    with refused(errno.EPERM):
        os.rename(f("new"), f("key"))
    equal(os.stat(f("new")).st_mode & 0o077, 0)
    os.unlink(f("new"))
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


@claim()
def a_key_is_written_as_files_are(m):
    f = model(m, "ways")
    other = os.path.join(m.top, "secret.txt")
    write(other, "sk-new\n")
    for script in ("echo sk-new > $F", "printf sk-new > $F", "echo sk-new >> $F", "cat $O > $F",
                   "cp $O $F", "echo sk-new | tee $F > /dev/null",
                   "dd if=$O of=$F bs=1 status=none", "dd if=$O of=$F bs=1 status=none conv=notrunc",
                   "cat > $F <<< sk-new", "printf 'sk-new \\n' > $F", "printf ' sk-new\\t' > $F",
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
    os.write(fd, b"env:")
    with refused(errno.EINVAL):
        os.fsync(fd)
    with refused(errno.EINVAL):
        os.write(fd, b"\n")
    with refused(errno.EINVAL):
        os.close(fd)
    equal(kept(m, "refusing"), "sk-old")
    for bad in ("gr\u00fc\u00dfe", "  ", "env:not-a-variable", "file:key"):  # no close is heard at a shell
        done = m.sh("printf '%s' \"$V\" > $F", F=f("key"), V=bad)
        assert done.returncode and "Invalid argument" in done.stderr, (bad, done)
        equal(kept(m, "refusing"), "sk-old")
    m.sh("printf 'file:/tmp/a key' | dd bs=1 of=$F status=none", check=True, F=f("key"))
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
def a_key_that_several_programs_write_is_one_key_and_never_the_half_of_it(m):
    f = model(m, "pieces")
    write(f("key"), "sk-old\n")
    fd = os.open(f("key"), os.O_WRONLY)
    for piece, after in (("sk-", "sk-old"), ("new", "sk-old"), ("er\n", "sk-newer")):
        subprocess.run(["printf", piece], stdout=fd, check=True)
        equal(kept(m, "pieces"), after)
    os.close(fd)
    equal(kept(m, "pieces"), "sk-newer")
    done = m.sh("{ /bin/echo -n env:; /bin/echo -n HO; cat < /dev/null; /bin/echo -n ME; } > $F", F=f("key"))
    equal((done.returncode, done.stderr, kept(m, "pieces")), (0, "", "env:HOME"))
    m.sh("rm -r models/pieces", check=True)


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
    harness.reset(f("key"))
    equal(kept(m, "emptied"), None)
    assert "key" in os.listdir(f())
    harness.reset(f("key"))
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


@claim()
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


@claim()
def a_reference_in_tree_goes_with_its_directory_there(m):
    f = model(m, "borrowed")
    write(in_tree(m, "borrowed", "key"), "env:BORROWED\n")
    has_key(m, "borrowed", "env:BORROWED")
    shutil.rmtree(in_tree(m, "borrowed"))
    soon(lambda: not exists(f()), "end of the model")
    has_key(m, "borrowed", None)


@claim()
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


harness.main(*(["-o", "allow_other"] if os.getuid() == 0 else []),
             allow=["does not pass its health check"])
