/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `usage`, `trace` and `out` say of a session's last request beside what its turn has: kept so
 * that they say the same after a restart.
 *
 *	r/ID          a line of numbers (enum field), the first of them the serial of its turn; a
 *	              line "MODEL PROVIDER"; then what `trace` shows behind the times
 *
 * It is written behind the end of the request, when all of it is known, and waited for by nobody:
 * who kills the daemon in that moment finds what the turn has. Only what trace shows behind the
 * times, which takes as long to write down as half of the rest of a request, comes a second later,
 * once for all requests of the session in that second, one session in a step of the loop. A record
 * of another turn than the last is none: that one was replaced. It goes with the last turn of a
 * conversation that is emptied, as serials begin anew after a restart. Later llmfs add numbers at
 * the end of the line.
 *
 * Locks: the session's, which the caller holds; the list of sessions that are due is the loop's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/session.h"

enum { KEY_SIZE = 2 + TEXT_NAME_SIZE, NO_PROVIDER = '-' };

enum field {
	F_SERIAL,
	F_ID,
	F_CODE, /* -errno, as a positive number */
	F_SERVED_BY,
	F_SEEDED,
	F_SEED,
	F_JUDGE_PROMPT,
	F_JUDGE_CACHED,
	F_JUDGE_OUTPUT,
	F_JUDGE_COST,
	F_LOOKUP,
	F_LOOKUP_COST,
	F_TIMES, /* in ns since the submission, plus one; 0: it never came that far */
	F_OUTPUT = F_TIMES + TRACE_TIMES, /* tokens of the model that answered */
	N_FIELDS,
};

static const char *const providers[] = {"local", "openai", "anthropic"};

static void last_key(char key[KEY_SIZE], const struct session *s)
{
	stpcpy(stpcpy(key, "r/"), s->id);
}

static void fields_of(const struct request *r, uint64_t f[N_FIELDS])
{
	f[F_SERIAL] = r->turn_serial;
	f[F_ID] = r->id;
	f[F_CODE] = (uint64_t)-r->code;
	f[F_SERVED_BY] = r->served_by;
	f[F_SEEDED] = r->seeded;
	f[F_SEED] = r->seed;
	f[F_JUDGE_PROMPT] = r->judge_usage.prompt;
	f[F_JUDGE_CACHED] = r->judge_usage.cached;
	f[F_JUDGE_OUTPUT] = r->judge_usage.output;
	f[F_JUDGE_COST] = (uint64_t)r->judge_cost;
	f[F_LOOKUP] = r->lookup_usage.prompt;
	f[F_LOOKUP_COST] = (uint64_t)r->lookup_cost;
	trace_since(&r->times, f + F_TIMES);
	f[F_OUTPUT] = r->attempt_usage.output_tok;
}

static const uint64_t due_after_ns = 1000000000, between_ns = 1000000;

static bool has_route(const struct request *r)
{
	return r->decision || r->route;
}

static int encode(const struct request *r, bool with_route, struct buf *out)
{
	uint64_t f[N_FIELDS];
	fields_of(r, f);
	int e = buf_reserve(out, N_FIELDS * (TEXT_NUMBER_MAX + 1));
	if (e < 0)
		return e;
	char *p = out->data;
	for (size_t i = 0; i < N_FIELDS; i++) {
		p = text_number(p, f[i]);
		*p++ = i + 1 < N_FIELDS ? ' ' : '\n';
	}
	out->len = (size_t)(p - out->data);
	e = buf_append_str(out, r->model_name);
	e = e ? e : buf_append(out, " ", 1);
	e = e ? e : buf_append_str(out, r->provider ? r->provider : "-");
	e = e ? e : buf_append(out, "\n", 1);
	return e || !with_route ? e : session_render_route(r, out);
}

static void store(struct session *s, const struct request *r, bool with_route)
{
	char key[KEY_SIZE];
	struct buf value = {0};
	last_key(key, s);
	if (encode(r, with_route, &value) == 0) /* else the turn has to do */
		store_put_later(s->g->store, key, value.data, value.len);
	buf_free(&value);
}

void session_store_last(struct session *s, struct request *r)
{
	if (!session_is_stored(s) || r->refused || !r->turn_serial)
		return;
	store(s, r, false);
	s->routed = request_put(s->routed);
	if (!has_route(r))
		return;
	s->routed = request_ref(r);
	session_poke(s, SESSION_ROUTE_DUE);
}

void session_store_route(struct session *s)
{
	if (s->routed)
		store(s, s->routed, true);
	s->routed = request_put(s->routed);
}

/* ---- the second ---- */

