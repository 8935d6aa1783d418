/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a model: file, tokenizer, chat family, sizes, weights. Here the defaults of
 * struct engine_options are resolved against each other: no sequence may be longer than the file
 * was trained for, nor than the KV pool holds, so that one sequence alone always fits and the
 * scheduler can promise that everything ends. Defaults and the size of the pool depend on the back
 * end, so they are resolved for the one that is tried.
 */
#include "engine/engine_parts.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/backend.h"
#include "engine/cuda_door.h"

#define MAX_THREADS 1024u
#define MAX_DEFAULT_THREADS 16u
#define MAX_BUDGET_TOK 65536u
#define MAX_SEQUENCES 4096u
#define DEFAULT_CONTEXT_TOK 32768u
#define DEFAULT_KV_BYTES ((size_t)2 << 30)

struct sizes {
	uint32_t n_threads, context_tok, step_budget_tok, max_sequences, kv_blocks;
	size_t block_bytes;
	bool kv_may_shrink;
};

void engine_parts_block_signals(sigset_t *before)
{
	static const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++)
		sigdelset(&set, faults[i]);
	pthread_sigmask(SIG_BLOCK, &set, before);
}

static int check_options(const struct engine_options *o, struct err *err)
{
	if (o->n_threads > MAX_THREADS)
		return err_set(err, -EINVAL, "at most %u threads", MAX_THREADS);
	if (o->step_budget_tok > MAX_BUDGET_TOK)
		return err_set(err, -EINVAL, "at most %u tokens in a step", MAX_BUDGET_TOK);
	if (o->max_sequences > MAX_SEQUENCES)
		return err_set(err, -EINVAL, "at most %u sequences at once", MAX_SEQUENCES);
	if (!(o->memory_share >= 0 && o->memory_share <= 1))
		return err_set(err, -EINVAL, "a share of memory is a number from 0 to 1");
	return 0;
}

static uint32_t default_threads(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	if (n < 1)
		return 1;
	return n > (long)MAX_DEFAULT_THREADS ? MAX_DEFAULT_THREADS : (uint32_t)n;
}

/* The longest sequence by option and file; 0 when the file does not say. */
static uint32_t context_of(const struct gguf *g, const struct engine_options *o)
{
	size_t len;
	const char *architecture = gguf_string(g, "general.architecture", &len);
	char key[128];
	uint64_t trained;

	if (!architecture || len > 64)
		return 0;
	snprintf(key, sizeof(key), "%.*s.context_length", (int)len, architecture);
	trained = gguf_uint(g, key, 0);
	if (trained > UINT32_MAX / 2)
		trained = UINT32_MAX / 2;
	if (o->context_tok > 0)
		return o->context_tok < trained ? o->context_tok : (uint32_t)trained;
	return trained < DEFAULT_CONTEXT_TOK ? (uint32_t)trained : DEFAULT_CONTEXT_TOK;
}

/* An encoder has no KV pool; a step holds the longest text at least. */
static int resolve_encoder_sizes(
	struct sizes *z, const struct gguf *g, const struct engine_options *o, struct err *err)
{
	struct encoder_config c = {0};
	int r = encoder_read_config(g, &c, err);

	if (r < 0)
		return r;
	z->context_tok = context_of(g, o);
	if (z->context_tok < 3)
		return err_set(
			err, -EINVAL, "a context of %u tokens holds no text", z->context_tok);
	if (z->step_budget_tok < z->context_tok)
		z->step_budget_tok = z->context_tok;
	return 0;
}

/* How many blocks the KV pool is to have. A device's takes what is free unless a size is named. */
static int resolve_kv(struct sizes *z, const struct gguf *g, const struct engine_options *o,
	const struct backend *b, struct err *err)
{
	const struct model_options mo = {.backend = b, .kv_fp8 = o->kv_fp8};
	size_t kv_bytes = o->kv_bytes ? o->kv_bytes : DEFAULT_KV_BYTES;
	uint64_t blocks, most;

	z->block_bytes = model_kv_block_bytes(g, &mo);
	if (z->context_tok < 2 || z->block_bytes == 0)
		return err_set(err, -EBADMSG,
			"the file does not say the sizes of its attention and context");
	most = ((uint64_t)z->context_tok + KV_BLOCK_TOK - 1) / KV_BLOCK_TOK * z->max_sequences;
	z->kv_may_shrink = b->own_memory && o->kv_blocks == 0 && o->kv_bytes == 0;
	blocks = o->kv_blocks ? o->kv_blocks : kv_bytes / z->block_bytes;
	blocks = blocks < most && !z->kv_may_shrink ? blocks : most;
	if (blocks == 0)
		return err_set(err, -EINVAL, "%zu bytes hold no KV block; one takes %zu", kv_bytes,
			z->block_bytes);
	if (blocks > UINT32_MAX / KV_BLOCK_TOK)
		blocks = UINT32_MAX / KV_BLOCK_TOK;
	z->kv_blocks = (uint32_t)blocks;
	return 0;
}

