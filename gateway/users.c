/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small cache before getpwuid_r, direct-mapped by uid: a collision costs a look-up. The lock is
 * not held while the database is asked.
 *
 * Lock: users->lock is a leaf.
 */
#include "gateway/users.h"

#include <errno.h>
#include <pthread.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { ROWS = 256 };
static const uint64_t keep_ns = 60000000000;

struct users {
	pthread_mutex_t lock;
	struct {
		uid_t uid;
		uint64_t asked_ns; /* CLOCK_MONOTONIC; 0: empty */
		char name[TEXT_NAME_SIZE];
	} rows[ROWS];
};

struct users *users_new(void)
{
	struct users *u = calloc(1, sizeof *u);
	if (u)
		pthread_mutex_init(&u->lock, NULL);
	return u;
}

struct users *users_free(struct users *u)
{
	if (!u)
		return NULL;
	pthread_mutex_destroy(&u->lock);
	free(u);
	return NULL;
}

/* Of that name, or (NULL) of that uid. 0, and *row points into new *strings; 1: there is none;
 * -errno: nobody could say. */
static int look_up(const char *name, uid_t uid, struct passwd *row, char **strings)
{
	enum { MOST = 1 << 20 };
	struct passwd *found = NULL;
	int e = ERANGE;
	*strings = NULL;
	for (size_t size = 4096; e == ERANGE && size <= MOST; size *= 4) {
		char *more = realloc(*strings, size);
		if (!more)
			return -ENOMEM;
		*strings = more;
		e = name ? getpwnam_r(name, row, more, size, &found)
			 : getpwuid_r(uid, row, more, size, &found);
	}
	/* Some databases say "no such user" by an errno. */
	if (e == ENOENT || e == ESRCH || e == EBADF || e == EPERM)
		return 1;
	return e ? -e : found ? 0 : 1;
}

/* 0, with the number for who has no name that an account could have; -errno: nobody could say. */
static int ask(uid_t uid, char name[TEXT_NAME_SIZE])
{
	struct passwd row;
	char *strings;
	int r = look_up(NULL, uid, &row, &strings);
	if (r == 0 && text_is_name(row.pw_name, strlen(row.pw_name)) &&
		strcmp(row.pw_name, "default"))
		snprintf(name, TEXT_NAME_SIZE, "%s", row.pw_name);
	else
		snprintf(name, TEXT_NAME_SIZE, "%u", (unsigned)uid);
	free(strings);
	return r < 0 ? r : 0;
}

int users_uid(const char *name, uid_t *uid)
{
	struct passwd row;
	char *strings;
	int r = look_up(name, 0, &row, &strings);
	if (r == 0)
		*uid = row.pw_uid;
	free(strings);
	return r;
}

void users_name(struct users *u, uid_t uid, char name[TEXT_NAME_SIZE])
{
	uint64_t now = clock_mono_ns();
	size_t i = uid % ROWS;
	pthread_mutex_lock(&u->lock);
	bool known =
		u->rows[i].asked_ns && u->rows[i].uid == uid && now - u->rows[i].asked_ns < keep_ns;
	if (known)
		memcpy(name, u->rows[i].name, TEXT_NAME_SIZE);
	pthread_mutex_unlock(&u->lock);
	if (known)
		return;
	int r = ask(uid, name);
	pthread_mutex_lock(&u->lock);
	/* A directory server that is down for a while does not make another user of somebody. */
	bool was_known = u->rows[i].asked_ns && u->rows[i].uid == uid;
	if (r < 0 && was_known)
		memcpy(name, u->rows[i].name, TEXT_NAME_SIZE);
	u->rows[i].uid = uid;
	u->rows[i].asked_ns = now;
	memcpy(u->rows[i].name, name, TEXT_NAME_SIZE);
	pthread_mutex_unlock(&u->lock);
}
