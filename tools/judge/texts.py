# SPDX-License-Identifier: Apache-2.0
"""The judge's corpus: turns data/*.txt into judged conversations.

The grammar of a line is tools/guide's (top of guide/corpus.py). A section "= S1" ... "= S14" has texts
that violate that category, "= safe" texts that only sound like it, or do not; 00-frames.txt has the
ways in which a thing is asked for, granted, refused or spoken about. The letter says what a line is:

  V  a verb phrase ("rob a bank"); a frame goes around it
  U  a whole text of a user        A  the beginning of an agent's text
  F  a frame                       L  a list of words

Whether somebody wants a thing or speaks about it is in the frame, what the thing is in the phrase: a
verdict needs both. guide's questions and answers are safe examples. A tenth of the lines and of guide's
intents (by a hash) is held out for validation.
"""
import glob
import hashlib
import os
import random
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "guide"))

import corpus as guide      # noqa: E402
import form      # noqa: E402
from form import CATEGORIES      # noqa: E402

SAFE = "safe"
DOUBLED = set("get put hit cut set stab rob run beg grab hug kidnap plan rip rig scam skim shop spot spam trap stop step trim "
              "sit swim win let quit dig nab flip ship strip tap bug con rob hop zip chop shut drug program club".split())


def hashed(text):
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10


def gerund(phrase):
    """"rob a bank" -> "robbing a bank"."""
    word, _, rest = phrase.partition(" ")
    if word in DOUBLED:
        word += word[-1]
    elif word.endswith("ie"):
        word = word[:-2] + "y"
    elif word.endswith("e") and not word.endswith(("ee", "oe", "ye")):
        word = word[:-1]
    return f"{word}ing {rest}".strip()


def load():
    """-> ({section: {letter: [(file, line)]}}, lists)"""
    sections, lists, name = {}, {}, None
    for path in sorted(glob.glob(os.path.join(HERE, "data", "*.txt"))):
        for raw in open(path, encoding="utf-8"):
            line = raw.rstrip("\n")
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith("= "):
                name = line[2:].strip()
            elif line.startswith("L "):
                key, value = line[2:].split(":", 1)
                assert key not in lists, key
                lists[key] = "(" + value.strip() + ")"
            else:
                assert line[:1] in "VUAF" and line[1:3] == ": ", (path, line)
                sections.setdefault(name, {}).setdefault(line[0], []).append((os.path.basename(path), line[3:]))
    return sections, lists


def documents():
    """Sentences of the project's own documents and essays: English as people write it, and harmless."""
    root, out = os.path.join(HERE, "..", ".."), set()
    names = glob.glob(os.path.join(root, "*.md")) + glob.glob(os.path.join(root, "docs", "**", "*.md"), recursive=True)
    sources = [n for d in ("base", "engine", "gateway", "fs") for n in glob.glob(os.path.join(root, d, "*.[ch]"))]
    for name in sorted(names) + sorted(sources):
        if name.endswith("judge.md"):
            continue
        text = open(name, encoding="utf-8").read()
        if not name.endswith(".md"):
            text = "\n\n".join(re.sub(r"\n[ \t]*\*", "\n", c) for c in re.findall(r"/\*(.*?)\*/", text, re.S))
        for part in re.split(r"\n\s*\n|(?<=[.!?])\s+", text):
            part = re.sub(r"\s+", " ", part).strip(" -*#")
            if 20 < len(part) < 300 and "|" not in part:
                out.add(part)
    return sorted(out)


