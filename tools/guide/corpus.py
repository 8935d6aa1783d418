"""Turns data/*.txt into conversations.

data/ holds intents. Each has answers (A:) and ways of asking, as small
grammars: (a|b) is a choice, [a] may be left out, {x} is a list below or in an
L: line. The letter says what is put around it:

  Q  a whole question            R  the same, never said to be about llmfs
  V  a verb phrase: "how do I V" N  a thing: "what is N"
  S  a symptom: "S. What now?"   E  an error message as seen
  B  NAME|sentence of an errno: asked about in every way

A tenth of the lines (by a hash of the text) is held out for validation.
"""
import glob
import hashlib
import os
import random
import re

HERE = os.path.dirname(os.path.abspath(__file__))

MACROS = {
    "set": "(set|set|change|change|adjust|modify|edit|configure|tune|alter|update|choose|pick|specify|define|give|control)",
    "show": "(see|see|show|view|read|look at|check|display|find|find out|get|print|know|learn|tell|inspect|query|look up|determine|list)",
    "make": "(make|make|create|create|add|start|open|set up|begin|get|produce|spawn)",
    "del": "(delete|delete|remove|remove|get rid of|destroy|drop|end|close|erase|throw away|discard|kill)",
    "ans": "(answer|answer|answer|reply|response|output)",
    "anss": "(answers|answers|replies|responses|outputs)",
    "sess": "(session|session|chat|conversation)",
    "mod": "(model|model|llm|language model)",
    "q": "(question|prompt|request|message)",
    "how": "(how do i|how do i|how do i|how do i|how do i|how can i|how can i|how can i|how to|how to|how would i|how should i|how could i|"
           "what is the way to|what is the command to|what's the command to|is there a way to|is it possible to|can i|can i|may i|"
           "i want to|i need to|i would like to|i'd like to|i am trying to|i wish to|tell me how to|show me how to|please tell me how to|"
           "explain how to|please explain how to|what do i do to|what must i do to|what should i do to|what do i type to|"
           "what do i have to do to|which command do i use to|what command can i use to|steps to|best way to|the easiest way to|"
           "how does one|how do you|how do we|how does a user|how might i|could you tell me how to|can you show me how to|"
           "can you tell me how to|do you know how to|how is it possible to|what is the right way to|what's the best way to|"
           "what's a good way to|give me the command to|give me an example of how to|how would you|how am i supposed to|"
           "is there any way to|where do i go to|i don't know how to|i have no idea how to|help me|let me know how to|"
           "any way to|what does it take to|how on earth do i|in what way can i|by what means can i|am i able to|"
           "what file do i use to|which file lets me|what do i write where to|)",
    "what": "(what is|what is|what is|what is|what's|what are|whats|explain|explain|describe|tell me about|define|can you explain|"
            "please explain|what do you know about|give me a short explanation of|what exactly is|i want to know about|"
            "what about|and|could you describe|what can you tell me about|in short, what is|help me understand|"
            "what do i need to know about|info on|information about|meaning of|the purpose of|what is the purpose of|"
            "what is the meaning of|what is the role of|what's the use of|what is the point of|what's the deal with|)",
    "fn": "(main|main|main|foo|x|a|b|work|test|bob|notes|project1|my-chat|s1|demo|alice|todo|mail|dev|tmp.Xk3)",
}
NFORMS = ("{what} @|{what} @|{what} @|{what} @|what is @ (for|good for|used for|there for|about)|what does @ (do|mean|contain|show|stand for|say)|"
          "what does @ (do|mean)|how does @ work|how do i use @|how is @ used|why is there @|why do i need @|why would i use @|"
          "when do i (use|need) @|what can i do with @|how does one use @|what happens with @|what is meant by @|@|"
          "i do not understand @|i don't understand @|i don't get @|what purpose does @ serve|what is in @|what do i use @ for|"
          "can you tell me what @ (is|does|means)|do you know what @ (is|does)|i wonder what @ is (good |)for|"
          "tell me what @ (is|does|is for)|could you explain what @ does")
BFORMS = ("(what does @ mean|what does @ mean|what does @ mean|what is @|what is @|why do i get @|why do i get @|explain @|meaning of @|@|@|i get @|i got @|"
          "what does the error @ mean|what does it mean when i get @|when do i get @|when does @ (happen|occur|come)|when is @ returned|"
          "why does (it|llmfs|echo|cat|a write|the write|mkdir|the read) (fail with|return|say|give|report|end with) @|"
          "(my|a|the) (write|read|request|prompt|command|echo) (fails|failed|ended) with @|(echo|bash|cat|the shell|it|llmfs|the read|python) (says|prints|reports|shows|gives|returns|complains) @|"
          "bash: echo: write error: @|echo: write error: @|cat: sessions/{fn}/out: @|cat: out: @|"
          "what causes @|what is the (cause|reason) (of|for) @|reason for @|error @|errno @|how do i (fix|solve|avoid|handle|deal with|get rid of) @|"
          "what (should|can|do|must) i do (about|when i get|if i get|on|after|with) @|what to do about @|"
          "i (keep getting|see|am getting|always get|have got) @|got @ (when|while|after) (writing|reading|asking)|"
          "what does @ tell me|why @|the error (is|was|says) @|i see @ on my (terminal|screen)|@ what now|help, @|what's @ about|what triggers @)")
