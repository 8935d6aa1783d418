/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An answer as one object, when all of its choices are there; and what whole answers and streams
 * have in common. In the thread of the call's connection.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/shim_asked_parts.h"

const char *shim_asked_finish(const struct shim_run *r, bool some)
{
	if (r->code == -EPERM && (some || r->outcome.begun))
		return "content_filter";
	if (r->code < 0)
		return NULL;
	return r->outcome.finish && *r->outcome.finish ? r->outcome.finish : "stop";
}

void shim_asked_tell(struct shim_call *c, const struct shim_asked *a)
{
	const struct shim_run *r = &a->runs[0].run;
	struct session_outcome o;
	_Static_assert(sizeof c->model == sizeof o.model, "names of models");
	if (!r->over)
		session_outcome(r->session, &o);
	memcpy(c->model, r->over ? r->outcome.model : o.model, sizeof c->model);
	c->from_cache = r->over ? r->outcome.from_cache : o.from_cache;
}

struct shim_usage shim_asked_usage(const struct shim_asked *a)
{
	struct shim_usage u = {0};
	for (size_t i = 0; i < a->n; i++) {
		const struct session_outcome *o = &a->runs[i].run.outcome;
		u.prompt_tok += o->prompt_tok;
		u.cached_tok += o->cached_tok;
		u.output_tok += o->output_tok;
	}
	return u;
}

int shim_asked_wait(struct shim_asked *a)
{
	int again = 0;
	for (size_t i = 0; i < a->n; i++)
		if (!a->runs[i].run.over)
			again |= shim_run_wait(&a->runs[i].run);
	return again;
}

/* ---- whole ---- */

/* All that is there of a run. 0: it is over; 1: more is to come; -errno. */
static int gather(struct shim_asked_run *r)
{
	char piece[4 << 10]; /* most answers are small, and room for large ones is costly */
	for (;;) {
		size_t n;
		int code = shim_run_read(&r->run, piece, sizeof piece, &n);
		if (code)
			return code == 2 ? 0 : code;
		code = buf_append(&r->text, piece, n);
		if (code < 0)
			return code;
	}
}

/* With its prompt before it, where that was wanted. */
static int begin_text(struct shim_asked *a, size_t i)
{
	const struct shim_text *prompt = &a->ask.prompts[i / a->ask.n];
	struct shim_asked_run *r = &a->runs[i];
	int code = a->ask.echo && !r->begun ? buf_append(&r->text, prompt->text, prompt->len) : 0;
	r->begun = true;
	return code;
}

static int reply(struct shim_call *c, struct shim_asked *a)
{
	struct buf body = {0};
	struct shim_usage usage = shim_asked_usage(a);
	struct shim_choice *choices = calloc(a->n, sizeof *choices);
	if (!choices)
		return -ENOMEM;
	for (size_t i = 0; i < a->n; i++)
		choices[i] = (struct shim_choice){(unsigned)i,
			a->runs[i].text.data ? a->runs[i].text.data : "", a->runs[i].text.len,
			shim_asked_finish(&a->runs[i].run, true)};
	int r = shim_reply_whole(&body, &a->head, choices, a->n, &usage);
	free(choices);
	if (r < 0) {
		buf_free(&body);
		return shim_call_fail(c, -EIO, "the answer is too long to be kept");
	}
	shim_asked_tell(c, a);
	return shim_call_reply(c, 200, "application/json", &body);
}

int shim_asked_whole(struct shim_call *c, struct shim_asked *a)
{
	size_t n_over = 0;
	do {
		n_over = 0;
		for (size_t i = 0; i < a->n; i++) {
			struct shim_asked_run *r = &a->runs[i];
			int code = begin_text(a, i);
			code = code ? code : gather(r);
			if (code < 0)
				return shim_call_fail(c, -EIO, "the answer is too long to be kept");
			if (code == 0 && !shim_asked_finish(&r->run, r->run.offset)) {
				shim_asked_note(c, &r->run);
				return shim_call_fail(c, r->run.code, r->run.outcome.why.text);
			}
			n_over += code == 0;
		}
		if (n_over == a->n)
			return reply(c, a);
	} while (shim_asked_wait(a));
	return 1;
}
