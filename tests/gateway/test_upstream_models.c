/* SPDX-License-Identifier: Apache-2.0 */
/* Models that are elsewhere, as sessions, front ends and the router see them. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/core.h"
#include "gateway/gate.h"
#include "gateway/http.h"
#include "gateway/model.h"
#include "gateway/store.h"
#include "tests/gateway/harness.h"
#include "tests/gateway/upstream_fixture.h"
#include "tests/run_suite.h"

static const char whole[] = "The quick brown fox jumps over the lazy dog.";
static struct faulty server;
static struct harness h;
static struct model *m;

static void set(struct model *of, const char *file, const char *value)
{
	struct err err = {0};
	int r = model_setting_set(of, file, value, strlen(value), &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

static void set_endpoint(const char *path)
{
	char url[96];
	snprintf(url, sizeof url, "http://127.0.0.1:%u%s", server.port, path);
	set(m, "endpoint", url);
}

static void open_it(void)
{
	harness_open(&h);
	ck_assert_int_eq(gateway_model_create(h.g, "far", NULL), 0);
	m = gateway_model_find(h.g, "far");
	set(m, "proxy", "none");
	set_endpoint("/v1");
}

static void setup(void)
{
	server_reset(&server);
	harness_make(&h, 0);
	open_it();
}

static void teardown(void)
{
	m = model_put(m);
	harness_end(&h);
}

static struct session *session(const char *id)
{
	struct session *s = harness_session(&h, id, NULL);
	ck_assert_int_eq(session_setting_set(s, "model", "far", 3, NULL), 0);
	return s;
}

static void expect_answer(struct session *s, const char *text)
{
	int status;
	ck_assert_int_eq(harness_say(s, "tell me about foxes\n"), 0);
	char *answer = harness_read(s, &status);
	char *error = harness_view(s, SESSION_ERROR);
	ck_assert_msg(status == 0, "%d: %s", status, error);
	ck_assert_str_eq(answer, text);
	free(answer);
	free(error);
}

static void expect_failure(
	struct session *s, const char *prompt, int expected, const char *sentence)
{
	int status;
	ck_assert_int_eq(harness_say(s, prompt), 0);
	free(harness_read(s, &status));
	char *error = harness_view(s, SESSION_ERROR);
	ck_assert_msg(status == expected, "%d: %s", status, error);
	ck_assert_msg(strstr(error, sentence), "%s", error);
	free(error);
}

static char *view(struct model *of, enum model_view v)
{
	struct buf out = {0};
	ck_assert_int_eq(model_render(of, v, &out), 0);
	return out.data;
}

static void expect_state(const char *word)
{
	char *state = view(m, MODEL_STATE);
	ck_assert_msg(!strncmp(state, word, strlen(word)), "%s", state);
	free(state);
}

static int key(const char *value)
{
	return model_key_set(m, value, strlen(value), NULL);
}

START_TEST(a_session_does_not_notice_that_its_model_is_elsewhere)
{
	struct session *s = session("a");
	expect_state("ready");
	expect_answer(s, whole);
	expect_answer(s, whole);
	ck_assert(harness_usage(s, "output_tokens") == 9);
	ck_assert_uint_eq(server_count(&server, "remote"), 0);
	set(m, "remote_name", "remote/name");
	expect_answer(s, whole);
	ck_assert_uint_eq(server_count(&server, "remote/name"), 1);
	char *chat = harness_view(s, SESSION_CHAT);
	ck_assert_ptr_nonnull(strstr(chat, whole));
	free(chat);
	session_put(s);
}
END_TEST

/* Until a call to the server has begun and ended. */
static void wait_for_the_call(void)
{
	size_t running = 1, connections = 0;
	for (int ms = 0; (running || !connections) && ms < 10000; ms += 10) {
		usleep(10000);
		http_count(h.g->http, &running, &connections);
	}
	ck_assert_uint_eq(running, 0);
	ck_assert_uint_eq(connections, 1);
	usleep(20000); /* the request has heard of it */
}

/* What is written is counted by its length until the server says how much it was. Here the store is
 * slow: the text is all there before the first of its tokens are written down as spent. */
