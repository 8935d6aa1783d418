#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How a mount begins: options, errors with a sentence and a status, two daemons, a TREE that
another user can write, fstab's form."""
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time

import harness
from harness import claim, equal, exists, is_mounted, read, wait_for, write


def run(*args, cwd=None, program=harness.LLMFS):
    p = subprocess.run(harness.WRAP + [program] + list(args), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
                       timeout=20 * harness.slow())
    p.stdout, p.stderr = p.stdout.decode(), p.stderr.decode()
    assert not harness.REPORT.search(p.stderr), p.stderr
    return p


def fails(m, words, *args, foreground=True):
    """The start fails with a sentence that has the words, and leaves no mount."""
    command = m.command(*args, foreground=foreground)
    p = run(*command[len(harness.WRAP) + 1:])
    assert p.returncode not in (0, None) and p.returncode > 0, p
    for word in words:
        assert word in p.stderr, p.stderr
    return p


@claim(own=True)
def h_prints_usage_and_succeeds(Mount):
    for arg in ("-h", "--help"):
        p = run(arg)
        equal(p.returncode, 0)
        for word in ("llmfs", "TREE", "MOUNTPOINT", "-f", "-o", "state="):
            assert word in p.stdout, p.stdout


@claim(own=True)
def version_is_printed(Mount):
    for arg in ("-V", "--version"):
        p = run(arg)
        equal(p.returncode, 0)
        assert p.stdout.startswith("llmfs "), p


@claim(own=True)
def an_unknown_option_is_an_error(Mount):
    m = Mount(start=False)
    for args in (["--frobnicate"], ["-Q"], ["-o", "frobnicate=1"]):
        p = fails(m, ["llmfs"], *args)
        assert "unknown option" in p.stderr, p.stderr
        assert args[-1].split("=")[0].lstrip("-") in p.stderr, p.stderr
        assert not is_mounted(m.path)
    p = run()
    assert p.returncode > 0 and "--help" in p.stderr, p
    m.close()


@claim(own=True)
def a_daemon_started_in_the_background_returns_once_the_mount_works(Mount):
    m = Mount(start=False)
    command = m.command(foreground=False)
    p = run(*command[len(harness.WRAP) + 1:])
    equal(p.returncode, 0)
    assert exists(m("version")) and exists(m("sessions", "main", "in"))
    pid = int(subprocess.run(["pgrep", "-f", m.path], stdout=subprocess.PIPE).stdout.split()[0])
    harness.WARDEN.say(daemon=pid)
    assert m.session(tokens=3).ask("hello")
    subprocess.run(["fusermount3", "-u", m.path], check=True)
    wait_for(lambda: not exists("/proc/%d" % pid), "the end of the daemon")
    harness.WARDEN.say(ended=pid)
    m.close()


def spoil(tree):
    """A fault of each kind; what is said of each."""
    def put(path, text):
        path = os.path.join(tree, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, text)
    put("models/near/endpoint", "http://127.0.0.1:9/v1\n")
    put("models/near/protocol", "grpc\n")
    put("models/near/fallback", "nobody tiny\n")
    put("models/near/key", "sk-a-secret\n")
    put("guards/input/bent.rules", "block it /(/\n")
    put("guards/input/my own.rules", "block it /x/\n")
    put("guards/moderation", "model nowhere\n")
    put("router/policy", "luck\n")
    put("router/cascade_judge", "# that one:\nnobody\n")
    put("cache/embedding_model", "nobody\n")
    put("budgets/bent/limit", "much\n")
    os.symlink("near", os.path.join(tree, "models", "linked"))
    os.unlink(os.path.join(tree, "models", "default"))
    os.symlink("gone", os.path.join(tree, "models", "default"))
    return ["models/near/protocol in TREE: protocol: must be openai",
            "models/near/fallback: there is no model nobody",
            "models/near/key: a secret does not belong in TREE",
            "guards/input/bent.rules:1:", "guards/input/my own.rules in TREE: not a name",
            "guards/moderation: there is no model nowhere", "router/policy in TREE: ",
            "router/cascade_judge: there is no model nobody",
            "cache/embedding_model: there is no model nobody", "budgets/bent/limit in TREE: ",
            "models/linked/ in TREE: a symlink", "models/default points to gone"]


