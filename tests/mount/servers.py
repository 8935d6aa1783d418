# SPDX-License-Identifier: Apache-2.0
"""Upstream servers for mount tests: tests/upstream/faulty.py as an object."""
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys

import harness
from harness import write

FAULTY = os.path.join(harness.ROOT, "tests", "upstream", "faulty.py")
ANSWER = b"The quick brown fox jumps over the lazy dog."


class Server:
    """A server on the loopback; ends with its object, and with this process."""

    def __init__(self):
        self.proc = subprocess.Popen([sys.executable, FAULTY], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE)
        line = self.proc.stdout.readline().decode()
        self.ports = {k: int(v) for k, v in re.findall(r"(\w+) (\d+)", line)}
        self.port = self.ports["port"]

    def url(self, behaviour=None, port="port"):
        where = "/b/%s" % behaviour if behaviour else ""
        return "http://127.0.0.1:%d%s/v1" % (self.ports[port], where)

    def call(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20 * harness.slow())
        c.request(method, path, json.dumps(body) if body is not None else None)
        data = c.getresponse().read()
        c.close()
        return json.loads(data) if data.strip().startswith(b"{") else data

    def control(self, **what):
        self.call("POST", "/control", what)

    def reset(self):
        self.call("POST", "/reset")

    def requests(self):
        """What was asked so far, but for health checks."""
        return [r for r in self.call("GET", "/log")["requests"] if r["method"] == "POST"]

    def close(self):
        if self.proc.poll() is None:
            self.proc.stdin.close()
            try:
                self.proc.wait(10)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


@contextlib.contextmanager
def models(m, **endpoints):
    """Upstream models, each with its endpoint or a dictionary of settings; gone at the end."""
    for name, settings in endpoints.items():
        os.mkdir(m("models", name))
        settings = settings if isinstance(settings, dict) else {"endpoint": settings}
        for file, value in settings.items():
            write(m("models", name, file), "%s\n" % value)
    try:
        yield
    finally:
        for name in endpoints:
            with contextlib.suppress(OSError):
                os.rmdir(m("models", name))


@contextlib.contextmanager
def without_local_models(m):
    """The router does not take the mount's own models meanwhile."""
    for name in ("tiny", "short"):
        write(m("models", name, "capabilities"), "embed\n")
    try:
        yield
    finally:
        for name in ("tiny", "short"):
            harness.reset(m("models", name, "capabilities"))  # at once, as an empty write is not
