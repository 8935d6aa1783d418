/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A prompt being written: text, judged at every write over all of it so far.
 *
 * The first write claims what the request may cost (book.h), later ones enlarge the claim; a draft
 * that is not submitted gives it back. The input rules see each write as it comes. What they find
 * only if the text ended here counts as well, because a shell shows the error of a write and not
 * that of a close; but not after a write of whole pages, which is how programs write long texts in
 * pieces. What they let through, with its redactions, is the prompt; if the rules have changed
 * since the first write, all of it is judged again by the new ones when it is submitted.
 *
 * The vector by which the cache looks for the prompt is reserved with it, but where it cannot be
 * paid the prompt goes on without: the look-up is then refused when it is to begin, and finds
 * nothing.
 *
 * An answer from the cache costs nothing, so a budget that is spent need not refuse the prompt. A
 * draft whose claim cannot be paid goes on `unpaid`, with its ticket alone, if the cache has the
 * answer to just what is written by now; whether it has is asked after the rules, and where more
 * is to come (whole pages) at the flush. If that is gone when its turn comes, the refusal is late.
 *
 * UTF-8 is checked once for each byte: `valid` bytes are known to be whole sequences, at most three
 * more wait for their rest. Length is known in bytes at once (no token is longer than the model's
 * longest) and in tokens as soon as there are more bytes than the context has tokens: new text is
 * counted in pieces, which sums to a few tokens too many, and only when that sum passes the context
 * is the whole counted exactly. Each exact count moves the mark it is compared with closer by a
 * share, so `dd bs=1` costs a few dozen counts of the whole and not one for each byte. While the
 * model is not loaded only max_prompt_bytes is known; the exact refusal then comes when it runs.
 *
 * A draft that was flushed is pending: readers of the newest answer are held back until it is
 * committed, for at most a second (flushes that follow one another closely count as one, for at
 * most two). The timer is the loop's and holds a reference.
 *
 * Requests queue in the order of their last flush, which a program waits for, and not in that of
 * their commits, which come from several threads at once and may overtake one another. A draft that
 * is committed while an earlier one has just been flushed is `closed`: it goes on by itself when
 * the earlier one is done, or (somebody may keep that open) after a tenth of a second. Which
 * request is the session's newest goes by the same order: a prompt that was flushed before another
 * was refused does not hide the refusal, however late its commit.
 *
 * Lock: draft->lock, outermost; `pending` and `link` are under the session's.
 */
#include "gateway/draft.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "gateway/caching.h"
#include "gateway/channels.h"
#include "gateway/guards.h"
#include "gateway/users.h"
#include "gateway/worst.h"

static const uint64_t hold_ns = 1000000000, hold_again_ns = 100000000, hold_most_ns = 2000000000;
static const size_t dry_most_bytes = 64 << 10; /* the loop looks at them */
static const size_t write_page = 4096;         /* bytes: a write of whole ones is not the last */
static const uint64_t overtake_ns = 100000000; /* how long a commit may come after its flush */

struct draft {
	atomic_uint refs;
	struct session *session; /* a reference */
	uid_t uid;
	char user[TEXT_NAME_SIZE];
	struct loop_timer timer;

	pthread_mutex_t lock;
	struct buf text;
	size_t valid;   /* bytes that are whole sequences */
	size_t counted; /* bytes whose tokens are in n_tok */
	size_t n_tok;
	size_t flushed;      /* bytes that made it pending */
	uint64_t request_id; /* of what it becomes, or is refused as; 0: nothing is written yet */
	int poison;          /* 0 or -errno */
	struct err poison_err;
	struct guard_stream *rules; /* since the first write; NULL: for guards/test */
	uint64_t generation;        /* of the set it was made of */
	struct buf clean;           /* what passed them */
	size_t told;                /* findings that are audited */
	struct book_claim *claim;
	bool unpaid; /* only the cache can answer it, because of */
	struct err unpaid_err;

	/* under the session's lock */
	bool placed; /* has a place in the queue */
	bool pending, closed;
	bool armed; /* the timer is, or it is about to run: it has a reference */
	uint64_t pending_since_ns, closed_until_ns;
	uint64_t flush_serial, flushed_ns; /* of the last flush; 0: nothing is flushed */
	struct list link;
};

