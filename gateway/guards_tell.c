/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What guards have to say: about whole texts, in sentences, in the audit, in numbers, in
 * guards/status. Findings of the same rule in one piece of text are one line of the audit with a
 * count, so that nobody can push older lines out of it with a text that is full of matches.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gateway/audit.h"
#include "gateway/guards_parts.h"
#include "gateway/model.h"

/* ---- whole texts ---- */

int guards_refusal(enum guard_stage stage, const struct guard_finding *f, struct err *err)
{
	return err_set(err, -EPERM, "blocked by the %s guard %s (guards/%s)%s%s",
		guards_stage_names[stage], f->rule, f->file, strcmp(f->why, "match") ? ": " : "",
		strcmp(f->why, "match") ? f->why : "");
}

int guards_text(struct guards *gs, const struct guards_subject *who, const char *text, size_t len,
	struct buf *out, struct err *err)
{
	struct guard_set *set = NULL;
	size_t told = 0, n;
	int r = guards_rules(gs, GUARD_INPUT, &set, NULL, err);
	if (r < 0)
		return r;
	struct guard_stream *s = guard_stream_new(set);
	guard_set_put(set);
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	r = guard_stream_feed(s, text, len, out);
	r = r ? r : guard_stream_end(s, out);
	guards_tell(gs, who, GUARD_INPUT, s, &told);
	const struct guard_finding *found = guard_stream_findings(s, &n);
	if (r == 1)
		r = guards_refusal(GUARD_INPUT, &found[n - 1], err);
	else if (r < 0)
		err_set(err, r, "%s",
			r == -EILSEQ  ? "the text is not UTF-8"
			: r == -EFBIG ? "the text is too long once it is redacted"
				      : "out of memory");
	guard_stream_free(s);
	return r;
}

/* ---- what was found ---- */

static const char *const action_names[] = {"warn", "redact", "block"};

static void add(struct guards *gs, const struct guards_subject *who, enum guard_stage stage,
	const struct guard_finding *f, size_t n)
{
	audit_add(gs->g->audit, &(struct audit_entry){
					.user = who->user,
					.session = who->session,
					.request = who->request,
					.stage = guards_stage_names[stage],
					.guard = f->file,
					.rule = f->rule,
					.action = action_names[f->action],
					.why = f->why,
					.count = n,
				});
	pthread_mutex_lock(&gs->lock);
	gs->findings += n;
	gs->blocks[GUARDS_RULE][stage] += f->action == GUARD_BLOCK;
	pthread_mutex_unlock(&gs->lock);
}

void guards_tell_one(struct guards *gs, const struct guards_subject *who, enum guard_stage stage,
	const struct guard_finding *f)
{
	add(gs, who, stage, f, 1);
}

static bool same(const struct guard_finding *a, const struct guard_finding *b)
{
	return a->rule == b->rule && a->action == b->action && a->why == b->why;
}

void guards_tell(struct guards *gs, const struct guards_subject *who, enum guard_stage stage,
	const struct guard_stream *stream, size_t *told)
{
	enum { KINDS = 128 };
	struct {
		const struct guard_finding *first;
		size_t n;
	} kinds[KINDS];
	size_t n, n_kinds = 0;
	const struct guard_finding *found = guard_stream_findings(stream, &n);
	for (; *told < n; ++*told) {
		const struct guard_finding *f = &found[*told];
		size_t k = 0;
		while (k < n_kinds && !same(kinds[k].first, f))
			k++;
		if (k == KINDS) { /* more than that are told one by one */
			add(gs, who, stage, f, 1);
			continue;
		}
		if (k == n_kinds) {
			kinds[k].first = f;
			kinds[n_kinds++].n = 0;
		}
		kinds[k].n++;
	}
	for (size_t k = 0; k < n_kinds; k++)
		add(gs, who, stage, kinds[k].first, kinds[k].n);
}

