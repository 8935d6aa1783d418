/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guards/moderation is read line by line into an object that never changes: an edit makes another
 * one, and judges under way keep theirs. A word that is not known is a fault that names what is,
 * since a misspelt `treshold` that is passed over would be a guard that is not there.
 * (What is made of it for the judge: moderation_prompt.c.)
 */
#include "gateway/moderation.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

static const size_t max_replacement = 4096, max_title = 200;

/* The hazards of the MLCommons taxonomy, as Llama Guard 3 names them, and one of its own. */
static const char *const default_titles[] = {
	"Violent Crimes",
	"Non-Violent Crimes",
	"Sex Crimes",
	"Child Exploitation",
	"Defamation",
	"Specialized Advice",
	"Privacy",
	"Intellectual Property",
	"Indiscriminate Weapons",
	"Hate",
	"Self-Harm",
	"Sexual Content",
	"Elections",
	"Code Interpreter Abuse",
};

struct reader {
	struct moderation *m;
	struct guard_fault *fault;
	unsigned line;
	const char *start; /* of the line */
};

struct value {
	const char *text; /* not NUL-terminated */
	size_t len;
};

struct row {
	const char *name;
	bool verbatim; /* a # is part of the value */
	int (*read)(struct reader *r, struct value v);
};

__attribute__((format(printf, 3, 4))) static int fail(
	struct reader *r, const char *at, const char *format, ...)
{
	va_list args;
	r->fault->line = r->line;
	r->fault->column = (unsigned)(at - r->start) + 1;
	va_start(args, format);
	vsnprintf(r->fault->reason, sizeof r->fault->reason, format, args);
	va_end(args);
	/* A sentence that quotes a long word may have been cut inside a character. */
	r->fault->reason[utf8_valid_prefix(r->fault->reason, strlen(r->fault->reason))] = '\0';
	return -EINVAL;
}

/* ---- words ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct value trimmed(struct value v)
{
	while (v.len && is_blank(v.text[0])) {
		v.text++;
		v.len--;
	}
	while (v.len && is_blank(v.text[v.len - 1]))
		v.len--;
	return v;
}

/* Takes the first word off; the rest begins with its next word. */
static struct value next_word(struct value *rest)
{
	struct value word = *rest;
	size_t n = 0;
	while (n < rest->len && !is_blank(rest->text[n]))
		n++;
	word.len = n;
	rest->text += n;
	rest->len -= n;
	*rest = trimmed(*rest);
	return word;
}

static bool is(struct value v, const char *word)
{
	return strlen(word) == v.len && !memcmp(v.text, word, v.len);
}

/* At most as much of a word as a sentence can hold. */
static int shown(struct value v)
{
	return v.len < 40 ? (int)v.len : 40;
}

/* The place of the value in a list of words that ends with NULL, or -1. */
static int one_of(struct value v, const char *const *words)
{
	for (int i = 0; words[i]; i++)
		if (is(v, words[i]))
			return i;
	return -1;
}

static int read_integer(
	struct reader *r, struct value v, const char *name, unsigned long most, unsigned long *out)
{
	unsigned long n = 0;
	for (size_t i = 0; i < v.len; i++) {
		if (v.text[i] < '0' || v.text[i] > '9' || n > most)
			return fail(
				r, v.text, "%s: must be a whole number from 1 to %lu", name, most);
		n = n * 10 + (unsigned long)(v.text[i] - '0');
	}
	if (n < 1 || n > most)
		return fail(r, v.text, "%s: must be a whole number from 1 to %lu", name, most);
	*out = n;
	return 0;
}

/* ---- the lines ---- */

static int read_model(struct reader *r, struct value v)
{
	if (!text_is_name(v.text, v.len))
		return fail(r, v.text,
			"model: must be a name below models/: A-Z a-z 0-9 . _ -, at most %d",
			TEXT_NAME_MAX);
	memcpy(r->m->model, v.text, v.len);
	return 0;
}

/* Digits with a point, whatever the locale. */
static int read_threshold(struct reader *r, struct value v)
{
	double number = 0, unit = 1;
	bool point = false, digits = false;
	for (size_t i = 0; i < v.len && i < 20; i++) {
		char c = v.text[i];
		if (c == '.' && !point) {
			point = true;
			continue;
		}
		digits = c >= '0' && c <= '9';
		if (!digits)
			break;
		number = number * 10 + (c - '0');
		unit *= point ? 10 : 1;
	}
	number /= unit;
	if (!digits || v.len > 20 || !(number > 0 && number <= 1))
		return fail(r, v.text, "threshold: must be a number above 0, at most 1");
	r->m->threshold = number;
	return 0;
}