static struct draft *draft_put(struct draft *d)
{
	if (!d || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	buf_free(&d->text);
	pthread_mutex_destroy(&d->lock);
	session_put(d->session);
	free(d);
	return NULL;
}

static struct draft *draft_ref(struct draft *d)
{
	atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
	return d;
}

/* ---- pending ---- */

/* With the session's lock held. */
static void not_pending(struct draft *d)
{
	if (!d->pending)
		return;
	d->pending = false;
	if (--d->session->n_pending == 0)
		session_poke(d->session, SESSION_NEWEST_CHANGED);
}

/* With the session's lock held. */
static void arm(struct draft *d, uint64_t at_ns)
{
	if (!loop_arm(d->session->g->loop, &d->timer, at_ns))
		return;
	if (!d->armed)
		draft_ref(d);
	d->armed = true;
}

/* With the session's lock held, and a reference beside the timer's. */
static void stop_timer(struct draft *d)
{
	if (d->armed && loop_disarm(d->session->g->loop, &d->timer)) {
		d->armed = false;
		draft_put(d);
	}
}

/* It is submitted or refused: those that wait may look again. With the session's lock held. */
static void not_flushed(struct draft *d)
{
	if (!d->flush_serial)
		return;
	d->flush_serial = 0;
	list_for_each (link, &d->session->drafts) {
		struct draft *other = list_entry(link, struct draft, link);
		if (other->closed)
			arm(other, clock_mono_ns());
	}
}

/* Whether an earlier one will be committed any moment. With the session's lock held. */
static bool must_wait(const struct draft *d)
{
	uint64_t now = clock_mono_ns();
	list_for_each (link, &d->session->drafts) {
		const struct draft *other = list_entry(link, struct draft, link);
		if (other->flush_serial && other->flush_serial < d->flush_serial &&
			(other->closed || now - other->flushed_ns < overtake_ns))
			return true;
	}
	return false;
}

/* On the loop: readers are held back no longer, or a closed draft goes on. */
static void timer_is_due(struct loop_timer *timer)
{
	struct draft *d = list_entry(timer, struct draft, timer);
	struct session *s = d->session;
	pthread_mutex_lock(&s->lock);
	loop_disarm(s->g->loop, timer); /* armed again meanwhile, with the same reference */
	d->armed = false;
	bool go_on = false;
	if (!d->closed) {
		not_pending(d);
	} else if (must_wait(d) && clock_mono_ns() < d->closed_until_ns) {
		arm(d, d->closed_until_ns);
		go_on = !d->armed;
	} else {
		go_on = true;
	}
	if (go_on)
		d->closed = false;
	pthread_mutex_unlock(&s->lock);
	if (go_on) {
		draft_submit(d, NULL);
		draft_drop(d);
	}
	draft_put(d);
}

static void make_pending(struct draft *d)
{
	struct session *s = d->session;
	uint64_t now = clock_mono_ns();
	pthread_mutex_lock(&s->lock);
	if (!d->pending) {
		d->pending = true;
		d->pending_since_ns = now;
		s->n_pending++;
	}
	uint64_t until = d->pending_since_ns + hold_ns;
	if (until < now + hold_again_ns)
		until = now + hold_again_ns;
	if (until > d->pending_since_ns + hold_most_ns)
		until = d->pending_since_ns + hold_most_ns;
	arm(d, until);
	pthread_mutex_unlock(&s->lock);
}

/* Its place in the queue. */
static void stamp(struct draft *d)
{
	pthread_mutex_lock(&d->session->lock);
	d->flush_serial = ++d->session->flush_serial;
	d->flushed_ns = clock_mono_ns();
	pthread_mutex_unlock(&d->session->lock);
}

/* ---- writing ---- */

int draft_new(struct draft **out, struct session *s, uid_t uid, struct err *err)
{
	struct draft *d = calloc(1, sizeof *d);
	if (!d)
		return err_set(err, -ENOMEM, "out of memory");
	atomic_init(&d->refs, 1);
	d->session = session_ref(s);
	d->uid = uid;
	d->text.max = channels_is_dry(s->channel) ? dry_most_bytes : s->g->options.max_prompt_bytes;
	users_name(s->g->users, uid, d->user);
	pthread_mutex_init(&d->lock, NULL);
	list_init(&d->timer.link);
	d->timer.run = timer_is_due;
	list_init(&d->link);
	pthread_mutex_lock(&s->lock);
	list_append(&s->drafts, &d->link);
	pthread_mutex_unlock(&s->lock);
	*out = d;
	return 0;
}

/* With the session's lock held. */
static void leave_place(struct draft *d)
{
	if (d->placed)
		session_leave_place(d->session);
	d->placed = false;
}

/* Its text and what it holds for it. With its lock held. */
static void drop_text(struct draft *d)
{
	buf_free(&d->text);
	buf_free(&d->clean);
	d->valid = d->counted = d->n_tok = d->flushed = d->told = 0;
	d->rules = guard_stream_free(d->rules);
	d->claim = book_claim_return(d->claim);
	d->unpaid = false;
}

/* The draft is refused, as of its flush with that serial (0: now), and so is what follows. With its
 * lock held. */
static int poison(struct draft *d, int code, uint64_t serial, const struct err *err)
{
	d->poison = code;
	d->poison_err = *err;
	drop_text(d);
	pthread_mutex_lock(&d->session->lock);
	leave_place(d);
	not_pending(d);
	not_flushed(d);
	pthread_mutex_unlock(&d->session->lock);
	session_refuse(d->session, d->request_id, d->uid, code, err->text, serial);
	return code;
}

static void no_default(struct gateway *g, struct err *err)
{
	pthread_mutex_lock(&g->lock);
	if (*g->default_model)
		err_set(err, 0, "models/default points to %s, which is not there",
			g->default_model);
	else
		err_set(err, 0, "there is no default model: ln -s NAME models/default");
	pthread_mutex_unlock(&g->lock);
}

/* The model of the session, as its settings say now. new reference or NULL with a sentence. */
static struct model *model_of(struct session *s, struct err *err)
{
	size_t len;
	char name[TEXT_NAME_SIZE] = "";
	pthread_mutex_lock(&s->lock);
	const char *value = settings_get(&s->settings, SETTING_MODEL, &len);
	memcpy(name, value, len);
	pthread_mutex_unlock(&s->lock);
	struct model *m = gateway_model_find(s->g, name);
	if (!m && !strcmp(name, "default"))
		no_default(s->g, err);
	else if (!m)
		err_set(err, 0, "there is no model %s", name);
	return m;
}

/* What can be known before a byte is read. A draft that passes has a place in the queue. */
static int check_session(struct draft *d, struct err *err)
{
	struct session *s = d->session;
	int r = s->ask ? 0 : gateway_accepts(s->g, err);
	if (r == 0 && atomic_load(&s->g->stopping))
		r = err_set(err, -ESHUTDOWN, "llmfs is stopping");
	if (r < 0)
		return r;
	pthread_mutex_lock(&s->lock);
	r = d->placed ? session_alive(s, err) : session_take_place(s, err);
	d->placed = d->placed || r == 0;
	pthread_mutex_unlock(&s->lock);
	return r;
}

static int check_utf8(struct draft *d, struct err *err)
{
	d->valid += utf8_valid_prefix(d->text.data + d->valid, d->text.len - d->valid);
	size_t rest = d->text.len - d->valid;
	if (rest && (rest > 3 || !utf8_is_partial(d->text.data + d->valid, rest)))
		return err_set(err, -EILSEQ, "the prompt is not UTF-8 (byte %zu)", d->valid + 1);
	return 0;
}

static int too_long(uint32_t context_tok, struct err *err)
{
	return err_set(err, -EMSGSIZE,
		"the prompt is longer than the model's context of %" PRIu32 " tokens", context_tok);
}

static int check_tokens(struct draft *d, const struct loaded *l, struct err *err)
{
	const struct provider_limits *limits = &l->limits;
	size_t n = 0;
	if (!limits->answers && d->session->channel == GATEWAY_ASK)
		return err_set(err, -ENOTSUP, "this model gives no answers: it is for embeddings");
	if (d->session->channel == GATEWAY_EMBED)
		return limits->embeds ? 0
				      : err_set(err, -ENOTSUP, "this model gives no embeddings");
	if (!limits->counts)
		return 0; /* an estimate refuses nothing: whoever counts will say so */
	size_t token_bytes = limits->max_token_bytes; /* 0: not known */
	if (token_bytes && d->valid > (size_t)limits->context_tok * token_bytes)
		return too_long(limits->context_tok, err);
	if (d->n_tok + (d->valid - d->counted) <= limits->context_tok)
		return 0; /* a token has at least a byte */
	int r = l->provider->count(
		l->handle, d->text.data + d->counted, d->valid - d->counted, &n, err);
	d->n_tok += n;
	d->counted = d->valid;
	if (r == 0 && d->n_tok > limits->context_tok) {
		r = l->provider->count(l->handle, d->text.data, d->valid, &n, err);
		d->n_tok = n;
		if (r == 0 && n > limits->context_tok)
			r = too_long(limits->context_tok, err);
	}
	return r;
}

static int claim(struct draft *d, const struct book_worst *worst, struct err *err)
{
	if (d->claim)
		return worst_resize(d->claim, worst, err);
	int r = worst_claim(&d->claim, d->session->g, d->user, worst, err);
	if (r == 0)
		book_note_user(d->session->g->book, d->user, d->uid);
	return r;
}

/* Claims what the request may cost, or so much more. */
static int check_cost(struct draft *d, struct model *m, const struct loaded *l, struct err *err)
{
	struct gateway *g = d->session->g;
	struct book_worst worst;
	size_t uncounted = d->text.len - d->counted;
	/* A text to be embedded is never counted: what it can be at most. */
	bool embeds = d->session->channel == GATEWAY_EMBED;
	size_t tok = embeds ? d->text.len + 2 : d->n_tok + uncounted / 4 + 1;
	struct money_price price;
	model_price(m, &price);
	pthread_mutex_lock(&d->session->lock);
	worst_estimate(&worst, d->session, &price, l, tok);
	bool near = !embeds && caching_is_near(d->session);
	pthread_mutex_unlock(&d->session->lock);
	worst.judges = money_add(worst_judges(g, GUARD_INPUT, d->text.len, 0),
		embeds ? 0 : worst_judges(g, GUARD_OUTPUT, d->text.len, worst.output_tok));
	if (near)
		worst.lookup = worst_lookup(g, d->text.len);
	struct err own = {0};
	int r = claim(d, &worst, &own);
	d->unpaid = false;
	if (r == -EDQUOT && !embeds) {
		/* What the cache has costs nothing but the judge of the prompt. */
		const struct book_worst cached = {
			.judges = worst_judges(g, GUARD_INPUT, d->text.len, 0),
			.has_max_cost = worst.has_max_cost,
			.max_cost = worst.max_cost,
		};
		d->unpaid = claim(d, &cached, NULL) == 0;
		d->unpaid_err = own;
		r = d->unpaid ? 0 : r;
	}
	if (r < 0)
		err_set(err, 0, "%s", own.text);
	return r;
}

static int check_model(struct draft *d, struct err *err)
{
	struct model *m = model_of(d->session, err);
	if (!m)
		return -EHOSTUNREACH;
	int r = model_check(m, err);
	if (r == 0)
		r = gate_check(model_gate(m), err);
	struct loaded *l = r == 0 ? model_peek(m) : NULL;
	if (l)
		r = check_tokens(d, l, err);
	if (r == 0)
		r = check_cost(d, m, l, err);
	loaded_put(l);
	model_put(m);
	return r;
}

static int append(struct draft *d, const char *text, size_t len, struct err *err)
{
	int r = buf_append(&d->text, text, len);
	if (r == -EFBIG)
		return err_set(err, -EMSGSIZE, "the prompt is longer than %zu bytes", d->text.max);
	return r ? err_set(err, r, "out of memory") : 0;
}

/* Channels that only look cost nothing, but where a model is asked, a judge or one for embeddings,
 * others wait for it: a ticket. */
static int check_dry(struct draft *d, struct err *err)
{
	struct gateway *g = d->session->g;
	struct moderation *m[2] = {NULL, NULL};
	struct book_worst worst = {0};
	bool looks_up = d->session->channel == GATEWAY_LOOKUP;
	if (d->session->channel == GATEWAY_EXPLAIN)
		return 0;
	for (int stage = 0; !looks_up && stage < 2; stage++)
		guards_judge(g->guards, (enum guard_stage)stage, &m[stage], NULL);
	bool asks = m[0] || m[1];
	if (asks)
		worst.judges = worst_judges(
			g, m[GUARD_INPUT] ? GUARD_INPUT : GUARD_OUTPUT, d->text.len, 0);
	moderation_put(m[0]);
	moderation_put(m[1]);
	if (looks_up)
		worst.lookup = worst_lookup(g, d->text.len);
	if (d->claim)
		return book_claim_resize(d->claim, &worst, err);
	return asks || looks_up ? book_claim(&d->claim, g->book, d->user, &worst, NULL, err) : 0;
}

/* ---- the input rules ---- */

static void tell_findings(struct draft *d)
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
	tell_findings(d);
	return r;
}

