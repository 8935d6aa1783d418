/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A text under judgement.
 *
 * `text` is what is still needed of it: what is held back, what some rule still looks at, and some
 * context before that. Each rule of a pattern has its p, the leftmost start that is not refuted
 * (guard_track.c); no match that is still to come begins before it. So bytes before the least p of
 * all block and redact rules are released, but for redactions that end behind it: those may still
 * grow together with a later match.
 *
 * A piece is taken in slices. If a slice turns out to hold a block, the stream goes back to where
 * the slice began, finds the shortest prefix that blocks by halving (what blocks once blocks with
 * any more text too), releases what the prefix without its last character released, and stops.
 * Slices, like pieces, are therefore invisible.
 *
 * One thread at a time. It does not judge what redaction has left: json and schema see the text as
 * it came.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"

enum { SLICE = 16384, FEW = 48, SLACK = 4096 };

struct guard_stream {
	struct guard_set *set;
	struct buf text;
	size_t base, end; /* offsets of text.data[0] and of what is behind it all */
	uint64_t n_chars; /* counted only if a rule asks */
	struct guard_carry carry;
	size_t *p, *p_before; /* [set->n_patterns] */
	struct guard_cost *cost, *cost_before;
	bool counted; /* some cost is not nothing */
	uint64_t *few_hit;
	uint32_t *few_at;
	struct guard_hits hits; /* certain, not yet told */
	struct guard_hits peeked;
	struct guard_release release;
	struct guard_told told;
	int state;         /* 0; 1: blocked; -errno */
	bool ended, broke; /* broke: it ended before it was whole */
};

/* What taking a slice changes before anything of it is released. */
struct mark {
	size_t n_hits, end, n_chars;
	bool counted;
};

struct guard_stream *guard_stream_new(struct guard_set *set)
{
	/* One block: what begins as zero, then what is written before it is read. */
	size_t n = set->n_patterns + 1, words = set->n_patterns / 64 + 1;
	size_t zero =
		sizeof(struct guard_stream) + n * (sizeof(size_t) + sizeof(struct guard_cost));
	size_t rest = n * (sizeof(size_t) + sizeof(struct guard_cost) + sizeof(uint32_t)) +
		      words * sizeof(uint64_t);
	struct guard_stream *s = atomic_exchange(&set->spare, NULL);

	s = s ? s : malloc(zero + rest);
	if (!s)
		return NULL;
	memset(s, 0, zero);
	s->set = guard_set_ref(set);
	s->p = (size_t *)(s + 1);
	s->cost = (struct guard_cost *)(s->p + n);
	s->p_before = (size_t *)(s->cost + n);
	s->cost_before = (struct guard_cost *)(s->p_before + n);
	s->few_hit = (uint64_t *)(s->cost_before + n);
	s->few_at = (uint32_t *)(s->few_hit + words);
	return s;
}

struct guard_stream *guard_stream_free(struct guard_stream *s)
{
	void *none = NULL;

	if (!s)
		return NULL;
	struct guard_set *set = s->set;
	buf_free(&s->text);
	free(s->hits.hit);
	free(s->peeked.hit);
	free(s->release.cuts);
	free(s->told.finding);
	if (!atomic_compare_exchange_strong(&set->spare, &none, s))
		free(s);
	guard_set_put(set);
	return NULL;
}

static struct guard_view view_of(const struct guard_stream *s, bool ended)
{
	return (struct guard_view){s->text.data ? s->text.data : "", s->base, s->end, ended};
}

/* ---- taking text ---- */

static void save(struct guard_stream *s, struct mark *m)
{
	*m = (struct mark){s->hits.n, s->end, s->n_chars, s->counted};
	memcpy(s->p_before, s->p, s->set->n_patterns * sizeof(*s->p));
	if (s->counted)
		memcpy(s->cost_before, s->cost, s->set->n_patterns * sizeof(*s->cost));
}

static void restore(struct guard_stream *s, const struct mark *m)
{
	s->text.len -= s->end - m->end;
	s->end = m->end;
	s->n_chars = m->n_chars;
	s->hits.n = m->n_hits;
	memcpy(s->p, s->p_before, s->set->n_patterns * sizeof(*s->p));
	if (m->counted)
		memcpy(s->cost, s->cost_before, s->set->n_patterns * sizeof(*s->cost));
	else if (s->counted)
		memset(s->cost, 0, s->set->n_patterns * sizeof(*s->cost));
	s->counted = m->counted;
}

/* One rule, as far as the view allows. */
static int track(struct guard_stream *s, size_t i, const struct guard_view *view,
	const struct guard_places *places)
{
	struct guard_cost *cost = &s->cost[i];
	int r = guard_track(
		s->set->patterns[i], s->set->rank[i], view, &s->p[i], cost, places, i, &s->hits);

	s->counted |= cost->spent || cost->retry;
	return r;
}

/* Whether the prefilter has found that nothing of a rule begins in what is new. guard_track would
 * find the same, in longer. */
