/* SPDX-License-Identifier: Apache-2.0 */
/* An upstream in front of a server that does everything wrong: what is told of each fault, once,
 * and what is tried again. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/redact.h"
#include "tests/gateway/upstream_fixture.h"
#include "tests/run_suite.h"

static const char whole[] = "The quick brown fox jumps over the lazy dog.";
static struct faulty server;
static struct ups u;

static void setup(void)
{
	server_reset(&server);
	ups_open(&u);
}

static void teardown(void)
{
	ups_close(&u);
}

static void load(void)
{
	ups_endpoint(&u, server.port, "/v1", 1);
	ups_load(&u);
}

static const char *text_of(const struct asked *a)
{
	return a->text.data ? a->text.data : "";
}

/* Asks; the answer must be the whole one. */
static void ask_well(void)
{
	struct asked a;
	ups_ask(&u, &a);
	ck_assert_msg(a.status == 0, "%s", a.sentence);
	ck_assert_str_eq(text_of(&a), whole);
	ck_assert_uint_eq(a.n_ended, 1);
	ck_assert_uint_eq(a.n_started, 1);
	asked_free(&a);
}

static void ask_for(int status)
{
	struct asked a;
	ups_ask(&u, &a);
	ck_assert_msg(a.status == status, "%d: %s", a.status, a.sentence);
	asked_free(&a);
}

static size_t n_asked(void)
{
	return server_count(&server, "\"method\": \"POST\"");
}

static const char *health(struct err *why)
{
	const char *word = NULL;
	upstream_provider.health(u.handle, &word, why);
	return word;
}

/* ---- answers ---- */

static void expect_answer(const struct protocol *protocol, const char *behaviour, bool estimated)
{
	char control[64];
	struct asked a;
	snprintf(control, sizeof control, "{\"next\": [\"%s\"]}", behaviour);
	server_control(&server, control);
	u.config.protocol = protocol;
	ups_load(&u);
	ups_ask(&u, &a);
	ck_assert_msg(a.status == 0, "%s %s: %s", protocol->name, behaviour, a.sentence);
	ck_assert_str_eq(text_of(&a), whole);
	ck_assert_str_eq(a.finish, "stop");
	ck_assert_int_eq(a.estimated, estimated);
	ck_assert_uint_gt(a.usage.prompt_tok, 0);
	if (!estimated)
		ck_assert_uint_eq(a.usage.output_tok, 9);
	else
		ck_assert(a.usage.output_tok >= 5 && a.usage.output_tok <= 44);
	asked_free(&a);
	upstream_provider.unload(u.handle);
	u.handle = NULL;
}

START_TEST(an_answer_is_whole_and_its_usage_is_the_servers_or_estimated)
{
	static const char *const good[] = {"ok", "ok-crlf", "ok-comments", "ok-bom", "ok-json",
		"ok-close", "split", "ok-cached"};
	ups_endpoint(&u, server.port, "/v1", 1);
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		expect_answer(&protocol_openai, good[i], false);
		expect_answer(&protocol_anthropic, good[i], false);
	}
	expect_answer(&protocol_openai, "ok-nousage", true);
	expect_answer(&protocol_anthropic, "ok-nousage", true);
}
END_TEST

START_TEST(connections_are_kept_and_used_again)
{
	load();
	for (int i = 0; i < 20; i++)
		ask_well();
	ck_assert_uint_eq(server_count(&server, "\"connection\": "), 20);
	char *log = server_log(&server), *at = strstr(log, "\"connection\": "), first[32];
	snprintf(first, sizeof first, "%.*s", (int)strcspn(at, ","), at);
	free(log);
	ck_assert_uint_eq(server_count(&server, first), 20);
}
END_TEST

