/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads rule files the way a reader does, line by line, beside the library's own parser: the rule
 * of a line is whatever guard_rules_parse makes of that line alone, and the file as a whole is
 * given to it as well. So the two views can be compared (the count, the line of each name).
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gateway/shipped.h"

static void *grow(void *array, size_t n, size_t size)
{
	void *a = realloc(array, (n + 1) * size);
	if (!a)
		abort();
	memset((char *)a + n * size, 0, size);
	return a;
}

/* ---- examples ---- */

/* Appends what s[0..n) says. 0; -EINVAL: not an escape. */
static int unescape(const char *s, size_t n, struct buf *out)
{
	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		if (c == '\\' && ++i == n)
			return -EINVAL;
		if (c != '\\') {
			buf_append(out, &c, 1);
		} else if (strchr("ntr\\", s[i])) {
			const char *from = "ntr\\", *to = "\n\t\r\\";
			buf_append(out, &to[strchr(from, s[i]) - from], 1);
		} else if (s[i] == 'x' && n - i > 2) {
			char hex[3] = {s[i + 1], s[i + 2], 0}, *end;
			c = (char)strtoul(hex, &end, 16);
			if (*end)
				return -EINVAL;
			buf_append(out, &c, 1);
			i += 2;
		} else if (s[i] == '{') {
			char *text;
			unsigned long times = strtoul(s + i + 1, &text, 10);
			const char *end = memchr(s + i, '}', n - i);
			if (*text != ':' || !end || times > 1000)
				return -EINVAL;
			text++;
			while (times--)
				if (unescape(text, (size_t)(end - text), out))
					return -EINVAL;
			i = (size_t)(end - s);
		} else {
			return -EINVAL;
		}
	}
	return 0;
}

static int add_text(struct shipped_file *f, const char *line, size_t len, unsigned number)
{
	struct buf text = {0};

	if (!f->n || len < 4 || line[2] != ' ' || unescape(line + 3, len - 3, &text)) {
		buf_free(&text);
		return -EINVAL;
	}
	struct shipped_rule *r = &f->rules[f->n - 1];
	r->texts = grow(r->texts, r->n_texts, sizeof *r->texts);
	r->texts[r->n_texts++] = (struct shipped_text){text.data, text.len, number, line[1] == '+'};
	return 0;
}

/* ---- rules ---- */

static int fault(struct err *err, const char *file, unsigned line, const struct guard_fault *f)
{
	return err_set(err, -EINVAL, "%s:%u:%u: %s", file, line, f->column, f->reason);
}

static int add_rule(
	struct shipped_file *f, const char *line, size_t len, unsigned number, struct err *err)
{
	char action[8] = "", name[65] = "", *copy = strndup(line, len);
	struct guard_fault at = {0};
	struct guard_rules *one = NULL;

	f->rules = grow(f->rules, f->n, sizeof *f->rules);
	struct shipped_rule *r = &f->rules[f->n++];
	sscanf(copy, "%7s %64s", action, name);
	free(copy);
	r->action = strcmp(action, "warn") == 0     ? GUARD_WARN
		    : strcmp(action, "redact") == 0 ? GUARD_REDACT
						    : GUARD_BLOCK;
	r->name = strdup(name);
	r->line = number;
	int rc = guard_rules_parse(&one, f->stage, f->name, line, len, &at);
	if (rc < 0)
		return rc == -EINVAL ? fault(err, f->name, number, &at) : rc;
	r->alone = guard_set_new(&one, 1);
	guard_rules_put(one);
	return r->alone ? 0 : -ENOMEM;
}