static bool begins_nowhere(const struct guard_set *set, size_t i, const struct guard_places *places,
	const struct guard_view *view)
{
	const struct guard_rule *rule = set->patterns[i];

	return !places->head[2 * i] && rule->filter.n_start && !rule->filter.common &&
	       !rule->searched && places->full_from >= view->end - view->base;
}

/* Every rule, with one pass of the prefilter over what is new. */
static int track_whole(struct guard_stream *s, size_t from)
{
	const struct guard_set *set = s->set;
	struct guard_view view = view_of(s, false);
	const struct guard_places *places;
	int r = 0;

	for (size_t i = 0; i < set->n_patterns; i++)
		if (s->p[i] < from)
			from = s->p[i];
	places = guard_prefilter_run(
		set->whole, view.bytes, from - s->base, s->end - s->base, s->base == 0);
	if (!places)
		return -ENOMEM;
	for (size_t i = 0; i < set->n_patterns && r == 0; i++)
		if (!begins_nowhere(set, i, places, &view))
			r = track(s, i, &view, places);
		else if (s->p[i] < s->end && s->cost[i].retry <= s->end)
			s->p[i] = s->end;
	return r;
}

/* The same for a few bytes: most rules wait for nothing, and nothing begins. */
static int track_few(struct guard_stream *s, size_t from)
{
	const struct guard_set *set = s->set;
	struct guard_view view = view_of(s, false);
	int r = 0;

	memset(s->few_hit, 0, (set->n_patterns / 64 + 1) * sizeof(*s->few_hit));
	guard_prefilter_few(set->starts, view.bytes, from - s->base, s->end - s->base, s->base == 0,
		s->few_hit, s->few_at);
	for (size_t i = 0; i < set->n_patterns && r == 0; i++) {
		if (s->p[i] >= from && set->patterns[i]->filter.n_start &&
			!set->patterns[i]->searched) {
			size_t at = s->end;
			if (s->few_hit[i / 64] >> (i % 64) & 1)
				at = s->base + s->few_at[i];
			if (s->p[i] < at)
				s->p[i] = at;
		}
		if (s->p[i] < s->end)
			r = track(s, i, &view, NULL);
	}
	return r;
}

/* Whole characters. Changes only what `restore` takes back. */
static int take(struct guard_stream *s, const char *text, size_t len)
{
	size_t from = s->end;
	int r = buf_append(&s->text, text, len);

	if (r < 0)
		return r;
	s->end += len;
	if (s->set->counts)
		r = guard_format_count(
			s->set, s->text.data + (from - s->base), from, len, &s->n_chars, &s->hits);
	if (r == 0)
		r = len > FEW ? track_whole(s, from) : track_few(s, from);
	return r;
}

/* ---- what comes of it ---- */

/* Forgets text that nobody looks at any more; `least` is the least p. */
static void trim(struct guard_stream *s, size_t least)
{
	size_t keep = least < s->release.until ? least : s->release.until;

	if (keep < s->base + s->set->context + SLACK)
		return;
	keep -= s->set->context;
	while (keep > s->base && utf8_is_inside(s->text.data[keep - s->base]))
		keep--;
	buf_consume(&s->text, keep - s->base);
	s->base = keep;
}

/* Everything that follows from what was taken, of which hits from `first` on are new. */
static int settle(struct guard_stream *s, size_t first, struct buf *out)
{
	size_t least = s->end, safe = s->end;
	struct guard_view view = view_of(s, s->ended);
	int r = guard_release_add(&s->release, &s->hits, first);

	for (size_t i = 0; i < s->set->n_patterns && !s->ended; i++) {
		if (s->p[i] < least)
			least = s->p[i];
		if (s->p[i] < safe && s->set->patterns[i]->action != GUARD_WARN)
			safe = s->p[i];
	}
	if (s->set->hold_all && (!s->ended || s->broke))
		safe = 0;
	if (r == 0)
		r = guard_release_run(&s->release, &view, safe, out);
	if (r == 0)
		r = guard_hits_tell(&s->hits, s->ended ? SIZE_MAX : least, &s->told);
	if (r == 0)
		trim(s, least);
	return r;
}

/* ---- pieces ---- */

static size_t next_char(const char *text, size_t i, size_t n)
{
	do
		i++;
	while (i < n && utf8_is_inside(text[i]));
	return i;
}

/* Of a slice that blocks, at its beginning: takes it but for the character at which it is certain.
 * What did not block is not looked at again. The length taken in *out. */
static int take_free(struct guard_stream *s, const char *text, size_t len, size_t *out)
{
	size_t low = 0, high = len, step = 64;
	struct mark m;

	save(s, &m);
	while (next_char(text, low, len) < high) {
		size_t mid = (high - low) / 2 < step ? (low + high) / 2 : low + step;
		while (mid > low && utf8_is_inside(text[mid]))
			mid--;
		if (mid == low)
			mid = next_char(text, low, len);
		int r = take(s, text + low, mid - low);
		if (r < 0)
			return r;
		if (guard_hits_blocking(&s->hits)) {
			restore(s, &m);
			high = mid;
		} else {
			save(s, &m);
			low = mid;
			step *= 2;
		}
	}
	*out = low;
	return 0;
}

