#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Settings are edited with any editor, in the mount and in TREE; changes of TREE are in force
within a second; SIGHUP rereads all; live names in a TREE are ignored."""
import contextlib
import ctypes
import errno
import os
import shutil
import signal
import subprocess
import threading
import time

import harness
from harness import MODEL, claim, equal, exists, quick, read, refused, soon, write
from programs import typed


def edited(m, script, **environment):
    """The script, run with $F at a file that holds `old words`, makes it `new words`, in a session
    and in a model."""
    s = m.session(system="old words")
    done = m.sh(script, F=s("system"), **environment)
    equal((read(s("system")), done.stdout + done.stderr if done.returncode else ""),
          ("new words\n", ""))
    equal(set(os.listdir(s.path)), set(os.listdir(m("sessions", "main"))))
    name = "edit%d" % m.n_sessions
    os.mkdir(m("models", name))
    write(m("models", name, "path"), "old words\n")
    done = m.sh(script, F=m("models", name, "path"), **environment)
    equal((read(m("models", name, "path")), done.stderr if done.returncode else ""),
          ("new words\n", ""))
    equal(read(os.path.join(m.tree, "models", name, "path")), "new words\n")
    m.sh("rm -r models/%s" % name, check=True)


@claim()
def sed_i_edits_a_setting(m):
    edited(m, "sed -i s/old/new/ $F")


@claim()
def sed_i_of_a_session_setting_by_a_relative_name(m):
    edited(m, "cd $(dirname $F) && sed -i s/old/new/ $(basename $F)")


@claim(tools=("ed",))
def ed_edits_a_setting(m):
    edited(m, "printf 's/old/new/\\nw\\nq\\n' | ed -s $F")


@claim(tools=("vim",))
def vim_edits_a_setting(m):
    edited(m, "vim -u NONE -es -c '%s/old/new/' -c wq $F </dev/null")


@claim(tools=("vim",))
def vim_with_backups_and_renames_edits_a_setting(m):
    edited(m, "vim -u NONE -es -c 'set backup writebackup backupcopy=no backupskip=' -c '%s/old/new/' -c wq "
           "$F </dev/null; rm -f $F~")


@claim(tools=("vim",))
def the_reason_stays_when_vim_puts_back_what_was_there(m):
    s = m.session(temperature="0.5")
    write(m("models/short/quality"), "0.25\n")
    for copy in "yes", "no", "auto":
        for file in s("temperature"), s("top_p"), m("models/short/quality"), m("cache/ttl"):
            write(os.path.dirname(file) + "/max_tokens" if "ttl" not in file else file, "60\n")
            before, error = read(file), os.path.dirname(file) + "/error"
            done = m.sh("vim -u NONE -i NONE -es -c 'set backupskip= backupcopy=%s' -c '%%s/.*/x9/' -c w -c 'qa!' $F "
                        "</dev/null; r=$?; rm -f $F~; exit $r" % copy, F=file)
            assert done.returncode, (copy, file)
            equal((copy, read(file)), (copy, before))
            assert read(error).startswith(os.path.basename(file) + ": must be "), (copy, file, read(error))
    m.sh("rm models/short/quality models/short/max_tokens cache/ttl", check=True)


@claim()
def unlinking_a_setting_clears_the_reason(m):
    s = m.session(temperature="0.5")
    write(m("models", "short", "quality"), "0.25\n")
    for file in s("temperature"), s("top_p"), m("models", "short", "quality"), m("cache", "ttl"):
        for _ in "set", "not set":
            error = os.path.join(os.path.dirname(file), "error")
            with refused(errno.EINVAL):
                write(file, "x9\n")
            assert read(error).startswith(os.path.basename(file) + ": must be "), (file, read(error))
            harness.reset(file)
            equal((file, read(error)), (file, ""))


@claim(tools=("nano",))
def nano_edits_a_setting(m):
    s = m.session(system="old words")
    typed(s("system"), b"old words", (b"\x0b", b""), (b"new words", b"words"),
          (b"\x0f", b"Write"), (b"\r", b"Wrote"))
    equal(read(s("system")), "new words\n")


@claim()
def shell_redirects_cp_tee_and_python_edit_a_setting(m):
    edited(m, "echo new words > $F")
    edited(m, "echo new words > %s/new && cp %s/new $F" % (m.top, m.top))
    edited(m, "echo new words | tee $F")
    edited(m, "python3 -c 'import sys; open(sys.argv[1], \"w\").write(\"new words\\n\")' $F")


@claim()
def write_a_temporary_file_and_rename_it_over(m):
    edited(m, "echo new words > $F.tmp && mv $F.tmp $F")


@claim()
def a_renamed_over_value_that_is_nonsense_is_refused_and_said(m):
    s = m.session(temperature="0.5")
    done = m.sh("echo hot > $S/t.tmp; mv $S/t.tmp $S/temperature", S=s.path)
    assert done.returncode != 0 or read(s("error")).strip(), done
    equal(read(s("temperature")), "0.5\n")


# ---- what is put in a setting's place from another file system: unlinked, and made with O_EXCL ----

def placers(m):
    """Scripts that put $N in the place of $F, a path below the mount's top."""
    found = ["mv $N $F", "install -m 600 $N $F", "cp --remove-destination $N $F", "cp -p $N $F"]
    if shutil.which("rsync"):
        found += ["rsync -I $N $F", "rsync -I --inplace $N $F"]
    if shutil.which("git"):
        found.append("rm -rf $G; mkdir -p $G/$(dirname $F); mv $N $G/$F; git -C $G init -q; git -C $G add .;"
                     "git -C $G -c user.name=a -c user.email=b commit -qm x &&"
                     "git --git-dir=$G/.git --work-tree=. checkout -qf -- $F")
    return [(script, dict(N=os.path.join(m.top, "new"), G=os.path.join(m.top, "repository"))) for script in found]