/* No sequence is longer than the pool. */
static void shorten_context(struct sizes *z)
{
	if (z->context_tok > z->kv_blocks * KV_BLOCK_TOK)
		z->context_tok = z->kv_blocks * KV_BLOCK_TOK;
}

static int resolve_sizes(struct sizes *z, const struct gguf *g, const struct engine_options *o,
	const struct backend *b, struct err *err)
{
	int r = encoder_is_one(g) ? 0 : model_check_file(g, err);

	if (r < 0)
		return r;
	z->n_threads = o->n_threads ? o->n_threads : default_threads();
	z->max_sequences = o->max_sequences ? o->max_sequences : b->default_sequences;
	z->step_budget_tok = o->step_budget_tok ? o->step_budget_tok : b->default_step_tok;
	if (z->step_budget_tok < z->max_sequences)
		z->step_budget_tok = z->max_sequences;
	if (z->step_budget_tok < KV_BLOCK_TOK)
		z->step_budget_tok = KV_BLOCK_TOK;
	if (encoder_is_one(g))
		return resolve_encoder_sizes(z, g, o, err);
	z->context_tok = context_of(g, o);
	r = resolve_kv(z, g, o, b, err);
	if (r == 0)
		shorten_context(z);
	return r;
}

/* A family that somebody named may be another model's. One that the file's own template is of is
 * believed: some models are trained with such texts as text. */
static int note_template(struct engine_parts *p, struct err *err)
{
	const char *token = chat_missing_token(p->family, p->tokenizer);

	if (token && asprintf(&p->template_note,
			     "the template %s was named, and the vocabulary has no token %s: it is "
			     "written as text, and answers may not end by themselves",
			     chat_family_name(p->family), token) < 0) {
		p->template_note = NULL;
		return err_set(err, -ENOMEM, "not enough memory for a sentence");
	}
	return 0;
}

static int open_text(struct engine_parts *p, const struct engine_options *o, struct err *err)
{
	size_t n = 0;
	const char *text = gguf_string(p->gguf, "tokenizer.chat_template", &n);
	int r = tokenizer_new(&p->tokenizer, p->gguf, err);
	bool encoder = encoder_is_one(p->gguf);

	if (r == 0 && encoder != (strcmp(tokenizer_model(p->tokenizer), "bert") == 0))
		r = err_set(err, -ENOTSUP,
			"WordPiece tokenizers (bert) and models of the architecture bert are "
			"supported only with each other");
	if (r < 0 || encoder)
		return r;
	r = chat_family_find(&p->family, o->chat_family, text, text ? n : 0, err);
	if (r == 0) /* a template that was named is the family's and no more */
		r = o->chat_family ? note_template(p, err)
				   : chat_opening_find(text, text ? n : 0, &p->opening, err);
	if (r == 0 && json_vocab_new(&p->json_vocab, p->tokenizer) < 0)
		r = err_set(err, -ENOMEM, "not enough memory for the vocabulary");
	return r;
}

static int check_vocabulary(const struct engine_parts *p, uint32_t n_vocab, struct err *err)
{
	uint32_t n = tokenizer_size(p->tokenizer);

	return n_vocab < n ? err_set(err, -EBADMSG,
				     "the tokenizer has %u tokens, the model's embedding only %u",
				     n, n_vocab)
			   : 0;
}

