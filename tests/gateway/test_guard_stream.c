/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of guards. The heart: whatever the pieces, and with and without the prefilter, the bytes
 * released, the verdict and the findings are the same at every prefix of a text; and they agree
 * with a definition written here with plain pcre2_match on the whole text.
 */
#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"
#include "tests/run_suite.h"

/* ---- small tools ---- */

static uint64_t seed = 1;

static unsigned dice(unsigned n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)((seed >> 33) % n);
}

static struct guard_set *set_of(enum guard_stage stage, const char *text)
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

/* What came of a text. */
struct outcome {
	int r;
	struct buf out;
	struct guard_finding findings[64];
	size_t n, held;
};

static void outcome_of(struct outcome *o, struct guard_stream *s)
{
	const struct guard_finding *f = guard_stream_findings(s, &o->n);

	ck_assert_uint_le(o->n, 64);
	if (o->n)
		memcpy(o->findings, f, o->n * sizeof(*f));
	o->held = guard_stream_held(s);
}

/* Feeds pieces that end at cuts[]. */
static void run(struct outcome *o, struct guard_set *set, const char *text, size_t n,
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

static void must_agree(const struct outcome *a, const struct outcome *b, const char *rules,
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

/* ---- the definition ---- */

struct naive_match {
	size_t a, b;
};

/* Leftmost matches that do not overlap, over the whole text. */
static size_t naive_matches(const char *pattern, uint32_t options, enum guard_check check,
	const char *text, size_t n, struct naive_match *out, size_t max)
{
	int code;
	PCRE2_SIZE at;
	pcre2_code *c = pcre2_compile(
		(PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options | PCRE2_UTF, &code, &at, NULL);
	pcre2_match_data *m = pcre2_match_data_create(1, NULL);
	size_t k = 0, from = 0;

	ck_assert_ptr_nonnull(c);
	while (from <= n && k < max &&
		pcre2_match(c, (PCRE2_SPTR)text, n, from, PCRE2_NOTEMPTY, m, NULL) >= 0) {
		const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m);
		size_t a = v[0], b = v[1];
		from = b;
		if (guard_check_passes(check, text + a, b - a)) {
			out[k++] = (struct naive_match){a, b};
			continue;
		}
		for (from = a + 1; from < n && ((unsigned char)text[from] & 0xC0) == 0x80;)
			from++;
	}
	pcre2_match_data_free(m);
	pcre2_code_free(c);
	return k;
}

/* ---- the rules that are tried ---- */

static const struct sample {
	const char *pattern, *flags;
	enum guard_check check;
	const char *bits; /* of which texts are made, separated by | */
} samples[] = {
	{"secret", "", 0, "secret|secre|sec|s|et|ssecret"},
	{"ignore\\s+(previous|above|all)\\s+instructions", "i", 0,
		"Ignore|IGNORE| |\n|previous|instructions|all |above |instr|Prev"},
	{"\\b[\\w.%+-]{1,64}@[\\w.-]{1,63}\\.[A-Za-z]{2,8}\\b", "", 0,
		"joe|@|.|com|example|x.y| |@@|é|-|.co.uk"},
	{"\\b(?:\\d[ -]?){12,18}\\d\\b", "", GUARD_CHECK_LUHN,
		"4111 1111 1111 1111|4111111111111111|4|1| |-|5500-0000-0000-0004|x|12"},
	{"\\b[A-Z]{2}\\d{2}(?: ?[A-Z0-9]{1,4}){3,8}\\b", "", GUARD_CHECK_IBAN,
		"DE89 3704 0044 0532 0130 00|DE89|GB82WEST12345698765432|GB82| |3704|A|1234|x"},
	{"(?<=key=)\\w{4,8}", "", 0, "key=|key|=|abcd|ab|abcdefghij| |kkey="},
	{"(?<!\\w)\\d{3}-\\d{2}-\\d{4}(?!\\w)", "", 0, "123-45-6789|123|-45|-|6|x|_|9| "},
	{"\\b(?!000|666|9\\d\\d)\\d{3}-(?!00)\\d{2}-(?!0000)\\d{4}\\b", "", 0,
		"123-45-6789|000-12-3456|666-|900-|78|-00-|-|6|x| |078-05-1120"},
	/* Classes that PCRE2's compiled code looks for byte by byte, beside characters with such
	   bytes. */
	{"[£é]\\d", "i", 0,
		"pre\xc5\xa3"
		"5|£1|É2|é|5|a long piece of plain text so that it is one |ţ"},
	{"[\\v]x", "", 0,
		"\xc5\x85x|\n|x|\xc2\x85x| |y|a long piece of plain text so that it is one "},
	{"key:\\n^secret", "m", 0, "key:|\n|secret|my key:\n|^| "},
	{"ab(?#why){3}c", "", 0, "ab|abbb|c|b|abbbc|abc"},
	{"cat|category|cats", "", 0, "cat|egory|s|ca|c|categor| "},
	{"category|cat", "", 0, "cat|egory|s|ca|c|categor| "},
	{"a.*?b", "s", 0, "a|b|x|\n|ab|é|aab"},
	{"<[^>]{1,20}>", "", 0, "<|>|x|<b>|<<|aaaaaaaaaaaa|é|€"},
	{"-----BEGIN [A-Z ]+-----", "", 0, "-----|BEGIN |KEY|-----BEGIN|-|----|A B| "},
	{"foo$", "", 0, "foo|\n|fo|o| foo\n|x"},
	{"^line\\d+$", "m", 0, "line|1|23|\n|x|line7\n|\nline"},
	{"\\Astart", "", 0, "start|star|t|s| "},
	{"end\\z", "", 0, "end|en|d| |\n"},
	{"\\p{Lu}\\p{Ll}+ß", "u", 0, "Stra|ß|Ä|ä|x|Ö|S| |ße"},
	{"straße", "i", 0, "STRA|stra|ß|SSE|e|ſtraße|ẞ|s|ſ"},
	{"kelvin|mask", "i", 0, "kelvin|\u212aelvin|k|mas|\u212a|ma\u017fk|K|elv|in|MASK"},
	{"\\b\\w+ing\\b", "u", 0, "sing|ing|in|g|é|wörking| |-|k"},
	{"(\\w)\\1{3}", "", 0, "a|aa|aaa|b|bbbb| |é"},
	{"(a|b)*c", "", 0, "a|b|c|ab|x|abab"},
	{"(?>a+)b|a+c", "", 0, "a|aa|b|c|d"},
	{"x(?=yz)", "", 0, "x|y|z|xy|xyz|xx"},
	{"(?=a\\w{0,9}z)ab\\w", "", 0, "a|b|z|ab|abz|ac| |abcz"},
	{"x(?!yz)\\w", "", 0, "x|y|z|xy|xyz|xx| "},
	{"(?<=(?<!foo)bar)baz", "", 0, "foo|bar|baz|foobarbaz|ba|z|barbaz"},
	{"\\R\\S", "", 0, "\r|\n|\r\n|x| |\xe2\x80\xa8"},
	{"sk-[A-Za-z0-9]{8,12}", "", 0, "sk-|abcdefgh|sk|-|A1b2C3d4|x|ijkl|sk-sk-"},
	{"(?:\\d{1,3}\\.){3}\\d{1,3}", "", 0, "1|10|.|255.|1.2.3.4|192.168|..|x| "},
	{"(?i)pass(?-i)WORD", "", 0, "pass|PASS|WORD|word|Pa|ss|W"},
	{"(?:a{2}){3}b", "", 0, "a|aa|b|aaaaaa|{3}"},
	{"p a s s # comment", "x", 0, "pass|pa|s| |p a s s"},
	{"[^a-z\\s]{3}", "i", 0, "A|1|12|123|\u017f|é|€| |x"},
	{"[[:alpha:]]+[[:digit:]]", "", 0, "ab|1|c|é|x9|_"},
	{"((?:ab)?c){2,3}d", "", 0, "ab|c|d|abc|cc|x"},
	{"\\bthe (?:quick|slow) (?<who>fox|dog)\\b", "i", 0,
		"the |quick |slow |fox|dog|s|The |THE"},
};

#define N_SAMPLES (sizeof(samples) / sizeof(samples[0]))

static uint32_t options_of(const char *flags)
{
	uint32_t o = 0;

	for (; *flags; flags++)
		o |= *flags == 'i'   ? PCRE2_CASELESS
		     : *flags == 's' ? PCRE2_DOTALL
		     : *flags == 'm' ? PCRE2_MULTILINE
		     : *flags == 'x' ? PCRE2_EXTENDED
				     : PCRE2_UCP;
	return o;
}

static void print_rule(
	char *out, size_t size, const char *action, const char *name, const struct sample *s)
{
	snprintf(out, size, "%s %s /%s/%s%s\n", action, name, s->pattern, s->flags,
		s->check == GUARD_CHECK_LUHN   ? " check=luhn"
		: s->check == GUARD_CHECK_IBAN ? " check=iban"
					       : "");
}

/* One of the bits at random. */
static void add_bit(struct buf *b, const char *bits)
{
	unsigned n = 1;
	const char *p = bits;

	for (; *p; p++)
		n += *p == '|';
	n = dice(n);
	for (p = bits; n; p++)
		n -= *p == '|';
	buf_append(b, p, strcspn(p, "|"));
}

static void make_text(struct buf *b, const struct sample *s, unsigned n_bits)
{
	static const char filler[] = " |the |word|. |\n|of |42|x|Ünï|, |and then some more text ";

	buf_clear(b);
	buf_append(b, "", 0);
	for (unsigned i = 0; i < n_bits; i++)
		add_bit(b, dice(5) ? s->bits : filler);
}

/* ---- split invariance ---- */

/* Every prefix of the text: fed at once to `set`, and byte by byte to `plain`, which has no
 * filters. */
static void every_prefix_agrees(struct guard_set *set, struct guard_set *plain, const char *rules,
	const char *text, size_t n)
{
	struct guard_stream *s = guard_stream_new(plain);
	struct outcome slow = {0}, fast;

	for (size_t i = 0; i < n && slow.r == 0; i++) {
		slow.r = guard_stream_feed(s, text + i, 1, &slow.out);
		outcome_of(&slow, s);
		run(&fast, set, text, i + 1, NULL, 0, false);
		must_agree(&slow, &fast, rules, text, i + 1, "a prefix");
		ck_assert_uint_eq(slow.held, fast.held);
		ck_assert_uint_le(slow.held, GUARD_HOLD_MAX);
		buf_free(&fast.out);
	}
	if (slow.r == 0) {
		slow.r = guard_stream_end(s, &slow.out);
		outcome_of(&slow, s);
		run(&fast, set, text, n, NULL, 0, true);
		must_agree(&slow, &fast, rules, text, n, "the whole");
		ck_assert_uint_eq(guard_stream_held(s), slow.r == 1 ? slow.held : 0);
		buf_free(&fast.out);
	}
	buf_free(&slow.out);
	guard_stream_free(s);
}

static int by_size(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;
	return (x > y) - (x < y);
}

static void every_split_agrees(struct guard_set *set, const char *rules, const char *text, size_t n)
{
	struct outcome whole, split;
	size_t cuts[8];

	run(&whole, set, text, n, NULL, 0, true);
	for (size_t i = 1; i < n; i++) {
		run(&split, set, text, n, &i, 1, true);
		must_agree(&whole, &split, rules, text, n, "two pieces");
		buf_free(&split.out);
	}
	for (unsigned k = 0; k < 10; k++) {
		for (size_t i = 0; i < 8; i++)
			cuts[i] = dice((unsigned)n + 1);
		qsort(cuts, 8, sizeof(cuts[0]), by_size);
		run(&split, set, text, n, cuts, 8, true);
		must_agree(&whole, &split, rules, text, n, "many pieces");
		buf_free(&split.out);
	}
	buf_free(&whole.out);
}

static const char *const actions[] = {"redact", "block", "warn"};

START_TEST(a_rule_finds_the_same_for_every_split)
{
	const struct sample *s = &samples[_i];
	char rules[512];
	struct buf text = {0};

	seed = (uint64_t)_i + 1;
	for (unsigned a = 0; a < 3; a++) {
		print_rule(rules, sizeof(rules), actions[a], "r", s);
		struct guard_set *set = set_of(GUARD_OUTPUT, rules);
		guard_rules_use_filters(false);
		struct guard_set *plain = set_of(GUARD_OUTPUT, rules);
		guard_rules_use_filters(true);
		for (unsigned i = 0; i < 25; i++) {
			make_text(&text, s, 2 + dice(24));
			every_prefix_agrees(set, plain, rules, text.data, text.len);
			every_split_agrees(set, rules, text.data, text.len);
		}
		guard_set_put(set);
		guard_set_put(plain);
	}
	buf_free(&text);
}
END_TEST

/* The text with the matches replaced. */
static void naive_redact(
	struct buf *out, const char *text, size_t n, const struct naive_match *m, size_t n_matches)
{
	size_t at = 0;

	for (size_t i = 0; i < n_matches; i++) {
		buf_append(out, text + at, m[i].a - at);
		buf_append_str(out, "[r]");
		at = m[i].b;
	}
	buf_append(out, text + at, n - at);
}

START_TEST(what_is_found_is_what_a_search_of_the_whole_text_finds)
{
	const struct sample *s = &samples[_i];
	struct guard_set *sets[3];
	struct buf text = {0};
	struct naive_match m[256];
	char rules[512];

	seed = (uint64_t)_i + 1000;
	for (unsigned a = 0; a < 3; a++) {
		print_rule(rules, sizeof(rules), actions[a], "r", s);
		sets[a] = set_of(GUARD_OUTPUT, rules);
	}
	for (unsigned i = 0; i < 200; i++) {
		struct outcome o;
		struct buf expected = {0};
		make_text(&text, s, 2 + dice(40));
		size_t k = naive_matches(
			s->pattern, options_of(s->flags), s->check, text.data, text.len, m, 256);
		run(&o, sets[0], text.data, text.len, NULL, 0, true);
		naive_redact(&expected, text.data, text.len, m, k);
		ck_assert_int_eq(o.r, 0);
		ck_assert_msg(
			o.out.len == expected.len && !memcmp(o.out.data, expected.data, o.out.len),
			"%s\n<%s>\n<%s>\n<%s>", rules, text.data, expected.data, o.out.data);
		buf_free(&o.out);
		buf_free(&expected);
		run(&o, sets[2], text.data, text.len, NULL, 0, true);
		ck_assert_uint_eq(o.n, k);
		for (size_t j = 0; j < k; j++) {
			ck_assert_uint_eq(o.findings[j].offset, m[j].a);
			ck_assert_uint_eq(o.findings[j].len, m[j].b - m[j].a);
		}
		ck_assert_uint_eq(o.out.len, text.len);
		buf_free(&o.out);
		run(&o, sets[1], text.data, text.len, NULL, 0, true);
		ck_assert_int_eq(o.r, k > 0);
		ck_assert_uint_le(o.out.len, k > 0 ? m[0].a : text.len);
		buf_free(&o.out);
	}
	for (unsigned a = 0; a < 3; a++)
		guard_set_put(sets[a]);
	buf_free(&text);
}
END_TEST

/* ---- many rules, long texts ---- */

/* All samples in one file, with actions by turns; `stop`: that one blocks. */
static void all_rules(struct buf *b, size_t stop)
{
	char name[16], rule[512];

	buf_clear(b);
	for (size_t i = 0; i < N_SAMPLES; i++) {
		snprintf(name, sizeof(name), "r%zu", i);
		print_rule(rule, sizeof(rule),
			i == stop ? "block"
			: i % 3   ? "redact"
				  : "warn",
			name, &samples[i]);
		buf_append_str(b, rule);
	}
}

struct long_outcome {
	int r;
	struct buf out;
	struct guard_finding *findings;
	size_t n;
};

/* Pieces of up to `most` bytes. */
static void run_long(
	struct long_outcome *o, struct guard_set *set, const struct buf *text, unsigned most)
{
	struct guard_stream *s = guard_stream_new(set);

	*o = (struct long_outcome){0};
	for (size_t at = 0, n; at < text->len && o->r == 0; at += n) {
		n = 1 + dice(most);
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

static void must_agree_long(const struct long_outcome *a, const struct long_outcome *b)
{
	ck_assert_int_eq(a->r, b->r);
	ck_assert_uint_eq(a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		ck_assert_str_eq(a->findings[i].rule, b->findings[i].rule);
		ck_assert_str_eq(a->findings[i].why, b->findings[i].why);
		ck_assert_uint_eq(a->findings[i].offset, b->findings[i].offset);
		ck_assert_uint_eq(a->findings[i].len, b->findings[i].len);
		ck_assert_int_eq(a->findings[i].action, b->findings[i].action);
	}
	ck_assert_uint_eq(a->out.len, b->out.len);
	ck_assert(!a->out.len || !memcmp(a->out.data, b->out.data, a->out.len));
}

static void free_long(struct long_outcome *o)
{
	buf_free(&o->out);
	free(o->findings);
}

START_TEST(long_texts_and_many_rules_do_not_depend_on_pieces)
{
	static const unsigned most[] = {3, 40, 200, 5000, 30000};
	struct buf rules = {0}, text = {0}, part = {0};
	struct long_outcome whole, pieces;
	/* The rules without a bound would reach the hold limit in long texts: they are bounded by
	 * what the texts are made of. A block comes late: few texts hold sample 31. */
	size_t stop = _i % 3 ? N_SAMPLES : 31;

	seed = (uint64_t)_i + 77;
	all_rules(&rules, stop);
	struct guard_set *set = set_of(GUARD_OUTPUT, rules.data);
	guard_rules_use_filters(false);
	struct guard_set *plain = set_of(GUARD_OUTPUT, rules.data);
	guard_rules_use_filters(true);
	for (unsigned i = 0; i < 3; i++) {
		size_t bytes = i == 2 ? 45000 : 1 + dice(3000);
		buf_clear(&text);
		while (text.len < bytes) {
			make_text(&part, &samples[dice(N_SAMPLES)], 12);
			buf_append(&text, part.data, part.len);
			buf_append_str(&text, "|b c d ");
		}
		run_long(&whole, set, &text, 1u << 30);
		for (unsigned k = 0; k < sizeof(most) / sizeof(most[0]); k++) {
			run_long(&pieces, set, &text, most[k]);
			must_agree_long(&whole, &pieces);
			free_long(&pieces);
		}
		run_long(&pieces, plain, &text, 2000);
		must_agree_long(&whole, &pieces);
		free_long(&pieces);
		free_long(&whole);
	}
	guard_set_put(set);
	guard_set_put(plain);
	buf_free(&rules);
	buf_free(&text);
	buf_free(&part);
}
END_TEST

/* ---- one sentence of the contract each ---- */

/* Feeds text as a whole; the stream stays open. */
static struct guard_stream *fed(const char *rules, const char *text, int *r, struct buf *out)
{
	struct guard_set *set = set_of(GUARD_OUTPUT, rules);
	struct guard_stream *s = guard_stream_new(set);

	guard_set_put(set);
	*out = (struct buf){0};
	buf_append(out, "", 0);
	*r = guard_stream_feed(s, text, strlen(text), out);
	return s;
}

static void must_give(const char *rules, const char *text, int expected, const char *released)
{
	struct guard_set *set = set_of(GUARD_OUTPUT, rules);
	struct outcome o;

	run(&o, set, text, strlen(text), NULL, 0, true);
	buf_append(&o.out, "", 1);
	ck_assert_int_eq(o.r, expected);
	ck_assert_str_eq(o.out.data, released);
	buf_free(&o.out);
	every_split_agrees(set, rules, text, strlen(text));
	guard_set_put(set);
}

START_TEST(redactions_that_overlap_become_one)
{
	must_give("redact a /abc/\nredact b /cde/\nredact c /efg/\n", "xabcdefgx", 0, "x[a]x");
	must_give("redact a /abc/\nredact b /cd/\n", "abcd abc cd", 0, "[a] [a] [b]");
	must_give("redact a /abc/\nredact b /abcd/\n", "abcd", 0, "[a]");
	must_give("redact b /abcd/\nredact a /abc/\n", "abcd", 0, "[b]");
	must_give("redact b /bc/\nredact a /abcd/\n", "abcd", 0, "[a]");
	must_give("redact a /ab/\nredact b /cd/\n", "abcd", 0, "[a][b]");
}
END_TEST

START_TEST(a_block_ends_the_text_before_the_match)
{
	must_give("block a /secret/\n", "xx secretyy", 1, "xx ");
	must_give("block a /secret\\b/\n", "xx secretyy secret", 1, "xx secretyy ");
	must_give("block a /secret\\b/\n", "xx secret!", 1, "xx ");
	must_give("redact r /xx/\nblock a /secret/\n", "xx secret", 1, "[r] ");
	must_give("redact r /x .*z/\nblock a /secret/\n", "ax secret", 1, "a");
}
END_TEST

START_TEST(a_block_is_told_at_the_first_piece_by_which_it_is_certain)
{
	struct guard_set *set = set_of(GUARD_OUTPUT, "block a /ab+c?/\nwarn w /zz/\n");
	struct guard_stream *s = guard_stream_new(set);
	struct buf out = {0};
	size_t n;

	ck_assert_int_eq(guard_stream_feed(s, "zz ab", 5, &out), 0);
	ck_assert_int_eq(guard_stream_feed(s, "b", 1, &out), 0);
	ck_assert_uint_eq(guard_stream_held(s), 3);
	ck_assert_int_eq(guard_stream_feed(s, "x", 1, &out), 1);
	ck_assert_int_eq(guard_stream_feed(s, "x", 1, &out), 1);
	ck_assert_uint_eq(out.len, 3);
	const struct guard_finding *f = guard_stream_findings(s, &n);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(f[0].action, GUARD_WARN);
	ck_assert_int_eq(f[1].action, GUARD_BLOCK);
	ck_assert_str_eq(f[1].why, "match");
	ck_assert_uint_eq(f[1].offset, 3);
	ck_assert_uint_eq(f[1].len, 3);
	guard_stream_free(s);
	guard_set_put(set);
	buf_free(&out);
}
END_TEST

START_TEST(findings_come_in_the_order_of_the_text)
{
	struct outcome o;
	const char *rules = "warn long /a.{6}b/\nwarn c /c/\nredact d /d/\nwarn e /c/\n";
	struct guard_set *set = set_of(GUARD_OUTPUT, rules);

	run(&o, set, "xa c d   c b cd", 15, NULL, 0, true);
	static const char *const names[] = {"c", "e", "d", "c", "e", "c", "e", "d"};
	ck_assert_uint_eq(o.n, 8);
	for (size_t i = 0; i < 8; i++)
		ck_assert_str_eq(o.findings[i].rule, names[i]);
	buf_free(&o.out);
	run(&o, set, "xa c d  bc", 10, NULL, 0, true);
	ck_assert_uint_eq(o.n, 6);
	ck_assert_str_eq(o.findings[0].rule, "long");
	buf_free(&o.out);
	every_split_agrees(set, rules, "xa c d   c b cd", 15);
	every_split_agrees(set, rules, "xa c d  bc", 10);
	guard_set_put(set);
}
END_TEST

/* The rule on n times 'x', and then '@'. */
static void run_held(struct outcome *o, const char *rule, size_t n, unsigned most)
{
	struct guard_set *set = set_of(GUARD_OUTPUT, rule);
	struct buf text = {0};
	struct long_outcome l;

	for (size_t i = 0; i < n; i++)
		buf_append_str(&text, i % 3 ? "x" : "\xc3\xa9");
	buf_append_str(&text, "@ ");
	run_long(&l, set, &text, most);
	*o = (struct outcome){.r = l.r, .out = l.out, .n = l.n, .held = text.len};
	ck_assert_uint_le(l.n, 64);
	memcpy(o->findings, l.findings, l.n * sizeof(*l.findings));
	free(l.findings);
	buf_free(&text);
	guard_set_put(set); /* findings' names are not looked at after this */
}

START_TEST(what_is_held_too_long_blocks_unless_it_only_warns)
{
	static const unsigned most[] = {1, 7, 100, 1u << 20};
	struct outcome o;

	for (unsigned k = 0; k < 4; k++) {
		run_held(&o, "redact a /\\S+@/", 2000, most[k]);
		ck_assert_int_eq(o.r, 0);
		ck_assert_uint_eq(o.out.len, 4); /* "[a] " */
		buf_free(&o.out);
		run_held(&o, "redact a /\\S+@/", 4000, most[k]);
		ck_assert_int_eq(o.r, 1);
		ck_assert_uint_eq(o.out.len, 0);
		ck_assert_uint_eq(o.n, 1);
		ck_assert_str_eq(o.findings[0].why, "hold limit");
		ck_assert_int_eq(o.findings[0].action, GUARD_BLOCK);
		buf_free(&o.out);
		run_held(&o, "block a /\\S+@/", 4000, most[k]);
		ck_assert_int_eq(o.r, 1);
		buf_free(&o.out);
		run_held(&o, "warn a /\\S+@/", 4000, most[k]);
		ck_assert_int_eq(o.r, 0);
		ck_assert_uint_eq(o.out.len, o.held);
		ck_assert_uint_eq(o.n, 2);
		ck_assert_str_eq(o.findings[0].why, "hold limit");
		ck_assert_str_eq(o.findings[1].why, "match");
		buf_free(&o.out);
	}
}
END_TEST

START_TEST(the_hold_limit_is_reached_at_exactly_its_bytes)
{
	struct guard_set *set = set_of(GUARD_OUTPUT, "block a /\\w+@/");
	struct guard_stream *s = guard_stream_new(set);
	struct buf out = {0};

	for (size_t i = 1; i < GUARD_HOLD_MAX; i++)
		ck_assert_int_eq(guard_stream_feed(s, "x", 1, &out), 0);
	ck_assert_uint_eq(guard_stream_held(s), GUARD_HOLD_MAX - 1);
	ck_assert_int_eq(guard_stream_feed(s, "x", 1, &out), 1);
	ck_assert_uint_eq(out.len, 0);
	guard_stream_free(s);
	guard_set_put(set);
	buf_free(&out);
}
END_TEST

START_TEST(a_rule_at_its_step_limit_fails_closed)
{
	static const unsigned most[] = {1, 9, 1u << 20};
	struct buf text = {0};
	struct long_outcome o;

	buf_append_str(&text, "fine. aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac and more");
	for (unsigned k = 0; k < 3; k++) {
		struct guard_set *set = set_of(GUARD_OUTPUT, "redact a /(?:a+)+b/");
		run_long(&o, set, &text, most[k]);
		ck_assert_int_eq(o.r, 1);
		ck_assert_uint_eq(o.out.len, 6);
		ck_assert_uint_eq(o.n, 1);
		ck_assert_str_eq(o.findings[0].why, "step limit");
		ck_assert_int_eq(o.findings[0].action, GUARD_BLOCK);
		ck_assert_uint_eq(o.findings[0].offset, 6);
		free_long(&o);
		guard_set_put(set);
		set = set_of(GUARD_OUTPUT, "warn a /(?:a+)+b/");
		run_long(&o, set, &text, most[k]);
		ck_assert_int_eq(o.r, 0);
		ck_assert_uint_eq(o.out.len, text.len);
		ck_assert_uint_eq(o.n, 1);
		free_long(&o);
		guard_set_put(set);
	}
	buf_free(&text);
}
END_TEST

START_TEST(characters_too_many_are_not_released)
{
	must_give("block m max_chars 3\n", "abc", 0, "abc");
	must_give("block m max_chars 3\n", "abcd", 1, "abc");
	must_give("block m max_chars 3\n", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80x", 1,
		"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
	must_give("warn m max_chars 3\n", "abcdef", 0, "abcdef");
	must_give("block m max_chars 3\nredact r /cde/\n", "abcdef", 1, "ab");
	must_give("block m max_chars 4\nredact r /ab/\n", "abcdef", 1, "[r]cd");
}
END_TEST

START_TEST(what_is_not_utf_8_ends_the_stream)
{
	static const struct {
		const char *text;
		size_t valid;
		bool cut_off; /* only the end is missing */
	} texts[] = {
		{"ab\xff"
		 "cd",
			2, false},
		{"ab\xc3", 2, true},
		{"ab\xe2\x82", 2, true},
		{"ab\xe2\x82x", 2, false},
		{"ab\xed\xa0\x80", 2, false},
		{"ab\xc0\x80", 2, false},
		{"\xc3\xa9\xf0\x9f\x98", 2, true},
		{"\xf4\x90\x80\x80", 0, false},
		{"a\x80", 1, false},
		{"ab\xf0\x9f\x98\x80\x80", 6, false},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct guard_set *set = set_of(GUARD_OUTPUT, "block a /zz/");
		struct outcome o;
		size_t n = strlen(texts[i].text);
		run(&o, set, texts[i].text, n, NULL, 0, false);
		ck_assert_int_eq(o.r, texts[i].cut_off ? 0 : -EILSEQ);
		ck_assert_uint_eq(o.out.len, texts[i].valid);
		buf_free(&o.out);
		run(&o, set, texts[i].text, n, NULL, 0, true);
		ck_assert_int_eq(o.r, -EILSEQ);
		buf_free(&o.out);
		every_split_agrees(set, "", texts[i].text, n);
		guard_set_put(set);
	}
}
END_TEST

START_TEST(peek_says_what_an_end_would_and_changes_nothing)
{
	struct guard_finding f;
	struct buf out;
	int r;
	struct guard_stream *s =
		fed("warn w /a(?!b)/\nblock a /foo(?!bar)/\nredact r /x+/\n", "a foo", &r, &out);

	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(out.len, 2);
	for (unsigned i = 0; i < 2; i++) {
		memset(&f, 0, sizeof(f));
		ck_assert_int_eq(guard_stream_peek(s, &f), 1);
		ck_assert_str_eq(f.rule, "a");
		ck_assert_uint_eq(f.offset, 2);
		ck_assert_uint_eq(guard_stream_held(s), 3);
	}
	ck_assert_int_eq(guard_stream_feed(s, "bar", 3, &out), 0);
	ck_assert_int_eq(guard_stream_peek(s, &f), 0);
	ck_assert_uint_eq(out.len, 8);
	ck_assert_int_eq(guard_stream_feed(s, " xxx", 4, &out), 0);
	ck_assert_int_eq(guard_stream_peek(s, &f), 0); /* a redaction is no block */
	ck_assert_int_eq(guard_stream_feed(s, "foo", 3, &out), 0);
	ck_assert_int_eq(guard_stream_peek(s, &f), 1);
	ck_assert_int_eq(guard_stream_end(s, &out), 1);
	guard_stream_free(s);
	buf_free(&out);
}
END_TEST

START_TEST(peek_agrees_with_the_end_at_every_prefix)
{
	const struct sample *sample = &samples[_i];
	struct buf text = {0};
	char rules[512];

	seed = (uint64_t)_i + 5000;
	print_rule(rules, sizeof(rules), "block", "r", sample);
	struct guard_set *set = set_of(GUARD_OUTPUT, rules);
	for (unsigned k = 0; k < 20; k++) {
		struct guard_stream *s = guard_stream_new(set);
		struct guard_finding f;
		struct buf out = {0};
		make_text(&text, sample, 12);
		for (size_t i = 0; i < text.len; i++) {
			struct outcome o;
			if (guard_stream_feed(s, text.data + i, 1, &out))
				break;
			run(&o, set, text.data, i + 1, NULL, 0, true);
			if (o.r >= 0) /* not within a character */
				ck_assert_int_eq(guard_stream_peek(s, &f), o.r);
			buf_free(&o.out);
		}
		guard_stream_free(s);
		buf_free(&out);
	}
	guard_set_put(set);
	buf_free(&text);
}
END_TEST

START_TEST(look_behind_sees_what_was_released_long_ago)
{
	struct guard_set *set = set_of(
		GUARD_OUTPUT, "redact b /(?<=KEY.{200})x/\nredact a /\\Ay/\nredact c /^z/\n");
	struct guard_stream *s = guard_stream_new(set);
	struct buf text = {0}, out = {0};
	size_t marks = 0;

	buf_append_str(&text, "y");
	for (unsigned i = 0; i < 60; i++) {
		buf_append_str(&text, i % 2 ? "KEY" : "KEX");
		for (unsigned k = 0; k < 200; k++)
			buf_append_str(&text, "\xe2\x82\xac");
		buf_append_str(&text, "xyz");
	}
	for (size_t i = 0; i < text.len; i += 100)
		ck_assert_int_eq(guard_stream_feed(s, text.data + i,
					 text.len - i < 100 ? text.len - i : 100, &out),
			0);
	ck_assert_int_eq(guard_stream_end(s, &out), 0);
	for (char *p = out.data; (p = strstr(p, "[b]")); p++)
		marks++;
	ck_assert_uint_eq(marks, 30);
	ck_assert_ptr_eq(strstr(out.data, "[a]"), out.data);
	ck_assert_ptr_null(strstr(out.data + 1, "[a]"));
	ck_assert_ptr_null(strstr(out.data, "[c]"));
	guard_stream_free(s);
	guard_set_put(set);
	buf_free(&text);
	buf_free(&out);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("guard_stream");
	TCase *c = tcase_create("splits");

	tcase_set_timeout(c, 120);
	tcase_add_loop_test(c, a_rule_finds_the_same_for_every_split, 0, N_SAMPLES);
	tcase_add_loop_test(
		c, what_is_found_is_what_a_search_of_the_whole_text_finds, 0, N_SAMPLES);
	tcase_add_loop_test(c, long_texts_and_many_rules_do_not_depend_on_pieces, 0, 6);
	tcase_add_loop_test(c, peek_agrees_with_the_end_at_every_prefix, 0, N_SAMPLES);
	tcase_add_test(c, redactions_that_overlap_become_one);
	tcase_add_test(c, a_block_ends_the_text_before_the_match);
	tcase_add_test(c, a_block_is_told_at_the_first_piece_by_which_it_is_certain);
	tcase_add_test(c, findings_come_in_the_order_of_the_text);
	tcase_add_test(c, what_is_held_too_long_blocks_unless_it_only_warns);
	tcase_add_test(c, the_hold_limit_is_reached_at_exactly_its_bytes);
	tcase_add_test(c, a_rule_at_its_step_limit_fails_closed);
	tcase_add_test(c, characters_too_many_are_not_released);
	tcase_add_test(c, what_is_not_utf_8_ends_the_stream);
	tcase_add_test(c, peek_says_what_an_end_would_and_changes_nothing);
	tcase_add_test(c, look_behind_sees_what_was_released_long_ago);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	return run_suite(suite());
}
