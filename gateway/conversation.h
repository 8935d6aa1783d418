/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CONVERSATION_H
#define GATEWAY_CONVERSATION_H

/* The turns of a session. Not locked: the session's lock guards it. */

#include "gateway/answer.h"
#include "gateway/money.h"

enum turn_state {
	TURN_RUNNING,   /* its answer is under way: the last turn only */
	TURN_DONE,      /* answered; the answer may be empty */
	TURN_CANCELLED, /* the answer is as much as readers got, perhaps nothing */
	TURN_FAILED,    /* as above; `error` says why */
	TURN_OPEN,      /* never asked here: the trailing user message of a messages.json */
	TURN_BLOCKED,   /* by a guard; as TURN_FAILED */
};

struct turn {
	uint64_t serial; /* unique in the session; its key in the store */
	struct text *user;
	struct answer *answer;  /* while it runs */
	struct text *assistant; /* afterwards; NULL: empty */
	struct text *error;     /* TURN_FAILED, TURN_BLOCKED; may be NULL */
	struct text *before;    /* what `chat` shows of turns whose place it took; or NULL */
	size_t prompt_bytes;    /* of the prompt's form in `chat` */
	enum turn_state state;
	struct trace_packed trace; /* of the request; zeros when it was not asked */
	money cost;                /* of it */
	bool killed;               /* decoded: it was under way when the daemon was killed */
	bool asked;                /* by a request, not by messages.json or a fork */
};

struct conversation {
	struct turn *turns; /* [n] */
	size_t n, cap;
	uint64_t next_serial;
	uint64_t settled_bytes; /* of all turns but a running one, in `chat` */
	uint64_t before_bytes;  /* of what is before them there */
	/* What is sent to the model: turns [0, head) and [first, n). truncate.h moves them. */
	size_t head, first;
};

/* Adds a turn at the end; takes references. 0 or -ENOMEM. With answer it is running, else it is
 * settled: state, assistant and error as given (may be NULL). */
int conversation_add(struct conversation *c, struct text *user, struct answer *answer,
	enum turn_state state, struct text *assistant, struct text *error, bool asked);
/* Settles the running turn; takes references of assistant and error. */
void conversation_settle(
	struct conversation *c, enum turn_state state, struct text *assistant, struct text *error);
/* Texts of settled turns were exchanged for others: counts `chat` anew. */
void conversation_recount(struct conversation *c);
/* The last turn, or NULL. */
struct turn *conversation_last(struct conversation *c);
/* Removes the last turn, and gives its serial. */
uint64_t conversation_drop_last(struct conversation *c);
/* The same, but *out takes it with its texts: conversation_turn_end lets go of them, or it is put
 * back. */
uint64_t conversation_take_last(struct conversation *c, struct turn *out);
/* Steals what was taken. 0 or -ENOMEM: it is lost. */
int conversation_put_back(struct conversation *c, struct turn *t);
/* The last turn, which has nothing before it yet, has taken the place of that one: `chat`, which
 * somebody may follow, goes on to show it. Nothing else does. Of one place that is at most
 * CONVERSATION_BEFORE_MAX bytes: what is there goes, all at once, when another turn would pass
 * that, for who follows the text must see it become shorter, and seldom. */
void conversation_stand_in(struct conversation *c, const struct turn *taken);
#define CONVERSATION_BEFORE_MAX ((size_t)64 << 10)
/* What `chat` shows before the last turn, which has nothing yet; NULL: nothing. Takes the
 * reference. */
void conversation_set_before(struct conversation *c, struct text *before);
/* Accepts a zeroed one; zeroes it. */
void conversation_turn_end(struct turn *t);
/* True for a turn that the next prompt replaces: settled without an answer. */
bool conversation_unanswered(const struct turn *t);
/* Shares the settled turns of another. 0 or -ENOMEM: unchanged. */
int conversation_copy(struct conversation *to, const struct conversation *from);
/* Empties it; serials go on. */
void conversation_clear(struct conversation *c);
/* conversation_clear, and the memory. */
void conversation_free(struct conversation *c);

/*
 * `chat`: for each turn the prompt, each line behind "> ", an empty line, the answer, an empty
 * line; a turn that broke off ends with a line "[cancelled]", "[failed: why]" or "[blocked: why]"
 * and an empty line. A turn that is under way is there from the first byte of its answer, so what
 * is refused before it never was. Thus the text only grows at its end, until turns are removed or
 * those of one place are too long.
 */
/* Exact, O(1). */
uint64_t conversation_chat_bytes(const struct conversation *c);
/* The chat text and JSON message list are rendered from a copy that shares the texts, outside the
 * session's lock. */
int conversation_render_chat(const struct conversation *c, struct buf *out);
int conversation_render_messages(
	const struct conversation *c, const char *system, size_t system_len, struct buf *out);
/* Like conversation_copy, with the running turn. For rendering. */
int conversation_snapshot(struct conversation *to, const struct conversation *from);

/* A turn as it is stored: conversation_stored.c. */
int conversation_encode(const struct turn *t, struct buf *out);
/* Adds a stored turn with its serial; one that was running becomes TURN_FAILED, "daemon restarted".
 * 0, -EBADMSG, -ENOMEM. */
int conversation_decode(struct conversation *c, uint64_t serial, const char *value, size_t len);

#endif
