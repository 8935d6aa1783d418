/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates are read where nobody waits: who does wait, for how long, and what their connections
 * take. The thread that reads them can be held up, so what is said of the time that it takes does
 * not depend on how long that is. */
#include <check.h>
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gateway/http_parts.h"
#include "tests/gateway/fetch_fixture.h"
#include "tests/gateway/secure_fixture.h"
#include "tests/run_suite.h"

/* ---- the reader, held up ---- */

struct hold {
	struct loop_work work;
	sem_t begun, over;
};

static void run_hold(struct loop_work *work)
{
	struct hold *h = list_entry(work, struct hold, work);
	sem_post(&h->begun);
	while (sem_wait(&h->over) < 0)
		;
}

/* It does nothing until let_go. */
static void hold(struct hold *h)
{
	secure_connect(NULL); /* it may be wanted only now */
	ck_assert_ptr_nonnull(fetch_http->reader);
	*h = (struct hold){.work.run = run_hold};
	list_init(&h->work.link);
	sem_init(&h->begun, 0, 0);
	sem_init(&h->over, 0, 0);
	ck_assert(runner_post(fetch_http->reader, &h->work));
	sem_wait(&h->begun);
}

static void let_go(struct hold *h)
{
	sem_post(&h->over);
}

/* ---- off the loop ---- */

START_TEST(the_loop_serves_others_while_certificates_are_read)
{
	enum { N = 5 };
	static struct fetch waiting[N];
	struct http_ca *ca = secure_authorities(0);
	struct fetch f;
	struct hold h;
	hold(&h);
	for (int i = 0; i < N; i++) {
		secure_make(&waiting[i]);
		waiting[i].q.ca = ca;
		fetch_on_loop(fetch_begin, &waiting[i]);
	}
	for (int i = 0; i < 20; i++) { /* without certificates, and with others */
		fetch_make(&f, "ok");
		fetch_run(&f);
		ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
		fetch_drop(&f);
		secure_connect(NULL);
	}
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(waiting[i].n_done, 0);
	let_go(&h);
	for (int i = 0; i < N; i++) {
		fetch_wait(&waiting[i]);
		ck_assert_msg(waiting[i].fault == HTTP_OK, "%s", waiting[i].sentence);
		fetch_drop(&waiting[i]);
	}
	http_ca_put(ca);
}
END_TEST

START_TEST(who_waits_for_certificates_is_held_to_its_times_and_may_leave)
{
	struct http_ca *ca = secure_authorities(0);
	struct fetch connect, total, left;
	struct hold h;
	hold(&h);
	secure_make(&connect);
	secure_make(&total);
	secure_make(&left);
	connect.q.ca = total.q.ca = left.q.ca = ca;
	connect.q.connect_ms = 60;
	total.q.total_ms = 50;
	fetch_on_loop(fetch_begin, &connect);
	fetch_on_loop(fetch_begin, &total);
	fetch_on_loop(fetch_begin, &left);
	fetch_wait(&connect);
	ck_assert_int_eq(connect.fault, HTTP_TIMEOUT_CONNECT);
	ck_assert_ptr_nonnull(strstr(connect.sentence, "no connection within 60 ms"));
	ck_assert_uint_ge(connect.took_ms, 60);
	fetch_wait(&total);
	ck_assert_int_eq(total.fault, HTTP_TIMEOUT_TOTAL);
	fetch_on_loop(fetch_cancel, &left);
	fetch_assert_counts(0, 1); /* the connection of hold() */
	let_go(&h);
	secure_connect(ca);
	ck_assert_int_eq(left.n_done, 0);
	http_ca_put(ca);
}
END_TEST

