#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""models/NAME as files of an upstream: its settings; models/auto and models/cascade, which are
always there. Keys are keys.py's. What servers answer is not here."""
import errno
import os
import shutil
import stat

import harness
from harness import MODEL, claim, equal, exists, read, refused, write
from upstream_files import (LIVE, SECRET, SETTINGS, has_key, in_tree, kept, model, passed, soon, status_has,
                            status_is_ok)


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
        harness.reset(m(directory, name))
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


@claim()
def a_good_value_comes_back_and_is_in_tree(m):
    f = model(m, "good")
    for name, (values, _) in SETTINGS.items():
        for value in values:
            write(f(name), value + "\n")
            equal((name, read(f(name)), read(in_tree(m, "good", name))),
                  (name,) + (value + "\n",) * 2)
        harness.reset(f(name))
        equal((name, read(f(name))), (name, ""))
        assert not exists(in_tree(m, "good", name)), name
    equal(read(m("status")), "ok\n")
    m.sh("rm -r models/good", check=True)


@claim()
def nonsense_is_refused_at_the_write_and_changes_nothing(m):
    f = model(m, "bad")
    for name, (values, bad) in SETTINGS.items():
        for value in bad:
            write(f(name), values[0] + "\n")
            done = m.sh("printf '%s\\n' \"$V\" > $F", F=f(name), V=value)
            assert done.returncode and "Invalid argument" in done.stderr, (name, value, done)
            equal((read(f(name)), read(in_tree(m, "bad", name))), (values[0] + "\n",) * 2)
    m.sh("rm -r models/bad", check=True)


@claim()
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


# ---- models/auto, models/cascade ----

VIRTUAL = {"ask": 0o666, "ask_error": 0o444, "state": 0o444, "info": 0o444, "metrics": 0o444}


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
