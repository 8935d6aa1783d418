/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of models, and which of them is the default. The router's two, auto and cascade, are in
 * it from the start and stay.
 *
 * Lock: gateway->lock guards the table and is outside of the models' locks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/ask_errors.h"
#include "gateway/core.h"
#include "gateway/model.h"
#include "gateway/secrets.h"

int gateway_add_virtual(struct gateway *g, struct err *err)
{
	static const char *const names[] = {"auto", "cascade"};
	int r = 0;
	for (size_t i = 0; r == 0 && i < sizeof names / sizeof *names; i++) {
		struct model *m = model_make(g, names[i]);
		r = m ? table_add(&g->models, model_name(m), m) : -ENOMEM;
		if (r < 0)
			model_put(m);
	}
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

int model_name_check(const char *name, struct err *err)
{
	int r = gateway_check_name("model", name, err);
	if (r == 0 && !strcmp(name, "default"))
		r = err_set(err, -EINVAL, "the name %s is reserved", name);
	if (r == 0 && model_name_is_virtual(name))
		r = err_set(err, -EEXIST, "models/%s is the router's", name);
	return r;
}

int gateway_model_create(struct gateway *g, const char *name, struct err *err)
{
	int r = model_name_check(name, err);
	if (r < 0)
		return r;
	struct model *m = model_make(g, name);
	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_lock(&g->lock);
	r = atomic_load(&g->stopping) ? -ESHUTDOWN : table_add(&g->models, model_name(m), m);
	pthread_mutex_unlock(&g->lock);
	if (r < 0) {
		model_put(m);
		return err_set(err, r, "model %s: %s", name, strerror(-r));
	}
	gateway_tell_change(g, GATEWAY_CHANGE_MODELS, name, NULL);
	return 0;
}

int gateway_model_remove(struct gateway *g, const char *name, struct err *err)
{
	struct model *m = NULL;
	int r = 0;
	pthread_mutex_lock(&g->lock);
	if (model_name_is_virtual(name))
		r = err_set(err, -EPERM, "models/%s is the router's", name);
	else if (!strcmp(g->default_model, name) && table_find(&g->models, name))
		r = err_set(err, -EBUSY, "models/default points to %s", name);
	else
		m = table_remove(&g->models, name);
	pthread_mutex_unlock(&g->lock);
	if (r == 0 && !m)
		r = err_set(err, -ENOENT, "there is no model %s", name);
	if (r < 0)
		return r;
	model_retire(m, "the model was removed");
	ask_errors_forget(g->ask_errors, model_serial(m));
	model_put(m);
	gateway_tell_change(g, GATEWAY_CHANGE_MODELS, name, NULL);
	return 0;
}

int gateway_model_key_forget(struct gateway *g, const char *name, struct err *err)
{
	return secrets_has(g->secrets, name) ? secrets_set(g->secrets, name, "", 0, err) : 0;
}

bool gateway_model_has_key(struct gateway *g, const char *name)
{
	return secrets_has(g->secrets, name);
}

struct model *gateway_model_find(struct gateway *g, const char *name)
{
	pthread_mutex_lock(&g->lock);
	if (!strcmp(name, "default"))
		name = g->default_model;
	struct model *m = table_find(&g->models, name);
	if (m)
		model_ref(m);
	pthread_mutex_unlock(&g->lock);
	return m;
}

char **gateway_model_names(struct gateway *g)
{
	pthread_mutex_lock(&g->lock);
	char **names = table_names(&g->models);
	pthread_mutex_unlock(&g->lock);
	return names;
}

int gateway_default_set(struct gateway *g, const char *name, struct err *err)
{
	if (name && (!text_is_name(name, strlen(name)) || !strcmp(name, "default")))
		return err_set(
			err, -EINVAL, "default points to the bare name of a model beside it");
	pthread_mutex_lock(&g->lock);
	snprintf(g->default_model, sizeof g->default_model, "%s", name ? name : "");
	pthread_mutex_unlock(&g->lock);
	gateway_tell_change(g, GATEWAY_CHANGE_MODELS, "default", NULL);
	return 0;
}

int gateway_default(struct gateway *g, struct buf *name)
{
	pthread_mutex_lock(&g->lock);
	int r = buf_append_str(name, g->default_model);
	pthread_mutex_unlock(&g->lock);
	return r;
}

struct model **gateway_all_models(struct gateway *g)
{
	pthread_mutex_lock(&g->lock);
	struct model **list = calloc(g->models.n + 1, sizeof *list);
	for (size_t i = 0; list && i < g->models.n; i++)
		list[i] = model_ref(g->models.rows[i].object);
	pthread_mutex_unlock(&g->lock);
	return list;
}

void gateway_put_models(struct model **list)
{
	for (size_t i = 0; list && list[i]; i++)
		model_put(list[i]);
	free(list);
}
