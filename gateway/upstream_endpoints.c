/* SPDX-License-Identifier: Apache-2.0 */
/* The file `endpoint` of a model: a URL a line, with an optional weight behind it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/upstream.h"

enum { WEIGHT_MAX = 1000 };

/* "weight=N". */
static int parse_weight(const char *word, uint32_t *out, struct err *err)
{
	static const char key[] = "weight=";
	const char *digits = word + sizeof key - 1;
	unsigned long n = 0;
	if (!strncmp(word, key, sizeof key - 1) && *digits && strlen(digits) <= 4 &&
		strspn(digits, "0123456789") == strlen(digits))
		n = strtoul(digits, NULL, 10);
	*out = (uint32_t)n;
	return n >= 1 && n <= WEIGHT_MAX
		       ? 0
		       : err_set(err, -EINVAL, "behind a URL there may be weight=N, from 1 to %d",
				 WEIGHT_MAX);
}

/* What is copied from a manual often has the path of one call behind it. */
static int check_end(const char *url, struct err *err)
{
	static const char *const calls[] = {"/chat/completions", "/embeddings", "/messages"};
	size_t len = strlen(url);
	while (len && url[len - 1] == '/')
		len--;
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		size_t n = strlen(calls[i]);
		if (len > n && !memcmp(url + len - n, calls[i], n))
			return err_set(err, -EINVAL,
				"a URL here ends before %s, which is added to it, as in "
				"https://api.openai.com/v1",
				calls[i]);
	}
	return 0;
}

static int parse_line(char *line, struct upstream_endpoint *out, struct err *err)
{
	static const char blank[] = " \t\r";
	char *rest = NULL, *url = strtok_r(line, blank, &rest);
	char *weight = strtok_r(NULL, blank, &rest);
	int r = http_url_check(url, strlen(url), err);
	*out = (struct upstream_endpoint){.url = url, .weight = 1};
	if (r == 0 && strpbrk(url, "?#"))
		r = err_set(err, -EINVAL, "a URL here has no ? and no #: paths come behind it");
	if (r == 0)
		r = check_end(url, err);
	if (r == 0 && weight)
		r = parse_weight(weight, &out->weight, err);
	if (r == 0 && weight && strtok_r(NULL, blank, &rest))
		r = err_set(err, -EINVAL, "a line has a URL and perhaps weight=N, no more");
	/* Paths begin with a slash themselves. */
	for (size_t n = strlen(url); r == 0 && n && url[n - 1] == '/'; n--)
		url[n - 1] = '\0';
	return r;
}

int upstream_endpoints_parse(const char *text, size_t len, char **copy,
	struct upstream_endpoint out[UPSTREAM_ENDPOINTS_MAX], size_t *n, struct err *err)
{
	int r = 0;
	*n = 0;
	*copy = strndup(text, len);
	if (!*copy)
		return err_set(err, -ENOMEM, "out of memory");
	if (strlen(*copy) != len)
		r = err_set(err, -EINVAL, "a URL has no zero byte");
	char *next = *copy, *line;
	while (r == 0 && (line = strsep(&next, "\n"))) {
		if (!line[strspn(line, " \t\r")])
			continue;
		if (*n == UPSTREAM_ENDPOINTS_MAX)
			r = err_set(err, -EINVAL, "at most %d endpoints", UPSTREAM_ENDPOINTS_MAX);
		else
			r = parse_line(line, &out[(*n)++], err);
	}
	if (r == 0 && !*n)
		r = err_set(err, -EINVAL,
			"must be the URL of a server, http://HOST[:PORT]/... or https://..., or "
			"nothing");
	if (r < 0) {
		free(*copy);
		*copy = NULL;
		*n = 0;
	}
	return r;
}
