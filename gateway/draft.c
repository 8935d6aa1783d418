/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A prompt being written: text, judged at every write over all of it so far (draft_check.c,
 * draft_claim.c, draft_rules.c); what came through is the request's prompt. The first refusal
 * poisons the draft: what follows was meant to come after it. Who waits for it, and for whom it
 * waits, is draft_order.c's.
 *
 * A refusal keeps the text for `retry` where that is all of the prompt. What a flush or the
 * submission finds is of all of it. A write is that, as far as anybody can know, if it is the only
 * one of its open, not of whole pages as long texts are, and a close comes next: a program that
 * stops at the first error leaves the same. So `retry` says how many bytes it sends. The same bytes
 * once more are the same write, which Python's close() makes again.
 *
 * Lock: draft->lock, outermost; the order, and `link`, are under the session's.
 */
#include "gateway/draft_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/channels.h"
#include "gateway/users.h"

static const size_t dry_most_bytes = 64 << 10; /* the loop looks at them */
static const size_t write_page = 4096;         /* bytes: a write of whole ones is not the last */

struct draft *draft_put(struct draft *d)
{
	if (!d || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	buf_free(&d->text);
	pthread_mutex_destroy(&d->lock);
	session_put(d->session);
	free(d);
	return NULL;
}

struct draft *draft_ref(struct draft *d)
{
	atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
	return d;
}

/* ---- writing ---- */

int draft_new(struct draft **out, struct session *s, uid_t uid, struct err *err)
{
	struct draft *d = calloc(1, sizeof *d);
	if (!d)
		return err_set(err, -ENOMEM, "out of memory");
	atomic_init(&d->refs, 1);
	d->session = session_ref(s);
	d->uid = uid;
	d->text.max = channels_is_dry(s->channel) ? dry_most_bytes : s->g->options.max_prompt_bytes;
	users_name(s->g->users, uid, d->user);
	pthread_mutex_init(&d->lock, NULL);
	draft_order_init(d);
	pthread_mutex_lock(&s->lock);
	list_append(&s->drafts, &d->link);
	pthread_mutex_unlock(&s->lock);
	*out = d;
	return 0;
}

/* Its text and what it holds for it. With its lock held. */
static void drop_text(struct draft *d)
{
	buf_free(&d->text);
	draft_rules_drop(d);
	d->valid = d->counted = d->n_tok = d->flushed = 0;
	d->claim = book_claim_return(d->claim);
	d->unpaid = false;
}

/* The draft is refused, as of its flush with that serial (0: now), and so is what follows. `ends`:
 * no more of it comes. With its lock held. */
static int poison(struct draft *d, int code, uint64_t serial, bool ends, const struct err *err)
{
	if (d->whole && !d->session->unlisted && d->text.len <= REQUEST_KEPT_MAX)
		d->refused = text_new(d->text.data, d->text.len);
	d->poison = code;
	d->poison_err = *err;
	drop_text(d);
	/* Before anybody who waits for it may look: else that is at what was newest before it. */
	session_refuse(d->session, &(struct session_refusal){.id = d->request_id,
					   .uid = d->uid,
					   .code = code,
					   .sentence = err->text,
					   .prompt = ends ? d->refused : NULL,
					   .serial = serial,
					   .retry_ms = d->retry_ms});
	draft_order_leave(d);
	return code;
}

/* What was written to it when it was refused already. With its lock held. */
static void refused_more(struct draft *d, const char *text, size_t len)
{
	const struct text *t = d->refused;
	if (t && t->len == len && !memcmp(t->bytes, text, len))
		return;
	d->refused = text_put(d->refused);
	session_refused_prompt(d->session, d->request_id, NULL);
}

/* No more of it comes, as far as is known. With its lock held. */
static void refused_ends(struct draft *d)
{
	if (d->poison && d->refused)
		session_refused_prompt(d->session, d->request_id, d->refused);
}

static int append(struct draft *d, const char *text, size_t len, struct err *err)
{
	int r = buf_append(&d->text, text, len);
	if (r == -EFBIG)
		return err_set(err, -EMSGSIZE, "the prompt is longer than %zu bytes", d->text.max);
	return r ? err_set(err, r, "out of memory") : 0;
}

/* `ends`: that is all. With its lock held. */
static int write_more(struct draft *d, const char *text, size_t len, bool ends, struct err *err)
{
	struct err own = {0};
	int r = d->poison;
	if (r == 0 && len) {
		bool first = d->text.len == 0;
		draft_order_goes_on(d);
		d->request_id = d->request_id ? d->request_id : request_next_id(d->session->g);
		r = append(d, text, len, &own);
		d->whole = r == 0 && (ends || len % write_page);
		r = r ? r : draft_check_session(d, &own);
		r = r ? r : draft_check_utf8(d, &own);
		r = r                                      ? r
		    : channels_is_dry(d->session->channel) ? draft_claim_dry(d, &own)
							   : draft_check_model(d, &own);
		r = r ? r : draft_rules_check(d, text, len, &own);
		if (r == 0 && d->whole)
			r = draft_claim_cached(d, &own);
		d->whole = d->whole && (ends || first);
		if (r < 0)
			poison(d, r, 0, ends, &own);
	} else if (len) {
		refused_more(d, text, len);
	}
	if (r < 0 && err)
		*err = d->poison_err;
	return r;
}

int draft_write(struct draft *d, const char *text, size_t len, struct err *err)
{
	pthread_mutex_lock(&d->lock);
	int r = write_more(d, text, len, false, err);
	pthread_mutex_unlock(&d->lock);
	return r;
}

int draft_write_whole(struct draft *d, const char *text, size_t len, struct err *err)
{
	pthread_mutex_lock(&d->lock);
	int r = write_more(d, text, len, true, err);
	pthread_mutex_unlock(&d->lock);
	return r;
}

int draft_flush(struct draft *d, struct err *err)
{
	struct err own = {0};
	pthread_mutex_lock(&d->lock);
	int r = d->poison;
	refused_ends(d);
	if (r == 0 && d->text.len) {
		d->whole = true;
		r = draft_check_whole(d, &own);
		if (r == 0 && d->text.len > d->flushed)
			r = draft_claim_cached(d, &own);
		if (r < 0)
			poison(d, r, 0, true, &own);
		else if (d->text.len > d->flushed)
			draft_order_pending(d);
		if (r == 0)
			draft_order_stamp(d);
		d->flushed = d->text.len;
	}
	if (r < 0 && err)
		*err = d->poison_err;
	pthread_mutex_unlock(&d->lock);
	return r;
}

void draft_hold(struct draft *d)
{
	draft_order_pending(d);
}

/* ---- submitting ---- */

static bool is_blank(const char *text, size_t len)
{
	uint32_t c;
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_decode(text + i, len - i, &c);
		/* With NUL, where strchr finds the end; a no-break and a zero-width space. */
		if (!n || (c < 0x80 ? !strchr(" \t\r\n\v\f", (int)c) : c != 0xA0 && c != 0x200B))
			return false;
	}
	return true;
}

