/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_STATE_H
#define ENGINE_CUDA_STATE_H

/*
 * What a model is on a device, for the files that are one object: place.c says where everything
 * lies, buffers.c what steps need, load.c brings the weights there, upload.c and flight.c begin and
 * finish steps, graphs.c replays them, stages.c and products.c issue what is between, ahead.c says
 * which weights launches ask for besides. Sizes as in backend.h.
 */

#include <stdatomic.h>

#include "engine/backend.h"
#include "engine/cuda/attention.h"
#include "engine/cuda/context.h"
#include "engine/cuda/matmul.h"
#include "engine/cuda/memory.h"
#include "engine/cuda/quant.h"
#include "engine/cuda/sample.h"
#include "engine/cuda/step.h"
#include "engine/cuda/spread.h"
#include "engine/model_state.h"

/* ---- weights ---- */

/* A matrix on the device. Number 0, the embedding, lies as in the file and is only gathered from;
 * all others are multiplied. */
struct cuda_matrix {
	enum tensor_type file_type;
	enum cuda_type reads; /* what its products read: F32, F16, BF16, E4M3, Q8 */
	uint32_t rows, cols;
	uint8_t *data;     /* [rows][cols], plain or e4m3; or repacked by quant.h */
	float *scale;      /* [rows] of e4m3, else NULL */
	const float *bias; /* [rows] or NULL */
};

/* A norm's weight or a bias, which the model knows by its address in host memory. */
struct cuda_vector {
	const float *host;
	uint32_t n;
	float *data;
};

/* ---- memory of a step ---- */

struct cuda_buffers {
	float *x;                    /* [rows][E] the residual */
	float *x_kept;               /* [logit rows][E] of it, after keep */
	uint8_t *qkv;                /* [rows][ld_qkv] act */
	uint8_t *heads, *heads_kept; /* [rows], [logit rows][H * D] act */
	uint8_t *glu;                /* [rows][ld_glu] act: gate, up */
	uint8_t *h;                  /* what products read, of the type they read */
	uint8_t *gated;              /* [CUDA_GEMV_MAX_ROWS][F] q8: h of a tail (tail.h) */
	float *h_scale;              /* [rows] of e4m3 */
	float *scratch;              /* [rows][n_scratch] products that are not done yet */
	float *logits;               /* [logit rows][ld_logits] f32 */
	uint32_t *picked;            /* [logit rows] tokens of the newest step */
	struct sampler_facts *facts; /* [logit rows] of those that ask */
	float *cs;                   /* [context][rope_dim] */
	uint8_t *upload;             /* as struct cuda_layout says */
	uint32_t *masks;             /* [logit rows][n_words] */
	uint8_t *unpacked;           /* [CUDA_UNPACKED_BYTES], if this device wants it */
	uint32_t *history;           /* [context] tokens of a sequence whose history is new */
	struct sample_bias *biases;  /* its biases */
	uint8_t *product_workspace, *matmul_workspace, *attention_workspace, *sampler;
	size_t ld_qkv, k_at, v_at; /* values */
	size_t ld_glu, up_at;
	size_t n_scratch, ld_logits;
	size_t h_bytes, attention_bytes, sampler_bytes, unpacked_bytes;
};

/* Where in the upload of a step what lies; all offsets are bytes. One copy brings it over, from the
 * beginning to the end of the blocks in use. */
struct cuda_layout {
	size_t given, source, pos, slot, run;    /* [rows] */
	size_t first_row, first_pos, block_from; /* [runs + 1] */
	size_t logit_row;                        /* [logit rows] */
	size_t sample;                           /* [logit rows] struct sample_row */
	size_t blocks;                           /* tables of the runs, one behind the other */
	size_t bytes;
};

/* ---- steps ---- */

/* A step that was begun and not finished yet. Pinned, but for what the caller gets: that is not the
 * device's, so always there. */
