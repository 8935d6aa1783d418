/* SPDX-License-Identifier: Apache-2.0 */
/* An upstream in front of a server: answers, embeddings, what is counted, what a cancel does, and
 * that ten thousand faults leave nothing behind. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/redact.h"
#include "tests/gateway/ask_fixture.h"
#include "tests/run_suite.h"

/* ---- answers ---- */

static void expect_answer(const struct protocol *protocol, const char *behaviour, bool estimated)
{
	char control[64];
	struct asked a;
	snprintf(control, sizeof control, "{\"next\": [\"%s\"]}", behaviour);
	server_control(&ask_server, control);
	ask_ups.config.protocol = protocol;
	ups_load(&ask_ups);
	ups_ask(&ask_ups, &a);
	ck_assert_msg(a.status == 0, "%s %s: %s", protocol->name, behaviour, a.sentence);
	ck_assert_str_eq(ask_text(&a), ask_whole);
	ck_assert_str_eq(a.finish, "stop");
	ck_assert_int_eq(a.estimated, estimated);
	ck_assert_uint_gt(a.usage.prompt_tok, 0);
	if (!estimated)
		ck_assert_uint_eq(a.usage.output_tok, 9);
	else
		ck_assert(a.usage.output_tok >= 5 && a.usage.output_tok <= 44);
	asked_free(&a);
	upstream_provider.unload(ask_ups.handle);
	ask_ups.handle = NULL;
}

START_TEST(an_answer_is_whole_and_its_usage_is_the_servers_or_estimated)
{
	static const char *const good[] = {"ok", "ok-crlf", "ok-comments", "ok-bom", "ok-json",
		"ok-close", "split", "ok-cached"};
	ups_endpoint(&ask_ups, ask_server.port, "/v1", 1);
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		expect_answer(&protocol_openai, good[i], false);
		expect_answer(&protocol_anthropic, good[i], false);
	}
	expect_answer(&protocol_openai, "ok-nousage", true);
	expect_answer(&protocol_anthropic, "ok-nousage", true);
}
END_TEST

START_TEST(text_that_no_server_counts_is_its_estimate_and_max_tokens_where_it_may_be_that)
{
	static const struct {
		const char *answer;
		uint64_t counted;
	} answers[] = {{"a b c d e f g h i j k l", 10}, /* of which the server gives ten */
		/* 20: an estimate that may be too high, of 109 bytes. */
		{"dictionary dictionary dictionary dictionary dictionary dictionary dictionary "
		 "dictionary dictionary dictionary",
			10},
		/* Of 219 bytes: that is not what was asked for. */
		{"internationalizations internationalizations internationalizations "
		 "internationalizations internationalizations internationalizations "
		 "internationalizations internationalizations internationalizations "
		 "internationalizations",
			50}}; /* five a word */
	const struct provider_request q = {.max_tokens = 10};
	ask_load();
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		char control[512];
		struct asked a;
		snprintf(control, sizeof control,
			"{\"next\": [\"ok-nousage\"], \"answer\": \"%s\"}", answers[i].answer);
		server_control(&ask_server, control);
		ups_begin(&ask_ups, &a, "go on", &q);
		ups_wait(&a);
		ck_assert_msg(a.status == 0, "%s", a.sentence);
		ck_assert(a.estimated);
		ck_assert_msg(a.usage.output_tok == answers[i].counted, "%s: %" PRIu64,
			answers[i].answer, a.usage.output_tok);
		asked_free(&a);
	}
}
END_TEST

START_TEST(connections_are_kept_and_used_again)
{
	ask_load();
	for (int i = 0; i < 20; i++)
		ask_well();
	ck_assert_uint_eq(server_count(&ask_server, "\"connection\": "), 20);
	char *log = server_log(&ask_server), *at = strstr(log, "\"connection\": "), first[32];
	snprintf(first, sizeof first, "%.*s", (int)strcspn(at, ","), at);
	free(log);
	ck_assert_uint_eq(server_count(&ask_server, first), 20);
}
END_TEST

