# SPDX-License-Identifier: Apache-2.0
"""models/NAME as files of an upstream, for upstreams.py and keys.py: its settings with values for
each, and what both wait for."""
import os
import shutil

from harness import MODEL, read, soon, status_has, status_is_ok, write

NUMBERS = ["context", "max_tokens", "weight", "requests_max", "queue_max", "queue_timeout_ms",
           "connect_timeout_ms", "first_byte_timeout_ms", "idle_timeout_ms", "timeout_ms", "retries",
           "breaker_failures", "breaker_successes", "breaker_open_ms"]
SETTINGS = {
    "path": ([MODEL], []),
    "endpoint": (["http://127.0.0.1:1/v1", "https://127.0.0.1:1/v1\nhttp://127.0.0.1:2/v1 weight=2"],
                 ["not a url"]),
    "protocol": (["openai", "anthropic"], ["grpc", "OpenAI"]),
    "remote_name": (["gpt-4o-mini", "org/model:latest"], []),
    "template": (["chatml"], ["klingon"]),
    "backend": (["auto", "cpu", "cuda"], ["gpu"]), "gpu": (["0", "3"], ["-1", "256"]),
    "fp8": (["on", "off"], ["yes"]), "kv_fp8": (["1", "0"], ["2"]),
    "memory_share": (["0.5", "1"], ["0", "1.5", "half"]),
    "price_input": (["0.15"], ["cheap"]), "price_cached": (["0.075"], ["-1"]),
    "price_output": (["0.60"], ["x"]),
    "quality": (["0", "0.8", "1"], ["good"]),
    "capabilities": (["chat", "chat json"], []),
    "fallback": (["tiny", "tiny short"], []),
    "retry_ratio": (["0.1", "0"], ["often"]),
    "health_interval_ms": (["0", "1000"], ["many", "7"]),
    "proxy": (["none", "http://127.0.0.1:3128"], ["http://user:password@127.0.0.1:3128"]),
    "ca_file": (["/etc/ssl/certs/ca-certificates.crt"], []),
    **{name: (["7", "9"], ["many", "-1"]) for name in NUMBERS},
}
LIVE = {"error": 0o400,
        "key": 0o200, "ctl": 0o600, "ask": 0o666, "ask_error": 0o444, "embed": 0o666, "state": 0o444,
        "info": 0o444, "metrics": 0o444}
SECRET = "sk-proj-Zq83hVxTestOnly"
SECRETS = (SECRET, "token-abc123", "correcthorsebattery", "user:correct-horse")


def model(m, name):
    os.mkdir(m("models", name))
    return lambda *names: m("models", name, *names)


def in_tree(m, *names):
    return os.path.join(m.tree, "models", *names)


def kept(m, name):
    """What the state directory has as that model's key; None: nothing."""
    try:
        return read(os.path.join(m.state, "keys", name)).rstrip("\n")
    except FileNotFoundError:  # also one that goes while it is looked for
        return None


def has_key(m, name, value):
    soon(lambda: kept(m, name) == value, "key %r" % value, lambda: repr(kept(m, name)))


def passed(m):
    """Returns when all that was in TREE before has been seen: by the pass that ends this fault."""
    m.expects("models/probe/protocol")
    os.mkdir(in_tree(m, "probe"))
    write(in_tree(m, "probe", "protocol"), "grpc\n")
    status_has(m, "models/probe/protocol")
    shutil.rmtree(in_tree(m, "probe"))
    status_is_ok(m)