def sentence(text, rng):
    """An agent writes as books do."""
    text = re.sub(r"\bi\b", "I", text)
    text = re.sub(r"\bi'(m|d|ve|ll)\b", r"I'\1", text)
    text = re.sub(r"(^|[.!?] )([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)
    return text if text.endswith((".", "!", "?", ":", ",")) or rng.random() < 0.3 else text + "."


class Texts:
    def __init__(self, held=False, every=False):
        """held: the texts of the held-out lines instead of the others; every: of all lines."""
        self.held, self.every = held, every
        self.guide = guide.Corpus()
        sections, lists = load()
        assert not set(lists) & set(self.guide.g.lists), set(lists) & set(self.guide.g.lists)
        self.g = guide.Grammar({})
        self.g.lists = {**self.guide.g.lists, **lists}
        self.lines = {s: {k: self.part(v) for k, v in kinds.items()} for s, kinds in sections.items()}
        self.codes = list(CATEGORIES)
        self.documents = [d for d in documents() if (hashed(d) == 3) == held]
        if not held:      # guide's held-out intents are gone altogether
            for group, its in self.guide.by_topic.items():
                keep = [i for i, it in enumerate(its) if hashed(it.name) != 3]
                self.guide.by_topic[group] = [its[i] for i in keep]
                self.guide.iweight[group] = [self.guide.iweight[group][i] for i in keep]

    def part(self, lines):
        if self.every or lines[0][0].startswith("00"):
            return lines
        return [ln for ln in lines if (hashed(ln[1]) == 0) == self.held]

    def pick(self, section, kinds, rng):
        """(letter, text). A safe line: first a file, then a line of it."""
        lines = [(k, f, t) for k in kinds for f, t in self.lines[section].get(k, [])]
        if section == SAFE:
            file = rng.choice(sorted({f for _, f, _ in lines}))
            lines = [ln for ln in lines if ln[1] == file]
        k, _, text = rng.choice(lines)
        return k, self.g.expand(text, rng)

    def frame(self, name, phrase, rng):
        text = self.g.expand(rng.choice(self.lines[name]["F"])[1].replace("@", "\x01"), rng)
        if phrase.count("|") == 0:
            text = text.replace("\x01ing", gerund(phrase)).replace("\x01", phrase)
        return text

    # ---- what a user says; plain, before noise ----

    def asked(self, section, rng):
        """A request of the section -> (text, phrase or None)"""
        kind, text = self.pick(section, "VU", rng) if self.lines[section].get("V") else self.pick(section, "U", rng)
        phrase = text if kind == "V" else None
        if kind == "V":
            text = self.frame("ask", text, rng)
        u = rng.random()
        if u < 0.16:
            text = self.frame("wrap", text, rng)
        elif u < 0.20 and phrase:
            text = self.frame("discuss", phrase, rng) + rng.choice([". ", "? ", ", "]) + text
        return text, phrase

    def discussed(self, rng):
        code = rng.choice(self.codes)
        while not self.lines[code].get("V"):
            code = rng.choice(self.codes)
        return self.frame("discuss", self.pick(code, "V", rng)[1], rng)

    def tale(self, rng):
        """A paragraph that asks for nothing."""
        of = [lambda: rng.choice(self.documents), lambda: sentence(self.pick("prose", "U", rng)[1], rng)]
        one = rng.choice(of)
        return rng.choice([" ", " ", "\n"]).join((one if rng.random() < 0.8 else rng.choice(of))() for _ in range(rng.choice([1, 1, 2, 3, 4, 6])))

    def harmless(self, rng):
        if rng.random() < 0.18:
            return self.tale(rng)
        u = rng.random()
        if u < 0.24:
            return self.guide.turn(rng)[0]
        if u < 0.29:
            return self.guide.prose(rng, rng.randint(1, 25))
        if u < 0.50:
            return self.discussed(rng)
        if u < 0.58:
            return self.harmless(rng) + rng.choice([" ", ". ", "\n"]) + self.harmless(rng)
        return self.asked_safe(rng)

    def asked_safe(self, rng):
        kind, text = self.pick(SAFE, rng.choice("VVU"), rng)
        if kind == "V":
            text = self.frame("ask", text, rng) if rng.random() < 0.85 else self.frame("discuss", text, rng)
        return self.frame("wrap", text, rng) if rng.random() < 0.16 else text

    def noise(self, text, rng):
        return self.guide.noisy("R", text, rng, rng.choice([0.3, 1.0, 1.0, 1.5])) or "?"

    def user(self, code, rng):
        """A user's text that violates code, or is safe."""
        if code == SAFE:
            return self.noise(self.harmless(rng), rng)
        text = self.noise(self.asked(code, rng)[0], rng)
        return self.mixed(text, lambda: self.noise(self.harmless(rng), rng), 0.12, rng)

    def mixed(self, text, other, share, rng):
        """Sometimes with something harmless before or after."""
        u = rng.random() / share
        if u < 0.55:
            return other() + rng.choice([" ", "\n", "\n\n", " "]) + text
        if u < 1:
            return text + rng.choice([" ", "\n", ". "]) + other()
        return text

    # ---- a user's and an agent's text ----

    def agent(self, code, rng):
        """(user, agent) in which the agent violates code, or is safe."""
        if code == SAFE:
            user, text = self.agent_safe(rng)
            text = sentence(text, rng)
            if rng.random() < 0.25:
                text += rng.choice([" ", "\n\n", "\n"]) + sentence(self.pick(SAFE, "A", rng)[1], rng)
        else:
            user, text = self.agent_unsafe(code, rng)
            text = sentence(text, rng)
            text = self.mixed(text, lambda: sentence(self.agent_safe(rng)[1], rng), 0.15, rng)
        if rng.random() < 0.3:      # as far as it has come
            text = text[:max(int(len(text) * rng.uniform(0.75 if code != SAFE else 0.1, 1)), 1)]
        return self.noise(user, rng), text

    def agent_safe(self, rng):
        if rng.random() < 0.22:
            return self.harmless(rng), self.tale(rng)
        u = rng.random()
        if u < 0.2:
            return self.guide.turn(rng)
        code = rng.choice(self.codes)
        if u < 0.42:
            ask, phrase = self.asked(code, rng)
            if phrase is None:
                phrase = self.pick(code, "V", rng)[1]
            return ask, self.frame("refuse", phrase, rng)
        if u < 0.57:
            phrase = self.pick(SAFE, "V", rng)[1]
            return self.frame("ask", phrase, rng), self.frame("grant", phrase, rng)
        user = self.asked(code, rng)[0] if rng.random() < 0.35 else self.harmless(rng)
        if u < 0.62:
            return user, self.guide.prose(rng, rng.randint(1, 30))
        if u < 0.67:
            return user, self.guide.turn(rng)[1]
        text = self.pick(SAFE, "A", rng)[1]
        return user, (self.frame("begins", "", rng) + " " + text if rng.random() < 0.3 else text)

    def agent_unsafe(self, code, rng):
        ask, phrase = self.asked(code, rng)
        if rng.random() < 0.25:
            ask = self.harmless(rng)
        if rng.random() < 0.5:
            phrase = phrase or self.pick(code, "V", rng)[1]
            text = self.frame("grant", phrase, rng)
            if rng.random() < 0.25:
                text += " " + self.pick(code, "A", rng)[1]
            return ask, text
        text = self.pick(code, "A", rng)[1]
        return ask, (self.frame("begins", "", rng) + " " + text if rng.random() < 0.35 else text)

    # ---- examples ----

    def example(self, role, codes, rng, unsafe=0.45, long=0):
        """-> (text between form.before and form.after, violated). long: words of talk around it."""
        code = rng.choice(codes) if rng.random() < unsafe else SAFE
        violated = [code] if code != SAFE else []
        if role == "User":
            text = self.user(code, rng)
            if violated and rng.random() < 0.04:
                other = rng.choice(codes)
                text += rng.choice([" ", "\n", ". "]) + self.user(other, rng)
                violated = sorted({code, other}, key=self.codes.index)
            return form.texts(self.around(text, long, rng)), violated
        user, text = self.agent(code, rng)
        return form.texts(user, self.around(text, long, rng)), violated

    def around(self, text, words, rng):
        if not words:
            return text
        n, parts = rng.randint(0, words), []
        for part in (n, words - n):
            talk = []
            while sum(len(t.split()) for t in talk) < part:
                talk.append(rng.choice([lambda: self.guide.prose(rng, 20), lambda: self.tale(rng), lambda: self.tale(rng), lambda: self.guide.turn(rng)[1], lambda: self.guide.turn(rng)[0],
                                        lambda: sentence(self.pick(SAFE, "A", rng)[1], rng), lambda: sentence(self.asked_safe(rng), rng)])())
            parts.append(rng.choice([" ", "\n"]).join(talk))
        return rng.choice([" ", "\n"]).join(p for p in (parts[0], text, parts[1]) if p)


if __name__ == "__main__":
    t, rng = Texts(), random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print({s: {k: len(v) for k, v in kinds.items()} for s, kinds in t.lines.items()})
    for i in range(int(sys.argv[1]) if len(sys.argv) > 1 else 40):
        role = rng.choice(["User", "Agent"])
        text, violated = t.example(role, t.codes, rng)
        print(f"{','.join(violated) or 'safe':8} {role:5} {text!r}")
