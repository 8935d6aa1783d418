/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read-only file mappings and the SIGBUS handler that keeps them harmless.
 *
 * A page of a mapped file can vanish: someone truncates the file, or the disk fails. The kernel
 * then sends SIGBUS to the thread that reads it. The handler looks the address up among our
 * mappings; when it is ours it maps zeros over that page and all pages behind it (one fault a
 * mapping, not one a page), sets the mapping's flag, and the read goes on with zeros. Whoever
 * computes with the bytes asks mapping_damaged() afterwards and throws the result away. Any other
 * SIGBUS goes to the handler that was there before us, or, when there was none, kills the process
 * as it would have without us.
 *
 * The handler may run at any instruction of any thread, so it takes no lock and allocates nothing:
 * the registry is a list of slots that only grows (slots are used again, never freed), and each
 * slot has a sequence number, odd while it is being changed, by which the handler recognises a
 * half-changed one. Writers hold `registry_lock`, which is a leaf: nothing is called under it but
 * sigaction.
 */
#include "engine/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <unistd.h>

struct slot {
	struct slot *next; /* set before the slot is published, then constant */
	atomic_uint sequence;
	_Atomic(uintptr_t) base; /* 0: the slot is free */
	_Atomic(size_t) size;
	atomic_bool damaged;
};

struct mapping {
	void *bytes; /* NULL when size is 0 */
	size_t size;
	struct slot *slot; /* NULL when size is 0 */
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct slot *) registry;
static struct sigaction previous;
static bool handler_installed; /* under registry_lock */
static size_t page_size;       /* written before the handler is installed */

/* The slot whose mapping holds the address, or NULL. */
static struct slot *slot_of(uintptr_t address, uintptr_t *end)
{
	for (struct slot *s = atomic_load(&registry); s; s = s->next) {
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
	struct slot *s = info->si_code > 0 ? slot_of(address, &end) : NULL;

	if (s) {
		uintptr_t from = address & ~(uintptr_t)(page_size - 1);
		/* Not through the library, so that the thread sanitizer does not take it for a
		 * write that races with the readers, which it is not: they read nothing so far. */
		long got = syscall(SYS_mmap, from, end - from, PROT_READ,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0L);

		atomic_store(&s->damaged, true);
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

static void slot_set(struct slot *s, uintptr_t base, size_t size)
{
	atomic_fetch_add(&s->sequence, 1);
	atomic_store(&s->base, base);
	atomic_store(&s->size, size);
	atomic_store(&s->damaged, false);
	atomic_fetch_add(&s->sequence, 1);
}

/* borrows a slot, taken until slot_set(slot, 0, 0). */
static int slot_take(struct slot **out, uintptr_t base, size_t size)
{
	int r;

	pthread_mutex_lock(&registry_lock);
	r = install_handler();
	struct slot *s = atomic_load(&registry);
	while (s && atomic_load(&s->base))
		s = s->next;
	if (r == 0 && s) {
		slot_set(s, base, size);
	} else if (r == 0) {
		s = calloc(1, sizeof(*s));
		if (s) {
			slot_set(s, base, size);
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

static void slot_release(struct slot *s)
{
	pthread_mutex_lock(&registry_lock);
	slot_set(s, 0, 0);
	pthread_mutex_unlock(&registry_lock);
}

static int check_kind(const struct stat *st, const char *path, dev_t forbidden, struct err *err)
{
	if (!S_ISREG(st->st_mode))
		return err_set(err, -EINVAL, "%.200s is not a regular file", path);
	if (forbidden && st->st_dev == forbidden)
		return err_set(err, -EINVAL,
			"%.200s lies inside this mount; a model must be a file outside of it",
			path);
	return 0;
}

/* An open descriptor of a permitted file, and its size. */
static int open_checked(const char *path, dev_t forbidden, size_t *size, struct err *err)
{
	struct stat st;
	int fd, r;

	/* Looked at before it is opened, because opening a device can do things. */
	if (stat(path, &st))
		return err_set(err, -errno, "%.200s cannot be opened: %m", path);
	r = check_kind(&st, path, forbidden, err);
	if (r)
		return r;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_set(err, -errno, "%.200s cannot be opened: %m", path);
	if (fstat(fd, &st))
		r = err_set(err, -errno, "%.200s: %m", path);
	else
		r = check_kind(&st, path, forbidden, err);
	if (r) {
		close(fd);
		return r;
	}
	*size = (size_t)st.st_size;
	return fd;
}

int mapping_open(struct mapping **out, const char *path, dev_t forbidden_device, struct err *err)
{
	struct mapping *m = calloc(1, sizeof(*m));
	int fd, r = 0;

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	fd = open_checked(path, forbidden_device, &m->size, err);
	if (fd < 0) {
		free(m);
		return fd;
	}
	if (m->size > 0) {
		m->bytes = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (m->bytes == MAP_FAILED) {
			m->bytes = NULL;
			r = err_set(err, -errno, "%.200s cannot be mapped: %m", path);
		}
	}
	close(fd);
	if (r == 0 && m->size > 0) {
		r = slot_take(&m->slot, (uintptr_t)m->bytes, m->size);
		if (r)
			r = err_set(err, r, "%.200s cannot be guarded against truncation", path);
	}
	if (r)
		m = mapping_close(m);
	*out = m;
	return r;
}

struct mapping *mapping_close(struct mapping *m)
{
	if (!m)
		return NULL;
	if (m->slot)
		slot_release(m->slot);
	if (m->bytes)
		munmap(m->bytes, m->size);
	free(m);
	return NULL;
}

const void *mapping_bytes(const struct mapping *m)
{
	return m->bytes;
}

size_t mapping_size(const struct mapping *m)
{
	return m->size;
}

void mapping_forget(const struct mapping *m, const void *bytes, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *base = m->bytes;
	size_t from = (size_t)((const char *)bytes - base);
	size_t first = (from + page - 1) / page * page, end = (from + n) / page * page;

	if (first < end) /* advice: it may fail */
		madvise(base + first, end - first, MADV_DONTNEED);
}

bool mapping_damaged(const struct mapping *m)
{
	return m->slot && atomic_load(&m->slot->damaged);
}
