/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_HANDLE_H
#define FS_HANDLE_H

#include "fs/fs.h"
#include "fs/node.h"

#include "base/buf.h"
#include "base/err.h"
#include "gateway/gateway.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One open of a file, and the operations of its kind. Everything that a program sees of a file
 * between open and close is here; what outlives it is the gateway's.
 */

struct handle;

/* The bytes of an answer to a read: small ones without an allocation. */
struct reply {
	char small[8192];
	char *data; /* small, or allocated */
	size_t len;
};
/* Room for size bytes at r->data, or NULL. */
char *reply_room(struct reply *r, size_t size);
/* Takes bytes[offset..) of n, at most size of them. 0 or -ENOMEM. */
int reply_slice(struct reply *r, const char *bytes, size_t n, uint64_t offset, size_t size);
void reply_end(struct reply *r);

/* A registration at the gateway: who is woken, and how to take it back. */
struct wait {
	gateway_wake_fn *wake;
	void *arg;
	gateway_waiter id;       /* 0: nothing is registered */
	struct session *session; /* references to what id belongs to; all but one are NULL */
	struct answer *answer;
	struct account *account;
	struct gateway *gateway; /* borrowed: it outlives all that waits */
};
/* Takes back what is registered, drops the reference. */
void wait_end(struct wait *w);

/* Operations of a kind; each may be NULL where noted. All are called without the handle's lock. */
struct file_ops {
	bool direct; /* every read and write comes to us as the program made it */
	/* NULL: nothing to do. 0 or -errno. */
	int (*open)(struct handle *h);
	/*
	 * Bytes from offset. 0 (no bytes: the end) or -errno. Where `waits` is set also 1: nothing
	 * there yet and w->wake(w->arg) is registered, w filled. w->wake may have been called
	 * already when it returns.
	 */
	int (*read)(
		struct handle *h, uint64_t offset, size_t size, struct reply *out, struct wait *w);
	bool waits;
	/*
	 * For poll: 1: readable; 0: not yet. In both cases w->wake is registered for what comes
	 * next (w->id is 0 when nothing can): an edge-triggered poller is told of new bytes also
	 * while older ones are there. NULL: always readable.
	 */
	int (*ready)(struct handle *h, struct wait *w);
	/* 0 or -errno; all bytes or none. NULL: -EBADF. */
	int (*write)(struct handle *h, uint64_t offset, const char *bytes, size_t n);
	/* A descriptor was closed. NULL: 0. */
	int (*flush)(struct handle *h);
	/* It was closed by a process that had it from the one that opened the file, and that one is
	 * still there: `{ cat a; cat b; } > file`. More may come. NULL: as flush. */
	int (*flush_heir)(struct handle *h);
	/* NULL: 0, there is nothing that could be stored (a prompt is not yet one). */
	int (*fsync)(struct handle *h);
	/* ftruncate, and h NULL for truncate(2) by name. NULL: accepted, without effect. */
	int (*truncate)(struct fs *fs, const struct node *node, struct handle *h, uint64_t size);
	/* The last close. NULL: nothing to do. */
	void (*release)(struct handle *h);
	/* The handle is about to be freed, released or not. NULL: nothing to do. */
	void (*end)(struct handle *h);
};

struct handle {
	/* never changes */
	struct fs *fs;
	struct node node;
	const struct file_ops *ops;
	uid_t uid; /* of the open: RELEASE carries none */
	gid_t gid;
	int flags; /* of the open */
	pid_t pid; /* the thread that opened it, as the kernel counts for us; 0: not known */

	struct list link;      /* of all handles */
	struct list link_kind; /* of a list of the kind */
	_Atomic unsigned refs;
	_Atomic uint64_t position; /* end of the last read: what poll is about */
	_Atomic uint64_t poll_id;  /* the parked poll, park.h */

	pthread_mutex_t lock; /* of what follows, whose meaning is the kind's; a leaf but for the
				 gateway's own locks */
	struct draft
		*draft; /* in, channel; setting: empty, holds readers of out back; NULL: none */
	struct answer *answer;   /* out, channel: whose bytes are read */
	struct session *private; /* channel */
	struct buf text;         /* view: the snapshot; setting, key, rules: what is written; ctl:
				    the line */
	uint64_t base;           /* setting: offset of text; rules: see there; channel: position
				    in the answer */
	int poison;             /* setting, key, ctl: the errno of all later writes; channel: of the
				   next read; rules: of each flush; or 0 */
	unsigned empty_flushes; /* setting */
	size_t looked_through;  /* setting: bytes of messages.json that may go on well */
	int refusal;            /* setting, ctl: of what is there, at a flush; or 0 */
	struct err why;         /* setting: of the refusal */
	struct buf before;      /* setting: its text before this handle put anything in force; ctl
				   of an API key: its secret, as long as it was not read to its end,
				   which is at base */
	bool loaded, written, dirty, truncated, applied;
};

/* The operations of a kind of row; NULL: it is not a file. */
const struct file_ops *handle_ops(enum table_kind kind);

/* new *out; node: a reference more is taken. -EACCES: opened in a way the file does not have. */
int handle_open(struct handle **out, struct fs *fs, const struct node *node, int flags, uid_t uid,
	gid_t gid);
struct handle *handle_ref(struct handle *h);
struct handle *handle_put(struct handle *h); /* accepts NULL, returns NULL */

/* Ends what programs still had open when the mount went. No request may come any more. */
void handle_end_all(void);

static inline bool handle_writes(const struct handle *h)
{
	return (h->flags & O_ACCMODE) != O_RDONLY;
}

/* The kinds, one file each. */
extern const struct file_ops in_ops, key_ops, out_ops, channel_ops, ctl_ops, log_ops, rules_ops,
	scratch_file_ops, setting_ops, view_ops;

#endif
