/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/http.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "gateway/http_parts.h"
#include "tests/gateway/faulty.h"
#include "tests/run_suite.h"

#define SECRET "authorization: Bearer open-sesame-7"
#define MS ((uint64_t)1000000)

static struct faulty server, secure;
static char tls_dir[] = "/tmp/llmfs-http-XXXXXX";
static struct loop *loop;
static struct http *http;

/* A call and what became of it. */
struct fetch {
	struct http_request q;
	char url[256];
	struct http_call *call;
	/* What `data` does after it has noted: false breaks off. */
	bool (*on_data)(struct fetch *f);
	void (*on_done)(struct fetch *f);
	char *lent; /* a body */
	atomic_int n_released;
	struct fetch *other;
	struct buf body;
	atomic_size_t n_data; /* tests wait for it */
	enum http_fault fault;
	struct http_response head;
	char sentence[320];
	uint64_t begun_ns, took_ms;
	atomic_int n_done;
};

static const char *const headers[] = {SECRET, "content-type: application/json", NULL};

static bool take_data(void *arg, const struct http_response *head, const char *bytes, size_t len)
{
	struct fetch *f = arg;
	ck_assert(loop_inside(loop));
	ck_assert_int_eq(f->n_done, 0);
	ck_assert_int_ne(head->status, 0);
	f->n_data++;
	if (f->body.len < (1 << 20))
		ck_assert_int_eq(buf_append(&f->body, bytes, len), 0);
	return !f->on_data || f->on_data(f);
}

static void take_done(
	void *arg, enum http_fault fault, const struct http_response *head, const char *sentence)
{
	struct fetch *f = arg;
	ck_assert(loop_inside(loop));
	f->fault = fault;
	f->head = *head;
	f->took_ms = (clock_mono_ns() - f->begun_ns) / MS;
	snprintf(f->sentence, sizeof f->sentence, "%s", sentence);
	ck_assert_ptr_null(strstr(sentence, "sesame"));
	if (f->on_done)
		f->on_done(f);
	atomic_fetch_add(&f->n_done, 1);
}

static void make_url(struct fetch *f, const char *url)
{
	snprintf(f->url, sizeof f->url, "%s", url);
	f->q = (struct http_request){
		.url = f->url,
		.method = "POST",
		.headers = headers,
		.body = "{\"stream\": true}",
		.body_len = 16,
		.proxy = "",
		.data = take_data,
		.done = take_done,
		.arg = f,
	};
}

static void make(struct fetch *f, const char *behaviour)
{
	char url[200];
	snprintf(url, sizeof url, "http://127.0.0.1:%d/b/%s/v1/chat/completions", server.port,
		behaviour);
	memset(f, 0, sizeof *f);
	make_url(f, url);
}

struct errand {
	struct loop_work work;
	void (*act)(struct fetch *f);
	struct fetch *f;
	atomic_bool done;
};

static void run_errand(struct loop_work *w)
{
	struct errand *e = list_entry(w, struct errand, work);
	e->act(e->f);
	e->done = true;
}

static void on_loop(void (*act)(struct fetch *f), struct fetch *f)
{
	struct errand e = {.work.run = run_errand, .act = act, .f = f};
	list_init(&e.work.link);
	ck_assert(loop_post(loop, &e.work));
	while (!e.done)
		usleep(50);
}