START_TEST(the_key_is_sent_and_shown_nowhere)
{
	struct asked a;
	struct buf info = {0};
	u.config.key = "sk-very-secret";
	load();
	ask_well();
	ck_assert_uint_eq(server_count(&server, "Bearer sk-very-secret"), 1);
	server_control(&server, "{\"next\": [\"leak\"]}");
	ck_assert_int_eq(ups_ask(&u, &a), -EACCES);
	ck_assert_ptr_null(strstr(a.sentence, "very-secret"));
	ck_assert_ptr_nonnull(strstr(a.sentence, "models/m/key"));
	upstream_provider.info(u.handle, &info);
	upstream_metrics(&u.handle, 1, &info);
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
	ups_endpoint(&u, server.port, "/v1", 1);
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		static const char *const protocols[] = {"openai", "anthropic"};
		struct asked a;
		u.config.key = keys[i];
		u.config.protocol = protocol_find(protocols[i % 2], strlen(protocols[i % 2]));
		ups_load(&u);
		server_control(&server, "{\"next\": [\"leak\"]}");
		ck_assert_int_eq(ups_ask(&u, &a), -EACCES);
		for (size_t k = 0; keys[i][k] && strlen(keys[i] + k) >= 6; k++) {
			char run[7];
			snprintf(run, sizeof run, "%s", keys[i] + k);
			ck_assert_msg(!strstr(a.sentence, run), "%s", a.sentence);
		}
		ck_assert_msg(!strstr(a.sentence, keys[i]), "%s", a.sentence);
		ck_assert_ptr_nonnull(strstr(a.sentence, "refuses it"));
		asked_free(&a);
		upstream_provider.unload(u.handle);
		u.handle = NULL;
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
	load();
	ups_begin(&u, &a, "is it?", &q);
	ups_wait(&a);
	ck_assert_int_eq(a.status, 0);
	ck_assert_uint_eq(a.n_candidates, 1);
	ck_assert(fabsf(a.p[0] - 0.25f) < 1e-3f && fabsf(a.p[1] - 0.125f) < 1e-3f);
	/* Whoever needs no more than these cancels, and what it cost is to be known by then. */
	ck_assert_uint_gt(a.usage_then.prompt_tok, 0);
	asked_free(&a);
	q = (struct provider_request){.wants_logprob = true};
	ups_begin(&u, &a, "is it?", &q);
	ups_wait(&a);
	ck_assert(fabsf(a.logprob - logf(0.5f)) < 1e-3f);
	asked_free(&a);
	ups_ask(&u, &a);
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
	load();
	ck_assert_int_eq(upstream_provider.render(u.handle, m, 1, &p, NULL), 0);
	ck_assert(p.n_tok > 0 && p.n_tok <= p.most_tok);
	ck_assert_uint_eq(p.most_tok, 13 + 16);
	free(p.data);
	upstream_provider.limits(u.handle, &limits);
	ck_assert(limits.answers && limits.embeds && !limits.counts);
	ck_assert_uint_eq(limits.context_tok, 4096);
	ck_assert_int_eq(upstream_provider.count(u.handle, "one two three", 13, &n, NULL), 0);
	ck_assert(n >= 3 && n <= 13);
}
END_TEST

/* ---- faults ---- */

struct fault {
	const char *behaviour;
	int status;
	bool retryable;
	const char *text, *sentence;
	unsigned failures; /* that the breaker counts */
};

static const struct fault faults[] = {
	{"500", -EHOSTUNREACH, true, "", "500", 1},
	{"503", -EHOSTUNREACH, true, "", "503", 1},
	{"529", -EHOSTUNREACH, true, "", "529", 1},
	{"html=502", -EHOSTUNREACH, true, "", "502", 1},
	{"404", -EHOSTUNREACH, true, "", "404", 0},
	{"408", -ETIMEDOUT, true, "", "408", 1},
	{"400", -EPROTO, false, "", "400", 0},
	{"context", -EMSGSIZE, false, "", "context", 0},
	{"401", -EACCES, true, "", "models/m/key", 0},
	{"403", -EACCES, true, "", "models/m/key", 0},
	{"429=2", -EBUSY, true, "", "429", 0},
	{"garbage", -EPROTO, true, "", "127.0.0.1", 1},
	{"garbage-sse", -EPROTO, true, "", "models/m", 1},
	{"garbage-body", -EPROTO, true, "", "models/m", 1},
	{"garbage-shape", -EPROTO, true, "", "models/m", 1},
	{"close", -EPROTO, true, "", "127.0.0.1", 1},
	{"close-headers", -EPROTO, true, "", "127.0.0.1", 1},
	{"error-first", -EHOSTUNREACH, true, "", "fell over", 1},
	{"hang-first", -ETIMEDOUT, true, "", "127.0.0.1", 1},
	{"hang-headers", -ETIMEDOUT, true, "", "127.0.0.1", 1},
	/* Something of the answer was there. */
	{"hang-middle", -ETIMEDOUT, false, "The quick", "127.0.0.1", 1},
	{"garbage-json", -EPROTO, false, "The quick", "models/m", 1},
	{"close-middle", -EPROTO, false, "The quick", "127.0.0.1", 1},
	{"reset", -EPROTO, false, "The quick", "127.0.0.1", 1},
	{"utf8", -EPROTO, false, "The quick", "models/m", 1},
	{"error-middle", -EHOSTUNREACH, false, "The quick", "fell over", 1},
	{"no-done", 0, false, whole, "", 0},
};

