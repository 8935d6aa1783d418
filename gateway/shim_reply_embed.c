/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vectors as OpenAI's clients read them: as numbers, nine digits of which give the same float back,
 * or as the base64 of the floats in little-endian order, which is a third of the length and what
 * its own clients ask for. A number that is none (NaN, an infinity) is null in the first form, as
 * JSON has no word for it.
 */
#include "gateway/shim_reply.h"

#include <math.h>

#include "gateway/shim_reply_parts.h"

static int put_numbers(struct buf *out, const struct shim_vector *v)
{
	int r = SHIM_PUT(out, "[");
	for (size_t i = 0; r == 0 && i < v->dim; i++) {
		r = i ? SHIM_PUT(out, ",") : 0;
		if (r == 0)
			r = isfinite(v->x[i]) ? buf_printf(out, "%.9g", (double)v->x[i])
					      : SHIM_PUT(out, "null");
	}
	return r ? r : SHIM_PUT(out, "]");
}

static uint8_t byte_of(const struct shim_vector *v, size_t i)
{
	uint32_t bits;
	memcpy(&bits, &v->x[i / 4], sizeof bits);
	return (uint8_t)(bits >> 8 * (i % 4));
}

static int put_base64(struct buf *out, const struct shim_vector *v)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = v->dim * sizeof *v->x;
	int r = buf_reserve(out, (n + 2) / 3 * 4 + 2);
	if (r < 0)
		return r;
	char *to = out->data + out->len;
	*to++ = '"';
	for (size_t i = 0; i < n; i += 3) {
		uint32_t three = (uint32_t)byte_of(v, i) << 16;
		three |= i + 1 < n ? (uint32_t)byte_of(v, i + 1) << 8 : 0;
		three |= i + 2 < n ? byte_of(v, i + 2) : 0;
		*to++ = digits[three >> 18];
		*to++ = digits[three >> 12 & 63];
		*to++ = i + 1 < n ? digits[three >> 6 & 63] : '=';
		*to++ = i + 2 < n ? digits[three & 63] : '=';
	}
	*to++ = '"';
	*to = '\0';
	out->len = (size_t)(to - out->data);
	return 0;
}

int shim_reply_embeddings(struct buf *out, const char *model, const struct shim_vector *vectors,
	size_t n, bool base64, uint64_t prompt_tok)
{
	size_t before = out->len;
	int r = SHIM_PUT(out, "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = i ? SHIM_PUT(out, ",") : 0;
		r = r ? r : SHIM_PUT(out, "{\"object\":\"embedding\",\"index\":");
		r = r ? r : shim_reply_number(out, i);
		r = r ? r : SHIM_PUT(out, ",\"embedding\":");
		r = r ? r : base64 ? put_base64(out, &vectors[i]) : put_numbers(out, &vectors[i]);
		r = r ? r : SHIM_PUT(out, "}");
	}
	r = r ? r : SHIM_PUT(out, "],\"model\":");
	r = r ? r : shim_reply_string(out, model, strlen(model));
	r = r ? r : SHIM_PUT(out, ",\"usage\":{\"prompt_tokens\":");
	r = r ? r : shim_reply_number(out, prompt_tok);
	r = r ? r : SHIM_PUT(out, ",\"total_tokens\":");
	r = r ? r : shim_reply_number(out, prompt_tok);
	return shim_reply_undo(out, before, r ? r : SHIM_PUT(out, "}}"));
}
