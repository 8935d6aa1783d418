/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One rule on its way through a text that grows.
 *
 * What an attempt from one start says depends on the text up to GUARD_HOLD_MAX bytes behind the
 * start, and on nothing else: a search window ends there, and what runs into the window's end is
 * tried again from its own start with its own window. So the state, the leftmost start not yet
 * refuted, is a function of the text alone. A match is only believed if it did not touch the end of
 * what is there, because more text could make it another one.
 *
 * A match that fails its check is stepped over by one character: what begins inside it is still
 * looked at. A start of a warn rule that reaches a limit is given up, and with it the
 * GUARD_HOLD_MAX bytes behind it, so that such a rule costs no more than it is worth.
 *
 * Places found by the prefilter only spare searches: starts between them are those that PCRE2 would
 * refute without touching the end (guard_filter.c).
 */
#include <errno.h>
#include <stdlib.h>

#include "gateway/guard_parts.h"

int guard_hits_add(struct guard_hits *h, const struct guard_hit *hit)
{
	if (h->n == h->cap) {
		size_t cap = h->cap ? 2 * h->cap : 16;
		struct guard_hit *p = realloc(h->hit, cap * sizeof(*p));
		if (!p)
			return -ENOMEM;
		h->hit = p;
		h->cap = cap;
	}
	h->hit[h->n++] = *hit;
	return 0;
}

static bool is_inside(char byte)
{
	return ((unsigned char)byte & 0xC0) == 0x80;
}

/* The first character at or behind i of n bytes. */
static size_t round_up(const char *text, size_t i, size_t n)
{
	while (i < n && is_inside(text[i]))
		i++;
	return i;
}

static size_t round_down(const char *text, size_t i, size_t n)
{
	while (i < n && i > 0 && is_inside(text[i]))
		i--;
	return i;
}

struct track {
	const struct guard_rule *rule;
	size_t rank;
	const struct guard_view *view;
	const struct guard_places *places;
	uint32_t start, need; /* the next places not behind us */
	const char *text;
	size_t n; /* bytes of text */
	struct guard_hits *hits;
	bool over; /* the rule blocks: nothing else of it matters */
};

/* Without places: a few starts at the end of the text are looked at here, which is cheaper than
 * asking PCRE2. */
static size_t skip_refuted(const struct track *t, size_t s)
{
	const struct guard_filter *f = &t->rule->filter;
	const unsigned char *text = (const unsigned char *)t->text;

	if (!f->n_start || f->n_start > 8)
		return s;
	for (unsigned tries = 0; s < t->n && tries < 8; tries++, s++) {
		unsigned prev = s > 0 ? text[s - 1] : GUARD_MARK_TEXT_START;
		for (unsigned i = 0; i < f->n_start; i++)
			if (guard_window_fits(&f->start[i], text + s, t->n - s, prev))
				return s;
	}
	return round_up(t->text, s, t->n);
}

/* The first place of a list at or behind s, n if there is none. *list moves on. */
static size_t next_place(const struct track *t, uint32_t *list, size_t s)
{
	while (*list && t->places->place[*list].at < s)
		*list = t->places->place[*list].next;
	if (*list)
		return t->places->place[*list].at;
	if (t->places->full_from >= t->n)
		return t->n;
	return t->places->full_from > s ? t->places->full_from : s;
}

/* The next start worth trying at or behind s (n: none), and the last one that must be tried before
 * asking again: one that begins like a match, and has what a match needs near it. */
static size_t next_start(struct track *t, size_t s, size_t *last)
{
	const struct guard_filter *f = &t->rule->filter;
	bool whole = !t->view->ended; /* of starts whose reach is not all there nothing is known */
	bool starts = f->n_start && !f->common;
	size_t sure = whole && t->n > f->extent ? t->n - f->extent : whole ? 0 : t->n, need;

	*last = t->n - 1;
	if (!t->places)
		return skip_refuted(t, s);
	while (s < t->n) {
		if (starts)
			s = next_place(t, &t->start, s);
		*last = starts && t->start ? s : t->n - 1;
		if (!f->n_need || s >= sure)
			break;
		need = next_place(t, &t->need, s);
		if (need < t->n && need - s <= f->before) {
			if (!starts && t->need)
				*last = need;
			break;
		}
		s = need < t->n ? need - f->before : t->n;
		if (s > sure)
			s = sure;
	}
	return round_up(t->text, s, t->n);
}

