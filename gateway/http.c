/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl's multi interface, driven by the loop: libcurl says which sockets it waits for
 * (http_socket.c) and when it wants to be called again, and is called when one of them comes. It
 * never waits itself; names are looked up on threads of its own (a libcurl that cannot is refused),
 * and a call that ends while its name is looked up does not wait for that thread
 * (CURLOPT_QUICK_EXIT, hence libcurl 7.87).
 *
 * Calls are http_call.c's. What they may not ask of libcurl while it is inside a callback waits on
 * two lists, and `settle` deals with it as soon as libcurl is out. A multi handle whose
 * certificates are being read (http_ca_read.c) is not the loop's: until then its calls wait on the
 * first of them.
 *
 * Connections are libcurl's: CACHED_MAX of them are kept, for IDLE_S seconds. libcurl closes old
 * ones only when it looks for one to use, so as long as there are any, `sweep` has it look, with a
 * request to nowhere. That the whole multi handle is not made anew instead keeps the certificates
 * it has read. Those of sets that have gone are let go of at a sweep, too.
 *
 * Thread: the loop's. The two numbers of http_count are atomic.
 */
#include "gateway/http.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "gateway/http_parts.h"

enum {
	CACHED_MAX = 512, /* connections kept */
	IDLE_S = 60,      /* for so long */
	SWEEP_S = 15,
};
#define LIBCURL_LEAST 0x075700 /* 7.87.0 */

static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	struct http *http = arg;
	if (timeout_ms < 0)
		loop_disarm(http->loop, &http->timer);
	else
		loop_arm(
			http->loop, &http->timer, clock_mono_ns() + (uint64_t)timeout_ms * HTTP_MS);
	return 0;
}

static void run_timer(struct loop_timer *t)
{
	http_act(list_entry(t, struct http, timer), CURL_SOCKET_TIMEOUT, 0);
}

/* Time between two sweeps. */
static uint64_t sweep_ns(const struct http *http)
{
	return (uint64_t)(http->idle_s < SWEEP_S ? http->idle_s : SWEEP_S) * 1000 * HTTP_MS;
}

void http_sweep_later(struct http *http)
{
	if (http->will_sweep)
		return;
	http->will_sweep = true;
	loop_arm(http->loop, &http->sweep, clock_mono_ns() + sweep_ns(http));
}

/* libcurl is out: what had to wait for that. `done` may begin and cancel calls, so each list is
 * looked at anew each time. */
static void settle(struct http *http)
{
	struct CURLMsg *m;
	int left;
	http_limit(http, http->parts);
	while (!list_empty(&http->dying)) {
		struct http_call *call = list_entry(http->dying.next, struct http_call, link);
		if (call->failed && !call->cancelled)
			http_call_fail(call);
		else
			http_call_drop(call);
	}
	while ((m = curl_multi_info_read(http->multi, &left))) {
		struct http_call *call = NULL;
		if (m->msg != CURLMSG_DONE)
			continue;
		if (m->easy_handle == http->broom) {
			curl_multi_remove_handle(http->multi, http->broom);
			http->sweeping = false;
			continue;
		}
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &call);
		http_call_end(call, m->data.result);
	}
	while (!list_empty(&http->starting))
		http_call_add(list_entry(http->starting.next, struct http_call, link));
}

void http_act(struct http *http, curl_socket_t fd, int mask)
{
	int running;
	http->inside = http->at_work = true;
	curl_multi_socket_action(http->multi, fd, mask, &running);
	http->inside = false;
	settle(http);
	http->at_work = false;
}

static curl_socket_t on_open_nowhere(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	return CURL_SOCKET_BAD;
}

static CURL *broom_new(struct http *http)
{
	CURL *e = http_easy_bare(http);
	if (!e)
		return NULL;
	curl_easy_setopt(e, CURLOPT_URL, "http://127.0.0.1:1/");
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open_nowhere);
	return e;
}

/* Looking for a connection, libcurl closes those that are too old. */
static void run_sweep(struct loop_timer *t)
{
	struct http *http = list_entry(t, struct http, sweep);
	http->will_sweep = false;
	if (http->first == http)
		http_ca_sweep(http);
	if (http->n_connections && !http->sweeping &&
		curl_multi_add_handle(http->multi, http->broom) == CURLM_OK)
		http->sweeping = true;
	if (http->n_connections || http->n_of_ca)
		http_sweep_later(http);
}

