/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models of a TREE: that each one's file is sound, and that those that others name are there and
 * can do what they are named for. Of files all but the weights is read, as at a load; of what only
 * a server knows nothing is said.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/check_parts.h"
#include "fs/names.h"
#include "gateway/gateway_models.h"

struct one {
	struct check *k;
	const char *name;
	bool has_fault; /* a setting, of which check_setting speaks */
};

/* What a mount would take as its value. 0 or -errno. */
static int good_value(const struct one *one, const char *file, struct buf *out)
{
	const struct tree *tree = one->k->tree;
	const struct collection *c = &collection_models;
	char below[COLLECTION_PATH];
	struct buf text = {0};
	collection_path(c, one->name, file, below);
	int r = tree_setting_get(tree, c, one->name, file, &text);
	r = r ? r : tree_trusted(tree, below, NULL);
	if (r == 0)
		r = tree_resolve(tree, c, one->name, file, text.data, text.len, out);
	buf_free(&text);
	if (r == 0 && out->len)
		r = c->check(file, out->data, out->len, NULL);
	return r == -ENOENT ? 0 : r;
}

static int value_of(void *arg, const char *file, struct buf *out)
{
	struct one *one = arg;
	int r = good_value(one, file, out);
	one->has_fault = one->has_fault || r < 0;
	return r;
}

/* Its file into *path, which the caller ends. One that is not there at all is what check_setting
 * speaks of. */
static bool is_there(struct check *k, const char *name, struct buf *path)
{
	struct one one = {k, name, false};
	struct stat st;
	return value_of(&one, "path", path) == 0 && path->len && stat(path->data, &st) == 0 &&
	       S_ISREG(st.st_mode);
}

static bool is_the_routers(const char *name)
{
	return !strcmp(name, "auto") || !strcmp(name, "cascade");
}

/* Somebody has begun to make it. */
static bool is_nothing(struct check *k, const char *name)
{
	struct one one = {k, name, false};
	struct buf path = {0}, endpoint = {0};
	bool is = value_of(&one, "path", &path) == 0 &&
		  value_of(&one, "endpoint", &endpoint) == 0 && !path.len && !endpoint.len;
	buf_free(&path);
	buf_free(&endpoint);
	return is;
}

void check_models_file(struct check *k, const char *name)
{
	char path[COLLECTION_PATH];
	struct model_powers powers;
	struct err err = {{0}};
	struct one one = {k, name, false};
	if (!is_the_routers(name) && is_nothing(k, name)) {
		snprintf(path, sizeof path, "models/%s", name);
		check_say(k, path, 0, "has neither path nor endpoint");
	}
	struct buf file = {0};
	if (is_there(k, name, &file) && model_powers(value_of, &one, &powers, &err) < 0 &&
		!one.has_fault) {
		const char *why = *err.text ? err.text : "cannot be read";
		/* Sentences about what cannot be opened name it already. */
		bool named = !strncmp(why, file.data, file.len);
		collection_path(&collection_models, name, "path", path);
		check_say(k, path, 0, "%s%s%s", named ? "" : file.data, named ? "" : ": ", why);
	}
	buf_free(&file);
}

/* What it can do; false: that cannot be told, for a reason that is told elsewhere. */
static bool powers_of(struct check *k, const char *name, struct model_powers *out)
{
	struct one one = {k, name, false};
	return model_powers(value_of, &one, out, NULL) == 0;
}

static bool is_known(struct check *k, const char *path, const char *name)
{
	bool is = names_has(k->models, name);
	if (!is)
		check_say(k, path, k->line, "there is no model %s", name);
	return is;
}

/* Whether there is one of that name, and something is known of it. Of `default`, wherever it
 * points, nothing is said: that has a fault of its own. */
static bool look(struct check *k, const char *path, const char *name, struct model_powers *can)
{
	if (!strcmp(name, "default") || !is_known(k, path, name) || is_the_routers(name) ||
		!powers_of(k, name, can))
		return false;
	if (!can->is_set)
		check_say(k, path, k->line, "the model %s has neither path nor endpoint", name);
	return can->is_set;
}

static void check_answers(struct check *k, const char *path, const char *name, bool chats)
{
	struct model_powers can;
	if (!look(k, path, name, &can))
		return;
	if (!can.answers)
		check_say(k, path, k->line, "the model %s gives no answers: it is for embeddings",
			name);
	else if (chats && !can.chats)
		check_say(k, path, k->line,
			"the model %s does not chat: chat is none of its capabilities", name);
}

static size_t line_at(const char *text, size_t at)
{
	size_t line = 1;
	for (size_t i = 0; i < at; i++)
		line += text[i] == '\n';
	return line;
}

void check_models_answers(struct check *k, const char *path, const char *model, const char *names)
{
	static const char blank[] = " \t\r\n";
	char copy[4096], *save = NULL;
	snprintf(copy, sizeof copy, "%s", names);
	bool lines = strchr(names, '\n');
	for (char *w = strtok_r(copy, blank, &save); w; w = strtok_r(NULL, blank, &save)) {
		k->line = lines ? line_at(names, (size_t)(w - copy)) : 0;
		if (!strcmp(w, model))
			check_say(k, path, k->line, "%s is this model itself", w);
		else
			check_answers(k, path, w, true);
	}
	k->line = 0;
}

/* `default` may be one of the router's, and is no judge then. */
void check_models_judges(struct check *k, const char *path, const char *name)
{
	struct buf target = {0};
	const char *who = name;
	if (!strcmp(name, "default") && tree_default_get(k->tree, &target) == 0 && target.len)
		who = target.data;
	if (is_the_routers(who))
		check_say(k, path, 0, "%s is the router's: it is not asked", who);
	else
		check_answers(k, path, name, false);
	buf_free(&target);
}

/* The router's models answer and do nothing else. */
void check_models_embeds(struct check *k, const char *path, const char *name)
{
	struct model_powers can;
	if (*name && is_the_routers(name))
		check_say(k, path, 0, "the model %s is the router's and gives no embeddings", name);
	else if (*name && look(k, path, name, &can) && !can.embeds)
		check_say(k, path, 0, "the model %s gives no embeddings", name);
}
