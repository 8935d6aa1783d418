/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One rule on its way through a text that grows.
 *
 * What an attempt from one start says depends on the text up to GUARD_HOLD_MAX bytes behind the
 * start, and on nothing else. So the state, the leftmost start not yet refuted, is a function of
 * the text alone. A match is only believed if it did not touch the end of what is there, because
 * more text could make it another one.
 *
 * Most starts are done in a few steps within a window that ends near behind them, at a place that
 * only depends on the offset; many are tried in one search. Those that are not, the dear ones, are
 * tried alone, with every step counted (guard_scan.c) and paid for, once they are decided: what a
 * rule has spent before a start is a function of the text as well. Two things keep it one. As the
 * end of the text moves, a dear start is tried again only when it has moved by a quarter of a
 * doubling, counted from the start. And nothing is paid for a start that a filter may skip: by its
 * first bytes it is never dear, and a needed window is asked for before a start is paid for, held
 * back for want of text, or given up.
 *
 * A match that fails its check is stepped over by one character: what begins inside it is still
 * looked at. A start of a warn rule that reaches a limit is given up, and with it the
 * GUARD_HOLD_MAX bytes behind it, so that such a rule costs no more than it is worth.
 *
 * Places found by the prefilter only spare searches: starts between them are those that PCRE2 would
 * refute without touching the end (guard_filter.c).
 */
#include <errno.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"

/* The first character at or behind i of n bytes. */
static size_t round_up(const char *text, size_t i, size_t n)
{
	while (i < n && utf8_is_inside(text[i]))
		i++;
	return i;
}

static size_t round_down(const char *text, size_t i, size_t n)
{
	while (i < n && i > 0 && utf8_is_inside(text[i]))
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
	struct guard_cost *cost;
	bool over; /* the rule blocks: nothing else of it matters */
};

/* Without places: a few starts at the end of the text are looked at here, which is cheaper than
 * asking PCRE2. */
