/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/outcome_fixture.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

uint64_t outcome_seed = 1;

unsigned outcome_dice(unsigned n)
{
	outcome_seed = outcome_seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)((outcome_seed >> 33) % n);
}

struct guard_set *outcome_rules(enum guard_stage stage, const char *text)
{
	struct guard_rules *rules;
	struct guard_fault fault;
	int r = guard_rules_parse(&rules, stage, "f.rules", text, strlen(text), &fault);

	ck_assert_msg(r == 0, "%s: %u:%u: %s", text, fault.line, fault.column, fault.reason);
	struct guard_set *set = guard_set_new(&rules, 1);
	ck_assert_ptr_nonnull(set);
	guard_rules_put(rules);
	return set;
}

void outcome_of(struct outcome *o, struct guard_stream *s)
{
	const struct guard_finding *f = guard_stream_findings(s, &o->n);

	ck_assert_uint_le(o->n, 64);
	if (o->n)
		memcpy(o->findings, f, o->n * sizeof(*f));
	o->held = guard_stream_held(s);
}

void outcome_run(struct outcome *o, struct guard_set *set, const char *text, size_t n,
	const size_t *cuts, size_t n_cuts, bool end)
{
	struct guard_stream *s = guard_stream_new(set);
	size_t at = 0;

	*o = (struct outcome){0};
	for (size_t i = 0; i <= n_cuts && o->r == 0; i++) {
		size_t to = i < n_cuts ? cuts[i] : n;
		o->r = guard_stream_feed(s, text + at, to - at, &o->out);
		at = to;
	}
	if (o->r == 0 && end)
		o->r = guard_stream_end(s, &o->out);
	outcome_of(o, s);
	guard_stream_free(s);
}

static bool same_findings(const struct outcome *a, const struct outcome *b)
{
	for (size_t i = 0; i < a->n && i < b->n; i++) {
		const struct guard_finding *x = &a->findings[i], *y = &b->findings[i];
		if (x->action != y->action || strcmp(x->rule, y->rule) != 0 ||
			strcmp(x->why, y->why) != 0 || x->offset != y->offset || x->len != y->len)
			return false;
	}
	return a->n == b->n;
}

void outcome_must_agree(const struct outcome *a, const struct outcome *b, const char *rules,
	const char *text, size_t n, const char *how)
{
	bool same = a->r == b->r && a->out.len == b->out.len &&
		    (!a->out.len || !memcmp(a->out.data, b->out.data, a->out.len)) &&
		    same_findings(a, b);

	ck_assert_msg(same,
		"%s\nrules: %s\ntext: <%.*s>\nr %d and %d\nout <%.*s>\nand <%.*s>\n%zu and %zu "
		"findings",
		how, rules, (int)n, text, a->r, b->r, (int)a->out.len,
		a->out.data ? a->out.data : "", (int)b->out.len, b->out.data ? b->out.data : "",
		a->n, b->n);
}

static int by_size(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;
	return (x > y) - (x < y);
}

void outcome_every_split_agrees(
	struct guard_set *set, const char *rules, const char *text, size_t n)
{
	struct outcome whole, split;
	size_t cuts[8];

	outcome_run(&whole, set, text, n, NULL, 0, true);
	for (size_t i = 1; i < n; i++) {
		outcome_run(&split, set, text, n, &i, 1, true);
		outcome_must_agree(&whole, &split, rules, text, n, "two pieces");
		buf_free(&split.out);
	}
	for (unsigned k = 0; k < 10; k++) {
		for (size_t i = 0; i < 8; i++)
			cuts[i] = outcome_dice((unsigned)n + 1);
		qsort(cuts, 8, sizeof(cuts[0]), by_size);
		outcome_run(&split, set, text, n, cuts, 8, true);
		outcome_must_agree(&whole, &split, rules, text, n, "many pieces");
		buf_free(&split.out);
	}
	buf_free(&whole.out);
}

void outcome_run_long(
	struct long_outcome *o, struct guard_set *set, const struct buf *text, unsigned most)
{
	struct guard_stream *s = guard_stream_new(set);

	*o = (struct long_outcome){0};
	for (size_t at = 0, n; at < text->len && o->r == 0; at += n) {
		n = 1 + outcome_dice(most);
		n = n < text->len - at ? n : text->len - at;
		o->r = guard_stream_feed(s, text->data + at, n, &o->out);
	}
	if (o->r == 0)
		o->r = guard_stream_end(s, &o->out);
	const struct guard_finding *f = guard_stream_findings(s, &o->n);
	o->findings = calloc(o->n + 1, sizeof(*f));
	if (o->n)
		memcpy(o->findings, f, o->n * sizeof(*f));
	guard_stream_free(s);
}

void outcome_free_long(struct long_outcome *o)
{
	buf_free(&o->out);
	free(o->findings);
}
