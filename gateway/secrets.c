/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All values are read once, at the start, and kept in memory beside their files: so asking for one
 * costs no I/O (a model is made on the loop), but for a reference to another file. There are as
 * many as there are models.
 *
 * A value is written under a name that no model can have, then renamed: after a power cut there is
 * the old one or the new one. Sentences name models/NAME/key and where a reference points, never
 * what is there.
 *
 * Locks: secrets->writing is held across the I/O of a change, so that memory and files change in
 * the same order; secrets->lock is a leaf.
 */
#include "gateway/secrets.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "gateway/plain_file.h"
#include "gateway/text.h"

enum { SECRET_MAX = 4096 };
static const char env_prefix[] = "env:", file_prefix[] = "file:";
static const char unfinished = '~'; /* behind a name: not renamed yet; in no name of a model */

struct secret {
	struct secret *next;
	char name[TEXT_NAME_SIZE];
	char *value;
};

struct secrets {
	pthread_mutex_t writing, lock;
	struct secret *first;
	int dir_fd;
	dev_t forbidden; /* of files that are not read; 0: none */
};

char *secrets_wipe(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
	return NULL;
}

/* ---- what is allowed ---- */

static bool is_line(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (value[i] < ' ' || value[i] > '~')
			return false;
	return len && len <= SECRET_MAX && value[0] != ' ' && value[len - 1] != ' ';
}

static bool begins(const char *value, size_t len, const char *prefix)
{
	size_t n = strlen(prefix);
	return len >= n && !memcmp(value, prefix, n);
}

bool secrets_is_reference(const char *value, size_t len)
{
	return begins(value, len, env_prefix) || begins(value, len, file_prefix);
}

static bool is_variable(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!(name[i] == '_' || (name[i] >= 'A' && name[i] <= 'Z') ||
			    (name[i] >= 'a' && name[i] <= 'z') ||
			    (i && name[i] >= '0' && name[i] <= '9')))
			return false;
	return len;
}

bool secrets_is_hopeless(const char *value, size_t len)
{
	const size_t env = sizeof env_prefix - 1, file = sizeof file_prefix - 1;
	len -= len && value[len - 1] == '\r';
	for (size_t i = 0; i < len; i++)
		if (value[i] < ' ' || value[i] > '~')
			return true;
	if (len > SECRET_MAX || (len && value[0] == ' '))
		return true;
	if (len > env && begins(value, len, env_prefix))
		return !is_variable(value + env, len - env);
	return len > file && begins(value, len, file_prefix) && value[file] != '/';
}

int secrets_check(const char *value, size_t len, struct err *err)
{
	size_t env = sizeof env_prefix - 1, file = sizeof file_prefix - 1;
	bool fits = !len || is_line(value, len);
	if (fits && begins(value, len, env_prefix))
		fits = is_variable(value + env, len - env);
	else if (fits && begins(value, len, file_prefix))
		fits = len > file && value[file] == '/';
	return fits ? 0
		    : err_set(err, -EINVAL,
			      "key: must be one line of printable ASCII, at most %d bytes: the "
			      "key, "
			      "env:VARIABLE or file:/PATH, or nothing",
			      SECRET_MAX);
}

/* ---- in memory ---- */

/* Steals value; NULL removes it. 0 or -ENOMEM. */
static int remember(struct secrets *s, const char *name, char *value)
{
	struct secret *fresh = value ? calloc(1, sizeof *fresh) : NULL, *old = NULL;
	if (value && !fresh) {
		secrets_wipe(value);
		return -ENOMEM;
	}
	pthread_mutex_lock(&s->lock);
	for (struct secret **at = &s->first; *at && !old;)
		if (!strcmp((*at)->name, name)) {
			old = *at;
			*at = old->next;
		} else {
			at = &(*at)->next;
		}
	if (fresh) {
		snprintf(fresh->name, sizeof fresh->name, "%s", name);
		fresh->value = value;
		fresh->next = s->first;
		s->first = fresh;
	}
	pthread_mutex_unlock(&s->lock);
	if (old)
		secrets_wipe(old->value);
	free(old);
	return 0;
}

