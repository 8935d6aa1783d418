#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""router/ and cache/ as files: settings that are edited in the mount and in TREE, their faults, what
is live there, who may do what. What router and cache do is routed.py's and cached.py's."""
import errno
import json
import os
import shutil
import signal
import stat
import time

import harness
from harness import claim, equal, exists, quick, read, refused, soon, status_has, status_is_ok, write

# file: (good values, bad ones). The first good value is not the default.
SETTINGS = {
    "router": {
        "policy": (["cost", "quality", "latency", "balanced"], ["fastest", "1"]),
        "weights": ([], ["nonsense"]),
        "classes": ([], []),
        "threshold": (["1", "0.6", "0"], ["high", "-1"]),
        "cascade_judge": (["tiny", "# none"], ["auto", "tiny short", "no/name"]),
        "cascade_judge_timeout_ms": (["500", "10000"], ["0", "600001", "soon"]),
        "classifier_model": (["short"], ["cascade", "a b", "../x"]),
        "classifier_timeout_ms": (["1", "2000"], ["0", "600001", "-1"]),
    },
    "cache": {
        "enabled": (["0", "1"], ["yes", "2x"]),
        "ttl": (["60", "0", "86400"], ["a day", "-1"]),
        "threshold": (["0.9", "1", "0.95"], ["high", "-1"]),
        "scope": (["global", "user"], ["all", "0"]),
        "embedding_model": (["tiny"], []),
        "max_memory": (["1048576", "67108864"], ["-1", "lots"]),
        "max_entries": (["1000"], ["-1", "lots"]),
        "max_disk": (["1048576"], ["-1", "lots"]),
    },
}
LIVE = {"router": {"explain": 0o666, "explain_error": 0o444, "error": 0o400},
        "cache": {"stats": 0o444, "ctl": 0o600, "lookup": 0o666, "lookup_error": 0o444, "error": 0o400}}
EDITED = [("cache/ttl", "600", "700"), ("router/threshold", "0.6", "0.7")]


def in_tree(m, *names):
    return os.path.join(m.tree, *names)


def each():
    for part, settings in SETTINGS.items():
        for file, (good, bad) in settings.items():
            yield part + "/" + file, good, bad


def passed(m):
    """Returns when all that was in TREE before has been seen: by the pass that ends this fault."""
    m.expects("router/threshold in TREE")
    os.makedirs(in_tree(m, "router"), exist_ok=True)
    write(in_tree(m, "router", "threshold"), "high\n")
    status_has(m, "router/threshold in TREE")
    os.unlink(in_tree(m, "router", "threshold"))
    soon(lambda: "router/threshold" not in read(m("status")), "end of the report")


def only_files(m, part):
    equal(set(os.listdir(m(part))), set(SETTINGS[part]) | set(LIVE[part]))


# ---- what is there ----

@claim()
def every_file_is_there_and_belongs_to_the_daemons_user(m):
    for part in SETTINGS:
        only_files(m, part)
        equal(os.stat(m(part)).st_mode, stat.S_IFDIR | 0o755)
        for name in os.listdir(m(part)):
            st = os.stat(m(part, name))
            equal((name, st.st_uid, st.st_mode),
                  (name, os.geteuid(), stat.S_IFREG | LIVE[part].get(name, 0o644)))


@claim()
def what_was_never_set_shows_its_default_and_is_not_in_tree(m):
    for file, value in (("cache/enabled", "1\n"), ("cache/ttl", "86400\n"), ("cache/scope", "user\n"),
                        ("cache/threshold", "0.95\n"), ("cache/embedding_model", ""),
                        ("cache/max_memory", "67108864\n"), ("cache/max_entries", "100000\n"),
                        ("cache/max_disk", "1073741824\n"), ("router/policy", "balanced\n"),
                        ("router/cascade_judge", ""), ("router/cascade_judge_timeout_ms", "10000\n"),
                        ("router/classifier_model", ""), ("router/classifier_timeout_ms", "2000\n")):
        equal((file, read(m(file))), (file, value))
        equal(os.stat(m(file)).st_size, len(value))
        assert not exists(in_tree(m, file))
    for file in ("router/weights", "router/classes", "router/threshold"):
        assert read(m(file)).endswith("\n"), file


@claim()
def a_good_value_comes_back_and_is_in_tree_and_unlink_resets(m):
    for file, good, _ in each():
        default = read(m(file))
        for value in good + ([default.rstrip("\n")] if default.strip() else []):
            write(m(file), value + "\n")
            equal((file, read(m(file)), read(in_tree(m, file))), (file,) + (value + "\n",) * 2)
            equal(os.stat(m(file)).st_size, len(value) + 1)
        harness.reset(m(file))
        equal((file, read(m(file))), (file, default))
        assert not exists(in_tree(m, file))
    equal(read(m("status")), "ok\n")


@claim()
def the_empty_text_resets_in_the_mount_as_in_tree_and_what_is_in_force_is_shown(m):
    for file, good, _ in each():
        default = read(m(file))
        for value in good[:1]:
            for truncate in (": > $F", "cp /dev/null $F", "truncate -s 0 $F"):
                write(m(file), value + "\n")
                m.sh(truncate, F=m(file), check=True)
                # The kernel tells of the last close, and waits for nobody.
                soon(lambda: read(m(file)) == default, "default of " + file, lambda: read(m(file)))
                assert not exists(in_tree(m, file))
            write(m(file), value + "\n")
            write(in_tree(m, file), "")
            assert read(m(file)) in (value + "\n", default), file  # never nothing
            soon(lambda: read(m(file)) == default, "default of " + file, lambda: read(m(file)))
            os.unlink(in_tree(m, file))
    equal(read(m("status")), "ok\n")


@claim()
def nonsense_is_refused_at_the_write_and_changes_nothing(m):
    for file, good, bad in each():
        before = read(m(file))
        for value in bad:
            done = m.sh("printf '%s\\n' \"$V\" > $F", F=m(file), V=value)
            assert done.returncode and "Invalid argument" in done.stderr, (file, value, done)
            equal((file, read(m(file)), exists(in_tree(m, file))), (file, before, False))
        if good and bad:
            write(m(file), good[0] + "\n")
            with refused(errno.EINVAL):
                write(m(file), bad[0] + "\n")
            equal((read(m(file)), read(in_tree(m, file))), (good[0] + "\n",) * 2)
            harness.reset(m(file))


@claim(limit=90)
def settings_are_edited_with_editors(m):
    for file, old, new in EDITED:
        for script in ("echo $NEW > $F", "sed -i s/$OLD/$NEW/ $F", "echo $NEW | tee $F",
                       "printf \"s/$OLD/$NEW/\\nw\\nq\\n\" | ed -s $F",
                       "echo $NEW > $F.new && mv $F.new $F",
                       "cd $(dirname $F) && sed -i s/$OLD/$NEW/ $(basename $F)",
                       "vim -u NONE -i NONE -es -c \"s/$OLD/$NEW/\" -c wq $F </dev/null",
                       "vim -u NONE -i NONE -es -c 'set backup backupskip= backupcopy=no' "
                       "-c \"s/$OLD/$NEW/\" -c wq $F </dev/null; rm -f $F~"):
            if not all(harness.has(x) for x in ("ed", "vim") if x + " -" in script):
                continue
            write(m(file), old + "\n")
            m.sh(script, F=m(file), OLD=old, NEW=new, check=True)
            equal((script, read(m(file)), read(in_tree(m, file))), (script, new + "\n", new + "\n"))
            only_files(m, os.path.dirname(file))
            equal(os.listdir(in_tree(m, os.path.dirname(file))), [os.path.basename(file)])
        harness.reset(m(file))


@claim()
def the_lines_of_weights_and_classes_are_edited_with_editors(m):
    for file in ("router/weights", "router/classes"):
        text = read(m(file))
        m.sh("sed -i 's/$/ /; s/ $//' $F", F=m(file), check=True)
        equal((file, read(m(file)), read(in_tree(m, file))), (file, text, text))
        m.sh("cp $F $OUT && cp $OUT $F && cat $OUT > $F", F=m(file), OUT=os.path.join(m.top, "copy"),
             check=True)
        equal(read(in_tree(m, file)), text)
        harness.reset(m(file))
        equal((read(m(file)), exists(in_tree(m, file))), (text, False))


@claim()
def scratch_files_of_editors_stay_in_memory(m):
    for part in SETTINGS:
        m.sh("echo notes > $P/.policy.swp && mv $P/.policy.swp $P/notes && cat $P/notes && rm $P/notes",
             P=part, check=True)
        only_files(m, part)
        assert not exists(in_tree(m, part, "notes"))


@claim()
def nothing_else_is_made_or_removed_there(m):
    for part in SETTINGS:
        with refused(errno.EPERM):
            os.mkdir(m(part, "more"))
        with refused(errno.EPERM):
            os.rmdir(m(part))
        with refused(errno.EPERM):
            os.unlink(m(part, min(LIVE[part])))
        with refused(errno.EPERM, errno.EXDEV):
            os.rename(m(part), m("other"))
        only_files(m, part)


# ---- TREE ----

@claim()
def what_tree_says_and_no_longer_says_is_seen_within_a_second(m):
    # A file shows TREE's text at once, whoever else knows it: what the cache does proves it.
    os.makedirs(in_tree(m, "cache"), exist_ok=True)
    is_hit(m, "within a second")
    assert is_hit(m, "within a second")

    def timed(change, done, what):
        begin = time.monotonic()
        change()
        soon(done, what)
        return time.monotonic() - begin

    def slower():
        return max(timed(lambda: write(in_tree(m, "cache", "enabled"), "0\n"),
                         lambda: not is_hit(m, "within a second"), "end of the hits"),
                   timed(lambda: os.unlink(in_tree(m, "cache", "enabled")),
                         lambda: is_hit(m, "within a second"), "a hit"))

    quick(slower, 1.5)
    write(in_tree(m, "cache", "new"), "620\n")
    os.rename(in_tree(m, "cache", "new"), in_tree(m, "cache", "ttl"))
    passed(m)
    equal((read(m("cache", "ttl")), os.stat(m("cache", "ttl")).st_size), ("620\n", 4))
    os.unlink(in_tree(m, "cache", "ttl"))
    soon(lambda: read(m("cache", "ttl")) == "86400\n", "default", lambda: read(m("cache", "ttl")))
    assert "new" not in os.listdir(m("cache"))


@claim()
def a_directory_moved_into_tree_is_in_force_and_moved_away_is_not(m):
    top = os.path.join(m.top, "router")
    os.mkdir(top)
    write(os.path.join(top, "policy"), "cost\n")
    shutil.rmtree(in_tree(m, "router"), ignore_errors=True)
    os.rename(top, in_tree(m, "router"))
    passed(m)
    equal(read(m("router", "policy")), "cost\n")
    os.rename(in_tree(m, "router"), top)
    soon(lambda: read(m("router", "policy")) == "balanced\n", "default",
         lambda: read(m("router", "policy")))
    write(m("router", "policy"), "latency\n")
    equal(read(in_tree(m, "router", "policy")), "latency\n")
    os.unlink(m("router", "policy"))


@claim()
def a_bad_value_in_tree_is_reported_and_the_one_before_comes_back_into_force(m):
    m.expects("cache/threshold in TREE", "router/policy in TREE")
    for file, good, bad in (("cache/threshold", "0.9", "high"), ("router/policy", "cost", "fastest")):
        write(m(file), good + "\n")
        write(in_tree(m, file), bad + "\n")
        status_has(m, file + " in TREE")
        # The file shows what it holds, and it is edited from there.
        equal(read(m(file)), bad + "\n")
        m.sh("sed -i s/%s/%s/ $F" % (bad, good), F=m(file), check=True)
        status_is_ok(m)
        write(in_tree(m, file), bad + "\n")
        status_has(m, file + " in TREE")
        os.unlink(m(file))
        status_is_ok(m)
        assert not exists(in_tree(m, file))


@claim()
def what_is_no_regular_file_in_tree_is_reported(m):
    m.expects("cache/ttl in TREE", "router/threshold in TREE")
    for file in ("cache/ttl", "router/threshold"):
        os.makedirs(in_tree(m, os.path.dirname(file)), exist_ok=True)
        os.mkfifo(in_tree(m, file))
        status_has(m, file + " in TREE: not a regular file")
        os.unlink(in_tree(m, file))
        status_is_ok(m)


@claim(root=True)
def a_setting_that_others_can_write_in_tree_is_not_taken(m):
    m.expects("cache/scope in TREE")
    os.makedirs(in_tree(m, "cache"), exist_ok=True)
    write(in_tree(m, "cache", "new"), "global\n")
    os.chmod(in_tree(m, "cache", "new"), 0o666)
    os.rename(in_tree(m, "cache", "new"), in_tree(m, "cache", "scope"))
    status_has(m, "cache/scope in TREE", "can be written by a user other than root")
    os.unlink(in_tree(m, "cache", "scope"))
    status_is_ok(m)


@claim(own=True)
def settings_of_tree_are_in_force_from_the_start_and_at_sighup(Mount):
    m = Mount(start=False, allow=["cache/enabled in TREE"])
    for file, value in (("cache/ttl", "90"), ("cache/enabled", "perhaps"), ("router/policy", "cost")):
        os.makedirs(in_tree(m, os.path.dirname(file)), exist_ok=True)
        write(in_tree(m, file), value + "\n")
    with m.start():
        equal((read(m("cache", "ttl")), read(m("router", "policy"))), ("90\n", "cost\n"))
        status_has(m, "cache/enabled in TREE")
        write(in_tree(m, "cache", "enabled"), "0\n")
        m.kill(signal.SIGHUP)
        status_is_ok(m)
        equal(read(m("cache", "enabled")), "0\n")
        write(m("router", "policy"), "quality\n")
        m.stop()
        m.start()
        equal((read(m("cache", "enabled")), read(m("router", "policy"))), ("0\n", "quality\n"))


def hits(m):
    values = dict(line.split() for line in read(m("cache", "stats")).splitlines())
    return sum(int(v) for k, v in values.items() if k.startswith("hits_"))


def is_hit(m, prompt):
    before = hits(m)
    m.session().ask(prompt)
    return hits(m) > before


@claim()
def what_tree_says_of_the_cache_is_what_it_does(m):
    os.makedirs(in_tree(m, "cache"), exist_ok=True)
    is_hit(m, "turn it off")
    assert is_hit(m, "turn it off")
    write(in_tree(m, "cache", "enabled"), "0\n")
    passed(m)
    assert not is_hit(m, "turn it off")
    os.unlink(in_tree(m, "cache", "enabled"))
    passed(m)
    is_hit(m, "turn it off")
    assert is_hit(m, "turn it off")


@claim()
def a_fault_closes_the_cache_until_it_ends_also_when_the_value_is_the_one_before(m):
    m.expects("cache/ttl in TREE")
    write(m("cache", "ttl"), "600\n")
    is_hit(m, "close it")
    assert is_hit(m, "close it")
    write(in_tree(m, "cache", "ttl"), "soon\n")
    status_has(m, "cache/ttl in TREE")
    passed(m)
    assert not is_hit(m, "close it")
    write(in_tree(m, "cache", "ttl"), "600\n")
    status_is_ok(m)
    is_hit(m, "close it")
    assert is_hit(m, "close it")
    os.unlink(m("cache", "ttl"))


# ---- what is live ----

@claim()
def stats_are_name_value_lines(m):
    lines = read(m("cache", "stats")).splitlines()
    assert len(lines) > 1
    for line in lines:
        name, value = line.split(" ")
        assert name.replace("_", "").isalnum() and float(value) >= 0, line
    equal(os.stat(m("cache", "stats")).st_size, len(read(m("cache", "stats"))))


@claim()
def verbs_of_ctl_are_refused_at_the_write(m):
    m.sh("echo flush > $F; echo 'flush nobody' > $F; printf flush > $F", F=m("cache", "ctl"),
         check=True)
    for verb in ("explode", "flushall", "load"):
        done = m.sh("echo \"$V\" > $F", F=m("cache", "ctl"), V=verb)
        assert done.returncode and "Invalid argument" in done.stderr, (verb, done)


@claim()
def explain_and_lookup_are_channels_that_say_json_again_and_again(m):
    for file in ("router/explain", "cache/lookup"):
        before = len(os.listdir(m("sessions")))
        done = m.sh("exec 3<>%s; for i in 1 2 3; do echo 'What is a token?' >&3; cat <&3; "
                    "printf '\\001'; done; exec 3>&-" % file, check=True)
        answers = done.stdout.split("\x01")[:-1]
        equal(len(answers), 3)
        for answer in answers:
            assert isinstance(json.loads(answer), dict), (file, answer)
        equal(len(os.listdir(m("sessions"))), before)
        with open(m(file), "rb", buffering=0) as f:
            equal(f.read(), b"")


@claim()
def why_a_channel_refused_is_in_a_file_beside_it_until_one_goes_well(m):
    for file in ("router/explain", "cache/lookup", "guards/test"):
        word, why = file.split("/")[1], m(file + "_error")
        equal(read(why), "")
        done = m.sh("exec 3<>%s; printf '\\377' >&3; cat %s_error" % (file, file))
        equal(done.stdout, "%s: the prompt is not UTF-8 (byte 1)\n" % word)
        equal(os.stat(why).st_size, len(read(why)))
        equal(stat.S_IMODE(os.stat(why).st_mode), 0o444)
        m.sh("exec 3<>%s; head -c 70000 /dev/zero | tr '\\0' x >&3" % file)
        equal(read(why), "%s: the prompt is longer than 65536 bytes\n" % word)
        m.sh("exec 3<>%s; echo hi >&3; cat <&3" % file, check=True)
        equal(read(why), "")


@claim(root=True)
def why_a_channel_refused_is_another_text_for_each_user(m):
    for file in ("router/explain", "cache/lookup", "guards/test"):
        m.sh("exec 3<>%s; printf '\\377' >&3" % file)
        equal(m.sh("cat %s_error" % file, user=12345, check=True).stdout, "")
        assert "UTF-8" in read(m(file + "_error"))


@claim(root=True)
def others_read_and_ask_and_change_nothing(m):
    m.sh("cat router/policy cache/ttl cache/stats; ls -l router cache; "
         "for f in router/explain cache/lookup; do exec 3<>$f; echo hi >&3; cat <&3; done", user=12345,
         check=True)
    for script in ("echo cost > router/policy", "echo 0 > cache/enabled", "rm cache/ttl",
                   "echo flush > cache/ctl", "touch router/notes"):
        done = m.sh(script, user=12345)
        assert done.returncode, "%r was allowed" % script
        assert "Permission denied" in done.stderr or "not permitted" in done.stderr, done
    equal(read(m("router", "policy")), "balanced\n")


@claim()
def walks_over_router_and_cache_end(m):
    write(m("cache", "ttl"), "4242\n")
    done = m.sh("ls -lR router cache > /dev/null && grep -r 4242 router cache; "
                "find router cache -type f -exec cat {} + > /dev/null && "
                "tar cf - router cache | tar tf -", timeout=50)
    lines = done.stdout.split()
    assert "cache/ttl:4242" in lines and "cache/stats" in lines, done
    os.unlink(m("cache", "ttl"))


harness.CACHE = True
harness.main(*(["-o", "allow_other"] if os.getuid() == 0 else []))
