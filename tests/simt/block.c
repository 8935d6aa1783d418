/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler of the emulator. A thread runs until it must wait (a barrier, an operation of its
 * warp) or ends; then the next one that can run takes over, directly from fiber to fiber, in the
 * order that the test chose. Nothing runs at the same time as anything else, so a kernel's mistakes
 * do not show by luck: they show because another order gives another result, because the accesses
 * are watched (race.c), or because nobody can run any more although not all have ended.
 *
 * Stricter than a card in one thing: a thread that has ended does not count as arrived at a
 * barrier.
 */
#include "block.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simt/async.h"
#include "tests/simt/fault.h"
#include "tests/simt/fiber.h"
#include "tests/simt/order.h"
#include "tests/simt/race.h"
#include "tests/simt/warp.h"

#define WORDS (BLOCK_MAX / 64)

enum state { ENDED, READY, AT_BARRIER, AT_MEETING };

struct thread {
	struct fiber fiber;
	struct dim3 index;
	enum state state;
	bool in_kernel; /* its stack holds a kernel's frames */
	block_meeting *meeting;
	uint32_t mask;
	void *slot;
};

static struct {
	const struct block_launch *launch;
	struct fiber host;
	struct thread thread[BLOCK_MAX];
	uint64_t ready[WORDS];
	uint32_t waiting[BLOCK_MAX / BLOCK_WARP]; /* lanes at a meeting */
	uint32_t ended[BLOCK_MAX / BLOCK_WARP];   /* lanes that have ended, or never were */
	unsigned n_threads, n_ended, n_at_barrier, running;
	dim3 index;
	bool inside, failed;
	char *shared;
} b;

static enum simt_order order;
static uint32_t chance;
static bool order_known;

void simt_set_order(enum simt_order o, unsigned seed)
{
	order = o;
	chance = seed * 2654435761u + 1;
	order_known = true;
}

static void order_from_environment(void)
{
	const char *e = getenv("SIMT_ORDER");
	order_known = true;
	if (!e)
		return;
	if (!strcmp(e, "reversed"))
		simt_set_order(SIMT_REVERSED, 0);
	else if (!strncmp(e, "shuffled", 8))
		simt_set_order(SIMT_SHUFFLED, e[8] == ':' ? (unsigned)atoi(e + 9) : 1);
}

static unsigned by_chance(unsigned n)
{
	chance ^= chance << 13;
	chance ^= chance >> 17;
	chance ^= chance << 5;
	return chance % n;
}

/* ---- who runs next ---- */

/* The first ready thread from `from` upwards, around the end. -1: none. */
static int ready_from(unsigned from)
{
	unsigned words = (b.n_threads + 63) / 64, w = from / 64;
	uint64_t bits = b.ready[w] & (~0ull << from % 64);
	for (unsigned i = 0; i <= words; i++) {
		if (bits)
			return (int)(w * 64) + __builtin_ctzll(bits);
		w = w + 1 == words ? 0 : w + 1;
		bits = b.ready[w];
	}
	return -1;
}

static int ready_below(unsigned from)
{
	unsigned words = (b.n_threads + 63) / 64, w = from / 64;
	uint64_t bits = b.ready[w] & (~0ull >> (63 - from % 64));
	for (unsigned i = 0; i <= words; i++) {
		if (bits)
			return (int)(w * 64) + 63 - __builtin_clzll(bits);
		w = w ? w - 1 : words - 1;
		bits = b.ready[w];
	}
	return -1;
}

static int next_thread(void)
{
	if (order == SIMT_REVERSED)
		return ready_below(b.running ? b.running - 1 : b.n_threads - 1);
	if (order == SIMT_SHUFFLED)
		return ready_from(by_chance(b.n_threads));
	return ready_from(b.running + 1 == b.n_threads ? 0 : b.running + 1);
}

static void set_state(unsigned t, enum state s)
{
	b.thread[t].state = s;
	if (s == READY)
		b.ready[t / 64] |= 1ull << t % 64;
	else
		b.ready[t / 64] &= ~(1ull << t % 64);
}

static void to_host(void)
{
	fiber_switch(&b.thread[b.running].fiber, &b.host);
}

/* "threads 0-31, 64": those in this state */
static void list_threads(char *text, size_t size, enum state s)
{
	size_t used = 0;
	text[0] = 0;
	for (unsigned t = 0, from; t < b.n_threads; t++) {
		if (b.thread[t].state != s)
			continue;
		for (from = t; t + 1 < b.n_threads && b.thread[t + 1].state == s; t++)
			;
		if (used + 32 > size)
			return;
		used += (size_t)snprintf(text + used, size - used, from == t ? "%s%u" : "%s%u-%u",
			used ? ", " : "", from, t);
	}
}

