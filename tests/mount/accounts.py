#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""budgets/ as files: settings that are edited in the mount and in TREE, who is there, who may do
what, logs that can be followed. What limits and money do is spending.py's."""
import errno
import getpass
import json
import os
import select
import shutil
import time

import harness
from harness import claim, equal, exists, quick, read, refused, soon, wait_for, write
from programs import follower

ME = getpass.getuser()
SETTINGS = {
    "limit": (["5", "0.000000001", ".5", "0"], ["-1", "lots", "0.0000000001", "1e3", "1 2"]),
    "window": (["day", "week", "month", "total"], ["year", "Day", "1"]),
    "requests_per_minute": (["1", "1000000"], ["-1", "1.5", "many"]),
    "requests_per_day": (["5000"], ["-1", "x"]),
    "tokens_per_minute": (["100000"], ["-1", "x"]),
    "tokens_per_day": (["9"], ["-1", "x"]),
    "requests_in_flight": (["64"], ["-1", "x"]),
    "alerts": (["0.5", "0.5 0.9 1"], ["half", "-1"]),
    "members": (["alice", "alice\nbob"], ["no/name"]),
    "ledger_days": (["1", "0", "365"], ["-1", "1.5", "ever"]),
}
IN_FORCE = {"window": "month\n", "alerts": "0.8 1\n", "ledger_days": "400\n"}  # where nothing was set
LIVE = {"spent": 0o400, "remaining": 0o400, "ledger": 0o400, "events": 0o400, "error": 0o400,
        "ctl": 0o600}


def budget(m, name):
    m.sh("mkdir -p budgets/%s" % name, check=True)
    return lambda *names: m("budgets", name, *names)


def in_tree(m, *names):
    return os.path.join(m.tree, "budgets", *names)


@claim()
def every_file_is_there_and_belongs_to_the_daemons_user(m):
    b = budget(m, "files")
    equal(set(os.listdir(b())), set(SETTINGS) | set(LIVE))
    for name in os.listdir(b()):
        st = os.stat(b(name))
        equal((name, st.st_uid, st.st_mode & 0o7777), (name, os.geteuid(), LIVE.get(name, 0o644)))
    equal(os.stat(m("budgets")).st_mode & 0o7777, 0o755)
    equal(os.stat(b()).st_mode & 0o7777, 0o755)
    equal([read(b(x)) for x in ("spent", "remaining", "ledger", "events")],
          ["0\n", "unlimited\n", "", ""])


@claim()
def a_good_value_comes_back_and_is_in_tree(m):
    b = budget(m, "good")
    for name, (values, _) in SETTINGS.items():
        for value in values:
            write(b(name), value + "\n")
            equal((read(b(name)), read(in_tree(m, "good", name))), (value + "\n",) * 2)
        harness.reset(b(name))
        equal(read(b(name)), IN_FORCE.get(name, ""))
        assert not exists(in_tree(m, "good", name))


@claim()
def what_is_in_force_is_shown_whatever_else_was_set(m):
    b = budget(m, "partly")
    for _ in range(2):
        equal({name: read(b(name)) for name in IN_FORCE}, IN_FORCE)
        equal([os.stat(b(name)).st_size for name in IN_FORCE], [len(x) for x in IN_FORCE.values()])
        write(b("requests_per_minute"), "2\n")
    equal(os.listdir(in_tree(m, "partly")), ["requests_per_minute"])
    m.sh(": > $F", F=b("window"), check=True)
    equal(read(b("window")), "month\n")


@claim()
def nonsense_is_refused_at_the_write_and_changes_nothing(m):
    b = budget(m, "bad")
    for name, (values, bad) in SETTINGS.items():
        write(b(name), values[0] + "\n")
        for value in bad:
            done = m.sh("printf '%s\\n' \"$V\" > $F", F=b(name), V=value)
            assert done.returncode and "Invalid argument" in done.stderr, (name, value, done)
            equal((read(b(name)), read(in_tree(m, "bad", name))), (values[0] + "\n",) * 2)


