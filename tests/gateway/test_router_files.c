/* SPDX-License-Identifier: Apache-2.0 */
/* The files of router/: what each takes, what it shows, and the explanation as JSON. */
#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "tests/gateway/choice_fixture.h"
#include "tests/run_suite.h"

/* ---- the files ---- */

static const struct {
	const char *file, *value;
	int code;
	const char *says;
} values[] = {
	{"policy", "cost", 0, ""},
	{"policy", "# which\n  split  # by weight\n", 0, ""},
	{"policy", "# only a remark\n", 0, ""},
	{"policy", "cheap", -EINVAL, "policy: must be cost, quality, latency, balanced or split"},
	{"policy", "cost quality", -EINVAL, "policy: must be cost"},
	{"policy", "cost\0", -EINVAL, "policy: must be UTF-8"},
	{"threshold", "0", 0, ""},
	{"threshold", "1", 0, ""},
	{"threshold", "# of quality\n0.75", 0, ""},
	{"threshold", "1.01", -EINVAL, "threshold: must be a number from 0 to 1"},
	{"threshold", "-0.1", -EINVAL, "from 0 to 1"},
	{"threshold", "high", -EINVAL, "from 0 to 1"},
	{"threshold", "0.5 0.6", -EINVAL, "from 0 to 1"},
	{"threshold", "nan", -EINVAL, "from 0 to 1"},
	{"weights", "latency 0.5 # a second\n\n# cost\ncost_simple 0", 0, ""},
	{"weights", "speed 1", -EINVAL,
		"weights: line 1: there is no speed; there are quality_simple"},
	{"weights", "\nlatency", -EINVAL,
		"weights: line 2: latency: must be a number from 0 to 1000000"},
	{"weights", "load -1", -EINVAL, "weights: line 1: load: must be a number from 0"},
	{"weights", "load 1\nload 1", -EINVAL, "line 2: load stands in line 1 already"},
	{"classes", "length 0.5", 0, ""},
	{"classes", "size 1", -EINVAL, "classes: line 1: there is no size; there are length"},
	{"classes", "moderate 3", -EINVAL, "classes: moderate (3) must be below complex (0.7)"},
	{"classes", "length \xFF", -EINVAL, "classes: must be UTF-8"},
	{"cascade_judge", "big", 0, ""},
	{"cascade_judge", "# none\n", 0, ""},
	{"cascade_judge", "# the good one\nbig-7.b # here", 0, ""},
	{"cascade_judge", "auto", -EINVAL,
		"cascade_judge: must be a model, and none of the router's"},
	{"cascade_judge", "cascade", -EINVAL, "none of the router's own"},
	{"cascade_judge", "a b", -EINVAL, "cascade_judge: must be the name of a model"},
	{"cascade_judge", "a/b", -EINVAL, "must be the name of a model"},
	{"cascade_judge", "..", -EINVAL, "must be the name of a model"},
	{"cascade_judge_timeout_ms", "1", 0, ""},
	{"cascade_judge_timeout_ms", "600000", 0, ""},
	{"cascade_judge_timeout_ms", "0", -EINVAL,
		"cascade_judge_timeout_ms: must be milliseconds"},
	{"cascade_judge_timeout_ms", "600001", -EINVAL, "from 1 to 600000"},
	{"classifier_model", "small", 0, ""},
	{"classifier_model", "auto", -EINVAL, "classifier_model: must be a model, and none"},
	{"classifier_timeout_ms", "250", 0, ""},
	{"classifier_timeout_ms", "fast", -EINVAL, "classifier_timeout_ms: must be milliseconds"},
	{"no_such", "1", -ENOENT,
		"there are policy, weights, classes, threshold, cascade_judge, "
		"cascade_judge_timeout_ms, classifier_model and classifier_timeout_ms"},
};

