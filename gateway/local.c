/* SPDX-License-Identifier: Apache-2.0 */
/* The engine in this process as a provider: translation of words, and nothing else. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/engine.h"
#include "gateway/provider.h"

static int local_load(void **handle, const struct provider_config *config,
	const volatile bool *stop, struct err *err)
{
	struct engine_options options = {
		.chat_family = config->chat_family,
		.backend = config->backend,
		.gpu = config->gpu,
		.fp8 = config->fp8,
		.kv_fp8 = config->kv_fp8,
		.memory_share = config->memory_share,
		.n_threads = config->n_threads,
		.kv_bytes = config->kv_bytes,
		.forbidden_device = config->forbidden_device,
		.progress = config->progress,
		.progress_arg = config->progress_arg,
	};
	struct engine *e = NULL;
	int r = engine_open(&e, config->path, &options, stop, err);
	if (r == 0 && *engine_info(e)->template_note)
		log_warn("%s: %s", config->path, engine_info(e)->template_note);
	*handle = e;
	return r;
}

int local_check(const char *path, const char *chat_family, dev_t forbidden_device, bool *embeds,
	struct err *err)
{
	return engine_check(path, chat_family, forbidden_device, embeds, err);
}

static void local_unload(void *handle)
{
	engine_free(handle);
}

static void local_limits(void *handle, struct provider_limits *out)
{
	const struct engine_info *info = engine_info(handle);
	*out = (struct provider_limits){
		.context_tok = info->context_tok,
		.max_token_bytes = info->max_token_bytes,
		.answers = !info->is_encoder,
		.embedding_dim = info->is_encoder ? info->n_embd : 0,
		.embeds = info->is_encoder,
		.counts = true,
	};
}

static void local_stats(void *handle, struct provider_stats *out)
{
	struct engine_stats s;
	engine_stats(handle, &s);
	*out = (struct provider_stats){
		.running = s.running,
		.waiting = s.waiting,
		.kv_blocks_total = s.kv_blocks_total,
		.kv_blocks_used = s.kv_blocks_used,
		.kv_blocks_cached = s.kv_blocks_cached,
		.preemptions = s.preemptions,
	};
}

/* What cannot compute any more is as good as not loaded. */
static int local_health(void *handle, const char **word, struct err *why)
{
	int r = engine_fault(handle, why);
	*word = r < 0 ? "failed" : "ready";
	return r < 0 ? -EHOSTUNREACH : 0;
}

static int local_file(void *handle, struct err *why)
{
	return engine_file(handle, why);
}

static int local_identity(void *handle, struct buf *out)
{
	return engine_identity(handle, out);
}

static void local_work(void *handle, struct provider_work *out)
{
	struct engine_stats s;
	struct engine_device d;
	engine_stats(handle, &s);
	engine_device(handle, &d);
	*out = (struct provider_work){
		.backend = engine_info(handle)->backend,
		.step_sequences = s.step_sequences,
		.output_tok_s = s.output_tok_s,
		.steps = s.steps,
		.memory_used = d.memory_used,
		.memory_free = d.memory_free,
		.graph_hits = d.graph_hits,
		.graph_misses = d.graph_misses,
		.graphs_off = d.graphs_off,
		.utilisation = d.utilisation,
	};
}

static int info_word(struct buf *out, const char *key, const char *value)
{
	int r = buf_printf(out, ",\n  \"%s\": ", key);
	return r ? r : text_append_json(out, value, strlen(value));
}

static int info_work(void *handle, struct buf *out)
{
	struct provider_work w;
	local_work(handle, &w);
	int r = buf_printf(out, ",\n  \"batch\": %" PRIu32 ",\n  \"tokens_per_second\": %.1f",
		w.step_sequences, w.output_tok_s);
	if (r || w.memory_used + w.memory_free == 0)
		return r;
	r = buf_printf(out,
		",\n  \"device_memory_used\": %" PRIu64 ",\n  \"device_memory_free\": %" PRIu64
		",\n  \"graph_hits\": %" PRIu64 ",\n  \"graph_misses\": %" PRIu64,
		w.memory_used, w.memory_free, w.graph_hits, w.graph_misses);
	if (w.graphs_off)
		r = r ? r : info_word(out, "graphs_off", w.graphs_off);
	if (w.utilisation >= 0)
		r = r ? r
		      : buf_printf(out, ",\n  \"device_utilisation\": %.2f", (double)w.utilisation);
	return r;
}

