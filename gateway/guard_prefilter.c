/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over a text that says where the windows of many rules fit.
 *
 * Windows that several rules have are one, with a list of rules. Windows share 64 buckets
 * (guard_buckets.c). Five tables say for a byte, and for each of the first four places of a window
 * and the byte before it, the buckets that accept it there;
 * the conjunction of five look-ups is the set of buckets at a place, mostly none. Where one is
 * left, the same is done with the windows themselves, a bit each, so what is noted is exact. Before
 * all that, two look-ups of pairs of bytes, for groups of up to three buckets, end most places.
 * Each of the three is done for some hundred places before the next.
 *
 * Immutable after guard_prefilter_new; what a pass notes belongs to the thread.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"

enum { PREV = GUARD_WINDOW, BUCKETS = GUARD_BUCKETS, BATCH = 256 };

/* A window of a rule, while the filter is built. */
struct entry {
	const struct guard_window *window;
	uint32_t list;   /* of the places it is noted in */
	uint32_t bucket; /* the same for equal windows */
};

struct guard_prefilter {
	uint64_t prev[GUARD_MARK_TEXT_START + 1]; /* buckets */
	uint64_t at[4][256];
	/* Bytes that no window tells apart are of a kind: kind[] holds it, and above 16 bits the
	 * row of pairs that begin with it. For a pair: groups of buckets that accept it as the
	 * first two bytes, and above 32 bits as the other two; or NULL. */
	uint32_t kind[256];
	uint64_t *pairs;
	uint32_t begin[BUCKETS + 1]; /* the windows of a bucket */
	size_t n_windows, n_words, n_lists;
	uint64_t *exact; /* [PREV + 1][257][n_words]: windows; [PREV] is the byte before */
	uint32_t *first; /* [n_windows + 1]: the lists of a window */
	uint32_t *lists;
};

static uint64_t *exact_row(const struct guard_prefilter *p, unsigned place, unsigned byte)
{
	return p->exact + (place * (GUARD_MARK_TEXT_START + 1) + byte) * p->n_words;
}

/* ---- building ---- */

static int compare_windows(const struct guard_window *a, const struct guard_window *b)
{
	int r = memcmp(a->byte, b->byte, sizeof(a->byte));
	return r ? r : memcmp(a->prev, b->prev, sizeof(a->prev));
}

static int by_window(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int r = compare_windows(x->window, y->window);

	return r ? r : (x->list > y->list) - (x->list < y->list);
}

static int by_bucket(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->bucket != y->bucket)
		return x->bucket < y->bucket ? -1 : 1;
	return by_window(a, b);
}

/* Gives every window a bucket. The entries are sorted by window; *n_windows of them differ. False:
 * no memory. */
static bool fill_buckets(struct entry *entries, size_t n, size_t *n_windows)
{
	const struct guard_window **windows = calloc(n + 1, sizeof(*windows));
	uint32_t *buckets = calloc(n + 1, sizeof(*buckets));
	bool ok = windows && buckets;
	size_t k = 0;

	for (size_t i = 0; ok && i < n; i++) {
		if (i == 0 || compare_windows(entries[i].window, entries[i - 1].window) != 0)
			windows[k++] = entries[i].window;
		entries[i].bucket = (uint32_t)k - 1; /* of which window, until that has one */
	}
	if (ok)
		guard_buckets_fill(windows, k, buckets);
	for (size_t i = 0; ok && i < n; i++)
		entries[i].bucket = buckets[entries[i].bucket];
	*n_windows = k;
	free(windows);
	free(buckets);
	return ok;
}

static void fill_tables(
	struct guard_prefilter *p, const struct guard_window *w, size_t window, uint32_t bucket)
{
	uint64_t bit = UINT64_C(1) << bucket, own = UINT64_C(1) << (window & 63);

	for (unsigned c = 0; c <= GUARD_MARK_TEXT_START; c++) {
		if (guard_window_has(w->prev, c)) {
			p->prev[c] |= bit;
			exact_row(p, PREV, c)[window >> 6] |= own;
		}
		for (unsigned j = 0; j < GUARD_WINDOW && c < 256; j++)
			if (guard_window_has(w->byte[j], c)) {
				if (j < 4)
					p->at[j][c] |= bit;
				exact_row(p, j, c)[window >> 6] |= own;
			}
	}
}