static void begin(struct fetch *f)
{
	struct err err = {0};
	f->begun_ns = clock_mono_ns();
	int r = http_begin(&f->call, http, &f->q, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert_int_eq(f->n_done, 0);
}

static void cancel(struct fetch *f)
{
	f->call = http_cancel(f->call);
	ck_assert_ptr_null(f->call);
}

static void wait_for(struct fetch *f)
{
	for (int i = 0; i < 200000 && !f->n_done; i++)
		usleep(100);
	ck_assert_int_eq(f->n_done, 1);
}

static void fetch(struct fetch *f)
{
	on_loop(begin, f);
	wait_for(f);
}

static void drop(struct fetch *f)
{
	buf_free(&f->body);
}

static void open_http(void)
{
	struct err err = {0};
	ck_assert_int_eq(loop_new(&loop, &err), 0);
	ck_assert_msg(http_new(&http, loop, &err) == 0, "%s", err.text);
	json_decref(faulty_ask(&server, "POST", "/reset", ""));
}

static void close_http(void)
{
	loop_close(loop);
	http = http_free(http);
	loop = loop_free(loop);
}

static void assert_counts(size_t running, size_t connections)
{
	size_t r = 99, c = 99;
	for (int i = 0; i < 50000; i++) {
		http_count(http, &r, &c);
		if (r == running && c == connections)
			return;
		usleep(100);
	}
	ck_abort_msg("%zu running, %zu connections", r, c);
}

/* The state of the server's n-th request, waited for. */
static void assert_state(int n, const char *want)
{
	char last[32] = "";
	for (int i = 0; i < 200; i++) {
		json_t *log = faulty_log(&server);
		const char *s =
			json_string_value(json_object_get(json_array_get(log, (size_t)n), "state"));
		snprintf(last, sizeof last, "%s", s ? s : "not there");
		json_decref(log);
		if (!strcmp(last, want))
			return;
		usleep(10000);
	}
	ck_abort_msg("request %d is %s, not %s", n, last, want);
}

START_TEST(a_stream_comes_whole_with_its_head)
{
	struct fetch f;
	make(&f, "ok");
	fetch(&f);
	ck_assert_int_eq(f.fault, HTTP_OK);
	ck_assert_str_eq(f.sentence, "");
	ck_assert_int_eq(f.head.status, 200);
	ck_assert_str_eq(f.head.content_type, "text/event-stream");
	ck_assert_str_eq(f.head.request_id, "req-1");
	ck_assert_ptr_nonnull(strstr(f.body.data, "\" fox\""));
	ck_assert_ptr_nonnull(strstr(f.body.data, "data: [DONE]\n\n"));
	drop(&f);
}
END_TEST

START_TEST(what_is_sent_is_what_was_asked)
{
	struct fetch f;
	char *body = malloc(300000);
	ck_assert_ptr_nonnull(body);
	memset(body, ' ', 300000);
	memcpy(body, "{}", 2);
	make(&f, "ok");
	f.q.body = body;
	f.q.body_len = 300000;
	on_loop(begin, &f);
	memset(body, 'x', 300000); /* it was only borrowed for the call */
	wait_for(&f);
	json_t *log = faulty_log(&server), *one = json_array_get(log, 0);
	json_t *h = json_object_get(one, "headers");
	ck_assert_str_eq(json_string_value(json_object_get(one, "method")), "POST");
	ck_assert_str_eq(
		json_string_value(json_object_get(h, "authorization")), "Bearer open-sesame-7");
	ck_assert_str_eq(json_string_value(json_object_get(h, "content-type")), "application/json");
	ck_assert_ptr_null(json_object_get(h, "expect"));
	ck_assert_uint_eq(json_string_length(json_object_get(one, "body")), 300000);
	ck_assert_int_eq(strspn(json_string_value(json_object_get(one, "body")) + 2, " "), 299998);
	json_decref(log);
	drop(&f);
	make(&f, "ok");
	f.q.method = "GET";
	snprintf(f.url, sizeof f.url, "http://127.0.0.1:%d/v1/models", server.port);
	fetch(&f);
	ck_assert_int_eq(f.head.status, 200);
	ck_assert_str_eq(f.head.content_type, "application/json");
	ck_assert_ptr_nonnull(strstr(f.body.data, "\"list\""));
	drop(&f);
	free(body);
}
END_TEST

START_TEST(one_connection_serves_calls_one_after_another)
{
	struct fetch f;
	for (int i = 0; i < 50; i++) {
		make(&f, i % 2 ? "ok" : "503");
		fetch(&f);
		ck_assert_int_eq(f.head.status, i % 2 ? 200 : 503);
		drop(&f);
	}
	json_t *log = faulty_log(&server);
	json_int_t first =
		json_integer_value(json_object_get(json_array_get(log, 0), "connection"));
	for (size_t i = 0; i < 50; i++)
		ck_assert_int_eq(
			json_integer_value(json_object_get(json_array_get(log, i), "connection")),
			first);
	json_decref(log);
	assert_counts(0, 1);
}
END_TEST

START_TEST(many_calls_run_at_the_same_time)
{
	enum { N = 100 };
	static struct fetch f[N];
	for (int i = 0; i < N; i++) {
		make(&f[i], "pace=20");
		on_loop(begin, &f[i]);
	}
	assert_counts(N, N);
	for (int i = 0; i < N; i++) {
		wait_for(&f[i]);
		ck_assert_int_eq(f[i].fault, HTTP_OK);
		ck_assert_ptr_nonnull(strstr(f[i].body.data, "data: [DONE]\n\n"));
		drop(&f[i]);
	}
	assert_counts(0, N);
}
END_TEST

START_TEST(calls_never_take_more_than_half_of_the_descriptors)
{
	enum { N = 100, FILES = 80 };
	static struct fetch f[N];
	struct rlimit few;
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &few), 0);
	few.rlim_cur = FILES;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	http = http_free(http);
	ck_assert_int_eq(http_new(&http, loop, NULL), 0);
	for (int i = 0; i < N; i++) {
		make(&f[i], "pace=20");
		on_loop(begin, &f[i]);
	}
	assert_counts(N, FILES / 2);
	for (int i = 0; i < N; i++) {
		size_t running, connections;
		wait_for(&f[i]);
		ck_assert_msg(f[i].fault == HTTP_OK, "%s", f[i].sentence);
		http_count(http, &running, &connections);
		ck_assert_uint_le(connections, FILES / 2);
		drop(&f[i]);
	}
}
END_TEST

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
	{"#mute", 150, 0, 0, 0, 0, HTTP_TIMEOUT_CONNECT, 0, "no connection within 150 ms"},
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
	make(f, b);
	if (*b == '#')
		snprintf(f->url, sizeof f->url, "%s://127.0.0.1:%d/v1",
			b[1] == 'm' ? "https" : "http",
			b[1] == 'c'   ? server.closed
			: b[1] == 'd' ? server.deaf
				      : server.mute);
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
	fetch(&f);
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
	drop(&f);
	assert_counts(0, f.fault == HTTP_OK && strcmp(faults[_i].behaviour, "ok-close") ? 1 : 0);
}
END_TEST