@claim()
def settings_are_edited_with_editors(m):
    b = budget(m, "edited")
    for script in ("echo 7 > $F", "sed -i s/5/7/ $F", "ed -s $F <<< $'s/5/7/\\nw\\nq'",
                   "echo 7 > $F.new && mv $F.new $F", "echo 7 | tee $F",
                   "vim -u NONE -i NONE -es -c 'set backupskip= backupcopy=no' -c s/5/7/ -c wq $F "
                   "</dev/null"):
        if harness.has(script.split()[0]):
            write(b("limit"), "5\n")
            m.sh(script, F=b("limit"), check=True)
            equal((script, read(b("limit")), read(in_tree(m, "edited", "limit"))),
                  (script, "7\n", "7\n"))
    equal(set(os.listdir(b())), set(SETTINGS) | set(LIVE))


@claim()
def a_setting_changed_in_tree_is_in_force_within_a_second(m):
    b = budget(m, "outside")
    write(b("limit"), "5\n")
    limits = iter(range(10, 30))

    def seen():
        limit = "%d\n" % next(limits)
        begin = time.monotonic()
        write(in_tree(m, "outside", "limit"), limit)
        soon(lambda: read(b("remaining")) == limit, "new limit", lambda: read(b("remaining")))
        equal(read(b("limit")), limit)
        return time.monotonic() - begin

    quick(seen, 1.5)
    write(in_tree(m, "outside", "new"), "7\n")
    os.rename(in_tree(m, "outside", "new"), in_tree(m, "outside", "limit"))
    soon(lambda: read(b("remaining")) == "7\n", "renamed limit")
    os.unlink(in_tree(m, "outside", "limit"))
    soon(lambda: read(b("remaining")) == "unlimited\n", "end of the limit")


@claim()
def a_bad_value_in_tree_is_reported_and_the_old_one_stays_in_force(m):
    m.expects("budgets/bent")
    b = budget(m, "bent")
    write(b("limit"), "5\n")
    write(in_tree(m, "bent", "limit"), "lots\n")
    soon(lambda: "budgets/bent/limit" in read(m("status")), "report")
    equal(read(b("remaining")), "5\n")
    write(in_tree(m, "bent", "limit"), "6\n")
    soon(lambda: read(m("status")) == "ok\n", "end of the report")
    equal(read(b("remaining")), "6\n")


@claim()
def an_account_made_in_tree_appears_and_goes(m):
    os.mkdir(in_tree(m, "made"))
    write(in_tree(m, "made", "members"), "alice\nbob\n")
    soon(lambda: exists(m("budgets", "made", "members"))
         and read(m("budgets", "made", "members")) == "alice\nbob\n", "account")
    assert "made" in os.listdir(m("budgets"))
    shutil.rmtree(in_tree(m, "made"))
    soon(lambda: not exists(m("budgets", "made")), "end of the account")
    assert "made" not in os.listdir(m("budgets"))


@claim()
def mkdir_rmdir_and_rm_r_work_on_both_sides(m):
    m.sh("mkdir budgets/one && rmdir budgets/one && mkdir budgets/two && "
         "echo 5 > budgets/two/limit && rm -r budgets/two", check=True)
    for name in ("one", "two"):
        assert not exists(m("budgets", name)) and not exists(in_tree(m, name))
    with refused(errno.EINVAL):
        os.mkdir(m("budgets", "no name"))
    with refused(errno.EEXIST):
        os.mkdir(m("budgets", "default"))
    with refused(errno.ENOENT):
        os.rmdir(m("budgets", "nobody-there"))
    with refused(errno.EPERM):
        write(m("budgets", "file"), "")


@claim()
def default_is_always_there(m):
    with refused(errno.EBUSY):
        os.rmdir(m("budgets", "default"))
    write(m("budgets", "default", "requests_per_day"), "100000\n")
    equal(read(in_tree(m, "default", "requests_per_day")), "100000\n")
    shutil.rmtree(in_tree(m, "default"))
    soon(lambda: read(m("budgets", "default", "requests_per_day")) == "", "end of the setting")
    assert exists(m("budgets", "default", "limit"))


