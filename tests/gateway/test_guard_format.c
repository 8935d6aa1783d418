/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, JSON and schemas: what a pattern cannot say. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"
#include "tests/run_suite.h"

/* 0: let through; 1: blocked. Fed in pieces of three bytes. */
static int judge(const char *rules, const char *text)
{
	struct guard_rules *parsed;
	struct guard_fault f;
	int r = guard_rules_parse(&parsed, GUARD_OUTPUT, "f", rules, strlen(rules), &f);

	ck_assert_msg(r == 0, "%s: %u:%u %s", rules, f.line, f.column, f.reason);
	struct guard_set *set = guard_set_new(&parsed, 1);
	struct guard_stream *s = guard_stream_new(set);
	struct buf out = {0};
	size_t n = strlen(text);
	guard_rules_put(parsed);
	guard_set_put(set);
	for (size_t i = 0; i < n && r == 0; i += 3) {
		r = guard_stream_feed(s, text + i, n - i < 3 ? n - i : 3, &out);
		ck_assert_uint_eq(out.len, 0); /* held back to the end */
	}
	if (r == 0)
		r = guard_stream_end(s, &out);
	ck_assert_uint_eq(out.len, r == 0 ? n : 0);
	buf_free(&out);
	guard_stream_free(s);
	return r;
}

static const struct {
	const char *text;
	bool is_json;
} values[] = {
	{"{}", true},
	{" [1, -2.5e-3, 0, true, false, null]\n", true},
	{"{\"a\\u00e9\\n\": [{}, []], \"\": \"\xc3\xa9\"}", true},
	{"\"x\"", true},
	{"12", true},
	{"123456789012345678901234567890", true},
	{"1e400", true},
	{"{\"a\": 1, \"a\": 2}", true},
	{"", false},
	{"  ", false},
	{"{", false},
	{"{}x", false},
	{"{} {}", false},
	{"{\"a\"}", false},
	{"{\"a\":}", false},
	{"{a: 1}", false},
	{"[1,]", false},
	{"[1 2]", false},
	{"01", false},
	{"1.", false},
	{".5", false},
	{"+1", false},
	{"1e", false},
	{"- 1", false},
	{"'x'", false},
	{"\"x", false},
	{"\"\\x\"", false},
	{"\"\\u12g4\"", false},
	{"\"\t\"", false},
	{"nul", false},
	{"True", false},
	{"```json\n{}\n```", false},
	{"[", false},
	{"]", false},
	{"{,}", false},
};

START_TEST(json_is_one_value_and_nothing_else)
{
	ck_assert_msg(judge("block j json", values[_i].text) == !values[_i].is_json, "%s",
		values[_i].text);
}
END_TEST

START_TEST(json_is_not_nested_without_a_bound)
{
	char text[2001];

	memset(text, '[', 1000);
	memset(text + 1000, ']', 1000);
	text[2000] = 0;
	ck_assert_int_eq(judge("block j json", text), 1);
	ck_assert_int_eq(judge("block j json", text + 900), 1); /* unequal */
	text[1100] = 0;
	ck_assert_int_eq(judge("block j json", text + 900), 0); /* 100 deep */
}
END_TEST