START_TEST(a_name_that_is_not_there_is_no_connection)
{
	struct fetch f;
	make(&f, "ok");
	snprintf(f.url, sizeof f.url, "http://no-such-host.invalid:81/v1");
	fetch(&f);
	ck_assert_int_eq(f.fault, HTTP_CONNECT);
	ck_assert_str_eq(f.sentence, "no-such-host.invalid:81: there is no host of this name");
}
END_TEST

START_TEST(a_call_that_is_cancelled_while_its_name_is_looked_up_does_not_wait)
{
	struct fetch f;
	make(&f, "ok");
	snprintf(f.url, sizeof f.url, "http://another.invalid/v1");
	on_loop(begin, &f);
	uint64_t before = clock_mono_ns();
	on_loop(cancel, &f);
	ck_assert_uint_lt(clock_mono_ns() - before, 500 * MS);
	assert_counts(0, 0);
}
END_TEST

START_TEST(when_to_come_again_is_read_in_each_form)
{
	struct fetch f;
	make(&f, "429=3");
	fetch(&f);
	ck_assert_int_eq(f.head.status, 429);
	ck_assert_uint_eq(f.head.retry_after_ms, 3000);
	drop(&f);
	make(&f, "429-date=5");
	fetch(&f);
	ck_assert_uint_ge(f.head.retry_after_ms, 3000);
	ck_assert_uint_le(f.head.retry_after_ms, 6000);
	drop(&f);
	make(&f, "429-ms=50");
	fetch(&f);
	ck_assert_uint_eq(f.head.retry_after_ms, 50);
	drop(&f);
}
END_TEST

START_TEST(a_cancel_closes_the_connection)
{
	struct fetch f;
	make(&f, "hang-middle");
	on_loop(begin, &f);
	for (int i = 0; i < 20000 && !f.n_data; i++)
		usleep(100);
	on_loop(cancel, &f);
	assert_counts(0, 0);
	assert_state(0, "gone");
	ck_assert_int_eq(faulty_open(&server), 0);
	ck_assert_int_eq(f.n_done, 0);
	drop(&f);
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
		make(&f, "hang-first");
		on_loop(begin, &f);
		usleep((useconds_t)i % 60);
		on_loop(cancel, &f);
		drop(&f);
	}
	over = true;
	pthread_join(others, NULL);
	assert_counts(0, 0);
}
END_TEST

static bool break_off(struct fetch *f)
{
	f->call = NULL;
	return false;
}

static bool cancel_self(struct fetch *f)
{
	cancel(f);
	return true;
}

static bool cancel_other(struct fetch *f)
{
	cancel(f->other);
	return true;
}

static bool begin_other(struct fetch *f)
{
	if (f->n_data == 1)
		begin(f->other);
	return true;
}

