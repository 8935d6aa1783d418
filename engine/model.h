/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

/* A llama-architecture transformer: its sizes, its weights (bound to a file, every shape checked)
 * and its pass over a batch. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"
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
struct backend;
struct backend_stats;
struct sampler_asked;
struct sampler_facts;
struct sampler_history;

struct model_options {
	const struct backend *backend; /* NULL: the processor's */
	uint32_t n_threads;            /* >= 1 */
	const char *cpu_path;          /* "scalar", "avx2", "avx512", NULL: the best */
	uint32_t gpu;                  /* number of the device, of a back end that has devices */
	bool fp8, kv_fp8; /* weights; KV rows: as E4M3, of a back end and device that can */
	bool tails; /* for measurements: products of few rows do the norm or activation behind them
		     */
	double memory_share; /* of the device's free memory that may be taken; 0: as below */
	/* For measurements: KB of a matrix that a device may have in its cache before its product;
	 * <= 0: none. */
	int32_t ahead_kb;
	uint32_t max_rows; /* most rows in one batch */
	uint32_t max_runs; /* most runs in one batch; 0: max_rows */
	uint32_t max_logit_rows;
	uint32_t context_tok; /* the longest sequence; 0: what the file was trained for */
	uint32_t kv_blocks;   /* blocks of the KV pool */
	bool kv_may_shrink;   /* fewer blocks, one at least, are better than an error */
	/* For measurements: from how many rows on a back end that has several ways multiplies
	 * quantised weights as bf16, made so where they are multiplied and in memory first; 0: as
	 * is best on the device. */
	uint32_t wide_rows, dense_rows;
	void (*progress)(void *arg, double fraction);
	void *progress_arg;
	const volatile bool *stop; /* may be NULL: loading is given up when it becomes true */
};

/* The memory_share that is meant. */
static inline double model_memory_share(double given)
{
	return given > 0 ? given : 0.9;
}

/* new *out; borrows g, which must outlive it. -EBADMSG (a shape that lies, a missing tensor),
 * -ENOTSUP, -EINVAL, -ENOMEM. */
int model_new(struct model **out, const struct gguf *g, const struct model_options *options,
	struct err *err);
struct model *model_free(struct model *m);

const struct model_config *model_config(const struct model *m);
const char *model_backend(const struct model *m); /* "cpu/avx512" */
bool model_samples(const struct model *m);        /* struct backend: samples */
uint32_t model_kv_blocks(const struct model *m);  /* what became of options.kv_blocks */
bool model_has_fp8(const struct model *m);        /* what became of options.fp8: some weights are */
/* Any thread. */
void model_device_stats(const struct model *m, struct backend_stats *out);
uint64_t model_n_parameters(const struct model *m);
const char *model_file_type(const struct model *m);

/* Whether the file's architecture and sizes are ones that model_new takes: it says so before
 * anything is allocated. -EBADMSG, -ENOTSUP. */
int model_check_file(const struct gguf *g, struct err *err);

/* Bytes of KV cache a block of KV_BLOCK_TOK tokens takes with options->backend: callable before
 * model_new. 0 when the file lacks the sizes. */
size_t model_kv_block_bytes(const struct gguf *g, const struct model_options *options);

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
	/* 0; or k + 1: the last token is what pick k of the step before, not finished yet, takes,
	 * and ids[n - 1] means nothing. Only of a model that samples. */
	uint32_t follows;
};

/* How a token is taken from a row of logits, by a model that samples. */
struct model_pick {
	struct engine_sampling how;
	uint64_t position;    /* of the token to be: it goes with how.seed into the random number */
	const uint32_t *mask; /* bit id % 32 of word id / 32: token id is allowed; NULL: all are */
	bool ignore_eos;      /* end tokens are not taken */
	/*
	 * Biases and penalties (engine/sampler.h), or NULL: none. A model that samples keeps the
	 * history of a sequence in a place of its own and adds to it each token it takes, so that
	 * it may run ahead: it copies this one only when `fresh`, into place `slot`, which is below
	 * max_runs and the sequence's alone until another comes to it, fresh.
	 */
	const struct sampler_history *history;
	uint32_t slot;
	bool fresh;
	/* What the host wants to know of the row beside its token; NULL: nothing. */
	const struct sampler_asked *asked;
};

struct model_result {
	uint32_t id; /* SAMPLER_NONE: no logit is a number, or the model does not sample */
	/* What the pick asked, of a model that samples; else NULL. */
	const struct sampler_facts *facts;
	float *logits; /* [n_vocab] the caller may write there; NULL of a model that sampled */
};

/*
 * Begins a step: it is computed when this returns, or later. picks: one for each row whose logits
 * are wanted, in the order of the runs; NULL: all logits are wanted and no tokens. Nothing is
 * borrowed beyond the call. sum of n <= max_rows; of n_logit_rows <= max_logit_rows. Of a model
 * that samples two steps may be under way, else one. -EIO: the device failed, with its sentence.
 * The caller checks gguf_changed() afterwards.
 */
int model_begin(struct model *m, const struct batch_run *runs, size_t n_runs,
	const struct model_pick *picks, struct err *err);

/* Waits for the oldest step under way and fills results[sum of its n_logit_rows]; facts and logits
 * there are borrowed until the next model_begin. -EIO: the device failed, with its sentence. */
int model_finish(struct model *m, struct model_result *results, struct err *err);

/* Both, for tests and benchmarks: *logits [sum of n_logit_rows][n_vocab], borrowed until the next
 * step. No other step may be under way. */
int model_step(struct model *m, const struct batch_run *runs, size_t n_runs, const float **logits,
	struct err *err);

/* Of a model that samples: control tokens are never taken, end tokens not with ignore_eos. Once,
 * before the first step; else without effect. 0, -ENOMEM, -EIO. */
int model_set_banned(struct model *m, const uint32_t *control, size_t n_control,
	const uint32_t *end, size_t n_end, struct err *err);

/* borrows: the model's threads, for other work between two steps (sampling). */
struct pool *model_pool(struct model *m);

#endif
