/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the bytes. What is a value is the engine's to say, which writes such answers by the
 * same automaton; here is what may stand around one:
 *
 *	START -> VALUE -> AFTER
 *	START -> FENCE -> WORD -> LEAD -> VALUE -> AFTER -> CLOSING -> END
 *
 * A fence that was opened need not be closed: the value is whole without it.
 */
#include "gateway/upstream_json.h"

#include <ctype.h>

enum place {
	START,   /* white space */
	FENCE,   /* of its three ticks n_ticks are there */
	WORD,    /* the rest of that line */
	LEAD,    /* white space behind it */
	VALUE,   /* in the value */
	AFTER,   /* white space behind the value, which is whole */
	CLOSING, /* of its three ticks n_ticks are there */
	END,     /* white space behind it */
};

enum { TICKS = 3, WORD_MAX = 16 };

static bool is_white(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool tick(struct upstream_json *j, char c, enum place next)
{
	if (++j->n_ticks == TICKS)
		j->place = (uint8_t)next;
	return c == '`';
}

static bool open_fence(struct upstream_json *j, enum place place)
{
	j->place = (uint8_t)place;
	j->fenced = true;
	j->n_ticks = 1;
	return true;
}

/* *part: c is a part of the value. */
static bool in_value(struct upstream_json *j, char c, bool *part)
{
	j->place = VALUE;
	*part = engine_json_feed(&j->value, &c, 1) == 1;
	return *part;
}

static bool word(struct upstream_json *j, char c, bool *part)
{
	if (c == '\n')
		j->place = LEAD;
	else if (c == '{' || c == '[' || c == '"')
		return in_value(j, c, part);
	else if (c != ' ' && c != '\t' && c != '\r')
		return isalnum((unsigned char)c) && ++j->n_word <= WORD_MAX;
	return true;
}

/* Behind a value that is whole. */
static bool behind(struct upstream_json *j, char c)
{
	if (is_white(c)) {
		j->place = AFTER;
		return true;
	}
	return c == '`' && j->fenced && open_fence(j, CLOSING);
}

static bool take_byte(struct upstream_json *j, char c, bool *part)
{
	*part = false;
	switch ((enum place)j->place) {
	case START:
		if (c == '`')
			return open_fence(j, FENCE);
		return is_white(c) || in_value(j, c, part);
	case FENCE:
		return tick(j, c, WORD);
	case WORD:
		return word(j, c, part);
	case LEAD:
		return is_white(c) || in_value(j, c, part);
	case VALUE:
		if (engine_json_may_end(&j->value) && behind(j, c))
			return true;
		return in_value(j, c, part);
	case AFTER:
		return behind(j, c);
	case CLOSING:
		return tick(j, c, END);
	case END:
		return is_white(c);
	}
	return false;
}

bool upstream_json_take(struct upstream_json *j, char *text, size_t *len)
{
	size_t n = *len, kept = 0;
	bool goes_on = true, part;
	for (size_t i = 0; goes_on && i < n; i++) {
		goes_on = take_byte(j, text[i], &part);
		if (part)
			text[kept++] = text[i];
	}
	*len = kept;
	return goes_on;
}

bool upstream_json_is_whole(const struct upstream_json *j)
{
	return engine_json_may_end(&j->value);
}
