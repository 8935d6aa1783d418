/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_JUDGE_PARTS_H
#define GATEWAY_JUDGE_PARTS_H

/* Inside of a judge, for judge*.c. */

#include "gateway/judge.h"
#include "gateway/model.h"
#include "gateway/pieces.h"

enum { JUDGE_ANSWER_TOK = 64 };

enum judge_stage {
	JUDGE_WAITING, /* behind others, or just begun */
	JUDGE_GATE,    /* a question: its model has enough to do */
	JUDGE_MODEL,   /* waits for the model to be loaded */
	JUDGE_RENDER,  /* a prompt is being made */
	JUDGE_ASK,     /* in the provider's hands */
	JUDGE_RELEASED,
};

/* What other threads have to say. told is the model's; from rendered on it is about the present
 * piece. */
struct judge_news {
	bool admitted, has_place, told, rendered, known, ended;
	bool has_line; /* of what answers a question another line is complete */
	int told_status, end_status;
	float p[QUESTION_WORDS_MAX]; /* of the words */
	struct trace_usage usage;
	struct err told_err, end_err;
};

struct judge {
	atomic_uint refs;
	struct gateway *g;         /* a reference */
	char name[TEXT_NAME_SIZE]; /* of its model */
	unsigned timeout_ms;
	struct moderation *moderation; /* NULL: it is a question, */
	enum question_kind kind;       /* of that kind, */
	struct text *question;         /* and this is asked */
	struct text *user_text, *agent_text;
	judge_done_fn *done;
	void *arg;
	const struct judge_payer *payer;
	void *payer_arg;

	pthread_mutex_t lock; /* guards down to `answer` */
	pthread_cond_t told_end;
	bool told, telling, cancelled; /* told: done was or is being called */
	struct judge_news news;
	struct buf answer; /* to the present piece */

	struct gate_user at_gate;
	struct gate_user at_model; /* its gate, of a question */

	/* The loop's. */
	enum judge_stage stage;
	bool rendering, cancel_sent, decided;
	bool unsafe; /* decided, and only what comes behind the first word is missing */
	bool owes;   /* the payer was asked for the present piece, and not told yet */
	double p;    /* the greatest so far */
	struct model *model;
	struct model_user user;
	struct pieces pieces;
	struct provider_prompt prompt;
	int render_status;
	struct err render_err;
	uint64_t provider_id;
	struct loop_timer timer;
	struct loop_work work, render_work;
};

/* ---- judge.c ---- */

struct judge *judge_ref(struct judge *j);
struct judge *judge_put(struct judge *j); /* accepts NULL, returns NULL */
/* Where it waits for its turn. */
struct gate *judge_gate(const struct judge *j);
/* Whether it has told its verdict, or is not to any more. Any thread. */
bool judge_is_over(struct judge *j);
/* Lets the machine look. Any thread. */
void judge_post(struct judge *j);

/* All the others on the loop, without locks. */

/* Calls done, unless it was called or is not to be. */
void judge_tell(struct judge *j, const struct judge_verdict *v);
/* The piece is unsafe: with what is there of its categories. */
void judge_tell_unsafe(struct judge *j);
/* There is no verdict, unless it is known already. */
void judge_fail(struct judge *j, int status, const struct err *err);
/* 0, or -errno: the payer would not, and the judge has said so. */
int judge_ask_payer(struct judge *j);
/* The present piece took that: told once. */
void judge_tell_payer(struct judge *j, const struct trace_usage *usage);

/* ---- judge_stages.c ---- */

/* Of one that is being made: what moves it when judge_post was called. */
void judge_stages_init(struct judge *j);

/* ---- judge_question.c: of one that has no moderation ---- */

/* At the gate of its model. True: it is in; else its place comes, or it has failed. */
bool judge_question_enter(struct judge *j);
/* The whole of it, into j->prompt; as pieces_next. Also on the texts' thread. */
int judge_question_render(struct judge *j, const struct loaded *l);
/* The probabilities of its words are known: the answer, where they have any. */
void judge_question_decide(struct judge *j, const struct judge_news *news);
/* A line of what it writes is complete, or it has ended: that is the answer, or none, once its
 * first line is known. */
void judge_question_read(struct judge *j, const struct judge_news *news);

#endif
