#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sessions under the tools that copy, archive and synchronise: out of the mount without a complaint,
back into it as far as there is something to write, and never without an end."""
import errno
import getpass
import json
import os
import shutil
import time

import harness
from harness import Skip, claim, equal, exists, read, refused, soon, write

LIVE = ["chat", "error", "events", "out", "status", "trace", "usage"]
ALICE = 12345


def talk(m, user=None, name="talk"):
    """A session of that user that has settings and a turn, whose answer is the same each time: one of random weights
    may have a NUL in it, and then grep complains."""
    m.sh("set -e; mkdir sessions/%s; cd sessions/%s; echo 0.5 > temperature; echo 7 > seed; printf 'Be kind.\\nBe brief.\\n' > system;"
         "echo 5 > max_tokens; echo 1 > ignore_eos; echo hello > in; cat out" % (name, name), check=True, user=user)
    s = harness.Session(m, name)
    s.idle()
    time.sleep(1.1)  # the kernel may keep the directory's times for a second; tar looks whether they change
    return s


def is_like(a, b):
    equal(b.messages(), a.messages())
    for name in ("temperature", "system", "max_tokens", "ignore_eos", "model"):
        equal((name, read(b(name))), (name, read(a(name))))


def away(m, name):
    """A directory outside of the mount that everybody may write."""
    path = os.path.join(m.top, name)
    os.mkdir(path)
    os.chmod(path, 0o777)
    return path


@claim()
def cp_r_to_a_new_session_copies_nothing_says_so_and_does_no_harm(m):
    a = talk(m, name="a")
    before = a.messages(), read(a("temperature"))
    done = m.sh("cp -r sessions/a sessions/b")
    assert done.returncode, "cp has copied what it cannot"
    complaints = done.stderr.splitlines()
    equal([line for line in complaints if "File exists" not in line], [])
    equal(len(complaints), len(os.listdir(a.path)))
    equal((a.messages(), read(a("temperature"))), before)
    b = harness.Session(m, "b")
    equal((b.messages(), b.status(), read(b("temperature"))), ([], "idle", "0\n"))
    m.sh("rm -r sessions/b", check=True)
    m.sh("echo 'fork b' > sessions/a/ctl", check=True)  # as the manual says
    is_like(a, b)
    m.sh("rm -r sessions/a sessions/b", check=True)


def goes_out_in_silence(m, user):
    s = talk(m, user)
    to = away(m, "out-%s" % user)
    tools = ["cp -r sessions/talk %s/cp" % to, "cp -a sessions/talk %s/cp-a" % to,
             "tar -cf %s/talk.tar sessions/talk" % to, "grep -r . sessions/talk > %s/grep" % to,
             "find sessions/talk -type f -exec cat {} + > %s/find" % to]
    if shutil.which("rsync"):
        tools.append("rsync -a sessions/talk/ %s/rsync/" % to)
    for tool in tools:
        done = m.sh(tool, user=user)
        equal((tool, done.returncode, done.stderr), (tool, 0, ""))
    for copy in ["cp", "cp-a"] + ["rsync"] * bool(shutil.which("rsync")):
        for name in os.listdir(s.path):
            equal((name, read(os.path.join(to, copy, name))), (name, read(s(name))))
    m.sh("rm -r sessions/talk", check=True, user=user)


@claim()
def a_session_goes_out_of_the_mount_without_a_complaint(m):
    goes_out_in_silence(m, None)


@claim(root=True)
def a_session_goes_out_of_the_mount_without_a_complaint_for_its_user(m):
    goes_out_in_silence(m, ALICE)


@claim()
def what_is_only_written_reads_as_empty_and_does_nothing(m):
    s = talk(m)
    before = s.messages()
    for name in ("in", "ctl"):
        equal(read(s(name)), "")
        m.sh("cat sessions/talk/%s > sessions/talk/%s" % (name, name), check=True)
    equal((s.messages(), s.status()), (before, "done"))
    m.sh("rm -r sessions/talk", check=True)


def comes_back(m, tool, ends_with):
    """Conversation and settings; of what is live the tool says that it could not be written."""
    s = harness.Session(m, "back")
    os.mkdir(s.path)
    done = m.sh(tool, timeout=20)
    equal((tool, done.returncode), (tool, ends_with))
    for line in done.stderr.splitlines():
        assert any("/" + name in line or '"%s"' % name in line or " %s:" % name in line for name in LIVE + ["in", "ctl"]) or \
            "previous errors" in line, line
    is_like(harness.Session(m, "talk"), s)
    equal((s.status(), read(s("out")), read(s("error"))), ("idle", "", ""))
    m.sh("rm -r sessions/back", check=True)


@claim()
def what_was_copied_out_comes_back_into_a_new_session(m):
    talk(m)
    to = away(m, "kept")
    m.sh("cp -r sessions/talk %s/; tar -C sessions/talk -cf %s/talk.tar ." % (to, to), check=True)
    comes_back(m, "cp -r %s/talk/. sessions/back/" % to, 1)
    comes_back(m, "tar -C sessions/back --overwrite -xf %s/talk.tar" % to, 2)
    comes_back(m, "cd %s/talk && cp messages.json system temperature max_tokens ignore_eos $M/sessions/back/" % to, 0)
    if shutil.which("rsync"):
        comes_back(m, "rsync -a --ignore-times %s/talk/ sessions/back/" % to, 23)
    m.sh("rm -r sessions/talk", check=True)


@claim(own=True)
def a_copy_of_tree_and_state_is_a_backup_of_everything(Mount):
    with Mount() as m:
        write(m("models", "tiny", "price_output"), "100000\n")
        s = talk(m)
        ledger = ["budgets", getpass.getuser(), "ledger"]
        equal(len(read(m(*ledger)).splitlines()), 1)
        write(m("guards", "input", "no.rules"), "block  word  /never-say-this/\n")
        m.sh("mkdir models/up; echo http://127.0.0.1:9/v1 > models/up/endpoint; echo sk-nobody > models/up/key",
             check=True)
        before = s.messages(), read(s("temperature")), read(m(*ledger))
        m.stop()
        kept = away(m, "kept")
        shutil.copytree(m.tree, os.path.join(kept, "tree"), symlinks=True)
        shutil.copytree(m.state, os.path.join(kept, "state"))
        m.start()
        write(s("temperature"), "1.5\n")  # which the copy knows nothing of
        with Mount(tree=os.path.join(kept, "tree"), state=os.path.join(kept, "state")) as n:
            t = harness.Session(n, "talk")
            equal((t.messages(), read(t("temperature")), read(n(*ledger))), before)
            equal(json.loads(read(n("models", "up", "info")))["key"], True)
            with refused(errno.EPERM):
                t.ask("never-say-this")
            assert t.ask("and now?")
            equal(len(s.messages()), len(before[0]))


@claim()
def tar_that_would_make_files_anew_ends(m):
    if not shutil.which("tar"):
        raise Skip("there is no tar")
    talk(m)
    to = away(m, "anew")
    write(m("models", "tiny", "quality"), "0.75\n")
    m.sh("tar -cf %s/all.tar sessions/talk models/tiny/quality models/tiny/path models/tiny/ctl" % to, check=True)
    before = os.path.join(m.tree, "models", "tiny", "path")
    path = read(before)
    quality = read(m("models", "tiny", "quality"))
    write(m("models", "tiny", "quality"), "0.25\n")
    for _ in range(2):
        done = m.sh("tar -xf %s/all.tar" % to, timeout=20)
        assert done.returncode, done
        said = [line for line in done.stderr.splitlines() if "models/" in line]
        # What makes the default model is not unlinked; live files cannot be written.
        equal(said, ["tar: models/tiny/path: Cannot open: File exists"])
        assert "sessions/talk/status: Cannot open: Permission denied" in done.stderr, done
        assert "sessions/talk/temperature" not in done.stderr, done
        equal(read(m("models", "tiny", "quality")), quality)
    equal(read(before), path)
    m.sh("rm -r sessions/talk; rm models/tiny/quality", check=True)


@claim(root=True)
def a_user_moves_values_into_settings_of_his_session_and_not_of_anothers(m):
    to = away(m, "alice")
    os.chown(to, ALICE, ALICE)
    m.sh("mkdir sessions/alices && echo 0.25 > sessions/alices/temperature", check=True, user=ALICE)
    s = m.session(temperature="0.5")
    os.chmod(s.path, 0o755)
    for program in ("mv", "install", "cp --remove-destination"):
        m.sh("echo 0.75 > %s/new && %s %s/new sessions/alices/temperature" % (to, program, to), check=True, user=ALICE)
        equal(read(m("sessions", "alices", "temperature")), "0.75\n")
        for file in (s("temperature"), m("models", "short", "quality"), m("cache", "ttl")):
            before = read(file)
            done = m.sh("echo 0.75 > %s/new && %s %s/new %s" % (to, program, to, file), user=ALICE)
            assert done.returncode and "Permission denied" in done.stderr, done
            equal(read(file), before)
    m.sh("rm -r sessions/alices", check=True)


@claim()
def what_is_unlinked_is_gone_to_who_did_so_and_to_nobody_else(m):
    s = m.session(temperature="0.5")
    for name in ["temperature"] + LIVE:
        os.unlink(s(name))
        with refused(errno.ENOENT):
            os.unlink(s(name))
        assert not exists(s(name))
        assert name not in os.listdir(s.path)
        m.sh("ls $S | grep -qx %s && test -e $S/%s && rm $S/%s" % (name, name, name), check=True, S=s.path)
    equal(m.sh("cat $S/temperature", S=s.path).stdout, "0\n")
    soon(lambda: exists(s("temperature")), "the file")
    equal(read(s("temperature")), "0\n")
    write(s("temperature"), "0.7\n")
    os.unlink(s("temperature"))
    write(s("temperature"), "0.8\n")
    equal(read(s("temperature")), "0.8\n")  # made anew: it is there
    other = m.session()
    for name in os.listdir(other.path):
        os.unlink(other(name))
    shutil.rmtree(other.path)
    assert not exists(other.path)


harness.main(*(["-o", "allow_other"] if os.getuid() == 0 else []))
