/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collections, and the gateway's functions for each behind pointers of one type. What is done
 * with them is the same for all: names and numbers in node.c, TREE in tree.c and sync.c, the files
 * in setting.c. Those that are single have the gateway itself for an object.
 */
#include "fs/collection.h"

#include "gateway/gateway_accounts.h"
#include "gateway/gateway_keys.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_parts.h"

#include <stdio.h>
#include <string.h>

/* ---- models ---- */

static void *models_find(struct gateway *g, const char *name)
{
	return gateway_model_find(g, name);
}

static void models_put(void *it)
{
	model_put(it);
}

static const char *models_name(const void *it)
{
	return model_name(it);
}

static bool models_is_configured(void *it)
{
	return !model_is_virtual(it);
}

static bool models_is_fixed(void *it)
{
	return model_is_virtual(it);
}

static int models_set(void *it, const char *file, const char *value, size_t len, struct err *err)
{
	return model_setting_set(it, file, value, len, err);
}

static int models_get(void *it, const char *file, struct buf *out)
{
	return model_setting_get(it, file, out);
}

static const char *const models_paths[] = {"path", "ca_file", NULL};

const struct collection collection_models = {
	.dir = "models",
	.one = "model",
	.kind = OBJECT_MODEL,
	.outside = TABLE_MODELS,
	.inside = TABLE_MODEL,
	.default_is_link = true,
	.paths = models_paths,
	.key = "key",
	.secret = "key",
	.settings = model_setting_names,
	.name_check = model_name_check,
	.create = gateway_model_create,
	.remove = gateway_model_remove,
	.find = models_find,
	.put = models_put,
	.name = models_name,
	.names = gateway_model_names,
	.is_configured = models_is_configured,
	.is_fixed = models_is_fixed,
	.check = model_setting_check,
	.hopeless = model_setting_is_hopeless,
	.set = models_set,
	.get = models_get,
	.has_secret = gateway_model_has_key,
	.forget_secret = gateway_model_key_forget,
};

/* ---- budgets ---- */

static void *budgets_find(struct gateway *g, const char *name)
{
	return gateway_account_find(g, name);
}

static void budgets_put(void *it)
{
	account_put(it);
}

static const char *budgets_name(const void *it)
{
	return account_name(it);
}

static bool budgets_is_configured(void *it)
{
	return account_is_configured(it);
}

static int budgets_set(void *it, const char *file, const char *value, size_t len, struct err *err)
{
	return account_setting_set(it, file, value, len, err);
}

static int budgets_get(void *it, const char *file, struct buf *out)
{
	return account_setting_get(it, file, out);
}

static void budgets_fail(void *it, const char *file)
{
	account_setting_fail(it, file);
}

const struct collection collection_budgets = {
	.dir = "budgets",
	.one = "budget",
	.kind = OBJECT_ACCOUNT,
	.outside = TABLE_BUDGETS,
	.inside = TABLE_ACCOUNT,
	.shows_defaults = true,
	.always = "default",
	.settings = account_setting_names,
	.create = gateway_account_create,
	.remove = gateway_account_remove,
	.find = budgets_find,
	.put = budgets_put,
	.name = budgets_name,
	.names = gateway_account_names,
	.is_configured = budgets_is_configured,
	.check = account_setting_check,
	.hopeless = account_setting_is_hopeless,
	.set = budgets_set,
	.get = budgets_get,
	.fail = budgets_fail,
};

/* ---- API keys ---- */

static void *keys_find(struct gateway *g, const char *name)
{
	return gateway_api_key_find(g, name);
}

static void keys_put(void *it)
{
	api_key_put(it);
}

static const char *keys_name(const void *it)
{
	return api_key_name(it);
}

static bool keys_is_configured(void *it)
{
	return true;
}

static int keys_set(void *it, const char *file, const char *value, size_t len, struct err *err)
{
	return api_key_setting_set(it, file, value, len, err);
}

static int keys_get(void *it, const char *file, struct buf *out)
{
	return api_key_setting_get(it, file, out);
}

static void keys_fail(void *it, const char *file)
{
	api_key_setting_fail(it, file);
}

const struct collection collection_keys = {
	.dir = "keys",
	.one = "API key",
	.kind = OBJECT_API_KEY,
	.outside = TABLE_KEYS,
	.inside = TABLE_API_KEY,
	.asks_system = true,
	.secret = "secret",
	.settings = api_key_setting_names,
	.create = gateway_api_key_create,
	.remove = gateway_api_key_remove,
	.find = keys_find,
	.put = keys_put,
	.name = keys_name,
	.names = gateway_api_key_names,
	.is_configured = keys_is_configured,
	.check = api_key_setting_check,
	.hopeless = api_key_setting_is_hopeless,
	.set = keys_set,
	.get = keys_get,
	.fail = keys_fail,
	.has_secret = gateway_api_key_has_left,
	.forget_secret = gateway_api_key_forget,
	.names_gone = gateway_api_key_names_left,
};