START_TEST(the_key_is_sent_and_shown_nowhere)
{
	struct asked a;
	struct buf info = {0};
	ask_ups.config.key = "sk-very-secret";
	ask_load();
	ask_well();
	ck_assert_uint_eq(server_count(&ask_server, "Bearer sk-very-secret"), 1);
	server_control(&ask_server, "{\"next\": [\"leak\"]}");
	ck_assert_int_eq(ups_ask(&ask_ups, &a), -EACCES);
	ck_assert_ptr_null(strstr(a.sentence, "very-secret"));
	ck_assert_ptr_nonnull(strstr(a.sentence, "models/m/key"));
	upstream_provider.info(ask_ups.handle, &info);
	upstream_metrics(&ask_ups.handle, 1, &info);
	ck_assert_ptr_null(strstr(info.data, "very-secret"));
	ck_assert_ptr_nonnull(strstr(info.data, "\"key\": true"));
	buf_free(&info);
	asked_free(&a);
}
END_TEST

START_TEST(no_server_gets_the_key_into_a_sentence)
{
	static const char *const keys[] = {
		"token-abc123", "user:correct-horse", "my house is green", "pass(word)[1]", "abc"};
	ups_endpoint(&ask_ups, ask_server.port, "/v1", 1);
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		static const char *const protocols[] = {"openai", "anthropic"};
		struct asked a;
		ask_ups.config.key = keys[i];
		ask_ups.config.protocol = protocol_find(protocols[i % 2], strlen(protocols[i % 2]));
		ups_load(&ask_ups);
		server_control(&ask_server, "{\"next\": [\"leak\"]}");
		ck_assert_int_eq(ups_ask(&ask_ups, &a), -EACCES);
		for (size_t k = 0; keys[i][k] && strlen(keys[i] + k) >= 6; k++) {
			char run[7];
			snprintf(run, sizeof run, "%s", keys[i] + k);
			ck_assert_msg(!strstr(a.sentence, run), "%s", a.sentence);
		}
		ck_assert_msg(!strstr(a.sentence, keys[i]), "%s", a.sentence);
		ck_assert_ptr_nonnull(strstr(a.sentence, "refuses it"));
		asked_free(&a);
		upstream_provider.unload(ask_ups.handle);
		ask_ups.handle = NULL;
	}
}
END_TEST

START_TEST(a_secret_is_taken_out_of_a_text_whole_and_in_parts)
{
	static const struct {
		const char *text, *secret, *out;
	} cases[] = {{"key token-abc123 is bad", "token-abc123", "key ... is bad"},
		{"token-abc123token-abc123", "token-abc123", "..."},
		{"token- and abc123 and bc123", "token-abc123", "... and ... and bc123"},
		{"it has token", "token-abc123", "it has token"}, {"ab, abab", "ab", "..., ..."},
		{"nothing", NULL, "nothing"}, {"nothing", "", "nothing"}, {"", "abcdef", ""}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char text[64];
		snprintf(text, sizeof text, "%s", cases[i].text);
		redact(text, sizeof text, cases[i].secret);
		ck_assert_str_eq(text, cases[i].out);
	}
	char grows[8] = "a.a.a.a"; /* there is no room for all the dots */
	redact(grows, sizeof grows, "a");
	ck_assert_str_eq(grows, "......."); /* and what is cut is no secret */
}
END_TEST

START_TEST(probabilities_come_where_they_are_asked_for)
{
	static const char *const words[] = {"safe", "unsafe"};
	struct provider_request q = {.candidates = words, .n_candidates = 2};
	struct asked a;
	ask_load();
	ups_begin(&ask_ups, &a, "is it?", &q);
	ups_wait(&a);
	ck_assert_int_eq(a.status, 0);
	ck_assert_uint_eq(a.n_candidates, 1);
	ck_assert(fabsf(a.p[0] - 0.25f) < 1e-3f && fabsf(a.p[1] - 0.125f) < 1e-3f);
	/* Whoever needs no more than these cancels, and what it cost is to be known by then. */
	ck_assert_uint_gt(a.usage_then.prompt_tok, 0);
	asked_free(&a);
	q = (struct provider_request){.wants_logprob = true};
	ups_begin(&ask_ups, &a, "is it?", &q);
	ups_wait(&a);
	ck_assert(fabsf(a.logprob - logf(0.5f)) < 1e-3f);
	asked_free(&a);
	ups_ask(&ask_ups, &a);
	ck_assert(isnan(a.logprob));
	asked_free(&a);
}
END_TEST

