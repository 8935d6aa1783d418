/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passive health is the breakers': what requests found. Active health is a GET now and then, on the
 * loop: a server that does not answer two of them in a row is left out until it answers one. An
 * answer of any status below 500 will do: the check asks whether somebody is there, not whether it
 * likes us (a server may want no key, or have no list of models).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "gateway/upstream_parts.h"

enum { DOWN_AFTER = 2, CHECK_MOST_MS = 5000, CHECK_BYTES = 4 << 20 };

/* ---- what is said of it ---- */

const char *upstream_server_word(const struct upstream *u, size_t i, uint64_t now_ns)
{
	static const char *const words[] = {[BREAKER_CLOSED] = "ready",
		[BREAKER_HALF_OPEN] = "half-open",
		[BREAKER_OPEN] = "open"};
	const struct replica *r = &u->replicas.list[i];
	return r->down ? "down" : words[breaker_state(&r->breaker, now_ns)];
}

/* All that failed had a reason, but for requests that were never sent. */
static int say_failed(const struct upstream *u, const char *whose, size_t i, const char *again,
	uint64_t wait_ns, struct err *err)
{
	const struct upstream_server *s = &u->servers[i];
	char seconds[32] = "";
	if (wait_ns)
		snprintf(seconds, sizeof seconds, "%" PRIu64 " s",
			(wait_ns + 999999999) / 1000000000);
	return err_set(err, -EHOSTUNREACH,
		"models/%s: %s %s has failed %" PRIu32 " times%s%s%s; it is %s%s", u->model, whose,
		s->label, u->replicas.list[i].breaker.n_failures, *s->failure ? " (" : "",
		s->failure, *s->failure ? ")" : "", again, seconds);
}

int upstream_why_not(const struct upstream *u, uint64_t now_ns, uint64_t *wait_ms, struct err *err)
{
	uint64_t wait_ns;
	size_t i = replicas_next(&u->replicas, now_ns, &wait_ns);
	const struct upstream_server *s = &u->servers[i];
	const struct breaker *b = &u->replicas.list[i].breaker;
	char whose[64] = "its server";
	int r = -EHOSTUNREACH;
	if (u->n > 1)
		snprintf(whose, sizeof whose, "none of its %zu servers can be asked:", u->n);
	*wait_ms = wait_ns == UINT64_MAX ? 0 : (wait_ns + 999999) / 1000000;
	if (wait_ns == UINT64_MAX)
		err_set(err, r, "models/%s: %s %s does not pass its health check: %s", u->model,
			whose, s->label, s->why);
	else if (breaker_check(b, now_ns) != BREAKER_REFUSED)
		r = err_set(err, -EBUSY, "models/%s: %s %s asked to wait %" PRIu64 " s", u->model,
			whose, s->label, (wait_ns + 999999999) / 1000000000);
	else if (b->probing && now_ns >= b->open_until_ns)
		say_failed(u, whose, i, "being tried again now", 0, err);
	else
		say_failed(u, whose, i, "tried again in ", wait_ns, err);
	if (err)
		err->text[utf8_valid_prefix(err->text, strlen(err->text))] = '\0';
	return r;
}

/* One is there that has not failed since it answered last: most often, and for each request of the
 * router, so without asking for the time. */
static bool is_well(const struct upstream *u)
{
	for (size_t i = 0; i < u->n; i++) {
		const struct replica *r = &u->replicas.list[i];
		if (!r->down && r->breaker.closed && !r->breaker.n_failures)
			return true;
	}
	return false;
}

/* Whether each that is ready has failed lately; *why: the last of these says. */
static bool fails_lately(const struct upstream *u, uint64_t now_ns, struct err *why)
{
	const char *failure = NULL;
	for (size_t i = 0; i < u->n; i++) {
		const struct replica *r = &u->replicas.list[i];
		if (r->down || !r->breaker.closed)
			continue;
		if (!breaker_failed_lately(&r->breaker, now_ns))
			return false;
		failure = u->servers[i].failure;
	}
	err_set(why, 0, "%s", failure ? failure : "");
	return failure;
}

