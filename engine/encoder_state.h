/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_ENCODER_STATE_H
#define ENGINE_ENCODER_STATE_H

/* What an encoder is, for the two files that are one object: encoder.c makes it, encoder_step.c
 * steps it. */

#include "engine/encoder.h"
#include "engine/ops.h"
#include "engine/pool.h"
#include "engine/weights.h"

/* Names of sizes: V n_vocab, E n_embd = H * D, H n_heads, D head_dim, F n_ff, C positions, T types.
 */

struct encoder_norm {
	float *weight, *bias; /* [E] */
};

struct encoder_layer {
	struct ops_matrix q, k, v, attn_out; /* [E][E] */
	struct encoder_norm attn_norm;
	struct ops_matrix up;   /* [F][E] */
	struct ops_matrix down; /* [E][F] */
	struct encoder_norm out_norm;
};

struct encoder_weights {
	struct ops_matrix embd;      /* [V][E] */
	struct ops_matrix positions; /* [C][E] */
	struct ops_matrix types;     /* [T][E] */
	struct encoder_norm embd_norm;
	struct encoder_layer *layer; /* [n_layers] */
};

/* One row of a step: one token of one text. */
struct encoder_row {
	uint32_t id, pos, block;
};

/* Consecutive rows of one text that attend together. */
struct encoder_tile {
	uint32_t row, n;
	uint32_t n_pos;         /* tokens of the text */
	const uint32_t *blocks; /* of the text */
};

/* Memory of one step; N rows at most. */
struct encoder_buffers {
	float *x;         /* [N][E] the residual stream */
	float *q, *k, *v; /* [N][E]; q becomes the heads put together */
	float *up;        /* [N][F] */
	uint8_t *acts;    /* [N] rows as products read them */
	struct encoder_row *row;
	struct encoder_tile *tile; /* [N] */
	uint32_t *act_tile;        /* [N] first row of each tile of ops_acts */
	uint32_t *blocks;          /* [N / 16 + max_texts] 0, 1, 2 ... */
};

struct encoder {
	struct encoder_config config;
	struct encoder_weights weights;
	struct encoder_buffers buf;
	struct ops_kv kv; /* of one layer: the next one overwrites it */
	size_t kv_bytes;
	const struct gguf *gguf;
	const struct ops *ops;
	struct pool *pool;
	struct weights file;
	float *type; /* [E] the first row of types, as f32 */
	uint32_t max_rows, max_texts;
	bool wide; /* products in the wide form; else all matrices are quantised */
	const char *file_type;
};

#endif
