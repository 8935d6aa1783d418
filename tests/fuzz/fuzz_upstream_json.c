/* SPDX-License-Identifier: Apache-2.0 */

/* What is given of an answer that is to be JSON does not depend on how it is cut into pieces, and
 * is a value, if it is whole, and the beginning of one else. The first byte is the length of the
 * pieces. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/upstream_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool claim)
{
	if (!claim)
		abort();
}

/* given [n]; what is given is at most what was there. */
static size_t take(struct upstream_json *j, const char *text, size_t n, size_t piece, char *given,
	bool *goes_on)
{
	size_t len = 0;
	*goes_on = true;
	for (size_t i = 0; i < n && *goes_on; i += piece) {
		size_t k = n - i < piece ? n - i : piece;
		memcpy(given + len, text + i, k);
		*goes_on = upstream_json_take(j, given + len, &k);
		len += k;
	}
	return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct upstream_json one = {0}, many = {0};
	struct engine_json value = {0};
	bool one_goes_on, many_go_on;
	if (n < 2)
		return 0;
	const char *text = (const char *)data + 1;
	char *a = malloc(n), *b = malloc(n);
	must(a && b);
	n--;
	size_t len = take(&one, text, n, n, a, &one_goes_on);
	must(take(&many, text, n, (size_t)*data + 1, b, &many_go_on) == len);
	must(!memcmp(a, b, len) && one_goes_on == many_go_on);
	must(upstream_json_is_whole(&one) == upstream_json_is_whole(&many));
	must(engine_json_feed(&value, a, len) == len);
	must(engine_json_may_end(&value) == upstream_json_is_whole(&one));
	free(a);
	free(b);
	return 0;
}
