/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request of HTTP, from its head to its end. libmicrohttpd calls its handler with the head,
 * with each piece of the body, and then, without one, until a reply is queued; shim_call_completed
 * ends it, whatever became of it.
 *
 * A request that is refused by its head (no key, no such path) is answered once its body is there,
 * and that is dropped: who is answered while it still sends gets a reset, not the answer. Only one
 * who waits for leave to send, or who would send very much, is answered at once.
 *
 * Waiting. Where a step has nothing, the connection is suspended, and whoever has news resumes it.
 * Both are done with the call's lock held, so news between a step's look and its suspension is not
 * lost (`woken`), a connection is resumed once for each time it was suspended, and never after its
 * end: it cannot end while it is suspended. A waiter at the gateway has a reference of the call,
 * and touches nothing but the lock of one that is over.
 *
 * A call is its connection's thread's, but for what its lock guards.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/shim_parts.h"
#include "gateway/shim_path.h"
#include "gateway/shim_refuse.h"
#include "gateway/shim_sockets.h"

/* ---- its life ---- */

struct shim_call *shim_call_ref(struct shim_call *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

struct shim_call *shim_call_put(struct shim_call *c)
{
	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	if (c->work)
		c->work->free(c->state);
	buf_free(&c->body);
	buf_free(&c->refused);
	api_key_put(c->key);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}

static struct shim_call *call_new(struct shim *shim, struct MHD_Connection *connection)
{
	struct shim_call *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	atomic_init(&c->refs, 1);
	c->shim = shim;
	c->connection = connection;
	c->began_ns = clock_mono_ns();
	c->body.max = SHIM_BODY_MAX;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_lock(&shim->lock);
	list_append(&shim->calls, &c->link);
	shim->n_calls++;
	pthread_mutex_unlock(&shim->lock);
	return c;
}

static int fd_of(struct shim_call *c)
{
	return MHD_get_connection_info(c->connection, MHD_CONNECTION_INFO_CONNECTION_FD)
		->connect_fd;
}

/* What it has of the body counts no more. */
static void drop_body(struct shim_call *c)
{
	atomic_fetch_sub(&c->shim->body_bytes, c->body.len);
	buf_free(&c->body);
}

void shim_call_completed(void *arg, struct MHD_Connection *connection, void **context,
	enum MHD_RequestTerminationCode why)
{
	struct shim *shim = arg;
	struct shim_call *c = *context;
	if (!c)
		return;
	*context = NULL;
	if (c->watched)
		shim_sockets_forget(shim->sockets, fd_of(c));
	if (c->work)
		c->work->end(c);
	drop_body(c);
	pthread_mutex_lock(&shim->lock);
	list_remove(&c->link);
	if (--shim->n_calls == 0)
		pthread_cond_broadcast(&shim->idle);
	pthread_mutex_unlock(&shim->lock);
	shim_call_put(c);
}

/* ---- waiting ---- */

/* With the lock held. */
static void resume(struct shim_call *c)
{
	if (!c->suspended)
		return;
	c->suspended = false;
	MHD_resume_connection(c->connection);
}

void shim_call_wake(struct shim_call *c)
{
	pthread_mutex_lock(&c->lock);
	c->woken = true;
	resume(c);
	pthread_mutex_unlock(&c->lock);
}

void shim_call_lost(struct shim_call *c)
{
	pthread_mutex_lock(&c->lock);
	c->left = true;
	resume(c);
	pthread_mutex_unlock(&c->lock);
}

bool shim_call_is_lost(struct shim_call *c)
{
	pthread_mutex_lock(&c->lock);
	bool lost = c->left;
	pthread_mutex_unlock(&c->lock);
	return lost || atomic_load(&c->shim->ending);
}

bool shim_call_wait(struct shim_call *c)
{
	if (!c->watched) {
		c->watched = true;
		if (shim_sockets_watch(c->shim->sockets, fd_of(c), c))
			shim_call_lost(c);
	}
	pthread_mutex_lock(&c->lock);
	/* `ending` is set before all calls are woken, each with its lock held. */
	bool waits = !c->woken && !c->left && !atomic_load(&c->shim->ending);
	if (waits) {
		c->suspended = true;
		MHD_suspend_connection(c->connection);
	}
	c->woken = false;
	pthread_mutex_unlock(&c->lock);
	return waits;
}

/* ---- its body ---- */

static void take_body(struct shim_call *c, const char *bytes, size_t n)
{
	c->body_seen += n;
	if (c->refusal)
		return;
	int r = buf_append(&c->body, bytes, n);
	size_t all = r < 0 ? 0 : atomic_fetch_add(&c->shim->body_bytes, n) + n;
	if (r == 0 && all <= SHIM_BODIES_MAX)
		return;
	drop_body(c);
	if (r == -EFBIG)
		shim_refuse_body(c);
	else
		shim_refuse_busy(c);
}

/* Whether who sends it goes on to, beyond all that is reasonable. */
static bool is_endless(const struct shim_call *c)
{
	return c->body_seen > SHIM_SWALLOW_MAX ||
	       clock_mono_ns() - c->began_ns > SHIM_BODY_S * 1000000000ULL;
}

/* ---- the handler ---- */

static enum MHD_Result begin(struct shim *shim, struct MHD_Connection *connection, const char *url,
	const char *method, void **context)
{
	struct shim_call *c = call_new(shim, connection);
	if (!c)
		return MHD_NO;
	*context = c;
	shim_refuse_head(c, url, method);
	if (c->refusal && shim_refuse_is_urgent(c))
		return shim_refuse_reply(c) < 0 ? MHD_NO : MHD_YES;
	return MHD_YES;
}

/* The body is there: whatever is next. */
static enum MHD_Result go_on(struct shim_call *c)
{
	int r = 1;
	if (c->refusal)
		return shim_refuse_reply(c) < 0 ? MHD_NO : MHD_YES;
	if (!c->work) {
		r = c->path->begin(c);
		drop_body(c);
	}
	while (r == 1) {
		if (shim_call_is_lost(c))
			return MHD_NO;
		r = c->work->step(c);
		if (r == 1 && shim_call_wait(c))
			return MHD_YES;
	}
	return r < 0 ? MHD_NO : MHD_YES;
}

enum MHD_Result shim_call_handle(void *shim, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_size,
	void **context)
{
	struct shim_call *c = *context;
	if (!c)
		return begin(shim, connection, url, method, context);
	if (!*upload_size)
		return go_on(c);
	take_body(c, upload, *upload_size);
	*upload_size = 0;
	return is_endless(c) ? MHD_NO : MHD_YES;
}
