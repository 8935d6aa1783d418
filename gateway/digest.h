/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_DIGEST_H
#define GATEWAY_DIGEST_H

#include <stddef.h>
#include <stdint.h>

struct digest {
	uint64_t a, b;
};

/* Of two texts, one behind the other: SipHash-1-3 with 128 bits under a fixed key. The same on each
 * machine of a byte order. Not against somebody who computes collisions. */
void digest_of(
	struct digest *out, const void *one, size_t one_len, const void *two, size_t two_len);

#endif
