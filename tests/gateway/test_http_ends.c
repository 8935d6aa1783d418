/* SPDX-License-Identifier: Apache-2.0 */
/* How a call ends: by each fault, under its name; by whoever asked, from anywhere; with the whole.
 */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/gateway/fetch_fixture.h"
#include "tests/run_suite.h"

static const struct {
	const char *behaviour; /* or the name of a port */
	uint64_t connect_ms, first_ms, idle_ms, total_ms;
	size_t max_bytes;
	enum http_fault fault;
	long status;
	const char *says;
} faults[] = {
	{"#closed", 0, 0, 0, 0, 0, HTTP_CONNECT, 0, "Connection refused"},
	{"#deaf", 150, 0, 0, 0, 0, HTTP_TIMEOUT_CONNECT, 0, "no connection within 150 ms"},
	{"#deaf", 0, 0, 0, 150, 0, HTTP_TIMEOUT_TOTAL, 0, "within 150 ms"},
	{"#deaf-https", 150, 0, 0, 0, 0, HTTP_TIMEOUT_CONNECT, 0, "no connection within 150 ms"},
	{"#mute", 1500, 0, 0, 0, 0, HTTP_TIMEOUT_CONNECT, 0,
		"connected, but no TLS within 1500 ms: is it a server of http://?"},
	{"hang-first", 1000, 150, 0, 0, 0, HTTP_TIMEOUT_FIRST, 0, "no answer within 150 ms"},
	{"hang-headers", 0, 400, 50, 0, 0, HTTP_TIMEOUT_FIRST, 200, "no answer within 400 ms"},
	{"slow=300", 0, 150, 0, 0, 0, HTTP_TIMEOUT_FIRST, 0, "no answer within 150 ms"},
	{"hang-middle", 0, 5000, 150, 0, 0, HTTP_TIMEOUT_IDLE, 200, "within 150 ms"},
	{"hang-middle", 0, 500, 150, 0, 0, HTTP_TIMEOUT_IDLE, 200, "in the middle"},
	{"hang-middle", 0, 500, 0, 600, 0, HTTP_TIMEOUT_TOTAL, 200, "no end of its answer within"},
	{"trickle", 0, 1000, 1000, 500, 0, HTTP_TIMEOUT_TOTAL, 200, "within 500 ms"},
	{"long", 0, 0, 0, 0, 100000, HTTP_TOO_LONG, 200, "longer than 100000 bytes"},
	{"garbage", 0, 0, 0, 0, 0, HTTP_BROKEN, 0, "not HTTP"},
	{"close", 0, 0, 0, 0, 0, HTTP_BROKEN, 0, "closed the connection without an answer"},
	{"close-headers", 0, 0, 0, 0, 0, HTTP_BROKEN, 200, "broke off"},
	{"close-middle", 0, 0, 0, 0, 0, HTTP_BROKEN, 200, "broke off"},
	{"reset", 0, 0, 0, 0, 0, HTTP_BROKEN, 200, "broke off"},
	{"500", 0, 0, 0, 0, 0, HTTP_OK, 500, ""},
	{"529", 0, 0, 0, 0, 0, HTTP_OK, 529, ""},
	{"leak", 0, 0, 0, 0, 0, HTTP_OK, 401, ""},
	{"redirect", 0, 0, 0, 0, 0, HTTP_OK, 302, ""},
	{"pace=100", 0, 700, 700, 0, 0, HTTP_OK, 200, ""},
	{"ok-close", 0, 2000, 2000, 5000, 0, HTTP_OK, 200, ""},
};
enum { N_FAULTS = sizeof faults / sizeof *faults };

static void make_fault(struct fetch *f, size_t i)
{
	const char *b = faults[i].behaviour;
	fetch_make(f, b);
	if (*b == '#')
		snprintf(f->url, sizeof f->url, "%s://127.0.0.1:%d/v1",
			b[1] == 'm' || strstr(b, "https") ? "https" : "http",
			b[1] == 'c'   ? fetch_server.closed
			: b[1] == 'd' ? fetch_server.deaf
				      : fetch_server.mute);
	f->q.connect_ms = faults[i].connect_ms;
	f->q.first_ms = faults[i].first_ms;
	f->q.idle_ms = faults[i].idle_ms;
	f->q.total_ms = faults[i].total_ms;
	f->q.max_bytes = faults[i].max_bytes;
}

