/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input rules over a prompt that is written. They see each write as it comes. What they find
 * only if the text ended here counts as well, because a shell shows the error of a write and not
 * that of a close; but not after a write of whole pages, which is how programs write long texts in
 * pieces (`whole` is false then). What they let through, with its redactions, is the prompt; if the
 * rules have changed since the first write, all of it is judged again by the new ones when it is
 * submitted. Channels that only look have none: guards/test asks them itself.
 */
#include "gateway/draft_parts.h"

#include <errno.h>

#include "gateway/channels.h"

void draft_rules_tell(struct draft *d)
{
	const struct guards_subject who = {d->uid, d->user, d->session->id, d->request_id};
	if (d->rules)
		guards_tell(d->session->g->guards, &who, GUARD_INPUT, d->rules, &d->told);
}

static int open_rules(struct draft *d, struct err *err)
{
	struct guard_set *set = NULL;
	int r = guards_rules(d->session->g->guards, GUARD_INPUT, &set, &d->generation, err);
	if (r < 0)
		return r;
	d->rules = guard_stream_new(set);
	d->clean.max = d->text.max + GUARD_HOLD_MAX;
	guard_set_put(set);
	return d->rules ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* r of guard_stream_feed or _end. */
static int passed_rules(struct draft *d, int r, struct err *err)
{
	size_t n;
	if (r == 0)
		return 0;
	if (r < 0)
		return r == -EFBIG    ? err_set(err, -EMSGSIZE,
						"the prompt is longer than %zu bytes once it is "
						   "redacted",
						d->clean.max)
		       : r == -EILSEQ ? err_set(err, r, "the prompt is not UTF-8")
				      : err_set(err, r, "out of memory");
	const struct guard_finding *found = guard_stream_findings(d->rules, &n);
	r = guards_refusal(GUARD_INPUT, &found[n - 1], err);
	draft_rules_tell(d);
	return r;
}

/* Rules that came into force while it was written judge it anew, from its beginning. */
static int renew_rules(struct draft *d, struct err *err)
{
	struct guard_set *set = NULL;
	uint64_t generation;
	int r = guards_rules(d->session->g->guards, GUARD_INPUT, &set, &generation, err);
	guard_set_put(set);
	if (r < 0 || generation == d->generation)
		return r;
	d->rules = guard_stream_free(d->rules);
	buf_clear(&d->clean);
	d->told = 0;
	r = open_rules(d, err);
	return r ? r
		 : passed_rules(d,
			   guard_stream_feed(d->rules, d->text.data, d->text.len, &d->clean), err);
}

int draft_rules_check(struct draft *d, const char *text, size_t len, struct err *err)
{
	const struct guards_subject who = {d->uid, d->user, d->session->id, d->request_id};
	struct guard_finding f;
	if (channels_is_dry(d->session->channel))
		return 0;
	int r = d->rules ? 0 : open_rules(d, err);
	if (r == 0)
		r = passed_rules(d, guard_stream_feed(d->rules, text, len, &d->clean), err);
	if (r == 0 && d->whole && guard_stream_peek(d->rules, &f) == 1) {
		draft_rules_tell(d);
		guards_tell_one(d->session->g->guards, &who, GUARD_INPUT, &f);
		r = guards_refusal(GUARD_INPUT, &f, err);
	}
	return r;
}

int draft_rules_end(struct draft *d, struct err *err)
{
	if (!d->rules)
		return 0;
	int r = renew_rules(d, err);
	return r ? r : passed_rules(d, guard_stream_end(d->rules, &d->clean), err);
}

struct text *draft_rules_so_far(const struct draft *d)
{
	struct guard_set *set = NULL;
	struct buf clean = {.max = d->clean.max};
	struct err err;
	if (guards_rules(d->session->g->guards, GUARD_INPUT, &set, NULL, &err) < 0)
		return NULL;
	struct guard_stream *s = guard_stream_new(set);
	guard_set_put(set);
	int r = s ? guard_stream_feed(s, d->text.data, d->text.len, &clean) : -ENOMEM;
	r = r ? r : guard_stream_end(s, &clean);
	size_t len = clean.len && clean.data[clean.len - 1] == '\n' ? clean.len - 1 : clean.len;
	struct text *prompt = r == 0 && len ? text_new(clean.data, len) : NULL;
	guard_stream_free(s);
	buf_free(&clean);
	return prompt;
}

void draft_rules_drop(struct draft *d)
{
	d->rules = guard_stream_free(d->rules);
	buf_free(&d->clean);
	d->told = 0;
}