struct cuda_flight {
	uint8_t *upload;
	uint32_t *masks;             /* [logit rows][n_words] */
	uint32_t *picked;            /* [logit rows] */
	struct sampler_facts *facts; /* [logit rows] */
	uint8_t *said;               /* histories that are new, each with its biases; grows */
	size_t said_bytes;           /* room there */
	float *logits;               /* of a step without picks; grows */
	size_t logits_rows;          /* room there */
	uint32_t n_picks, n_masks;
	bool *asks;                 /* [logit rows] of which facts are wanted */
	bool has_facts;             /* of some row */
	uint32_t *tokens;           /* picked, for the caller */
	struct sampler_facts *told; /* facts, for the caller */
	float *copied;              /* logits, for the caller; grows */
	size_t copied_rows;
	bool sampled;
	int fault;           /* of issuing it */
	cudaEvent_t started; /* before its first launch */
	cudaEvent_t ended;   /* results are there: what the host waits for */
};

#define CUDA_UNPACKED_BYTES ((size_t)64 << 20) /* of quantised weights, as bf16 */

#define CUDA_N_FLIGHTS 2
#define CUDA_N_COMPUTED 4 /* more than flights; numbers of steps begin again at 2^32 */
#define CUDA_N_BUCKETS 14 /* of decode steps that are captured */
#define CUDA_N_GRAPHS (2 * CUDA_N_BUCKETS)

struct cuda_captured {
	cudaGraphExec_t exec; /* NULL: not captured yet */
	bool warm;            /* the step ran once without, so nothing is set up any more */
	bool off;             /* it failed */
};

/* Where h comes from: it is made when a product says of which type it is to be. */
enum cuda_source {
	CUDA_FROM_NOTHING,
	CUDA_FROM_NORM,
	CUDA_FROM_HEADS,
	CUDA_FROM_KEPT,
	CUDA_FROM_GLU
};

/* What launches may ask for: weights of the product that comes next, from `from` + at on, up to
 * end. */
struct cuda_asked {
	const uint8_t *from;
	size_t at, end;
};

/* Which launch asks. */
enum cuda_asker {
	CUDA_ASKER_PRODUCT,
	CUDA_ASKER_NORMED, /* a product whose last block makes the norm behind it */
	CUDA_ASKER_ROWS,   /* norm, activation, conversion */
	CUDA_ASKER_ROPE,
	CUDA_ASKER_ATTENTION,
	CUDA_ASKER_SAMPLING,
	CUDA_ASKER_EMBEDDING
};

/* The step that is being issued, between begin and end. */
struct cuda_issue {
	uint32_t n_rows, n_runs, n_picks; /* as launched, with padding */
	uint32_t rows;                    /* n_rows, after keep n_picks */
	bool decode;
	bool identity; /* keep keeps all rows in their order */
	bool sampled;  /* there are picks */
	bool facts;    /* some pick asks for them */
	int graph;     /* of captured, or -1 */
	bool replaying;
	float *x;
	enum cuda_source source;
	const float *norm; /* on the device */
	uint32_t layer;    /* of the attention that is due */
	struct attention_step attention;
	enum backend_activation f;
	bool made; /* h is there, of type made_type */
	enum cuda_type made_type;
	struct cuda_asked asked;
	const uint8_t *h; /* where: buf.h, or buf.glu or buf.gated after a gated product */
	const struct cuda_matrix *gate; /* a product with gate and up that waits for activate */
	const struct cuda_matrix *late; /* one that adds to x and waits for the norm */
	int fault;                      /* the first; nothing is issued any more */
	struct err err;
};

struct cuda_model {
	struct cuda_context context;
	struct model *m; /* borrows */
	char describe[160];
	enum cuda_type act, kv_type;
	struct cuda_quant_limits limits; /* of products of quantised weights */

