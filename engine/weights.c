/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tensors of a file, for a model that knows which it wants. Nothing here believes the file:
 * whoever binds says the shape, and a tensor of another one is refused with both in the sentence.
 *
 * Matrices stay in the mapping as they are, unless the form they are multiplied in is another: the
 * vector paths multiply quantised matrices in groups of 16 interleaved rows (ops_pack()), which
 * takes a third of the instructions, and encoders multiply all others in the wide form. Those are
 * copied once into memory of our own, and the file's pages let go. Vectors are copied as f32.
 *
 * Used by the thread that opens a model, and with its pool.
 */
#include "engine/weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/quant.h"

int weights_size(const struct gguf *g, const char *key, uint64_t fallback, uint64_t max,
	uint32_t *out, struct err *err)
{
	uint64_t value = gguf_uint(g, key, fallback);

	if (value == 0 && !gguf_has(g, key))
		return err_set(err, -EBADMSG, "the file does not say %s", key);
	if (value == 0 || value > max)
		return err_set(err, -EBADMSG, "%s is %llu, which is not in 1 .. %llu", key,
			(unsigned long long)value, (unsigned long long)max);
	*out = (uint32_t)value;
	return 0;
}

const char *weights_architecture(const struct gguf *g, size_t *len, struct err *err)
{
	const char *name = gguf_string(g, "general.architecture", len);

	if (!name)
		err_set(err, -EBADMSG, "the file does not say general.architecture");
	return name;
}

int weights_init(struct weights *w, const struct gguf *g, struct err *err)
{
	size_t n = 1; /* room for all vectors of the file, whatever they turn out to be */

	*w = (struct weights){.gguf = g};
	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);
		n += t->n_dims == 1 ? (size_t)t->dim[0] : 0;
	}
	w->vectors = calloc(n, sizeof *w->vectors);
	return w->vectors ? 0 : err_set(err, -ENOMEM, "no memory for the model's tables");
}

void weights_end(struct weights *w)
{
	if (w->packed)
		munmap(w->packed, w->packed_bytes);
	free(w->vectors);
	*w = (struct weights){0};
}

/* *found: the tensor, of the shape asked for; NULL for an optional one that is not there. */
static int find(struct weights *w, const char *name, uint32_t n_dims, uint32_t rows, uint32_t cols,
	bool optional, const struct gguf_tensor **found, struct err *err)
{
	const struct gguf_tensor *t = gguf_tensor(w->gguf, name);

	*found = t;
	if (!t && optional)
		return 0;
	if (!t)
		return err_set(err, -EBADMSG, "the tensor %s is missing", name);
	if (t->n_dims != n_dims || t->dim[0] != cols || t->dim[1] != rows)
		return err_set(err, -EBADMSG,
			"the tensor %s has %u dimensions, %llu x %llu, where the file's sizes ask "
			"for %u, %u x %u",
			name, t->n_dims, (unsigned long long)t->dim[0],
			(unsigned long long)t->dim[1], n_dims, cols, rows);
	w->n_bound++;
	w->n_parameters += (uint64_t)rows * cols;
	return 0;
}

int weights_vector(struct weights *w, const char *name, uint32_t n, bool optional, float **out,
	struct err *err)
{
	const struct gguf_tensor *t;
	int r = find(w, name, 1, 1, n, optional, &t, err);

	if (r || !t)
		return r;
	*out = w->vectors + w->n_vectors;
	quant_to_f32(t->type, t->data, n, *out);
	w->n_vectors += n;
	return 0;
}

int weights_matrix(struct weights *w, const char *name, uint32_t rows, uint32_t cols, bool optional,
	struct ops_matrix *out, struct err *err)
{
	const struct gguf_tensor *t;
	int r = find(w, name, 2, rows, cols, optional, &t, err);

	if (r || !t)
		return r;
	out->type = t->type;
	out->rows = rows;
	out->cols = cols;
	out->data = t->data;
	return 0;
}

/* ---- all of a model ---- */

enum { NAME_BYTES = 64 };

static const char *name_in_layer(const struct weights_slot *slot, uint32_t l, char name[NAME_BYTES])
{
	snprintf(name, NAME_BYTES, "blk.%u.%s", l, slot->name);
	return name;
}

static int bind(struct weights *w, const struct weights_plan *plan, const struct weights_slot *slot,
	const char *name, void *base, struct err *err)
{
	void *place = (char *)base + slot->place;
	uint32_t cols = plan->size[slot->cols];
	float *vector = NULL;

	if (slot->rows)
		return weights_matrix(
			w, name, plan->size[slot->rows], cols, slot->optional, place, err);
	int r = weights_vector(w, name, cols, slot->optional, &vector, err);
	if (!r)
		memcpy(place, &vector, sizeof vector);
	return r;
}

static bool is_ignored(const struct weights_plan *plan, const char *name)
{
	return plan->ignores && plan->ignores(name);
}

static bool is_known(const struct weights_plan *plan, const char *name)
{
	char full[NAME_BYTES];

	for (const struct weights_slot *s = plan->model; s->name; s++)
		if (strcmp(name, s->name) == 0)
			return true;
	for (uint32_t l = 0; l < plan->n_layers; l++)
		for (const struct weights_slot *s = plan->layer; s->name; s++)
			if (strcmp(name, name_in_layer(s, l, full)) == 0)
				return true;
	return is_ignored(plan, name);
}

/* Finds and names the tensor that nobody asked for. */
static int refuse_unknown(const struct weights *w, const struct weights_plan *plan, struct err *err)
{
	for (size_t i = 0; i < gguf_n_tensors(w->gguf); i++) {
		const char *name = gguf_tensor_at(w->gguf, i)->name;
		if (!is_known(plan, name))
			return err_set(err, -ENOTSUP,
				"the tensor %s is not part of a %s as we compute it", name,
				plan->kind);
	}
	return 0;
}

