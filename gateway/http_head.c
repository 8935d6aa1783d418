/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of HTTP that are looked at here and not by libcurl: URLs and headers before they are
 * sent, the few headers of a response that mean something to us, and what an error is called.
 *
 * The check of a URL is stricter than libcurl's parser, which forgives a lot: what is allowed here
 * can be said in one sentence, and a password in a URL, which would get into logs, is refused.
 */
#include "gateway/http_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define URL_MAX 8192
#define RETRY_MOST_MS ((uint64_t)24 * 3600 * 1000)
#define TOKEN_SIGNS "!#$%&'*+-.^_`|~"
#define HOST_SIGNS "-._~%"
#define BAD_URL_ALLOWED "must be http://HOST[:PORT]/... or https://..."

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Where the authority begins; 0: neither http nor https. */
static size_t scheme_len(const char *url, size_t len)
{
	if (len >= 7 && !strncasecmp(url, "http://", 7))
		return 7;
	if (len >= 8 && !strncasecmp(url, "https://", 8))
		return 8;
	return 0;
}

static size_t authority_len(const char *s, size_t len)
{
	size_t n = 0;
	while (n < len && s[n] != '/' && s[n] != '?' && s[n] != '#')
		n++;
	return n;
}

/* The bytes of the host in an authority without a user; 0: there is none. */
static size_t host_len(const char *s, size_t len)
{
	size_t n = 0;
	if (len && s[0] == '[') {
		for (n = 1; n < len && (is_alnum(s[n]) || s[n] == ':' || s[n] == '.');)
			n++;
		return n > 2 && n < len && s[n] == ']' ? n + 1 : 0;
	}
	while (n < len &&
		(is_alnum(s[n]) || ((unsigned char)s[n] & 0x80) || strchr(HOST_SIGNS, s[n])))
		n++;
	return n;
}

static bool is_port(const char *s, size_t len)
{
	unsigned port = 0;
	if (len < 2 || len > 6 || s[0] != ':')
		return false;
	for (size_t i = 1; i < len; i++) {
		if (!is_digit(s[i]))
			return false;
		port = port * 10 + (unsigned)(s[i] - '0');
	}
	return port > 0 && port < 65536;
}

int http_url_check(const char *url, size_t len, struct err *err)
{
	if (len > URL_MAX)
		return err_set(err, -EINVAL, "a URL has at most %d bytes", URL_MAX);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)url[i] <= ' ' || url[i] == 0x7f)
			return err_set(err, -EINVAL,
				"a URL has no spaces, line breaks or control characters");
	size_t begin = scheme_len(url, len);
	if (!begin)
		return err_set(err, -EINVAL, "a URL " BAD_URL_ALLOWED);
	const char *authority = url + begin;
	size_t n = authority_len(authority, len - begin);
	if (memchr(authority, '@', n))
		return err_set(err, -EINVAL,
			"a URL has no user or password in it: the key belongs in `key`");
	size_t host = host_len(authority, n);
	if (!host)
		return err_set(err, -EINVAL, "a URL without a host: it " BAD_URL_ALLOWED);
	if (host < n && !is_port(authority + host, n - host))
		return err_set(err, -EINVAL,
			"what follows the host of a URL is not a port from 1 to 65535");
	return 0;
}

void http_url_host(const char *url, char out[HTTP_HOST_SIZE])
{
	size_t len = strlen(url), begin = scheme_len(url, len);
	size_t n = authority_len(url + begin, len - begin);
	snprintf(out, HTTP_HOST_SIZE, "%.*s", (int)n, url + begin);
}

static size_t token_len(const char *s)
{
	size_t n = 0;
	while (s[n] && (is_alnum(s[n]) || strchr(TOKEN_SIGNS, s[n])))
		n++;
	return n;
}

int http_head_check(const char *header, struct err *err)
{
	size_t name = token_len(header);
	if (!name || header[name] != ':')
		return err_set(err, -EINVAL, "a header is \"name: value\"");
	for (const char *s = header + name; *s; s++)
		if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f)
			return err_set(err, -EINVAL,
				"the value of header %.*s has a line break or a control character",
				(int)(name < 64 ? name : 64), header);
	return 0;
}