static void nobody_can_run(void)
{
	char barrier[160], meeting[160], ended[160];
	list_threads(barrier, sizeof barrier, AT_BARRIER);
	list_threads(meeting, sizeof meeting, AT_MEETING);
	list_threads(ended, sizeof ended, ENDED);
	block_fault(cudaErrorLaunchTimeout,
		"not all reach it: threads %s wait at a barrier, threads %s for lanes of their "
		"warp, threads %s have ended",
		barrier[0] ? barrier : "none", meeting[0] ? meeting : "none",
		ended[0] ? ended : "none");
}

static void run_another(void)
{
	unsigned self = b.running;
	int next = next_thread();
	if (next < 0) {
		if (b.n_ended < b.n_threads)
			nobody_can_run();
		to_host();
		return; /* here a later launch goes on */
	}
	if ((unsigned)next == self)
		return;
	b.running = (unsigned)next;
	fiber_switch(&b.thread[self].fiber, &b.thread[next].fiber);
}

static void thread_main(void)
{
	fiber_entered();
	for (;;) {
		unsigned self = b.running;
		_Alignas(64) char arguments[BLOCK_MAX_ARGUMENTS];
		memcpy(arguments, b.launch->arguments, b.launch->size);
		b.thread[self].in_kernel = true;
		b.launch->call(arguments);
		b.thread[self].in_kernel = false;
		set_state(self, ENDED);
		b.ended[self / BLOCK_WARP] |= 1u << self % BLOCK_WARP;
		b.n_ended++;
		run_another();
	}
}

/* ---- waiting ---- */

void simt_barrier(void)
{
	if (b.n_at_barrier + 1 == b.n_threads) {
		b.n_at_barrier = 0;
		for (unsigned t = 0; t < b.n_threads; t++)
			set_state(t, READY);
		order_barrier();
		if (order != SIMT_NORMAL) /* whoever came last need not be who goes on first */
			run_another();
		return;
	}
	b.n_at_barrier++;
	set_state(b.running, AT_BARRIER);
	run_another();
}

/* Whether all lanes of the mask but this one wait already. A lane that waits for this one and is
 * not waited for in the same way is a fault; one look at the first of them does.
 */
static bool all_others_wait(unsigned warp, unsigned lane, block_meeting *fn, uint32_t mask)
{
	uint32_t others = mask & ~(1u << lane), waiting = b.waiting[warp] & others;
	uint32_t gone = others & b.ended[warp];
	if (gone)
		block_fault(cudaErrorLaunchFailure,
			"waits for lane %d of its warp, which has ended (mask %08x)",
			__builtin_ctz(gone), mask);
	if (waiting) {
		const struct thread *h = b.thread + warp * BLOCK_WARP + __builtin_ctz(waiting);
		if (h->meeting != fn || h->mask != mask)
			block_fault(cudaErrorLaunchFailure,
				"lanes %u and %d of its warp meet at different operations (masks "
				"%08x and %08x)",
				lane, __builtin_ctz(waiting), mask, h->mask);
	}
	return waiting == others;
}

void block_meet(block_meeting *fn, uint32_t mask, void *slot)
{
	unsigned lane = b.running % BLOCK_WARP, warp = b.running / BLOCK_WARP;
	struct thread *lanes = b.thread + warp * BLOCK_WARP, *self = lanes + lane;
	if (!(mask >> lane & 1))
		block_fault(cudaErrorLaunchFailure, "the mask %08x is without its own lane", mask);
	if (!all_others_wait(warp, lane, fn, mask)) {
		self->meeting = fn;
		self->mask = mask;
		self->slot = slot;
		set_state(b.running, AT_MEETING);
		b.waiting[warp] |= 1u << lane;
		run_another();
		return;
	}
	void *slots[BLOCK_WARP] = {NULL};
	slots[lane] = slot;
	for (uint32_t rest = mask & ~(1u << lane); rest; rest &= rest - 1) {
		int i = __builtin_ctz(rest);
		slots[i] = lanes[i].slot;
		lanes[i].state = READY;
	}
	fn(slots, mask);
	b.waiting[warp] &= ~mask;
	b.ready[warp / 2] |= (uint64_t)mask << warp % 2 * BLOCK_WARP;
	if (order != SIMT_NORMAL)
		run_another();
}

/* ---- a launch ---- */

static bool prepare_fibers(unsigned n)
{
	for (unsigned t = 0; t < n; t++) {
		struct thread *h = b.thread + t;
		if (h->fiber.stack && !h->in_kernel)
			continue;
		h->in_kernel = false;
		if (fiber_begin(&h->fiber, thread_main) < 0)
			return false;
	}
	return true;
}

