/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all protocols share but the reading of streams (protocol_reader.c): the table of them,
 * conversations as JSON, what a refusal means, and an estimate of tokens.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "gateway/protocol_parts.h"

const struct protocol *protocol_find(const char *name, size_t len)
{
	static const struct protocol *const all[] = {&protocol_openai, &protocol_anthropic};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (strlen(all[i]->name) == len && !memcmp(all[i]->name, name, len))
			return all[i];
	return NULL;
}

int protocol_check_messages(const struct provider_message *messages, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		size_t valid = utf8_valid_prefix(messages[i].text, messages[i].len);
		if (valid != messages[i].len)
			return err_set(
				err, -EILSEQ, "message %zu, byte %zu: not UTF-8", i + 1, valid + 1);
	}
	return 0;
}

int protocol_dump(char **json, size_t *len, json_t *value, struct err *err)
{
	char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
	json_decref(value);
	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	*json = text;
	*len = strlen(text);
	return 0;
}

/* 15 digits are what a person writes: 0.7 and not 0.69999999999999996. */
int protocol_put_body(struct buf *out, json_t *members, const char *name, const char *raw,
	size_t raw_len, struct err *err)
{
	char *text = members ? json_dumps(members, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
	json_decref(members);
	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	size_t len = strlen(text);
	text[len - 1] = '\0'; /* its closing brace */
	/* At once: what grows is copied each time. */
	int r = buf_reserve(out, len + raw_len + (name ? strlen(name) : 0) + sizeof ",\"\":}");
	r = r ? r : buf_append(out, text, len - 1);
	if (r == 0 && raw)
		r = buf_append_str(out, len > 2 ? "," : "");
	if (r == 0 && name)
		r = buf_printf(out, "\"%s\":", name);
	if (r == 0 && raw)
		r = buf_append(out, raw, raw_len);
	r = r ? r : buf_append_str(out, "}");
	free(text);
	if (r == -EFBIG)
		return err_set(err, -EMSGSIZE, "the request is too long to be sent");
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

json_t *protocol_strings(const char *const *texts, const size_t *lens, size_t n)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < n; i++) {
		size_t len = lens ? lens[i] : strlen(texts[i]);
		if (json_array_append_new(array, json_stringn(texts[i], len)) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

/* ---- refusals ---- */

#define SENTENCE_MAX 200

static bool is_key_sign(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("-_+/=.*~", c));
}

/* Words behind which a key stands. */
static size_t marker_len(const char *s)
{
	static const char *const markers[] = {"authorization", "proxy-authorization", "bearer",
		"x-api-key", "api-key", "api_key", "apikey", "key provided"};
	for (size_t i = 0; i < sizeof markers / sizeof *markers; i++)
		if (!strncasecmp(s, markers[i], strlen(markers[i])))
			return strlen(markers[i]);
	return 0;
}

/* Whether a run of signs looks like a key: a prefix that keys have, a long word with a digit, or a
 * UUID and such. Names of models are shorter words: claude-3-5-sonnet-20241022. */
static bool looks_like_key(const char *s, size_t n)
{
	size_t digits = 0, word = 0, longest = 0;
	for (size_t i = 0; i < n; i++) {
		digits += s[i] >= '0' && s[i] <= '9';
		word = strchr("-_./", s[i]) ? 0 : word + 1;
		longest = word > longest ? word : longest;
	}
	return (n > 4 && !strncasecmp(s, "sk-", 3)) || (longest >= 16 && digits) ||
	       (n >= 32 && digits >= 8);
}

/* Printable, cut, and without keys. */
static void write_safely(const char *text, char out[SENTENCE_MAX + 8])
{
	size_t n = 0;
	bool behind_marker = false;
	for (const char *s = text; *s && n < SENTENCE_MAX;) {
		size_t run = 0, marker = marker_len(s);
		while (is_key_sign(s[run]))
			run++;
		if (marker && n + marker < SENTENCE_MAX) {
			memcpy(out + n, s, marker);
			n += marker;
			s += marker;
			behind_marker = true;
		} else if (run && (behind_marker || looks_like_key(s, run))) {
			memcpy(out + n, "...", 3);
			n += 3;
			s += run;
			/* "Basic" and such are followed by the secret. */
			behind_marker = behind_marker && run < 8 && *s == ' ';
		} else if (run) {
			size_t most = run < SENTENCE_MAX - n ? run : SENTENCE_MAX - n;
			memcpy(out + n, s, most);
			n += most;
			s += run;
		} else {
			if (*s != ' ' || !n || out[n - 1] != ' ')
				out[n++] = *s < ' ' || *s > '~' ? '?' : *s;
			s++;
		}
	}
	out[n] = '\0';
}

/* What an error object says: OpenAI's and Anthropic's {"error": {"message"}}, vLLM's {"message"},
 * FastAPI's {"detail"}, a plain {"error": "text"}. */
static const char *message_of(const json_t *object)
{
	const json_t *error = json_object_get(object, "error");
	const json_t *const places[] = {json_object_get(error, "message"), error,
		json_object_get(object, "message"), json_object_get(object, "detail")};
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (json_is_string(places[i]) && json_string_length(places[i]))
			return json_string_value(places[i]);
	return NULL;
}

static bool says_context_is_short(const char *body)
{
	return strcasestr(body, "context_length") || strcasestr(body, "context length") ||
	       strcasestr(body, "context window") || strcasestr(body, "context size") ||
	       strcasestr(body, "context_size") || strcasestr(body, "prompt is too long") ||
	       strcasestr(body, "too many tokens");
}

static int code_of(long status, const char *body)
{
	switch (status) {
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return -EHOSTUNREACH;
	case 408:
	case 504:
		return -ETIMEDOUT;
	case 413:
		return -EMSGSIZE;
	case 429:
		return -EBUSY;
	case 400:
	case 422:
		return says_context_is_short(body) ? -EMSGSIZE : -EPROTO;
	default:
		return status >= 500 ? -EHOSTUNREACH : -EPROTO;
	}
}

static const char *meaning_of(long status)
{
	switch (status) {
	case 401:
		return "the key was not accepted";
	case 403:
		return "the key is not allowed to do this";
	case 404:
		return "there is no such model or path";
	case 429:
		return "too many requests";
	case 529:
	case 503:
		return "overloaded";
	default:
		return status >= 500                   ? "the server failed"
		       : status >= 300 && status < 400 ? "it redirects, which is not followed"
						       : "the request was refused";
	}
}

static const char in_answer[] = "an error in its answer, ";

/* where: what the sentence begins with, up to what the status means. */
static int fault(const char *where, long status, const char *body, size_t len, bool *retryable,
	struct err *err)
{
	char safe[SENTENCE_MAX + 8] = "", *text = strndup(body ? body : "", body ? len : 0);
	json_t *object = body ? json_loadb(body, len, 0, NULL) : NULL;
	const char *said = message_of(object), *raw = text ? text : "";
	if (!said && !object && raw[strspn(raw, " \t\r\n")] != '<')
		said = raw;
	if (said)
		write_safely(said, safe);
	int code = code_of(status, raw);
	if (retryable)
		*retryable = status == 408 || status == 429 || status >= 500;
	err_set(err, code, "%s%s%s%s", where, meaning_of(status), *safe ? ": " : "", safe);
	json_decref(object);
	free(text);
	return code;
}

int protocol_fault(long status, const char *body, size_t len, bool *retryable, struct err *err)
{
	char where[40];
	snprintf(where, sizeof where, "HTTP %ld, ", status);
	return fault(where, status, body, len, retryable, err);
}

size_t protocol_own_words(const char *sentence)
{
	const char *at = sentence, *ours = strstr(sentence, in_answer), *said;
	while ((at = strstr(at, "HTTP ")) && (!ours || at < ours)) {
		at += strlen("HTTP ");
		size_t digits = strspn(at, "0123456789");
		if (digits && strncmp(at + digits, ", ", 2) == 0)
			ours = at;
	}
	said = ours ? strstr(ours, ": ") : NULL;
	return said ? (size_t)(said - sentence) : strlen(sentence);
}

/* The status that an error's type stands for: Anthropic's list, and OpenAI's words. */
static long status_of(const char *type)
{
	static const struct {
		const char *type;
		long status;
	} types[] = {{"invalid_request_error", 400}, {"authentication_error", 401},
		{"permission_error", 403}, {"not_found_error", 404}, {"request_too_large", 413},
		{"rate_limit_error", 429}, {"rate_limit_exceeded", 429},
		{"insufficient_quota", 429}, {"timeout_error", 504}, {"overloaded_error", 529},
		{"api_error", 500}, {"server_error", 500}, {"context_length_exceeded", 400},
		{"exceed_context_size_error", 400}, {"BadRequestError", 400}};
	for (size_t i = 0; type && i < sizeof types / sizeof *types; i++)
		if (!strcmp(types[i].type, type))
			return types[i].status;
	return 0;
}

int protocol_error(const json_t *object, long status, bool *retryable, struct err *err)
{
	const json_t *error = json_object_get(object, "error");
	const json_t *e = json_is_object(error) ? error : object;
	const json_t *code = json_object_get(e, "code");
	long by_code = json_is_integer(code) ? (long)json_integer_value(code)
					     : status_of(json_string_value(code));
	long by_type = status_of(json_string_value(json_object_get(e, "type")));
	if (by_code >= 400 && by_code < 600)
		status = by_code;
	else if (by_type)
		status = by_type;
	char *text = json_dumps(object, JSON_COMPACT);
	int r = fault(in_answer, status, text, text ? strlen(text) : 0, retryable, err);
	free(text);
	return r;
}

int protocol_take_error(const json_t *object, const struct protocol_sink *to)
{
	bool retryable = true;
	int r = protocol_error(object, 500, &retryable, to->err);
	to->answer->refused = !retryable;
	return r;
}

/* ---- tokens ---- */

enum script { SPACE, NEWLINE, DIGIT, SIGN, LATIN, ALPHABET, SYLLABLE, PICTURE };

static enum script script_of(uint32_t c)
{
	if (c == ' ' || c == '\t')
		return SPACE;
	if (c == '\n' || c == '\r')
		return NEWLINE;
	if (c >= '0' && c <= '9')
		return DIGIT;
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= 0xC0 && c < 0x250))
		return LATIN;
	if (c < 0xC0)
		return SIGN;
	if (c < 0x800) /* Greek, Cyrillic, Hebrew, Arabic ... */
		return ALPHABET;
	return c < 0x10000 ? SYLLABLE : PICTURE; /* Indic scripts, CJK, Hangul; emoji */
}