/* ---- router and cache ---- */

static void *parts_find(struct gateway *g, const char *name)
{
	return g;
}

static void parts_put(void *it)
{
}

static const char *parts_name(const void *it)
{
	return "";
}

static bool parts_is_configured(void *it)
{
	return true;
}

#define PART(which, what)                                                                          \
	static const char *const *which##_settings(void)                                           \
	{                                                                                          \
		return gateway_part_setting_names(what);                                           \
	}                                                                                          \
	static int which##_check(const char *file, const char *value, size_t len, struct err *err) \
	{                                                                                          \
		return gateway_part_setting_check(what, file, value, len, err);                    \
	}                                                                                          \
	static bool which##_hopeless(const char *file, const char *value, size_t len)              \
	{                                                                                          \
		return gateway_part_setting_is_hopeless(what, file, value, len);                   \
	}                                                                                          \
	static int which##_set(                                                                    \
		void *it, const char *file, const char *value, size_t len, struct err *err)        \
	{                                                                                          \
		return gateway_part_setting_set(it, what, file, value, len, err);                  \
	}                                                                                          \
	static int which##_get(void *it, const char *file, struct buf *out)                        \
	{                                                                                          \
		return gateway_part_setting_get(it, what, file, out);                              \
	}                                                                                          \
	static void which##_fail(void *it, const char *file)                                       \
	{                                                                                          \
		gateway_part_setting_fail(it, what, file);                                         \
	}                                                                                          \
	const struct collection collection_##which = {                                             \
		.dir = #which,                                                                     \
		.one = #which,                                                                     \
		.kind = OBJECT_FIXED,                                                              \
		.outside = TABLE_NOWHERE,                                                          \
		.single = true,                                                                    \
		.shows_defaults = true,                                                            \
		.settings = which##_settings,                                                      \
		.find = parts_find,                                                                \
		.put = parts_put,                                                                  \
		.name = parts_name,                                                                \
		.is_configured = parts_is_configured,                                              \
		.check = which##_check,                                                            \
		.hopeless = which##_hopeless,                                                      \
		.set = which##_set,                                                                \
		.get = which##_get,                                                                \
		.fail = which##_fail,                                                              \
		.inside = what == GATEWAY_ROUTER ? TABLE_ROUTER : TABLE_CACHE,                     \
	}

PART(router, GATEWAY_ROUTER);
PART(cache, GATEWAY_CACHE);

/* ---- all ---- */

const struct collection *const collections[COLLECTIONS + 1] = {&collection_models,
	&collection_budgets, &collection_keys, &collection_router, &collection_cache, NULL};

const struct collection *collection_of(enum object_kind kind)
{
	for (size_t i = 0; collections[i]; i++)
		if (!collections[i]->single && collections[i]->kind == kind)
			return collections[i];
	return NULL;
}

const struct collection *collection_at(enum table_place outside)
{
	for (size_t i = 0; collections[i]; i++)
		if (!collections[i]->single && collections[i]->outside == outside)
			return collections[i];
	return NULL;
}

const struct collection *collection_inside(enum table_place inside)
{
	for (size_t i = 0; collections[i]; i++)
		if (collections[i]->inside == inside)
			return collections[i];
	return NULL;
}

const struct collection *collection_single(const char *dir)
{
	for (size_t i = 0; collections[i]; i++)
		if (collections[i]->single && strcmp(collections[i]->dir, dir) == 0)
			return collections[i];
	return NULL;
}

bool collection_is_configured(const struct collection *c, struct gateway *g, const char *name)
{
	void *it = c->find(g, name);
	bool is = it && c->is_configured(it);
	if (it)
		c->put(it);
	return is;
}

bool collection_is_fixed(const struct collection *c, struct gateway *g, const char *name)
{
	void *it = c->is_fixed ? c->find(g, name) : NULL;
	bool is = it && c->is_fixed(it);
	if (it)
		c->put(it);
	return is;
}

bool collection_has(const struct collection *c, struct gateway *g, void *it)
{
	void *now = c->find(g, c->name(it));
	if (now)
		c->put(now);
	return now == it;
}

bool collection_is_path(const struct collection *c, const char *file)
{
	for (size_t i = 0; c->paths && c->paths[i]; i++)
		if (strcmp(c->paths[i], file) == 0)
			return true;
	return false;
}

void collection_path(
	const struct collection *c, const char *name, const char *file, char path[COLLECTION_PATH])
{
	snprintf(path, COLLECTION_PATH, "%s/%s%s%s", c->dir, name, c->single ? "" : "/", file);
}
