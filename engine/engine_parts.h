/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_ENGINE_PARTS_H
#define ENGINE_ENGINE_PARTS_H

/* What engine_open puts together from a file and the options, before there is a worker. */

#include <signal.h>
#include <stdbool.h>

#include "base/err.h"
#include "engine/chat.h"
#include "engine/chat_opening.h"
#include "engine/embedder.h"
#include "engine/encoder.h"
#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/json.h"
#include "engine/model.h"
#include "engine/sched.h"
#include "engine/tokenizer.h"

struct engine_parts {
	struct gguf *gguf;
	struct tokenizer *tokenizer;
	const struct chat_family *family; /* these four: not of an encoder */
	char *opening;                    /* chat_opening.h; NULL: none */
	struct json_vocab *json_vocab;
	struct model *model;
	struct encoder *encoder; /* instead */
	char *name, *template_note, *backend_note;
	struct engine_info info;
	struct sched_options sched_options; /* all but over */
	struct embedder_options embedder_options;
};

/* Fills *p, which is zeroed. Errors as engine_open; engine_parts_close in any case. */
int engine_parts_open(struct engine_parts *p, const char *path,
	const struct engine_options *options, const volatile bool *stop, struct err *err);
void engine_parts_close(struct engine_parts *p);
/* The same as far as there are neither weights nor a back end: engine_check. */
int engine_parts_check(struct engine_parts *p, const char *path,
	const struct engine_options *options, struct err *err);

/* Blocks in the calling thread, so in threads it starts, all signals but those of faults: signals
 * are for the program's own threads. *before: the mask to restore. */
void engine_parts_block_signals(sigset_t *before);

#endif