/* Of one that is not well; with the lock held. */
static int examine(const struct upstream *u, const char **word, struct err *why)
{
	uint64_t now = clock_mono_ns(), wait_ms;
	bool ready = false, trying = false;
	for (size_t i = 0; i < u->n; i++) {
		const char *w = upstream_server_word(u, i, now);
		ready = ready || !strcmp(w, "ready");
		trying = trying || !strcmp(w, "half-open");
	}
	*word = ready ? "ready" : trying ? "half-open" : "open";
	if (ready)
		return fails_lately(u, now, why) ? 2 : 0;
	/* Half-open ones take one request at a time. */
	if (trying && replicas_can(&u->replicas, now))
		return 1;
	upstream_why_not(u, now, &wait_ms, why);
	return -EHOSTUNREACH;
}

int upstream_health(void *handle, const char **word, struct err *why)
{
	struct upstream *u = handle;
	*word = "ready";
	pthread_mutex_lock(&u->lock);
	int r = is_well(u) ? 0 : examine(u, word, why);
	pthread_mutex_unlock(&u->lock);
	return r;
}

/* ---- active checks ---- */

static void check_failed(struct upstream_server *s, const char *why)
{
	struct upstream *u = s->u;
	struct replica *r = &u->replicas.list[s - u->servers];
	struct err said;
	err_set(&said, 0, "%s", why);
	upstream_hide_key(u, said.text, sizeof said.text);
	pthread_mutex_lock(&u->lock);
	snprintf(s->why, sizeof s->why, "%.*s", (int)sizeof s->why - 1, said.text);
	if (s->n_failed_checks < DOWN_AFTER)
		s->n_failed_checks++;
	bool falls = s->n_failed_checks >= DOWN_AFTER && !r->down;
	r->down = r->down || falls;
	pthread_mutex_unlock(&u->lock);
	if (falls)
		log_warn("model %s: %s does not pass its health check: %s", u->model, s->label,
			said.text);
}

static void check_passed(struct upstream_server *s)
{
	struct upstream *u = s->u;
	struct replica *r = &u->replicas.list[s - u->servers];
	pthread_mutex_lock(&u->lock);
	bool was_down = r->down;
	s->n_failed_checks = 0;
	r->down = false;
	pthread_mutex_unlock(&u->lock);
	if (was_down)
		log_info("model %s: %s passes its health check again", u->model, s->label);
}

static void checked(
	void *arg, enum http_fault fault, const struct http_response *head, const char *sentence)
{
	struct upstream_server *s = arg;
	char why[64];
	s->check = NULL;
	/* That a list is too long to read says that somebody is there. */
	if ((fault == HTTP_OK || fault == HTTP_TOO_LONG) && head->status < 500) {
		check_passed(s);
		return;
	}
	snprintf(why, sizeof why, "it answers with status %ld", head ? head->status : 0L);
	check_failed(s, fault == HTTP_OK ? why : sentence);
}

static void check(struct upstream_server *s)
{
	struct upstream *u = s->u;
	struct err err = {0};
	uint64_t most_ms = u->health_ms < CHECK_MOST_MS ? u->health_ms : CHECK_MOST_MS;
	const struct http_request q = {
		.url = s->health_url,
		.method = "GET",
		.headers = u->headers,
		.connect_ms = most_ms,
		.first_ms = most_ms,
		.idle_ms = most_ms,
		.total_ms = most_ms,
		.max_bytes = CHECK_BYTES,
		.proxy = u->proxy,
		.ca = u->ca,
		.done = checked,
		.arg = s,
	};
	if (http_begin(&s->check, u->http, &q, &err) < 0) {
		s->check = NULL;
		check_failed(s, err.text);
	}
}

static void check_all(struct loop_timer *timer)
{
	struct upstream *u = list_entry(timer, struct upstream, check_timer);
	for (size_t i = 0; i < u->n; i++)
		if (!u->servers[i].check)
			check(&u->servers[i]);
	loop_arm(u->loop, timer, clock_mono_ns() + u->health_ms * 1000000);
}

void upstream_checks_begin(struct upstream *u)
{
	u->check_timer.run = check_all;
	if (u->health_ms)
		loop_arm(u->loop, &u->check_timer, clock_mono_ns());
}

void upstream_checks_end(struct upstream *u)
{
	loop_disarm(u->loop, &u->check_timer);
	for (size_t i = 0; i < u->n; i++)
		u->servers[i].check = http_cancel(u->servers[i].check);
}