static void expect_fault(const struct fault *f, const struct protocol *protocol)
{
	char control[64], failures[64];
	struct asked a;
	struct buf info = {0};
	snprintf(control, sizeof control, "{\"next\": [\"%s\"]}", f->behaviour);
	server_control(&server, control);
	u.config.protocol = protocol;
	/* Short only where it is waited for: others run here, too. */
	u.config.first_ms = u.config.idle_ms = strncmp(f->behaviour, "hang", 4) ? 5000 : 300;
	ups_load(&u);
	ups_ask(&u, &a);
	ck_assert_msg(a.status == f->status, "%s: %d: %s", f->behaviour, a.status, a.sentence);
	ck_assert_msg(a.retryable == f->retryable, "%s: %d", f->behaviour, a.retryable);
	ck_assert_msg(!strcmp(text_of(&a), f->text), "%s: %s", f->behaviour, text_of(&a));
	ck_assert_msg(protocol != &protocol_openai || strstr(a.sentence, f->sentence), "%s: %s",
		f->behaviour, a.sentence);
	ck_assert_msg(!f->status || !strncmp(a.sentence, "models/m", 8), "%s", a.sentence);
	ck_assert_uint_eq(a.n_ended, 1);
	ck_assert(a.status == 0 || *f->text || !a.usage.output_tok);
	upstream_provider.info(u.handle, &info);
	snprintf(failures, sizeof failures, "\"failures_in_a_row\": %u}", f->failures);
	ck_assert_msg(strstr(info.data, failures), "%s: %s", f->behaviour, info.data);
	ck_assert_msg(strstr(info.data, "\"outstanding\": 0,"), "%s", info.data);
	buf_free(&info);
	asked_free(&a);
	upstream_provider.unload(u.handle);
	u.handle = NULL;
}

START_TEST(each_fault_has_its_errno_its_sentence_and_one_end)
{
	ups_endpoint(&u, server.port, "/v1", 1);
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		expect_fault(&faults[i], &protocol_openai);
		expect_fault(&faults[i], &protocol_anthropic);
	}
}
END_TEST

START_TEST(an_error_that_blames_the_request_is_no_failure_of_its_server)
{
	static const struct {
		const char *type;
		int status;
		bool retryable; /* elsewhere */
	} errors[] = {{"invalid_request_error", -EPROTO, false},
		{"request_too_large", -EMSGSIZE, false}, {"authentication_error", -EACCES, true},
		{"not_found_error", -EHOSTUNREACH, true}};
	u.config.retries = 4;
	u.config.breaker_failures = 1;
	ups_endpoint(&u, server.port, "/v1", 1);
	for (size_t i = 0; i < 2 * sizeof errors / sizeof *errors; i++) {
		struct asked a;
		struct err why = {0};
		char control[64];
		snprintf(
			control, sizeof control, "{\"default\": \"error=%s\"}", errors[i / 2].type);
		server_reset(&server);
		server_control(&server, control);
		u.config.protocol = i % 2 ? &protocol_anthropic : &protocol_openai;
		ups_load(&u);
		ups_ask(&u, &a);
		ck_assert_msg(a.status == errors[i / 2].status, "%d: %s", a.status, a.sentence);
		ck_assert_int_eq(a.retryable, errors[i / 2].retryable);
		ck_assert_str_eq(health(&why), "ready");
		ck_assert_uint_eq(n_asked(), 1);
		asked_free(&a);
		upstream_provider.unload(u.handle);
		u.handle = NULL;
	}
	/* One that blames itself is. */
	struct err why = {0};
	u.config.retries = 0;
	ups_load(&u);
	server_control(&server, "{\"default\": \"error=api_error\"}");
	ask_for(-EHOSTUNREACH);
	ck_assert_str_eq(health(&why), "open");
}
END_TEST

START_TEST(a_status_is_believed_however_its_body_goes_on)
{
	struct asked a;
	u.config.total_ms = 10000;
	load();
	server_control(&server, "{\"next\": [\"endless=401\", \"endless=500\"]}");
	uint64_t from = clock_mono_ns();
	ck_assert_int_eq(ups_ask(&u, &a), -EACCES);
	ck_assert_uint_lt(a.ended_ns - from, 8000000000);
	asked_free(&a);
	ck_assert_int_eq(ups_ask(&u, &a), -EHOSTUNREACH);
	asked_free(&a);
	ck_assert(server_awaits(&server, "\"state\": \"gone\"", 2));
}
END_TEST

