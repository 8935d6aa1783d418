/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_JUDGE_H
#define GATEWAY_JUDGE_H

/*
 * Asks a judge model about a text: for the guards, or a question of the router's.
 *
 * For the guards the text goes to the model of guards/moderation in its form, in
 * pieces where it does not fit (pieces.h); it is unsafe when one piece is: then the rest is not
 * asked. A piece is unsafe when p(unsafe) / (p(safe) + p(unsafe)) of the first word of the answer
 * reaches the threshold; when both together are less than one in ten thousand, the model is no
 * judge and there is no verdict.
 *
 * A question (question.h) is asked whole, or not at all where the model's context is too short for
 * it. The verdict is from the probabilities of its words as the first of the answer; where the
 * model gives none, or they are none of the words, from the first line that it writes, strictly.
 *
 * Judges are requests like others to the engine, in the same batch. Of the guards' at most
 * JUDGE_RUNNING_MAX of a gateway run at a time, at most JUDGE_WAITING_MAX wait; of questions, each
 * kind apart, JUDGE_QUESTIONS_MAX and JUDGE_QUESTIONS_WAITING_MAX: whatever becomes of these, the
 * guards do not wait for it. Users in turn, each one's in order of their beginning (gate.h). A
 * question also takes a place among its model's requests_max, and waits for one within its time.
 *
 * What a judge computes is paid by whose text it judges: before each piece the payer is asked, and
 * it is told what the piece took.
 */

#include "gateway/book.h"
#include "gateway/core.h"
#include "gateway/moderation.h"
#include "gateway/question.h"

#define JUDGE_RUNNING_MAX 64
#define JUDGE_WAITING_MAX 4096
#define JUDGE_QUESTIONS_MAX 32
#define JUDGE_QUESTIONS_WAITING_MAX 256

struct judge;

struct judge_verdict {
	int status;  /* 0; or -errno: there is no verdict, what now is on_error's affair */
	bool unpaid; /* with a status: the payer would not; on_error has no say in that */
	struct question_said said; /* of a question, with status 0; nothing below but err */
	bool unsafe;               /* the rest: with status 0 only */
	double p;            /* of the piece that was found unsafe, or of the least safe one */
	char categories[64]; /* "S1,S10": what the model said, only names that exist; "" */
	struct err err;      /* the sentence of a status */
};

typedef void judge_done_fn(void *arg, const struct judge_verdict *verdict);

/* Both on the loop, without locks, not once judge_cancel was called there. */
struct judge_payer {
	/* A piece is about to be asked: 0, or -errno with a sentence, and it is not. */
	int (*asked)(void *arg, const struct book_judge *most, struct err *err);
	/* It took that; not called for one that never got so far. */
	void (*took)(void *arg, const struct money_tokens *tokens);
};

/* A question of the router's. Borrowed for the call, the model's name too. */
struct judge_question {
	enum question_kind kind;
	const char *model; /* a name below models/; none of the router's own can be asked */
	unsigned timeout_ms;
	struct text *text; /* question_quality's or question_class's */
};

struct judge_job {
	struct gateway *g;
	const struct judge_question *question; /* or NULL, and: */
	struct moderation *moderation;
	enum guard_stage stage;
	struct text *user; /* may be NULL, of an output */
	const char *agent; /* of an output: [agent_len] */
	size_t agent_len;
	uid_t uid; /* whose text it is: whose turn it takes */
	judge_done_fn *done;
	void *arg;
	const struct judge_payer *payer; /* static; NULL: nobody pays */
	void *payer_arg;
};

/*
 * Begins to judge a text of that stage: the user's, or the agent's as an answer to the user's. new
 * *out, which lasts until judge_cancel. Takes references of moderation and user and copies agent;
 * both texts are UTF-8. Any thread; costs no more than that copy.
 *
 * done(arg, verdict) comes once, on the gateway's loop thread and never from within this call, with
 * no lock held; it may call whatever it likes, judge_cancel of this judge too. It comes
 * timeout_ms from now at the latest (-ETIMEDOUT; if the verdict is there by then and only
 * categories are missing, that verdict), however long the queue is and whatever the model does.
 * Other statuses: -EHOSTUNREACH, -EBADMSG, -ENOTSUP ...: the model is missing or cannot be loaded;
 * -ECANCELED: it was unloaded, or the gateway stops; -EMSGSIZE: its context is too short for the
 * form; -EIO: it says neither word; what the provider said; what
 * the payer said (unpaid).
 *
 * Of a question: -EIO also when what it writes is none of the words; -EMSGSIZE: the context is too
 * short for the question. The answer is told with its first word, or its first
 * line where words have no probabilities, and ends there.
 *
 * 0; -ESHUTDOWN; -EBUSY: too many wait; -EINVAL: this stage is not judged; -ENOMEM. Then done does
 * not come and *out is NULL.
 */
int judge_begin(struct judge **out, const struct judge_job *job, struct err *err);

/*
 * Lets go of it, whether or not done has come: done is not called any more after this returns. What
 * still runs is cancelled and cleans up behind itself. Any thread; from another than the loop's it
 * waits for a done that is being called, so hold no lock that done takes. Accepts NULL, returns
 * NULL.
 */
struct judge *judge_cancel(struct judge *j);

#endif