def place(m, script, file, text, environment):
    write(environment["N"], text)
    return m.sh(script, F=file, **environment)


@claim()
def mv_install_git_and_rsync_put_a_value_in_a_settings_place(m):
    s = m.session()
    for script, environment in placers(m):
        for file, old, new in (("models/short/quality", "0.25\n", "0.75\n"), ("cache/ttl", "60\n", "90\n"),
                               ("sessions/%s/system" % s.name, "old\n", "new words\nof two lines\n"),
                               ("sessions/%s/messages.json" % s.name, "[]\n",
                                '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]\n')):
            write(m(file), old)
            done = place(m, script, file, new, environment)
            equal((script, file, done.returncode, done.stderr), (script, file, 0, ""))
            if file.endswith(".json"):
                equal([x["content"] for x in s.messages()][-2:], ["a", "b"])
            else:
                equal(read(m(file)), new)
    m.sh("rm models/short/quality cache/ttl", check=True)


@claim()
def what_is_refused_in_a_settings_place_is_an_error_and_leaves_the_old_value(m):
    s = m.session()
    for script, environment in placers(m):
        for file, old, new in (("models/short/quality", "0.25\n", "hot\n"), ("models/short/quality", "0.25\n", "7"),
                               ("cache/ttl", "60\n", "soon\n"), ("budgets/default/limit", "3\n", "-3.50\n"),
                               ("sessions/%s/system" % s.name, "old\n", "x" * 1500000),
                               ("sessions/%s/temperature" % s.name, "0.5\n", "hot\n")):
            write(m(file), old)
            done = place(m, script, file, new, environment)
            assert done.returncode and done.stderr, (script, file, done)
            equal((script, file, read(m(file))), (script, file, old))
            said = read(m(os.path.dirname(file), "error"))
            if len(new) > 1000000 and script == "rsync -I $N $F":
                continue  # it is too long for the file that rsync makes beside it
            assert said.startswith(os.path.basename(file) + ": must be "), (script, file, said)
    m.sh("rm models/short/quality cache/ttl budgets/default/limit", check=True)


