/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first reading of certificates, off the loop: a file of 3,000 takes libcurl half a second, or
 * four on a machine that is busy, and it has no call for just that. But a multi handle remembers
 * what it read for a connection, whatever became of that one. So a multi handle that nothing was
 * done with so far is given to a thread, which has it make one secure connection: to a socket of
 * our own, whose other end has said already that it will not come to one. With that libcurl has
 * read the certificates. The handle then goes to the loop, with http_drive, and with it the calls
 * that waited. It belongs to one thread at a time, and who has it is `reading`.
 *
 * A set that cannot be read would be tried again for each connection, on the loop: its file is
 * emptied, and libcurl says so at once. But libcurl finds the same fault where there was no
 * descriptor left to read with. So that is done only to what failed more than once, a moment apart,
 * and could be opened each time; else each connection tries again.
 *
 * The system's file becomes a set like any other when all this begins. Whether it has changed since
 * is looked at by the same thread, once an hour and only when a call needs it; that call and those
 * until the answer comes still have the old one. The old set goes when its calls have ended. One
 * that was emptied is read anew even if it has not changed.
 *
 * One thread, so who comes behind a large set waits longer, within its time to connect. At the end,
 * what that thread is in the middle of is waited for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/http_parts.h"
#include "gateway/plain_file.h"

#define LOOK_NS ((uint64_t)3600 * 1000 * HTTP_MS)
#define FILE_MAX ((size_t)16 << 20)
enum { ROUNDS_MAX = 100, ROUND_MS = 100, TRIES = 3 };

/* ---- a set, by a connection that leads nowhere ---- */

/* A socket that listens, by a name that the kernel chose, which has no file: < 0: there is none. */
static int listen_somewhere(struct sockaddr_un *name)
{
	socklen_t len = sizeof *name;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	*name = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (fd < 0)
		return fd;
	if (bind(fd, (struct sockaddr *)name, sizeof name->sun_family) == 0 && listen(fd, 1) == 0 &&
		getsockname(fd, (struct sockaddr *)name, &len) == 0)
		return fd;
	close(fd);
	return -1;
}

/* As http_easy.c has it: what was read is for a file of that name, and no folder. */
static CURL *easy_new(const char *path, const struct sockaddr_un *to)
{
	CURL *e = curl_easy_init();
	if (!e)
		return NULL;
	curl_easy_setopt(e, CURLOPT_URL, "https://127.0.0.1/");
	curl_easy_setopt(e, CURLOPT_ABSTRACT_UNIX_SOCKET, to->sun_path + 1);
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_CAINFO, path);
	curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(e, CURLOPT_CA_CACHE_TIMEOUT, -1L);
	return e;
}

/* The other end: -1 as long as nobody has come. To be kept until libcurl has let go. */
static int answer(int listening)
{
	/* A record of TLS 1.2: an alert, fatal, handshake_failure. */
	static const unsigned char no[] = {21, 3, 3, 0, 2, 2, 40};
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0 && send(fd, no, sizeof no, MSG_NOSIGNAL) < 0)
		shutdown(fd, SHUT_RDWR);
	return fd;
}

static bool is_closing(const struct http *one)
{
	return atomic_load(&one->first->closing);
}

/* True: libcurl finds that the set is no good, and had descriptors enough: there still are, while
 * what it takes here is open. */
static bool connect_to_nobody(const struct http *one, CURL *e, int listening)
{
	CURLM *multi = one->multi;
	CURLcode code = CURLE_OPERATION_TIMEDOUT;
	struct CURLMsg *m;
	int running = 1, left, other = -1;
	if (curl_multi_add_handle(multi, e) != CURLM_OK)
		return false;
	for (int i = 0; i < ROUNDS_MAX && running && !is_closing(one); i++) {
		curl_multi_perform(multi, &running);
		if (other < 0)
			other = answer(listening);
		if (running)
			curl_multi_poll(multi, NULL, 0, ROUND_MS, NULL);
	}
	while ((m = curl_multi_info_read(multi, &left)))
		if (m->msg == CURLMSG_DONE)
			code = m->data.result;
	bool is_bad = code == CURLE_SSL_CACERT_BADFILE && http_ca_opens(one->ca);
	curl_multi_remove_handle(multi, e);
	if (other >= 0)
		close(other);
	return is_bad;
}