static int check_rules(struct draft *d, const char *text, size_t len, struct err *err)
{
	const struct guards_subject who = {d->uid, d->user, d->session->id, d->request_id};
	struct guard_finding f;
	if (channels_is_dry(d->session->channel))
		return 0;
	int r = d->rules ? 0 : open_rules(d, err);
	if (r == 0)
		r = passed_rules(d, guard_stream_feed(d->rules, text, len, &d->clean), err);
	if (r == 0 && len % write_page && guard_stream_peek(d->rules, &f) == 1) {
		tell_findings(d);
		guards_tell_one(d->session->g->guards, &who, GUARD_INPUT, &f);
		r = guards_refusal(GUARD_INPUT, &f, err);
	}
	return r;
}

/* What it would be as a prompt, if it ended here. new, or NULL. */
static struct text *prompt_so_far(struct draft *d)
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

/* One that cannot be paid: whether the cache has its answer. */
static int check_cached(struct draft *d, struct err *err)
{
	if (!d->unpaid)
		return 0;
	struct text *prompt = prompt_so_far(d);
	bool knows = prompt && caching_knows(d->session, prompt, d->user, d->uid);
	text_put(prompt);
	return knows ? 0 : err_set(err, -EDQUOT, "%s", d->unpaid_err.text);
}

