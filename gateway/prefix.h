/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_PREFIX_H
#define GATEWAY_PREFIX_H

/*
 * Whether a text may still become a value when more bytes follow. True of the beginning of each
 * value and of the value itself; of others it may be true, too: it is asked to refuse early, and
 * who asks judges the value itself at its end. A carriage return at the end of the text is the
 * line's.
 */

#include <stdbool.h>
#include <stddef.h>

/* A number as strtod reads it, less its words and its hexadecimal ones: its form, not its range,
 * as an exponent may follow. */
bool prefix_is_real(const char *text, size_t len);
/* Digits, of a number of at most `most`. */
bool prefix_is_integer(const char *text, size_t len, double most);
/* Digits with at most one point and at most `decimals` digits behind it, of at most `most`. */
bool prefix_is_decimal(const char *text, size_t len, unsigned decimals, double most);
/* One of the words; the list ends with NULL. */
bool prefix_is_word(const char *const *words, const char *text, size_t len);
/* A line that begins with one of the words, behind which a blank and more may come. */
bool prefix_is_verb(const char *const *words, const char *line, size_t len);
/* A name as text_is_name has it. */
bool prefix_is_name(const char *text, size_t len);

#endif
