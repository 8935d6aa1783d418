/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of guards. The heart: whatever the pieces, and with and without the prefilter, the bytes
 * released, the verdict and the findings are the same at every prefix of a text; and they agree
 * with a definition written here with plain pcre2_match on the whole text.
 */
#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tests/gateway/outcome_fixture.h"
#include "tests/run_suite.h"

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
	/* Letters of two and three bytes, their cases, and those of other lengths. */
	{"\u0434\u043e\u043b\u0433", "i", 0,
		"\u0434\u043e\u043b\u0433|\u0414|\u041e|\u041b\u0413|\u0434\u043e|\u1c81|"
		"\u1c82\u043b|"
		"\u0433| |\u0414\u041e\u041b\u0413|\u0432"},
	{"\u00fcb[\u00e5\u00e4]ng", "i", 0,
		"\u00fcb\u00e5ng|\u00dcB\u00c4NG|\u00fc|b|\u212bng|\u00dcb|\u00e4|ng|\u00e5| "},
	{"(?:\u5ffd\u7565|\u65e0\u89c6)[^\\n\u3002]{0,3}?[\u4ee5\u4e4b\u5148]\u524d", "", 0,
		"\u5ffd\u7565|\u65e0\u89c6|\u5ffd|\u7565|\u4ee5|\u524d|\u4e4b\u524d|\u5148|\u3002|"
		"\u524e|x"},
	{"[\u07f0-\u0810]-[\uffff-\U00010001]", "", 0,
		"\u07ff|\u0800|-|\u07ff-|\U00010000|\uffff|\u0811|\U00010002|x| "},
	{"[\U0001f600\u2764\ufe0f\u00a9\u00ae\u2122\u00b0\u00b1\u00b2\u2713]{2}!", "i", 0,
		"\U0001f600|\u2764|\ufe0f|\u00a9|!|\u2713!|x|\u2122|\u2714"},
	/* An octal escape as the last of a set. */
	{"[a\\7]b", "", 0, "a|b|\a|ab|\ab|x"},
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
	n = outcome_dice(n);
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
		add_bit(b, outcome_dice(5) ? s->bits : filler);
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
		outcome_run(&fast, set, text, i + 1, NULL, 0, false);
		outcome_must_agree(&slow, &fast, rules, text, i + 1, "a prefix");
		ck_assert_uint_eq(slow.held, fast.held);
		ck_assert_uint_le(slow.held, GUARD_HOLD_MAX);
		buf_free(&fast.out);
	}
	if (slow.r == 0) {
		slow.r = guard_stream_end(s, &slow.out);
		outcome_of(&slow, s);
		outcome_run(&fast, set, text, n, NULL, 0, true);
		outcome_must_agree(&slow, &fast, rules, text, n, "the whole");
		ck_assert_uint_eq(guard_stream_held(s), slow.r == 1 ? slow.held : 0);
		buf_free(&fast.out);
	}
	buf_free(&slow.out);
	guard_stream_free(s);
}

static const char *const actions[] = {"redact", "block", "warn"};

