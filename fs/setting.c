/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A setting is written whole. The handle gathers what is written; as soon as that is a whole value
 * (a line that has ended, JSON whose last bracket has closed), or can become none by more bytes
 * ("hot" as a temperature, JSON that is wrong up to here), it is judged and put in force by that
 * very write, because shells ignore errors of close; what is not whole by then, at the close. A
 * write that is refused poisons its handle and changes nothing. Where more was missing the close
 * finds it. That of a program which a shell has begun meanwhile says nothing, as more comes, and
 * readers of `out` wait; only whoever has opened the file hears it. After the last close it is, as
 * nobody may have heard it, the session's newest request: `out` fails with it.
 *
 * Settings of one line ignore offsets: `>>` replaces. Those of several lines and messages.json are
 * edited as files are: what is not truncated stays.
 *
 * Truncating without writing resets, but not at once: every redirection truncates, closes a copy of
 * the descriptor (an empty FLUSH) and only then writes, and a refused value must not have changed
 * anything. The second empty FLUSH, or the last close, resets.
 */
#include "fs/setting.h"

#include "fs/collection.h"
#include "fs/faults.h"
#include "fs/handle.h"
#include "fs/sync.h"
#include "fs/tree.h"
#include "fs/value.h"
#include "base/utf8.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <string.h>

/* What is longer is a value of none, and so judged at once; no write is. */
#define MAX_VALUE ((size_t)1 << 20)

bool setting_is_messages(const struct table_row *row)
{
	return row->kind == TABLE_SETTING && row->view == SESSION_MESSAGES;
}

/* The collection in whose object a setting is, NULL: in a session; *it: that object, borrowed. */
static const struct collection *owner_of(struct fs *fs, const struct node *node, void **it)
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
	const struct collection *c = owner_of(fs, node, &it);
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
	const struct collection *c = owner_of(fs, node, &it);
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

