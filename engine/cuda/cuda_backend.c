/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of the CUDA back end: a model made on a device, its figures, its end; the door through
 * which the engine finds it. Steps are flight.c's affair, stages those of stages.c.
 *
 * A model is a tenant of its device (context.h). cuda_backend_let_go() is called when it leaves, or
 * when the device has to be reset under it: the first frees everything there, the second too, and
 * the model lives on as one that failed, with nothing but host memory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "engine/cuda/state.h"
#include "engine/cuda_door.h"

#define MAX_IDLE_NS 3000000000u /* a figure older than that says nothing: no step came */

static size_t kv_block_bytes(
	const struct gguf *g, const struct model_config *c, const struct model_options *o)
{
	const struct gguf_tensor *q = gguf_tensor(g, "blk.0.attn_q.weight");
	enum cuda_type type = o->kv_fp8 ? CUDA_TYPE_E4M3
			      : q       ? cuda_place_act(q->type)
					: CUDA_TYPE_F32;

	return (size_t)c->n_layers * 2 * c->n_kv_heads * KV_BLOCK_TOK * c->head_dim *
	       cuda_type_bytes(type);
}

static void let_go(void *arg)
{
	struct cuda_model *s = arg;

	cudaStreamSynchronize(s->context.stream);
	cuda_flight_let_go(s);
	s->matmul = cuda_matmul_free(s->matmul);
	cuda_memory_end(&s->kv);
	cuda_memory_end(&s->buffers);
	cuda_memory_end(&s->weights);
}

/* Inside. */
static int build(struct cuda_model *s, const struct model_options *o, struct err *err)
{
	int r = cuda_place_plan(s, o, err);

	if (r == 0)
		r = cuda_place_memory(s, o, err);
	if (r == 0)
		r = cuda_matmul_new(&s->matmul, &s->context, s->buf.matmul_workspace, err);
	if (r == 0)
		r = cuda_flight_init(s, err);
	if (r == 0)
		r = cuda_load_weights(s, o, err);
	if (r == 0)
		cuda_flight_look(s);
	return r;
}

static int open_model(struct model *m, const struct model_options *o, struct err *err)
{
	struct cuda_model *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "not enough memory for a model");
	m->state = s;
	s->m = m;
	r = cuda_context_open(&s->context, o->gpu, let_go, s, err);
	if (r < 0)
		return r;
	snprintf(s->describe, sizeof(s->describe), "cuda/%s", s->context.name);
	r = build(s, o, err);
	cuda_context_leave(&s->context);
	return r;
}

static void close_model(struct model *m)
{
	struct cuda_model *s = m->state;

	if (!s)
		return;
	cuda_context_close(&s->context);
	cuda_flight_end(s);
	free(s->matrix);
	free(s->vector);
	free(s);
	m->state = NULL;
}

static const char *describe(const struct model *m)
{
	const struct cuda_model *s = m->state;

	return s->describe;
}

static void stats(const struct model *m, struct backend_stats *out)
{
	struct cuda_model *s = m->state;
	bool idle = clock_mono_ns() - atomic_load(&s->window_ns) > MAX_IDLE_NS;

	*out = (struct backend_stats){
		.memory_used = atomic_load(&s->memory_used),
		.memory_free = atomic_load(&s->memory_free),
		.graph_hits = atomic_load(&s->graph_hits),
		.graph_misses = atomic_load(&s->graph_misses),
		.step_ns = atomic_load(&s->step_ns),
		.gap_ns = atomic_load(&s->gap_ns),
		.graphs_off = atomic_load(&s->graphs_off) ? s->graphs_why.text : NULL,
		.utilisation = idle ? 0 : atomic_load(&s->utilisation),
	};
}

static int upload_bitmap(
	struct cuda_model *s, uint32_t *to, const uint32_t *ids, size_t n, struct err *err)
{
	size_t bytes = s->sampler.n_words * sizeof(uint32_t);
	uint32_t *map = calloc(1, bytes);

	if (!map)
		return err_set(err, -ENOMEM, "not enough memory for a list of tokens");
	for (size_t i = 0; i < n; i++)
		if (ids[i] < s->m->config.n_vocab)
			map[ids[i] / 32] |= 1u << ids[i] % 32;
	int r = cuda_context_fault(&s->context,
		cudaMemcpyAsync(to, map, bytes, cudaMemcpyHostToDevice, s->context.stream),
		"copying a list of tokens", err);
	if (r == 0)
		r = cuda_context_fault(&s->context, cudaStreamSynchronize(s->context.stream),
			"copying a list of tokens", err);
	free(map);
	return r;
}

static int set_banned(struct model *m, const uint32_t *control, size_t n_control,
	const uint32_t *end, size_t n_end, struct err *err)
{
	struct cuda_model *s = m->state;
	int r = cuda_context_enter(&s->context, err);

	if (r < 0)
		return r;
	r = upload_bitmap(s, s->sampler.control, control, n_control, err);
	if (r == 0)
		r = upload_bitmap(s, s->sampler.ends, end, n_end, err);
	cuda_context_leave(&s->context);
	return r;
}

static const struct backend table = {
	.name = "cuda",
	.samples = true,
	.own_memory = true,
	.default_sequences = 256,
	.default_step_tok = 2048,
	.kv_block_bytes = kv_block_bytes,
	.open = open_model,
	.close = close_model,
	.describe = describe,
	.stats = stats,
	.set_banned = set_banned,
	.begin = cuda_flight_begin,
	.embed = cuda_stages_embed,
	.norm = cuda_stages_norm,
	.products = cuda_products_run,
	.rope_and_write = cuda_stages_rope_and_write,
	.attention = cuda_stages_attention,
	.keep = cuda_stages_keep,
	.activate = cuda_stages_activate,
	.sample = cuda_stages_sample,
	.end = cuda_flight_finish_issue,
	.finish = cuda_flight_finish,
};

int cuda_door_backend(const struct backend **out, uint32_t gpu, struct err *err)
{
	int r = cuda_context_check(gpu, err);

	*out = r == 0 ? &table : NULL;
	return r;
}
