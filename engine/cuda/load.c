/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The weights' way from the file to the device. It goes in pieces through two pinned buffers: while
 * the device copies one, and repacks what came with it, the model's threads read the next from the
 * file's mapping, each some pages ahead of its copying, so that the disk has work for all of them.
 * A piece is so many bytes of a matrix that stays as it is, or so many whole tiles of 16 rows of
 * one that is repacked or made e4m3, which pass through a second pair of buffers on the device.
 *
 * A file that is truncated meanwhile gives zeros (mapping.h), and whoever opens the model looks for
 * that at the end.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/cuda/rows.h"
#include "engine/cuda/state.h"

#define PIECE_BYTES ((size_t)16 << 20)
#define UNIT_BYTES ((size_t)512 << 10) /* that a thread reads at once */
#define TILE_ROWS CUDA_QUANT_TILE_ROWS

struct loader {
	struct cuda_model *s;
	const struct model_options *o;
	uint8_t *pinned[2], *staging[2];
	cudaEvent_t free[2]; /* the device is done with that pair */
	size_t piece_bytes;
	uint32_t n_pieces; /* so far: the next pair is n_pieces % 2 */
	size_t done, total;
	struct cuda_memory memory;
};

/* A piece being read. */
struct reading {
	const uint8_t *from;
	uint8_t *to;
	size_t n;
};

static size_t row_bytes(const struct cuda_matrix *w)
{
	const struct tensor_type_info *t = tensor_type_info(w->file_type);

	return (size_t)w->cols / t->block_values * t->block_bytes;
}

static size_t piece_bytes(const struct cuda_model *s)
{
	size_t most = PIECE_BYTES;

	for (uint32_t i = 1; i < s->n_matrices; i++) {
		size_t tile = TILE_ROWS * row_bytes(&s->matrix[i]);
		most = tile > most ? tile : most;
	}
	return most;
}

size_t cuda_load_staging_bytes(const struct cuda_model *s)
{
	return 2 * (piece_bytes(s) + 256);
}

/* ---- reading ---- */

static void read_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct reading *r = arg;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	(void)thread;
	for (uint32_t i = first; i < last; i++) {
		size_t at = i * UNIT_BYTES, n = r->n - at < UNIT_BYTES ? r->n - at : UNIT_BYTES;
		uintptr_t start = (uintptr_t)(r->from + at) / page * page;
#ifdef MADV_POPULATE_READ
		/* Advice: all its pages in one go. What it cannot do, the copying does. */
		madvise((void *)start, (uintptr_t)(r->from + at + n) - start, MADV_POPULATE_READ);
#else
		(void)start;
#endif
		memcpy(r->to + at, r->from + at, n);
	}
}

/* Fills the next pinned buffer, once the device is done with it; which one it is. */
static int read_piece(
	struct loader *l, const uint8_t *from, size_t n, uint32_t *pair, struct err *err)
{
	uint32_t p = l->n_pieces++ % 2;
	struct reading reading = {from, l->pinned[p], n};
	int r = 0;

	if (l->o->stop && __atomic_load_n(l->o->stop, __ATOMIC_RELAXED))
		return err_set(err, -ECANCELED, "loading was cancelled");
	if (l->n_pieces > 2)
		r = cuda_context_fault(
			&l->s->context, cudaEventSynchronize(l->free[p]), "copying weights", err);
	if (r == 0)
		pool_run(l->s->m->pool, read_units, &reading,
			(uint32_t)((n + UNIT_BYTES - 1) / UNIT_BYTES), 1);
	*pair = p;
	return r;
}

/* Behind everything that reads the pair. */
static int end_piece(struct loader *l, uint32_t pair, size_t n, struct err *err)
{
	int r = cuda_context_fault(&l->s->context,
		cudaEventRecord(l->free[pair], l->s->context.stream), "copying weights", err);

	l->done += n;
	if (r == 0 && l->o->progress)
		l->o->progress(l->o->progress_arg, (double)l->done / (double)l->total);
	return r;
}

static int copy(struct loader *l, void *to, const void *from, size_t n, struct err *err)
{
	return cuda_context_fault(&l->s->context,
		cudaMemcpyAsync(to, from, n, cudaMemcpyHostToDevice, l->s->context.stream),
		"copying weights", err);
}

/* ---- matrices ---- */

