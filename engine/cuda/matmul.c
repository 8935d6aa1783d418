/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuBLASLt computes columns first: a matrix of ours, row after row, is to it the transposed one.
 * out = x w^T is then, in its words, D [rows][n_rows] = op(A) B with A = w as [cols][rows], to be
 * transposed, and B = x as [cols][n_rows]: the form in which tensor cores read both operands along
 * their rows, and the only one there is for e4m3.
 *
 * A shape is everything but the addresses, and of these how they are aligned: the library takes
 * them to be at multiples of 256 bytes unless it is told, and chooses what only works there. Its
 * descriptors and the algorithm that the library's heuristics put first are kept in a table; a
 * model has some five products, and the number of rows is rounded up by whoever asks, so the table
 * stays small and is searched by hash.
 *
 * Nothing here depends on what the rows hold, and the workspace is one for all, as all products of
 * a tenant stand in one stream.
 */
#include "engine/cuda/matmul.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ALIGNMENT 256u

struct shape {
	struct cuda_matmul_product key; /* without addresses */
	uint32_t alignment;             /* of these, bytes */
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t w, x, out;
	cublasLtMatmulAlgo_t algo;
	bool used;
};

struct cuda_matmul {
	struct cuda_context *context;
	void *workspace;
	struct shape *table; /* [size], open addressing */
	uint32_t size, n;    /* n <= size / 2 */
};

int cuda_matmul_new(
	struct cuda_matmul **out, struct cuda_context *c, void *workspace, struct err *err)
{
	struct cuda_matmul *m = calloc(1, sizeof(*m));

	*out = NULL;
	if (m) {
		m->size = 256;
		m->table = calloc(m->size, sizeof(*m->table));
	}
	if (!m || !m->table) {
		cuda_matmul_free(m);
		return err_set(err, -ENOMEM, "not enough memory for a table of products");
	}
	m->context = c;
	m->workspace = workspace;
	*out = m;
	return 0;
}

static void end_shape(struct shape *s)
{
	if (s->w)
		cublasLtMatrixLayoutDestroy(s->w);
	if (s->x)
		cublasLtMatrixLayoutDestroy(s->x);
	if (s->out)
		cublasLtMatrixLayoutDestroy(s->out);
	if (s->desc)
		cublasLtMatmulDescDestroy(s->desc);
	*s = (struct shape){0};
}

struct cuda_matmul *cuda_matmul_free(struct cuda_matmul *m)
{
	if (!m)
		return NULL;
	for (uint32_t i = 0; m->table && i < m->size; i++)
		end_shape(&m->table[i]);
	free(m->table);
	free(m);
	return NULL;
}

/* ---- the table ---- */

static uint64_t hash_of(const struct cuda_matmul_product *p)
{
	uint64_t h = (uint64_t)p->rows << 32 | p->cols;

	h = (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9u;
	h ^= (uint64_t)p->n_rows << 8 | (uint64_t)p->type << 5 | (uint64_t)p->out_type << 2 |
	     p->add;
	h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
	return h ^ (h >> 31);
}

/* The largest power of two, up to what the library asks for, that all three addresses are multiples
 * of. */
static uint32_t alignment_of(const struct cuda_matmul_product *p)
{
	uintptr_t bits = (uintptr_t)p->w | (uintptr_t)p->x | (uintptr_t)p->out | MOST_ALIGNMENT;

	return (uint32_t)(bits & -bits);
}

static bool is_shape(const struct shape *s, const struct cuda_matmul_product *p, uint32_t alignment)
{
	const struct cuda_matmul_product *k = &s->key;

	return s->alignment == alignment && k->type == p->type && k->out_type == p->out_type &&
	       k->n_rows == p->n_rows && k->rows == p->rows && k->cols == p->cols &&
	       k->ld == p->ld && k->add == p->add;
}

/* The place of a shape, used or free. */
static struct shape *place_of(
	struct shape *table, uint32_t size, const struct cuda_matmul_product *p, uint32_t alignment)
{
	uint32_t i = (uint32_t)hash_of(p) & (size - 1);

	while (table[i].used && !is_shape(&table[i], p, alignment))
		i = (i + 1) & (size - 1);
	return &table[i];
}

static int grow(struct cuda_matmul *m, struct err *err)
{
	struct shape *table = calloc(m->size * 2, sizeof(*table));

	if (!table)
		return err_set(err, -ENOMEM, "not enough memory for a table of products");
	for (uint32_t i = 0; i < m->size; i++)
		if (m->table[i].used)
			*place_of(table, m->size * 2, &m->table[i].key, m->table[i].alignment) =
				m->table[i];
	free(m->table);
	m->table = table;
	m->size *= 2;
	return 0;
}

/* ---- a new shape ---- */

static cudaDataType_t data_type(enum cuda_type type)
{
	switch (type) {
	case CUDA_TYPE_F16:
		return CUDA_R_16F;
	case CUDA_TYPE_BF16:
		return CUDA_R_16BF;
	case CUDA_TYPE_E4M3:
		return CUDA_R_8F_E4M3;
	case CUDA_TYPE_F32:
	case CUDA_TYPE_Q8:
		break;
	}
	return CUDA_R_32F;
}

static cublasStatus_t describe(struct shape *s, const struct cuda_matmul_product *p)
{
	cublasOperation_t transpose = CUBLAS_OP_T;
	cublasStatus_t r = cublasLtMatmulDescCreate(&s->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);

	if (r == CUBLAS_STATUS_SUCCESS)
		r = cublasLtMatmulDescSetAttribute(
			s->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof(transpose));
	if (r == CUBLAS_STATUS_SUCCESS)
		r = cublasLtMatrixLayoutCreate(
			&s->w, data_type(p->type), p->cols, p->rows, p->cols);
	if (r == CUBLAS_STATUS_SUCCESS)
		r = cublasLtMatrixLayoutCreate(
			&s->x, data_type(p->type), p->cols, p->n_rows, p->cols);
	if (r == CUBLAS_STATUS_SUCCESS)
		r = cublasLtMatrixLayoutCreate(
			&s->out, data_type(p->out_type), p->rows, p->n_rows, (int64_t)p->ld);
	return r;
}

/* What an algorithm may count on. */
static cublasStatus_t limit(cublasLtMatmulPreference_t preference, const struct shape *s)
{
	static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
	};
	size_t workspace = CUDA_MATMUL_WORKSPACE;
	cublasStatus_t r = cublasLtMatmulPreferenceSetAttribute(preference,
		CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace));

	for (size_t i = 0; i < 4 && r == CUBLAS_STATUS_SUCCESS; i++)
		r = cublasLtMatmulPreferenceSetAttribute(
			preference, alignments[i], &s->alignment, sizeof(s->alignment));
	return r;
}