def check_told(m, log, said):
    """Each fault once, as status has it, and nothing else."""
    told = re.findall(r"^llmfs: warning: (.*)$", log, re.M)
    for words in said:
        equal(len([line for line in told if line.startswith(words)]), 1)
    equal(sorted(told), sorted(line.replace("degraded: ", "", 1)
                               for line in read(m("status")).splitlines()))
    equal(len(told), len(said))


@claim(own=True)
def a_start_tells_each_fault_of_the_tree_and_mounts_all_the_same(Mount):
    m = Mount(start=False, allow=["."])
    said = spoil(m.tree)
    with m.start():
        wait_for(lambda: exists(m("sessions", "main", "in")), "a mount")
        check_told(m, m.log_text(), said)


@claim(own=True)
def a_start_in_the_background_tells_the_faults_on_the_terminal(Mount):
    m = Mount(start=False)
    said = spoil(m.tree)
    p = run(*m.command(foreground=False)[len(harness.WRAP) + 1:])
    equal(p.returncode, 0)
    pid = int(subprocess.run(["pgrep", "-f", m.path], stdout=subprocess.PIPE).stdout.split()[0])
    harness.WARDEN.say(daemon=pid)
    check_told(m, p.stderr, said)
    assert "sk-a-secret" not in p.stderr
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not exists("/proc/%d" % pid), "the end of the daemon")
    harness.WARDEN.say(ended=pid)
    m.close()


@claim(own=True)
def a_background_start_that_fails_says_so_with_its_status(Mount):
    m = Mount(start=False)
    shutil.rmtree(m.tree)
    fails(m, [m.tree], foreground=False)
    m.close()
    m = Mount(start=False)
    os.rmdir(m.path)
    fails(m, [m.path], foreground=False)
    m.close()


@claim(own=True)
def a_missing_tree_or_mount_point_is_an_error_with_its_name(Mount):
    m = Mount(start=False)
    shutil.rmtree(m.tree)
    fails(m, [m.tree])
    write(m.tree, "a file")
    fails(m, [m.tree])
    m.close()


@claim(own=True)
def a_missing_directory_above_a_named_state_directory_is_an_error_and_nothing_is_made(Mount):
    m = Mount(start=False)
    m.state = os.path.join(m.top, "slip", "state")
    fails(m, ["state directory", "there is no directory " + os.path.dirname(m.state)])
    assert not exists(os.path.dirname(m.state)) and not is_mounted(m.path)
    m.close()


@claim(own=True)
def a_misspelt_file_of_tree_is_told_at_the_start_and_is_in_status_until_it_is_gone(Mount):
    m = Mount(start=False, allow=["no setting has that name"])
    slips = (("router/polcy", "policy"), ("models/short/qualty", "quality"))
    os.makedirs(os.path.join(m.tree, "router"))
    for path, _ in slips:
        write(os.path.join(m.tree, path), "5\n")
    write(os.path.join(m.tree, "README"), "a person's\n")
    m.start()
    for path, meant in slips:
        line = "%s in TREE: no setting has that name: did you mean %s?\n" % (path, meant)
        assert "warning: " + line in m.log_text(), m.log_text()
        assert "degraded: " + line in read(m("status")), read(m("status"))
        os.unlink(os.path.join(m.tree, path))
    wait_for(lambda: read(m("status")) == "ok\n", "status to be ok")
    # One that comes later.
    os.makedirs(os.path.join(m.tree, "cache"), exist_ok=True)
    write(os.path.join(m.tree, "cache", "treshold"), "1\n")
    wait_for(lambda: "cache/treshold in TREE: no setting has that name: did you mean threshold?" in
             read(m("status")), "status of a later one")
    assert "warning: cache/treshold" in m.log_text(), m.log_text()
    m.close()