START_TEST(who_does_not_take_a_connection_is_unreachable_or_too_slow)
{
	struct asked a;
	ups_endpoint(&u, server.closed, "/v1", 1);
	ups_load(&u);
	ck_assert_int_eq(ups_ask(&u, &a), -EHOSTUNREACH);
	ck_assert(a.retryable);
	ck_assert_ptr_nonnull(strstr(a.sentence, "127.0.0.1"));
	asked_free(&a);
	upstream_provider.unload(u.handle);
	u.config.n_endpoints = 0;
	u.config.connect_ms = 300;
	ups_endpoint(&u, server.deaf, "/v1", 1);
	ups_load(&u);
	uint64_t from = clock_mono_ns();
	ck_assert_int_eq(ups_ask(&u, &a), -ETIMEDOUT);
	ck_assert(a.ended_ns - from < 4000000000);
	asked_free(&a);
}
END_TEST

START_TEST(an_answer_that_takes_too_long_breaks_off)
{
	struct asked a;
	u.config.total_ms = 1500;
	load();
	server_control(&server, "{\"next\": [\"pace=400\"]}");
	ck_assert_int_eq(ups_ask(&u, &a), -ETIMEDOUT);
	ck_assert_str_ne(text_of(&a), "");
	ck_assert(!a.retryable);
	asked_free(&a);
}
END_TEST

START_TEST(an_answer_without_end_is_cut_where_it_is_longer_than_max_tokens_can_be)
{
	const struct provider_request q = {.max_tokens = 10};
	struct asked a;
	load();
	server_control(&server, "{\"next\": [\"long\"]}");
	ups_begin(&u, &a, "go on", &q);
	ups_wait(&a);
	ck_assert_int_eq(a.status, 0);
	ck_assert_str_eq(a.finish, "length");
	ck_assert_uint_le(a.usage.output_tok, 10);
	ck_assert_uint_lt(a.text.len, 200000);
	ck_assert(server_awaits(&server, "\"state\": \"gone\"", 1));
	asked_free(&a);
}
END_TEST

/* ---- tries again ---- */

START_TEST(what_fails_before_the_first_byte_is_tried_again_and_given_once)
{
	u.config.retries = 4;
	load();
	server_control(
		&server, "{\"next\": [\"500\", \"close\", \"garbage-sse\", \"error-first\"]}");
	ask_well();
	ck_assert_uint_eq(n_asked(), 5);
}
END_TEST

START_TEST(what_fails_after_the_first_byte_is_not_tried_again)
{
	struct asked a;
	u.config.retries = 4;
	load();
	server_control(&server, "{\"next\": [\"close-middle\"]}");
	ck_assert_int_eq(ups_ask(&u, &a), -EPROTO);
	ck_assert_str_eq(text_of(&a), "The quick");
	ck_assert_uint_eq(n_asked(), 1);
	asked_free(&a);
}
END_TEST

START_TEST(what_is_wrong_with_the_request_is_not_tried_again)
{
	u.config.retries = 4;
	load();
	server_control(&server, "{\"next\": [\"400\", \"context\", \"401\", \"404\"]}");
	ask_for(-EPROTO);
	ask_for(-EMSGSIZE);
	ask_for(-EACCES);
	ask_for(-EHOSTUNREACH);
	ck_assert_uint_eq(n_asked(), 4);
}
END_TEST

START_TEST(retry_after_is_waited_for_or_said_when_it_is_too_long)
{
	struct asked a;
	u.config.retries = 2;
	load();
	server_control(&server, "{\"next\": [\"429=1\", \"ok\", \"429=45\", \"429-ms=20000\"]}");
	uint64_t from = clock_mono_ns();
	ask_well();
	ck_assert_uint_ge(clock_mono_ns() - from, 990000000);
	from = clock_mono_ns();
	ck_assert_int_eq(ups_ask(&u, &a), -EBUSY);
	ck_assert_ptr_nonnull(strstr(a.sentence, "45 s"));
	ck_assert_uint_eq(a.retry_after_ms, 45000);
	asked_free(&a);
	upstream_provider.unload(u.handle);
	ups_load(&u); /* one that does not know that it is to wait */
	/* 20 s are not too long for us, but for the deadline. */
	ck_assert_int_eq(ups_ask(&u, &a), -EBUSY);
	ck_assert_ptr_nonnull(strstr(a.sentence, "20 s"));
	asked_free(&a);
	ck_assert_uint_lt(clock_mono_ns() - from, 5000000000);
	ck_assert_uint_eq(n_asked(), 4);
}
END_TEST

