/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 by the table of RFC 3629, section 4: the first byte decides the length and the range of the
 * second. */
#include "base/utf8.h"

#include <string.h>

enum { BLOCK = 32 }; /* bytes that are tried at once where some are not ASCII */

/* Length of the sequence that `first` begins, and the range of its second byte; 0 when no sequence
 * begins so. */
static size_t sequence(unsigned char first, unsigned char *low, unsigned char *high)
{
	*low = 0x80;
	*high = 0xBF;
	if (first < 0x80)
		return 1;
	if (first >= 0xC2 && first <= 0xDF)
		return 2;
	if (first >= 0xE0 && first <= 0xEF) {
		if (first == 0xE0)
			*low = 0xA0;
		if (first == 0xED)
			*high = 0x9F;
		return 3;
	}
	if (first >= 0xF0 && first <= 0xF4) {
		if (first == 0xF0)
			*low = 0x90;
		if (first == 0xF4)
			*high = 0x8F;
		return 4;
	}
	return 0;
}

/* How many of the n bytes agree with a sequence of the given length (at least 1). */
static size_t agreeing(
	const unsigned char *t, size_t n, size_t length, unsigned char low, unsigned char high)
{
	size_t i = 1;
	for (; i < length && i < n; i++) {
		if (t[i] < low || t[i] > high)
			break;
		low = 0x80;
		high = 0xBF;
	}
	return i;
}

size_t utf8_decode(const char *text, size_t n, uint32_t *codepoint)
{
	const unsigned char *t = (const unsigned char *)text;
	unsigned char low, high;
	if (!n)
		return 0;
	if (t[0] < 0x80) {
		*codepoint = t[0];
		return 1;
	}
	size_t length = sequence(t[0], &low, &high);
	if (!length || length > n || agreeing(t, n, length, low, high) < length)
		return 0;
	static const unsigned char mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
	uint32_t c = t[0] & mask[length];
	for (size_t i = 1; i < length; i++)
		c = c << 6 | (t[i] & 0x3Fu);
	*codepoint = c;
	return length;
}

/*
 * The same table as an automaton of nine states, of which one is the number of bits by which a row
 * is shifted: a step is a load and a shift, without a branch that text could mislead.
 */
enum {
	WHOLE = 0,
	WRONG = 6, /* for ever */
	ONE_MORE = 12,
	TWO_MORE = 18,
	THREE_MORE = 24,
	AFTER_E0 = 30,
	AFTER_ED = 36,
	AFTER_F0 = 42,
	AFTER_F4 = 48,
};

#define AT(state, next) ((uint64_t)(next) << (state))
/* The next states behind a whole character, and within one. */
#define ROW(whole, one, two, three, e0, ed, f0, f4)                                                \
	(AT(WHOLE, whole) | AT(WRONG, WRONG) | AT(ONE_MORE, one) | AT(TWO_MORE, two) |             \
		AT(THREE_MORE, three) | AT(AFTER_E0, e0) | AT(AFTER_ED, ed) | AT(AFTER_F0, f0) |   \
		AT(AFTER_F4, f4))
#define BEGINS(next) ROW(next, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG)
#define GOES_ON(e0, ed, f0, f4) ROW(WRONG, WHOLE, ONE_MORE, TWO_MORE, e0, ed, f0, f4)

static const uint64_t rows[256] = {
	[0x00 ... 0x7F] = BEGINS(WHOLE),
	[0x80 ... 0x8F] = GOES_ON(WRONG, ONE_MORE, WRONG, TWO_MORE),
	[0x90 ... 0x9F] = GOES_ON(WRONG, ONE_MORE, TWO_MORE, WRONG),
	[0xA0 ... 0xBF] = GOES_ON(ONE_MORE, WRONG, TWO_MORE, WRONG),
	[0xC0 ... 0xC1] = BEGINS(WRONG),
	[0xC2 ... 0xDF] = BEGINS(ONE_MORE),
	[0xE0] = BEGINS(AFTER_E0),
	[0xE1 ... 0xEC] = BEGINS(TWO_MORE),
	[0xED] = BEGINS(AFTER_ED),
	[0xEE ... 0xEF] = BEGINS(TWO_MORE),
	[0xF0] = BEGINS(AFTER_F0),
	[0xF1 ... 0xF3] = BEGINS(THREE_MORE),
	[0xF4] = BEGINS(AFTER_F4),
	[0xF5 ... 0xFF] = BEGINS(WRONG),
};

static unsigned state_after(const unsigned char *t, size_t n)
{
	uint64_t state = WHOLE;

	for (size_t i = 0; i < n; i++)
		state = rows[t[i]] >> (state & 63);
	return state & 63;
}

static size_t skip_ascii(const unsigned char *t, size_t i, size_t n)
{
	for (uint64_t w; n - i >= 8; i += 8) {
		memcpy(&w, t + i, 8);
		if (w & UINT64_C(0x8080808080808080))
			return i;
	}
	while (i < n && t[i] < 0x80)
		i++;
	return i;
}

size_t utf8_valid_prefix(const char *text, size_t n)
{
	const unsigned char *t = (const unsigned char *)text;
	size_t i = 0, length;
	uint32_t c;

	while ((i = skip_ascii(t, i, n)) < n) {
		size_t end = n - i < BLOCK ? n : i + BLOCK;
		unsigned state = state_after(t + i, end - i);
		if (state == WRONG)
			break;
		i = end;
		if (state == WHOLE)
			continue;
		do /* back to the beginning of the character that is not whole */
			i--;
		while (t[i] < 0xC0);
		if (end == n)
			return i;
	}
	while (i < n && (length = utf8_decode(text + i, n - i, &c)))
		i += length;
	return i;
}

bool utf8_is_partial(const char *text, size_t n)
{
	const unsigned char *t = (const unsigned char *)text;
	unsigned char low, high;
	if (!n)
		return false;
	size_t length = sequence(t[0], &low, &high);
	return length > n && agreeing(t, n, length, low, high) == n;
}

size_t utf8_encode(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xC0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3F));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xE0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3F));
		out[2] = (char)(0x80 | (c & 0x3F));
		return 3;
	}
	out[0] = (char)(0xF0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3F));
	out[2] = (char)(0x80 | (c >> 6 & 0x3F));
	out[3] = (char)(0x80 | (c & 0x3F));
	return 4;
}

static const char mark[] = "\xef\xbb\xbf";
enum { MARK = sizeof mark - 1 };

size_t utf8_mark(const char *text, size_t n)
{
	return n >= MARK && !memcmp(text, mark, MARK) ? MARK : 0;
}

bool utf8_may_be_mark(const char *text, size_t n)
{
	return n && n < MARK && !memcmp(text, mark, n);
}
