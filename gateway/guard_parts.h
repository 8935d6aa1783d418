/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GUARD_PARTS_H
#define GATEWAY_GUARD_PARTS_H

/* What the files guard_*.c share: rules, filters, and the calls between them. Private to them. */

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdatomic.h>

#include "gateway/guard.h"

/*
 * Steps. A start that is refuted or matched within GUARD_STEP_FREE of PCRE2's own and the next
 * GUARD_NEAR to 2 * GUARD_NEAR bytes costs nothing. Others are tried again with every step
 * counted, one for an item of the pattern that is reached and one for 16 bytes that it takes: no
 * more than GUARD_STEP_MAX for a start, and for all starts of a rule in a text no more than
 * GUARD_STEP_TEXT and GUARD_STEP_BYTE for each byte before the start. A step is 5 to 15 ns.
 */
#define GUARD_STEP_MAX 1000000
#define GUARD_STEP_TEXT 4000000
#define GUARD_STEP_BYTE 128
#define GUARD_STEP_FREE 64
#define GUARD_NEAR ((size_t)128)
#define GUARD_CONTEXT_MAX ((size_t)65536)
#define GUARD_MARK_TEXT_START 256 /* "the byte before" at offset 0 */

enum guard_kind { GUARD_PATTERN, GUARD_JSON, GUARD_SCHEMA, GUARD_MAX_CHARS };
enum guard_check { GUARD_CHECK_NONE, GUARD_CHECK_LUHN, GUARD_CHECK_IBAN };

/* ---- a pattern as a tree, where we understand it ---- */

#define GUARD_CLASS_FEW 8

/* Which characters one place of a pattern may match; a superset where `exact` is false. */
struct guard_class {
	uint64_t ascii[2];
	uint64_t beyond; /* first bytes of others that may match too: bit 0 is c0 */
	/* All those others, where they are not `many`; each range of one length in bytes. */
	struct guard_class_range {
		uint32_t first, last;
	} few[GUARD_CLASS_FEW];
	unsigned n_few;
	bool many;
	bool kelvin, long_s; /* U+212A and U+017F too, as cases of k and s */
	bool cased;          /* while it is built: others are in it whose cases we do not know */
	bool exact;          /* the ASCII part is neither more nor less than what matches */
};

enum guard_node_kind {
	GUARD_NODE_EMPTY,
	GUARD_NODE_CLASS,
	GUARD_NODE_CAT,
	GUARD_NODE_ALT,
	GUARD_NODE_REPEAT,
	GUARD_NODE_BOUNDARY,   /* \b */
	GUARD_NODE_START,      /* \A, ^ without m */
	GUARD_NODE_LINE_START, /* ^ with m */
	GUARD_NODE_ZERO,       /* \B \z, $ with m: one character is looked at and none is taken */
	GUARD_NODE_END,        /* \Z, $ without m: of a newline, also what stands behind it */
	GUARD_NODE_BEHIND,     /* (?<=...) with one child */
	GUARD_NODE_NOT_BEHIND, /* (?<!...) */
	GUARD_NODE_AHEAD,      /* (?=...) and (?!...) */
	GUARD_NODE_ANYTHING,   /* a back-reference: any text at all */
};

#define GUARD_BEYOND_ASCII UINT64_C(0x001ffffffffffffc) /* c2..f4: all of them */
#define GUARD_REPEAT_MANY 0xffffu

struct guard_node {
	enum guard_node_kind kind;
	struct guard_class class;
	unsigned min, max; /* REPEAT; max GUARD_REPEAT_MANY: without end */
	bool atomic;       /* REPEAT: does not give back */
	struct guard_node *child, *next;
};

/* ---- guard_class.c ---- */

void guard_class_add_range(struct guard_class *c, uint32_t first, uint32_t last); /* code points */
void guard_class_add_everything(struct guard_class *c);
void guard_class_add_beyond(struct guard_class *c); /* all that are not ASCII */
/* \d \w \s \h \v and their negations. False: not one of them. */
bool guard_class_add_kind(struct guard_class *c, char kind, uint32_t flags);
/* After everything was added: cases, and whether it is [^...]. */
void guard_class_finish(struct guard_class *c, bool negated, uint32_t flags);

/* ---- guard_chars.c: characters as a pattern writes them ---- */

/* A place in a pattern, and PCRE2's options there: CASELESS DOTALL MULTILINE EXTENDED UCP. */
struct guard_chars {
	const char *p, *end;
	uint32_t flags;
};

/* One character as it stands, p on it. */
uint32_t guard_chars_plain(struct guard_chars *c);
/* Of an escape, in and outside a set, that stands for one character; p behind its letter. False: it
 * is none, or not understood. */
