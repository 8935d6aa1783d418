/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_JSON_H
#define ENGINE_JSON_H

/*
 * An automaton over bytes that accepts one JSON value (RFC 8259), and the masks that keep a sampler
 * within it. It is a little narrower than the RFC, so that every common reader takes the result:
 * numbers have at most JSON_MAX_DIGITS digits before and after the point and two in the exponent,
 * \u escapes are neither surrogates nor 0000, nesting ends at JSON_MAX_DEPTH, white space in a row
 * at JSON_MAX_SPACE bytes, and no white space follows the value.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/tokenizer.h"

#define JSON_MAX_DEPTH 64
#define JSON_MAX_DIGITS 15
#define JSON_MAX_SPACE 32

/* Copied by value. */
struct json_state {
	uint64_t objects;  /* bit i: level i is an object, otherwise an array */
	uint8_t depth;     /* open levels */
	uint8_t place;     /* enum place in json_parts.h */
	uint8_t count;     /* digits, hex digits or letters seen; bytes of a sequence to come */
	uint8_t low, high; /* range of the next byte of a UTF-8 sequence */
	uint8_t space;     /* white space in a row */
	bool key;          /* the string is a key */
	bool wide;         /* all of the RFC but JSON_MAX_DEPTH: set after json_init; the masks and
			      json_bytes_to_end are not for it */
	uint16_t hex;
};

/* Zeroed memory is the start too. */
void json_init(struct json_state *s);

/* Takes text[0..n). False: it cannot go on like this; *s is then of no use. */
bool json_feed(struct json_state *s, const char *text, size_t n);

/* The value is whole: the text may end here. */
bool json_may_end(const struct json_state *s);
/* The value is whole and nothing can follow. */
bool json_is_done(const struct json_state *s);
/* The least number of bytes that make it whole. */
uint32_t json_bytes_to_end(const struct json_state *s);

/* By how many bytes a token may put off the end, such as vocabularies have: a comma in an object
 * asks for "":0, `[{"` as the first of an array for "":0}]. */
#define JSON_MOST_ADDED 5

/* Whether n_left more bytes may be too few for what comes next, so that a value which ends from
 * here on may have ended for want of room. */
bool json_is_narrow(const struct json_state *s, uint32_t n_left);

/* What of a vocabulary never needs a look byte by byte. */
struct json_vocab;

/* new *out; borrows t, which must outlive it. -ENOMEM. */
int json_vocab_new(struct json_vocab **out, const struct tokenizer *t);
struct json_vocab *json_vocab_free(struct json_vocab *v);

/* May token `id` come next, if n_left more tokens may come after it? Only if the value can still be
 * made whole with n_left tokens of one byte each. An end token may come when json_may_end. */
bool json_allows(
	const struct json_vocab *v, const struct json_state *s, uint32_t id, uint32_t n_left);

/* Sets the logits of all tokens that json_allows refuses to -INFINITY. O(bytes of the vocabulary).
 */
void json_mask(
	const struct json_vocab *v, const struct json_state *s, uint32_t n_left, float *logits);

/* The same as bits: bit id % 32 of mask[id / 32] is set when json_allows(id); bits beyond the
 * vocabulary in its last word are 0. mask [ceil(vocabulary / 32)]. */
void json_bits(
	const struct json_vocab *v, const struct json_state *s, uint32_t n_left, uint32_t *mask);

#endif
