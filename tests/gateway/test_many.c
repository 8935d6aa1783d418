/* SPDX-License-Identifier: Apache-2.0 */
/* Many at once: sessions, cancels, readers, drafts, forks, removals, and what an idle one costs. */
#include <check.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

static struct harness h;

static void setup(void)
{
	harness_make(&h, 512);
	harness_open(&h);
}

static void teardown(void)
{
	harness_end(&h);
}

static int set(struct session *s, const char *file, const char *value)
{
	return session_setting_set(s, file, value, strlen(value), NULL);
}

static int ctl(struct session *s, const char *line)
{
	return session_ctl(s, getuid(), getgid(), line, strlen(line), NULL);
}

enum { N_SESSIONS = 200, N_WORKERS = 8 };

struct work {
	pthread_t thread;
	unsigned seed;
	int from, to;
	char *answers[N_SESSIONS];
	int status[N_SESSIONS];
};

/* Every session is asked the same; a third of them is cancelled at some moment, a third asked again
 * before the first answer is there. */
static void *ask_all(void *arg)
{
	struct work *w = arg;
	struct session *s[N_SESSIONS];
	for (int i = w->from; i < w->to; i++) {
		char id[16];
		snprintf(id, sizeof id, "s%d", i);
		s[i] = harness_session(&h, id, "24");
		set(s[i], "ignore_eos", "1");
		harness_say(s[i], "the same question\n");
		if (i % 3 == 1)
			harness_say(s[i], "and one more\n");
	}
	for (int i = w->from; i < w->to; i++) {
		if (i % 3 == 2) {
			usleep(rand_r(&w->seed) % 3000);
			ctl(s[i], "cancel");
		}
	}
	for (int i = w->from; i < w->to; i++) {
		w->answers[i] = harness_read(s[i], &w->status[i]);
		session_put(s[i]);
	}
	return NULL;
}

