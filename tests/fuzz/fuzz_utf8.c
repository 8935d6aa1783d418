/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Three views of the same rule must agree on any bytes: the valid prefix is exactly what decoding
 * one sequence after the other accepts; each code point encodes back to the bytes it came from; and
 * cutting a text anywhere leaves either a valid prefix or one plus something partial.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool claim)
{
	if (!claim)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *text = (const char *)data;
	size_t valid = utf8_valid_prefix(text, n), at = 0;

	must(valid <= n);
	while (at < n) {
		uint32_t codepoint;
		char again[4];
		size_t len = utf8_decode(text + at, n - at, &codepoint);

		if (len == 0)
			break;
		must(len <= 4 && len <= n - at && codepoint <= 0x10FFFF);
		must(codepoint < 0xD800 || codepoint > 0xDFFF);
		must(utf8_encode(codepoint, again) == len && memcmp(again, text + at, len) == 0);
		for (size_t cut = 1; cut < len; cut++)
			must(utf8_is_partial(text + at, cut));
		at += len;
	}
	must(at == valid);
	must(!utf8_is_partial(text + at, n - at < 4 ? n - at : 0) || n - at < 4);
	return 0;
}
