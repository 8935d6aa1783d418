#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""models/: mkdir and rmdir, path, ctl, state, info, metrics, the default symlink; files that are no
models."""
import errno
import json
import os
import shutil
import subprocess
import time

import harness
from harness import MODEL, claim, equal, exists, quick, read, read_bytes, refused, wait_for, write

COUNT = [0]


def make(m, path=None, load=True):
    """A new model directory with that path, and its state once loading has ended."""
    COUNT[0] += 1
    name = "m%d" % COUNT[0]
    os.mkdir(m("models", name))
    if path is not None:
        write(m("models", name, "path"), path + "\n")
    if load:
        write(m("models", name, "ctl"), "load\n")
        wait_for(lambda: not state(m, name).startswith("loading"), "end of loading", 20)
    return name


def state(m, name):
    return read(m("models", name, "state")).strip()


def fails(m, path, *words):
    """A model with such a path fails with a sentence, its requests with EBADMSG or the like, and
    the daemon lives."""
    name = make(m, path)
    said = state(m, name)
    assert said.startswith("failed: ") and len(said) > 20, said
    for word in words:
        assert word in said, said
    equal((said.count("models/" + name), said.count(path)), (1, 1))
    s = m.session(model=name)
    with refused(errno.EBADMSG, errno.ENOTSUP, errno.EHOSTUNREACH):
        s.submit("hello")
        read_bytes(s("out"))
    equal("failed: " + read(s("error")).strip(), said)
    os.rmdir(m("models", name))
    return said


def copy(m, name, n=None, change=None):
    data = bytearray(read_bytes(MODEL)[:n])
    if change:
        change(data)
    path = os.path.join(m.top, name)
    write(path, bytes(data))
    return path


@claim()
def mkdir_makes_a_model_and_rmdir_removes_it(m):
    m.sh("mkdir models/new && echo %s > models/new/path && cat models/new/state" % MODEL,
         check=True)
    assert "new" in os.listdir(m("models"))
    s = m.session(model="new")
    assert s.ask("hello")
    m.sh("rmdir models/new", check=True)
    assert not exists(m("models", "new")) and "new" not in os.listdir(m("models"))
    with refused(errno.EHOSTUNREACH):
        s.submit("hello")


@claim()
def a_default_that_answers_no_prompts_is_refused_and_its_error_says_why(m):
    name = make(m, MODEL, load=False)
    write(m("models", name, "capabilities"), "json\n")
    done = m.sh("ln -sfn %s models/default" % name)
    assert done.returncode and "Invalid argument" in done.stderr, done
    equal((os.readlink(m("models", "default")), read(m("status"))), ("tiny", "ok\n"))
    equal(read(m("models", name, "error")),
          "default: the model %s does not chat: chat is none of its capabilities\n" % name)
    harness.reset(m("models", name, "capabilities"))
    m.sh("ln -sfn %s models/default" % name, check=True)
    equal(read(m("models", name, "error")), "")
    # What TREE says is in force all the same, and in status.
    write(os.path.join(m.tree, "models", name, "capabilities"), "json\n")
    wait_for(lambda: "models/default points to %s: " % name in read(m("status")), "degraded")
    m.sh("ln -sfn tiny models/default", check=True)
    equal(read(m("status")), "ok\n")
    os.rmdir(m("models", name))


@claim()
def a_fallback_may_be_made_later_and_is_none_of_the_routers(m):
    name = make(m, MODEL, load=False)
    write(m("models", name, "fallback"), "later tiny\n")
    equal(read(m("status")), "degraded: models/%s/fallback: there is no model later\n" % name)
    for routers in ("auto", "tiny cascade"):
        with refused(errno.EINVAL):
            write(m("models", name, "fallback"), routers + "\n")
        assert "is the router's" in read(m("models", name, "error"))
    equal(read(m("models", name, "fallback")), "later tiny\n")
    os.mkdir(m("models", "later"))
    assert "model later has neither path" in read(m("status")), read(m("status"))
    write(m("models", "later", "path"), MODEL + "\n")
    equal(read(m("status")), "ok\n")
    for one in (name, "later"):
        os.rmdir(m("models", one))


@claim()
def a_model_of_nothing_says_so_and_does_not_degrade_the_mount(m):
    m.sh("mkdir models/half", check=True)
    assert state(m, "half").startswith("unset: model half has neither path nor endpoint: "), state(m, "half")
    info = json.loads(read(m("models", "half", "info")))
    equal((info["state"], info["unset"]), ("unset", "has neither path nor endpoint"))
    equal(read(m("status")), "ok\n")
    s = m.session(model="half")
    with refused(errno.EHOSTUNREACH):
        s.ask("hello")
    assert "neither path nor endpoint" in read(s("error")), read(s("error"))
    write(m("models", "half", "path"), MODEL + "\n")
    equal(state(m, "half"), "unloaded")
    assert "unset" not in json.loads(read(m("models", "half", "info")))
    assert s.ask("hello")
    m.sh("rm -r models/half", check=True)


@claim()
def rm_r_removes_a_model(m):
    m.sh("mkdir models/old && echo %s > models/old/path && rm -r models/old" % MODEL, check=True)
    assert not exists(m("models", "old"))


@claim()
def rm_r_of_the_default_model_leaves_its_key_and_its_prices(m):
    m.sh("mkdir models/dear; cd models/dear; echo http://127.0.0.1:9/v1 > endpoint; echo sk-nobody > key;"
         "echo 3 > price_input; echo big > remote_name; ln -sfn dear ../default", check=True)
    names = ["endpoint", "price_input", "remote_name"]
    for tool in ("rm -r models/dear", "rm -rf models/dear", "find models/dear -delete"):
        done = m.sh(tool)
        assert done.returncode and "models/dear/price_input" in done.stderr, (tool, done)
        equal([read(m("models", "dear", name)) for name in names], ["http://127.0.0.1:9/v1\n", "3\n", "big\n"])
        equal(json.loads(read(m("models", "dear", "info")))["key"], True)
    m.sh("rm models/dear/key models/dear/price_input", check=True)  # who means just these
    m.sh("ln -sfn tiny models/default; rm -r models/dear", check=True)
    assert not exists(m("models", "dear"))


@claim()
def rm_r_of_the_default_model_leaves_it_a_model(m):
    path = os.path.join(m.tree, "models", "tiny", "path")
    before = read(path)
    done = m.sh("rm -r models/tiny")
    assert done.returncode and "models/tiny/path': Device or resource busy" in done.stderr, done
    equal((read(path), read(m("models", "tiny", "path"))), (before, before))
    with refused(errno.EBUSY):
        os.unlink(m("models", "tiny", "path"))
    said = read(m("models", "tiny", "error"))
    assert said.startswith("path: models/default points to tiny"), said
    write(m("models", "tiny", "quality"), "0.25\n")
    m.sh("rm models/tiny/quality", check=True)  # by itself it may go
    assert m.session().ask("hello")
    # Another path may be written, and one that has an endpoint as well may go.
    write(m("models", "tiny", "path"), before)
    write(m("models", "tiny", "endpoint"), "http://127.0.0.1:9/v1\n")
    m.sh("rm models/tiny/path", check=True)
    write(m("models", "tiny", "path"), before)
    m.sh("rm models/tiny/endpoint", check=True)
    make(m, MODEL, load=False)
    m.sh("ln -sfn short models/default && rm models/tiny/path", check=True)
    write(m("models", "tiny", "path"), before)
    m.sh("ln -sfn tiny models/default", check=True)


@claim()
def a_new_model_is_a_directory_in_tree(m):
    name = make(m, MODEL, load=False)
    equal(read(os.path.join(m.tree, "models", name, "path")), MODEL + "\n")
    os.rmdir(m("models", name))
    assert not exists(os.path.join(m.tree, "models", name))


@claim()
def model_names_are_checked(m):
    for name in ("x" * 65, "sp ace", "\u00e4"):
        with refused(errno.EINVAL, errno.ENAMETOOLONG):
            os.mkdir(m("models", name))
    with refused(errno.EEXIST):
        os.mkdir(m("models", "tiny"))


@claim()
def load_and_unload_are_verbs_and_state_follows(m):
    name = make(m, MODEL)
    equal(state(m, name), "ready")
    write(m("models", name, "ctl"), "unload\n")
    wait_for(lambda: state(m, name) == "unloaded", "unloaded")
    s = m.session(model=name)
    assert s.ask("hello"), "the first request loads"
    equal(state(m, name), "ready")
    with refused(errno.EINVAL):
        write(m("models", name, "ctl"), "explode\n")
    os.rmdir(m("models", name))


@claim()
def unload_in_mid_answer_ends_it_with_an_error_or_waits(m):
    name = make(m, MODEL)
    s = m.session(model=name)
    s.begin()
    write(m("models", name, "ctl"), "unload\n")
    s.idle()
    assert s.status() in ("cancelled", "failed"), s.status()
    os.rmdir(m("models", name))


@claim()
def rmdir_in_mid_answer_ends_the_answer(m):
    name = make(m, MODEL)
    s = m.session(model=name)
    s.begin()
    os.rmdir(m("models", name))
    with refused(errno.ECANCELED, errno.EHOSTUNREACH):
        read_bytes(s("out"))


@claim()
def info_is_json_and_metrics_are_prometheus_text(m):
    m.session().ask("hello")
    info = json.loads(read(m("models", "tiny", "info")))
    equal(info["architecture"], "llama")
    assert "ready" == state(m, "tiny")
    assert any(isinstance(v, int) and v == 32768 for v in info.values()), info
    for line in read(m("models", "tiny", "metrics")).splitlines():
        if not line.startswith("#"):
            float(line.rsplit(" ", 1)[1])


@claim()
def backend_is_in_force_at_the_next_load_and_info_says_so(m):
    name = make(m, MODEL)
    f = lambda what: m("models", name, what)
    info = lambda: json.loads(read(f("info")))
    write(f("backend"), "cpu\n")
    write(f("ctl"), "unload\nload\n")
    wait_for(lambda: state(m, name) == "ready", "loaded")
    assert info()["backend"].startswith("cpu/") and "outdated" not in info(), info()
    line = 'llm_engine_batch_sequences{model="%s",backend="%s"}' % (name, info()["backend"])
    assert line in read(f("metrics")), read(f("metrics"))
    assert line in read(m("metrics", "prometheus"))
    write(f("backend"), "cpu\n")
    assert "outdated" not in info(), "nothing has changed"
    write(f("backend"), "cuda\n")
    assert info()["outdated"] is True and info()["backend"].startswith("cpu/"), info()
    m.expects("models/%s: .*" % name)
    write(f("ctl"), "unload\nload\n")
    wait_for(lambda: state(m, name).startswith(("failed: ", "ready")), "an end of loading")
    if state(m, name) == "ready": # there is a GPU
        assert info()["backend"].startswith("cuda/"), info()
    else:
        assert "CUDA" in state(m, name) or "GPU" in state(m, name), state(m, name)
    write(f("backend"), "auto\n")
    write(f("ctl"), "load\n")
    wait_for(lambda: state(m, name) == "ready", "loaded on what there is")
    assert info()["backend"].startswith("cuda/") or info()["backend_note"], info()
    os.rmdir(m("models", name))


@claim()
def fp8_is_in_force_at_the_next_load_and_refused_by_the_processor(m):
    name = make(m, MODEL)
    f = lambda what: m("models", name, what)
    info = lambda: json.loads(read(f("info")))
    for what in "fp8", "kv_fp8":
        m.expects("models/%s: .*" % name)
        write(f("backend"), "cpu\n")
        write(f(what), "off\n")
        write(f("ctl"), "unload\nload\n")
        wait_for(lambda: state(m, name) == "ready", "loaded")
        assert "outdated" not in info() and "fp8" not in info(), info()
        write(f(what), "on\n")
        assert info()["outdated"] is True, info()
        write(f("ctl"), "unload\nload\n")
        wait_for(lambda: state(m, name).startswith("failed: "), "an end of loading")
        assert "the processor does not compute in FP8" in state(m, name), state(m, name)
        # With a GPU that can it is in force, and else the processor takes it as it is.
        write(f("backend"), "auto\n")
        write(f("ctl"), "load\n")
        wait_for(lambda: state(m, name) == "ready", "loaded on what there is")
        assert info().get(what) is True or info()["backend_note"], info()
        write(f(what), "\n")
    write(f("memory_share"), "0.5\n")
    assert info()["outdated"] is True, info()
    os.rmdir(m("models", name))


@claim()
def default_is_a_symlink_that_ln_sfn_moves(m):
    name = make(m, MODEL)
    equal(os.readlink(m("models", "default")), "tiny")
    m.sh("ln -sfn %s models/default" % name, check=True)
    equal(os.readlink(m("models", "default")), name)
    equal(os.readlink(os.path.join(m.tree, "models", "default")), name)
    assert m.session().ask("hello")
    with refused(errno.EBUSY):
        os.rmdir(m("models", name))
    m.sh("ln -sfn tiny models/default", check=True)
    equal(read(m("models", "default", "path")), MODEL + "\n")
    os.rmdir(m("models", name))


@claim()
def default_is_turned_in_the_ways_that_people_try_or_left_alone(m):
    name = make(m, MODEL)
    for script in ("ln -sfn $N models/default", "ln -sfT $N models/default", "cd models; ln -sfn $N/ default",
                   "rm models/default; ln -s $N models/default", "ln -sfnr models/$N models/default",
                   "ln -s $N models/.new && mv -T models/.new models/default"):
        m.sh(script, N=name, check=True)
        equal(os.readlink(m("models", "default")), name)
        equal(os.readlink(os.path.join(m.tree, "models", "default")), name)
        m.sh("ln -sfn tiny models/default", check=True)
    for script, said in (("ln -s $N models/default", "not permitted"), ("ln -sf $N models/default", "not permitted"),
                         ("ln -sfn models/$N models/default", "Invalid argument"),
                         ("ln -sfn $PWD/models/$N models/default", "Invalid argument"),
                         ("cp -r models/$N models/default", "not permitted"),
                         ("mv -T models/$N models/default", "cannot overwrite"),
                         ("echo $N > models/default", "irectory"), ("mkdir models/default", "File exists")):
        done = m.sh(script, N=name)
        assert done.returncode and said in done.stderr, (script, done)
        equal(os.readlink(m("models", "default")), "tiny")
    os.rmdir(m("models", name))


@claim()
def a_default_that_points_to_nothing_is_named_by_the_refusal(m):
    m.sh("ln -sfn nowhere models/default", check=True)
    s = m.session()
    with refused(errno.EHOSTUNREACH):
        write(s("in"), "hello")
    equal(read(s("error")), "models/default points to nowhere, which is not there\n")
    assert "models/default points to nowhere" in read(m("status")), read(m("status"))
    m.sh("ln -sfn tiny models/default", check=True)
    assert "default" not in read(m("status")), read(m("status"))


@claim()
def default_points_only_to_a_bare_sibling(m):
    for target in ("/etc", "../sessions", "a/b", ".", ".."):
        m.sh("ln -sfn %s models/default" % target)
        equal(os.readlink(m("models", "default")), "tiny")
    with refused(errno.EPERM, errno.EINVAL, errno.EACCES):
        os.symlink("tiny", m("sessions", "link"))


@claim()
def a_relative_path_is_relative_to_its_directory_in_tree(m):
    name = make(m, load=False)
    shutil.copy(MODEL, os.path.join(m.tree, "models", name, "here.gguf"))
    write(m("models", name, "path"), "here.gguf\n")
    write(m("models", name, "ctl"), "load\n")
    wait_for(lambda: state(m, name) == "ready", "ready", 20, lambda: state(m, name))
    equal(read(m("models", name, "path")), "here.gguf\n")
    with refused(errno.ENOTEMPTY):
        os.rmdir(m("models", name))
    equal(state(m, name), "ready")
    os.unlink(os.path.join(m.tree, "models", name, "here.gguf"))
    os.rmdir(m("models", name))


@claim()
def a_missing_file_fails_with_a_sentence(m):
    fails(m, "/nonexistent/model.gguf", "/nonexistent/model.gguf")


@claim()
def a_fifo_as_path_does_not_hang(m):
    path = os.path.join(m.top, "fifo")
    os.mkfifo(path)
    fails(m, path, "regular")


@claim()
def a_device_or_directory_as_path_is_refused(m):
    fails(m, "/dev/zero", "regular")
    fails(m, "/dev/null", "regular")
    fails(m, "/usr", "regular")


@claim()
def a_path_on_the_mount_itself_is_refused(m):
    for target in (m("README"), m("sessions", "main", "chat"), m("sessions", "main", "out")):
        fails(m, target)


@claim()
def garbage_and_empty_files_are_refused_with_a_sentence(m):
    write(os.path.join(m.top, "empty"), b"")
    fails(m, os.path.join(m.top, "empty"))
    write(os.path.join(m.top, "garbage"), os.urandom(100000))
    fails(m, os.path.join(m.top, "garbage"), "GGUF")
    write(os.path.join(m.top, "magic"), b"GGUF\x03\0\0\0" + b"\xff" * 4096)
    fails(m, os.path.join(m.top, "magic"))


@claim()
def truncated_models_are_refused_with_a_sentence(m):
    size = os.stat(MODEL).st_size
    for n in (4, 23, 24, 1000, size // 2, size - 1):
        fails(m, copy(m, "cut", n))


@claim()
def a_download_into_a_file_of_full_size_that_has_not_finished_is_refused(m):
    size = os.stat(MODEL).st_size
    for n in (size // 8, size // 2, size - 300000):  # the last: most of output.weight
        path = copy(m, "sparse", n)
        os.truncate(path, size)
        fails(m, path, "ends in zeros")


@claim()
def another_version_or_architecture_is_not_supported(m):
    def version(d):
        d[4] = 9
    fails(m, copy(m, "v9", change=version), "version")

    def architecture(d):
        at = d.index(b"\x05\0\0\0\0\0\0\0llama")
        d[at + 8:at + 13] = b"zebra"
    fails(m, copy(m, "zebra", change=architecture), "zebra")


@claim(limit=90)
def flipped_bytes_never_take_the_daemon_down(m):
    name = make(m, load=False)
    for at in range(8, 2200, 97):
        def flip(d, at=at):
            d[at] ^= 0xff
        write(m("models", name, "path"), copy(m, "flipped", change=flip) + "\n")
        write(m("models", name, "ctl"), "load\n")
        wait_for(lambda: not state(m, name).startswith("loading"), "end of loading", 20)
        write(m("models", name, "ctl"), "unload\n")
    os.rmdir(m("models", name))


@claim()
def a_repaired_file_loads_after_a_failure(m):
    path = copy(m, "repaired", 1000)
    name = make(m, path)
    assert state(m, name).startswith("failed: ")
    copy(m, "repaired")
    write(m("models", name, "ctl"), "load\n")
    wait_for(lambda: state(m, name) == "ready", "ready", 20, lambda: state(m, name))
    os.rmdir(m("models", name))


@claim()
def a_file_truncated_while_mapped_fails_its_model_not_the_daemon(m):
    path = copy(m, "shrinks")
    name = make(m, path)
    s = m.session(model=name)
    s.begin()
    os.truncate(path, 5000)
    s.idle()
    equal(s.status(), "failed")
    assert read(s("error")).strip()
    with refused(errno.EBADMSG):
        read_bytes(s("out"))
    assert m.session().ask("the other model answers")
    wait_for(lambda: state(m, name).startswith("failed"), "failed", 10, lambda: state(m, name))
    os.rmdir(m("models", name))


@claim()
def a_file_written_over_while_mapped_fails_its_model_until_it_is_loaded_again(m):
    path = copy(m, "rewritten")
    os.utime(path, (1000, 1000))
    name = make(m, path)
    ask = lambda: m.session(model=name, temperature="0").ask("hello")
    before = ask()
    other = bytearray(open(path, "rb").read())
    other[-4096:] = bytes(4096)
    with open(path, "r+b") as f: # as cp does, but for the moment in which the file is short
        f.write(other)
    s = m.session(model=name, temperature="0")
    s.submit("hello")
    s.wait("failed")
    with refused(errno.EIO):
        read_bytes(s("out"))
    say = "%s was written to while it was loaded: `echo load > models/%s/ctl`" % (path, name)
    assert say in read(s("error")), read(s("error"))
    assert state(m, name).startswith("failed: ") and say in state(m, name), state(m, name)
    m.sh("echo load > models/%s/ctl" % name, check=True)
    wait_for(lambda: state(m, name) == "ready", "ready", 20, lambda: state(m, name))
    ask()
    # A file that is replaced leaves the old one as it is.
    info = lambda: json.loads(read(m("models", name, "info")))
    assert "outdated" not in info(), info()
    os.rename(copy(m, "instead"), path)
    assert info()["outdated"] is True and state(m, name) == "ready", info()
    ask()
    m.sh("printf 'unload\\nload\\n' > models/%s/ctl" % name, check=True)
    wait_for(lambda: state(m, name) == "ready", "ready", 20, lambda: state(m, name))
    equal(ask(), before)
    assert "outdated" not in info(), info()
    os.rmdir(m("models", name))


@claim()
def load_without_a_path_says_what_is_missing(m):
    name = make(m, load=False)
    done = m.sh("echo load > models/%s/ctl" % name)
    assert done.returncode != 0 and "write error" in done.stderr, done
    os.rmdir(m("models", name))


@claim()
def an_unknown_template_can_be_named(m):
    def other(d):
        at = d.index(b"tokenizer.chat_template")
        d[at:at + 400] = d[at:at + 400].replace(b"im_start", b"xx_start")
    name = make(m, copy(m, "strange", change=other))
    assert "template" in state(m, name), state(m, name)
    m.sh("echo chatml > models/%s/template; echo load > models/%s/ctl" % (name, name), check=True)
    wait_for(lambda: state(m, name) == "ready", "ready", 20, lambda: state(m, name))
    with refused(errno.EINVAL):
        write(m("models", name, "template"), "klingon\n")
    os.rmdir(m("models", name))


@claim()
def a_template_whose_tokens_the_vocabulary_lacks_is_told_by_info(m):
    name = make(m, MODEL)
    info = lambda: json.loads(read(m("models", name, "info")))
    assert "template_note" not in info(), info()
    m.expects("the template llama3 was named")
    m.sh("echo llama3 > models/%s/template; echo unload > models/%s/ctl; echo load > models/%s/ctl"
         % (name, name, name), check=True)
    wait_for(lambda: info().get("template") == "llama3", "llama3", 20)
    assert "no token <|start_header_id|>" in info()["template_note"], info()
    os.rmdir(m("models", name))


@claim()
def loading_does_not_hold_up_others(m):
    s = m.session()
    s.begin()
    names = [make(m, MODEL, load=False) for _ in range(4)]

    def all_are(word):
        for name in names:
            wait_for(lambda: state(m, name) == word, word, 20, lambda: state(m, name))

    def looked():
        for name in names:
            write(m("models", name, "ctl"), "load\n")
        begin = time.monotonic()
        m.sh("cat sessions/main/status; ls -l models", check=True)
        took = time.monotonic() - begin
        all_are("ready")
        for name in names:
            write(m("models", name, "ctl"), "unload\n")
        all_are("unloaded")
        return took

    quick(looked, 2)
    s.cancel()
    subprocess.run(["rmdir"] + [m("models", n) for n in names], check=True)


@claim()
def a_model_that_could_not_be_loaded_is_in_status(m):
    name = make(m, "/dev/null", load=False)
    equal(read(m("status")), "ok\n")
    write(m("models", name, "ctl"), "load\n")
    wait_for(lambda: state(m, name).startswith("failed"), "failure", 10, lambda: state(m, name))
    assert "degraded: models/%s is failed: " % name in read(m("status")), read(m("status"))
    write(m("models", name, "ctl"), "reset\n")
    equal(read(m("status")), "ok\n")
    os.rmdir(m("models", name))


harness.main(allow=["warning: models/"])
