/* SPDX-License-Identifier: Apache-2.0 */
/* Finds races exactly, not by luck: kernels are compiled with the thread sanitizer's hooks, and
 * each load and store of each thread comes by here before it is done. The shadow of a memory keeps,
 * for every 8 bytes, who touched which of them and when, as far as a later access may have to be
 * held against it. Two accesses to a byte by different threads, one of them a write and not both
 * atomic, are a race unless something orders them (order.c).
 *
 * The target of a cp.async belongs to nobody from the issue to the wait.
 *
 * Before device_begin() a thread may run while the launch before it ends. Launches come one after
 * the other here, so that this cannot be seen by luck either: what a thread reads before it must
 * not have been written by a launch that the host has not waited for since, or by a product of
 * cuBLASLt, whose kernels are launches too; and it may write nothing. What a copy wrote counts as
 * there: no launch goes ahead of a copy before it in its stream, and so none behind that launch.
 */
#include "race.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/simt/include/simt_launch.h"
#include "tests/simt/launch.h"
#include "tests/simt/memory.h"
#include "tests/simt/order.h"
#include "tests/simt/place.h"

#define GRANULE 8
#define RECORDS 8

struct record {
	struct order_moment when; /* run 0: none */
	uint8_t mask;             /* which bytes of the granule */
	uint8_t how;
};

struct granule {
	struct record record[RECORDS];
	uint32_t written_run;   /* of the block that has written last ... */
	uint32_t written_epoch; /* ... then ... */
	uint8_t written;        /* ... and these bytes; records may have been displaced by reads */
	bool mixed;             /* other blocks of the same launch have written too */
};

static uint32_t evict;

void race_launch_begins(const struct block_launch *l, void *shared)
{
	order_launch_begins(l);
	place_set_shared(shared, l->shared);
}

void race_launch_ends(void)
{
	place_set_shared(NULL, 0);
}

void race_block_begins(void)
{
	order_block_begins();
	place_block_begins();
}

/* ---- the shadow ---- */

static void *map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		abort();
	return p;
}

/* Dynamic shared memory is of another size at each launch: the shadow is for the largest. */
static size_t largest(const struct memory *m)
{
	return m->kind == MEMORY_SHARED ? LAUNCH_SHARED_OPTIN : m->size;
}

static struct granule *shadow_of(struct memory *m)
{
	if (!m->shadow) {
		m->shadow_size = (largest(m) / GRANULE + 2) * sizeof(struct granule);
		m->shadow = map(m->shadow_size);
	}
	return m->shadow;
}

void race_product_wrote(void *at, size_t size)
{
	struct memory *m = simt_sees_accesses() && size ? memory_find(at) : NULL;

	if (!m)
		return;
	size_t first = (size_t)((char *)at - m->base), last = first + size - 1;
	order_product_runs();
	for (size_t i = first / GRANULE; i <= last / GRANULE; i++) {
		struct granule *g = shadow_of(m) + i;
		g->written_run = order_now.run;
		g->written_epoch = 0;
		g->written = 0xff;
		g->mixed = false;
	}
}

static const char *const verb[] = {"read", "written", "updated by an atomic operation"};

static void report(const struct memory *m, const void *at, const struct record *r, int how)
{
	char where[160], who[64];
	place_describe(m, at, where, sizeof where);
	if (r->when.run == order_now.run)
		snprintf(who, sizeof who, "thread %u", r->when.thread);
	else
		snprintf(who, sizeof who, "thread %u of another block", r->when.thread);
	block_fault(cudaErrorLaunchFailure,
		"a race: %s is %s by thread %u and was %s by %s with nothing between that orders "
		"them",
		where, verb[how], block_thread(), verb[r->how], who);
}

static bool private_to_block(const struct memory *m)
{
	return m->kind == MEMORY_SHARED || m->kind == MEMORY_STATIC;
}

static bool live(const struct memory *m, const struct record *r)
{
	return r->when.run >= (private_to_block(m) ? order_now.run : order_now.first_run);
}