static bool replace_by_other(struct fetch *f)
{
	begin(f->other);
	cancel(f);
	return true;
}

static bool begin_and_cancel_other(struct fetch *f)
{
	if (f->n_data == 1) {
		begin(f->other);
		cancel(f->other);
	}
	return true;
}

static void done_begin_other(struct fetch *f)
{
	begin(f->other);
}

static void done_cancel_other(struct fetch *f)
{
	cancel(f->other);
	cancel(f);
}

START_TEST(data_may_break_off_or_cancel_its_own_call)
{
	struct fetch f;
	bool (*const acts[])(struct fetch *) = {break_off, cancel_self};
	for (int i = 0; i < 2; i++) {
		make(&f, "long");
		f.on_data = acts[i];
		on_loop(begin, &f);
		assert_counts(0, 0);
		assert_state(i, "gone");
		ck_assert_uint_eq(f.n_data, 1);
		ck_assert_int_eq(f.n_done, 0);
		drop(&f);
	}
}
END_TEST

START_TEST(data_may_cancel_and_begin_other_calls)
{
	struct fetch f, other;
	make(&other, "hang-first");
	on_loop(begin, &other);
	make(&f, "ok");
	f.on_data = cancel_other;
	f.other = &other;
	fetch(&f);
	ck_assert_int_eq(f.fault, HTTP_OK);
	ck_assert_int_eq(other.n_done, 0);
	assert_counts(0, 1);
	drop(&f);

	make(&other, "ok");
	make(&f, "ok");
	f.on_data = begin_other;
	f.other = &other;
	fetch(&f);
	wait_for(&other);
	ck_assert_int_eq(other.fault, HTTP_OK);
	drop(&f);
	drop(&other);

	make(&other, "ok");
	make(&f, "long");
	f.on_data = replace_by_other;
	f.other = &other;
	on_loop(begin, &f);
	wait_for(&other);
	ck_assert_int_eq(other.fault, HTTP_OK);
	ck_assert_int_eq(f.n_done, 0);
	drop(&f);
	drop(&other);

	make(&other, "ok");
	make(&f, "ok");
	f.on_data = begin_and_cancel_other;
	f.other = &other;
	fetch(&f);
	ck_assert_int_eq(f.fault, HTTP_OK);
	ck_assert_int_eq(other.n_done, 0);
	drop(&f);
}
END_TEST

START_TEST(done_may_begin_and_cancel_calls)
{
	struct fetch f, other;
	make(&other, "ok");
	make(&f, "503");
	f.on_done = done_begin_other;
	f.other = &other;
	fetch(&f);
	wait_for(&other);
	ck_assert_int_eq(other.fault, HTTP_OK);
	drop(&f);
	drop(&other);

	make(&other, "hang-middle");
	on_loop(begin, &other);
	make(&f, "503");
	f.on_done = done_cancel_other;
	f.other = &other;
	fetch(&f);
	assert_counts(0, 1);
	ck_assert_int_eq(other.n_done, 0);
	drop(&f);
	drop(&other);
}
END_TEST

START_TEST(connections_that_nobody_uses_are_closed)
{
	struct fetch f;
	http_idle(http, 1);
	make(&f, "ok");
	fetch(&f);
	drop(&f);
	assert_counts(0, 1);
	ck_assert_int_eq(faulty_open(&server), 1);
	sleep(1);
	assert_counts(0, 0);
	usleep(10000);
	ck_assert_int_eq(faulty_open(&server), 0);
	make(&f, "ok");
	fetch(&f);
	ck_assert_int_eq(f.fault, HTTP_OK);
	drop(&f);
}
END_TEST

START_TEST(calls_under_way_end_with_the_whole_without_a_word)
{
	static struct fetch f[8];
	for (int i = 0; i < 8; i++) {
		make(&f[i], i % 2 ? "hang-first" : "hang-middle");
		f[i].q.first_ms = f[i].q.idle_ms = 100000;
		on_loop(begin, &f[i]);
	}
	usleep(50000);
	close_http();
	for (int i = 0; i < 8; i++) {
		ck_assert_int_eq(f[i].n_done, 0);
		drop(&f[i]);
	}
	open_http();
}
END_TEST

