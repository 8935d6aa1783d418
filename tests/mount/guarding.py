#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files of rules are edited with any editor while requests run, in the mount and in TREE
(interface.md §5): what is saved is kept, the last good rules stay in force, and at no instant does
a prompt pass that both the old and the new text refuse."""
import contextlib
import errno
import os
import threading
import time

import harness
from harness import claim, equal, exists, quick, read, refused, wait_for, write
from programs import follower, typed

OLD = "# rules of a test\nblock  kept  /keepout/\nblock  word  /oldword/\n"
NEW = OLD.replace("oldword", "newword")
BROKEN = OLD.replace("oldword", "(word")


class Asking:
    """While it is entered prompts are asked that must be refused, all the time, and one that is
    answered."""

    def __init__(self, m, prompt="please keepout"):
        self.m, self.prompt = m, prompt
        self.refused, self.passed, self.stop = 0, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        s = self.m.session(tokens=1)
        while not self.stop.is_set():
            try:
                write(s("in"), self.prompt + "\n")
                self.passed += 1
            except PermissionError:
                self.refused += 1
            time.sleep(0.001)

    def __enter__(self):
        self.busy = self.m.session(tokens=20000)
        self.busy.submit("go on")
        self.thread.start()
        wait_for(lambda: self.refused + self.passed, "first prompt")
        return self

    def __exit__(self, kind, value, tb):
        self.stop.set()
        self.thread.join()
        self.busy.cancel()
        os.rmdir(self.busy.path)
        if kind is None:
            equal(self.passed, 0)
            assert self.refused > 0


def is_refused(m, prompt):
    s = m.session(tokens=1)
    try:
        write(s("in"), prompt + "\n")
        s.idle()
        return False
    except PermissionError:
        return True
    finally:
        os.rmdir(s.path)


@contextlib.contextmanager
def rules(m, text=OLD, name="edit.rules"):
    """A file of rules, in the mount and in TREE."""
    path = m("guards", "input", name)
    tree = os.path.join(m.tree, "guards", "input", name)
    write(path, text)
    try:
        yield path, tree
    finally:
        # Emptied first: one that was renamed away a moment ago stays in force for another.
        for f in os.listdir(m("guards", "input")):
            write(m("guards", "input", f), "#\n")
            os.unlink(m("guards", "input", f))
        wait_for(lambda: not is_refused(m, "keepout oldword newword"), "end of the rules", 10)
        # A last close comes late, and finds that there is nothing to save.
        wait_for(lambda: not os.listdir(os.path.dirname(tree)), "empty TREE", 10,
                 lambda: str(os.listdir(os.path.dirname(tree))))


def edited(m, script, where="mount", **environment):
    """The script, run with $F at the file, makes it NEW."""
    m.expects("guards/")
    with rules(m) as (path, tree):
        with Asking(m):
            done = m.sh(script, F=path if where == "mount" else tree, **environment)
            equal((done.returncode, done.stderr), (0, ""))
            wait_for(lambda: read(path) == NEW, "new text", 10, lambda: read(path))
            wait_for(lambda: is_refused(m, "newword"), "new rules", 10)
        equal(read(tree), NEW)
        equal(os.stat(path).st_size, len(NEW))
        assert not is_refused(m, "oldword")
        assert "edit.rules:" not in read(m("guards", "status"))


def broken(m, script, where="mount", keeps=(BROKEN,), tells=False, **environment):
    """The script saves BROKEN: that is the text from then on, and OLD is in force. `tells`: what was
    wrong is to be read also where the script has put OLD back."""
    m.expects("guards/")
    with rules(m) as (path, tree):
        with Asking(m):
            done = m.sh(script, F=path if where == "mount" else tree, **environment)
            wait_for(lambda: read(path) in keeps, "saved text", 10, lambda: read(path))
            fault = "input/edit.rules:3:"
            if read(path) == BROKEN:
                wait_for(lambda: fault in read(m("guards", "status")), "fault", 10)
            if tells:
                assert fault in read(m("guards", "error")), read(m("guards", "error"))
            assert is_refused(m, "oldword")
        equal(read(tree), read(path))
    return done


SED = "-i -e '%s' $F"
EDIT, BREAK = "s/oldword/newword/", "s/oldword/(word/"
ED = "printf '%s\\nw\\nq\\n' | ed -s $F"


@claim()
def sed_i_edits_rules(m):
    edited(m, "sed " + SED % EDIT)
    equal(broken(m, "sed " + SED % BREAK).returncode, 0)


@claim(tools=("ed",))
def ed_edits_rules(m):
    edited(m, ED % ("%" + EDIT).replace("%", "%%"))
    broken(m, ED % ("%" + BREAK).replace("%", "%%"))


def vim(command, *options):
    """What a person's vim does: backups everywhere, also below /tmp."""
    return ("vim -u NONE -i NONE -es -c 'set backupskip= swapfile %s' -c '%%%s' -c wq $F "
            "</dev/null" % (" ".join(options), command))