START_TEST(when_to_come_again_binds_all_requests)
{
	struct asked a;
	load();
	server_control(&server, "{\"next\": [\"429=20\"]}");
	ck_assert_int_eq(ups_ask(&u, &a), -EBUSY);
	asked_free(&a);
	for (int i = 0; i < 9; i++) {
		ck_assert_int_eq(ups_ask(&u, &a), -EBUSY);
		ck_assert_msg(strstr(a.sentence, "asked to wait 20 s") ||
				      strstr(a.sentence, "asked to wait 19 s"),
			"%s", a.sentence);
		ck_assert(a.retryable);
		ck_assert(a.retry_after_ms > 10000 && a.retry_after_ms <= 20000);
		asked_free(&a);
	}
	ck_assert_uint_eq(n_asked(), 1);
	upstream_provider.unload(u.handle);
	ups_load(&u);
	server_control(&server, "{\"next\": [\"429-ms=300\"]}");
	ask_for(-EBUSY);
	usleep(320000);
	ask_well();
}
END_TEST

START_TEST(tries_again_are_bounded_by_the_budget)
{
	enum { N = 200 };
	struct asked *a = calloc(N, sizeof *a);
	u.config.retries = 3;
	u.config.breaker_failures = 1000000;
	load();
	server_control(&server, "{\"default\": \"500\"}");
	for (int i = 0; i < N; i++)
		ups_begin(&u, &a[i], "all at once", NULL);
	for (int i = 0; i < N; i++) {
		ups_wait(&a[i]);
		ck_assert_int_eq(a[i].status, -EHOSTUNREACH);
		asked_free(&a[i]);
	}
	ck_assert_uint_le(n_asked(), N + 10 + N / 10);
	ck_assert_uint_gt(n_asked(), N + 10);
	free(a);
}
END_TEST

/* ---- breakers ---- */

START_TEST(five_failures_open_the_breaker_and_three_probes_close_it)
{
	struct asked a;
	struct err why = {0};
	u.config.breaker_open_ms = 1000;
	load();
	server_control(&server, "{\"default\": \"500\"}");
	for (int i = 0; i < 5; i++) {
		ck_assert_str_eq(health(&why), "ready");
		ask_for(-EHOSTUNREACH);
	}
	ck_assert_str_eq(health(&why), "open");
	ck_assert_ptr_nonnull(strstr(why.text, "has failed 5 times; it is tried again in 1 s"));
	ck_assert_int_eq(ups_ask(&u, &a), -EHOSTUNREACH);
	ck_assert(a.retryable && a.retry_after_ms > 0 && a.retry_after_ms <= 1000);
	ck_assert_ptr_nonnull(strstr(a.sentence, "models/m: its server 127.0.0.1:"));
	asked_free(&a);
	ck_assert_uint_eq(n_asked(), 5);
	usleep(1010000);
	ck_assert_str_eq(health(&why), "half-open");
	ask_for(-EHOSTUNREACH); /* the probe fails */
	ck_assert_uint_eq(n_asked(), 6);
	ck_assert_str_eq(health(&why), "open");
	ck_assert_ptr_nonnull(strstr(why.text, "6 times"));
	usleep(1010000);
	server_control(&server, "{\"default\": \"ok\"}");
	for (int i = 0; i < 3; i++) {
		ck_assert_str_eq(health(&why), "half-open");
		ask_well();
	}
	ck_assert_str_eq(health(&why), "ready");
}
END_TEST

START_TEST(while_one_probe_is_under_way_there_is_no_other)
{
	struct asked probe, other;
	u.config.breaker_failures = 1;
	u.config.breaker_open_ms = 50;
	u.config.first_ms = 2000;
	load();
	server_control(&server, "{\"next\": [\"500\", \"slow=400\"]}");
	ask_for(-EHOSTUNREACH);
	usleep(60000);
	ups_begin(&u, &probe, "are you well?", NULL);
	ups_begin(&u, &other, "and I?", NULL);
	ups_wait(&other);
	ck_assert_int_eq(other.status, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(other.sentence, "being tried again now"));
	ups_wait(&probe);
	ck_assert_int_eq(probe.status, 0);
	ck_assert_uint_eq(n_asked(), 2);
	asked_free(&probe);
	asked_free(&other);
}
END_TEST

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