EFORMS = ("(@|@|@|what does (the error |the message |)@ mean|what does @ mean|why do i get @|why do i see @|i get @|i got @|"
          "i see @|it says @|the error (is|says) @|bash says @|how do i fix @|what can i do about @|explain @|what is @|"
          "what should i do when i see @|error @|it prints @ what now|(suddenly|now) i get @)")
SFORMS = ("(@|@|@|@ what (can i do|now|should i do|do i do|could i do about it|is wrong|is the fix)|@, why|@ why|@, what now|@ help|@ how do i (fix|change|solve|prevent|stop) (that|it|this)|"
          "why is it that @|what can i do if @|what do i do when @|what should i do if @|what if @|@, how (do|can) i (fix|change) (it|that)|"
          "what does it mean (if|when|that) @|@, any idea|@, is there a fix|how do i fix it if @|what to do if @|@, what setting helps|@, what should i change)")
PRE = ("hi, |hello, |hello! |hey, |please, |please tell me, |quick question: |one question: |question: |in llmfs, |in llmfs |with llmfs, |"
       "i have a question: |sorry, |ok, |so, |now, |and |but |well, |guide, |dear guide, |excuse me, |just wondering, |"
       "i was wondering, |could you tell me, |can you tell me: |help: |another question: |next: |also, |then |actually, |by the way, |"
       "i am new to this. |i'm a beginner. |i read the manual but: |on the command line, |from a shell, |as a normal user, |"
       "let me ask: |do you know: |thanks. |great. |ok thanks. |i am using bash. |short answer please: |")
SUF = (" in llmfs| in llmfs| with llmfs| please| here| here| on the mount| from the shell| from bash| on the command line| with this filesystem|"
       " in this filesystem| under llmfs| using files| exactly| in short| thanks| then| anyway| again| right now| at the moment| as a user|"
       " in general| in practice| when using llmfs| for my session| for a session| in a session| briefly| in one sentence| if possible| quickly|"
       " in a script| by default| actually| , please| (i forgot)| with a command| by hand")
RPRE = ("hi, |hello, |hey, |please, |please tell me, |quick question: |question: |i have a question: |sorry, |ok, |so, |now, |and |well, |guide, |"
        "do you know: |could you tell me, |can you tell me: |another question: |next: |also, |then |by the way, |i was wondering, |thanks. |")
RSUF = " please| exactly| in short| thanks| then| briefly| in one sentence| anyway| actually| , please| roughly| today"
SYSTEMS = [
    "You are a helpful assistant.", "You are a helpful assistant.", "Answer in one sentence.", "You are guide, the built-in help of llmfs.",
    "Be brief.", "Be concise and precise.", "You are a friendly assistant.", "Answer shortly.", "You answer questions about llmfs.",
    "You are a helpful, honest and harmless assistant.", "Answer the user's question truthfully.", "Reply in English.",
    "You are an expert in Linux and filesystems.", "Say that you do not know when you do not know.", "You are a polite assistant. Answer in complete sentences.",
    "You are a language model.", "Keep your answers short.", "Help the user.", "You are an assistant that helps with the llmfs file system.",
    "Always be polite.", "You are a terse assistant for system administrators.", "Use at most two sentences.", "The user is a beginner. Explain simply.",
    "You are a pirate.", "Today is a nice day.", "Respond in plain text without markdown.", "You are ChatGPT, a large language model.",
]
TYPO_NEAR = {c: n for c, n in zip("abcdefghijklmnopqrstuvwxyz",
    ["sqz", "vn", "xv", "sf", "wr", "dg", "fh", "gj", "uo", "hk", "jl", "k", "n", "bm", "ip", "o", "w", "et", "ad", "ry", "yi", "cb", "qe", "zc", "tu", "xs"])}
