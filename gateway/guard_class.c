/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which characters a place of a pattern may match: 128 bits for ASCII, and the first bytes of the
 * others. A class may hold more than the pattern's, never less; where it is not exact it says so.
 *
 * Caseless matching crosses the border of ASCII in two places of Unicode, K and the Kelvin sign, S
 * and the long s. Other cases are known for blocks that have none, and for the letters of Latin-1
 * and Cyrillic; the rest may begin with any byte.
 */
#include "base/utf8.h"
#include "gateway/guard_parts.h"

static void class_add(struct guard_class *c, unsigned char byte)
{
	c->ascii[byte >> 6] |= UINT64_C(1) << (byte & 63);
}

/* Blocks of Unicode whose characters have no other case, and which hold all of a range. */
static bool is_without_cases(uint32_t first, uint32_t last)
{
	static const uint32_t blocks[][2] = {{0x80, 0xb4}, {0x2000, 0x2125}, {0x2190, 0x245f},
		{0x2500, 0x2bff}, {0x2e80, 0xa63f}, {0xac00, 0xd7ff}, {0xf900, 0xfaff},
		{0xfe00, 0xff20}, {0x1f000, 0x10ffff}};

	for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
		if (first >= blocks[i][0] && last <= blocks[i][1])
			return true;
	return false;
}

static unsigned first_byte(uint32_t c)
{
	char bytes[4];

	utf8_encode(c, bytes);
	return (unsigned char)bytes[0];
}

void guard_class_add_beyond(struct guard_class *c)
{
	c->beyond = GUARD_BEYOND_ASCII;
	c->many = true;
}

/* Characters that are not ASCII. */
static void add_few(struct guard_class *c, uint32_t first, uint32_t last)
{
	static const uint32_t longest[] = {0x7ff, 0xffff, 0x10ffff}; /* of a length */

	for (unsigned b = first_byte(first); b <= first_byte(last); b++)
		c->beyond |= UINT64_C(1) << (b - 0xC0);
	for (unsigned i = 0; i < 3 && first <= last; i++) {
		uint32_t end = last < longest[i] ? last : longest[i];
		if (first > end)
			continue;
		c->many |= c->n_few == GUARD_CLASS_FEW;
		if (!c->many)
			c->few[c->n_few++] = (struct guard_class_range){first, end};
		first = end + 1;
	}
}

/* Letters of Latin-1 and Cyrillic, and how far their other case is: all but a few that are cases of
 * characters elsewhere. */
static const struct {
	uint32_t first, last;
	int other;
	uint32_t elsewhere[2]; /* a range of which some are cases too */
} letters[] = {
	{0xc0, 0xd6, 32, {0x212b, 0x212b}},
	{0xd8, 0xde, 32, {0, 0}},
	{0xe0, 0xf6, -32, {0x212b, 0x212b}},
	{0xf8, 0xfe, -32, {0, 0}},
	{0x400, 0x40f, 80, {0, 0}},
	{0x410, 0x42f, 32, {0x1c80, 0x1c88}},
	{0x430, 0x44f, -32, {0x1c80, 0x1c88}},
	{0x450, 0x45f, -80, {0, 0}},
};

enum { N_LETTERS = sizeof(letters) / sizeof(letters[0]) };

static bool are_letters(uint32_t first, uint32_t last)
{
	for (unsigned i = 0; i < N_LETTERS; i++)
		if (first >= letters[i].first && last <= letters[i].last)
			return true;
	return false;
}

/* The other cases of those letters. */
static void add_cases(struct guard_class *c)
{
	unsigned n = c->n_few;

	for (unsigned k = 0; k < n; k++)
		for (unsigned i = 0; i < N_LETTERS; i++) {
			struct guard_class_range r = c->few[k];
			if (r.first < letters[i].first || r.last > letters[i].last)
				continue;
			add_few(c, r.first + (uint32_t)letters[i].other,
				r.last + (uint32_t)letters[i].other);
			if (letters[i].elsewhere[0])
				add_few(c, letters[i].elsewhere[0], letters[i].elsewhere[1]);
		}
}

void guard_class_add_range(struct guard_class *c, uint32_t first, uint32_t last)
{
	for (uint32_t b = first; b <= last && b < 128; b++)
		class_add(c, (unsigned char)b);
	if (last < 128)
		return;
	first = first > 128 ? first : 128;
	add_few(c, first, last);
	if (c->many || (!are_letters(first, last) && !is_without_cases(first, last)))
		c->cased = true;
}

static void class_fold(struct guard_class *c)
{
	for (unsigned b = 'a'; b <= 'z'; b++) {
		bool lower = c->ascii[1] >> (b & 63) & 1, upper = c->ascii[1] >> (b - 32 - 64) & 1;
		if (lower || upper) {
			class_add(c, (unsigned char)b);
			class_add(c, (unsigned char)(b - 32));
			c->kelvin |= b == 'k';
			c->long_s |= b == 's';
		}
	}
}

void guard_class_finish(struct guard_class *c, bool negated, uint32_t flags)
{
	bool caseless = flags & PCRE2_CASELESS, cased = caseless && c->cased;

	if (cased) { /* perhaps one of the two that have an ASCII case */
		guard_class_add_beyond(c);
		c->exact = false;
	}
	if (cased && !negated)
		for (const char *p = "kKsS"; *p; p++)
			class_add(c, (unsigned char)*p);
	if (caseless && !cased)
		add_cases(c);
	if (caseless)
		class_fold(c);
	if (!negated)
		return;
	if (!c->exact)
		c->ascii[0] = c->ascii[1] = 0; /* nothing is certainly left out */
	c->ascii[0] = ~c->ascii[0];
	c->ascii[1] = ~c->ascii[1];
	guard_class_add_beyond(c);
	c->kelvin = c->long_s = false;
}

bool guard_class_add_kind(struct guard_class *c, char kind, uint32_t flags)
{
	struct guard_class k = {.beyond = flags & PCRE2_UCP ? GUARD_BEYOND_ASCII : 0};

	switch (kind | 32) {
	case 'd':
		guard_class_add_range(&k, '0', '9');
		break;
	case 'w':
		guard_class_add_range(&k, '0', '9');
		guard_class_add_range(&k, 'A', 'Z');
		guard_class_add_range(&k, 'a', 'z');
		class_add(&k, '_');
		break;
	case 's':
		guard_class_add_range(&k, 9, 13);
		class_add(&k, ' ');
		break;
	case 'h':
		class_add(&k, 9);
		class_add(&k, ' ');
		k.beyond = GUARD_BEYOND_ASCII;
		break;
	case 'v':
		guard_class_add_range(&k, 10, 13);
		k.beyond = GUARD_BEYOND_ASCII;
		break;
	default:
		return false;
	}
	if (kind < 'a') {
		k.ascii[0] = ~k.ascii[0];
		k.ascii[1] = ~k.ascii[1];
		k.beyond = GUARD_BEYOND_ASCII;
	}
	c->ascii[0] |= k.ascii[0];
	c->ascii[1] |= k.ascii[1];
	if (k.beyond)
		guard_class_add_beyond(c);
	return true;
}

void guard_class_add_everything(struct guard_class *c)
{
	c->ascii[0] = c->ascii[1] = ~UINT64_C(0);
	guard_class_add_beyond(c);
	c->cased = true;
	c->exact = false;
}
