/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rule file is a file like any other to whoever edits it: offsets, O_APPEND, truncation. The
 * handle gathers what is written, starting from the saved text, and saves it whole at fsync and at
 * each close of a descriptor. What is saved stays saved; whether it is good rules the gateway says
 * then, and a fault is the EINVAL of that fsync or close, where an editor shows it. A handle
 * that only reads never sees it.
 *
 * A file that is truncated (or just made) and not yet written is "pending": it shows nothing, but
 * TREE keeps its text and the rules stay in force until the first save, or until the last close of
 * a handle that never wrote: every redirection truncates, closes a copy of the descriptor and only
 * then writes. Another handle's save ends it, as that came later.
 *
 * Handles that append (O_APPEND) add to the text as it is when they save it: of two at once, both
 * lines are there.
 *
 * Locks: handle->lock around the turn of guards.c around pending_lock, a leaf.
 */
#include "fs/rules.h"

#include "fs/guards.h"
#include "fs/handle.h"

#include <errno.h>
#include <string.h>

/* Handles by their `link_kind` whose file they have truncated or made. */
static struct list pending = LIST_INIT(pending);
static pthread_mutex_t pending_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *file_of(const struct handle *h)
{
	return node_rules_file(&h->node);
}

static void set_pending(struct handle *h, bool is)
{
	is = is && node_is_listed(h->fs->nodes, &h->node);
	pthread_mutex_lock(&pending_lock);
	list_remove(&h->link_kind);
	if (is)
		list_append(&pending, &h->link_kind);
	pthread_mutex_unlock(&pending_lock);
}

static bool is_pending(const struct handle *h)
{
	pthread_mutex_lock(&pending_lock);
	bool is = !list_empty(&h->link_kind);
	pthread_mutex_unlock(&pending_lock);
	return is;
}

bool rules_pending(const char *file)
{
	bool is = false;
	pthread_mutex_lock(&pending_lock);
	list_for_each (link, &pending)
		is = is || strcmp(file_of(list_entry(link, struct handle, link_kind)), file) == 0;
	pthread_mutex_unlock(&pending_lock);
	return is;
}

void rules_saved(struct fs *fs, const char *file, bool replaced)
{
	if (replaced)
		node_unlist(fs->nodes, OBJECT_RULES, file);
	/* Whatever truncated it did so before. */
	pthread_mutex_lock(&pending_lock);
	list_for_each (link, &pending)
		if (strcmp(file_of(list_entry(link, struct handle, link_kind)), file) == 0)
			list_remove(link);
	pthread_mutex_unlock(&pending_lock);
}

int rules_text(struct fs *fs, const struct node *node, struct buf *out)
{
	const char *file = node_rules_file(node);
	int r = rules_pending(file) ? 0 : tree_guards_get(fs->tree, file, out);
	return r == -ENOENT ? 0 : r;
}

void rules_size(struct fs *fs, const struct node *node, uint64_t *bytes, uint64_t *changed_ns)
{
	const char *file = node_rules_file(node);
	struct stat st;
	if (tree_guards_stat(fs->tree, file, &st) != 0)
		return;
	*bytes = rules_pending(file) ? 0 : (uint64_t)st.st_size;
	*changed_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
}

/* ---- the handle; under its lock ---- */

/* handle->base of one that appends: where its own bytes begin, or this: it has done more. */
#define NOT_APPENDING UINT64_MAX

static bool appends(const struct handle *h)
{
	return (h->flags & O_APPEND) && h->dirty && h->base != NOT_APPENDING;
}

/* Whether the text is still the one that this handle began to append to. */
static bool is_base(const struct handle *h)
{
	struct buf now = {0};
	int r = rules_text(h->fs, &h->node, &now);
	bool is = r == 0 && now.len == h->base &&
		  (now.len == 0 || memcmp(now.data, h->text.data, now.len) == 0);
	buf_free(&now);
	return is;
}

/* A file that was unlinked meanwhile does not come back, nor a truncation that another's save has
 * ended. */
static int is_wanted(const void *arg)
{
	const struct handle *h = arg;
	if (!node_is_listed(h->fs->nodes, &h->node) || (!h->dirty && !is_pending(h)))
		return -ECANCELED;
	return appends(h) && !is_base(h) ? -EAGAIN : 0;
}

/* Puts what the handle has appended behind the text as it is now. */
static int rebase(struct handle *h)
{
	struct buf now = {0};
	int r = rules_text(h->fs, &h->node, &now);
	size_t base = now.len;
	if (r == 0)
		r = buf_append(&now, h->text.data + h->base, h->text.len - (size_t)h->base);
	if (r == 0 && now.len > TREE_GUARDS_MAX)
		r = -EFBIG;
	if (r < 0) {
		buf_free(&now);
		return r;
	}
	buf_free(&h->text);
	h->text = now;
	h->base = base;
	return 0;
}

void rules_size_written(struct handle *h, struct stat *st)
{
	if (h->node.row->kind != TABLE_RULES)
		return;
	pthread_mutex_lock(&h->lock);
	if (h->written)
		st->st_size = (off_t)h->text.len;
	pthread_mutex_unlock(&h->lock);
}

