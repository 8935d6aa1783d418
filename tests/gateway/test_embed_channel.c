/* SPDX-License-Identifier: Apache-2.0 */
/* models/NAME/embed in front of a server that fails as told: what is given up is stopped, what was
 * asked is paid for, and no limit is passed. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/gateway/vec_fixture.h"
#include "tests/run_suite.h"

static void close_channel(struct session *s)
{
	session_ctl(s, getuid(), getgid(), "cancel", 6, NULL);
	session_put(s);
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
	struct session *s = vec_channel(GATEWAY_EMBED);
	int status;
	ck_assert_int_eq(harness_say(s, vec_words), 0);
	char *vector = harness_read(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(vector[0], '[');
	ck_assert_double_eq(vec_spent(), VEC_WORDS_TOK);
	free(vector);
	session_put(s);
}
END_TEST

START_TEST(a_model_that_could_not_costs_nothing)
{
	struct session *s = vec_channel(GATEWAY_EMBED);
	int status;
	server_control(&vec_server, "{\"default\": \"403\"}");
	ck_assert_int_eq(harness_say(s, vec_words), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EACCES);
	ck_assert_double_eq(vec_spent(), 0);
	session_put(s);
}
END_TEST

/* What vec's ask_error says to its user. new */
static char *ask_error(void)
{
	struct model *m = gateway_model_find(vec_h.g, "vec");
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
	struct session *asked = vec_channel(GATEWAY_EMBED), *late = vec_channel(GATEWAY_EMBED),
		       *fresh;
	int status;
	server_control(&vec_server, "{\"next\": [\"hang-first\"]}");
	ck_assert_int_eq(harness_say(asked, vec_words), 0);
	ck_assert(server_awaits(&vec_server, "\"running\"", 1));
	ck_assert_int_eq(gateway_model_remove(vec_h.g, "vec", NULL), 0);
	ck_assert_int_eq(harness_say(late, vec_words), -EHOSTUNREACH);
	ck_assert_int_eq(gateway_model_create(vec_h.g, "vec", NULL), 0);
	expect_ask_error("");
	free(harness_read(asked, &status));
	ck_assert_int_lt(status, 0);
	expect_ask_error("");
	fresh = vec_channel(GATEWAY_EMBED);
	ck_assert_int_eq(harness_say(fresh, vec_words), -EHOSTUNREACH);
	expect_ask_error("embed: ");
	session_put(asked);
	session_put(late);
	session_put(fresh);
}
END_TEST

START_TEST(a_closed_channel_closes_its_connection_and_costs_what_it_may_have_used)
{
	struct session *s = vec_channel(GATEWAY_EMBED);
	server_control(&vec_server, "{\"next\": [\"hang-first\"]}");
	ck_assert_int_eq(harness_say(s, vec_words), 0);
	ck_assert(server_awaits(&vec_server, "\"running\"", 1));
	close_channel(s);
	ck_assert(server_awaits(&vec_server, "\"gone\"", 1));
	ck_assert_double_eq(vec_spent(), VEC_WORDS_MOST);
}
END_TEST

START_TEST(however_many_ask_and_go_the_server_sees_requests_max_of_them)
{
	enum { N = 200 };
	vec_set("requests_max", "4");
	server_control(&vec_server, "{\"default\": \"hang-first\"}");
	struct session *s[N];
	for (int i = 0; i < N; i++) {
		s[i] = vec_channel(GATEWAY_EMBED);
		ck_assert_int_eq(harness_say(s[i], vec_words), 0);
	}
	ck_assert(server_awaits(&vec_server, "\"running\"", 4));
	usleep(200000);
	ck_assert_uint_eq(server_count(&vec_server, "\"running\""), 4);
	ck_assert_int_eq(faulty_open(&vec_server), 4);
	for (int i = N; i-- > 0;)
		close_channel(s[i]);
	ck_assert(server_awaits(&vec_server, "\"gone\"", 4));
	/* Those that only waited at the gate cost nothing. */
	ck_assert_double_eq(vec_spent(), 4 * VEC_WORDS_MOST);
}
END_TEST