@claim(own=True)
def a_misspelt_setting_on_the_mount_is_in_status_when_it_stays(Mount):
    with Mount(allow=["and in memory only"]) as m:
        said = lambda: read(m("status"))

        def attempt(done):
            m.sh("rm -f router/p* guards/input/*", check=True)
            wait_for(lambda: said() == "ok\n", "status to be ok", 10, said)
            m.sh("echo 5 > router/polcy; echo 5 > router/.policy.swp; echo 5 > router/policy~;"
                 "echo 'block it /x/' > guards/input/mine.rule", check=True)
            early = said()
            done()
            equal(early, "ok\n")  # it may be about to be renamed
        harness.in_time(attempt, 4)
        slip = ("degraded: router/polcy on the mount is no setting, and in memory only: did you mean "
                "policy?\n")
        rule = ("degraded: guards/input/mine.rule on the mount is not in force, and in memory only: "
                "files of rules are called NAME.rules\n")
        wait_for(lambda: sorted(said().splitlines(True)) == [rule, slip], "status", 20, said)
        m.sh("mv router/polcy router/.p; mv guards/input/mine.rule guards/input/mine.rules", check=True)
        wait_for(lambda: said() == "ok\n", "status to be ok", 10, said)


@claim(own=True)
def a_second_mount_does_not_hide_one_that_lives(Mount):
    with Mount() as m:
        done = subprocess.run([os.environ["LLMFS"], "-o", "state=" + m.state + "2", m.tree, m.path],
                                      capture_output=True, text=True, timeout=20)
        assert done.returncode == 1 and "is mounted there already" in done.stderr, done
        equal(read(m("status")), "ok\n")


@claim(own=True)
def two_daemons_on_one_tree_the_second_names_the_first(Mount):
    with Mount() as m:
        second = Mount(start=False, tree=m.tree, state=m.state)
        p = fails(second, [str(m.proc.pid)])
        assert not is_mounted(second.path), p
        assert exists(m("version"))
        second.close()


@claim(own=True)
def the_default_state_directory_is_one_per_tree(Mount):
    ms = [Mount(start=False), Mount(start=False)]
    home = os.path.join(ms[0].top, "xdg")
    os.environ["XDG_STATE_HOME"], old = home, os.environ.get("XDG_STATE_HOME")
    try:
        if os.getuid() == 0:
            raise harness.Skip("root's states are in /var/lib")
        for m in ms:
            m.command = lambda *a, m=m, **k: [harness.LLMFS, "-f", m.tree, m.path]
            m.start()
        equal(len(os.listdir(os.path.join(home, "llmfs"))), 2)
    finally:
        for m in ms:
            m.close()
        os.environ.pop("XDG_STATE_HOME")
        if old:
            os.environ["XDG_STATE_HOME"] = old


@claim(own=True)
def the_state_directory_is_private(Mount):
    with Mount() as m:
        equal(os.stat(m.state).st_mode & 0o777, 0o700)


@claim(own=True, root=True)
def a_state_directory_that_cannot_be_used_is_an_error_with_its_name(Mount):
    m = Mount(start=False)
    write(m.state, "a file")
    fails(m, [m.state])
    m.close()


@claim(own=True, root=True)
def root_refuses_a_tree_that_others_can_write(Mount):
    for spoil in (lambda m: os.chmod(m.tree, 0o777),
                  lambda m: os.chown(m.tree, 12345, 12345),
                  lambda m: os.chown(os.path.join(m.tree, "models"), 12345, 0)):
        m = Mount(start=False)
        spoil(m)
        p = fails(m, ["writ"])
        assert m.tree in p.stderr, p.stderr
        m.close()


@claim(own=True, root=True)
def root_takes_no_setting_from_a_file_that_others_can_write(Mount):
    m = Mount(start=False, allow=["models/tiny/path .*writ", "models/default points to tiny"])
    os.chmod(os.path.join(m.tree, "models", "tiny", "path"), 0o666)
    with m.start():
        assert "models/tiny/path" in read(m("status")), read(m("status"))
        with harness.refused(harness.errno.EHOSTUNREACH):
            m.session().submit("hello")


