/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A setting's file, judged as the mount judges a write: by the setting's own check. Checks of
 * values do not say in which line of several the fault is: it is the first at which the text up to
 * there has the fault of the whole. That line is told and made blank, and the rest is judged again,
 * so that each line's fault is found; unless blank lines are as wrong there.
 */
#include <errno.h>
#include <string.h>

#include "fs/check_parts.h"
#include "gateway/gateway_models.h"

enum { LINES_MOST = 256 /* that are looked at one by one */, FAULTS_MOST = 100 /* of a file */ };

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

/* The sentence without the line that it begins with, which stands before it already. */
static const char *without_line(const char *sentence, size_t line)
{
	char begin[32];
	int n = snprintf(begin, sizeof begin, "line %zu: ", line);
	return strncmp(sentence, begin, (size_t)n) ? sentence : sentence + n;
}

/* Whether a text of nothing but a blank line has that fault, too: a file of one value. */
static bool has_one_value(const struct collection *c, const char *file, const char *sentence)
{
	return has_fault(c, file, "\n", 1, sentence);
}

/* Where a line begins; behind the text: there is none. */
static size_t line_begin(const struct buf *text, size_t line)
{
	size_t at = 0;
	while (--line && at < text->len)
		at = line_end(text->data, text->len, at) + 1;
	return at;
}

static bool is_blank(const struct buf *text, size_t line)
{
	size_t at = line_begin(text, line);
	return at >= text->len || line_end(text->data, text->len, at) == at;
}

/* Leaves its newline, so that the others keep their numbers. False: nothing is left of the text. */
static bool make_blank(struct buf *text, size_t line)
{
	size_t at = line_begin(text, line);
	if (at < text->len) {
		size_t end = line_end(text->data, text->len, at);
		memmove(text->data + at, text->data + end, text->len - end + 1);
		text->len -= end - at;
	}
	return strspn(text->data, " \t\r\n") < text->len;
}

/* Whether to say in which line a fault is: a file of one value has none to be told apart. */
static bool has_lines(const struct collection *c, const char *file, const struct buf *text)
{
	const struct table_row *row = table_row_named(c->inside, file);
	return (row && row->lines) || (text->len && memchr(text->data, '\n', text->len));
}

/* Tells the faults of its lines, and leaves what is sound. 0: that is a value; else nothing more
 * can be said of it. */
static int check_lines(struct check *k, const struct collection *c, const char *file,
	const char *path, struct buf *text)
{
	bool lines = has_lines(c, file, text);
	for (int n = 1;; n++) {
		struct err err = {{0}};
		int r = c->check(file, text->data ? text->data : "", text->len, &err);
		size_t line = r < 0 ? line_of(c, file, text->data, text->len, err.text) : 0;
		if (r == 0 || (n > 1 && is_blank(text, line)))
			return r;
		check_say(k, path, lines ? line : 0, "%s",
			*err.text ? without_line(without_name(err.text, file), line)
				  : strerror(-r));
		if (n == FAULTS_MOST)
			check_say(k, path, line, "there may be more behind it: mend these first");
		if (n == FAULTS_MOST || has_one_value(c, file, err.text) || !make_blank(text, line))
			return r;
	}
}

/* A file that a setting names must be there. */
static void check_target(struct check *k, const char *path, const char *target)
{
	struct stat st;
	if (stat(target, &st) < 0)
		check_say(k, path, 0, "%s: %s", target, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		check_say(k, path, 0, "%s is not a regular file", target);
}

/* Whether this build has what computes the model. */
static void check_backend(struct check *k, const char *path, const char *name)
{
	char built[64], *save = NULL;
	snprintf(built, sizeof built, "auto %s", LLMFS_BACK_ENDS);
	for (char *w = strtok_r(built, " ", &save); w; w = strtok_r(NULL, " ", &save))
		if (!strcmp(w, name))
			return;
	check_say(k, path, 0, "this build has no back end %s: it has %s", name, LLMFS_BACK_ENDS);
}

/* A model that the router asks, as a judge is asked: it need not chat. A file of router/ may have
 * remarks, and nothing beside them. */
static void check_asked(struct check *k, const char *path, struct buf *text)
{
	static const char blank[] = " \t\r\n";
	char *save = NULL;
	for (char *at = text->data; at && (at = strchr(at, '#'));)
		while (*at && *at != '\n')
			*at++ = ' ';
	char *name = text->data ? strtok_r(text->data, blank, &save) : NULL;
	if (name)
		check_models_judges(k, path, name);
}

static void check_value(struct check *k, const struct collection *c, const char *name,
	const char *file, const char *path, const struct buf *text)
{
	struct buf real = {0};
	int r = tree_resolve(k->tree, c, name, file, text->data, text->len, &real);
	if (r < 0)
		check_say(k, path, 0, "%s", strerror(-r));
	else
		r = check_lines(k, c, file, path, &real);
	if (r < 0) {
		/* it is told */
	} else if (collection_is_path(c, file)) {
		check_target(k, path, real.data);
	} else if (c == &collection_models && !strcmp(file, "backend") && real.len) {
		check_backend(k, path, real.data);
	} else if (!strcmp(file, "embedding_model")) {
		check_models_embeds(k, path, real.data ? real.data : "");
	} else if (!strcmp(file, "fallback")) {
		check_models_answers(k, path, name, real.data ? real.data : "");
	} else if (!strcmp(file, "cascade_judge") || !strcmp(file, "classifier_model")) {
		check_asked(k, path, &real);
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
		check_say(k, path, 0, "not a regular file");
	else if (r < 0 && r != -ENOENT)
		check_say(k, path, 0, "%s", strerror(-r));
	else if (r == 0 && tree_trusted(k->tree, path, &err) < 0)
		check_say(k, path, 0, "%s", err.text);
	else if (r == 0 && text.len && c->key && !strcmp(c->key, file) &&
		 !model_key_is_reference(text.data, text.len))
		check_say(k, path, 0,
			"a secret does not belong in TREE: write it to the mount, or put "
			"env:NAME or file:PATH there");
	else if (r == 0 && text.len && c->key && !strcmp(c->key, file)) {
		if (model_key_check(text.data, text.len, &err) < 0)
			check_say(k, path, 0, "%s", without_name(err.text, file));
	} else if (r == 0 && text.len) {
		check_value(k, c, name, file, path, &text);
	}
	buf_free(&text);
}
