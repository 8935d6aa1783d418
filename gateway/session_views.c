/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a session looks like: the texts behind its live files. The conversation is rendered from a
 * copy that shares its texts, so that a reader of a long one holds up nobody.
 *
 * `usage`: the newest request's numbers, one "name value" a line, then the sums of the session:
 *	prompt_tokens cached_tokens output_tokens [queued_ms] [ttft_ms] [total_ms]
 *	[tokens_per_second] cost [judge_prompt_tokens judge_cached_tokens judge_output_tokens
 *judge_cost] [embedding_tokens embedding_cost] [model] [provider] [seed] [finish] [cache]
 *	session_requests session_prompt_tokens session_cached_tokens session_output_tokens
 *	session_cost
 * After a restart it says the same (session_last.c).
 *
 * Nobody can look into the session of a channel: of it there is only what its asker is told.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/ask_errors.h"
#include "gateway/route.h"
#include "gateway/session.h"

static int render_conversation(struct session *s, enum session_view view, struct buf *out)
{
	struct conversation copy = {0};
	pthread_mutex_lock(&s->lock);
	int r = conversation_snapshot(&copy, &s->conversation);
	struct text *system = text_ref(s->settings.value[SETTING_SYSTEM]);
	pthread_mutex_unlock(&s->lock);
	if (r == 0 && view == SESSION_CHAT)
		r = conversation_render_chat(&copy, out);
	else if (r == 0)
		r = conversation_render_messages(
			&copy, system ? system->bytes : "", text_len(system), out);
	conversation_free(&copy);
	text_put(system);
	return r;
}

static int render_error(const struct session *s, struct buf *out)
{
	const struct text *t = s->note && !s->note_withdrawn ? s->note
			       : s->newest                   ? s->newest->error
							     : NULL;
	int r = t ? buf_append(out, t->bytes, t->len) : 0;
	return r || !t ? r : buf_append(out, "\n", 1);
}

static int render_cost(const char *name, money cost, struct buf *out)
{
	int e = buf_printf(out, "%s ", name);
	e = e ? e : money_print(cost, out);
	return e ? e : buf_append(out, "\n", 1);
}

/* What judges of its texts had, in `cost` too. */
static int render_judges(const struct request *r, struct buf *out)
{
	const struct money_tokens *t = &r->judge_usage;
	if (!t->prompt && !t->output)
		return 0;
	int e = buf_printf(out,
		"judge_prompt_tokens %" PRIu64 "\njudge_cached_tokens %" PRIu64
		"\njudge_output_tokens %" PRIu64 "\n",
		t->prompt, t->cached, t->output);
	return e ? e : render_cost("judge_cost", r->judge_cost, out);
}

/* What the vector took by which the cache looked, in `cost` too. */
static int render_lookup(const struct request *r, struct buf *out)
{
	if (!r->lookup_usage.prompt)
		return 0;
	int e = buf_printf(out, "embedding_tokens %" PRIu64 "\n", r->lookup_usage.prompt);
	return e ? e : render_cost("embedding_cost", r->lookup_cost, out);
}

static const char *const cache_levels[] = {
	[CACHE_L1] = "l1", [CACHE_L2] = "l2", [CACHE_L3] = "semantic", [CACHE_FLIGHT] = "shared"};

/* What is not known has no line. */
static int render_ms(const char *name, uint64_t from_ns, uint64_t to_ns, struct buf *out)
{
	return to_ns ? buf_printf(out, "%s %.3f\n", name, trace_ms(from_ns, to_ns)) : 0;
}

/* Of the model that answered, behind its first token. */
static int render_rate(const struct request *r, uint64_t last_ns, struct buf *out)
{
	uint64_t tok = r->attempt_usage.output_tok;
	double ms = trace_ms(r->times.first_ns, last_ns);
	if (!trace_has_rate(tok, ms))
		return 0;
	return buf_printf(out, "tokens_per_second %.1f\n", (double)(tok - 1) / ms * 1e3);
}

