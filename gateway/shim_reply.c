/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenAI's objects, written as text: their members are few and always the same, and a stream has an
 * event for every few letters of its answer, each of which repeats all of them. So nothing is built
 * before it is written, and what a failure has left is taken back: an event is there whole or not
 * at all.
 *
 * Texts are UTF-8 and pass as they are, but for what JSON wants escaped, and three characters that
 * end a line (U+0085, U+2028, U+2029) for some clients that read a stream by lines. Sentences of
 * errors may have been cut inside a character, or quote what came over the wire: there a byte that
 * is no UTF-8 becomes U+FFFD.
 *
 * What llmfs does not know is not in the objects (service_tier, system_fingerprint,
 * completion_tokens_details), or null where clients look for it (logprobs, refusal).
 *
 * Any thread. Embeddings are shim_reply_embed.c's, which error is which is shim_error.c's.
 */
#include "gateway/shim_reply.h"

#include "base/utf8.h"
#include "gateway/shim_reply_parts.h"

/* ---- pieces ---- */

/* 0: the byte stands for itself; 'u': \u00XX; 'x': perhaps as it is; else \ and that letter. */
static const char escapes[256] = {
	['\b'] = 'b',
	['\f'] = 'f',
	['\n'] = 'n',
	['\r'] = 'r',
	['\t'] = 't',
	['"'] = '"',
	['\\'] = '\\',
#define U4(at) [at] = 'u', [at + 1] = 'u', [at + 2] = 'u', [at + 3] = 'u'
	U4(0),
	U4(4),
	[0x0B] = 'u',
	[0x0E] = 'u',
	[0x0F] = 'u',
	U4(0x10),
	U4(0x14),
	U4(0x18),
	U4(0x1C),
#undef U4
	[0xC2] = 'x',
	[0xE2] = 'x',
};