/* Buckets are sorted: the 16 most frequent have a group alone. */
static unsigned group_of(uint32_t bucket)
{
	return bucket >= 48 ? bucket - 32 : bucket / 3;
}

/* The entries are sorted by bucket. */
static void fill(struct guard_prefilter *p, const struct entry *entries, size_t n)
{
	size_t window = 0;

	for (size_t i = 0; i < n; i++) {
		const struct guard_window *w = entries[i].window;
		if (i > 0)
			window += compare_windows(w, entries[i - 1].window) != 0;
		if (i == 0 || compare_windows(w, entries[i - 1].window) != 0) {
			p->first[window] = (uint32_t)i;
			fill_tables(p, w, window, entries[i].bucket);
		}
		p->begin[entries[i].bucket + 1] = (uint32_t)window + 1;
		p->first[window + 1] = (uint32_t)i + 1;
		p->lists[i] = entries[i].list;
	}
	for (unsigned b = 1; b <= BUCKETS; b++)
		if (p->begin[b] < p->begin[b - 1])
			p->begin[b] = p->begin[b - 1];
}

/* Whether no window tells two bytes apart. */
static bool are_alike(const struct guard_prefilter *p, unsigned a, unsigned b)
{
	for (unsigned j = 0; j < 4; j++)
		if (memcmp(exact_row(p, j, a), exact_row(p, j, b), p->n_words * sizeof(uint64_t)))
			return false;
	return true;
}

/* Fills kind; a byte of each kind in some[]. Their number. */
static unsigned fill_kinds(struct guard_prefilter *p, unsigned char some[256])
{
	unsigned n = 0;

	for (unsigned c = 0; c < 256; c++) {
		unsigned k = 0;
		while (k < n && !are_alike(p, c, some[k]))
			k++;
		if (k == n)
			some[n++] = (unsigned char)c;
		p->kind[c] = k;
	}
	for (unsigned c = 0; c < 256; c++)
		p->kind[c] |= p->kind[c] * n << 16;
	return n;
}

/* The groups with a window that has a at the given place and b at the next. */
static uint32_t groups_of_pair(const struct guard_prefilter *p, const uint8_t *group,
	unsigned place, unsigned a, unsigned b)
{
	const uint64_t *x = exact_row(p, place, a), *y = exact_row(p, place + 1, b);
	uint32_t groups = 0;

	for (size_t word = 0; word < p->n_words; word++)
		for (uint64_t m = x[word] & y[word]; m; m &= m - 1)
			groups |= UINT32_C(1) << group[64 * word + (unsigned)__builtin_ctzll(m)];
	return groups;
}

/* After `fill`. False: no memory. */
static bool fill_pairs(struct guard_prefilter *p)
{
	unsigned char some[256];
	unsigned n = fill_kinds(p, some);
	uint8_t *group = calloc(64 * p->n_words, 1);

	p->pairs = calloc((size_t)n * n, sizeof(*p->pairs));
	if (!group || !p->pairs) {
		free(group);
		return false;
	}
	for (uint32_t b = 0; b < BUCKETS; b++)
		memset(group + p->begin[b], (int)group_of(b), p->begin[b + 1] - p->begin[b]);
	for (unsigned a = 0; a < n; a++)
		for (unsigned b = 0; b < n; b++)
			p->pairs[a * n + b] =
				groups_of_pair(p, group, 0, some[a], some[b]) |
				(uint64_t)groups_of_pair(p, group, 2, some[a], some[b]) << 32;
	free(group);
	return true;
}

/* All windows of the kind, with their lists. */
static size_t gather(struct entry *entries, const struct guard_rule *const *rules, size_t n,
	enum guard_prefilter_kind kind)
{
	uint32_t lists = kind == GUARD_PREFILTER_WHOLE ? 2 : 1;
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		const struct guard_filter *f = &rules[i]->filter;
		if (rules[i]->searched)
			continue;
		for (unsigned j = 0; !(lists == 2 && f->common) && j < f->n_start; j++, k++)
			if (entries)
				entries[k] = (struct entry){&f->start[j], (uint32_t)i * lists, 0};
		for (unsigned j = 0; lists == 2 && j < f->n_need; j++, k++)
			if (entries)
				entries[k] =
					(struct entry){&f->need[j], (uint32_t)i * lists + 1, 0};
	}
	return k;
}

