/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constrained JSON: a pushdown automaton whose stack is a bit per level.
 *
 * json_bytes_to_end is exact and there is always a byte that lowers it by one, so a sampler that
 * only takes tokens after which `bytes to end <= tokens left` can close the value in time, provided
 * the vocabulary has a token for each single byte of the grammar (both of our tokenizer kinds do:
 * byte-level alphabets and byte fallback).
 */
#include "engine/json.h"

#include <string.h>

#include "engine/json_parts.h"

static const char *const words[] = {
	[TRUE_WORD] = "true", [FALSE_WORD] = "false", [NULL_WORD] = "null"};

void json_init(struct json_state *s)
{
	memset(s, 0, sizeof(*s));
}

static bool is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

static bool in_object(const struct json_state *s)
{
	return s->depth > 0 && (s->objects >> (s->depth - 1) & 1);
}

static bool open_level(struct json_state *s, bool object)
{
	if (s->depth == JSON_MAX_DEPTH)
		return false;
	s->objects &= ~((uint64_t)1 << s->depth);
	s->objects |= (uint64_t)object << s->depth;
	s->depth++;
	s->place = object ? KEY_OR_CLOSE : VALUE_OR_CLOSE;
	return true;
}

static void value_ended(struct json_state *s)
{
	s->place = s->depth ? AFTER : DONE;
}

static bool close_level(struct json_state *s, unsigned char c)
{
	if (s->depth == 0 || c != (in_object(s) ? '}' : ']'))
		return false;
	s->depth--;
	value_ended(s);
	return true;
}

static bool start_string(struct json_state *s, bool key)
{
	s->place = STRING;
	s->key = key;
	return true;
}

static bool start_word(struct json_state *s, enum place word)
{
	s->place = (uint8_t)word;
	s->count = 1;
	return true;
}

static bool start_value(struct json_state *s, unsigned char c)
{
	switch (c) {
	case '{':
	case '[':
		return open_level(s, c == '{');
	case '"':
		return start_string(s, false);
	case 't':
		return start_word(s, TRUE_WORD);
	case 'f':
		return start_word(s, FALSE_WORD);
	case 'n':
		return start_word(s, NULL_WORD);
	case '-':
		s->place = MINUS;
		return true;
	default:
		if (!is_digit(c))
			return false;
		s->place = c == '0' ? ZERO : DIGITS;
		s->count = 1;
		return true;
	}
}

static bool take_word(struct json_state *s, unsigned char c)
{
	const char *word = words[s->place];

	if (c != (unsigned char)word[s->count])
		return false;
	if (!word[++s->count])
		value_ended(s);
	return true;
}

static bool start_sequence(struct json_state *s, unsigned char c)
{
	s->low = 0x80;
	s->high = 0xBF;
	if (c >= 0xC2 && c <= 0xDF) {
		s->count = 1;
	} else if (c >= 0xE0 && c <= 0xEF) {
		s->count = 2;
		if (c == 0xE0)
			s->low = 0xA0;
		if (c == 0xED)
			s->high = 0x9F;
	} else if (c >= 0xF0 && c <= 0xF4) {
		s->count = 3;
		if (c == 0xF0)
			s->low = 0x90;
		if (c == 0xF4)
			s->high = 0x8F;
	} else {
		return false;
	}
	s->place = SEQUENCE;
	return true;
}

static bool take_hex(struct json_state *s, unsigned char c)
{
	unsigned digit;

	if (is_digit(c))
		digit = c - '0';
	else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		digit = (c | 0x20u) - 'a' + 10;
	else
		return false;
	s->hex = (uint16_t)(s->count ? s->hex << 4 | digit : digit);
	s->count++;
	if (s->count == 2 && s->hex >= 0xD8 && s->hex <= 0xDF && !s->wide)
		return false; /* a surrogate */
	if (s->count == 4) {
		s->place = STRING;
		return s->hex != 0 || s->wide;
	}
	return true;
}

static bool take_in_string(struct json_state *s, unsigned char c)
{
	switch (s->place) {
	case STRING:
		if (c == '"') {
			if (s->key)
				s->place = COLON;
			else
				value_ended(s);
			return true;
		}
		if (c == '\\') {
			s->place = ESCAPE;
			return true;
		}
		return c >= 0x80 ? start_sequence(s, c) : c >= 0x20;
	case SEQUENCE:
		if (c < s->low || c > s->high)
			return false;
		s->low = 0x80;
		s->high = 0xBF;
		if (--s->count == 0)
			s->place = STRING;
		return true;
	case ESCAPE:
		s->place = c == 'u' ? HEX : STRING;
		s->count = 0;
		return c != 0 && strchr("\"\\/bfnrtu", c) != NULL;
	default:
		return take_hex(s, c);
	}
}