@claim()
def who_has_asked_shows_what_default_says_and_a_first_setting_makes_it_its_own(m):
    b = lambda *names: m("budgets", ME, *names)
    assert not exists(b())
    m.session(tokens=2).ask("hello")
    wait_for(lambda: exists(b()), "account")
    write(m("budgets", "default", "limit"), "3\n")
    write(m("budgets", "default", "requests_per_day"), "100000\n")
    equal((read(b("limit")), read(b("requests_per_day"))), ("3\n", "100000\n"))
    m.sh("rm -r budgets/%s" % ME, check=True)
    assert exists(b()) and not exists(in_tree(m, ME)), "what only was looked at is configured"
    write(b("limit"), "4\n")
    equal(read(in_tree(m, ME, "limit")), "4\n")
    # It begins with what default says: a limit more does not take the others away.
    equal((read(b("limit")), read(b("requests_per_day"))), ("4\n", "100000\n"))
    equal(read(in_tree(m, ME, "requests_per_day")), "100000\n")
    m.sh("rm -r budgets/%s" % ME, check=True)
    assert not exists(in_tree(m, ME))
    equal(read(b("limit")), "3\n")
    m.sh("rm -f budgets/default/*", check=True)
    equal(read(b("limit")), "")


@claim()
def verbs_of_ctl_are_refused_at_the_write(m):
    b = budget(m, "verbs")
    m.sh("echo reset > $F; echo 'credit 0.5' > $F", F=b("ctl"), check=True)
    for verb in ("explode", "credit", "credit lots"):
        done = m.sh("echo \"$V\" > $F", F=b("ctl"), V=verb)
        assert done.returncode and "Invalid argument" in done.stderr, (verb, done)


@claim()
def the_ledger_grows_by_whole_lines_with_an_exact_size_and_wakes_who_polls(m):
    b = budget(m, ME)
    logs = []
    try:
        write(b("limit"), "1000\n")
        write(b("alerts"), "0.5\n")
        write(m("models", "tiny", "price_output"), "40000000\n")
        logs = [os.open(b(name), os.O_RDONLY) for name in ("ledger", "events")]
        p = select.poll()
        for fd in logs:
            while os.read(fd, 65536):
                pass
            p.register(fd, select.POLLIN)
        with follower(b("ledger")) as tail:
            before = tail.text
            equal(p.poll(200), [])
            m.session(tokens=20).ask("hello")
            for fd in logs:
                wait_for(lambda: fd in dict(p.poll(1000)), "poller woken")
                line = os.read(fd, 65536)
                assert line.endswith(b"\n") and json.loads(line.splitlines()[0])
            for name in ("ledger", "events"):
                equal(os.stat(b(name)).st_size, len(read(b(name))))
            wait_for(lambda: tail.more().endswith(b"\n") and tail.text != before, "a line of tail")
            equal(json.loads(tail.text[len(before):].splitlines()[0])["model"], "tiny")
        m.sh("grep -r tiny budgets/%s > /dev/null; tar c budgets > /dev/null" % ME, check=True)
    finally:
        for fd in logs:
            os.close(fd)
        os.unlink(m("models", "tiny", "price_output"))
        m.sh("rm -r budgets/%s" % ME, check=True)


@claim(root=True)
def others_look_at_budgets_and_neither_change_them_nor_read_a_ledger(m):
    budget(m, "shown")
    m.sh("cat budgets/shown/window budgets/shown/limit; ls -l budgets/shown", user=12345, check=True)
    for script in ("cat budgets/shown/ledger", "cat budgets/shown/spent", "echo 1 > budgets/shown/limit",
                   "echo reset > budgets/shown/ctl", "mkdir budgets/mine", "rmdir budgets/shown",
                   "cat guards/audit", "echo > guards/input/mine.rules", "rm budgets/shown/limit"):
        done = m.sh(script, user=12345)
        assert done.returncode, "%r was allowed" % script
        assert "Permission denied" in done.stderr or "not permitted" in done.stderr, done
    assert exists(m("budgets", "shown"))


