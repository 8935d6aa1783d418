/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An answer is one growing buffer that many cursors read. A cursor is an offset in its reader; the
 * answer remembers only how far the furthest one got, because that much of a cancelled answer is
 * what was said. At its end the buffer becomes one immutable text, shared with the conversation.
 *
 * Bytes are appended by the loop (the text of an engine) and read by any thread; waiters are told
 * from the loop only. An end may come from any thread (a cancel at a shell), so it posts the
 * telling.
 *
 * Lock: answer->lock, inside a session's, around the watch table's.
 */
#include "gateway/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

struct answer {
	atomic_uint refs;
	struct gateway *g;
	pthread_mutex_t lock;
	struct buf growing; /* until it is sealed */
	struct text *text;  /* from then on; NULL with sealed: empty */
	bool sealed, ended;
	int status;
	uint64_t furthest; /* bytes that some reader got */
	const char *finish;
	size_t to_repeat,
		repeated; /* of growing: computed again, and so much of it came the same */
	struct list waiters;
	struct loop_work work;
};

static void tell_waiters(struct loop_work *work)
{
	struct answer *a = list_entry(work, struct answer, work);
	bool ended;
	uint64_t size = answer_size(a, &ended);
	watch_fire(a->g->watch, &a->waiters, ended ? WATCH_ALL : size);
	answer_put(a);
}

struct answer *answer_new(struct gateway *g)
{
	struct answer *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	atomic_init(&a->refs, 1);
	a->g = gateway_ref(g);
	pthread_mutex_init(&a->lock, NULL);
	list_init(&a->waiters);
	list_init(&a->work.link);
	a->work.run = tell_waiters;
	return a;
}

struct answer *answer_of(struct gateway *g, struct text *text, int status)
{
	struct answer *a = answer_new(g);
	if (!a)
		return NULL;
	a->text = text_ref(text);
	a->furthest = text_len(text);
	a->sealed = a->ended = true;
	a->status = status;
	return a;
}

struct answer *answer_ref(struct answer *a)
{
	atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
	return a;
}