	struct cuda_memory weights, buffers, kv;
	struct cuda_matrix *matrix; /* [n_matrices] by number */
	uint32_t n_matrices;
	struct cuda_vector *vector; /* [n_vectors] by address */
	uint32_t n_vectors;
	struct cuda_buffers buf;
	struct cuda_layout layout;
	struct cuda_rows rows;
	struct attention_shape attention;
	struct sample_state sampler;
	struct cuda_matmul *matmul;
	uint8_t *kv_data;                       /* [layers][K, V][kv_half] */
	size_t kv_half;                         /* bytes of K, or of V, of a layer */
	uint32_t max_rows, max_runs, max_picks; /* with padding */
	uint32_t max_blocks;                    /* of a sequence */
	uint32_t n_words;                       /* of a mask */
	size_t ahead_bytes; /* most of a matrix that is asked for before its product; 0: nothing */

	struct cuda_issue issue;
	struct cuda_flight flight[CUDA_N_FLIGHTS];
	uint32_t n_begun, n_finished;
	/* Behind the last launch of steps, by their number: that of the one before a step which is
	 * finished is still there while the one behind it is under way. */
	cudaEvent_t computed[CUDA_N_COMPUTED];
	struct cuda_captured captured[CUDA_N_GRAPHS]; /* of each bucket without and with facts */
	bool no_graphs;                               /* of any size */
	bool tails;  /* products may take what follows them (tail.h) */
	bool failed; /* with failure: nothing is begun any more */
	struct err failure;

	/* For cuda_backend.stats, which any thread calls. */
	atomic_ullong memory_used, memory_free, graph_hits, graph_misses;
	/* Steps of a size, or all, are issued one by one; then graphs_why stays as it is. */
	atomic_bool graphs_off;
	struct err graphs_why;
	atomic_ullong step_ns, gap_ns; /* of the step that was finished last */
	atomic_ullong busy_ns;         /* of the window that is not over */
	atomic_ullong window_ns;       /* when it began */
	_Atomic float utilisation;
};

/* ---- between the files ---- */

/* What the model is on the device: act, matrices, vectors, buffers, layout; no memory yet. 0,
 * -ENOMEM, -ENOTSUP, -EINVAL. */
int cuda_place_plan(struct cuda_model *s, const struct model_options *o, struct err *err);
/* Gets the memory: weights, buffers, KV pool; m->kv_blocks. Inside. */
int cuda_place_memory(struct cuda_model *s, const struct model_options *o, struct err *err);
/* The matrix's products are computed as one with those of the `n` - 1 that follow it. */
bool cuda_place_joins(const struct cuda_matrix *first, const struct cuda_matrix *next);
/* Bytes of a matrix but the embedding. */
size_t cuda_place_matrix_bytes(const struct cuda_matrix *w);
/* By its address in the model's memory; NULL stays NULL. */
float *cuda_place_vector(const struct cuda_model *s, const float *host);
/* The buffers of a step: how large; counted or cut up; addresses within them. */
void cuda_buffers_plan(struct cuda_model *s);
void cuda_buffers_lay(struct cuda_model *s);
void cuda_buffers_point(struct cuda_model *s);
struct cuda_kv cuda_place_kv(const struct cuda_model *s, uint32_t layer);
/* The type that q, k, v and so on have, by that of the weights. */
enum cuda_type cuda_place_act(enum tensor_type type);

/* Memory of the device that loading takes for a while. */
size_t cuda_load_staging_bytes(const struct cuda_model *s);
/* Brings weights, vectors and the table of rotations to the device, and clears what steps expect
 * cleared. Inside. -ECANCELED. */
int cuda_load_weights(struct cuda_model *s, const struct model_options *o, struct err *err);

