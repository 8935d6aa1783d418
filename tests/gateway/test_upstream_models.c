/* SPDX-License-Identifier: Apache-2.0 */
/* Models that are elsewhere, as front ends and the router see them. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/core.h"
#include "gateway/gate.h"
#include "tests/gateway/far_fixture.h"
#include "tests/run_suite.h"

static int key(const char *value)
{
	return model_key_set(far_m, value, strlen(value), NULL);
}

START_TEST(state_is_the_breakers_and_reset_closes_it)
{
	struct session *s = far_session("a");
	char *status;
	far_set(far_m, "retries", "0");
	far_set(far_m, "breaker_failures", "2");
	far_set_endpoint("/b/500/v1");
	far_expect_failure(s, "go\n", -EHOSTUNREACH, "500");
	far_expect_state("ready");
	far_expect_failure(s, "go\n", -EHOSTUNREACH, "500");
	far_expect_state("open");
	far_expect_failure(s, "go\n", -EHOSTUNREACH,
		"has failed 2 times (HTTP 500, the server failed); it is tried again in 30 s");
	status = far_view(far_m, MODEL_INFO);
	ck_assert_msg(
		strstr(status, "\"last_failure\": \"HTTP 500, the server failed\"}"), "%s", status);
	ck_assert_msg(strstr(status, "\"retries_made\": 0,"), "%s", status);
	free(status);
	status = harness_whole(&far_h, GATEWAY_PROMETHEUS);
	ck_assert_ptr_nonnull(strstr(status, "llm_circuit_breaker_state{provider=\"far\""));
	ck_assert_ptr_nonnull(strstr(status, "/v1\"} 2\n"));
	free(status);
	status = far_view(far_m, MODEL_METRICS);
	ck_assert_ptr_nonnull(strstr(status, "outcome=\"error\"} 2\n"));
	free(status);
	ck_assert_int_eq(model_ctl(far_m, "reset", 5, NULL), 0);
	far_expect_state("ready");
	far_expect_failure(s, "go\n", -EHOSTUNREACH, "500");
	session_put(s);
}
END_TEST

START_TEST(info_has_the_servers_and_whether_there_is_a_key)
{
	ck_assert_int_eq(key("sk-very-secret"), 0);
	char *info = far_view(far_m, MODEL_INFO);
	ck_assert_ptr_null(strstr(info, "very-secret"));
	ck_assert_ptr_nonnull(strstr(info, "\"key\": true"));
	ck_assert_ptr_nonnull(strstr(info, "\"protocol\": \"openai\""));
	ck_assert_ptr_nonnull(strstr(info, "\"remote_name\": \"far\""));
	ck_assert_ptr_nonnull(strstr(info, "\"url\": \"http://127.0.0.1:"));
	ck_assert_ptr_nonnull(strstr(info, "\"state\": \"ready\""));
	free(info);
	ck_assert_int_eq(key(""), 0);
	info = far_view(far_m, MODEL_INFO);
	ck_assert_ptr_nonnull(strstr(info, "\"key\": false"));
	free(info);
}
END_TEST

START_TEST(a_key_is_in_force_with_the_next_request_and_goes_with_its_model)
{
	struct session *s = far_session("a");
	char path[128];
	struct stat st;
	ck_assert_int_eq(key("sk-one"), 0);
	far_expect_answer(s, far_whole);
	ck_assert_int_eq(key("sk-two"), 0);
	far_expect_answer(s, far_whole);
	ck_assert_uint_eq(server_count(&far_server, "Bearer sk-one"), 1);
	ck_assert_uint_eq(server_count(&far_server, "Bearer sk-two"), 1);
	ck_assert_int_eq(key("two\nlines"), -EINVAL);
	snprintf(path, sizeof path, "%s/keys/far", far_h.state);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(gateway_model_remove(far_h.g, "far", NULL), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(gateway_model_key_forget(far_h.g, "far", NULL), 0);
	ck_assert_int_eq(stat(path, &st), -1);
	ck_assert_int_eq(gateway_model_key_forget(far_h.g, "nobody", NULL), 0);
	session_put(s);
}
END_TEST

START_TEST(a_key_in_a_file_or_variable_that_is_not_there_fails_the_model_until_it_is)
{
	struct session *s = far_session("a");
	char path[128], reference[140];
	snprintf(path, sizeof path, "%s/secret", far_h.dir);
	snprintf(reference, sizeof reference, "file:%s", path);
	ck_assert(model_key_is_reference(reference, strlen(reference)));
	ck_assert_int_eq(key(reference), 0);
	far_expect_failure(s, "go\n", -EHOSTUNREACH, "models/far/key: ");
	far_expect_state("failed: models/far/key: ");
	FILE *f = fopen(path, "w");
	fputs("sk-in-file\n", f);
	fclose(f);
	far_expect_answer(s, far_whole);
	far_expect_state("ready");
	far_expect_answer(s, far_whole);
	ck_assert_uint_eq(server_count(&far_server, "Bearer sk-in-file"), 2);
	ck_assert_int_eq(key("env:LLMFS_NO_SUCH_KEY"), 0);
	far_expect_failure(s, "go\n", -EHOSTUNREACH, "LLMFS_NO_SUCH_KEY");
	far_expect_state("failed: models/far/key: ");
	setenv("LLMFS_NO_SUCH_KEY", "sk-in-variable", 1);
	far_expect_answer(s, far_whole);
	ck_assert_uint_eq(server_count(&far_server, "Bearer sk-in-variable"), 1);
	session_put(s);
}
END_TEST

START_TEST(certificates_are_read_where_nobody_waits_and_only_from_a_file_of_a_fit_length)
{
	struct session *s = far_session("a");
	char path[128], sentence[200];
	snprintf(path, sizeof path, "%s/ca.pem", far_h.dir);
	snprintf(sentence, sizeof sentence, "models/far/ca_file: %s: ", path);
	far_set(far_m, "ca_file", path);
	far_expect_failure(s, "go\n", -EHOSTUNREACH, sentence);
	ck_assert_int_eq(mkfifo(path, 0600), 0); /* who opened it would wait for a writer */
	far_expect_failure(s, "go\n", -EHOSTUNREACH, "not a regular file");
	unlink(path);
	FILE *f = fopen(path, "w");
	fputs("no certificate\n", f);
	fflush(f);
	far_expect_failure(s, "go\n", -EHOSTUNREACH, "no certificates in PEM");
	rewind(f);
	fputs("-----BEGIN CERTIFICATE-----\n", f);
	fflush(f);
	far_expect_answer(s, far_whole); /* over http, where they do not matter */
	ck_assert_int_eq(ftruncate(fileno(f), (4 << 20) + 1), 0);
	far_set(far_m, "retries", "1"); /* another handle */
	far_expect_failure(s, "go\n", -EHOSTUNREACH, "more than 4194304 bytes");
	fclose(f);
	session_put(s);
}
END_TEST