int draft_write(struct draft *d, const char *text, size_t len, struct err *err)
{
	struct err own = {0};
	pthread_mutex_lock(&d->lock);
	int r = d->poison;
	if (r == 0 && len) {
		d->request_id = d->request_id ? d->request_id : request_next_id(d->session->g);
		r = check_session(d, &own);
		r = r ? r : append(d, text, len, &own);
		r = r ? r : check_utf8(d, &own);
		r = r                                      ? r
		    : channels_is_dry(d->session->channel) ? check_dry(d, &own)
							   : check_model(d, &own);
		r = r ? r : check_rules(d, text, len, &own);
		if (r == 0 && len % write_page)
			r = check_cached(d, &own);
		if (r < 0)
			poison(d, r, 0, &own);
	}
	if (r < 0 && err)
		*err = d->poison_err;
	pthread_mutex_unlock(&d->lock);
	return r;
}

static int check_whole(struct draft *d, struct err *err)
{
	return d->valid == d->text.len
		       ? 0
		       : err_set(err, -EILSEQ,
				 "the prompt is not UTF-8: it ends inside a character");
}

int draft_flush(struct draft *d, struct err *err)
{
	struct err own = {0};
	pthread_mutex_lock(&d->lock);
	int r = d->poison;
	if (r == 0 && d->text.len) {
		r = check_whole(d, &own);
		if (r == 0 && d->text.len > d->flushed)
			r = check_cached(d, &own);
		if (r < 0)
			poison(d, r, 0, &own);
		else if (d->text.len > d->flushed)
			make_pending(d);
		if (r == 0)
			stamp(d);
		d->flushed = d->text.len;
	}
	if (r < 0 && err)
		*err = d->poison_err;
	pthread_mutex_unlock(&d->lock);
	return r;
}