static int count_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void fetch_many(int n)
{
	static const char *const behaviours[] = {"ok", "close", "500", "garbage", "close-middle",
		"429", "#closed", "reset", "utf8", "redirect"};
	enum { AT_ONCE = 20 };
	static struct fetch f[AT_ONCE];
	for (int i = 0; i < n; i += AT_ONCE) {
		for (int k = 0; k < AT_ONCE; k++) {
			const char *b = behaviours[(size_t)(i + k) %
						   (sizeof behaviours / sizeof *behaviours)];
			make(&f[k], b);
			if (*b == '#')
				snprintf(f[k].url, sizeof f[k].url, "http://127.0.0.1:%d/",
					server.closed);
			if (k == 7)
				f[k].on_data = break_off;
			on_loop(begin, &f[k]);
		}
		for (int k = 0; k < AT_ONCE; k++) {
			if (k != 7)
				wait_for(&f[k]);
		}
		size_t running = 1, connections;
		while (running)
			http_count(http, &running, &connections);
		for (int k = 0; k < AT_ONCE; k++)
			drop(&f[k]);
	}
}

START_TEST(ten_thousand_calls_leave_no_descriptor_and_no_memory_behind)
{
	http_idle(http, 1);
	fetch_many(1000);
	json_decref(faulty_ask(&server, "POST", "/reset", ""));
	int descriptors = count_descriptors();
	size_t bytes = mallinfo2().uordblks;
	fetch_many(9000);
	json_decref(faulty_ask(&server, "POST", "/reset", ""));
	ck_assert_int_le(count_descriptors(), descriptors + 20);
	ck_assert_msg(mallinfo2().uordblks < bytes + 300000, "%zu bytes, then %zu", bytes,
		mallinfo2().uordblks);
	sleep(3);
	assert_counts(0, 0);
	ck_assert_int_eq(faulty_open(&server), 0);
	ck_assert_int_le(count_descriptors(), descriptors);
}
END_TEST

/* ---- proxies and TLS ---- */

START_TEST(a_proxy_is_asked_with_the_whole_url)
{
	struct fetch f;
	char proxy[64];
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", server.port);
	make(&f, "ok");
	snprintf(f.url, sizeof f.url, "http://models.example:8080/v1/chat/completions");
	f.q.proxy = proxy;
	setenv("no_proxy", "*", 1); /* is not for a proxy that was set */
	fetch(&f);
	unsetenv("no_proxy");
	ck_assert_int_eq(f.fault, HTTP_OK);
	ck_assert_ptr_nonnull(strstr(f.body.data, "[DONE]"));
	json_t *log = faulty_log(&server);
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(log, 0), "target")),
		"http://models.example:8080/v1/chat/completions");
	json_decref(log);
	drop(&f);
}
END_TEST

START_TEST(the_environments_proxy_is_taken_unless_it_is_said_otherwise)
{
	struct fetch f;
	char proxy[64];
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", server.port);
	setenv("http_proxy", proxy, 1);
	make(&f, "ok");
	f.q.proxy = NULL;
	fetch(&f);
	drop(&f);
	make(&f, "ok");
	fetch(&f);
	drop(&f);
	unsetenv("http_proxy");
	json_t *log = faulty_log(&server);
	const char *first = json_string_value(json_object_get(json_array_get(log, 0), "target"));
	const char *second = json_string_value(json_object_get(json_array_get(log, 1), "target"));
	ck_assert_int_eq(strncmp(first, "http://", 7), 0);
	ck_assert_int_eq(*second, '/');
	json_decref(log);
}
END_TEST

static void make_secure(struct fetch *f)
{
	memset(f, 0, sizeof *f);
	make_url(f, "");
	snprintf(f->url, sizeof f->url, "https://127.0.0.1:%d/v1/chat/completions", secure.tls);
	f->q.connect_ms = 5000;
}

static void trust(struct fetch *f)
{
	static char ca[8192];
	char path[64];
	snprintf(path, sizeof path, "%s/cert.pem", tls_dir);
	FILE *file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	f->q.ca_len = fread(ca, 1, sizeof ca, file);
	f->q.ca = ca;
	fclose(file);
}

