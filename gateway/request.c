/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request as an object: what it is, and how it ends.
 *
 * Being over is apart from the stages it moves through (stages.c): a cancel at a shell makes a
 * request over at once, from any thread, with its answer ended, its turn settled and its tokens
 * charged, while the machine may still have to wait for the engine's last word before it can let
 * go. So a verb is in force when its write returns, and nothing is freed early.
 */
#include "gateway/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "gateway/route.h"
#include "gateway/session.h"
#include "gateway/stages.h"

/* ---- the object ---- */

static struct request_inbox *inbox_new(void)
{
	struct request_inbox *box = calloc(1, sizeof *box);
	if (box)
		pthread_mutex_init(&box->lock, NULL);
	return box;
}

struct request_inbox *request_inbox_free(struct request_inbox *box)
{
	if (!box)
		return NULL;
	buf_free(&box->news.text);
	pthread_mutex_destroy(&box->lock);
	free(box);
	return NULL;
}

/* Sentences are cut at a length and may name files: only what is UTF-8 becomes part of JSON. */
static struct text *sentence_text(const char *sentence)
{
	return text_new(sentence, utf8_valid_prefix(sentence, strlen(sentence)));
}

uint64_t request_next_id(struct gateway *g)
{
	return atomic_fetch_add(&g->next_request, 1) + 1;
}

static struct request *make(struct gateway *g, uint64_t id, uid_t uid)
{
	struct request *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	atomic_init(&r->refs, 1);
	r->g = g;
	r->uid = uid;
	r->id = id;
	r->finish = "";
	list_init(&r->link);
	stages_init(r);
	caching_wait_init(r);
	return r;
}

struct request *request_new(struct gateway *g, uint64_t id, struct text *prompt,
	const struct settings *settings, uid_t uid, const char *user)
{
	struct request *r = make(g, id, uid);
	if (!r)
		return NULL;
	snprintf(r->user, sizeof r->user, "%s", user);
	r->prompt = text_ref(prompt);
	settings_copy(&r->settings, settings);
	r->inbox = inbox_new();
	r->answer = answer_new(g);
	r->times.submitted_ns = clock_mono_ns();
	return r->inbox && r->answer ? r : request_put(r);
}

struct request *request_over(struct gateway *g, uint64_t id, enum request_state state, int code,
	const char *sentence, struct text *answer, uid_t uid)
{
	struct request *r = make(g, id, uid);
	if (!r)
		return NULL;
	r->state = state;
	r->over = true;
	r->stage = STAGE_RELEASED;
	r->code = code;
	r->error = sentence ? sentence_text(sentence) : NULL;
	r->answer = answer_of(g, answer, code);
	return r->answer ? r : request_put(r);
}

struct request *request_ref(struct request *r)
{
	atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	return r;
}

struct request *request_put(struct request *r)
{
	if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	request_put(r->behind);
	book_claim_return(r->claim);
	conversation_turn_end(&r->replaced);
	request_inbox_free(r->inbox);
	text_put(r->prompt);
	text_put(r->error);
	text_put(r->said);
	settings_clear(&r->settings);
	route_free(r->route);
	router_decision_free(r->decision);
	buf_free(&r->held);
	buf_free(&r->best);
	answer_put(r->answer);
	free(r);
	return NULL;
}

const char *request_state_word(const struct request *r)
{
	static const char *const words[] = {
		[REQUEST_QUEUED] = "queued",
		[REQUEST_GENERATING] = "generating",
		[REQUEST_DONE] = "done",
		[REQUEST_FAILED] = "failed",
		[REQUEST_CANCELLED] = "cancelled",
		[REQUEST_BLOCKED] = "blocked",
	};
	return words[r->state];
}

/* ---- the end ---- */

/* Of its judges, and of the models that the router has asked, which are shown as judges. */
static void take_judges(struct request *r, const struct book_claim *c)
{
	struct money_tokens *sum = &r->judge_usage, more;
	r->judge_cost = book_claim_judges(c, BOOK_JUDGE, sum);
	r->judge_cost = money_add(r->judge_cost, book_claim_judges(c, BOOK_OPINION, &more));
	sum->prompt += more.prompt;
	sum->cached += more.cached;
	sum->output += more.output;
	r->lookup_cost = book_claim_judges(c, BOOK_EMBEDDING, &r->lookup_usage);
}

