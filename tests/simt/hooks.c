/* SPDX-License-Identifier: Apache-2.0 */
/* What -fsanitize=thread makes a compiler call before each load and store. Kernels, and nothing
 * else, are compiled with it, and libtsan is not linked: these are the functions that it would
 * have. A launcher's own loads and stores come by too and are let through.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tests/simt/block.h"
#include "tests/simt/race.h"

void __tsan_init(void);
void __tsan_func_entry(void *pc);
void __tsan_func_exit(void);
void __tsan_vptr_update(void **at, void *value);
void __tsan_vptr_read(void **at);
void __tsan_read_range(void *at, size_t size);
void __tsan_write_range(void *at, size_t size);
void *__tsan_memcpy(void *to, const void *from, size_t size);
void *__tsan_memmove(void *to, const void *from, size_t size);
void *__tsan_memset(void *to, int value, size_t size);

void __tsan_init(void)
{
}

void __tsan_func_entry(void *pc)
{
	(void)pc;
}

void __tsan_func_exit(void)
{
}

void __tsan_vptr_update(void **at, void *value)
{
	(void)at, (void)value;
}

void __tsan_vptr_read(void **at)
{
	(void)at;
}

static inline void seen(const void *at, size_t size, enum race_access how)
{
	if (block_inside())
		race_access(at, size, how);
}

static inline void seen_aligned(const void *at, size_t size, enum race_access how)
{
	if (!block_inside())
		return;
	if ((uintptr_t)at % size)
		block_fault(cudaErrorMisalignedAddress, "%s of %zu bytes at %p",
			how == RACE_READ ? "a read" : "a write", size, at);
	race_access(at, size, how);
}

#define HOOKS(size)                                                                                \
	void __tsan_read##size(void *at);                                                          \
	void __tsan_write##size(void *at);                                                         \
	void __tsan_unaligned_read##size(void *at);                                                \
	void __tsan_unaligned_write##size(void *at);                                               \
	void __tsan_read##size(void *at)                                                           \
	{                                                                                          \
		seen_aligned(at, size, RACE_READ);                                                 \
	}                                                                                          \
	void __tsan_write##size(void *at)                                                          \
	{                                                                                          \
		seen_aligned(at, size, RACE_WRITE);                                                \
	}                                                                                          \
	void __tsan_unaligned_read##size(void *at)                                                 \
	{                                                                                          \
		seen(at, size, RACE_READ);                                                         \
	}                                                                                          \
	void __tsan_unaligned_write##size(void *at)                                                \
	{                                                                                          \
		seen(at, size, RACE_WRITE);                                                        \
	}
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_read_range(void *at, size_t size)
{
	seen(at, size, RACE_READ);
}

void __tsan_write_range(void *at, size_t size)
{
	seen(at, size, RACE_WRITE);
}

void *__tsan_memcpy(void *to, const void *from, size_t size)
{
	seen(from, size, RACE_READ);
	seen(to, size, RACE_WRITE);
	return memcpy(to, from, size);
}

void *__tsan_memmove(void *to, const void *from, size_t size)
{
	seen(from, size, RACE_READ);
	seen(to, size, RACE_WRITE);
	return memmove(to, from, size);
}

void *__tsan_memset(void *to, int value, size_t size)
{
	seen(to, size, RACE_WRITE);
	return memset(to, value, size);
}

/* ---- -fsanitize=alignment, likewise without its library: of vectors, whose loads the compiler may
 * have taken apart before it calls the above ----
 */

struct mismatch {
	const char *file;
	uint32_t line, column;
	const void *type;
	unsigned char log_alignment, kind;
};
void __ubsan_handle_type_mismatch_v1(struct mismatch *m, const void *at);
void __ubsan_handle_type_mismatch_v1_abort(struct mismatch *m, const void *at);

void __ubsan_handle_type_mismatch_v1(struct mismatch *m, const void *at)
{
	if (block_inside())
		block_fault(cudaErrorMisalignedAddress, "%s:%u: %p is not aligned to %u bytes",
			m->file, m->line, at, 1u << m->log_alignment);
}

void __ubsan_handle_type_mismatch_v1_abort(struct mismatch *m, const void *at)
{
	__ubsan_handle_type_mismatch_v1(m, at);
}