/* ---- submitting ---- */

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

/* What passed the rules, less one newline at its end: new *out. */
static int prompt_of(struct draft *d, struct text **out, struct err *err)
{
	int r = check_whole(d, err);
	if (r == 0 && d->rules)
		r = renew_rules(d, err);
	if (r == 0 && d->rules)
		r = passed_rules(d, guard_stream_end(d->rules, &d->clean), err);
	const struct buf *b = d->rules ? &d->clean : &d->text;
	size_t len = b->len;
	if (r == 0 && len && b->data[len - 1] == '\n')
		len--;
	if (r == 0 && !len)
		r = err_set(err, -EINVAL, "the prompt is empty");
	if (r == 0 && atomic_load(&d->session->g->stopping))
		r = err_set(err, -ESHUTDOWN, "llmfs is stopping");
	*out = r == 0 ? text_new(b->data, len) : NULL;
	return r || *out ? r : err_set(err, -ENOMEM, "out of memory");
}

/* The text becomes a request. With the draft's lock held. */
static int submit(struct draft *d, struct err *err)
{
	struct session *s = d->session;
	struct text *prompt;
	int r = prompt_of(d, &prompt, err);
	if (r < 0)
		return r;
	tell_findings(d);
	pthread_mutex_lock(&s->lock);
	struct request *q = request_new(s->g, d->request_id, prompt, &s->settings, d->uid, d->user);
	if (q) {
		q->claim = d->claim;
		d->claim = NULL;
	}
	r = q ? session_submit(s, q, d->placed, d->flush_serial, err)
	      : err_set(err, -ENOMEM, "out of memory");
	if (r == 0) {
		d->placed = false;
		not_pending(d);
	}
	pthread_mutex_unlock(&s->lock);
	text_put(prompt);
	if (r < 0)
		request_put(q);
	return r;
}

