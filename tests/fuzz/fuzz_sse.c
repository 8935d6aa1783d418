/* SPDX-License-Identifier: Apache-2.0 */

/* The events of a text do not depend on how it is cut into pieces. The first byte is the length of
 * the pieces. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool claim)
{
	if (!claim)
		abort();
}

static int take(void *arg, const char *event, const char *data, size_t len)
{
	struct buf *seen = arg;
	must(!data[len] && !memchr(data, '\r', len) && !strchr(event, '\n'));
	must(buf_append_str(seen, event) == 0 && buf_append(seen, "|", 2) == 0);
	must(buf_append(seen, data, len) == 0 && buf_append(seen, ";", 2) == 0);
	return 0;
}

static int feed(const char *text, size_t n, size_t piece, struct buf *seen)
{
	struct sse s = {0};
	int r = 0;
	for (size_t i = 0; i < n && r == 0; i += piece)
		r = sse_feed(&s, text + i, n - i < piece ? n - i : piece, take, seen);
	sse_free(&s);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct buf whole = {0}, pieces = {0};
	if (!n)
		return 0;
	const char *text = (const char *)data + 1;
	n--;
	int r = feed(text, n, n ? n : 1, &whole);
	must(feed(text, n, (size_t)*data + 1, &pieces) == r);
	must(whole.len == pieces.len &&
		(!whole.len || !memcmp(whole.data, pieces.data, whole.len)));
	buf_free(&whole);
	buf_free(&pieces);
	return 0;
}
