/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call: one block of memory with the object, its headers and, unless it is lent, its body. Its
 * easy handle (http_easy.c) knows where it goes, and is told here what differs from the call
 * before.
 *
 * While libcurl is inside one of the callbacks here (http->inside), it may not be asked to add or
 * remove a handle: calls that begin, end or fail there are put on a list, and http.c deals with
 * them as soon as it is out.
 *
 * Time: libcurl counts the time to connect; the first byte, silence and the whole are counted here,
 * by one timer a call that is armed for the earliest moment that matters and looks, when it rings,
 * whether something came meanwhile. So a piece of an answer costs a reading of the clock. (An end
 * for the whole that libcurl made would not reach a server over HTTP/2: see `leave`.)
 *
 * A call whose certificates are being read waits on the list of those that begin; the time to
 * connect is counted here for so long, and libcurl has what is left of it.
 *
 * Headers are wiped when a call ends. libcurl's copies of them, in the request that it sent, are
 * freed by it as they are.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "gateway/http_parts.h"

#define HEADERS_MAX 64
#define BYTES_MAX ((size_t)64 << 20)
enum { TOTAL_LATE_MS = 1000 };

/* ---- what libcurl calls ---- */

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct http_call *call = arg;
	int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
	if (fd < 0) {
		call->socket_errno = errno;
		return CURL_SOCKET_BAD;
	}
	call->opened[call->n_opened++ % HTTP_OPENED_MAX] = fd;
	return fd;
}

static bool has_port(int fd, int port)
{
	struct sockaddr_in6 a; /* its port is where that of IPv4 is */
	socklen_t len = sizeof a;
	return getsockname(fd, (struct sockaddr *)&a, &len) == 0 && ntohs(a.sin6_port) == port;
}

/* The connection stands; the request is sent next. Also when it is sent again, on another
 * connection than one that turned out to be closed. */
static int on_connected(void *arg, char *ip, char *local_ip, int port, int local_port)
{
	struct http_call *call = arg;
	call->connected = true;
	call->connected_ns = clock_mono_ns();
	for (unsigned i = 0; i < HTTP_OPENED_MAX && i < call->n_opened; i++)
		if (has_port(call->opened[i], local_port))
			http_socket_connected(call->http, call->opened[i]);
	call->n_opened = 0;
	uint64_t first_ms = call->limit_ms[HTTP_TIMEOUT_FIRST];
	if (first_ms)
		loop_arm_earlier(
			call->http->loop, &call->timer, call->connected_ns + first_ms * HTTP_MS);
	return CURL_PREREQFUNC_OK;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct http_call *call = arg;
	http_head_line(&call->head, line, size * n, time(NULL));
	return size * n;
}

static void cancel_later(struct http_call *call)
{
	call->cancelled = true;
	list_remove(&call->link);
	list_append(&call->http->dying, &call->link);
}

/* The answer is not read to its end. Over HTTP/2 libcurl 7.88 keeps the end of a stream to itself
 * until something else happens on the connection; so where nothing else does, the connection is to
 * be closed, and the server stops. */
static size_t leave(struct http_call *call)
{
	curl_easy_setopt(call->easy->curl, CURLOPT_FORBID_REUSE, 1L);
	return CURL_WRITEFUNC_ERROR;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct http_call *call = arg;
	size_t len = size * n;
	if (call->cancelled || call->failed)
		return leave(call);
	if (len > call->max_bytes - call->bytes) {
		call->too_long = true;
		return leave(call);
	}
	call->bytes += len;
	call->last_ns = clock_mono_ns();
	uint64_t idle_ms = call->limit_ms[HTTP_TIMEOUT_IDLE];
	if (!call->got_body && idle_ms)
		loop_arm_earlier(call->http->loop, &call->timer, call->last_ns + idle_ms * HTTP_MS);
	call->got_body = true;
	if (call->data && !call->data(call->arg, &call->head, bytes, len) && !call->cancelled)
		cancel_later(call);
	return call->cancelled ? leave(call) : len;
}

void http_call_listen(CURL *curl)
{
	curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, on_connected);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_open);
}