static size_t skip_refuted(const struct track *t, size_t s)
{
	const struct guard_filter *f = &t->rule->filter;
	const unsigned char *text = (const unsigned char *)t->text;

	if (!f->n_start || f->n_start > 8 || t->rule->searched)
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
	bool starts = f->n_start && !f->common && !t->rule->searched;
	size_t unsure = t->view->ended ? 0
				       : f->before + GUARD_NEED_WINDOW -
						 1; /* starts at the end, too near to tell */
	size_t sure = t->n > unsure ? t->n - unsure : 0, need;

	*last = t->n - 1;
	if (!t->places)
		return skip_refuted(t, s);
	while (s < t->n) {
		if (starts)
			s = next_place(t, &t->start, s);
		*last = starts && t->start ? s : t->n - 1;
		if (!f->n_need || t->rule->searched || s >= sure)
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

/* A match was found. Goes on at *s. */
static int take_match(struct track *t, size_t a, size_t b, size_t *s)
{
	if (!guard_check_passes(t->rule->check, t->text + a, b - a)) {
		*s = round_up(t->text, a + 1, t->n);
		return 0;
	}
	*s = b;
	return add_hit(t, a, b, "match", false);
}

/* ---- dear starts ---- */

/* The start waits at `at` until the text ends at `end`. */
static int wait_for(struct track *t, size_t at, size_t end, size_t *s)
{
	*s = at;
	t->cost->retry = t->view->base + end;
	return 1;
}

/* Whether all text is there that a needed window of this start can be in. */
static bool sees_need(const struct track *t, size_t at)
{
	return t->view->ended || t->n - at >= t->rule->filter.before + GUARD_NEED_WINDOW;
}

/* Whether a needed window begins near enough behind a start that sees it, if it needs one. */
static bool has_need(struct track *t, size_t at)
{
	const struct guard_filter *f = &t->rule->filter;
	const unsigned char *text = (const unsigned char *)t->text;
	size_t base = t->view->base;
	size_t i = t->cost->clear > base + at ? t->cost->clear - base : at;

	if (!f->n_need)
		return true;
	for (; i <= at + f->before && i < t->n; i++) {
		unsigned prev = i > 0 ? text[i - 1] : GUARD_MARK_TEXT_START;
		for (unsigned k = 0; k < f->n_need; k++)
			if (guard_window_fits(&f->need[k], text + i, t->n - i, prev))
				return true;
		t->cost->clear = base + i + 1;
	}
	return false;
}

/* Of n bytes behind a start, those that an attempt is made with: n in two binary digits behind the
 * first one. */
static size_t stage_of(size_t n)
{
	unsigned bits = 0;

	while (n >> bits > 7)
		bits++;
	return n >> bits << bits;
}

static size_t next_stage(size_t n)
{
	size_t step = 1;

	while (n / step > 7)
		step *= 2;
	return n + step;
}

/* An attempt at `at`, counted. 0: go on at *s; 1: wait at *s for more text; -ENOMEM. */
static int try_counted(struct track *t, size_t at, size_t *s)
{
	size_t behind = t->n - at < GUARD_HOLD_MAX ? t->n - at : GUARD_HOLD_MAX;
	size_t stage = t->view->ended ? behind : stage_of(behind);
	size_t window = round_down(t->text, at + stage, t->n), b;
	bool ended = t->view->ended && window == t->n;
	uint64_t allowed = GUARD_STEP_TEXT + (uint64_t)GUARD_STEP_BYTE * (t->view->base + at),
		 steps;
	uint64_t max = allowed > t->cost->spent ? allowed - t->cost->spent : 0;
	enum guard_scan_result r;

	max = max < GUARD_STEP_MAX ? max : GUARD_STEP_MAX;
	r = guard_scan_counted(t->rule, t->text, window, at, ended, max, &steps, &b);
	if (r == GUARD_SCAN_NO_MEMORY)
		return -ENOMEM;
	if (r == GUARD_SCAN_PARTIAL && stage < GUARD_HOLD_MAX)
		return wait_for(t, at, at + next_stage(stage), s);
	t->cost->spent += steps;
	switch (r) {
	case GUARD_SCAN_NONE:
		*s = round_up(t->text, at + 1, t->n);
		return 0;
	case GUARD_SCAN_MATCH:
		return take_match(t, at, b, s);
	case GUARD_SCAN_PARTIAL:
		return reach_limit(t, at, "hold limit", s);
	default:
		return reach_limit(t, at, max < GUARD_STEP_MAX ? "step budget" : "step limit", s);
	}
}

/* The start at `at` needs more than what is free. As try_counted. */
static int try_dear(struct track *t, size_t at, size_t *s)
{
	const struct guard_filter *f = &t->rule->filter;

	if (f->n_need && !sees_need(t, at))
		return wait_for(t, at, at + f->before + GUARD_NEED_WINDOW, s);
	if (has_need(t, at))
		return try_counted(t, at, s);
	*s = round_up(t->text, at + 1, t->n);
	return 0;
}

/* ---- searches ---- */

/* Some start in s..last takes more than the free steps: *a is the first that is not refuted. */
static enum guard_scan_result first_of(const struct track *t, size_t s, size_t last, size_t window,
	bool ended, size_t *a, size_t *b)
{
	for (; s <= last; s = round_up(t->text, s + 1, t->n)) {
		enum guard_scan_result r = guard_scan_at(t->rule, t->text, window, s, ended, b);
		*a = s;
		if (r != GUARD_SCAN_NONE)
			return r;
	}
	return GUARD_SCAN_NONE;
}

/* One search from *s. 0: go on at *s; 1: wait at *s for more text; -ENOMEM. */
static int search(struct track *t, size_t *s, size_t last)
{
	size_t behind = GUARD_NEAR - (t->view->base + *s) % GUARD_NEAR; /* of starts searched */
	size_t window = *s + behind + GUARD_NEAR, a, b;
	bool ended;
	enum guard_scan_result r;

	window = window < t->n ? round_down(t->text, window, t->n) : t->n;
	ended = t->view->ended && window == t->n;
	last = last < *s + behind ? last : *s + behind - 1;
	last = last < window ? last : window - 1;
	r = guard_scan(t->rule, t->text, window, *s, last, ended, &a, &b);
	if (r == GUARD_SCAN_LIMIT)
		r = first_of(t, *s, last, window, ended, &a, &b);
	if (r == GUARD_SCAN_NO_MEMORY)
		return -ENOMEM;
	if (r == GUARD_SCAN_NONE || (r != GUARD_SCAN_LIMIT && a > last)) {
		*s = round_up(t->text, last + 1, t->n);
		return 0;
	}
	if (r == GUARD_SCAN_MATCH)
		return take_match(t, a, b, s);
	if (r == GUARD_SCAN_PARTIAL && window == t->n) {
		bool refuted = sees_need(t, a) && !has_need(t, a);
		*s = refuted ? round_up(t->text, a + 1, t->n) : a;
		return !refuted;
	}
	return try_dear(t, a, s);
}

int guard_track(const struct guard_rule *rule, size_t rank, const struct guard_view *view,
	size_t *p, struct guard_cost *cost, const struct guard_places *places, size_t index,
	struct guard_hits *hits)
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
		.cost = cost,
	};
	size_t s, last;
	int r = 0;

	if (*p >= view->end || (view->end < cost->retry && !view->ended))
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
