/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request under way. seq_new runs on the thread that submits, all else on the worker thread, to
 * which the object belongs from then on. A waiting request costs its prompt and little more; memory
 * for the whole answer is taken when it starts, so that nothing can fail in its midst for want of
 * it but the text on its way out.
 */
#include "engine/seq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/model.h"
#include "engine/sampler.h"

static int check(
	const struct engine_request *r, uint32_t context_tok, uint32_t n_vocab, struct err *err)
{
	if (r->n_ids == 0)
		return err_set(err, -EINVAL, "the prompt is empty");
	if (r->n_ids >= context_tok)
		return err_set(err, -EMSGSIZE,
			"the prompt has %zu tokens; the model takes %u with its answer", r->n_ids,
			context_tok);
	for (size_t i = 0; i < r->n_ids; i++)
		if (r->ids[i] >= n_vocab)
			return err_set(err, -EINVAL, "token %u is beyond the vocabulary of %u",
				r->ids[i], n_vocab);
	if (r->n_top_logprobs > ENGINE_LOGPROBS_MAX)
		return err_set(err, -EINVAL, "at most %d log-probabilities a token can be had",
			ENGINE_LOGPROBS_MAX);
	if (sampler_check_bias(r->bias, r->n_bias, n_vocab, err) < 0)
		return -EINVAL;
	return sampler_check(&r->sampling, err);
}

int seq_new(struct seq **out, const struct engine_request *request, uint32_t context_tok,
	uint32_t n_vocab, struct err *err)
{
	int r = check(request, context_tok, n_vocab, err);
	uint32_t room;
	struct seq *q;

	*out = NULL;
	if (r < 0)
		return r;
	q = calloc(1, sizeof(*q));
	if (!q)
		return err_set(err, -ENOMEM, "not enough memory for a request");
	list_init(&q->link);
	list_init(&q->cancel_link);
	q->sampling = request->sampling;
	q->json = request->json;
	/* A JSON value ends by itself; only at its end may an end token come. */
	q->ignore_eos = request->ignore_eos && !request->json;
	q->logprobs = request->logprobs;
	q->n_top_logprobs = request->n_top_logprobs;
	q->salt = request->salt;
	q->event = request->event;
	q->arg = request->arg;
	q->n_prompt = q->n_tok = (uint32_t)request->n_ids;
	room = context_tok - q->n_prompt;
	if (request->max_tokens > 0 && request->max_tokens < room)
		room = request->max_tokens;
	q->max_tok = q->n_prompt + room;
	q->stage_ns = clock_mono_ns();
	r = detok_new(&q->detok, request->stop, request->n_stop, err);
	if (r == 0) {
		q->ids = malloc(request->n_ids * sizeof(*q->ids));
		if (!q->ids)
			r = err_set(err, -ENOMEM, "not enough memory for a prompt");
	}
	if (r == 0 && request->n_bias > 0) {
		q->n_bias = (uint32_t)request->n_bias;
		q->bias = malloc(q->n_bias * sizeof(*q->bias));
		if (!q->bias)
			r = err_set(err, -ENOMEM, "not enough memory for logit biases");
		else
			memcpy(q->bias, request->bias, q->n_bias * sizeof(*q->bias));
	}
	if (r < 0) {
		seq_free(q);
		return r;
	}
	memcpy(q->ids, request->ids, request->n_ids * sizeof(*q->ids));
	*out = q;
	return 0;
}

struct seq *seq_free(struct seq *q)
{
	if (!q)
		return NULL;
	free(q->ids);
	free(q->bias);
	free(q->blocks);
	detok_free(q->detok);
	free(q);
	return NULL;
}

/* Sends an event with the usage so far. */
static void send_event(struct seq *q, struct engine_event *e)
{
	uint64_t now = clock_mono_ns();

	e->usage = (struct engine_usage){
		.prompt_tok = q->n_prompt,
		.cached_tok = q->cached_tok,
		.output_tok = q->n_tok - q->n_prompt,
		.preemptions = q->preemptions,
		.queued_ns = q->started ? q->queued_ns : now - q->stage_ns,
		.prefill_ns = q->prefill_ns,
		.decode_ns = q->decode_ns,
	};
	e->candidate_p = q->candidates.n ? q->candidates.p : NULL;
	e->n_candidates = q->candidates.n;
	if (q->answering)
		e->usage.decode_ns = now - q->stage_ns;
	else if (q->started)
		e->usage.prefill_ns = now - q->stage_ns;
	q->event(q->arg, e);
}