START_TEST(tls_works_with_the_right_certificate_and_only_with_it)
{
	struct fetch f;
	for (int i = 0; i < 2; i++) {
		make_secure(&f);
		trust(&f);
		fetch(&f);
		ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
		ck_assert_ptr_nonnull(strstr(f.body.data, "[DONE]"));
		drop(&f);
		make_secure(&f);
		fetch(&f);
		ck_assert_int_eq(f.fault, HTTP_CONNECT);
		ck_assert_msg(strstr(f.sentence, "certificate"), "%s", f.sentence);
		ck_assert_int_eq(f.head.status, 0);
	}
	make_secure(&f);
	f.q.ca = "no certificate";
	f.q.ca_len = strlen(f.q.ca);
	fetch(&f);
	ck_assert_int_eq(f.fault, HTTP_CONNECT);
	ck_assert_msg(strstr(f.sentence, "certificate"), "%s", f.sentence);
	json_t *log = faulty_log(&secure);
	ck_assert_uint_eq(json_array_size(log), 2);
	json_decref(log);
}
END_TEST

START_TEST(tls_goes_through_a_proxys_tunnel)
{
	struct fetch f;
	char proxy[64], target[64];
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", server.port);
	snprintf(target, sizeof target, "127.0.0.1:%d", secure.tls);
	make_secure(&f);
	trust(&f);
	f.q.proxy = proxy;
	fetch(&f);
	ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
	ck_assert_str_eq(f.head.content_type, "text/event-stream");
	json_t *log = faulty_log(&server), *one = json_array_get(log, 0);
	ck_assert_str_eq(json_string_value(json_object_get(one, "method")), "CONNECT");
	ck_assert_str_eq(json_string_value(json_object_get(one, "target")), target);
	/* The proxy does not see what is for the server. */
	ck_assert_ptr_null(json_object_get(json_object_get(one, "headers"), "authorization"));
	json_decref(log);
	drop(&f);
}
END_TEST

/* ---- without a server ---- */

START_TEST(what_is_no_url_of_a_server_is_refused)
{
	static const char *const good[] = {"http://a", "https://a/", "HTTP://a.b:1/v1?x=1#y",
		"http://[::1]:80/", "http://my_host:65535", "https://caf\xc3\xa9.example/v1"};
	static const char *const bad[] = {"", "a", "//a", "ftp://a", "http:/a", "http://",
		"http:///v1", "http://:80", "http://a:0", "http://a:65536", "http://a:8o",
		"http://a:", "http://u@a", "http://u:p@a/", "http://a b", "http://a\n",
		"http://a/\r\nx", "file:///etc/passwd", "http://[::1", "http://[]", "http://a;b"};
	struct err err;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ck_assert_msg(http_url_check(good[i], strlen(good[i]), &err) == 0, "%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		err.text[0] = '\0';
		ck_assert_msg(
			http_url_check(bad[i], strlen(bad[i]), &err) == -EINVAL, "%s", bad[i]);
		ck_assert_str_ne(err.text, "");
	}
	ck_assert_int_eq(http_url_check("http://a\0b", 10, &err), -EINVAL);
}
END_TEST

static void begin_badly(struct fetch *f)
{
	struct err err = {0};
	struct http_call *call = NULL;
	ck_assert_int_eq(http_begin(&call, http, &f->q, &err), -EINVAL);
	ck_assert_ptr_null(strstr(err.text, "sesame"));
	ck_assert_str_ne(err.text, "");
}

START_TEST(bad_headers_are_refused_without_a_word_of_their_value)
{
	static const char *const bad[] = {"x: open sesame\r\ny: z", "x: sesame\n", "sesame",
		": sesame", "x y: sesame", "x\r\n: sesame", "x: sesame\x7f"};
	struct fetch f;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const char *h[] = {"good: 1", bad[i], NULL};
		make(&f, "ok");
		f.q.headers = h;
		on_loop(begin_badly, &f);
	}
	make(&f, "ok");
	f.q.method = "DELETE";
	on_loop(begin_badly, &f);
	make(&f, "ok");
	f.q.url = "http://user:sesame@127.0.0.1/";
	on_loop(begin_badly, &f);
	assert_counts(0, 0);
}
END_TEST

static void released(void *arg)
{
	struct fetch *f = arg;
	free(f->lent);
	f->lent = NULL;
	atomic_fetch_add(&f->n_released, 1);
}

static void wait_released(const struct fetch *f)
{
	for (int i = 0; i < 2000 && !f->n_released; i++)
		usleep(5000);
	ck_assert_int_eq(f->n_released, 1);
}

static void lend(struct fetch *f, const char *behaviour)
{
	enum { BYTES = 3 << 20 };
	static const char end[] = "\"stream\": true}";
	make(f, behaviour);
	f->lent = malloc(BYTES);
	memset(f->lent, ' ', BYTES);
	memcpy(f->lent, "{", 1);
	memcpy(f->lent + BYTES - strlen(end), end, strlen(end));
	f->q.body = f->lent;
	f->q.body_len = BYTES;
	f->q.released = released;
}

