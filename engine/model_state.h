/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_MODEL_STATE_H
#define ENGINE_MODEL_STATE_H

/* What a model is, for the two files that are one object: model.c makes it, forward.c steps it. */

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

/* Memory of one step; N rows at most. */
struct model_buffers {
	float *x; /* [N][E] the residual stream */
	float *h; /* [N][max(E, H * D)] what a product reads: normalised x, or heads put together */
	float *q; /* [N][H * D] */
	float *k, *v;                 /* [N][G * D] */
	float *gate, *up;             /* [N][F] */
	uint8_t *q8;                  /* [N] rows of ops_q8_row_bytes(max cols) */
	float *cs;                    /* [N][rope_dim] cosine and sine of each pair */
	struct model_row *row;        /* [N] */
	struct model_tile *attn_tile; /* [N] */
	uint32_t *q8_tile;            /* [N] first row of each tile of ops_acts */
};

/* One row of a step: one token of one run. */
struct model_row {
	uint32_t id, pos, block; /* of the KV pool */
};

/* Consecutive rows of one run that attend together. */
struct model_tile {
	uint32_t row, n;
	uint32_t first_pos;
	const uint32_t *blocks;
};

struct model {
	struct model_config config;
	struct model_weights weights;
	struct model_buffers buf;
	struct ops_kv kv;
	const struct gguf *gguf;
	const struct ops *ops;
	struct pool *pool;
	float *inv_freq; /* [rope_dim / 2] radians a position, scaling applied */
	uint32_t max_rows, max_logit_rows;
	const char *file_type;
	struct weights file; /* where the tensors come from */
	size_t kv_bytes;
};

#endif