START_TEST(a_value_is_taken_or_refused_with_what_is_allowed)
{
	const char *file = values[_i].file, *value = values[_i].value;
	size_t len = strlen(value) + (strstr(values[_i].says, "UTF-8") && *file == 'p');
	struct router_config before, after;
	router_config(choice_router, &before);
	ck_assert_int_eq(router_setting_check(file, value, len, &choice_err), values[_i].code);
	ck_assert_int_eq(
		router_setting_set(choice_router, file, value, len, &choice_err), values[_i].code);
	ck_assert_msg(strstr(choice_err.text, values[_i].says), "%s", choice_err.text);
	router_config(choice_router, &after);
	if (values[_i].code < 0)
		ck_assert_mem_eq(&before, &after, sizeof before);
	struct buf out = {0};
	int r = router_setting_get(choice_router, file, &out);
	ck_assert_int_eq(r, values[_i].code == -ENOENT ? -ENOENT : 0);
	if (!values[_i].code) /* as it was written, less the last newline */
		ck_assert_int_eq(strncmp(out.data, value, out.len), 0);
	buf_free(&out);
}
END_TEST

START_TEST(every_default_is_shown_spelled_out_and_would_be_taken)
{
	struct router_config before, after;
	choice_set("weights", "");
	router_config(choice_router, &before);
	for (const char *const *file = router_setting_names(); *file; file++) {
		struct buf out = {0};
		ck_assert_int_eq(router_setting_get(choice_router, *file, &out), 0);
		bool is_name =
			!strcmp(*file, "cascade_judge") || !strcmp(*file, "classifier_model");
		ck_assert_int_eq(out.len == 0, is_name); /* the default is no model */
		ck_assert(!out.len || out.data[out.len - 1] != '\n');
		choice_set(*file, out.len ? out.data : "");
		buf_free(&out);
	}
	router_config(choice_router, &after);
	ck_assert_mem_eq(&before, &after, sizeof before);
	ck_assert_int_eq(before.policy, ROUTER_BALANCED);
	choice_near(before.threshold, 0.6);
}
END_TEST

START_TEST(the_empty_text_brings_the_default_back)
{
	struct router_config before, after;
	choice_set("weights", "");
	router_config(choice_router, &before);
	choice_set("policy", "cost");
	choice_set("threshold", "0.1");
	choice_set("weights", "load 5");
	choice_set("classes", "length 5");
	choice_set("cascade_judge", "big");
	choice_set("cascade_judge_timeout_ms", "5");
	choice_set("classifier_model", "small");
	choice_set("classifier_timeout_ms", "6");
	for (const char *const *file = router_setting_names(); *file; file++)
		choice_set(*file, "");
	router_config(choice_router, &after);
	ck_assert_mem_eq(&before, &after, sizeof before);
}
END_TEST

START_TEST(the_identity_is_that_of_the_settings_and_changes_with_each_of_them)
{
	static const char *const changes[][2] = {{"policy", "cost"}, {"threshold", "0.1"},
		{"weights", "load 5"}, {"classes", "length 5"}, {"cascade_judge", "big"},
		{"cascade_judge_timeout_ms", "5"}, {"classifier_model", "big"},
		{"classifier_timeout_ms", "5"}};
	struct buf first = {0}, was = {0};
	for (const char *const *file = router_setting_names(); *file; file++)
		choice_set(*file, "");
	ck_assert_int_eq(router_identity(choice_router, &first), 0);
	ck_assert_int_eq(router_identity(choice_router, &was), 0);
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		struct buf is = {0};
		choice_set(changes[i][0], changes[i][1]);
		ck_assert_int_eq(router_identity(choice_router, &is), 0);
		ck_assert(is.len != was.len || memcmp(is.data, was.data, is.len) != 0);
		buf_free(&was);
		was = is;
	}
	for (const char *const *file = router_setting_names(); *file; file++)
		choice_set(*file, "");
	buf_clear(&was);
	ck_assert_int_eq(router_identity(choice_router, &was), 0);
	ck_assert_uint_eq(was.len, first.len);
	ck_assert_mem_eq(was.data, first.data, first.len);
	buf_free(&was);
	buf_free(&first);
}
END_TEST

