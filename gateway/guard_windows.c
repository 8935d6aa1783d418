/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a match must look like in some place, as windows of a few bytes.
 *
 * All ways through the tree are walked at once, each as the window it has filled so far. A way ends
 * when its window is full, or early, where what comes next has no known length in bytes; the places
 * it did not fill hold every byte. If there are too many ways, the walk is repeated with shorter
 * windows. Windows that differ in one place only are one.
 *
 * A walk that is not of consumed text only includes what look-aheads look at: an attempt that fits
 * none of the windows has failed before it could run into the end of the text. It has failed within
 * the free steps too: PCRE2's compiled code counts one when it comes out of a group or a
 * repetition, which is done here for all texts together.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"

enum { WAYS_MAX = 512 };

struct way {
	struct guard_window w;
	bool boundary; /* \b stood where the window begins */
};

struct ways {
	struct way *way;
	size_t n, cap;
};

struct walk {
	struct ways done;
	unsigned width;
	bool consumed_only; /* leave look-aheads out */
	double passed;      /* ways out of groups: refuting them all takes no more steps */
	bool nothing;       /* a way says nothing at all */
	bool too_many, no_memory;
};

static bool stopped(const struct walk *k)
{
	return k->nothing || k->too_many || k->no_memory;
}

static void add(struct walk *k, struct ways *list, const struct way *way)
{
	if (list->n == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 8;
		struct way *w = cap > WAYS_MAX ? NULL : realloc(list->way, cap * sizeof(*w));
		if (!w) {
			k->too_many |= cap > WAYS_MAX;
			k->no_memory |= cap <= WAYS_MAX;
			return;
		}
		list->way = w;
		list->cap = cap;
	}
	list->way[list->n++] = *way;
}

static void add_all(struct walk *k, struct ways *list, const struct ways *more)
{
	for (size_t i = 0; i < more->n && !stopped(k); i++)
		add(k, list, &more->way[i]);
}

static void close_way(struct walk *k, const struct way *way)
{
	if (way->w.n == 0)
		k->nothing = true;
	else
		add(k, &k->done, way);
}

static const uint64_t word_bits[2] = {UINT64_C(0x03ff) << 48, UINT64_C(0x07fffffe87fffffe)};

/* What \b before a character of this class says about the byte before it. */
static void apply_boundary(uint64_t prev[5], const uint64_t ascii[2])
{
	bool inside = true, outside = true;

	for (unsigned i = 0; i < 2; i++) {
		inside &= (ascii[i] & ~word_bits[i]) == 0;
		outside &= (ascii[i] & word_bits[i]) == 0;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (inside)
			prev[i] &= ~word_bits[i];
		else if (outside)
			prev[i] &= word_bits[i];
	}
	if (outside && !inside)
		prev[4] = 0;
}

/* Characters of one length, and perhaps more, as sets of bytes in a row. */
struct chars {
	uint64_t byte[4][4];
	unsigned n;
};

/* A range of characters of one length: behind the first byte that differs, any. */
static void chars_of_range(struct chars *out, uint32_t first, uint32_t last)
{
	char low[4], high[4];
	bool same = true;

	*out = (struct chars){.n = (unsigned)utf8_encode(first, low)};
	utf8_encode(last, high);
	for (unsigned i = 0; i < out->n; i++) {
		unsigned a = same ? (unsigned char)low[i] : 0x80;
		unsigned b = same ? (unsigned char)high[i] : 0xbf;
		for (unsigned c = a; c <= b; c++)
			out->byte[i][c >> 6] |= UINT64_C(1) << (c & 63);
		same &= a == b;
	}
}

/* The characters of a class that are not ASCII; those with the same first bytes together, so that
 * there are fewer ways. Their number. */
static unsigned chars_of_class(struct chars out[GUARD_CLASS_FEW], const struct guard_class *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n_few; i++) {
		unsigned k = 0;
		chars_of_range(&out[n], c->few[i].first, c->few[i].last);
		while (k < n && memcmp(out[k].byte[0], out[n].byte[0], sizeof(out[n].byte[0])) != 0)
			k++;
		for (unsigned j = 1; k < n && j < 4; j++)
			for (unsigned word = 0; word < 4; word++)
				out[k].byte[j][word] |= out[n].byte[j][word];
		n += k == n;
	}
	return n;
}

/* The way with the bytes of one character; it goes on if there is room. */
static void walk_chars(
	struct walk *k, const struct way *in, const struct chars *c, struct ways *out)
{
	struct way way = *in;

	for (unsigned i = 0; i < c->n && way.w.n < k->width; i++)
		memcpy(way.w.byte[way.w.n++], c->byte[i], sizeof(c->byte[i]));
	add(k, way.w.n == k->width ? &k->done : out, &way);
}

static void walk_char(struct walk *k, const struct way *in, uint32_t c, struct ways *out)
{
	struct chars one;

	chars_of_range(&one, c, c);
	walk_chars(k, in, &one, out);
}

