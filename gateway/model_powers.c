/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a model could do, asked where one is named for something. By its settings alone, without a
 * gateway, for `llmfs --check`; or of one that there is, by its settings and what was loaded of its
 * file. Nothing is loaded or asked. Whether a server has embeddings is its protocol's to say,
 * whether it has them of that model only its own; so what is not known is said to be possible.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/model.h"
#include "gateway/model_parts.h"
#include "gateway/protocol.h"

struct settings_of {
	int (*get)(void *arg, const char *file, struct buf *out);
	void *arg;
};

/* NUL-terminated; "" where there is none. */
static int read_value(const struct settings_of *s, const char *file, struct buf *out)
{
	int r = s->get(s->arg, file, out);
	return r ? r : buf_append(out, "", 1);
}

static int of_server(const struct settings_of *s, struct model_powers *out)
{
	struct buf name = {0};
	int r = read_value(s, "protocol", &name);
	const struct protocol *p = NULL;
	if (r == 0 && *name.data)
		p = protocol_find(name.data, strlen(name.data));
	out->embeds = !p || p->embed_path;
	buf_free(&name);
	return r;
}

static int of_file(
	const struct settings_of *s, const char *path, struct model_powers *out, struct err *err)
{
	struct buf family = {0};
	bool embeds = false;
	int r = read_value(s, "template", &family);
	r = r ? r : local_check(path, *family.data ? family.data : NULL, 0, &embeds, err);
	if (r == 0) {
		out->answers = !embeds;
		out->embeds = embeds;
	}
	buf_free(&family);
	return r;
}

static bool has_chat(const char *capabilities, size_t len)
{
	unsigned can = 0;
	return router_capabilities_parse(capabilities, len, &can, NULL) < 0 || can & ROUTER_CHAT;
}

static bool of_words(const struct settings_of *s)
{
	struct buf words = {0};
	bool chats = s->get(s->arg, "capabilities", &words) < 0 || has_chat(words.data, words.len);
	buf_free(&words);
	return chats;
}

int model_powers(int (*get)(void *arg, const char *file, struct buf *out), void *arg,
	struct model_powers *out, struct err *err)
{
	const struct settings_of s = {get, arg};
	struct buf endpoint = {0}, path = {0};
	*out = (struct model_powers){.answers = true, .embeds = true};
	int r = read_value(&s, "endpoint", &endpoint);
	r = r ? r : read_value(&s, "path", &path);
	out->is_set = r == 0 && (*endpoint.data || *path.data);
	if (r == 0 && *endpoint.data)
		r = of_server(&s, out);
	else if (r == 0 && *path.data)
		r = of_file(&s, path.data, out, err);
	out->chats = r < 0 || of_words(&s);
	buf_free(&endpoint);
	buf_free(&path);
	return r;
}

/* ---- of one that was never loaded ---- */

/* On the loader's thread, without the lock. */
static int look_at(struct model *m, const struct model_settings *s, bool *embeds)
{
	const char *family = model_settings_is_set(s, MODEL_TEMPLATE)
				     ? model_settings_text(s, MODEL_TEMPLATE)
				     : NULL;
	return local_check(
		model_settings_text(s, MODEL_PATH), family, m->g->mount_device, embeds, NULL);
}

void model_look_now(struct loop_work *work)
{
	struct model *m = list_entry(work, struct model, look_work);
	struct model_settings s;
	bool embeds = false;
	pthread_mutex_lock(&m->lock);
	model_settings_copy(&s, &m->settings);
	bool known = m->is_known || m->retired;
	pthread_mutex_unlock(&m->lock);
	int r = known ? 0 : look_at(m, &s, &embeds);
	model_settings_clear(&s);
	pthread_mutex_lock(&m->lock);
	/* It may have been loaded meanwhile, or have another path. */
	if (r == 0 && m->looked && !m->is_known && !known) {
		m->is_known = true;
		m->answers = !embeds;
		m->embeds = embeds;
	}
	if (r < 0 && m->looked) {
		m->looked = false;
		m->look_ns = clock_mono_ns();
	}
	m->looking = false;
	pthread_mutex_unlock(&m->lock);
	gateway_idle(m->g);
	model_put(m);
}

/* With the lock held. */
static bool is_to_be_looked_at(const struct model *m)
{
	uint64_t pause_ns = (uint64_t)MODEL_LOOK_MS * 1000000;
	return !m->looking && !m->looked &&
	       (!m->look_ns || clock_mono_ns() - m->look_ns >= pause_ns);
}

void model_look(struct model *m)
{
	pthread_mutex_lock(&m->lock);
	bool begins = !m->is_virtual && is_to_be_looked_at(m) && !m->is_known && !m->retired &&
		      m->state != MODEL_LOADING && m->state != MODEL_READY &&
		      !model_is_upstream(m) && model_settings_is_set(&m->settings, MODEL_PATH);
	if (begins) {
		m->looking = m->looked = true;
		model_ref(m);
		gateway_busy(m->g);
	}
	pthread_mutex_unlock(&m->lock);
	if (begins)
		runner_post(m->g->loader, &m->look_work);
}

/* ---- what it is named for ---- */

static int gives_answers(const struct model_facts *f, struct err *err)
{
	return f->answers ? 0
			  : err_set(err, -ENOTSUP,
				    "the model %s gives no answers: it is for embeddings", f->name);
}

int model_judges(struct model *m, struct err *err)
{
	struct model_facts f;
	if (model_is_virtual(m))
		return err_set(err, -ENOTSUP, "%s is the router's: it is not asked", model_name(m));
	int r = model_check(m, err);
	if (r < 0)
		return r;
	model_facts(m, &f);
	return gives_answers(&f, err);
}

int model_answers(struct model *m, struct err *err)
{
	struct model_facts f;
	if (model_is_virtual(m))
		return 0;
	model_facts(m, &f);
	if (gives_answers(&f, err) < 0)
		return -ENOTSUP;
	if (!has_chat(f.capabilities, strlen(f.capabilities)))
		return err_set(err, -ENOTSUP,
			"the model %s does not chat: chat is none of its capabilities", f.name);
	return 0;
}

int model_embeds(struct model *m, struct err *err)
{
	struct model_facts f;
	if (model_is_virtual(m))
		return err_set(err, -ENOTSUP,
			"the model %s is the router's and gives no embeddings", model_name(m));
	model_facts(m, &f);
	return f.is_known && !f.embeds
		       ? err_set(err, -ENOTSUP, "the model %s gives no embeddings", f.name)
		       : 0;
}
