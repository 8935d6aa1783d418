/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The automaton of constrained answers (json.h), set wide, for the texts of others: a door to it
 * that shows nothing of its state.
 */
#include <string.h>

#include "engine/engine.h"
#include "engine/json.h"

_Static_assert(sizeof(struct json_state) <= sizeof(struct engine_json), "it has room for it");

size_t engine_json_feed(struct engine_json *j, const char *text, size_t n)
{
	struct json_state s, next;
	size_t i = 0;

	memcpy(&s, j, sizeof(s));
	s.wide = true;
	for (next = s; i < n && json_feed(&next, text + i, 1); i++)
		s = next;
	memcpy(j, &s, sizeof(s));
	return i;
}

bool engine_json_may_end(const struct engine_json *j)
{
	struct json_state s;

	memcpy(&s, j, sizeof(s));
	return json_may_end(&s);
}
