/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenAI's chat completions and embeddings, as vLLM, llama.cpp's server, llmfs and most clouds
 * speak them, too.
 *
 * max_tokens, not max_completion_tokens: OpenAI calls the first deprecated but takes it for all of
 * its models that are not of the reasoning kind; vLLM takes both; llama.cpp and many others know
 * only the first and would write without an end. Both at once are refused by OpenAI.
 *
 * top_k, min_p and ignore_eos are extensions of vLLM and llama.cpp, which OpenAI refuses: they are
 * said only where they were set.
 *
 * What a model thinks aloud (reasoning_content) is no part of its answer. usage comes in a chunk
 * of its own at the end, which stream_options asks for; cached tokens are a part of prompt_tokens.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/protocol_parts.h"

#define DIM_MAX 65536
#define TOP_MOST 20 /* what OpenAI and vLLM give at most */

static int openai_messages(char **json, size_t *len, const struct provider_message *messages,
	size_t n, struct err *err)
{
	static const char *const roles[] = {"system", "user", "assistant"};
	int r = protocol_check_messages(messages, n, err);
	if (r < 0)
		return r;
	json_t *array = json_array();
	for (size_t i = 0; array && i < n; i++) {
		json_t *m = json_pack("{s:s, s:o}", "role", roles[messages[i].role], "content",
			json_stringn(messages[i].text, messages[i].len));
		if (json_array_append_new(array, m) < 0) {
			json_decref(array);
			array = NULL;
		}
	}
	return protocol_dump(json, len, array, err);
}

/* OpenAI's seeds are 64 bits with a sign, llama.cpp's are 32: those that fit both stay as they are.
 */
static json_int_t seed_of(uint64_t seed)
{
	return (json_int_t)(seed <= INT32_MAX ? seed : (seed ^ seed >> 32) & INT32_MAX);
}

static int set(json_t *o, const char *name, json_t *value)
{
	return json_object_set_new(o, name, value);
}

static int set_sampling(json_t *o, const struct provider_request *q)
{
	int r = set(o, "temperature", json_real(q->temperature));
	r |= set(o, "top_p", json_real(q->top_p));
	if (q->max_tokens)
		r |= set(o, "max_tokens", json_integer(q->max_tokens));
	if (q->seeded)
		r |= set(o, "seed", json_integer(seed_of(q->seed)));
	if (q->n_stop)
		r |= set(o, "stop", protocol_strings(q->stop, NULL, q->n_stop));
	if (q->json)
		r |= set(o, "response_format", json_pack("{s:s}", "type", "json_object"));
	if (q->top_k)
		r |= set(o, "top_k", json_integer(q->top_k));
	if (q->min_p > 0)
		r |= set(o, "min_p", json_real(q->min_p));
	if (q->ignore_eos)
		r |= set(o, "ignore_eos", json_true());
	return r;
}

static int openai_chat_body(struct buf *out, const struct protocol_ask *ask, struct err *err)
{
	const struct provider_request *q = ask->request;
	json_t *o = json_object();
	int r = set(o, "model", json_string(ask->model));
	r |= set(o, "stream", json_true());
	r |= set(o, "stream_options", json_pack("{s:b}", "include_usage", 1));
	r |= set_sampling(o, q);
	if (ask->wants_logprobs) {
		r |= set(o, "logprobs", json_true());
		r |= set(o, "top_logprobs", json_integer(q->n_candidates ? TOP_MOST : 1));
	}
	r = protocol_put_body(out, r ? NULL : json_incref(o), "messages", ask->messages,
		strlen(ask->messages), err);
	json_decref(o);
	return r;
}

static int openai_embed_body(
	struct buf *out, const char *model, const struct provider_embed *q, struct err *err)
{
	struct provider_message m = {0};
	for (size_t i = 0; i < q->n; i++) {
		m.text = q->texts[i];
		m.len = q->lens[i];
		if (protocol_check_messages(&m, 1, NULL) < 0)
			return err_set(err, -EILSEQ, "text %zu: not UTF-8", i + 1);
	}
	return protocol_put_body(out,
		json_pack("{s:s, s:s, s:o}", "model", model, "encoding_format", "float", "input",
			protocol_strings(q->texts, q->lens, q->n)),
		NULL, NULL, 0, err);
}

