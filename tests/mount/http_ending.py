#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the HTTP front end begins and ends: addresses, ports that are taken, an end while clients are there, kill -9."""
import contextlib
import os
import socket
import subprocess
import threading
import time
from decimal import Decimal

import harness
import web
from harness import claim, equal, exists, is_mounted, read, wait_for
from servers import ANSWER, Server, models
from web import ME, OPTION, Web, chat_body

server = Server()
TEXT = ANSWER.decode()
AT_ONCE = 50


def start_fails(m, *args):
    """What is said by a start that fails; it leaves no mount."""
    done = subprocess.run(m.command(*args), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=20 * harness.slow())
    assert done.returncode > 0 and not is_mounted(m.path), done
    assert not harness.REPORT.search(done.stderr), done.stderr
    return done.stderr


def refused(host, port):
    try:
        socket.create_connection((host, port), 5).close()
    except OSError:
        return True
    return False


def followers(m, n):
    """n who have the beginning of an answer; each list gets the rest of one, when it ends."""
    w = Web(m, web.make_key(m, "asker"))
    rests, threads = [], []
    for i in range(n):
        s = w.stream("number %d" % i)
        s.pieces(1)
        rest = []

        def follow(s=s, rest=rest):
            with contextlib.suppress(Exception):
                rest.extend(iter(s.response.readline, b""))
            rest.append("end")
        threads.append(threading.Thread(target=follow))
        threads[-1].start()
        rests.append(rest)
    return rests, threads


def ended_while_many_stream(Mount, end):
    with Mount(*OPTION) as m:
        with_models = models(m, far=server.url("hang-middle"))
        with_models.__enter__()
        where = web.address(m)
        rests, threads = followers(m, AT_ONCE)
        waiting = web.dial(m)
        waiting.sendall(web.raw_request(web.make_key(m, "other"), chat_body("whole")))
        idle = web.dial(m)
        begin = time.monotonic()
        end(m)
        equal(m.wait(), 0)
        assert time.monotonic() - begin < 5 * harness.slow(), time.monotonic() - begin
        assert not is_mounted(m.path), "a mount is left"
        for t in threads:
            t.join(5 * harness.slow())
            assert not t.is_alive(), "a client waits for ever"
        for rest in rests:
            equal((rest[-1], b"data: [DONE]\n" in rest), ("end", False))
        got = web.until_closed(waiting)
        assert not got or b" 503 " in got.split(b"\r\n")[0], got[:200]
        web.until_closed(idle)
        assert refused(*where)
        m.check_log()
        m.start()
        wait_for(lambda: web.metric(m, "requests_running") == 0, "rest")
        server.reset()


@claim(own=True)
def sigterm_while_fifty_stream_ends_them_and_the_daemon(Mount):
    ended_while_many_stream(Mount, lambda m: m.kill(15))


@claim(own=True)
def an_umount_while_fifty_stream_ends_them_and_the_daemon(Mount):
    ended_while_many_stream(Mount, lambda m: subprocess.run(["fusermount3", "-u", m.path], check=True))


@claim(own=True)
def sigterm_while_a_local_model_streams_ends_it(Mount):
    with Mount(*OPTION) as m:
        w = Web(m, web.make_key(m))
        streams = [w.stream("go on", "tiny", max_tokens=20000, ignore_eos=True) for _ in range(4)]
        for s in streams:
            s.pieces(1)
        m.kill(15)
        equal(m.wait(), 0)
        for s in streams:
            with contextlib.suppress(OSError, web.http.client.HTTPException):
                while s.response.read(65536):
                    pass
            s.close()
        m.start()


@claim(own=True)
def a_port_that_is_taken_is_an_error_with_its_address(Mount):
    with Mount(*OPTION) as m:
        m2 = Mount(start=False)
        try:
            port = web.address(m)[1]
            said = start_fails(m2, "-o", "http=127.0.0.1:%d" % port)
            assert "127.0.0.1:%d" % port in said and "in use" in said.lower(), said
            equal(Web(m).get("/health").status, 200)
        finally:
            m2.close()


@claim(own=True)
def an_address_that_is_none_is_an_error_with_what_is_allowed(Mount):
    m = Mount(start=False)
    try:
        for address in ("nonsense", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80",
                        "[::1]", "[::1:80", "", "http://127.0.0.1:80", "127.0.0.1:80 ", "127.0.0.1:80/v1"):
            said = start_fails(m, "-o", "http=" + address)
            assert "http" in said and (not address or address in said), (address, said)
        said = start_fails(m, "-o", "http=192.0.2.1:8080")  # good, but of no interface here
        assert "192.0.2.1:8080" in said, said
    finally:
        m.close()


