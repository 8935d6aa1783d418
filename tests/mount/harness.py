# SPDX-License-Identifier: Apache-2.0
"""What the mount tests stand on: a private mount, a daemon that is always ended, claims.

A test script is a list of functions marked @claim, each named after one promise of
interface.md, and ends with `harness.main()`. By default the claims of a script share one mount and
take a session each; a claim that starts, kills or refuses daemons says own=True and gets the class
Mount instead of an object of it.

The daemon (LLMFS, default build/llmfs) runs in the foreground with a TREE, a state directory and a
mount point of its own in one temporary directory. A claim fails, too, when the daemon wrote a
warning, an error or a sanitizer's report that the claim did not announce with m.expects(). What
a daemon that is gone has left, a report or a signal it died of, is a broken claim of its own.

A second process, the warden, is forked before anything is mounted. It is told of every daemon,
mount and time limit. When a claim runs out of time it writes down where all threads stand and kills
the daemon, which ends whatever waits for it; when this process goes away, however, it unmounts and
cleans up. So no hang of the daemon survives the test.

Environment: LLMFS, LLMFS_MODEL (a GGUF file; short.gguf lies beside it), LLMFS_TEST_SLOW (factor for all time limits; the
default follows from the sanitizer in the daemon), LLMFS_WRAP (a command in front of the daemon).
Exit status: 0 all kept, 1 something is broken, 77 nothing could be tested here.
"""
import contextlib
import errno
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LLMFS = os.path.abspath(os.environ.get("LLMFS", os.path.join(ROOT, "build", "llmfs")))
MODEL = os.path.abspath(os.environ.get(
    "LLMFS_MODEL", os.path.join(os.path.dirname(LLMFS), "tests", "mount", "model.gguf")))
SHORT = os.path.join(os.path.dirname(MODEL), "short.gguf")  # its context: 512 tokens
WRAP = shlex.split(os.environ.get("LLMFS_WRAP", ""))
REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|: runtime error: ")
CACHE = False  # True: a script is about the cache; in all others each question is computed
COMPLAINT = re.compile(r"llmfs: (warning|error): .*")
DEATHS = (signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)
FINDINGS = []  # of daemons that are gone: what is a fault whatever the claim was about


class Skip(Exception):
    """This cannot be tested here; the text says why."""


def sanitizer():
    """'thread', 'address' or '' : what the daemon was built with."""
    with open(LLMFS, "rb") as f:
        image = f.read()
    return "thread" if b"__tsan_init" in image else "address" if b"__asan_init" in image else ""


def slow():
    if "LLMFS_TEST_SLOW" not in os.environ:
        factor = {"": 1, "address": 4, "thread": 10}[sanitizer()]
        os.environ["LLMFS_TEST_SLOW"] = str(factor)
    return float(os.environ["LLMFS_TEST_SLOW"])


def is_mounted(path):
    with open("/proc/self/mountinfo") as f:
        return any(line.split()[4] == path for line in f)


def unmount(path):
    for how in ("-u", "-uz"):
        if not is_mounted(path):
            return
        subprocess.run(["fusermount3", how, path], stderr=subprocess.DEVNULL, timeout=20)


def threads(pid):
    """Names of the daemon's threads by id."""
    out = {}
    for tid in os.listdir("/proc/%d/task" % pid):
        with contextlib.suppress(OSError), open("/proc/%d/task/%s/comm" % (pid, tid)) as f:
            out[int(tid)] = f.read().strip()
    return out