@claim()
def rules_put_in_the_place_of_others_are_in_force_and_bad_ones_leave_the_old(m):
    file = "guards/input/placed.rules"
    for script, environment in placers(m):
        s = m.session()
        write(m(file), "block old /oldword/\n")
        done = place(m, script, file, "block new /newword/\n", environment)
        equal((script, done.returncode, done.stderr), (script, 0, ""))
        with refused(errno.EPERM):
            s.submit("a newword")
        assert s.ask("an oldword")
        done = place(m, script, file, "block new (((\n", environment)
        # git and rsync, which renames, do not look at what a close says, or there is none.
        assert done.returncode or "git" in script or script == "rsync -I $N $F", (script, done)
        equal(read(m(file)), "block new (((\n")
        assert "placed.rules:1:11" in read(m("guards", "status")), script
        with refused(errno.EPERM):
            s.submit("a newword")
        assert s.ask("an oldword"), script  # those before are in force
    m.sh("rm " + file, check=True)


@claim()
def a_key_can_be_moved_in_place(m):
    for name in ("first", "second"):
        write(os.path.join(m.top, "secret"), "sk-%s\n" % name)
        m.sh("mv ../secret models/short/key", check=True)
    m.sh("rm models/short/key", check=True)


@claim()
def a_file_that_was_not_unlinked_is_not_made_anew(m):
    s = m.session(temperature="0.5")
    done = m.sh("rm $S/temperature; set -C; echo 1 > $S/temperature", S=s.path)
    assert done.returncode and "overwrite" in done.stderr, done
    equal(read(s("temperature")), "0\n")
    with refused(errno.EEXIST):
        open(s("top_p"), "x")
    os.unlink(s("top_p"))
    with open(s("top_p"), "x") as f:
        f.write("0.5\n")
    equal(read(s("top_p")), "0.5\n")
    with refused(errno.EEXIST):
        open(s("top_p"), "x")
    os.unlink(s("top_k"))
    with refused(errno.EPERM):
        os.mkfifo(s("top_k"))
    os.unlink(s("status"))
    with refused(errno.EACCES):
        open(s("status"), "x")


@claim()
def what_was_unlinked_is_there_for_who_renames_another_over_it(m):
    s = m.session(temperature="0.5")
    libc = ctypes.CDLL(None, use_errno=True)
    write(m("models", "short", "quality"), "0.5\n")
    for file in s("temperature"), m("models", "short", "quality"):
        os.unlink(file)
        write(file + ".new", "0.75\n")
        os.rename(file + ".new", file)
        equal(read(file), "0.75\n")
        assert os.path.basename(file) in os.listdir(os.path.dirname(file))
        os.unlink(file)
        write(file + ".new", "hot\n")
        with refused(errno.EINVAL):
            os.rename(file + ".new", file)
        equal(read(file), "0.75\n")  # it was refused
        write(file + ".new", "0.25\n")
        ends = os.fsencode(file + ".new"), os.fsencode(file)
        equal((libc.renameat2(-100, ends[0], -100, ends[1], 1), ctypes.get_errno()), (-1, errno.EEXIST))
        os.unlink(file)
        equal(libc.renameat2(-100, ends[0], -100, ends[1], 1), 0)  # RENAME_NOREPLACE
        equal(read(file), "0.25\n")
    os.unlink(m("models", "short", "quality"))


@claim()
def what_was_unlinked_is_there_as_soon_as_another_thread_or_program_writes_it(m):
    s = m.session()
    write(s("new"), "0.75\n")
    for script in ("echo 0.75 > $S/temperature", "echo 0.75 | dd of=$S/temperature conv=nocreat,notrunc status=none",
                   "mv $S/new $S/temperature"):
        os.unlink(s("temperature"))
        assert not exists(s("temperature")), script
        m.sh(script, check=True, S=s.path)
        equal((script, read(s("temperature"))), (script, "0.75\n"))
    os.unlink(s("temperature"))
    thread = threading.Thread(target=write, args=(s("temperature"), "0.5\n"))
    thread.start()
    thread.join()
    equal(read(s("temperature")), "0.5\n")


