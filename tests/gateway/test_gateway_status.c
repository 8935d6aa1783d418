/* SPDX-License-Identifier: Apache-2.0 */
/* What `status` says of models that settings name. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/core.h"
#include "gateway/model.h"
#include "gateway/routing.h"
#include "tests/engine/tiny_bert.h"
#include "tests/gateway/talk_fixture.h"
#include "tests/run_suite.h"

static void status_is(const char *want)
{
	char *have = harness_whole(&talk, GATEWAY_STATUS);
	ck_assert_str_eq(have, want);
	free(have);
}

static void status_becomes(const char *want)
{
	char *have = NULL;
	for (int i = 0; i < 1000; i++) {
		free(have);
		have = harness_whole(&talk, GATEWAY_STATUS);
		if (!strcmp(have, want))
			break;
		usleep(10000);
	}
	ck_assert_str_eq(have, want);
	free(have);
}

static void set(const char *name, const char *file, const char *value)
{
	struct model *m = gateway_model_find(talk.g, name);
	ck_assert_ptr_nonnull(m);
	harness_model_set(m, file, value);
	model_put(m);
}

static void make(const char *name, const char *file, const char *value)
{
	ck_assert_int_eq(gateway_model_create(talk.g, name, NULL), 0);
	set(name, file, value);
}

static void set_router(const char *file, const char *value)
{
	struct err err = {0};
	ck_assert_msg(gateway_part_setting_set(
			      talk.g, GATEWAY_ROUTER, file, value, strlen(value), &err) == 0,
		"%s", err.text);
}

static void set_cache(const char *model)
{
	ck_assert_int_eq(gateway_part_setting_set(talk.g, GATEWAY_CACHE, "embedding_model", model,
				 strlen(model), NULL),
		0);
}

/* In a moment. */
static void state_is(const char *name, const char *state)
{
	struct model *m = gateway_model_find(talk.g, name);
	ck_assert_msg(harness_model_state(m, state), "models/%s", name);
	model_put(m);
}

/* Says a verb to a model and waits for its state. */
static void bring(const char *name, const char *verb, const char *state)
{
	struct model *m = gateway_model_find(talk.g, name);
	harness_model_verb(m, verb);
	model_put(m);
	state_is(name, state);
}

/* A model for embeddings. */
static void make_encoder(const char *name)
{
	const struct tiny_bert shape = {.cls = true};
	char path[128];
	snprintf(path, sizeof path, "%s/%s.gguf", talk.dir, name);
	tiny_bert_write(&shape, path);
	make(name, "path", path);
}

START_TEST(a_default_that_does_not_chat_is_in_status_and_no_person_may_set_it)
{
	struct err err = {0};
	make("judge", "path", talk.model);
	set("judge", "capabilities", "json");
	ck_assert_int_eq(gateway_default_check(talk.g, "judge", &err), -EINVAL);
	ck_assert_str_eq(
		err.text, "the model judge does not chat: chat is none of its capabilities");
	ck_assert_int_eq(gateway_default_set(talk.g, "judge", NULL), 0);
	status_is("degraded: models/default points to judge: the model judge does not chat: chat "
		  "is none of its capabilities\n");
	set("judge", "capabilities", "json chat");
	status_is("ok\n");
	ck_assert_int_eq(gateway_default_check(talk.g, "judge", &err), 0);
}
END_TEST

START_TEST(a_default_for_embeddings_is_known_once_it_was_loaded)
{
	static const char fault[] = "degraded: models/default points to enc: the model enc gives "
				    "no answers: it is for embeddings\n";
	make_encoder("enc");
	ck_assert_int_eq(gateway_default_check(talk.g, "enc", NULL), 0);
	ck_assert_int_eq(gateway_default_set(talk.g, "enc", NULL), 0);
	status_is("ok\n");
	bring("enc", "load", "ready\n");
	status_is(fault);
	ck_assert_int_eq(gateway_default_check(talk.g, "enc", NULL), -EINVAL);
	bring("enc", "unload", "unloaded\n");
	status_is(fault);
	/* Another file is not known again. */
	set("enc", "path", talk.model);
	status_is("ok\n");
	ck_assert_int_eq(gateway_default_check(talk.g, "enc", NULL), 0);
}
END_TEST