void request_charge(struct request *r, const char *status)
{
	struct book_claim *c = r->claim;
	r->claim = NULL;
	if (c)
		take_judges(r, c);
	if (c && r->claim_started)
		r->cost = book_claim_settle(c,
			&(struct money_tokens){.prompt = r->attempt_usage.prompt_tok,
				.cached = r->attempt_usage.cached_tok,
				.output = r->attempt_usage.output_tok},
			status);
	else
		book_claim_return(c);
	if (c && !r->claim_started)
		r->cost = money_add(r->judge_cost, r->lookup_cost);
}

void request_settle_turn(struct request *r)
{
	struct session *s = r->session;
	/* Cancelled before its turn: it is an unanswered one, so that it can be retried; unless
	 * that is told so late that another one is under way, whose turn is to stay the last. One
	 * that is being stored has settled its own. */
	bool late = s->running && s->running->in_turn;
	if (r->state == REQUEST_CANCELLED && !r->in_turn && !r->finishing && !s->unlisted && !late)
		session_begin_turn(s, r);
	if (!r->in_turn)
		return;
	r->in_turn = false;
	bool cut = r->state == REQUEST_CANCELLED;
	struct text *assistant = answer_seal(r->answer, cut);
	enum turn_state state = r->state == REQUEST_CANCELLED ? TURN_CANCELLED
				: r->state == REQUEST_FAILED  ? TURN_FAILED
				: r->state == REQUEST_BLOCKED ? TURN_BLOCKED
							      : TURN_DONE;
	conversation_settle(&s->conversation, state, assistant, r->error);
	text_put(assistant);
	struct trace_times times = r->times;
	times.settled_ns = clock_mono_ns(); /* as good as known: it is being stored */
	struct turn *turn = conversation_last(&s->conversation);
	trace_pack(&turn->trace, &times, &r->usage, r->finish);
	turn->cost = r->cost;
	r->refused = r->refused || r->code == -EMSGSIZE;
	if (r->refused) {
		session_drop_turn(s); /* refused, not unanswered */
		if (r->replaced.user)
			session_put_turn_back(s, &r->replaced);
	} else {
		session_store_turn(s, turn);
	}
	conversation_turn_end(&r->replaced);
}

void request_count(struct request *r)
{
	struct session *s = r->session;
	if (r->counted)
		return;
	r->counted = true;
	s->sums.requests++;
	s->sums.prompt_tok += r->usage.prompt_tok;
	s->sums.cached_tok += r->usage.cached_tok;
	s->sums.output_tok += r->usage.output_tok;
	s->sums.cost += r->cost;
	session_touch(s);
}

/* With the session's lock held. */
static void leave_session(struct request *r)
{
	struct session *s = r->session;
	bool was_running = s->running == r;
	if (was_running) {
		s->running = NULL;
		session_count_running(s, -1);
	}
	if (!list_empty(&r->link)) {
		list_remove(&r->link);
		session_count_queued(s, -1);
		request_put(r); /* the queue's */
	}
	session_unstore_queued(s, r);
	if (r->counted)
		session_stamp_views(s);
	request_count(r);
	session_event(s, request_state_word(r), r);
	session_tell_asker(s, r);
	session_poke(s, SESSION_CHAT_CHANGED);
	if (was_running)
		request_put(r);
}

void request_settle(struct request *r, enum request_state state, int code, const char *sentence,
	bool even_stored)
{
	if (r->over || (r->finishing && !even_stored))
		return;
	request_ref(r);
	r->over = true;
	r->state = state;
	r->code = code;
	text_put(r->error);
	r->error = code ? sentence_text(sentence) : NULL;
	r->times.settled_ns = clock_mono_ns();
	request_charge(r, request_state_word(r));
	request_settle_turn(r);
	leave_session(r);
	answer_end(r->answer, code, state == REQUEST_CANCELLED);
	session_store_ended(r->session, r); /* its readers need not wait for that */
	stages_post(r);
	request_put(r);
}