static void empty(struct draft *d)
{
	drop_text(d);
	d->poison = 0;
	d->request_id = 0;
	pthread_mutex_lock(&d->session->lock);
	stop_timer(d);
	leave_place(d);
	not_pending(d);
	not_flushed(d);
	pthread_mutex_unlock(&d->session->lock);
}

int draft_submit(struct draft *d, struct err *err)
{
	struct err own = {0};
	pthread_mutex_lock(&d->lock);
	int r = d->poison;
	if (r == 0)
		r = d->text.len ? submit(d, &own) : 1;
	if (r < 0 && !d->poison)
		poison(d, r, d->flush_serial, &own);
	if (r < 0 && err)
		*err = d->poison_err;
	empty(d);
	pthread_mutex_unlock(&d->lock);
	return r;
}

struct draft *draft_drop(struct draft *d)
{
	if (!d)
		return NULL;
	pthread_mutex_lock(&d->lock);
	empty(d);
	pthread_mutex_unlock(&d->lock);
	pthread_mutex_lock(&d->session->lock);
	list_remove(&d->link);
	pthread_mutex_unlock(&d->session->lock);
	return draft_put(d);
}

struct draft *draft_commit(struct draft *d)
{
	if (!d)
		return NULL;
	struct session *s = d->session;
	bool waits = false;
	pthread_mutex_lock(&s->lock);
	if (d->flush_serial && !atomic_load(&s->g->stopping) && must_wait(d)) {
		d->closed_until_ns = clock_mono_ns() + overtake_ns;
		arm(d, d->closed_until_ns);
		waits = d->closed = d->armed;
	}
	pthread_mutex_unlock(&s->lock);
	if (waits)
		return NULL;
	draft_submit(d, NULL);
	return draft_drop(d);
}

int draft_submit_all(struct session *s, struct err *err)
{
	enum { MOST = 64 };
	struct draft *open[MOST];
	size_t n = 0;
	pthread_mutex_lock(&s->lock);
	list_for_each (link, &s->drafts) {
		if (n < MOST)
			open[n++] = draft_ref(list_entry(link, struct draft, link));
	}
	pthread_mutex_unlock(&s->lock);
	int r = 0;
	for (size_t i = 0; i < n; i++) {
		struct err own = {0};
		int e = draft_submit(open[i], &own);
		if (e < 0 && r == 0)
			r = err_set(err, e, "%s", own.text);
		draft_put(open[i]);
	}
	return r;
}