START_TEST(the_router_is_not_offered_what_was_found_to_be_for_embeddings)
{
	struct err err = {0};
	make_encoder("enc");
	struct model *m = gateway_model_find(talk.g, "enc");
	struct model_facts f;
	ck_assert(model_is_offered(m, NULL)); /* nothing is known of it */
	bring("enc", "load", "ready\n");
	ck_assert(!model_is_offered(m, NULL));
	bring("enc", "unload", "unloaded\n");
	model_facts(m, &f);
	ck_assert(f.configured && f.is_known && !f.answers && f.embeds);
	ck_assert(!model_is_offered(m, NULL));
	ck_assert_int_eq(gateway_default_set(talk.g, "enc", NULL), 0);
	ck_assert_int_eq(gateway_model_remove(talk.g, "tiny", NULL), 0);
	ck_assert_int_eq(gateway_model_remove(talk.g, "long", NULL), 0);
	ck_assert_int_eq(routing_check(talk.g, &err), -EHOSTUNREACH);
	set("enc", "path", talk.model); /* another file */
	ck_assert(model_is_offered(m, NULL));
	ck_assert_int_eq(routing_check(talk.g, &err), 0);
	model_put(m);
}
END_TEST

START_TEST(a_default_that_is_nothing_yet_is_in_status_and_may_be_set)
{
	ck_assert_int_eq(gateway_model_create(talk.g, "soon", NULL), 0);
	ck_assert_int_eq(gateway_default_check(talk.g, "soon", NULL), 0);
	ck_assert_int_eq(gateway_default_check(talk.g, "nobody", NULL), 0);
	ck_assert_int_eq(gateway_default_set(talk.g, "soon", NULL), 0);
	char *have = harness_whole(&talk, GATEWAY_STATUS);
	ck_assert_ptr_nonnull(strstr(have, "degraded: models/default points to soon: model soon "
					   "has neither path nor endpoint"));
	free(have);
	set("soon", "endpoint", "http://127.0.0.1:9");
	status_is("ok\n");
}
END_TEST

START_TEST(each_fallback_that_cannot_answer_is_in_status_until_it_can)
{
	make_encoder("enc");
	set("tiny", "fallback", "nobody long\nenc");
	status_is("degraded: models/tiny/fallback: there is no model nobody\n");
	bring("enc", "load", "ready\n");
	status_is("degraded: models/tiny/fallback: there is no model nobody\n"
		  "degraded: models/tiny/fallback: the model enc gives no answers: it is for "
		  "embeddings\n");
	make("nobody", "endpoint", "http://127.0.0.1:9");
	set("tiny", "fallback", "nobody long");
	status_is("ok\n");
	/* By way of the default's name it can be one of the router's. */
	set("long", "fallback", "default");
	status_is("ok\n");
	ck_assert_int_eq(gateway_default_set(talk.g, "auto", NULL), 0);
	status_is("degraded: models/long/fallback: auto is the router's: none to fall back to\n");
}
END_TEST

START_TEST(a_fallback_to_one_of_the_routers_is_refused)
{
	static const char *const values[] = {"auto", "long cascade"};
	struct model *m = gateway_model_find(talk.g, "tiny");
	for (size_t i = 0; i < 2; i++) {
		struct err err = {0};
		ck_assert_int_eq(
			model_setting_set(m, "fallback", values[i], strlen(values[i]), &err),
			-EINVAL);
		ck_assert_ptr_nonnull(strstr(err.text, i ? "fallback: cascade is the router's"
							 : "fallback: auto is the router's"));
	}
	model_put(m);
}
END_TEST