/* Saves what it has. 0; -EINVAL: saved, with a fault, which stays the handle's until it writes
 * again; other -errno: not saved. */
static int save(struct handle *h)
{
	int r;
	do
		r = guards_save(h->fs, file_of(h), h->text.data ? h->text.data : "", h->text.len,
			is_wanted, h);
	while (r == -EAGAIN && (r = rebase(h)) == 0);
	if (r < 0 && r != -ECANCELED)
		return r == -EINVAL ? -EIO : r;
	set_pending(h, false);
	/* What is written from here on is written to the file as it will be then. */
	h->written = h->dirty = h->truncated = h->loaded = false;
	buf_clear(&h->text);
	h->poison = r == 1 ? -EINVAL : 0;
	return h->poison;
}

/* Before something is changed: the text it starts from. */
static int begin(struct handle *h)
{
	if (h->written)
		return 0;
	buf_clear(&h->text);
	bool empty = h->truncated && is_pending(h);
	int r = empty ? 0 : rules_text(h->fs, &h->node, &h->text);
	h->written = r == 0;
	h->base = h->text.len;
	return r == -EINVAL ? -EIO : r; /* something else than a file stands in TREE */
}

/* Makes the text `size` bytes long; what is new is NULs. */
static int resize(struct handle *h, uint64_t size)
{
	if (size > TREE_GUARDS_MAX)
		return -EFBIG;
	size_t n = h->text.len;
	int r = size > n ? buf_reserve(&h->text, (size_t)size - n) : 0;
	if (r < 0)
		return r;
	if (size > n)
		memset(h->text.data + n, 0, (size_t)size - n);
	h->text.len = (size_t)size;
	if (h->text.data)
		h->text.data[size] = '\0';
	return 0;
}

static int place(struct handle *h, uint64_t offset, const char *bytes, size_t n)
{
	if (h->flags & O_APPEND)
		offset = h->text.len; /* the kernel's may be a moment old */
	if (offset > TREE_GUARDS_MAX || n > TREE_GUARDS_MAX)
		return -EFBIG;
	int r = offset + n > h->text.len ? resize(h, offset + n) : 0;
	if (r == 0 && n)
		memcpy(h->text.data + offset, bytes, n);
	return r;
}

/* ---- the operations ---- */

static int rules_open(struct handle *h)
{
	if (h->truncated)
		set_pending(h, true);
	return 0;
}

static int rules_read(
	struct handle *h, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	pthread_mutex_lock(&h->lock);
	int r = 0;
	if (!h->written && (offset == 0 || !h->loaded)) {
		buf_clear(&h->text);
		r = rules_text(h->fs, &h->node, &h->text);
		h->loaded = r == 0;
	}
	if (r == 0)
		r = reply_slice(out, h->text.data, h->text.len, offset, size);
	pthread_mutex_unlock(&h->lock);
	return r == -EINVAL ? -EIO : r; /* something else than a file stands in TREE */
}

static int rules_write(struct handle *h, uint64_t offset, const char *bytes, size_t n)
{
	pthread_mutex_lock(&h->lock);
	int r = begin(h);
	if (r == 0)
		r = place(h, offset, bytes, n);
	if (r == 0) {
		h->dirty = true;
		h->poison = 0;
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}

static int rules_flush(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	int r = h->dirty ? save(h) : h->poison;
	pthread_mutex_unlock(&h->lock);
	return r;
}

static int is_listed(const void *arg)
{
	const struct handle *h = arg;
	return node_is_listed(h->fs->nodes, &h->node) ? 0 : -ECANCELED;
}

/* truncate(2) by name: whether the text is good rules is not what was asked. */
static int truncate_by_name(struct fs *fs, const struct node *node, uint64_t size)
{
	struct handle whole = {.fs = fs, .node = *node};
	int r = size ? rules_text(fs, node, &whole.text) : 0;
	if (r == 0)
		r = resize(&whole, size);
	if (r == 0)
		r = guards_save(fs, node_rules_file(node), whole.text.data ? whole.text.data : "",
			whole.text.len, is_listed, &whole);
	buf_free(&whole.text);
	return r < 0 ? r : 0;
}

static int rules_truncate(struct fs *fs, const struct node *node, struct handle *h, uint64_t size)
{
	if (!h)
		return truncate_by_name(fs, node, size);
	pthread_mutex_lock(&h->lock);
	int r = 0;
	if (size == 0) {
		buf_clear(&h->text);
		h->truncated = true;
		h->written = h->dirty = false;
		h->poison = 0;
		set_pending(h, true);
	} else {
		r = begin(h);
		if (r == 0)
			r = resize(h, size);
		h->base = NOT_APPENDING;
		h->dirty = h->dirty || r == 0;
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}

static void rules_release(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	if (h->dirty || h->truncated)
		save(h);
	pthread_mutex_unlock(&h->lock);
}

static void rules_end(struct handle *h)
{
	set_pending(h, false);
}

const struct file_ops rules_ops = {
	.direct = true,
	.open = rules_open,
	.read = rules_read,
	.write = rules_write,
	.flush = rules_flush,
	.fsync = rules_flush,
	.truncate = rules_truncate,
	.release = rules_release,
	.end = rules_end,
};