/* Each value has all of its weights alike. */
static void *change_weights(void *arg)
{
	static const char *const tables[] = {
		"quality_moderate 1\ncost_moderate 1\n", "quality_moderate 3\ncost_moderate 3\n"};
	for (int i = 0; i < 2000; i++)
		router_setting_set(
			choice_router, "weights", tables[i % 2], strlen(tables[i % 2]), NULL);
	return arg;
}

START_TEST(a_decision_sees_a_value_as_a_whole_while_another_thread_changes_it)
{
	pthread_t writer;
	choice_set("weights", "quality_moderate 1\ncost_moderate 1\n");
	choice_facts[MID].price = (struct money_price){
		CHOICE_DOLLAR * 7, CHOICE_DOLLAR * 7, CHOICE_DOLLAR * 7}; /* 0.7 */
	ck_assert_int_eq(pthread_create(&writer, NULL, change_weights, NULL), 0);
	for (int i = 0; i < 2000; i++) {
		struct router_decision *d = choice_decided(N_MODELS);
		const struct router_candidate *k = choice_candidate(d, "mid");
		choice_near(k->quality_term, -k->cost_term);
		ck_assert(fabs(k->quality_term - 0.7) < 1e-9 || fabs(k->quality_term - 2.1) < 1e-9);
		router_decision_free(d);
	}
	pthread_join(writer, NULL);
}
END_TEST

/* ---- JSON ---- */

static json_t *explained(size_t n)
{
	struct router_decision *d;
	struct buf out = {0};
	json_error_t fault;
	router_decide(choice_router, &choice_ask, choice_facts, n, &d, &choice_err);
	ck_assert_int_eq(router_decision_json(d, &out), 0);
	json_t *j = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, &fault);
	ck_assert_msg(j, "%s: %s", fault.text, out.data);
	ck_assert_int_eq(out.data[out.len - 1], '\n');
	buf_free(&out);
	router_decision_free(d);
	return j;
}