struct guard_prefilter *guard_prefilter_new(
	const struct guard_rule *const *rules, size_t n, enum guard_prefilter_kind kind)
{
	struct guard_prefilter *p = calloc(1, sizeof(*p));
	size_t total = gather(NULL, rules, n, kind);
	struct entry *entries = calloc(total + 1, sizeof(*entries));

	if (!p || !entries)
		goto fail;
	gather(entries, rules, n, kind);
	qsort(entries, total, sizeof(*entries), by_window);
	if (!fill_buckets(entries, total, &p->n_windows))
		goto fail;
	p->n_lists = kind == GUARD_PREFILTER_WHOLE ? 2 * n : n;
	p->n_words = p->n_windows / 64 + 1;
	p->exact = calloc((PREV + 1) * (GUARD_MARK_TEXT_START + 1) * p->n_words, sizeof(*p->exact));
	p->first = calloc(p->n_windows + 2, sizeof(*p->first));
	p->lists = calloc(total + 1, sizeof(*p->lists));
	if (!p->exact || !p->first || !p->lists)
		goto fail;
	qsort(entries, total, sizeof(*entries), by_bucket);
	fill(p, entries, total);
	if (kind == GUARD_PREFILTER_WHOLE && !fill_pairs(p))
		goto fail;
	free(entries);
	return p;
fail:
	free(entries);
	return guard_prefilter_free(p);
}

struct guard_prefilter *guard_prefilter_free(struct guard_prefilter *p)
{
	if (!p)
		return NULL;
	free(p->pairs);
	free(p->exact);
	free(p->first);
	free(p->lists);
	free(p);
	return NULL;
}

/* ---- a pass ---- */

/* The buckets at a place with fewer than four bytes behind it. */
static uint64_t buckets_at_end(
	const struct guard_prefilter *p, const unsigned char *t, size_t i, size_t n, unsigned prev)
{
	uint64_t m = p->prev[prev];

	for (size_t j = 0; j < 4 && i + j < n; j++)
		m &= p->at[j][t[i + j]];
	return m;
}

/* The bits from..to of a word that begins with window 64 * word. */
static uint64_t part_of_word(size_t word, size_t from, size_t to)
{
	uint64_t m = ~UINT64_C(0);

	if (from > 64 * word)
		m &= ~UINT64_C(0) << (from - 64 * word);
	if (to < 64 * word + 64)
		m &= ~(~UINT64_C(0) << (to - 64 * word));
	return m;
}

typedef void found_fn(void *arg, uint32_t list, uint32_t at);

/* The windows of a word whose later places fit too, of those in m. */
static uint64_t fits_later(const struct guard_prefilter *p, uint64_t m, size_t word,
	const unsigned char *t, size_t i, size_t n)
{
	for (unsigned j = 4; j < GUARD_WINDOW && i + j < n && m; j++)
		m &= exact_row(p, j, t[i + j])[word];
	return m;
}

/* Calls found for each list of each window that fits at i, in these buckets. */
static inline void compare(const struct guard_prefilter *p, uint64_t buckets,
	const unsigned char *t, size_t i, size_t n, unsigned prev, found_fn *found, void *arg)
{
	const uint64_t *row[5] = {exact_row(p, PREV, prev)};

	for (unsigned j = 0; j < 4; j++) /* behind the end everything fits */
		row[j + 1] = i + j < n ? exact_row(p, j, t[i + j]) : row[0];
	for (; buckets; buckets &= buckets - 1) {
		unsigned b = (unsigned)__builtin_ctzll(buckets);
		size_t from = p->begin[b], to = p->begin[b + 1];
		for (size_t word = from / 64; word * 64 < to; word++) {
			uint64_t m = row[0][word] & row[1][word] & row[2][word] & row[3][word] &
				     row[4][word] & part_of_word(word, from, to);
			for (m = fits_later(p, m, word, t, i, n); m; m &= m - 1) {
				size_t w = 64 * word + (unsigned)__builtin_ctzll(m);
				for (uint32_t k = p->first[w]; k < p->first[w + 1]; k++)
					found(arg, p->lists[k], (uint32_t)i);
			}
		}
	}
}

