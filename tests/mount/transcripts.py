#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What README.md and the manual pages show happens: their transcripts are replayed on a mount of
mnt-example, and what each command prints is what stands there."""
import os
import re
import shutil
import subprocess

import harness
from harness import Mount, claim, equal, read, wait_for

EXAMPLE = os.path.join(harness.ROOT, "mnt-example")
SKIP = re.compile(r"(build/)?llmfs |fusermount3|mkdir /tmp/llm$|cd; fusermount3|cd /mnt/llm")


def mounted():
    if not os.path.exists(os.path.join(EXAMPLE, "models", "guide", "guide.gguf")):
        raise harness.Skip("the model that ships is not in this tree")
    m = Mount(start=False, allow=["warning: model mine: "])
    shutil.rmtree(m.tree)
    shutil.copytree(EXAMPLE, m.tree, symlinks=True)
    m.start()
    wait_for(lambda: read(m("models", "default", "state")) == "ready\n", "ready")
    return m


def steps(lines):
    """[command, what it prints] of lines of which commands begin with "$ "."""
    out = []
    for line in lines:
        if line.startswith("$ "):
            out.append([line[2:], []])
        elif out:
            out[-1][1].append(line)
    return out


def readme():
    text = read(os.path.join(harness.ROOT, "README.md")).split("## What it looks like")[1]
    block = re.match(r"\n+((?:    .*\n|\n)+)", text).group(1)
    return steps([line[4:] for line in block.splitlines()])


def manual(page):
    """The literal displays of EXAMPLES, one list of steps each."""
    text = read(os.path.join(harness.ROOT, "docs", "man", page)).split(".Sh EXAMPLES")[1]
    text = text.split("\n.Sh ")[0]
    for block in re.findall(r"\.Bd -literal[^\n]*\n(.*?)\n\.Ed", text, re.S):
        yield steps([line.replace("\\e", "\\").replace("\\&", "") for line in block.split("\n")])


def plain(text):
    """Words only: lines are wrapped differently, and times differ."""
    text = re.sub(r"line \d+: ", "", text)
    text = re.sub(r"(\w+_ms|tokens_per_second) [\d.]+", r"\1 N", text)
    return text.split()


def replay(m, transcript):
    """Runs it in one shell and compares."""
    todo = [s for s in transcript if not SKIP.match(s[0])]
    script = "cd '%s' || exit 9; exec 2>&1\n" % m.path
    for command, _ in todo:
        command = command.replace("/mnt/llm", m.path).replace("/tmp/llm", m.path)
        script += "printf '\\001'\n%s\n" % command
    done = subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, timeout=60 * harness.slow(),
                          env=dict(os.environ, HOME=m.top, LC_ALL="C.UTF-8"))
    got = done.stdout.decode(errors="replace").split("\x01")[1:]
    equal(len(got), len(todo))
    for (command, shown), printed in zip(todo, got):
        equal((command, plain(printed)), (command, plain("\n".join(shown))))


@claim(own=True, limit=60)
def the_readme_shows_what_happens(_):
    transcript = readme()
    assert len(transcript) > 10
    with mounted() as m:
        replay(m, transcript)


@claim(own=True, limit=90)
def the_examples_of_llmfs_files_work(_):
    n = 0
    with mounted() as m:
        for transcript in manual("llmfs-files.7"):
            # What a model says to them is not in the page: commands that print nothing there may.
            for step in transcript:
                if step[0].startswith(("cat sessions/", "cat <&3")) and not step[1]:
                    step[0] += " > /dev/null"
                n += 1
            replay(m, transcript)
    assert n > 15


harness.main()
