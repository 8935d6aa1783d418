/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which windows spare a rule most searches without changing what it finds.
 *
 * Start windows always may: refuting a start that fits none is what PCRE2 would have said too,
 * however much of the text is there. A needed window further behind is only used where an attempt
 * has a bounded reach and a bounded number of steps: then an attempt without that window near it
 * finds nothing, and neither holds text back nor reaches a limit. Bounds are generous and
 * frequencies rough; the former must be right, the latter need not.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"

enum { REACH_MAX = 4000 };

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

/* Expected fits a byte of text. */
static double frequency(const struct guard_window *w, unsigned n)
{
	double sum = 0;

	for (unsigned i = 0; i < n; i++) {
		double product = guard_filter_weight(w[i].prev) / 1e6;
		for (unsigned j = 0; j < w[i].n; j++)
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

/* The class of the first character, when the node begins with nothing but one. */
static const struct guard_class *first_class(const struct guard_node *n)
{
	while (n && n->kind != GUARD_NODE_CLASS) {
		if ((n->kind == GUARD_NODE_ALT && n->child->next) ||
			(n->kind == GUARD_NODE_REPEAT && n->min == 0) ||
			(n->kind != GUARD_NODE_ALT && n->kind != GUARD_NODE_CAT &&
				n->kind != GUARD_NODE_REPEAT))
			return NULL;
		n = n->child;
	}
	return n ? &n->class : NULL;
}

/* Whether no character matches both. */
static bool is_disjoint(const struct guard_class *a, const struct guard_class *b)
{
	uint64_t x = a->beyond, y = b->beyond;

	x |= (uint64_t)a->kelvin << 0x22 | (uint64_t)a->long_s << 5;
	y |= (uint64_t)b->kelvin << 0x22 | (uint64_t)b->long_s << 5;
	return !(a->ascii[0] & b->ascii[0]) && !(a->ascii[1] & b->ascii[1]) && !(x & y);
}

/* Whether a repeat of one class is followed by what cannot begin inside it: then only one number of
 * rounds can go on. */
static bool is_forced(const struct guard_node *repeat)
{
	const struct guard_class *a, *b;

	if (repeat->kind != GUARD_NODE_REPEAT || !repeat->next)
		return false;
	a = guard_syntax_single_class(repeat->child);
	b = first_class(repeat->next);
	return a && b && is_disjoint(a, b);
}

/* The next place of a branch, if it certainly is one character; NULL behind the last such. */
static const struct guard_node *place_of(const struct guard_node *n)
{
	return n && n->kind == GUARD_NODE_CLASS ? n : NULL;
}

/* Whether no text can match both sequences: some place differs. */
static bool exclude(const struct guard_node *a, const struct guard_node *b)
{
	a = place_of(a->child);
	b = place_of(b->child);
	for (; a && b; a = place_of(a->next), b = place_of(b->next))
		if (is_disjoint(&a->class, &b->class))
			return true;
	return false;
}

static void weigh(struct guard_node *n);

/* The branches that can match at one place can all match with each other. */
static void weigh_alt(struct guard_node *n)
{
	n->ways = 0;
	for (struct guard_node *c = n->child; c && n->steps < 1e12; c = c->next) {
		double ways = 0;
		weigh(c);
		n->steps += c->steps;
		for (struct guard_node *d = n->child; d; d = d->next) {
			weigh(d);
			ways += exclude(c, d) ? 0 : d->ways;
		}
		n->ways = fmax(n->ways, ways);
	}
}

static void weigh_cat(struct guard_node *n)
{
	for (struct guard_node *c = n->child; c; c = c->next) {
		weigh(c);
		n->steps += n->ways * (c->steps + (is_forced(c) ? c->ways : 0));
		n->ways *= is_forced(c) ? 1 : c->ways;
	}
}

static void weigh_repeat(struct guard_node *n)
{
	double ways = 1;

	weigh(n->child);
	n->ways = n->min == 0;
	if (n->max == GUARD_REPEAT_MANY)
		n->ways = n->steps = (double)INFINITY;
	for (unsigned i = 1; i <= n->max && n->steps < 1e12; i++) {
		n->steps += ways * n->child->steps;
		ways *= n->child->ways;
		if (i >= n->min)
			n->ways += ways;
	}
	if (n->atomic)
		n->ways = 1;
}

/* In how many ways can one get through a node, and how many steps is it to try them all. */
static void weigh(struct guard_node *n)
{
	if (n->weighed)
		return;
	n->weighed = true;
	n->ways = n->steps = 1;
	switch (n->kind) {
	case GUARD_NODE_CAT:
		weigh_cat(n);
		break;
	case GUARD_NODE_ALT:
		weigh_alt(n);
		break;
	case GUARD_NODE_REPEAT:
		weigh_repeat(n);
		break;
	case GUARD_NODE_AHEAD:
		weigh(n->child);
		n->steps += n->child->steps;
		break;
	case GUARD_NODE_ANYTHING:
		n->ways = n->steps = (double)INFINITY;
		break;
	default:
		break;
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
		if (before > 0)
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
	double bytes = reach(tree) + 8; /* and a character that \b or $ looks at */
	double starts;
	int r;

	*out = (struct guard_filter){0};
	r = guard_windows_of(tree, false, &out->start, &out->n_start);
	weigh(tree);
	starts = out->n_start ? frequency(out->start, out->n_start) : 1;
	if (r == 0 && starts > 2e-6 && bytes < REACH_MAX && tree->steps * 2 < GUARD_STEP_MAX)
		r = find_need(out, tree, starts);
	if (out->n_need) {
		out->extent = (size_t)bytes;
		out->common = starts > 0.02;
	}
	return r;
}

void guard_filter_free(struct guard_filter *f)
{
	free(f->start);
	free(f->need);
	*f = (struct guard_filter){0};
}
