/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request of some 25 us has no time for the kernel. By itself glibc gives each thread a heap of
 * its own, which grows by a page at a time, each with a system call and a fault, and gives back
 * what is free at the end. And small pages are many: on a virtual machine the first touch of each,
 * and again whenever its host has forgotten it, costs 100 us and more (docs/bench.md): with small
 * pages one request in 50 met one, with huge ones less than one in 100.
 *
 * So there is one heap, which all threads use through the small caches that glibc gives each of
 * them. It grows by GROWTH bytes of addresses, which cost nothing until they are touched, keeps as
 * many when they are free, and is advised to be huge pages. A block of OWN_MAP bytes or more is
 * mapped by itself and goes back at once.
 */
#include "base/heap.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GROWTH = 64 << 20, OWN_MAP = 4 << 20 };
enum { HUGE_PAGE = 2 << 20 }; /* where they are larger, the kernel takes what of it is whole */

static uintptr_t heap_start;       /* 0: heap_begin was not called */
static _Atomic(uintptr_t) advised; /* up to here */

static uintptr_t heap_end(void)
{
	return (uintptr_t)sbrk(0);
}

void heap_begin(void)
{
	uintptr_t end = heap_end();
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TOP_PAD, GROWTH);
	mallopt(M_MMAP_THRESHOLD, OWN_MAP);
	heap_start = (end + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	/* More than what is left of its first pages: it grows. */
	void *volatile more = malloc(OWN_MAP / 2);
	free(more);
	heap_tend();
}

/* The whole of it, as it may have shrunk and grown again. */
void heap_tend(void)
{
	uintptr_t end = heap_end();
	if (!heap_start || end == atomic_load_explicit(&advised, memory_order_relaxed))
		return;
	atomic_store_explicit(&advised, end, memory_order_relaxed);
	if (heap_start < end)
		madvise((void *)heap_start, end - heap_start, MADV_HUGEPAGE); /* it may fail */
}