static int feed_slice(struct guard_stream *s, const char *text, size_t len, struct buf *out)
{
	struct mark m;
	size_t free_of_it = 0;
	int r;

	save(s, &m);
	r = take(s, text, len);
	if (r < 0)
		return r;
	if (!guard_hits_blocking(&s->hits))
		return settle(s, m.n_hits, out);
	const struct guard_hit whole = *guard_hits_blocking(&s->hits);
	restore(s, &m);
	r = take_free(s, text, len, &free_of_it);
	if (r == 0)
		r = settle(s, m.n_hits, out);
	if (r == 0)
		r = take(s, text + free_of_it, next_char(text, free_of_it, len) - free_of_it);
	/* What was seen in the whole and is not seen now would be a fault of ours: it blocks. */
	if (r == 0 && !guard_hits_blocking(&s->hits))
		r = guard_hits_add(&s->hits, &whole);
	return r < 0 ? r : guard_hits_tell_block(&s->hits, &s->told);
}

static int feed_valid(struct guard_stream *s, const char *text, size_t n, struct buf *out)
{
	int r = 0;

	while (n > 0 && r == 0) {
		size_t len = n < SLICE ? n : SLICE;
		while (len < n && utf8_is_inside(text[len]))
			len--;
		r = feed_slice(s, text, len, out);
		text += len;
		n -= len;
	}
	return r;
}

int guard_stream_feed(struct guard_stream *s, const char *text, size_t len, struct buf *out)
{
	const char *run;
	size_t n;

	while (s->state == 0 && len > 0) {
		s->state = guard_carry_next(&s->carry, &text, &len, &run, &n);
		if (s->state == 0)
			s->state = feed_valid(s, run, n, out);
	}
	return s->state;
}

/* Rules of patterns on a text that ends here; hits to *hits, p as it is if `keep`. */
static int track_end(struct guard_stream *s, struct guard_hits *hits, bool keep)
{
	struct guard_view view = view_of(s, true);
	const struct guard_places *places = NULL;
	size_t least = s->end;
	int r = 0;

	for (size_t i = 0; i < s->set->n_patterns; i++)
		least = s->p[i] < least ? s->p[i] : least;
	if (s->end - least > FEW) {
		places = guard_prefilter_run(
			s->set->whole, view.bytes, least - s->base, s->end - s->base, s->base == 0);
		if (!places)
			return -ENOMEM;
	}
	for (size_t i = 0; i < s->set->n_patterns && r == 0; i++) {
		size_t p = s->p[i];
		if (p >= s->end)
			continue;
		struct guard_cost cost = s->cost[i];
		r = guard_track(
			s->set->patterns[i], s->set->rank[i], &view, &p, &cost, places, i, hits);
		if (!keep)
			s->p[i] = p;
	}
	return r;
}

/* The text ends here. What is left of a character that was cut in two is not of it. */
static int finish(struct guard_stream *s, struct buf *out)
{
	size_t first = s->hits.n;

	s->state = track_end(s, &s->hits, false);
	if (s->state == 0 && !s->broke) /* where it matters the text is here from byte 0 on */
		s->state = guard_format_judge(s->set, view_of(s, true).bytes, s->end, &s->hits);
	if (s->state == 0 && guard_hits_blocking(&s->hits))
		return s->state = guard_hits_tell_block(&s->hits, &s->told);
	s->ended = true;
	if (s->state == 0)
		s->state = settle(s, first, out);
	return s->state;
}

int guard_stream_end(struct guard_stream *s, struct buf *out)
{
	if (s->state || s->ended)
		return s->state;
	if (s->carry.n)
		return s->state = -EILSEQ;
	return finish(s, out);
}

int guard_stream_break(struct guard_stream *s, struct buf *out)
{
	if (s->state || s->ended)
		return s->state;
	s->broke = true;
	return finish(s, out);
}

int guard_stream_peek(struct guard_stream *s, struct guard_finding *finding)
{
	const struct guard_hit *h;
	int r;

	if (s->state == 1) {
		*finding = s->told.finding[s->told.n - 1];
		return 1;
	}
	if (s->state < 0 || s->ended)
		return s->state;
	s->peeked.n = 0;
	r = track_end(s, &s->peeked, true);
	h = guard_hits_blocking(&s->peeked);
	if (r < 0 || !h)
		return r;
	*finding = guard_hits_finding(h, true);
	return 1;
}

const struct guard_finding *guard_stream_findings(const struct guard_stream *s, size_t *n)
{
	*n = s->told.n;
	return s->told.finding;
}

size_t guard_stream_held(const struct guard_stream *s)
{
	return s->end + s->carry.n - s->release.until;
}