static void walk_class(
	struct walk *k, const struct ways *in, const struct guard_class *c, struct ways *out)
{
	struct chars few[GUARD_CLASS_FEW];
	unsigned n_few = c->many ? 0 : chars_of_class(few, c);

	for (size_t i = 0; i < in->n && !stopped(k); i++) {
		struct way way = in->way[i], beyond = way;
		uint64_t *set = way.w.byte[way.w.n++];

		memcpy(set, c->ascii, sizeof(c->ascii));
		set[2] = set[3] = 0;
		if (way.boundary && way.w.n == 1)
			apply_boundary(way.w.prev, c->ascii);
		if (c->ascii[0] | c->ascii[1])
			add(k, way.w.n == k->width ? &k->done : out, &way);
		if (c->kelvin)
			walk_char(k, &in->way[i], 0x212a, out);
		if (c->long_s)
			walk_char(k, &in->way[i], 0x17f, out);
		for (unsigned j = 0; j < n_few && !stopped(k); j++)
			walk_chars(k, &in->way[i], &few[j], out);
		if (!c->many)
			continue;
		set = beyond.w.byte[beyond.w.n++];
		memset(set, 0, sizeof(beyond.w.byte[0]));
		set[3] = c->beyond;
		add(k, &k->done, &beyond);
	}
}

/* What an assertion before the window says about the byte before it. */
static void apply_assertion(struct way *way, const struct guard_node *n)
{
	const struct guard_class *c;
	uint64_t *prev = way->w.prev;

	switch (n->kind) {
	case GUARD_NODE_BOUNDARY:
		way->boundary = true;
		break;
	case GUARD_NODE_START:
		memset(prev, 0, 4 * sizeof(*prev));
		break;
	case GUARD_NODE_LINE_START:
		prev[0] &= UINT64_C(1) << '\n';
		prev[1] = prev[2] = prev[3] = 0;
		break;
	case GUARD_NODE_BEHIND:
	case GUARD_NODE_NOT_BEHIND:
		c = guard_syntax_single_class(n->child);
		for (unsigned i = 0; c && i < 2; i++) {
			if (n->kind == GUARD_NODE_BEHIND)
				prev[i] &= c->ascii[i];
			else if (c->exact)
				prev[i] &= ~c->ascii[i];
		}
		if (n->kind == GUARD_NODE_BEHIND && c)
			prev[4] = 0;
		break;
	default:
		break;
	}
}

static void walk(
	struct walk *k, const struct ways *in, const struct guard_node *n, struct ways *out);

static void walk_cat(
	struct walk *k, const struct ways *in, const struct guard_node *child, struct ways *out)
{
	struct ways now = {0}, then = {0};

	add_all(k, &now, in);
	for (; child && now.n && !stopped(k); child = child->next) {
		then.n = 0;
		walk(k, &now, child, &then);
		struct ways swap = now;
		now = then;
		then = swap;
	}
	add_all(k, out, &now);
	free(now.way);
	free(then.way);
}

/* After as many rounds as a window has places, only ways of no length are left. */
static void walk_repeat(
	struct walk *k, const struct ways *in, const struct guard_node *n, struct ways *out)
{
	struct ways now = {0}, then = {0};

	add_all(k, &now, in);
	if (n->min == 0)
		add_all(k, out, &now);
	for (unsigned i = 1; i <= n->max && i <= n->min + k->width && now.n && !stopped(k); i++) {
		then.n = 0;
		walk(k, &now, n->child, &then);
		struct ways swap = now;
		now = then;
		then = swap;
		if (i >= n->min)
			add_all(k, out, &now);
		else if (i > k->width)
			i = n->min - 1; /* the rest of the least number adds nothing */
	}
	free(now.way);
	free(then.way);
}

static void walk_ahead(
	struct walk *k, const struct ways *in, const struct guard_node *n, struct ways *out)
{
	struct ways seen = {0};

	if (!k->consumed_only) {
		walk(k, in, n->child, &seen);
		for (size_t i = 0; i < seen.n && !stopped(k); i++)
			if (seen.way[i].w.n > 0)
				add(k, &k->done, &seen.way[i]);
	}
	add_all(k, out, in);
	free(seen.way);
}

/* In how many ways a look-behind may be gone through. Adds to *passed how often one comes out of a
 * group of it. */
static double ways_behind(const struct guard_node *n, double before, double *passed)
{
	unsigned rounds = n->kind == GUARD_NODE_REPEAT ? n->max : 1;
	double ways = before, sum = 0;

	for (unsigned i = 0; i < rounds && *passed < GUARD_STEP_FREE; i++)
		for (const struct guard_node *c = n->child; c; c = c->next) {
			double one = ways_behind(c, ways, passed);
			sum += one;
			ways = n->kind == GUARD_NODE_ALT ? ways : one;
		}
	ways = n->kind == GUARD_NODE_ALT ? sum : ways;
	if (n->kind != GUARD_NODE_CAT && n->child)
		*passed += rounds * ways;
	return ways;
}