static bool read_set(const struct http *one)
{
	bool is_bad = false;
	struct sockaddr_un name;
	int listening = listen_somewhere(&name);
	if (listening < 0)
		return false;
	CURL *e = easy_new(one->ca->path, &name);
	if (e)
		is_bad = connect_to_nobody(one, e, listening);
	curl_easy_cleanup(e);
	close(listening);
	return is_bad;
}

static bool is_no_good(const struct http *one)
{
	for (int i = 0; i < TRIES; i++) {
		if (is_closing(one) || !read_set(one))
			return false;
		if (i + 1 < TRIES)
			curl_multi_poll(one->multi, NULL, 0, ROUND_MS, NULL);
	}
	return true;
}

static void run_have(struct loop_work *work)
{
	http_drive(list_entry(work, struct http, read_work));
}

static void run_read(struct loop_work *work)
{
	struct http *one = list_entry(work, struct http, read_work);
	if (is_no_good(one))
		http_ca_empty(one->ca);
	work->run = run_have;
	loop_post(one->loop, work); /* refused: the loop has ended, and nobody waits */
}

static bool has_reader(struct http *first)
{
	return first->reader || runner_new(&first->reader, "certificates", NULL) == 0;
}

int http_ca_read(struct http *one)
{
	if (!has_reader(one->first))
		return -EAGAIN;
	one->reading = true;
	one->read_work.run = run_read;
	runner_post(one->first->reader, &one->read_work);
	return 0;
}

/* ---- the system's ---- */

/* new; NULL: there is none, or no memory. */
static struct http_ca *read_file(const char *path)
{
	struct http_ca *ca = NULL;
	struct stat st;
	int fd = path ? plain_file_open(AT_FDCWD, path, 0, 0, &st) : -1;
	if (fd < 0)
		return NULL;
	size_t size = st.st_size > 0 ? (size_t)st.st_size : 0;
	char *bytes = size && size <= FILE_MAX ? malloc(size) : NULL;
	ssize_t n = bytes ? plain_file_read(fd, bytes, size) : 0;
	if (n > 0)
		ca = http_ca_make("llmfs-system-ca", bytes, (size_t)n);
	free(bytes);
	close(fd);
	if (ca && ca->fd < 0)
		ca = http_ca_put(ca);
	return ca;
}

void http_ca_read_system(struct http *http)
{
	http->system = read_file(http->ca_file);
	http->look_at_ns = clock_mono_ns() + LOOK_NS;
}

static void run_looked(struct loop_work *work)
{
	struct http *http = list_entry(work, struct http, look_work);
	struct http_ca *found = http->looked;
	http->looked = NULL;
	if (found && !(http->system && !atomic_load(&http->system->emptied) &&
			     http_ca_equal(found, http->system))) {
		http_ca_put(http->system);
		http->system = found;
	} else {
		http_ca_put(found);
	}
	http->look_at_ns = clock_mono_ns() + LOOK_NS;
}

static void run_look(struct loop_work *work)
{
	struct http *http = list_entry(work, struct http, look_work);
	http->looked = read_file(http->ca_file);
	work->run = run_looked;
	loop_post(http->loop, work);
}

void http_ca_read_look(struct http *http)
{
	if (clock_mono_ns() < http->look_at_ns || !has_reader(http))
		return;
	http->look_at_ns = UINT64_MAX;
	http->look_work.run = run_look;
	runner_post(http->reader, &http->look_work);
}

void http_ca_read_end(struct http *http)
{
	atomic_store(&http->closing, true);
	http->reader = runner_free(http->reader);
	http->looked = http_ca_put(http->looked);
}
