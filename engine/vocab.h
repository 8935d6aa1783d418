/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_VOCAB_H
#define ENGINE_VOCAB_H

/* The tokens of a vocabulary: their bytes, their kinds, and the way back from bytes to an id. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/gguf.h"

#define VOCAB_NONE UINT32_MAX
#define VOCAB_MAX_TOKEN_BYTES 4096

enum vocab_kind { /* the numbers of tokenizer.ggml.token_type */
	VOCAB_NORMAL = 1,
	VOCAB_UNKNOWN = 2,
	VOCAB_CONTROL = 3,
	VOCAB_USER = 4, /* found in text before anything is merged */
	VOCAB_UNUSED = 5,
	VOCAB_BYTE = 6,
};

/* What is known about cutting a token's own text: whether that gives just the token. */
enum vocab_whole { VOCAB_WHOLE_UNKNOWN, VOCAB_WHOLE_YES, VOCAB_WHOLE_NO };

struct vocab_slot {
	uint32_t tag; /* of the hash, so that most wrong slots cost no look at the bytes */
	uint32_t id;  /* VOCAB_NONE: free */
};

struct vocab {
	uint32_t n;
	char *bytes;              /* all tokens, one behind the other */
	uint32_t *starts;         /* [n + 1] into bytes */
	uint8_t *kinds;           /* [n] of enum vocab_kind */
	_Atomic uint8_t *whole;   /* [n] of enum vocab_whole: filled in as words are met */
	struct vocab_slot *slots; /* normal and user-defined tokens by their bytes */
	size_t mask;
	uint64_t seed;
	uint32_t *controls; /* sorted by text */
	uint32_t n_controls;
	uint32_t *users; /* sorted by text; user-defined tokens */
	uint32_t n_users;
	bool user_starts[256]; /* the first bytes of user-defined tokens */
};

/* Copies tokens and kinds. Kinds: the file's, but whatever looks like a control token (<|...|> and
 * the well-known ones) is one, so that a careless converter does not let a user write it. -EBADMSG,
 * -ENOMEM. On failure vocab_end is still due. */
int vocab_init(struct vocab *v, const struct gguf *g, struct err *err);
/* Makes a token a control token: before vocab_index. */
void vocab_make_control(struct vocab *v, uint32_t id);
/* Builds the look-ups, when bytes and kinds are final. */
int vocab_index(struct vocab *v, struct err *err);
/* Total; v may be zeroed. */
void vocab_end(struct vocab *v);

static inline const char *vocab_text(const struct vocab *v, uint32_t id, size_t *len)
{
	*len = v->starts[id + 1] - v->starts[id];
	return v->bytes + v->starts[id];
}

/* The normal or user-defined token of these bytes, or VOCAB_NONE. O(n). */
uint32_t vocab_find(const struct vocab *v, const char *text, size_t n);
/* The control token of this text, or VOCAB_NONE. */
uint32_t vocab_find_control(const struct vocab *v, const char *text, size_t n);
/* The longest user-defined token that text begins with, or VOCAB_NONE. */
uint32_t vocab_match_user(const struct vocab *v, const char *text, size_t n);
/* The place of the first user-defined token in text, its id in *id; n and VOCAB_NONE when there is
 * none. */
size_t vocab_next_user(const struct vocab *v, const char *text, size_t n, uint32_t *id);

#endif