def vim_claims(name, *options):
    def f(m):
        leave = "" if "nobackup" in options else "; rm -f $F~"
        edited(m, vim(EDIT, *options) + leave)
        # Told of the fault, vim puts its backup back, and has the text itself.
        done = broken(m, vim(BREAK, *options), keeps=(BROKEN, OLD), tells="backupcopy=no" in options)
        assert done.returncode != 0, "vim did not notice"
    f.__name__ = name
    claim(tools=("vim",))(f)


vim_claims("vim_with_its_own_choice_of_backups", "writebackup", "nobackup", "backupcopy=auto")
vim_claims("vim_that_renames_the_file_away", "writebackup", "nobackup", "backupcopy=no")
vim_claims("vim_that_renames_the_file_away_and_keeps_it", "backup", "backupcopy=no")
vim_claims("vim_that_copies_the_file_and_writes_in_place", "writebackup", "nobackup",
           "backupcopy=yes")
vim_claims("vim_that_copies_the_file_and_keeps_the_copy", "backup", "backupcopy=yes")
vim_claims("vim_without_fsync", "writebackup", "nobackup", "backupcopy=no", "nofsync")


@claim(tools=("vim",))
def vim_without_a_backup_saves_what_is_broken(m):
    done = broken(m, vim(BREAK, "nowritebackup", "nobackup"))
    assert done.returncode != 0, "vim did not notice"


# To the third line, cut it, type another, save under the same name; and what is seen then.
def nano_keys(line):
    return ((b"\x1b[B\x1b[B\x0b", b""), (line, b"word/"), (b"\x0f", b"Write"),
            (b"\r", b"Wrote", b"Error writing"))


@claim(tools=("nano",))
def nano_edits_rules_and_shows_the_fault(m):
    with rules(m) as (path, tree):
        with Asking(m):
            typed(path, b"oldword", *nano_keys(b"block  word  /newword/"))
            equal(read(path), NEW)
            assert is_refused(m, "newword")
    with rules(m) as (path, tree):
        with Asking(m):
            shown = typed(path, b"oldword", *nano_keys(b"block  word  /(word/"))
            equal(read(path), BROKEN)
            assert is_refused(m, "oldword")
        assert "Invalid arg" in shown, shown[-400:]  # the line is as wide as the screen
        equal(read(tree), BROKEN)


@claim()
def cp_mv_tee_redirections_and_python_edit_rules(m):
    for text, do in ((NEW, edited), (BROKEN, broken)):
        new = os.path.join(m.top, "new.rules")
        write(new, text)
        do(m, "cat $N > $F", N=new)
        do(m, "tee $F < $N > /dev/null", N=new)
        do(m, "rm $F.t -f; cp $N $F.t && mv $F.t $F", N=new)
        if do is edited:
            # Each command's end saves what there is by then, so this is for good rules only.
            do(m, "{ head -2 $N; tail -1 $N; } > $F", N=new)
            do(m, "cp $N $F", N=new)
            do(m, "python3 -c 'import os; open(os.environ[\"F\"], \"w\").write("
               "open(os.environ[\"N\"]).read())'", N=new)
        else:
            done = do(m, "cp $N $F", N=new)
            assert done.returncode and "Invalid argument" in done.stderr, done
            done = do(m, "dd if=$N of=$F conv=fsync status=none", N=new)
            assert done.returncode and "Invalid argument" in done.stderr, done
            done = do(m, "python3 -c 'import os; f = open(os.environ[\"F\"], \"w\"); "
                      "f.write(open(os.environ[\"N\"]).read()); f.close()'", N=new)
            assert done.returncode and "Invalid argument" in done.stderr, done


