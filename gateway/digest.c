/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-1-3 with 128 bits (Aumasson and Bernstein), of which the key is known: it finds things
 * and notices damage. Each text ends with its length, so no two pairs of texts are the same bytes.
 */
#include "gateway/digest.h"

#include <string.h>

struct sip {
	uint64_t v[4];
};

static uint64_t rotate(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static void sip_round(struct sip *s)
{
	uint64_t *v = s->v;
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

static void sip_word(struct sip *s, uint64_t word)
{
	s->v[3] ^= word;
	sip_round(s);
	s->v[0] ^= word;
}

/* Whole words, then what is left of the text together with its length. */
static void sip_text(struct sip *s, const char *text, size_t len)
{
	uint64_t word, last = (uint64_t)len << 56;
	size_t at = 0;
	for (; len - at >= sizeof word; at += sizeof word) {
		memcpy(&word, text + at, sizeof word);
		sip_word(s, word);
	}
	for (size_t i = 0; at + i < len; i++)
		last |= (uint64_t)(unsigned char)text[at + i] << (8 * i);
	sip_word(s, last);
}

static uint64_t sip_end(struct sip *s, uint64_t mark)
{
	s->v[mark == 0xee ? 2 : 1] ^= mark;
	for (int i = 0; i < 3; i++)
		sip_round(s);
	return s->v[0] ^ s->v[1] ^ s->v[2] ^ s->v[3];
}

void digest_of(struct digest *out, const void *one, size_t one_len, const void *two, size_t two_len)
{
	static const uint64_t k0 = 0x6c6c6d6673206361u, k1 = 0x6368652065e1a9d7u;
	struct sip s = {{k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du ^ 0xee,
		k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u}};
	sip_text(&s, one, one_len);
	sip_text(&s, two, two_len);
	out->a = sip_end(&s, 0xee);
	out->b = sip_end(&s, 0xdd);
}
