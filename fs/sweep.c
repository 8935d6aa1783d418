/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that does a pass (sync.h) whenever something in TREE changes. It watches the
 * directories with inotify, but an event is hardly more than a reason to look: a pass asks TREE
 * itself. Only how a rule file went cannot be seen afterwards, and is noted from the events: one
 * that was deleted, or renamed to another rule file, is out of force at once, one that was renamed
 * away is not.
 */
#include "fs/sweep.h"

#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/guards.h"
#include "fs/keys_seen.h"
#include "fs/names.h"
#include "fs/stray_pass.h"
#include "fs/sync.h"
#include "fs/sync_pass.h"
#include "fs/tree.h"

#include "base/background.h"
#include "base/clock.h"
#include "base/log.h"
#include "gateway/gateway_guards.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

/* A burst of changes (git checkout) is one pass. */
#define SETTLE_MS 50
/* When a pass wants another. */
#define AGAIN_MS 200

struct sweep {
	struct fs *fs;
	pthread_t thread;
	int inotify, wake; /* inotify: -1 when there is none */
	_Atomic bool stop;

	/* the thread's */
	int guards[3];        /* watches of the directories below, or -1 */
	struct names deleted; /* rule files, since the last pass */
	uint32_t cookie;      /* of the last IN_MOVED_FROM of a rule file, which, and when */
	char moved[TREE_GUARDS_NAME];
	uint64_t moved_ns;
};

static const char *const guards_dirs[3] = {"guards", "guards/input", "guards/output"};

/* ---- watches ---- */

static int add_watch(struct sweep *s, const char *below, const char *name)
{
	/* IN_ATTRIB: what could not be read can be now, or the other way round. */
	const uint32_t mask =
		IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVE | IN_ATTRIB | IN_ONLYDIR;
	char path[4096 + 160];
	snprintf(path, sizeof path, "%s/%s/%s", tree_path(s->fs->tree), below, name);
	return inotify_add_watch(s->inotify, path, mask);
}

static void watch(struct sweep *s)
{
	if (s->inotify < 0)
		return;
	add_watch(s, "", "");
	for (size_t i = 0; collections[i]; i++) {
		const struct collection *c = collections[i];
		add_watch(s, c->dir, "");
		char **names = c->single ? NULL : tree_names(s->fs->tree, c);
		for (size_t k = 0; names && names[k]; k++)
			add_watch(s, c->dir, names[k]);
		names_free(names);
	}
	for (size_t i = 0; i < 3; i++)
		s->guards[i] = add_watch(s, guards_dirs[i], "");
}

/* ---- events ---- */

/* What an event says about a rule file. */
static void note(struct sweep *s, const struct inotify_event *e)
{
	const char *above = NULL;
	for (size_t i = 0; i < 3; i++)
		if (e->wd == s->guards[i])
			above = guards_dirs[i] + strlen("guards");
	if (!above || !e->len)
		return;
	char file[TREE_GUARDS_NAME];
	snprintf(file, sizeof file, "%s%s%s", above + (*above == '/'), *above ? "/" : "", e->name);
	if (!gateway_guard_name_ok(file))
		return;
	names_drop(&s->deleted, file);
	if (e->mask & IN_DELETE) {
		/* What editors do that put a backup back, see guards.c. */
		if (strcmp(file, s->moved) != 0 || clock_mono_ns() - s->moved_ns > GUARDS_AWAY_NS)
			names_add(&s->deleted, file);
	} else if (e->mask & IN_MOVED_FROM) {
		s->cookie = e->cookie;
		s->moved_ns = clock_mono_ns();
		memcpy(s->moved, file, sizeof file);
	} else if ((e->mask & IN_MOVED_TO) && e->cookie == s->cookie && *s->moved) {
		names_add(&s->deleted, s->moved);
		*s->moved = '\0';
	}
}

static void take_events(struct sweep *s)
{
	_Alignas(struct inotify_event) char events[4096];
	ssize_t n;
	while (s->inotify >= 0 && (n = read(s->inotify, events, sizeof events)) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *e = (const void *)(events + at);
			note(s, e);
			at += (ssize_t)(sizeof *e + e->len);
		}
	}
}

/* ---- the thread ---- */

static bool pass(struct sweep *s)
{
	/* Watch first, so that nothing is missed between the pass and the next event. */
	uint64_t count;
	(void)!read(s->wake, &count, sizeof count);
	take_events(s);
	watch(s);
	bool again = false;
	/* At the end the gateway refuses everything; that is no fault of TREE. */
	if (atomic_load(&s->fs->serving))
		again = sync_all(s->fs, s->deleted.list);
	names_free(s->deleted.list);
	s->deleted = (struct names){0};
	return again;
}

/* Of two times to wait, -1 being for ever. */
static int sooner(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

static int due_ms(void)
{
	return sooner(sync_pass_due_ms(), sooner(keys_seen_due_ms(), stray_pass_due_ms()));
}

static void *run(void *arg)
{
	struct sweep *s = arg;
	int timeout = -1;
	background_begin();
	for (;;) {
		struct pollfd fds[2] = {{s->wake, POLLIN, 0}, {s->inotify, POLLIN, 0}};
		if (poll(fds, 2, timeout) < 0 && errno != EINTR)
			return NULL;
		if (s->stop)
			return NULL;
		poll(fds, 1, SETTLE_MS);
		if (s->stop)
			return NULL;
		timeout = pass(s) ? AGAIN_MS : due_ms();
	}
}

struct sweep *sweep_new(struct fs *fs)
{
	struct sweep *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->fs = fs;
	s->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (s->inotify < 0)
		log_warn("changes in TREE are seen at SIGHUP only: inotify: %s", strerror(errno));
	s->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	watch(s);
	if (s->wake < 0 || pthread_create(&s->thread, NULL, run, s) != 0) {
		if (s->wake >= 0)
			close(s->wake);
		if (s->inotify >= 0)
			close(s->inotify);
		free(s);
		return NULL;
	}
	/* What changed between the first pass and the watches. */
	sweep_wake(s);
	return s;
}

void sweep_wake(struct sweep *s)
{
	if (s)
		eventfd_write(s->wake, 1);
}

struct sweep *sweep_free(struct sweep *s)
{
	if (!s)
		return NULL;
	s->stop = true;
	sweep_wake(s);
	pthread_join(s->thread, NULL);
	close(s->wake);
	if (s->inotify >= 0)
		close(s->inotify);
	names_free(s->deleted.list);
	free(s);
	return NULL;
}
