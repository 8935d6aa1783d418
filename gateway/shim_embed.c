/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts as vectors. Each text is a run of its own on the channel that models/NAME/embed is; some
 * dozens of them are under way at a time, in their order, and the rest follow as these end: a
 * request with two thousand texts must not fill the model's queue for everybody.
 *
 * In the thread of the call's connection.
 */
#include "gateway/shim_embed.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/shim_parts.h"
#include "gateway/shim_refuse.h"
#include "gateway/shim_request.h"

enum { AT_A_TIME = 64, TEXT_MAX = 1 << 20 };

struct embed {
	struct shim_embed request;
	char *resolved;
	const char *model;
	struct item {
		struct shim_run run;
		struct buf json;
		float *x; /* [dim], once it is there */
	} * items;        /* [request.n] */
	size_t dim, n_begun, n_done;
	uint64_t prompt_tok;
};

/* ---- vectors ---- */

/* The number at *at, and what is behind it. */
static bool number(const char **at, float *x)
{
	char *end;
	*at += strspn(*at, " \t\r\n");
	*x = strtof(*at, &end);
	bool is = end != *at && isfinite(*x) && !strchr("+iInN", **at);
	*at = end + strspn(end, " \t\r\n");
	return is;
}

int shim_embed_vector(const char *json, float **x, size_t *n)
{
	const char *at = json + strspn(json, " \t\r\n");
	size_t most = 1;
	for (const char *p = at; *p; p++)
		most += *p == ',';
	*n = 0;
	*x = calloc(most, sizeof **x);
	if (!*x)
		return -ENOMEM;
	bool is = *at == '[';
	do {
		at++;
		is = is && number(&at, &(*x)[*n]);
		*n += is;
	} while (is && *at == ',');
	is = is && *at == ']' && !at[1 + strspn(at + 1, " \t\r\n")];
	if (!is) {
		free(*x);
		*x = NULL;
		return -EPROTO;
	}
	return 0;
}

/* ---- runs ---- */

/* 0; 1: it was refused, and a reply is queued; < 0. */
static int begin_one(struct shim_call *c, struct embed *e, size_t i)
{
	struct err err = {0};
	struct session *s = NULL;
	const struct shim_text *text = &e->request.texts[i];
	struct shim_run *r = &e->items[i].run;
	e->items[i].json.max = TEXT_MAX;
	int code = gateway_channel_open(c->shim->g, GATEWAY_EMBED, e->model, c->uid, &s, &err);
	code = code ? code : shim_run_ask(r, c, s, text->text, text->len, &err);
	if (code == 0)
		return 0;
	c->request_id = r->outcome.id;
	c->retry_ms = r->outcome.retry_ms;
	code = shim_call_fail(c, code, err.text);
	return code < 0 ? code : 1;
}

/* All that is there of it. 0: it is over; 1: more is to come; -errno. */
static int gather(struct item *it)
{
	enum { PIECE = 4096 };
	for (;;) {
		size_t n;
		int code = buf_reserve(&it->json, PIECE);
		if (code < 0)
			return code;
		code = shim_run_read(&it->run, it->json.data + it->json.len, PIECE, &n);
		if (code)
			return code == 2 ? 0 : code;
		it->json.len += n;
		it->json.data[it->json.len] = '\0';
	}
}