@claim()
def a_fault_in_rules_is_the_error_of_close_and_of_fsync(m):
    with rules(m) as (path, _):
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, BROKEN.encode())
        with refused(errno.EINVAL):
            os.fsync(fd)
        equal(read(path), BROKEN)
        os.ftruncate(fd, 0)
        os.pwrite(fd, OLD.encode(), 0)
        os.fsync(fd)
        os.ftruncate(fd, 0)
        os.pwrite(fd, BROKEN.encode(), 0)
        with refused(errno.EINVAL):
            os.close(fd)
        equal(read(path), BROKEN)
        # Who only reads is never told.
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 10)
        os.fsync(fd)
        os.close(fd)
        m.sh("cat $F > /dev/null; cp $F $T", F=path, T=os.path.join(m.top, "copy"), check=True)
        status = [line for line in read(m("guards", "status")).splitlines() if ":3:" in line]
        equal(len(status), 1)
        name, line, column, reason = status[0].split(":", 3)
        assert name == "input/" + os.path.basename(path) and int(column) > 0 and reason.strip()


@claim()
def error_says_what_was_wrong_with_the_last_save_until_one_is_good(m):
    m.expects("guards/")
    error = m("guards", "error")
    with rules(m) as (path, tree):
        equal(read(error), "")
        name = "input/" + os.path.basename(path)
        done = m.sh("cat > $F <<< 'block x /(/'; cat guards/error", F=path)
        assert done.stdout.startswith(name + ":1:"), done
        write(path, OLD)
        equal(read(error), "")
        # A rename succeeds, and has its fault.
        m.sh("sed -i 's/oldword/(word/' $F", F=path, check=True)
        assert read(error).startswith(name + ":3:"), read(error)
        write(os.path.join(tree), OLD)  # not by a write here: that is for status
        wait_for(lambda: name + ":3:" not in read(m("guards", "status")), "end of the fault")
        assert read(error).startswith(name + ":3:"), read(error)
        write(path, OLD)
        equal(read(error), "")
    equal(os.stat(error).st_mode & 0o7777, 0o400)


@claim()
def appending_adds_a_rule(m):
    with rules(m) as (path, tree):
        with Asking(m):
            m.sh("echo 'block  more  /another/' >> $F; echo '# end' >> $F", F=path, check=True)
            assert is_refused(m, "another") and is_refused(m, "oldword")
        equal(read(tree), OLD + "block  more  /another/\n# end\n")
        m.sh("for i in $(seq 30); do echo \"# $i\" >> $F & done; wait", F=path, check=True)
        equal({"# %d" % i for i in range(1, 31)} - set(read(tree).splitlines()), set())


@claim()
def truncating_puts_nothing_out_of_force_before_the_write(m):
    with rules(m) as (path, tree):
        with Asking(m):
            m.sh("{ sleep 0.2; /bin/true; cat $N; } > $F", F=path, check=True,
                 N=write(os.path.join(m.top, "n"), NEW) or os.path.join(m.top, "n"))
            assert is_refused(m, "newword")
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        equal(os.stat(path).st_size, 0)
        equal(read(tree), NEW)
        assert is_refused(m, "keepout")
        os.close(fd)
        wait_for(lambda: not is_refused(m, "keepout"), "end of rules that were emptied")
        equal((read(path), read(tree)), ("", ""))
        m.sh(": > $F; echo 'block  word  /keepout/' >> $F", F=path, check=True)
        equal(read(path), "block  word  /keepout/\n")


# ---- names ----

@claim()
def a_file_renamed_away_is_in_force_for_two_seconds(m):
    with rules(m) as (path, tree):
        begin = time.monotonic()
        os.rename(path, path + ".off")
        equal(read(path + ".off"), OLD)
        equal(read(tree + ".off"), OLD)
        assert not exists(path) and not exists(tree)
        while is_refused(m, "keepout"):
            assert time.monotonic() < begin + 10 * harness.slow()
            time.sleep(0.02)
        assert time.monotonic() > begin + 1.9
        os.rename(path + ".off", path)
        assert is_refused(m, "keepout")
        equal((read(path), read(tree)), (OLD, OLD))
        assert not exists(tree + ".off")


@claim()
def a_file_whose_name_is_back_stays_in_force_while_it_is_written(m):
    with rules(m) as (path, _):
        with Asking(m):
            m.sh("mv $F $F~; { sleep 2.3; cat $F~; } > $F", F=path, check=True)
        equal(read(path), OLD)