static int read_stages(struct reader *r, struct value v)
{
	static const char *const words[] = {"input", "output", NULL};
	r->m->stages[GUARD_INPUT] = r->m->stages[GUARD_OUTPUT] = false;
	while (v.len) {
		struct value word = next_word(&v);
		int i = one_of(word, words);
		if (i < 0 || r->m->stages[i])
			return fail(r, word.text, "stages: must be input, output, or both");
		r->m->stages[i] = true;
	}
	return 0;
}

static int read_action(struct reader *r, struct value v)
{
	static const char *const words[] = {"block", "replace", "warn", NULL};
	int i = one_of(v, words);
	if (i < 0)
		return fail(r, v.text, "action: must be block, replace or warn");
	r->m->action = (enum moderation_action)i;
	return 0;
}

static int read_replacement(struct reader *r, struct value v)
{
	if (v.len > max_replacement)
		return fail(r, v.text, "replacement: at most %zu bytes", max_replacement);
	r->m->replacement = text_new(v.text, v.len);
	return r->m->replacement ? 0 : -ENOMEM;
}

static int read_on_error(struct reader *r, struct value v)
{
	static const char *const words[] = {"block", "allow", NULL};
	int i = one_of(v, words);
	if (i < 0)
		return fail(r, v.text, "on_error: must be block or allow");
	r->m->allows_on_error = i == 1;
	return 0;
}

static int read_timeout(struct reader *r, struct value v)
{
	unsigned long n = 0;
	int e = read_integer(r, v, "timeout_ms", 600000, &n);
	if (e == 0)
		r->m->timeout_ms = (unsigned)n;
	return e;
}

static int read_window(struct reader *r, struct value v)
{
	unsigned long n = 0;
	int e = read_integer(r, v, "window_chars", 1000000, &n);
	if (e == 0)
		r->m->window_chars = n;
	return e;
}

/* The name is terminated, the title not. */
static int add_category(struct moderation *m, const char *name, struct value title)
{
	struct moderation_category *c = &m->categories[m->n_categories];
	snprintf(c->name, sizeof c->name, "%s", name);
	c->title = text_new(title.text, title.len);
	if (!c->title)
		return -ENOMEM;
	m->n_categories++;
	return 0;
}

static int read_category(struct reader *r, struct value v)
{
	struct moderation *m = r->m;
	struct value word = next_word(&v);
	char name[MODERATION_NAME_SIZE] = "";
	if (word.len >= sizeof name || !text_is_name(word.text, word.len))
		return fail(r, word.text,
			"category: the name must be A-Z a-z 0-9 . _ -, at most %zu",
			sizeof name - 1);
	memcpy(name, word.text, word.len);
	for (size_t i = 0; i < m->n_categories; i++)
		if (!strcmp(m->categories[i].name, name))
			return fail(r, word.text, "category: %s stands there twice", name);
	if (m->n_categories == MODERATION_CATEGORIES_MAX)
		return fail(r, word.text, "category: at most %d", MODERATION_CATEGORIES_MAX);
	if (v.len && v.text[v.len - 1] == '.')
		v.len--;
	if (!v.len || v.len > max_title)
		return fail(r, v.text, "category: a title of 1 to %zu bytes follows the name",
			max_title);
	return add_category(m, name, v);
}

static const struct row rows[] = {
	{"model", false, read_model},
	{"threshold", false, read_threshold},
	{"stages", false, read_stages},
	{"action", false, read_action},
	{"replacement", true, read_replacement},
	{"on_error", false, read_on_error},
	{"timeout_ms", false, read_timeout},
	{"window_chars", false, read_window},
	{"category", false, read_category},
};

enum { N_ROWS = sizeof rows / sizeof *rows, ROW_CATEGORY = N_ROWS - 1 };

/* ---- the file ---- */

/* Cuts a # behind white space, and what follows it. */
static struct value without_remark(struct value v)
{
	for (size_t i = 1; i < v.len; i++)
		if (v.text[i] == '#' && is_blank(v.text[i - 1])) {
			v.len = i;
			break;
		}
	return trimmed(v);
}

