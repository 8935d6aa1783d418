/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A step of a model is some hundred short pieces of work with a meeting after each, so handing one
 * out must cost less than a microsecond: the workers spin on a generation counter for a while
 * (SPIN_NS) before they sleep on a condition variable. Units are claimed by an atomic counter
 * rather than dealt out in advance: on a shared machine a thread is often late, and then the others
 * take its share. Results do not depend on it, since every unit writes its own outputs in its own
 * fixed order.
 *
 * A worker that comes late, or was put off its processor, must neither hold up the caller nor touch
 * a later job by mistake. So the caller waits for units done, not for workers, and `ticket` holds
 * the job's generation (upper half) beside the next unit nobody has claimed (lower half). A worker
 * reads the ticket, then the job, then claims with a compare-and-swap of that very ticket. The
 * job's fields change only while the ticket is closed, which is a change of the ticket; hence a
 * claim that succeeds saw the job it belongs to.
 */
#include "engine/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"

#define SPIN_NS 50000u
#define CLOSED UINT32_MAX /* as the lower half of a ticket: no unit is to be had */

struct worker {
	struct pool *pool;
	pthread_t thread;
	uint32_t index;
};

struct pool {
	uint32_t n_threads, n_started;
	struct worker *workers; /* [n_threads], [0] is the caller and has no thread */

	_Alignas(64) _Atomic uint64_t ticket;
	_Alignas(64) atomic_uint n_done; /* units of this generation */
	_Alignas(64) _Atomic(pool_fn *) fn;
	_Atomic(void *) arg;
	atomic_uint n, grain;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	atomic_uint sleeping; /* changed under the lock */
	atomic_bool ending;
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static uint32_t generation(uint64_t ticket)
{
	return (uint32_t)(ticket >> 32);
}

/* Claims and does units of the current job until none is left to claim. */
static void take_units(struct pool *p, uint32_t thread)
{
	uint64_t ticket = atomic_load_explicit(&p->ticket, memory_order_acquire);

	for (;;) {
		pool_fn *fn = atomic_load_explicit(&p->fn, memory_order_acquire);
		void *arg = atomic_load_explicit(&p->arg, memory_order_acquire);
		uint32_t n = atomic_load_explicit(&p->n, memory_order_acquire);
		uint32_t grain = atomic_load_explicit(&p->grain, memory_order_acquire);
		uint32_t first = (uint32_t)ticket;
		if (first >= n)
			return;
		uint32_t last = n - first > grain ? first + grain : n;
		if (!atomic_compare_exchange_weak_explicit(&p->ticket, &ticket,
			    ticket - first + last, memory_order_acq_rel, memory_order_acquire))
			continue;
		fn(arg, first, last, thread);
		atomic_fetch_add_explicit(&p->n_done, last - first, memory_order_release);
		ticket = atomic_load_explicit(&p->ticket, memory_order_acquire);
	}
}

/* Waits for a generation other than `seen`; returns it. */
static uint32_t next_generation(struct pool *p, uint32_t seen)
{
	uint64_t deadline = clock_mono_ns() + SPIN_NS;
	uint32_t now;

	do {
		for (int i = 0; i < 64; i++) {
			now = generation(atomic_load_explicit(&p->ticket, memory_order_acquire));
			if (now != seen)
				return now;
			relax();
		}
	} while (clock_mono_ns() < deadline);

	pthread_mutex_lock(&p->lock);
	atomic_fetch_add(&p->sleeping, 1);
	while ((now = generation(atomic_load(&p->ticket))) == seen)
		pthread_cond_wait(&p->wake, &p->lock);
	atomic_fetch_sub(&p->sleeping, 1);
	pthread_mutex_unlock(&p->lock);
	return now;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct pool *p = w->pool;
	uint32_t seen = 0;

	for (;;) {
		seen = next_generation(p, seen);
		if (atomic_load(&p->ending))
			return NULL;
		take_units(p, w->index);
	}
}

/* Opens the ticket of a new generation and wakes whoever sleeps. */
static void publish(struct pool *p)
{
	uint64_t ticket = atomic_load_explicit(&p->ticket, memory_order_relaxed);

	atomic_store(&p->ticket, (uint64_t)(generation(ticket) + 1) << 32);
	if (atomic_load(&p->sleeping) == 0)
		return;
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

struct pool *pool_new(uint32_t n_threads)
{
	struct pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
	if (!p)
		return NULL;
	*p = (struct pool){.n_threads = n_threads, .n_started = 1};
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	p->workers = calloc(n_threads, sizeof *p->workers);
	if (!p->workers)
		return pool_free(p);
	for (; p->n_started < n_threads; p->n_started++) {
		struct worker *w = &p->workers[p->n_started];
		*w = (struct worker){.pool = p, .index = p->n_started};
		if (pthread_create(&w->thread, NULL, worker_main, w) != 0)
			return pool_free(p);
	}
	return p;
}

struct pool *pool_free(struct pool *p)
{
	if (!p)
		return NULL;
	atomic_store(&p->ending, true);
	atomic_fetch_or(
		&p->ticket, CLOSED); /* a job of no units, for whoever still looks for some */
	atomic_store_explicit(&p->n, 0, memory_order_release);
	publish(p);
	for (uint32_t i = 1; i < p->n_started; i++)
		pthread_join(p->workers[i].thread, NULL);
	free(p->workers);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return NULL;
}

uint32_t pool_threads(const struct pool *p)
{
	return p->n_threads;
}

void pool_run(struct pool *p, pool_fn *fn, void *arg, uint32_t n, uint32_t grain)
{
	if (n <= grain || p->n_threads == 1) {
		if (n > 0)
			fn(arg, 0, n, 0);
		return;
	}
	atomic_fetch_or(&p->ticket, CLOSED);
	atomic_store_explicit(&p->fn, fn, memory_order_release);
	atomic_store_explicit(&p->arg, arg, memory_order_release);
	atomic_store_explicit(&p->n, n, memory_order_release);
	atomic_store_explicit(&p->grain, grain, memory_order_release);
	atomic_store_explicit(&p->n_done, 0, memory_order_relaxed);
	publish(p);
	take_units(p, 0);
	for (uint32_t i = 0; atomic_load_explicit(&p->n_done, memory_order_acquire) != n; i++) {
		if (i % 1024 == 1023)
			sched_yield(); /* whoever has the last unit may need this processor */
		else
			relax();
	}
}