@claim()
def a_file_that_is_unlinked_is_out_of_force_at_once(m):
    with rules(m, name="gone.rules") as (path, tree):
        assert is_refused(m, "keepout")
        os.unlink(path)
        assert not is_refused(m, "keepout")
        assert not exists(tree)


@claim()
def a_file_renamed_to_another_name_is_in_force_all_the_time(m):
    with rules(m) as (path, tree):
        other = m("guards", "input", "other.rules")
        with Asking(m):
            m.sh("mv $F $O && mv $O $F && mv -n $F $O", F=path, O=other, check=True)
        assert is_refused(m, "keepout")
        assert "is in" not in read(m("guards", "status"))
        m.sh("mv $O $F.aside && mv $F.aside $F", F=path, O=other, check=True)
        # Away from one name and under another: refused all the time, and without a fault soon.
        assert is_refused(m, "keepout")
        wait_for(lambda: "is in" not in read(m("guards", "status")), "end of the fault", 10)
        assert is_refused(m, "keepout") and not is_refused(m, "hello")


@claim()
def names_that_can_be_no_rules_are_scratch_files_or_refused(m):
    top = m("guards", "input")
    for name in (".x.rules.swp", "4913", "sedAbCdEf", "x.rules~", "#x.rules#", "x.rules.save"):
        write(os.path.join(top, name), "block  x  /keepout/\n")
        equal(read(os.path.join(top, name)), "block  x  /keepout/\n")
        assert not exists(os.path.join(m.tree, "guards", "input", name)), name
        assert not is_refused(m, "keepout")
        assert not exists(m("guards", "output", name)) and not exists(m("guards", name))
        os.unlink(os.path.join(top, name))
    for name in ("two words.rules", "gr\u00fcn.rules", "x" * 60 + ".rules"):
        with refused(errno.EINVAL):
            write(os.path.join(top, name), "")
    with refused(errno.EPERM):
        os.mkdir(os.path.join(top, "dir"))
    with refused(errno.EPERM):
        os.symlink("x", os.path.join(top, "x.rules"))
    equal(os.listdir(top), [])


@claim()
def a_text_of_more_than_256_kib_is_refused(m):
    with rules(m) as (path, _):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        with refused(errno.EFBIG):
            for _ in range(5):
                os.write(fd, b"# " + b"x" * 65533 + b"\n")
        os.close(fd)
        assert is_refused(m, "keepout") and len(read(path)) > 196000


