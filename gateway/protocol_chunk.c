/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream has a chunk of JSON for each token, of which a handful of bytes matter. The JSON library
 * makes objects of all of it, with a dozen allocations, and takes a sixth of the time that a short
 * answer costs here. This reader walks over the text once, remembers where what matters stands, and
 * takes it at the end.
 *
 * It knows only what is usual, and strictly: whatever it is not sure of (an escape in a name, a
 * \u, a number with an exponent, log-probabilities, an error, a name twice, text that is not JSON)
 * it leaves to the library, which also finds the words for what is wrong. So it decides nothing
 * alone: what it takes, the library would have read the same way.
 *
 * Pure; keeps nothing.
 */
#include "gateway/protocol_chunk.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/utf8.h"

enum { DEPTH_MAX = 16, DIGITS_MAX = 15 };

struct string { /* between its quotes; at NULL: there is none */
	const char *at;
	size_t len;
	bool escaped;
};

struct chunk {
	const char *at, *end;
	struct string content, finish;
	bool has_choices, has_usage;
	uint64_t prompt_tok, output_tok, cached_tok; /* UINT64_MAX: not said */
};

/* ---- JSON ---- */

static void skip_white(struct chunk *c)
{
	while (c->at < c->end &&
		(*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
		c->at++;
}

/* The byte that comes next, behind white space; 0 at the end. */
static char next(struct chunk *c)
{
	skip_white(c);
	return c->at < c->end ? *c->at : '\0';
}

static bool take(struct chunk *c, char byte)
{
	if (next(c) != byte)
		return false;
	c->at++;
	return true;
}

static bool take_word(struct chunk *c, const char *word)
{
	size_t n = strlen(word);
	if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n))
		return false;
	c->at += n;
	return true;
}

/* The first byte from `at` on that does not simply mean itself: a quote, a backslash, a control
 * character, a piece of a longer character; or the end. Eight at a time: the highest bit of a byte
 * is set where it was, where subtracting 0x20 takes it below 0, or where one that was the quote or
 * the backslash has become 0 and 1 is subtracted. What is borrowed for that spoils only bytes
 * behind the first one found. */
static const char *past_plain(const char *at, const char *end)
{
	static const uint64_t ones = 0x0101010101010101;
	uint64_t w;
	for (; (size_t)(end - at) >= sizeof w; at += sizeof w) {
		memcpy(&w, at, sizeof w);
		w = le64toh(w);
		uint64_t quote = (w ^ ones * '"') - ones, backslash = (w ^ ones * '\\') - ones;
		uint64_t found = (w | (w - ones * ' ') | quote | backslash) & ones * 0x80;
		if (found)
			return at + (size_t)__builtin_ctzll(found) / 8;
	}
	while (at < end && *at >= ' ' && *at != '"' && *at != '\\' && !(*at & 0x80))
		at++;
	return at;
}

static bool take_string(struct chunk *c, struct string *s)
{
	bool ascii = true;
	if (!take(c, '"'))
		return false;
	const char *at = c->at, *end = c->end;
	*s = (struct string){.at = at};
	for (;; at++) {
		at = past_plain(at, end);
		if (at == end || (unsigned char)*at < ' ')
			return false;
		if (*at == '"')
			break;
		if (*at != '\\') {
			ascii = false;
			continue;
		}
		s->escaped = true;
		at++;
		if (at == end || !*at || !strchr("\"\\/bfnrt", *at))
			return false;
	}
	c->at = at + 1;
	s->len = (size_t)(at - s->at);
	return ascii || utf8_valid_prefix(s->at, s->len) == s->len;
}

static size_t take_digits(struct chunk *c)
{
	size_t n = 0;
	while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
		c->at++;
		n++;
	}
	return n;
}

/* *whole: what it is, where it is a whole number from 0 on; else UINT64_MAX. */
static bool take_number(struct chunk *c, uint64_t *whole)
{
	const char *from = c->at;
	bool minus = take(c, '-');
	const char *first = c->at;
	size_t n = take_digits(c);
	*whole = UINT64_MAX;
	if (!n || n > DIGITS_MAX || (n > 1 && *first == '0'))
		return false;
	if (c->at < c->end && *c->at == '.') {
		c->at++;
		n = take_digits(c);
		return n && n <= DIGITS_MAX && !(c->at < c->end && strchr("eE", *c->at));
	}
	if (c->at < c->end && (*c->at == 'e' || *c->at == 'E'))
		return false;
	if (minus)
		return true;
	*whole = 0;
	for (; from < c->at; from++)
		*whole = *whole * 10 + (uint64_t)(*from - '0');
	return true;
}

static bool is_name(const struct string *s, const char *name)
{
	return s->len == strlen(name) && !memcmp(s->at, name, s->len);
}

/* A member's value, by its name. */
typedef bool member_fn(struct chunk *c, const struct string *name, unsigned depth);

static bool take_object(struct chunk *c, member_fn *member, unsigned depth)
{
	struct string name;
	if (depth > DEPTH_MAX || !take(c, '{'))
		return false;
	if (take(c, '}'))
		return true;
	do {
		if (!take_string(c, &name) || name.escaped || !take(c, ':') ||
			!member(c, &name, depth))
			return false;
	} while (take(c, ','));
	return take(c, '}');
}