static void fill_encoder_info(struct engine_parts *p, const struct sizes *z)
{
	const struct encoder_config *c = encoder_config(p->encoder);

	p->info = (struct engine_info){
		.name = p->name,
		.architecture = "bert",
		.file_type = encoder_file_type(p->encoder),
		.tokenizer = tokenizer_model(p->tokenizer),
		.is_encoder = true,
		.chat_family = "",
		.template_note = "",
		.pooling = c->pooling == ENCODER_CLS ? "cls" : "mean",
		.backend = encoder_backend(p->encoder),
		.backend_note = "",
		.n_parameters = encoder_n_parameters(p->encoder),
		.file_bytes = gguf_file_bytes(p->gguf),
		.n_layers = c->n_layers,
		.n_embd = c->n_embd,
		.n_heads = c->n_heads,
		.n_kv_heads = c->n_heads,
		.n_vocab = c->n_vocab,
		.context_tok = z->context_tok,
		.max_token_bytes = tokenizer_max_bytes(p->tokenizer),
		.n_threads = z->n_threads,
	};
	p->embedder_options = (struct embedder_options){
		.encoder = p->encoder,
		.gguf = p->gguf,
		.tokenizer = p->tokenizer,
		.context_tok = z->context_tok,
		.max_rows = z->step_budget_tok,
		.max_texts = z->max_sequences,
	};
}

static void fill_model_info(struct engine_parts *p, const struct sizes *z)
{
	const struct model_config *c = model_config(p->model);

	p->info = (struct engine_info){
		.name = p->name,
		.architecture = "llama",
		.file_type = model_file_type(p->model),
		.tokenizer = tokenizer_model(p->tokenizer),
		.chat_family = chat_family_name(p->family),
		.template_note = p->template_note ? p->template_note : "",
		.pooling = "",
		.backend = model_backend(p->model),
		.backend_note = p->backend_note ? p->backend_note : "",
		.n_parameters = model_n_parameters(p->model),
		.file_bytes = gguf_file_bytes(p->gguf),
		.n_layers = c->n_layers,
		.n_embd = c->n_embd,
		.n_heads = c->n_heads,
		.n_kv_heads = c->n_kv_heads,
		.n_vocab = c->n_vocab,
		.context_tok = z->context_tok,
		.max_token_bytes = tokenizer_max_bytes(p->tokenizer),
		.n_threads = z->n_threads,
		.kv_block_tok = KV_BLOCK_TOK,
		.kv_blocks = z->kv_blocks,
		.kv_bytes = (uint64_t)z->kv_blocks * z->block_bytes,
	};
	p->sched_options = (struct sched_options){
		.model = p->model,
		.gguf = p->gguf,
		.tokenizer = p->tokenizer,
		.json_vocab = p->json_vocab,
		.step_budget_tok = z->step_budget_tok,
		.max_sequences = z->max_sequences,
		.kv_blocks = z->kv_blocks,
	};
}

static int open_encoder(struct engine_parts *p, const struct engine_options *o, struct err *err)
{
	struct sizes z = {0};
	int r = resolve_sizes(&z, p->gguf, o, &cpu_backend, err);
	struct encoder_options eo = {
		.n_threads = z.n_threads,
		.cpu_path = o->cpu_path,
		.max_rows = z.step_budget_tok,
		.max_texts = z.max_sequences,
		.progress = o->progress,
		.progress_arg = o->progress_arg,
	};

	if (r == 0)
		r = encoder_new(&p->encoder, p->gguf, &eo, err);
	if (r == 0)
		r = check_vocabulary(p, encoder_config(p->encoder)->n_vocab, err);
	if (r == 0)
		fill_encoder_info(p, &z);
	return r;
}

static int open_model(struct engine_parts *p, const struct engine_options *o,
	const struct backend *b, const volatile bool *stop, struct err *err)
{
	struct sizes z = {0};
	int r = resolve_sizes(&z, p->gguf, o, b, err);
	struct model_options mo = {
		.backend = b,
		.n_threads = z.n_threads,
		.cpu_path = o->cpu_path,
		.gpu = o->gpu,
		.fp8 = o->fp8,
		.kv_fp8 = o->kv_fp8,
		.memory_share = o->memory_share,
		.max_rows = z.step_budget_tok,
		.max_runs = z.max_sequences,
		.max_logit_rows = z.max_sequences,
		.context_tok = z.context_tok,
		.kv_blocks = z.kv_blocks,
		.kv_may_shrink = z.kv_may_shrink,
		.progress = o->progress,
		.progress_arg = o->progress_arg,
		.stop = stop,
	};

	if (r == 0)
		r = model_new(&p->model, p->gguf, &mo, err);
	if (r == 0)
		r = check_vocabulary(p, model_config(p->model)->n_vocab, err);
	if (r < 0)
		return r;
	z.kv_blocks = model_kv_blocks(p->model);
	shorten_context(&z);
	fill_model_info(p, &z);
	p->info.fp8 = model_has_fp8(p->model);
	p->info.kv_fp8 = o->kv_fp8;
	if (b->own_memory)
		p->info.memory_share = model_memory_share(o->memory_share);
	return 0;
}

