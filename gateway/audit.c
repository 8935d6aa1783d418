/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two copies of the same lines: the newest in memory, for readers of guards/audit, and a file that
 * a thread of its own appends to. The file may be behind by what that thread has not written yet;
 * when it cannot be written the lines in memory are all there is, and the log says so once.
 *
 * Lock: audit->lock is a leaf but for the loop's.
 */
#include "gateway/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/runner.h"
#include "gateway/text.h"

enum { TAIL_MAX = 1 << 20, TAIL_KEEP = 3 << 18, UNWRITTEN_MAX = 4 << 20 };
static const off_t file_max = 16 << 20;

struct audit {
	struct loop *loop;
	struct watch_table *watch;
	struct runner *writer;
	struct loop_work tell, write; /* tell: on the loop; write: on the writer's thread */
	char *path, *old_path;
	int fd;      /* the writer's; -1: cannot be written */
	off_t bytes; /* of the file: the writer's */

	pthread_mutex_t lock;
	struct buf tail, unwritten;
	bool stopping, closed, trimmed; /* trimmed: watchers have to look again */
	uint64_t changed_ns;
	struct list watchers;
};

/* ---- the file ---- */

static void open_file(struct audit *a)
{
	struct stat st;
	a->fd = open(a->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	a->bytes = a->fd >= 0 && fstat(a->fd, &st) == 0 ? st.st_size : 0;
	if (a->fd < 0)
		log_error("%s: %s: guards/audit is kept in memory only", a->path, strerror(errno));
}

static void rotate(struct audit *a)
{
	if (rename(a->path, a->old_path) < 0)
		log_error("%s: %s", a->old_path, strerror(errno));
	close(a->fd);
	open_file(a);
}

static void append_to_file(struct audit *a, const char *bytes, size_t n)
{
	while (n && a->fd >= 0) {
		ssize_t done = write(a->fd, bytes, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0) {
			log_error("%s: %s: lines of guards/audit are lost to it", a->path,
				strerror(errno));
			return;
		}
		bytes += done;
		n -= (size_t)done;
		a->bytes += done;
	}
	if (a->fd >= 0 && a->bytes > file_max)
		rotate(a);
}

/* On the writer's thread. */
static void write_out(struct loop_work *work)
{
	struct audit *a = list_entry(work, struct audit, write);
	pthread_mutex_lock(&a->lock);
	struct buf lines = a->unwritten;
	a->unwritten = (struct buf){.max = UNWRITTEN_MAX};
	pthread_mutex_unlock(&a->lock);
	append_to_file(a, lines.data, lines.len);
	buf_free(&lines);
}

/* Its last bytes, which a kill -9 left of a line: nothing may be written behind them. */
static void drop_cut_line(struct audit *a, size_t len)
{
	if (!len)
		return;
	if (ftruncate(a->fd, a->bytes - (off_t)len) == 0)
		a->bytes -= (off_t)len;
	else
		append_to_file(a, "\n", 1);
}

/* Whole lines only: the first may have begun before what was read. */
static void read_tail(struct audit *a)
{
	off_t from = a->bytes > TAIL_KEEP ? a->bytes - TAIL_KEEP : 0;
	if (a->fd < 0 || buf_reserve(&a->tail, TAIL_KEEP) < 0)
		return;
	ssize_t n = pread(a->fd, a->tail.data, TAIL_KEEP, from);
	a->tail.len = n > 0 ? (size_t)n : 0;
	a->tail.data[a->tail.len] = '\0';
	const char *first = from ? memchr(a->tail.data, '\n', a->tail.len) : NULL;
	if (from)
		buf_consume(&a->tail, first ? (size_t)(first + 1 - a->tail.data) : a->tail.len);
	const char *last = a->tail.len ? memrchr(a->tail.data, '\n', a->tail.len) : NULL;
	size_t whole = last ? (size_t)(last + 1 - a->tail.data) : 0;
	if (from + n == a->bytes)
		drop_cut_line(a, a->tail.len - whole);
	a->tail.len = whole;
	a->tail.data[a->tail.len] = '\0';
}

/* ---- the object ---- */

static void tell_watchers(struct loop_work *work)
{
	struct audit *a = list_entry(work, struct audit, tell);
	pthread_mutex_lock(&a->lock);
	uint64_t level = a->trimmed || a->closed ? WATCH_ALL : a->tail.len;
	a->trimmed = false;
	pthread_mutex_unlock(&a->lock);
	watch_fire(a->watch, &a->watchers, level);
}

int audit_open(struct audit **out, const char *state_dir, struct loop *loop,
	struct watch_table *watch, struct err *err)
{
	struct audit *a = calloc(1, sizeof *a);
	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	a->loop = loop;
	a->watch = watch;
	a->fd = -1;
	a->tail.max = TAIL_MAX + 4096;
	a->unwritten.max = UNWRITTEN_MAX;
	a->changed_ns = clock_real_ns();
	pthread_mutex_init(&a->lock, NULL);
	list_init(&a->watchers);
	list_init(&a->tell.link);
	list_init(&a->write.link);
	a->tell.run = tell_watchers;
	a->write.run = write_out;
	int r = 0;
	if (asprintf(&a->path, "%s/audit.jsonl", state_dir) < 0)
		a->path = NULL;
	if (asprintf(&a->old_path, "%s/audit.jsonl.1", state_dir) < 0)
		a->old_path = NULL;
	if (!a->path || !a->old_path)
		r = err_set(err, -ENOMEM, "out of memory");
	r = r ? r : runner_new(&a->writer, "audit", err);
	if (r < 0) {
		audit_free(a);
		return r;
	}
	open_file(a);
	read_tail(a);
	*out = a;
	return 0;
}

void audit_stop(struct audit *a)
{
	pthread_mutex_lock(&a->lock);
	a->stopping = true;
	pthread_mutex_unlock(&a->lock);
}

void audit_close(struct audit *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->closed = true;
	pthread_mutex_unlock(&a->lock);
	a->writer = runner_free(a->writer);
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

struct audit *audit_free(struct audit *a)
{
	if (!a)
		return NULL;
	audit_close(a);
	buf_free(&a->tail);
	buf_free(&a->unwritten);
	pthread_mutex_destroy(&a->lock);
	free(a->path);
	free(a->old_path);
	free(a);
	return NULL;
}

/* ---- lines ---- */

static int member(struct buf *out, const char *key, const char *value)
{
	int r = buf_printf(out, ", \"%s\": ", key);
	return r ? r : text_append_json(out, value, strlen(value));
}

static int line(struct buf *out, const struct audit_entry *e)
{
	char time[TEXT_TIME_MAX];
	int r = buf_append(out, time, (size_t)(text_time(time, clock_real_ns()) - time));
	r = r ? r : member(out, "user", e->user);
	r = r ? r : member(out, "session", e->session);
	r = r ? r : member(out, "stage", e->stage);
	r = r ? r : member(out, "guard", e->guard);
	r = r ? r : member(out, "rule", e->rule);
	r = r ? r : member(out, "action", e->action);
	if (r == 0 && strcmp(e->why, "match"))
		r = member(out, "why", e->why);
	if (r == 0 && e->request)
		r = buf_printf(out, ", \"request\": %" PRIu64, e->request);
	if (r == 0 && e->count > 1)
		r = buf_printf(out, ", \"count\": %zu", e->count);
	return r ? r : buf_append_str(out, "}\n");
}

/* With the lock held. */
static void trim(struct audit *a)
{
	if (a->tail.len <= TAIL_MAX)
		return;
	size_t from = a->tail.len - TAIL_KEEP;
	const char *end = memchr(a->tail.data + from, '\n', a->tail.len - from);
	buf_consume(&a->tail, end ? (size_t)(end + 1 - a->tail.data) : a->tail.len);
	a->trimmed = true;
}

void audit_add(struct audit *a, const struct audit_entry *entry)
{
	struct buf text = {.max = 2048};
	if (line(&text, entry) == 0) {
		pthread_mutex_lock(&a->lock);
		if (!a->closed) {
			buf_append(&a->tail, text.data, text.len);
			trim(a);
			a->changed_ns = clock_real_ns();
			if (buf_append(&a->unwritten, text.data, text.len) < 0)
				log_error("guards/audit: a line is lost to %s", a->path);
			runner_post(a->writer, &a->write);
		}
		pthread_mutex_unlock(&a->lock);
		loop_post(a->loop, &a->tell);
	}
	buf_free(&text);
}

uint64_t audit_last_request(struct audit *a)
{
	static const char key[] = "\"request\": ";
	uint64_t last = 0;
	pthread_mutex_lock(&a->lock);
	const char *at = a->tail.len ? a->tail.data : NULL;
	while (at && (at = strstr(at, key))) {
		at += strlen(key);
		uint64_t id = strtoull(at, NULL, 10);
		last = id > last && id < UINT64_MAX / 2 ? id : last;
	}
	pthread_mutex_unlock(&a->lock);
	return last;
}

int audit_render(struct audit *a, struct buf *out)
{
	pthread_mutex_lock(&a->lock);
	int r = a->tail.len ? buf_append(out, a->tail.data, a->tail.len) : 0;
	pthread_mutex_unlock(&a->lock);
	return r;
}

void audit_size(struct audit *a, uint64_t *bytes, uint64_t *changed_ns)
{
	pthread_mutex_lock(&a->lock);
	*bytes = a->tail.len;
	*changed_ns = a->changed_ns;
	pthread_mutex_unlock(&a->lock);
}

int audit_watch(
	struct audit *a, uint64_t bytes, gateway_wake_fn *wake, void *arg, gateway_waiter *id)
{
	pthread_mutex_lock(&a->lock);
	int r = 1;
	if (a->tail.len <= bytes && !a->closed && !a->stopping)
		r = watch_add(a->watch, &a->watchers, bytes, wake, arg, id);
	pthread_mutex_unlock(&a->lock);
	return r;
}
