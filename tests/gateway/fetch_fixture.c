/* SPDX-License-Identifier: Apache-2.0 */
/* The callbacks note what they are told and see to what holds of every call: that they come on the
 * loop, that nothing comes behind the end, and that no sentence has the secret of a header. */
#include "tests/gateway/fetch_fixture.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define SECRET "authorization: Bearer open-sesame-7"

struct faulty fetch_server;
struct loop *fetch_loop;
struct http *fetch_http;

static const char *const headers[] = {SECRET, "content-type: application/json", NULL};

static bool take_data(void *arg, const struct http_response *head, const char *bytes, size_t len)
{
	struct fetch *f = arg;
	ck_assert(loop_inside(fetch_loop));
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
	ck_assert(loop_inside(fetch_loop));
	f->call = NULL; /* who cancels it now comes too late */
	f->fault = fault;
	f->head = *head;
	f->took_ms = (clock_mono_ns() - f->begun_ns) / FETCH_MS_NS;
	snprintf(f->sentence, sizeof f->sentence, "%s", sentence);
	ck_assert_ptr_null(strstr(sentence, "sesame"));
	if (f->on_done)
		f->on_done(f);
	atomic_fetch_add(&f->n_done, 1);
}

void fetch_make_url(struct fetch *f, const char *url)
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

void fetch_make(struct fetch *f, const char *behaviour)
{
	char url[200];
	snprintf(url, sizeof url, "http://127.0.0.1:%d/b/%s/v1/chat/completions", fetch_server.port,
		behaviour);
	memset(f, 0, sizeof *f);
	fetch_make_url(f, url);
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

void fetch_on_loop(void (*act)(struct fetch *f), struct fetch *f)
{
	struct errand e = {.work.run = run_errand, .act = act, .f = f};
	list_init(&e.work.link);
	ck_assert(loop_post(fetch_loop, &e.work));
	while (!e.done)
		usleep(50);
}

void fetch_begin(struct fetch *f)
{
	struct err err = {0};
	f->begun_ns = clock_mono_ns();
	int r = http_begin(&f->call, fetch_http, &f->q, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert_int_eq(f->n_done, 0);
}

void fetch_cancel(struct fetch *f)
{
	f->call = http_cancel(f->call);
	ck_assert_ptr_null(f->call);
}

void fetch_wait(struct fetch *f)
{
	for (int i = 0; i < 200000 && !f->n_done; i++)
		usleep(100);
	ck_assert_int_eq(f->n_done, 1);
}

void fetch_run(struct fetch *f)
{
	fetch_on_loop(fetch_begin, f);
	fetch_wait(f);
}

void fetch_drop(struct fetch *f)
{
	buf_free(&f->body);
}

void fetch_open(void)
{
	struct err err = {0};
	ck_assert_int_eq(loop_new(&fetch_loop, &err), 0);
	ck_assert_msg(http_new(&fetch_http, fetch_loop, &err) == 0, "%s", err.text);
	json_decref(faulty_ask(&fetch_server, "POST", "/reset", ""));
}

void fetch_close(void)
{
	loop_close(fetch_loop);
	fetch_http = http_free(fetch_http);
	fetch_loop = loop_free(fetch_loop);
}

void fetch_assert_counts(size_t running, size_t connections)
{
	size_t r = 99, c = 99;
	for (int i = 0; i < 50000; i++) {
		http_count(fetch_http, &r, &c);
		if (r == running && c == connections)
			return;
		usleep(100);
	}
	ck_abort_msg("%zu running, %zu connections", r, c);
}

void fetch_assert_state(int n, const char *want)
{
	char last[32] = "";
	for (int i = 0; i < 200; i++) {
		json_t *log = faulty_log(&fetch_server);
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

bool fetch_break_off(struct fetch *f)
{
	f->call = NULL;
	return false;
}

bool fetch_cancel_self(struct fetch *f)
{
	fetch_cancel(f);
	return true;
}

int fetch_count_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

int fetch_count_watched(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;
	for (struct dirent *e; (e = readdir(d));) {
		char path[320], text[128];
		snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
		ssize_t len = readlink(path, text, sizeof text - 1);
		text[len > 0 ? len : 0] = '\0';
		if (!strstr(text, "[eventpoll]"))
			continue;
		snprintf(path, sizeof path, "/proc/self/fdinfo/%s", e->d_name);
		FILE *f = fopen(path, "re");
		while (f && fgets(text, sizeof text, f))
			n += !strncmp(text, "tfd:", 4);
		if (f)
			fclose(f);
	}
	closedir(d);
	return n;
}

int fetch_ca_files(char *path, size_t size)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;
	for (struct dirent *e; (e = readdir(d));) {
		char link[320], file[64];
		snprintf(link, sizeof link, "/proc/self/fd/%s", e->d_name);
		ssize_t len = readlink(link, file, sizeof file - 1);
		file[len > 0 ? len : 0] = '\0';
		if (!strstr(file, "memfd:llmfs-ca"))
			continue;
		n++;
		if (path)
			snprintf(path, size, "%s", link);
	}
	closedir(d);
	return n;
}

void fetch_begin_badly(struct fetch *f)
{
	struct err err = {0};
	struct http_call *call = NULL;
	ck_assert_int_eq(http_begin(&call, fetch_http, &f->q, &err), -EINVAL);
	ck_assert_ptr_null(strstr(err.text, "sesame"));
	ck_assert_str_ne(err.text, "");
}

bool fetch_server_start(void)
{
	/* The tests say what proxy there is. */
	unsetenv("http_proxy");
	unsetenv("https_proxy");
	unsetenv("all_proxy");
	return faulty_start(&fetch_server, NULL, NULL);
}
