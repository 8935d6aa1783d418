/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A text of lines: the revision, and what this engine made of a file when it was opened. Only what
 * a template is taken for, and the system message found in it, decide on the rendering: the rest of
 * its text is not looked at, and is in the file, which callers know by other means. The processor's
 * paths make the same sums; those of GPUs are their own. So may be the context: what is left out of
 * a conversation, and where an answer ends, goes by it, and it goes by the memory that was free.
 */
#include "engine/identity.h"

#include <string.h>

#include "engine/engine_parts.h"

int identity_append(const struct engine_parts *p, struct buf *out)
{
	int r = buf_append_str(out, "engine " IDENTITY_REVISION "\n");

	if (r < 0 || !p)
		return r;
	const struct engine_info *i = &p->info;
	bool processor = strncmp(i->backend, "cpu/", 4) == 0;

	r = buf_printf(out, "tokenizer %s\nchat %s\npooling %s\nsums %s\ncontext %u\n",
		i->tokenizer, i->chat_family, i->pooling, processor ? "cpu" : i->backend,
		i->context_tok);
	if (r == 0 && p->opening) /* the last: it may have lines of its own */
		r = buf_printf(out, "opening %s\n", p->opening);
	return r;
}