START_TEST(each_fault_is_called_by_its_name)
{
	struct fetch f;
	char host[64];
	make_fault(&f, (size_t)_i);
	fetch_run(&f);
	ck_assert_msg(f.fault == faults[_i].fault, "%s: %d, %s", faults[_i].behaviour, f.fault,
		f.sentence);
	ck_assert_int_eq(f.head.status, faults[_i].status);
	ck_assert_msg(strstr(f.sentence, faults[_i].says), "%s", f.sentence);
	snprintf(host, sizeof host, "127.0.0.1:");
	if (*f.sentence)
		ck_assert_msg(!strncmp(f.sentence, host, strlen(host)), "%s", f.sentence);
	ck_assert_uint_lt(f.took_ms, 5000);
	if (faults[_i].fault >= HTTP_TIMEOUT_CONNECT && faults[_i].fault <= HTTP_TIMEOUT_TOTAL)
		ck_assert_uint_ge(f.took_ms, 145);
	fetch_drop(&f);
	fetch_assert_counts(
		0, f.fault == HTTP_OK && strcmp(faults[_i].behaviour, "ok-close") ? 1 : 0);
}
END_TEST

START_TEST(a_name_that_is_not_there_is_no_connection)
{
	struct fetch f;
	fetch_make(&f, "ok");
	snprintf(f.url, sizeof f.url, "http://no-such-host.invalid:81/v1");
	fetch_run(&f);
	ck_assert_int_eq(f.fault, HTTP_CONNECT);
	ck_assert_str_eq(f.sentence, "no-such-host.invalid:81: there is no host of this name");
}
END_TEST

START_TEST(a_call_that_is_cancelled_while_its_name_is_looked_up_does_not_wait)
{
	struct fetch f;
	fetch_make(&f, "ok");
	snprintf(f.url, sizeof f.url, "http://another.invalid/v1");
	fetch_on_loop(fetch_begin, &f);
	uint64_t before = clock_mono_ns();
	fetch_on_loop(fetch_cancel, &f);
	ck_assert_uint_lt(clock_mono_ns() - before, 500 * FETCH_MS_NS);
	fetch_assert_counts(0, 0);
}
END_TEST

START_TEST(a_cancel_closes_the_connection)
{
	struct fetch f;
	fetch_make(&f, "hang-middle");
	fetch_on_loop(fetch_begin, &f);
	for (int i = 0; i < 20000 && !f.n_data; i++)
		usleep(100);
	fetch_on_loop(fetch_cancel, &f);
	fetch_assert_counts(0, 0);
	fetch_assert_state(0, "gone");
	ck_assert_int_eq(faulty_open(&fetch_server), 0);
	ck_assert_int_eq(f.n_done, 0);
	fetch_drop(&f);
}
END_TEST

/* Opens and closes descriptors, as the other threads of a daemon do. */
static void *use_descriptors(void *arg)
{
	const atomic_bool *over = arg;
	while (!*over) {
		int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		ck_assert_int_ge(fd, 0);
		close(fd);
	}
	return NULL;
}

/* libcurl closes the socket before it says so, and its number is taken at once. For the thread
 * sanitizer, which sees who uses a descriptor that another thread opened. */
START_TEST(a_connect_that_is_given_up_leaves_the_descriptors_of_others_alone)
{
	atomic_bool over = false;
	pthread_t others;
	struct fetch f;
	ck_assert_int_eq(pthread_create(&others, NULL, use_descriptors, &over), 0);
	for (int i = 0; i < 300; i++) {
		fetch_make(&f, "hang-first");
		fetch_on_loop(fetch_begin, &f);
		usleep((useconds_t)i % 60);
		fetch_on_loop(fetch_cancel, &f);
		fetch_drop(&f);
	}
	over = true;
	pthread_join(others, NULL);
	fetch_assert_counts(0, 0);
}
END_TEST

static bool cancel_other(struct fetch *f)
{
	fetch_cancel(f->other);
	return true;
}

static bool begin_other(struct fetch *f)
{
	if (f->n_data == 1)
		fetch_begin(f->other);
	return true;
}

static bool replace_by_other(struct fetch *f)
{
	fetch_begin(f->other);
	fetch_cancel(f);
	return true;
}

static bool begin_and_cancel_other(struct fetch *f)
{
	if (f->n_data == 1) {
		fetch_begin(f->other);
		fetch_cancel(f->other);
	}
	return true;
}