void guards_tell_judge(struct guards *gs, const struct guards_subject *who, enum guard_stage stage,
	const char *categories, const char *why, const char *action)
{
	audit_add(gs->g->audit, &(struct audit_entry){
					.user = who->user,
					.session = who->session,
					.request = who->request,
					.stage = guards_stage_names[stage],
					.guard = "moderation",
					.rule = categories,
					.action = action,
					.why = why,
				});
	pthread_mutex_lock(&gs->lock);
	gs->findings++;
	gs->blocks[GUARDS_JUDGE][stage] += !strcmp(action, "block");
	pthread_mutex_unlock(&gs->lock);
}

uint64_t guards_blocks(struct guards *gs, enum guards_kind kind, enum guard_stage stage)
{
	pthread_mutex_lock(&gs->lock);
	uint64_t n = gs->blocks[kind][stage];
	pthread_mutex_unlock(&gs->lock);
	return n;
}

uint64_t guards_findings(struct guards *gs)
{
	pthread_mutex_lock(&gs->lock);
	uint64_t n = gs->findings;
	pthread_mutex_unlock(&gs->lock);
	return n;
}

int guards_render_metrics(struct guards *gs, struct buf *out)
{
	static const char *const kinds[N_GUARDS_KINDS] = {"rules", "moderation"};
	int r = metrics_head(out, "llm_guardrail_blocks_total", "counter",
		"Prompts and answers that a guard blocked.");
	for (int kind = 0; r == 0 && kind < N_GUARDS_KINDS; kind++)
		for (int stage = 0; r == 0 && stage < 2; stage++)
			r = buf_printf(out,
				"llm_guardrail_blocks_total{guard_type=\"%s\",stage=\"%s\"} "
				"%" PRIu64 "\n",
				kinds[kind], guards_stage_names[stage],
				guards_blocks(gs, (enum guards_kind)kind, (enum guard_stage)stage));
	return r;
}

static int render_file(const struct guard_file *f, struct buf *out)
{
	int r = buf_printf(out, "%s", f->name);
	if (f->is_judge)
		r = r ? r
		      : buf_printf(out, " %s\n",
				f->moderation ? moderation_summary(f->moderation) : "closed");
	else if (f->rules)
		r = r ? r
		      : buf_printf(out, " %zu rule%s%s\n", guard_rules_count(f->rules),
				guard_rules_count(f->rules) == 1 ? "" : "s",
				*f->fault ? " of an earlier text" : "");
	else
		r = r ? r : buf_append_str(out, " closed: nothing passes\n");
	return r || !*f->fault ? r : buf_printf(out, "%s\n", f->fault);
}

void guards_missing_judge(struct guards *gs, char *sentence, size_t size)
{
	char name[TEXT_NAME_SIZE] = "";
	pthread_mutex_lock(&gs->lock);
	const struct guard_file *f = table_find(&gs->files, "moderation");
	if (f && f->moderation)
		memcpy(name, f->moderation->model, sizeof name);
	pthread_mutex_unlock(&gs->lock);
	struct model *m = *name ? gateway_model_find(gs->g, name) : NULL;
	struct err why;
	*sentence = '\0';
	if (*name && !m)
		snprintf(sentence, size, "guards/moderation: there is no model %s", name);
	else if (m && model_judges(m, &why) < 0)
		snprintf(sentence, size, "guards/moderation: %s", why.text);
	model_put(m);
}

int guards_render_status(struct guards *gs, struct buf *out)
{
	char missing[192];
	guards_missing_judge(gs, missing, sizeof missing);
	int r = *missing ? buf_printf(out, "%s\n", missing) : 0;
	pthread_mutex_lock(&gs->lock);
	for (size_t i = 0; r == 0 && i < 2; i++)
		if (*gs->shut[i])
			r = buf_printf(out, "%s closed: nothing passes: %s\n",
				guards_stage_names[i], gs->shut[i]);
	for (size_t i = 0; r == 0 && i < gs->files.n; i++)
		r = render_file(gs->files.rows[i].object, out);
	pthread_mutex_unlock(&gs->lock);
	return r;
}