START_TEST(a_prompt_is_estimated_and_never_more_than_its_bytes)
{
	const struct provider_message m[] = {{PROVIDER_USER, "one two three", 13}};
	struct provider_prompt p;
	struct provider_limits limits;
	size_t n = 0;
	ask_load();
	ck_assert_int_eq(upstream_provider.render(ask_ups.handle, m, 1, &p, NULL), 0);
	ck_assert(p.n_tok > 0 && p.n_tok <= p.most_tok);
	ck_assert_uint_eq(p.most_tok, 13 + 16);
	free(p.data);
	upstream_provider.limits(ask_ups.handle, &limits);
	ck_assert(limits.answers && limits.embeds && !limits.counts);
	ck_assert_uint_eq(limits.context_tok, 4096);
	ck_assert_int_eq(upstream_provider.count(ask_ups.handle, "one two three", 13, &n, NULL), 0);
	ck_assert(n >= 3 && n <= 13);
}
END_TEST

/* ---- cancelling ---- */

START_TEST(cancelling_closes_the_connection)
{
	static const char *const when[] = {"long", "hang-first", "hang-headers"};
	ask_ups.config.first_ms = 15000;
	ask_load();
	for (size_t i = 0; i < 3; i++) {
		char control[64];
		struct asked a;
		snprintf(control, sizeof control, "{\"next\": [\"%s\"]}", when[i]);
		server_control(&ask_server, control);
		ups_begin(&ask_ups, &a, "go on", &(struct provider_request){.max_tokens = 1000000});
		if (i == 0)
			ups_wait_text(&a);
		else
			ck_assert(server_awaits(&ask_server, "\"state\": \"running\"", 1));
		upstream_provider.cancel(ask_ups.handle, a.id);
		upstream_provider.cancel(ask_ups.handle, a.id);
		ups_wait(&a);
		ck_assert_int_eq(a.status, -ECANCELED);
		ck_assert(i > 0 || (a.usage.output_tok > 0 && a.estimated));
		ck_assert_uint_eq(a.n_ended, 1);
		ck_assert(server_awaits(&ask_server, "\"state\": \"gone\"", i + 1));
		upstream_provider.cancel(ask_ups.handle, a.id); /* harmless */
		asked_free(&a);
	}
	ask_well();
}
END_TEST

START_TEST(cancelling_between_two_tries_ends_it_at_once)
{
	struct asked a;
	ask_ups.config.retries = 5;
	ask_load();
	server_control(&ask_server, "{\"default\": \"429=9\"}");
	ups_begin(&ask_ups, &a, "go on", NULL);
	ck_assert(server_awaits(&ask_server, "\"state\": \"done\"", 1));
	upstream_provider.cancel(ask_ups.handle, a.id);
	uint64_t from = clock_mono_ns();
	ups_wait(&a);
	ck_assert_int_eq(a.status, -ECANCELED);
	ck_assert(clock_mono_ns() - from < 5000000000);
	asked_free(&a);
}
END_TEST

/* ---- embeddings, numbers ---- */