static int read_lines(struct shipped_file *f, const char *text, size_t len, struct err *err)
{
	unsigned number = 0;
	int rc = 0;

	for (const char *line = text, *end = text + len; line < end && !rc;) {
		const char *eol = memchr(line, '\n', (size_t)(end - line));
		size_t n = (size_t)((eol ? eol : end) - line);
		number++;
		if (n > 1 && line[0] == '#' && (line[1] == '+' || line[1] == '-')) {
			if (add_text(f, line, n, number))
				rc = err_set(err, -EINVAL, "%s:%u: not an example of a rule",
					f->name, number);
		} else if (n > 0 && line[0] != '#') {
			rc = add_rule(f, line, n, number, err);
		}
		line += n + 1;
	}
	return rc;
}

/* ---- files ---- */

static int slurp(struct buf *out, const char *dir, const char *name)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *f = fopen(path, "re");
	if (!f)
		return -errno;
	size_t n;
	do {
		if (buf_reserve(out, 65536))
			abort();
		n = fread(out->data + out->len, 1, 65536, f);
		out->len += n;
	} while (n);
	fclose(f);
	return 0;
}

static int read_file(struct shipped *s, const char *dir, enum guard_stage stage, const char *name,
	struct err *err)
{
	struct buf text = {0};
	struct guard_fault at = {0};

	s->files = grow(s->files, s->n, sizeof *s->files);
	struct shipped_file *f = &s->files[s->n++];
	f->stage = stage;
	if (asprintf(&f->name, "%s/%s", stage == GUARD_INPUT ? "input" : "output", name) < 0)
		abort();
	int rc = slurp(&text, dir, f->name);
	if (!rc) {
		rc = guard_rules_parse(&f->parsed, stage, f->name, text.data, text.len, &at);
		if (rc == -EINVAL)
			fault(err, f->name, at.line, &at);
	}
	if (!rc) {
		f->set = guard_set_new(&f->parsed, 1);
		rc = f->set ? read_lines(f, text.data, text.len, err) : -ENOMEM;
	}
	buf_free(&text);
	return rc;
}

static int is_rules(const struct dirent *d)
{
	size_t n = strlen(d->d_name);
	return d->d_name[0] != '.' && n > 6 && strcmp(d->d_name + n - 6, ".rules") == 0;
}

static int read_stage(struct shipped *s, const char *dir, enum guard_stage stage, struct err *err)
{
	char path[4096];
	struct dirent **names = NULL;
	struct guard_rules *parsed[64];
	size_t n_parsed = 0;
	int rc = 0;

	snprintf(path, sizeof path, "%s/%s", dir, stage == GUARD_INPUT ? "input" : "output");
	int n = scandir(path, &names, is_rules, alphasort);
	if (n < 0)
		return err_set(err, -errno, "%s cannot be read", path);
	for (int i = 0; i < n; i++) {
		if (!rc && n_parsed < 64)
			rc = read_file(s, dir, stage, names[i]->d_name, err);
		if (!rc && n_parsed < 64)
			parsed[n_parsed++] = s->files[s->n - 1].parsed;
		free(names[i]);
	}
	free(names);
	if (!rc && !(s->stages[stage] = guard_set_new(parsed, n_parsed)))
		rc = -ENOMEM;
	return rc;
}

int shipped_read(struct shipped *out, const char *dir, struct err *err)
{
	*out = (struct shipped){0};
	int rc = read_stage(out, dir, GUARD_INPUT, err);
	return rc ? rc : read_stage(out, dir, GUARD_OUTPUT, err);
}

static void free_file(struct shipped_file *f)
{
	for (size_t i = 0; i < f->n; i++) {
		struct shipped_rule *r = &f->rules[i];
		for (size_t k = 0; k < r->n_texts; k++)
			free(r->texts[k].text);
		free(r->texts);
		free(r->name);
		guard_set_put(r->alone);
	}
	free(f->rules);
	free(f->name);
	guard_set_put(f->set);
	guard_rules_put(f->parsed);
}

void shipped_free(struct shipped *s)
{
	for (size_t i = 0; i < s->n; i++)
		free_file(&s->files[i]);
	free(s->files);
	guard_set_put(s->stages[GUARD_INPUT]);
	guard_set_put(s->stages[GUARD_OUTPUT]);
	*s = (struct shipped){0};
}
