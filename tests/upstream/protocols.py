# SPDX-License-Identifier: Apache-2.0
"""What a server of language models says, by protocol: OpenAI's chunks and Anthropic's events."""
import math

ANSWER = "The quick brown fox jumps over the lazy dog."


def words(text):
    """The text in pieces that begin with their space."""
    pieces, at = [], 0
    while at < len(text):
        end = text.find(" ", at + 1)
        end = len(text) if end < 0 else end
        pieces.append(text[at:end])
        at = end
    return pieces


def n_prompt(ask):
    total = len(str(ask.get("system") or "").split())
    for message in ask.get("messages") or []:
        total += len(str(message.get("content")).split())
    return max(1, total)


def logprobs_of(piece, i, n_top):
    """Made up, but it adds up: the piece itself has half, "safe" a quarter."""
    top = [{"token": piece, "logprob": math.log(0.5)}, {"token": "safe", "logprob": math.log(0.25)},
           {"token": "unsafe", "logprob": math.log(0.125)}]
    top = [dict(t, bytes=list(t["token"].encode())) for t in top]
    return {"content": [dict(top[0], top_logprobs=top[:n_top])]}


class OpenAI:
    """Chunks of chat.completion."""

    def __init__(self, ask, options):
        self.ask, self.options = ask, options
        self.base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                     "model": ask.get("model", "")}

    def chunk(self, delta, finish=None, logprobs=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        if logprobs:
            choice["logprobs"] = logprobs
        return ("", dict(self.base, choices=[choice]))

    def usage(self, n_output):
        n = n_prompt(self.ask)
        usage = {"prompt_tokens": n, "completion_tokens": n_output, "total_tokens": n + n_output}
        if self.options.get("cached"):
            usage["prompt_tokens_details"] = {"cached_tokens": self.options["cached"]}
        return usage

    def begin(self):
        yield self.chunk({"role": "assistant", "content": ""})

    def think(self, text):
        yield self.chunk({"reasoning_content": text})

    def piece(self, text, i):
        logprobs = None
        if self.ask.get("logprobs"):
            logprobs = logprobs_of(text, i, self.ask.get("top_logprobs") or 0)
        yield self.chunk({"content": text}, None, logprobs)

    def end(self, finish, n_output, usage):
        yield self.chunk({}, finish)
        wanted = (self.ask.get("stream_options") or {}).get("include_usage")
        if usage and wanted:
            yield ("", dict(self.base, choices=[], usage=self.usage(n_output)))

    def last(self):
        return b"[DONE]"

    def error(self):
        return ("", {"error": {"message": "the model fell over", "type": "server_error", "code": 500}})

    def whole(self, text, finish, n_output, usage):
        message = {"role": "assistant", "content": text}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1,
                "model": self.ask.get("model", ""),
                "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
        if self.ask.get("logprobs"):
            n_top = self.ask.get("top_logprobs") or 0
            body["choices"][0]["logprobs"] = {"content": [
                logprobs_of(w, i, n_top)["content"][0] for i, w in enumerate(words(text))]}
        if usage:
            body["usage"] = self.usage(n_output)
        return body

    FINISH = {"stop": "stop", "length": "length"}


class Anthropic:
    """Events of messages."""

    def __init__(self, ask, options):
        self.ask, self.options = ask, options

    @staticmethod
    def event(name, **members):
        return (name, dict({"type": name}, **members))

    def usage(self, n_output):
        cached = self.options.get("cached", 0)
        return {"input_tokens": n_prompt(self.ask) - cached, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": cached, "output_tokens": n_output}

    def message(self, content, finish, usage):
        message = {"id": "msg_1", "type": "message", "role": "assistant", "content": content,
                   "model": self.ask.get("model", ""), "stop_reason": finish, "stop_sequence": None}
        if usage:
            message["usage"] = usage
        return message

    def begin(self):
        usage = None if self.options.get("nousage") else self.usage(1)
        yield self.event("message_start", message=self.message([], None, usage))
        yield self.event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield self.event("ping")

    def think(self, text):
        yield self.event("content_block_delta", index=0,
                         delta={"type": "thinking_delta", "thinking": text})

    def piece(self, text, i):
        yield self.event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def end(self, finish, n_output, usage):
        yield self.event("content_block_stop", index=0)
        members = {"usage": {"output_tokens": n_output}} if usage else {}
        yield self.event("message_delta", delta={"stop_reason": finish, "stop_sequence": None},
                         **members)

    def last(self):
        return ("message_stop", {"type": "message_stop"})

    def error(self):
        return self.event("error", error={"type": "overloaded_error", "message": "Overloaded"})

    def whole(self, text, finish, n_output, usage):
        return self.message([{"type": "text", "text": text}], finish,
                            self.usage(n_output) if usage else None)

    FINISH = {"stop": "end_turn", "length": "max_tokens"}