/* Whether a record that comes before this access may go: what it would catch, this one catches. */
static bool outdone(const struct record *r, int how, uint8_t mask)
{
	bool within = !(r->mask & ~mask);
	return within && (how != RACE_READ || r->how == RACE_READ);
}

/* Which of the granule's bytes this block has written. */
static uint8_t written(const struct granule *g)
{
	return g->written_run == order_now.run ? g->written : 0;
}

/* Reads go first: they are many, and one of them is enough to catch a later write. */
static struct record *victim(struct granule *g)
{
	uint32_t from = evict++;
	for (uint32_t i = 0; i < RECORDS; i++) {
		if (g->record[(from + i) % RECORDS].how == RACE_READ)
			return g->record + (from + i) % RECORDS;
	}
	return g->record + from % RECORDS;
}

static void note_write(struct granule *g, uint8_t mask)
{
	if (g->written_run != order_now.run) {
		g->mixed = g->written_run >= order_now.first_run;
		g->written = 0;
	}
	g->written_run = order_now.run;
	g->written_epoch = order_now.epoch;
	g->written |= mask;
}

/* Most reads are of what nobody writes, or of what was written before a barrier: no record can be
 * held against them, and they need only be kept for writes to come. True: done.
 */
static bool read_quietly(const struct memory *m, struct granule *g, uint8_t mask)
{
	unsigned t = block_thread();
	uint32_t first = private_to_block(m) ? order_now.run : order_now.first_run;
	bool before = g->written_run == order_now.run && g->written_epoch < order_now.epoch &&
		      (private_to_block(m) || !g->mixed);
	struct record *r = g->record + t % RECORDS;
	if (g->written_run >= first && !before)
		return false;
	if (r->when.run >= first && r->how != RACE_READ)
		return false;
	if (r->when.run != order_now.run || r->when.thread != t ||
		r->when.epoch != order_now.epoch || r->when.clock != order_clock())
		*r = (struct record){
			{order_now.run, order_now.epoch, order_clock(), (uint16_t)t}, 0, RACE_READ};
	r->mask |= mask;
	return true;
}

static void touch(struct memory *m, struct granule *g, const void *at, uint8_t mask, int how)
{
	unsigned t = block_thread();
	uint32_t clock = order_clock();
	struct record *place = NULL;
	if (how != RACE_READ)
		note_write(g, mask);
	else if (read_quietly(m, g, mask))
		return;
	for (unsigned i = 0; i < RECORDS; i++) {
		struct record *r = g->record + i;
		if (!r->when.run || !live(m, r)) {
			r->when.run = 0;
			place = place ? place : r;
			continue;
		}
		if (r->when.thread == t && r->when.run == order_now.run &&
			r->when.epoch == order_now.epoch && r->when.clock == clock &&
			r->how == how) {
			r->mask |= mask;
			place = r;
			mask = r->mask;
			continue;
		}
		bool both_read = r->how == RACE_READ && how == RACE_READ;
		bool both_atomic = r->how == RACE_ATOMIC && how == RACE_ATOMIC;
		bool before = order_is_before(&r->when);
		if (!before && r->mask & mask && !both_read && !both_atomic)
			report(m, at, r, how);
		if (before && outdone(r, how, mask)) {
			r->when.run = 0;
			place = place ? place : r;
		}
	}
	if (!place)
		place = victim(g);
	*place = (struct record){
		{order_now.run, order_now.epoch, clock, (uint16_t)t}, mask, (uint8_t)how};
}

/* What this thread does although the launch before it may not have ended. */
static void check_early(const struct memory *m, const struct granule *g, const void *at, int how)
{
	char where[160];

	if (order_began() || private_to_block(m))
		return;
	if (how == RACE_READ &&
		(g->written_run <= order_now.waited_for || g->written_run >= order_now.first_run))
		return;
	place_describe(m, at, where, sizeof where);
	block_fault(cudaErrorLaunchFailure,
		how == RACE_READ
			? "%s is read by thread %u before device_begin(), and was written by a "
			  "launch that nobody has waited for"
			: "%s is written by thread %u before device_begin()",
		where, block_thread());
}