static int local_info(void *handle, struct buf *out)
{
	const struct engine_info *i = engine_info(handle);
	int r = info_word(out, "title", i->name);
	r = r ? r : info_word(out, "architecture", i->architecture);
	r = r ? r : info_word(out, "file_type", i->file_type);
	r = r ? r : info_word(out, "tokenizer", i->tokenizer);
	if (i->is_encoder)
		r = r ? r : info_word(out, "pooling", i->pooling);
	else
		r = r ? r : info_word(out, "template", i->chat_family);
	if (*i->template_note)
		r = r ? r : info_word(out, "template_note", i->template_note);
	r = r ? r : info_word(out, "backend", i->backend);
	if (*i->backend_note)
		r = r ? r : info_word(out, "backend_note", i->backend_note);
	if (i->memory_share > 0)
		r = r ? r
		      : buf_printf(out,
				",\n  \"fp8\": %s,\n  \"kv_fp8\": %s,\n  \"memory_share\": %g",
				i->fp8 ? "true" : "false", i->kv_fp8 ? "true" : "false",
				i->memory_share);
	r = r ? r
	      : buf_printf(out,
			",\n  \"parameters\": %" PRIu64 ",\n  \"file_bytes\": %" PRIu64
			",\n  \"layers\": %" PRIu32 ",\n  \"embedding\": %" PRIu32
			",\n  \"heads\": %" PRIu32 ",\n  \"kv_heads\": %" PRIu32
			",\n  \"vocabulary\": %" PRIu32,
			i->n_parameters, i->file_bytes, i->n_layers, i->n_embd, i->n_heads,
			i->n_kv_heads, i->n_vocab);
	r = r ? r
	      : buf_printf(out,
			",\n  \"context\": %" PRIu32 ",\n  \"threads\": %" PRIu32
			",\n  \"kv_block_tokens\": %" PRIu32 ",\n  \"kv_blocks\": %" PRIu32
			",\n  \"kv_bytes\": %" PRIu64,
			i->context_tok, i->n_threads, i->kv_block_tok, i->kv_blocks, i->kv_bytes);
	return r || i->is_encoder ? r : info_work(handle, out);
}

static int local_count(void *handle, const char *text, size_t len, size_t *n_tok, struct err *err)
{
	struct engine_tokens tokens = {0};
	int r = engine_tokenize(handle, text, len, &tokens, err);
	*n_tok = tokens.n;
	free(tokens.ids);
	return r;
}

static int local_render(void *handle, const struct provider_message *messages, size_t n,
	struct provider_prompt *out, struct err *err)
{
	static const enum engine_role roles[] = {
		[PROVIDER_SYSTEM] = ENGINE_SYSTEM,
		[PROVIDER_USER] = ENGINE_USER,
		[PROVIDER_ASSISTANT] = ENGINE_ASSISTANT,
	};
	struct engine_message *list = calloc(n ? n : 1, sizeof *list);
	if (!list)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++)
		list[i] = (struct engine_message){
			roles[messages[i].role], messages[i].text, messages[i].len};
	struct engine_tokens tokens = {0};
	int r = engine_render(handle, list, n, true, &tokens, err);
	free(list);
	if (r == 0)
		*out = (struct provider_prompt){tokens.ids, tokens.n, tokens.n};
	return r;
}

/* The engine's request carries a provider's: only the event is told in other words. Of the
 * log-probabilities, which come only when they were asked for, the mean is kept. */
struct relay {
	provider_event_fn *event;
	void *arg;
	double sum_logprob; /* of the worker thread */
	uint64_t n_logprob;
};