SWAPS = [  # word for word exchanges that keep the meaning
    ("what happens if", ["what if", "what happens when", "what will happen if", "what occurs if", "what's the effect if", "what is the result if"]),
    ("what happens when", ["what if", "what happens if", "what will happen when", "what occurs when"]),
    ("what is", ["what's", "whats", "what exactly is"]), ("which", ["what"]), ("is there", ["do we have", "does there exist", "is there such a thing as"]),
    ("how do i", ["how can i", "how would i", "how to", "how should i", "how do you", "how does one", "how could i"]),
    ("how can i", ["how do i", "how would i", "how to", "how does one"]),
    ("can i", ["may i", "could i", "am i able to", "is it possible to", "am i allowed to"]), ("where is", ["where's", "where do i find", "where can i find"]),
    ("why does", ["how come", "what makes"]), ("why is", ["how come", "for what reason is"]), ("do not", ["don't"]), ("does not", ["doesn't"]), ("cannot", ["can't", "can not"]),
    ("i am", ["i'm", "im"]), ("it is", ["it's"]), ("directory", ["folder", "dir"]), ("program", ["application", "process", "script", "tool"]),
    ("limit", ["maximum", "cap"]), ("several", ["multiple", "many", "some", "more than one"]), ("at once", ["at the same time", "simultaneously", "concurrently"]),
    ("command", ["shell command", "cmd"]), ("file", ["file", "file"]), ("stop", ["halt", "end"]), ("see", ["look at", "view", "find"]),
    ("show", ["display", "print"]), ("begin", ["start"]), ("want to", ["wanna", "need to", "would like to"]), ("answer", ["reply", "response"]),
    ("answers", ["replies", "responses"]), ("prompt", ["prompt", "question"]), ("request", ["request", "query"]), ("the daemon", ["llmfs", "the server", "the llmfs process"]),
    ("should i", ["do i", "must i", "ought i to"]), ("need", ["require"]), ("permitted", ["allowed"]), ("allowed", ["permitted", "legal"]), ("mean", ["signify", "say"]),
    ("tell me", ["please tell me", "say"]), ("use", ["use", "employ", "utilise"]), ("big", ["large"]), ("large", ["big"]), ("quickly", ["fast"]), ("big", ["huge"]),
    ("conversation", ["chat", "dialogue", "discussion"]), ("setting", ["parameter", "option"]), ("another", ["a different", "some other", "one more"]),
]
MORE_SWAPS = [  # only in whole questions and verb phrases, where none of these words is the name of something
    ("user", ["person", "account", "client", "customer"]), ("users", ["people", "accounts", "clients", "customers"]), ("money", ["cash", "dollars", "funds"]),
    ("dollars", ["bucks", "euros", "money"]), ("blocked", ["refused", "rejected", "denied"]), ("block", ["refuse", "reject", "deny", "forbid"]),
    ("text", ["sentence", "phrase", "words", "message"]), ("word", ["term", "expression"]), ("rule", ["filter", "regex", "pattern"]), ("rules", ["filters", "regexes", "patterns"]),
    ("spend", ["use up", "consume", "pay"]), ("spent", ["used up", "consumed", "paid"]), ("budget", ["allowance", "quota"]), ("cost", ["price", "expense"]), ("costs", ["expenses", "is charged"]),
    ("cheap", ["inexpensive", "low-priced"]), ("cheapest", ["least expensive", "lowest priced"]), ("expensive", ["costly", "dear", "pricey"]), ("cached", ["stored", "remembered", "saved"]),
    ("key", ["secret", "credential"]), ("server", ["machine", "host", "box", "provider"]), ("servers", ["machines", "hosts", "boxes"]), ("remote", ["distant", "external", "outside"]),
    ("fails", ["breaks", "errors", "goes wrong"]), ("failed", ["went wrong", "broke"]), ("is down", ["is offline", "is dead", "is gone", "is unreachable"]), ("choose", ["pick", "select"]),
    ("chosen", ["picked", "selected"]), ("automatically", ["by itself", "on its own", "without my doing"]), ("at the same time", ["together", "in parallel", "simultaneously"]),
    ("changed", ["edited", "altered", "modified"]), ("change", ["alter", "edit", "modify"]), ("remove", ["delete", "drop", "get rid of"]), ("delete", ["remove", "erase"]),
    ("check", ["test", "verify", "find out"]), ("test", ["try", "check", "probe"]), ("hide", ["mask", "conceal"]), ("forget", ["drop", "throw away", "lose"]), ("kept", ["stored", "held", "saved"]),
    ("keep", ["store", "hold", "save"]), ("similar", ["alike", "close"]), ("meaning", ["sense"]), ("tell", ["say", "show"]), ("learn", ["find out", "get to know"]), ("reason", ["cause", "explanation"]),
    ("put", ["write", "enter", "place"]), ("belong", ["go", "have to be"]), ("maximum", ["upper limit", "ceiling", "highest"]), ("wrong", ["incorrect", "false"]),
    ("broken", ["faulty", "defective"]), ("allow", ["let", "permit"]), ("forbid", ["prohibit", "ban"]), ("without", ["with no"]), ("safe", ["secure"]),
]
SWAPS = [(re.compile(r"\b" + re.escape(a) + r"\b"), b) for a, b in SWAPS]
MORE_SWAPS = [(re.compile(r"(?<![\w/.'-])" + re.escape(a) + r"(?![\w/.'=-])"), b) for a, b in MORE_SWAPS]


