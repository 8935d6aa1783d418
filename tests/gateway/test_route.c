/* SPDX-License-Identifier: Apache-2.0 */
/* The models a request is tried on. */
#include "gateway/route.h"

#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/run_suite.h"

/* "model: fallback text" */
static const char *const *texts;

static int fallback(void *arg, const char *model, struct buf *out)
{
	unsigned *calls = arg;
	size_t len = strlen(model);
	++*calls;
	if (!strcmp(model, "broken"))
		return -ENOMEM;
	for (const char *const *t = texts; *t; t++)
		if (!strncmp(*t, model, len) && (*t)[len] == ':')
			return buf_append_str(out, *t + len + 1);
	return 0;
}

static void expect(struct route *route, const char *models)
{
	char got[2048] = "";
	ck_assert_ptr_nonnull(route);
	for (size_t i = 0; i < route_count(route); i++)
		strcat(strcat(got, i ? " " : ""), route_model(route, i));
	ck_assert_ptr_null(route_model(route, route_count(route)));
	ck_assert_str_eq(got, models);
}

static const struct {
	const char *texts[8], *models;
} graphs[] = {
	{{NULL}, "a"},
	{{"a:", NULL}, "a"},
	{{"a: b c \n", NULL}, "a b c"},
	{{"a:b\nc", "b:d e", "c:f", NULL}, "a b c d e f"}, /* nearer ones first */
	{{"a:b", "b:a", NULL}, "a b"},
	{{"a:a b a", "b:b a c", "c:c", NULL}, "a b c"},
	{{"a:b", "b:c", "c:d", "d:e", "e:f", NULL}, "a b c d e"}, /* four deep */
	{{"a:no/name .. b", NULL}, "a b"},
	{{"a:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", NULL},
		"a 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"},
};

START_TEST(fallbacks_are_followed_breadth_first_each_once)
{
	struct route *route;
	struct err err = {0};
	unsigned calls = 0;
	texts = graphs[_i].texts;
	ck_assert_int_eq(route_from_model(&route, "a", fallback, &calls, &err), 0);
	expect(route, graphs[_i].models);
	ck_assert_uint_le(calls, ROUTE_MODELS_MAX); /* each is asked once at most */
	route_free(route);
}
END_TEST

START_TEST(a_model_alone_is_a_route)
{
	struct route *route;
	ck_assert_int_eq(route_from_model(&route, "a", NULL, NULL, NULL), 0);
	expect(route, "a");
	ck_assert_ptr_null(route_free(route));
	ck_assert_ptr_null(route_free(NULL));
}
END_TEST

START_TEST(a_fallback_that_cannot_be_read_is_an_error)
{
	static const char *const broken[] = {"a:broken", NULL};
	struct route *route;
	struct err err = {0};
	unsigned calls = 0;
	texts = broken;
	ck_assert_int_eq(route_from_model(&route, "a", fallback, &calls, &err), -ENOMEM);
	ck_assert_ptr_null(route);
	ck_assert_str_ne(err.text, "");
}
END_TEST

START_TEST(a_decision_is_a_route_in_its_order)
{
	struct router_candidate tried[20] = {0};
	struct router_decision d = {.tried = tried, .n = 3};
	struct route *route;
	for (int i = 0; i < 20; i++)
		snprintf(tried[i].name, sizeof tried[i].name, "m%d", 20 - i);
	ck_assert_int_eq(route_from_decision(&route, &d, NULL), 0);
	expect(route, "m20 m19 m18");
	route_free(route);
	d.n = 20;
	ck_assert_int_eq(route_from_decision(&route, &d, NULL), 0);
	ck_assert_uint_eq(route_count(route), ROUTE_MODELS_MAX);
	route_free(route);
}
END_TEST

static const struct {
	const char *text;
	int code;
	const char *says;
} values[] = {
	{"", 0, ""},
	{" \n", 0, ""},
	{"a", 0, ""},
	{"a b\tc\nd.gguf\n", 0, ""},
	{"a,b", -EINVAL, "names below models/"},
	{"a ../b", -EINVAL, "names below models/"},
	{"a b a", -EINVAL, "a stands there twice"},
	{"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", 0, ""},
	{"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", -EINVAL, "at most 16"},
	{"a \xFF", -EINVAL, "names below"},
};

START_TEST(a_fallback_text_has_its_names_and_no_parts_of_them)
{
	static const char text[] = "ab b\n\tcde";
	ck_assert(route_fallback_has(text, strlen(text), "ab"));
	ck_assert(route_fallback_has(text, strlen(text), "b"));
	ck_assert(route_fallback_has(text, strlen(text), "cde"));
	ck_assert(!route_fallback_has(text, strlen(text), "a"));
	ck_assert(!route_fallback_has(text, strlen(text), "cdef"));
	ck_assert(!route_fallback_has("", 0, "a"));
}
END_TEST