static cublasStatus_t choose(struct cuda_matmul *m, struct shape *s)
{
	cublasLtMatmulPreference_t preference = NULL;
	cublasLtMatmulHeuristicResult_t found;
	int n = 0;
	cublasStatus_t r = cublasLtMatmulPreferenceCreate(&preference);

	if (r == CUBLAS_STATUS_SUCCESS)
		r = limit(preference, s);
	if (r == CUBLAS_STATUS_SUCCESS)
		r = cublasLtMatmulAlgoGetHeuristic(m->context->blas, s->desc, s->w, s->x, s->out,
			s->out, preference, 1, &found, &n);
	if (r == CUBLAS_STATUS_SUCCESS && (n == 0 || found.state != CUBLAS_STATUS_SUCCESS))
		r = CUBLAS_STATUS_NOT_SUPPORTED;
	if (r == CUBLAS_STATUS_SUCCESS)
		s->algo = found.algo;
	if (preference)
		cublasLtMatmulPreferenceDestroy(preference);
	return r;
}

static int find_shape(struct cuda_matmul *m, const struct cuda_matmul_product *p,
	struct shape **out, struct err *err)
{
	uint32_t alignment = alignment_of(p);
	struct shape *s = place_of(m->table, m->size, p, alignment);

	*out = s;
	if (s->used)
		return 0;
	if (m->n >= m->size / 2) {
		int r = grow(m, err);
		if (r < 0)
			return r;
		*out = s = place_of(m->table, m->size, p, alignment);
	}
	s->alignment = alignment;
	cublasStatus_t status = describe(s, p);
	if (status == CUBLAS_STATUS_SUCCESS)
		status = choose(m, s);
	if (status != CUBLAS_STATUS_SUCCESS) {
		end_shape(s);
		return cuda_context_fault_of_blas(
			m->context, (int)status, "an algorithm was chosen for a product", err);
	}
	s->key = *p;
	s->key.w = s->key.x = NULL;
	s->key.out = NULL;
	s->used = true;
	m->n++;
	return 0;
}

int cuda_matmul_run(struct cuda_matmul *m, const struct cuda_matmul_product *p, struct err *err)
{
	float one = 1, beta = p->add ? 1 : 0;
	struct shape *s;
	int r = find_shape(m, p, &s, err);

	if (r < 0)
		return r;
	cublasStatus_t status = cublasLtMatmul(m->context->blas, s->desc, &one, p->w, s->w, p->x,
		s->x, &beta, p->out, s->out, p->out, s->out, &s->algo, m->workspace,
		CUDA_MATMUL_WORKSPACE, m->context->stream);
	return cuda_context_fault_of_blas(
		m->context, (int)status, "a product was put into its queue", err);
}
