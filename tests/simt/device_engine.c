/* SPDX-License-Identifier: Apache-2.0 */
/* One lock and one condition for all answers: tests are small. */
#include "tests/simt/device_engine.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct engine *device_engine_try(const struct tiny_llama *file,
	const struct engine_options *options, int *status, struct err *err)
{
	char path[] = "/tmp/device-engine-XXXXXX";
	struct engine *e = NULL;
	int fd = mkstemp(path);

	EXPECT(fd >= 0);
	close(fd);
	tiny_llama_write(file, path);
	*status = engine_open(&e, path, options, NULL, err);
	unlink(path);
	return e;
}

struct engine *device_engine_open(
	const struct tiny_llama *file, const struct engine_options *options, const char *backend)
{
	struct engine_options o = options ? *options : (struct engine_options){0};
	struct err err = {""};
	int status;

	o.n_threads = 2;
	o.backend = backend;
	o.max_sequences = o.max_sequences ? o.max_sequences : 8;
	o.step_budget_tok = o.step_budget_tok ? o.step_budget_tok : 48;
	o.context_tok = o.context_tok ? o.context_tok : 256;
	struct engine *e = device_engine_try(file, &o, &status, &err);
	if (!e)
		kernel_test_fail(__FILE__, __LINE__, "%s", err.text);
	return e;
}

static void on_event(void *arg, const struct engine_event *event)
{
	struct device_answer *a = arg;

	pthread_mutex_lock(&lock);
	a->usage = event->usage;
	for (size_t i = 0; i < event->n_candidates; i++)
		a->candidate_p[i] = event->candidate_p[i];
	for (size_t i = 0; i < event->n_logprobs && a->n_logprobs < 1024; i++)
		a->logprobs[a->n_logprobs++] = event->logprobs[i];
	if (event->kind == ENGINE_TEXT && event->len <= sizeof(a->text) - a->len) {
		memcpy(a->text + a->len, event->text, event->len);
		a->len += event->len;
		a->has_text = true;
	} else if (event->kind == ENGINE_END) {
		a->is_over = true;
		a->finish = event->finish;
		a->status = event->status;
		if (event->text)
			snprintf(a->sentence, sizeof(a->sentence), "%.*s", (int)event->len,
				event->text);
	}
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

struct engine_request device_engine_request(
	struct device_answer *a, const uint32_t *ids, size_t n_ids, uint32_t max_tokens)
{
	memset(a, 0, sizeof(*a));
	return (struct engine_request){
		.ids = ids,
		.n_ids = n_ids,
		.sampling = {.top_p = 1},
		.max_tokens = max_tokens,
		.ignore_eos = true,
		.event = on_event,
		.arg = a,
	};
}

int device_engine_submit(
	struct engine *e, const struct engine_request *r, struct device_answer *a, struct err *err)
{
	uint64_t id;
	int status = engine_submit(e, r, &id, err);

	a->id = id;
	return status;
}

static void wait_until(struct device_answer *a, bool text)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 400;
	pthread_mutex_lock(&lock);
	while (!a->is_over && !(text && a->has_text) && r == 0)
		r = pthread_cond_timedwait(&changed, &lock, &until);
	pthread_mutex_unlock(&lock);
	EXPECT(r == 0);
}

void device_engine_wait(struct device_answer *a)
{
	wait_until(a, false);
}

void device_engine_wait_text(struct device_answer *a)
{
	wait_until(a, true);
}

void device_engine_ask(struct engine *e, const struct engine_request *r, struct device_answer *a)
{
	struct err err = {""};

	if (device_engine_submit(e, r, a, &err) < 0)
		kernel_test_fail(__FILE__, __LINE__, "%s", err.text);
	device_engine_wait(a);
}