/* seen[row]: the line in which it stood, or 0. */
static int read_line(struct reader *r, struct value line, unsigned seen[N_ROWS])
{
	struct value rest = trimmed(line), name;
	int i = 0;
	if (!rest.len || *rest.text == '#')
		return 0;
	size_t valid = utf8_valid_prefix(line.text, line.len);
	const char *nul = memchr(line.text, '\0', valid);
	if (nul || valid != line.len)
		return fail(r, nul ? nul : line.text + valid, "the line is not UTF-8 text");
	name = next_word(&rest);
	while (i < N_ROWS && !is(name, rows[i].name))
		i++;
	if (i == N_ROWS)
		return fail(r, name.text,
			"there is no setting %.*s; there are model, threshold, stages, action, "
			"replacement, on_error, timeout_ms, window_chars and category",
			shown(name), name.text);
	if (seen[i] && i != ROW_CATEGORY)
		return fail(r, name.text, "%s stands in line %u already", rows[i].name, seen[i]);
	seen[i] = r->line;
	if (!rows[i].verbatim && rest.len && *rest.text == '#')
		rest.len = 0;
	if (!rows[i].verbatim)
		rest = without_remark(rest);
	if (!rest.len)
		return fail(r, name.text + name.len, "%s: a value follows the name", rows[i].name);
	return rows[i].read(r, rest);
}

static int read_lines(struct reader *r, const char *text, size_t len)
{
	unsigned seen[N_ROWS] = {0};
	int e = 0;
	for (size_t at = 0; at < len && e == 0;) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t n = end ? (size_t)(end - text) - at : len - at;
		r->start = text + at;
		r->line++;
		e = read_line(r, (struct value){text + at, n}, seen);
		at += n + 1;
	}
	return e;
}

static int fill_defaults(struct moderation *m)
{
	static const char sorry[] = "Sorry, I cannot help with that.";
	if (!m->replacement)
		m->replacement = text_new(sorry, sizeof sorry - 1);
	if (!m->replacement)
		return -ENOMEM;
	if (m->n_categories)
		return 0;
	for (size_t i = 0; i < sizeof default_titles / sizeof *default_titles; i++) {
		const char *title = default_titles[i];
		char name[MODERATION_NAME_SIZE];
		snprintf(name, sizeof name, "S%zu", i + 1);
		if (add_category(m, name, (struct value){title, strlen(title)}) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void sum_up(struct moderation *m)
{
	static const char *const actions[] = {"block", "replace", "warn"};
	if (!*m->model)
		snprintf(m->summary, sizeof m->summary, "off");
	else
		snprintf(m->summary, sizeof m->summary, "%s: %s at %g,%s%s, %zu categories",
			m->model, actions[m->action], m->threshold,
			m->stages[GUARD_INPUT] ? " input" : "",
			m->stages[GUARD_OUTPUT] ? " output" : "", m->n_categories);
}

/* How long the form is. */
static int measure(struct moderation *m)
{
	int e = 0;
	for (int stage = 0; e == 0 && stage < 2; stage++) {
		struct buf form = {0};
		e = moderation_prompt(m, (enum guard_stage)stage, "", 0, "", 0, &form);
		m->form_bytes[stage] = form.len;
		buf_free(&form);
	}
	return e;
}

int moderation_parse(
	struct moderation **out, const char *text, size_t len, struct guard_fault *fault)
{
	struct moderation *m = calloc(1, sizeof *m);
	*out = NULL;
	*fault = (struct guard_fault){0};
	if (!m)
		return -ENOMEM;
	atomic_init(&m->refs, 1);
	m->threshold = 0.5;
	m->stages[GUARD_INPUT] = m->stages[GUARD_OUTPUT] = true;
	m->timeout_ms = 10000;
	m->window_chars = 400;
	m->categories = calloc(MODERATION_CATEGORIES_MAX, sizeof *m->categories);
	struct reader r = {.m = m, .fault = fault};
	size_t mark = utf8_mark(text, len);
	int e = m->categories ? read_lines(&r, text + mark, len - mark) : -ENOMEM;
	e = e ? e : fill_defaults(m);
	if (e < 0) {
		moderation_put(m);
		return e;
	}
	sum_up(m);
	e = measure(m);
	if (e < 0)
		moderation_put(m);
	else
		*out = m;
	return e;
}

struct moderation *moderation_ref(struct moderation *m)
{
	if (m)
		atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

struct moderation *moderation_put(struct moderation *m)
{
	if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	for (size_t i = 0; m->categories && i < m->n_categories; i++)
		text_put(m->categories[i].title);
	free(m->categories);
	text_put(m->replacement);
	free(m);
	return NULL;
}

bool moderation_judges(const struct moderation *m, enum guard_stage stage)
{
	return *m->model && m->stages[stage];
}

const char *moderation_summary(const struct moderation *m)
{
	return m->summary;
}