@claim(own=True)
def mount_options_are_taken_as_every_fuse_program_does(Mount):
    m = Mount("-o", "allow_other,default_permissions,noatime,fsname=mine,subtype=llmfs") \
        if os.getuid() == 0 else Mount("-o", "noatime")
    with m, open("/proc/self/mountinfo") as f:
        line = next(x for x in f if x.split()[4] == m.path)
        assert "fuse.llmfs" in line and "noatime" in line, line


@claim(own=True)
def the_source_of_the_mount_is_its_tree_as_fstab_has_it(Mount):
    """Else `mount -a` takes it for not mounted."""
    for name in ("tree", "a tree, with\\ all"):
        with Mount(start=False) as m:
            there = os.path.join(m.top, name)
            os.rename(m.tree, there)
            m.tree = there
            m.start()
            found = subprocess.run(["findmnt", "-n", "-o", "SOURCE,FSTYPE", "--json", m.path], stdout=subprocess.PIPE)
            said = json.loads(found.stdout)["filesystems"][0]
            equal((said["source"], said["fstype"]), (os.path.realpath(there), "fuse.llmfs"))


@claim(own=True)
def check_of_a_mount_says_that_it_is_one(Mount):
    with Mount() as m:
        p = run("--check", m.path)
        equal(p.returncode, 1)
        equal(p.stdout, "%s is a mount of llmfs, and its TREE is elsewhere: findmnt -n -o SOURCE -T %s\n"
              % (m.path, m.path))
        equal(run("--check", m.tree).returncode, 0)


@claim(own=True)
def check_without_a_tree_says_that_it_is_of_the_example(Mount):
    with Mount(start=False) as m:
        os.mkdir(os.path.join(m.top, "bin"))
        program = shutil.copy(harness.LLMFS, os.path.join(m.top, "bin"))
        example = os.path.join(m.top, "mnt-example")
        shutil.copytree(m.tree, example, symlinks=True)
        p = run("--check", cwd=m.tree, program=program)
        if "/share/llmfs/mnt-example," in p.stderr:
            raise harness.Skip("llmfs is installed here, and its example is the default")
        said = "llmfs: no TREE given: checking %s, the example that comes with llmfs\n" % os.path.realpath(example)
        equal((p.returncode, p.stdout, p.stderr), (0, "", said))
        harness.write(os.path.join(example, "models", "tiny", "quality"), "2\n")
        p = run("--check", cwd=m.tree, program=program)
        equal((p.returncode, p.stderr), (1, said))
        assert p.stdout.startswith("models/tiny/quality: "), p.stdout
        p = run("--check", ".", cwd=m.tree, program=program)
        equal((p.returncode, p.stdout, p.stderr), (0, "", ""))


@claim(own=True)
def a_start_that_is_refused_leaves_tree_alone(Mount):
    """The daemon that has it may be writing, and its number be none of here: a container's."""
    with Mount() as m:
        left = os.path.join(m.tree, "models", "tiny", ".path.llmfs-99999999")
        harness.write(left, "")
        other = os.path.join(m.top, "other")
        os.mkdir(other)
        p = run("-o", "state=" + m.state, m.tree, other)
        assert p.returncode and "in use by another" in p.stderr, p
        assert exists(left)
        m.stop()
        m.start()
        assert not exists(left)


@claim(own=True)
def options_of_fstab_are_taken_in_its_order(Mount):
    """mount.fuse.llmfs TREE MOUNTPOINT -o rw,_netdev,..."""
    m = Mount(start=False)
    extra = "allow_other," if os.getuid() == 0 else ""
    p = run(m.tree, m.path, "-o", "rw,%s_netdev,nosuid,nodev,state=%s" % (extra, m.state))
    equal((p.returncode, p.stderr), (0, ""))
    assert exists(m("version"))
    pid = int(subprocess.run(["pgrep", "-f", m.path], stdout=subprocess.PIPE).stdout.split()[0])
    harness.WARDEN.say(daemon=pid)
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not exists("/proc/%d" % pid), "the end of the daemon")
    assert not is_mounted(m.path)
    m.close()


