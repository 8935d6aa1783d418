/* SPDX-License-Identifier: Apache-2.0 */
/* One lock and one condition for all answers: tests are small. */
#include "tests/engine/engine_harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/utf8.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint64_t order;

static void on_event(void *arg, const struct engine_event *event)
{
	struct answer *a = arg;

	pthread_mutex_lock(&lock);
	a->usage = event->usage;
	a->n_candidates = event->n_candidates;
	for (size_t i = 0; i < event->n_candidates; i++)
		a->candidate_p[i] = event->candidate_p[i];
	if (a->n_ends > 0)
		a->disorder = true;
	switch (event->kind) {
	case ENGINE_STARTED:
		a->n_started++;
		a->start_order = ++order;
		if (a->text.len > 0)
			a->disorder = true;
		break;
	case ENGINE_CANDIDATES:
		a->n_judged++;
		if (a->n_started != 1)
			a->disorder = true;
		break;
	case ENGINE_LOGPROBS:
		for (size_t i = 0; i < event->n_logprobs; i++)
			if (a->n_logprobs * event->n_logprobs + i < ANSWER_LOGPROBS)
				a->logprobs[a->n_logprobs * event->n_logprobs + i] =
					event->logprobs[i];
		a->n_each = event->n_logprobs;
		a->n_logprobs++;
		if (a->n_started != 1)
			a->disorder = true;
		break;
	case ENGINE_TEXT:
		if (a->n_started != 1 || event->len == 0 ||
			utf8_valid_prefix(event->text, event->len) != event->len)
			a->disorder = true;
		if (a->text.len == 0)
			a->text_order = ++order;
		if (buf_append(&a->text, event->text, event->len) < 0)
			abort();
		break;
	case ENGINE_END:
		a->n_ends++;
		a->finish = event->finish;
		a->status = event->status;
		if (event->text)
			snprintf(a->sentence, sizeof(a->sentence), "%.*s", (int)event->len,
				event->text);
		break;
	}
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

struct engine_request harness_request(struct answer *a, const uint32_t *ids, size_t n_ids)
{
	memset(a, 0, sizeof(*a));
	return (struct engine_request){
		.ids = ids, .n_ids = n_ids, .sampling = {.top_p = 1}, .event = on_event, .arg = a};
}

void harness_submit(struct engine *e, const struct engine_request *r, struct answer *a)
{
	struct err err = {""};
	uint64_t id;
	int status = engine_submit(e, r, &id, &err);

	ck_assert_msg(status == 0, "submit: %d %s", status, err.text);
	a->id = id;
}

static void wait_until(struct answer *a, bool text)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 240;
	pthread_mutex_lock(&lock);
	while (a->n_ends == 0 && !(text && a->text.len > 0) && r == 0)
		r = pthread_cond_timedwait(&changed, &lock, &until);
	pthread_mutex_unlock(&lock);
	ck_assert_msg(r == 0, "no answer within four minutes");
}

void harness_wait(struct answer *a)
{
	wait_until(a, false);
}

void harness_wait_text(struct answer *a)
{
	wait_until(a, true);
}

void harness_ask(struct engine *e, const struct engine_request *r, struct answer *a)
{
	harness_submit(e, r, a);
	harness_wait(a);
}

void harness_free(struct answer *a)
{
	buf_free(&a->text);
}

struct engine *harness_open(const struct tiny_llama *model, const struct engine_options *options)
{
	char path[] = "/tmp/tiny-llama-XXXXXX";
	int fd = mkstemp(path), r;
	struct engine *e;
	struct err err = {""};

	ck_assert_int_ge(fd, 0);
	close(fd);
	tiny_llama_write(model, path);
	r = engine_open(&e, path, options, NULL, &err);
	unlink(path);
	ck_assert_msg(r == 0, "open: %d %s", r, err.text);
	return e;
}

uint32_t harness_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

void harness_ids(uint32_t *state, uint32_t *ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ids[i] = harness_random(state) % 256;
}

void harness_await_idle(struct engine *e)
{
	struct engine_stats stats;

	for (int i = 0; i < 60000; i++) {
		engine_stats(e, &stats);
		if (stats.kv_blocks_used == 0 && stats.running == 0)
			break;
		usleep(1000);
	}
	ck_assert_uint_eq(stats.waiting + stats.running, 0);
	ck_assert_uint_eq(stats.kv_blocks_used, 0);
}
