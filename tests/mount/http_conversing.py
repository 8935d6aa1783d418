#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a client of the HTTP front end says is what the model is given, all of it or nothing: conversations that are too
long, and ends of prompts."""
import json

import harness
import web
from harness import claim, equal, read
from servers import Server, models
from web import CHAT, TEXTS, VECTORS, Web, user

server = Server()


def asker(m):
    if not hasattr(m, "asker"):
        m.asker = Web(m, web.make_key(m, "asker"))
    return m.asker


def sent():
    """The last body that the upstream was sent."""
    return json.loads(server.requests()[-1]["body"])


def conversation(turns):
    """So many answered questions, each some dozens of tokens, and one more."""
    out = []
    for i in range(turns):
        out += [user("question %d, in a few words more" % i), {"role": "assistant", "content": "an answer, as short as that"}]
    return out + [user("and now?")]


@claim(limit=90)
def a_conversation_longer_than_the_context_is_refused_and_not_cut(m):
    w = asker(m)
    for settings in ({}, {"stream": True}):
        equal(w.chat(conversation(1), "short", max_tokens=2, **settings).status, 200)
        reply = w.chat(conversation(60), "short", max_tokens=2, **settings)
        equal(reply.error(), (400, "invalid_request_error", "context_length_exceeded", None))
        assert "512" in reply.message(), reply.message()
        equal(reply.headers["x-should-retry"], "false")
    # A session, which keeps its conversation itself, is cut.
    s = m.session(model="short", tokens=2)
    with open(s("messages.json"), "w") as f:
        json.dump(conversation(60)[:-1], f)
    s.ask("and now?")
    equal(read(s("status")), "done\n")


@claim(limit=60)
def a_newline_at_the_end_of_a_prompt_is_part_of_it(m):
    w = asker(m)
    with models(m, far=server.url()):
        for end in ("", "\n", "\n\n", " \n"):
            equal(w.chat("Q" + end).status, 200)
            equal(sent()["messages"], [user("Q" + end)])
            equal(w.post(CHAT, web.chat_body([user("A"), {"role": "assistant", "content": "B\n"}, user("Q" + end)])).status, 200)
            equal([x["content"] for x in sent()["messages"]], ["A", "B\n", "Q" + end])
            equal(w.post(TEXTS, {"model": "far", "prompt": "Q" + end}).status, 200)
            equal(sent()["messages"], [user("Q" + end)])
            w.post(VECTORS, {"model": "far", "input": "Q" + end})
            equal(sent()["input"], ["Q" + end])


try:
    import harness
    harness.main(*web.OPTION)
finally:
    server.close()
