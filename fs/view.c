/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A view is rendered when a handle reads from its start, and that handle goes on reading the same
 * text, so a program with a small buffer never sees halves of two renderings; reading from the
 * start again shows it anew, as in /proc.
 *
 * A text's time is the moment at which a rendering first differed from the one before. So a
 * listing, which renders to know the size, does not make files look younger than they are.
 *
 * Logs grow at their end: their handle renders again when the reader reaches the end of what it
 * has, which is what `tail -f` does.
 */
#include "fs/view.h"

#include "fs/faults.h"
#include "fs/handle.h"
#include "fs/tree.h"

#include "base/clock.h"
#include "base/hash.h"
#include "gateway/gateway_accounts.h"
#include "gateway/gateway_keys.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_sessions.h"
#include "gateway/gateway_shim.h"

#include <errno.h>
#include <string.h>

static const char readme[] =
	"llmfs: language models as files.\n"
	"\n"
	"  echo 'Why is the sky blue?' > sessions/main/in\n"
	"  cat sessions/main/out\n"
	"\n"
	"mkdir sessions/NAME makes a conversation, rmdir ends it; models/ holds the models,\n"
	"models/default is a symlink to the one that answers. The manual: llmfs-files(7).\n";

static int render_own(struct fs *fs, int view, struct buf *out)
{
	if (view == TABLE_VERSION)
		return buf_printf(out, "llmfs %s\nback ends: %s\nlibfuse %s\ncompiler %s\n",
			LLMFS_VERSION, LLMFS_BACK_ENDS, fuse_pkgversion(), __VERSION__);
	if (view == TABLE_HTTP) {
		const struct shim *shim = atomic_load(&fs->shim);
		return shim ? buf_printf(out, "http://%s\n", shim_address(shim)) : 0;
	}
	int r = tree_readme(fs->tree, out);
	return r == -ENOENT ? buf_append_str(out, readme) : r;
}

/* Why what that user asked last by the channel beside that file has failed. */
static int ask_fault(
	struct fs *fs, const struct node *node, uid_t uid, struct buf *out, uint64_t *changed_ns)
{
	switch (node->row->place) {
	case TABLE_GUARDS:
		return gateway_channel_error(fs->gateway, GATEWAY_GUARD_TEST, uid, out, changed_ns);
	case TABLE_ROUTER:
		return gateway_channel_error(fs->gateway, GATEWAY_EXPLAIN, uid, out, changed_ns);
	case TABLE_CACHE:
		return gateway_channel_error(fs->gateway, GATEWAY_LOOKUP, uid, out, changed_ns);
	default:
		return model_ask_error(node->object->model, uid, out, changed_ns);
	}
}

int view_render(struct fs *fs, const struct node *node, uid_t uid, struct buf *out)
{
	const struct table_row *row = node->row;
	if (row->view == TABLE_ASK_FAULT)
		return ask_fault(fs, node, uid, out, NULL);
	if (row->view == TABLE_FAULT)
		return faults_render(fs, node, out);
	switch (row->place) {
	case TABLE_MODEL:
	case TABLE_VIRTUAL_MODEL:
		return model_render(node->object->model, (enum model_view)row->view, out);
	case TABLE_ACCOUNT:
		return account_render(node->object->account, (enum account_view)row->view, out);
	case TABLE_API_KEY:
		return api_key_render(node->object->api_key, (enum api_key_view)row->view, out);
	case TABLE_SESSION:
		return session_render(node->object->session, (enum session_view)row->view, out);
	case TABLE_METRICS:
		if (node->sub)
			return gateway_metric(
				fs->gateway, gateway_metric_names()[node->sub - 1], out);
		return gateway_render(fs->gateway, (enum gateway_view)row->view, out);
	default:
		if (row->view >= TABLE_README)
			return render_own(fs, row->view, out);
		return gateway_render(fs->gateway, (enum gateway_view)row->view, out);
	}
}

/* ---- sizes and times ---- */

/* What is remembered of a rendering: when its text was first seen. */
struct stamp {
	_Atomic uint64_t hash, ns;
};

/* Of the fixed tree, by number or, behind them, by row. */
static struct stamp fixed_stamps[256 + 256];

static uint64_t hash_of(const struct buf *text)
{
	return hash_bytes(HASH_BEGIN, text->data, text->len);
}

static uint64_t stamp(
	_Atomic uint64_t *hash, _Atomic uint64_t *ns, const struct buf *text, uint64_t first_ns)
{
	uint64_t now = hash_of(text), before = atomic_exchange(hash, now);
	if (*ns == 0)
		*ns = first_ns;
	else if (before != now)
		*ns = clock_real_ns();
	return *ns;
}