int seq_reserve(struct seq *q)
{
	size_t n_blocks = ((size_t)q->max_tok + KV_BLOCK_TOK - 1) / KV_BLOCK_TOK;
	uint32_t *ids;

	if (q->blocks)
		return 0;
	ids = realloc(q->ids, (size_t)q->max_tok * sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	q->ids = ids;
	q->blocks = malloc(n_blocks * sizeof(*q->blocks));
	return q->blocks ? 0 : -ENOMEM;
}

void seq_start(struct seq *q)
{
	uint64_t now = clock_mono_ns();

	q->queued_ns = now - q->stage_ns;
	q->stage_ns = now;
	q->started = true;
	send_event(q, &(struct engine_event){.kind = ENGINE_STARTED});
}

void seq_judged(struct seq *q, const float *p)
{
	memcpy(q->candidates.p, p, q->candidates.n * sizeof(*p));
	q->candidates.known = true;
	send_event(q, &(struct engine_event){.kind = ENGINE_CANDIDATES});
}

void seq_logprobs(struct seq *q, const struct engine_logprob *logprobs, size_t n)
{
	send_event(q, &(struct engine_event){
			      .kind = ENGINE_LOGPROBS, .logprobs = logprobs, .n_logprobs = n});
}

static void send_text(struct seq *q, const struct buf *text)
{
	struct engine_event e = {.kind = ENGINE_TEXT, .text = text->data, .len = text->len};

	if (text->len > 0)
		send_event(q, &e);
}

int seq_accept(struct seq *q, uint32_t id, const struct tokenizer *t, struct buf *scratch)
{
	const char *text;
	size_t len;
	int r;

	if (!q->answering) {
		uint64_t now = clock_mono_ns();

		q->prefill_ns = now - q->stage_ns;
		q->stage_ns = now;
		q->answering = true;
	}
	if (q->json && json_is_narrow(&q->json_state, q->max_tok - q->n_tok - 1))
		q->narrowed = true;
	q->ids[q->n_tok++] = id;
	if (tokenizer_is_end(t, id))
		return q->narrowed ? SEQ_LENGTH : SEQ_STOP;
	text = tokenizer_text(t, id, &len);
	if (q->drops_space && q->n_tok == q->n_prompt + 1 && len > 0 && *text == ' ') {
		text++;
		len--;
	}
	buf_clear(scratch);
	r = detok_feed(q->detok, text, len, scratch);
	if (r < 0)
		return r;
	send_text(q, scratch);
	if (r == DETOK_STOP)
		return SEQ_STOP;
	if (q->json) {
		json_feed(&q->json_state, text, len); /* was allowed, so it goes on */
		if (json_is_done(&q->json_state))
			return q->narrowed ? SEQ_LENGTH : SEQ_STOP;
	}
	return q->n_tok == q->max_tok ? SEQ_LENGTH : 0;
}

void seq_end(struct seq *q, enum engine_finish finish, int status, const char *sentence,
	struct buf *scratch)
{
	struct engine_event e = {.kind = ENGINE_END, .finish = finish, .status = status};
	int r = 0;

	if (status == 0 || status == -ECANCELED) {
		buf_clear(scratch);
		r = detok_finish(q->detok, scratch);
		send_text(q, scratch);
	}
	if (r == DETOK_STOP && finish == ENGINE_FINISH_LENGTH)
		e.finish = ENGINE_FINISH_STOP;
	if (r < 0 && status == 0) {
		e.finish = ENGINE_FINISH_ERROR;
		e.status = r;
		sentence = "not enough memory for the end of the answer";
	}
	if (e.status < 0 && sentence) {
		e.text = sentence;
		e.len = strlen(sentence);
	}
	send_event(q, &e);
}
