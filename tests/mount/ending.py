#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How a mount ends: SIGTERM, SIGINT, fusermount3 -u and -uz while busy, kill -9 in mid-answer; and
what the next start finds."""
import errno
import json
import os
import pwd
import signal
import stat
import subprocess
import time

import harness
from harness import Session, claim, equal, exists, is_mounted, read, read_bytes, refused, wait_for
from harness import shown, write
from programs import waits_in
from servers import ANSWER, Server, models


def reader(s):
    """A cat that reads an answer under way."""
    return waits_in(subprocess.Popen(["cat", s("out")], stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE), s("out"))


def submitted(s, n):
    """Waits until n prompts are, and would survive a kill -9: what is queued while the loop is in a
    step would with the end of that, for which whoever changes a session waits."""
    s.submitted(n)
    os.chmod(s.path, 0o700)


def ended_while_busy(Mount, number):
    with Mount() as m:
        s = m.session()
        s.begin()
        p = reader(s)
        begin = time.monotonic()
        m.kill(number)
        equal(m.wait(), 0)
        assert time.monotonic() - begin < 5 * harness.slow()
        assert not is_mounted(m.path), "a mount is left"
        p.wait(5 * harness.slow())
        assert p.returncode != 0 or p.stderr.read() == b""
        m.check_log()
        m.start()
        assert s.status() in ("cancelled", "failed"), s.status()
        equal(s.prompts() if s.messages() else ["tell me"], ["tell me"])
        assert m.session(tokens=3).ask("again")


@claim(own=True)
def sigterm_while_busy_leaves_no_mount_and_no_process(Mount):
    ended_while_busy(Mount, signal.SIGTERM)


@claim(own=True)
def sigint_while_busy_leaves_no_mount_and_no_process(Mount):
    ended_while_busy(Mount, signal.SIGINT)


@claim(own=True)
def sigterm_while_idle_ends_within_a_second(Mount):
    with Mount() as m:
        begin = time.monotonic()
        m.stop()
        assert time.monotonic() - begin < 5 * harness.slow()


@claim(own=True)
def a_second_sigterm_does_no_harm(Mount):
    with Mount() as m:
        s = m.session()
        s.begin()
        for _ in range(5):
            m.kill(signal.SIGTERM)
            time.sleep(0.01)
            if m.proc.poll() is not None:
                break
        equal(m.wait(), 0)


@claim(own=True)
def fusermount_u_while_idle_ends_the_daemon(Mount):
    with Mount() as m:
        subprocess.run(["fusermount3", "-u", m.path], check=True)
        equal(m.wait(), 0)


@claim(own=True)
def fusermount_u_while_answers_run_without_readers_cancels_and_settles(Mount):
    with Mount() as m:
        s = m.session()
        s.begin()
        subprocess.run(["fusermount3", "-u", m.path], check=True)
        equal(m.wait(), 0)
        m.start()
        assert s.status() in ("cancelled", "failed"), s.status()


@claim(own=True)
def fusermount_u_under_an_open_file_is_busy_and_harmless(Mount):
    with Mount() as m:
        s = m.session()
        s.begin()
        p = reader(s)
        done = subprocess.run(["fusermount3", "-u", m.path], stderr=subprocess.PIPE)
        assert done.returncode != 0 and b"busy" in done.stderr, done
        equal(p.poll(), None)
        s.cancel()
        p.wait()


@claim(own=True)
def fusermount_uz_under_a_reader_ends_the_daemon_once_the_reader_is_gone(Mount):
    with Mount() as m:
        s = m.session(tokens=3000)
        s.submit("tell me")
        p = reader(s)
        subprocess.run(["fusermount3", "-uz", m.path], check=True)
        assert not is_mounted(m.path)
        p.kill()
        p.wait()
        equal(m.wait(), 0)


@claim(own=True)
def a_start_in_the_moment_of_a_kill_9_succeeds(Mount):
    with Mount() as m:
        for _ in range(6):
            dying = m.proc
            m.kill(signal.SIGKILL)
            m.start()
            dying.wait()


@claim(own=True)
def kill_9_in_mid_answer_keeps_the_conversation(Mount):
    with Mount() as m:
        s = m.session(temperature="0.25", system="be brief")
        os.chmod(s.path, 0o750)
        s.ask("the first")
        before = s.messages()
        s.begin("the second")
        p = reader(s)
        m.stored()
        m.kill(signal.SIGKILL)
        m.wait()
        p.wait(5 * harness.slow())
        assert p.returncode == 1
        assert is_mounted(m.path), "a killed daemon leaves a dead mount"
        with refused(errno.ENOTCONN):
            os.listdir(m.path)
        m.start()
        equal(s.status(), "failed")
        equal(read(s("error")), "daemon restarted\n")
        assert "_ms " not in read(s("usage")), "its times are not known"
        line = [json.loads(x) for x in read(m("budgets", pwd.getpwuid(os.getuid()).pw_name, "ledger")).splitlines()][-1]
        equal(line["status"], "crashed")
        event = [json.loads(x) for x in read(s("events")).splitlines()][-1]
        equal((event["event"], event["request"]), ("failed", line["request"]))
        assert "request %d\n" % line["request"] in read(s("trace"))
        with refused(errno.EIO):
            read_bytes(s("out"))
        equal(s.messages()[:3], before)
        equal(s.messages()[3], {"role": "user", "content": "the second"})
        equal(read(s("temperature")), "0.25\n")
        equal(read(s("system")), "be brief\n")
        equal(stat.S_IMODE(os.stat(s.path).st_mode), 0o750)
        write(s("ctl"), "retry\n")
        assert read_bytes(s("out"))
        equal(s.prompts(), ["the first", "the second"])


@claim(own=True)
def kill_9_right_after_an_answer_keeps_it(Mount):
    with Mount() as m:
        s = m.session()
        for i in range(3):
            answer = s.ask("question %d" % i)
            sums = "session_requests", "session_prompt_tokens", "session_output_tokens", "session_cost"
            used = [s.usage(name) for name in sums]
            m.kill(signal.SIGKILL)
            m.wait()
            m.start()
            equal([s.usage(name) for name in sums], used)
            equal(used[0], i + 1)
            equal(shown(s.messages()[-1]["content"]), answer)
            equal(len(s.messages()), 2 * i + 2)
            equal(read_bytes(s("out")), answer)
            equal(s.status(), "done")


@claim(own=True)
def kill_9_with_requests_queued_keeps_the_sessions(Mount):
    with Mount() as m:
        sessions = [m.session() for _ in range(5)]
        for s in sessions:
            s.begin()
            s.submit("queued")
        for s in sessions:
            submitted(s, 2)
        m.kill(signal.SIGKILL)
        m.wait()
        m.start()
        for s in sessions:
            equal(s.status(), "failed")
            assert read(s("chat")).startswith("> tell me\n")
            equal(s.prompts()[-1], "queued")


@claim(own=True)
def kill_9_with_prompts_waiting_keeps_each_of_them(Mount):
    with Server() as server, Mount() as m, models(m, far=server.url("pace=2000")):
        s = m.session(model="far")
        m.sh('for q in alpha beta gamma; do echo "q $q" > %s || exit 1; done' % s("in"), check=True)
        submitted(s, 3)
        m.kill(signal.SIGKILL)
        m.wait()
        for _ in range(2):
            m.start()
            equal(s.status(), "failed")
            equal(read(s("error")), "daemon restarted\n")
            chat = read(s("chat"))
            for q in "beta", "gamma":
                equal(chat.count("> q %s\n\n[failed: daemon restarted]\n\n" % q), 1)
            assert chat.index("q alpha") < chat.index("q beta") < chat.index("q gamma"), chat
            equal(s.prompts()[-1], "q gamma")
            m.stop()
        m.start()
        write(m("models", "far", "endpoint"), server.url() + "\n")
        write(s("ctl"), "retry\n")
        equal(read_bytes(s("out")), shown(ANSWER))
        equal(s.prompts()[-1], "q gamma")


@claim(own=True)
def kill_9_after_a_cancel_or_a_removal_brings_no_waiting_prompt_back(Mount):
    with Server() as server, Mount() as m, models(m, far=server.url("pace=2000")):
        s, gone = m.session(model="far"), m.session("gone", model="far")
        for each in s, gone:
            for q in "alpha", "beta", "gamma":
                each.submit(q)
            submitted(each, 3)
        s.cancel()
        chat, messages = read(s("chat")), s.messages()
        os.rmdir(gone.path)
        m.kill(signal.SIGKILL)
        m.wait()
        m.start()
        equal(s.status(), "cancelled")
        equal((read(s("chat")), s.messages()), (chat, messages))
        assert not exists(gone.path)


@claim(own=True)
def a_dead_mount_is_removed_by_the_next_start(Mount):
    with Mount() as m:
        for _ in range(2):
            m.kill(signal.SIGKILL)
            m.wait()
            m.start()
        assert exists(m("version"))
        with open("/proc/self/mountinfo") as f:
            equal(sum(line.split()[4] == m.path for line in f), 1)


@claim(own=True)
def sessions_settings_and_answers_survive_a_restart(Mount):
    with Mount() as m:
        s = m.session("kept", stop="one\ntwo", system="gr\u00fc\u00dfe")
        answer = s.ask("hello")
        chat = read(s("chat"))
        created = os.stat(s.path).st_mtime
        m.stop()
        m.start()
        equal(read_bytes(s("out")), answer)
        equal(read(s("chat")), chat)
        equal(os.stat(s("chat")).st_size, len(read_bytes(s("chat"))))
        equal(read(s("stop")), "one\ntwo\n")
        equal(read(s("system")), "gr\u00fc\u00dfe\n")
        assert abs(os.stat(s.path).st_mtime - created) < 5 * harness.slow()
        s.ask("more")
        equal(len(s.prompts()), 2)


@claim(own=True, limit=90)
def views_of_the_last_request_and_events_are_the_same_after_a_stop_and_a_kill(Mount):
    with Server() as server, Mount() as m:
        files = "status", "error", "usage", "trace", "events", "chat"
        with models(m, far={"endpoint": server.url(), "quality": 1},
                    dead={"endpoint": "http://127.0.0.1:9/v1", "retries": 0}):
            # One that the router took, one of a server, one that failed.
            asked = [m.session(model=name) for name in ("auto", "far", "dead")]
            for s in asked[:2]:
                assert s.ask("hello")
            asked[2].submit("hello")
            with refused(errno.EHOSTUNREACH):
                read_bytes(asked[2]("out"))
            before = [[read(s(f)) for f in files] for s in asked]
            assert '"candidates"' in before[0][3], before[0][3]
            assert "\nmodel far\nprovider openai\n" in before[1][2], before[1][2]
            m.kill(signal.SIGKILL)
            m.wait()
            for _ in range(2):
                m.start()
                equal([[read(s(f)) for f in files] for s in asked[1:]], before[1:])
                # How it was routed is written down within a second, or not at all.
                trace = before[0][3][:before[0][3].index("{")]
                assert read(asked[0]("trace")) in (trace, before[0][3]), read(asked[0]("trace"))
                equal([read(asked[0](f)) for f in files if f != "trace"],
                      [before[0][i] for i, f in enumerate(files) if f != "trace"])
                with refused(errno.EHOSTUNREACH):
                    read_bytes(asked[2]("out"))
                m.stop()
            m.start()
            assert asked[1].ask("once more")
            events = read(asked[1]("events"))
            assert events.startswith(before[1][4]), (events, before[1][4])
            equal(events.count('"submitted"'), 2)


@claim(own=True, limit=120)
def how_it_was_routed_is_kept_by_a_stop_at_once_and_by_a_kill_a_second_later(Mount):
    with Server() as server, Mount() as m, models(m, far={"endpoint": server.url(), "quality": 1}):
        s = m.session(model="auto")
        assert s.ask("hello")
        trace = read(s("trace"))
        assert '"candidates"' in trace, trace
        m.stop()
        m.start()
        equal(read(s("trace")), trace)
        for seconds in 1.5, 5, 15:  # the last on a machine that is very busy
            assert s.ask("hello again")
            trace = read(s("trace"))
            time.sleep(seconds)
            m.kill(signal.SIGKILL)
            m.wait()
            m.start()
            if read(s("trace")) == trace:
                return
        equal(read(s("trace")), trace)


@claim(own=True)
def what_a_kill_cut_off_is_said_once_in_events(Mount):
    with Mount() as m:
        s = m.session()
        s.begin()
        m.stored()
        m.kill(signal.SIGKILL)
        m.wait()
        for _ in range(3):
            m.start()
            equal(s.status(), "failed")
            lines = [json.loads(line) for line in read(s("events")).splitlines()]
            equal([(a["event"], a["errno"], a["error"]) for a in lines if "errno" in a],
                  [("failed", errno.EIO, "daemon restarted")])
            m.stop()


@claim(own=True)
def a_removed_session_stays_removed(Mount):
    with Mount() as m:
        s = m.session("gone")
        s.ask("hello")
        os.rmdir(s.path)
        m.stored()
        m.kill(signal.SIGKILL)
        m.wait()
        m.start()
        assert not exists(s.path)
        equal(Session(m, "main").messages(), [])


@claim(own=True, root=True, tools=("mount", "umount"))
def a_full_disk_is_said_and_survived(Mount):
    m = Mount(start=False, allow=["."])
    os.makedirs(m.state)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", m.state])
    if done.returncode:
        raise harness.Skip("no tmpfs can be mounted here")
    try:
        m.start()
        s = m.session(tokens=3)
        answer = s.ask("hello")
        with open(os.path.join(m.state, "filler"), "wb", buffering=0) as f, \
                refused(errno.ENOSPC):
            while True:
                f.write(bytes(1 << 14))
        said = 0
        for i in range(40):
            try:
                s.ask("again %d " % i + "x" * 8000)
            except OSError as e:
                assert e.errno in (errno.ENOSPC, errno.EIO), e
                said += 1
        assert said, "nobody said that the disk is full"
        assert read(m("status")).startswith("degraded"), read(m("status"))
        equal(shown(s.messages()[1]["content"]), answer)
        os.unlink(os.path.join(m.state, "filler"))
        wait_for(lambda: recovered(s), "recovery once there is room", 10)
        m.stop()
    finally:
        m.close()
        subprocess.run(["umount", "-l", m.state], stderr=subprocess.DEVNULL)


def recovered(s):
    try:
        return len(s.ask("room again")) > 0
    except OSError:
        return False


harness.main()
