/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What looks like a key is found by its looks (protocol.c), which misses some; a key that is known
 * is found for certain. A server may have cut it, or put something into it: so parts of it are
 * found as well. Bytes are marked first and written afterwards, as runs may overlap.
 */
#include "gateway/redact.h"

#include <stdbool.h>
#include <string.h>

enum { TEXT_MAX = 1024 };
static const char dots[] = "...";

/* How many bytes at `text` are bytes in a row of the secret, at most. */
static size_t longest_run(const char *text, const char *secret)
{
	size_t longest = 0;
	for (const char *s = secret; *s; s++) {
		size_t n = 0;
		while (text[n] && text[n] == s[n])
			n++;
		longest = n > longest ? n : longest;
	}
	return longest;
}

void redact(char *text, size_t size, const char *secret)
{
	char out[TEXT_MAX];
	bool hidden[TEXT_MAX] = {false};
	size_t len = strnlen(text, size), secret_len = secret ? strlen(secret) : 0, n = 0;
	size_t least = secret_len < REDACT_RUN ? secret_len : REDACT_RUN;
	if (!secret_len || !len)
		return;
	len = len < TEXT_MAX ? len : TEXT_MAX - 1;
	size = size < TEXT_MAX ? size : TEXT_MAX;
	text[len < size ? len : size - 1] = '\0';
	for (size_t i = 0; text[i]; i++) {
		size_t run = longest_run(text + i, secret);
		if (run >= least)
			memset(hidden + i, true, run);
	}
	for (size_t i = 0; text[i] && n + 1 < size; i++) {
		size_t more = !hidden[i] ? 1 : i && hidden[i - 1] ? 0 : sizeof dots - 1;
		if (n + more >= size)
			break;
		memcpy(out + n, hidden[i] ? dots : text + i, more);
		n += more;
	}
	memcpy(text, out, n);
	text[n] = '\0';
}