@claim()
def a_default_is_not_written_down_for_a_value_that_was_refused(m):
    for file in ("cache", "ttl"), ("router", "threshold"), ("models", "short", "quality"):
        for prepare in (lambda: None, lambda: write(m(*file) + ".new", "hot\n")):
            prepare()
            soon(lambda: exists(m(*file)), "the file, if it was unlinked before")
            os.unlink(m(*file))
            with refused(errno.EINVAL):
                if exists(m(*file) + ".new"):
                    os.rename(m(*file) + ".new", m(*file))
                else:
                    write(m(*file), "hot\n")
            assert not exists(os.path.join(m.tree, *file)), file
        os.unlink(m(*file) + ".new")


@claim()
def what_another_program_has_set_since_an_unlink_stays_when_the_new_value_is_refused(m):
    s = m.session(temperature="0.5")
    write(s("new"), "hot\n")
    for anew in (lambda: write(s("temperature"), "hot\n"), lambda: os.rename(s("new"), s("temperature"))):
        write(s("temperature"), "0.5\n")
        os.unlink(s("temperature"))
        m.sh("echo 1.5 > $S/temperature", check=True, S=s.path)
        with refused(errno.EINVAL):
            anew()
        equal(read(s("temperature")), "1.5\n")


# ---- TREE from outside ----

@claim()
def a_setting_changed_in_tree_is_in_force_within_a_second(m):
    path = os.path.join(m.tree, "models", "tiny", "path")
    read(m("models", "tiny", "path"))
    others = (os.path.join(m.top, "other%d.gguf" % i) for i in range(10))

    def seen():
        other = next(others)
        os.symlink(MODEL, other)
        begin = time.monotonic()
        write(path, other + "\n")
        soon(lambda: read(m("models", "tiny", "path")) == other + "\n", "new path")
        equal(os.stat(m("models", "tiny", "path")).st_size, len(other) + 1)
        return time.monotonic() - begin

    quick(seen, 1.5)
    write(path + ".tmp", MODEL + "\n")
    os.rename(path + ".tmp", path)
    soon(lambda: read(m("models", "tiny", "path")) == MODEL + "\n", "renamed path")


@claim()
def a_model_made_in_tree_appears_and_goes(m):
    top = os.path.join(m.tree, "models", "outside")
    os.mkdir(top)
    write(os.path.join(top, "path"), MODEL + "\n")
    soon(lambda: exists(m("models", "outside", "state")), "model")
    soon(lambda: read(m("models", "outside", "path")) == MODEL + "\n", "path")
    assert "outside" in os.listdir(m("models"))
    assert m.session(model="outside", tokens=3).ask("hello")
    shutil.rmtree(top)
    soon(lambda: not exists(m("models", "outside")), "end of the model")
    assert "outside" not in os.listdir(m("models"))


@claim()
def a_model_moved_into_tree_appears_with_its_settings(m):
    top = os.path.join(m.top, "moved")
    os.mkdir(top)
    write(os.path.join(top, "path"), MODEL + "\n")
    os.rename(top, os.path.join(m.tree, "models", "moved"))
    soon(lambda: exists(m("models", "moved", "path"))
         and read(m("models", "moved", "path")) == MODEL + "\n", "model")
    os.rename(os.path.join(m.tree, "models", "moved"), top)
    soon(lambda: not exists(m("models", "moved")), "end of the model")


@claim()
def the_default_link_moved_in_tree_is_in_force(m):
    top = os.path.join(m.tree, "models", "second")
    os.mkdir(top)
    write(os.path.join(top, "path"), MODEL + "\n")
    subprocess.run(["ln", "-sfn", "second", os.path.join(m.tree, "models", "default")], check=True)
    soon(lambda: os.readlink(m("models", "default")) == "second", "new default")
    subprocess.run(["ln", "-sfn", "tiny", os.path.join(m.tree, "models", "default")], check=True)
    soon(lambda: os.readlink(m("models", "default")) == "tiny", "old default")
    shutil.rmtree(top)


