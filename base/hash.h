/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

/*
 * FNV-1a, for tables and names of our own; not against somebody who looks for two that are alike
 * (gateway/digest.h is longer, and no better at that). The default state directory's name has it:
 * it is not to change.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASH_BEGIN UINT64_C(1469598103934665603)

/* Of what `hash` is of, and these bytes behind it. */
static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n)
{
	for (const unsigned char *b = bytes; n; b++, n--)
		hash = (hash ^ *b) * UINT64_C(0x100000001b3);
	return hash;
}

static inline uint64_t hash_text(uint64_t hash, const char *text)
{
	return hash_bytes(hash, text, strlen(text));
}

#endif
