/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_MEMORY_H
#define ENGINE_CUDA_MEMORY_H

/*
 * Memory of a device, in a few large pieces that are cut up by whoever asked for them: one for
 * weights, one for the buffers of a step, one for the KV cache. Used between cuda_context_enter()
 * and leave.
 */

#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/context.h"

struct cuda_memory {
	uint8_t *base; /* NULL while sizes are only counted */
	size_t bytes, used;
};

/* The next n bytes of *m, aligned to 256; NULL while it only counts, or when it is full, which is
 * a fault of the one who counted. */
void *cuda_memory_take(struct cuda_memory *m, size_t n);

/*
 * Gives *m, which has counted what will be taken, its memory; counting starts again at 0. `what`
 * is who asks, as in "the weights take 16.1 GB": so begins the sentence when there is too little,
 * with what is free of how much. 0; -ENOMEM; other errors of the device.
 */
int cuda_memory_get(
	struct cuda_memory *m, struct cuda_context *c, const char *what, struct err *err);

/* Accepts a zeroed one. */
void cuda_memory_end(struct cuda_memory *m);

/* Bytes free on the device. */
int cuda_memory_free_bytes(struct cuda_context *c, size_t *bytes, struct err *err);

/* new *out: host memory that the device copies from and to by itself. */
int cuda_memory_pin(struct cuda_context *c, void **out, size_t bytes, struct err *err);
/* Accepts NULL, returns NULL. */
void *cuda_memory_unpin(void *p);

#endif