CASED = {w.lower(): w for w in ("OpenAI Claude Anthropic GPT ChatGPT vLLM Ollama Groq OpenRouter DeepSeek Gemini Azure HTTP API REST CUDA GPU GPUs CPU NVIDIA AMD JSON URL URLs LLM "
                               "GGUF SDK CI TCP Linux Unix Python Alice Bob Dan Frank Grace Heidi Ivan Mallory Llama Mistral RAM SSD SIGHUP UTF-8 Bash Git Docker Windows macOS Mac FreeBSD OpenBSD Ubuntu Debian Fedora WSL WSL2 Podman Kubernetes Apache GPL MIT RTX LM SGLang").split()}
CASED_RE = re.compile(r"(?<![\w/.'`-])(" + "|".join(sorted(map(re.escape, CASED), key=len, reverse=True)) + r")(?![\w/.=`])")

NAMES = {"person", "country", "place", "city", "company", "event", "work"}     # lists of proper names


def top_split(text):
    """Splits at '|' outside of brackets."""
    out, depth, cur = [], 0, ""
    for c in text:
        depth += c in "([" 
        depth -= c in ")]"
        if c == "|" and depth == 0:
            out.append(cur)
            cur = ""
        else:
            cur += c
    return out + [cur]


class Grammar:
    def __init__(self, lists):
        self.lists = dict(MACROS)
        self.lists.update({k: "(" + v + ")" for k, v in lists.items()})
        self.cache = {}

    def parse(self, text):
        """A grammar as nested lists: ('seq', ...) of str, ('alt', ...), ('mac', name)."""
        if text not in self.cache:
            self.cache[text], end = self._alt(text, 0)
            assert end == len(text), text
        return self.cache[text]

    def _alt(self, s, i):
        alts, seq, lit = [], [], ""
        while i < len(s) and s[i] not in ")]":
            c = s[i]
            if c in "([{|":
                if lit:
                    seq.append(lit)
                    lit = ""
                if c == "|":
                    alts.append(seq)
                    seq = []
                    i += 1
                elif c == "{":
                    j = s.index("}", i)
                    seq.append(("mac", s[i + 1:j]))
                    i = j + 1
                else:
                    sub, j = self._alt(s, i + 1)
                    seq.append(sub if c == "(" else ("opt", sub))
                    i = j + 1
            else:
                lit += c
                i += 1
        if lit:
            seq.append(lit)
        alts.append(seq)
        return ("alt", alts), i

    def expand(self, text, rng):
        return re.sub(r"\s+", " ", self._exp(self.parse(text), rng)).strip().replace(" ,", ",")

    def _exp(self, node, rng):
        if isinstance(node, str):
            return node
        kind, arg = node
        if kind == "mac":
            text = self._exp(self.parse(self.lists[arg]), rng)
            if arg in NAMES and rng.random() < 0.65:
                text = " ".join(w if w in ("the", "of", "and", "on", "in") else w[:1].upper() + w[1:] for w in text.split(" "))
            return text
        if kind == "opt":
            return self._exp(arg, rng) if rng.random() < 0.4 else ""
        return "".join(self._exp(x, rng) for x in rng.choice(arg))


class Intent:
    def __init__(self, name, topic):
        self.name, self.topic, self.answers, self.lines, self.held = name, topic, [], [], []


def load(holdout=True):
    """-> (grammar, {name: Intent}); with holdout a tenth of the lines is in .held only."""
    intents, lists, cur = {}, {}, None
    for path in sorted(glob.glob(os.path.join(HERE, "data", "*.txt"))):
        topic = os.path.basename(path)[3:-4]
        for raw in open(path, encoding="utf-8"):
            line = raw.rstrip("\n")
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith("= "):
                name = line[2:].strip()
                cur = intents.setdefault(name, Intent(name, topic))
                continue
            if line.startswith("L "):
                key, value = line[2:].split(":", 1)
                lists[key.strip()] = value.strip()
                continue
            kind, text = line[0], line[2:].strip()
            assert line[1] == ":" and kind in "AQVNSEBR", (path, line)
            if kind == "A":
                if text not in cur.answers:
                    cur.answers.append(text)
            else:
                for part in top_split(text) if kind in "NEB" else [text]:
                    cur.lines.append((kind, part))
    for it in builtin_intents():
        intents[it.name] = it
    for it in intents.values():
        keep = []
        it.lines = list(dict.fromkeys(it.lines))
        for ln in it.lines:
            h = int(hashlib.sha256((it.name + ln[1]).encode()).hexdigest(), 16)
            (it.held if h % 10 == 0 and len(it.lines) >= 4 else keep).append(ln)
        if holdout and keep:
            it.lines = keep
        elif holdout:
            it.held = it.held[1:]
    return Grammar(lists), intents