struct answer *answer_put(struct answer *a)
{
	if (!a || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	buf_free(&a->growing);
	text_put(a->text);
	pthread_mutex_destroy(&a->lock);
	gateway_put(a->g);
	free(a);
	return NULL;
}

/* With the lock held. */
static size_t size_locked(const struct answer *a)
{
	return a->sealed ? text_len(a->text) : a->growing.len;
}

static const char *bytes_locked(const struct answer *a)
{
	return a->sealed ? (a->text ? a->text->bytes : "") : a->growing.data;
}

/* Tells the waiters from the loop: now, when we are on it. Without locks. */
static void announce(struct answer *a)
{
	answer_ref(a);
	if (loop_inside(a->g->loop))
		tell_waiters(&a->work);
	else if (!loop_post(a->g->loop, &a->work))
		answer_put(a);
}

void answer_repeat(struct answer *a)
{
	pthread_mutex_lock(&a->lock);
	a->repeated = 0;
	a->to_repeat = a->growing.len;
	pthread_mutex_unlock(&a->lock);
}

int answer_fault(int code, struct err *err)
{
	if (code == -EBADE)
		return err_set(err, -EIO,
			"the request that this one shared an answer with broke off, and computed "
			"again the answer came out differently");
	return err_set(err, code == -ENOMEM ? -ENOMEM : -EIO, "the answer is too long to be kept");
}

bool answer_is_short(struct answer *a)
{
	pthread_mutex_lock(&a->lock);
	bool is_short = a->repeated < a->to_repeat;
	pthread_mutex_unlock(&a->lock);
	return is_short;
}

void answer_set_finish(struct answer *a, const char *finish)
{
	pthread_mutex_lock(&a->lock);
	a->finish = finish;
	pthread_mutex_unlock(&a->lock);
}

const char *answer_finish(struct answer *a)
{
	pthread_mutex_lock(&a->lock);
	const char *finish = a->finish ? a->finish : "stop";
	pthread_mutex_unlock(&a->lock);
	return finish;
}

/* Skips what is there already. With the lock held. */
static int skip_repeated(struct answer *a, const char **bytes, size_t *n)
{
	size_t left = a->to_repeat - a->repeated, same = *n < left ? *n : left;
	if (same && memcmp(a->growing.data + a->repeated, *bytes, same))
		return -EBADE;
	a->repeated += same;
	*bytes += same;
	*n -= same;
	return 0;
}

int answer_append(struct answer *a, const char *bytes, size_t n)
{
	pthread_mutex_lock(&a->lock);
	int r = a->sealed ? 0 : skip_repeated(a, &bytes, &n);
	r = r || a->sealed || !n ? r : buf_append(&a->growing, bytes, n);
	pthread_mutex_unlock(&a->lock);
	if (r == 0)
		announce(a);
	return r;
}

/* Not enough memory for an exact copy: the buffer goes on being the text. With the lock held. */
static int seal_locked(struct answer *a, bool cut)
{
	if (a->sealed)
		return 0;
	if (cut && a->growing.len > a->furthest)
		a->growing.len = (size_t)a->furthest;
	if (a->growing.len) {
		a->text = text_new(a->growing.data, a->growing.len);
		if (!a->text)
			return -ENOMEM;
	}
	buf_free(&a->growing);
	a->sealed = true;
	return 0;
}

struct text *answer_seal(struct answer *a, bool cut)
{
	pthread_mutex_lock(&a->lock);
	seal_locked(a, cut);
	struct text *t = text_ref(a->text);
	pthread_mutex_unlock(&a->lock);
	return t;
}

void answer_end(struct answer *a, int status, bool cut)
{
	pthread_mutex_lock(&a->lock);
	bool first = !a->ended;
	if (first) {
		seal_locked(a, cut);
		a->ended = true;
		a->status = status;
	}
	pthread_mutex_unlock(&a->lock);
	/* Always by way of the loop: the caller may hold a session's lock. */
	if (first && !loop_post(a->g->loop, &answer_ref(a)->work))
		answer_put(a);
}

/* The bytes of `text` that a buffer of `room` may get: whole sequences, if one could fit at all. */
static size_t whole_sequences(const char *text, size_t left, size_t room)
{
	if (left <= room)
		return left;
	size_t n = room;
	if (room >= 4)
		while (n > room - 4 && utf8_is_inside(text[n]))
			n--;
	return n > room - 4 || room < 4 ? n : room;
}

static int copy_out(
	struct answer *a, uint64_t offset, char *bytes, size_t size, size_t *n, bool counts)
{
	int r = 0;
	*n = 0;
	pthread_mutex_lock(&a->lock);
	size_t have = size_locked(a);
	if (offset < have) {
		const char *text = bytes_locked(a) + offset;
		*n = whole_sequences(text, have - (size_t)offset, size);
		memcpy(bytes, text, *n);
		if (counts && offset + *n > a->furthest)
			a->furthest = offset + *n;
	} else {
		r = a->ended ? a->status : 1;
	}
	pthread_mutex_unlock(&a->lock);
	return r;
}

int answer_read(struct answer *a, uint64_t offset, char *bytes, size_t size, size_t *n)
{
	return copy_out(a, offset, bytes, size, n, true);
}

int answer_peek(struct answer *a, uint64_t offset, char *bytes, size_t size, size_t *n)
{
	return copy_out(a, offset, bytes, size, n, false);
}

struct text *answer_got(struct answer *a)
{
	pthread_mutex_lock(&a->lock);
	size_t n = size_locked(a);
	if (n > a->furthest)
		n = (size_t)a->furthest;
	struct text *t = n ? text_new(bytes_locked(a), n) : NULL;
	pthread_mutex_unlock(&a->lock);
	return t;
}

int answer_copy(struct answer *a, struct buf *out)
{
	pthread_mutex_lock(&a->lock);
	size_t have = size_locked(a);
	int r = have ? buf_append(out, bytes_locked(a), have) : 0;
	if (r == 0 && have > a->furthest)
		a->furthest = have;
	pthread_mutex_unlock(&a->lock);
	return r;
}

int answer_wait(
	struct answer *a, uint64_t offset, gateway_wake_fn *wake, void *arg, gateway_waiter *id)
{
	pthread_mutex_lock(&a->lock);
	int r = 1;
	if (offset >= size_locked(a) && !a->ended)
		r = watch_add(a->g->watch, &a->waiters, offset, wake, arg, id);
	pthread_mutex_unlock(&a->lock);
	return r;
}

bool answer_unwait(struct answer *a, gateway_waiter id)
{
	return watch_remove(a->g->watch, id);
}

uint64_t answer_size(struct answer *a, bool *ended)
{
	pthread_mutex_lock(&a->lock);
	uint64_t size = size_locked(a);
	*ended = a->ended;
	pthread_mutex_unlock(&a->lock);
	return size;
}
