/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control tokens are placed by id; texts between them are tokenised together, as the libraries do
 * it. A control text that a vocabulary does not have as a token is written as text: such models
 * were trained so.
 */
#include "engine/chat_writer.h"

#include <string.h>

void chat_writer_flush(struct chat_writer *w)
{
	if (w->status == 0 && w->text.len > 0) {
		w->status = tokenizer_encode(w->t, w->text.data, w->text.len, w->at_start, w->out);
		w->at_start = false;
		buf_clear(&w->text);
	}
}

void chat_writer_bytes(struct chat_writer *w, const char *text, size_t n)
{
	if (w->status == 0 && n > 0)
		w->status = buf_append(&w->text, text, n);
}

void chat_writer_text(struct chat_writer *w, const char *text)
{
	chat_writer_bytes(w, text, strlen(text));
}

void chat_writer_id(struct chat_writer *w, uint32_t id)
{
	chat_writer_flush(w);
	if (w->status == 0)
		w->status = token_list_add(w->out, id);
	w->at_start = true;
}

void chat_writer_control(struct chat_writer *w, const char *text)
{
	uint32_t id = tokenizer_control(w->t, text);

	if (id == TOKENIZER_NONE)
		chat_writer_text(w, text);
	else
		chat_writer_id(w, id);
}

void chat_writer_bos(struct chat_writer *w)
{
	if (tokenizer_bos(w->t) != TOKENIZER_NONE)
		chat_writer_id(w, tokenizer_bos(w->t));
}

void chat_writer_bos_if_added(struct chat_writer *w)
{
	if (tokenizer_adds_bos(w->t))
		chat_writer_bos(w);
}

void chat_writer_eos(struct chat_writer *w)
{
	if (tokenizer_eos(w->t) != TOKENIZER_NONE)
		chat_writer_id(w, tokenizer_eos(w->t));
	else
		chat_writer_control(w, "</s>");
}