static const struct {
	const char *schema, *good, *bad;
} schemas[] = {
	{"{\"type\": \"object\"}", "{}", "[]"},
	{"{\"type\": [\"string\", \"null\"]}", "null", "1"},
	{"{\"type\": \"integer\"}", "3.0", "3.5"},
	{"{\"type\": \"number\"}", "3", "\"3\""},
	{"{\"type\": \"number\"}", "3.5", "true"},
	{"{\"type\": \"boolean\"}", "false", "null"},
	{"{\"required\": [\"a\", \"b\"]}", "{\"a\": 1, \"b\": null}", "{\"a\": 1}"},
	{"{\"properties\": {\"a\": {\"type\": \"string\"}}}", "{\"b\": 1}", "{\"a\": 1}"},
	{"{\"properties\": {\"a\": {}}, \"additionalProperties\": false}", "{\"a\": 1}",
		"{\"a\": 1, \"b\": 1}"},
	{"{\"properties\": {\"a\": {}}, \"additionalProperties\": true}", "{\"b\": 1}", "x"},
	{"{\"items\": {\"minimum\": 2}}", "[2, 3]", "[3, 1]"},
	{"{\"enum\": [\"a\", 1, [2]]}", "[2.0]", "\"b\""},
	{"{\"const\": {\"x\": [1]}}", "{\"x\": [1]}", "{\"x\": [1], \"y\": 0}"},
	{"{\"minimum\": 1.5, \"maximum\": 2}", "2", "1"},
	{"{\"minimum\": 1.5, \"maximum\": 2}", "1.5", "2.1"},
	{"{\"minLength\": 2, \"maxLength\": 3}", "\"\xc3\xa9\xc3\xa9\"", "\"\xc3\xa9\""},
	{"{\"maxLength\": 3}", "\"abc\"", "\"abcd\""},
	{"{\"minItems\": 1, \"maxItems\": 2}", "[1]", "[]"},
	{"{\"maxItems\": 2}", "[1, 2]", "[1, 2, 3]"},
	{"{\"pattern\": \"^a+$\"}", "\"aaa\"", "\"aab\""},
	{"{\"pattern\": \"^a+$\"}", "7", "\"\""},
	{"{\"$schema\": \"x\", \"title\": 1, \"description\": 2, \"default\": 3, \"examples\": 4}",
		"1", "{"},
	{"{\"type\": \"object\"}", "{\"a\": 1}", "{\"a\": 1, \"a\": 2}"},
	{"{}", "1", "1 2"},
};

START_TEST(a_schema_accepts_and_refuses)
{
	char rules[512];

	snprintf(rules, sizeof(rules), "block s schema %s", schemas[_i].schema);
	ck_assert_msg(judge(rules, schemas[_i].good) == 0, "%s", rules);
	ck_assert_msg(judge(rules, schemas[_i].bad) == 1, "%s", rules);
}
END_TEST

START_TEST(luhn_counts_digits_and_skips_the_rest)
{
	static const char *const right[] = {"4111111111111111", "4111 1111 1111 1111",
		"5500-0000-0000-0004", "340000000000009", "79927398713", "18"};
	static const char *const wrong[] = {
		"4111111111111112", "79927398710", "4111 1111 1111 111", "", "0", "x"};

	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		ck_assert_msg(guard_check_passes(GUARD_CHECK_LUHN, right[i], strlen(right[i])),
			"%s", right[i]);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_msg(!guard_check_passes(GUARD_CHECK_LUHN, wrong[i], strlen(wrong[i])),
			"%s", wrong[i]);
}
END_TEST

START_TEST(iban_has_its_country_s_length_and_rest_1)
{
	static const char *const right[] = {"DE89370400440532013000", "DE89 3704 0044 0532 0130 00",
		"GB82 WEST 1234 5698 7654 32", "gb82west12345698765432", "NO9386011117947",
		"MT84MALT011000012345MTLCAST001S", "CH9300762011623852957",
		"FR1420041010050500013M02606"};
	static const char *const wrong[] = {"DE88370400440532013000", "DE8937040044053201300",
		"DE893704004405320130000", "XX89370400440532013000", "DE", "",
		"DE89/3704/0044/0532/0130/00", "NO93860111179470000000000000000000000000"};

	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		ck_assert_msg(guard_check_passes(GUARD_CHECK_IBAN, right[i], strlen(right[i])),
			"%s", right[i]);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_msg(!guard_check_passes(GUARD_CHECK_IBAN, wrong[i], strlen(wrong[i])),
			"%s", wrong[i]);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("guard_format");
	TCase *c = tcase_create("formats");

	tcase_add_loop_test(
		c, json_is_one_value_and_nothing_else, 0, sizeof(values) / sizeof(values[0]));
	tcase_add_test(c, json_is_not_nested_without_a_bound);
	tcase_add_loop_test(
		c, a_schema_accepts_and_refuses, 0, sizeof(schemas) / sizeof(schemas[0]));
	tcase_add_test(c, luhn_counts_digits_and_skips_the_rest);
	tcase_add_test(c, iban_has_its_country_s_length_and_rest_1);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
