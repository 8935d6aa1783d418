#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Settings of a session, one value a file: what is good comes back, nonsense is refused at the
write and `error` says what is allowed, unlink resets."""
import errno
import os
import re

import harness
from harness import claim, equal, read, refused, shown, write

GOOD = {
    "model": ["tiny", "default"],
    "system": ["You are a pirate.", "two\nlines", "gr\u00fc\u00dfe \U0001f600"],
    "temperature": ["0", "0.7", "1", "2"],
    "top_p": ["0.1", "0.95", "1"],
    "top_k": ["0", "1", "40"],
    "min_p": ["0", "0.05", "1"],
    "repetition_penalty": ["1", "1.1", "0.5", "10"],
    "presence_penalty": ["0", "0.5", "-2", "2"],
    "frequency_penalty": ["0", "-0.5", "2"],
    "max_tokens": ["1", "256", "100000"],
    "stop": ["END", "one\ntwo", "\n\0", "one\ntwo\0END\0"],
    "seed": ["0", "42", "18446744073709551615"],
    "format": ["text", "json"],
    "ignore_eos": ["0", "1", "on", "off"],
    "truncate": ["oldest-turns", "middle", "off"],
    "max_latency_ms": ["0", "1500"],
    "cache": ["auto", "all", "off"],
}
BAD = {
    "model": ["no/slash", "..", "x" * 65],
    "temperature": ["-1", "hot", "nan", "inf", "1e999", "0.5x", "0,5"],
    "top_p": ["1.5", "-0.1", "0", "most", "nan"],
    "top_k": ["-1", "1.5", "many", "99999999999999999999"],
    "min_p": ["2", "-0.1", "x"],
    "repetition_penalty": ["0", "-1", "11", "some", "nan"],
    "presence_penalty": ["-2.1", "3", "much", "inf"],
    "frequency_penalty": ["-3", "2.01", "x"],
    "max_tokens": ["-5", "1.5", "lots", "99999999999999999999", "0x10"],
    "seed": ["-1", "luck", "1.5", "18446744073709551616"],
    "format": ["xml", "JSON please"],
    "ignore_eos": ["2", "yes please", "-1"],
    "truncate": ["sometimes", "oldest"],
    "max_latency_ms": ["-1", "1.5", "soon"],
    "cache": ["on", "1", "everything"],
}


@claim()
def every_setting_is_there(m):
    s = m.session()
    equal(set(GOOD) - set(os.listdir(s.path)), set())


@claim()
def a_carriage_return_before_the_newline_is_no_part_of_a_value(m):
    s = m.session()
    for name, value in (("temperature", "0.7"), ("system", "Be brief."), ("stop", "END"), ("cache", "off")):
        write(s(name), value + "\r\n")
        equal(read(s(name)), value + "\n")
    write(m("router", "policy"), "cost\r\n")
    equal(read(m("router", "policy")), "cost\n")
    write(m("router", "policy"), "")
    write(s("temperature"), "\r\n")
    equal(read(s("temperature")), read(m.session()("temperature")))


@claim()
def blanks_around_a_value_of_one_line_are_no_part_of_it(m):
    s = m.session()
    tree = os.path.join(m.tree, "models", "tiny", "quality")
    for form in ("%s ", " %s", "\t%s\t\n", "%s \n", "%s\n\n", " %s \r\n"):
        for file, values in ((s("temperature"), ("0.4", "0.7")), (s("format"), ("json", "text")),
                             (m("models", "tiny", "quality"), ("0.25", "0.75")),
                             (m("router", "threshold"), ("0.3", "0.6")),
                             (m("cache", "ttl"), ("60", "90"))):
            for value in values:
                m.sh("printf '%s' > $F" % (form % value).replace("\n", "\\n").replace("\r", "\\r"),
                     F=file, check=True)
                equal(read(file), value + "\n")
        equal(read(tree), "0.75\n")
        write(tree, form % "0.5")
        harness.wait_for(lambda: read(m("models", "tiny", "quality")) == "0.5\n", "TREE's value", 10)
    m.sh("printf ' 0.4 ' | dd bs=1 of=$F 2> /dev/null", F=s("temperature"), check=True)
    equal(read(s("temperature")), "0.4\n")
    for value in ("0.4 0.5", "0.4 x", "0. 4", "  \n"):
        with refused(errno.EINVAL):
            write(s("temperature"), value)
        equal(read(s("temperature")), "0.4\n")
    for file in (m("models", "tiny", "quality"), m("router", "threshold"), m("cache", "ttl")):
        os.unlink(file)
    # Texts are as they were written.
    for name in ("system", "stop"):
        write(s(name), " two words \n")
        equal(read(s(name)), " two words \n")


@claim()
def a_good_value_comes_back_with_a_newline(m):
    s = m.session()
    for name, values in GOOD.items():
        for value in values:
            write(s(name), value + "\n")
            equal(read(s(name)), value + "\n")
            write(s(name), value)
            equal(read(s(name)), value + "\n")


@claim()
def nonsense_is_refused_at_the_write_and_changes_nothing(m):
    s = m.session()
    for name, values in BAD.items():
        write(s(name), GOOD[name][0] + "\n")
        for value in values:
            fd = os.open(s(name), os.O_WRONLY | os.O_TRUNC)
            try:
                os.write(fd, (value + "\n").encode())
                raise AssertionError("%s took %r" % (name, value))
            except OSError as e:
                equal((name, value, e.errno), (name, value, errno.EINVAL))
            finally:
                try:
                    os.close(fd)
                except OSError as e:
                    equal(e.errno, errno.EINVAL)
            equal(read(s(name)), GOOD[name][0] + "\n")


@claim()
def error_says_what_is_allowed(m):
    s = m.session()
    for name, words in {"temperature": ["temperature", "0", "2"], "top_p": ["top_p", "0", "1"],
                        "format": ["text", "json"], "ignore_eos": ["0", "1", "on", "off"],
                        "truncate": ["oldest-turns", "middle", "off"]}.items():
        with refused(errno.EINVAL):
            write(s(name), BAD[name][0] + "\n")
        said = read(s("error"))
        for word in words:
            assert word in said, "%s: %r" % (name, said)


@claim()
def bash_and_dash_print_the_refusal(m):
    s = m.session()
    for shell in ("bash", "dash"):
        done = m.sh("echo hot > $S/temperature", shell, S=s.path)
        assert done.returncode != 0
        if shell == "bash":
            assert "write error: Invalid argument" in done.stderr, done.stderr
    done = m.sh("echo hot | tee $S/temperature", S=s.path)
    assert done.returncode != 0 and "Invalid argument" in done.stderr, done


@claim()
def a_value_that_no_more_bytes_can_mend_is_the_error_of_the_write(m):
    for shell in ("bash", "dash"):
        for name, value in (("temperature", "hot"), ("temperature", "0,5"), ("max_tokens", "-5"), ("top_k", "1.5"),
                            ("format", "xml"), ("cache", "on"), ("model", "nobody"), ("max_cost", "$1")):
            s = m.session()
            before = read(s(name))
            done = m.sh("printf %s '" + value + "' > $S/" + name + "; echo $?", shell, S=s.path)
            assert done.stdout.strip() != "0" and done.stderr, (shell, name, value, done)
            assert read(s("error")).startswith(name + ": "), read(s("error"))
            equal(read(s(name)), before)


@claim()
def a_value_in_pieces_is_refused_by_the_piece_that_spoils_it(m):
    s = m.session()
    fd = os.open(s("temperature"), os.O_WRONLY | os.O_TRUNC)
    for piece in (b"1", b".", b"5"):
        os.write(fd, piece)
    with refused(errno.EINVAL):
        os.write(fd, b"x")
    with refused(errno.EINVAL):
        os.close(fd)
    equal(read(s("temperature")), "0\n")


@claim()
def values_byte_by_byte_without_a_newline_are_taken(m):
    s = m.session()
    for name, value in (("temperature", "2e-1"), ("presence_penalty", "-1.5"), ("model", "tiny"), ("model", "default"),
                        ("model", "auto"), ("seed", "18446744073709551615"), ("truncate", "middle"),
                        ("truncate", "oldest-turns"), ("max_cost", "0.000000001"), ("format", "json")):
        m.sh("printf %%s '%s' | dd bs=1 of=$S/%s status=none" % (value, name), check=True, S=s.path)
        equal(read(s(name)), value + "\n")


@claim()
def files_of_a_windows_editor_simply_work(m):
    s = m.session()
    mark = "\ufeff"
    for file, text, value in ((s("temperature"), mark + "0.5\r\n", "0.5\n"), (s("temperature"), mark + "0.75", "0.75\n"),
                              (s("system"), mark + "one\r\ntwo\r\n", "one\ntwo\n"),
                              (s("stop"), mark + "###\r\nEND\r\n", "###\nEND\n"), (s("model"), mark + "tiny\r\n", "tiny\n"),
                              (m("models", "short", "quality"), mark + "0.5\r\n", "0.5\n"),
                              (m("models", "short", "path"), mark + harness.SHORT + "\r\n", harness.SHORT + "\n"),
                              (m("router", "policy"), mark + "cost\r\n", "cost\n"),
                              (m("router", "weights"), mark + "load 1\r\ncold 2\r\n", None),
                              (m("cache", "ttl"), mark + "60\r\n", "60\n"),
                              (m("budgets", "default", "limit"), mark + "3\r\n", "3\n")):
        for script in ("cat $N > $F", "dd bs=1 if=$N of=$F status=none", "cp $N $F", "mv $N $F"):
            with open(os.path.join(m.top, "windows"), "w", newline="") as f:
                f.write(text)
            done = m.sh(script, F=file, N=os.path.join(m.top, "windows"))
            equal((script, file, done.returncode, done.stderr), (script, file, 0, ""))
            if value:
                equal(read(file), value)
    assert "load 1\n" in read(m("router", "weights")), read(m("router", "weights"))
    m.sh("rm models/short/quality router/policy router/weights cache/ttl budgets/default/limit", check=True)
    with open(s("messages.json"), "w", newline="") as f:
        f.write(mark + '[\r\n{"role": "user", "content": "a"},\r\n{"role": "assistant", "content": "b"}]\r\n')
    equal([x["content"] for x in s.messages()][-2:], ["a", "b"])
    with open(m("guards", "input", "windows.rules"), "w", newline="") as f:
        f.write(mark + "block word /badword/\r\n# more\r\n")
    with refused(errno.EPERM):
        write(s("in"), "a badword")
    m.sh("rm guards/input/windows.rules", check=True)
    with open(m("models", "short", "key"), "w", newline="") as f:
        f.write(mark + "sk-1\r\n")
    m.sh("rm models/short/key", check=True)
    with open(os.path.join(m.tree, "models", "short", "quality"), "w", newline="") as f:
        f.write(mark + "0.125\r\n")
    harness.soon(lambda: read(m("models", "short", "quality")) == "0.125\n", "the value")
    equal(read(m("status")), "ok\n")
    m.sh("rm models/short/quality", check=True)


@claim()
def what_is_too_long_or_not_text_is_told_with_what_is_allowed(m):
    s = m.session()
    for file, text, allowed in ((s("system"), b"x" * 1200000, "system: must be any UTF-8 text of at most 1 MiB"),
                                (s("system"), b"x\xff\n", "system: not UTF-8; must be any UTF-8 text"),
                                (m("models", "short", "key"), b"k" * 9000, "key: must be one line of printable ASCII"),
                                (m("models", "short", "remote_name"), b"   \n", "remote_name: must be one line"),
                                (m("models", "short", "endpoint"), b"  \n", "endpoint: must be the URL of a server"),
                                (m("cache", "ttl"), b"7" * 1200000, "ttl: must be whole seconds"),
                                (m("router", "classes"), b"code\0 1\n", "classes: must be UTF-8 text")):
        before = b"" if file.endswith("key") else harness.read_bytes(file)
        with refused(errno.EINVAL, errno.EFBIG, errno.EILSEQ):
            with open(file, "wb", buffering=0) as f:
                for at in range(0, len(text), 65536):
                    f.write(text[at:at + 65536])
        said = read(os.path.join(os.path.dirname(file), "error"))
        assert said.startswith(allowed), said
        equal(b"" if file.endswith("key") else harness.read_bytes(file), before)


@claim(tools=("zsh",))
def a_number_beyond_its_range_is_the_error_of_printf_in_each_shell(m):
    s = m.session(temperature="0.5")
    for shell in ("bash", "dash", "zsh"):
        for file, good, bad in ((s("temperature"), "0.5\n", "2.5"), (m("models", "short", "quality"), "0.5\n", "2"),
                                (m("router", "threshold"), "0.25\n", "7"), (m("cache", "ttl"), "60\n", "-1"),
                                (m("budgets", "default", "limit"), "3\n", "1000000001")):
            write(file, good)
            done = m.sh("{ printf -- %s > $F; } && echo fine" % bad, shell, F=file)
            assert not done.stdout and done.returncode and "error" in done.stderr, (shell, file, done)
            equal(read(file), good)
            name = os.path.basename(file)
            said = read(os.path.join(os.path.dirname(file), "error"))
            assert said.startswith(name + ": must be "), said
    m.sh("rm models/short/quality router/threshold cache/ttl budgets/default/limit", check=True)


@claim()
def a_value_that_several_programs_write_is_one_value(m):
    for shell in ("bash", "dash"):
        s = m.session()
        done = m.sh("set -e; { /bin/echo -n ti; /bin/echo ny; } > $S/model", shell, check=True, S=s.path)
        equal((done.stderr, read(s("model")), read(s("error"))), ("", "tiny\n", ""))


@claim()
def a_refused_value_leaves_no_trace_in_the_next_one(m):
    s = m.session(temperature="0.5")
    m.sh("echo hot > $S/temperature; echo 3.5 >> $S/temperature", S=s.path)
    equal(read(s("temperature")), "0.5\n")


@claim()
def error_says_why_a_later_line_was_refused(m):
    s = m.session(temperature="0.5")
    for path, error in ((s("temperature"), s("error")),
                        (m("budgets/default/limit"), m("budgets/default/error"))):
        before = read(path)
        m.sh("/bin/printf '0.3\\n0.4\\n' > $F", F=path)  # one write
        sentence = read(error)
        assert re.search("^(temperature|limit): must be ", sentence), sentence
        m.sh("echo 0.2 > $F", F=path, check=True)
        equal((read(path), read(error)), ("0.2\n", ""))
        # bash has one write a line, so the first is in force by itself.
        done = m.sh("printf '0.3\\n0.4\\n' > $F", F=path)
        assert "write error: Invalid argument" in done.stderr, done.stderr
        equal((read(path), read(error)), ("0.2\n", sentence))
        write(path, before)


@claim()
def unlink_resets_to_the_default(m):
    s = m.session()
    fresh = os.path.join(m("sessions"), "fresh")
    os.mkdir(fresh)
    for name, values in GOOD.items():
        default = read(os.path.join(fresh, name))
        write(s(name), values[-1] + "\n")
        harness.reset(s(name))
        equal((name, read(s(name))), (name, default))


@claim()
def unlink_of_a_live_file_succeeds_without_effect(m):
    s = m.session()
    s.ask("hello")
    for name in ("in", "out", "chat", "status", "error", "usage", "trace", "events", "ctl",
                 "messages.json"):
        harness.reset(s(name))
    equal(len(s.messages()), 2)


@claim()
def a_value_written_byte_by_byte_is_one_value(m):
    s = m.session()
    m.sh("printf '0.25\\n' | dd bs=1 of=$S/temperature status=none", check=True, S=s.path)
    equal(read(s("temperature")), "0.25\n")
    m.sh("printf 'be brief\\n' | dd bs=1 of=$S/system status=none", check=True, S=s.path)
    equal(read(s("system")), "be brief\n")
    m.sh("printf 'a\\0b\\n\\0' | dd bs=1 of=$S/stop status=none", check=True, S=s.path)
    equal(read(s("stop")), "a\0b\n\0\n")


@claim()
def a_setting_is_in_force_with_the_next_request(m):
    s = m.session(temperature=0)
    write(s("max_tokens"), "3\n")
    s.ask("hello")
    equal(s.usage("output_tokens"), 3)
    write(s("max_tokens"), "9\n")
    s.ask("hello")
    equal(s.usage("output_tokens"), 9)


@claim()
def the_same_seed_gives_the_same_answer(m):
    texts = [m.session(tokens=40, temperature=1, seed=k).ask("hello") for k in (7, 7, 8)]
    equal(texts[0], texts[1])
    assert texts[1] != texts[2]


@claim()
def a_stop_string_ends_the_answer_and_is_not_part_of_it(m):
    text = m.session(tokens=60, temperature=1, seed=3).ask("hello").decode()
    stop = next(text[i:i + 3] for i in range(8, len(text) - 3)
                if "\n" not in text[i:i + 3] and text[i:i + 3].isprintable()
                and "\ufffd" not in text[i:i + 3] and text[i] not in " ")
    got = m.session(tokens=60, temperature=1, seed=3, stop=stop).ask("hello").decode()
    equal(got.encode(), shown(text[:text.index(stop)]))


@claim()
def format_json_gives_json(m):
    s = m.session(temperature=1, seed=5, format="json", ignore_eos=0, tokens=400)
    s.ask("hello")
    if s.usage("output_tokens") < 400:
        harness.json.loads(read(s("out")))


@claim()
def json_that_max_tokens_cut_short_says_length(m):
    # The same seed gives the same answer, as far as there is room.
    s = m.session(format="json", ignore_eos=0, cache="off", temperature=2)
    cut = 0
    for i in range(20):
        write(s("seed"), "%d\n" % i)
        write(s("messages.json"), "[]")
        write(s("max_tokens"), "%d\n" % (4 + i))
        s.ask("prompt %d" % i)
        harness.json.loads(read(s("out")))
        short, finish = read(s("out")), re.search("^finish (.*)$", read(s("usage")), re.M)[1]
        write(s("messages.json"), "[]")
        write(s("max_tokens"), "200\n")
        s.ask("prompt %d" % i)
        if read(s("out")) != short:
            cut += short[0] in "[{"
            equal(finish, "length")
    assert cut, "no answer was cut"


@claim()
def an_unknown_model_is_refused_at_the_write(m):
    s = m.session()
    with refused(errno.EINVAL):
        write(s("model"), "nobody\n")
    assert "nobody" in read(s("error")) or "models/" in read(s("error"))
    assert s.ask("hello")


@claim()
def a_setting_that_is_not_utf8_is_refused(m):
    s = m.session()
    with refused(errno.EILSEQ, errno.EINVAL):
        write(s("system"), b"\xff\xfe\n")
    with refused(errno.EILSEQ, errno.EINVAL):
        write(s("temperature"), b"\xff\n")


@claim()
def a_huge_value_is_refused_and_the_daemon_lives(m):
    s = m.session()
    for name in ("temperature", "model", "stop"):
        with refused(errno.EINVAL, errno.EFBIG, errno.E2BIG):
            write(s(name), "1" * (1 << 17))


@claim()
def settings_are_seen_at_once_by_others(m):
    s = m.session()
    for i in range(30):
        write(s("top_k"), "%d\n" % (i + 1))
        equal(m.sh("cat $S/top_k; stat -c %s $S/top_k", check=True, S=s.path).stdout,
              "%d\n%d\n" % (i + 1, len(str(i + 1)) + 1))


harness.main()