void session_route_due(struct session *s)
{
	struct gateway *g = s->g;
	if (!list_empty(&s->due))
		return;
	list_append(&g->routes_due, &session_ref(s)->due);
	loop_arm_earlier(g->loop, &g->routes_timer, clock_mono_ns() + due_after_ns);
}

void session_routes_run(struct loop_timer *timer)
{
	struct gateway *g = list_entry(timer, struct gateway, routes_timer);
	if (list_empty(&g->routes_due))
		return;
	struct session *s = list_entry(g->routes_due.next, struct session, due);
	list_remove(&s->due);
	pthread_mutex_lock(&s->lock);
	session_store_route(s);
	pthread_mutex_unlock(&s->lock);
	if (!list_empty(&g->routes_due))
		loop_arm(g->loop, timer, clock_mono_ns() + between_ns);
	session_put(s);
}

void session_routes_drop(struct gateway *g)
{
	list_for_each (link, &g->routes_due) {
		list_remove(link);
		session_put(list_entry(link, struct session, due));
	}
}

void session_unstore_last(struct session *s)
{
	char key[KEY_SIZE];
	last_key(key, s);
	if (session_is_stored(s))
		store_delete(s->g->store, key);
	s->routed = request_put(s->routed);
}

/* ---- restoring ---- */

/* Numbers with one blank between them; those that are not there yet are 0. */
static bool read_fields(const char *p, const char *end, uint64_t f[N_FIELDS])
{
	for (size_t i = 0; p < end; i++) {
		uint64_t x = 0;
		if (*p < '0' || *p > '9')
			return false;
		for (; p < end && *p >= '0' && *p <= '9'; p++)
			x = x * 10 + (uint64_t)(*p - '0');
		if (i < N_FIELDS)
			f[i] = x;
		if (p < end && *p++ != ' ')
			return false;
	}
	return true;
}

static bool read_names(const char *p, const char *end, struct request *r)
{
	const char *blank = memchr(p, ' ', (size_t)(end - p));
	size_t len = blank ? (size_t)(blank - p) : 0;
	if (!blank || (len && !text_is_name(p, len)))
		return false;
	memcpy(r->model_name, p, len);
	r->model_name[len] = '\0';
	size_t rest = (size_t)(end - blank - 1);
	for (size_t i = 0; i < sizeof providers / sizeof *providers; i++)
		if (strlen(providers[i]) == rest && !memcmp(providers[i], blank + 1, rest))
			r->provider = providers[i];
	return r->provider || (rest == 1 && blank[1] == NO_PROVIDER);
}

static void take_fields(const uint64_t f[N_FIELDS], struct request *r)
{
	r->id = f[F_ID];
	r->served_by = (enum cache_level)f[F_SERVED_BY];
	r->seeded = f[F_SEEDED] != 0;
	r->seed = f[F_SEED];
	r->judge_usage =
		(struct money_tokens){f[F_JUDGE_PROMPT], f[F_JUDGE_CACHED], f[F_JUDGE_OUTPUT]};
	r->judge_cost = (money)f[F_JUDGE_COST];
	r->lookup_usage.prompt = f[F_LOOKUP];
	r->lookup_cost = (money)f[F_LOOKUP_COST];
	trace_from(f + F_TIMES, &r->times);
	r->attempt_usage.output_tok = f[F_OUTPUT];
}

int session_restore_last(struct session *s, const char *value, size_t len)
{
	const struct turn *t = conversation_last(&s->conversation);
	const char *end = value + len, *line = memchr(value, '\n', len);
	const char *names = line ? line + 1 : end;
	const char *text = memchr(names, '\n', (size_t)(end - names));
	uint64_t f[N_FIELDS] = {0};
	if (!text || !read_fields(value, line, f) || f[F_SERVED_BY] > CACHE_FLIGHT ||
		f[F_CODE] > INT32_MAX)
		return -EBADMSG;
	struct request *r = s->newest;
	if (!r || !t || t->serial != f[F_SERIAL])
		return 0;
	if (!read_names(names, text, r))
		return -EBADMSG;
	if (r->code && f[F_CODE]) {
		struct answer *a = answer_of(s->g, t->assistant, -(int)f[F_CODE]);
		if (!a)
			return -ENOMEM;
		answer_put(r->answer);
		r->answer = a;
		r->code = -(int)f[F_CODE];
	}
	take_fields(f, r);
	if (atomic_load(&s->g->next_request) < r->id)
		atomic_store(&s->g->next_request, r->id);
	text++;
	if (text < end && !(r->said = text_new(text, (size_t)(end - text))))
		return -ENOMEM;
	return 0;
}
