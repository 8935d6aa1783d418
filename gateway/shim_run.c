/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One text asked of the gateway, in a session that is nobody else's, and a cursor in the answer to
 * it. A client that has left abandons it, so nothing is computed for nobody.
 *
 * A waiter at the gateway holds a reference of the call that the run is in, from before it is made:
 * it may be told before the function that makes it has returned. Who withdraws it takes the
 * reference back, where it was not told yet; else the telling does.
 *
 * In the thread of its call's connection, but for the telling, which is the gateway's loop's.
 */
#include <errno.h>
#include <string.h>

#include "gateway/shim_parts.h"

static void end(struct shim_run *r, int code)
{
	r->over = true;
	r->code = code;
	if (r->session)
		session_outcome(r->session, &r->outcome);
}

int shim_run_ask(struct shim_run *r, struct shim_call *c, struct session *s, const char *text,
	size_t len, struct err *err)
{
	struct draft *d = NULL;
	r->call = c;
	r->session = s;
	int code = draft_new(&d, s, c->uid, err);
	code = code ? code : draft_write(d, text, len, err);
	/* The newline at the end of a file is no part of a prompt; here it was meant. */
	if (code == 0 && len && text[len - 1] == '\n')
		code = draft_write(d, "\n", 1, err);
	if (code == 0)
		code = draft_submit(d, err);
	if (code == 1)
		code = err_set(err, -EINVAL, "the prompt is empty");
	draft_drop(d);
	if (code < 0)
		end(r, code);
	return code;
}

/* ---- news ---- */

static void news(void *arg)
{
	struct shim_run *r = arg;
	struct shim_call *c = r->call;
	atomic_store(&r->waits, false);
	shim_call_wake(c);
	shim_call_put(c);
}

/* Before a waiter is made. */
static void wait_begin(struct shim_run *r)
{
	shim_call_ref(r->call);
	atomic_store(&r->waits, true);
}

/* It was not. */
static void wait_none(struct shim_run *r)
{
	atomic_store(&r->waits, false);
	shim_call_put(r->call);
}

/* 0: there is an answer; 1: not yet, news come; 2: there is none. */
static int fetch(struct shim_run *r)
{
	if (r->answer)
		return 0;
	if (atomic_load(&r->waits))
		return 1;
	wait_begin(r);
	r->of_session = true;
	int code = session_newest(r->session, &r->answer, news, r, &r->waiter);
	if (code == 1)
		return 1;
	wait_none(r);
	if (code == 0 && r->answer)
		return 0;
	end(r, code < 0 ? code : -EIO);
	return 2;
}

int shim_run_read(struct shim_run *r, char *bytes, size_t size, size_t *n)
{
	*n = 0;
	int code = r->over ? 2 : fetch(r);
	if (code)
		return code;
	code = answer_read(r->answer, r->offset, bytes, size, n);
	r->offset += *n;
	if (code == 1 || (code == 0 && *n))
		return code;
	end(r, code);
	return 2;
}

int shim_run_wait(struct shim_run *r)
{
	if (r->over || !r->answer)
		return r->over ? 1 : 0;
	if (atomic_load(&r->waits))
		return 0;
	wait_begin(r);
	r->of_session = false;
	int code = answer_wait(r->answer, r->offset, news, r, &r->waiter);
	if (code == 0)
		return 0;
	wait_none(r);
	if (code < 0)
		end(r, code);
	return 1;
}

/* ---- its end ---- */

void shim_run_end(struct shim_run *r)
{
	if (!r->call)
		return;
	if (atomic_load(&r->waits)) {
		bool withdrawn = r->of_session ? session_unwatch(r->session, r->waiter)
					       : answer_unwait(r->answer, r->waiter);
		if (withdrawn)
			wait_none(r);
	}
	if (!r->over && r->session)
		session_abandon(r->session);
	r->over = true;
}

void shim_run_free(struct shim_run *r)
{
	r->answer = answer_put(r->answer);
	r->session = session_put(r->session);
}
