/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_MODEL_STATE_H
#define ENGINE_MODEL_STATE_H

/* What a model is, for the two files that are one object: model.c makes it, forward.c steps it. */

#include "engine/backend.h"
#include "engine/model.h"
#include "engine/ops.h"
#include "engine/pool.h"
#include "engine/weights.h"

/* Names of sizes: V n_vocab, E n_embd, H n_heads, G n_kv_heads, D head_dim, F n_ff. */

struct model_layer {
	float *attn_norm;           /* [E] */
	struct ops_matrix q;        /* [H * D][E] */
	struct ops_matrix k, v;     /* [G * D][E] */
	struct ops_matrix attn_out; /* [E][H * D] */
	float *ffn_norm;            /* [E] */
	struct ops_matrix gate, up; /* [F][E] */
	struct ops_matrix down;     /* [E][F] */
};

struct model_weights {
	struct ops_matrix embd;    /* [V][E]; never multiplied unless tied */
	struct model_layer *layer; /* [n_layers] */
	float *out_norm;           /* [E] */
	struct ops_matrix out;     /* [V][E]; embd again when tied */
};

/*
 * Matrices are numbered (ops_matrix.number): 0 embd, 1 out, then 2 + 7 * layer + 0 .. 6 for q, k,
 * v, attn_out, gate, up, down: a back end finds what it made of one by that. A tied `out` is a copy
 * of embd with number 1 and the same data. Vectors (norms, biases) are copies in f32 and lie one
 * after another in file.vectors [file.n_vectors]: a back end may copy them as a whole and find one
 * by its distance from the beginning.
 */
struct model {
	struct model_config config;
	struct model_weights weights;
	const struct gguf *gguf;
	const struct backend *backend;
	void *state; /* the back end's */
	struct pool *pool;
	float *inv_freq; /* [rope_dim / 2] radians a position, scaling applied */
	uint32_t max_rows, max_runs, max_logit_rows, context_tok, kv_blocks;
	bool has_fp8; /* some weights are E4M3: a back end says so when it opens the model */
	const char *file_type;
	struct weights file;               /* where the tensors come from */
	struct model_result *step_results; /* [max_logit_rows + 1] of model_step */
};

/* The matrix of that number; NULL at the end. */
struct ops_matrix *model_matrix(struct model *m, size_t number);

#endif
