/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a provider is asked: the rendered conversation, with the settings of the session as it
 * understands them. What it says comes on a thread of its own, into the request's inbox, and the
 * machine is told; each event is small work under one lock, so that an engine's step is not held
 * up by a reader.
 */
#include "gateway/attempt_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "gateway/cascade.h"
#include "gateway/session.h"
#include "gateway/stages.h"

enum { MAX_STOP = 16 };

/* On the provider's thread. */
static void provider_event(void *arg, const struct provider_event *e)
{
	struct request *r = arg;
	struct request_news *box = &r->inbox->news;
	uint64_t now = clock_mono_ns();
	pthread_mutex_lock(&r->inbox->lock);
	box->usage = e->usage;
	switch (e->kind) {
	case PROVIDER_STARTED:
		box->started = true;
		box->started_ns = now;
		break;
	case PROVIDER_CANDIDATES:
		break;
	case PROVIDER_TEXT:
		if (!box->text_ns)
			box->text_ns = now;
		if (buf_append(&box->text, e->text, e->len) < 0 && !box->end_status)
			box->end_status = err_set(&box->end_err, -ENOMEM, "out of memory");
		break;
	case PROVIDER_END:
		box->ended = true;
		box->ended_ns = now;
		box->finish = e->finish;
		box->retryable = e->retryable;
		box->mean_logprob = e->mean_logprob;
		if (e->status && !box->end_status)
			box->end_status = err_set(&box->end_err, e->status, "%.*s", (int)e->len,
				e->text ? e->text : "");
		break;
	}
	pthread_mutex_unlock(&r->inbox->lock);
	stages_post(r);
	if (e->kind == PROVIDER_END)
		request_put(r);
}

/* Cuts the setting's lines, or what ends with a NUL each, where there is one: there a newline is
 * part of a stop string. buffer holds them, NUL-terminated. */
static size_t stop_strings(const struct settings *s, char **buffer, const char *stop[MAX_STOP])
{
	size_t len, n = 0;
	const char *value = settings_get(s, SETTING_STOP, &len);
	char *next = *buffer = malloc(len + 1);
	if (!next)
		return 0;
	memcpy(next, value, len);
	next[len] = '\0';
	bool lines = !memchr(next, '\0', len);
	for (char *end = next + len; next < end && n < MAX_STOP; next += strlen(next) + 1) {
		if (lines)
			next[strcspn(next, "\n")] = '\0';
		if (*next)
			stop[n++] = next;
	}
	return n;
}

static uint64_t choose_seed(struct request *r, double temperature)
{
	uint64_t seed = 0;
	size_t len;
	settings_get(&r->settings, SETTING_SEED, &len);
	if (len)
		seed = settings_integer(&r->settings, SETTING_SEED);
	else if (temperature > 0 && getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
		seed = clock_real_ns();
	r->seeded = len || temperature > 0;
	return seed;
}

/* As the session wants, but no more than the model can. */
static uint32_t most_tokens(const struct request *r)
{
	uint64_t wanted = settings_integer(&r->settings, SETTING_MAX_TOKENS);
	uint64_t most = model_max_tokens(r->model);
	return (uint32_t)(most && most < wanted ? most : wanted);
}

int attempt_ask(struct request *r, const struct provider_prompt *prompt, struct err *err)
{
	const struct settings *s = &r->settings;
	const char *stop[MAX_STOP];
	char *buffer = NULL;
	size_t len;
	double temperature = settings_real(s, SETTING_TEMPERATURE);
	struct provider_request q = {
		.prompt = prompt,
		.temperature = temperature,
		.top_p = settings_real(s, SETTING_TOP_P),
		.min_p = settings_real(s, SETTING_MIN_P),
		.repetition_penalty = settings_real(s, SETTING_REPETITION_PENALTY),
		.presence_penalty = settings_real(s, SETTING_PRESENCE_PENALTY),
		.frequency_penalty = settings_real(s, SETTING_FREQUENCY_PENALTY),
		.top_k = (uint32_t)settings_integer(s, SETTING_TOP_K),
		.max_tokens = most_tokens(r),
		.wants_logprob = cascade_holds(r),
		.salt = gateway_salt(r->uid),
		.ignore_eos = settings_is_on(s, SETTING_IGNORE_EOS),
		.json = *settings_get(s, SETTING_FORMAT, &len) == 'j',
		.stop = stop,
		.event = provider_event,
		.arg = request_ref(r),
	};
	q.n_stop = stop_strings(s, &buffer, stop);
	pthread_mutex_lock(&r->session->lock);
	if (!r->seeded)
		r->seed = choose_seed(r, temperature);
	q.seed = r->seed;
	q.seeded = r->seeded;
	pthread_mutex_unlock(&r->session->lock);
	struct loaded *l = r->user_of_model.loaded;
	int e = buffer ? l->provider->submit(l->handle, &q, &r->provider_id, err)
		       : err_set(err, -ENOMEM, "out of memory");
	free(buffer);
	return e;
}
