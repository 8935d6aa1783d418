/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks as a front end does: open, write, flush, commit, then the newest answer, read to its end.
 * Who has to wait sleeps on a semaphore of its own, so that many who ask at once do not wake one
 * another.
 */
#include "bench_asking.h"

#include <dirent.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_guards.h"
#include "gateway/gateway_accounts.h"

void bench_asking_check(int r, const struct err *err, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, *err->text ? err->text : strerror(-r));
	exit(1);
}

/* ---- a request ---- */

static void wake(void *arg)
{
	sem_post(arg);
}

static void wait_for(sem_t *told)
{
	while (sem_wait(told) < 0)
		;
}

static double since_us(uint64_t begin_ns)
{
	return (double)(clock_mono_ns() - begin_ns) / 1e3;
}

static struct answer *newest(struct session *s, sem_t *told)
{
	struct answer *a = NULL;
	gateway_waiter id;
	while (session_newest(s, &a, wake, told, &id) == 1)
		wait_for(told);
	return a;
}

/* Until the answer's end. */
static void read_answer(
	struct answer *a, sem_t *told, uint64_t begin_ns, struct bench_asking_times *out)
{
	char bytes[4096];
	uint64_t offset = 0;
	for (;;) {
		size_t n = 0;
		gateway_waiter id;
		int r = answer_read(a, offset, bytes, sizeof bytes, &n);
		if (!offset && r != 1)
			out->first_us = since_us(begin_ns);
		if (r < 0 || (r == 0 && !n)) {
			out->end_us = since_us(begin_ns);
			out->code = r;
			return;
		}
		offset += n;
		if (r == 1 && answer_wait(a, offset, wake, told, &id) == 0)
			wait_for(told);
	}
}

void bench_asking_ask(
	struct session *s, const char *prompt, size_t len, struct bench_asking_times *out)
{
	struct err err = {0};
	struct draft *d;
	sem_t told;
	sem_init(&told, 0, 0);
	*out = (struct bench_asking_times){0};
	bench_asking_check(draft_new(&d, s, getuid(), &err), &err, "draft");
	uint64_t begin_ns = clock_mono_ns();
	out->code = draft_write(d, prompt, len, &err);
	if (out->code == 0)
		out->code = draft_flush(d, &err);
	out->write_us = since_us(begin_ns);
	begin_ns = clock_mono_ns();
	draft_commit(d);
	if (out->code == 0) {
		struct answer *a = newest(s, &told);
		read_answer(a, &told, begin_ns, out);
		answer_put(a);
	}
	sem_destroy(&told);
}

void bench_asking_clear(struct session *s)
{
	struct err err = {0};
	bench_asking_check(session_ctl(s, getuid(), getgid(), "clear", 5, &err), &err, "clear");
}

/* ---- numbers ---- */

static int order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double bench_asking_quantile(double *values, size_t n, double p)
{
	qsort(values, n, sizeof *values, order);
	size_t rank = (size_t)(p * (double)n);
	return n ? values[rank < n ? rank : n - 1] : 0;
}

/* ---- what is configured ---- */

static void set_rule_file(struct gateway *g, const char *dir, const char *name)
{
	struct buf text = {0};
	struct err err = {0};
	char path[1400], bytes[4096];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *f = fopen(path, "r");
	for (size_t n; f && (n = fread(bytes, 1, sizeof bytes, f));)
		buf_append(&text, bytes, n);
	if (f)
		fclose(f);
	bench_asking_check(gateway_guard_set(g, name, text.data, text.len, &err), &err, name);
	buf_free(&text);
}

void bench_asking_rules(struct gateway *g, const char *dir, bool on)
{
	static const char *const stages[] = {"input", "output"};
	char path[1024], name[300];
	for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, stages[i]);
		DIR *d = opendir(path);
		for (struct dirent *e; d && (e = readdir(d));) {
			snprintf(name, sizeof name, "%s/%s", stages[i], e->d_name);
			if (!gateway_guard_name_ok(name))
				continue;
			if (on)
				set_rule_file(g, dir, name);
			else
				gateway_guard_remove(g, name, false);
		}
		if (d)
			closedir(d);
	}
}

void bench_asking_limits(struct gateway *g, bool on)
{
	static const char *const settings[][2] = {{"limit", "1000000"},
		{"requests_per_minute", "100000000"}, {"requests_per_day", "100000000"},
		{"tokens_per_minute", "1000000000"}, {"tokens_per_day", "1000000000"},
		{"requests_in_flight", "100000"}};
	struct err err = {0};
	struct account *a = gateway_account_find(g, "default");
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
		const char *value = on ? settings[i][1] : "";
		bench_asking_check(
			account_setting_set(a, settings[i][0], value, strlen(value), &err), &err,
			settings[i][0]);
	}
	account_put(a);
}

void bench_asking_model(struct gateway *g, const char *name, const char *const settings[][2])
{
	struct err err = {0};
	struct model *m = gateway_model_find(g, name);
	for (size_t i = 0; settings[i][0]; i++) {
		const char *value = settings[i][1];
		bench_asking_check(model_setting_set(m, settings[i][0], value, strlen(value), &err),
			&err, settings[i][0]);
	}
	model_put(m);
}