START_TEST(an_answer_of_fewer_tokens_than_were_counted_ends)
{
	struct session *s = session("a");
	int status;
	set_endpoint("/b/echo=800/v1");
	store_begin(h.g->store);
	ck_assert_int_eq(
		harness_say(s, "a line of many more tokens than the server counts it for, which "
			       "is one a line\n"),
		0);
	wait_for_the_call();
	store_end(h.g->store);
	char *answer = harness_read(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(strlen(answer), 800 * 78);
	ck_assert(harness_usage(s, "output_tokens") == 800);
	free(answer);
	session_put(s);
}
END_TEST

START_TEST(an_answer_that_does_not_keep_to_max_tokens_is_charged_as_what_was_shown)
{
	struct session *s = session("a");
	int status;
	set_endpoint("/b/long/v1");
	ck_assert_int_eq(session_setting_set(s, "max_tokens", "100", 3, NULL), 0);
	ck_assert_int_eq(harness_say(s, "tell me\n"), 0);
	char *answer = harness_read(s, &status);
	ck_assert_int_eq(status, 0);
	size_t words = strlen(answer) / strlen(" more");
	ck_assert(words > 100 && words < 4000);
	ck_assert(harness_usage(s, "output_tokens") >= words);
	free(answer);
	session_put(s);
}
END_TEST

START_TEST(an_answer_that_breaks_off_has_what_was_there_and_an_errno)
{
	struct session *s = session("a");
	int status;
	server_control(&server, "{\"next\": [\"close-middle\"]}");
	ck_assert_int_eq(harness_say(s, "tell me\n"), 0);
	char *answer = harness_read(s, &status);
	ck_assert_int_eq(status, -EPROTO);
	ck_assert_str_eq(answer, "The quick");
	free(answer);
	server_control(&server, "{\"next\": [\"403\", \"context\"]}");
	expect_failure(s, "go\n", -EACCES, "models/far/key");
	expect_failure(s, "go\n", -EMSGSIZE, "context");
	session_put(s);
}
END_TEST

/* Two pieces, of which a rule holds the second, or a whole answer, of which it holds the last word;
 * and then a fault. */
static void expect_broken(
	struct session *s, const char *rule, const char *behaviour, int expected, const char *text)
{
	char control[64];
	int status;
	harness_guard(&h, "output/x.rules", rule);
	snprintf(control, sizeof control, "{\"next\": [\"%s\"]}", behaviour);
	server_control(&server, control);
	ck_assert_int_eq(harness_say(s, "tell me\n"), 0);
	char *answer = harness_read(s, &status);
	ck_assert_msg(status == expected, "%s: %d", behaviour, status);
	ck_assert_msg(!strcmp(answer, text), "%s %s: %s", behaviour, rule, answer);
	free(answer);
}

START_TEST(what_a_rule_holds_of_an_answer_that_breaks_off_is_shown_if_it_is_clean)
{
	static const char hold[] = "block w /\\b(?:quick|dog)[a-z.]{0,9}!/\n";
	struct session *s = session("a");
	set(m, "idle_timeout_ms", "300");
	set(m, "breaker_failures", "1000");
	expect_broken(s, hold, "hang-middle", -ETIMEDOUT, "The quick");
	set(m, "idle_timeout_ms", "20000");
	expect_broken(s, hold, "reset", -EPROTO, "The quick");
	expect_broken(s, hold, "error-middle", -EHOSTUNREACH, "The quick");
	expect_broken(s, hold, "finish=content_filter", -EPERM, whole);
	/* A match that is one as soon as the text ends there. */
	expect_broken(s, "block w /quick\\b/\n", "close-middle", -EPERM, "The ");
	expect_broken(s, "redact w /quick\\b/\n", "garbage-json", -EPROTO, "The [w]");
	expect_broken(s, "block j json\n", "no-end", -EPROTO, "");
	session_put(s);
}
END_TEST

START_TEST(state_is_the_breakers_and_reset_closes_it)
{
	struct session *s = session("a");
	char *status;
	set(m, "retries", "0");
	set(m, "breaker_failures", "2");
	set_endpoint("/b/500/v1");
	expect_failure(s, "go\n", -EHOSTUNREACH, "500");
	expect_state("ready");
	expect_failure(s, "go\n", -EHOSTUNREACH, "500");
	expect_state("open");
	expect_failure(s, "go\n", -EHOSTUNREACH,
		"has failed 2 times (HTTP 500, the server failed); it is tried again in 30 s");
	status = view(m, MODEL_INFO);
	ck_assert_msg(
		strstr(status, "\"last_failure\": \"HTTP 500, the server failed\"}"), "%s", status);
	ck_assert_msg(strstr(status, "\"retries_made\": 0,"), "%s", status);
	free(status);
	status = harness_whole(&h, GATEWAY_PROMETHEUS);
	ck_assert_ptr_nonnull(strstr(status, "llm_circuit_breaker_state{provider=\"far\""));
	ck_assert_ptr_nonnull(strstr(status, "/v1\"} 2\n"));
	free(status);
	status = view(m, MODEL_METRICS);
	ck_assert_ptr_nonnull(strstr(status, "outcome=\"error\"} 2\n"));
	free(status);
	ck_assert_int_eq(model_ctl(m, "reset", 5, NULL), 0);
	expect_state("ready");
	expect_failure(s, "go\n", -EHOSTUNREACH, "500");
	session_put(s);
}
END_TEST

static void expect_without(char *text, const char *secret)
{
	ck_assert_ptr_nonnull(text);
	ck_assert_msg(!strstr(text, secret), "%s", text);
	free(text);
}

/* All that others than the asker may read. */
static void expect_nobody_reads(const char *secret)
{
	for (enum model_view v = MODEL_STATE; v <= MODEL_METRICS; v++)
		expect_without(view(m, v), secret);
	for (enum gateway_view v = GATEWAY_STATUS; v <= GATEWAY_CACHE_STATS; v++)
		expect_without(harness_whole(&h, v), secret);
	struct model_facts f;
	model_facts(m, &f);
	ck_assert_msg(!strstr(f.why.text, secret), "%s", f.why.text);
}

START_TEST(what_a_server_says_of_a_prompt_is_told_to_who_asked_only)
{
	static const char secret[] = "hunter2", *const paths[] = {"/b/quote=500/v1",
							"/b/quote=503/v1", "/b/quote=400/v1",
							"/b/quote=401/v1", "/b/quote=504/v1"};
	static const int codes[] = {-EHOSTUNREACH, -EHOSTUNREACH, -EPROTO, -EACCES, -ETIMEDOUT};
	struct session *ann = session("ann"), *bob = session("bob");
	set(m, "retries", "0");
	set(m, "breaker_failures", "2");
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		set_endpoint(paths[i]);
		expect_failure(ann, "hunter2 is my password\n", codes[i], secret);
		expect_nobody_reads(secret); /* has failed lately */
		expect_failure(ann, "hunter2 is my password\n", codes[i], secret);
		expect_nobody_reads(secret); /* or its breaker is open */
		expect_failure(bob, "and I?\n", codes[i] == -ETIMEDOUT ? -EHOSTUNREACH : codes[i],
			i < 2 || i == 4 ? "has failed 2 times (HTTP 50" : "cannot parse: and I?");
		expect_without(harness_view(bob, SESSION_ERROR), secret);
		expect_without(harness_view(bob, SESSION_TRACE), secret);
		expect_without(harness_view(bob, SESSION_EVENTS), secret);
	}
	session_put(ann);
	session_put(bob);
}
END_TEST

