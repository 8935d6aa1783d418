/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The number of leading bytes of text[0..n) that are whole, valid UTF-8 sequences (RFC 3629: no
 * surrogates, no overlong forms, at most U+10FFFF). Equal to n when all of it is valid. */
size_t utf8_valid_prefix(const char *text, size_t n);

/* True when text[0..n), n <= 3, could become a valid sequence if more bytes came. "" is not. */
bool utf8_is_partial(const char *text, size_t n);

/* Reads the sequence at text[0..n) into *codepoint; its length (1-4), or 0 when it is not valid or
 * not whole. */
size_t utf8_decode(const char *text, size_t n, uint32_t *codepoint);

/* Writes a code point (<= 0x10FFFF) as UTF-8; the length (1-4). */
size_t utf8_encode(uint32_t codepoint, char out[4]);

/* Bytes of a byte order mark at the beginning of a text, which editors of other systems write: 0 or
 * 3. */
size_t utf8_mark(const char *text, size_t n);
/* Whether so few bytes may be the beginning of one. "" is not. */
bool utf8_may_be_mark(const char *text, size_t n);

/* Whether a byte is one of a sequence, but not its first. */
static inline bool utf8_is_inside(char byte)
{
	return ((unsigned char)byte & 0xC0) == 0x80;
}

#endif
