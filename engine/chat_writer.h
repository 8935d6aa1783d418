/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CHAT_WRITER_H
#define ENGINE_CHAT_WRITER_H

/* Where chat.c writes a conversation: texts and control tokens in, ids out. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "engine/tokenizer.h"

#define CHAT_WRITER_MAX ((size_t)4 << 30) /* of text */

struct chat_writer {
	const struct tokenizer *t;
	struct token_list *out;
	struct buf text; /* not tokenised yet */
	bool at_start;   /* `text` opens the sequence or follows a control token */
	int status;      /* the first failure; after it nothing is written any more */
};

/* Nothing is done after the first failure. */
void chat_writer_bytes(struct chat_writer *w, const char *text, size_t n);
void chat_writer_text(struct chat_writer *w, const char *text);
void chat_writer_id(struct chat_writer *w, uint32_t id);
/* The token of that text, or the text. */
void chat_writer_control(struct chat_writer *w, const char *text);
void chat_writer_bos(struct chat_writer *w); /* if the vocabulary has one */
/* For families whose template leaves the bos to the tokenizer. */
void chat_writer_bos_if_added(struct chat_writer *w);
void chat_writer_eos(struct chat_writer *w);
/* Tokenises what has been written: what comes next is tokenised apart from it. */
void chat_writer_flush(struct chat_writer *w);

#endif
