/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 by the table of RFC 3629, section 4: the first byte decides the length and the range of the
 * second. */
#include "base/utf8.h"

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

size_t utf8_valid_prefix(const char *text, size_t n)
{
	size_t i = 0;
	while (i < n) {
		if ((unsigned char)text[i] < 0x80) {
			i++;
			continue;
		}
		uint32_t c;
		size_t length = utf8_decode(text + i, n - i, &c);
		if (!length)
			break;
		i += length;
	}
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
