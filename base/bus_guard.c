/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SIGBUS handler that keeps mapped files harmless.
 *
 * A page of a mapped file can vanish: someone truncates the file, or the disk fails. The kernel
 * then sends SIGBUS to the thread that touches it. The handler looks the address up among the
 * guarded bytes; when it is there it maps zeros over that page and all pages behind it (one fault a
 * guard, not one a page), sets the guard's flag, and the access goes on with these. Any other
 * SIGBUS goes to the handler that was there before us, or, when there was none, kills the process
 * as it would have without us.
 *
 * The handler may run at any instruction of any thread, so it takes no lock and allocates nothing:
 * the registry is a list of slots that only grows (slots are used again, never freed), and each
 * slot has a sequence number, odd while it is being changed, by which the handler recognises a
 * half-changed one. Writers hold `registry_lock`, which is a leaf: nothing is called under it but
 * sigaction.
 */
#include "base/bus_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct bus_guard {
	struct bus_guard *next; /* set before the slot is published, then constant */
	atomic_uint sequence;
	_Atomic(uintptr_t) base; /* 0: the slot is free */
	_Atomic(size_t) size;
	atomic_int prot;
	atomic_bool hit;
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct bus_guard *) registry;
static struct sigaction previous;
static bool handler_installed; /* under registry_lock */
static size_t page_size;       /* written before the handler is installed */

/* The slot whose bytes hold the address, or NULL. */
static struct bus_guard *slot_of(uintptr_t address, uintptr_t *end)
{
	for (struct bus_guard *s = atomic_load(&registry); s; s = s->next) {
		unsigned before = atomic_load(&s->sequence);
		uintptr_t base = atomic_load(&s->base);
		size_t size = atomic_load(&s->size);

		if ((before & 1) || before != atomic_load(&s->sequence))
			continue; /* being changed: nobody may read its bytes now */
		if (base && address >= base && address - base < size) {
			*end = base + size;
			return s;
		}
	}
	return NULL;
}

static void hand_on(int signal_number, siginfo_t *info, void *context)
{
	if (previous.sa_flags & SA_SIGINFO)
		previous.sa_sigaction(signal_number, info, context);
	else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
		previous.sa_handler(signal_number);
	else /* the faulting instruction runs again and meets the default: the end, core dump
		included */
		signal(SIGBUS, SIG_DFL);
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
	int saved_errno = errno;
	uintptr_t address = (uintptr_t)info->si_addr;
	uintptr_t end = 0;
	struct bus_guard *s = info->si_code > 0 ? slot_of(address, &end) : NULL;

	if (s) {
		uintptr_t from = address & ~(uintptr_t)(page_size - 1);
		/* Not through the library, so that the thread sanitizer does not take it for a
		 * write that races with others: whoever uses these bytes asks bus_guard_hit and
		 * does not go by what he has. */
		long got = syscall(SYS_mmap, from, end - from, atomic_load(&s->prot),
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0L);

		atomic_store(&s->hit, true);
		if (got == -1)
			s = NULL;
	}
	if (!s)
		hand_on(signal_number, info, context);
	errno = saved_errno;
}

static int install_handler(void)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	if (handler_installed)
		return 0;
	page_size = (size_t)sysconf(_SC_PAGESIZE);
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, NULL, &previous) || sigaction(SIGBUS, &action, NULL))
		return -errno;
	handler_installed = true;
	return 0;
}

static void slot_set(struct bus_guard *s, uintptr_t base, size_t size, int prot)
{
	atomic_fetch_add(&s->sequence, 1);
	atomic_store(&s->base, base);
	atomic_store(&s->size, size);
	atomic_store(&s->prot, prot);
	atomic_store(&s->hit, false);
	atomic_fetch_add(&s->sequence, 1);
}

int bus_guard_new(struct bus_guard **out, void *bytes, size_t size, int prot)
{
	uintptr_t base = (uintptr_t)bytes;

	pthread_mutex_lock(&registry_lock);
	int r = install_handler();
	struct bus_guard *s = atomic_load(&registry);
	while (s && atomic_load(&s->base))
		s = s->next;
	if (r == 0 && s) {
		slot_set(s, base, size, prot);
	} else if (r == 0) {
		s = calloc(1, sizeof(*s));
		if (s) {
			slot_set(s, base, size, prot);
			s->next = atomic_load(&registry);
			atomic_store(&registry, s);
		} else {
			r = -ENOMEM;
		}
	}
	pthread_mutex_unlock(&registry_lock);
	*out = r ? NULL : s;
	return r;
}

struct bus_guard *bus_guard_free(struct bus_guard *g)
{
	if (!g)
		return NULL;
	pthread_mutex_lock(&registry_lock);
	slot_set(g, 0, 0, 0);
	pthread_mutex_unlock(&registry_lock);
	return NULL;
}

bool bus_guard_hit(const struct bus_guard *g)
{
	return g && atomic_load(&g->hit);
}