static void done_begin_other(struct fetch *f)
{
	fetch_begin(f->other);
}

static void done_cancel_other(struct fetch *f)
{
	fetch_cancel(f->other);
	fetch_cancel(f);
}

START_TEST(data_may_break_off_or_cancel_its_own_call)
{
	struct fetch f;
	bool (*const acts[])(struct fetch *) = {fetch_break_off, fetch_cancel_self};
	for (int i = 0; i < 2; i++) {
		fetch_make(&f, "long");
		f.on_data = acts[i];
		fetch_on_loop(fetch_begin, &f);
		fetch_assert_counts(0, 0);
		fetch_assert_state(i, "gone");
		ck_assert_uint_eq(f.n_data, 1);
		ck_assert_int_eq(f.n_done, 0);
		fetch_drop(&f);
	}
}
END_TEST

START_TEST(data_may_cancel_and_begin_other_calls)
{
	struct fetch f, other;
	fetch_make(&other, "hang-first");
	fetch_on_loop(fetch_begin, &other);
	fetch_make(&f, "ok");
	f.on_data = cancel_other;
	f.other = &other;
	fetch_run(&f);
	ck_assert_int_eq(f.fault, HTTP_OK);
	ck_assert_int_eq(other.n_done, 0);
	fetch_assert_counts(0, 1);
	fetch_drop(&f);

	fetch_make(&other, "ok");
	fetch_make(&f, "ok");
	f.on_data = begin_other;
	f.other = &other;
	fetch_run(&f);
	fetch_wait(&other);
	ck_assert_int_eq(other.fault, HTTP_OK);
	fetch_drop(&f);
	fetch_drop(&other);

	fetch_make(&other, "ok");
	fetch_make(&f, "long");
	f.on_data = replace_by_other;
	f.other = &other;
	fetch_on_loop(fetch_begin, &f);
	fetch_wait(&other);
	ck_assert_int_eq(other.fault, HTTP_OK);
	ck_assert_int_eq(f.n_done, 0);
	fetch_drop(&f);
	fetch_drop(&other);

	fetch_make(&other, "ok");
	fetch_make(&f, "ok");
	f.on_data = begin_and_cancel_other;
	f.other = &other;
	fetch_run(&f);
	ck_assert_int_eq(f.fault, HTTP_OK);
	ck_assert_int_eq(other.n_done, 0);
	fetch_drop(&f);
}
END_TEST

START_TEST(done_may_begin_and_cancel_calls)
{
	struct fetch f, other;
	fetch_make(&other, "ok");
	fetch_make(&f, "503");
	f.on_done = done_begin_other;
	f.other = &other;
	fetch_run(&f);
	fetch_wait(&other);
	ck_assert_int_eq(other.fault, HTTP_OK);
	fetch_drop(&f);
	fetch_drop(&other);

	fetch_make(&other, "hang-middle");
	fetch_on_loop(fetch_begin, &other);
	fetch_make(&f, "503");
	f.on_done = done_cancel_other;
	f.other = &other;
	fetch_run(&f);
	fetch_assert_counts(0, 1);
	ck_assert_int_eq(other.n_done, 0);
	fetch_drop(&f);
	fetch_drop(&other);
}
END_TEST

int main(void)
{
	if (!fetch_server_start())
		return 77;
	Suite *s = suite_create("http_ends");
	TCase *c = tcase_create("ends");
	tcase_add_checked_fixture(c, fetch_open, fetch_close);
	tcase_set_timeout(c, 120);
	tcase_add_loop_test(c, each_fault_is_called_by_its_name, 0, N_FAULTS);
	tcase_add_test(c, a_name_that_is_not_there_is_no_connection);
	tcase_add_test(c, a_call_that_is_cancelled_while_its_name_is_looked_up_does_not_wait);
	tcase_add_test(c, a_cancel_closes_the_connection);
	tcase_add_test(c, a_connect_that_is_given_up_leaves_the_descriptors_of_others_alone);
	tcase_add_test(c, data_may_break_off_or_cancel_its_own_call);
	tcase_add_test(c, data_may_cancel_and_begin_other_calls);
	tcase_add_test(c, done_may_begin_and_cancel_calls);
	suite_add_tcase(s, c);
	int r = run_suite(s);
	faulty_stop(&fetch_server);
	return r;
}