bool guard_chars_escape(struct guard_chars *c, char letter, uint32_t *out);
/* Skips the rest of \p{...} \P{...} \pL, p behind the p. False: it has no end. */
bool guard_chars_property(struct guard_chars *c);
/* A set in brackets, p on the opening one. False: not understood; p is anywhere. */
bool guard_chars_set(struct guard_chars *c, struct guard_class *out);

/* ---- guard_syntax.c ---- */

/* new: the tree, or NULL when the pattern holds something that is not understood (or memory is
 * out). `flags` are PCRE2's options. */
struct guard_node *guard_syntax_parse(const char *pattern, size_t len, uint32_t flags);
struct guard_node *guard_syntax_free(struct guard_node *n); /* accepts NULL, returns NULL */
/* borrows: the class, when the node is nothing but one; or NULL. */
const struct guard_class *guard_syntax_single_class(const struct guard_node *n);

/* ---- guard_windows.c: what a match must look like in some place ---- */

#define GUARD_WINDOW 8      /* places of one where a match begins */
#define GUARD_NEED_WINDOW 4 /* and further behind */

/* A few bytes in a row, as sets of bytes, and the byte before them. */
struct guard_window {
	uint64_t byte[GUARD_WINDOW][4];
	uint64_t prev[5]; /* bit GUARD_MARK_TEXT_START: nothing stands before */
	unsigned n;       /* places in use, from 1; the others hold every byte */
};

static inline bool guard_window_has(const uint64_t *set, unsigned byte)
{
	return set[byte >> 6] >> (byte & 63) & 1;
}

/* Whether the window fits text[0..n), as far as that goes. */
static inline bool guard_window_fits(
	const struct guard_window *w, const unsigned char *text, size_t n, unsigned prev)
{
	if (!guard_window_has(w->prev, prev))
		return false;
	for (unsigned i = 0; i < w->n && i < n; i++)
		if (!guard_window_has(w->byte[i], text[i]))
			return false;
	return true;
}

#define GUARD_WINDOWS_MAX 64

/* Windows of the nodes from `first` on, new in *out; NULL when nothing is known. consumed_only: of
 * text that is matched, not of what is only looked at. 0; -ENOMEM. */
int guard_windows_of(
	const struct guard_node *first, bool consumed_only, struct guard_window **out, unsigned *n);

/* ---- guard_filter.c: which windows a rule is looked for by ---- */

/*
 * start: an attempt at a place where none of these fits is refuted by the bytes that do not fit,
 * looks no further than at them and takes less than GUARD_STEP_FREE steps. n_start == 0: nothing is
 * known.
 *
 * need: some of these stands in every match, at most `before` bytes behind its start: a start is
 * refuted once that text is there and none is in it, whatever an attempt would say. n_need == 0:
 * nothing is known, or it would not help.
 */
struct guard_filter {
	struct guard_window *start, *need;
	unsigned n_start, n_need;
	size_t before;
	bool common; /* places where a start window fits are not worth noting */
};

/* 0, also when nothing is known; -ENOMEM. */
int guard_filter_find(struct guard_filter *out, struct guard_node *tree);
void guard_filter_free(struct guard_filter *f);

/* In how many of 10^6 places of ordinary text a byte of this set stands, roughly. */
double guard_filter_weight(const uint64_t set[4]);

/* ---- a rule ---- */

struct guard_schema;

struct guard_rule {
	enum guard_action action;
	enum guard_kind kind;
	enum guard_check check;
	const char *file;
	char *name;
	unsigned line;
	uint64_t max_chars;
	struct guard_schema *schema;
	pcre2_code *code, *anchored; /* the same pattern, at any start and at the first alone */
	pcre2_code *counted;         /* at the first alone, with callouts at every step */
	bool jit;       /* the first two are machine code, for whole and hard partial matching */
	size_t context; /* bytes before an attempt that it may look at, and one character more */
	struct guard_filter filter;
	bool searched; /* everywhere: the filter does not spare searches */
};

struct guard_rules {
	atomic_size_t refs;
	enum guard_stage stage;
	char *file;
	struct guard_rule *rules;
	size_t n, cap;
	size_t compiled; /* bytes of all patterns */
};

#define GUARD_COMPILED_MAX ((size_t)16 << 20) /* of one file: some hundred milliseconds */

/* guard_rules.c: whether filters spare searches, for tests and benchmarks that compare; true unless
 * told otherwise. Not for use while threads parse. */
void guard_rules_use_filters(bool on);

/* ---- guard_line.c: one line of a rule file ---- */

/* Filled by the caller, p at the beginning; fault is filled where it is refused. */
struct guard_line {
	const char *begin, *p, *end;
	unsigned number; /* from 1 */
	struct guard_fault *fault;
};

/* Notes where it is wrong, and why. -EINVAL. */
__attribute__((format(printf, 3, 4))) int guard_line_refuse(
	struct guard_line *l, const char *at, const char *format, ...);
