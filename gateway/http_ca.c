/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates of authorities. libcurl reads them anew for each connection (a sixth of a
 * millisecond a certificate, and all that time the loop would stand still), but for those of a
 * file, of which a multi handle remembers the last one that it read, for as long as it is told: for
 * ever, as a set does not change. So each set of certificates that is in use, that of the system
 * among them, has a multi handle of its own, in a struct http behind the first one, and is a file:
 * in memory, by its name below /proc, so that nothing that a setting names is opened on the loop.
 * This also keeps connections of one set from calls of another. What needs no certificates goes
 * through the first one.
 *
 * Their first reading is done elsewhere (http_ca_read.c); calls with that set wait for it. Where
 * there is no such file, or too many sets are in use at a time, the bytes are handed over with each
 * call, as libcurl has it, and are read on the loop. So are those for a proxy over TLS that the
 * environment names, or that stands before a server with a set of its own.
 *
 * A set that nobody has any more goes, with its handle, at the next sweep (http.c) or when another
 * one comes. Handles share what one may take of connections: each that has any, or a call, has its
 * part, which is cut anew as they come and go. What one had open beyond a part that shrank it keeps
 * until those calls end, and so there may be more for so long.
 *
 * The sets: any thread. The handles: the loop's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gateway/http_parts.h"

/* ---- a set ---- */

static int make_file(const char *name, const char *pem, size_t len)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	for (size_t at = 0; fd >= 0 && at < len;) {
		ssize_t n = write(fd, pem + at, len - at);
		if (n > 0) {
			at += (size_t)n;
		} else if (n == 0 || errno != EINTR) {
			close(fd);
			fd = -1;
		}
	}
	return fd;
}

struct http_ca *http_ca_make(const char *name, const char *pem, size_t len)
{
	struct http_ca *ca = malloc(sizeof *ca + len + 1);
	if (!ca)
		return NULL;
	atomic_init(&ca->refs, 1);
	atomic_init(&ca->emptied, false);
	memcpy(ca->pem, pem, len);
	ca->pem[len] = '\0';
	ca->len = len;
	ca->fd = make_file(name, pem, len);
	snprintf(ca->path, sizeof ca->path, "/proc/self/fd/%d", ca->fd);
	if (ca->fd >= 0 && access(ca->path, R_OK) < 0) { /* no /proc */
		close(ca->fd);
		ca->fd = -1;
	}
	return ca;
}

struct http_ca *http_ca_new(const char *pem, size_t len)
{
	return http_ca_make("llmfs-ca", pem, len);
}

/* Models that name files with the same certificates share what there is for them. */
bool http_ca_equal(const struct http_ca *a, const struct http_ca *b)
{
	return a == b || (a->len == b->len && !memcmp(a->pem, b->pem, a->len));
}

void http_ca_empty(struct http_ca *ca)
{
	int r = ftruncate(ca->fd, 0);
	(void)r; /* of a file in memory that is ours */
	atomic_store(&ca->emptied, true);
}

bool http_ca_opens(const struct http_ca *ca)
{
	int other = fcntl(ca->fd, F_DUPFD_CLOEXEC, 0);
	int fd = other < 0 ? -1 : open(ca->path, O_RDONLY | O_CLOEXEC);
	if (other >= 0)
		close(other);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

struct http_ca *http_ca_put(struct http_ca *ca)
{
	if (!ca || atomic_fetch_sub_explicit(&ca->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	if (ca->fd >= 0)
		close(ca->fd);
	free(ca);
	return NULL;
}

/* ---- their handles ---- */

static bool takes_part(const struct http *one)
{
	return one->n_running || one->n_connections;
}

/* Each of those that take part has as much. */
void http_ca_share(struct http *http)
{
	size_t parts = takes_part(http);
	for (size_t i = 0; i < http->n_of_ca; i++)
		parts += takes_part(http->of_ca[i]);
	parts += !parts;
	http_limit(http, parts);
	for (size_t i = 0; i < http->n_of_ca; i++)
		http_limit(http->of_ca[i], parts);
}

void http_ca_sweep(struct http *http)
{
	for (size_t i = http->n_of_ca; i-- > 0;) {
		struct http *one = http->of_ca[i];
		if (one->at_work || one->reading || one->n_running ||
			atomic_load(&one->ca->refs) > 1)
			continue;
		http_free(one);
		http->of_ca[i] = http->of_ca[--http->n_of_ca];
	}
	http_ca_share(http);
}

static bool is_secure(const char *url)
{
	return url && !strncasecmp(url, "https:", 6);
}

/* The handle of one set is another's with the same bytes; but one that was emptied is its own's. */
static bool serves(const struct http *one, const struct http_ca *ca)
{
	return one->ca == ca || (!atomic_load(&one->ca->emptied) && http_ca_equal(one->ca, ca));
}

/* What a call is held against, of what there is a file; NULL: nothing. */
static struct http_ca *set_of(struct http *http, const struct http_request *q)
{
	if (is_secure(q->url) && q->ca)
		return q->ca->fd < 0 ? NULL : q->ca;
	if (!is_secure(q->url) && !is_secure(q->proxy))
		return NULL;
	http_ca_read_look(http);
	return http->system;
}

struct http *http_ca_handle(struct http *http, const struct http_request *q)
{
	struct http_ca *ca = set_of(http, q);
	struct http *one;
	if (!ca)
		return http;
	for (size_t i = 0; i < http->n_of_ca; i++)
		if (serves(http->of_ca[i], ca))
			return http->of_ca[i];
	http_ca_sweep(http);
	if (http->n_of_ca == HTTP_CA_MAX || http_make(&one, http->loop, NULL) < 0)
		return http;
	http_idle(one, (unsigned)http->idle_s);
	atomic_fetch_add_explicit(&ca->refs, 1, memory_order_relaxed);
	one->ca = ca;
	one->first = http;
	http->of_ca[http->n_of_ca++] = one;
	if (http_ca_read(one) < 0)
		http_drive(one);
	http_sweep_later(http);
	return one;
}

void http_ca_end(struct http *http)
{
	while (http->n_of_ca)
		http_free(http->of_ca[--http->n_of_ca]);
	http->ca = http_ca_put(http->ca);
	http->system = http_ca_put(http->system);
}
