/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pattern cannot say: check digits. Both checks read the matched text only, skip what
 * separates groups in print, and say no to everything else. Registered lengths of IBANs are those
 * of the SWIFT registry; a country that is not in the table fails the check.
 */
#include <string.h>

#include "gateway/guard_parts.h"

/* ISO/IEC 7812: from the right, every second digit doubled, its digits added; the sum is a multiple
 * of ten. Anything that is not a digit is a separator. */
static bool luhn(const char *text, size_t n)
{
	unsigned sum = 0, digits = 0;

	for (size_t i = n; i-- > 0;) {
		if (text[i] < '0' || text[i] > '9')
			continue;
		unsigned d = (unsigned)(text[i] - '0');
		if (digits++ % 2)
			d = d * 2 > 9 ? d * 2 - 9 : d * 2;
		sum += d;
	}
	return digits > 1 && sum % 10 == 0;
}

static const struct {
	char country[3];
	unsigned char length;
} lengths[] = {
	{"AD", 24},
	{"AE", 23},
	{"AL", 28},
	{"AT", 20},
	{"AZ", 28},
	{"BA", 20},
	{"BE", 16},
	{"BG", 22},
	{"BH", 22},
	{"BI", 27},
	{"BR", 29},
	{"BY", 28},
	{"CH", 21},
	{"CR", 22},
	{"CY", 28},
	{"CZ", 24},
	{"DE", 22},
	{"DJ", 27},
	{"DK", 18},
	{"DO", 28},
	{"EE", 20},
	{"EG", 29},
	{"ES", 24},
	{"FI", 18},
	{"FK", 18},
	{"FO", 18},
	{"FR", 27},
	{"GB", 22},
	{"GE", 22},
	{"GI", 23},
	{"GL", 18},
	{"GR", 27},
	{"GT", 28},
	{"HR", 21},
	{"HU", 28},
	{"IE", 22},
	{"IL", 23},
	{"IQ", 23},
	{"IS", 26},
	{"IT", 27},
	{"JO", 30},
	{"KW", 30},
	{"KZ", 20},
	{"LB", 28},
	{"LC", 32},
	{"LI", 21},
	{"LT", 20},
	{"LU", 20},
	{"LV", 21},
	{"LY", 25},
	{"MC", 27},
	{"MD", 24},
	{"ME", 22},
	{"MK", 19},
	{"MN", 20},
	{"MR", 27},
	{"MT", 31},
	{"MU", 30},
	{"NI", 28},
	{"NL", 18},
	{"NO", 15},
	{"OM", 23},
	{"PK", 24},
	{"PL", 28},
	{"PS", 29},
	{"PT", 25},
	{"QA", 29},
	{"RO", 24},
	{"RS", 22},
	{"RU", 33},
	{"SA", 24},
	{"SC", 31},
	{"SD", 18},
	{"SE", 24},
	{"SI", 19},
	{"SK", 24},
	{"SM", 27},
	{"SO", 23},
	{"ST", 25},
	{"SV", 28},
	{"TL", 23},
	{"TN", 24},
	{"TR", 26},
	{"UA", 29},
	{"VA", 22},
	{"VG", 24},
	{"XK", 20},
	{"YE", 30},
};

static size_t iban_length(const char *country)
{
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		if (memcmp(lengths[i].country, country, 2) == 0)
			return lengths[i].length;
	return 0;
}

/* The value of a digit or letter of an IBAN, or -1. */
static int iban_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'Z')
		return c - 'A' + 10;
	return -1;
}

/* ISO 13616: the first four characters go to the end, letters count from 10, and what is then
 * written in digits is 1 modulo 97. Spaces and hyphens are separators. */
static bool iban(const char *text, size_t n)
{
	char c[34];
	size_t len = 0;
	unsigned rest = 0;

	for (size_t i = 0; i < n; i++) {
		char x = text[i];
		if (x == ' ' || x == '-')
			continue;
		if (x >= 'a' && x <= 'z')
			x = (char)(x - 'a' + 'A');
		if (len == sizeof(c) || iban_value(x) < 0)
			return false;
		c[len++] = x;
	}
	if (len < 5 || iban_length(c) != len || c[2] > '9' || c[3] > '9')
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned v = (unsigned)iban_value(c[(i + 4) % len]);
		rest = (rest * (v > 9 ? 100 : 10) + v) % 97;
	}
	return rest == 1;
}

bool guard_check_passes(enum guard_check check, const char *text, size_t n)
{
	if (check == GUARD_CHECK_LUHN)
		return luhn(text, n);
	return check == GUARD_CHECK_IBAN ? iban(text, n) : true;
}