START_TEST(the_end_of_the_gateway_waits_for_no_vector)
{
	static const char *const limits[] = {
		"first_byte_timeout_ms", "idle_timeout_ms", "timeout_ms"};
	struct session *s[3];
	for (size_t i = 0; i < 3; i++)
		vec_set(limits[i], "0");
	vec_set("requests_max", "2"); /* and one waits at the gate */
	server_control(&vec_server, "{\"default\": \"hang-first\"}");
	for (size_t i = 0; i < 3; i++) {
		s[i] = vec_channel(GATEWAY_EMBED);
		ck_assert_int_eq(harness_say(s[i], vec_words), 0);
	}
	ck_assert(server_awaits(&vec_server, "\"running\"", 2));
	uint64_t began = clock_mono_ns();
	gateway_stop(vec_h.g);
	for (size_t i = 0; i < 3; i++) {
		int status;
		free(harness_read(s[i], &status));
		ck_assert_int_lt(status, 0);
		session_put(s[i]);
	}
	harness_close(&vec_h);
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
		struct session *s = vec_channel(GATEWAY_EMBED);
		r = harness_say(s, text);
		n += r == 0;
		if (r == 0)
			ck_assert(server_awaits(&vec_server, "\"hang-first\"", (size_t)n));
		close_channel(s);
	} while (r == 0 && n < 20);
	ck_assert_int_eq(r, code);
	free(text);
	return n;
}

START_TEST(vectors_that_are_given_up_never_pass_a_budget)
{
	harness_account(&vec_h, harness_me(&vec_h), "limit", "1000");
	server_control(&vec_server, "{\"default\": \"hang-first\"}");
	ck_assert_int_eq(taken(-EDQUOT), 2);
	ck_assert_double_eq(vec_spent(), 2 * (397 + 2));
}
END_TEST

START_TEST(vectors_that_are_given_up_never_pass_tokens_per_minute)
{
	harness_account(&vec_h, harness_me(&vec_h), "tokens_per_minute", "1000");
	server_control(&vec_server, "{\"default\": \"hang-first\"}");
	ck_assert_int_eq(taken(-EAGAIN), 2);
}
END_TEST

START_TEST(vectors_at_the_same_time_never_pass_a_budget)
{
	struct session *s[20];
	char *text = long_text(397);
	int n = 0, r = 0;
	harness_account(&vec_h, harness_me(&vec_h), "limit", "2000");
	server_control(&vec_server, "{\"default\": \"slow=300\"}");
	for (int i = 0; i < 20; i++) {
		s[i] = vec_channel(GATEWAY_EMBED);
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
	ck_assert_double_le(vec_spent(), 2000);
	free(text);
}
END_TEST

START_TEST(max_cost_is_of_what_it_can_be_at_most)
{
	struct session *s = vec_channel(GATEWAY_EMBED);
	char *text = long_text(397);
	ck_assert_int_eq(session_setting_set(s, "max_cost", "399", 3, NULL), 0);
	ck_assert_int_eq(harness_say(s, text), -EDQUOT);
	ck_assert_int_eq(session_setting_set(s, "max_cost", "400", 3, NULL), 0);
	ck_assert_int_eq(harness_say(s, text), 0);
	close_channel(s);
	vec_set("context", "100");
	s = vec_channel(GATEWAY_EMBED);
	ck_assert_int_eq(session_setting_set(s, "max_cost", "100", 3, NULL), 0);
	ck_assert_int_eq(harness_say(s, text), 0);
	close_channel(s);
	free(text);
}
END_TEST

START_TEST(a_kill_charges_what_was_asked)
{
	harness_close(&vec_h);
	server_control(&vec_server, "{\"default\": \"hang-first\"}");
	pid_t pid = fork();
	if (pid == 0) {
		vec_open();
		if (harness_say(vec_channel(GATEWAY_EMBED), vec_words) == 0)
			pause();
		_exit(1);
	}
	ck_assert(server_awaits(&vec_server, "\"running\"", 1));
	usleep(300000); /* its start is on its way to the store */
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	vec_open();
	ck_assert_double_eq(vec_spent(), VEC_WORDS_MOST);
}
END_TEST

int main(void)
{
	if (!faulty_start(&vec_server, NULL, NULL))
		return 77;
	Suite *s = suite_create("embed_channel");
	TCase *t = tcase_create("embed_channel");
	tcase_add_checked_fixture(t, vec_setup, vec_teardown);
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
	suite_add_tcase(s, t);
	int failed = run_suite(s);
	faulty_stop(&vec_server);
	return failed;
}
