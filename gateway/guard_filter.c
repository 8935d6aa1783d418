/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which windows spare a rule most searches without changing what it finds.
 *
 * Start windows always may: refuting a start that fits none is what PCRE2 would have said too,
 * however much of the text is there. A needed window further behind says something once the text
 * is there that it can be in. It refutes a start even if an attempt would have run into the end of
 * the text, or a limit, so guard_track.c asks for it wherever that happens. Bounds are generous and
 * frequencies rough; the former must be right, the latter need not.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"

enum { BEFORE_MAX = 4000 }; /* below GUARD_HOLD_MAX: a start sees what it needs in time */

/* ---- how good they are ---- */

/* Of 10,000 bytes of English text and of programs, about so many. */
static double byte_weight(unsigned b)
{
	static const unsigned short letters[26] = {500, 95, 200, 240, 800, 140, 120, 280, 470, 15,
		50, 270, 160, 460, 480, 140, 8, 400, 430, 600, 190, 65, 120, 30, 115, 10};

	if (b >= 'a' && b <= 'z')
		return letters[b - 'a'];
	if (b >= 'A' && b <= 'Z')
		return letters[b - 'A'] / 20.0;
	if (b == ' ')
		return 1600;
	if (b == '\n')
		return 200;
	if (b >= '0' && b <= '9')
		return 50;
	if (b > 127)
		return 3;
	return b > 32 || b == '\t' ? 40 : 0.1;
}

double guard_filter_weight(const uint64_t set[4])
{
	double sum = 0;

	if (!~(set[0] & set[1] & set[2] & set[3]))
		return 1e6;
	for (unsigned i = 0; i < 4; i++)
		for (uint64_t rest = set[i]; rest; rest &= rest - 1)
			sum += byte_weight(64 * i + (unsigned)__builtin_ctzll(rest));
	return sum > 10000 ? 1e6 : sum * 100;
}

/* Expected fits a byte of text. Words are no chance: more places than four say too little. */
static double frequency(const struct guard_window *w, unsigned n)
{
	double sum = 0;

	for (unsigned i = 0; i < n; i++) {
		double product = guard_filter_weight(w[i].prev) / 1e6;
		for (unsigned j = 0; j < w[i].n && j < 4; j++)
			product *= guard_filter_weight(w[i].byte[j]) / 1e6;
		sum += product;
	}
	return sum;
}

/* ---- bounds ---- */

/* The most bytes that are taken or looked at from the start of the node on. */
static double reach(const struct guard_node *n)
{
	double sum = 0;

	switch (n->kind) {
	case GUARD_NODE_CLASS:
		if (n->class.beyond)
			return 4;
		return n->class.kelvin ? 3 : n->class.long_s ? 2 : 1;
	case GUARD_NODE_CAT:
	case GUARD_NODE_AHEAD:
		for (const struct guard_node *c = n->child; c; c = c->next)
			sum += reach(c);
		return sum;
	case GUARD_NODE_ALT:
		for (const struct guard_node *c = n->child; c; c = c->next)
			sum = fmax(sum, reach(c));
		return sum;
	case GUARD_NODE_REPEAT:
		return n->max == GUARD_REPEAT_MANY ? (double)INFINITY : n->max * reach(n->child);
	case GUARD_NODE_ANYTHING:
		return (double)INFINITY;
	default:
		return 0;
	}
}

/* ---- the choice ---- */

/* Windows that some match needs; how often they fit, and how often one is near a start. */
struct need {
	struct guard_window *w;
	unsigned n;
	double before, often, near;
};

/* The place of a sequence, not its beginning, whose windows are least often near a start. */
static int need_of_cat(struct need *best, const struct guard_node *cat)
{
	double before = 0;
	int r = 0;

	for (const struct guard_node *c = cat->child; c && r == 0; c = c->next) {
		struct need here = {.before = before};
		if (before > 0 && before < BEFORE_MAX)
			r = guard_windows_of(c, true, &here.w, &here.n);
		here.often = frequency(here.w, here.n);
		here.near = here.often * (before + 4) * (1 + here.n / 32.0);
		if (here.w && (!best->w || here.near < best->near)) {
			free(best->w);
			*best = here;
		} else {
			free(here.w);
		}
		before += reach(c);
	}
	return r;
}

/* Of alternatives, that of each. */
static int need_of_alt(struct need *all, const struct guard_node *alt)
{
	for (const struct guard_node *c = alt->child; c; c = c->next) {
		struct need one = {0};
		int r = need_of_cat(&one, c);
		struct guard_window *w = NULL;
		if (one.w && all->n + one.n <= GUARD_WINDOWS_MAX)
			w = realloc(all->w, (all->n + one.n) * sizeof(*w));
		if (!w) {
			free(one.w);
			free(all->w);
			*all = (struct need){0};
			return r;
		}
		memcpy(w + all->n, one.w, one.n * sizeof(*w));
		all->w = w;
		all->n += one.n;
		all->before = fmax(all->before, one.before);
		all->often += one.often;
		all->near += one.near;
		free(one.w);
	}
	return 0;
}

static int find_need(struct guard_filter *f, const struct guard_node *tree, double starts)
{
	struct need need = {0};
	int r = 0;

	while (tree->kind == GUARD_NODE_ALT && !tree->child->next)
		tree = tree->child;
	if (tree->kind == GUARD_NODE_CAT && tree->child && !tree->child->next &&
		tree->child->kind == GUARD_NODE_ALT)
		return find_need(f, tree->child, starts);
	if (tree->kind == GUARD_NODE_CAT)
		r = need_of_cat(&need, tree);
	else if (tree->kind == GUARD_NODE_ALT)
		r = need_of_alt(&need, tree);
	if (!need.w || need.near > 0.7 || need.often > 2 * starts) {
		free(need.w);
		return r;
	}
	f->need = need.w;
	f->n_need = need.n;
	f->before = (size_t)need.before;
	return r;
}

int guard_filter_find(struct guard_filter *out, struct guard_node *tree)
{
	double starts;
	int r;

	*out = (struct guard_filter){0};
	r = guard_windows_of(tree, false, &out->start, &out->n_start);
	starts = out->n_start ? frequency(out->start, out->n_start) : 1;
	if (r == 0 && starts > 2e-6)
		r = find_need(out, tree, starts);
	out->common = out->n_need && starts > 0.02;
	return r;
}

void guard_filter_free(struct guard_filter *f)
{
	free(f->start);
	free(f->need);
	*f = (struct guard_filter){0};
}
