/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frequencies of the rotary embedding. Computed in f64 and rounded once to f32, which is where the
 * reference implementations keep them; a position's angle is then their f32 product, so that angles
 * agree also far into a long context.
 */
#include "engine/model_rope.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "engine/quant.h"

static bool equals(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(text, word, len) == 0;
}

static int check_factor(double factor, const char *key, struct err *err)
{
	if (factor > 0 && factor <= 1e6)
		return 0;
	return err_set(err, -EBADMSG, "%s is %g, which is not above 0", key, factor);
}

static int divide_by_tensor(
	float *inv_freq, uint32_t n, const struct gguf_tensor *t, struct err *err)
{
	if (t->n_dims != 1 || t->dim[0] != n || t->type != TENSOR_F32)
		return err_set(err, -EBADMSG, "rope_freqs.weight is not %u values of F32", n);
	for (uint32_t i = 0; i < n; i++) {
		float factor;
		memcpy(&factor, (const char *)t->data + i * sizeof factor, sizeof factor);
		int r = check_factor(factor, "a value of rope_freqs.weight", err);
		if (r)
			return r;
		inv_freq[i] /= factor;
	}
	return 0;
}

static int scale_linear(float *inv_freq, uint32_t n, const struct gguf *g, struct err *err)
{
	double factor = gguf_float(g, "llama.rope.scaling.factor", 1);
	int r = check_factor(factor, "llama.rope.scaling.factor", err);

	for (uint32_t i = 0; !r && i < n; i++)
		inv_freq[i] /= (float)factor;
	return r;
}

/* Llama 3.1's: wavelengths beyond old / low are stretched by factor, those below old / high kept,
 * between them a blend. */
static int scale_llama3(float *inv_freq, uint32_t n, const struct gguf *g, struct err *err)
{
	double factor = gguf_float(g, "llama.rope.scaling.factor", 8);
	double low = gguf_float(g, "llama.rope.scaling.low_freq_factor", 1);
	double high = gguf_float(g, "llama.rope.scaling.high_freq_factor", 4);
	double old = (double)gguf_uint(g, "llama.rope.scaling.original_context_length", 8192);
	int r = check_factor(factor, "llama.rope.scaling.factor", err);

	if (!r && !(low > 0 && high > low && high <= 1e6 && old > 0))
		r = err_set(err, -EBADMSG,
			"llama.rope.scaling.*: frequency factors %g and %g are out of order", low,
			high);
	for (uint32_t i = 0; !r && i < n; i++) {
		double wave = 2 * M_PI / inv_freq[i], kept = (old / wave - low) / (high - low);
		kept = fmin(1, fmax(0, kept));
		inv_freq[i] = (float)(kept * inv_freq[i] + (1 - kept) * inv_freq[i] / factor);
	}
	return r;
}

int model_rope_frequencies(
	float *inv_freq, const struct model_config *c, const struct gguf *g, struct err *err)
{
	const struct gguf_tensor *freqs = gguf_tensor(g, "rope_freqs.weight");
	uint32_t n = c->rope_dim / 2;
	size_t len = 0;
	const char *type = gguf_string(g, "llama.rope.scaling.type", &len);

	for (uint32_t i = 0; i < n; i++)
		inv_freq[i] = (float)pow(c->rope_base, -2.0 * i / c->rope_dim);
	if (type && equals(type, len, "linear"))
		return scale_linear(inv_freq, n, g, err);
	if (type && !equals(type, len, "none") && !equals(type, len, "llama3"))
		return err_set(err, -ENOTSUP,
			"this rotary scaling (llama.rope.scaling.type) is not supported: none, "
			"linear and llama3 are");
	if (freqs)
		return divide_by_tensor(inv_freq, n, freqs, err);
	return type && equals(type, len, "llama3") ? scale_llama3(inv_freq, n, g, err) : 0;
}
