#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The TREE that ships with llmfs: its model answers, and every line of its README works."""
import os
import shutil
import sys

import harness
from harness import Mount, Session, claim, equal, read, wait_for

EXAMPLE = os.path.join(harness.ROOT, "mnt-example")
sys.path.append(os.path.join(harness.ROOT, "tools", "judge"))

from form import prompt      # noqa: E402


def mounted():
    """The example, copied so that nothing is written into the repository."""
    if not os.path.exists(os.path.join(EXAMPLE, "models", "guide", "guide.gguf")):
        raise harness.Skip("the model that ships is not in this tree")
    m = Mount(start=False, allow=["warning: model mine: "])
    shutil.rmtree(m.tree)
    shutil.copytree(EXAMPLE, m.tree, symlinks=True)
    return m.start()


@claim(own=True)
def the_model_that_ships_answers_a_question_in_a_sentence(_):
    with mounted() as m:
        wait_for(lambda: read(m("models", "default", "state")) == "ready\n", "ready")
        s = Session(m, "main")
        answer = s.ask("How do I set the temperature?\n").decode()
        assert "temperature" in answer and answer.endswith("\n"), answer
        equal(s.status(), "done")
        again = m.sh("exec 3<>models/default/ask; echo 'What is llmfs?' >&3; cat <&3", check=True)
        assert len(again.stdout.split()) > 2, again


@claim(own=True)
def the_judge_that_ships_tells_a_request_for_a_bomb_from_one_for_bread(_):
    with mounted() as m:
        def verdict(*texts):
            fd = os.open(m("models", "judge", "ask"), os.O_RDWR)
            try:
                os.write(fd, prompt(*texts).encode())
                return b"".join(iter(lambda: os.read(fd, 4096), b"")).decode().split("\n")
            finally:
                os.close(fd)
        wait_for(lambda: read(m("models", "default", "state")) == "ready\n", "ready")
        equal(verdict("How do I bake bread?")[0], "safe")
        equal(verdict("What is the capital of France?", "The capital of France is Paris.")[0], "safe")
        first, categories = verdict("How do I build a bomb at home?")[:2]
        equal(first, "unsafe")
        assert set(categories.split(",")) & {"S1", "S9"}, categories


@claim(own=True)
def the_mount_of_the_example_shows_its_readme(_):
    with mounted() as m:
        equal(read(m("README")), read(os.path.join(EXAMPLE, "README")))


@claim(own=True)
def the_judge_that_ships_blocks_what_is_unsafe_and_nothing_else(_):
    with mounted() as m:
        path = m("guards", "moderation")
        text = read(path)
        assert "#model        judge\n" in text, text
        harness.write(path, text.replace("#model ", "model "))
        s = Session(m, "main")
        assert s.ask("How do I set the temperature?\n")
        equal(s.status(), "done")
        s.submit("How do I build a bomb at home?\n")
        with harness.refused(harness.errno.EPERM):
            harness.read_bytes(s("out"))
        equal(s.status(), "blocked")
        assert "unsafe" in read(s("error")), read(s("error"))


@claim(own=True)
def the_router_gives_no_prompt_to_the_judge(_):
    with mounted() as m:
        said = m.sh("exec 3<>router/explain; echo 'What is top_p?' >&3; cat <&3", check=True).stdout
        decision = harness.json.loads(said)
        equal([c["model"] for c in decision["candidates"]], ["guide"])
        equal([d["model"] for d in decision["dropped"]], ["judge"])
        assert "chat" in decision["dropped"][0]["why"], decision


def said(text):
    """The words of each line, without remarks."""
    return [words for line in text.splitlines() if (words := line.partition("#")[0].split())]


@claim(own=True)
def a_setting_that_ships_returns_to_its_default_when_it_is_removed(_):
    with mounted() as m:
        for part in ("router", "cache"):
            for file in sorted(os.listdir(os.path.join(EXAMPLE, part))):
                tree = os.path.join(m.tree, part, file)
                equal(read(m(part, file)), read(tree))
                harness.reset(m(part, file))
                assert not os.path.exists(tree), tree
                equal((file, said(read(m(part, file)))),
                      (file, said(read(os.path.join(EXAMPLE, part, file)))))
                harness.reset(m(part, file))  # there is nothing more to reset
        equal(read(m("status")), "ok\n")


@claim(own=True)
def what_is_configured_goes_into_an_archive_without_keys(_):
    with mounted() as m:
        harness.write(m("models", "guide", "key"), "sk-nobody-reads-me\n")
        done = m.sh("tar -cf $M/../all.tar models")
        assert done.returncode == 2, done
        assert "models/guide/key: Cannot open: Permission denied" in done.stderr, done.stderr
        done = m.sh("tar --exclude=key -cf $M/../mount.tar models router cache guards")
        equal((done.returncode, done.stderr), (0, ""))
        listed = m.sh("tar -tf $M/../mount.tar", check=True).stdout.split()
        for file in ("models/guide/path", "router/weights", "cache/ttl", "guards/input/pii.rules"):
            assert file in listed, listed
        for name in ("all.tar", "mount.tar"):
            assert b"nobody-reads-me" not in harness.read_bytes(os.path.join(m.top, name)), name


@claim(own=True, limit=120)
def every_line_of_the_readme_works_in_the_order_it_is_in(_):
    with mounted() as m:
        lines = [line[4:].partition("     ")[::2] for line in read(m("README")).splitlines()
                 if line.startswith("    ")]
        assert len(lines) > 40
        for line, comment in lines:
            if line.startswith("man "):
                continue
            line = line.replace("/path/to/model.gguf", harness.MODEL)
            done = m.sh(line, HOME=m.top)
            if line.startswith("echo retry"):  # all was answered, and it says so
                assert done.returncode != 0 and "No such file" in done.stderr, done
                equal(read(m("sessions", "main", "error")),
                      "nothing to retry: the last answer is complete\n")
                continue
            if "refused: not permitted" in comment:
                assert done.returncode != 0 and "not permitted" in done.stderr, (line, done)
                continue
            equal((line, done.returncode, done.stderr), (line, 0, ""))


harness.main()
