/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H

/* What models of all kinds do with the tensors of their file: find them by name, look at every
 * shape, copy the vectors, pack the matrices. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/gguf.h"
#include "engine/ops.h"
#include "engine/pool.h"

struct weights {
	const struct gguf *gguf;
	size_t n_bound;
	uint64_t n_parameters; /* of all bound */
	float *vectors;        /* norms and biases, one after another */
	size_t n_vectors;
	uint8_t *packed; /* mapped; NULL when nothing is packed */
	size_t packed_bytes;
};

/* A size in 1 .. max under a key; fallback where the key is absent, 0: there must be one. 0 or
 * -EBADMSG. */
int weights_size(const struct gguf *g, const char *key, uint64_t fallback, uint64_t max,
	uint32_t *out, struct err *err);

/* general.architecture; NULL with the sentence when the file does not say. borrows. */
const char *weights_architecture(const struct gguf *g, size_t *len, struct err *err);

/* Borrows g, which must outlive it. 0 or -ENOMEM; weights_end in any case, which is total. */
int weights_init(struct weights *w, const struct gguf *g, struct err *err);
void weights_end(struct weights *w);

/* The tensor `name` as f32 values [n], copied; as a matrix [rows][cols], borrowed from the file. An
 * optional one that is absent leaves *out alone. 0; -EBADMSG: it is absent, or of another shape. */
int weights_vector(struct weights *w, const char *name, uint32_t n, bool optional, float **out,
	struct err *err);
int weights_matrix(struct weights *w, const char *name, uint32_t rows, uint32_t cols, bool optional,
	struct ops_matrix *out, struct err *err);

/* One of the tensors that a kind of model has: a matrix [rows][cols], or, without rows, a vector
 * [cols]. The sizes are indices into a plan's. `place`: the offset of the struct ops_matrix, or of
 * the float *, in what it is bound into. */
struct weights_slot {
	const char *name; /* of a layer's: behind "blk.N." */
	unsigned rows, cols;
	size_t place;
	bool optional;
};

struct weights_plan {
	const char *kind;                         /* as sentences call it */
	const struct weights_slot *model, *layer; /* each ends with one without a name */
	const uint32_t *size;                     /* [0] is not used: no rows */
	uint32_t n_layers;
	size_t layer_bytes;                /* of what a layer's are bound into */
	bool (*ignores)(const char *name); /* tensors that say nothing; may be NULL */
};

/* All of a plan's, into *model and layers[n_layers]. 0; -EBADMSG as above, or a tensor that no
 * model can do without was never written: its last quarter is zeros, of a vocabulary's half of it;
 * -ENOTSUP: the file has a tensor that the plan does not know, as leaving out what its maker
 * thought part of the model would give wrong answers without a word. */
int weights_bind(struct weights *w, const struct weights_plan *plan, void *model, void *layers,
	struct err *err);

/* The i-th matrix that is multiplied; NULL at the end. */
typedef struct ops_matrix *weights_at_fn(void *arg, size_t i);

enum weights_form { WEIGHTS_PACKED, WEIGHTS_WIDE }; /* of the quantised ones; of all */

/* Copies matrices to memory of our own in that form, and lets their pages in the file go. 0 or
 * -ENOMEM. */
int weights_pack(struct weights *w, enum weights_form form, weights_at_fn *at, void *arg,
	struct pool *pool, void (*progress)(void *arg, double fraction), void *progress_arg,
	struct err *err);

/* new: zeroed memory in large pages where there are any, that takes none until it is used; munmap
 * it. NULL: none left. */
void *weights_map(size_t bytes);

#endif
