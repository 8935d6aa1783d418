/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A setting's file, judged as the mount judges a write: by the setting's own check. Checks of
 * values do not say in which line of several the fault is: it is the first at which the text up to
 * there has the fault of the whole.
 */
#include <errno.h>
#include <string.h>

#include "fs/check_parts.h"
#include "gateway/gateway.h"

enum { LINES_MOST = 256 }; /* that are looked at one by one */

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
		check_say(k, path, 1, "%s: %s", target, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		check_say(k, path, 1, "%s is not a regular file", target);
}

/* Whether this build has what computes the model. */
static void check_backend(struct check *k, const char *path, const char *name)
{
	char built[64], *save = NULL;
	snprintf(built, sizeof built, "auto %s", LLMFS_BACK_ENDS);
	for (char *w = strtok_r(built, " ", &save); w; w = strtok_r(NULL, " ", &save))
		if (!strcmp(w, name))
			return;
	check_say(k, path, 1, "this build has no back end %s: it has %s", name, LLMFS_BACK_ENDS);
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
		check_say(k, path, line, "%s",
			*err.text ? without_line(without_name(err.text, file), line)
				  : strerror(-r));
	} else if (is_path(c, file)) {
		check_target(k, path, real.data);
	} else if (c == &collection_models && !strcmp(file, "backend") && real.len) {
		check_backend(k, path, real.data);
	} else if (!strcmp(file, "embedding_model")) {
		check_models_embeds(k, path, real.data ? real.data : "");
	} else if (!strcmp(file, "fallback")) {
		check_models_answers(k, path, real.data ? real.data : "");
	}
	buf_free(&real);
}

void check_setting(struct check *k, const struct collection *c, const char *name, const char *file)
{
	char path[COLLECTION_PATH];
	struct buf text = {0};
	struct err err = {{0}};
	collection_path(c, name, file, path);
	int r = tree_setting_get(k->tree, c, name, file, &text);
	if (r == -EINVAL)
		check_say(k, path, 1, "not a regular file");
	else if (r < 0 && r != -ENOENT)
		check_say(k, path, 1, "%s", strerror(-r));
	else if (r == 0 && tree_trusted(k->tree, path, &err) < 0)
		check_say(k, path, 1, "%s", err.text);
	else if (r == 0 && text.len && c->key && !strcmp(c->key, file) &&
		 !model_key_is_reference(text.data, text.len))
		check_say(k, path, 1,
			"a secret does not belong in TREE: write it to the mount, or put "
			"env:NAME or file:PATH there");
	else if (r == 0 && text.len && c->key && !strcmp(c->key, file)) {
		if (model_key_check(text.data, text.len, &err) < 0)
			check_say(k, path, 1, "%s", without_name(err.text, file));
	} else if (r == 0 && text.len) {
		check_value(k, c, name, file, path, &text);
	}
	buf_free(&text);
}
