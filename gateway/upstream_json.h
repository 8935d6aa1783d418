/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_UPSTREAM_JSON_H
#define GATEWAY_UPSTREAM_JSON_H

/*
 * The text of an answer that is to be one JSON value (`format`), from a server that may or may not
 * have kept to it, as it comes. Left away is what is no part of the value and a habit of models:
 * white space around it, and a code fence, ``` with or without a word behind it, around all of it.
 * Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

struct upstream_json { /* zeroed memory is the start */
	struct engine_json value;
	uint8_t place;   /* enum place in upstream_json.c */
	uint8_t n_ticks; /* of the fence that is being read */
	uint8_t n_word;  /* bytes of the word behind it */
	bool fenced;
};

/* Takes text[0..*len), leaves in it what is part of the value, and says in *len how much that is.
 * Whole UTF-8 sequences stay whole. False: the text is no JSON from there on; nothing more is to be
 * taken. */
bool upstream_json_take(struct upstream_json *j, char *text, size_t *len);

/* The value is there, whole. */
bool upstream_json_is_whole(const struct upstream_json *j);

#endif
