/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Easy handles of libcurl, and where each is set up to go. To take a URL apart, put it together
 * again and copy the names of certificates costs libcurl more than the rest of a short request, and
 * it is the same each time for the servers of a model. So a handle that a call is done with waits
 * in a pool as it is, with its URL parsed once (CURLOPT_CURLU), and the next call to the same place
 * finds it. A place has as many as were in use at a time; where the pool is full, the one that
 * waited longest goes.
 *
 * A place is a URL, with no proxy or the environment's, and with or without authorities of its own
 * (which ones is a matter of the http that the pool is of). What is rare is set each time, on
 * handles that are for no place: a proxy by name, which may hold a secret; authorities as bytes,
 * which are borrowed.
 *
 * libcurl copies a parsed URL for each request, and leaves out the zone of an IPv6 address:
 * http_url_check lets none in. The text of the URL is set as well: libcurl begins with that where a
 * connection turns out to be dead and the request is sent again.
 *
 * Thread: the loop's.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/http_parts.h"

enum { CA_KEPT_S = 24 * 60 * 60 };

CURL *http_easy_bare(struct http *http)
{
	CURL *e = curl_easy_init();
	if (!e)
		return NULL;
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, http->idle_s);
	curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "llmfs");
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, http_socket_close);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, http);
	return e;
}

static struct http_easy *easy_free(struct http_easy *easy)
{
	if (!easy)
		return NULL;
	curl_easy_cleanup(easy->curl);
	curl_url_cleanup(easy->parsed);
	free(easy->url);
	free(easy);
	return NULL;
}

static struct http_easy *easy_new(struct http *http)
{
	struct http_easy *easy = calloc(1, sizeof *easy);
	if (!easy)
		return NULL;
	easy->curl = http_easy_bare(http);
	if (!easy->curl)
		return easy_free(easy);
	http_call_listen(easy->curl);
	return easy;
}

/* ---- where it goes ---- */

/* Certificates are read once and kept, but only where they are a file, the system's or http_ca.c's,
 * and not a folder, nor bytes. */
static CURLcode set_ca(CURL *e, const struct http *http, struct http_ca *ca)
{
	bool as_bytes = ca && !http->ca;
	const char *file = http->ca ? http->ca->path : ca ? NULL : http->ca_file;
	const char *proxys = http->ca && !ca ? file : http->ca_file;
	curl_easy_setopt(e, CURLOPT_CAINFO, file);
	curl_easy_setopt(e, CURLOPT_CAPATH, file || ca ? NULL : http->ca_path);
	curl_easy_setopt(e, CURLOPT_PROXY_CAINFO, proxys);
	curl_easy_setopt(e, CURLOPT_PROXY_CAPATH, proxys ? NULL : http->ca_path);
	/* A set never changes; the system's file may. */
	curl_easy_setopt(e, CURLOPT_CA_CACHE_TIMEOUT, http->ca ? -1L : (long)CA_KEPT_S);
	if (!as_bytes)
		return CURLE_OK;
	struct curl_blob blob = {ca->pem, ca->len, CURL_BLOB_NOCOPY};
	return curl_easy_setopt(e, CURLOPT_CAINFO_BLOB, &blob);
}

/* What libcurl cannot parse it will refuse in its own words, by the text. */
static CURLcode set_url(struct http_easy *easy, const char *url)
{
	curl_easy_setopt(easy->curl, CURLOPT_CURLU, NULL);
	curl_url_cleanup(easy->parsed);
	easy->parsed = curl_url();
	if (!easy->parsed)
		return CURLE_OUT_OF_MEMORY;
	CURLUcode r = curl_url_set(easy->parsed, CURLUPART_URL, url, CURLU_DISALLOW_USER);
	if (r == CURLUE_OUT_OF_MEMORY)
		return CURLE_OUT_OF_MEMORY;
	if (r == CURLUE_OK)
		curl_easy_setopt(easy->curl, CURLOPT_CURLU, easy->parsed);
	return curl_easy_setopt(easy->curl, CURLOPT_URL, url);
}

