/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What orders two accesses by different threads:
 *
 * - a __syncthreads() of the block between them: the block's epoch differs;
 * - a __syncwarp() of lanes of one warp: each lane knows up to which clock of each other lane it
 *   has seen everything (shuffles and votes order nothing, as on the card);
 * - between blocks only this: __threadfence() and then an atomic operation by one, and by the other
 *   an atomic operation on the same address that comes after it, and then __threadfence(); what the
 *   first had learnt so from a third before its fence is passed on with it.
 *
 * When a block is at its end its threads are ordered with nobody of another block, although blocks
 * run one after the other here.
 */
#include "order.h"

#include <stdlib.h>
#include <string.h>

void simt_begin(void); /* what device_begin() is */

struct order_now order_now;

static struct {
	unsigned n_warps;
	bool begun[BLOCK_MAX], anybody_began;
	uint32_t seen[BLOCK_MAX / BLOCK_WARP][BLOCK_WARP][BLOCK_WARP]; /* [w][i][i]: own clock */
	struct {
		bool valid;
		uint32_t epoch, clock;
		size_t n_acquires;
	} fence[BLOCK_MAX];
	size_t first_acquire; /* of this block */
} now;

/* A thread has published what it knew at its last fence: acquires [first, last) of its block. */
struct release {
	const void *at;
	size_t first, last;
	uint32_t run, epoch, clock;
	uint16_t thread;
};

static struct release *releases; /* of this launch, in order */
static size_t n_releases, room_releases;

/* What a thread has learnt by an atomic operation: releases [0, n) of that address; by the fence
 * behind it, without which it has learnt nothing. Of all blocks of the launch, in order. */
static struct acquire {
	const void *at;
	size_t n;
	uint32_t epoch; /* of that fence; 0: none yet */
	uint16_t thread;
} * acquires;
static size_t n_acquires, room_acquires;

void order_launch_begins(const struct block_launch *l)
{
	order_now.first_run = order_now.run + 1;
	now.n_warps = (l->block.x * l->block.y * l->block.z + BLOCK_WARP - 1) / BLOCK_WARP;
	n_releases = n_acquires = 0;
	now.anybody_began = false;
}

void order_block_begins(void)
{
	order_now.run++;
	order_now.epoch = 1;
	now.first_acquire = n_acquires;
	memset(now.begun, 0, now.n_warps * BLOCK_WARP * sizeof *now.begun);
	memset(now.fence, 0, now.n_warps * BLOCK_WARP * sizeof *now.fence);
	memset(now.seen, 0, now.n_warps * sizeof *now.seen);
	for (unsigned t = 0; t < now.n_warps * BLOCK_WARP; t++)
		now.seen[t / BLOCK_WARP][t % BLOCK_WARP][t % BLOCK_WARP] = 1;
}

void order_product_runs(void)
{
	order_now.run++;
}

void order_barrier(void)
{
	order_now.epoch++;
}

void simt_begin(void)
{
	now.begun[block_thread()] = now.anybody_began = true;
}

bool order_anybody_began(void)
{
	return now.anybody_began;
}

bool order_began(void)
{
	return now.begun[block_thread()];
}

void order_host_has_waited(void)
{
	order_now.waited_for = order_now.run;
}

static uint32_t *clock_of(unsigned thread)
{
	return &now.seen[thread / BLOCK_WARP][thread % BLOCK_WARP][thread % BLOCK_WARP];
}

uint32_t order_clock(void)
{
	return *clock_of(block_thread());
}

void order_warp_barrier(unsigned first_thread, uint32_t mask)
{
	uint32_t joined[BLOCK_WARP] = {0};
	uint32_t(*seen)[BLOCK_WARP] = now.seen[first_thread / BLOCK_WARP];
	for (unsigned i = 0; i < BLOCK_WARP; i++) {
		for (unsigned j = 0; mask >> i & 1 && j < BLOCK_WARP; j++)
			joined[j] = joined[j] < seen[i][j] ? seen[i][j] : joined[j];
	}
	for (unsigned i = 0; i < BLOCK_WARP; i++) {
		if (!(mask >> i & 1))
			continue;
		memcpy(seen[i], joined, sizeof joined);
		seen[i][i]++;
	}
}

void order_fence(void)
{
	unsigned t = block_thread();
	now.fence[t].valid = true;
	now.fence[t].epoch = order_now.epoch;
	now.fence[t].clock = (*clock_of(t))++;
	now.fence[t].n_acquires = n_acquires;
	for (size_t i = now.first_acquire; i < n_acquires; i++) {
		if (acquires[i].thread == t && !acquires[i].epoch)
			acquires[i].epoch = order_now.epoch;
	}
}

static void *grow(void *list, size_t n, size_t *room, size_t size)
{
	if (n < *room)
		return list;
	*room = *room ? 2 * *room : 256;
	void *grown = realloc(list, *room * size);
	if (!grown)
		abort();
	return grown;
}

void order_meet_at(const void *at)
{
	unsigned t = block_thread();
	if (!n_releases && !now.fence[t].valid)
		return;
	acquires = grow(acquires, n_acquires, &room_acquires, sizeof *acquires);
	acquires[n_acquires++] = (struct acquire){at, n_releases, 0, (uint16_t)t};
	if (!now.fence[t].valid)
		return;
	releases = grow(releases, n_releases, &room_releases, sizeof *releases);
	releases[n_releases++] = (struct release){at, now.first_acquire, now.fence[t].n_acquires,
		order_now.run, now.fence[t].epoch, now.fence[t].clock, (uint16_t)t};
}

static bool covers(const struct release *l, const struct order_moment *m)
{
	return l->run == m->run &&
	       (m->epoch < l->epoch || (m->thread == l->thread && m->clock <= l->clock));
}

/* Whether a thread that had got so far knew what is told by one of acquires [first, last) of its
 * block. Those of the same address tell no more than the later one by which they would be known. */
static bool known(size_t first, size_t last, unsigned thread, uint32_t epoch, const void *not_at,
	const struct order_moment *m)
{
	for (size_t i = first; i < last; i++) {
		const struct acquire *q = acquires + i;
		if (q->at == not_at || !q->epoch || (q->thread != thread && q->epoch >= epoch))
			continue;
		for (size_t j = 0; j < q->n; j++) {
			const struct release *l = releases + j;
			if (l->at == q->at && (covers(l, m) || known(l->first, l->last, l->thread,
								       l->epoch, l->at, m)))
				return true;
		}
	}
	return false;
}

/* Whether what another block did is known to this thread. */
static bool learnt(const struct order_moment *m)
{
	return known(now.first_acquire, n_acquires, block_thread(), order_now.epoch, NULL, m);
}

bool order_is_before(const struct order_moment *m)
{
	unsigned t = block_thread();
	if (m->run != order_now.run)
		return learnt(m);
	if (m->thread == t || m->epoch != order_now.epoch)
		return true;
	return m->thread / BLOCK_WARP == t / BLOCK_WARP &&
	       now.seen[t / BLOCK_WARP][t % BLOCK_WARP][m->thread % BLOCK_WARP] >= m->clock;
}
