/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_IDMAP_H
#define GATEWAY_IDMAP_H

/* 64-bit keys to 64-bit values, in one piece of memory. Not locked. Zeroed memory is an empty map.
 * Each call O(1). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct idmap {
	struct idmap_row {
		uint64_t key, value;
		bool used;
	} * rows; /* [cap] */
	size_t n, cap;
};

bool idmap_get(const struct idmap *m, uint64_t key, uint64_t *value);
/* Bytes that idmap_reserve would allocate beyond what there is. */
size_t idmap_growth(const struct idmap *m);
/* Room for one more. 0 or -ENOMEM. */
int idmap_reserve(struct idmap *m);
/* The key is new, and there is room. */
void idmap_put(struct idmap *m, uint64_t key, uint64_t value);
/* True if it was there. */
bool idmap_remove(struct idmap *m, uint64_t key);
void idmap_free(struct idmap *m);

#endif
