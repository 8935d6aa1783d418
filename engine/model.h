/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

/* A llama-architecture transformer: its sizes, its weights (bound to a file, every shape checked)
 * and its pass over a batch. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/gguf.h"
#include "engine/pool.h"

#define KV_BLOCK_TOK 16

struct model_config {
	uint32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab;
	uint32_t context_tok; /* what the file was trained for */
	uint32_t rope_dim;
	float norm_eps, rope_base;
};

struct model;

struct model_options {
	uint32_t n_threads;   /* >= 1 */
	const char *cpu_path; /* "scalar", "avx2", "avx512", NULL: the best */
	uint32_t max_rows;    /* most rows in one batch */
	uint32_t max_logit_rows;
	uint32_t kv_blocks; /* blocks of the KV pool */
	void (*progress)(void *arg, double fraction);
	void *progress_arg;
};

/* new *out; borrows g, which must outlive it. -EBADMSG (a shape that lies, a missing tensor),
 * -ENOTSUP, -EINVAL, -ENOMEM. */
int model_new(struct model **out, const struct gguf *g, const struct model_options *options,
	struct err *err);
struct model *model_free(struct model *m);

const struct model_config *model_config(const struct model *m);
const char *model_backend(const struct model *m); /* "cpu/avx512" */
uint64_t model_n_parameters(const struct model *m);
const char *model_file_type(const struct model *m);

/* Whether the file's architecture and sizes are ones that model_new takes: it says so before
 * anything is allocated. -EBADMSG, -ENOTSUP. */
int model_check_file(const struct gguf *g, struct err *err);

/* Bytes of KV cache a block of KV_BLOCK_TOK tokens takes: callable before model_new. 0 when the
 * file lacks the sizes. */
size_t model_kv_block_bytes(const struct gguf *g);

/*
 * One step. A batch is a list of runs; each run is some consecutive tokens of one sequence. The KV
 * rows of a run's tokens are written first, then its tokens attend to positions 0 .. their own. KV
 * row of position p of a sequence lives in block blocks[p / KV_BLOCK_TOK], row p % KV_BLOCK_TOK,
 * and rows below first_pos must have been written by earlier steps (perhaps for another sequence
 * with the same prefix). The numbers of a row depend on its own sequence only, to the bit: never on
 * the other runs, nor on how the tokens were cut into steps.
 */
struct batch_run {
	const uint32_t *ids;    /* [n] */
	uint32_t n;             /* >= 1 */
	uint32_t first_pos;     /* position of ids[0] */
	const uint32_t *blocks; /* [ceil((first_pos + n) / KV_BLOCK_TOK)], < kv_blocks */
	uint32_t n_logit_rows;  /* logits are wanted of the last n_logit_rows tokens of this run (0,
				   1, or more) */
};

/* logits: [sum of n_logit_rows][n_vocab] f32, in the order of the runs. sum of n <= max_rows; sum
 * of n_logit_rows <= max_logit_rows. Never fails; the caller checks gguf_damaged() afterwards. One
 * thread at a time. */
void model_step(struct model *m, const struct batch_run *runs, size_t n_runs, float *logits);

/* borrows: the model's threads, for other work between two steps (sampling). */
struct pool *model_pool(struct model *m);

#endif