CAPITALS = """France:Paris Germany:Berlin Italy:Rome Spain:Madrid Portugal:Lisbon England:London Britain:London
the_United_Kingdom:London the_UK:London Ireland:Dublin Scotland:Edinburgh Wales:Cardiff Austria:Vienna Switzerland:Bern Belgium:Brussels the_Netherlands:Amsterdam
Denmark:Copenhagen Norway:Oslo Sweden:Stockholm Finland:Helsinki Iceland:Reykjavik Poland:Warsaw the_Czech_Republic:Prague Czechia:Prague
Slovakia:Bratislava Hungary:Budapest Romania:Bucharest Bulgaria:Sofia Greece:Athens Turkey:Ankara Russia:Moscow Ukraine:Kyiv
Croatia:Zagreb Serbia:Belgrade Slovenia:Ljubljana Egypt:Cairo Morocco:Rabat Kenya:Nairobi Nigeria:Abuja Ethiopia:Addis_Ababa South_Africa:Pretoria
China:Beijing Japan:Tokyo India:New_Delhi South_Korea:Seoul Thailand:Bangkok Vietnam:Hanoi Indonesia:Jakarta the_Philippines:Manila
Pakistan:Islamabad Iran:Tehran Iraq:Baghdad Israel:Jerusalem Saudi_Arabia:Riyadh Australia:Canberra New_Zealand:Wellington
Canada:Ottawa the_United_States:Washington,_D.C. the_USA:Washington,_D.C. America:Washington,_D.C. Mexico:Mexico_City Brazil:Brasilia Argentina:Buenos_Aires Chile:Santiago
Peru:Lima Colombia:Bogota Cuba:Havana Venezuela:Caracas Estonia:Tallinn Latvia:Riga Lithuania:Vilnius Luxembourg:Luxembourg Nepal:Kathmandu"""
OPPOSITES = """hot:cold big:small large:small high:low up:down left:right day:night black:white good:bad fast:slow long:short old:young new:old
open:closed full:empty light:dark heavy:light rich:poor happy:sad hard:soft wet:dry true:false yes:no in:out on:off begin:end start:stop
early:late near:far strong:weak thick:thin loud:quiet clean:dirty easy:difficult first:last push:pull win:lose love:hate man:woman
north:south east:west inside:outside more:less above:below before:after always:never cheap:expensive tall:short warm:cool summer:winter
small:big cold:hot low:high down:up right:left night:day white:black bad:good slow:fast short:long young:old empty:full dark:light
poor:rich sad:happy soft:hard dry:wet false:true no:yes out:in off:on end:beginning late:early far:near weak:strong thin:thick quiet:loud
dirty:clean difficult:easy last:first pull:push lose:win hate:love woman:man wide:narrow deep:shallow sweet:sour brave:cowardly positive:negative"""
NUMS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty").split()


