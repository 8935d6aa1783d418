/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory is asked for in two rounds by the same code: first base is NULL and every
 * cuda_memory_take() only counts, then the piece is got from the device and the same calls cut it
 * up. So a size is written once, and what does not fit is known, with its numbers, before anything
 * was copied.
 */
#include "engine/cuda/memory.h"

#include <errno.h>

#include "engine/cuda/fault.h"

#define ALIGNMENT 256

void *cuda_memory_take(struct cuda_memory *m, size_t n)
{
	size_t rounded = (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	uint8_t *p = m->base ? m->base + m->used : NULL;

	if (m->base && rounded > m->bytes - m->used)
		return NULL;
	m->used += rounded;
	return p;
}

int cuda_memory_free_bytes(struct cuda_context *c, size_t *bytes, struct err *err)
{
	size_t total;

	return cuda_context_fault(
		c, cudaMemGetInfo(bytes, &total), "saying how much memory is free", err);
}

static double gb(size_t bytes)
{
	return (double)bytes * 1e-9;
}

int cuda_memory_get(
	struct cuda_memory *m, struct cuda_context *c, const char *what, struct err *err)
{
	size_t n = m->used > 0 ? m->used : ALIGNMENT, n_free;
	void *p = NULL;
	int r = cuda_memory_free_bytes(c, &n_free, err), code;

	*m = (struct cuda_memory){0};
	if (r < 0)
		return r;
	code = cudaMalloc(&p, n);
	if (code == cudaErrorMemoryAllocation) {
		cuda_fault(code, "giving memory", NULL);
		return err_set(err, -ENOMEM,
			"%s take %.2f GB, and GPU %d (%s) has %.2f GB free of %.2f", what, gb(n),
			c->device, c->name, gb(n_free), gb(c->memory_bytes));
	}
	r = cuda_context_fault(c, code, "giving memory", err);
	if (r == 0)
		*m = (struct cuda_memory){.base = p, .bytes = n};
	return r;
}

void cuda_memory_end(struct cuda_memory *m)
{
	if (m->base)
		cudaFree(m->base);
	*m = (struct cuda_memory){0};
}

int cuda_memory_pin(struct cuda_context *c, void **out, size_t bytes, struct err *err)
{
	*out = NULL;
	return cuda_context_fault(c, cudaMallocHost(out, bytes > 0 ? bytes : 1),
		"getting host memory that it can copy", err);
}

void *cuda_memory_unpin(void *p)
{
	if (p)
		cudaFreeHost(p);
	return NULL;
}
