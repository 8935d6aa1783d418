/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a prompt has to pass while it is written, but for the rules.
 *
 * UTF-8 is checked once for each byte: `valid` bytes are known to be whole sequences, at most three
 * more wait for their rest. Length is known in bytes at once (no token is longer than the model's
 * longest) and in tokens as soon as there are more bytes than the context has tokens: new text is
 * counted in pieces, which sums to a few tokens too many, and only when that sum passes the context
 * is the whole counted exactly. Each exact count moves the mark it is compared with closer by a
 * share, so `dd bs=1` costs a few dozen counts of the whole and not one for each byte. While the
 * model is not loaded only max_prompt_bytes is known; the exact refusal then comes when it runs.
 */
#include "gateway/draft_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/utf8.h"

/* But for the router's, which are always there. With the gateway's lock held. */
static bool has_models(const struct gateway *g)
{
	for (size_t i = 0; i < g->models.n; i++)
		if (!model_name_is_virtual(g->models.rows[i].name))
			return true;
	return false;
}

static void no_default(struct gateway *g, struct err *err)
{
	pthread_mutex_lock(&g->lock);
	if (*g->default_model)
		err_set(err, 0, "models/default points to %s, which is not there",
			g->default_model);
	else if (has_models(g))
		err_set(err, 0, "there is no default model: ln -s NAME models/default");
	else
		err_set(err, 0,
			"there is no model: mkdir models/NAME, write a GGUF file's path to its "
			"file path or the URL of a server to its file endpoint, then ln -s NAME "
			"models/default");
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

int draft_check_session(struct draft *d, struct err *err)
{
	struct session *s = d->session;
	int r = s->unlisted ? 0 : gateway_accepts(s->g, err);
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

int draft_check_utf8(struct draft *d, struct err *err)
{
	d->valid += utf8_valid_prefix(d->text.data + d->valid, d->text.len - d->valid);
	size_t rest = d->text.len - d->valid;
	if (rest && (rest > 3 || !utf8_is_partial(d->text.data + d->valid, rest)))
		return err_set(err, -EILSEQ, "the prompt is not UTF-8 (byte %zu)", d->valid + 1);
	return 0;
}

int draft_check_whole(const struct draft *d, struct err *err)
{
	return d->valid == d->text.len
		       ? 0
		       : err_set(err, -EILSEQ,
				 "the prompt is not UTF-8: it ends inside a character");
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

int draft_check_model(struct draft *d, struct err *err)
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
		r = draft_claim_cost(d, m, l, err);
	loaded_put(l);
	model_put(m);
	return r;
}
