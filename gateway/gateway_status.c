/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `status`: ok, or a line for each fault that lasts. Some are reported by whoever found them and
 * stay until they are taken back; the others are looked for when it is read: names of models that
 * stand in settings and name none, or one that cannot do what it is named for, and models that
 * cannot be asked.
 *
 * A name may be written before its model is made, so no name is refused for naming nothing; that it
 * does is said here for as long as it does. What a model can do is known by its settings and, of
 * its file, once it was loaded or looked at (model_look): nothing is loaded or asked here.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gateway/cache.h"
#include "gateway/guards.h"
#include "gateway/route.h"
#include "gateway/router.h"
#include "gateway/session.h"

/* ---- what is reported ---- */

/* Whether who is told of faults at the end of a start has been told already. */
static bool report(struct gateway *g, const char *key, const char *sentence)
{
	struct report *fresh = sentence ? calloc(1, sizeof *fresh) : NULL;
	const size_t most = sizeof fresh->key - 1; /* so much of a key is kept */
	pthread_mutex_lock(&g->lock);
	struct report **at = &g->reports;
	while (*at && strncmp((*at)->key, key, most))
		at = &(*at)->next;
	struct report *old = *at;
	if (fresh) {
		snprintf(fresh->key, sizeof fresh->key, "%s", key);
		snprintf(fresh->sentence, sizeof fresh->sentence, "%s", sentence);
		fresh->next = old ? old->next : NULL;
		*at = fresh;
	} else if (old) {
		*at = old->next;
	}
	bool told = g->tells_faults;
	pthread_mutex_unlock(&g->lock);
	free(old);
	return told;
}

void gateway_report(struct gateway *g, const char *key, const char *sentence)
{
	report(g, key, sentence);
}

void gateway_report_aloud(struct gateway *g, const char *key, const char *sentence)
{
	if (report(g, key, sentence) && sentence)
		log_warn("%s", sentence);
}

static bool is_reported(struct gateway *g, const char *key)
{
	pthread_mutex_lock(&g->lock);
	const struct report *p = g->reports;
	while (p && strcmp(p->key, key))
		p = p->next;
	pthread_mutex_unlock(&g->lock);
	return p;
}

/* ---- what is looked for ---- */

struct status {
	struct gateway *g;
	struct buf *out;
	bool fine;
};