START_TEST(embeddings_are_of_unit_length_and_tried_again)
{
	struct asked a;
	struct provider_limits limits;
	ask_ups.config.retries = 1;
	ask_load();
	server_control(&ask_server, "{\"next\": [\"500\", \"other-order\", \"short-vectors\"]}");
	ck_assert_msg(ups_embed(&ask_ups, &a) == 0, "%s", a.sentence);
	ck_assert_uint_eq(a.dim, 8);
	for (int k = 0; k < 2; k++) {
		float sum = 0;
		for (int i = 0; i < 8; i++)
			sum += a.vectors[8 * k + i] * a.vectors[8 * k + i];
		ck_assert(fabsf(sum - 1) < 1e-4f);
	}
	ck_assert_uint_gt(a.usage.prompt_tok, 0);
	upstream_provider.limits(ask_ups.handle, &limits);
	ck_assert_uint_eq(limits.embedding_dim, 8);
	asked_free(&a);
	ck_assert_int_eq(ups_embed(&ask_ups, &a), 0); /* after the short ones */
	asked_free(&a);
	server_control(&ask_server, "{\"next\": [\"401\"]}");
	ck_assert_int_eq(ups_embed(&ask_ups, &a), -EACCES);
	asked_free(&a);
	upstream_provider.unload(ask_ups.handle);
	ask_ups.config.protocol = &protocol_anthropic;
	ups_load(&ask_ups);
	ck_assert_int_eq(ups_embed(&ask_ups, &a), -ENOTSUP);
	asked_free(&a);
}
END_TEST

START_TEST(embeddings_can_be_cancelled)
{
	struct asked a;
	ask_load();
	server_control(&ask_server, "{\"next\": [\"hang-first\"]}");
	ck_assert_int_eq(ups_embed_begin(&ask_ups, &a), 0);
	ck_assert(server_awaits(&ask_server, "\"running\"", 1));
	upstream_provider.cancel_embed(ask_ups.handle, a.id);
	upstream_provider.cancel_embed(ask_ups.handle, a.id);
	ups_wait(&a);
	ck_assert_int_eq(a.status, -ECANCELED);
	ck_assert(server_awaits(&ask_server, "\"gone\"", 1));
	upstream_provider.cancel_embed(ask_ups.handle, a.id); /* it is over */
	ck_assert_uint_eq(a.n_ended, 1);
	asked_free(&a);
}
END_TEST

START_TEST(embeddings_are_no_longer_than_those_that_were_asked_for_can_be)
{
	struct asked a;
	ask_load();
	server_control(&ask_server, "{\"next\": [\"endless=200\", \"ok\", \"endless=200\"]}");
	ck_assert_int_eq(ups_embed(&ask_ups, &a), -EPROTO);
	ck_assert_msg(strstr(a.sentence, "longer than 6291456 bytes"), "%s", a.sentence);
	asked_free(&a);
	ck_assert_int_eq(ups_embed(&ask_ups, &a), 0);
	asked_free(&a);
	/* How long theirs are is known now. */
	ck_assert_int_eq(ups_embed(&ask_ups, &a), -EPROTO);
	ck_assert_msg(strstr(a.sentence, "longer than 2359296 bytes"), "%s", a.sentence);
	asked_free(&a);
}
END_TEST

START_TEST(each_try_is_told_as_a_start_so_that_times_are_those_of_the_one_that_answered)
{
	struct asked a;
	ask_ups.config.retries = 2;
	ask_load();
	server_control(&ask_server, "{\"next\": [\"500\", \"ok\"]}");
	ups_ask(&ask_ups, &a);
	ck_assert_int_eq(a.status, 0);
	ck_assert_uint_eq(a.n_started, 2);
	asked_free(&a);
}
END_TEST

START_TEST(metrics_have_the_breakers_the_outcomes_and_the_retries)
{
	char expected[160];
	struct buf out = {0};
	ask_ups.config.retries = 1;
	ask_ups.config.breaker_failures = 2;
	ask_load();
	server_control(&ask_server, "{\"next\": [\"500\", \"ok\", \"status=429\", "
				    "\"status=429\", \"500\", \"500\"]}");
	ask_well();
	ask_for(-EBUSY);
	ask_for(-EHOSTUNREACH);
	ck_assert_int_eq(upstream_metrics(&ask_ups.handle, 1, &out), 0);
	snprintf(expected, sizeof expected,
		"llm_circuit_breaker_state{provider=\"m\",endpoint=\"127.0.0.1:%u/v1\"} 2\n",
		ask_server.port);
	ck_assert_msg(strstr(out.data, expected), "%s", out.data);
	snprintf(expected, sizeof expected, "127.0.0.1:%u/v1\",outcome=\"error\"} 3\n",
		ask_server.port);
	ck_assert_msg(strstr(out.data, expected), "%s", out.data);
	ck_assert_ptr_nonnull(strstr(out.data, "outcome=\"ok\"} 1\n"));
	ck_assert_ptr_nonnull(strstr(out.data, "outcome=\"busy\"} 2\n"));
	ck_assert_ptr_nonnull(strstr(out.data, "llm_upstream_retries_total{provider=\"m\"} 3\n"));
	buf_free(&out);
}
END_TEST