static void begin_and_change(struct fetch *f)
{
	begin(f);
	f->lent[1] = '\n'; /* nothing was sent so far */
}

START_TEST(a_body_that_is_lent_is_not_copied_and_given_back_once)
{
	struct fetch f;
	lend(&f, "ok");
	on_loop(begin_and_change, &f);
	wait_for(&f);
	ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
	ck_assert_ptr_nonnull(strstr(f.body.data, "[DONE]"));
	json_t *log = faulty_log(&server), *one = json_array_get(log, 0);
	const char *body = json_string_value(json_object_get(one, "body"));
	ck_assert_uint_eq(strlen(body), 3 << 20);
	ck_assert_int_eq(body[1], '\n');
	json_decref(log);
	wait_released(&f);
	drop(&f);
	/* Where `done` does not come. */
	lend(&f, "ok");
	f.on_data = cancel_self;
	on_loop(begin, &f);
	wait_released(&f);
	drop(&f);
	lend(&f, "hang-first");
	on_loop(begin, &f);
	on_loop(cancel, &f);
	ck_assert_int_eq(f.n_released, 1);
	drop(&f);
	/* Where it does not begin. */
	lend(&f, "ok");
	f.q.url = "ftp://x/";
	on_loop(begin_badly, &f);
	ck_assert_int_eq(f.n_released, 0);
	free(f.lent);
	drop(&f);
}
END_TEST

static struct http_response read_head(const char *const *lines)
{
	struct http_response head;
	memset(&head, 0, sizeof head);
	for (; *lines; lines++)
		http_head_line(&head, *lines, strlen(*lines), 1000000000);
	return head;
}

START_TEST(heads_are_read_as_they_come)
{
	const char *const plain[] = {"HTTP/1.1 100 Continue\r\n", "retry-after: 9\r\n", "\r\n",
		"HTTP/1.1 503\r\n", "Content-Type:  Application/JSON ; charset=utf-8\r\n",
		"RETRY-AFTER: 2.5 \r\n", "Request-Id: abc\r\n", "\r\n", NULL};
	struct http_response h = read_head(plain);
	ck_assert_int_eq(h.status, 503);
	ck_assert_str_eq(h.content_type, "application/json");
	ck_assert_str_eq(h.request_id, "abc");
	ck_assert_uint_eq(h.retry_after_ms, 2500);
	const char *const dates[] = {"HTTP/2 429\r\n",
		"retry-after: Sun, 09 Sep 2001 01:46:50 GMT\r\n", "x-request-id: a b\r\n", NULL};
	h = read_head(dates);
	ck_assert_int_eq(h.status, 429);
	ck_assert_uint_eq(h.retry_after_ms, 10000);
	ck_assert_str_eq(h.request_id, "");
	const char *const both[] = {
		"HTTP/2 429 \r\n", "retry-after-ms: 1500.7\r\n", "retry-after: 60\r\n", NULL};
	ck_assert_uint_eq(read_head(both).retry_after_ms, 1500);
	const char *const bad_ms[] = {"HTTP/2 429 \r\n", "retry-after-ms: x\r\n",
		"retry-after: 30\r\n", "retry-after: soon\r\n", NULL};
	ck_assert_uint_eq(read_head(bad_ms).retry_after_ms, 30000);
	const char *const bad_later[] = {"HTTP/2 429 \r\n", "retry-after: 30\r\n",
		"retry-after-ms: x\r\n", "retry-after-ms: 1e3\r\n", NULL};
	ck_assert_uint_eq(read_head(bad_later).retry_after_ms, 30000);
	const char *const far[] = {"HTTP/2 429\r\n", "retry-after: 99999999999999999999\r\n", NULL};
	ck_assert_uint_eq(read_head(far).retry_after_ms, 24 * 3600 * 1000);
	const char *const nonsense[] = {"HTTP/1.1\r\n", "retry-after: soon\r\n", "content-type\r\n",
		"", "\r\n", "retry-after:\r\n", "content-type:\r\n", NULL};
	h = read_head(nonsense);
	ck_assert_int_eq(h.status, 0);
	ck_assert_uint_eq(h.retry_after_ms, 0);
	ck_assert_str_eq(h.content_type, "");
	const char *const past[] = {
		"HTTP/1.1 503 x\r\n", "retry-after: Sun, 09 Sep 2001 01:46:30 GMT\r\n", NULL};
	ck_assert_uint_eq(read_head(past).retry_after_ms, 0);
}
END_TEST