START_TEST(a_change_is_for_the_next_request_and_what_runs_ends_where_it_is)
{
	struct session *a = far_session("a"), *b = far_session("b");
	int status;
	far_set_endpoint("/b/pace=60/v1");
	ck_assert_int_eq(harness_say(a, "slowly\n"), 0);
	ck_assert(harness_status(a, "generating"));
	far_set_endpoint("/b/ok/v1");
	far_expect_answer(b, far_whole);
	ck_assert_uint_eq(server_count(&far_server, "\"behaviour\": \"ok\""), 1);
	char *answer = harness_read(a, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(answer, far_whole);
	free(answer);
	session_put(a);
	session_put(b);
}
END_TEST

START_TEST(unloading_and_cancelling_close_the_connection)
{
	struct session *s = far_session("a");
	int status;
	server_control(&far_server, "{\"default\": \"hang-middle\"}");
	ck_assert_int_eq(harness_say(s, "go on\n"), 0);
	ck_assert(server_awaits(&far_server, "\"state\": \"running\"", 1));
	ck_assert_int_eq(model_ctl(far_m, "unload", 6, NULL), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -ECANCELED);
	ck_assert(server_awaits(&far_server, "\"state\": \"gone\"", 1));
	ck_assert_int_eq(harness_say(s, "go on\n"), 0);
	ck_assert(server_awaits(&far_server, "\"state\": \"running\"", 1));
	ck_assert_int_eq(session_ctl(s, 0, 0, "cancel", 6, NULL), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -ECANCELED);
	ck_assert(server_awaits(&far_server, "\"state\": \"gone\"", 2));
	server_control(&far_server, "{\"default\": \"ok\"}");
	far_expect_answer(s, far_whole);
	session_put(s);
}
END_TEST

START_TEST(the_end_of_the_gateway_does_not_wait_for_a_server)
{
	struct session *s = far_session("a");
	far_set(far_m, "first_byte_timeout_ms", "60000");
	server_control(&far_server, "{\"default\": \"hang-first\"}");
	ck_assert_int_eq(harness_say(s, "go on\n"), 0);
	ck_assert(server_awaits(&far_server, "\"state\": \"running\"", 1));
	time_t from = time(NULL);
	harness_close(&far_h);
	ck_assert(time(NULL) - from < 5);
	session_put(s);
	far_m = model_put(far_m);
	far_open();
}
END_TEST

START_TEST(an_endpoint_wins_over_a_path_and_its_end_brings_the_path_back)
{
	struct session *s = far_session("a");
	ck_assert_int_eq(session_setting_set(s, "max_tokens", "2", 1, NULL), 0);
	far_set(far_m, "path", far_h.model);
	far_expect_answer(s, "The quick");
	far_set(far_m, "endpoint", "");
	int status;
	ck_assert_int_eq(harness_say(s, "hello\n"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	char *info = far_view(far_m, MODEL_INFO);
	ck_assert_ptr_nonnull(strstr(info, "\"architecture\": \"llama\""));
	free(info);
	far_set_endpoint("/v1");
	far_expect_answer(s, "The quick");
	far_set(far_m, "endpoint", "");
	far_set(far_m, "path", "");
	ck_assert_int_eq(harness_say(s, "hello\n"), -EHOSTUNREACH);
	session_put(s);
}
END_TEST

START_TEST(idle_upstreams_stay)
{
	far_m = model_put(far_m);
	harness_close(&far_h);
	far_h.options.idle_unload_s = 1;
	far_open();
	struct session *s = far_session("a");
	far_set(far_m, "breaker_failures", "1");
	far_set(far_m, "retries", "0");
	far_set_endpoint("/b/500/v1");
	far_expect_failure(s, "go\n", -EHOSTUNREACH, "500");
	sleep(3);
	far_expect_state("open"); /* another handle would not know */
	session_put(s);
}
END_TEST

START_TEST(facts_are_what_was_set_and_what_is_known)
{
	struct model_facts f;
	struct err err = {0};
	far_set(far_m, "price_input", "3");
	far_set(far_m, "quality", "0.9");
	far_set(far_m, "capabilities", "chat code");
	far_set(far_m, "max_tokens", "1000");
	far_set(far_m, "weight", "7");
	far_set(far_m, "fallback", "tiny long");
	ck_assert_int_eq(model_facts(far_m, &f), 0);
	ck_assert_str_eq(f.name, "far");
	ck_assert(f.price.input == 3000000000 && f.has_quality && f.quality > 0.89);
	ck_assert_str_eq(f.capabilities, "chat code");
	ck_assert_uint_eq(f.context_tok, 131072);
	ck_assert_uint_eq(f.max_tokens, 1000);
	ck_assert_uint_eq(f.weight, 7);
	ck_assert(f.configured && f.upstream && f.loaded && f.answers && f.embeds);
	ck_assert_str_eq(f.word, "ready");
	struct text *fallback = model_fallback(far_m);
	ck_assert_str_eq(fallback->bytes, "tiny long");
	text_put(fallback);
	ck_assert_uint_eq(model_queue_timeout_ms(far_m), 60000);

	struct model *tiny = gateway_model_find(far_h.g, "tiny");
	ck_assert_int_eq(model_facts(tiny, &f), 0);
	ck_assert(f.configured && !f.upstream && !f.loaded && !f.has_quality);
	ck_assert_str_eq(f.word, "unloaded");
	ck_assert_uint_eq(f.context_tok, 0);
	ck_assert_ptr_null(model_fallback(tiny));
	far_set(tiny, "path", "");
	ck_assert_int_eq(model_facts(tiny, &f), -EHOSTUNREACH);
	ck_assert(!f.configured && *f.why.text);
	model_put(tiny);

	struct gate_user one = {.uid = 1}, two = {.uid = 2};
	list_init(&one.link);
	list_init(&two.link);
	far_set(far_m, "requests_max", "1");
	far_set(far_m, "queue_max", "0");
	ck_assert_int_eq(gate_enter(model_gate(far_m), &one, &err), 0);
	ck_assert_int_eq(gate_enter(model_gate(far_m), &two, &err), -EAGAIN);
	model_facts(far_m, &f);
	ck_assert(f.running == 1 && f.waiting == 0);
	gate_leave(model_gate(far_m), &one);
}
END_TEST

int main(void)
{
	if (!faulty_start(&far_server, NULL, NULL))
		return 77;
	Suite *s = suite_create("upstream_models");
	TCase *t = tcase_create("upstream_models");
	tcase_add_checked_fixture(t, far_setup, far_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, state_is_the_breakers_and_reset_closes_it);
	tcase_add_test(t, info_has_the_servers_and_whether_there_is_a_key);
	tcase_add_test(t, a_key_is_in_force_with_the_next_request_and_goes_with_its_model);
	tcase_add_test(
		t, a_key_in_a_file_or_variable_that_is_not_there_fails_the_model_until_it_is);
	tcase_add_test(
		t, certificates_are_read_where_nobody_waits_and_only_from_a_file_of_a_fit_length);
	tcase_add_test(t, a_change_is_for_the_next_request_and_what_runs_ends_where_it_is);
	tcase_add_test(t, unloading_and_cancelling_close_the_connection);
	tcase_add_test(t, the_end_of_the_gateway_does_not_wait_for_a_server);
	tcase_add_test(t, an_endpoint_wins_over_a_path_and_its_end_brings_the_path_back);
	tcase_add_test(t, idle_upstreams_stay);
	tcase_add_test(t, facts_are_what_was_set_and_what_is_known);
	suite_add_tcase(s, t);
	int failed = run_suite(s);
	faulty_stop(&far_server);
	return failed;
}
