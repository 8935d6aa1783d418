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
#include "fs/setting_parts.h"

#include "fs/handle.h"
#include "fs/value.h"
#include "base/utf8.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <string.h>

/* What is longer is a value of none, and so judged at once; no write is. */
#define MAX_VALUE ((size_t)1 << 20)

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
	c = setting_owner(h->fs, &h->node, &it);
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

/* Puts what was written in force. Lines come one by one from a shell: when a later one is refused,
 * so are those before it. */
static int apply(struct handle *h)
{
	bool keeps = !setting_is_messages(h->node.row);
	if (keeps && !h->applied)
		setting_text_set(h->fs, &h->node, &h->before);
	int r = setting_store_and_note(
		h->fs, &h->node, h->text.data ? h->text.data : "", h->text.len, &h->why);
	if (r == 0)
		h->dirty = false;
	else if (keeps && h->applied)
		setting_restore(h->fs, &h->node, &h->before); /* from before its first value */
	h->applied = h->applied || r == 0;
	h->refusal = r;
	return r;
}

/* As if the handle had put the default in force in its place. */
void setting_made_anew(struct handle *h, struct buf *before)
{
	if (setting_is_messages(h->node.row) || setting_is_set(h->fs, &h->node))
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