START_TEST(a_fallback_text_is_taken_or_refused)
{
	struct err err = {0};
	ck_assert_int_eq(route_fallback_check(values[_i].text, strlen(values[_i].text), &err),
		values[_i].code);
	ck_assert_msg(strstr(err.text, values[_i].says), "%s", err.text);
	ck_assert_int_eq(route_fallback_check("a\0b", 3, &err), -EINVAL);
}
END_TEST

static json_t *rendered(const struct route *route)
{
	struct buf out = {0};
	json_error_t fault;
	ck_assert_int_eq(route_json(route, &out), 0);
	json_t *j = json_loadb(out.data, out.len, 0, &fault);
	ck_assert_msg(j, "%s: %s", fault.text, out.data);
	buf_free(&out);
	return j;
}

START_TEST(steps_are_shown_as_json_in_their_order)
{
	struct route *route;
	unsigned calls = 0;
	texts = graphs[2].texts;
	ck_assert_int_eq(route_from_model(&route, "a", fallback, &calls, NULL), 0);
	json_t *j = rendered(route);
	ck_assert_uint_eq(json_array_size(json_object_get(j, "models")), 3);
	ck_assert_uint_eq(json_array_size(json_object_get(j, "steps")), 0);
	json_decref(j);
	const struct route_took took = {{12, 4, 3}, 1500000000};
	const struct route_took nothing = {{0, 0, 0}, 0};
	route_step(route, "a", "500: \"no\"\n", &nothing);
	route_step(route, "b", "quality 0.42 is below 0.6: short", &took);
	route_step(route, "c", "answered", NULL);
	j = rendered(route);
	static const char *const outcomes[] = {
		"500: \"no\"\n", "quality 0.42 is below 0.6: short", "answered"};
	double before = 0;
	for (size_t i = 0; i < 3; i++) {
		const json_t *s = json_array_get(json_object_get(j, "steps"), i);
		char name[2] = {"abc"[i], 0};
		ck_assert_str_eq(json_string_value(json_object_get(s, "model")), name);
		ck_assert_str_eq(json_string_value(json_object_get(s, "outcome")), outcomes[i]);
		double ms = json_number_value(json_object_get(s, "ms"));
		ck_assert(ms >= before && ms < 60000);
		before = ms;
		const json_t *tokens = json_object_get(s, "output_tokens");
		ck_assert_int_eq(json_integer_value(tokens), i == 1 ? 3 : 0);
		ck_assert(!tokens == (i != 1)); /* only where it took any */
		ck_assert_double_eq(
			json_number_value(json_object_get(s, "cost")), i == 1 ? 1.5 : 0);
	}
	ck_assert_ptr_null(json_object_get(j, "more_steps"));
	json_decref(j);
	route_free(route);
}
END_TEST

START_TEST(outcomes_are_cut_to_whole_characters_and_steps_have_a_ceiling)
{
	struct route *route;
	char text[400];
	memset(text, 'x', sizeof text);
	memcpy(text + 158, "\xE2\x82\xAC", 3);
	text[399] = '\0';
	route_from_model(&route, "a", NULL, NULL, NULL);
	route_step(route, "a", text, NULL);
	route_step(route, "a", "bad \xFF byte", NULL);
	for (int i = 2; i < ROUTE_STEPS_MAX + 5; i++)
		route_step(route, "a", "again", NULL);
	json_t *j = rendered(route);
	const json_t *steps = json_object_get(j, "steps");
	ck_assert_uint_eq(json_array_size(steps), ROUTE_STEPS_MAX);
	ck_assert_uint_eq(
		json_string_length(json_object_get(json_array_get(steps, 0), "outcome")), 158);
	ck_assert_str_eq(
		json_string_value(json_object_get(json_array_get(steps, 1), "outcome")), "bad ");
	ck_assert_int_eq(json_integer_value(json_object_get(j, "more_steps")), 5);
	json_decref(j);
	route_free(route);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("route");
	TCase *t = tcase_create("route");
	tcase_add_loop_test(t, fallbacks_are_followed_breadth_first_each_once, 0,
		(int)(sizeof graphs / sizeof *graphs));
	tcase_add_test(t, a_model_alone_is_a_route);
	tcase_add_test(t, a_fallback_that_cannot_be_read_is_an_error);
	tcase_add_test(t, a_decision_is_a_route_in_its_order);
	tcase_add_test(t, a_fallback_text_has_its_names_and_no_parts_of_them);
	tcase_add_loop_test(
		t, a_fallback_text_is_taken_or_refused, 0, (int)(sizeof values / sizeof *values));
	tcase_add_test(t, steps_are_shown_as_json_in_their_order);
	tcase_add_test(t, outcomes_are_cut_to_whole_characters_and_steps_have_a_ceiling);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
