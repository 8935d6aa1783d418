/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `llmfs --check TREE`: for who edits a TREE and wants to know what a daemon will say, before a
 * commit or a restart. The judges are those of the mount: each setting's own check, and the
 * compilers of rules. Besides, what only shows when it is used: names that are no setting's, and
 * names of models and files that are not there.
 *
 * Checks of values do not say in which line of several the fault is: it is the first at which the
 * text up to there has the fault of the whole.
 */
#include "fs/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "fs/collection.h"
#include "fs/names.h"
#include "fs/tree.h"
#include "fs/tree_file.h"
#include "fs/tree_guards.h"
#include "gateway/gateway.h"

enum { LINES_MOST = 256 }; /* that are looked at one by one */

struct check {
	struct tree *tree;
	char **models; /* that there are */
	FILE *out;
	int n; /* faults */
};

__attribute__((format(printf, 4, 5))) static void say(
	struct check *k, const char *path, size_t line, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(k->out, "%s:%zu: ", path, line);
	vfprintf(k->out, format, args);
	fputc('\n', k->out);
	va_end(args);
	k->n++;
}

/* ---- settings ---- */

/* Whether the first n bytes have that fault. */
static bool has_fault(const struct collection *c, const char *file, const char *text, size_t n,
	const char *sentence)
{
	struct err err = {{0}};
	struct buf part = {0}; /* checks may want a NUL behind it */
	int r = n ? buf_append(&part, text, n) : 0;
	r = r == 0 && n ? c->check(file, part.data, part.len, &err) : 0;
	buf_free(&part);
	return r < 0 && !strcmp(err.text, sentence);
}

/* The end of the line that begins at `at`. */
static size_t line_end(const char *text, size_t len, size_t at)
{
	const char *end = memchr(text + at, '\n', len - at);
	return end ? (size_t)(end - text) : len;
}

/* Each look reads all from the beginning: one at each line, but where there are very many in ever
 * longer steps, and then one at each line of the last of them. */
static size_t line_of(const struct collection *c, const char *file, const char *text, size_t len,
	const char *sentence)
{
	size_t line = 1, at = 0, step = 1;
	while (at < len) {
		size_t n = 0, next = at, end = at;
		for (; n < step && next < len; n++) {
			end = line_end(text, len, next);
			next = end + 1;
		}
		if (has_fault(c, file, text, end, sentence)) {
			if (n == 1)
				return line;
			step = (n + 1) / 2;
			continue;
		}
		line += n;
		at = next;
		step = line > LINES_MOST ? step * 2 : 1;
	}
	return 1;
}

/* A sentence about a value begins with its file, which stands before it already. */
static const char *without_name(const char *sentence, const char *file)
{
	size_t n = strlen(file);
	return !strncmp(sentence, file, n) && !strncmp(sentence + n, ": ", 2) ? sentence + n + 2
									      : sentence;
}

static bool is_path(const struct collection *c, const char *file)
{
	for (size_t i = 0; c->paths && c->paths[i]; i++)
		if (!strcmp(c->paths[i], file))
			return true;
	return false;
}

/* The sentence without the line that it begins with, which stands before it already. */
static const char *without_line(const char *sentence, size_t line)
{
	char begin[32];
	int n = snprintf(begin, sizeof begin, "line %zu: ", line);
	return strncmp(sentence, begin, (size_t)n) ? sentence : sentence + n;
}