/* Steps of a model, as backend.h says of begin, end, finish. */
int cuda_flight_init(struct cuda_model *s, struct err *err); /* inside */
void cuda_flight_let_go(struct cuda_model *s);               /* what is the device's */
/* How much memory of the device is free, for the figures. Inside. */
void cuda_flight_look(struct cuda_model *s);
void cuda_flight_end(struct cuda_model *s); /* the rest */
int cuda_flight_begin(struct model *m, const struct backend_batch *b, struct err *err);
int cuda_flight_finish_issue(struct model *m);
/* Directly before the first launch of the step that is issued. Not into a capture. */
int cuda_flight_start(struct cuda_model *s, struct err *err);
int cuda_flight_finish(struct model *m, struct model_result *results, struct err *err);

/* Steps as graphs (graphs.c), inside. Before the stages: 1, they are not wanted, a graph will be
 * replayed. After them: 0; 1, nothing of the step has run and its stages are to be issued again,
 * without a graph. */
int cuda_graphs_choose(struct cuda_model *s);
int cuda_graphs_end(struct cuda_model *s);
void cuda_graphs_let_go(struct cuda_model *s);

/* Room in f->said for the histories that are new; then these into their slots, before the step's
 * kernels. */
int cuda_upload_make_room(struct cuda_model *s, struct cuda_flight *f,
	const struct backend_batch *b, struct err *err);
int cuda_upload_histories(struct cuda_model *s, struct cuda_flight *f,
	const struct backend_batch *b, struct err *err);
/* Writes what a step is to f->upload and f->masks, and the issue. Returns the bytes to copy. */
size_t cuda_upload_write(
	struct cuda_model *s, struct cuda_flight *f, const struct backend_batch *b);
/* Rows of a step, rounded up to a number for which there is a graph, or to one of few. */
uint32_t cuda_upload_round(uint32_t n, bool decode);
int cuda_upload_bucket(uint32_t n_rounded);

/* Weights asked for ahead of their product (ahead.c): how much of a matrix may be, by what the
 * options say; 0: nothing. */
size_t cuda_ahead_most(const struct model_options *o);
/* Before the first launch of a step. */
void cuda_ahead_begin(struct cuda_model *s);
/* Directly before the product of matrix `number`, or of several that end with it: from here on it
 * is the one behind it that is asked for. */
void cuda_ahead_pass(struct cuda_model *s, uint32_t number);
/* The next piece, for the launch that is about to be made. */
struct cuda_ahead cuda_ahead_take(struct cuda_model *s, enum cuda_asker asker);

/* The stages of backend.h. */
void cuda_stages_embed(struct model *m);
void cuda_stages_norm(struct model *m, const float *weight);
void cuda_stages_rope_and_write(struct model *m, uint32_t layer);
void cuda_stages_attention(struct model *m, uint32_t layer);
void cuda_stages_keep(struct model *m);
void cuda_stages_activate(struct model *m, enum backend_activation f);
void cuda_stages_sample(struct model *m);
/* Makes h of this type, unless it is. True: go on. */
bool cuda_stages_h(struct cuda_model *s, enum cuda_type type);
/* A fault has ended the step: nothing more is issued. */
static inline bool cuda_stages_is_over(const struct cuda_model *s)
{
	return s->issue.fault != 0;
}
/* Whether the products of quantised weights of a step of so many rows read bf16, and not q8. */
static inline bool cuda_products_read_bf16(const struct cuda_model *s, uint32_t n_rows)
{
	return n_rows >= s->limits.wide || n_rows >= s->limits.dense;
}
void cuda_products_run(struct model *m, const struct backend_product *p, uint32_t n);
/* The product of issue.gate, activated: h is made, for the product behind it. */
void cuda_products_run_gated(struct cuda_model *s, enum rows_gate kind);
/* The product of issue.late, if there is one. tail: what it is to do with x, or NULL. */
void cuda_products_run_late(struct cuda_model *s, const struct cuda_tail *tail);
/* Of a code: the issue's fault, with what was being done. True: go on. */
bool cuda_stages_check(struct cuda_model *s, int code, const char *doing);

#endif
