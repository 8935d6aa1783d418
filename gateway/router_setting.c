/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of router/: a row each, with how it is read and which part of the configuration it
 * sets. A new value is read into a configuration of its own, whose part takes the place of the one
 * in force if all of it was sound; so a decision sees the old or the new one and never half of it.
 * The text is kept as it was written, remarks and all, since that is what a person wants to read
 * again.
 *
 * Lock order: router->lock is a leaf, held for a copy only.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/model.h"
#include "gateway/numbers.h"
#include "gateway/prefix.h"
#include "gateway/router_parts.h"

struct row {
	const char *name;
	int (*read)(struct router_config *c, const char *value, size_t len, struct err *err);
	int (*print)(const struct router_config *c, struct buf *out);
	size_t offset, size;  /* of what it sets of a configuration */
	struct prefix prefix; /* without remarks; of those with lines only the end tells */
};

static const double default_threshold = 0.6;
static const double default_judge_ms = 10000, default_classifier_ms = 2000;
enum { TIMEOUT_MOST_MS = 600000 };
static const char *const policies[] = {"cost", "quality", "latency", "balanced", "split", NULL};

const char *router_setting_policy_name(enum router_policy policy)
{
	return policies[policy];
}

/* The only word of the value, beside remarks; NULL when there is none, empty when there are more.
 */
static const char *only_word(const char *value, size_t len, size_t *word_len)
{
	const char *word = NULL;
	*word_len = 0;
	for (size_t i = 0; i < len;) {
		size_t from = i;
		while (i < len && !strchr(" \t\r\n", value[i]))
			i++;
		if (i == from) {
			i++;
			continue;
		}
		if (value[from] == '#') { /* to the end of the line */
			const char *end = memchr(value + from, '\n', len - from);
			i = end ? (size_t)(end - value) : len;
			continue;
		}
		*word_len = word ? 0 : i - from;
		if (word)
			break;
		word = value + from;
	}
	return word;
}

static int read_policy(struct router_config *c, const char *value, size_t len, struct err *err)
{
	size_t n;
	const char *word = only_word(value, len, &n);
	if (!word)
		return 0;
	int i = prefix_word(&(struct prefix)PREFIX_WORD(policies), word, n);
	if (i < 0)
		return err_set(err, -EINVAL, "must be cost, quality, latency, balanced or split");
	c->policy = (enum router_policy)i;
	return 0;
}

static int read_threshold(struct router_config *c, const char *value, size_t len, struct err *err)
{
	size_t n;
	const char *word = only_word(value, len, &n);
	double x = c->threshold;
	if (word && (!numbers_decimal(word, n, &x) || !(x >= 0 && x <= 1)))
		return err_set(err, -EINVAL, "must be a number from 0 to 1");
	c->threshold = x;
	return 0;
}

/* The name of a model that is asked; "" with remarks only. */
static int read_name(char name[TEXT_NAME_SIZE], const char *value, size_t len, struct err *err)
{
	size_t n;
	const char *word = only_word(value, len, &n);
	memset(name, 0, TEXT_NAME_SIZE);
	if (!word)
		return 0;
	if (!text_is_name(word, n))
		return err_set(err, -EINVAL, "must be the name of a model in models/");
	memcpy(name, word, n);
	if (model_name_is_virtual(name))
		return err_set(err, -EINVAL, "must be a model, and none of the router's own");
	return 0;
}

static int read_ms(double *ms, const char *value, size_t len, struct err *err)
{
	size_t n;
	const char *word = only_word(value, len, &n);
	double x = *ms;
	if (word && (!numbers_decimal(word, n, &x) || !(x >= 1 && x <= TIMEOUT_MOST_MS)))
		return err_set(err, -EINVAL, "must be milliseconds from 1 to 600000");
	*ms = x;
	return 0;
}

static int read_judge(struct router_config *c, const char *value, size_t len, struct err *err)
{
	return read_name(c->cascade_judge, value, len, err);
}

static int read_judge_ms(struct router_config *c, const char *value, size_t len, struct err *err)
{
	return read_ms(&c->cascade_judge_timeout_ms, value, len, err);
}

static int read_classifier(struct router_config *c, const char *value, size_t len, struct err *err)
{
	return read_name(c->classifier_model, value, len, err);
}

static int read_classifier_ms(
	struct router_config *c, const char *value, size_t len, struct err *err)
{
	return read_ms(&c->classifier_timeout_ms, value, len, err);
}

