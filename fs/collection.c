/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collections, and the gateway's functions for each behind pointers of one type. What is done
 * with them is the same for all: names and numbers in node.c, TREE in tree.c and sync.c, the files
 * in setting.c.
 */
#include "fs/collection.h"

#include "gateway/gateway.h"

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
	return true;
}

static int models_set(void *it, const char *file, const char *value, size_t len, struct err *err)
{
	return model_setting_set(it, file, value, len, err);
}

static int models_get(void *it, const char *file, struct buf *out)
{
	return model_setting_get(it, file, out);
}

const struct collection collection_models = {
	.dir = "models",
	.one = "model",
	.kind = OBJECT_MODEL,
	.outside = TABLE_MODELS,
	.inside = TABLE_MODEL,
	.default_is_link = true,
	.path_setting = "path",
	.settings = model_setting_names,
	.name_check = model_name_check,
	.create = gateway_model_create,
	.remove = gateway_model_remove,
	.find = models_find,
	.put = models_put,
	.name = models_name,
	.names = gateway_model_names,
	.is_configured = models_is_configured,
	.check = model_setting_check,
	.set = models_set,
	.get = models_get,
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
	.set = budgets_set,
	.get = budgets_get,
	.fail = budgets_fail,
};

const struct collection *const collections[COLLECTIONS + 1] = {
	&collection_models, &collection_budgets, NULL};

const struct collection *collection_of(enum object_kind kind)
{
	for (size_t i = 0; collections[i]; i++)
		if (collections[i]->kind == kind)
			return collections[i];
	return NULL;
}

const struct collection *collection_at(enum table_place outside)
{
	for (size_t i = 0; collections[i]; i++)
		if (collections[i]->outside == outside)
			return collections[i];
	return NULL;
}
