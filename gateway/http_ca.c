/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates of authorities that are not the system's. libcurl reads them anew for each
 * connection (a sixth of a millisecond a certificate, and all that time the loop stands still), but
 * for those of a file, of which a multi handle remembers the last one that it read, for as long as
 * it is told: for ever, as a set does not change. So each set of certificates that is in use has a
 * multi handle of its own, in a struct http behind the first one, and is a file: in memory, by its
 * name below /proc, so that nothing that a setting names is opened on the loop. This also keeps
 * connections of one set from calls of another.
 *
 * Where there is no such file, or too many sets are in use at a time, the bytes are handed over
 * with each call, as libcurl has it.
 *
 * A set that nobody has any more goes, with its handle, at the next sweep (http.c) or when another
 * one comes. So many handles share what one may take of connections: each has its part, which is
 * cut anew as handles come and go. What one had open beyond a part that shrank it keeps until those
 * calls end, and so there may be more for so long.
 *
 * The sets: any thread. The handles: the loop's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gateway/http_parts.h"

/* ---- a set ---- */

static int make_file(const char *pem, size_t len)
{
	int fd = memfd_create("llmfs-ca", MFD_CLOEXEC);
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

struct http_ca *http_ca_new(const char *pem, size_t len)
{
	struct http_ca *ca = malloc(sizeof *ca + len + 1);
	if (!ca)
		return NULL;
	atomic_init(&ca->refs, 1);
	memcpy(ca->pem, pem, len);
	ca->pem[len] = '\0';
	ca->len = len;
	ca->fd = make_file(pem, len);
	snprintf(ca->path, sizeof ca->path, "/proc/self/fd/%d", ca->fd);
	if (ca->fd >= 0 && access(ca->path, R_OK) < 0) { /* no /proc */
		close(ca->fd);
		ca->fd = -1;
	}
	return ca;
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

/* Each has its part of the connections. */
static void share(struct http *http)
{
	http_limit(http, http->n_of_ca + 1);
	for (size_t i = 0; i < http->n_of_ca; i++)
		http_limit(http->of_ca[i], http->n_of_ca + 1);
}

void http_ca_sweep(struct http *http)
{
	for (size_t i = http->n_of_ca; i-- > 0;) {
		struct http *one = http->of_ca[i];
		if (one->at_work || one->n_running || atomic_load(&one->ca->refs) > 1)
			continue;
		http_free(one);
		http->of_ca[i] = http->of_ca[--http->n_of_ca];
	}
	share(http);
}

/* Models that name files with the same certificates share what there is for them. */
static bool are_equal(const struct http_ca *a, const struct http_ca *b)
{
	return a == b || (a->len == b->len && !memcmp(a->pem, b->pem, a->len));
}

struct http *http_ca_handle(struct http *http, struct http_ca *ca)
{
	struct http *one;
	if (!ca || ca->fd < 0)
		return http;
	for (size_t i = 0; i < http->n_of_ca; i++)
		if (are_equal(http->of_ca[i]->ca, ca))
			return http->of_ca[i];
	http_ca_sweep(http);
	if (http->n_of_ca == HTTP_CA_MAX || http_new(&one, http->loop, NULL) < 0)
		return http;
	http_idle(one, (unsigned)http->idle_s);
	atomic_fetch_add_explicit(&ca->refs, 1, memory_order_relaxed);
	one->ca = ca;
	one->first = http;
	http->of_ca[http->n_of_ca++] = one;
	share(http);
	http_sweep_later(http);
	return one;
}

void http_ca_end(struct http *http)
{
	while (http->n_of_ca)
		http_free(http->of_ca[--http->n_of_ca]);
	http->ca = http_ca_put(http->ca);
}
