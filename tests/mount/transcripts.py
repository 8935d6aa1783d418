#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What README.md and the manual pages show happens: their transcripts are replayed on a mount of
mnt-example, and what each command prints is what stands there. Where they speak of a server at an address, it is
tests/upstream/faulty.py at another one."""
import os
import re
import shutil
import subprocess

import harness
from harness import Mount, claim, equal, read, wait_for
from servers import Server

EXAMPLE = os.path.join(harness.ROOT, "mnt-example")
ADDRESS = "127.0.0.1:8080"  # of the server that the pages speak of
HTTP = "127.0.0.1:8090"  # of our own front end there
SKIP = re.compile(r"(build/)?llmfs |fusermount3|mkdir /tmp/llm$|cd; fusermount3|cd /mnt/llm")


def mounted(*args):
    if not os.path.exists(os.path.join(EXAMPLE, "models", "guide", "guide.gguf")):
        raise harness.Skip("the model that ships is not in this tree")
    m = Mount(*args, start=False, allow=["warning: model mine: "])
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


def readme(heading, level=2):
    """The transcript below that heading, up to the next one of its level: all its literal lines."""
    mark = "#" * level
    text = read(os.path.join(harness.ROOT, "README.md")).split("\n%s %s\n" % (mark, heading))[1]
    text = re.split(r"\n##+ ", text)[0]
    return steps([line[4:] for line in text.splitlines() if line.startswith("    ")])


def manual(page):
    """The literal displays of EXAMPLES, one list of steps each."""
    text = read(os.path.join(harness.ROOT, "docs", "man", page)).split(".Sh EXAMPLES")[1]
    text = text.split("\n.Sh ")[0]
    for block in re.findall(r"\.Bd -literal[^\n]*\n(.*?)\n\.Ed", text, re.S):
        yield steps([line.replace("\\e", "\\").replace("\\&", "") for line in block.split("\n")])


def plain(text):
    """Words only: lines are wrapped differently, and times differ; tokens of JSON do with the model."""
    text = re.sub(r"line \d+: ", "", text)
    text = re.sub(r"(\w+_ms|tokens_per_second) [\d.]+", r"\1 N", text)
    text = re.sub(r'"(\w+_ms|ms|age_s)": [\d.]+', r'"\1": N', text)
    text = re.sub(r'"((?:prompt|cached|output)_tokens)": \d+', r'"\1": N', text)
    return text.split()


def unwrapped(text):
    """Of one long line that is wrapped: what is not white."""
    return re.sub(r'"created":\d+', '"created":N', re.sub(r"\s", "", text))


def replay(m, transcript, server=None, same=plain, instead=None):
    """Runs it in one shell, with other words instead of some, and compares."""
    todo = [s for s in transcript if not SKIP.match(s[0])]
    script = "cd '%s' || exit 9; exec 2>&1\n" % m.path
    for command, _ in todo:
        command = command.replace("/mnt/llm", m.path).replace("/tmp/llm", m.path)
        if server:
            command = command.replace(ADDRESS, "127.0.0.1:%d" % server.port)
        for word, other in (instead or {}).items():
            command = command.replace(word, other)
        script += "printf '\\001'\n%s\n" % command
    done = subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, timeout=60 * harness.slow(),
                          env=dict(os.environ, HOME=m.top, LC_ALL="C.UTF-8"))
    got = done.stdout.decode(errors="replace").split("\x01")[1:]
    equal(len(got), len(todo))
    for (command, shown), printed in zip(todo, got):
        equal((command, same(printed)), (command, same("\n".join(shown))))


@claim(own=True)
def the_readme_shows_what_happens(_):
    transcript = readme("What it looks like")
    assert len(transcript) > 10
    with mounted() as m:
        replay(m, transcript)


@claim(own=True)
def the_readme_shows_what_upstreams_router_and_cache_do(_):
    transcript = readme("Many models behind one file", level=3)
    assert len(transcript) > 20 and ADDRESS in str(transcript)
    with mounted() as m, Server() as server:
        server.control(answer="The capital of France is Paris.")
        replay(m, transcript, server)
        equal(len(server.requests()), 2)  # the first, and that of auto


@claim(own=True)
def the_readme_shows_what_clients_of_http_get(_):
    transcript = readme("Programs that speak OpenAI's protocol", level=3)
    assert len(transcript) > 6 and HTTP in str(transcript)
    with mounted("-o", "http=127.0.0.1:0") as m:
        replay(m, transcript, same=unwrapped, instead={HTTP: read(m("http")).strip().partition("//")[2]})


@claim(own=True, limit=90)
def the_examples_of_llmfs_files_work(_):
    n = 0
    with mounted() as m, Server() as server:
        server.control(answer="The capital of France is Paris.")
        for transcript in manual("llmfs-files.7"):
            # What a model says to them is not in the page: commands that print nothing there may.
            for step in transcript:
                if step[0].startswith(("cat sessions/", "cat <&3")) and not step[1]:
                    step[0] += " > /dev/null"
                n += 1
            replay(m, transcript, server)
        equal(len(server.requests()), 1)
    assert n > 40


harness.main()