/* A run is over. 0; 1: it failed, and a reply is queued; < 0. */
static int finish_one(struct shim_call *c, struct embed *e, struct item *it)
{
	char sentence[128];
	size_t dim;
	int r = it->run.code;
	if (r < 0) {
		c->request_id = it->run.outcome.id;
		c->retry_ms = it->run.outcome.retry_ms;
		r = shim_call_fail(c, r, it->run.outcome.why.text);
		return r < 0 ? r : 1;
	}
	r = shim_embed_vector(it->json.data, &it->x, &dim);
	buf_free(&it->json);
	if (r == 0 && e->n_done && dim != e->dim)
		r = -EPROTO;
	if (r < 0) {
		r = shim_call_fail(c, r, "the model's vectors cannot be read");
		return r < 0 ? r : 1;
	}
	e->dim = dim;
	e->prompt_tok += it->run.outcome.prompt_tok;
	if (!c->request_id)
		c->request_id = it->run.outcome.id;
	e->n_done++;
	if (!e->request.dimensions || e->request.dimensions == dim)
		return 0;
	struct shim_error error = {400, "invalid_request_error", "invalid_value", true};
	snprintf(sentence, sizeof sentence,
		"the model's vectors have %zu dimensions, and no others can be had", dim);
	r = shim_call_error(c, &error, sentence, "dimensions");
	return r < 0 ? r : 1;
}

static int reply(struct shim_call *c, struct embed *e)
{
	struct buf body = {.max = (size_t)256 << 20};
	struct shim_vector *v = calloc(e->request.n ? e->request.n : 1, sizeof *v);
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < e->request.n; i++)
		v[i] = (struct shim_vector){e->items[i].x, e->dim};
	int r = shim_reply_embeddings(
		&body, e->request.model, v, e->request.n, e->request.base64, e->prompt_tok);
	free(v);
	if (r < 0) {
		buf_free(&body);
		return shim_call_fail(c, -EIO, "the vectors are too long for one reply");
	}
	return shim_call_reply(c, 200, "application/json", &body);
}

/* What is under way: news of all of it. 0: nothing; 1: a reply is queued; 2: look again; < 0. */
static int look(struct shim_call *c, struct embed *e)
{
	int again = 0;
	for (size_t i = 0; i < e->n_begun; i++) {
		struct item *it = &e->items[i];
		int r = it->x ? 1 : gather(it);
		if (r < 0) {
			r = shim_call_fail(c, -EIO, "the model's vectors are too long");
			return r < 0 ? r : 1;
		}
		if (r == 0) {
			r = finish_one(c, e, it);
			if (r)
				return r;
			again = 2; /* there is room for another */
		} else if (!it->x && shim_run_wait(&it->run)) {
			again = 2;
		}
	}
	return again;
}

static int step(struct shim_call *c)
{
	struct embed *e = c->state;
	for (;;) {
		while (e->n_begun < e->request.n && e->n_begun - e->n_done < AT_A_TIME) {
			int r = begin_one(c, e, e->n_begun++);
			if (r)
				return r < 0 ? r : 0;
		}
		if (e->n_done == e->request.n)
			return reply(c, e);
		int r = look(c, e);
		if (r < 2)
			return r < 0 ? r : !r;
	}
}

/* ---- its life ---- */

static void end(struct shim_call *c)
{
	struct embed *e = c->state;
	for (size_t i = 0; i < e->n_begun; i++)
		shim_run_end(&e->items[i].run);
}

static void free_embed(void *state)
{
	struct embed *e = state;
	for (size_t i = 0; e->items && i < e->request.n; i++) {
		shim_run_free(&e->items[i].run);
		buf_free(&e->items[i].json);
		free(e->items[i].x);
	}
	free(e->items);
	free(e->resolved);
	shim_embed_free(&e->request);
	free(e);
}

static const struct shim_work work = {step, end, free_embed};

int shim_embed_begin(struct shim_call *c)
{
	struct shim_fault fault = {0};
	struct embed *e = calloc(1, sizeof *e);
	if (!e)
		return -ENOMEM;
	c->work = &work;
	c->state = e;
	int r = shim_request_embed(
		&e->request, c->body.data ? c->body.data : "", c->body.len, &fault);
	if (r == -EINVAL)
		return shim_refuse_fault(c, &fault);
	r = r ? r : shim_refuse_model(c, e->request.model, &e->model, &e->resolved);
	r = r ? r : shim_refuse_many(c, e->request.n);
	if (r)
		return r < 0 ? r : 0;
	e->items = calloc(e->request.n ? e->request.n : 1, sizeof *e->items);
	return e->items ? 1 : -ENOMEM;
}