/* ---- what was never written ---- */

static bool ends_in(const char *name, const char *end)
{
	size_t n = strlen(name), n_end = strlen(end);

	return n >= n_end && strcmp(name + n - n_end, end) == 0;
}

static bool is_vocabulary(const struct gguf_tensor *t)
{
	return strcmp(t->name, "token_embd.weight") == 0 || strcmp(t->name, "output.weight") == 0;
}

/* Whether the last quarter of the tensor is zeros, of a vocabulary's the second half: one that was
 * filled up to a power of two has fewer rows for nothing. Of a sound tensor the last bytes tell. */
static bool is_unwritten(const struct gguf_tensor *t)
{
	size_t n = t->bytes, part = is_vocabulary(t) ? 2 : 4, end = n - (n + part - 1) / part;
	const char *bytes = t->data;

	while (n > end && bytes[n - 1] == 0)
		n--;
	return n == end;
}

/* Without it a model says nothing, or one of its layers does. */
static bool is_vital(const struct gguf_tensor *t)
{
	return is_vocabulary(t) || ends_in(t->name, "_norm.weight");
}

/* Biases; what a layer that was added to be trained gives; the kinds of text of an encoder that
 * tells none apart, as those made of RoBERTa. */
static bool may_be_zeros(const struct gguf_tensor *t)
{
	return t->n_dims == 1 || ends_in(t->name, ".attn_output.weight") ||
	       ends_in(t->name, ".ffn_down.weight") || strcmp(t->name, "token_types.weight") == 0;
}

/* A download that makes the file in its full size first, and has not come to its end. */
static int refuse_unwritten(const struct weights *w, struct err *err)
{
	const struct gguf_tensor *found = NULL, *last = gguf_tensor_at(w->gguf, 0);

	for (size_t i = 0; !found && i < gguf_n_tensors(w->gguf); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(w->gguf, i);
		if ((const char *)t->data > (const char *)last->data)
			last = t;
		if (is_vital(t) && is_unwritten(t))
			found = t;
	}
	if (!found && !may_be_zeros(last) && is_unwritten(last))
		found = last;
	if (!found)
		return 0;
	return err_set(err, -EBADMSG,
		"the tensor %s ends in zeros: a download that has not finished, into a file of its "
		"full size, or a copy with holes",
		found->name);
}

int weights_bind(struct weights *w, const struct weights_plan *plan, void *model, void *layers,
	struct err *err)
{
	size_t n_ignored = 0;
	char name[NAME_BYTES];
	int r = 0;

	for (const struct weights_slot *s = plan->model; !r && s->name; s++)
		r = bind(w, plan, s, s->name, model, err);
	for (uint32_t l = 0; !r && l < plan->n_layers; l++) {
		void *layer = (char *)layers + l * plan->layer_bytes;
		for (const struct weights_slot *s = plan->layer; !r && s->name; s++)
			r = bind(w, plan, s, name_in_layer(s, l, name), layer, err);
	}
	if (r)
		return r;
	for (size_t i = 0; i < gguf_n_tensors(w->gguf); i++)
		n_ignored += is_ignored(plan, gguf_tensor_at(w->gguf, i)->name);
	return w->n_bound + n_ignored == gguf_n_tensors(w->gguf) ? refuse_unwritten(w, err)
								 : refuse_unknown(w, plan, err);
}

/* ---- packing ---- */

void *weights_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_HUGEPAGE); /* advice: without it the same, slower */
	return p;
}

struct pack_job {
	const struct ops_matrix *w;
	uint8_t *dst;
	enum weights_form form;
};

static void pack_groups(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct pack_job *job = arg;

	if (job->form == WEIGHTS_WIDE)
		ops_pack_wide(job->w, first, last, job->dst);
	else
		ops_pack(job->w, first, last, job->dst);
}

static size_t bytes_of(const struct ops_matrix *w, enum weights_form form)
{
	if (form == WEIGHTS_WIDE)
		return ops_groups(w->rows) * ops_pack_wide_group_bytes(w->cols);
	return ops_is_quantised(w->type)
		       ? ops_groups(w->rows) * ops_pack_group_bytes(w->type, w->cols)
		       : 0;
}

/* Packed matrices are not read in the file any more, but for the rows of embeddings. */
static void forget_packed(const struct weights *w, enum weights_form form)
{
	for (size_t i = 0; i < gguf_n_tensors(w->gguf); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(w->gguf, i);
		if (t->n_dims == 2 && (form == WEIGHTS_WIDE || ops_is_quantised(t->type)))
			gguf_forget(w->gguf, t);
	}
}

int weights_pack(struct weights *w, enum weights_form form, weights_at_fn *at, void *arg,
	struct pool *pool, void (*progress)(void *arg, double fraction), void *progress_arg,
	struct err *err)
{
	struct ops_matrix *m;
	size_t done = 0;

	for (size_t i = 0; (m = at(arg, i)); i++)
		w->packed_bytes += bytes_of(m, form);
	if (w->packed_bytes == 0)
		return 0;
	w->packed = weights_map(w->packed_bytes);
	if (!w->packed)
		return err_set(err, -ENOMEM, "no memory for %zu bytes of weights", w->packed_bytes);
	for (size_t i = 0; (m = at(arg, i)); i++) {
		struct pack_job job = {m, w->packed + done, form};
		if (bytes_of(m, form) == 0)
			continue;
		pool_run(pool, pack_groups, &job, ops_groups(m->rows), 8);
		m->packed = job.dst;
		done += bytes_of(m, form);
		if (progress)
			progress(progress_arg, (double)done / (double)w->packed_bytes);
	}
	forget_packed(w, form);
	return 0;
}