/* How many tokens a run of n characters of one script is, taken from what vocabularies of 32,000 to
 * 200,000 tokens do, rather more than less: a word of English is one token up to 7 letters and one
 * more for each 4; a single space belongs to what follows it. */
static size_t run_tok(enum script script, size_t n)
{
	switch (script) {
	case SPACE:
		return n > 1;
	case NEWLINE:
		return 1;
	case DIGIT:
	case ALPHABET:
		return (n + 1) / 2;
	case SIGN:
		return (n + 1) / 2;
	case LATIN:
		return n <= 7 ? 1 : 1 + (n - 4) / 4;
	case SYLLABLE:
		return n;
	default:
		return 2 * n;
	}
}

size_t protocol_estimate_tok(const char *text, size_t len)
{
	size_t total = 0, run = 0, at = 0;
	enum script now = SPACE;
	while (at < len) {
		uint32_t c = '?';
		size_t n = utf8_decode(text + at, len - at, &c);
		enum script script = n ? script_of(c) : PICTURE;
		if (script != now) {
			total += run ? run_tok(now, run) : 0;
			now = script;
			run = 0;
		}
		run++;
		at += n ? n : 1;
	}
	total += run ? run_tok(now, run) : 0;
	return len && !total ? 1 : total < len ? total : len;
}