/* The end, or a newline that may be the last: whether it is depends on what stands behind it, so a
 * way ends there. */
static void walk_end(struct walk *k, const struct ways *in, struct ways *out)
{
	for (size_t i = 0; i < in->n && !stopped(k); i++)
		walk_char(k, &in->way[i], '\n', &k->done);
	add_all(k, out, in);
}

static void walk_kind(
	struct walk *k, const struct ways *in, const struct guard_node *n, struct ways *out);

static void walk(
	struct walk *k, const struct ways *in, const struct guard_node *n, struct ways *out)
{
	size_t before = out->n;

	walk_kind(k, in, n, out);
	if (n->kind == GUARD_NODE_REPEAT || n->kind == GUARD_NODE_ALT ||
		n->kind == GUARD_NODE_AHEAD)
		k->passed += (double)(out->n - before);
	if (n->kind == GUARD_NODE_BEHIND || n->kind == GUARD_NODE_NOT_BEHIND)
		ways_behind(n->child, (double)in->n, &k->passed);
}

static void walk_kind(
	struct walk *k, const struct ways *in, const struct guard_node *n, struct ways *out)
{
	switch (n->kind) {
	case GUARD_NODE_CLASS:
		walk_class(k, in, &n->class, out);
		return;
	case GUARD_NODE_CAT:
		walk_cat(k, in, n->child, out);
		return;
	case GUARD_NODE_ALT:
		for (const struct guard_node *c = n->child; c && !stopped(k); c = c->next)
			walk(k, in, c, out);
		return;
	case GUARD_NODE_REPEAT:
		walk_repeat(k, in, n, out);
		return;
	case GUARD_NODE_AHEAD:
		walk_ahead(k, in, n, out);
		return;
	case GUARD_NODE_END:
		walk_end(k, in, out);
		return;
	case GUARD_NODE_ANYTHING:
		for (size_t i = 0; i < in->n && !stopped(k); i++)
			close_way(k, &in->way[i]);
		return;
	default:
		for (size_t i = 0; i < in->n && !stopped(k); i++) {
			struct way way = in->way[i];
			if (way.w.n == 0)
				apply_assertion(&way, n);
			add(k, out, &way);
		}
	}
}

/* ---- fewer windows ---- */

/* Joins b into a when they differ in one place at most. */
static bool join(struct guard_window *a, const struct guard_window *b)
{
	unsigned place = GUARD_WINDOW + 1, differ = 0;

	if (a->n != b->n)
		return false;
	for (unsigned i = 0; i < a->n && differ < 2; i++)
		if (memcmp(a->byte[i], b->byte[i], sizeof(a->byte[i])) != 0) {
			differ++;
			place = i;
		}
	if (differ < 2 && memcmp(a->prev, b->prev, sizeof(a->prev)) != 0) {
		differ++;
		place = GUARD_WINDOW;
	}
	if (differ > 1)
		return false;
	for (unsigned i = 0; place < GUARD_WINDOW && i < 4; i++)
		a->byte[place][i] |= b->byte[place][i];
	for (unsigned i = 0; place == GUARD_WINDOW && i < 5; i++)
		a->prev[i] |= b->prev[i];
	return true;
}

static void join_all(struct ways *list)
{
	bool again = true;

	while (again) {
		again = false;
		for (size_t i = 0; i < list->n; i++)
			for (size_t j = i + 1; j < list->n;) {
				if (join(&list->way[i].w, &list->way[j].w)) {
					list->way[j] = list->way[--list->n];
					again = true;
				} else {
					j++;
				}
			}
	}
}

int guard_windows_of(
	const struct guard_node *first, bool consumed_only, struct guard_window **out, unsigned *n)
{
	struct way empty = {.w.n = 0};
	struct ways in = {&empty, 1, 1};
	bool no_memory = false;

	memset(empty.w.byte, 0xff, sizeof(empty.w.byte));
	memset(empty.w.prev, 0xff, sizeof(empty.w.prev));
	*out = NULL;
	*n = 0;
	for (unsigned width = consumed_only ? GUARD_NEED_WINDOW : GUARD_WINDOW;
		width > 0 && !*out && !no_memory; width--) {
		struct walk k = {.width = width, .consumed_only = consumed_only};
		struct ways rest = {0};
		walk_cat(&k, &in, first, &rest);
		for (size_t i = 0; i < rest.n && !stopped(&k); i++)
			close_way(&k, &rest.way[i]);
		if (!consumed_only && k.passed >= GUARD_STEP_FREE)
			k.too_many = true;
		if (!stopped(&k))
			join_all(&k.done);
		no_memory = k.no_memory;
		if (!stopped(&k) && k.done.n && k.done.n <= GUARD_WINDOWS_MAX)
			*out = calloc(k.done.n, sizeof(**out));
		for (size_t i = 0; *out && i < k.done.n; i++)
			(*out)[(*n)++] = k.done.way[i].w;
		free(rest.way);
		free(k.done.way);
		if (k.nothing)
			break;
	}
	return no_memory ? -ENOMEM : 0;
}