static int store_and_note(
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
	return store_and_note(fs, node, text, len, &err);
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
	const struct collection *c = owner_of(fs, node, &it);
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

/* ---- the handle ---- */

static int setting_open(struct handle *h)
{
	h->text.max = setting_is_messages(h->node.row) ? BUF_MAX_DEFAULT : 2 * MAX_VALUE;
	return 0;
}

static int setting_read(
	struct handle *h, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	pthread_mutex_lock(&h->lock);
	int r = 0;
	/* Written text is what this handle reads; else what is in force at the read's start. */
	if (!h->written && (offset == 0 || !h->loaded)) {
		buf_clear(&h->text);
		r = setting_text(h->fs, &h->node, &h->text);
		h->loaded = r == 0;
	}
	if (r == 0)
		r = reply_slice(out, h->text.data, h->text.len, offset, size);
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* Under the lock, before the first write: what the text starts from. */
static int begin(struct handle *h, uint64_t offset)
{
	if (h->written)
		return 0;
	h->written = true;
	buf_clear(&h->text);
	h->base = 0;
	if (!h->node.row->lines)
		h->base = offset;
	else if (!h->truncated)
		return setting_text(h->fs, &h->node, &h->text);
	return 0;
}

/* Under the lock. */
static int place(struct handle *h, uint64_t offset, const char *bytes, size_t n)
{
	if (offset < h->base) {
		h->base = offset;
		buf_clear(&h->text);
	}
	/* O_APPEND counts from a size that may be a moment old. */
	size_t at = offset - h->base < h->text.len ? (size_t)(offset - h->base) : h->text.len;
	size_t inside = h->text.len - at < n ? h->text.len - at : n;
	int r = buf_append(&h->text, bytes + inside, n - inside);
	if (r == 0 && inside)
		memcpy(h->text.data + at, bytes, inside);
	return r;
}

/* Whether a value that has no end yet cannot become right by more bytes: "hot" is the beginning of
 * no number. Paths may begin with anything: where they lead is not known before their end. */
static bool lost(struct handle *h)
{
	const struct collection *c;
	const char *file = h->node.row->name, *text = h->text.data;
	size_t len = h->text.len, mark = utf8_mark(text, len);
	void *it;
	if (utf8_may_be_mark(text, len))
		return false;
	text += mark;
	len -= mark;
	if (!h->node.row->lines)
		len = value_trim(&text, len);
	if (len && (*text == ' ' || *text == '\t') && !h->node.row->lines)
		return false; /* blanks alone, so far */
	c = owner_of(h->fs, &h->node, &it);
	return c ? c->hopeless(file, text, len) : session_setting_is_hopeless(it, file, text, len);
}

/* Whether messages.json, up to the end of a line, is wrong whatever comes after it. Long texts come
 * in whole pages, and short pieces of one are looked through when it is twice as long as at the
 * last time: together that is O(n). */
static bool hopeless(struct handle *h, size_t n)
{
	const struct buf *b = &h->text;
	if (!h->truncated || n % 4096 == 0 || b->len < 2 * h->looked_through ||
		b->data[b->len - 1] != '\n')
		return false;
	h->looked_through = b->len;
	size_t mark = utf8_mark(b->data, b->len);
	return session_messages_is_hopeless(b->data + mark, b->len - mark);
}

/* Whether what was written so far, n bytes of it now, can be judged. */
static bool whole(struct handle *h, size_t n)
{
	if (h->text.len == 0)
		return false;
	if (!setting_is_messages(h->node.row))
		return h->text.data[h->text.len - 1] == '\n' || h->text.len > MAX_VALUE || lost(h);
	/* Only a text that ends with a bracket is read through: not each of many small writes. */
	size_t mark = utf8_mark(h->text.data, h->text.len), last = h->text.len - mark;
	const char *text = h->text.data + mark;
	if (utf8_may_be_mark(text, last))
		return false;
	size_t first = strspn(text, " \t\r\n");
	while (last > first && strchr(" \t\r\n", text[last - 1]))
		last--;
	if (last == first)
		return false;
	if (text[first] == '[' && text[last - 1] != ']')
		return hopeless(h, n);
	return value_json_whole(text, last) || hopeless(h, n);
}

/* In force again; the refusal of another value stays told. */
static int restore(struct fs *fs, const struct node *node, const struct buf *before)
{
	const char *text = before->data ? before->data : "";
	void *it;
	if (owner_of(fs, node, &it))
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
	int r = restore(fs, node, text);
	if (r == 0)
		faults_tell_again(fs, node);
	return r;
}

/* Whether it is not at its default any more, where one has left it: somebody else wrote. */
static bool is_set(struct fs *fs, const struct node *node)
{
	struct buf text = {0};
	bool is = value_of(fs, node, true, &text) == 0 && text.len;
	buf_free(&text);
	return is;
}

void setting_put_back(struct fs *fs, const struct node *node, const struct buf *before)
{
	if (!setting_is_messages(node->row) && !is_set(fs, node))
		restore(fs, node, before);
}

/* Puts what was written in force. Lines come one by one from a shell: when a later one is refused,
 * so are those before it. */
static int apply(struct handle *h)
{
	bool keeps = !setting_is_messages(h->node.row);
	if (keeps && !h->applied)
		value_of(h->fs, &h->node, true, &h->before);
	int r = store_and_note(
		h->fs, &h->node, h->text.data ? h->text.data : "", h->text.len, &h->why);
	if (r == 0)
		h->dirty = false;
	else if (keeps && h->applied)
		restore(h->fs, &h->node, &h->before); /* from before its first value */
	h->applied = h->applied || r == 0;
	h->refusal = r;
	return r;
}

/* As if the handle had put the default in force in its place. */
void setting_made_anew(struct handle *h, struct buf *before)
{
	if (setting_is_messages(h->node.row) || is_set(h->fs, &h->node))
		return;
	pthread_mutex_lock(&h->lock);
	h->before = *before;
	*before = (struct buf){0};
	h->applied = true;
	pthread_mutex_unlock(&h->lock);
}

static int setting_write(struct handle *h, uint64_t offset, const char *bytes, size_t n)
{
	pthread_mutex_lock(&h->lock);
	int r = h->poison;
	h->draft = draft_drop(h->draft);
	if (r == 0)
		r = begin(h, offset);
	if (r == 0)
		r = place(h, offset, bytes, n);
	if (r == 0) {
		h->dirty = true;
		h->refusal = 0;
		if (whole(h, n))
			r = apply(h);
	}
	h->poison = r;
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* Messages that a close has refused: what is read of the session next waits for the last one. Under
 * the lock. */
static void hold_readers(struct handle *h)
{
	if (!h->draft && draft_new(&h->draft, h->node.object->session, h->uid, NULL) < 0)
		return;
	draft_hold(h->draft);
}

static int judge(struct handle *h, bool at_close)
{
	pthread_mutex_lock(&h->lock);
	int r = h->poison;
	if (r == 0 && h->dirty) {
		r = apply(h);
		if (r < 0 && at_close && setting_is_messages(h->node.row))
			hold_readers(h);
	}
	if (r == 0 && h->truncated && !h->written && ++h->empty_flushes == 2)
		r = setting_reset(h->fs, &h->node);
	pthread_mutex_unlock(&h->lock);
	return r;
}

static int setting_flush(struct handle *h)
{
	return judge(h, true);
}

/* What such a close finds too short may be the half of it. What can be in force is: no process may
 * ever close the file again. */
static int setting_flush_heir(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	int r = h->poison;
	if (r == 0 && h->dirty && setting_is_messages(h->node.row))
		hold_readers(h);
	else if (r == 0 && h->dirty)
		apply(h);
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* An editor learns here too what its text is worth. */
static int setting_fsync(struct handle *h)
{
	return judge(h, false);
}

static int truncate_by_name(struct fs *fs, const struct node *node, uint64_t size)
{
	if (size == 0)
		return setting_reset(fs, node);
	struct buf text = {0};
	int r = setting_text(fs, node, &text);
	if (r == 0 && size > text.len)
		r = -EINVAL;
	if (r == 0)
		r = setting_store(fs, node, text.data, (size_t)size);
	buf_free(&text);
	return r;
}

static int setting_truncate(struct fs *fs, const struct node *node, struct handle *h, uint64_t size)
{
	if (!h)
		return truncate_by_name(fs, node, size);
	int r = 0;
	pthread_mutex_lock(&h->lock);
	h->refusal = 0;
	h->looked_through = 0;
	if (size == 0) {
		h->truncated = true;
		h->base = 0;
		buf_clear(&h->text);
		h->dirty = h->written;
	} else {
		r = begin(h, 0);
		if (r == 0 && size > h->text.len)
			r = -EINVAL;
		if (r == 0 && size < h->text.len) {
			h->text.data[h->text.len = (size_t)size] = '\0';
			h->dirty = true;
		}
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}

static void setting_release(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	if (h->truncated && !h->written && h->empty_flushes < 2)
		setting_reset(h->fs, &h->node);
	else if (h->dirty && h->poison == 0 && h->refusal == 0)
		apply(h);
	if (h->dirty && h->poison == 0 && h->refusal < 0 && setting_is_messages(h->node.row))
		session_messages_unheard(h->node.object->session, h->uid, h->refusal, h->why.text);
	h->draft = draft_drop(h->draft);
	pthread_mutex_unlock(&h->lock);
}

const struct file_ops setting_ops = {
	.direct = true,
	.open = setting_open,
	.read = setting_read,
	.write = setting_write,
	.flush = setting_flush,
	.flush_heir = setting_flush_heir,
	.fsync = setting_fsync,
	.truncate = setting_truncate,
	.release = setting_release,
};