/* ---- leaks ---- */

static int n_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void fail_many(int n)
{
	enum { AT_ONCE = 50 };
	static struct asked a[AT_ONCE];
	for (int done = 0; done < n; done += AT_ONCE) {
		for (int i = 0; i < AT_ONCE; i++)
			ups_begin(&ask_ups, &a[i], "again", NULL);
		for (int i = 0; i < AT_ONCE; i++) {
			ups_wait(&a[i]);
			ck_assert_int_lt(a[i].status, 0);
			ck_assert_uint_eq(a[i].n_ended, 1);
			asked_free(&a[i]);
		}
	}
}

START_TEST(ten_thousand_faults_leak_nothing)
{
	ask_ups.config.breaker_failures = 1000000;
	ups_endpoint(&ask_ups, ask_server.port, "/b/500/v1", 1);
	ups_endpoint(&ask_ups, ask_server.port, "/b/close/v1", 1);
	ups_endpoint(&ask_ups, ask_server.port, "/b/close-headers/v1", 1);
	ups_endpoint(&ask_ups, ask_server.port, "/b/error-first/v1", 1);
	ups_endpoint(&ask_ups, ask_server.closed, "/v1", 8);
	ups_load(&ask_ups);
	fail_many(1000); /* what is made once, is */
	int fds = n_descriptors();
	size_t bytes = mallinfo2().uordblks;
	fail_many(10000);
	int more_fds = n_descriptors() - fds;
	size_t more = mallinfo2().uordblks > bytes ? mallinfo2().uordblks - bytes : 0;
	ck_assert_msg(more_fds <= 10, "%d descriptors", more_fds);
	ck_assert_msg(more < 200000, "%zu bytes", more); /* 20 bytes a fault */
}
END_TEST

int main(void)
{
	if (!faulty_start(&ask_server, NULL, NULL))
		return 77;
	Suite *s = suite_create("upstream");
	TCase *t = tcase_create("upstream");
	tcase_add_checked_fixture(t, ask_open, ask_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, an_answer_is_whole_and_its_usage_is_the_servers_or_estimated);
	tcase_add_test(
		t, text_that_no_server_counts_is_its_estimate_and_max_tokens_where_it_may_be_that);
	tcase_add_test(t, connections_are_kept_and_used_again);
	tcase_add_test(t, the_key_is_sent_and_shown_nowhere);
	tcase_add_test(t, no_server_gets_the_key_into_a_sentence);
	tcase_add_test(t, a_secret_is_taken_out_of_a_text_whole_and_in_parts);
	tcase_add_test(t, probabilities_come_where_they_are_asked_for);
	tcase_add_test(t, a_prompt_is_estimated_and_never_more_than_its_bytes);
	tcase_add_test(t, cancelling_closes_the_connection);
	tcase_add_test(t, cancelling_between_two_tries_ends_it_at_once);
	tcase_add_test(t, embeddings_are_of_unit_length_and_tried_again);
	tcase_add_test(t, embeddings_can_be_cancelled);
	tcase_add_test(t, embeddings_are_no_longer_than_those_that_were_asked_for_can_be);
	tcase_add_test(
		t, each_try_is_told_as_a_start_so_that_times_are_those_of_the_one_that_answered);
	tcase_add_test(t, metrics_have_the_breakers_the_outcomes_and_the_retries);
	tcase_add_test(t, ten_thousand_faults_leak_nothing);
	suite_add_tcase(s, t);
	int failed = run_suite(s);
	faulty_stop(&ask_server);
	return failed;
}