static int openai_headers(struct buf *out, const char *key)
{
	static const char fixed[] = "content-type: application/json\0"
				    "accept: text/event-stream, application/json";
	int r = buf_append(out, fixed, sizeof fixed);
	if (r == 0 && key)
		r = buf_printf(out, "authorization: Bearer %s", key);
	if (r == 0 && key)
		r = buf_append(out, "", 1);
	return r < 0 ? r : buf_append(out, "", 1);
}

/* ---- answers ---- */

static void take_usage(const json_t *usage, struct protocol_answer *answer)
{
	struct trace_usage u = {0};
	if (!json_is_object(usage))
		return;
	const json_t *details = json_object_get(usage, "prompt_tokens_details");
	bool known = protocol_number(usage, "prompt_tokens", &u.prompt_tok);
	known = protocol_number(usage, "completion_tokens", &u.output_tok) && known;
	protocol_number(details, "cached_tokens", &u.cached_tok);
	if (u.cached_tok > u.prompt_tok)
		u.cached_tok = u.prompt_tok;
	if (!known)
		return;
	answer->usage = u;
	answer->has_usage = true;
}

static const char *skip_white(const char *s)
{
	return s + strspn(s, " \t\r\n\v\f");
}

/* The candidate that a token is the beginning of; -1: none, or more than one. */
static int candidate_of(const struct provider_request *q, const char *token)
{
	int found = -1;
	const char *t = skip_white(token);
	for (size_t i = 0; *t && i < q->n_candidates; i++) {
		if (strncmp(skip_white(q->candidates[i]), t, strlen(t)))
			continue;
		if (found >= 0)
			return -1;
		found = (int)i;
	}
	return found;
}

/* As the engine does it: at the first position whose most likely token says something. A candidate
 * that is not among the likely ones has (nearly) nothing. */
static void take_candidates(
	struct protocol_reader *r, const json_t *position, struct protocol_answer *answer)
{
	const struct provider_request *q = r->request;
	const json_t *top = json_object_get(position, "top_logprobs");
	const char *likely = json_string_value(json_object_get(json_array_get(top, 0), "token"));
	float p[4] = {0};
	if (r->looked_for_words || !likely || !*skip_white(likely))
		return;
	r->looked_for_words = true;
	for (size_t i = 0; i < json_array_size(top); i++) {
		const json_t *one = json_array_get(top, i);
		const char *token = json_string_value(json_object_get(one, "token"));
		const json_t *logprob = json_object_get(one, "logprob");
		int c = token ? candidate_of(q, token) : -1;
		if (c >= 0 && c < 4 && json_is_number(logprob))
			p[c] += expf((float)json_number_value(logprob));
	}
	for (size_t i = 0; i < 4 && i < q->n_candidates; i++)
		answer->candidate_p[i] = p[i] < 1 ? p[i] : 1;
	answer->has_candidates = q->n_candidates > 0;
}

static void take_logprobs(
	struct protocol_reader *r, const json_t *choice, struct protocol_answer *answer)
{
	const json_t *content = json_object_get(json_object_get(choice, "logprobs"), "content");
	for (size_t i = 0; i < json_array_size(content); i++) {
		const json_t *position = json_array_get(content, i);
		const json_t *logprob = json_object_get(position, "logprob");
		if (json_is_number(logprob)) {
			answer->sum_logprob += json_number_value(logprob);
			answer->n_logprob++;
		}
		take_candidates(r, position, answer);
	}
}

static int take_finish(const json_t *choice, const struct protocol_sink *to)
{
	const char *reason = json_string_value(json_object_get(choice, "finish_reason"));
	if (!reason || !*reason)
		return 0;
	if (!strcmp(reason, "content_filter"))
		return err_set(to->err, -EPERM, "its content filter stopped the answer");
	to->answer->finish = strcmp(reason, "length") ? "stop" : "length";
	return 0;
}

/* A choice: what it says is in its `delta` or `message`. */
static int take_choice(struct protocol_reader *r, const json_t *object, const char *where,
	const struct protocol_sink *to)
{
	const json_t *choices = json_object_get(object, "choices");
	const json_t *choice = json_array_get(choices, 0);
	if (!json_is_array(choices) || (choice && !json_is_object(choice)))
		return err_set(to->err, -EPROTO, "what it sends is no chat completion");
	if (!choice)
		return 0;
	int result =
		protocol_take_text(json_object_get(json_object_get(choice, where), "content"), to);
	if (result == 0) {
		take_logprobs(r, choice, to->answer);
		result = take_finish(choice, to);
	}
	return result;
}