/* Bytes that stay as they are. */
static int load_plain(
	struct loader *l, uint8_t *to, const uint8_t *from, size_t bytes, struct err *err)
{
	int r = 0;

	for (size_t at = 0, n; r == 0 && at < bytes; at += n) {
		uint32_t pair = 0;

		n = bytes - at < l->piece_bytes ? bytes - at : l->piece_bytes;
		r = read_piece(l, from + at, n, &pair, err);
		if (r == 0)
			r = copy(l, to + at, l->pinned[pair], n, err);
		if (r == 0)
			r = end_piece(l, pair, n, err);
	}
	return r;
}

/* Rows first .. first + n - 1, which are in staging, to their places. */
static int place_rows(const struct loader *l, const struct cuda_matrix *w, uint32_t first,
	uint32_t n, const uint8_t *staging)
{
	cudaStream_t stream = l->s->context.stream;

	if (w->reads == CUDA_TYPE_Q8)
		return cuda_quant_repack(
			w->file_type, w->rows, w->cols, first, n, staging, w->data, stream);
	struct rows_out e4m3 = {.type = CUDA_TYPE_E4M3,
		.data = w->data + (size_t)first * w->cols,
		.scale = w->scale + first};
	return rows_convert(staging, cuda_place_act(w->file_type), n, w->cols, &e4m3, stream);
}

static int load_tiles(
	struct loader *l, const struct cuda_matrix *w, const uint8_t *from, struct err *err)
{
	size_t row = row_bytes(w);
	uint32_t most = (uint32_t)(l->piece_bytes / row) / TILE_ROWS * TILE_ROWS;
	int r = 0;

	for (uint32_t first = 0, n; r == 0 && first < w->rows; first += n) {
		uint32_t pair = 0;

		n = w->rows - first < most ? w->rows - first : most;
		r = read_piece(l, from + first * row, n * row, &pair, err);
		if (r == 0)
			r = copy(l, l->staging[pair], l->pinned[pair], n * row, err);
		if (r == 0)
			r = cuda_context_fault(&l->s->context,
				place_rows(l, w, first, n, l->staging[pair]), "repacking weights",
				err);
		if (r == 0)
			r = end_piece(l, pair, n * row, err);
	}
	return r;
}

/* Whether the matrix is one that another has brought over already. */
static bool is_there(const struct cuda_model *s, uint32_t i)
{
	return i == 1 && s->matrix[1].data == s->matrix[0].data;
}

static int load_matrix(struct loader *l, uint32_t i, struct err *err)
{
	const struct cuda_matrix *w = &l->s->matrix[i];
	const uint8_t *from = model_matrix(l->s->m, i)->data;

	if (is_there(l->s, i))
		return 0;
	return i == 0 || (w->reads != CUDA_TYPE_Q8 && w->reads != CUDA_TYPE_E4M3)
		       ? load_plain(l, w->data, from, w->rows * row_bytes(w), err)
		       : load_tiles(l, w, from, err);
}

/* ---- what is not in the file ---- */

struct angles {
	const struct model *m;
	float *out; /* [n][rope_dim] */
	uint32_t first;
};

static void angle_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct angles *a = arg;
	uint32_t n = a->m->config.rope_dim;

	(void)thread;
	for (uint32_t i = first; i < last; i++) {
		for (uint32_t k = 0; k < n / 2; k++) {
			float angle = (float)(a->first + i) * a->m->inv_freq[k];

			a->out[(size_t)i * n + 2 * k] = (float)cos((double)angle);
			a->out[(size_t)i * n + 2 * k + 1] = (float)sin((double)angle);
		}
	}
}

/* Cosine and sine of every position, as the processor's back end has them. */
static int load_angles(struct loader *l, struct err *err)
{
	const struct model *m = l->s->m;
	size_t row = m->config.rope_dim * sizeof(float);
	uint32_t most = (uint32_t)(l->piece_bytes / row);
	int r = 0;

	for (uint32_t first = 0, n; r == 0 && first < m->context_tok; first += n) {
		uint32_t pair = l->n_pieces++ % 2;
		struct angles angles = {m, (float *)(void *)l->pinned[pair], first};

		n = m->context_tok - first < most ? m->context_tok - first : most;
		if (l->n_pieces > 2)
			r = cuda_context_fault(&l->s->context, cudaEventSynchronize(l->free[pair]),
				"copying weights", err);
		if (r < 0)
			break;
		pool_run(m->pool, angle_units, &angles, n, 64);
		r = copy(l, (uint8_t *)l->s->buf.cs + first * row, l->pinned[pair], n * row, err);
		if (r == 0)
			r = end_piece(l, pair, 0, err);
	}
	return r;
}