/* 0: a rule begins at p; 1: the line says nothing; -EINVAL. */
int guard_line_begin(struct guard_line *l);
/* Reads that rule, which is zeroed but for its file, beside those before it. 0; -EINVAL, -ENOMEM,
 * with what was read in it. */
int guard_line_rule(struct guard_line *l, const struct guard_rules *rules, bool filters,
	struct guard_rule *rule);

/* ---- guard_compile.c: one pattern ---- */

size_t guard_compile_bytes(const struct guard_rule *rule); /* of its code */

/* Fills code, context and filter of the rule. 0; -EINVAL with the reason and the offset in the
 * pattern; -ENOMEM. */
int guard_compile_pattern(struct guard_rule *rule, const char *pattern, size_t len,
	uint32_t options, bool filters, char reason[200], size_t *offset);

/* ---- guard_check.c ---- */

bool guard_check_passes(enum guard_check check, const char *text, size_t n);

/* ---- guard_scan.c: one search with PCRE2 ---- */

enum guard_scan_result {
	GUARD_SCAN_NONE,    /* no start in from..last is a match's */
	GUARD_SCAN_MATCH,   /* [a, b) */
	GUARD_SCAN_PARTIAL, /* starts before `a` are refuted, that at `a` has run into the end */
	GUARD_SCAN_LIMIT,   /* too many steps, or an error of any kind: at some start */
	GUARD_SCAN_NO_MEMORY,
};

/* Searches text[0..n) from start `from`, with the free steps for each start; need not look at
 * starts behind `last` (but may). `ended`: n is the end of the whole text. Offsets are of whole
 * characters. */
enum guard_scan_result guard_scan(const struct guard_rule *rule, const char *text, size_t n,
	size_t from, size_t last, bool ended, size_t *a, size_t *b);
/* The attempt at `at` alone, with the free steps; the match is [at, *b). */
enum guard_scan_result guard_scan_at(const struct guard_rule *rule, const char *text, size_t n,
	size_t at, bool ended, size_t *b);
/* The same with up to `max` steps, counted in *steps (more than max: that was the limit). */
enum guard_scan_result guard_scan_counted(const struct guard_rule *rule, const char *text, size_t n,
	size_t at, bool ended, uint64_t max, uint64_t *steps, size_t *b);
/* For tests: what this thread has counted so far, searches and counted steps. */
struct guard_scan_sum {
	uint64_t searches, steps;
};
struct guard_scan_sum guard_scan_sum(void);

/* ---- guard_buckets.c: which windows are looked for together ---- */

#define GUARD_BUCKETS 64

/* A bucket for each of n windows, no two of them equal: bucket[i] < GUARD_BUCKETS. The higher the
 * number, the more often it is met in ordinary text. */
void guard_buckets_fill(const struct guard_window *const *windows, size_t n, uint32_t *bucket);

/* ---- guard_places.c: lists of places ---- */

#define GUARD_PLACES_MAX 8192 /* in all lists together */

struct guard_places {
	struct guard_place {
		uint32_t at, next; /* next: index in `place`, 0 is the end */
	} * place;
	uint32_t *head, *tail; /* [lists] */
	uint32_t n;
	size_t n_lists;
	size_t full_from; /* from there on nothing was noted: every place counts */
};

/* borrows the thread's, empty, with room for n lists, until the next call; NULL: no memory. */
struct guard_places *guard_places_for(size_t n);
/* Adds a place at the end of a list, not before those in it; once, however often it is said. Not
 * when GUARD_PLACES_MAX are there: the caller sets full_from. */
void guard_places_note(struct guard_places *p, uint32_t list, uint32_t at);

/* ---- guard_prefilter.c: where windows of many rules fit ---- */

struct guard_prefilter;

enum guard_prefilter_kind {
	GUARD_PREFILTER_STARTS, /* start windows only */
	GUARD_PREFILTER_WHOLE,
};

/* new; NULL when memory is out. Rules that are not patterns or have no filter are not in it. */
struct guard_prefilter *guard_prefilter_new(
	const struct guard_rule *const *rules, size_t n, enum guard_prefilter_kind kind);
struct guard_prefilter *guard_prefilter_free(struct guard_prefilter *p);
/* Notes the places in text[from..n), judged by what is there: of rule i in list 2 * i those of its
 * start windows, in 2 * i + 1 those of the needed ones. `first`: text[0] is the first byte of the
 * whole text. from > 0 unless first. Borrows the thread's places; NULL: no memory. */
const struct guard_places *guard_prefilter_run(
	const struct guard_prefilter *p, const char *text, size_t from, size_t n, bool first);
/* The same for few bytes: sets bit i of hit[] for rule i where it fits anywhere, and at[i] to the
 * first place. */
void guard_prefilter_few(const struct guard_prefilter *p, const char *text, size_t from, size_t n,
	bool first, uint64_t *hit, uint32_t *at);

