/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Any bytes as a model file: refused with a sentence, or every value, text and tensor that the
 * reader hands out can be read to its last byte (the address sanitizer says when not).
 */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static unsigned sum;

static void touch(const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum += ((const unsigned char *)bytes)[i];
}

static void walk(const struct gguf *g)
{
	size_t n, len;
	const char *text = gguf_string(g, "general.architecture", &len);

	if (text)
		touch(text, len);
	n = gguf_strings(g, "tokenizer.ggml.tokens");
	for (size_t i = 0; i < n; i++) {
		text = gguf_string_at(g, "tokenizer.ggml.tokens", i, &len);
		touch(text, len);
	}
	const float *floats = gguf_floats(g, "tokenizer.ggml.scores", &n);
	touch(floats, n * sizeof(*floats));
	const int32_t *ints = gguf_ints(g, "tokenizer.ggml.token_type", &n);
	touch(ints, n * sizeof(*ints));
	sum += (unsigned)gguf_uint(g, "llama.block_count", 1);
	sum += gguf_bool(g, "tokenizer.ggml.add_bos_token", true);
	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);
		uint64_t values = t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3];
		const struct tensor_type_info *info = tensor_type_info(t->type);

		if (!info || t->bytes != values / info->block_values * info->block_bytes)
			abort();
		touch(t->data, t->bytes);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct gguf *g = NULL;
	struct err err = {""};
	int r = gguf_parse(&g, data, n, &err);

	if (r == 0)
		walk(g);
	else if (err.text[0] == '\0' || (r != -EBADMSG && r != -ENOTSUP && r != -ENOMEM))
		abort();
	gguf_free(g);
	return 0;
}
