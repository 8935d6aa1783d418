#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An upstream that speaks HTTP/2, as cloud APIs do: nghttpx (Debian: nghttp2-proxy) stands before the test
server and takes HTTP/2 over TLS only. Skipped where nghttpx or openssl is not there."""
import contextlib
import errno
import os
import shutil
import socket
import subprocess
import tempfile
import threading

import harness
from harness import claim, equal, read, read_bytes, refused, shown, wait_for, write
from servers import ANSWER, Server, models

AT_ONCE = 40


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Proxy:
    """nghttpx: HTTP/2 in front, HTTP/1.1 to the server behind."""

    def __init__(self, behind):
        if not shutil.which("nghttpx") or not shutil.which("openssl"):
            raise harness.Skip("needs nghttpx (nghttp2-proxy) and openssl")
        self.dir = tempfile.mkdtemp(prefix="llmfs-http2-")
        self.cert = os.path.join(self.dir, "cert.pem")
        key = os.path.join(self.dir, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", "/CN=llmfs-test", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", key, "-out", self.cert], check=True, stderr=subprocess.DEVNULL)
        self.port = free_port()
        self.log = os.path.join(self.dir, "log")
        # Only h2 is offered, so who does not speak it gets nothing.
        self.proc = subprocess.Popen(
            ["nghttpx", "--frontend=127.0.0.1,%d" % self.port, "--backend=127.0.0.1,%d" % behind,
             "--npn-list=h2", "--workers=1", "--errorlog-file=/dev/null", "--conf=/dev/null",
             "--accesslog-file=" + self.log, "--accesslog-format=$alpn $remote_port $status",
             "--backend-read-timeout=60", key, self.cert],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.listens, "nghttpx")

    def listens(self):
        assert self.proc.poll() is None, "nghttpx ended with %s" % self.proc.returncode
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def settings(self, behaviour=None):
        where = "/b/%s" % behaviour if behaviour else ""
        return {"endpoint": "https://127.0.0.1:%d%s/v1" % (self.port, where),
                "ca_file": self.cert, "proxy": "none", "retries": 0}

    def requests(self):
        """(protocol, port of the connection, status) of each that is over."""
        return [line.split() for line in read(self.log).splitlines()]

    def close(self):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
        shutil.rmtree(self.dir, ignore_errors=True)


@claim()
def answers_come_as_over_any_other_protocol(m):
    with Server() as server, Proxy(server.port) as proxy, models(m, far=proxy.settings()):
        s = m.session(model="far")
        equal(s.ask("hello"), shown(ANSWER))
        equal(s.ask("and again"), shown(ANSWER))
        equal(s.status(), "done")
        assert s.usage("output_tokens") > 0
        wait_for(lambda: len(proxy.requests()) >= 2, "both in the proxy's log")
        equal({x[0] for x in proxy.requests()}, {"h2"})
        equal(len({x[1] for x in proxy.requests()}), 1)


@claim(limit=120)
def many_at_once_share_a_connection(m):
    with Server() as server, Proxy(server.port) as proxy, \
            models(m, far=dict(proxy.settings("pace=20"), requests_max=AT_ONCE)):
        m.session(model="far").ask("first")  # now the connection is there
        answers = [None] * AT_ONCE

        def ask(i):
            answers[i] = m.session("many%d" % i, model="far").ask("question %d" % i)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(AT_ONCE)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        equal(set(answers), {shown(ANSWER)})
        wait_for(lambda: len(proxy.requests()) >= AT_ONCE + 1, "all in the proxy's log")
        equal({x[0] for x in proxy.requests()}, {"h2"})
        connections = {x[1] for x in proxy.requests()}
        assert len(connections) <= 2, "%d connections" % len(connections)


@claim()
def a_cancel_ends_one_stream_and_no_other(m):
    with Server() as server, Proxy(server.port) as proxy, \
            models(m, far=proxy.settings("pace=100"), stuck=proxy.settings("hang-middle")):
        one, other = m.session(model="stuck"), m.session(model="far")
        one.submit("hello")
        with open(one("out"), "rb", buffering=0) as f:
            assert f.read(1)
            other.submit("hello")
            one.cancel()
        equal(one.status(), "cancelled")
        wait_for(lambda: "gone" in [r["state"] for r in server.requests()], "closed stream")
        equal(read_bytes(other("out")), shown(ANSWER))
        equal([r["state"] for r in server.requests()].count("gone"), 1)


@claim()
def a_cancel_reaches_the_server_also_where_its_stream_is_the_only_one(m):
    with Server() as server, Proxy(server.port) as proxy, models(m, stuck=proxy.settings("hang-middle")):
        one = m.session(model="stuck")
        one.submit("hello")
        with open(one("out"), "rb", buffering=0) as f:
            assert f.read(1)
            one.cancel()
        equal(one.status(), "cancelled")
        wait_for(lambda: "gone" in [r["state"] for r in server.requests()], "closed stream")


@claim()
def a_time_out_of_the_whole_reaches_the_server_too(m):
    with Server() as server, Proxy(server.port) as proxy, \
            models(m, stuck=dict(proxy.settings("hang-middle"), timeout_ms=1500)):
        one = m.session(model="stuck")
        one.submit("hello")
        wait_for(lambda: one.status() == "failed", "the time-out")
        assert "1500 ms" in read(one("error")) or "1499 ms" in read(one("error")), read(one("error"))
        wait_for(lambda: "gone" in [r["state"] for r in server.requests()], "closed stream")


@claim()
def a_server_that_goes_away_in_the_middle_is_an_error_and_the_next_connects_anew(m):
    with Server() as server, Proxy(server.port) as proxy, \
            models(m, far=proxy.settings("hang-middle")):
        s = m.session(model="far")
        s.submit("hello")
        with open(s("out"), "rb", buffering=0) as f:
            assert f.read(1)
            proxy.close()
            with refused(errno.EPROTO):
                while f.read(4096):
                    pass
        equal(s.status(), "failed")
        assert "far" in read(s("error")), read(s("error"))
        with Proxy(server.port) as again:
            for name, value in again.settings().items():
                write(m("models", "far", name), "%s\n" % value)
            equal(m.session(model="far").ask("hello"), shown(ANSWER))


if __name__ == "__main__":
    harness.main()