static int load_vectors(struct loader *l, struct err *err)
{
	const struct cuda_model *s = l->s;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < s->n_vectors; i++)
		r = load_plain(l, (uint8_t *)s->vector[i].data, (const uint8_t *)s->vector[i].host,
			s->vector[i].n * sizeof(float), err);
	return r;
}

/* What kernels expect to be zero at first, and padding that is never written otherwise. */
static int clear(struct cuda_model *s, struct err *err)
{
	const struct {
		void *p;
		size_t n;
	} parts[] = {
		{s->buf.product_workspace, CUDA_PRODUCT_WORKSPACE_BYTES},
		{s->buf.attention_workspace, s->buf.attention_bytes},
		{s->buf.upload, s->layout.bytes},
		{s->buf.picked, s->max_picks * sizeof(uint32_t)},
		{s->buf.h, s->buf.h_bytes},
		{s->kv.base, s->kv.bytes},
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(parts) / sizeof(parts[0]); i++)
		r = cuda_context_fault(&s->context,
			cudaMemsetAsync(parts[i].p, 0, parts[i].n, s->context.stream),
			"clearing memory", err);
	return r == 0 ? cuda_context_fault(&s->context,
				sample_clear(&s->sampler, s->context.stream), "clearing memory",
				err)
		      : r;
}

/* ---- the loader ---- */

static int init(struct loader *l, struct err *err)
{
	struct cuda_context *c = &l->s->context;
	int r = 0;

	l->piece_bytes = piece_bytes(l->s);
	for (int i = 0; r == 0 && i < 2; i++) {
		void *pinned;

		r = cuda_memory_pin(c, &pinned, l->piece_bytes, err);
		l->pinned[i] = pinned;
		if (r == 0)
			r = cuda_context_fault(c,
				cudaEventCreateWithFlags(&l->free[i],
					cudaEventDisableTiming | cudaEventBlockingSync),
				"making an event", err);
	}
	for (int round = 0; r == 0 && round < 2; round++) {
		for (int i = 0; i < 2; i++)
			l->staging[i] = cuda_memory_take(&l->memory, l->piece_bytes);
		if (round == 0)
			r = cuda_memory_get(&l->memory, c, "the buffers of loading", err);
	}
	for (uint32_t i = 0; i < l->s->n_matrices; i++)
		l->total +=
			is_there(l->s, i) ? 0 : l->s->matrix[i].rows * row_bytes(&l->s->matrix[i]);
	for (uint32_t i = 0; i < l->s->n_vectors; i++)
		l->total += l->s->vector[i].n * sizeof(float);
	return r;
}

static void end(struct loader *l)
{
	if (l->s->context.stream)
		cudaStreamSynchronize(l->s->context.stream);
	for (int i = 0; i < 2; i++) {
		l->pinned[i] = cuda_memory_unpin(l->pinned[i]);
		if (l->free[i])
			cudaEventDestroy(l->free[i]);
	}
	cuda_memory_end(&l->memory);
}

/* Their pages in the file are not read any more. */
static void forget_file(const struct cuda_model *s)
{
	for (size_t i = 0; i < gguf_n_tensors(s->m->gguf); i++)
		gguf_forget(s->m->gguf, gguf_tensor_at(s->m->gguf, i));
}

int cuda_load_weights(struct cuda_model *s, const struct model_options *o, struct err *err)
{
	struct loader l = {.s = s, .o = o};
	int r = init(&l, err);

	if (r == 0)
		r = clear(s, err);
	for (uint32_t i = 0; r == 0 && i < s->n_matrices; i++)
		r = load_matrix(&l, i, err);
	if (r == 0)
		r = load_vectors(&l, err);
	if (r == 0)
		r = load_angles(&l, err);
	if (r == 0)
		r = cuda_context_fault(&s->context, cudaStreamSynchronize(s->context.stream),
			"copying weights", err);
	end(&l);
	if (r == 0)
		forget_file(s);
	return r;
}