START_TEST(an_open_breaker_fails_fast)
{
	enum { N = 1000 };
	static uint64_t took[N];
	u.config.breaker_failures = 1;
	ups_endpoint(&u, server.closed, "/v1", 1);
	ups_load(&u);
	ask_for(-EHOSTUNREACH);
	for (int i = 0; i < N; i++) {
		struct asked a;
		uint64_t from = clock_mono_ns();
		ck_assert_int_eq(ups_ask(&u, &a), -EHOSTUNREACH);
		took[i] = a.ended_ns - from;
		asked_free(&a);
	}
	qsort(took, N, sizeof *took, by_size);
	if (getenv("LLMFS_TEST_TIMES"))
		printf("open breaker: p50 %.1f us, p99 %.1f us\n", (double)took[N / 2] / 1e3,
			(double)took[N * 99 / 100] / 1e3);
	/* The promise is 50 us; here others run, too, perhaps under a sanitizer. */
	ck_assert_msg(took[N / 10] < 500000, "%llu ns", (unsigned long long)took[N / 10]);
}
END_TEST

/* ---- cancelling ---- */

START_TEST(cancelling_closes_the_connection)
{
	static const char *const when[] = {"long", "hang-first", "hang-headers"};
	u.config.first_ms = 15000;
	load();
	for (size_t i = 0; i < 3; i++) {
		char control[64];
		struct asked a;
		snprintf(control, sizeof control, "{\"next\": [\"%s\"]}", when[i]);
		server_control(&server, control);
		ups_begin(&u, &a, "go on", &(struct provider_request){.max_tokens = 1000000});
		if (i == 0)
			ups_wait_text(&a);
		else
			ck_assert(server_awaits(&server, "\"state\": \"running\"", 1));
		upstream_provider.cancel(u.handle, a.id);
		upstream_provider.cancel(u.handle, a.id);
		ups_wait(&a);
		ck_assert_int_eq(a.status, -ECANCELED);
		ck_assert(i > 0 || (a.usage.output_tok > 0 && a.estimated));
		ck_assert_uint_eq(a.n_ended, 1);
		ck_assert(server_awaits(&server, "\"state\": \"gone\"", i + 1));
		upstream_provider.cancel(u.handle, a.id); /* harmless */
		asked_free(&a);
	}
	ask_well();
}
END_TEST

START_TEST(cancelling_between_two_tries_ends_it_at_once)
{
	struct asked a;
	u.config.retries = 5;
	load();
	server_control(&server, "{\"default\": \"429=9\"}");
	ups_begin(&u, &a, "go on", NULL);
	ck_assert(server_awaits(&server, "\"state\": \"done\"", 1));
	upstream_provider.cancel(u.handle, a.id);
	uint64_t from = clock_mono_ns();
	ups_wait(&a);
	ck_assert_int_eq(a.status, -ECANCELED);
	ck_assert(clock_mono_ns() - from < 5000000000);
	asked_free(&a);
}
END_TEST

/* ---- replicas ---- */

START_TEST(while_one_of_three_lives_no_request_fails)
{
	struct err why = {0};
	u.config.retries = 2;
	ups_endpoint(&u, server.port, "/b/500/v1", 1);
	ups_endpoint(&u, server.port, "/b/ok/v1", 1);
	ups_endpoint(&u, server.closed, "/v1", 1);
	ups_load(&u);
	for (int i = 0; i < 60; i++) {
		struct asked a;
		char prompt[32];
		snprintf(prompt, sizeof prompt, "question %d", i); /* conversations stay together */
		ups_begin(&u, &a, prompt, NULL);
		ups_wait(&a);
		ck_assert_msg(a.status == 0, "%s", a.sentence);
		ck_assert_str_eq(text_of(&a), whole);
		asked_free(&a);
	}
	ck_assert_str_eq(health(&why), "ready");
	/* Its breaker opened after five. */
	ck_assert_uint_eq(server_count(&server, "\"behaviour\": \"500\""), 5);
}
END_TEST

START_TEST(replicas_have_work_by_their_weights)
{
	enum { N = 120 };
	static struct asked a[N];
	ups_endpoint(&u, server.port, "/b/ok/v1", 3);
	ups_endpoint(&u, server.port, "/b/ok-comments/v1", 1);
	ups_load(&u);
	for (int i = 0; i < N; i++) {
		char prompt[32];
		snprintf(prompt, sizeof prompt, "question %d", i);
		ups_begin(&u, &a[i], prompt, NULL);
	}
	for (int i = 0; i < N; i++) {
		ups_wait(&a[i]);
		ck_assert_int_eq(a[i].status, 0);
		asked_free(&a[i]);
	}
	size_t n = server_count(&server, "\"behaviour\": \"ok\"");
	ck_assert_msg(n >= 80 && n <= 100, "%zu", n);
}
END_TEST