@claim(root=True)
def a_user_reads_what_he_has_spent_and_no_other_does(m):
    name = "12345"  # of that uid, which has none
    m.sh("exec 3<>models/tiny/ask; echo hello >&3; cat <&3", user=12345, check=True)
    files = ["ledger", "events", "spent", "remaining"]
    for file in files:
        m.sh("cat budgets/%s/%s" % (name, file), user=12345, check=True)
        st = os.stat(m("budgets", name, file))
        equal((st.st_uid, st.st_gid, st.st_mode & 0o7777), (12345, os.getegid(), 0o400))
        done = m.sh("cat budgets/%s/%s" % (name, file), user=12346)
        assert "Permission denied" in done.stderr, done
        read(m("budgets", name, file))
    # What is written is no business of his either.
    st = os.stat(m("budgets", name, "ctl"))
    equal((st.st_uid, st.st_mode & 0o7777), (os.geteuid(), 0o600))
    for script in ("echo 'credit 100' > budgets/%s/ctl", "echo reset > budgets/%s/ctl",
                   "cat budgets/%s/ctl", "echo 5 > budgets/%s/limit"):
        done = m.sh(script % name, user=12345)
        assert done.returncode and "Permission denied" in done.stderr, (script, done)
    # What was wrong with a setting is no business of his.
    st = os.stat(m("budgets", name, "error"))
    equal((st.st_uid, st.st_mode & 0o7777), (os.geteuid(), 0o400))
    done = m.sh("cat budgets/%s/error" % name, user=12345)
    assert "Permission denied" in done.stderr, done
    # Those of a group are the daemon's user's.
    budget(m, "crew")
    write(m("budgets", "crew", "members"), name + "\n")
    m.sh("exec 3<>models/tiny/ask; echo hello >&3; cat <&3", user=12345, check=True)
    done = m.sh("cat budgets/crew/ledger", user=12345)
    assert "Permission denied" in done.stderr, done
    os.rmdir(m("budgets", "crew"))


@claim(own=True)
def settings_and_what_was_used_survive_a_restart(Mount):
    with Mount() as m:
        b = budget(m, ME)
        write(b("limit"), "5\n")
        write(m("models", "tiny", "price_output"), "1000\n")
        m.session(tokens=10).ask("hello")
        wait_for(lambda: read(b("spent")) == "0.01\n", "charge", 10, lambda: read(b("spent")))
        ledger = read(b("ledger"))
        m.stop()
        m.start()
        equal((read(b("limit")), read(b("spent")), read(b("remaining")), read(b("ledger"))),
              ("5\n", "0.01\n", "4.99\n", ledger))


@claim()
def a_list_of_which_a_line_is_refused_changes_nothing(m):
    os.mkdir(m("budgets", "staff"))
    write(m("budgets", "staff", "members"), "ann\n")
    done = m.sh("printf 'bob\\n\\n not a name\\n' > budgets/staff/members; echo $?")
    equal(done.stdout, "1\n")
    equal(read(m("budgets", "staff", "members")), "ann\n")
    os.rmdir(m("budgets", "staff"))


@claim()
def a_member_of_default_is_refused_and_not_kept(m):
    with refused(errno.EINVAL):
        write(m("budgets", "default", "members"), "ann\n")
    equal(read(m("budgets", "default", "members")), "")
    assert not exists(in_tree(m, "default", "members"))
    equal(read(m("status")), "ok\n")


@claim(own=True)
def a_limit_with_a_fault_at_the_start_refuses(Mount):
    with Mount(start=False, allow=["budgets/"]) as m:
        path = os.path.join(m.tree, "budgets", ME)
        os.makedirs(path)
        write(os.path.join(path, "limit"), "5x\n")
        m.start()
        s = m.session()
        with refused(errno.EDQUOT):
            s.submit("hello")
        assert "limit" in read(s("error")), read(s("error"))
        assert "budgets/" in read(m("status")), read(m("status"))
        write(os.path.join(path, "limit"), "5\n")
        wait_for(lambda: read(m("status")) == "ok\n", "ok")
        assert s.ask("hello")


harness.main(*(["-o", "allow_other"] if os.getuid() == 0 else []))
