/* SPDX-License-Identifier: Apache-2.0 */
/* models/NAME/embed, cache/lookup and the cache's own look in front of a server that fails as told:
 * what is given up is stopped, what was asked is paid for, and no limit is passed. A token costs a
 * dollar. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/model.h"
#include "tests/gateway/harness.h"
#include "tests/gateway/upstream_fixture.h"
#include "tests/run_suite.h"

static struct faulty server;
static struct harness h;

static const char words[] = "one two three\n"; /* three tokens, the server says */
enum { WORDS_TOK = 3, WORDS_MOST = sizeof words - 2 + 2 };

static void set(const char *file, const char *value)
{
	struct model *m = gateway_model_find(h.g, "vec");
	struct err err = {0};
	int r = model_setting_set(m, file, value, strlen(value), &err);
	ck_assert_msg(r == 0, "%s", err.text);
	model_put(m);
}

static void open_it(void)
{
	char url[96];
	snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", server.port);
	harness_open(&h);
	ck_assert_int_eq(gateway_model_create(h.g, "vec", NULL), 0);
	set("proxy", "none");
	set("endpoint", url);
	harness_price(&h, "vec");
}

static void setup(void)
{
	server_reset(&server);
	harness_make(&h, 0);
	open_it();
}

static void teardown(void)
{
	harness_end(&h);
}