START_TEST(a_conversation_stays_where_its_beginning_is)
{
	ups_endpoint(&u, server.port, "/b/ok/v1", 1);
	ups_endpoint(&u, server.port, "/b/ok-comments/v1", 1);
	ups_load(&u);
	for (int i = 0; i < 10; i++)
		ask_well();
	size_t n = server_count(&server, "\"behaviour\": \"ok\"");
	ck_assert_msg(n == 0 || n == 10, "%zu", n);
}
END_TEST

START_TEST(a_server_that_fails_its_checks_is_left_out_until_it_passes_one)
{
	struct err why = {0};
	u.config.health_ms = 50;
	server_control(&server, "{\"health\": \"503\"}");
	load();
	for (int i = 0; i < 200 && strcmp(health(&why), "open"); i++)
		usleep(10000);
	ck_assert_str_eq(health(&why), "open");
	ck_assert_msg(strstr(why.text, "does not pass its health check"), "%s", why.text);
	ask_for(-EHOSTUNREACH);
	ck_assert_uint_eq(n_asked(), 0);
	server_control(&server, "{\"health\": \"404\"}"); /* somebody is there */
	for (int i = 0; i < 200 && strcmp(health(&why), "ready"); i++)
		usleep(10000);
	ask_well();
}
END_TEST

/* ---- embeddings, numbers ---- */

START_TEST(embeddings_are_of_unit_length_and_tried_again)
{
	struct asked a;
	struct provider_limits limits;
	u.config.retries = 1;
	load();
	server_control(&server, "{\"next\": [\"500\", \"other-order\", \"short-vectors\"]}");
	ck_assert_msg(ups_embed(&u, &a) == 0, "%s", a.sentence);
	ck_assert_uint_eq(a.dim, 8);
	for (int k = 0; k < 2; k++) {
		float sum = 0;
		for (int i = 0; i < 8; i++)
			sum += a.vectors[8 * k + i] * a.vectors[8 * k + i];
		ck_assert(fabsf(sum - 1) < 1e-4f);
	}
	ck_assert_uint_gt(a.usage.prompt_tok, 0);
	upstream_provider.limits(u.handle, &limits);
	ck_assert_uint_eq(limits.embedding_dim, 8);
	asked_free(&a);
	ck_assert_int_eq(ups_embed(&u, &a), 0); /* after the short ones */
	asked_free(&a);
	server_control(&server, "{\"next\": [\"401\"]}");
	ck_assert_int_eq(ups_embed(&u, &a), -EACCES);
	asked_free(&a);
	upstream_provider.unload(u.handle);
	u.config.protocol = &protocol_anthropic;
	ups_load(&u);
	ck_assert_int_eq(ups_embed(&u, &a), -ENOTSUP);
	asked_free(&a);
}
END_TEST

START_TEST(embeddings_can_be_cancelled)
{
	struct asked a;
	load();
	server_control(&server, "{\"next\": [\"hang-first\"]}");
	ck_assert_int_eq(ups_embed_begin(&u, &a), 0);
	ck_assert(server_awaits(&server, "\"running\"", 1));
	upstream_provider.cancel_embed(u.handle, a.id);
	upstream_provider.cancel_embed(u.handle, a.id);
	ups_wait(&a);
	ck_assert_int_eq(a.status, -ECANCELED);
	ck_assert(server_awaits(&server, "\"gone\"", 1));
	upstream_provider.cancel_embed(u.handle, a.id); /* it is over */
	ck_assert_uint_eq(a.n_ended, 1);
	asked_free(&a);
}
END_TEST

START_TEST(embeddings_are_no_longer_than_those_that_were_asked_for_can_be)
{
	struct asked a;
	load();
	server_control(&server, "{\"next\": [\"endless=200\", \"ok\", \"endless=200\"]}");
	ck_assert_int_eq(ups_embed(&u, &a), -EPROTO);
	ck_assert_msg(strstr(a.sentence, "longer than 6291456 bytes"), "%s", a.sentence);
	asked_free(&a);
	ck_assert_int_eq(ups_embed(&u, &a), 0);
	asked_free(&a);
	/* How long theirs are is known now. */
	ck_assert_int_eq(ups_embed(&u, &a), -EPROTO);
	ck_assert_msg(strstr(a.sentence, "longer than 2359296 bytes"), "%s", a.sentence);
	asked_free(&a);
}
END_TEST