/* What passed the rules, less one newline at its end: new *out. */
static int prompt_of(struct draft *d, struct text **out, struct err *err)
{
	int r = draft_check_whole(d, err);
	r = r ? r : draft_rules_end(d, err);
	const struct buf *b = d->rules ? &d->clean : &d->text;
	size_t len = b->len;
	if (r == 0 && len && b->data[len - 1] == '\n')
		len--;
	if (r == 0 && is_blank(b->data, len))
		r = err_set(err, -EINVAL, "the prompt is empty: there is nothing but blanks in it");
	if (r == 0 && atomic_load(&d->session->g->stopping))
		r = err_set(err, -ESHUTDOWN, "llmfs is stopping");
	*out = r == 0 ? text_new(b->data, len) : NULL;
	return r || *out ? r : err_set(err, -ENOMEM, "out of memory");
}

/* The text becomes a request. With the draft's lock held. */
static int submit(struct draft *d, struct err *err)
{
	struct session *s = d->session;
	struct text *prompt;
	int r = prompt_of(d, &prompt, err);
	if (r < 0)
		return r;
	draft_rules_tell(d);
	pthread_mutex_lock(&s->lock);
	struct request *q = request_new(s->g, d->request_id, prompt, &s->settings, d->uid, d->user);
	if (q) {
		q->claim = d->claim;
		d->claim = NULL;
	}
	r = q ? session_submit(s, q, d->placed, d->flush_serial, err)
	      : err_set(err, -ENOMEM, "out of memory");
	if (r == 0 && d->cancelled)
		request_settle(q, REQUEST_CANCELLED, -ECANCELED, "cancelled", false);
	if (r == 0)
		draft_order_submitted(d);
	pthread_mutex_unlock(&s->lock);
	text_put(prompt);
	if (r < 0)
		request_put(q);
	return r;
}

static void empty(struct draft *d)
{
	drop_text(d);
	d->refused = text_put(d->refused);
	d->poison = 0;
	d->retry_ms = 0;
	d->request_id = 0;
	draft_order_reset(d);
}

int draft_submit(struct draft *d, struct err *err)
{
	struct err own = {0};
	pthread_mutex_lock(&d->lock);
	int r = d->poison;
	refused_ends(d);
	d->whole = true;
	if (r == 0)
		r = d->text.len ? submit(d, &own) : 1;
	if (r < 0 && !d->poison)
		poison(d, r, d->flush_serial, true, &own);
	if (r < 0 && err)
		*err = d->poison_err;
	empty(d);
	pthread_mutex_unlock(&d->lock);
	return r;
}

struct draft *draft_drop(struct draft *d)
{
	if (!d)
		return NULL;
	pthread_mutex_lock(&d->lock);
	bool given_up = d->poison == 0 && d->text.len; /* else it was told why, or asked */
	empty(d);
	pthread_mutex_unlock(&d->lock);
	pthread_mutex_lock(&d->session->lock);
	if (given_up)
		session_tell_given_up(d->session, d->uid);
	list_remove(&d->link);
	pthread_mutex_unlock(&d->session->lock);
	return draft_put(d);
}

struct draft *draft_commit(struct draft *d)
{
	if (!d)
		return NULL;
	if (draft_order_waits(d))
		return NULL;
	draft_submit(d, NULL);
	return draft_drop(d);
}

/* Those that are open, or those of them that a cancel has met and whose close is to come. */
static int submit_all(struct session *s, bool cancelled, struct err *err)
{
	enum { MOST = 64 };
	struct draft *open[MOST];
	size_t n = 0;
	pthread_mutex_lock(&s->lock);
	list_for_each (link, &s->drafts) {
		struct draft *d = list_entry(link, struct draft, link);
		if (n < MOST && (!cancelled || (d->cancelled && draft_order_is_coming(d))))
			open[n++] = draft_ref(d);
		d->cancelled &= cancelled;
	}
	pthread_mutex_unlock(&s->lock);
	int r = 0;
	for (size_t i = 0; i < n; i++) {
		struct err own = {0};
		int e = draft_submit(open[i], &own);
		if (e < 0 && r == 0)
			r = err_set(err, e, "%s", own.text);
		draft_put(open[i]);
	}
	return r;
}

int draft_submit_all(struct session *s, struct err *err)
{
	return submit_all(s, false, err);
}

void draft_end_cancelled(struct session *s)
{
	submit_all(s, true, NULL);
}
