/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A window over the turns: all of them; or the newest ones (oldest-turns); or the first one and the
 * newest ones (middle). The window is chosen by counting tokens turn by turn from the newest back,
 * which costs no more than a context's worth of text however long the conversation is, and is then
 * checked by rendering it; the counts are of plain text, so a few tokens for the template of each
 * message are added, and one more turn is dropped when that was not enough.
 */
#include "gateway/truncate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static const size_t template_tok = 8; /* generous: control tokens around one message */

struct fit {
	const struct provider *provider;
	void *handle;
	struct truncate_job *job;
	struct provider_limits limits;
	struct provider_message *messages; /* [2 * n + 1] */
};

static bool prompt_alone(const struct fit *f)
{
	return f->job->first + 1 == f->job->n && !f->job->head;
}

static size_t room_for_answer(const struct fit *f)
{
	size_t quarter = f->limits.context_tok / 4;
	if (prompt_alone(f) || f->job->mode == TRUNCATE_OFF)
		return 1;
	return f->job->max_tokens < quarter ? (size_t)f->job->max_tokens : quarter;
}

/* Tokens that the window may take. */
static size_t most_tok(const struct fit *f)
{
	size_t room = room_for_answer(f), fits = f->limits.context_tok;
	fits = fits > room ? fits - room : 0;
	uint64_t budget = f->job->budget_tok;
	return budget && budget < fits && !prompt_alone(f) ? (size_t)budget : fits;
}

static void add(struct fit *f, size_t *n, enum provider_role role, const struct text *t)
{
	f->messages[(*n)++] = (struct provider_message){role, t ? t->bytes : "", text_len(t)};
}

/* The messages of the window; their bytes in *bytes. */
static size_t window(struct fit *f, size_t *bytes)
{
	const struct truncate_job *job = f->job;
	size_t n = 0;
	if (job->system)
		add(f, &n, PROVIDER_SYSTEM, job->system);
	for (size_t i = 0; i < job->n; i++) {
		if (i >= job->head && i < job->first)
			continue;
		add(f, &n, PROVIDER_USER, job->turns[i].user);
		if (i + 1 < job->n)
			add(f, &n, PROVIDER_ASSISTANT, job->turns[i].assistant);
	}
	*bytes = 0;
	for (size_t i = 0; i < n; i++)
		*bytes += f->messages[i].len;
	return n;
}

/* 0: rendered and fits; 1: does not fit. */
static int try_window(struct fit *f, struct provider_prompt *out, struct err *err)
{
	size_t bytes, n = window(f, &bytes);
	size_t token_bytes = f->limits.max_token_bytes; /* 0: not known */
	if (token_bytes && bytes > (size_t)f->limits.context_tok * token_bytes)
		return 1;
	int r = f->provider->render(f->handle, f->messages, n, out, err);
	if (r < 0)
		return r;
	if (out->n_tok <= most_tok(f))
		return 0;
	free(out->data);
	*out = (struct provider_prompt){0};
	return 1;
}

static int count(const struct fit *f, const struct text *t, size_t *sum, struct err *err)
{
	size_t n = 0;
	int r = t && t->len ? f->provider->count(f->handle, t->bytes, t->len, &n, err) : 0;
	*sum += n + template_tok;
	return r;
}

/* Places the window so that its tokens take about three quarters of what they may. */
static int choose(struct fit *f, struct err *err)
{
	struct truncate_job *job = f->job;
	size_t target = most_tok(f) / 4 * 3, sum = 0;
	int r = count(f, job->system, &sum, err);
	r = r ? r : count(f, job->turns[job->n - 1].user, &sum, err);
	job->head = job->mode == TRUNCATE_MIDDLE && job->n > 1 ? 1 : 0;
	if (r == 0 && job->head) {
		r = count(f, job->turns[0].user, &sum, err);
		r = r ? r : count(f, job->turns[0].assistant, &sum, err);
	}
	job->first = job->n - 1;
	while (r == 0 && sum <= target && job->first > job->head) {
		const struct truncate_turn *t = &job->turns[job->first - 1];
		r = count(f, t->user, &sum, err);
		r = r ? r : count(f, t->assistant, &sum, err);
		if (r == 0 && sum <= target)
			job->first--;
	}
	return r;
}

static int too_long(const struct fit *f, struct err *err)
{
	uint64_t budget = f->job->budget_tok;
	if (f->job->mode == TRUNCATE_OFF && f->job->n > 1 && budget &&
		budget < f->limits.context_tok)
		return err_set(err, -EMSGSIZE,
			"the conversation is longer than the session's prompt_budget of %" PRIu64
			" tokens, and truncate is off",
			budget);
	if (f->job->mode == TRUNCATE_OFF && f->job->n > 1)
		return err_set(err, -EMSGSIZE,
			"the conversation is longer than the model's context of %" PRIu32
			" tokens, and truncate is off",
			f->limits.context_tok);
	return err_set(err, -EMSGSIZE,
		"the prompt is longer than the model's context of %" PRIu32 " tokens",
		f->limits.context_tok);
}

static int fit(struct fit *f, struct provider_prompt *out, struct err *err)
{
	struct truncate_job *job = f->job;
	int r = try_window(f, out, err);
	if (r <= 0)
		return r;
	if (job->mode == TRUNCATE_OFF)
		return too_long(f, err);
	r = choose(f, err);
	while (r == 0) {
		r = try_window(f, out, err);
		if (r <= 0)
			return r;
		if (job->first + 1 < job->n)
			job->first++;
		else if (job->head)
			job->head = 0;
		else
			return too_long(f, err);
		r = 0;
	}
	return r;
}

int truncate_render(const struct provider *provider, void *handle, struct truncate_job *job,
	struct provider_prompt *out, struct err *err)
{
	struct fit f = {.provider = provider, .handle = handle, .job = job};
	provider->limits(handle, &f.limits);
	if (job->mode == TRUNCATE_OFF || job->first >= job->n)
		job->head = job->first = 0;
	if (job->mode == TRUNCATE_OLDEST_TURNS)
		job->head = 0;
	if (job->head > job->first)
		job->head = job->first;
	f.messages = calloc(2 * job->n + 1, sizeof *f.messages);
	if (!f.messages)
		return err_set(err, -ENOMEM, "out of memory");
	int r = fit(&f, out, err);
	free(f.messages);
	return r;
}