START_TEST(metrics_have_the_breakers_the_outcomes_and_the_retries)
{
	char expected[160];
	struct buf out = {0};
	u.config.retries = 1;
	u.config.breaker_failures = 2;
	load();
	server_control(&server, "{\"next\": [\"500\", \"ok\", \"status=429\", "
				"\"status=429\", \"500\", \"500\"]}");
	ask_well();
	ask_for(-EBUSY);
	ask_for(-EHOSTUNREACH);
	ck_assert_int_eq(upstream_metrics(&u.handle, 1, &out), 0);
	snprintf(expected, sizeof expected,
		"llm_circuit_breaker_state{provider=\"m\",endpoint=\"127.0.0.1:%u/v1\"} 2\n",
		server.port);
	ck_assert_msg(strstr(out.data, expected), "%s", out.data);
	snprintf(
		expected, sizeof expected, "127.0.0.1:%u/v1\",outcome=\"error\"} 3\n", server.port);
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
			ups_begin(&u, &a[i], "again", NULL);
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
	u.config.breaker_failures = 1000000;
	ups_endpoint(&u, server.port, "/b/500/v1", 1);
	ups_endpoint(&u, server.port, "/b/close/v1", 1);
	ups_endpoint(&u, server.port, "/b/close-headers/v1", 1);
	ups_endpoint(&u, server.port, "/b/error-first/v1", 1);
	ups_endpoint(&u, server.closed, "/v1", 8);
	ups_load(&u);
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
	if (!faulty_start(&server, NULL, NULL))
		return 77;
	Suite *s = suite_create("upstream");
	TCase *t = tcase_create("upstream");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, an_answer_is_whole_and_its_usage_is_the_servers_or_estimated);
	tcase_add_test(t, connections_are_kept_and_used_again);
	tcase_add_test(t, the_key_is_sent_and_shown_nowhere);
	tcase_add_test(t, no_server_gets_the_key_into_a_sentence);
	tcase_add_test(t, a_secret_is_taken_out_of_a_text_whole_and_in_parts);
	tcase_add_test(t, an_error_that_blames_the_request_is_no_failure_of_its_server);
	tcase_add_test(t, a_status_is_believed_however_its_body_goes_on);
	tcase_add_test(t, when_to_come_again_binds_all_requests);
	tcase_add_test(t, probabilities_come_where_they_are_asked_for);
	tcase_add_test(t, a_prompt_is_estimated_and_never_more_than_its_bytes);
	tcase_add_test(t, each_fault_has_its_errno_its_sentence_and_one_end);
	tcase_add_test(t, who_does_not_take_a_connection_is_unreachable_or_too_slow);
	tcase_add_test(t, an_answer_that_takes_too_long_breaks_off);
	tcase_add_test(t, an_answer_without_end_is_cut_where_it_is_longer_than_max_tokens_can_be);
	tcase_add_test(t, what_fails_before_the_first_byte_is_tried_again_and_given_once);
	tcase_add_test(t, what_fails_after_the_first_byte_is_not_tried_again);
	tcase_add_test(t, what_is_wrong_with_the_request_is_not_tried_again);
	tcase_add_test(t, retry_after_is_waited_for_or_said_when_it_is_too_long);
	tcase_add_test(t, tries_again_are_bounded_by_the_budget);
	tcase_add_test(t, five_failures_open_the_breaker_and_three_probes_close_it);
	tcase_add_test(t, while_one_probe_is_under_way_there_is_no_other);
	tcase_add_test(t, an_open_breaker_fails_fast);
	tcase_add_test(t, cancelling_closes_the_connection);
	tcase_add_test(t, cancelling_between_two_tries_ends_it_at_once);
	tcase_add_test(t, while_one_of_three_lives_no_request_fails);
	tcase_add_test(t, replicas_have_work_by_their_weights);
	tcase_add_test(t, a_conversation_stays_where_its_beginning_is);
	tcase_add_test(t, a_server_that_fails_its_checks_is_left_out_until_it_passes_one);
	tcase_add_test(t, embeddings_are_of_unit_length_and_tried_again);
	tcase_add_test(t, embeddings_can_be_cancelled);
	tcase_add_test(t, embeddings_are_no_longer_than_those_that_were_asked_for_can_be);
	tcase_add_test(t, metrics_have_the_breakers_the_outcomes_and_the_retries);
	tcase_add_test(t, ten_thousand_faults_leak_nothing);
	suite_add_tcase(s, t);
	int failed = run_suite(s);
	faulty_stop(&server);
	return failed;
}
