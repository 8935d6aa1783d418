/* SPDX-License-Identifier: Apache-2.0 */
/*
 * models/NAME/key: a secret goes in and never comes out. It cannot be opened for reading, not by
 * root and not for reading and writing, so nothing that walks the tree ever sees it; its size is 0.
 *
 * What is written is gathered, offsets are ignored, and it is the key at the close. Once a line has
 * ended, or no more of it could make it a key, the write itself is refused when that is none, and
 * so is any second line: then nothing of it is ever in force. Of one that several programs write
 * nothing is before its line has ended, or the one that opened the file closes it. Truncating alone
 * changes nothing: `cat > key` that is interrupted loses no key. Memory that held the text is
 * wiped.
 */
#include "fs/faults.h"
#include "fs/handle.h"
#include "fs/keys.h"
#include "fs/value.h"
#include "base/utf8.h"
#include "gateway/gateway_models.h"

#include <errno.h>
#include <string.h>

/* More than the gateway takes: what is longer is no key. */
#define MAX_TEXT ((size_t)8192)

static int key_open(struct handle *h)
{
	if ((h->flags & O_ACCMODE) != O_WRONLY)
		return -EACCES;
	/* All of it at once: what grows is copied and leaves copies behind. */
	h->text.max = MAX_TEXT;
	return buf_reserve(&h->text, MAX_TEXT);
}

static int key_read(
	struct handle *h, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	return -EACCES;
}

/* Without the end of the line, without what an editor of another system writes before it, and
 * without blanks around it that were pasted. */
static const char *value(const struct handle *h, size_t *len)
{
	size_t mark = utf8_mark(h->text.data, h->text.len);
	const char *text = h->text.data + mark;
	*len = value_trim(&text, value_length(text, h->text.len - mark));
	return text;
}

/* Under the lock. What can be known before the close. */
static int check(struct handle *h)
{
	/* Of a model that has gone meanwhile; one of that name now is another. */
	if (!node_is_listed(h->fs->nodes, &h->node))
		return -ENOENT;
	struct err err = {{0}};
	bool has_line = memchr(h->text.data, '\n', h->text.len);
	size_t len;
	const char *key = value(h, &len);
	if (!has_line && (utf8_may_be_mark(key, len) || !model_key_is_hopeless(key, len)))
		return 0; /* more of the line may come */
	int r = model_key_check(key, len, &err);
	if (r < 0)
		faults_note(h->fs, &h->node, r, &err);
	return r;
}

/* Under the lock. No text that is so long is a key: the gateway says what is one. */
static int refuse_long(struct handle *h)
{
	struct err err = {{0}};
	model_key_check(h->text.data, MAX_TEXT, &err);
	faults_note(h->fs, &h->node, -EINVAL, &err);
	return -EINVAL;
}

/* Under the lock. */
static int apply(struct handle *h)
{
	h->dirty = false;
	if (!node_is_listed(h->fs->nodes, &h->node))
		return -ENOENT;
	struct err err = {{0}};
	size_t len;
	const char *key = value(h, &len);
	int r = keys_set(h->fs, h->node.object->model, key, len, &err);
	faults_note(h->fs, &h->node, r, &err);
	return r;
}

static int key_write(struct handle *h, uint64_t offset, const char *bytes, size_t n)
{
	pthread_mutex_lock(&h->lock);
	int r = h->poison;
	if (r == 0 && buf_append(&h->text, bytes, n) < 0)
		r = refuse_long(h);
	if (r == 0 && n) {
		h->dirty = true;
		r = check(h);
	}
	h->poison = r;
	pthread_mutex_unlock(&h->lock);
	return r;
}

static int key_flush(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	if (h->poison == 0 && h->dirty)
		h->poison = apply(h);
	int r = h->poison;
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* What has no end yet may be the half of it, which nobody is to send anywhere. */
static int key_flush_heir(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	bool has_line = h->text.len && memchr(h->text.data, '\n', h->text.len);
	int r = h->poison;
	pthread_mutex_unlock(&h->lock);
	return has_line ? key_flush(h) : r;
}

static int key_truncate(struct fs *fs, const struct node *node, struct handle *h, uint64_t size)
{
	if (!h || size)
		return 0;
	pthread_mutex_lock(&h->lock);
	explicit_bzero(h->text.data, h->text.cap);
	buf_clear(&h->text);
	h->dirty = false;
	h->poison = 0;
	pthread_mutex_unlock(&h->lock);
	return 0;
}

static void key_release(struct handle *h)
{
	key_flush(h);
}

static void key_end(struct handle *h)
{
	if (h->text.data)
		explicit_bzero(h->text.data, h->text.cap);
}

const struct file_ops key_ops = {
	.direct = true,
	.open = key_open,
	.read = key_read,
	.write = key_write,
	.flush = key_flush,
	.flush_heir = key_flush_heir,
	.fsync = key_flush,
	.truncate = key_truncate,
	.release = key_release,
	.end = key_end,
};