static int render_request_usage(const struct request *r, struct buf *out)
{
	const struct trace_times *t = &r->times;
	/* One that a kill cut off was never settled: its end is not known, and not now. */
	bool under_way = r->state == REQUEST_QUEUED || r->state == REQUEST_GENERATING;
	uint64_t end_ns = t->settled_ns || !under_way ? t->settled_ns : clock_mono_ns();
	int e = buf_printf(out,
		"prompt_tokens %" PRIu64 "\ncached_tokens %" PRIu64 "\noutput_tokens %" PRIu64 "\n",
		r->usage.prompt_tok, r->usage.cached_tok, r->usage.output_tok);
	e = e ? e
	      : render_ms(
			"queued_ms", t->submitted_ns, t->running_ns ? t->running_ns : end_ns, out);
	e = e ? e : render_ms("ttft_ms", t->submitted_ns, trace_first_ns(t), out);
	e = e ? e : render_ms("total_ms", t->submitted_ns, end_ns, out);
	e = e ? e : render_rate(r, t->generated_ns ? t->generated_ns : end_ns, out);
	e = e ? e : render_cost("cost", r->cost, out);
	e = e ? e : render_judges(r, out);
	e = e ? e : render_lookup(r, out);
	if (e == 0 && *r->model_name)
		e = buf_printf(out, "model %s\n", r->model_name);
	if (e == 0 && r->provider && !r->served_by)
		e = buf_printf(out, "provider %s\n", r->provider);
	if (e == 0 && r->seeded)
		e = buf_printf(out, "seed %" PRIu64 "\n", r->seed);
	if (e == 0 && *r->finish)
		e = buf_printf(out, "finish %s\n", r->finish);
	if (e == 0 && r->served_by)
		e = buf_printf(out, "cache %s\n", cache_levels[r->served_by]);
	return e;
}

static int render_usage(const struct session *s, struct buf *out)
{
	int r = s->newest ? render_request_usage(s->newest, out) : 0;
	r = r ? r
	      : buf_printf(out,
			"session_requests %" PRIu64 "\nsession_prompt_tokens %" PRIu64
			"\nsession_cached_tokens %" PRIu64 "\nsession_output_tokens %" PRIu64 "\n",
			s->sums.requests, s->sums.prompt_tok, s->sums.cached_tok,
			s->sums.output_tok);
	return r ? r : render_cost("session_cost", s->sums.cost, out);
}

int session_render_route(const struct request *r, struct buf *out)
{
	if (r->said)
		return buf_append(out, r->said->bytes, r->said->len);
	int e = r->decision ? router_decision_json(r->decision, out) : 0;
	if (e == 0 && r->route && (r->decision || route_count(r->route) > 1))
		e = route_json(r->route, out);
	return e;
}

/* The stages, and where there was a choice, how it was made and what came of each model. */
static int render_trace(const struct request *r, struct buf *out)
{
	int e = r->id ? buf_printf(out, "request %" PRIu64 "\n", r->id) : 0;
	e = e ? e : trace_render_stages(&r->times, out);
	return e ? e : session_render_route(r, out);
}

static int render_locked(struct session *s, enum session_view view, struct buf *out)
{
	switch (view) {
	case SESSION_STATUS:
		return buf_printf(out, "%s\n", s->newest ? request_state_word(s->newest) : "idle");
	case SESSION_ERROR:
		return render_error(s, out);
	case SESSION_USAGE:
		return render_usage(s, out);
	case SESSION_TRACE:
		return s->newest ? render_trace(s->newest, out) : 0;
	case SESSION_EVENTS:
		return s->events.len ? buf_append(out, s->events.data, s->events.len) : 0;
	case SESSION_CHAT:
	case SESSION_MESSAGES:
		break;
	}
	return -EINVAL;
}

int session_render(struct session *s, enum session_view view, struct buf *out)
{
	size_t before = out->len;
	int r;
	if (view == SESSION_CHAT || view == SESSION_MESSAGES) {
		r = render_conversation(s, view, out);
	} else {
		pthread_mutex_lock(&s->lock);
		r = render_locked(s, view, out);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_lock(&s->lock);
	s->view_bytes[view] = out->len - before;
	pthread_mutex_unlock(&s->lock);
	return r;
}

void session_view_size(
	struct session *s, enum session_view view, uint64_t *bytes, uint64_t *changed_ns)
{
	pthread_mutex_lock(&s->lock);
	*bytes = view == SESSION_CHAT     ? conversation_chat_bytes(&s->conversation)
		 : view == SESSION_EVENTS ? s->events.len
					  : s->view_bytes[view];
	*changed_ns = s->view_ns[view];
	pthread_mutex_unlock(&s->lock);
}

/* ---- of a channel ---- */

static void tell_asker(struct session *s, uid_t uid, const char *sentence)
{
	bool of_model = s->channel == GATEWAY_ASK || s->channel == GATEWAY_EMBED;
	if (s->alone)
		ask_errors_note(s->g->ask_errors, of_model ? s->asked : ASK_ERRORS_OF(s->channel),
			uid, gateway_channel_name(s->channel), sentence);
}

void session_tell_asker(struct session *s, const struct request *r)
{
	tell_asker(s, r->uid, r->error ? r->error->bytes : r->code ? strerror(-r->code) : NULL);
}

void session_tell_given_up(struct session *s, uid_t uid)
{
	struct err why;
	if (!s->alone)
		return;
	err_set(&why, 0,
		"the prompt was given up: the file was closed before its answer was read; open it "
		"once for both, as a shell does with exec 3<>%s",
		gateway_channel_name(s->channel));
	tell_asker(s, uid, why.text);
}