START_TEST(an_embedding_model_that_gives_no_vectors_is_in_status_until_it_does)
{
	set_cache("enc");
	status_is("degraded: cache/embedding_model: there is no model enc\n");
	make_encoder("enc");
	status_is("ok\n");
	set_cache("auto");
	status_is("degraded: cache/embedding_model: the model auto is the router's and gives no "
		  "embeddings\n");
	set_cache("long");
	/* Never loaded: its file is looked at. */
	status_becomes("degraded: cache/embedding_model: the model long gives no embeddings\n");
	state_is("long", "unloaded\n");
	set_cache("");
	status_is("ok\n");
}
END_TEST

START_TEST(a_file_that_came_after_the_first_look_is_looked_at_again)
{
	char path[128];
	snprintf(path, sizeof path, "%s/late.gguf", talk.dir);
	make("late", "path", path);
	make_encoder("enc");
	set_cache("late");
	status_is("ok\n");
	bring("enc", "load", "ready\n"); /* by the same thread, behind the look */
	status_is("ok\n");
	ck_assert_int_eq(link(talk.model, path), 0);
	status_becomes("degraded: cache/embedding_model: the model late gives no embeddings\n");
	state_is("late", "unloaded\n");
}
END_TEST

START_TEST(a_model_for_the_router_that_cannot_be_asked_is_in_status_until_it_can)
{
	static const char *const files[] = {"cascade_judge", "classifier_model"};
	for (size_t i = 0; i < 2; i++) {
		char want[200];
#define STATUS_IS(sentence)                                                                        \
	do {                                                                                       \
		snprintf(want, sizeof want, "degraded: router/%s: %s\n", files[i], sentence);      \
		status_is(want);                                                                   \
	} while (0)
		set_router(files[i], "# that one:\nsoon # or long");
		STATUS_IS("there is no model soon");
		make("soon", "endpoint", "http://127.0.0.1:9");
		status_is("ok\n");
		set("soon", "capabilities", "json"); /* a judge does not chat */
		status_is("ok\n");
		set("soon", "endpoint", "");
		char *have = harness_whole(&talk, GATEWAY_STATUS);
		snprintf(want, sizeof want,
			"degraded: router/%s: model soon has neither path nor endpoint", files[i]);
		ck_assert_msg(!strncmp(have, want, strlen(want)), "%s", have);
		free(have);
		set_router(files[i], "# soon, but not now");
		status_is("ok\n");
		/* The default's name may be one of the router's. */
		set_router(files[i], "default");
		status_is("ok\n");
		ck_assert_int_eq(gateway_default_set(talk.g, "auto", NULL), 0);
		STATUS_IS("auto is the router's: it is not asked");
		ck_assert_int_eq(gateway_default_set(talk.g, "long", NULL), 0);
		set_router(files[i], "");
		status_is("ok\n");
		ck_assert_int_eq(gateway_model_remove(talk.g, "soon", NULL), 0);
	}
	make_encoder("enc");
	set_router("cascade_judge", "enc");
	set_router("classifier_model", "nobody");
	bring("enc", "load", "ready\n");
	status_is("degraded: router/cascade_judge: the model enc gives no answers: it is for "
		  "embeddings\n"
		  "degraded: router/classifier_model: there is no model nobody\n");
#undef STATUS_IS
}
END_TEST

START_TEST(a_judge_that_gives_no_answers_is_in_status_and_in_that_of_the_guards)
{
	static const char fault[] = "guards/moderation: the model enc gives no answers: it is for "
				    "embeddings\n";
	char want[200];
	make_encoder("enc");
	harness_guard(&talk, "moderation", "model enc\n");
	status_is("ok\n");
	bring("enc", "load", "ready\n");
	snprintf(want, sizeof want, "degraded: %s", fault);
	status_is(want);
	char *guards = harness_whole(&talk, GATEWAY_GUARD_STATUS);
	ck_assert_msg(!strncmp(guards, fault, strlen(fault)), "%s", guards);
	free(guards);
}
END_TEST