/* A file that a setting names must be there. */
static void check_target(struct check *k, const char *path, const char *target)
{
	struct stat st;
	if (stat(target, &st) < 0)
		say(k, path, 1, "%s: %s", target, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		say(k, path, 1, "%s is not a regular file", target);
}

/* Whether this build has what computes the model. */
static void check_backend(struct check *k, const char *path, const char *name)
{
	char built[64], *save = NULL;
	snprintf(built, sizeof built, "auto %s", LLMFS_BACK_ENDS);
	for (char *w = strtok_r(built, " ", &save); w; w = strtok_r(NULL, " ", &save))
		if (!strcmp(w, name))
			return;
	say(k, path, 1, "this build has no back end %s: it has %s", name, LLMFS_BACK_ENDS);
}

/* Words of a list of models. */
static void check_models(struct check *k, const char *path, const char *names)
{
	char copy[4096], *save = NULL;
	snprintf(copy, sizeof copy, "%s", names);
	for (char *w = strtok_r(copy, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		if (!names_has(k->models, w))
			say(k, path, 1, "there is no model %s", w);
}

/* The router's models answer and do nothing else; of others their file or server knows. */
static void check_embeds(struct check *k, const char *path, const char *name)
{
	if (!strcmp(name, "auto") || !strcmp(name, "cascade"))
		say(k, path, 1, "the model %s is the router's and gives no embeddings", name);
	else
		check_models(k, path, name);
}

static void check_value(struct check *k, const struct collection *c, const char *name,
	const char *file, const char *path, const struct buf *text)
{
	struct err err = {{0}};
	struct buf real = {0};
	int r = is_path(c, file) ? tree_resolve(k->tree, c, name, text->data, text->len, &real)
				 : buf_append(&real, text->data, text->len);
	r = r ? r : c->check(file, real.data, real.len, &err);
	if (r < 0) {
		size_t line = line_of(c, file, real.data, real.len, err.text);
		say(k, path, line, "%s",
			*err.text ? without_line(without_name(err.text, file), line)
				  : strerror(-r));
	} else if (is_path(c, file)) {
		check_target(k, path, real.data);
	} else if (c == &collection_models && !strcmp(file, "backend") && real.len) {
		check_backend(k, path, real.data);
	} else if (!strcmp(file, "embedding_model")) {
		check_embeds(k, path, real.data ? real.data : "");
	} else if (!strcmp(file, "fallback")) {
		check_models(k, path, real.data);
	}
	buf_free(&real);
}

static void check_setting(
	struct check *k, const struct collection *c, const char *name, const char *file)
{
	char path[COLLECTION_PATH];
	struct buf text = {0};
	struct err err = {{0}};
	collection_path(c, name, file, path);
	int r = tree_setting_get(k->tree, c, name, file, &text);
	if (r == -EINVAL)
		say(k, path, 1, "not a regular file");
	else if (r < 0 && r != -ENOENT)
		say(k, path, 1, "%s", strerror(-r));
	else if (r == 0 && tree_trusted(k->tree, path, &err) < 0)
		say(k, path, 1, "%s", err.text);
	else if (r == 0 && text.len && c->key && !strcmp(c->key, file) &&
		 !model_key_is_reference(text.data, text.len))
		say(k, path, 1,
			"a secret does not belong in TREE: write it to the mount, or put "
			"env:NAME or file:PATH there");
	else if (r == 0 && text.len && c->key && !strcmp(c->key, file)) {
		if (model_key_check(text.data, text.len, &err) < 0)
			say(k, path, 1, "%s", without_name(err.text, file));
	} else if (r == 0 && text.len) {
		check_value(k, c, name, file, path, &text);
	}
	buf_free(&text);
}

/* ---- what else lies there ---- */

static bool is_setting(const struct collection *c, const char *file)
{
	const char *const *settings = c->settings();
	for (size_t i = 0; settings[i]; i++)
		if (!strcmp(settings[i], file))
			return true;
	return c->key && !strcmp(c->key, file);
}

/* A name in the manner of settings that is none: "limits", "price-input". Others are people's. */
static bool looks_like_one(const char *name)
{
	return !name[strspn(name, "abcdefghijklmnopqrstuvwxyz_-")];
}

/* What lies in a directory of TREE ("models/", "" for TREE itself), by calling judge on each. */
static void for_each_entry(struct check *k, const char *dir, const void *what,
	void (*judge)(
		struct check *k, const void *what, const char *path, const char *name, mode_t type))
{
	char path[COLLECTION_PATH + 256];
	int fd = openat(tree_fd(k->tree), *dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	if (fd >= 0 && !d)
		close(fd);
	for (struct dirent *e; d && (e = readdir(d));) {
		struct stat st;
		if (*e->d_name == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		snprintf(path, sizeof path, "%s%s", dir, e->d_name);
		judge(k, what, path, e->d_name, st.st_mode & S_IFMT);
	}
	if (d)
		closedir(d);
}

static void judge_setting(
	struct check *k, const void *what, const char *path, const char *name, mode_t type)
{
	const struct collection *c = what;
	if (type == S_IFREG && looks_like_one(name) && !is_setting(c, name) &&
		!table_row_named(c->inside, name))
		say(k, path, 1, "no setting has that name");
}

static void check_strangers(struct check *k, const struct collection *c, const char *name)
{
	char dir[COLLECTION_PATH];
	collection_path(c, name, "", dir);
	for_each_entry(k, dir, c, judge_setting);
}

/* In TREE itself and in guards/: *what is their place in the table. */
static void judge_fixed(
	struct check *k, const void *what, const char *path, const char *name, mode_t type)
{
	const enum table_place *place = what;
	if ((type == S_IFREG || type == S_IFDIR) && looks_like_one(name) &&
		!table_row_named(*place, name))
		say(k, path, 1, "no %s of TREE has that name",
			type == S_IFDIR ? "directory" : "file");
}

/* In models/ and budgets/. */
static void judge_one(
	struct check *k, const void *what, const char *path, const char *name, mode_t type)
{
	const struct collection *c = what;
	bool is_default = c->default_is_link && !strcmp(name, "default");
	if (type == S_IFDIR && !is_default && !tree_name_ok(c, name))
		say(k, path, 1, "not a name of a %s: 1 to 64 of A-Z a-z 0-9 . _ -", c->one);
}

static void check_one(struct check *k, const struct collection *c, const char *name)
{
	const char *const *settings = c->settings();
	for (size_t i = 0; settings[i]; i++)
		check_setting(k, c, name, settings[i]);
	if (c->key)
		check_setting(k, c, name, c->key);
	check_strangers(k, c, name);
}

static void check_collection(struct check *k, const struct collection *c)
{
	if (c->single) {
		check_one(k, c, "");
		return;
	}
	char all[32];
	snprintf(all, sizeof all, "%s/", c->dir);
	for_each_entry(k, all, c, judge_one);
	char **names = tree_names(k->tree, c);
	for (size_t i = 0; names && names[i]; i++)
		check_one(k, c, names[i]);
	names_free(names);
}

static bool has_models(struct check *k)
{
	char **names = tree_names(k->tree, &collection_models);
	bool has = names && *names;
	names_free(names);
	return has;
}

static void check_default(struct check *k)
{
	static const char *const path = "models/default";
	char target[256];
	ssize_t n = readlinkat(tree_fd(k->tree), path, target, sizeof target - 1);
	if (n < 0 && errno != ENOENT && errno != ENOTDIR)
		say(k, path, 1, "must be a symlink to the bare name of a sibling");
	else if (n < 0 && has_models(k))
		say(k, path, 1,
			"is not there: ln -s NAME models/default, or name one in each session");
	if (n < 0)
		return;
	target[n] = '\0';
	if (!tree_name_ok(&collection_models, target))
		say(k, path, 1, "must be a symlink to the bare name of a sibling");
	else if (!names_has(k->models, target))
		say(k, path, 1, "there is no model %s", target);
}

/* ---- guards ---- */

static void check_guard(struct check *k, struct guards_check *g, const char *file)
{
	char path[TREE_GUARDS_NAME + 8];
	struct buf text = {0};
	struct err err = {{0}};
	snprintf(path, sizeof path, "guards/%s", file);
	int r = tree_guards_get(k->tree, file, &text);
	if (r < 0) {
		say(k, path, 1, "%s", r == -EINVAL ? "not a regular file" : strerror(-r));
	} else if (tree_trusted(k->tree, path, &err) < 0) {
		say(k, path, 1, "%s", err.text);
	} else if (text.len == 0) {
		say(k, path, 1, "the file is empty: delete it, or write a comment into it");
	} else if (gateway_guards_check(g, file, text.data ? text.data : "", text.len, &err) < 0) {
		fprintf(k->out, "guards/%s\n", err.text);
		k->n++;
	}
	buf_free(&text);
}

static void check_guards(struct check *k)
{
	if (tree_guards_dir_check(k->tree, "input") < 0)
		say(k, "guards/input", 1, "cannot be read, or is not a directory");
	if (tree_guards_dir_check(k->tree, "output") < 0)
		say(k, "guards/output", 1, "cannot be read, or is not a directory");
	struct guards_check *g = gateway_guards_check_new();
	char **names = g ? tree_guards_names(k->tree) : NULL;
	if (!names)
		say(k, "guards", 1, "cannot be read");
	for (size_t i = 0; names && names[i]; i++)
		check_guard(k, g, names[i]);
	if (names && *gateway_guards_check_judge(g))
		check_models(k, "guards/moderation", gateway_guards_check_judge(g));
	names_free(names);
	gateway_guards_check_free(g);
}

/* ---- all of it ---- */

/* Whether a directory of TREE is there: else it is most likely another one that was meant. */
static bool is_a_tree(struct check *k)
{
	struct stat st;
	bool is = fstatat(tree_fd(k->tree), "guards", &st, 0) == 0;
	for (size_t i = 0; !is && collections[i]; i++)
		is = fstatat(tree_fd(k->tree), collections[i]->dir, &st, 0) == 0;
	return is;
}

/* auto and cascade are always there. */
static char **models_there_are(struct tree *tree)
{
	struct names all = {0};
	char **names = tree_names(tree, &collection_models);
	int r = names ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && names[i]; i++)
		r = names_add(&all, names[i]);
	r = r ? r : names_add(&all, "auto");
	r = r ? r : names_add(&all, "cascade");
	names_free(names);
	return names_take(&all, r);
}

int check_tree(const char *path, FILE *out)
{
	struct check k = {.out = out};
	struct err err = {{0}};
	int r = tree_open(&k.tree, path, &err);
	if (r == 0) {
		k.models = models_there_are(k.tree);
		r = k.models ? 0 : err_set(&err, -EIO, "models/ cannot be read");
	}
	if (r < 0) {
		fprintf(out, "%s: %s\n", path, err.text);
		tree_free(k.tree);
		return r;
	}
	static const enum table_place root = TABLE_ROOT, guards = TABLE_GUARDS;
	if (is_a_tree(&k))
		for_each_entry(&k, "", &root, judge_fixed);
	else
		say(&k, tree_path(k.tree), 1,
			"not a TREE: it has none of models, budgets, router, "
			"cache and guards");
	for_each_entry(&k, "guards/", &guards, judge_fixed);
	for (size_t i = 0; collections[i]; i++)
		check_collection(&k, collections[i]);
	check_default(&k);
	check_guards(&k);
	names_free(k.models);
	tree_free(k.tree);
	return k.n;
}