/* Characters that end a line for some who read a stream line by line: their length, or 0. */
static size_t line_end(const char *text, size_t len, const char **escape)
{
	static const struct {
		const char *bytes, *escape;
	} ends[] = {
		{"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}};
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		size_t n = strlen(ends[i].bytes);
		*escape = ends[i].escape;
		if (n <= len && !memcmp(text, ends[i].bytes, n))
			return n;
	}
	return 0;
}

/* One byte that does not stand for itself, or what begins with it; *n bytes were it. Their end. */
static char *put_escape(char *to, const char *text, size_t len, size_t *n)
{
	static const char hex[] = "0123456789abcdef";
	unsigned char c = (unsigned char)*text;
	const char *escape;
	size_t end;
	*n = 1;
	switch (escapes[c]) {
	case 'x':
		end = line_end(text, len, &escape);
		*n = end ? end : 1;
		return mempcpy(to, end ? escape : text, end ? 6 : 1);
	case 'u':
		to = mempcpy(to, "\\u00", 4);
		*to++ = hex[c >> 4];
		*to++ = hex[c & 15];
		return to;
	default:
		*to++ = '\\';
		*to++ = escapes[c];
		return to;
	}
}

/* Each byte takes at most 6, so that room is made once; long texts, of which that would be too
 * much, are cut. */
static int put_escaped(struct buf *out, const char *text, size_t len)
{
	int r = buf_reserve(out, 6 * len);
	if (r < 0)
		return r;
	char *to = out->data + out->len;
	for (size_t i = 0, n = 1; i < len; i += n) {
		n = 1;
		if (!escapes[(unsigned char)text[i]])
			*to++ = text[i];
		else
			to = put_escape(to, text + i, len - i, &n);
	}
	*to = '\0';
	out->len = (size_t)(to - out->data);
	return 0;
}

int shim_reply_string(struct buf *out, const char *text, size_t len)
{
	enum { PIECE = 4096 };
	int r = SHIM_PUT(out, "\"");
	for (size_t i = 0, n; r == 0 && i < len; i += n) {
		n = len - i < PIECE ? len - i : PIECE;
		while (i + n < len && n > 1 && utf8_is_inside(text[i + n]))
			n--;
		r = put_escaped(out, text + i, n);
	}
	return r ? r : SHIM_PUT(out, "\"");
}

int shim_reply_number(struct buf *out, uint64_t x)
{
	char digits[20], *p = digits + sizeof digits;
	do
		*--p = (char)('0' + x % 10);
	while (x /= 10);
	return shim_reply_bytes(out, p, (size_t)(digits + sizeof digits - p));
}

static int put_word(struct buf *out, const char *word)
{
	return shim_reply_string(out, word, strlen(word));
}

/* "": null. */
static int put_word_or_null(struct buf *out, const char *word)
{
	return word && *word ? put_word(out, word) : SHIM_PUT(out, "null");
}

/* A text of which it is not known whether it is UTF-8. */
static int put_sentence(struct buf *out, const char *text)
{
	size_t len = strlen(text);
	int r = SHIM_PUT(out, "\"");
	while (r == 0 && len) {
		size_t n = utf8_valid_prefix(text, len);
		r = put_escaped(out, text, n);
		if (r == 0 && n < len) {
			r = SHIM_PUT(out, "\xEF\xBF\xBD");
			n++;
		}
		text += n;
		len -= n;
	}
	return r ? r : SHIM_PUT(out, "\"");
}

static int put_time(struct buf *out, int64_t s)
{
	return shim_reply_number(out, s > 0 ? (uint64_t)s : 0);
}

static int put_usage(struct buf *out, const struct shim_usage *u)
{
	int r = SHIM_PUT(out, "{\"prompt_tokens\":");
	r = r ? r : shim_reply_number(out, u->prompt_tok);
	r = r ? r : SHIM_PUT(out, ",\"completion_tokens\":");
	r = r ? r : shim_reply_number(out, u->output_tok);
	r = r ? r : SHIM_PUT(out, ",\"total_tokens\":");
	r = r ? r : shim_reply_number(out, u->prompt_tok + u->output_tok);
	r = r ? r : SHIM_PUT(out, ",\"prompt_tokens_details\":{\"cached_tokens\":");
	r = r ? r : shim_reply_number(out, u->cached_tok);
	return r ? r : SHIM_PUT(out, "}}");
}

/* Up to the first choice. */
static int put_head(struct buf *out, const struct shim_head *head, bool event)
{
	int r = event ? SHIM_PUT(out, "data: {\"id\":") : SHIM_PUT(out, "{\"id\":");
	r = r ? r : put_word(out, head->id);
	if (r == 0 && head->kind == SHIM_COMPLETION)
		r = SHIM_PUT(out, ",\"object\":\"text_completion\",\"created\":");
	else if (r == 0 && event)
		r = SHIM_PUT(out, ",\"object\":\"chat.completion.chunk\",\"created\":");
	else if (r == 0)
		r = SHIM_PUT(out, ",\"object\":\"chat.completion\",\"created\":");
	r = r ? r : put_time(out, head->created_s);
	r = r ? r : SHIM_PUT(out, ",\"model\":");
	r = r ? r : put_word(out, head->model);
	return r ? r : SHIM_PUT(out, ",\"choices\":[");
}

/* Behind the last choice of an event. */
static int put_event_end(struct buf *out, bool with_usage)
{
	return with_usage ? SHIM_PUT(out, "],\"usage\":null}\n\n") : SHIM_PUT(out, "]}\n\n");
}

/* ---- not streamed ---- */

static int put_choice(struct buf *out, enum shim_kind kind, const struct shim_choice *c)
{
	int r = SHIM_PUT(out, "{\"index\":");
	r = r ? r : shim_reply_number(out, c->index);
	if (kind == SHIM_CHAT)
		r = r ? r : SHIM_PUT(out, ",\"message\":{\"role\":\"assistant\",\"content\":");
	else
		r = r ? r : SHIM_PUT(out, ",\"text\":");
	r = r ? r : shim_reply_string(out, c->text, c->len);
	if (r == 0 && kind == SHIM_CHAT)
		r = SHIM_PUT(out, ",\"refusal\":null,\"annotations\":[]}");
	r = r ? r : SHIM_PUT(out, ",\"logprobs\":null,\"finish_reason\":");
	r = r ? r : put_word_or_null(out, c->finish);
	return r ? r : SHIM_PUT(out, "}");
}

int shim_reply_whole(struct buf *out, const struct shim_head *head,
	const struct shim_choice *choices, size_t n, const struct shim_usage *usage)
{
	size_t before = out->len;
	int r = put_head(out, head, false);
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = i ? SHIM_PUT(out, ",") : 0;
		r = r ? r : put_choice(out, head->kind, &choices[i]);
	}
	r = r ? r : SHIM_PUT(out, "],\"usage\":");
	r = r ? r : put_usage(out, usage);
	return shim_reply_undo(out, before, r ? r : SHIM_PUT(out, "}"));
}

/* ---- streamed ---- */

static int put_index(struct buf *out, const struct shim_head *head, unsigned index)
{
	int r = put_head(out, head, true);
	r = r ? r : SHIM_PUT(out, "{\"index\":");
	return r ? r : shim_reply_number(out, index);
}