static bool is_place(const struct http *http, const struct http_request *q)
{
	return !(q->proxy && *q->proxy) && !(q->ca && !http->ca);
}

/* Whether it is set up to go there. */
static bool goes_to(const struct http_easy *easy, const struct http_request *q)
{
	return easy->url && easy->direct == (q->proxy != NULL) && easy->own_ca == (q->ca != NULL) &&
	       !strcmp(easy->url, q->url);
}

/* False: memory is out. */
static bool set_up(struct http_easy *easy, const struct http *http, const struct http_request *q)
{
	free(easy->url);
	easy->url = NULL;
	easy->direct = q->proxy != NULL;
	easy->proxied = q->proxy && *q->proxy;
	easy->own_ca = q->ca != NULL;
	http_url_host(q->url, easy->host);
	curl_easy_setopt(easy->curl, CURLOPT_NOPROXY, q->proxy ? "" : NULL);
	if (set_url(easy, q->url) != CURLE_OK || set_ca(easy->curl, http, q->ca) != CURLE_OK ||
		curl_easy_setopt(easy->curl, CURLOPT_PROXY, q->proxy) != CURLE_OK)
		return false;
	if (is_place(http, q)) /* without memory for it, it is set up again the next time */
		easy->url = strdup(q->url);
	return true;
}

/* ---- the pool ---- */

static struct http_easy *take_out(struct http *http, size_t i)
{
	struct http_easy *easy = http->pool[i];
	http->n_pool--;
	for (; i < http->n_pool; i++)
		http->pool[i] = http->pool[i + 1];
	return easy;
}

struct http_easy *http_easy_take(struct http *http, const struct http_request *q)
{
	bool place = is_place(http, q);
	struct http_easy *easy = NULL;
	for (size_t i = http->n_pool; !easy && i-- > 0;)
		if (place ? goes_to(http->pool[i], q) : !http->pool[i]->url)
			easy = take_out(http, i);
	if (easy && place)
		return easy;
	if (!easy)
		easy = http->n_pool == HTTP_POOL_MAX ? take_out(http, 0) : easy_new(http);
	return easy && !set_up(easy, http, q) ? easy_free(easy) : easy;
}

void http_easy_give(struct http *http, struct http_easy *easy)
{
	if (!easy)
		return;
	curl_easy_setopt(easy->curl, CURLOPT_FORBID_REUSE, 0L);
	curl_easy_setopt(easy->curl, CURLOPT_HTTPHEADER, NULL);
	curl_easy_setopt(easy->curl, CURLOPT_POSTFIELDS, NULL);
	curl_easy_setopt(easy->curl, CURLOPT_ERRORBUFFER, NULL);
	curl_easy_setopt(easy->curl, CURLOPT_PRIVATE, NULL);
	if (!easy->url) { /* what is lent, and what may be secret */
		curl_easy_setopt(easy->curl, CURLOPT_CAINFO_BLOB, NULL);
		curl_easy_setopt(easy->curl, CURLOPT_PROXY, NULL);
	}
	if (http->ending) {
		easy_free(easy);
		return;
	}
	if (http->n_pool == HTTP_POOL_MAX)
		easy_free(take_out(http, 0));
	http->pool[http->n_pool++] = easy;
}

void http_easy_end(struct http *http)
{
	while (http->n_pool)
		easy_free(http->pool[--http->n_pool]);
}

/* There is one for https, though perhaps not for each host. */
static bool environment_has_proxy(void)
{
	static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *value = getenv(names[i]);
		if (value && *value)
			return true;
	}
	return false;
}

bool http_easy_waits_for_tls(const struct http_easy *e)
{
	if (e->proxied || (!e->direct && environment_has_proxy()))
		return false;
	long port = 0;
	const char *url = NULL;
	curl_easy_getinfo(e->curl, CURLINFO_EFFECTIVE_URL, &url);
	/* libcurl's times are 0 until both are done, in 7.88 at least. */
	curl_easy_getinfo(e->curl, CURLINFO_LOCAL_PORT, &port);
	return url && !strncasecmp(url, "https:", 6) && port > 0;
}
