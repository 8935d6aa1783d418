/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenAI's chat completions and embeddings, as vLLM, llama.cpp's server, llmfs and most clouds
 * speak them, too.
 *
 * max_tokens, not max_completion_tokens: OpenAI calls the first deprecated but takes it for all of
 * its models that are not of the reasoning kind; vLLM takes both; llama.cpp and many others know
 * only the first and would write without an end. Both at once are refused by OpenAI.
 *
 * top_k, min_p, ignore_eos and the penalty on what was said are extensions of vLLM and llama.cpp,
 * which OpenAI refuses: they are said only where they were set. The last has two names,
 * repetition_penalty (vLLM, SGLang) and repeat_penalty (llama.cpp, also in Python): each of these
 * takes no notice of the other's, so where one is set both are said, and nobody has to know which
 * server it is. A server that knows one name and forbids what it does not know ("Extra inputs are
 * not permitted") refuses such a request, which it would have taken with its own name alone.
 *
 * What a model thinks aloud (reasoning_content) is no part of its answer. usage comes in a chunk
 * of its own at the end, which stream_options asks for; cached tokens are a part of prompt_tokens.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/protocol_chunk.h"
#include "gateway/text.h"

#define DIM_MAX 65536
#define MESSAGES_MAX ((size_t)256 << 20)
#define MEMBERS_ROOM 512 /* what is beside them, most often */
#define TOP_MOST 20      /* what OpenAI and vLLM give at most */

static int openai_messages(char **json, size_t *len, const struct provider_message *messages,
	size_t n, struct err *err)
{
	static const char *const roles[] = {"system", "user", "assistant"};
	int r = protocol_check_messages(messages, n, err);
	if (r < 0)
		return r;
	struct buf text = {.max = MESSAGES_MAX};
	r = buf_append(&text, "[", 1);
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = buf_printf(&text, "%s{\"role\":\"%s\",\"content\":", i ? "," : "",
			roles[messages[i].role]);
		r = r ? r : text_append_json(&text, messages[i].text, messages[i].len);
		r = r ? r : buf_append(&text, "}", 1);
	}
	r = r ? r : buf_append(&text, "]", 1);
	if (r < 0) {
		buf_free(&text);
		return r == -EFBIG ? err_set(err, -EMSGSIZE, "the request is too long to be sent")
				   : err_set(err, r, "out of memory");
	}
	*json = text.data;
	*len = text.len;
	return 0;
}

/* OpenAI's seeds are 64 bits with a sign, llama.cpp's are 32: those that fit both stay as they are.
 */
static uint32_t seed_of(uint64_t seed)
{
	return (uint32_t)(seed <= INT32_MAX ? seed : (seed ^ seed >> 32) & INT32_MAX);
}

/* 15 digits are what a person writes, 0.7 and not 0.69999999999999996; and it stays a real number.
 */
static int put_real(struct buf *out, const char *name, double x)
{
	char digits[32];
	snprintf(digits, sizeof digits, "%.15g", x);
	return buf_printf(out, ",\"%s\":%s%s", name, digits, strpbrk(digits, ".en") ? "" : ".0");
}

static int put_penalty(struct buf *out, double x)
{
	int r = put_real(out, "repetition_penalty", x);
	return r ? r : put_real(out, "repeat_penalty", x);
}

static int put_stop(struct buf *out, const struct provider_request *q)
{
	int r = q->n_stop ? buf_append_str(out, ",\"stop\":[") : 0;
	for (size_t i = 0; r == 0 && i < q->n_stop; i++) {
		r = i ? buf_append(out, ",", 1) : 0;
		r = r ? r : text_append_json(out, q->stop[i], strlen(q->stop[i]));
	}
	return r || !q->n_stop ? r : buf_append(out, "]", 1);
}

static int put_sampling(struct buf *out, const struct provider_request *q)
{
	int r = put_real(out, "temperature", q->temperature);
	r = r ? r : put_real(out, "top_p", q->top_p);
	if (r == 0 && q->max_tokens)
		r = buf_printf(out, ",\"max_tokens\":%" PRIu32, q->max_tokens);
	if (r == 0 && q->seeded)
		r = buf_printf(out, ",\"seed\":%" PRIu32, seed_of(q->seed));
	r = r ? r : put_stop(out, q);
	if (r == 0 && q->json)
		r = buf_append_str(out, ",\"response_format\":{\"type\":\"json_object\"}");
	if (r == 0 && q->top_k)
		r = buf_printf(out, ",\"top_k\":%" PRIu32, q->top_k);
	if (r == 0 && q->min_p > 0)
		r = put_real(out, "min_p", q->min_p);
	if (r == 0 && q->repetition_penalty > 0 && q->repetition_penalty != 1)
		r = put_penalty(out, q->repetition_penalty);
	if (r == 0 && q->presence_penalty != 0)
		r = put_real(out, "presence_penalty", q->presence_penalty);
	if (r == 0 && q->frequency_penalty != 0)
		r = put_real(out, "frequency_penalty", q->frequency_penalty);
	if (r == 0 && q->ignore_eos)
		r = buf_append_str(out, ",\"ignore_eos\":true");
	return r;
}

static int put_members(struct buf *out, const struct protocol_ask *ask)
{
	const struct provider_request *q = ask->request;
	int r = buf_append_str(out, "{\"model\":");
	r = r ? r : text_append_json(out, ask->model, strlen(ask->model));
	r = r ? r
	      : buf_append_str(out, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
	r = r ? r : put_sampling(out, q);
	if (r == 0 && ask->wants_logprobs)
		r = buf_printf(out, ",\"logprobs\":true,\"top_logprobs\":%d",
			q->n_candidates ? TOP_MOST : 1);
	return r;
}

static int openai_chat_body(struct buf *out, const struct protocol_ask *ask, struct err *err)
{
	size_t len = strlen(ask->messages);
	int r = buf_reserve(out, len + MEMBERS_ROOM); /* at once: what grows is copied each time */
	r = r ? r : put_members(out, ask);
	r = r ? r : buf_append_str(out, ",\"messages\":");
	r = r ? r : buf_append(out, ask->messages, len);
	r = r ? r : buf_append(out, "}", 1);
	if (r == -EFBIG)
		return err_set(err, -EMSGSIZE, "the request is too long to be sent");
	return r < 0 ? err_set(err, r, "out of memory") : 0;
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

/* Whether that is of Anthropic's protocol: a message, or its first event. */
static bool is_anthropic(const json_t *object)
{
	const char *type = json_string_value(json_object_get(object, "type"));
	return type && (!strcmp(type, "message") || !strcmp(type, "message_start"));
}

/* A choice: what it says is in its `delta` or `message`. */
static int take_choice(struct protocol_reader *r, const json_t *object, const char *where,
	const struct protocol_sink *to)
{
	const json_t *choices = json_object_get(object, "choices");
	const json_t *choice = json_array_get(choices, 0);
	if (!json_is_array(choices) || (choice && !json_is_object(choice)))
		return err_set(to->err, -EPROTO, "what it sends is no chat completion%s",
			is_anthropic(object) ? ", but Anthropic's: write anthropic to protocol"
					     : "");
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
	r->usual = protocol_chunk_take;
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
