/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rules, a NUL byte, a text: whatever they are, a file of rules is taken or refused with a place
 * that is in it, and what comes of the text does not depend on its pieces nor on the prefilter.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { RULES_MAX = 256, TEXT_MAX = 400 };

static void must(bool claim)
{
	if (!claim)
		abort();
}

static struct guard_set *parse(const char *text, size_t n, bool filters)
{
	struct guard_rules *rules;
	struct guard_fault f;
	struct guard_set *set;

	guard_rules_use_filters(filters);
	int r = guard_rules_parse(&rules, GUARD_OUTPUT, "f", text, n, &f);
	if (r < 0) {
		must(!rules && f.line >= 1 && f.line <= n + 1 && f.column >= 1 &&
			f.column <= n + 1);
		must(f.reason[0] &&
			utf8_valid_prefix(f.reason, strlen(f.reason)) == strlen(f.reason));
		return NULL;
	}
	set = guard_set_new(&rules, 1);
	must(set != NULL);
	guard_rules_put(rules);
	return set;
}

struct outcome {
	int r;
	struct buf out;
	struct guard_stream *s;
};

/* Pieces of `step` bytes; 0: of 1 + text[i] % 7. */
static struct outcome run(struct guard_set *set, const char *text, size_t n, size_t step)
{
	struct outcome o = {.s = guard_stream_new(set)};
	struct guard_finding f;

	for (size_t at = 0, len; at < n && o.r == 0; at += len) {
		len = step ? step : 1 + (unsigned char)text[at] % 7;
		len = len < n - at ? len : n - at;
		o.r = guard_stream_feed(o.s, text + at, len, &o.out);
		if (step == 0 && o.r == 0)
			must(guard_stream_peek(o.s, &f) >= 0);
		must(guard_stream_held(o.s) <= at + len);
	}
	if (o.r == 0)
		o.r = guard_stream_end(o.s, &o.out);
	return o;
}

static void must_agree(const struct outcome *a, const struct outcome *b)
{
	size_t n, m;
	const struct guard_finding *x = guard_stream_findings(a->s, &n);
	const struct guard_finding *y = guard_stream_findings(b->s, &m);

	must(a->r == b->r && a->out.len == b->out.len && n == m);
	must(!a->out.len || !memcmp(a->out.data, b->out.data, a->out.len));
	for (size_t i = 0; i < n; i++)
		must(x[i].action == y[i].action && x[i].offset == y[i].offset &&
			x[i].len == y[i].len && !strcmp(x[i].rule, y[i].rule) &&
			!strcmp(x[i].why, y[i].why));
}

static void done(struct outcome *o)
{
	guard_stream_free(o->s);
	buf_free(&o->out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *rules = (const char *)data;
	const uint8_t *nul = n ? memchr(data, 0, n) : NULL;
	size_t n_rules = nul ? (size_t)(nul - data) : n;

	if (n_rules > RULES_MAX || n - n_rules > TEXT_MAX + 1)
		return 0;
	struct guard_set *set = parse(rules, n_rules, true);
	if (!set || !nul) {
		guard_set_put(set);
		return 0;
	}
	struct guard_set *plain = parse(rules, n_rules, false);
	const char *text = (const char *)nul + 1;
	n -= n_rules + 1;
	struct outcome whole = run(set, text, n, n ? n : 1);
	for (size_t step = 0; step < 3; step++) {
		struct outcome cut = run(set, text, n, step);
		must_agree(&whole, &cut);
		done(&cut);
	}
	struct outcome slow = run(plain, text, n, 60);
	must_agree(&whole, &slow);
	done(&slow);
	done(&whole);
	guard_set_put(set);
	guard_set_put(plain);
	return 0;
}