/* The value of a line when it has that name (lower case); NULL when not. */
static const char *value_of(const char *line, size_t len, const char *name, size_t *value_len)
{
	size_t n = strlen(name);
	if (len <= n || line[n] != ':' || strncasecmp(line, name, n))
		return NULL;
	const char *v = line + n + 1, *end = line + len;
	while (v < end && (*v == ' ' || *v == '\t'))
		v++;
	while (end > v && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*value_len = (size_t)(end - v);
	return v;
}

/* A decimal number, perhaps with a fraction, in thousandths; false: it is none. */
static bool read_thousandths(const char *s, size_t len, uint64_t *out)
{
	uint64_t whole = 0, fraction = 0, unit = 1000;
	size_t i = 0;
	for (; i < len && is_digit(s[i]); i++)
		whole = whole > RETRY_MOST_MS ? whole : whole * 10 + (uint64_t)(s[i] - '0');
	if (!i)
		return false;
	if (i < len && s[i] == '.')
		for (i++; i < len && is_digit(s[i]); i++) {
			unit /= 10;
			fraction += unit * (uint64_t)(s[i] - '0');
		}
	*out = whole * 1000 + fraction;
	return i == len;
}

static void read_retry_after(
	struct http_response *head, const char *v, size_t len, bool ms, int64_t now_s)
{
	char room[64];
	uint64_t n = 0;
	if (read_thousandths(v, len, &n)) {
		n = ms ? n / 1000 : n;
	} else if (!ms && len < sizeof room) {
		memcpy(room, v, len);
		room[len] = '\0';
		time_t at = curl_getdate(room, NULL);
		if (at == -1)
			return;
		n = at > now_s ? (uint64_t)(at - now_s) * 1000 : 0;
	} else { /* neither: another header may be good */
		return;
	}
	head->retry_after_ms = n < RETRY_MOST_MS ? n : RETRY_MOST_MS;
	head->retry_after_exact = head->retry_after_exact || ms;
}

static void read_content_type(struct http_response *head, const char *v, size_t len)
{
	size_t n = 0;
	for (; n < len && n + 1 < sizeof head->content_type; n++) {
		if (v[n] == ';' || v[n] <= ' ' || v[n] == 0x7f)
			break;
		head->content_type[n] = v[n] >= 'A' && v[n] <= 'Z' ? (char)(v[n] + 32) : v[n];
	}
	head->content_type[n] = '\0';
}

static void read_request_id(struct http_response *head, const char *v, size_t len)
{
	if (!len || len >= sizeof head->request_id)
		return;
	for (size_t i = 0; i < len; i++)
		if (v[i] < '!' || v[i] > '~')
			return;
	memcpy(head->request_id, v, len);
	head->request_id[len] = '\0';
}

/* "HTTP/1.1 429 Too Many Requests" */
static void read_status(struct http_response *head, const char *line, size_t len)
{
	const char *space = memchr(line, ' ', len);
	memset(head, 0, sizeof *head);
	if (space && line + len - space > 3)
		head->status = strtol(space, NULL, 10);
}

void http_head_line(struct http_response *head, const char *line, size_t len, int64_t now_s)
{
	size_t n;
	const char *v;
	while (len && (line[len - 1] == '\r' || line[len - 1] == '\n'))
		len--;
	if (len > 5 && !strncasecmp(line, "HTTP/", 5))
		read_status(head, line, len);
	else if ((v = value_of(line, len, "content-type", &n)))
		read_content_type(head, v, n);
	else if ((v = value_of(line, len, "retry-after-ms", &n)))
		read_retry_after(head, v, n, true, now_s);
	else if (!head->retry_after_exact && (v = value_of(line, len, "retry-after", &n)))
		read_retry_after(head, v, n, false, now_s);
	else if ((v = value_of(line, len, "x-request-id", &n)) ||
		 (v = value_of(line, len, "request-id", &n)))
		read_request_id(head, v, n);
}

enum http_fault http_fault_of(CURLcode code, bool connected)
{
	switch (code) {
	case CURLE_OK:
		return HTTP_OK;
	case CURLE_OUT_OF_MEMORY:
		return HTTP_MEMORY;
	default:
		return connected ? HTTP_BROKEN : HTTP_CONNECT;
	}
}

void http_fault_words(CURLcode code, const char *detail, long os_error, char *out, size_t size)
{
	char room[128];
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		snprintf(out, size, "there is no host of this name");
		break;
	case CURLE_COULDNT_RESOLVE_PROXY:
		snprintf(out, size, "there is no host of the proxy's name");
		break;
	case CURLE_COULDNT_CONNECT:
		snprintf(out, size, "cannot connect%s%s", os_error ? ": " : "",
			os_error ? strerror_r((int)os_error, room, sizeof room) : "");
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_ISSUER_ERROR:
		snprintf(out, size, "no secure connection: %s",
			detail[0] ? detail : curl_easy_strerror(code));
		break;
	case CURLE_GOT_NOTHING:
		snprintf(out, size, "it closed the connection without an answer");
		break;
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_PARTIAL_FILE:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		snprintf(out, size, "the connection broke off");
		break;
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
		snprintf(out, size, "what it sends is not HTTP");
		break;
	default:
		snprintf(out, size, "%s", curl_easy_strerror(code));
	}
	for (char *s = out; *s; s++)
		if (*s < ' ' || *s > '~')
			*s = '?';
}