static bool skip(struct chunk *c, const struct string *name, unsigned depth)
{
	struct string s;
	uint64_t number;
	switch (next(c)) {
	case '"':
		return take_string(c, &s);
	case '{':
		return take_object(c, skip, depth + 1);
	case '[':
		c->at++;
		if (depth > DEPTH_MAX || take(c, ']'))
			return depth <= DEPTH_MAX;
		do {
			if (!skip(c, name, depth + 1))
				return false;
		} while (take(c, ','));
		return take(c, ']');
	case 't':
		return take_word(c, "true");
	case 'f':
		return take_word(c, "false");
	case 'n':
		return take_word(c, "null");
	default:
		return take_number(c, &number);
	}
}

static bool take_null(struct chunk *c)
{
	return next(c) == 'n' && take_word(c, "null");
}

/* ---- a chunk ---- */

/* A string or null, once. */
static bool take_text(struct chunk *c, struct string *s)
{
	return !s->at && (next(c) == '"' ? take_string(c, s) : take_null(c));
}

static bool in_delta(struct chunk *c, const struct string *name, unsigned depth)
{
	return is_name(name, "content") ? take_text(c, &c->content) : skip(c, name, depth);
}

static bool in_choice(struct chunk *c, const struct string *name, unsigned depth)
{
	if (is_name(name, "delta"))
		return !c->content.at && take_object(c, in_delta, depth + 1);
	if (is_name(name, "finish_reason"))
		return take_text(c, &c->finish);
	if (is_name(name, "logprobs"))
		return take_null(c);
	return skip(c, name, depth);
}

/* None of them, or one. */
static bool take_choices(struct chunk *c, unsigned depth)
{
	if (c->has_choices || !take(c, '['))
		return false;
	c->has_choices = true;
	if (take(c, ']'))
		return true;
	return take_object(c, in_choice, depth + 1) && take(c, ']');
}

static bool take_count(struct chunk *c, uint64_t *out)
{
	return *out == UINT64_MAX && next(c) >= '0' && *c->at <= '9' && take_number(c, out) &&
	       *out != UINT64_MAX;
}

static bool in_details(struct chunk *c, const struct string *name, unsigned depth)
{
	if (is_name(name, "cached_tokens"))
		return take_count(c, &c->cached_tok);
	return skip(c, name, depth);
}

static bool in_usage(struct chunk *c, const struct string *name, unsigned depth)
{
	if (is_name(name, "prompt_tokens"))
		return take_count(c, &c->prompt_tok);
	if (is_name(name, "completion_tokens"))
		return take_count(c, &c->output_tok);
	if (is_name(name, "prompt_tokens_details") && c->cached_tok != UINT64_MAX)
		return false;
	if (is_name(name, "prompt_tokens_details"))
		return next(c) == 'n' ? take_null(c) : take_object(c, in_details, depth + 1);
	return skip(c, name, depth);
}

static bool in_chunk(struct chunk *c, const struct string *name, unsigned depth)
{
	if (is_name(name, "choices"))
		return take_choices(c, depth);
	if (is_name(name, "usage") && c->has_usage)
		return false;
	if (is_name(name, "usage") && next(c) != 'n') {
		c->has_usage = true;
		return take_object(c, in_usage, depth + 1);
	}
	if (is_name(name, "error"))
		return take_null(c);
	struct string kind;
	if (is_name(name, "object"))
		return take_string(c, &kind) && !is_name(&kind, "error") && !kind.escaped;
	return skip(c, name, depth);
}

/* ---- taking it ---- */

static int append_text(const struct string *s, const struct protocol_sink *to)
{
	static const char from[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	int r = 0;
	size_t at = 0;
	while (r == 0 && at < s->len) {
		const char *escape = s->escaped ? memchr(s->at + at, '\\', s->len - at) : NULL;
		size_t n = escape ? (size_t)(escape - s->at) - at : s->len - at;
		r = n ? buf_append(to->text, s->at + at, n) : 0;
		if (r == 0 && escape)
			r = buf_append(to->text, &meant[strchr(from, escape[1]) - from], 1);
		at += escape ? n + 2 : n;
	}
	return r == -EFBIG ? err_set(to->err, -EPROTO, "its answer is too long")
	       : r < 0     ? err_set(to->err, r, "out of memory")
			   : 0;
}

/* False: its numbers are not to be believed. */
static bool take_usage(const struct chunk *c, struct protocol_answer *answer)
{
	uint64_t cached = c->cached_tok == UINT64_MAX ? 0 : c->cached_tok;
	if (!c->has_usage || c->prompt_tok == UINT64_MAX || c->output_tok == UINT64_MAX)
		return !c->has_usage;
	if (c->prompt_tok > PROTOCOL_NUMBER_MAX || c->output_tok > PROTOCOL_NUMBER_MAX ||
		cached > PROTOCOL_NUMBER_MAX)
		return false;
	answer->usage = (struct trace_usage){.prompt_tok = c->prompt_tok,
		.cached_tok = cached > c->prompt_tok ? c->prompt_tok : cached,
		.output_tok = c->output_tok};
	answer->has_usage = true;
	return true;
}

int protocol_chunk_take(const char *json, size_t len, const struct protocol_sink *to)
{
	struct chunk c = {.at = json,
		.end = json + len,
		.prompt_tok = UINT64_MAX,
		.output_tok = UINT64_MAX,
		.cached_tok = UINT64_MAX};
	if (!take_object(&c, in_chunk, 0) || next(&c) || c.at != c.end || !c.has_choices)
		return 0;
	if (c.finish.escaped || is_name(&c.finish, "content_filter"))
		return 0;
	if (!take_usage(&c, to->answer))
		return 0;
	int r = c.content.at ? append_text(&c.content, to) : 0;
	if (r < 0)
		return r;
	if (c.finish.len)
		to->answer->finish = is_name(&c.finish, "length") ? "length" : "stop";
	return 1;
}
