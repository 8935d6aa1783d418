/* SPDX-License-Identifier: Apache-2.0 */
/* Device memory is memory of the process, each allocation one of malloc's, so that the address
 * sanitizer has its red zones around it; a sorted table says what is whose. Fresh memory is 0xff
 * (a NaN in every float format). The size of the device is a number to run into, no more.
 */
#include "memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/simt/fault.h"
#include "tests/simt/include/cuda_runtime_api.h"
#include "tests/simt/include/simt.h"
#include "tests/simt/lock.h"

#define ALIGNMENT 256

static struct memory **table; /* by address */
static size_t n_entries, n_room;

/* Whose a page was at the last look, which is mostly right for the next. */
#define PAGE 4096
#define LOOKS 256
static struct memory *found[LOOKS];
static size_t device_size, device_used;

static size_t total(void)
{
	if (!device_size) {
		const char *e = getenv("SIMT_MEMORY");
		size_t mib = e ? strtoul(e, NULL, 10) : 0;
		device_size = (mib ? mib : 256) << 20;
	}
	return device_size;
}

void simt_set_memory(size_t size)
{
	lock_enter();
	device_size = size;
	lock_leave();
}

/* Index of the first entry that begins above `at`. */
static size_t above(const void *at)
{
	size_t low = 0, high = n_entries;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if ((uintptr_t)table[mid]->base <= (uintptr_t)at)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct memory *memory_find(const void *at)
{
	struct memory **look = found + (uintptr_t)at / PAGE % LOOKS;
	if (*look && (uintptr_t)at - (uintptr_t)(*look)->base < (*look)->size)
		return *look;
	size_t i = above(at);
	if (!i || (uintptr_t)at - (uintptr_t)table[i - 1]->base >= table[i - 1]->size)
		return NULL;
	*look = table[i - 1];
	return *look;
}

const struct memory *memory_below(const void *at)
{
	size_t i = above(at);
	return i ? table[i - 1] : NULL;
}

bool memory_holds(const void *at, size_t size, enum memory_kind kind)
{
	struct memory *m = memory_find(at);
	return m && m->kind == kind && size <= m->size - (size_t)((const char *)at - m->base);
}

static cudaError_t enter(void *base, size_t size, enum memory_kind kind, bool registered)
{
	if (n_entries == n_room) {
		size_t room = n_room ? 2 * n_room : 64;
		struct memory **grown = realloc(table, room * sizeof *grown);
		if (!grown)
			return cudaErrorMemoryAllocation;
		table = grown;
		n_room = room;
	}
	struct memory *m = calloc(1, sizeof *m);
	if (!m)
		return cudaErrorMemoryAllocation;
	m->base = base;
	m->size = size;
	m->kind = kind;
	m->registered = registered;
	size_t i = above(base);
	memmove(table + i + 1, table + i, (n_entries - i) * sizeof *table);
	table[i] = m;
	n_entries++;
	return cudaSuccess;
}

static void leave(size_t i)
{
	struct memory *m = table[i];
	memset(found, 0, sizeof found);
	n_entries--;
	memmove(table + i, table + i + 1, (n_entries - i) * sizeof *table);
	if (m->kind == MEMORY_DEVICE)
		device_used -= m->size;
	if (!m->registered)
		free(m->base);
	if (m->shadow)
		munmap(m->shadow, m->shadow_size);
	if (m->flight)
		munmap(m->flight, m->size + 8);
	free(m);
}

static cudaError_t allocate(void **pointer, size_t size, enum memory_kind kind)
{
	*pointer = NULL;
	if (!size)
		return cudaSuccess;
	void *base = NULL;
	if (kind == MEMORY_DEVICE &&
		size > total() - (device_used < total() ? device_used : total()))
		return cudaErrorMemoryAllocation;
	if (posix_memalign(&base, ALIGNMENT, size))
		return cudaErrorMemoryAllocation;
	cudaError_t rc = enter(base, size, kind, false);
	if (rc) {
		free(base);
		return rc;
	}
	memset(base, 0xff, size);
	if (kind == MEMORY_DEVICE)
		device_used += size;
	*pointer = base;
	return cudaSuccess;
}

static cudaError_t release(void *pointer, enum memory_kind kind, bool registered)
{
	if (!pointer)
		return cudaSuccess;
	size_t i = above(pointer);
	if (!i || table[i - 1]->base != pointer || table[i - 1]->kind != kind ||
		table[i - 1]->registered != registered)
		return cudaErrorInvalidValue;
	leave(i - 1);
	return cudaSuccess;
}

void memory_reset(void)
{
	for (size_t i = n_entries; i-- > 0;) {
		if (table[i]->kind == MEMORY_DEVICE)
			leave(i);
	}
}

/* ---- the runtime's names ---- */

static cudaError_t allocate_locked(void **pointer, size_t size, enum memory_kind kind)
{
	lock_enter();
	cudaError_t rc = lock_error();
	if (!rc)
		rc = allocate(pointer, size, kind);
	return lock_result(rc);
}

cudaError_t cudaMalloc(void **pointer, size_t size)
{
	return allocate_locked(pointer, size, MEMORY_DEVICE);
}

cudaError_t cudaMallocHost(void **pointer, size_t size)
{
	return allocate_locked(pointer, size, MEMORY_PINNED);
}

cudaError_t cudaHostAlloc(void **pointer, size_t size, unsigned flags)
{
	(void)flags;
	return allocate_locked(pointer, size, MEMORY_PINNED);
}

/* Freeing device memory waits for the device, as the runtime's does. */
cudaError_t cudaFree(void *pointer)
{
	cudaError_t rc = pointer ? cudaDeviceSynchronize() : cudaSuccess;
	lock_enter();
	cudaError_t freed = release(pointer, MEMORY_DEVICE, false);
	return lock_result(rc ? rc : freed);
}

cudaError_t cudaFreeHost(void *pointer)
{
	cudaError_t rc = pointer ? cudaDeviceSynchronize() : cudaSuccess;
	lock_enter();
	cudaError_t freed = release(pointer, MEMORY_PINNED, false);
	return lock_result(rc ? rc : freed);
}

cudaError_t cudaHostRegister(void *pointer, size_t size, unsigned flags)
{
	(void)flags;
	lock_enter();
	cudaError_t rc = lock_error();
	if (!rc && memory_find(pointer))
		rc = cudaErrorHostMemoryAlreadyRegistered;
	if (!rc)
		rc = enter(pointer, size, MEMORY_PINNED, true);
	return lock_result(rc);
}

cudaError_t cudaHostUnregister(void *pointer)
{
	lock_enter();
	cudaError_t rc = release(pointer, MEMORY_PINNED, true);
	return lock_result(rc == cudaErrorInvalidValue ? cudaErrorHostMemoryNotRegistered : rc);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *size)
{
	lock_enter();
	cudaError_t rc = lock_error();
	*size = total();
	*available = device_used < total() ? total() - device_used : 0;
	return lock_result(rc);
}