/* A digit while at most `most` are seen. */
static bool more_digits(struct json_state *s, unsigned char c, unsigned most)
{
	return is_digit(c) && (s->wide || s->count++ < most);
}

static bool first_digit(struct json_state *s, unsigned char c, enum place next)
{
	s->place = (uint8_t)next;
	s->count = 1;
	return is_digit(c);
}

static bool take_after(struct json_state *s, unsigned char c)
{
	if (c != ',')
		return close_level(s, c);
	s->place = in_object(s) ? KEY : VALUE;
	return true;
}

/* The number may be whole: it goes on with e, or ends and c belongs to what surrounds it. */
static bool exponent_or_end(struct json_state *s, unsigned char c)
{
	if (c == 'e' || c == 'E') {
		s->place = EXPONENT;
		return true;
	}
	if (s->depth == 0)
		return false;
	s->place = AFTER;
	if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
		s->space = 1;
		return true;
	}
	return take_after(s, c);
}

static bool take_in_number(struct json_state *s, unsigned char c)
{
	switch (s->place) {
	case MINUS:
		return first_digit(s, c, c == '0' ? ZERO : DIGITS);
	case DIGITS:
		if (is_digit(c))
			return more_digits(s, c, JSON_MAX_DIGITS);
		__attribute__((fallthrough));
	case ZERO:
		if (c == '.') {
			s->place = POINT;
			return true;
		}
		return exponent_or_end(s, c);
	case POINT:
		return first_digit(s, c, FRACTION);
	case FRACTION:
		if (is_digit(c))
			return more_digits(s, c, JSON_MAX_DIGITS);
		return exponent_or_end(s, c);
	case EXPONENT:
		if (c == '+' || c == '-') {
			s->place = EXPONENT_SIGN;
			return true;
		}
		__attribute__((fallthrough));
	case EXPONENT_SIGN:
		return first_digit(s, c, EXPONENT_DIGITS);
	default:
		if (is_digit(c))
			return more_digits(s, c, 2);
		return exponent_or_end(s, c) && s->place != EXPONENT;
	}
}

static bool take_between(struct json_state *s, unsigned char c)
{
	if (c == ' ' || c == '\n' || c == '\t' || c == '\r')
		return s->wide || s->space++ < JSON_MAX_SPACE;
	s->space = 0;
	switch (s->place) {
	case VALUE_OR_CLOSE:
		if (c == ']')
			return close_level(s, c);
		__attribute__((fallthrough));
	case VALUE:
		return start_value(s, c);
	case KEY_OR_CLOSE:
		if (c == '}')
			return close_level(s, c);
		__attribute__((fallthrough));
	case KEY:
		return c == '"' && start_string(s, true);
	case COLON:
		s->place = VALUE;
		return c == ':';
	default:
		return take_after(s, c);
	}
}

static bool take_byte(struct json_state *s, unsigned char c)
{
	if (s->place <= AFTER)
		return take_between(s, c);
	if (s->place <= HEX)
		return take_in_string(s, c);
	if (s->place <= NULL_WORD)
		return take_word(s, c);
	if (s->place < DONE)
		return take_in_number(s, c);
	return false;
}

bool json_feed(struct json_state *s, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!take_byte(s, (unsigned char)text[i]))
			return false;
	return true;
}

bool json_is_done(const struct json_state *s)
{
	return s->place == DONE;
}

bool json_may_end(const struct json_state *s)
{
	return json_is_done(s) ||
	       (s->depth == 0 && (s->place == ZERO || s->place == DIGITS || s->place == FRACTION ||
					 s->place == EXPONENT_DIGITS));
}

uint32_t json_bytes_to_end(const struct json_state *s)
{
	uint32_t string_end = s->key ? 3u : 1u; /* ":0 or " */

	switch (s->place) {
	case VALUE:
	case MINUS:
	case POINT:
	case EXPONENT:
	case EXPONENT_SIGN:
		return s->depth + 1u;
	case KEY:
		return s->depth + 4u;
	case COLON:
		return s->depth + 2u;
	case STRING:
		return s->depth + string_end;
	case SEQUENCE:
		return s->depth + string_end + s->count;
	case ESCAPE:
		return s->depth + string_end + 1;
	case HEX:
		return s->depth + string_end + 4 - s->count;
	case TRUE_WORD:
	case FALSE_WORD:
	case NULL_WORD:
		return s->depth + (uint32_t)strlen(words[s->place]) - s->count;
	default:
		return s->depth;
	}
}

bool json_is_narrow(const struct json_state *s, uint32_t n_left)
{
	return json_bytes_to_end(s) + JSON_MOST_ADDED > n_left;
}