/* The call ends with HTTP_MEMORY as soon as libcurl is out. */
void http_call_fail_later(CURL *easy)
{
	struct http_call *call = NULL;
	curl_easy_getinfo(easy, CURLINFO_PRIVATE, &call);
	if (!call || call->cancelled)
		return;
	call->failed = true;
	list_remove(&call->link);
	list_append(&call->http->dying, &call->link);
}

/* ---- the end of calls ---- */

/* Out of libcurl, the timers and the lists; only the memory is left. */
static void detach(struct http_call *call)
{
	struct http *http = call->http;
	list_remove(&call->link);
	loop_disarm(http->loop, &call->timer);
	/* Before libcurl lets go of it: that asks for sockets to be watched, and where that fails,
	 * http_call_fail_later must not put it on a list again. */
	call->cancelled = true;
	if (call->added && !call->over)
		leave(call);
	if (call->added)
		curl_multi_remove_handle(http->multi, call->easy->curl);
	call->added = false;
	http_easy_give(http, call->easy);
	call->easy = NULL;
	http->n_running--;
	atomic_fetch_sub(&http->first->all_running, 1);
}

static void free_call(struct http_call *call)
{
	void (*released)(void *arg) = call->released;
	void *arg = call->arg;
	explicit_bzero(call->room, call->secret_len);
	free(call);
	if (released)
		released(arg);
}

/* What `done` is told; the call is gone after it. words: what happened to the host, or NULL. */
static void finish(struct http_call *call, enum http_fault fault, const char *words)
{
	char sentence[HTTP_HOST_SIZE + 192] = "";
	if (words)
		snprintf(sentence, sizeof sentence, "%s: %s", call->easy->host, words);
	detach(call);
	call->done(call->arg, fault, &call->head, sentence);
	free_call(call);
}

/* Limits of time, named by what passing them is. */
static void finish_too_late(struct http_call *call, enum http_fault fault)
{
	static const char *const missing[] = {
		[HTTP_TIMEOUT_CONNECT] = "no connection",
		[HTTP_TIMEOUT_FIRST] = "no answer",
		[HTTP_TIMEOUT_IDLE] = "its answer stopped in the middle: nothing more",
		[HTTP_TIMEOUT_TOTAL] = "no end of its answer",
	};
	const char *what = missing[fault], *hint = "";
	char words[160];
	if (fault == HTTP_TIMEOUT_CONNECT && call->added && http_easy_waits_for_tls(call->easy)) {
		what = "connected, but no TLS";
		hint = ": is it a server of http://?";
	}
	snprintf(words, sizeof words, "%s within %" PRIu64 " ms%s", what, call->limit_ms[fault],
		hint);
	finish(call, fault, words);
}

/* When a limit that is counted from then is passed. */
static uint64_t limit_at(const struct http_call *call, enum http_fault fault, uint64_t since_ns)
{
	uint64_t ms = call->limit_ms[fault];
	return ms ? since_ns + ms * HTTP_MS : UINT64_MAX;
}

static void ring(struct loop_timer *t)
{
	struct http_call *call = list_entry(t, struct http_call, timer);
	enum http_fault silence = call->got_body ? HTTP_TIMEOUT_IDLE : HTTP_TIMEOUT_FIRST;
	uint64_t total_ns = limit_at(call, HTTP_TIMEOUT_TOTAL, call->begun_ns);
	uint64_t silent_ns = UINT64_MAX;
	if (call->connected) {
		silent_ns = limit_at(
			call, silence, call->got_body ? call->last_ns : call->connected_ns);
	} else if (!call->added) {
		silence = HTTP_TIMEOUT_CONNECT;
		silent_ns = limit_at(call, silence, call->begun_ns);
	}
	uint64_t at_ns = total_ns < silent_ns ? total_ns : silent_ns;
	if (at_ns == UINT64_MAX)
		return;
	if (clock_mono_ns() < at_ns)
		loop_arm(call->http->loop, t, at_ns);
	else
		finish_too_late(call, total_ns <= silent_ns ? HTTP_TIMEOUT_TOTAL : silence);
}

/* Its certificates were not read: they are no good, or there is no descriptor to read them with,
 * which is no fault of the server, and may be over with the next call. */