static void relay_event(void *arg, const struct engine_event *e)
{
	static const enum provider_event_kind kinds[] = {
		[ENGINE_STARTED] = PROVIDER_STARTED,
		[ENGINE_CANDIDATES] = PROVIDER_CANDIDATES,
		[ENGINE_TEXT] = PROVIDER_TEXT,
		[ENGINE_END] = PROVIDER_END,
	};
	struct relay *relay = arg;
	if (e->kind == ENGINE_LOGPROBS) { /* the first one is that of the token itself */
		relay->sum_logprob += (double)e->logprobs[0].logprob;
		relay->n_logprob++;
		return;
	}
	struct provider_event event = {
		.kind = kinds[e->kind],
		.text = e->text,
		.len = e->len,
		.status = e->status,
		.finish = e->finish == ENGINE_FINISH_STOP     ? "stop"
			  : e->finish == ENGINE_FINISH_LENGTH ? "length"
							      : "",
		.usage = {e->usage.prompt_tok, e->usage.cached_tok, e->usage.output_tok},
		.candidate_p = e->candidate_p,
		.n_candidates = e->n_candidates,
		.mean_logprob = relay->n_logprob
					? (float)(relay->sum_logprob / (double)relay->n_logprob)
					: NAN,
	};
	relay->event(relay->arg, &event);
	if (e->kind == ENGINE_END)
		free(relay);
}

static int local_submit(
	void *handle, const struct provider_request *q, uint64_t *id, struct err *err)
{
	struct relay *relay = malloc(sizeof *relay);
	if (!relay)
		return err_set(err, -ENOMEM, "out of memory");
	*relay = (struct relay){.event = q->event, .arg = q->arg};
	struct engine_request request = {
		.ids = q->prompt->data,
		.n_ids = q->prompt->n_tok,
		.sampling = {.temperature = (float)q->temperature,
			.top_k = q->top_k,
			.top_p = (float)q->top_p,
			.min_p = (float)q->min_p,
			.seed = q->seed,
			.repetition_penalty = (float)q->repetition_penalty,
			.presence_penalty = (float)q->presence_penalty,
			.frequency_penalty = (float)q->frequency_penalty},
		.max_tokens = q->max_tokens,
		.ignore_eos = q->ignore_eos,
		.json = q->json,
		.stop = q->stop,
		.n_stop = q->n_stop,
		.candidates = q->candidates,
		.n_candidates = q->n_candidates,
		.logprobs = q->wants_logprob,
		.salt = q->salt,
		.event = relay_event,
		.arg = relay,
	};
	int r = engine_submit(handle, &request, id, err);
	if (r < 0)
		free(relay);
	return r;
}

static void local_cancel(void *handle, uint64_t id)
{
	engine_cancel(handle, id);
}

/* The same for embeddings. */
struct embed_relay {
	void (*done)(void *arg, int status, const char *sentence, const float *vectors, size_t dim,
		const struct trace_usage *usage);
	void *arg;
	size_t dim;
};

static void relay_vectors(void *arg, int status, const char *sentence, const float *vectors,
	const struct engine_usage *usage)
{
	struct embed_relay *relay = arg;
	struct trace_usage u = {usage->prompt_tok, usage->cached_tok, usage->output_tok};
	relay->done(relay->arg, status, sentence, vectors, relay->dim, &u);
	free(relay);
}

/* The salt is of no use here: nothing is kept of a text. */
static int local_embed(void *handle, const struct provider_embed *q, uint64_t *id, struct err *err)
{
	struct embed_relay *relay = malloc(sizeof *relay);
	if (!relay)
		return err_set(err, -ENOMEM, "out of memory");
	*relay = (struct embed_relay){q->done, q->arg, engine_info(handle)->n_embd};
	struct engine_embed request = {
		.texts = q->texts,
		.lens = q->lens,
		.n = q->n,
		.done = relay_vectors,
		.arg = relay,
	};
	int r = engine_embed(handle, &request, id, err);
	if (r < 0)
		free(relay);
	return r;
}

const struct provider local_provider = {
	.load = local_load,
	.unload = local_unload,
	.limits = local_limits,
	.stats = local_stats,
	.work = local_work,
	.info = local_info,
	.count = local_count,
	.render = local_render,
	.submit = local_submit,
	.cancel = local_cancel,
	.embed = local_embed,
	.cancel_embed = local_cancel,
	.health = local_health,
	.identity = local_identity,
	.file = local_file,
};