static int add_hit(struct track *t, size_t a, size_t b, const char *why, bool limit)
{
	bool warn = t->rule->action == GUARD_WARN;
	struct guard_hit hit = {
		.rule = t->rule,
		.rank = t->rank,
		.a = t->view->base + a,
		.b = t->view->base + b,
		.why = why,
		.blocks = t->rule->action == GUARD_BLOCK || (limit && !warn),
	};

	t->over = hit.blocks;
	return guard_hits_add(t->hits, &hit);
}

/* The start at `at` has reached a limit. Goes on at *s. */
static int reach_limit(struct track *t, size_t at, const char *why, size_t *s)
{
	*s = at + GUARD_HOLD_MAX;
	return add_hit(t, at, at, why, true);
}

/* The end of the window of a start. */
static size_t window_of(const struct track *t, size_t s)
{
	return t->n - s < GUARD_HOLD_MAX ? t->n : round_down(t->text, s + GUARD_HOLD_MAX, t->n);
}

/* Some start from *s on reached the step limit: which? */
static int step_limit(struct track *t, size_t *s)
{
	size_t at = *s, end = window_of(t, *s);

	while (at < end) {
		size_t window = window_of(t, at);
		bool ended = t->view->ended && window == t->n;
		if (guard_scan_is_limit(t->rule, t->text, window, at, ended))
			return reach_limit(t, at, "step limit", s);
		at = round_up(t->text, at + 1, t->n);
	}
	return reach_limit(t, *s, "step limit", s);
}

/* One search from *s. 0: go on at *s; 1: wait at *s for more text; -ENOMEM. */
static int search(struct track *t, size_t *s, size_t last)
{
	size_t window = window_of(t, *s), a, b;
	bool ended = t->view->ended && window == t->n;

	switch (guard_scan(
		t->rule, t->text, window, *s, last < window ? last : window - 1, ended, &a, &b)) {
	case GUARD_SCAN_NONE:
		*s = round_up(t->text, last < window ? last + 1 : window, t->n);
		return 0;
	case GUARD_SCAN_MATCH:
		if (!guard_check_passes(t->rule->check, t->text + a, b - a)) {
			*s = round_up(t->text, a + 1, t->n);
			return 0;
		}
		*s = b;
		return add_hit(t, a, b, "match", false);
	case GUARD_SCAN_PARTIAL:
		if (t->n - a >= GUARD_HOLD_MAX && a == *s)
			return reach_limit(t, a, "hold limit", s);
		*s = a;
		return window == t->n;
	case GUARD_SCAN_LIMIT:
		return step_limit(t, s);
	default:
		return -ENOMEM;
	}
}

int guard_track(const struct guard_rule *rule, size_t rank, const struct guard_view *view,
	size_t *p, const struct guard_places *places, size_t index, struct guard_hits *hits)
{
	struct track t = {
		.rule = rule,
		.rank = rank,
		.view = view,
		.places = places,
		.start = places ? places->head[2 * index] : 0,
		.need = places ? places->head[2 * index + 1] : 0,
		.text = view->bytes,
		.n = view->end - view->base,
		.hits = hits,
	};
	size_t s, last;
	int r = 0;

	if (*p >= view->end)
		return 0;
	s = round_up(t.text, *p - view->base, t.n);
	while (r == 0 && !t.over && s < t.n) {
		s = next_start(&t, s, &last);
		if (s < t.n)
			r = search(&t, &s, last);
	}
	*p = view->base + s;
	return r < 0 ? r : 0;
}