int shim_reply_begin(struct buf *out, const struct shim_head *head, unsigned index, bool with_usage)
{
	size_t before = out->len;
	if (head->kind == SHIM_COMPLETION)
		return 0;
	int r = put_index(out, head, index);
	r = r ? r
	      : SHIM_PUT(out, ",\"delta\":{\"role\":\"assistant\",\"content\":\"\","
			      "\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}");
	return shim_reply_undo(out, before, r ? r : put_event_end(out, with_usage));
}

int shim_reply_text(struct buf *out, const struct shim_head *head, unsigned index, const char *text,
	size_t len, bool with_usage)
{
	size_t before = out->len;
	bool chat = head->kind == SHIM_CHAT;
	int r = put_index(out, head, index);
	if (r == 0)
		r = chat ? SHIM_PUT(out, ",\"delta\":{\"content\":") : SHIM_PUT(out, ",\"text\":");
	r = r ? r : shim_reply_string(out, text, len);
	if (r == 0 && chat)
		r = SHIM_PUT(out, "}");
	r = r ? r : SHIM_PUT(out, ",\"logprobs\":null,\"finish_reason\":null}");
	return shim_reply_undo(out, before, r ? r : put_event_end(out, with_usage));
}

int shim_reply_finish(struct buf *out, const struct shim_head *head, unsigned index,
	const char *finish, bool with_usage)
{
	size_t before = out->len;
	int r = put_index(out, head, index);
	if (r == 0)
		r = head->kind == SHIM_CHAT ? SHIM_PUT(out, ",\"delta\":{}")
					    : SHIM_PUT(out, ",\"text\":\"\"");
	r = r ? r : SHIM_PUT(out, ",\"logprobs\":null,\"finish_reason\":");
	r = r ? r : put_word_or_null(out, finish);
	r = r ? r : SHIM_PUT(out, "}");
	return shim_reply_undo(out, before, r ? r : put_event_end(out, with_usage));
}

int shim_reply_usage(struct buf *out, const struct shim_head *head, const struct shim_usage *usage)
{
	size_t before = out->len;
	int r = put_head(out, head, true);
	r = r ? r : SHIM_PUT(out, "],\"usage\":");
	r = r ? r : put_usage(out, usage);
	return shim_reply_undo(out, before, r ? r : SHIM_PUT(out, "}\n\n"));
}

int shim_reply_done(struct buf *out)
{
	return SHIM_PUT(out, "data: [DONE]\n\n");
}

/* ---- errors, models ---- */

int shim_reply_error(
	struct buf *out, const struct shim_error *e, const char *sentence, const char *param)
{
	size_t before = out->len;
	int r = SHIM_PUT(out, "{\"error\":{\"message\":");
	r = r ? r : put_sentence(out, sentence);
	r = r ? r : SHIM_PUT(out, ",\"type\":");
	r = r ? r : put_word(out, e->type);
	r = r ? r : SHIM_PUT(out, ",\"param\":");
	if (r == 0)
		r = param && *param ? put_sentence(out, param) : SHIM_PUT(out, "null");
	r = r ? r : SHIM_PUT(out, ",\"code\":");
	r = r ? r : put_word_or_null(out, e->code);
	return shim_reply_undo(out, before, r ? r : SHIM_PUT(out, "}}"));
}

int shim_reply_error_event(struct buf *out, const struct shim_error *e, const char *sentence)
{
	size_t before = out->len;
	int r = SHIM_PUT(out, "data: ");
	r = r ? r : shim_reply_error(out, e, sentence, NULL);
	return shim_reply_undo(out, before, r ? r : SHIM_PUT(out, "\n\n"));
}

int shim_reply_model(struct buf *out, const char *id, int64_t created_s)
{
	size_t before = out->len;
	int r = SHIM_PUT(out, "{\"id\":");
	r = r ? r : put_word(out, id);
	r = r ? r : SHIM_PUT(out, ",\"object\":\"model\",\"created\":");
	r = r ? r : put_time(out, created_s);
	return shim_reply_undo(out, before, r ? r : SHIM_PUT(out, ",\"owned_by\":\"llmfs\"}"));
}

int shim_reply_models(struct buf *out, const char *const *ids, size_t n, int64_t created_s)
{
	size_t before = out->len;
	int r = SHIM_PUT(out, "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = i ? SHIM_PUT(out, ",") : 0;
		r = r ? r : shim_reply_model(out, ids[i], created_s);
	}
	return shim_reply_undo(out, before, r ? r : SHIM_PUT(out, "]}"));
}