static CURLcode global = CURLE_FAILED_INIT;

static void init_libcurl(void)
{
	global = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int check_libcurl(struct http *http, struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, init_libcurl);
	if (global != CURLE_OK)
		return err_set(
			err, -ENOSYS, "libcurl does not start: %s", curl_easy_strerror(global));
	const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
	if (!(v->features & CURL_VERSION_ASYNCHDNS))
		return err_set(err, -ENOSYS,
			"libcurl %s waits for name servers: one that was built with "
			"asynchronous DNS is needed",
			v->version);
	if (v->version_num < LIBCURL_LEAST)
		return err_set(err, -ENOSYS, "libcurl %s is too old: 7.87 is needed", v->version);
	if (!(v->features & CURL_VERSION_SSL))
		return err_set(err, -ENOSYS, "libcurl %s cannot do TLS", v->version);
	http->ca_file = v->cainfo;
	http->ca_path = v->capath;
	return 0;
}

/* Calls beyond that wait: half of the descriptors are for others. */
static long connections_max(void)
{
	static const rlim_t most = 1 << 30;
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur > most)
		l.rlim_cur = most;
	return l.rlim_cur < 2 ? 1 : (long)(l.rlim_cur / 2);
}

static long part(long all, size_t parts)
{
	return all < (long)parts ? 1 : all / (long)parts;
}

void http_limit(struct http *http, size_t parts)
{
	http->parts = parts;
	if (http->inside || http->reading || http->parts_told == parts)
		return;
	http->parts_told = parts;
	curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, part(CACHED_MAX, parts));
	curl_multi_setopt(
		http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, part(connections_max(), parts));
}

int http_make(struct http **out, struct loop *loop, struct err *err)
{
	struct http *http = calloc(1, sizeof *http);
	if (!http)
		return err_set(err, -ENOMEM, "out of memory");
	http->loop = loop;
	http->first = http;
	http->idle_s = IDLE_S;
	http->timer.run = run_timer;
	http->sweep.run = run_sweep;
	http->parts = 1;
	struct list *const lists[] = {&http->calls, &http->starting, &http->dying, &http->spare,
		&http->timer.link, &http->sweep.link, &http->read_work.link, &http->look_work.link};
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		list_init(lists[i]);
	int r = check_libcurl(http, err);
	if (r == 0) {
		http->multi = curl_multi_init();
		http->broom = broom_new(http);
		if (!http->multi || !http->broom)
			r = err_set(err, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		http_free(http);
		return r;
	}
	*out = http;
	return 0;
}

void http_drive(struct http *http)
{
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, http_socket_watch);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	http->reading = false;
	http->at_work = true;
	settle(http);
	http->at_work = false;
}

int http_new(struct http **out, struct loop *loop, struct err *err)
{
	int r = http_make(out, loop, err);
	if (r < 0)
		return r;
	http_ca_read_system(*out);
	http_drive(*out);
	return 0;
}

static void end_calls(struct list *calls)
{
	while (!list_empty(calls)) {
		struct http_call *call = list_entry(calls->next, struct http_call, link);
		http_call_drop(call);
	}
}

struct http *http_free(struct http *http)
{
	if (!http)
		return NULL;
	http->ending = true;
	http_ca_read_end(http);
	http_ca_end(http);
	end_calls(&http->calls);
	end_calls(&http->starting);
	end_calls(&http->dying);
	if (http->sweeping)
		curl_multi_remove_handle(http->multi, http->broom);
	curl_easy_cleanup(http->broom);
	http_easy_end(http);
	curl_multi_cleanup(http->multi);
	loop_disarm(http->loop, &http->timer);
	loop_disarm(http->loop, &http->sweep);
	http_socket_end(http);
	free(http);
	return NULL;
}

void http_idle(struct http *http, unsigned seconds)
{
	for (size_t i = 0; i < http->n_of_ca; i++)
		http_idle(http->of_ca[i], seconds);
	http->idle_s = (long)seconds;
	http_easy_end(http);
	curl_easy_setopt(http->broom, CURLOPT_MAXAGE_CONN, http->idle_s);
	if (http->will_sweep)
		loop_arm(http->loop, &http->sweep, clock_mono_ns() + sweep_ns(http));
}

void http_count(const struct http *http, size_t *running, size_t *connections)
{
	*running = atomic_load(&http->all_running);
	*connections = atomic_load(&http->all_connections);
}