def dump(pid, title):
    """Where each thread of a process stands, to stderr."""
    text = ["--- %s: threads of %d" % (title, pid)]
    for tid, name in sorted(threads(pid).items()):
        where = []
        for what in ("wchan", "syscall"):
            with contextlib.suppress(OSError), open("/proc/%d/task/%d/%s" % (pid, tid, what)) as f:
                where.append(f.read().split("\n")[0][:60])
        text.append("%7d %-15s %s" % (tid, name, " ".join(where)))
    print("\n".join(text), file=sys.stderr, flush=True)
    if shutil.which("gdb"):
        gdb = subprocess.run(
            ["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt 12"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
        print(gdb.stdout.decode(errors="replace")[-12000:], file=sys.stderr, flush=True)


# ---- the warden ----

class Warden:
    """Lives in a process of its own; this is the end of the pipe that talks to it."""

    def __init__(self):
        here, self.pipe = os.pipe()
        os.set_inheritable(self.pipe, False)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid:
            os.close(here)
            return
        os.close(self.pipe)
        os.setsid()
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)
        try:
            self.watch(here, parent)
        finally:
            os._exit(0)

    def say(self, **message):
        with contextlib.suppress(BrokenPipeError):
            os.write(self.pipe, (json.dumps(message) + "\n").encode())

    def bye(self):
        os.close(self.pipe)
        os.waitpid(self.pid, 0)

    @staticmethod
    def watch(pipe, parent):
        daemons, mounts, trees, limit, name = set(), set(), set(), None, ""
        text = b""
        while True:
            wait = None if limit is None else max(0, limit - time.monotonic())
            if not select.select([pipe], [], [], wait)[0]:
                for pid in daemons:
                    with contextlib.suppress(Exception):
                        dump(pid, "%s took too long" % name)
                Warden.kill(daemons)
                if name == "the end":
                    os.kill(parent, signal.SIGKILL)
                limit, name = time.monotonic() + 20, "the end"
                continue
            more = os.read(pipe, 65536)
            if not more:
                break
            text += more
            *lines, text = text.split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "limit" in message:
                    limit, name = message["limit"], message["name"]
                for key, group in (("daemon", daemons), ("mount", mounts), ("tree", trees)):
                    if key in message:
                        group.add(message[key])
                if "ended" in message:
                    daemons.discard(message["ended"])
        Warden.kill(daemons)
        for path in mounts:
            with contextlib.suppress(Exception):
                unmount(path)
        for path in trees:
            shutil.rmtree(path, ignore_errors=True)

    @staticmethod
    def kill(daemons):
        for pid in daemons:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


WARDEN = None


# ---- a mount ----

class Mount:
    """One TREE, state directory and mount point, and at most one daemon on them."""

    def __init__(self, *args, start=True, allow=(), model=MODEL, tree=None, state=None):
        self.top = tempfile.mkdtemp(prefix="llmfs-test-")
        os.chmod(self.top, 0o755)
        WARDEN.say(tree=self.top)
        self.tree = tree or os.path.join(self.top, "tree")
        self.state = state or os.path.join(self.top, "state")
        self.path = os.path.join(self.top, "mnt")
        os.makedirs(self.path)
        WARDEN.say(mount=self.path)
        if not tree:
            for name, path in (("tiny", model), ("short", SHORT)):
                os.makedirs(os.path.join(self.tree, "models", name))
                write(os.path.join(self.tree, "models", name, "path"), path + "\n")
            os.symlink("tiny", os.path.join(self.tree, "models", "default"))
            if not CACHE:
                os.mkdir(os.path.join(self.tree, "cache"))
                write(os.path.join(self.tree, "cache", "enabled"), "0\n")
        self.args = list(args)
        self.allowed = [re.compile(a) for a in allow]
        self.log = os.path.join(self.top, "log")
        self.seen = 0
        self.proc = None
        self.n_sessions = 0
        if start:
            self.start()

    # -- the daemon

    def command(self, *args, foreground=True):
        return WRAP + [LLMFS] + (["-f"] if foreground else []) + [
            "-o", "state=" + self.state] + self.args + list(args) + [self.tree, self.path]

    def start(self, *args):
        """Runs the daemon in the foreground and returns when its mount works."""
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(self.command(*args), stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log)
        WARDEN.say(daemon=self.proc.pid)
        end = time.monotonic() + 20 * slow()
        while not (is_mounted(self.path) and exists(self("version"))):
            if self.proc.poll() is not None:
                WARDEN.say(ended=self.proc.pid)
                self.note_death()
                raise AssertionError("the daemon ended with %d: %s" % (
                    self.proc.returncode, self.log_text()))
            assert time.monotonic() < end, "no mount in time: " + self.log_text()
            time.sleep(0.01)
        return self

    def kill(self, number=signal.SIGKILL):
        os.kill(self.proc.pid, number)

    def wait(self, timeout=20):
        """The daemon's exit status (negative: the signal), once it has ended."""
        status = self.proc.wait(timeout * slow())
        WARDEN.say(ended=self.proc.pid)
        self.note_death()
        return status

    def note_death(self):
        """A daemon that fell over is a finding, whatever the claim makes of it."""
        if self.proc and self.proc.returncode and -self.proc.returncode in DEATHS:
            FINDINGS.append("the daemon died of " + signal.Signals(-self.proc.returncode).name)

    def stop(self):
        """Ends the daemon as a service manager does; it must say goodbye properly."""
        if self.proc and self.proc.returncode is None:
            self.kill(signal.SIGTERM)
            status = self.wait()
            assert status == 0, "exit status %d after SIGTERM: %s" % (status, self.log_text())
        assert not is_mounted(self.path), "a mount is left after SIGTERM"

    def close(self):
        """Leaves nothing behind, whatever state things are in."""
        if self.proc and self.proc.poll() is None:
            self.kill(signal.SIGKILL)
            self.wait()
        self.note_death()
        FINDINGS.extend(x for x in self.log_text().splitlines() if REPORT.search(x))
        unmount(self.path)
        shutil.rmtree(self.top, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        try:
            if kind is None:
                self.stop()
                self.check_log()
            elif self.log_text():
                print("    the daemon's log: " + self.log_text()[-3000:])
        finally:
            self.close()

    def log_text(self):
        return read(self.log) if os.path.exists(self.log) else ""

    def expects(self, *patterns):
        """The rest of the script may see these complaints from the daemon."""
        self.allowed += [re.compile(p) for p in patterns]

    def check_log(self):
        text = self.log_text()
        new, self.seen = text[self.seen:], len(text)
        assert not REPORT.search(new), "a sanitizer's report:\n" + new
        for found in COMPLAINT.finditer(new):
            line = found.group()
            assert any(a.search(line) for a in self.allowed), "unexpected: " + line

    # -- using it

    def __call__(self, *names):
        """The path of a file in the mount."""
        return os.path.join(self.path, *names)

    def session(self, name=None, tokens=12, **settings):
        """A new session that gives `tokens` tokens however its random model feels about it."""
        if not name:
            self.n_sessions += 1
            name = "s%d" % self.n_sessions
        s = Session(self, name)
        os.mkdir(s.path)
        for k, v in dict({"ignore_eos": 1, "max_tokens": tokens}, **settings).items():
            write(s(k), "%s\n" % v)
        return s

    def stored(self):
        """Waits until what has happened would survive a kill -9: an answer is shown as ended when
        it is written, and so is what was to be written before it."""
        assert self.session(tokens=1).ask("x")

    def sh(self, script, shell="bash", check=False, timeout=30, user=None, **env):
        """Runs a script in the mount's top. stdout and stderr are text."""
        command = [shell, "-c", 'cd "$M" || exit 99\n' + script]
        if user is not None:
            command = ["setpriv", "--reuid=%d" % user, "--regid=%d" % user,
                       "--clear-groups"] + command
        environment = dict(os.environ, M=self.path, TREE=self.tree, LC_ALL="C.UTF-8", **env)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=environment, timeout=timeout * slow())
        done.stdout = done.stdout.decode(errors="surrogateescape")
        done.stderr = done.stderr.decode(errors="surrogateescape")
        if check and done.returncode:
            raise AssertionError("%r: status %d, %s" % (script, done.returncode, done.stderr))
        return done


class Session:
    """A session's directory and the sentences tests say about it."""

    def __init__(self, mount, name):
        self.mount, self.name, self.path = mount, name, mount("sessions", name)

    def __call__(self, name):
        return os.path.join(self.path, name)

    def submit(self, prompt):
        write(self("in"), prompt)

    def submitted(self, n):
        """Waits until n prompts are: the last close is told when the writer is gone already. Only
        readers of out, and verbs, wait for that by themselves."""
        wait_for(lambda: read(self("events")).count('"submitted"') == n, "%d prompts" % n)

    def ask(self, prompt):
        """The whole answer, as bytes."""
        self.submit(prompt)
        return read_bytes(self("out"))

    def status(self):
        return read(self("status")).strip()

    def wait(self, *words, timeout=20):
        wait_for(lambda: self.status() in words, "status %s" % " or ".join(words), timeout,
                 lambda: "status is %s, error: %s" % (self.status(), read(self("error"))))

    def idle(self, timeout=30):
        """Waits until nothing is queued or under way."""
        self.wait("idle", "done", "failed", "blocked", "cancelled", timeout=timeout)

    def messages(self):
        return json.loads(read(self("messages.json")))

    def prompts(self):
        """What arrived, once all of it is answered."""
        self.idle()
        return [x["content"] for x in self.messages() if x["role"] == "user"]

    def usage(self, name):
        for line in read(self("usage")).splitlines():
            if line.split()[0] == name:
                return float(line.split()[1])
        raise AssertionError("usage has no line %s: %r" % (name, read(self("usage"))))

    def begin(self, prompt="tell me"):
        """A long answer under way: at least its first byte is there."""
        short = read(self("max_tokens"))
        write(self("max_tokens"), "20000\n")
        self.submit(prompt)
        with open(self("out"), "rb", buffering=0) as out:
            assert out.read(1), "an answer has a first byte"
        write(self("max_tokens"), short)

    def cancel(self):
        write(self("ctl"), "cancel\n")
        self.idle()


# ---- small things ----

def shown(answer):
    """What `out` gives of a complete answer: a text file ends with a newline."""
    data = answer.encode() if isinstance(answer, str) else answer
    return data if not data or data.endswith(b"\n") else data + b"\n"


def read_bytes(path):
    with open(path, "rb", buffering=0) as f:
        return f.read()


def until_it_fails(path):
    """What a reader of out gets, and the errno behind it."""
    got = b""
    with open(path, "rb", buffering=0) as f:
        while True:
            try:
                more = f.read(4096)
            except OSError as e:
                return got, e.errno
            if not more:
                return got, 0
            got += more


def read(path):
    return read_bytes(path).decode(errors="replace")


def write(path, text):
    """One open, one write, one close; OSError tells which errno the write or the close gave."""
    data = text if isinstance(text, bytes) else text.encode()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        n = os.write(fd, data)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)
    assert n == len(data), "%d of %d bytes written" % (n, len(data))


