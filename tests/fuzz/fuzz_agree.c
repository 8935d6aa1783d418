/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte says what the rest is: two texts with a zero byte between, or a stored signature.
 * Any text has a signature within the bound, which agrees with itself, also when read back;
 * comparing is symmetric. A signature that is read can be compared.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/agree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool claim)
{
	if (!claim)
		abort();
}

static void check_texts(const char *text, size_t n)
{
	const char *zero = n ? memchr(text, 0, n) : NULL;
	const size_t first = zero ? (size_t)(zero - text) : n;
	struct agree_sign *a = agree_sign_new(text, first);
	struct agree_sign *b = agree_sign_new(text + first, n - first);
	size_t len;

	must(a && b);
	const void *bytes = agree_sign_bytes(a, &len);
	must(len <= AGREE_SIGN_MAX);
	struct agree_sign *back = agree_sign_of(bytes, len);
	must(back && agree_compare(a, back) == AGREE_OK);
	must(agree_compare(a, b) == agree_compare(b, a));
	must(agree_compare(back, b) == agree_compare(a, b));
	agree_sign_free(a);
	agree_sign_free(b);
	agree_sign_free(back);
}

static void check_stored(const uint8_t *data, size_t n)
{
	struct agree_sign *s = agree_sign_of(data, n);

	if (!s)
		return;
	struct agree_sign *other = agree_sign_new("Is Anna taller than Ben?", 24);
	must(other && agree_compare(s, other) < N_AGREE_REASONS);
	must(agree_compare(s, s) == AGREE_OK);
	agree_sign_free(s);
	agree_sign_free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (!n)
		return 0;
	if (*data % 4)
		check_texts((const char *)data + 1, n - 1);
	else
		check_stored(data + 1, n - 1);
	return 0;
}
