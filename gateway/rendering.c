/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The texts of a conversation, shared under the session's lock, so that they can be rendered
 * without it: on the loop when they are short, else on the thread for texts. What is chosen of them
 * is truncate.h's business.
 */
#include "gateway/rendering.h"

#include <stdlib.h>

#include "gateway/truncate.h"

static const size_t inline_bytes = 4096; /* more is rendered off the loop: about 0.4 ms */

struct rendering {
	struct truncate_job job;
	struct truncate_turn *turns; /* references */
	struct text *system;
	size_t bytes;
	struct provider_prompt prompt;
	int status;
	struct err err;
};

struct rendering *rendering_free(struct rendering *r)
{
	if (!r)
		return NULL;
	for (size_t i = 0; r->turns && i < r->job.n; i++) {
		text_put(r->turns[i].user);
		text_put(r->turns[i].assistant);
	}
	text_put(r->system);
	free(r->turns);
	free(r->prompt.data);
	free(r);
	return NULL;
}

static enum truncate_mode mode_of(const struct settings *settings)
{
	size_t len;
	const char *word = settings_get(settings, SETTING_TRUNCATE, &len);
	return *word == 'm' ? TRUNCATE_MIDDLE : len == 3 ? TRUNCATE_OFF : TRUNCATE_OLDEST_TURNS;
}

struct rendering *rendering_new(const struct conversation *c, bool alone, struct text *prompt,
	const struct settings *settings)
{
	struct rendering *r = calloc(1, sizeof *r);
	size_t n = alone ? 1 : c->n;
	if (r)
		r->turns = calloc(n, sizeof *r->turns);
	if (!r || !r->turns)
		return rendering_free(r);
	r->job.n = n;
	for (size_t i = 0; i + 1 < n; i++) {
		r->turns[i].user = text_ref(c->turns[i].user);
		r->turns[i].assistant = text_ref(c->turns[i].assistant);
		r->bytes += c->turns[i].user->len;
		r->bytes += text_len(c->turns[i].assistant);
	}
	r->turns[n - 1].user = text_ref(prompt);
	r->system = text_ref(settings->value[SETTING_SYSTEM]);
	r->bytes += prompt->len + text_len(r->system);
	r->job.system = r->system && r->system->len ? r->system : NULL;
	r->job.turns = r->turns;
	r->job.mode = mode_of(settings);
	r->job.max_tokens = settings_integer(settings, SETTING_MAX_TOKENS);
	r->job.budget_tok = settings_integer(settings, SETTING_PROMPT_BUDGET);
	r->job.head = c->head;
	r->job.first = c->first;
	return r;
}

bool rendering_is_long(const struct rendering *r)
{
	return r->bytes > inline_bytes;
}

void rendering_run(struct rendering *r, const struct loaded *l)
{
	r->status = truncate_render(l->provider, l->handle, &r->job, &r->prompt, &r->err);
}

int rendering_take(struct rendering *r, struct provider_prompt *out, struct err *err)
{
	*out = r->prompt;
	*err = r->err;
	r->prompt = (struct provider_prompt){0};
	return r->status;
}

bool rendering_window(
	const struct rendering *r, const struct conversation *c, size_t *head, size_t *first)
{
	*head = r->job.head;
	*first = r->job.first;
	return r->job.n == c->n;
}