static bool run_block(unsigned number)
{
	const struct block_launch *l = b.launch;
	b.index.x = number % l->grid.x;
	b.index.y = number / l->grid.x % l->grid.y;
	b.index.z = number / l->grid.x / l->grid.y;
	b.n_ended = b.n_at_barrier = 0;
	memset(b.shared, 0xff, l->shared);
	async_block_begins();
	race_block_begins();
	memset(b.waiting, 0, sizeof b.waiting);
	memset(b.ended, 0xff, sizeof b.ended);
	for (unsigned t = 0; t < b.n_threads; t++) {
		set_state(t, READY);
		b.ended[t / BLOCK_WARP] &= ~(1u << t % BLOCK_WARP);
	}
	b.running = order == SIMT_REVERSED ? 0 : b.n_threads - 1;
	b.running = (unsigned)next_thread();
	b.inside = true;
	fiber_switch(&b.host, &b.thread[b.running].fiber);
	b.inside = false;
	return !b.failed;
}

static void number_threads(const struct block_launch *l)
{
	b.n_threads = l->block.x * l->block.y * l->block.z;
	memset(b.ready, 0, sizeof b.ready);
	for (unsigned t = 0; t < b.n_threads; t++) {
		b.thread[t].index.x = t % l->block.x;
		b.thread[t].index.y = t / l->block.x % l->block.y;
		b.thread[t].index.z = t / l->block.x / l->block.y;
	}
}

/* Which blocks come one after the other: the first, and how far it is to the next, around the end.
 */
struct turns {
	unsigned first, step;
};

static unsigned common_divisor(unsigned n, unsigned m)
{
	return m ? common_divisor(m, n % m) : n;
}

/* Shuffled, those with neighbouring numbers come far apart and others between them, as on a card
 * where many run at once: so that what blocks count together gets mixed up if it can be. */
static struct turns turns_of(unsigned n)
{
	if (order == SIMT_NORMAL || n == 0)
		return (struct turns){0, 1};
	if (order == SIMT_REVERSED)
		return (struct turns){n - 1, n > 1 ? n - 1 : 1};
	struct turns t = {by_chance(n), 1 + by_chance(n)};
	while (common_divisor(t.step, n) != 1)
		t.step++;
	return t;
}

bool block_run(const struct block_launch *l)
{
	if (!order_known)
		order_from_environment();
	b.launch = l;
	b.failed = false;
	b.host.host = 1;
	number_threads(l);
	/* Of exactly this size, so that the address sanitizer sees what lies beyond. */
	void *shared = NULL;
	if (posix_memalign(&shared, 128, l->shared ? l->shared : 1))
		shared = NULL;
	b.shared = shared;
	if (!b.shared || !prepare_fibers(b.n_threads)) {
		fault_set(cudaErrorUnknown, "no memory for the emulator");
		free(b.shared);
		return false;
	}
	unsigned n_blocks = l->grid.x * l->grid.y * l->grid.z;
	race_launch_begins(l, b.shared);
	struct turns turns = turns_of(n_blocks);
	for (unsigned i = 0; i < n_blocks && !b.failed; i++)
		run_block((unsigned)((turns.first + (uint64_t)i * turns.step) % n_blocks));
	race_launch_ends();
	free(b.shared);
	b.shared = NULL;
	if (!b.failed && !order_anybody_began()) {
		block_fault(cudaErrorLaunchFailure,
			"kernel %s: no thread calls device_begin(), so the launch may be over "
			"before "
			"the one before it",
			l->name);
		b.failed = true;
	}
	return !b.failed;
}

void block_fault(int error, const char *format, ...)
{
	char what[640], all[960];
	va_list list;
	va_start(list, format);
	vsnprintf(what, sizeof what, format, list);
	va_end(list);
	if (!b.inside) {
		fault_set(error, what);
		return;
	}
	const struct dim3 *t = &b.thread[b.running].index;
	snprintf(all, sizeof all, "kernel %s, block (%u,%u,%u), thread (%u,%u,%u): %s",
		b.launch->name, b.index.x, b.index.y, b.index.z, t->x, t->y, t->z, what);
	fault_set(error, all);
	b.failed = true;
	to_host();
}

bool block_inside(void)
{
	return b.inside;
}

unsigned block_thread(void)
{
	return b.running;
}

const char *block_kernel(void)
{
	return b.launch->name;
}

unsigned block_number(unsigned *n_blocks)
{
	const struct dim3 *grid = &b.launch->grid;

	*n_blocks = grid->x * grid->y * grid->z;
	return (b.index.z * grid->y + b.index.y) * grid->x + b.index.x;
}

bool block_own_stack(const void *at)
{
	const struct fiber *f = &b.thread[b.running].fiber;
	return (uintptr_t)at - (uintptr_t)f->stack < f->size;
}

/* ---- threadIdx and its like ---- */

static struct simt_index index_of(dim3 d)
{
	return (struct simt_index){d.x, d.y, d.z};
}

struct simt_index simt_thread_index(void)
{
	return index_of(b.thread[b.running].index);
}

struct simt_index simt_block_index(void)
{
	return index_of(b.index);
}

struct simt_index simt_block_size(void)
{
	return index_of(b.launch->block);
}

struct simt_index simt_grid_size(void)
{
	return index_of(b.launch->grid);
}

void *simt_shared(void)
{
	return b.shared;
}