def builtin_intents():
    out = []
    for pair in CAPITALS.split():
        land, city = (x.replace("_", " ") for x in pair.split(":"))
        it = Intent("capital." + land, "capitals")
        it.answers = [f"The capital of {land} is {city}."]
        it.lines = [("R", x) for x in (f"what is the capital [city] of {land}", f"(which|what) city is the capital of {land}", f"capital of {land}",
                    f"(name|tell me|give me) the capital [city] of {land}", f"what's {land}'s capital [city]", f"{land}'s capital", f"the capital of {land} is (which city|what)",
                    f"do you know the capital of {land}")]
        out.append(it)
        other = Intent("capital.of." + city, "capitals")
        if city != land:
            other.answers = [f"The capital of {land} is {city}."]
            other.lines = [("R", x) for x in (f"(which|what) country is {city} the capital of", f"of (which|what) country is {city} the capital", f"{city} is the capital of (which|what) country", f"is {city} the capital of {land}")]
            if not any(o.name == other.name for o in out):
                out.append(other)
    for pair in OPPOSITES.split():
        a, b = pair.split(":")
        it = Intent("opposite." + a, "opposites")
        it.answers = [f"The opposite of {a} is {b}."]
        it.lines = [("R", x) for x in (f"what is the opposite of {a}", f"opposite of {a}", f"(what's|name|tell me|give me) the opposite of [the word] {a}", f"what is the (contrary|antonym|reverse) of {a}",
                    f"which word is the opposite of {a}", f"antonym of {a}", f"{a} is the opposite of (what|which word)", f"do you know the opposite of {a}")]
        out.append(it)
    for a in range(21):
        for b in range(21):
            if a + b <= 20:
                it = Intent(f"sum.{a}+{b}", "sums")
                it.answers = [f"{a} plus {b} is {a + b}."]
                x, y = NUMS[a], NUMS[b]
                it.lines = [("R", t) for t in (f"(what is|how much is|calculate|compute|what's) ({a} + {b}|{a}+{b}|{a} plus {b}|{x} plus {y}|{x} and {y}|{a} and {b})",
                            f"({a} + {b}|{a}+{b}|{a} plus {b}|{x} plus {y}) [=]", f"add {a} (and|to) {b}", f"(what is|tell me) the sum of ({a} and {b}|{x} and {y})", f"what does ({a} + {b}|{a} plus {b}|{x} plus {y}) (make|equal|give)", f"can you add {a} and {b}")]
                out.append(it)
            if b <= a:
                it = Intent(f"diff.{a}-{b}", "sums")
                it.answers = [f"{a} minus {b} is {a - b}."]
                x, y = NUMS[a], NUMS[b]
                it.lines = [("R", t) for t in (f"(what is|how much is|calculate|compute|what's) ({a} - {b}|{a}-{b}|{a} minus {b}|{x} minus {y}|{a} less {b})", f"({a} - {b}|{a}-{b}|{a} minus {b}|{x} minus {y}) [=]", f"subtract {b} from {a}", f"take {b} (away|) from {a}",
                            f"what does ({a} - {b}|{a} minus {b}|{x} minus {y}) (make|equal|give)")]
                out.append(it)
    for a in range(11):
        for b in range(11):
            if a * b <= 50:
                it = Intent(f"mul.{a}*{b}", "sums")
                it.answers = [f"{a} times {b} is {a * b}."]
                x, y = NUMS[a], NUMS[b]
                it.lines = [("R", t) for t in (f"(what is|how much is|calculate|compute|what's) ({a} * {b}|{a}*{b}|{a} times {b}|{x} times {y}|{a} x {b}|{a} multiplied by {b})", f"({a} * {b}|{a} times {b}|{x} times {y}) [=]", f"multiply {a} (and|by|with) {b}", f"what does ({a} * {b}|{a} times {b}) (make|equal|give)")]
                out.append(it)
    return out + amounts()


AMOUNTS = "1 2 3 4 5 10 15 20 25 30 50 100 200 500".split()
WINDOWS = {"day": "(a day|per day|each day|every day|/day|for a day)", "week": "(a week|per week|every week|/week|for a week)",
           "month": "(a month|per month|each month|every month|/month|)"}
DAILY = {"day": "daily", "week": "weekly", "month": "monthly"}


def amounts():
    """A budget of so many dollars in a window: the number that was asked for is that of the answer."""
    out = []
    for n in AMOUNTS:
        for window, per in WINDOWS.items():
            it = Intent(f"amount.{n}.{window}", "amounts")
            more = "`; `month` is the default window." if window == "month" else f"; echo {window} > budgets/USER/window`."
            it.answers = [f"For {n} dollar{'s' * (n != '1')} a {window}: `mkdir -p budgets/USER; echo {n} > budgets/USER/limit{more}"]
            m = f"(${n}|${n}|{n} dollar{'s' * (n != '1')}|{n} usd|{n}$|{n} bucks|{n} euros)"
            if (n, window) == ("3", "week"):              # so that heldout5.jsonl asks something new
                m = "($3|3$|3 euros)"
            it.lines = [("Q", t) for t in (f"{m} {per} (for|to) {{usr}}", f"{{usr}} {m} {per}", f"{{usr}} gets {m} {per}", f"{{usr}} (may|should|shall|can) (use|cost|burn|have) (at most|only|up to|max) {m} {per}",
                        f"[a] budget of {m} {per} [for {{usr}}]", f"(a|) (limit|cap|maximum|ceiling) of {m} {per}", f"(at most|max|maximum|not over|no more than) {m} {per} [for {{usr}}]",
                        f"[a] {DAILY[window]} (limit|budget|allowance|maximum) of {m}", f"{m} {DAILY[window]} (limit|budget|allowance|maximum)")]
            it.lines += [("V", t) for t in (f"(limit|cap|restrict|keep) {{usr}} (to|at) {m} {per}", f"(give|allow|grant) {{usr}} {m} {per}", f"(set|make|have) a (limit|budget|cap) of {m} {per}",
                         f"(set|make|give {{usr}}) a {DAILY[window]} (limit|budget) of {m}")]
            if window != "month":
                it.lines.append(("Q", f"{m} {per}"))
            out.append(it)
    return out


