/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_BACKEND_H
#define ENGINE_BACKEND_H

/*
 * What computes a model: a table of functions, one for each stage of a transformer. The transformer
 * itself stands once, in forward.c, as a list of calls to that table; cpu_backend.c is the table
 * over the processor's operations (ops.h), engine/cuda the one over a GPU.
 *
 * A stage reads and writes the rows of the step under way, which the back end keeps where and in
 * which type it likes; forward.c only names them (enum backend_rows). A stage returns nothing: what
 * it does may be done later, in the order of the calls, and an error is kept and told by finish. So
 * a back end may put several stages into one, or leave one until the next is known: the sum of a
 * product with `add`, for example, until the norm that reads it.
 *
 * Sizes: V n_vocab, E n_embd, H n_heads, G n_kv_heads, D head_dim, F n_ff; N rows of the step.
 *
 * Thread: all calls for a model come from one thread at a time; different models' may come at the
 * same time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/gguf.h"
#include "engine/model.h"
#include "engine/ops.h"

/* Rows of the step. Only x is read and written: the rest is what the last call left there. */
enum backend_rows {
	BACKEND_X,      /* [N][E] the residual stream */
	BACKEND_Q,      /* [N][H * D] */
	BACKEND_K,      /* [N][G * D] */
	BACKEND_V,      /* [N][G * D] */
	BACKEND_GATE,   /* [N][F] */
	BACKEND_UP,     /* [N][F] */
	BACKEND_LOGITS, /* [N][V] f32; N is n_picks by then */
};

enum backend_activation {
	BACKEND_SWIGLU, /* gate / (1 + exp(-gate)) * up */
	BACKEND_GEGLU,  /* gelu(gate) * up; no architecture we take has it yet */
};

/* out = w h (+ bias); add: out += w h (+ bias), only for BACKEND_X. */
struct backend_product {
	const struct ops_matrix *w; /* of m->weights; w->number is its place, see struct model */
	enum backend_rows out;
	bool add;
};

#define BACKEND_MAX_PRODUCTS 3

/* A step, laid out: borrowed for the call of begin, which copies what it needs later. */
struct backend_batch {
	const struct batch_run *runs; /* [n_runs], see model_begin */
	const struct model_pick
		*picks; /* [n_picks], of the logit rows in order; NULL: all want logits, no token */
	uint32_t n_runs, n_rows, n_picks;
	bool decode; /* every run is one row, and its logits are wanted */
};

/* For people and metrics; 0 where it is not known or means nothing. */
struct backend_stats {
	uint64_t memory_used, memory_free; /* of the device: all that is used, by whomever */
	uint64_t graph_hits, graph_misses; /* steps that were replayed; that had to be issued */
	/* Of the step that was finished last, as the device saw it: from its first launch to the
	 * end of its last; and how long before there was nothing of the model to compute, that is,
	 * copies to and from the host, and the host being late. */
	uint64_t step_ns, gap_ns;
	const char *graphs_off; /* why steps of some size, or all, are not replayed any more, or
				   NULL; borrows, as long as the model */
	float utilisation;      /* of the device, 0 to 1; negative: not known */
};

struct backend {
	const char *name; /* "cpu", "cuda" */
	/* It takes the tokens from the logits itself and steps may overlap: begin, begin, finish.
	 * Otherwise begin, finish; results have no tokens and all logits. */
	bool samples;
	bool own_memory; /* a device's: unless told, the KV pool takes what is free of it */
	uint32_t default_sequences, default_step_tok; /* engine_options' defaults with it */

	/* Bytes that KV_BLOCK_TOK tokens take in all layers. Before open. */
	size_t (*kv_block_bytes)(
		const struct gguf *g, const struct model_config *c, const struct model_options *o);

	/*
	 * The model is bound: config, weights (in the file's mapping), inv_freq, pool are there.
	 * Places the weights, makes rows for max_rows, tables for max_runs sequences of context_tok
	 * tokens and the KV pool, whose size in blocks it writes to m->kv_blocks; hangs what it has
	 * on m->state. Tells o->progress, and gives up with -ECANCELED when *o->stop. -ENOMEM with
	 * the numbers: it does not fit; -EINVAL, -ENOTSUP, -ENODEV, -EIO. close comes in any case.
	 */
	int (*open)(struct model *m, const struct model_options *o, struct err *err);
	/* Frees m->state, NULL or half-built too. Steps under way are waited for or given up. */
	void (*close)(struct model *m);

	/* borrows, as long as the model: "cpu/avx512", "cuda/NVIDIA H200". */
	const char *(*describe)(const struct model *m);
	/* Any thread, and at the same time as all else; a millisecond at most. */
	void (*stats)(const struct model *m, struct backend_stats *out);

	/* If it samples, else NULL: tokens never picked; tokens not picked with ignore_eos. Once,
	 * before the first begin. 0, -ENOMEM, -EIO. */
	int (*set_banned)(struct model *m, const uint32_t *control, size_t n_control,
		const uint32_t *end, size_t n_end, struct err *err);

	/* ---- a step ---- */

	/*
	 * Takes a step's tokens, positions, blocks and picks. 0: the stages follow. 1: what it
	 * captured of an equal step will be replayed; end follows at once. < 0: nothing follows.
	 */
	int (*begin)(struct model *m, const struct backend_batch *b, struct err *err);
	/* x = embeddings of the tokens. */
	void (*embed)(struct model *m);
	/* h = rms_norm(x) * weight; weight [E] is a vector of m->file.vectors. */
	void (*norm)(struct model *m, const float *weight);
	/* Products that all read h, what the last norm, attention or activate left: n <=
	 * BACKEND_MAX_PRODUCTS. */
	void (*products)(struct model *m, const struct backend_product *p, uint32_t n);
	/* Rotates q and k by position, scales q by 1 / sqrt(D), writes k and v to the KV pool. */
	void (*rope_and_write)(struct model *m, uint32_t layer);
	/* h [N][H * D] = attention of q over the positions up to its own. */
	void (*attention)(struct model *m, uint32_t layer);
	/* Only rows whose logits are wanted go on, of x and h: N becomes n_picks, which is not 0,
	 * in the order of the picks. Once a step, after the last attention. */
	void (*keep)(struct model *m);
	/* h [N][F] = f(gate, up). */
	void (*activate)(struct model *m, enum backend_activation f);
	/* Tokens from the logits, as the picks say. If it samples and picks were given. */
	void (*sample)(struct model *m);
	/* That is all of the step: it runs from now on, if it does not run already. 0; 1: it could
	 * not be replayed or captured, and nothing of it has run: all stages again, then end. */
	int (*end)(struct model *m);

	/*
	 * Waits for the oldest step begun and not finished. Fills results[n_picks of that step].
	 * facts and logits are borrowed until the next begin; logits of a step without picks lie
	 * one after another. -EIO with its sentence: the device failed; the model is of no use any
	 * more.
	 */
	int (*finish)(struct model *m, struct model_result *results, struct err *err);
};

/* The processor's. */
extern const struct backend cpu_backend;

#endif