/* A certificate for 127.0.0.1. False: there is no openssl. */
static bool make_certificate(void)
{
	char command[400];
	if (!mkdtemp(tls_dir))
		return false;
	snprintf(command, sizeof command,
		"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=llmfs-test "
		"-addext subjectAltName=IP:127.0.0.1 -keyout %s/key.pem -out %s/cert.pem "
		">/dev/null 2>&1",
		tls_dir, tls_dir);
	return system(command) == 0;
}

static void end_certificate(void)
{
	char path[64];
	static const char *const names[] = {"/key.pem", "/cert.pem", ""};
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s%s", tls_dir, names[i]);
		remove(path);
	}
}

static TCase *add_case(Suite *s, const char *name)
{
	TCase *c = tcase_create(name);
	tcase_add_checked_fixture(c, open_http, close_http);
	tcase_set_timeout(c, 120);
	suite_add_tcase(s, c);
	return c;
}

static Suite *make_suite(bool tls)
{
	Suite *s = suite_create("http");
	TCase *c = add_case(s, "calls");
	tcase_add_test(c, a_stream_comes_whole_with_its_head);
	tcase_add_test(c, what_is_sent_is_what_was_asked);
	tcase_add_test(c, a_body_that_is_lent_is_not_copied_and_given_back_once);
	tcase_add_test(c, one_connection_serves_calls_one_after_another);
	tcase_add_test(c, many_calls_run_at_the_same_time);
	tcase_add_test(c, calls_never_take_more_than_half_of_the_descriptors);
	tcase_add_test(c, when_to_come_again_is_read_in_each_form);
	c = add_case(s, "faults");
	tcase_add_loop_test(c, each_fault_is_called_by_its_name, 0, N_FAULTS);
	tcase_add_test(c, a_name_that_is_not_there_is_no_connection);
	c = add_case(s, "ends");
	tcase_add_test(c, a_call_that_is_cancelled_while_its_name_is_looked_up_does_not_wait);
	tcase_add_test(c, a_cancel_closes_the_connection);
	tcase_add_test(c, a_connect_that_is_given_up_leaves_the_descriptors_of_others_alone);
	tcase_add_test(c, data_may_break_off_or_cancel_its_own_call);
	tcase_add_test(c, data_may_cancel_and_begin_other_calls);
	tcase_add_test(c, done_may_begin_and_cancel_calls);
	tcase_add_test(c, connections_that_nobody_uses_are_closed);
	tcase_add_test(c, calls_under_way_end_with_the_whole_without_a_word);
	tcase_add_test(c, ten_thousand_calls_leave_no_descriptor_and_no_memory_behind);
	c = add_case(s, "proxies and TLS");
	tcase_add_test(c, a_proxy_is_asked_with_the_whole_url);
	tcase_add_test(c, the_environments_proxy_is_taken_unless_it_is_said_otherwise);
	if (tls) {
		tcase_add_test(c, tls_works_with_the_right_certificate_and_only_with_it);
		tcase_add_test(c, tls_goes_through_a_proxys_tunnel);
	}
	c = add_case(s, "words");
	tcase_add_test(c, what_is_no_url_of_a_server_is_refused);
	tcase_add_test(c, bad_headers_are_refused_without_a_word_of_their_value);
	tcase_add_test(c, heads_are_read_as_they_come);
	return s;
}

int main(void)
{
	char cert[64], key[64];
	/* The tests say what proxy there is. */
	unsetenv("http_proxy");
	unsetenv("https_proxy");
	unsetenv("all_proxy");
	if (!faulty_start(&server, NULL, NULL))
		return 77;
	bool tls = make_certificate();
	snprintf(cert, sizeof cert, "%s/cert.pem", tls_dir);
	snprintf(key, sizeof key, "%s/key.pem", tls_dir);
	tls = tls && faulty_start(&secure, cert, key) && secure.tls;
	if (!tls)
		fprintf(stderr, "skipped: no TLS, as openssl makes no certificate\n");
	int r = run_suite(make_suite(tls));
	faulty_stop(&secure);
	faulty_stop(&server);
	end_certificate();
	return r;
}
