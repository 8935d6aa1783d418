/* SPDX-License-Identifier: Apache-2.0 */
/* What is given of an answer that is to be JSON, whatever pieces it comes in. */
#include "gateway/upstream_json.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/run_suite.h"

struct answer_case {
	const char *text, *given;
	bool goes_on, whole;
};

static const struct answer_case cases[] = {
	{"{\"a\": [1, 2]}", "{\"a\": [1, 2]}", true, true},
	{" \n\t {\"a\": 1}\r\n \n", "{\"a\": 1}", true, true},
	{"[1,\n  2]", "[1,\n  2]", true, true},
	{"12", "12", true, true},
	{"12\n", "12", true, true},
	{"\"a b\"", "\"a b\"", true, true},
	{"\"\xC3\xA9\xF0\x9F\x98\x80 `\"", "\"\xC3\xA9\xF0\x9F\x98\x80 `\"", true, true},
	/* fences */
	{"```json\n{\"a\": 1}\n```", "{\"a\": 1}", true, true},
	{"\n```\n{\"a\": 1}\n```\n\n", "{\"a\": 1}", true, true},
	{"```JSON \r\n\n  [1]```", "[1]", true, true},
	{"```json {\"a\": \"```\"} ```", "{\"a\": \"```\"}", true, true},
	{"```json\n7\n```", "7", true, true},
	{"```json\n7```", "7", true, true},
	{"```json\n{\"a\": 1}\n", "{\"a\": 1}", true, true}, /* never closed */
	/* halves */
	{"", "", true, false},
	{" \n ", "", true, false},
	{"```json\n", "", true, false},
	{"{\"a\": ", "{\"a\": ", true, false},
	{"tru", "tru", true, false},
	{"-", "-", true, false},
	/* no JSON */
	{"Sure: {\"a\": 1}", "", false, false},
	{"\n\nHere it is", "", false, false},
	{"\xC3\xA9", "", false, false},
	{"``{}", "", false, false},
	{"````\n{}", "", false, false},
	{"```json is what you want\n{}", "", false, false},
	{"```\nSure\n```", "", false, false},
	{"```abcdefghijklmnopq\n{}", "", false, false},
	{"{\"a\": 1} and more", "{\"a\": 1}", false, true},
	{"{\"a\": 1}\n{\"a\": 2}", "{\"a\": 1}", false, true},
	{"{\"a\": 1}\n```", "{\"a\": 1}", false, true}, /* closes what was never opened */
	{"```\n{}\n``` That is all.", "{}", false, true},
	{"12 monkeys", "12", false, true},
	{"[1, second]", "[1, ", false, false},
	{"{'a': 1}", "{", false, false},
	{"{\"a\": 1,}", "{\"a\": 1,", false, false},
};

/* In pieces of n bytes; 0: in two, cut at `cut`. */
static void try(const struct answer_case *c, size_t n, size_t cut)
{
	struct upstream_json j = {0};
	char given[256], piece[256];
	size_t at = 0, len = strlen(c->text), n_given = 0;
	bool goes_on = true;
	while (goes_on && at < len) {
		size_t k = n ? n : at ? len - at : cut;
		k = k < len - at ? k : len - at;
		memcpy(piece, c->text + at, k);
		at += k;
		goes_on = upstream_json_take(&j, piece, &k);
		memcpy(given + n_given, piece, k);
		n_given += k;
	}
	given[n_given] = '\0';
	ck_assert_msg(goes_on == c->goes_on, "%s: %d", c->text, goes_on);
	ck_assert_msg(!strcmp(given, c->given), "%s: gives %s", c->text, given);
	ck_assert_msg(upstream_json_is_whole(&j) == c->whole, "%s: %d", c->text, !c->whole);
}

START_TEST(what_is_given_does_not_depend_on_the_pieces)
{
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct answer_case *c = &cases[i];
		for (size_t n = 1; n <= strlen(c->text) + 1; n++)
			try(c, n, 0);
		for (size_t cut = 1; cut < strlen(c->text); cut++)
			try(c, 0, cut);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("upstream_json");
	TCase *t = tcase_create("pieces");
	tcase_add_test(t, what_is_given_does_not_depend_on_the_pieces);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