static uint64_t remember(const struct node *node, const struct buf *text)
{
	struct object *o = node->object;
	unsigned i = (unsigned)node->row->view % OBJECT_VIEWS;
	if (o->kind != OBJECT_FIXED)
		return stamp(&o->view_hash[i], &o->view_ns[i], text, clock_real_ns());
	struct stamp *s = &fixed_stamps[node->sub ? node->sub : 256 + (node->row - table_rows)];
	return stamp(&s->hash, &s->ns, text, o->created_ns);
}

static void log_size(struct fs *fs, const struct node *node, uint64_t *bytes, uint64_t *changed_ns)
{
	const struct object *o = node->object;
	int view = node->row->view;
	if (o->kind == OBJECT_SESSION)
		session_view_size(o->session, (enum session_view)view, bytes, changed_ns);
	else if (o->kind == OBJECT_ACCOUNT)
		account_view_size(o->account, (enum account_view)view, bytes, changed_ns);
	else
		gateway_view_size(fs->gateway, (enum gateway_view)view, bytes, changed_ns);
	/* A log that was never written to is as old as what it belongs to. */
	if (*changed_ns == 0)
		*changed_ns = o->created_ns;
}

/* Each user's text has a time of its own. */
static void ask_error_size(
	struct fs *fs, const struct node *node, uid_t uid, uint64_t *bytes, uint64_t *changed_ns)
{
	struct buf text = {0};
	ask_fault(fs, node, uid, &text, changed_ns);
	*bytes = text.len;
	if (*changed_ns == 0)
		*changed_ns = node->object->created_ns;
	buf_free(&text);
}

void view_size(
	struct fs *fs, const struct node *node, uid_t uid, uint64_t *bytes, uint64_t *changed_ns)
{
	if (node->row->kind == TABLE_LOG) {
		log_size(fs, node, bytes, changed_ns);
		return;
	}
	if (node->row->view == TABLE_ASK_FAULT) {
		ask_error_size(fs, node, uid, bytes, changed_ns);
		return;
	}
	struct buf text = {0};
	view_render(fs, node, uid, &text);
	*bytes = text.len;
	*changed_ns = remember(node, &text);
	buf_free(&text);
}

/* ---- the kinds ---- */

static int render_into(struct handle *h)
{
	buf_clear(&h->text);
	int r = view_render(h->fs, &h->node, h->uid, &h->text);
	if (r == 0 && h->node.row->kind == TABLE_VIEW && h->node.row->view != TABLE_ASK_FAULT)
		remember(&h->node, &h->text);
	return r;
}

static int view_read(
	struct handle *h, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	pthread_mutex_lock(&h->lock);
	int r = 0;
	if (offset == 0 || !h->loaded) {
		r = render_into(h);
		h->loaded = r == 0;
	}
	if (r == 0)
		r = reply_slice(out, h->text.data, h->text.len, offset, size);
	pthread_mutex_unlock(&h->lock);
	return r;
}

static int log_read(
	struct handle *h, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	pthread_mutex_lock(&h->lock);
	int r = 0;
	if (offset == 0 || offset >= h->text.len)
		r = render_into(h);
	if (r == 0)
		r = reply_slice(out, h->text.data, h->text.len, offset, size);
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* As session_watch; with 0, w says whose. */
static int log_watch(struct handle *h, uint64_t bytes, struct wait *w)
{
	const struct object *o = h->node.object;
	int view = h->node.row->view, r;
	if (o->kind == OBJECT_SESSION) {
		r = session_watch(
			o->session, (enum session_view)view, bytes, w->wake, w->arg, &w->id);
		if (r == 0)
			w->session = session_ref(o->session);
	} else if (o->kind == OBJECT_ACCOUNT) {
		r = account_watch(
			o->account, (enum account_view)view, bytes, w->wake, w->arg, &w->id);
		if (r == 0)
			w->account = account_ref(o->account);
	} else {
		r = gateway_watch(
			h->fs->gateway, (enum gateway_view)view, bytes, w->wake, w->arg, &w->id);
		if (r == 0)
			w->gateway = h->fs->gateway;
	}
	return r;
}

static int log_ready(struct handle *h, struct wait *w)
{
	uint64_t bytes = h->position, changed_ns;
	int ready = 0, r;
	while ((r = log_watch(h, bytes, w)) == 1) {
		uint64_t before = bytes;
		ready = 1;
		log_size(h->fs, &h->node, &bytes, &changed_ns);
		if (bytes == before)
			return 1; /* whose log it is has gone: nothing comes any more */
	}
	return r < 0 ? 1 : ready;
}

const struct file_ops view_ops = {.direct = true, .read = view_read};

const struct file_ops log_ops = {.direct = true, .read = log_read, .ready = log_ready};
