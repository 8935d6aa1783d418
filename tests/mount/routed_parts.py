# SPDX-License-Identifier: Apache-2.0
"""What router/explain and a session's trace say, as Python values."""
import json

from harness import read


def explain(m, prompt):
    with open(m("router", "explain"), "r+b", buffering=0) as f:
        f.write(prompt.encode())
        out = b""
        while piece := f.read(65536):
            out += piece
    return json.loads(out)


def decision(s):
    """What the router decided about the newest request."""
    trace = read(s("trace"))
    return json.JSONDecoder().raw_decode(trace[trace.index('{"model"'):])[0]


def steps(s):
    """The models that it was tried on, and what came of each."""
    trace = read(s("trace"))
    return json.loads(trace[trace.index('{"models"'):])["steps"]