static const struct numbers_row weight_rows[] = {
#define ROW(name, field)                                                                           \
	{                                                                                          \
		name, offsetof(struct router_weights, field), 0, 1000000                           \
	}
	ROW("quality_simple", quality[CLASSIFY_SIMPLE]),
	ROW("quality_moderate", quality[CLASSIFY_MODERATE]),
	ROW("quality_complex", quality[CLASSIFY_COMPLEX]),
	ROW("cost_simple", cost[CLASSIFY_SIMPLE]),
	ROW("cost_moderate", cost[CLASSIFY_MODERATE]),
	ROW("cost_complex", cost[CLASSIFY_COMPLEX]),
	ROW("latency", latency),
	ROW("load", load),
	ROW("cold", cold),
	ROW("cold_ms", cold_ms),
	ROW("answer_tok", answer_tok),
#undef ROW
};

static const struct router_weights default_weights = {
	.quality = {0.2, 0.4, 0.6},
	.cost = {0.5, 0.3, 0.1},
	.latency = 0.1,
	.load = 0.01,
	.cold = 0.05,
	.cold_ms = 5000,
	.answer_tok = 256,
};

static int read_weights(struct router_config *c, const char *value, size_t len, struct err *err)
{
	return numbers_parse(weight_rows, sizeof weight_rows / sizeof *weight_rows, &c->weights,
		value, len, err);
}

static int read_classes(struct router_config *c, const char *value, size_t len, struct err *err)
{
	return classify_weights_parse(value, len, &c->classes, err);
}

static int print_policy(const struct router_config *c, struct buf *out)
{
	return buf_printf(out, "%s\n", policies[c->policy]);
}

static int print_threshold(const struct router_config *c, struct buf *out)
{
	return buf_printf(out, "%.9g\n", c->threshold);
}

static int print_judge(const struct router_config *c, struct buf *out)
{
	return buf_append_str(out, c->cascade_judge);
}

static int print_judge_ms(const struct router_config *c, struct buf *out)
{
	return buf_printf(out, "%.9g\n", c->cascade_judge_timeout_ms);
}

static int print_classifier(const struct router_config *c, struct buf *out)
{
	return buf_append_str(out, c->classifier_model);
}

static int print_classifier_ms(const struct router_config *c, struct buf *out)
{
	return buf_printf(out, "%.9g\n", c->classifier_timeout_ms);
}

static int print_weights(const struct router_config *c, struct buf *out)
{
	return numbers_print(
		weight_rows, sizeof weight_rows / sizeof *weight_rows, &c->weights, out);
}

static int print_classes(const struct router_config *c, struct buf *out)
{
	return classify_weights_print(&c->classes, out);
}

#define PART(field) offsetof(struct router_config, field), sizeof((struct router_config *)0)->field

static const struct row rows[N_ROUTER_SETTINGS] = {
	[ROUTER_SETTING_POLICY] = {"policy", read_policy, print_policy, PART(policy),
		PREFIX_WORD(policies)},
	[ROUTER_SETTING_WEIGHTS] = {"weights", read_weights, print_weights, PART(weights),
		PREFIX_ANY},
	[ROUTER_SETTING_CLASSES] = {"classes", read_classes, print_classes, PART(classes),
		PREFIX_ANY},
	[ROUTER_SETTING_THRESHOLD] = {"threshold", read_threshold, print_threshold, PART(threshold),
		PREFIX_REAL(1)},
	[ROUTER_SETTING_CASCADE_JUDGE] = {"cascade_judge", read_judge, print_judge,
		PART(cascade_judge), PREFIX_NAME},
	[ROUTER_SETTING_CASCADE_JUDGE_TIMEOUT] = {"cascade_judge_timeout_ms", read_judge_ms,
		print_judge_ms, PART(cascade_judge_timeout_ms), PREFIX_REAL(TIMEOUT_MOST_MS)},
	[ROUTER_SETTING_CLASSIFIER] = {"classifier_model", read_classifier, print_classifier,
		PART(classifier_model), PREFIX_NAME},
	[ROUTER_SETTING_CLASSIFIER_TIMEOUT] = {"classifier_timeout_ms", read_classifier_ms,
		print_classifier_ms, PART(classifier_timeout_ms), PREFIX_REAL(TIMEOUT_MOST_MS)},
};

static const char *const names[N_ROUTER_SETTINGS + 1] = {"policy", "weights", "classes",
	"threshold", "cascade_judge", "cascade_judge_timeout_ms", "classifier_model",
	"classifier_timeout_ms", NULL};

const char *const *router_setting_names(void)
{
	return names;
}

