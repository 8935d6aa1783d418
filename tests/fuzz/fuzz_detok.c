/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whatever bytes tokens are made of, and wherever they are cut: every piece released is whole
 * UTF-8, the pieces together do not depend on the cuts, no stop string stands in them, and text
 * that is UTF-8 and holds no stop string comes out as it went in.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/detok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const stops[] = {"ab", "aab", "\n\n", "€", "bca", "\xEF\xBF\xBD!"};
#define N_STOPS (sizeof(stops) / sizeof(*stops))

static void must(bool claim)
{
	if (!claim)
		abort();
}

/* Feeds pieces of `step` bytes, of 1 + data[i] % 5 bytes with step 0. */
static int run(const char *text, size_t n, size_t step, struct buf *out)
{
	struct detok *d;
	int r = 0;

	must(detok_new(&d, stops, N_STOPS, NULL) == 0);
	for (size_t at = 0; at < n && r == 0;) {
		size_t len = step ? step : 1 + (unsigned char)text[at] % 5, before = out->len;

		len = len < n - at ? len : n - at;
		r = detok_feed(d, text + at, len, out);
		must(r >= 0);
		must(utf8_valid_prefix(out->data + before, out->len - before) == out->len - before);
		at += len;
	}
	if (r == 0)
		r = detok_finish(d, out);
	detok_free(d);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *text = (const char *)data;
	struct buf whole = {0}, cut = {0};
	int r = n > 0 ? run(text, n, n, &whole) : 0;

	for (size_t step = 0; step < 4; step++) {
		buf_clear(&cut);
		must(run(text, n, step, &cut) == r);
		must(cut.len == whole.len);
		must(whole.len == 0 || !memcmp(cut.data, whole.data, whole.len));
	}
	for (size_t i = 0; i < N_STOPS && whole.len > 0; i++)
		must(!memmem(whole.data, whole.len, stops[i], strlen(stops[i])));
	if (r == 0 && utf8_valid_prefix(text, n) == n)
		must(whole.len == n && (n == 0 || !memcmp(whole.data, text, n)));
	buf_free(&whole);
	buf_free(&cut);
	return 0;
}