static void finish_unread(struct http_call *call)
{
	const struct http_ca *ca = call->http->ca;
	const char *systems = call->http->first->ca_file;
	char words[160];
	if (ca && !atomic_load(&ca->emptied) && !http_ca_opens(ca)) {
		finish(call, HTTP_MEMORY, "no descriptor left to read certificates with");
		return;
	}
	snprintf(words, sizeof words, "no secure connection: the certificates of %s cannot be read",
		call->easy->own_ca ? "ca_file"
		: systems          ? systems
				   : "the system");
	finish(call, HTTP_CONNECT, words);
}

void http_call_end(struct http_call *call, CURLcode code)
{
	char words[160];
	long os_error = 0;
	call->over = true;
	if (code == CURLE_OPERATION_TIMEDOUT) {
		uint64_t total = call->limit_ms[HTTP_TIMEOUT_TOTAL];
		bool over = total && clock_mono_ns() - call->begun_ns + HTTP_MS >= total * HTTP_MS;
		finish_too_late(
			call, over || call->connected ? HTTP_TIMEOUT_TOTAL : HTTP_TIMEOUT_CONNECT);
		return;
	}
	if (call->too_long) {
		snprintf(words, sizeof words, "its answer is longer than %zu bytes",
			call->max_bytes);
		finish(call, HTTP_TOO_LONG, words);
		return;
	}
	if (code == CURLE_OK) {
		finish(call, HTTP_OK, NULL);
		return;
	}
	if (code == CURLE_SSL_CACERT_BADFILE) {
		finish_unread(call);
		return;
	}
	curl_easy_getinfo(call->easy->curl, CURLINFO_OS_ERRNO, &os_error);
	if (code == CURLE_COULDNT_CONNECT && call->socket_errno)
		os_error = call->socket_errno;
	http_fault_words(code, call->detail, os_error, words, sizeof words);
	finish(call, http_fault_of(code, call->connected), words);
}

/* It may have waited for its certificates. */
static void keep_to_connect_time(struct http_call *call)
{
	uint64_t ms = call->limit_ms[HTTP_TIMEOUT_CONNECT];
	uint64_t gone_ms = (clock_mono_ns() - call->begun_ns) / HTTP_MS;
	if (ms && gone_ms)
		curl_easy_setopt(call->easy->curl, CURLOPT_CONNECTTIMEOUT_MS,
			gone_ms < ms ? (long)(ms - gone_ms) : 1L);
}

void http_call_add(struct http_call *call)
{
	struct http *http = call->http;
	list_remove(&call->link);
	list_append(&http->calls, &call->link);
	keep_to_connect_time(call);
	if (curl_multi_add_handle(http->multi, call->easy->curl) == CURLM_OK)
		call->added = true;
	else
		finish(call, HTTP_MEMORY, "out of memory");
}

void http_call_fail(struct http_call *call)
{
	finish(call, HTTP_MEMORY, "no memory or no descriptor left");
}

void http_call_drop(struct http_call *call)
{
	detach(call);
	free_call(call);
}

struct http_call *http_cancel(struct http_call *call)
{
	if (!call || call->cancelled)
		return NULL;
	if (call->http->inside) {
		cancel_later(call);
	} else {
		http_call_drop(call);
	}
	return NULL;
}

/* ---- the beginning of calls ---- */

/* What the handle does not know of where the request goes. */
static CURLcode set_up(struct http_call *call, const struct http_request *q)
{
	CURL *e = call->easy->curl;
	struct curl_slist *headers = call->headers;
	curl_easy_setopt(e, CURLOPT_PRIVATE, call);
	curl_easy_setopt(e, CURLOPT_PREREQDATA, call);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, call);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, call);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, call);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, call->detail);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)q->connect_ms);
	/* Should not come to it: see `ring`. */
	curl_easy_setopt(
		e, CURLOPT_TIMEOUT_MS, q->total_ms ? (long)(q->total_ms + TOTAL_LATE_MS) : 0L);
	if (strcmp(q->method, "POST"))
		return curl_easy_setopt(e, CURLOPT_HTTPGET, 1L);
	curl_easy_setopt(e, CURLOPT_POST, 1L);
	curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
	return curl_easy_setopt(e, CURLOPT_POSTFIELDS, call->body);
}

