/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_WORDPIECE_TABLES_H
#define ENGINE_WORDPIECE_TABLES_H

/* What an uncased BERT makes of a code point: tables sorted by it, made by
 * tools/make_wordpiece_tables.py, which says what each holds. */

#include <stdint.h>

struct wordpiece_range {
	uint32_t first, last;
};

struct wordpiece_run { /* every step-th code point becomes itself + delta */
	uint32_t first, last;
	int32_t step, delta;
};

struct wordpiece_several { /* becomes pool[at] .. pool[at + n - 1] */
	uint32_t from;
	uint16_t at, n;
};

extern const struct wordpiece_range wordpiece_dropped[], wordpiece_punctuation[];
extern const struct wordpiece_run wordpiece_runs[];
extern const struct wordpiece_several wordpiece_several[];
extern const uint32_t wordpiece_pool[];
extern const uint32_t wordpiece_n_dropped, wordpiece_n_punctuation, wordpiece_n_runs,
	wordpiece_n_several;

#endif