def reset(path):
    """Unlinks a file that is there again at once: to the thread that unlinks it only after a second."""
    failed = []

    def unlink():
        try:
            os.unlink(path)
        except OSError as e:
            failed.append(e)

    thread = threading.Thread(target=unlink)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def exists(path):
    try:
        os.stat(path)
        return True
    except OSError:
        return False


def wait_for(done, what, timeout=10, explain=None):
    end = time.monotonic() + timeout * slow()
    while not done():
        if time.monotonic() > end:
            raise AssertionError("no %s after %g s%s" % (
                what, timeout * slow(), ": " + explain() if explain else ""))
        time.sleep(0.005)


def soon(done, what, explain=None):
    """Of itself, by the next look at TREE; that it is within a second is a claim of its own."""
    wait_for(done, what, 10, explain)


def status_has(m, *words):
    soon(lambda: all(w in read(m("status")) for w in words), "report", lambda: read(m("status")))


def status_is_ok(m):
    soon(lambda: read(m("status")) == "ok\n", "end of the report", lambda: read(m("status")))


def quick(attempt, limit):
    """It takes less than that: at the first try, or, on a busy machine, at one of ten."""
    took = []
    while not took or took[-1] >= limit * slow():
        assert len(took) < 10, "took %s s" % took
        took.append(attempt())