/* new, or NULL: there is none (or memory is out: *out_of_memory). */
static char *recall(struct secrets *s, const char *name, bool *out_of_memory)
{
	char *value = NULL;
	*out_of_memory = false;
	pthread_mutex_lock(&s->lock);
	for (struct secret *it = s->first; it && !value; it = it->next)
		if (!strcmp(it->name, name)) {
			value = strdup(it->value);
			*out_of_memory = !value;
			break;
		}
	pthread_mutex_unlock(&s->lock);
	return value;
}

bool secrets_has(struct secrets *s, const char *name)
{
	bool none;
	char *value = recall(s, name, &none);
	bool has = value || none;
	secrets_wipe(value);
	return has;
}

/* Accepts NULL, returns NULL. */
static char **free_names(char **names)
{
	for (size_t i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
	return NULL;
}

/* All or none: who misses one takes its key for gone. */
char **secrets_names(struct secrets *s)
{
	size_t n = 0;
	pthread_mutex_lock(&s->lock);
	for (const struct secret *it = s->first; it; it = it->next)
		n++;
	char **names = calloc(n + 1, sizeof *names);
	n = 0;
	for (const struct secret *it = s->first; names && it; it = it->next) {
		names[n] = strdup(it->name);
		names = names[n++] ? names : free_names(names);
	}
	pthread_mutex_unlock(&s->lock);
	return names;
}

/* ---- files ---- */

enum { NO_LINE = 1 };

/* The first line of an open file: new *out; NO_LINE: it is none that a key can be. */
static int read_line(int fd, char **out)
{
	char *line = malloc(SECRET_MAX + 2);
	if (!line)
		return -ENOMEM;
	ssize_t n = plain_file_read(fd, line, SECRET_MAX + 1);
	line[n > 0 ? n : 0] = '\0';
	size_t len = strcspn(line, "\r\n");
	if (n > 0)
		explicit_bzero(line + len, (size_t)n - len);
	int r = n < 0 ? (int)n : is_line(line, len) ? 0 : NO_LINE;
	if (r == 0)
		*out = line;
	else
		secrets_wipe(line);
	return r;
}

/* A file of ours. What somebody else put there, or a link, is none. */
static int read_own(struct secrets *s, const char *name, char **out)
{
	struct stat st;
	int fd = plain_file_open(s->dir_fd, name, O_NOFOLLOW, 0, &st);
	if (fd < 0)
		return fd;
	int r = st.st_uid == geteuid() ? read_line(fd, out) : -EPERM;
	close(fd);
	return r;
}

static int read_all(struct secrets *s, const char *path, struct err *err)
{
	int fd = dup(s->dir_fd);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = 0;
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return err_set(err, -EIO, "the directory of keys cannot be read");
	}
	while (r == 0 && (entry = readdir(dir))) {
		const char *name = entry->d_name;
		size_t len = strlen(name);
		char *value = NULL;
		if (len && name[len - 1] == unfinished)
			unlinkat(s->dir_fd, name, 0);
		if (!text_is_name(name, len))
			continue;
		if (read_own(s, name, &value) == 0)
			r = remember(s, name, value);
		else
			log_warn("%s/%s: what is stored is not ours, or damaged", path, name);
	}
	closedir(dir);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

static int write_file(int dir_fd, const char *name, const char *value, size_t len)
{
	char temporary[TEXT_NAME_SIZE + 1];
	snprintf(temporary, sizeof temporary, "%s%c", name, unfinished);
	unlinkat(dir_fd, temporary, 0);
	int fd = openat(
		dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int r = 0;
	for (size_t done = 0; r == 0 && done < len;) {
		ssize_t n = write(fd, value + done, len - done);
		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			r = -errno;
	}
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	close(fd);
	if (r == 0 && renameat(dir_fd, temporary, dir_fd, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dir_fd, temporary, 0);
	return r;
}

/* len 0: it goes. */
static int change_file(int dir_fd, const char *name, const char *value, size_t len)
{
	int r = 0;
	if (len)
		r = write_file(dir_fd, name, value, len);
	else if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0 && fsync(dir_fd) < 0)
		r = -errno;
	return r;
}

int secrets_set(struct secrets *s, const char *name, const char *value, size_t len, struct err *err)
{
	int r = secrets_check(value, len, err);
	if (r < 0)
		return r;
	char *copy = len ? strndup(value, len) : NULL;
	if (len && !copy)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_lock(&s->writing);
	r = change_file(s->dir_fd, name, value, len);
	if (r < 0) {
		secrets_wipe(copy);
		r = r == -ENOSPC || r == -EDQUOT ? -ENOSPC : -EIO;
		err_set(err, r, "models/%s/key could not be stored: %s", name,
			r == -ENOSPC ? strerror(ENOSPC) : strerror(EIO));
	} else if (remember(s, name, copy) < 0) {
		r = err_set(err, -ENOMEM, "out of memory");
	}
	pthread_mutex_unlock(&s->writing);
	return r;
}

/* ---- asking ---- */

static int from_variable(const char *model, const char *variable, char **out, struct err *err)
{
	const char *value = getenv(variable);
	if (!value)
		return err_set(err, -ENOENT,
			"models/%s/key: the daemon has no environment variable %s", model,
			variable);
	if (!is_line(value, strlen(value)))
		return err_set(err, -EINVAL,
			"models/%s/key: the environment variable %s holds no key: it is not one "
			"line of printable ASCII",
			model, variable);
	*out = strdup(value);
	return *out ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int from_file(
	struct secrets *s, const char *model, const char *path, char **out, struct err *err)
{
	struct stat st;
	int fd = plain_file_open(AT_FDCWD, path, 0, s->forbidden, &st);
	int r = fd < 0 ? fd : read_line(fd, out);
	if (fd >= 0)
		close(fd);
	if (r == NO_LINE)
		return err_set(err, -EINVAL,
			"models/%s/key: %s holds no key: its first line is not one of printable "
			"ASCII",
			model, path);
	return r < 0 ? err_set(err, r, "models/%s/key: %s: %s", model, path, plain_file_words(r))
		     : 0;
}

void secrets_forbid(struct secrets *s, dev_t device)
{
	s->forbidden = device;
}

int secrets_get(struct secrets *s, const char *name, bool may_read, char **out, struct err *err)
{
	bool none;
	char *value = recall(s, name, &none);
	int r = 0;
	*out = NULL;
	if (none)
		return err_set(err, -ENOMEM, "out of memory");
	if (value && begins(value, strlen(value), env_prefix))
		r = from_variable(name, value + sizeof env_prefix - 1, out, err);
	else if (value && begins(value, strlen(value), file_prefix))
		r = may_read ? from_file(s, name, value + sizeof file_prefix - 1, out, err)
			     : -EAGAIN;
	else
		*out = value;
	if (*out != value)
		secrets_wipe(value);
	return r;
}

/* ---- the object ---- */

int secrets_open(struct secrets **out, const char *dir, struct err *err)
{
	struct secrets *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->writing, NULL);
	int r = mkdir(dir, 0700) < 0 && errno != EEXIST ? -errno : 0;
	s->dir_fd = r == 0 ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (r == 0 && s->dir_fd < 0)
		r = -errno;
	if (r == 0 && fchmod(s->dir_fd, 0700) < 0)
		r = -errno;
	if (r < 0)
		err_set(err, r, "%s: %s", dir, strerror(-r));
	else
		r = read_all(s, dir, err);
	if (r < 0)
		secrets_free(s);
	else
		*out = s;
	return r;
}

struct secrets *secrets_free(struct secrets *s)
{
	if (!s)
		return NULL;
	while (s->first) {
		struct secret *it = s->first;
		s->first = it->next;
		secrets_wipe(it->value);
		free(it);
	}
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->writing);
	free(s);
	return NULL;
}
