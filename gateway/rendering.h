/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_RENDERING_H
#define GATEWAY_RENDERING_H

/* What a model is sent for a request: the conversation as it was when the turn began, cut to what
 * fits, as tokens. */

#include "gateway/conversation.h"
#include "gateway/model.h"
#include "gateway/settings.h"

struct rendering;

/* new; shares the texts of the conversation, whose last turn is `prompt` (`alone`: the prompt
 * without the conversation). NULL when memory is out. With the session's lock held. */
struct rendering *rendering_new(const struct conversation *c, bool alone, struct text *prompt,
	const struct settings *settings);
struct rendering *rendering_free(struct rendering *r); /* accepts NULL, returns NULL */

/* So long that it is rendered off the loop. */
bool rendering_is_long(const struct rendering *r);
/* Renders; any thread, once. The outcome stays in it. */
void rendering_run(struct rendering *r, const struct loaded *l);
/* 0 and *out (stolen, prompt.ids is to be freed), or the status with its sentence. */
int rendering_take(struct rendering *r, struct provider_prompt *out, struct err *err);
/* The window over the turns that was chosen; false: the conversation has other turns by now. */
bool rendering_window(
	const struct rendering *r, const struct conversation *c, size_t *head, size_t *first);

#endif