static int openai_event(
	struct protocol_reader *r, const json_t *object, const struct protocol_sink *to)
{
	const json_t *error = json_object_get(object, "error");
	const char *kind = json_string_value(json_object_get(object, "object"));
	if ((error && !json_is_null(error)) || (kind && !strcmp(kind, "error")))
		return protocol_take_error(object, to);
	take_usage(json_object_get(object, "usage"), to->answer);
	return take_choice(r, object, "delta", to);
}

static int openai_body(
	struct protocol_reader *r, const json_t *object, const struct protocol_sink *to)
{
	const json_t *error = json_object_get(object, "error");
	if (error && !json_is_null(error))
		return protocol_take_error(object, to);
	take_usage(json_object_get(object, "usage"), to->answer);
	int result = take_choice(r, object, "message", to);
	if (result == 0 && !json_array_size(json_object_get(object, "choices")))
		result = err_set(to->err, -EPROTO, "its chat completion has no answer in it");
	if (result == 0 && !*to->answer->finish)
		to->answer->finish = "stop";
	return result;
}

static struct protocol_reader *openai_reader_new(
	const struct provider_request *request, const char *content_type)
{
	struct protocol_reader *r = protocol_reader_new(request, content_type);
	if (!r)
		return NULL;
	r->event = openai_event;
	r->body = openai_body;
	return r;
}

/* ---- embeddings ---- */

/* One vector to unit length, at its place. */
static int take_vector(const json_t *item, size_t n, size_t dim, float *vectors, bool *there)
{
	const json_t *v = json_object_get(item, "embedding");
	uint64_t i;
	double sum = 0;
	if (!protocol_number(item, "index", &i) || i >= n || there[i] || json_array_size(v) != dim)
		return -EPROTO;
	float *out = vectors + i * dim;
	for (size_t k = 0; k < dim; k++) {
		const json_t *x = json_array_get(v, k);
		if (!json_is_number(x))
			return -EPROTO;
		out[k] = (float)json_number_value(x);
		sum += (double)out[k] * out[k];
	}
	if (!(sum > 0) || !isfinite(sum))
		return -EPROTO;
	for (size_t k = 0; k < dim; k++)
		out[k] = (float)(out[k] / sqrt(sum));
	there[i] = true;
	return 0;
}

static int take_vectors(const json_t *object, size_t n, float **vectors, size_t *dim)
{
	const json_t *data = json_object_get(object, "data");
	size_t d = json_array_size(json_object_get(json_array_get(data, 0), "embedding"));
	if (json_array_size(data) != n || !d || d > DIM_MAX)
		return -EPROTO;
	float *v = calloc(n * d, sizeof *v);
	bool *there = calloc(n, sizeof *there);
	int r = v && there ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = take_vector(json_array_get(data, i), n, d, v, there);
	free(there);
	if (r < 0) {
		free(v);
		return r;
	}
	*vectors = v;
	*dim = d;
	return 0;
}

static int openai_embed_read(const char *body, size_t len, size_t n, float **vectors, size_t *dim,
	struct trace_usage *usage, bool *retryable, struct err *err)
{
	json_t *object = json_loadb(body, len, JSON_ALLOW_NUL, NULL);
	int r = -EPROTO;
	*retryable = true;
	if (json_is_object(json_object_get(object, "error")))
		r = protocol_error(object, 500, retryable, err);
	else if (!json_is_object(object))
		err_set(err, r, "what it sends is no JSON object");
	else if ((r = take_vectors(object, n, vectors, dim)) < 0)
		err_set(err, r, "%s",
			r == -ENOMEM ? "out of memory"
				     : "what it sends are not the embeddings that were asked for");
	*usage = (struct trace_usage){0};
	protocol_number(json_object_get(object, "usage"), "prompt_tokens", &usage->prompt_tok);
	json_decref(object);
	return r;
}

const struct protocol protocol_openai = {
	.name = "openai",
	.chat_path = "/chat/completions",
	.embed_path = "/embeddings",
	.health_path = "/models",
	.messages = openai_messages,
	.chat_body = openai_chat_body,
	.embed_body = openai_embed_body,
	.headers = openai_headers,
	.reader_new = openai_reader_new,
	.reader_free = protocol_reader_free,
	.reader_feed = protocol_reader_feed,
	.reader_end = protocol_reader_end,
	.embed_read = openai_embed_read,
};