def in_time(attempt, limit):
    """What holds when something of ours is done within so many seconds. attempt() begins anew each
    time and calls what it is given when that is done; a failure does not count when it came later,
    unless it always does."""
    for left in range(9, -1, -1):
        took = []
        begin = time.monotonic()
        try:
            return attempt(lambda: took.append(time.monotonic() - begin))
        except AssertionError:
            if not left or took and took[0] < limit:
                raise


@contextlib.contextmanager
def refused(*codes):
    """The body must fail with one of these errnos."""
    names = " or ".join(errno.errorcode[c] for c in codes)
    try:
        yield
    except OSError as e:
        assert e.errno in codes, "%s instead of %s" % (errno.errorcode.get(e.errno, e), names)
        return
    raise AssertionError("succeeded instead of " + names)


def equal(a, b):
    assert a == b, "%r is not %r" % (a, b)


def need(*tools):
    for tool in tools:
        if not shutil.which(tool):
            raise Skip(tool + " is not installed")


def has(tool):
    """Whether it is there. If not, what the claim that runs would do with it is a skip of its own."""
    there = bool(shutil.which(tool))
    if not there and (CLAIM, tool) not in LEFT_OUT:
        LEFT_OUT.add((CLAIM, tool))
        print("skip   %s with %s: it is not installed" % (CLAIM, tool), flush=True)
    return there