static void note_cpu(struct fetch *f)
{
	struct timespec t;
	ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
	f->took_ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t process_cpu_ms(void)
{
	struct timespec t;
	ck_assert_int_eq(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

START_TEST(thousands_of_certificates_take_the_loop_no_time)
{
	struct fetch before, after;
	size_t len;
	char *pem = secure_pem(0, 3000, &len);
	struct http_ca *ca = http_ca_new(pem, len);
	free(pem);
	if (run_suite_skips(!secure_keeps(), secure_keeps_not))
		return;
	secure_close_each();
	fetch_on_loop(note_cpu, &before);
	uint64_t all_ms = process_cpu_ms();
	secure_connect(ca);
	secure_connect(ca);
	fetch_on_loop(note_cpu, &after);
	all_ms = process_cpu_ms() - all_ms;
	uint64_t loop_ms = after.took_ms - before.took_ms;
	printf("3,000 certificates: %d ms of CPU, of those %d on the loop\n", (int)all_ms,
		(int)loop_ms);
	ck_assert_uint_lt(loop_ms * 4, all_ms);
	json_decref(faulty_ask(&secure_server, "POST", "/reset", ""));
	http_ca_put(ca);
}
END_TEST

/* Instead of the system's: while accept_fails, nobody answers who reads certificates, and so that
 * takes ten seconds. */
static atomic_int accept_fails, n_accepts;

__attribute__((visibility("default"))) int accept4(
	int fd, struct sockaddr *from, socklen_t *len, int flags)
{
	n_accepts++;
	if (!accept_fails)
		return (int)syscall(SYS_accept4, fd, from, len, flags);
	errno = EMFILE;
	return -1;
}

START_TEST(an_end_is_not_held_up_by_what_reads_certificates)
{
	struct http_ca *ca = secure_authorities(0);
	struct fetch f;
	if (run_suite_skips(!secure_keeps(), secure_keeps_not))
		return;
	secure_connect(NULL);
	accept_fails = 1;
	n_accepts = 0;
	secure_make(&f);
	f.q.ca = ca;
	fetch_on_loop(fetch_begin, &f);
	for (int i = 0; i < 20000 && !n_accepts; i++)
		usleep(1000);
	ck_assert_int_ge(n_accepts, 1);
	loop_close(fetch_loop);
	int before = n_accepts;
	fetch_close();
	ck_assert_int_le(n_accepts - before, 20); /* of 100 */
	ck_assert_int_eq(f.n_done, 0);
	accept_fails = 0;
	http_ca_put(ca);
	secure_open();
}
END_TEST

START_TEST(an_end_while_certificates_are_read_ends_all)
{
	struct http_ca *ca = secure_authorities(0);
	struct fetch f;
	struct hold h;
	hold(&h);
	secure_make(&f);
	f.q.ca = ca;
	fetch_on_loop(fetch_begin, &f);
	loop_close(fetch_loop);
	let_go(&h);
	fetch_close();
	ck_assert_int_eq(f.n_done, 0);
	http_ca_put(ca);
	secure_open();
}
END_TEST

/* ---- their connections ---- */

static void few_descriptors(rlim_t n)
{
	struct rlimit few;
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &few), 0);
	few.rlim_cur = n;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
}

/* No more than n descriptors can be opened until the limit that it returns is back. */
static rlim_t leave_descriptors(int n)
{
	int free_ones[8];
	struct rlimit before;
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	ck_assert_int_le(n, 8);
	for (int i = 0; i < n; i++)
		free_ones[i] = dup(0);
	int last = free_ones[n - 1];
	for (int i = 0; i < n; i++)
		close(free_ones[i]);
	few_descriptors((rlim_t)last + 1);
	return before.rlim_cur;
}

/* What a thread needs to read certificates: its two ends of a connection, and their file. */
START_TEST(a_moment_without_descriptors_spoils_no_set)
{
	for (int n = 1; n <= 4; n++) {
		struct http_ca *ca = secure_authorities(n);
		struct fetch f;
		struct hold h;
		hold(&h);
		rlim_t all = leave_descriptors(n);
		secure_make(&f);
		f.q.ca = ca;
		fetch_on_loop(fetch_begin, &f);
		let_go(&h);
		fetch_wait(&f); /* well, or not */
		few_descriptors(all);
		if (f.fault != HTTP_OK)
			ck_assert_msg(f.fault == HTTP_MEMORY || f.fault == HTTP_CONNECT, "%s",
				f.sentence);
		ck_assert_msg(!strstr(f.sentence, "cannot be read"), "%s", f.sentence);
		fetch_drop(&f);
		secure_connect(ca);
		http_ca_put(ca);
	}
}
END_TEST

static void look_again(struct fetch *f)
{
	http_ca_empty(fetch_http->system);
	fetch_http->look_at_ns = 0;
}

static struct http_ca *systems;

static void look_at_systems(struct fetch *f)
{
	systems = fetch_http->system;
}

START_TEST(the_systems_set_that_was_emptied_is_read_anew_though_it_is_the_same)
{
	struct fetch f;
	secure_connect(NULL);
	fetch_on_loop(look_again, NULL);
	fetch_on_loop(look_at_systems, NULL);
	struct http_ca *before = systems;
	secure_make(&f); /* begins the look */
	fetch_run(&f);
	fetch_drop(&f);
	for (int i = 0; i < 2000 && systems == before; i++) {
		usleep(1000);
		fetch_on_loop(look_at_systems, NULL);
	}
	ck_assert_ptr_ne(systems, before);
	secure_connect(NULL);
}
END_TEST

static void make_slow(struct fetch *f, struct http_ca *ca)
{
	fetch_make(f, "pace=100");
	if (ca)
		snprintf(f->url, sizeof f->url,
			"https://127.0.0.1:%d/b/pace=100/v1/chat/completions", secure_server.tls);
	f->q.ca = ca;
}

START_TEST(sets_of_authorities_share_the_half_of_the_descriptors)
{
	enum { N = 100, FILES = 80, HANDLES = 5 };
	static struct fetch f[N];
	struct http_ca *sets[HANDLES] = {NULL};
	for (int i = 1; i < HANDLES; i++)
		sets[i] = secure_authorities(i);
	few_descriptors(FILES);
	for (int i = 0; i < N; i++) {
		make_slow(&f[i], sets[i % HANDLES]);
		fetch_on_loop(fetch_begin, &f[i]);
	}
	/* All of their half are taken, however many have ended by then. */
	size_t running = 0, connections = 0;
	for (int i = 0; i < 50000 && connections != FILES / 2; i++) {
		http_count(fetch_http, &running, &connections);
		usleep(100);
	}
	ck_assert_uint_eq(connections, FILES / 2);
	for (int i = 0; i < N; i++) {
		fetch_wait(&f[i]);
		ck_assert_msg(f[i].fault == HTTP_OK, "%s", f[i].sentence);
		http_count(fetch_http, &running, &connections);
		ck_assert_uint_le(connections, FILES / 2);
		fetch_drop(&f[i]);
	}
	for (int i = 1; i < HANDLES; i++)
		http_ca_put(sets[i]);
}
END_TEST

static bool begin_other(struct fetch *f)
{
	ck_assert(fetch_http->inside);
	if (f->n_data == 1)
		fetch_begin(f->other);
	return true;
}

START_TEST(a_set_that_comes_while_libcurl_is_inside_has_its_share_at_once)
{
	enum { N = 60, FILES = 80 };
	static struct fetch f[N];
	struct fetch first, other;
	struct http_ca *ca = secure_authorities(0);
	few_descriptors(FILES);
	make_slow(&first, NULL);
	make_slow(&other, ca);
	first.other = &other;
	first.on_data = begin_other;
	fetch_on_loop(fetch_begin, &first);
	for (int i = 0; i < 20000 && !first.n_data; i++)
		usleep(100);
	for (int i = 0; i < N; i++) {
		make_slow(&f[i], NULL);
		fetch_on_loop(fetch_begin, &f[i]);
	}
	for (int i = 0; i < N; i++) {
		fetch_wait(&f[i]);
		ck_assert_uint_le(fetch_http->n_connections, FILES / 4);
		fetch_drop(&f[i]);
	}
	fetch_wait(&first);
	fetch_wait(&other);
	ck_assert_msg(other.fault == HTTP_OK, "%s", other.sentence);
	fetch_drop(&first);
	fetch_drop(&other);
	http_ca_put(ca);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("http_ca_read");
	TCase *c = tcase_create("certificates");
	tcase_add_checked_fixture(c, secure_open, fetch_close);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, the_loop_serves_others_while_certificates_are_read);
	tcase_add_test(c, who_waits_for_certificates_is_held_to_its_times_and_may_leave);
	tcase_add_test(c, thousands_of_certificates_take_the_loop_no_time);
	tcase_add_test(c, an_end_while_certificates_are_read_ends_all);
	tcase_add_test(c, an_end_is_not_held_up_by_what_reads_certificates);
	tcase_add_test(c, a_moment_without_descriptors_spoils_no_set);
	tcase_add_test(c, the_systems_set_that_was_emptied_is_read_anew_though_it_is_the_same);
	tcase_add_test(c, sets_of_authorities_share_the_half_of_the_descriptors);
	tcase_add_test(c, a_set_that_comes_while_libcurl_is_inside_has_its_share_at_once);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	if (!fetch_server_start())
		return 77;
	int r = secure_start() ? run_suite(make_suite()) : 77;
	secure_stop();
	faulty_stop(&fetch_server);
	return r;
}
