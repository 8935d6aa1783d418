/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the automaton takes for a whole value another reader of JSON takes too; and from wherever it
 * has got to, the end is as many bytes away as it says.
 */

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool claim)
{
	if (!claim)
		abort();
}

static bool nearer(struct json_state *s)
{
	for (int c = 0; c < 256; c++) {
		struct json_state next = *s;
		char byte = (char)c;

		if (!json_feed(&next, &byte, 1) ||
			json_bytes_to_end(&next) + 1 != json_bytes_to_end(s))
			continue;
		*s = next;
		return true;
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *text = (const char *)data;
	struct json_state s;

	json_init(&s);
	for (size_t i = 0; i < n; i++) {
		if (!json_feed(&s, text + i, 1))
			return 0;
		if (json_may_end(&s)) {
			json_t *j = json_loadb(text, i + 1, JSON_DECODE_ANY, NULL);

			must(j != NULL);
			json_decref(j);
		}
	}
	for (uint32_t left = json_bytes_to_end(&s); left > 0; left--)
		must(nearer(&s));
	must(json_may_end(&s));
	return 0;
}
