/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CPU_STATE_H
#define ENGINE_CPU_STATE_H

/* What the processor's back end hangs on a model, for the two files that are one object:
 * cpu_backend.c makes it and lays steps out, cpu_stages.c computes them. */

#include "engine/backend.h"
#include "engine/model_state.h"
#include "engine/ops.h"

/* One row of a step: one token of one run. */
struct cpu_row {
	uint32_t id, pos, block; /* of the KV pool */
};

/* Consecutive rows of one run that attend together. */
struct cpu_tile {
	uint32_t row, n;
	uint32_t first_pos;
	const uint32_t *blocks;
};

/* Memory of one step; N rows at most. Sizes as in backend.h. */
struct cpu_buffers {
	float *x;                   /* [N][E] */
	float *h;                   /* [N][max(E, H * D)] normalised x, or heads put together */
	float *q;                   /* [N][H * D] */
	float *k, *v;               /* [N][G * D] */
	float *gate;                /* [N][F] after activate: what the next product reads */
	float *up;                  /* [N][F] */
	float *logits;              /* [max_logit_rows][V] */
	uint8_t *q8;                /* [N] rows of ops_q8_row_bytes(max cols) */
	float *cs;                  /* [N][rope_dim] cosine and sine of each pair */
	struct cpu_row *row;        /* [N] */
	struct cpu_tile *attn_tile; /* [N] */
	uint32_t *q8_tile;          /* [N] first row of each tile of ops_acts */
};

struct cpu_state {
	const struct ops *ops;
	struct cpu_buffers buf;
	struct ops_kv kv;
	size_t kv_bytes;

	/* The step under way. */
	uint32_t n_rows, n_q8_tiles, n_attn_tiles; /* rows: after keep fewer than it began with */
	uint32_t n_picks;
	uint32_t *kept; /* [max_logit_rows] the rows that go on after keep */
	const float *h; /* what products read: buf.h or buf.gate, [n_rows][h_cols] */
	uint32_t h_cols;
	bool h_is_quantised; /* in buf.q8 too */
	bool is_under_way;
};

/* Rows 0 .. n - 1 are what the stages work on from now on. */
void cpu_stages_set_rows(struct cpu_state *s, uint32_t n);

/* The stages of struct backend. */
void cpu_stages_embed(struct model *m);
void cpu_stages_norm(struct model *m, const float *weight);
void cpu_stages_products(struct model *m, const struct backend_product *p, uint32_t n);
void cpu_stages_rope_and_write(struct model *m, uint32_t layer);
void cpu_stages_attention(struct model *m, uint32_t layer);
void cpu_stages_keep(struct model *m);
void cpu_stages_activate(struct model *m, enum backend_activation f);

#endif