static struct session *channel(enum gateway_channel kind)
{
	struct session *s = NULL;
	struct err err = {0};
	int r = gateway_channel_open(
		h.g, kind, kind == GATEWAY_EMBED ? "vec" : NULL, getuid(), &s, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	return s;
}

static void close_channel(struct session *s)
{
	session_ctl(s, getuid(), getgid(), "cancel", 6, NULL);
	session_put(s);
}

static double spent(void)
{
	char *text = harness_account_view(&h, harness_me(&h), ACCOUNT_SPENT);
	double value = strtod(text, NULL);
	free(text);
	return value;
}

/* A text of so many bytes, and a newline. */
static char *long_text(size_t n)
{
	char *text = malloc(n + 2);
	memset(text, 'a', n);
	memcpy(text + n, "\n", 2);
	return text;
}

START_TEST(a_vector_costs_what_the_model_says)
{
	struct session *s = channel(GATEWAY_EMBED);
	int status;
	ck_assert_int_eq(harness_say(s, words), 0);
	char *vector = harness_read(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(vector[0], '[');
	ck_assert_double_eq(spent(), WORDS_TOK);
	free(vector);
	session_put(s);
}
END_TEST

START_TEST(a_model_that_could_not_costs_nothing)
{
	struct session *s = channel(GATEWAY_EMBED);
	int status;
	server_control(&server, "{\"default\": \"403\"}");
	ck_assert_int_eq(harness_say(s, words), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EACCES);
	ck_assert_double_eq(spent(), 0);
	session_put(s);
}
END_TEST

/* What vec's ask_error says to its user. new */
static char *ask_error(void)
{
	struct model *m = gateway_model_find(h.g, "vec");
	struct buf out = {0};
	ck_assert_int_eq(model_ask_error(m, getuid(), &out, NULL), 0);
	ck_assert_int_eq(buf_append(&out, "", 1), 0);
	model_put(m);
	return out.data;
}

static void expect_ask_error(const char *what)
{
	char *text = ask_error();
	ck_assert_msg(*what ? !!strstr(text, what) : !*text, "%s", text);
	free(text);
}

START_TEST(a_new_model_does_not_show_what_was_asked_of_one_before_it_of_that_name)
{
	struct session *asked = channel(GATEWAY_EMBED), *late = channel(GATEWAY_EMBED), *fresh;
	int status;
	server_control(&server, "{\"next\": [\"hang-first\"]}");
	ck_assert_int_eq(harness_say(asked, words), 0);
	ck_assert(server_awaits(&server, "\"running\"", 1));
	ck_assert_int_eq(gateway_model_remove(h.g, "vec", NULL), 0);
	ck_assert_int_eq(harness_say(late, words), -EHOSTUNREACH);
	ck_assert_int_eq(gateway_model_create(h.g, "vec", NULL), 0);
	expect_ask_error("");
	free(harness_read(asked, &status));
	ck_assert_int_lt(status, 0);
	expect_ask_error("");
	fresh = channel(GATEWAY_EMBED);
	ck_assert_int_eq(harness_say(fresh, words), -EHOSTUNREACH);
	expect_ask_error("embed: ");
	session_put(asked);
	session_put(late);
	session_put(fresh);
}
END_TEST

START_TEST(a_closed_channel_closes_its_connection_and_costs_what_it_may_have_used)
{
	struct session *s = channel(GATEWAY_EMBED);
	server_control(&server, "{\"next\": [\"hang-first\"]}");
	ck_assert_int_eq(harness_say(s, words), 0);
	ck_assert(server_awaits(&server, "\"running\"", 1));
	close_channel(s);
	ck_assert(server_awaits(&server, "\"gone\"", 1));
	ck_assert_double_eq(spent(), WORDS_MOST);
}
END_TEST

START_TEST(however_many_ask_and_go_the_server_sees_requests_max_of_them)
{
	enum { N = 200 };
	set("requests_max", "4");
	server_control(&server, "{\"default\": \"hang-first\"}");
	struct session *s[N];
	for (int i = 0; i < N; i++) {
		s[i] = channel(GATEWAY_EMBED);
		ck_assert_int_eq(harness_say(s[i], words), 0);
	}
	ck_assert(server_awaits(&server, "\"running\"", 4));
	usleep(200000);
	ck_assert_uint_eq(server_count(&server, "\"running\""), 4);
	ck_assert_int_eq(faulty_open(&server), 4);
	for (int i = N; i-- > 0;)
		close_channel(s[i]);
	ck_assert(server_awaits(&server, "\"gone\"", 4));
	/* Those that only waited at the gate cost nothing. */
	ck_assert_double_eq(spent(), 4 * WORDS_MOST);
}
END_TEST

START_TEST(the_end_of_the_gateway_waits_for_no_vector)
{
	static const char *const limits[] = {
		"first_byte_timeout_ms", "idle_timeout_ms", "timeout_ms"};
	struct session *s[3];
	for (size_t i = 0; i < 3; i++)
		set(limits[i], "0");
	set("requests_max", "2"); /* and one waits at the gate */
	server_control(&server, "{\"default\": \"hang-first\"}");
	for (size_t i = 0; i < 3; i++) {
		s[i] = channel(GATEWAY_EMBED);
		ck_assert_int_eq(harness_say(s[i], words), 0);
	}
	ck_assert(server_awaits(&server, "\"running\"", 2));
	uint64_t began = clock_mono_ns();
	gateway_stop(h.g);
	for (size_t i = 0; i < 3; i++) {
		int status;
		free(harness_read(s[i], &status));
		ck_assert_int_lt(status, 0);
		session_put(s[i]);
	}
	harness_close(&h);
	ck_assert_uint_lt((clock_mono_ns() - began) / 1000000, 5000);
}
END_TEST

/* So many texts of 398 bytes with the newline, 400 tokens at most each, are taken before one is
 * refused. */
static int taken(int code)
{
	char *text = long_text(397);
	int n = 0, r;
	do {
		struct session *s = channel(GATEWAY_EMBED);
		r = harness_say(s, text);
		n += r == 0;
		if (r == 0)
			ck_assert(server_awaits(&server, "\"hang-first\"", (size_t)n));
		close_channel(s);
	} while (r == 0 && n < 20);
	ck_assert_int_eq(r, code);
	free(text);
	return n;
}

START_TEST(vectors_that_are_given_up_never_pass_a_budget)
{
	harness_account(&h, harness_me(&h), "limit", "1000");
	server_control(&server, "{\"default\": \"hang-first\"}");
	ck_assert_int_eq(taken(-EDQUOT), 2);
	ck_assert_double_eq(spent(), 2 * (397 + 2));
}
END_TEST

START_TEST(vectors_that_are_given_up_never_pass_tokens_per_minute)
{
	harness_account(&h, harness_me(&h), "tokens_per_minute", "1000");
	server_control(&server, "{\"default\": \"hang-first\"}");
	ck_assert_int_eq(taken(-EAGAIN), 2);
}
END_TEST

START_TEST(vectors_at_the_same_time_never_pass_a_budget)
{
	struct session *s[20];
	char *text = long_text(397);
	int n = 0, r = 0;
	harness_account(&h, harness_me(&h), "limit", "2000");
	server_control(&server, "{\"default\": \"slow=300\"}");
	for (int i = 0; i < 20; i++) {
		s[i] = channel(GATEWAY_EMBED);
		r = harness_say(s[i], text);
		n += r == 0;
		ck_assert(r == 0 || r == -EDQUOT);
	}
	ck_assert_int_eq(n, 5);
	for (int i = 0; i < 20; i++) {
		int status;
		free(harness_read(s[i], &status));
		session_put(s[i]);
	}
	ck_assert_double_le(spent(), 2000);
	free(text);
}
END_TEST

START_TEST(max_cost_is_of_what_it_can_be_at_most)
{
	struct session *s = channel(GATEWAY_EMBED);
	char *text = long_text(397);
	ck_assert_int_eq(session_setting_set(s, "max_cost", "399", 3, NULL), 0);
	ck_assert_int_eq(harness_say(s, text), -EDQUOT);
	ck_assert_int_eq(session_setting_set(s, "max_cost", "400", 3, NULL), 0);
	ck_assert_int_eq(harness_say(s, text), 0);
	close_channel(s);
	set("context", "100");
	s = channel(GATEWAY_EMBED);
	ck_assert_int_eq(session_setting_set(s, "max_cost", "100", 3, NULL), 0);
	ck_assert_int_eq(harness_say(s, text), 0);
	close_channel(s);
	free(text);
}
END_TEST

START_TEST(a_kill_charges_what_was_asked)
{
	harness_close(&h);
	server_control(&server, "{\"default\": \"hang-first\"}");
	pid_t pid = fork();
	if (pid == 0) {
		open_it();
		if (harness_say(channel(GATEWAY_EMBED), words) == 0)
			pause();
		_exit(1);
	}
	ck_assert(server_awaits(&server, "\"running\"", 1));
	usleep(300000); /* its start is on its way to the store */
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	open_it();
	ck_assert_double_eq(spent(), WORDS_MOST);
}
END_TEST

static double stat_of(const char *name)
{
	char *text = harness_whole(&h, GATEWAY_CACHE_STATS), line[64];
	snprintf(line, sizeof line, "%s ", name);
	const char *at = strstr(text, line);
	double value = at ? strtod(at + strlen(line), NULL) : -1;
	free(text);
	return value;
}

/* The ledger's lines with that. */
static int lines(const char *with)
{
	char *text = harness_account_view(&h, harness_me(&h), ACCOUNT_LEDGER);
	int n = 0;
	for (const char *at = text; (at = strstr(at, with)); at += strlen(with))
		n++;
	free(text);
	return n;
}

static struct session *asker(const char *id)
{
	struct session *s = harness_session(&h, id, "4");
	ck_assert_int_eq(session_setting_set(s, "temperature", "0", 1, NULL), 0);
	return s;
}

/* The default model, which is free, answers. */
static void ask(struct session *s)
{
	int status;
	ck_assert_int_eq(harness_say(s, words), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(harness_status(s, "done"));
}

/* Of a model that was never loaded nobody knows what it is, and nothing is looked for. */
static void cache_by_vectors(void)
{
	struct err err;
	struct session *s = asker("warm");
	ask(s);
	session_put(s);
	ck_assert_int_eq(gateway_part_setting_set(h.g, GATEWAY_CACHE, "enabled", "1", 1, &err), 0);
	ck_assert_int_eq(
		gateway_part_setting_set(h.g, GATEWAY_CACHE, "embedding_model", "vec", 3, &err), 0);
}

static const char vector_line[] = "\"embedding\": true";

START_TEST(lookups_use_their_tickets_up_and_are_paid)
{
	cache_by_vectors();
	harness_account(&h, harness_me(&h), "requests_per_minute", "3"); /* one was before */
	for (int i = 0; i < 3; i++) {
		struct session *s = channel(GATEWAY_LOOKUP);
		int status, r = harness_say(s, words);
		ck_assert_int_eq(r, i < 2 ? 0 : -EAGAIN);
		free(harness_read(s, &status));
		ck_assert_int_eq(status, i < 2 ? 0 : -EAGAIN);
		session_put(s);
	}
	ck_assert_double_eq(stat_of("embedding_tokens"), 2 * WORDS_TOK);
	ck_assert_double_eq(spent(), 2 * WORDS_TOK);
	ck_assert_int_eq(lines(vector_line), 2);
	char *metrics = harness_whole(&h, GATEWAY_PROMETHEUS);
	ck_assert_ptr_nonnull(strstr(metrics, "\nllm_cache_embedding_tokens_total 6\n"));
	free(metrics);
}
END_TEST

START_TEST(whose_prompt_the_cache_looks_for_pays_for_its_vector)
{
	cache_by_vectors();
	struct session *first = asker("first"), *second = asker("second");
	ask(first);
	ck_assert_double_eq(spent(), WORDS_TOK);
	ck_assert_double_eq(harness_usage(first, "embedding_tokens"), WORDS_TOK);
	ck_assert_double_eq(harness_usage(first, "embedding_cost"), WORDS_TOK);
	ck_assert_double_eq(harness_usage(first, "cost"), WORDS_TOK);
	ck_assert_int_eq(lines(vector_line), 1);
	ck_assert_int_eq(lines("\"model\": \"vec\""), 1);
	ck_assert_int_eq(lines("\"model\": \"tiny\""), 2);
	ask(second); /* just the same: it is found without one */
	ck_assert_double_eq(spent(), WORDS_TOK);
	ck_assert_double_eq(harness_usage(second, "cost"), 0);
	ck_assert_double_eq(harness_usage(second, "embedding_cost"), -1);
	session_put(first);
	session_put(second);
}
END_TEST

/* A model on the same server that answers, one at a time. */
static struct model *far_model(void)
{
	char url[96];
	struct err err = {0};
	snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", server.port);
	const char *const files[][2] = {
		{"proxy", "none"}, {"endpoint", url}, {"requests_max", "1"}};
	ck_assert_int_eq(gateway_model_create(h.g, "far", NULL), 0);
	struct model *m = gateway_model_find(h.g, "far");
	for (size_t i = 0; i < 3; i++) {
		const char *value = files[i][1];
		int r = model_setting_set(m, files[i][0], value, strlen(value), &err);
		ck_assert_msg(r == 0, "%s", err.text);
	}
	return m;
}

START_TEST(one_that_is_cancelled_at_the_gate_has_paid_its_vector_and_nothing_else)
{
	cache_by_vectors();
	struct model *far = far_model();
	struct session *first = asker("first"), *second = asker("second");
	struct model_facts facts = {0};
	session_setting_set(first, "model", "far", 3, NULL);
	session_setting_set(second, "model", "far", 3, NULL);
	session_setting_set(first, "cache", "off", 3, NULL);
	server_control(&server, "{\"next\": [\"hang-first\"]}");
	ck_assert_int_eq(harness_say(first, words), 0);
	ck_assert(server_awaits(&server, "\"running\"", 1));
	ck_assert_int_eq(harness_say(second, words), 0);
	for (int i = 0; i < 1000 && !facts.waiting; i++) {
		usleep(10000);
		model_facts(far, &facts);
	}
	ck_assert_uint_eq(facts.waiting, 1);
	session_ctl(second, getuid(), getgid(), "cancel", 6, NULL);
	ck_assert(harness_status(second, "cancelled"));
	ck_assert_double_eq(spent(), WORDS_TOK);
	ck_assert_double_eq(harness_usage(second, "cost"), WORDS_TOK);
	ck_assert_int_eq(lines(vector_line), 1);
	ck_assert_int_eq(lines("\"model\": \"far\""), 0);
	/* Two were before: cache_by_vectors' and the first. */
	harness_account(&h, harness_me(&h), "requests_per_minute", "3");
	struct session *third = asker("third");
	ask(third);
	ck_assert_int_eq(harness_say(third, words), -EAGAIN);
	session_ctl(first, getuid(), getgid(), "cancel", 6, NULL);
	session_put(first);
	session_put(second);
	session_put(third);
	model_put(far);
}
END_TEST

START_TEST(a_vector_that_costs_nothing_has_no_line)
{
	cache_by_vectors();
	set("price_input", "");
	struct session *s = asker("free");
	ask(s);
	ck_assert_double_eq(stat_of("embedding_tokens"), WORDS_TOK);
	ck_assert_int_eq(lines(vector_line), 0);
	ck_assert_int_eq(lines("\"model\": \"tiny\""), 2);
	ck_assert_double_eq(harness_usage(s, "embedding_tokens"), -1);
	session_put(s);
}
END_TEST

START_TEST(a_vector_that_did_not_come_in_time_costs_what_it_probably_was)
{
	cache_by_vectors();
	server_control(&server, "{\"next\": [\"hang-first\"]}");
	struct session *s = asker("late");
	ask(s);
	ck_assert_double_eq(spent(), (sizeof words - 2) / 4 + 2);
	ck_assert_int_eq(lines(vector_line), 1);
	server_control(&server, "{\"next\": [\"403\"]}");
	struct session *other = asker("refused");
	ck_assert_int_eq(session_setting_set(other, "seed", "7", 1, NULL), 0);
	ask(other); /* the server has made none, and says so */
	ck_assert_int_eq(lines(vector_line), 1);
	session_put(s);
	session_put(other);
}
END_TEST

START_TEST(a_vector_that_cannot_be_paid_is_not_made_and_the_free_model_answers)
{
	cache_by_vectors();
	struct session *s = asker("poor"), *tight = asker("tight");
	char most[16];
	snprintf(most, sizeof most, "%d", (int)sizeof words - 1 + 2);
	harness_account(&h, harness_me(&h), "limit", "4");
	ask(s);
	ck_assert_int_eq(lines(vector_line), 0);
	harness_account(&h, harness_me(&h), "limit", "");
	ck_assert_int_eq(session_setting_set(tight, "seed", "7", 1, NULL), 0);
	ck_assert_int_eq(session_setting_set(tight, "max_cost", "4", 1, NULL), 0);
	ask(tight);
	ck_assert_int_eq(lines(vector_line), 0);
	ck_assert_double_eq(spent(), 0);
	ck_assert_uint_eq(server_count(&server, "\"target\""), 0);
	harness_account(&h, harness_me(&h), "limit", most);
	struct session *fits = asker("fits");
	ck_assert_int_eq(session_setting_set(fits, "seed", "8", 1, NULL), 0);
	ask(fits);
	ck_assert_double_eq(spent(), WORDS_TOK);
	session_put(s);
	session_put(tight);
	session_put(fits);
}
END_TEST

/* What an account holds back for requests under way: with a limit of 1000. */
static double reserved(void)
{
	char *text = harness_account_view(&h, harness_me(&h), ACCOUNT_REMAINING);
	double value = 1000 - strtod(text, NULL);
	free(text);
	return value;
}

START_TEST(a_vector_is_reserved_with_the_prompt_and_not_for_whom_the_cache_is_off)
{
	cache_by_vectors();
	harness_account(&h, harness_me(&h), "limit", "1000");
	struct session *s = asker("reserving");
	struct draft *d = NULL;
	ck_assert_int_eq(draft_new(&d, s, getuid(), NULL), 0);
	ck_assert_int_eq(draft_write(d, words, sizeof words - 1, NULL), 0);
	ck_assert_double_eq(reserved(), sizeof words - 1 + 2);
	draft_drop(d);
	ck_assert_int_eq(session_setting_set(s, "cache", "off", 3, NULL), 0);
	ck_assert_int_eq(draft_new(&d, s, getuid(), NULL), 0);
	ck_assert_int_eq(draft_write(d, words, sizeof words - 1, NULL), 0);
	ck_assert_double_eq(reserved(), 0);
	draft_drop(d);
	session_put(s);
}
END_TEST

int main(void)
{
	if (!faulty_start(&server, NULL, NULL))
		return 77;
	Suite *s = suite_create("embed_channel");
	TCase *t = tcase_create("embed_channel");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_vector_costs_what_the_model_says);
	tcase_add_test(t, a_model_that_could_not_costs_nothing);
	tcase_add_test(t, a_new_model_does_not_show_what_was_asked_of_one_before_it_of_that_name);
	tcase_add_test(t, a_closed_channel_closes_its_connection_and_costs_what_it_may_have_used);
	tcase_add_test(t, however_many_ask_and_go_the_server_sees_requests_max_of_them);
	tcase_add_test(t, the_end_of_the_gateway_waits_for_no_vector);
	tcase_add_test(t, vectors_that_are_given_up_never_pass_a_budget);
	tcase_add_test(t, vectors_that_are_given_up_never_pass_tokens_per_minute);
	tcase_add_test(t, vectors_at_the_same_time_never_pass_a_budget);
	tcase_add_test(t, max_cost_is_of_what_it_can_be_at_most);
	tcase_add_test(t, a_kill_charges_what_was_asked);
	tcase_add_test(t, lookups_use_their_tickets_up_and_are_paid);
	tcase_add_test(t, whose_prompt_the_cache_looks_for_pays_for_its_vector);
	tcase_add_test(t, one_that_is_cancelled_at_the_gate_has_paid_its_vector_and_nothing_else);
	tcase_add_test(t, a_vector_that_costs_nothing_has_no_line);
	tcase_add_test(t, a_vector_that_did_not_come_in_time_costs_what_it_probably_was);
	tcase_add_test(t, a_vector_that_cannot_be_paid_is_not_made_and_the_free_model_answers);
	tcase_add_test(t, a_vector_is_reserved_with_the_prompt_and_not_for_whom_the_cache_is_off);
	suite_add_tcase(s, t);
	int failed = run_suite(s);
	faulty_stop(&server);
	return failed;
}
