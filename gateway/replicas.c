/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load is outstanding / weight. Where loads are equal (mostly 0, when requests come one after
 * another) they take turns by stride: each turn moves a replica 1 / weight further, and the one
 * that is furthest behind is next; one that was out does not make up for what it missed.
 *
 * What was where is remembered in a table with one place for each rest of the number: a
 * conversation that lost its place to another is only sent where there is least to do.
 */
#include "gateway/replicas.h"

void replicas_add(struct replicas *r, uint32_t weight, const struct breaker *breaker)
{
	r->list[r->n++] = (struct replica){
		.breaker = *breaker, .weight = weight ? weight : 1, .turn = r->turn};
}

bool replicas_can_take(const struct replica *p, uint64_t now_ns)
{
	return !p->down && now_ns >= p->hold_until_ns &&
	       breaker_check(&p->breaker, now_ns) != BREAKER_REFUSED;
}

static double load(const struct replica *p)
{
	return (double)p->outstanding / p->weight;
}

static double next_turn(const struct replica *p)
{
	return p->turn + 1.0 / p->weight;
}

/* Those that were out, and are back, do not make up for what they missed. */
static void take_back(struct replicas *r, uint64_t now_ns)
{
	for (size_t i = 0; i < r->n; i++) {
		struct replica *p = &r->list[i];
		bool out = !replicas_can_take(p, now_ns);
		if (p->out && !out && p->turn < r->turn)
			p->turn = r->turn;
		p->out = out;
	}
}

/* Of those that are not in `without`; r->n: none. */
static size_t least_loaded(const struct replicas *r, uint32_t without, uint64_t now_ns)
{
	size_t best = r->n;
	for (size_t i = 0; i < r->n; i++) {
		const struct replica *p = &r->list[i], *b = &r->list[best < r->n ? best : 0];
		if (without & 1u << i || !replicas_can_take(p, now_ns))
			continue;
		if (best == r->n || load(p) < load(b) ||
			(load(p) == load(b) && next_turn(p) < next_turn(b)))
			best = i;
	}
	return best;
}

static struct replicas_memory *memory_of(struct replicas *r, uint64_t affinity)
{
	return &r->remembered[(affinity * 0x9E3779B97F4A7C15u) >> 54];
}

_Static_assert(REPLICAS_REMEMBERED == 1 << (64 - 54), "the shift in memory_of");

/* The one that had it before, if that may take it and has not much more to do than `best`. */
static size_t prefer(
	struct replicas *r, uint64_t affinity, uint32_t without, size_t best, uint64_t now_ns)
{
	const struct replicas_memory *m = memory_of(r, affinity);
	if (!m->known || m->affinity != affinity || without & 1u << m->replica)
		return best;
	const struct replica *p = &r->list[m->replica];
	double share = load(&r->list[best]) * p->weight;
	return replicas_can_take(p, now_ns) && p->outstanding <= share + REPLICAS_SLACK ? m->replica
											: best;
}

int replicas_choose(struct replicas *r, uint64_t affinity, uint32_t tried, uint64_t now_ns,
	struct replicas_pick *out)
{
	uint32_t without = tried;
	take_back(r, now_ns);
	size_t i = least_loaded(r, without, now_ns);
	if (i == r->n && tried) {
		without = 0;
		i = least_loaded(r, without, now_ns);
	}
	if (i == r->n)
		return 1;
	if (affinity)
		i = prefer(r, affinity, without, i, now_ns);
	struct replica *p = &r->list[i];
	r->turn = p->turn;
	p->turn = next_turn(p);
	p->outstanding++;
	if (affinity)
		*memory_of(r, affinity) = (struct replicas_memory){affinity, (uint32_t)i, true};
	*out = (struct replicas_pick){i, breaker_enter(&p->breaker, now_ns)};
	return 0;
}

void replicas_done(
	struct replicas *r, const struct replicas_pick *pick, enum breaker_end end, uint64_t now_ns)
{
	struct replica *p = &r->list[pick->replica];
	p->outstanding--;
	breaker_leave(&p->breaker, pick->pass, end, now_ns);
}

void replicas_hold(struct replicas *r, size_t replica, uint64_t until_ns)
{
	struct replica *p = &r->list[replica];
	if (p->hold_until_ns < until_ns)
		p->hold_until_ns = until_ns;
}

bool replicas_can(const struct replicas *r, uint64_t now_ns)
{
	return least_loaded(r, 0, now_ns) < r->n;
}

size_t replicas_next(const struct replicas *r, uint64_t now_ns, uint64_t *wait_ns)
{
	size_t first = 0;
	*wait_ns = UINT64_MAX;
	for (size_t i = 0; i < r->n; i++) {
		const struct replica *p = &r->list[i];
		uint64_t wait = p->down ? UINT64_MAX : breaker_wait_ns(&p->breaker, now_ns);
		if (p->hold_until_ns > now_ns && p->hold_until_ns - now_ns > wait)
			wait = p->hold_until_ns - now_ns;
		if (wait < *wait_ns) {
			*wait_ns = wait;
			first = i;
		}
	}
	return first;
}