@claim(own=True)
def the_numbers_of_sessions_and_of_queued_requests_are_settable(Mount):
    with Mount("-o", "max_sessions=3,max_queued=2") as m:
        made = []
        with harness.refused(harness.errno.EDQUOT):
            while len(made) < 10:
                made.append(m.session())
        assert 2 <= len(made) <= 3, len(made)
        made[0].begin()
        made[0].submit("one")
        made[0].submit("two")
        with harness.refused(harness.errno.EBUSY):
            made[0].submit("three")
        made[0].cancel()


@claim(own=True)
def an_idle_model_is_unloaded_and_comes_back_when_asked(Mount):
    with Mount("-o", "idle_unload=1") as m:
        def state():
            return read(m("models", "tiny", "state"))
        assert m.session().ask("hello")
        wait_for(lambda: state() == "unloaded\n", "unloaded", 20, state)

        def attempt(done):
            assert m.session(cache="off").ask("hello")
            equal(state(), "ready\n")
            done()
        harness.in_time(attempt, 1)


@claim(own=True)
def relative_paths_are_understood(Mount):
    m = Mount(start=False)
    m.command = lambda *a, **k: harness.WRAP + [harness.LLMFS, "-f", "-o", "state=state", "tree",
                                                "mnt"]
    here = os.getcwd()
    os.chdir(m.top)
    try:
        with m.start():
            assert m.session(tokens=3).ask("hello")
    finally:
        os.chdir(here)


@claim(own=True)
def the_default_model_is_loaded_at_mount(Mount):
    with Mount() as m:
        wait_for(lambda: read(m("models", "tiny", "state")) == "ready\n", "ready", 20,
                 lambda: read(m("models", "tiny", "state")))


@claim(own=True)
def the_daemon_takes_as_many_descriptors_as_it_may(Mount):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        with Mount() as m:
            line, = [line for line in read("/proc/%d/limits" % m.proc.pid).splitlines()
                     if line.startswith("Max open files")]
            equal(line.split()[3], str(min(hard, 1 << 20)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@claim(own=True)
def an_empty_tree_mounts_and_says_how_to_go_on(Mount):
    m = Mount(start=False)
    shutil.rmtree(os.path.join(m.tree, "models"))
    with m.start():
        with harness.refused(harness.errno.EHOSTUNREACH):
            m.session().submit("hello")
        said = read(m("sessions", "s1", "error"))
        assert said.startswith("there is no model: mkdir models/NAME, "), said
        m.sh("mkdir models/mine && cat models/mine/state", check=True)
        with harness.refused(harness.errno.EHOSTUNREACH):
            m.session().submit("hello")
        said = read(m("sessions", "s2", "error"))
        assert said.startswith("there is no default model: "), said
        m.sh("rmdir models/mine; mkdir models/mine && echo %s > models/mine/path && ln -sfn mine models/default"
             % harness.MODEL, check=True)
        assert m.session(tokens=3).ask("hello")


@claim(own=True)
def a_mount_point_that_is_not_empty_or_within_the_tree_does_no_harm(Mount):
    m = Mount(start=False)
    m.path = os.path.join(m.tree, "mnt")
    os.mkdir(m.path)
    harness.WARDEN.say(mount=m.path)
    p = subprocess.Popen(m.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    harness.WARDEN.say(daemon=p.pid)
    end = time.monotonic() + 10 * harness.slow()
    while p.poll() is None and not is_mounted(m.path) and time.monotonic() < end:
        time.sleep(0.01)
    if p.poll() is None:
        assert exists(m("version"))
        p.terminate()
    assert p.wait(20) is not None
    harness.WARDEN.say(ended=p.pid)
    m.close()


@claim(own=True)
def sanitizers_and_mounts_leave_no_temporary_files(Mount):
    with Mount() as m:
        m.session(tokens=3).ask("hello")
        m.stop()
        equal(sorted(os.listdir(m.top)), ["log", "mnt", "state", "tree"])
        equal(os.listdir(m.path), [])


harness.main()