START_TEST(two_hundred_sessions_at_once_with_cancels_give_each_its_answer)
{
	static struct work workers[N_WORKERS];
	const char *first = NULL, *second = NULL;
	for (int i = 0; i < N_WORKERS; i++) {
		workers[i].seed = (unsigned)i + 1;
		workers[i].from = N_SESSIONS / N_WORKERS * i;
		workers[i].to = N_SESSIONS / N_WORKERS * (i + 1);
		pthread_create(&workers[i].thread, NULL, ask_all, &workers[i]);
	}
	for (int i = 0; i < N_WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	for (int i = 0; i < N_SESSIONS; i++) {
		struct work *w = &workers[i / (N_SESSIONS / N_WORKERS)];
		const char **same = i % 3 == 1 ? &second : &first;
		if (i % 3 == 2 && w->status[i] == -ECANCELED)
			continue;
		ck_assert_int_eq(w->status[i], 0);
		if (!*same)
			*same = w->answers[i];
		ck_assert_str_eq(w->answers[i], *same);
	}
	for (int i = 0; i < N_SESSIONS; i++)
		free(workers[i / (N_SESSIONS / N_WORKERS)].answers[i]);
}
END_TEST

static atomic_bool over;

/* Whatever a person could do, in no order. */
static void *do_anything(void *arg)
{
	unsigned seed = *(unsigned *)arg;
	while (!atomic_load(&over)) {
		char id[16], fork[24];
		struct session *s;
		snprintf(id, sizeof id, "r%d", rand_r(&seed) % 6);
		snprintf(fork, sizeof fork, "fork r%d", rand_r(&seed) % 6);
		gateway_session_create(h.g, id, getuid(), getgid(), 0700, NULL, NULL);
		s = gateway_session_find(h.g, id);
		if (!s)
			continue;
		struct buf out = {0};
		struct draft *d = NULL;
		struct model *m = NULL;
		uint64_t bytes, changed;
		switch (rand_r(&seed) % 14) {
		case 0:
			gateway_session_remove(h.g, id, NULL);
			break;
		case 1:
			ctl(s, "cancel");
			break;
		case 2:
			ctl(s, "retry");
			break;
		case 3:
			ctl(s, fork);
			break;
		case 4:
			ctl(s, "clear");
			break;
		case 5:
			session_render(s, SESSION_MESSAGES, &out);
			session_messages_set(s, out.data, out.len, NULL);
			break;
		case 6:
			draft_new(&d, s, getuid(), NULL);
			draft_write(d, "hm", 2, NULL);
			draft_flush(d, NULL);
			draft_drop(d);
			break;
		case 7:
			set(s, "max_tokens", "30");
			break;
		case 8:
			for (int v = 0; v <= SESSION_EVENTS; v++)
				session_render(s, (enum session_view)v, &out);
			session_view_size(s, SESSION_CHAT, &bytes, &changed);
			break;
		case 9:
			gateway_render(h.g, GATEWAY_PROMETHEUS, &out);
			gateway_render(h.g, GATEWAY_TRACE_RECENT, &out);
			break;
		case 10:
			m = gateway_model_find(h.g, "default");
			if (rand_r(&seed) % 4 == 0)
				model_ctl(m, "unload", 6, NULL);
			model_render(m, MODEL_STATE, &out);
			model_render(m, MODEL_INFO, &out);
			model_put(m);
			break;
		default:
			draft_new(&d, s, getuid(), NULL);
			draft_write(d, "say\n", 4, NULL);
			draft_flush(d, NULL);
			draft_commit(d);
			break;
		}
		buf_free(&out);
		session_put(s);
		usleep(rand_r(&seed) % 500);
	}
	return NULL;
}

START_TEST(nothing_that_is_done_at_once_in_no_order_breaks_it)
{
	pthread_t threads[6];
	unsigned seeds[6];
	for (unsigned i = 0; i < 6; i++) {
		seeds[i] = i + 1;
		pthread_create(&threads[i], NULL, do_anything, &seeds[i]);
	}
	sleep(3);
	gateway_stop(h.g);
	usleep(100000);
	atomic_store(&over, true);
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

/* Asks, tells the parent what a reader got, and goes on until it is killed. */
static void generate_until_killed(int fd)
{
	harness_open(&h);
	struct session *s = harness_session(&h, "a", "12");
	int status;
	set(s, "ignore_eos", "1");
	set(s, "system", "remember");
	harness_say(s, "first\n");
	free(harness_read(s, &status));
	char *chat = harness_view(s, SESSION_CHAT);
	size_t n = strlen(chat);
	set(s, "model", "long");
	set(s, "max_tokens", "15000"); /* seconds: it is killed long before */
	harness_say(s, "second\n");
	bool began = harness_status(s, "generating");
	/* Another answer's end is told when it is stored, and what was queued before it is, too. */
	struct session *other = harness_session(&h, "b", "2");
	harness_say(other, "hello\n");
	free(harness_read(other, &status));
	if (!began || write(fd, &n, sizeof n) != sizeof n || write(fd, chat, n) != (ssize_t)n)
		_exit(1);
	for (;;)
		pause();
}

START_TEST(after_a_kill_in_mid_answer_the_conversation_is_intact)
{
	harness_close(&h);
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	pid_t child = fork();
	if (!child)
		generate_until_killed(ends[1]);
	close(ends[1]);
	size_t n = 0, got = 0;
	ck_assert_int_eq(read(ends[0], &n, sizeof n), sizeof n);
	char *before = calloc(1, n + 1);
	while (got < n) {
		ssize_t r = read(ends[0], before + got, n - got);
		ck_assert_int_gt(r, 0);
		got += (size_t)r;
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	harness_open(&h);
	struct session *s = gateway_session_find(h.g, "a");
	ck_assert_ptr_nonnull(s);
	char *chat = harness_view(s, SESSION_CHAT), *error = harness_view(s, SESSION_ERROR);
	ck_assert_msg(!strncmp(chat, before, n), "%s", chat);
	ck_assert_ptr_nonnull(strstr(chat, "> second\n"));
	ck_assert_ptr_nonnull(strstr(chat, "[failed: daemon restarted]"));
	ck_assert_str_eq(error, "daemon restarted\n");
	ck_assert(harness_status(s, "failed"));
	int status;
	set(s, "max_tokens", "4");
	ck_assert_int_eq(ctl(s, "retry"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	free(before);
	free(chat);
	free(error);
	session_put(s);
}
END_TEST

/* ---- prompts that wait when it is killed ---- */

static void say_all(struct session *s, const char *const prompts[], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (harness_say(s, prompts[i]) < 0)
			_exit(1);
}

static const char *const three[] = {"alpha\n", "beta\nbeta\n", "gamma\n"};

/* Three prompts each, the first of them under way. */
static struct session *busy_session(const char *id)
{
	struct session *s = harness_session(&h, id, "15000");
	set(s, "ignore_eos", "1");
	set(s, "model", "long");
	say_all(s, three, 1);
	if (!harness_status(s, "generating"))
		_exit(1);
	say_all(s, three + 1, 2);
	return s;
}

/* Nothing is waited for: a verb or a removal that returned is enough, and for the prompts before
 * it.
 */
static void queue_until_killed(int fd)
{
	harness_open(&h);
	harness_price(&h, "long");
	harness_account(&h, harness_me(&h), "tokens_per_day", "10000000");
	busy_session("killed");
	ctl(busy_session("cancelled"), "cancel");
	busy_session("removed");
	if (gateway_session_remove(h.g, "removed", NULL) < 0 || write(fd, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

/* Each prompt once, in its order, with that end. */
static void all_three_ended(struct session *s, const char *end)
{
	static const char *const shown[] = {"> alpha\n", "> beta\n> beta\n\n", "> gamma\n\n"};
	char *chat = harness_view(s, SESSION_CHAT), *at = chat;
	for (size_t i = 0; i < 3; i++) {
		at = strstr(at, shown[i]);
		ck_assert_msg(at, "%s is not in its place: %s", shown[i], chat);
		at += strlen(shown[i]);
		if (i)
			ck_assert_msg(!strncmp(at, end, strlen(end)), "%s", chat);
		ck_assert_msg(!strstr(at, shown[i]), "%s is there twice: %s", shown[i], chat);
	}
	ck_assert_str_eq(at, end);
	free(chat);
	char *messages = harness_view(s, SESSION_MESSAGES);
	ck_assert_ptr_nonnull(strstr(messages, "gamma"));
	ck_assert_ptr_null(strstr(messages, "beta"));
	free(messages);
}

static void killed_with_prompts_waiting(void)
{
	int ends[2];
	char byte;
	ck_assert_int_eq(pipe(ends), 0);
	pid_t child = fork();
	if (!child)
		queue_until_killed(ends[1]);
	close(ends[1]);
	ck_assert_int_eq(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

START_TEST(after_a_kill_prompts_that_waited_are_failed_turns_in_their_order)
{
	harness_close(&h);
	killed_with_prompts_waiting();
	struct session *s;
	for (int start = 0; start < 2; start++) {
		harness_open(&h);
		ck_assert_ptr_null(gateway_session_find(h.g, "removed"));
		s = gateway_session_find(h.g, "cancelled");
		all_three_ended(s, "[cancelled]\n\n");
		ck_assert(harness_status(s, "cancelled"));
		session_put(s);
		s = gateway_session_find(h.g, "killed");
		all_three_ended(s, "[failed: daemon restarted]\n\n");
		char *error = harness_view(s, SESSION_ERROR);
		ck_assert_str_eq(error, "daemon restarted\n");
		free(error);
		ck_assert(harness_status(s, "failed"));
		ck_assert(harness_usage(s, "cost") == 0); /* it was never begun */
		ck_assert(harness_usage(s, "session_requests") == 3);
		if (start == 0) {
			session_put(s);
			harness_close(&h);
		}
	}
	int status;
	set(s, "max_tokens", "4");
	ck_assert_int_eq(ctl(s, "retry"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	char *messages = harness_view(s, SESSION_MESSAGES);
	ck_assert_ptr_nonnull(strstr(messages, "gamma"));
	ck_assert_ptr_nonnull(strstr(messages, "assistant"));
	free(messages);
	session_put(s);
}
END_TEST

/* Sanitizers have an allocator of their own, which tells nothing of the C library's. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#	define OTHER_ALLOCATOR true
#else
#	define OTHER_ALLOCATOR false
#endif

enum { N_IDLE = 1000 };

START_TEST(an_idle_session_with_a_conversation_costs_at_most_sixteen_kilobytes)
{
	if (run_suite_skips(OTHER_ALLOCATOR, "a sanitizer's allocator is not the C library's"))
		return;
	struct session *s = harness_session(&h, "one", "16");
	int status;
	set(s, "ignore_eos", "1");
	harness_say(s, "warm\n");
	free(harness_read(s, &status));
	session_put(s);
	harness_close(&h);
	h.options.max_sessions_per_user = 2 * N_IDLE;
	harness_open(&h);
	s = gateway_session_find(h.g, "one");
	harness_say(s, "warm again\n"); /* the engine, its cache and the store are there */
	free(harness_read(s, &status));
	session_put(s);
	size_t before = mallinfo2().uordblks;
	for (int i = 0; i < N_IDLE; i++) {
		char id[16];
		snprintf(id, sizeof id, "i%d", i);
		s = harness_session(&h, id, "16");
		set(s, "ignore_eos", "1");
		set(s, "system", "You are helpful.");
		for (int turn = 0; turn < 2; turn++) {
			ck_assert_int_eq(harness_say(s, "a question of some length for it\n"), 0);
			free(harness_read(s, &status));
			ck_assert_int_eq(status, 0);
		}
		session_put(s);
	}
	size_t each = (mallinfo2().uordblks - before) / N_IDLE;
	printf("an idle session with two turns: %zu bytes\n", each);
	ck_assert_uint_le(each, 16384);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("many");
	TCase *t = tcase_create("many");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 280);
	tcase_add_test(t, two_hundred_sessions_at_once_with_cancels_give_each_its_answer);
	tcase_add_test(t, nothing_that_is_done_at_once_in_no_order_breaks_it);
	tcase_add_test(t, after_a_kill_in_mid_answer_the_conversation_is_intact);
	tcase_add_test(t, after_a_kill_prompts_that_waited_are_failed_turns_in_their_order);
	tcase_add_test(t, an_idle_session_with_a_conversation_costs_at_most_sixteen_kilobytes);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