START_TEST(a_rule_finds_the_same_for_every_split)
{
	const struct sample *s = &samples[_i];
	char rules[512];
	struct buf text = {0};

	outcome_seed = (uint64_t)_i + 1;
	for (unsigned a = 0; a < 3; a++) {
		print_rule(rules, sizeof(rules), actions[a], "r", s);
		struct guard_set *set = outcome_rules(GUARD_OUTPUT, rules);
		guard_rules_use_filters(false);
		struct guard_set *plain = outcome_rules(GUARD_OUTPUT, rules);
		guard_rules_use_filters(true);
		for (unsigned i = 0; i < 25; i++) {
			make_text(&text, s, 2 + outcome_dice(24));
			every_prefix_agrees(set, plain, rules, text.data, text.len);
			outcome_every_split_agrees(set, rules, text.data, text.len);
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

	outcome_seed = (uint64_t)_i + 1000;
	for (unsigned a = 0; a < 3; a++) {
		print_rule(rules, sizeof(rules), actions[a], "r", s);
		sets[a] = outcome_rules(GUARD_OUTPUT, rules);
	}
	for (unsigned i = 0; i < 200; i++) {
		struct outcome o;
		struct buf expected = {0};
		make_text(&text, s, 2 + outcome_dice(40));
		size_t k = naive_matches(
			s->pattern, options_of(s->flags), s->check, text.data, text.len, m, 256);
		outcome_run(&o, sets[0], text.data, text.len, NULL, 0, true);
		naive_redact(&expected, text.data, text.len, m, k);
		ck_assert_int_eq(o.r, 0);
		ck_assert_msg(
			o.out.len == expected.len && !memcmp(o.out.data, expected.data, o.out.len),
			"%s\n<%s>\n<%s>\n<%s>", rules, text.data, expected.data, o.out.data);
		buf_free(&o.out);
		buf_free(&expected);
		outcome_run(&o, sets[2], text.data, text.len, NULL, 0, true);
		ck_assert_uint_eq(o.n, k);
		for (size_t j = 0; j < k; j++) {
			ck_assert_uint_eq(o.findings[j].offset, m[j].a);
			ck_assert_uint_eq(o.findings[j].len, m[j].b - m[j].a);
		}
		ck_assert_uint_eq(o.out.len, text.len);
		buf_free(&o.out);
		outcome_run(&o, sets[1], text.data, text.len, NULL, 0, true);
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

START_TEST(long_texts_and_many_rules_do_not_depend_on_pieces)
{
	static const unsigned most[] = {3, 40, 200, 5000, 30000};
	struct buf rules = {0}, text = {0}, part = {0};
	struct long_outcome whole, pieces;
	/* The rules without a bound would reach the hold limit in long texts: they are bounded by
	 * what the texts are made of. A block comes late: few texts hold sample 31. */
	size_t stop = _i % 3 ? N_SAMPLES : 31;

	outcome_seed = (uint64_t)_i + 77;
	all_rules(&rules, stop);
	struct guard_set *set = outcome_rules(GUARD_OUTPUT, rules.data);
	guard_rules_use_filters(false);
	struct guard_set *plain = outcome_rules(GUARD_OUTPUT, rules.data);
	guard_rules_use_filters(true);
	for (unsigned i = 0; i < 3; i++) {
		size_t bytes = i == 2 ? 45000 : 1 + outcome_dice(3000);
		buf_clear(&text);
		while (text.len < bytes) {
			make_text(&part, &samples[outcome_dice(N_SAMPLES)], 12);
			buf_append(&text, part.data, part.len);
			buf_append_str(&text, "|b c d ");
		}
		outcome_run_long(&whole, set, &text, 1u << 30);
		for (unsigned k = 0; k < sizeof(most) / sizeof(most[0]); k++) {
			outcome_run_long(&pieces, set, &text, most[k]);
			must_agree_long(&whole, &pieces);
			outcome_free_long(&pieces);
		}
		outcome_run_long(&pieces, plain, &text, 2000);
		must_agree_long(&whole, &pieces);
		outcome_free_long(&pieces);
		outcome_free_long(&whole);
	}
	guard_set_put(set);
	guard_set_put(plain);
	buf_free(&rules);
	buf_free(&text);
	buf_free(&part);
}
END_TEST

/* ---- one sentence of the contract each ---- */

START_TEST(peek_agrees_with_the_end_at_every_prefix)
{
	const struct sample *sample = &samples[_i];
	struct buf text = {0};
	char rules[512];

	outcome_seed = (uint64_t)_i + 5000;
	print_rule(rules, sizeof(rules), "block", "r", sample);
	struct guard_set *set = outcome_rules(GUARD_OUTPUT, rules);
	for (unsigned k = 0; k < 20; k++) {
		struct guard_stream *s = guard_stream_new(set);
		struct guard_finding f;
		struct buf out = {0};
		make_text(&text, sample, 12);
		for (size_t i = 0; i < text.len; i++) {
			struct outcome o;
			if (guard_stream_feed(s, text.data + i, 1, &out))
				break;
			outcome_run(&o, set, text.data, i + 1, NULL, 0, true);
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

static Suite *suite(void)
{
	Suite *s = suite_create("guard_splits");
	TCase *c = tcase_create("splits");

	tcase_set_timeout(c, 120);
	tcase_add_loop_test(c, a_rule_finds_the_same_for_every_split, 0, N_SAMPLES);
	tcase_add_loop_test(
		c, what_is_found_is_what_a_search_of_the_whole_text_finds, 0, N_SAMPLES);
	tcase_add_loop_test(c, long_texts_and_many_rules_do_not_depend_on_pieces, 0, 6);
	tcase_add_loop_test(c, peek_agrees_with_the_end_at_every_prefix, 0, N_SAMPLES);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	return run_suite(suite());
}
