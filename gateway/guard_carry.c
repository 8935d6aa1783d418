/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole characters out of pieces that are cut anywhere: the beginning of a character at the end of
 * a piece is carried to the next. What cannot become a character any more is refused at the first
 * piece that shows it, behind everything that stood before it.
 */
#include <errno.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"

/* Completes the character that was begun. */
static int complete(struct guard_carry *c, const char **text, size_t *n, size_t *len)
{
	uint32_t character;

	while (*n) {
		c->bytes[c->n++] = *(*text)++;
		--*n;
		*len = utf8_decode(c->bytes, c->n, &character);
		if (*len) {
			c->n = 0;
			return 0;
		}
		if (c->n > 3 || !utf8_is_partial(c->bytes, c->n))
			return -EILSEQ;
	}
	return 0;
}

int guard_carry_next(
	struct guard_carry *c, const char **text, size_t *n, const char **run, size_t *len)
{
	*len = 0;
	*run = c->bytes;
	if (c->n)
		return complete(c, text, n, len);
	*run = *text;
	*len = utf8_valid_prefix(*text, *n);
	*text += *len;
	*n -= *len;
	if (*len || !*n)
		return 0;
	if (*n > 3 || !utf8_is_partial(*text, *n))
		return -EILSEQ;
	memcpy(c->bytes, *text, *n);
	c->n = *n;
	*text += *n;
	*n = 0;
	return 0;
}
