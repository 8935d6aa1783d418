/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/upstream_fixture.h"

#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

/* ---- the server ---- */

void server_control(const struct faulty *f, const char *json)
{
	json_t *answer = faulty_ask(f, "POST", "/control", json);
	ck_assert_uint_eq(json_object_size(answer), 0);
	json_decref(answer);
}

void server_reset(const struct faulty *f)
{
	json_decref(faulty_ask(f, "POST", "/reset", ""));
}

char *server_log(const struct faulty *f)
{
	json_t *log = faulty_log(f);
	char *text = json_dumps(log, 0);
	json_decref(log);
	ck_assert_ptr_nonnull(text);
	return text;
}

size_t server_count(const struct faulty *f, const char *what)
{
	char *log = server_log(f);
	size_t n = 0;
	for (const char *at = log; (at = strstr(at, what)); at++)
		n++;
	free(log);
	return n;
}

bool server_awaits(const struct faulty *f, const char *what, size_t n)
{
	for (int i = 0; i < 500; i++) {
		if (server_count(f, what) == n)
			return true;
		usleep(10000);
	}
	return false;
}

/* ---- who asks ---- */

static void event(void *arg, const struct provider_event *e)
{
	struct asked *a = arg;
	pthread_mutex_lock(&a->lock);
	switch (e->kind) {
	case PROVIDER_STARTED:
		a->n_started++;
		break;
	case PROVIDER_CANDIDATES:
		a->n_candidates++;
		memcpy(a->p, e->candidate_p, e->n_candidates * sizeof *a->p);
		a->usage_then = e->usage;
		break;
	case PROVIDER_TEXT:
		buf_append(&a->text, e->text, e->len);
		break;
	case PROVIDER_END:
		a->n_ended++;
		a->status = e->status;
		snprintf(a->sentence, sizeof a->sentence, "%.*s", (int)e->len, e->text);
		snprintf(a->finish, sizeof a->finish, "%s", e->finish);
		a->usage = e->usage;
		a->retryable = e->retryable;
		a->estimated = e->estimated;
		a->retry_after_ms = e->retry_after_ms;
		a->logprob = e->mean_logprob;
		a->ended_ns = clock_mono_ns();
		break;
	}
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

static void embedded(void *arg, int status, const char *sentence, const float *vectors, size_t dim,
	const struct trace_usage *usage)
{
	struct asked *a = arg;
	pthread_mutex_lock(&a->lock);
	a->n_ended++;
	a->status = status;
	snprintf(a->sentence, sizeof a->sentence, "%s", sentence);
	a->dim = dim;
	a->usage = *usage;
	if (status == 0)
		memcpy(a->vectors, vectors, 2 * dim * sizeof *vectors);
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

static void asked_make(struct asked *a)
{
	memset(a, 0, sizeof *a);
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
}

void ups_begin(
	struct ups *u, struct asked *a, const char *prompt, const struct provider_request *request)
{
	const struct provider *p = &upstream_provider;
	const struct provider_message m[] = {
		{PROVIDER_SYSTEM, "be brief", 8}, {PROVIDER_USER, prompt, strlen(prompt)}};
	struct provider_prompt rendered;
	struct err err = {0};
	struct provider_request q = request ? *request : (struct provider_request){0};
	asked_make(a);
	ck_assert_msg(p->render(u->handle, m, 2, &rendered, &err) == 0, "%s", err.text);
	q.prompt = &rendered;
	q.top_p = 1;
	q.max_tokens = q.max_tokens ? q.max_tokens : 100;
	q.event = event;
	q.arg = a;
	ck_assert_msg(p->submit(u->handle, &q, &a->id, &err) == 0, "%s", err.text);
	free(rendered.data);
}

static void wait_for(struct asked *a, bool text)
{
	struct timespec until;
	int r = 0;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	pthread_mutex_lock(&a->lock);
	while (r == 0 && !a->n_ended && !(text && a->text.len))
		r = pthread_cond_timedwait(&a->changed, &a->lock, &until);
	pthread_mutex_unlock(&a->lock);
	ck_assert_msg(r == 0, "no end came");
}

void ups_wait(struct asked *a)
{
	wait_for(a, false);
}

void ups_wait_text(struct asked *a)
{
	wait_for(a, true);
}

int ups_ask(struct ups *u, struct asked *a)
{
	ups_begin(u, a, "tell me about foxes", NULL);
	ups_wait(a);
	return a->status;
}

int ups_embed_begin(struct ups *u, struct asked *a)
{
	static const char *const texts[] = {"one text", "another text"};
	static const size_t lens[] = {8, 12};
	const struct provider_embed q = {
		.texts = texts, .lens = lens, .n = 2, .done = embedded, .arg = a};
	struct err err = {0};
	asked_make(a);
	int r = upstream_provider.embed(u->handle, &q, &a->id, &err);
	if (r < 0)
		snprintf(a->sentence, sizeof a->sentence, "%s", err.text);
	return r;
}

int ups_embed(struct ups *u, struct asked *a)
{
	int r = ups_embed_begin(u, a);
	if (r == 0)
		ups_wait(a);
	return r ? r : a->status;
}

void asked_free(struct asked *a)
{
	buf_free(&a->text);
	pthread_mutex_destroy(&a->lock);
	pthread_cond_destroy(&a->changed);
}

/* ---- the upstream ---- */

void ups_open(struct ups *u)
{
	struct err err = {0};
	memset(u, 0, sizeof *u);
	ck_assert_msg(loop_new(&u->loop, &err) == 0, "%s", err.text);
	ck_assert_msg(http_new(&u->http, u->loop, &err) == 0, "%s", err.text);
	u->config = (struct upstream_config){
		.model = "m",
		.protocol = &protocol_openai,
		.remote_name = "remote/m",
		.proxy = "",
		.connect_ms = 5000,
		.first_ms = 5000,
		.idle_ms = 5000,
		.total_ms = 15000,
		.breaker_failures = 5,
		.breaker_successes = 3,
		.breaker_open_ms = 30000,
		.retry_ratio = 0.1,
		.context_tok = 4096,
		.http = u->http,
		.loop = u->loop,
	};
}

void ups_endpoint(struct ups *u, unsigned port, const char *path, uint32_t weight)
{
	size_t i = u->config.n_endpoints++;
	snprintf(u->urls[i], sizeof u->urls[i], "http://127.0.0.1:%u%s", port, path);
	u->config.endpoints[i] = (struct upstream_endpoint){u->urls[i], weight};
}

void ups_load(struct ups *u)
{
	const struct provider_config config = {.upstream = &u->config};
	const volatile bool stop = false;
	struct err err = {0};
	int r = upstream_provider.load(&u->handle, &config, &stop, &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

void ups_close(struct ups *u)
{
	if (u->handle)
		upstream_provider.unload(u->handle);
	u->handle = NULL;
	loop_close(u->loop);
	u->http = http_free(u->http);
	u->loop = loop_free(u->loop);
}
