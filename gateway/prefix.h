/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_PREFIX_H
#define GATEWAY_PREFIX_H

/*
 * Whether a text may still become a value when more bytes follow. True of the beginning of each
 * value, but for a number that only an exponent would bring into its range, and of the value
 * itself; of others it may be true, too: it is asked to refuse early, and who asks judges the value
 * itself at its end. A carriage return at the end of the text is the line's.
 *
 * How the values of a setting begin is a column of its object's table, beside what reads them.
 */

#include <stdbool.h>
#include <stddef.h>

struct prefix {
	/* Whether text[0..len), len > 0, may become one. */
	bool (*fits)(const struct prefix *p, const char *text, size_t len);
	double most;              /* of numbers */
	unsigned decimals;        /* of decimals */
	const char *const *words; /* the list ends with NULL */
};

/* What may be any text, or is long and has lines: only its end tells. */
#define PREFIX_ANY                                                                                 \
	{                                                                                          \
		.fits = prefix_is_any                                                              \
	}
/* A number as strtod reads it, less its words and its hexadecimal ones, of at most `most` on either
 * side of 0. Its range is that of its digits until an exponent comes: "5" is none up to 2, though
 * "5e-1" is, which nobody writes in pieces. */
#define PREFIX_REAL(most_)                                                                         \
	{                                                                                          \
		.fits = prefix_is_real, .most = most_                                              \
	}
/* Digits with at most one point and at most so many digits behind it, of at most `most`. */
#define PREFIX_DECIMAL(decimals_, most_)                                                           \
	{                                                                                          \
		.fits = prefix_is_decimal, .decimals = decimals_, .most = most_                    \
	}
#define PREFIX_INTEGER(most_) PREFIX_DECIMAL(0, most_)
/* One of the words. */
#define PREFIX_WORD(words_)                                                                        \
	{                                                                                          \
		.fits = prefix_is_word, .words = words_                                            \
	}
/* A name as text_is_name has it. */
#define PREFIX_NAME                                                                                \
	{                                                                                          \
		.fits = prefix_is_name                                                             \
	}
/* What a function of the table's own knows. */
#define PREFIX_OF(function)                                                                        \
	{                                                                                          \
		.fits = function                                                                   \
	}

/* A setting whose row has none is a fault of ours: an assert. */
bool prefix_fits(const struct prefix *p, const char *text, size_t len);

bool prefix_is_any(const struct prefix *p, const char *text, size_t len);
bool prefix_is_real(const struct prefix *p, const char *text, size_t len);
bool prefix_is_decimal(const struct prefix *p, const char *text, size_t len);
bool prefix_is_word(const struct prefix *p, const char *text, size_t len);
bool prefix_is_name(const struct prefix *p, const char *text, size_t len);

/* For what is read by the same list: the index of the word that the text is, or -1. */
int prefix_word(const struct prefix *p, const char *text, size_t len);

#endif
