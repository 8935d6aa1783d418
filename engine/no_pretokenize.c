/* SPDX-License-Identifier: Apache-2.0 */
/* Words for byte-level BPE in a build without PCRE2 (-Dengine_only=true where it is not there):
 * such a vocabulary turns tokens into text, but no text into tokens; models are asked with numbers
 * of tokens.
 */
#include <errno.h>

#include "engine/pretokenize.h"

struct pretokenizer {
	char none;
};

int pretokenizer_new(struct pretokenizer **out, const char *name, size_t len, struct err *err)
{
	static struct pretokenizer it;
	*out = &it;
	return 0;
}

struct pretokenizer *pretokenizer_free(struct pretokenizer *p)
{
	return NULL;
}

bool pretokenizer_ignores_merges(const struct pretokenizer *p)
{
	return false;
}

int pretokenizer_split(const struct pretokenizer *p, const char *text, size_t n,
	pretokenizer_word_fn *word, void *arg)
{
	return -ENOTSUP;
}
