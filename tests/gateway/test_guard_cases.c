/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases of letters. What guards know of them (guard_class.c) only spares searches, so whatever
 * character PCRE2 takes for another is to be found with the filters as it is without: tried for
 * each letter of some blocks with every character of all that have cases.
 */
#include <check.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"
#include "tests/run_suite.h"

static struct buf text; /* "Xzz Yzz ..." of all characters */

static void add_char(struct buf *b, uint32_t c)
{
	char bytes[4];

	buf_append(b, bytes, utf8_encode(c, bytes));
}

struct block {
	uint32_t first, last;
};

static void make_text(void)
{
	static const struct block parts[] = {{0x20, 0x3100}, {0x4e00, 0x4e80}, {0xa600, 0xac00},
		{0xf900, 0xffff}, {0x10400, 0x10fff}, {0x11800, 0x11900}, {0x16e00, 0x16f00},
		{0x1e900, 0x1f700}};

	text = (struct buf){.max = 4 << 20};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		for (uint32_t c = parts[i].first; c <= parts[i].last; c++) {
			add_char(&text, c);
			buf_append_str(&text, "zz ");
		}
}

static const struct block blocks[] = {{0x80, 0x17f}, {0x370, 0x3ff}, {0x400, 0x52f},
	{0x1c80, 0x1c8a}, {0x1e90, 0x1ea0}, {0x2100, 0x2140}, {0x3040, 0x3060}, {0x4e00, 0x4e20},
	{0xa640, 0xa650}, {0xff10, 0xff60}, {0x10400, 0x10450}, {0x1f600, 0x1f620}};

#define N_BLOCKS (sizeof(blocks) / sizeof(blocks[0]))

/* How often PCRE2 finds the pattern in the text. */
static size_t plain_count(const struct buf *pattern, uint32_t options)
{
	int code;
	PCRE2_SIZE at;
	pcre2_code *c = pcre2_compile(
		(PCRE2_SPTR)pattern->data, pattern->len, options | PCRE2_UTF, &code, &at, NULL);
	pcre2_match_data *m = pcre2_match_data_create(1, NULL);
	size_t from = 0, n = 0;

	ck_assert_ptr_nonnull(c);
	pcre2_jit_compile(c, PCRE2_JIT_COMPLETE);
	for (; pcre2_match(c, (PCRE2_SPTR)text.data, text.len, from, PCRE2_NO_UTF_CHECK, m, NULL) >=
		0;
		n++)
		from = pcre2_get_ovector_pointer(m)[1];
	pcre2_match_data_free(m);
	pcre2_code_free(c);
	return n;
}

/* How often a rule that warns does. */
static size_t count(const struct buf *pattern, const char *flags)
{
	struct guard_rules *rules;
	struct guard_fault fault;
	struct buf rule = {0}, out = {.max = 8 << 20};
	size_t n;

	buf_printf(&rule, "warn r /%.*s/%s", (int)pattern->len, pattern->data, flags);
	ck_assert_int_eq(
		guard_rules_parse(&rules, GUARD_OUTPUT, "f", rule.data, rule.len, &fault), 0);
	struct guard_set *set = guard_set_new(&rules, 1);
	guard_rules_put(rules);
	struct guard_stream *s = guard_stream_new(set);
	ck_assert_int_eq(guard_stream_feed(s, text.data, text.len, &out), 0);
	ck_assert_int_eq(guard_stream_end(s, &out), 0);
	guard_stream_findings(s, &n);
	guard_stream_free(s);
	guard_set_put(set);
	buf_free(&rule);
	buf_free(&out);
	return n;
}

/* Each character of a block, alone and in a set with another. */
START_TEST(all_cases_of_a_letter_are_found)
{
	const struct block *b = &blocks[_i];
	size_t others = 0;

	make_text();
	for (uint32_t c = b->first; c <= b->last; c++)
		for (unsigned f = 0; f < 2; f++) {
			struct buf pattern = {0};
			char bytes[4];
			int n = (int)utf8_encode(c, bytes);
			buf_printf(&pattern, "%s%.*s%szz", f ? "[7" : "", n, bytes, f ? "]" : "");
			size_t expected = plain_count(&pattern, PCRE2_CASELESS);
			ck_assert_uint_ge(expected, 1 + f);
			others += expected - 1 - f;
			ck_assert_msg(count(&pattern, "i") == expected, "U+%04X", (unsigned)c);
			ck_assert_uint_eq(count(&pattern, ""), 1 + f);
			buf_free(&pattern);
		}
	if (_i < 3) /* these have cases: the text has them */
		ck_assert_uint_gt(others, (b->last - b->first) / 2);
	buf_free(&text);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("cases");
	Suite *suite = suite_create("guard_cases");

	if (run_suite_has_one_thread())
		return 77;
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, all_cases_of_a_letter_are_found, 0, N_BLOCKS);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