START_TEST(info_has_the_servers_and_whether_there_is_a_key)
{
	ck_assert_int_eq(key("sk-very-secret"), 0);
	char *info = view(m, MODEL_INFO);
	ck_assert_ptr_null(strstr(info, "very-secret"));
	ck_assert_ptr_nonnull(strstr(info, "\"key\": true"));
	ck_assert_ptr_nonnull(strstr(info, "\"protocol\": \"openai\""));
	ck_assert_ptr_nonnull(strstr(info, "\"remote_name\": \"far\""));
	ck_assert_ptr_nonnull(strstr(info, "\"url\": \"http://127.0.0.1:"));
	ck_assert_ptr_nonnull(strstr(info, "\"state\": \"ready\""));
	free(info);
	ck_assert_int_eq(key(""), 0);
	info = view(m, MODEL_INFO);
	ck_assert_ptr_nonnull(strstr(info, "\"key\": false"));
	free(info);
}
END_TEST

START_TEST(a_key_is_in_force_with_the_next_request_and_goes_with_its_model)
{
	struct session *s = session("a");
	char path[128];
	struct stat st;
	ck_assert_int_eq(key("sk-one"), 0);
	expect_answer(s, whole);
	ck_assert_int_eq(key("sk-two"), 0);
	expect_answer(s, whole);
	ck_assert_uint_eq(server_count(&server, "Bearer sk-one"), 1);
	ck_assert_uint_eq(server_count(&server, "Bearer sk-two"), 1);
	ck_assert_int_eq(key("two\nlines"), -EINVAL);
	snprintf(path, sizeof path, "%s/keys/far", h.state);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(gateway_model_remove(h.g, "far", NULL), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(gateway_model_key_forget(h.g, "far", NULL), 0);
	ck_assert_int_eq(stat(path, &st), -1);
	ck_assert_int_eq(gateway_model_key_forget(h.g, "nobody", NULL), 0);
	session_put(s);
}
END_TEST

START_TEST(a_key_in_a_file_or_variable_that_is_not_there_fails_the_model_until_it_is)
{
	struct session *s = session("a");
	char path[128], reference[140];
	snprintf(path, sizeof path, "%s/secret", h.dir);
	snprintf(reference, sizeof reference, "file:%s", path);
	ck_assert(model_key_is_reference(reference, strlen(reference)));
	ck_assert_int_eq(key(reference), 0);
	expect_failure(s, "go\n", -EHOSTUNREACH, "models/far/key: ");
	expect_state("failed: models/far/key: ");
	FILE *f = fopen(path, "w");
	fputs("sk-in-file\n", f);
	fclose(f);
	expect_answer(s, whole);
	expect_state("ready");
	expect_answer(s, whole);
	ck_assert_uint_eq(server_count(&server, "Bearer sk-in-file"), 2);
	ck_assert_int_eq(key("env:LLMFS_NO_SUCH_KEY"), 0);
	expect_failure(s, "go\n", -EHOSTUNREACH, "LLMFS_NO_SUCH_KEY");
	expect_state("failed: models/far/key: ");
	setenv("LLMFS_NO_SUCH_KEY", "sk-in-variable", 1);
	expect_answer(s, whole);
	ck_assert_uint_eq(server_count(&server, "Bearer sk-in-variable"), 1);
	session_put(s);
}
END_TEST

START_TEST(certificates_are_read_where_nobody_waits_and_only_from_a_file_of_a_fit_length)
{
	struct session *s = session("a");
	char path[128], sentence[200];
	snprintf(path, sizeof path, "%s/ca.pem", h.dir);
	snprintf(sentence, sizeof sentence, "models/far/ca_file: %s: ", path);
	set(m, "ca_file", path);
	expect_failure(s, "go\n", -EHOSTUNREACH, sentence);
	ck_assert_int_eq(mkfifo(path, 0600), 0); /* who opened it would wait for a writer */
	expect_failure(s, "go\n", -EHOSTUNREACH, "not a regular file");
	unlink(path);
	FILE *f = fopen(path, "w");
	fputs("no certificate\n", f);
	fflush(f);
	expect_failure(s, "go\n", -EHOSTUNREACH, "no certificates in PEM");
	rewind(f);
	fputs("-----BEGIN CERTIFICATE-----\n", f);
	fflush(f);
	expect_answer(s, whole); /* over http, where they do not matter */
	ck_assert_int_eq(ftruncate(fileno(f), (4 << 20) + 1), 0);
	set(m, "retries", "1"); /* another handle */
	expect_failure(s, "go\n", -EHOSTUNREACH, "more than 4194304 bytes");
	fclose(f);
	session_put(s);
}
END_TEST

START_TEST(a_change_is_for_the_next_request_and_what_runs_ends_where_it_is)
{
	struct session *a = session("a"), *b = session("b");
	int status;
	set_endpoint("/b/pace=60/v1");
	ck_assert_int_eq(harness_say(a, "slowly\n"), 0);
	ck_assert(harness_status(a, "generating"));
	set_endpoint("/b/ok/v1");
	expect_answer(b, whole);
	ck_assert_uint_eq(server_count(&server, "\"behaviour\": \"ok\""), 1);
	char *answer = harness_read(a, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(answer, whole);
	free(answer);
	session_put(a);
	session_put(b);
}
END_TEST

START_TEST(unloading_and_cancelling_close_the_connection)
{
	struct session *s = session("a");
	int status;
	server_control(&server, "{\"default\": \"hang-middle\"}");
	ck_assert_int_eq(harness_say(s, "go on\n"), 0);
	ck_assert(server_awaits(&server, "\"state\": \"running\"", 1));
	ck_assert_int_eq(model_ctl(m, "unload", 6, NULL), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -ECANCELED);
	ck_assert(server_awaits(&server, "\"state\": \"gone\"", 1));
	ck_assert_int_eq(harness_say(s, "go on\n"), 0);
	ck_assert(server_awaits(&server, "\"state\": \"running\"", 1));
	ck_assert_int_eq(session_ctl(s, 0, 0, "cancel", 6, NULL), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -ECANCELED);
	ck_assert(server_awaits(&server, "\"state\": \"gone\"", 2));
	server_control(&server, "{\"default\": \"ok\"}");
	expect_answer(s, whole);
	session_put(s);
}
END_TEST

START_TEST(the_end_of_the_gateway_does_not_wait_for_a_server)
{
	struct session *s = session("a");
	set(m, "first_byte_timeout_ms", "60000");
	server_control(&server, "{\"default\": \"hang-first\"}");
	ck_assert_int_eq(harness_say(s, "go on\n"), 0);
	ck_assert(server_awaits(&server, "\"state\": \"running\"", 1));
	time_t from = time(NULL);
	harness_close(&h);
	ck_assert(time(NULL) - from < 5);
	session_put(s);
	m = model_put(m);
	open_it();
}
END_TEST

START_TEST(an_endpoint_wins_over_a_path_and_its_end_brings_the_path_back)
{
	struct session *s = session("a");
	ck_assert_int_eq(session_setting_set(s, "max_tokens", "2", 1, NULL), 0);
	set(m, "path", h.model);
	expect_answer(s, "The quick");
	set(m, "endpoint", "");
	int status;
	ck_assert_int_eq(harness_say(s, "hello\n"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	char *info = view(m, MODEL_INFO);
	ck_assert_ptr_nonnull(strstr(info, "\"architecture\": \"llama\""));
	free(info);
	set_endpoint("/v1");
	expect_answer(s, "The quick");
	set(m, "endpoint", "");
	set(m, "path", "");
	ck_assert_int_eq(harness_say(s, "hello\n"), -EHOSTUNREACH);
	session_put(s);
}
END_TEST

START_TEST(idle_upstreams_stay)
{
	m = model_put(m);
	harness_close(&h);
	h.options.idle_unload_s = 1;
	open_it();
	struct session *s = session("a");
	set(m, "breaker_failures", "1");
	set(m, "retries", "0");
	set_endpoint("/b/500/v1");
	expect_failure(s, "go\n", -EHOSTUNREACH, "500");
	sleep(3);
	expect_state("open"); /* another handle would not know */
	session_put(s);
}
END_TEST

START_TEST(facts_are_what_was_set_and_what_is_known)
{
	struct model_facts f;
	struct err err = {0};
	set(m, "price_input", "3");
	set(m, "quality", "0.9");
	set(m, "capabilities", "chat code");
	set(m, "max_tokens", "1000");
	set(m, "weight", "7");
	set(m, "fallback", "tiny long");
	ck_assert_int_eq(model_facts(m, &f), 0);
	ck_assert_str_eq(f.name, "far");
	ck_assert(f.price.input == 3000000000 && f.has_quality && f.quality > 0.89);
	ck_assert_str_eq(f.capabilities, "chat code");
	ck_assert_uint_eq(f.context_tok, 131072);
	ck_assert_uint_eq(f.max_tokens, 1000);
	ck_assert_uint_eq(f.weight, 7);
	ck_assert(f.configured && f.upstream && f.loaded && f.answers && f.embeds);
	ck_assert_str_eq(f.word, "ready");
	struct text *fallback = model_fallback(m);
	ck_assert_str_eq(fallback->bytes, "tiny long");
	text_put(fallback);
	ck_assert_uint_eq(model_queue_timeout_ms(m), 60000);

	struct model *tiny = gateway_model_find(h.g, "tiny");
	ck_assert_int_eq(model_facts(tiny, &f), 0);
	ck_assert(f.configured && !f.upstream && !f.loaded && !f.has_quality);
	ck_assert_str_eq(f.word, "unloaded");
	ck_assert_uint_eq(f.context_tok, 0);
	ck_assert_ptr_null(model_fallback(tiny));
	set(tiny, "path", "");
	ck_assert_int_eq(model_facts(tiny, &f), -EHOSTUNREACH);
	ck_assert(!f.configured && *f.why.text);
	model_put(tiny);

	struct gate_user one = {.uid = 1}, two = {.uid = 2};
	list_init(&one.link);
	list_init(&two.link);
	set(m, "requests_max", "1");
	set(m, "queue_max", "0");
	ck_assert_int_eq(gate_enter(model_gate(m), &one, &err), 0);
	ck_assert_int_eq(gate_enter(model_gate(m), &two, &err), -EAGAIN);
	model_facts(m, &f);
	ck_assert(f.running == 1 && f.waiting == 0);
	gate_leave(model_gate(m), &one);
}
END_TEST

START_TEST(a_conversation_that_is_longer_than_the_estimated_context_loses_its_oldest_turns)
{
	struct session *s = session("a");
	char text[4096];
	memset(text, 'x', sizeof text);
	for (size_t i = 4; i < sizeof text; i += 5)
		text[i] = ' ';
	set(m, "context", "400");
	ck_assert_int_eq(session_setting_set(s, "max_tokens", "20", 2, NULL), 0);
	for (int i = 0; i < 6; i++) {
		char prompt[512];
		int status;
		snprintf(prompt, sizeof prompt, "turn%d %.400s\n", i, text);
		ck_assert_int_eq(harness_say(s, prompt), 0);
		free(harness_read(s, &status));
		ck_assert_int_eq(status, 0);
	}
	char *log = server_log(&server), *last = log;
	for (char *at = log; (at = strstr(at, "\"body\"")); at++)
		last = at;
	ck_assert_ptr_null(strstr(last, "turn0"));
	ck_assert_ptr_nonnull(strstr(last, "turn5"));
	free(log);
	text[sizeof text - 1] = '\0';
	expect_failure(s, text, -EMSGSIZE, "longer than the model's context of 400 tokens");
	session_put(s);
}
END_TEST

int main(void)
{
	if (!faulty_start(&server, NULL, NULL))
		return 77;
	Suite *s = suite_create("upstream_models");
	TCase *t = tcase_create("upstream_models");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_session_does_not_notice_that_its_model_is_elsewhere);
	tcase_add_test(t, an_answer_of_fewer_tokens_than_were_counted_ends);
	tcase_add_test(t, an_answer_that_does_not_keep_to_max_tokens_is_charged_as_what_was_shown);
	tcase_add_test(t, an_answer_that_breaks_off_has_what_was_there_and_an_errno);
	tcase_add_test(t, what_a_rule_holds_of_an_answer_that_breaks_off_is_shown_if_it_is_clean);
	tcase_add_test(t, state_is_the_breakers_and_reset_closes_it);
	tcase_add_test(t, what_a_server_says_of_a_prompt_is_told_to_who_asked_only);
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
	tcase_add_test(
		t, a_conversation_that_is_longer_than_the_estimated_context_loses_its_oldest_turns);
	suite_add_tcase(s, t);
	int failed = run_suite(s);
	faulty_stop(&server);
	return failed;
}
