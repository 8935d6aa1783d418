/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object behind fi->fh. It is counted, because a parked read or poll (park.h) may be answered
 * by the gateway's thread while the kernel releases the file.
 */
#include "fs/handle.h"
#include "gateway/gateway_accounts.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* All handles, so that those that were open when the mount went are not lost. A leaf. */
static struct list all = LIST_INIT(all);
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;

char *reply_room(struct reply *r, size_t size)
{
	reply_end(r);
	r->data = size <= sizeof r->small ? r->small : malloc(size);
	return r->data;
}

int reply_slice(struct reply *r, const char *bytes, size_t n, uint64_t offset, size_t size)
{
	if (offset >= n)
		return 0;
	n -= (size_t)offset;
	if (n > size)
		n = size;
	if (!reply_room(r, n))
		return -ENOMEM;
	memcpy(r->data, bytes + offset, n);
	r->len = n;
	return 0;
}

void reply_end(struct reply *r)
{
	if (r->data != r->small)
		free(r->data);
	r->data = NULL;
	r->len = 0;
}

void wait_end(struct wait *w)
{
	if (w->answer) {
		if (w->id)
			answer_unwait(w->answer, w->id);
		answer_put(w->answer);
	} else if (w->session) {
		if (w->id)
			session_unwatch(w->session, w->id);
		session_put(w->session);
	} else if (w->account) {
		if (w->id)
			account_unwatch(w->account, w->id);
		account_put(w->account);
	} else if (w->gateway && w->id) {
		gateway_unwatch(w->gateway, w->id);
	}
	w->id = 0;
	w->answer = NULL;
	w->session = NULL;
	w->account = NULL;
	w->gateway = NULL;
}

const struct file_ops *handle_ops(enum table_kind kind)
{
	switch (kind) {
	case TABLE_DIR:
	case TABLE_LINK:
		return NULL;
	case TABLE_VIEW:
		return &view_ops;
	case TABLE_LOG:
		return &log_ops;
	case TABLE_SETTING:
		return &setting_ops;
	case TABLE_RULES:
		return &rules_ops;
	case TABLE_KEY:
		return &key_ops;
	case TABLE_IN:
		return &in_ops;
	case TABLE_OUT:
		return &out_ops;
	case TABLE_CTL:
		return &ctl_ops;
	case TABLE_CHANNEL:
		return &channel_ops;
	case TABLE_SCRATCH:
		return &scratch_file_ops;
	}
	return NULL;
}

/* Root passes the mode bits; what a file cannot do it still cannot do. */
static int check_flags(const struct file_ops *ops, int flags)
{
	if ((flags & O_ACCMODE) != O_RDONLY && !ops->write)
		return -EACCES;
	return 0;
}

int handle_open(struct handle **out, struct fs *fs, const struct node *node, int flags, uid_t uid,
	gid_t gid)
{
	const struct file_ops *ops = handle_ops(node->row->kind);
	if (!ops)
		return node->row->kind == TABLE_DIR ? -EISDIR : -ELOOP;
	int r = check_flags(ops, flags);
	if (r < 0)
		return r;
	struct handle *h = calloc(1, sizeof *h);
	if (!h)
		return -ENOMEM;
	h->fs = fs;
	h->node = node_ref(fs->nodes, node);
	h->ops = ops;
	h->uid = uid;
	h->gid = gid;
	h->flags = flags;
	h->refs = 1;
	list_init(&h->link_kind);
	h->truncated = (flags & O_TRUNC) && handle_writes(h);
	pthread_mutex_init(&h->lock, NULL);
	pthread_mutex_lock(&all_lock);
	list_append(&all, &h->link);
	pthread_mutex_unlock(&all_lock);
	if (ops->open && (r = ops->open(h)) < 0) {
		handle_put(h);
		return r;
	}
	*out = h;
	return 0;
}

struct handle *handle_ref(struct handle *h)
{
	atomic_fetch_add(&h->refs, 1);
	return h;
}

struct handle *handle_put(struct handle *h)
{
	if (!h || atomic_fetch_sub(&h->refs, 1) != 1)
		return NULL;
	pthread_mutex_lock(&all_lock);
	list_remove(&h->link);
	pthread_mutex_unlock(&all_lock);
	if (h->ops->end)
		h->ops->end(h);
	draft_drop(h->draft);
	answer_put(h->answer);
	session_put(h->private);
	buf_free(&h->text);
	buf_free(&h->before);
	node_put(h->fs->nodes, &h->node);
	pthread_mutex_destroy(&h->lock);
	free(h);
	return NULL;
}

void handle_end_all(void)
{
	for (;;) {
		pthread_mutex_lock(&all_lock);
		struct handle *h =
			list_empty(&all) ? NULL : list_entry(all.next, struct handle, link);
		pthread_mutex_unlock(&all_lock);
		if (!h)
			return;
		h->refs = 1;
		handle_put(h);
	}
}
