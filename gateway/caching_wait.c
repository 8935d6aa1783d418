/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Right after a mount the models are still being loaded. A question that names one of them is going
 * to wait for it in any case, if it has to be computed: it waits before it is looked for and not
 * behind that, so the first question finds what was stored before. One whose model the router
 * chooses waits for what is being loaded while the daemon is young, and no longer than
 * young_ns: another model may answer.
 *
 * A model that cannot be loaded is the attempt's to find out, and to say; one that was unloaded
 * meanwhile ends the request as it does there. A request waits once, while the daemon is young for
 * each model that is being loaded.
 */
#include "gateway/caching_wait.h"

#include <errno.h>

#include "base/clock.h"
#include "gateway/attempt_parts.h"
#include "gateway/caching.h"
#include "gateway/stages.h"

static const uint64_t young_ns = 500000000; /* since the start of the daemon */

void caching_wait_end(struct request *r)
{
	struct caching_wait *w = &r->cache_wait;
	if (!w->model)
		return;
	loop_disarm(r->g->loop, &w->timer);
	model_unuse(w->model, &w->user);
	w->model = model_put(w->model);
}

/* With the model's lock held. */
static void told(struct model_user *user, int status, const char *sentence)
{
	struct request *r = list_entry(user, struct request, cache_wait.user);
	struct caching_wait *w = &r->cache_wait;
	w->status = status;
	err_set(&w->err, 0, "%s", sentence ? sentence : "");
	request_ref(r);
	if (!loop_post(r->g->loop, &w->work))
		request_put(r);
}

static void come_back(struct request *r)
{
	struct caching_wait *w = &r->cache_wait;
	bool waited = w->model;
	caching_wait_end(r);
	if (!waited || stages_is_over(r))
		return;
	if (w->status < 0 && !attempt_may_go_on(w->status) && !w->is_bounded)
		stages_fail(r, w->status, &w->err);
	else
		caching_begin(r);
	stages_post(r);
}

static void was_told(struct loop_work *work)
{
	struct request *r = list_entry(work, struct request, cache_wait.work);
	come_back(r);
	request_put(r);
}

static void is_late(struct loop_timer *timer)
{
	struct request *r = request_ref(list_entry(timer, struct request, cache_wait.timer));
	come_back(r);
	request_put(r);
}

void caching_wait_init(struct request *r)
{
	struct caching_wait *w = &r->cache_wait;
	list_init(&w->user.link);
	list_init(&w->timer.link);
	list_init(&w->work.link);
	w->user.told = told;
	w->timer.run = is_late;
	w->work.run = was_told;
}

/* How long the daemon is still young. */
static uint64_t young_for_ns(const struct gateway *g)
{
	uint64_t age = clock_real_ns() - g->started_ns;
	return age < young_ns ? young_ns - age : 0;
}

/* new reference, or NULL. */
static struct model *awaited(struct request *r)
{
	size_t len;
	struct caching_wait *w = &r->cache_wait;
	struct model *m = gateway_model_find(r->g, settings_get(&r->settings, SETTING_MODEL, &len));
	if (m && model_awaits_load(m))
		return m;
	uint64_t left_ns = young_for_ns(r->g);
	bool may_be_another = m && left_ns && model_may_be_another(m);
	model_put(m);
	m = may_be_another ? model_being_loaded(r->g) : NULL;
	w->is_bounded = m;
	if (m)
		loop_arm(r->g->loop, &w->timer, clock_mono_ns() + left_ns);
	return m;
}

bool caching_wait_begin(struct request *r)
{
	struct caching_wait *w = &r->cache_wait;
	struct err err;
	if ((w->over && !(w->is_bounded && young_for_ns(r->g))) || !cache_is_on(r->g->cache))
		return false;
	w->over = true;
	w->status = 0;
	w->model = awaited(r);
	if (!w->model)
		return false;
	if (model_use(w->model, &w->user, &err) == 1)
		return true;
	caching_wait_end(r);
	return false;
}