def need_root():
    if os.getuid() != 0:
        raise Skip("needs root")


# ---- claims ----

CLAIMS = []
CLAIM = ""  # the one that runs
LEFT_OUT = set()


def claim(own=False, limit=60, root=False, tools=()):
    """Marks a test; its name is the promise."""
    def mark(f):
        CLAIMS.append((f, own, limit, root, tools))
        return f
    return mark


def attempt(c, mount):
    global CLAIM
    f, own, limit, root, tools = c
    CLAIM = f.__name__
    WARDEN.say(limit=time.monotonic() + limit * slow(), name=f.__name__)
    begin = time.monotonic()
    try:
        need(*tools)
        if root:
            need_root()
        f(Mount if own else mount)
        if not own:
            assert mount.proc.poll() is None, "the daemon is gone: " + mount.log_text()[-3000:]
            mount.check_log()
        word, why = "kept", ""
    except Skip as e:
        word, why = "skip", ": %s" % e
    except BaseException as e:
        if isinstance(e, (KeyboardInterrupt, SystemExit)):
            raise
        at = traceback.extract_tb(e.__traceback__)
        lines = [t.lineno for t in at if t.filename == sys.argv[0] or
                 os.path.dirname(t.filename) == HERE
                 and os.path.basename(t.filename) not in ("harness.py", "programs.py")]
        word, why = "BROKEN", " (line %s): %s: %s" % (lines[-1] if lines else "?",
                                                     type(e).__name__, e)
    print("%-6s %s%s  [%.2f s]" % (word, f.__name__, why, time.monotonic() - begin), flush=True)
    return word


def findings():
    """Says what daemons that are gone have left: a broken claim each, if only once."""
    said = sorted(set(FINDINGS))
    FINDINGS.clear()
    for line in said:
        print("BROKEN " + line, flush=True)
    return ["BROKEN"] * len(said)


def main(*args, **options):
    """Runs the script's claims (or those named on the command line) and exits."""
    global WARDEN
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("skip: /dev/fuse cannot be used here")
        sys.exit(77)
    for path in (shutil.which("fusermount3"), LLMFS, MODEL, SHORT):
        if not path or not os.path.exists(path):
            print("skip: %s is missing" % (path or "fusermount3"))
            sys.exit(77)
    chosen = [c for c in CLAIMS if not sys.argv[1:] or c[0].__name__ in sys.argv[1:]]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    slow()
    WARDEN = Warden()
    words, mount = [], None
    try:
        WARDEN.say(limit=time.monotonic() + 30 * slow(), name="start")
        if any(not c[1] for c in chosen):
            mount = Mount(*args, **options)
        for c in chosen:
            if mount and mount.proc.poll() is not None and not c[1]:
                mount.close()
                mount = Mount(*args, **options)
            words.append(attempt(c, mount))
            words += findings()
        WARDEN.say(limit=time.monotonic() + 30 * slow(), name="stop")
        if mount and mount.proc.poll() is None:
            mount.stop()
            mount.check_log()
    except (AssertionError, subprocess.TimeoutExpired) as e:
        print("BROKEN " + str(e))
        words.append("BROKEN")
    finally:
        if mount:
            if "BROKEN" in words and mount.log_text():
                print("the daemon's log:\n" + mount.log_text()[-6000:])
            WARDEN.say(limit=time.monotonic() + 30 * slow(), name="close")
            mount.close()
        words += findings()
        WARDEN.bye()
    sys.exit(1 if "BROKEN" in words else 0 if "kept" in words else 77)