@claim(own=True)
def each_form_of_an_address_listens_where_it_says(Mount):
    for address, host in (("localhost:0", None), ("[::1]:0", "::1"), (":0", "127.0.0.1")):
        if host == "::1" and refused_here("::1"):
            raise harness.Skip("no IPv6 on this machine's loopback")
        with Mount("-o", "http=" + address, allow=["can be reached from other machines"]) as m:
            port = web.address(m)[1]
            s = socket.create_connection((host or "localhost", port), 10)
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b'"ok"' in web.until_closed(s), address
            s.close()


def refused_here(host):
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind((host, 0))
        return False
    except OSError:
        return True


@claim(own=True)
def without_the_option_nobody_listens(Mount):
    with Mount() as m:
        equal(read(m("http")), "")
        with open("/proc/%d/net/tcp" % m.proc.pid) as f:
            listening = {line.split()[9] for line in f if line.split()[3] == "0A"}
        for fd in os.listdir("/proc/%d/fd" % m.proc.pid):
            with contextlib.suppress(OSError):
                assert os.readlink("/proc/%d/fd/%s" % (m.proc.pid, fd)).strip("socket:[]") not in listening


@claim(own=True)
def two_daemons_have_each_its_own_port_and_keys(Mount):
    with Mount(*OPTION) as a, Mount(*OPTION) as b:
        assert web.address(a) != web.address(b)
        mine = Web(a, web.make_key(a))
        equal(mine.get("/v1/models").status, 200)
        equal(Web(b, mine.key).get("/v1/models").status, 401)


@claim(own=True)
def the_same_port_is_there_at_once_after_a_restart(Mount):
    with Mount(*OPTION) as m:
        port = web.address(m)[1]
        Web(m).get("/health")
        held = web.dial(m)  # so that the daemon's side closes first, and waits
        for end in (15, 9):
            m.kill(end)
            m.wait()
            m.args = ["-o", "http=127.0.0.1:%d" % port]
            m.start()
            equal((web.address(m)[1], Web(m).get("/health").status), (port, 200))
        held.close()


@claim(own=True)
def a_daemon_in_the_background_serves(Mount):
    m = Mount(*OPTION, start=False)
    try:
        done = subprocess.run(m.command(foreground=False), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=20 * harness.slow())
        equal((done.returncode, exists(m("http"))), (0, True))
        pid = int(subprocess.run(["pgrep", "-f", m.path], stdout=subprocess.PIPE, check=True).stdout.split()[0])
        harness.WARDEN.say(daemon=pid)
        w = Web(m, web.make_key(m))
        equal(w.chat("hi", "tiny", max_tokens=2, ignore_eos=True).status, 200)
        subprocess.run(["fusermount3", "-u", m.path], check=True)
        wait_for(lambda: not exists("/proc/%d" % pid), "the end of the daemon")
        harness.WARDEN.say(ended=pid)
    finally:
        m.close()


@claim(own=True, limit=90)
def after_kill_9_keys_work_and_budgets_are_as_they_were(Mount):
    with Mount(*OPTION) as m:
        os.mkdir(m("models", "far"))
        harness.write(m("models", "far", "endpoint"), server.url() + "\n")
        harness.write(m("models", "far", "price_output"), "1000000\n")
        web.set_account(m, limit="100")
        w = Web(m, web.make_key(m))
        equal([w.chat("number %d" % i, max_tokens=9).status for i in range(3)], [200] * 3)
        harness.write(m("models", "far", "endpoint"), server.url("hang-middle") + "\n")
        streaming = w.stream("never over", max_tokens=9)
        streaming.pieces(1)
        m.kill()
        m.wait()
        streaming.close()
        m.start()
        harness.write(m("models", "far", "endpoint"), server.url() + "\n")
        spent = Decimal(read(m("budgets", ME, "spent")))
        assert 28 <= spent <= 36, spent  # what was cut off costs what was told of it, and no more than it may
        equal(w.chat("again", max_tokens=9).text(), TEXT)
        equal(Decimal(read(m("budgets", ME, "spent"))), spent + 9)
        equal(Web(m, w.key[:-1]).chat("again").status, 401)


try:
    harness.main()
finally:
    server.close()
