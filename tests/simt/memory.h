/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_MEMORY_H
#define SIMT_MEMORY_H

/* What was allocated: device memory and pinned host memory. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum memory_kind {
	MEMORY_DEVICE,
	MEMORY_PINNED,
	MEMORY_SHARED, /* dynamic shared memory of the block that runs */
	MEMORY_STATIC  /* variables of the program: __shared__ and __constant__ */
};

struct memory {
	char *base;
	size_t size;
	enum memory_kind kind;
	bool registered; /* the caller's own memory */
	void *shadow;    /* race.c's; NULL until it is wanted */
	size_t shadow_size;
	uint8_t *flight; /* race.c's, a byte for each: copies on their way to it */
};

/* The allocation that holds `at`; NULL: none. Borrowed until it is freed. */
struct memory *memory_find(const void *at);

/* The one whose end is nearest below `at`, or NULL: for what to say about a stray address. */
const struct memory *memory_below(const void *at);

/* Whether [at, at + size) lies in one allocation of that kind. */
bool memory_holds(const void *at, size_t size, enum memory_kind kind);

void memory_reset(void); /* frees all device memory */

#endif
