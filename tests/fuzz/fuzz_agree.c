/* SPDX-License-Identifier: Apache-2.0 */

/* Two texts with a zero byte between. Any text has a signature, which agrees with itself; comparing
 * is symmetric. */

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

	must(a && b);
	must(agree_compare(a, a) == AGREE_OK);
	must(agree_compare(a, b) == agree_compare(b, a));
	agree_sign_free(a);
	agree_sign_free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	check_texts((const char *)data, n);
	return 0;
}
