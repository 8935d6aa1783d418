/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A draft among those of its session.
 *
 * A draft that was flushed is pending: readers of the newest answer are held back until it is
 * committed, for at most a second (flushes that follow one another closely count as one, for at
 * most two). The timer is the loop's and holds a reference.
 *
 * Requests queue in the order of their last flush, which a program waits for, and not in that of
 * their commits, which come from several threads at once and may overtake one another. A draft that
 * is committed while an earlier one has just been flushed is `closed`: it goes on by itself when
 * the earlier one is done, or (somebody may keep that open) after a tenth of a second. Which
 * request is the session's newest goes by the same order: a prompt that was flushed before another
 * was refused does not hide the refusal, however late its commit. A cancel goes by it too: what was
 * flushed before it is cancelled when it is submitted, unless another write or flush shows that its
 * file was still open.
 *
 * Lock: all of it is under the session's.
 */
#include "gateway/draft_parts.h"

#include "base/clock.h"

static const uint64_t hold_ns = 1000000000, hold_again_ns = 100000000, hold_most_ns = 2000000000;
static const uint64_t overtake_ns = 100000000; /* how long a commit may come after its flush */

/* With the session's lock held. */
static void not_pending(struct draft *d)
{
	if (!d->pending)
		return;
	d->pending = false;
	if (--d->session->n_pending == 0)
		session_poke(d->session, SESSION_NEWEST_CHANGED);
}

/* With the session's lock held. */
static void arm(struct draft *d, uint64_t at_ns)
{
	if (!loop_arm(d->session->g->loop, &d->timer, at_ns))
		return;
	if (!d->armed)
		draft_ref(d);
	d->armed = true;
}

/* With the session's lock held, and a reference beside the timer's. */
static void stop_timer(struct draft *d)
{
	if (d->armed && loop_disarm(d->session->g->loop, &d->timer)) {
		d->armed = false;
		draft_put(d);
	}
}

/* It is submitted or refused: those that wait may look again. With the session's lock held. */
static void not_flushed(struct draft *d)
{
	if (!d->flush_serial)
		return;
	d->flush_serial = 0;
	list_for_each (link, &d->session->drafts) {
		struct draft *other = list_entry(link, struct draft, link);
		if (other->closed)
			arm(other, clock_mono_ns());
	}
}

/* Whether an earlier one will be committed any moment. With the session's lock held. */
static bool must_wait(const struct draft *d)
{
	uint64_t now = clock_mono_ns();
	list_for_each (link, &d->session->drafts) {
		const struct draft *other = list_entry(link, struct draft, link);
		if (other->flush_serial && other->flush_serial < d->flush_serial &&
			(other->closed || now - other->flushed_ns < overtake_ns))
			return true;
	}
	return false;
}

/* On the loop: readers are held back no longer, or a closed draft goes on. */
static void timer_is_due(struct loop_timer *timer)
{
	struct draft *d = list_entry(timer, struct draft, timer);
	struct session *s = d->session;
	pthread_mutex_lock(&s->lock);
	loop_disarm(s->g->loop, timer); /* armed again meanwhile, with the same reference */
	d->armed = false;
	bool go_on = false;
	if (!d->closed) {
		not_pending(d);
	} else if (must_wait(d) && clock_mono_ns() < d->closed_until_ns) {
		arm(d, d->closed_until_ns);
		go_on = !d->armed;
	} else {
		go_on = true;
	}
	if (go_on)
		d->closed = false;
	pthread_mutex_unlock(&s->lock);
	if (go_on) {
		draft_submit(d, NULL);
		draft_drop(d);
	}
	draft_put(d);
}

void draft_order_pending(struct draft *d)
{
	struct session *s = d->session;
	uint64_t now = clock_mono_ns();
	pthread_mutex_lock(&s->lock);
	if (!d->pending) {
		d->pending = true;
		d->pending_since_ns = now;
		s->n_pending++;
	}
	uint64_t until = d->pending_since_ns + hold_ns;
	if (until < now + hold_again_ns)
		until = now + hold_again_ns;
	if (until > d->pending_since_ns + hold_most_ns)
		until = d->pending_since_ns + hold_most_ns;
	arm(d, until);
	pthread_mutex_unlock(&s->lock);
}

void draft_order_stamp(struct draft *d)
{
	pthread_mutex_lock(&d->session->lock);
	d->flush_serial = ++d->session->flush_serial;
	d->flushed_ns = clock_mono_ns();
	d->cancelled = false;
	pthread_mutex_unlock(&d->session->lock);
}

void draft_order_goes_on(struct draft *d)
{
	pthread_mutex_lock(&d->session->lock);
	not_flushed(d);
	d->cancelled = false;
	pthread_mutex_unlock(&d->session->lock);
}

void draft_order_cancel(struct session *s)
{
	list_for_each (link, &s->drafts) {
		struct draft *d = list_entry(link, struct draft, link);
		d->cancelled = d->flush_serial != 0;
	}
}

bool draft_order_is_coming(const struct draft *d)
{
	return d->pending && d->flush_serial;
}

bool draft_order_comes(const struct session *s)
{
	list_for_each (link, &s->drafts) {
		if (draft_order_is_coming(list_entry(link, struct draft, link)))
			return true;
	}
	return false;
}

/* With the session's lock held. */
static void leave_place(struct draft *d)
{
	if (d->placed)
		session_leave_place(d->session);
	d->placed = false;
}

void draft_order_init(struct draft *d)
{
	list_init(&d->timer.link);
	d->timer.run = timer_is_due;
	list_init(&d->link);
}

bool draft_order_waits(struct draft *d)
{
	struct session *s = d->session;
	bool waits = false;
	pthread_mutex_lock(&s->lock);
	if (d->flush_serial && !atomic_load(&s->g->stopping) && must_wait(d)) {
		d->closed_until_ns = clock_mono_ns() + overtake_ns;
		arm(d, d->closed_until_ns);
		waits = d->closed = d->armed;
	}
	pthread_mutex_unlock(&s->lock);
	return waits;
}

void draft_order_submitted(struct draft *d)
{
	d->placed = false;
	not_pending(d);
}

/* With the session's lock held. */
static void leave(struct draft *d)
{
	leave_place(d);
	not_pending(d);
	not_flushed(d);
}

void draft_order_leave(struct draft *d)
{
	pthread_mutex_lock(&d->session->lock);
	leave(d);
	pthread_mutex_unlock(&d->session->lock);
}

void draft_order_reset(struct draft *d)
{
	pthread_mutex_lock(&d->session->lock);
	stop_timer(d);
	leave(d);
	d->cancelled = false;
	pthread_mutex_unlock(&d->session->lock);
}