@claim()
def what_is_written_in_the_mount_is_in_tree(m):
    m.sh("mkdir models/both && echo /somewhere > models/both/path", check=True)
    equal(read(os.path.join(m.tree, "models", "both", "path")), "/somewhere\n")
    m.sh("rm models/both/path", check=True)
    assert not exists(os.path.join(m.tree, "models", "both", "path"))
    m.sh("rmdir models/both", check=True)
    assert not exists(os.path.join(m.tree, "models", "both"))


@claim()
def bad_settings_in_tree_do_no_harm(m):
    top = os.path.join(m.tree, "models", "odd")
    m.expects(".")
    os.mkdir(top)
    os.mkdir(os.path.join(top, "template"))
    write(os.path.join(top, "path"), b"\xff\xfe\0" * 1000)
    os.mkdir(os.path.join(m.tree, "models", "bad name!"))
    os.mkfifo(os.path.join(m.tree, "models", "fifo"))
    soon(lambda: exists(m("models", "odd")), "the odd model")
    read(m("models", "odd", "state"))
    assert m.session(tokens=3).ask("hello")
    shutil.rmtree(top)
    os.rmdir(os.path.join(m.tree, "models", "bad name!"))
    os.unlink(os.path.join(m.tree, "models", "fifo"))


@claim(own=True)
def live_names_in_a_tree_are_ignored(Mount):
    m = Mount(start=False)
    for path in ("sessions/ghost", "metrics"):
        os.makedirs(os.path.join(m.tree, path))
    for path in ("version", "status", "sessions/ghost/in", "metrics/requests_total",
                 "models/tiny/state", "models/tiny/ctl", "models/tiny/ask"):
        write(os.path.join(m.tree, path), "from the tree\n")
    with m.start():
        assert not exists(m("sessions", "ghost"))
        for path in ("version", "status", "metrics/requests_total", "models/tiny/state"):
            assert "from the tree" not in read(m(path)), path
        assert m.session(tokens=3).ask("hello")


@claim(own=True)
def sighup_rereads_the_tree(Mount):
    with Mount() as m:
        top = os.path.join(m.tree, "models", "late")
        os.mkdir(top)
        write(os.path.join(top, "path"), MODEL + "\n")
        for _ in range(3):
            m.kill(signal.SIGHUP)
        soon(lambda: exists(m("models", "late", "path"))
             and read(m("models", "late", "path")) == MODEL + "\n", "model")
        s = m.session()
        s.begin()
        m.kill(signal.SIGHUP)
        time.sleep(0.2)
        equal(s.status(), "generating")
        s.cancel()


@claim(own=True)
def readme_of_tree_is_the_readme_of_the_mount(Mount):
    m = Mount(start=False)
    write(os.path.join(m.tree, "README"), "a tour\n")
    with m.start():
        equal(read(m("README")), "a tour\n")


@claim()
def a_tree_in_git_sees_only_configuration(m):
    s = m.session()
    s.ask("hello")
    names = set()
    for top, dirs, files in os.walk(m.tree):
        names |= {os.path.relpath(os.path.join(top, f), m.tree) for f in files + dirs}
    for name in names:
        assert name.split("/")[0] not in ("sessions", "metrics", "trace", "version", "status"), name
        assert os.path.basename(name) not in ("state", "info", "metrics", "ctl", "ask"), name


@claim()
def statfs_and_fsync_work_as_editors_need(m):
    s = m.session()
    os.statvfs(m.path)
    fd = os.open(s("system"), os.O_RDWR)
    os.write(fd, b"synced\n")
    os.fsync(fd)
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"again\n", 0)
    os.fsync(fd)
    os.close(fd)
    equal(read(s("system")), "again\n")
    m.sh("df $M > /dev/null; touch $S/system; chmod u+w $S/system", S=s.path)
    equal(read(s("system")), "again\n")
    with contextlib.suppress(OSError):
        os.chmod(m("version"), 0o777)
    equal(os.stat(m("version")).st_mode & 0o777, 0o444)


harness.main()