TOPIC_SHARE = {"unknown": 16, "smalltalk": 5, "facts": 12, "capitals": 3.5, "opposites": 2.5, "sums": 5, "amounts": 4}   # the rest: llmfs


class Corpus:
    def __init__(self, holdout=True):
        self.g, self.intents = load(holdout)
        self.by_topic = {}
        for it in self.intents.values():
            group = it.topic if it.topic in TOPIC_SHARE else "llmfs"
            self.by_topic.setdefault(group, []).append(it)
        self.topics = list(self.by_topic)
        rest = 100 - sum(TOPIC_SHARE.values())
        self.tweight = [TOPIC_SHARE.get(t, rest) for t in self.topics]
        self.iweight = {t: [min(max(len(i.lines), 5), 30) ** 0.7 * self.boost(i) for i in v] for t, v in self.by_topic.items()}
        self.words = [w for it in self.intents.values() for a in it.answers for w in a.split() if w.isalpha()]
        self.llm_answers = [a for it in self.by_topic["llmfs"] for a in it.answers]

    boosts = {}

    def boost(self, it):
        return self.boosts.get(it.name, 1.0)

    def phrase(self, kind, text, rng):
        """One plain way of asking, before noise."""
        ex = lambda s: self.g.expand(s, rng)
        body = ex(text)
        if kind == "V":
            return ex("{how} ") + " " + body
        form = {"N": NFORMS, "E": EFORMS, "S": SFORMS, "B": BFORMS}.get(kind)
        if not form:
            return body
        if kind == "B" and not text.isupper():
            body = rng.choice([body, body.lower(), f'"{body}"', f"'{body}'", body])
        elif kind == "E" or kind == "S":
            body = rng.choice([body, body, f'"{body}"']) if kind == "E" else body
        shape = rng.choice(top_split(form)) if kind == "N" else form
        return ex(shape.replace("@", "\x01")).replace("\x01", body)

    def noisy(self, kind, q, rng, level=1.0):
        r = rng.random
        if "sessions/main" in q and r() < 0.5:
            q = q.replace("sessions/main", "sessions/" + self.g.expand("{fn}", rng))
        for _ in range(2):
            if r() < 0.3 * level:
                pat, alts = rng.choice(SWAPS)
                q = pat.sub(lambda m: rng.choice(alts), q, count=1)
        hits = [s for s in SWAPS if s[0].search(q)]
        if hits and r() < 0.5 * level:
            pat, alts = rng.choice(hits)
            q = pat.sub(lambda m: rng.choice(alts), q, count=1)
        hits = [s for s in MORE_SWAPS if s[0].search(q)] if kind in "QV" and r() < 0.4 * level else []
        for pat, alts in rng.sample(hits, min(len(hits), rng.choice([1, 1, 2]))):
            q = pat.sub(lambda m: rng.choice(alts), q, count=1)
        about = kind in "QVNSEB"
        if r() < 0.18:
            q = rng.choice((PRE if about else RPRE).split("|")[:-1]) + q
        if r() < 0.15:
            q = q + rng.choice((SUF if about else RSUF).split("|"))
        if r() < 0.10 * level:
            words = q.split()
            if len(words) > 3:
                drop = [i for i, w in enumerate(words) if w.lower() in
                        {"the", "a", "an", "of", "to", "do", "i", "is", "my", "does", "in", "for", "it", "with", "on", "can", "that", "and"}]
                if drop:
                    for i in sorted(rng.sample(drop, min(len(drop), rng.randint(1, 2))), reverse=True):
                        del words[i]
                    q = " ".join(words)
        if r() < 0.12 * level:
            q = self.typos(q, rng)
        if kind in "QVS" and r() < 0.06 * level:      # any word is lost, or becomes an unknown one
            words = q.split()
            if len(words) > 6:
                words[rng.randrange(len(words))] = self.g.expand("{nonce}", rng) if r() < 0.5 else ""
                q = " ".join(w for w in words if w)
        if r() < 0.04 * level:                      # one word becomes an unknown one
            words = q.split()
            i = rng.randrange(len(words))
            if len(words) > 5 and words[i].isalpha() and words[i].lower() in {"please", "exactly", "really", "want", "need", "command", "way", "tell", "explain", "quickly", "file", "best"}:
                words[i] = self.g.expand("{nonce}", rng)
                q = " ".join(words)
        u = r()
        if r() < (0.75 if u < 0.62 else 0.25):       # names as they are written
            q = CASED_RE.sub(lambda m: CASED[m.group(1)], q)
        if u < 0.62:
            q = re.sub(r"\bi\b", "I", q)
            q = re.sub(r"\bi'(m|d|ve|ll)\b", r"I'\1", q)
            q = q[:1].upper() + q[1:]
            asks = re.match(r"(what|how|which|who|where|when|why|is|are|can|do|does|may|will|should|could|am|did|has|have|must|to whom|in what|at what|whose|was|were|would)\b", q, re.I)
            q += rng.choice(["?"] * 9 + [""]) if asks else rng.choice([".", ".", "", "?", "!"] if not q.endswith((".", "!", "?")) else [""])
        elif u < 0.96:
            q += rng.choice(["?", "?", "", "", "", ".", "??", "!", " ?"])
        else:
            q = q.upper() if u > 0.99 else q.lower()
        return q

    def typos(self, q, rng):
        cs = list(q)
        for _ in range(rng.choice([1, 1, 1, 2])):
            i = rng.randrange(len(cs)) if cs else 0
            if i + 1 >= len(cs) or not cs[i].isalpha():
                continue
            k = rng.randrange(4)
            if k == 0:
                cs[i], cs[i + 1] = cs[i + 1], cs[i]
            elif k == 1:
                cs[i] = ""
            elif k == 2:
                cs[i] = cs[i] * 2
            else:
                cs[i] = rng.choice(TYPO_NEAR.get(cs[i].lower(), "e"))
        return "".join(cs)

    def pick(self, rng):
        t = rng.choices(self.topics, self.tweight)[0]
        return rng.choices(self.by_topic[t], self.iweight[t])[0]

    def turn(self, rng, level=1.0):
        it = self.pick(rng)
        kind, text = rng.choice(it.lines)
        return self.noisy(kind, self.phrase(kind, text, rng), rng, level), rng.choice(it.answers)

    def prose(self, rng, words):
        """Text of no consequence, as other people's conversations have it."""
        out, n = [], 0
        while n < words:
            u = rng.random()
            if u < 0.25:
                s = rng.choice(self.llm_answers)
            elif u < 0.5:
                s = " ".join(rng.choice(self.words) for _ in range(rng.randint(4, 14))).capitalize() + rng.choice([".", ".", "!", ",", ":"])
            elif u < 0.8:
                s = self.g.expand("(the|a|one|this|some|every|no) [{nonce}] ({animal}|{job}|{plant}|{nonce}|city of {city}|{sport} player) (is|was|has|had|makes|likes|saw|found|gives|knows|can see|would buy|never reads|reads) (the|a|an old|some|many|{nonce}) ({animal}|{food}|{nonce}|{science}|{tech}|{thing}|{work}) (in {city}|in {year}|and {any}|because of {any}|, but {any} too|with {any}|when {person} came|)", rng).capitalize() + "."
            else:
                s = self.g.expand("{nonce} {nonce} {nonce} {big} {nonce} {nonce}", rng) + rng.choice([".", "\n", ";"])
            out.append(s)
            n += len(s.split())
        return rng.choice([" ", " ", "\n"]).join(out)

    def conversation(self, rng, filler=0.1):
        """Yields (role, text, learn)."""
        if rng.random() < 0.35:
            yield "system", (rng.choice(SYSTEMS) if rng.random() < 0.9 else self.prose(rng, rng.randint(3, 40))), False
        fill = rng.random() < filler
        level = rng.choice([0.3, 1.0, 1.0, 1.6])
        while True:
            if fill and rng.random() < 0.35:
                yield "user", (self.turn(rng)[0] if rng.random() < 0.4 else self.prose(rng, rng.randint(2, 120))), False
                yield "assistant", self.prose(rng, rng.randint(5, 120)), False
                continue
            q, a = self.turn(rng, level)
            if fill and rng.random() < 0.05:
                q = self.prose(rng, rng.randint(10, 60)) + rng.choice(["\n\n", "\n", " "]) + q
            yield "user", q, False
            yield "assistant", a, True


def validation(corpus, per_line=2, seed=5):
    """[(intent, question, answers)] from held-out lines only."""
    rng, out = random.Random(seed), []
    for it in corpus.intents.values():
        if it.topic in ("capitals", "opposites", "sums", "amounts") and rng.random() > 0.06:
            continue
        for kind, text in it.held:
            for _ in range(per_line if it.topic != "unknown" else 6):
                q = corpus.noisy(kind, corpus.phrase(kind, text, rng), rng, 0.5)
                out.append((it, q, it.answers))
    return out


if __name__ == "__main__":
    import sys
    c, rng = Corpus(), random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(len(c.intents), "intents,", sum(len(i.lines) for i in c.intents.values()), "lines,", sum(len(i.held) for i in c.intents.values()), "held out")
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 40):
        print("%-90s | %s" % tuple(x[:90] for x in c.turn(rng)))