static const char *string_at(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

START_TEST(the_explanation_has_each_candidate_with_its_terms_and_each_dropped_with_why)
{
	choice_ask_for(choice_complex);
	choice_facts[SMALL].health = ROUTER_DOWN;
	strcpy(choice_facts[SMALL].why, "\"refused\"\n");
	choice_ask.max_latency_ms = 60000;
	json_t *j = explained(N_MODELS);
	ck_assert_str_eq(string_at(j, "model"), "auto");
	ck_assert_str_eq(string_at(j, "policy"), "balanced");
	ck_assert_str_eq(string_at(j, "class"), "complex");
	ck_assert_str_eq(string_at(j, "language"), "en");
	ck_assert_str_eq(string_at(j, "chosen"), "mid");
	ck_assert(json_is_null(json_object_get(j, "arm")));
	ck_assert_ptr_null(json_object_get(j, "threshold"));
	const json_t *features = json_object_get(j, "features");
	ck_assert_uint_eq(json_object_size(features), 11);
	choice_near(json_real_value(json_object_get(features, "reasoning")), 1);
	const json_t *list = json_object_get(j, "candidates");
	ck_assert_uint_eq(json_array_size(list), 2);
	const json_t *mid = json_array_get(list, 0);
	ck_assert_str_eq(string_at(mid, "model"), "mid");
	choice_near(json_real_value(json_object_get(mid, "score")), -0.15);
	choice_near(json_real_value(json_object_get(mid, "quality")), 0.42);
	choice_near(json_real_value(json_object_get(mid, "cost")), -0.05);
	choice_near(json_real_value(json_object_get(mid, "latency")), -0.52);
	choice_near(json_number_value(json_object_get(mid, "load")), 0);
	choice_near(json_number_value(json_object_get(mid, "dollars")), 0.01);
	choice_near(json_number_value(json_object_get(mid, "expected_ms")), 5200);
	list = json_object_get(j, "dropped");
	ck_assert_uint_eq(json_array_size(list), 1);
	ck_assert_str_eq(string_at(json_array_get(list, 0), "model"), "small");
	ck_assert_str_eq(string_at(json_array_get(list, 0), "why"), "down: \"refused\"\n");
	json_decref(j);
}
END_TEST

START_TEST(the_explanation_says_who_decided_on_the_class_and_what_both_said)
{
	struct router_opinion o = {.model = "clever",
		.has_class = true,
		.class = CLASSIFY_COMPLEX,
		.share = {0.25, 0.25, 0.5}};
	choice_ask_for(choice_simple);
	json_t *j = explained(N_MODELS);
	ck_assert_ptr_null(json_object_get(j, "classifier")); /* nobody was asked */
	ck_assert_ptr_null(json_object_get(j, "class_by"));
	json_decref(j);
	choice_ask.opinion = &o;
	j = explained(N_MODELS);
	ck_assert_str_eq(string_at(j, "class"), "complex");
	ck_assert_str_eq(string_at(j, "class_by"), "model");
	ck_assert_str_eq(string_at(j, "class_by_rules"), "simple");
	const json_t *c = json_object_get(j, "classifier");
	ck_assert_str_eq(string_at(c, "model"), "clever");
	ck_assert_str_eq(string_at(c, "class"), "complex");
	ck_assert(json_is_false(json_object_get(c, "remembered")));
	choice_near(json_number_value(json_array_get(json_object_get(c, "shares"), 2)), 0.5);
	json_decref(j);
	o.has_class = false;
	strcpy(o.why, "it says \"hm\"\n");
	j = explained(N_MODELS);
	ck_assert_str_eq(string_at(j, "class"), "simple");
	ck_assert_str_eq(string_at(j, "class_by"), "rules");
	c = json_object_get(j, "classifier");
	ck_assert(json_is_null(json_object_get(c, "class")));
	ck_assert_str_eq(string_at(c, "why"), o.why);
	json_decref(j);
}
END_TEST

START_TEST(the_explanation_is_json_when_nobody_remains_and_for_cascade_and_split)
{
	json_t *j = explained(0);
	ck_assert(json_is_null(json_object_get(j, "chosen")));
	ck_assert_uint_eq(json_array_size(json_object_get(j, "candidates")), 0);
	json_decref(j);
	choice_ask.model = ROUTER_CASCADE;
	j = explained(N_MODELS);
	ck_assert_str_eq(string_at(j, "model"), "cascade");
	ck_assert_str_eq(string_at(j, "chosen"), "small");
	choice_near(json_real_value(json_object_get(j, "threshold")), 0.6);
	json_decref(j);
	choice_ask.model = ROUTER_AUTO;
	choice_set("policy", "split");
	j = explained(N_MODELS);
	ck_assert_str_eq(string_at(j, "arm"), string_at(j, "chosen"));
	json_decref(j);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("router_files");
	TCase *t = tcase_create("router_files");
	tcase_add_checked_fixture(t, choice_open, choice_close);
	tcase_add_loop_test(t, a_value_is_taken_or_refused_with_what_is_allowed, 0,
		(int)(sizeof values / sizeof *values));
	tcase_add_test(t, every_default_is_shown_spelled_out_and_would_be_taken);
	tcase_add_test(t, the_empty_text_brings_the_default_back);
	tcase_add_test(t, the_identity_is_that_of_the_settings_and_changes_with_each_of_them);
	tcase_add_test(t, a_decision_sees_a_value_as_a_whole_while_another_thread_changes_it);
	tcase_add_test(
		t, the_explanation_has_each_candidate_with_its_terms_and_each_dropped_with_why);
	tcase_add_test(t, the_explanation_says_who_decided_on_the_class_and_what_both_said);
	tcase_add_test(t, the_explanation_is_json_when_nobody_remains_and_for_cascade_and_split);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