static int check(
	const struct http_request *q, size_t *n_headers, size_t *header_bytes, struct err *err)
{
	int r = http_url_check(q->url, strlen(q->url), err);
	if (r == 0 && strcmp(q->method, "GET") && strcmp(q->method, "POST"))
		r = err_set(err, -EINVAL, "a method is GET or POST");
	for (const char *const *h = q->headers; r == 0 && h && *h; h++) {
		r = http_head_check(*h, err);
		(*n_headers)++;
		*header_bytes += strlen(*h) + 1;
	}
	if (r == 0 && *n_headers > HEADERS_MAX)
		r = err_set(err, -EINVAL, "more than %d headers", HEADERS_MAX);
	return r;
}

/* Headers and body into the call's own memory. "Expect:" with nothing behind it: libcurl does not
 * ask the server's leave before it sends a long body, which costs a round trip. */
static void fill(struct http_call *call, const struct http_request *q, size_t n_headers)
{
	static char no_expect[] = "Expect:";
	char *at = call->room;
	for (size_t i = 0; i < n_headers; i++) {
		size_t n = strlen(q->headers[i]) + 1;
		memcpy(at, q->headers[i], n);
		call->headers[i] = (struct curl_slist){at, &call->headers[i + 1]};
		at += n;
	}
	call->headers[n_headers] = (struct curl_slist){no_expect, NULL};
	call->body = q->released ? q->body : at;
	if (q->body_len && !q->released)
		memcpy(at, q->body, q->body_len);
	call->max_bytes = q->max_bytes ? q->max_bytes : BYTES_MAX;
	call->limit_ms[HTTP_TIMEOUT_CONNECT] = q->connect_ms;
	call->limit_ms[HTTP_TIMEOUT_FIRST] = q->first_ms;
	call->limit_ms[HTTP_TIMEOUT_IDLE] = q->idle_ms;
	call->limit_ms[HTTP_TIMEOUT_TOTAL] = q->total_ms;
	call->data = q->data;
	call->done = q->done;
	call->arg = q->arg;
}

int http_begin(
	struct http_call **out, struct http *http, const struct http_request *q, struct err *err)
{
	size_t n_headers = 0, secret_len = 0;
	int r = check(q, &n_headers, &secret_len, err);
	if (r < 0)
		return r;
	http = http_ca_handle(http, q);
	size_t fixed = sizeof(struct http_call) + (n_headers + 1) * sizeof(struct curl_slist);
	struct http_call *call = malloc(fixed + secret_len + (q->released ? 0 : q->body_len) + 1);
	struct http_easy *easy = http_easy_take(http, q);
	if (!call || !easy) {
		http_easy_give(http, easy);
		free(call);
		return err_set(err, -ENOMEM, "out of memory");
	}
	memset(call, 0, fixed);
	call->http = http;
	call->easy = easy;
	call->room = (char *)call + fixed;
	call->secret_len = secret_len;
	call->begun_ns = clock_mono_ns();
	call->timer.run = ring;
	list_init(&call->timer.link);
	list_init(&call->link);
	fill(call, q, n_headers);
	if (!http->n_running++ && !http->n_connections)
		http_ca_share(http->first);
	atomic_fetch_add(&http->first->all_running, 1);
	if (set_up(call, q) != CURLE_OK)
		r = -ENOMEM;
	else if (http->inside || http->reading)
		list_append(&http->starting, &call->link);
	else if (curl_multi_add_handle(http->multi, easy->curl) != CURLM_OK)
		r = -ENOMEM;
	else
		call->added = true;
	if (r < 0) {
		http_call_drop(call);
		return err_set(err, r, "out of memory");
	}
	if (call->added)
		list_append(&http->calls, &call->link);
	call->released = q->released;
	if (q->total_ms)
		loop_arm_earlier(http->loop, &call->timer,
			limit_at(call, HTTP_TIMEOUT_TOTAL, call->begun_ns));
	if (q->connect_ms && http->reading)
		loop_arm_earlier(http->loop, &call->timer,
			limit_at(call, HTTP_TIMEOUT_CONNECT, call->begun_ns));
	*out = call;
	return 0;
}