__attribute__((format(printf, 2, 3))) static int say(struct status *s, const char *format, ...)
{
	char line[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	s->fine = false;
	return buf_printf(s->out, "degraded: %s\n", line);
}

/* Of its own, not the router's. */
static bool has_models(struct gateway *g)
{
	struct model **models = gateway_all_models(g);
	bool has = false;
	for (size_t i = 0; models && models[i]; i++)
		has = has || !model_is_virtual(models[i]);
	gateway_put_models(models);
	return has;
}

/* Whether it answers who did not name it: it may be nothing yet, or not for that. */
static int check_answers(struct model *m, struct err *why)
{
	int r = model_check(m, why);
	return r ? r : model_answers(m, why);
}

int gateway_default_check(struct gateway *g, const char *name, struct err *err)
{
	struct model *m = gateway_model_find(g, name);
	int r = m && model_answers(m, err) < 0 ? -EINVAL : 0;
	model_put(m);
	return r;
}

/* Where there are models, `default` must be one that answers, or sessions that chose none cannot
 * ask. */
static int add_default(struct status *s)
{
	struct buf name = {0};
	struct err why = {0};
	int r = gateway_default(s->g, &name);
	struct model *m = gateway_model_find(s->g, "default");
	/* The router's, where there is nothing yet that it could choose: as no default there. */
	bool early = m && model_is_virtual(m) && !has_models(s->g);
	if (r == 0 && m && !early && check_answers(m, &why) < 0)
		r = say(s, "models/default points to %s: %s", model_name(m), why.text);
	else if (r == 0 && !m && name.len)
		r = say(s,
			"models/default points to %s, and there is no model %s: make it, or point "
			"to another, ln -sfn NAME models/default",
			name.data, name.data);
	else if (r == 0 && !m && has_models(s->g))
		r = say(s,
			"models/default names no model, and sessions that chose none cannot ask: "
			"ln -sfn NAME models/default");
	model_put(m);
	buf_free(&name);
	return r;
}

static int add_fallback(struct status *s, struct model *m)
{
	struct text *fallback = model_fallback(m);
	char name[TEXT_NAME_SIZE];
	int r = 0;
	for (size_t at = 0; r == 0 && fallback && route_fallback_next(fallback, &at, name);) {
		struct err why = {0};
		struct model *next = gateway_model_find(s->g, name);
		if (!next)
			r = say(s, "models/%s/fallback: there is no model %s", model_name(m), name);
		else if (model_is_virtual(next))
			r = say(s, "models/%s/fallback: %s is the router's: none to fall back to",
				model_name(m), model_name(next));
		else if (check_answers(next, &why) < 0)
			r = say(s, "models/%s/fallback: %s", model_name(m), why.text);
		model_put(next);
	}
	text_put(fallback);
	return r;
}

static int add_embedding_model(struct status *s)
{
	static const char key[] = "cache/embedding_model"; /* as it is reported when it failed */
	struct buf name = {0};
	struct err why = {0};
	int r = cache_setting_get(s->g->cache, "embedding_model", &name);
	struct model *m = r == 0 && name.len ? gateway_model_find(s->g, name.data) : NULL;
	if (r == 0 && name.len && !is_reported(s->g, key)) {
		if (!m)
			r = say(s, "%s: there is no model %s", key, name.data);
		else if (model_embeds(m, &why) < 0)
			r = say(s, "%s: %s", key, why.text);
		else
			model_look(m); /* for who asks next */
	}
	model_put(m);
	buf_free(&name);
	return r;
}

/* One that the router asks, as a judge is asked: it need not chat. name: "" where none is. */
static int add_asked(struct status *s, const char *key, const char *name)
{
	struct err why = {0};
	struct model *m = *name ? gateway_model_find(s->g, name) : NULL;
	int r = 0;
	if (*name && !m)
		r = say(s, "%s: there is no model %s", key, name);
	else if (m && model_judges(m, &why) < 0) /* a router's by way of the default's name */
		r = say(s, "%s: %s", key, why.text);
	model_put(m);
	return r;
}

static int add_router(struct status *s)
{
	char judge[TEXT_NAME_SIZE] = "", classifier[TEXT_NAME_SIZE] = "";
	router_cascade_judge(s->g->router, judge);
	router_classifier(s->g->router, classifier);
	int r = add_asked(s, "router/cascade_judge", judge);
	return r ? r : add_asked(s, "router/classifier_model", classifier);
}

/* Models on other servers that cannot be asked now, and local ones that could not be loaded. */
static int add_down(struct status *s, struct model *m)
{
	struct model_facts f;
	if (model_is_virtual(m) || model_facts(m, &f) >= 0 || !f.configured)
		return 0;
	size_t own = strlen("models/") + strlen(f.name);
	bool named = model_begins_with_name(f.why.text, f.name) && f.why.text[own] == ':';
	return say(s, "models/%s is %s: %s", f.name, f.word, f.why.text + (named ? own + 2 : 0));
}

static int add_models(struct status *s)
{
	struct model **models = gateway_all_models(s->g);
	int r = models ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && models[i]; i++)
		r = add_fallback(s, models[i]);
	r = r ? r : add_router(s);
	r = r ? r : add_embedding_model(s);
	for (size_t i = 0; r == 0 && models[i]; i++)
		r = add_down(s, models[i]);
	gateway_put_models(models);
	return r;
}

/* ---- all of it ---- */

/* tell: for gateway_tell_faults. The store has logged its own. */
static int render(struct gateway *g, bool tell, struct buf *out)
{
	struct status s = {g, out, true};
	struct err err = {0};
	char missing[192];
	int r = tell || store_state(g->store, &err) == 0 ? 0 : say(&s, "%s", err.text);
	guards_missing_judge(g->guards, missing, sizeof missing);
	if (r == 0 && *missing)
		r = say(&s, "%s", missing);
	pthread_mutex_lock(&g->lock);
	for (const struct report *p = g->reports; r == 0 && p; p = p->next)
		r = say(&s, "%s", p->sentence);
	g->tells_faults = g->tells_faults || tell;
	pthread_mutex_unlock(&g->lock);
	r = r ? r : add_default(&s);
	r = r ? r : add_models(&s);
	return r || !s.fine ? r : buf_append_str(out, "ok\n");
}

int gateway_status(struct gateway *g, struct buf *out)
{
	return render(g, false, out);
}

void gateway_tell_faults(struct gateway *g)
{
	static const char degraded[] = "degraded: ";
	struct buf status = {0};
	int r = render(g, true, &status);
	char *next = status.data, *line;
	while (r == 0 && (line = strsep(&next, "\n")))
		if (!strncmp(line, degraded, strlen(degraded)))
			log_warn("%s", line + strlen(degraded));
	buf_free(&status);
}
