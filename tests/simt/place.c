/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel may touch device memory, pinned host memory, the shared memory of its block, its own
 * stack, and read the program's constants. Everything else is an illegal address, found before it
 * is used, so that the process lives on.
 *
 * Static __shared__ variables are variables of the program, in a section of their own; those of
 * templates are where the compiler puts them (it does not heed the section there), so any writable
 * data of the program that a kernel touches counts as shared memory.
 */
#include "place.h"

#include <link.h>
#include <stdio.h>
#include <string.h>

#include "tests/simt/block.h"
#include "tests/simt/fiber.h"

extern char __start_simt_static_shared[] __attribute__((weak));
extern char __stop_simt_static_shared[] __attribute__((weak));

static struct memory shared = {.kind = MEMORY_SHARED};
static struct memory statics = {.kind = MEMORY_STATIC};
static uintptr_t program_begin, program_end, bss_begin;

static int look_at_program(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)size, (void)unused;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = info->dlpi_phdr + i;
		uintptr_t begin = info->dlpi_addr + p->p_vaddr;
		if (p->p_type != PT_LOAD)
			continue;
		if (!program_begin || begin < program_begin)
			program_begin = begin;
		if (begin + p->p_memsz > program_end)
			program_end = begin + p->p_memsz;
		if (!(p->p_flags & PF_W))
			continue;
		statics.base = (char *)begin;
		statics.size = p->p_memsz;
		bss_begin = begin + p->p_filesz;
	}
	return 1; /* the program is the first */
}

void place_set_shared(void *base, size_t size)
{
	if (!program_begin)
		dl_iterate_phdr(look_at_program, NULL);
	shared.base = base;
	shared.size = size;
}

void place_block_begins(void)
{
	if (__start_simt_static_shared)
		memset(__start_simt_static_shared, 0xff,
			(size_t)(__stop_simt_static_shared - __start_simt_static_shared));
	if (shared.flight)
		memset(shared.flight, 0, shared.size);
	if (statics.flight)
		memset(statics.flight, 0, statics.size);
}

bool place_is_bss(const void *at)
{
	return (uintptr_t)at >= bss_begin && (uintptr_t)at < program_end;
}

static bool holds(const struct memory *m, const void *at, size_t size)
{
	uintptr_t offset = (uintptr_t)at - (uintptr_t)m->base;
	return offset < m->size && size <= m->size - offset;
}

static void stray(const void *at, size_t size, bool write)
{
	const struct memory *m = memory_below(at);
	char near[160] = "";
	if (m)
		snprintf(near, sizeof near, ": %zu bytes behind an allocation of %zu",
			(size_t)((const char *)at - m->base) - m->size, m->size);
	if (m && (size_t)((const char *)at - m->base) < m->size)
		snprintf(near, sizeof near, ": across the end of an allocation of %zu bytes",
			m->size);
	if (shared.size && (uintptr_t)at - (uintptr_t)shared.base < shared.size + 1024)
		snprintf(near, sizeof near, ": byte %td of %zu bytes of shared memory",
			(const char *)at - shared.base, shared.size);
	block_fault(cudaErrorIllegalAddress, "%s of %zu bytes at %p, out of bounds%s",
		write ? "a write" : "a read", size, at, near);
}

struct memory *place_find(const void *at, size_t size, bool write)
{
	struct memory *m;
	if (fiber_stack(at)) {
		if (!block_own_stack(at))
			block_fault(cudaErrorIllegalAddress,
				"%s of %zu bytes of another thread's own memory",
				write ? "a write" : "a read", size);
		return NULL;
	}
	if (holds(&shared, at, size))
		return &shared;
	m = memory_find(at);
	if (m && holds(m, at, size))
		return m;
	if (holds(&statics, at, size))
		return &statics;
	if (!write && (uintptr_t)at >= program_begin && (uintptr_t)at < program_end)
		return NULL;
	stray(at, size, write);
	return NULL;
}

void place_describe(const struct memory *m, const void *at, char *text, size_t size)
{
	size_t offset = (size_t)((const char *)at - m->base);
	switch (m->kind) {
	case MEMORY_SHARED:
		snprintf(text, size, "byte %zu of dynamic shared memory", offset);
		break;
	case MEMORY_STATIC:
		snprintf(text, size, "a byte of static shared memory (%p)", at);
		break;
	case MEMORY_DEVICE:
	case MEMORY_PINNED:
		snprintf(text, size, "byte %zu of an allocation of %zu", offset, m->size);
		break;
	}
}