/* ---- guard_set.c ---- */

struct guard_set {
	atomic_size_t refs;
	struct guard_rules **files;
	size_t n_files;
	const struct guard_rule **rules; /* all of them */
	const struct guard_rule **patterns;
	size_t *rank; /* [n_patterns]: the index in rules */
	size_t n, n_patterns;
	size_t context; /* the most of any rule */
	bool hold_all;  /* there is a rule of json or schema */
	bool counts;    /* there is a rule of max_chars */
	struct guard_prefilter *starts, *whole;
	/* The memory of a stream that has ended, for the next one; NULL: none. Of some kilobytes,
	 * and in the caches, which that of malloc would not be. */
	_Atomic(void *) spare;
};

/* ---- guard_track.c: one rule on its way through a text ---- */

/* What is there of a text: bytes[0] has offset `base`. */
struct guard_view {
	const char *bytes;
	size_t base, end; /* offsets in the whole text */
	bool ended;
};

/* ---- guard_hits.c: what was found, and what is told of it ---- */

struct guard_hit {
	const struct guard_rule *rule;
	size_t rank; /* of the rule in its set */
	size_t a, b; /* offsets in the whole text */
	const char *why;
	bool blocks;
};

struct guard_hits {
	struct guard_hit *hit;
	size_t n, cap;
};

int guard_hits_add(struct guard_hits *h, const struct guard_hit *hit); /* 0; -ENOMEM */
/* borrows: the first of those that block, by place and rank; or NULL. */
const struct guard_hit *guard_hits_blocking(const struct guard_hits *h);

/* Findings in the order in which they are told. */
struct guard_told {
	struct guard_finding *finding;
	size_t n, cap;
};

struct guard_finding guard_hits_finding(const struct guard_hit *hit, bool block);
/* Takes those off the hits that begin before `until`, and tells them. 0; -ENOMEM. */
int guard_hits_tell(struct guard_hits *h, size_t until, struct guard_told *t);
/* Some hit blocks: tells all others, and the first that blocks as the last. 1; -ENOMEM. */
int guard_hits_tell_block(struct guard_hits *h, struct guard_told *t);

/* ---- guard_carry.c: whole characters out of pieces ---- */

struct guard_carry {
	char bytes[4]; /* the beginning of a character */
	size_t n;
};

/* Takes the next run of whole characters off the front of the piece: *run, *len, which borrows the
 * piece or the carry until the next call. 0, with *len 0 when the piece is used up; -EILSEQ. */
int guard_carry_next(
	struct guard_carry *c, const char **text, size_t *n, const char **run, size_t *len);

/* ---- guard_format.c: rules that are not patterns ---- */

/* Counts the characters of text[0..n), whole ones at that offset, into *n_chars; adds a hit for
 * each rule of max_chars that they are the first too many for. 0; -ENOMEM. */
int guard_format_count(const struct guard_set *set, const char *text, size_t offset, size_t n,
	uint64_t *n_chars, struct guard_hits *hits);
/* Adds a hit for each rule of json or schema that the whole text text[0..n) breaks. 0; -ENOMEM. */
int guard_format_judge(
	const struct guard_set *set, const char *text, size_t n, struct guard_hits *hits);

/* ---- guard_release.c: what may be seen of a text ---- */

struct guard_cut {
	size_t a, b, rank;
	const char *name;
};

/* Redactions that were found and are not carried out yet, by a and rank. */
struct guard_release {
	struct guard_cut *cuts;
	size_t n, cap;
	size_t until; /* bytes before are released or replaced */
};

/* Adds those of the hits, from `first` on, that are of redact rules. 0; -ENOMEM. */
int guard_release_add(struct guard_release *r, const struct guard_hits *hits, size_t first);
/* Appends what begins before `limit` and no later match can overlap. 0; < 0 as buf_append. */
int guard_release_run(
	struct guard_release *r, const struct guard_view *view, size_t limit, struct buf *out);

/* ---- guard_track.c ---- */

/* What a rule has spent of its steps in a text, and where it waits. Zeroed at the beginning. */
struct guard_cost {
	uint64_t spent;
	size_t retry; /* a start waits whose attempt says nothing new before the text ends there */
	size_t clear; /* no needed window begins from *p to there; true of the text in any case */
};

/*
 * Goes on from *p, the leftmost start not yet refuted, as far as the view allows; adds what became
 * certain. places: of this view (places count from bytes[0]), or NULL: try every start.
 * *p > view->end: nothing before *p begins a match. 0; -ENOMEM.
 */
int guard_track(const struct guard_rule *rule, size_t rank, const struct guard_view *view,
	size_t *p, struct guard_cost *cost, const struct guard_places *places, size_t index,
	struct guard_hits *hits);

#endif
