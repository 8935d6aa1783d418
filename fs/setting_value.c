/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of settings, of sessions and of collections alike: read, put in force, put back. A refusal
 * is noted for `error` here, and what takes it back: a value that changes something, or unlinking.
 * An editor that was told of a fault writes the old text again, or unlinks the file and renames its
 * backup there: after either the reason is still to be read.
 *
 * Any thread; nothing is kept.
 */
#include "fs/setting_parts.h"

#include "fs/faults.h"
#include "fs/sync.h"
#include "fs/tree.h"
#include "fs/value.h"
#include "base/utf8.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <string.h>

bool setting_is_messages(const struct table_row *row)
{
	return row->kind == TABLE_SETTING && row->view == SESSION_MESSAGES;
}

const struct collection *setting_owner(struct fs *fs, const struct node *node, void **it)
{
	const struct collection *c = collection_inside(node->row->place);
	*it = c && c->single ? c->find(fs->gateway, "") : node->object->theirs;
	return c;
}

/* `set`: only what was set, nothing where it is the default. */
static int value_of(struct fs *fs, const struct node *node, bool set, struct buf *out)
{
	size_t before = out->len;
	const char *file = node->row->name;
	void *it;
	int r;
	if (setting_is_messages(node->row))
		return session_render(node->object->session, SESSION_MESSAGES, out);
	const struct collection *c = setting_owner(fs, node, &it);
	if (!c) {
		if (set && !session_setting_is_set(it, file))
			return 0;
		r = session_setting_get(it, file, out);
	} else {
		r = tree_setting_get(fs->tree, c, c->name(it), file, out);
		/* An empty file sets nothing, as one that is not there. */
		if (r == -ENOENT || (r == 0 && out->len == before))
			r = !set && (c->shows_defaults || !c->is_configured(it))
				    ? c->get(it, file, out)
				    : 0;
	}
	return r < 0 || out->len == before ? r : buf_append(out, "\n", 1);
}

int setting_text(struct fs *fs, const struct node *node, struct buf *out)
{
	return value_of(fs, node, false, out);
}

int setting_text_set(struct fs *fs, const struct node *node, struct buf *out)
{
	return value_of(fs, node, true, out);
}

static int store_clean(
	struct fs *fs, const struct node *node, const char *text, size_t len, struct err *err)
{
	void *it;
	const struct collection *c = setting_owner(fs, node, &it);
	if (!node->row->lines)
		len = value_trim(&text, len);
	if (c)
		return sync_setting_set(fs, c, c->name(it), node->row->name, text, len, err);
	return len ? session_setting_set(it, node->row->name, text, len, NULL)
		   : session_setting_reset(it, node->row->name);
}

/* An empty value resets. What editors of other systems write around it is none of it. */
static int store(
	struct fs *fs, const struct node *node, const char *text, size_t len, struct err *err)
{
	struct buf clean = {0};
	size_t mark = utf8_mark(text, len);
	if (setting_is_messages(node->row))
		return session_messages_set(node->object->session, text + mark, len - mark, err);
	if (!mark && !memchr(text, '\r', len))
		return store_clean(fs, node, text, value_length(text, len), err);
	int r = buf_append(&clean, text, len);
	if (r == 0) {
		clean.len = value_clean(clean.data, clean.len);
		clean.data[clean.len] = '\0';
		r = store_clean(fs, node, clean.data, clean.len, err);
	}
	buf_free(&clean);
	return r;
}

static bool is_text(const struct buf *a, const struct buf *b)
{
	return a->len && a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

int setting_store_and_note(
	struct fs *fs, const struct node *node, const char *text, size_t len, struct err *err)
{
	struct buf before = {0}, after = {0};
	bool keeps = !setting_is_messages(node->row) && setting_text(fs, node, &before) == 0;
	int r = store(fs, node, text, len, err);
	/* What an editor does that was told of the fault: the reason is still to be read. */
	keeps = keeps && r == 0 && setting_text(fs, node, &after) == 0 && is_text(&after, &before);
	if (!keeps)
		faults_note(fs, node, r, err);
	buf_free(&before);
	buf_free(&after);
	return r;
}

int setting_store(struct fs *fs, const struct node *node, const char *text, size_t len)
{
	struct err err = {{0}};
	return setting_store_and_note(fs, node, text, len, &err);
}

int setting_reset(struct fs *fs, const struct node *node)
{
	struct err err = {{0}};
	if (setting_is_messages(node->row))
		return 0;
	int r = store(fs, node, "", 0, &err);
	if (r < 0)
		faults_note(fs, node, r, &err);
	else
		faults_withdraw(fs, node);
	return r;
}

static uint64_t ns_of(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

void setting_size(struct fs *fs, const struct node *node, uint64_t *bytes, uint64_t *changed_ns)
{
	struct object *o = node->object;
	struct buf text = {0};
	void *it;
	const struct collection *c = setting_owner(fs, node, &it);
	*changed_ns = o->created_ns;
	if (!c) {
		struct session_attr attr;
		session_attr(o->session, &attr);
		*changed_ns = attr.changed_ns;
	} else {
		struct stat st;
		if (tree_setting_stat(fs->tree, c, c->name(it), node->row->name, &st) == 0)
			*changed_ns = ns_of(&st.st_mtim);
	}
	/* A long conversation is rendered again only when it has changed. */
	_Atomic uint64_t *known = &o->view_hash[SESSION_MESSAGES],
			 *known_ns = &o->view_ns[SESSION_MESSAGES];
	if (setting_is_messages(node->row) && *known_ns == *changed_ns) {
		*bytes = *known;
		return;
	}
	setting_text(fs, node, &text);
	*bytes = text.len;
	if (setting_is_messages(node->row)) {
		*known = text.len;
		*known_ns = *changed_ns;
	}
	buf_free(&text);
}

/* ---- back to what was ---- */

int setting_restore(struct fs *fs, const struct node *node, const struct buf *before)
{
	const char *text = before->data ? before->data : "";
	void *it;
	if (setting_owner(fs, node, &it))
		return store(fs, node, text, before->len, NULL);
	return session_setting_undo(it, node->row->name, text, value_length(text, before->len));
}

int setting_store_over(
	struct fs *fs, const struct node *node, const struct buf *text, const struct buf *unlinked)
{
	struct buf now = {0};
	bool is_same = is_text(text, unlinked);
	if (setting_is_messages(node->row))
		return setting_store(fs, node, text->data, text->len);
	/* Nothing was set, and the backup has the default. */
	if (!unlinked->len && setting_text(fs, node, &now) == 0)
		is_same = is_text(text, &now);
	buf_free(&now);
	if (!is_same)
		return setting_store(fs, node, text->data, text->len);
	int r = setting_restore(fs, node, text);
	if (r == 0)
		faults_tell_again(fs, node);
	return r;
}

bool setting_is_set(struct fs *fs, const struct node *node)
{
	struct buf text = {0};
	bool is = value_of(fs, node, true, &text) == 0 && text.len;
	buf_free(&text);
	return is;
}

void setting_put_back(struct fs *fs, const struct node *node, const struct buf *before)
{
	if (!setting_is_messages(node->row) && !setting_is_set(fs, node))
		setting_restore(fs, node, before);
}