@claim()
def the_judges_file_is_edited_like_rules(m):
    path, tree = m("guards", "moderation"), os.path.join(m.tree, "guards", "moderation")
    nonsense = "nonsense, and not a judge\n"
    m.expects("guards/")
    try:
        with refused(errno.EINVAL):
            write(path, nonsense)
        equal((read(path), read(tree)), (nonsense, nonsense))
        assert "\nmoderation:1:" in "\n" + read(m("guards", "status"))
        m.sh("sed -i s/nonsense/more/ $F; echo '# end' >> $F", F=path)
        equal(read(tree), nonsense.replace("nonsense", "more") + "# end\n")
        os.rename(path, path + ".off")
        equal((exists(path), read(path + ".off")), (False, read(tree + ".off")))
        os.unlink(path + ".off")
        equal((exists(tree), exists(tree + ".off")), (False, False))
    finally:
        for name in ("moderation", "moderation.off"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(m("guards", name))
    wait_for(lambda: not is_refused(m, "hello"), "end of the fault")


@claim()
def every_file_of_guards_is_there_and_only_the_daemons_user_may_write(m):
    equal(set(os.listdir(m("guards"))), {"input", "output", "error", "status", "audit", "test", "test_error"})
    with rules(m) as (path, _):
        equal(os.stat(path).st_mode & 0o7777, 0o644)
        write(m("guards", "moderation"), "")
        wait_for(lambda: exists(m("guards", "moderation")), "moderation")
        equal(os.stat(m("guards", "moderation")).st_mode & 0o7777, 0o644)
        os.unlink(m("guards", "moderation"))
        assert not exists(m("guards", "moderation"))
    equal(os.stat(m("guards", "audit")).st_mode & 0o7777, 0o400)
    equal(os.stat(m("guards", "test")).st_mode & 0o7777, 0o666)


@claim()
def audit_grows_by_whole_lines_with_an_exact_size_and_tail_follows_it(m):
    with rules(m):
        path = m("guards", "audit")
        equal(os.stat(path).st_size, len(read(path)))
        with follower(path) as tail:
            before = len(tail.text)
            assert is_refused(m, "keepout")
            wait_for(lambda: tail.more().endswith(b"\n") and len(tail.text) > before, "a line")
            line = tail.text[before:].decode()
        assert '"kept"' in line and "keepout" not in line, line
        equal(os.stat(path).st_size, len(read(path)))


# ---- TREE from outside ----

@claim()
def rules_edited_in_tree_are_in_force_within_a_second(m):
    with rules(m) as (_, tree):
        words = iter(["word%d" % i for i in range(10)])

        def in_force():
            word = next(words)
            begin = time.monotonic()
            write(tree, OLD.replace("oldword", word))
            wait_for(lambda: is_refused(m, word), "new rules")
            return time.monotonic() - begin

        quick(in_force, 1.5)
    edited(m, "sed " + SED % EDIT, "tree")
    new = os.path.join(m.top, "new.rules")
    write(new, NEW)
    edited(m, "cp $N $F", "tree", N=new)
    edited(m, ": > $F; sleep 0.1; cat $N > $F", "tree", N=new)
    edited(m, "mv $F $F~; sleep 0.3; cp $N $F; rm $F~", "tree", N=new)
    edited(m, "rm -f $F.t; cp $N $F.t; mv $F.t $F", "tree", N=new)
    broken(m, "sed " + SED % BREAK, "tree")


@claim(tools=("vim",))
def vim_edits_rules_in_tree(m):
    for copy in ("yes", "no"):
        edited(m, vim(EDIT, "writebackup", "nobackup", "backupcopy=" + copy), "tree")
        broken(m, vim(BREAK, "writebackup", "nobackup", "backupcopy=" + copy), "tree")


@claim()
def rules_removed_and_renamed_in_tree_go_and_come(m):
    with rules(m, name="gone.rules") as (path, tree):
        os.unlink(tree)
        wait_for(lambda: not is_refused(m, "keepout"), "end of the rules")
        assert not exists(path)
        write(tree, OLD)
        wait_for(lambda: is_refused(m, "keepout"), "rules")
        other = tree.replace("gone", "other")
        os.rename(tree, other)
        wait_for(lambda: exists(m("guards", "input", os.path.basename(other))), "other name")
        wait_for(lambda: "other" in read(m("guards", "status"))
                 and "gone" not in read(m("guards", "status")), "other name in force", 10,
                 lambda: read(m("guards", "status")))
        assert is_refused(m, "keepout")
        os.rename(other, tree)
        wait_for(lambda: "other" not in read(m("guards", "status")), "first name in force")


@claim()
def odd_files_in_tree_are_reported_and_do_no_harm(m):
    m.expects("guards/")
    with rules(m) as (path, tree):
        odd = os.path.join(os.path.dirname(tree), "odd.rules")
        os.symlink("/etc/passwd", odd)
        wait_for(lambda: "odd.rules in TREE: not a regular file" in read(m("status")), "report")
        assert not exists(m("guards", "input", "odd.rules"))
        os.unlink(odd)
        os.mkfifo(odd)
        assert is_refused(m, "keepout")
        os.unlink(odd)
        wait_for(lambda: read(m("status")) == "ok\n", "end of the report")


# ---- restarts ----

@claim(own=True)
def good_rules_survive_a_restart_beside_a_fault_and_a_kill_loses_no_text(Mount):
    with Mount(allow=["guards/"]) as m:
        path, tree = m("guards", "input", "a.rules"), os.path.join(m.tree, "guards/input/a.rules")
        write(path, OLD)
        m.sh("cat $N > $F", F=path, N=write(m.top + "/n", BROKEN) or m.top + "/n")
        write(m("guards", "input", "b.rules"), "block  other  /other/\n")
        os.rename(m("guards", "input", "b.rules"), m("guards", "input", "b.off"))
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        m.kill()
        m.wait()
        with contextlib.suppress(OSError):
            os.close(fd)
        harness.unmount(m.path)
        equal(read(tree), BROKEN)
        equal(read(os.path.join(m.tree, "guards", "input", "b.off")), "block  other  /other/\n")
        m.start()
        equal(read(path), BROKEN)
        assert is_refused(m, "keepout") and is_refused(m, "oldword")
        assert "input/a.rules:3:" in read(m("guards", "status"))


harness.main()
