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
 * Findings are told in the order of where they begin (of equals: of the rules), each once no rule
 * can find anything before it; a block comes last. So their order does not depend on pieces either.
 *
 * One thread at a time. It does not judge what redaction has left: json and schema see the text as
 * it came.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"

enum { SLICE = 16384, FEW = 48, FINDINGS_MAX = 10000, SLACK = 4096 };

struct guard_stream {
	struct guard_set *set;
	struct buf text;
	size_t base, end; /* offsets of text.data[0] and of what is behind it all */
	uint64_t n_chars; /* counted only if a rule asks */
	char carry[4];    /* the beginning of a character */
	size_t n_carry;
	size_t *p, *p_before; /* [set->n_patterns] */
	struct guard_cost *cost, *cost_before;
	bool counted; /* some cost is not nothing */
	uint64_t *few_hit;
	uint32_t *few_at;
	struct guard_hits hits; /* certain, not yet told */
	struct guard_hits peeked;
	struct guard_release release;
	struct guard_finding *findings;
	size_t n_findings, cap_findings;
	int state; /* 0; 1: blocked; -errno */
	bool ended;
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
	free(s->findings);
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

static bool is_inside(char byte)
{
	return ((unsigned char)byte & 0xC0) == 0x80;
}

/* Counts the characters from offset `from` on, and finds those that are too many. */
static int count_chars(struct guard_stream *s, size_t from)
{
	uint64_t before = s->n_chars;
	int r = 0;

	for (size_t i = from; i < s->end; i++)
		s->n_chars += !is_inside(s->text.data[i - s->base]);
	for (size_t k = 0; k < s->set->n && r == 0; k++) {
		const struct guard_rule *rule = s->set->rules[k];
		uint64_t n = before;
		size_t i = from;
		if (rule->kind != GUARD_MAX_CHARS || before > rule->max_chars ||
			s->n_chars <= rule->max_chars)
			continue;
		for (; i < s->end; i++)
			if (!is_inside(s->text.data[i - s->base]) && n++ == rule->max_chars)
				break;
		r = guard_hits_add(&s->hits, &(struct guard_hit){rule, k, i, s->end > i ? i + 1 : i,
						     "too long", rule->action == GUARD_BLOCK});
	}
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
		r = count_chars(s, from);
	if (r == 0)
		r = len > FEW ? track_whole(s, from) : track_few(s, from);
	return r;
}

/* ---- what comes of it ---- */

static int add_finding(struct guard_stream *s, const struct guard_hit *h, bool block)
{
	if (s->n_findings >= FINDINGS_MAX && !block)
		return 0; /* the first of so many say enough */
	if (s->n_findings == s->cap_findings) {
		size_t cap = s->cap_findings ? 2 * s->cap_findings : 4;
		struct guard_finding *f = realloc(s->findings, cap * sizeof(*f));
		if (!f)
			return -ENOMEM;
		s->findings = f;
		s->cap_findings = cap;
	}
	s->findings[s->n_findings++] = (struct guard_finding){
		.action = block ? GUARD_BLOCK : h->rule->action,
		.file = h->rule->file,
		.rule = h->rule->name,
		.why = h->why,
		.offset = h->a,
		.len = h->b - h->a,
	};
	return 0;
}

static int by_place(const void *x, const void *y)
{
	const struct guard_hit *a = x, *b = y;

	if (a->a != b->a)
		return a->a < b->a ? -1 : 1;
	return (a->rank > b->rank) - (a->rank < b->rank);
}

/* Tells what begins before `until`, in order. */
static int tell(struct guard_stream *s, size_t until)
{
	struct guard_hits *h = &s->hits;
	size_t n = 0;
	int r = 0;

	if (!h->n)
		return 0;
	qsort(h->hit, h->n, sizeof(*h->hit), by_place);
	for (; n < h->n && h->hit[n].a < until && r == 0; n++)
		r = add_finding(s, &h->hit[n], false);
	h->n -= n;
	memmove(h->hit, h->hit + n, h->n * sizeof(*h->hit));
	return r;
}

/* Forgets text that nobody looks at any more; `least` is the least p. */
static void trim(struct guard_stream *s, size_t least)
{
	size_t keep = least < s->release.until ? least : s->release.until;

	if (keep < s->base + s->set->context + SLACK)
		return;
	keep -= s->set->context;
	while (keep > s->base && is_inside(s->text.data[keep - s->base]))
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
	if (s->set->hold_all && !s->ended)
		safe = 0;
	if (r == 0)
		r = guard_release_run(&s->release, &view, safe, out);
	if (r == 0)
		r = tell(s, s->ended ? SIZE_MAX : least);
	if (r == 0)
		trim(s, least);
	return r;
}

/* The first of the hits that block, or NULL. */
static const struct guard_hit *blocking(const struct guard_hits *h)
{
	const struct guard_hit *first = NULL;

	for (size_t i = 0; i < h->n; i++)
		if (h->hit[i].blocks && (!first || by_place(&h->hit[i], first) < 0))
			first = &h->hit[i];
	return first;
}

/* Tells all that is certain, and the block as the last. 1, or < 0. */
static int block(struct guard_stream *s)
{
	struct guard_hits *h = &s->hits;
	struct guard_hit last = *blocking(h);
	size_t n = 0;
	int r;

	for (size_t i = 0; i < h->n; i++)
		if (!h->hit[i].blocks)
			h->hit[n++] = h->hit[i];
	h->n = n;
	r = tell(s, SIZE_MAX);
	if (r == 0)
		r = add_finding(s, &last, true);
	return r < 0 ? r : 1;
}

/* ---- pieces ---- */

static size_t next_char(const char *text, size_t i, size_t n)
{
	do
		i++;
	while (i < n && is_inside(text[i]));
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
		while (mid > low && is_inside(text[mid]))
			mid--;
		if (mid == low)
			mid = next_char(text, low, len);
		int r = take(s, text + low, mid - low);
		if (r < 0)
			return r;
		if (blocking(&s->hits)) {
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
	if (!blocking(&s->hits))
		return settle(s, m.n_hits, out);
	const struct guard_hit whole = *blocking(&s->hits);
	restore(s, &m);
	r = take_free(s, text, len, &free_of_it);
	if (r == 0)
		r = settle(s, m.n_hits, out);
	if (r == 0)
		r = take(s, text + free_of_it, next_char(text, free_of_it, len) - free_of_it);
	/* What was seen in the whole and is not seen now would be a fault of ours: it blocks. */
	if (r == 0 && !blocking(&s->hits))
		r = guard_hits_add(&s->hits, &whole);
	return r < 0 ? r : block(s);
}

/* The leading bytes of text that are whole characters: as utf8_valid_prefix, faster on ASCII. */
static size_t valid_prefix(const char *text, size_t n)
{
	size_t i = 0;
	uint32_t c;

	for (;;) {
		for (uint64_t w; i + 8 <= n; i += 8) {
			memcpy(&w, text + i, 8);
			if (w & UINT64_C(0x8080808080808080))
				break;
		}
		size_t one = utf8_decode(text + i, n - i, &c);
		if (!one)
			return i;
		i += one;
	}
}

static int feed_valid(struct guard_stream *s, const char *text, size_t n, struct buf *out)
{
	int r = 0;

	while (n > 0 && r == 0) {
		size_t len = n < SLICE ? n : SLICE;
		while (len < n && is_inside(text[len]))
			len--;
		r = feed_slice(s, text, len, out);
		text += len;
		n -= len;
	}
	return r;
}

/* Completes the character that was begun. Takes bytes off the front of the piece. */
static int feed_carry(struct guard_stream *s, const char **text, size_t *n, struct buf *out)
{
	uint32_t c;

	while (s->n_carry && *n) {
		s->carry[s->n_carry++] = *(*text)++;
		--*n;
		if (utf8_decode(s->carry, s->n_carry, &c)) {
			size_t len = s->n_carry;
			s->n_carry = 0;
			return feed_slice(s, s->carry, len, out);
		}
		if (s->n_carry > 3 || !utf8_is_partial(s->carry, s->n_carry))
			return -EILSEQ;
	}
	return 0;
}

int guard_stream_feed(struct guard_stream *s, const char *text, size_t len, struct buf *out)
{
	size_t whole;

	if (s->state)
		return s->state;
	s->state = feed_carry(s, &text, &len, out);
	if (s->state || !len)
		return s->state;
	whole = valid_prefix(text, len);
	s->state = feed_valid(s, text, whole, out);
	if (s->state || whole == len)
		return s->state;
	if (len - whole > 3 || !utf8_is_partial(text + whole, len - whole))
		return s->state = -EILSEQ;
	s->n_carry = len - whole;
	memcpy(s->carry, text + whole, s->n_carry);
	return 0;
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

/* Rules of json and schema. Their text is here from its first byte on. */
static int judge_formats(struct guard_stream *s)
{
	const char *text = s->text.data ? s->text.data : "";
	int r = 0;

	for (size_t k = 0; k < s->set->n && r == 0; k++) {
		const struct guard_rule *rule = s->set->rules[k];
		struct guard_hit hit = {rule, k, 0, s->end, "invalid", true};
		if (rule->kind == GUARD_JSON && guard_format_is_json(text, s->end))
			continue;
		if (rule->kind == GUARD_SCHEMA && guard_schema_accepts(rule->schema, text, s->end))
			continue;
		if (rule->kind == GUARD_JSON || rule->kind == GUARD_SCHEMA)
			r = guard_hits_add(&s->hits, &hit);
	}
	return r;
}

int guard_stream_end(struct guard_stream *s, struct buf *out)
{
	size_t first = s->hits.n;

	if (s->state || s->ended)
		return s->state;
	if (s->n_carry)
		return s->state = -EILSEQ;
	s->state = track_end(s, &s->hits, false);
	if (s->state == 0)
		s->state = judge_formats(s);
	if (s->state == 0 && blocking(&s->hits))
		return s->state = block(s);
	s->ended = true;
	if (s->state == 0)
		s->state = settle(s, first, out);
	return s->state;
}

int guard_stream_peek(struct guard_stream *s, struct guard_finding *finding)
{
	const struct guard_hit *h;
	int r;

	if (s->state == 1) {
		*finding = s->findings[s->n_findings - 1];
		return 1;
	}
	if (s->state < 0 || s->ended)
		return s->state;
	s->peeked.n = 0;
	r = track_end(s, &s->peeked, true);
	h = blocking(&s->peeked);
	if (r < 0 || !h)
		return r;
	*finding = (struct guard_finding){
		GUARD_BLOCK, h->rule->file, h->rule->name, h->why, h->a, h->b - h->a};
	return 1;
}

const struct guard_finding *guard_stream_findings(const struct guard_stream *s, size_t *n)
{
	*n = s->n_findings;
	return s->findings;
}

size_t guard_stream_held(const struct guard_stream *s)
{
	return s->end + s->n_carry - s->release.until;
}