void race_ask(const void *at, size_t size)
{
	struct memory *m = simt_sees_accesses() ? memory_find(at) : NULL;
	size_t offset = m ? (size_t)((const char *)at - m->base) : 0;
	char where[160];

	for (size_t i = offset / GRANULE; m && i <= (offset + size - 1) / GRANULE; i++) {
		if (shadow_of(m)[i].written_run <= order_now.waited_for)
			continue;
		place_describe(m, m->base + i * GRANULE, where, sizeof where);
		block_fault(cudaErrorLaunchFailure,
			"%s is asked for by thread %u, and was written by a launch that nobody has "
			"waited for",
			where, block_thread());
	}
}

/* A static variable in a template has no section of its own that could be filled when a block
 * begins; it is filled when it is read before it was written.
 */
static void fill_unwritten(struct memory *m, const struct granule *g, size_t offset, uint8_t mask)
{
	mask &= (uint8_t)~written(g);
	for (unsigned i = 0; mask; i++, mask >>= 1) {
		if (mask & 1)
			m->base[offset / GRANULE * GRANULE + i] = (char)0xff;
	}
}

static void touch_all(struct memory *m, const char *at, size_t size, int how)
{
	size_t offset = (size_t)(at - m->base), end = offset + size;
	struct granule *shadow = shadow_of(m);
	bool fill = m->kind == MEMORY_STATIC && how != RACE_WRITE && place_is_bss(at);
	while (offset < end) {
		size_t within = offset % GRANULE, n = GRANULE - within;
		n = n < end - offset ? n : end - offset;
		uint8_t mask = (uint8_t)(((1u << n) - 1) << within);
		struct granule *g = shadow + offset / GRANULE;
		if (fill)
			fill_unwritten(m, g, offset, mask);
		check_early(m, g, m->base + offset, how);
		touch(m, g, m->base + offset, mask, how);
		offset += n;
	}
}

/* ---- copies under way ---- */

static void check_flight(const struct memory *m, const char *at, size_t size)
{
	char where[160];
	for (size_t i = 0; m->flight && i < size; i++) {
		if (!m->flight[at - m->base + (ptrdiff_t)i])
			continue;
		place_describe(m, at + i, where, sizeof where);
		block_fault(cudaErrorLaunchFailure,
			"%s is touched while a cp.async to it is under way: no cp_async_wait() yet",
			where);
	}
}

static void count_flight(void *at, size_t size, int by)
{
	struct memory *m = place_find(at, size, true);
	if (!m)
		return;
	if (!m->flight)
		m->flight = map(largest(m) + GRANULE);
	for (size_t i = 0; i < size; i++)
		m->flight[(char *)at - m->base + (ptrdiff_t)i] += by;
}

void race_in_flight(void *at, size_t size)
{
	race_access(at, size, RACE_WRITE);
	if (simt_sees_accesses())
		count_flight(at, size, 1);
}

void race_arrived(void *at, size_t size)
{
	if (simt_sees_accesses())
		count_flight(at, size, -1);
	race_access(at, size, RACE_WRITE);
}

/* ---- an access ---- */

bool simt_sees_accesses(void)
{
#ifdef SIMT_HOOKS
	return true;
#else
	return false;
#endif
}

void race_access(const void *at, size_t size, enum race_access how)
{
	if (!simt_sees_accesses() || !size)
		return;
	struct memory *m = place_find(at, size, how != RACE_READ);
	if (!m) /* the thread's own, or the program's constants */
		return;
	if (private_to_block(m))
		check_flight(m, at, size);
	if (how == RACE_ATOMIC)
		order_meet_at(at);
	touch_all(m, at, size, (int)how);
}