START_TEST(a_judge_that_cannot_be_asked_is_in_status)
{
	make("soon", "endpoint", "http://127.0.0.1:9/v1");
	harness_guard(&talk, "moderation", "model soon\n");
	status_is("ok\n");
	set("soon", "endpoint", "");
	char *have = harness_whole(&talk, GATEWAY_STATUS);
	ck_assert_msg(strstr(have, "guards/moderation: model soon has neither path nor endpoint"),
		"%s", have);
	free(have);
	harness_guard(&talk, "moderation", "model default\n");
	status_is("ok\n");
	ck_assert_int_eq(gateway_default_set(talk.g, "auto", NULL), 0);
	have = harness_whole(&talk, GATEWAY_STATUS);
	ck_assert_msg(strstr(have, "guards/moderation: auto is the router's: it is not asked"),
		"%s", have);
	free(have);
}
END_TEST

START_TEST(reports_stand_in_the_order_in_which_they_came)
{
	gateway_report(talk.g, "a", "first");
	gateway_report(talk.g, "b", "second");
	gateway_report(talk.g, "c", "third");
	status_is("degraded: first\ndegraded: second\ndegraded: third\n");
	gateway_report(talk.g, "b", "another second");
	status_is("degraded: first\ndegraded: another second\ndegraded: third\n");
	gateway_report(talk.g, "a", NULL);
	gateway_report(talk.g, "c", NULL);
	gateway_report(talk.g, "c", NULL);
	status_is("degraded: another second\n");
}
END_TEST

/* What is logged while act does its work: new. */
static char *logged(void (*act)(void))
{
	FILE *file = tmpfile();
	int before = dup(STDERR_FILENO);
	ck_assert_ptr_nonnull(file);
	dup2(fileno(file), STDERR_FILENO);
	act();
	dup2(before, STDERR_FILENO);
	close(before);
	char *text = calloc(1, 4096);
	rewind(file);
	(void)!fread(text, 1, 4095, file);
	fclose(file);
	return text;
}

static void start(void)
{
	gateway_report(talk.g, "a", "of the start");
	gateway_report_aloud(talk.g, "b", "of a thread at the start");
	gateway_tell_faults(talk.g);
}

static void go_on(void)
{
	gateway_report(talk.g, "c", "of a write, whose writer is told");
	gateway_report_aloud(talk.g, "d", "of a thread later");
	gateway_report_aloud(talk.g, "b", NULL);
}

START_TEST(a_fault_is_logged_once_whether_it_comes_before_the_end_of_the_start_or_after)
{
	char *text = logged(start);
	ck_assert_str_eq(text, "llmfs: warning: of the start\n"
			       "llmfs: warning: of a thread at the start\n");
	free(text);
	text = logged(go_on);
	ck_assert_str_eq(text, "llmfs: warning: of a thread later\n");
	free(text);
	status_is("degraded: of the start\ndegraded: of a write, whose writer is told\n"
		  "degraded: of a thread later\n");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gateway_status");
	TCase *t = tcase_create("status");
	tcase_add_checked_fixture(t, talk_open, talk_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_default_that_does_not_chat_is_in_status_and_no_person_may_set_it);
	tcase_add_test(t, a_default_for_embeddings_is_known_once_it_was_loaded);
	tcase_add_test(t, the_router_is_not_offered_what_was_found_to_be_for_embeddings);
	tcase_add_test(t, a_default_that_is_nothing_yet_is_in_status_and_may_be_set);
	tcase_add_test(t, each_fallback_that_cannot_answer_is_in_status_until_it_can);
	tcase_add_test(t, a_fallback_to_one_of_the_routers_is_refused);
	tcase_add_test(t, an_embedding_model_that_gives_no_vectors_is_in_status_until_it_does);
	tcase_add_test(t, a_file_that_came_after_the_first_look_is_looked_at_again);
	tcase_add_test(t, a_model_for_the_router_that_cannot_be_asked_is_in_status_until_it_can);
	tcase_add_test(t, a_judge_that_gives_no_answers_is_in_status_and_in_that_of_the_guards);
	tcase_add_test(t, a_judge_that_cannot_be_asked_is_in_status);
	tcase_add_test(t, reports_stand_in_the_order_in_which_they_came);
	tcase_add_test(
		t, a_fault_is_logged_once_whether_it_comes_before_the_end_of_the_start_or_after);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