/* What the processor does as well, if somewhat slower, is no reason to have no model. */
static bool is_for_the_processor(int r)
{
	return r == -ENOTSUP || r == -ENODEV || r == -ENOMEM || r == -EIO;
}

/* With "auto" a GPU if it can be had, and the sentence why not. */
static int open_on_some(struct engine_parts *p, const struct engine_options *o,
	const volatile bool *stop, struct err *err)
{
	struct engine_options plain = *o;
	struct err why = {""};
	const struct backend *b;
	int r = cuda_door_backend(&b, o->gpu, &why);

	if (r == 0)
		r = open_model(p, o, b, stop, &why);
	if (r == 0)
		return 0;
	p->model = model_free(p->model);
	if (!is_for_the_processor(r))
		return err_set(err, r, "%s", why.text);
	p->backend_note = strdup(why.text);
	if (!p->backend_note)
		return err_set(err, -ENOMEM, "not enough memory for a sentence");
	plain.fp8 = plain.kv_fp8 = false;
	return open_model(p, &plain, &cpu_backend, stop, err);
}

static int open_somewhere(struct engine_parts *p, const struct engine_options *o,
	const volatile bool *stop, struct err *err)
{
	const char *name = o->backend ? o->backend : "auto";
	bool encoder = encoder_is_one(p->gguf);
	const struct backend *b;
	int r;

	if (encoder && strcmp(name, "cpu") == 0 && (o->fp8 || o->kv_fp8))
		return err_set(err, -ENOTSUP, "the processor does not compute in FP8");
	if (strcmp(name, "cpu") == 0 || (strcmp(name, "auto") == 0 && encoder))
		return encoder ? open_encoder(p, o, err)
			       : open_model(p, o, &cpu_backend, stop, err);
	if (strcmp(name, "auto") == 0)
		return open_on_some(p, o, stop, err);
	if (strcmp(name, "cuda") != 0)
		return err_set(err, -EINVAL, "a back end is auto, cpu or cuda");
	if (encoder)
		return err_set(err, -ENOTSUP,
			"embedding models are computed by the processor: its back end is auto or "
			"cpu");
	r = cuda_door_backend(&b, o->gpu, err);
	return r < 0 ? r : open_model(p, o, b, stop, err);
}

static int read_name(struct engine_parts *p, struct err *err)
{
	size_t len = 0;
	const char *name = gguf_string(p->gguf, "general.name", &len);

	p->name = strndup(name ? name : "", name ? len : 0);
	return p->name ? 0 : err_set(err, -ENOMEM, "not enough memory for a name");
}

static int check_stop(const volatile bool *stop, struct err *err)
{
	return stop && __atomic_load_n(stop, __ATOMIC_RELAXED)
		       ? err_set(err, -ECANCELED, "loading was cancelled")
		       : 0;
}

int engine_parts_open(struct engine_parts *p, const char *path,
	const struct engine_options *options, const volatile bool *stop, struct err *err)
{
	int r = check_options(options, err);

	if (r == 0)
		r = gguf_open(&p->gguf, path, options->forbidden_device, err);
	if (r == 0)
		r = check_stop(stop, err);
	if (r == 0)
		r = open_text(p, options, err);
	if (r == 0)
		r = read_name(p, err);
	if (r == 0)
		r = check_stop(stop, err);
	if (r == 0)
		r = open_somewhere(p, options, stop, err);
	if (r == 0)
		r = check_stop(stop, err);
	if (r == 0)
		r = gguf_changed(p->gguf, "the file", "read", err);
	return r < 0 ? r : 0;
}

int engine_parts_check(struct engine_parts *p, const char *path,
	const struct engine_options *options, struct err *err)
{
	struct sizes z = {0};
	int r = gguf_open(&p->gguf, path, options->forbidden_device, err);

	if (r == 0)
		r = open_text(p, options, err);
	if (r == 0)
		r = resolve_sizes(&z, p->gguf, options, &cpu_backend, err);
	if (r == 0)
		r = gguf_changed(p->gguf, "the file", "read", err);
	return r < 0 ? r : 0;
}

void engine_parts_close(struct engine_parts *p)
{
	model_free(p->model);
	encoder_free(p->encoder);
	json_vocab_free(p->json_vocab);
	tokenizer_free(p->tokenizer);
	gguf_free(p->gguf);
	free(p->opening);
	free(p->name);
	free(p->template_note);
	free(p->backend_note);
	memset(p, 0, sizeof(*p));
}