void router_setting_defaults(struct router_config *config)
{
	*config = (struct router_config){
		.policy = ROUTER_BALANCED,
		.threshold = default_threshold,
		.weights = default_weights,
		.classes = classify_weights_default(),
		.cascade_judge_timeout_ms = default_judge_ms,
		.classifier_timeout_ms = default_classifier_ms,
	};
}

static int find(const char *file, struct err *err)
{
	for (int i = 0; i < N_ROUTER_SETTINGS; i++)
		if (!strcmp(rows[i].name, file))
			return i;
	return err_set(err, -ENOENT,
		"there is no setting %.64s; there are policy, weights, classes, threshold, "
		"cascade_judge, cascade_judge_timeout_ms, classifier_model and "
		"classifier_timeout_ms",
		file);
}

/* Into *c, which has the defaults. "" is the default. */
static int read_value(
	struct router_config *c, int i, const char *value, size_t len, struct err *err)
{
	int r;
	if (len > NUMBERS_BYTES)
		r = err_set(err, -EFBIG, "must be at most %zu KiB", NUMBERS_BYTES >> 10);
	else if (utf8_valid_prefix(value, len) != len || (len && memchr(value, '\0', len)))
		r = err_set(err, -EINVAL, "must be UTF-8 text");
	else
		r = len ? rows[i].read(c, value, len, err) : 0;
	return r < 0 ? err_prefix(err, r, "%s", rows[i].name) : 0;
}

bool router_setting_is_hopeless(const char *file, const char *value, size_t len)
{
	int i = find(file, NULL);
	/* Remarks and blanks may stand before the value. */
	for (size_t k = 0; k < len; k++)
		if (strchr(" \t\r\n#", value[k]))
			return false;
	return i >= 0 && !prefix_fits(&rows[i].prefix, value, len);
}

int router_setting_check(const char *file, const char *value, size_t len, struct err *err)
{
	struct router_config c;
	int i = find(file, err);
	router_setting_defaults(&c);
	return i < 0 ? i : read_value(&c, i, value, len, err);
}

int router_setting_set(
	struct router *r, const char *file, const char *value, size_t len, struct err *err)
{
	int i = find(file, err);
	if (i < 0)
		return i;
	struct router_config c;
	router_setting_defaults(&c);
	int e = read_value(&c, i, value, len, err);
	if (e < 0)
		return e;
	struct text *t = len ? text_new(value, len) : NULL;
	if (len && !t)
		return err_set(err, -ENOMEM, "out of memory");
	const struct row *row = &rows[i];
	pthread_mutex_lock(&r->lock);
	struct text *before = r->value[i];
	memcpy((char *)&r->config + row->offset, (char *)&c + row->offset, row->size);
	r->value[i] = t;
	struct text *identity = r->identity;
	r->identity = NULL;
	r->n_changes++;
	pthread_mutex_unlock(&r->lock);
	text_put(before);
	text_put(identity);
	return 0;
}

int router_setting_get(struct router *r, const char *file, struct buf *out)
{
	struct router_config c;
	int i = find(file, NULL);
	if (i < 0)
		return i;
	pthread_mutex_lock(&r->lock);
	struct text *t = text_ref(r->value[i]);
	c = r->config;
	pthread_mutex_unlock(&r->lock);
	size_t before = out->len;
	int e = t ? buf_append(out, t->bytes, t->len) : rows[i].print(&c, out);
	if (e == 0 && out->len > before && out->data[out->len - 1] == '\n')
		out->data[--out->len] = '\0';
	text_put(t);
	return e;
}

/* ---- identity ---- */

static int render_all(struct router *r, struct buf *out)
{
	int e = 0;
	for (int i = 0; e == 0 && i < N_ROUTER_SETTINGS; i++) {
		e = router_setting_get(r, names[i], out);
		e = e ? e : buf_append(out, "", 1);
	}
	return e;
}

int router_identity(struct router *r, struct buf *out)
{
	pthread_mutex_lock(&r->lock);
	struct text *t = text_ref(r->identity);
	unsigned n_changes = r->n_changes;
	pthread_mutex_unlock(&r->lock);
	struct buf all = {0};
	int e = t ? 0 : render_all(r, &all);
	if (!t && e == 0)
		t = text_new(all.data, all.len);
	buf_free(&all);
	if (!t)
		return e ? e : -ENOMEM;
	e = buf_append(out, t->bytes, t->len);
	struct text *unused = t;
	pthread_mutex_lock(&r->lock);
	if (!r->identity && r->n_changes == n_changes) {
		r->identity = t;
		unused = NULL;
	}
	pthread_mutex_unlock(&r->lock);
	text_put(unused);
	return e;
}
