/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CLASSIFY_WORDS_H
#define GATEWAY_CLASSIFY_WORDS_H

/* The words that a prompt's class is told by. For classify.c. */

#include <stddef.h>
#include <stdint.h>

enum classify_kind {
	CLASSIFY_COMMON, /* tells the language, nothing else */
	CLASSIFY_REASONING,
	CLASSIFY_PROOF, /* of reasoning, but asked for by one word */
	CLASSIFY_TASK,
	CLASSIFY_CONSTRAINT,
	CLASSIFY_CODE,
	CLASSIFY_MATHEMATICS,
	CLASSIFY_EASY,
	N_CLASSIFY_KINDS
};

enum { CLASSIFY_EN = 1, CLASSIFY_DE = 2, CLASSIFY_FR = 4, CLASSIFY_ES = 8 };

struct classify_word {
	const char *text; /* lower case, without accents (a for ä, ss for ß); not terminated */
	uint8_t len;
	uint8_t is_stem; /* the beginning of a word, at least 4 bytes; else a whole one */
	uint8_t kind;    /* enum classify_kind */
	uint8_t languages;
	uint16_t next;
};

/* borrows the entry for a word, or NULL. `key`: its first four bytes, the first one lowest, zeros
 * behind a shorter one. Any thread. O(1). */
const struct classify_word *classify_words_find(const char *word, size_t len, uint32_t key);

#endif