static void note_found(void *arg, uint32_t list, uint32_t at)
{
	guard_places_note(arg, list, at);
}

/* Notes what fits at i. False: no room for more. */
static bool look(const struct guard_prefilter *p, uint64_t buckets, const unsigned char *t,
	size_t i, size_t n, unsigned prev, struct guard_places *out)
{
	compare(p, buckets, t, i, n, prev, note_found, out);
	if (out->n < GUARD_PLACES_MAX)
		return true;
	out->full_from = i; /* some of this place may be missing */
	return false;
}

/* Of the places i..end, each with four bytes, those that the pairs let through, to at[]. There is
 * no branch in it: one place in ten passes, at no place that a processor could foresee. */
static __attribute__((noinline)) size_t pass_pairs(
	const struct guard_prefilter *p, const unsigned char *t, size_t i, size_t end, uint32_t *at)
{
	const uint64_t *pairs = p->pairs;
	const uint32_t *kind = p->kind;
	uint32_t b = kind[t[i + 1]], c = kind[t[i + 2]];
	uint64_t this = pairs[(kind[t[i]] >> 16) + (b & 0xffff)];
	uint64_t next = pairs[(b >> 16) + (c & 0xffff)];
	size_t n = 0;

	for (; i < end; i++) {
		uint32_t d = kind[t[i + 3]];
		uint64_t last = pairs[(c >> 16) + (d & 0xffff)];
		at[n] = (uint32_t)i;
		n += (this & last >> 32) != 0;
		this = next;
		next = last;
		c = d;
	}
	return n;
}

/* Of n places in at[], those where some bucket is left, with these. */
static size_t pass_buckets(const struct guard_prefilter *p, const unsigned char *t, uint32_t *at,
	uint64_t *buckets, size_t n)
{
	size_t left = 0;

	for (size_t k = 0; k < n; k++) {
		const unsigned char *here = t + at[k];
		uint64_t m = p->at[0][here[0]] & p->at[1][here[1]] & p->at[2][here[2]] &
			     p->at[3][here[3]] & p->prev[here[-1]];
		at[left] = at[k];
		buckets[left] = m;
		left += m != 0;
	}
	return left;
}

const struct guard_places *guard_prefilter_run(
	const struct guard_prefilter *p, const char *text, size_t from, size_t n, bool first)
{
	const unsigned char *t = (const unsigned char *)text;
	struct guard_places *out = guard_places_for(p->n_lists);
	uint32_t at[BATCH];
	uint64_t buckets[BATCH];
	size_t i = from;

	if (!out || !p->n_windows)
		return out;
	if (i == 0 && first && n > 0) {
		unsigned prev = GUARD_MARK_TEXT_START;
		look(p, buckets_at_end(p, t, 0, n, prev), t, 0, n, prev, out);
		i = 1;
	}
	while (i + 3 < n) {
		size_t end = n - 3 - i < BATCH ? n - 3 : i + BATCH;
		size_t left = pass_pairs(p, t, i, end, at);
		left = pass_buckets(p, t, at, buckets, left);
		for (size_t k = 0; k < left; k++)
			if (!look(p, buckets[k], t, at[k], n, t[at[k] - 1], out))
				return out;
		i = end;
	}
	for (; i < n; i++)
		if (!look(p, buckets_at_end(p, t, i, n, t[i - 1]), t, i, n, t[i - 1], out))
			return out;
	return out;
}

struct few {
	uint64_t *hit;
	uint32_t *at;
};

static void few_found(void *arg, uint32_t rule, uint32_t at)
{
	struct few *f = arg;
	uint64_t bit = UINT64_C(1) << (rule & 63);

	if (!(f->hit[rule >> 6] & bit))
		f->at[rule] = at;
	f->hit[rule >> 6] |= bit;
}

void guard_prefilter_few(const struct guard_prefilter *p, const char *text, size_t from, size_t n,
	bool first, uint64_t *hit, uint32_t *at)
{
	const unsigned char *t = (const unsigned char *)text;
	struct few f = {hit, at};

	for (size_t i = from; i < n; i++) {
		unsigned prev = i == 0 && first ? GUARD_MARK_TEXT_START : t[i - 1];
		compare(p, buckets_at_end(p, t, i, n, prev), t, i, n, prev, few_found, &f);
	}
}
