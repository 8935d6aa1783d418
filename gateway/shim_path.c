/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The URLs of the HTTP front end, one row each: what is not here is not found. A query behind a
 * URL means nothing to any of them; libmicrohttpd has taken it off.
 */
#include "gateway/shim_path.h"

#include <string.h>

#include "gateway/shim_asked.h"
#include "gateway/shim_embed.h"
#include "gateway/shim_shown.h"

static const struct shim_path paths[] = {
	{"/health", false, false, 0, shim_shown_health},
	{"/ready", false, false, 0, shim_shown_ready},
	{"/metrics", false, false, 0, shim_shown_metrics},
	{"/v1/models", false, false, API_MODELS, shim_shown_models},
	{"/v1/models/", true, false, API_MODELS, shim_shown_model},
	{"/v1/chat/completions", false, true, API_CHAT, shim_asked_chat},
	{"/v1/completions", false, true, API_COMPLETIONS, shim_asked_completion},
	{"/v1/embeddings", false, true, API_EMBEDDINGS, shim_embed_begin},
};

const struct shim_path *shim_path_find(const char *url, const char **rest)
{
	*rest = "";
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		const struct shim_path *p = &paths[i];
		size_t n = strlen(p->url);
		if (!p->prefix && strcmp(url, p->url) == 0)
			return p;
		if (p->prefix && strncmp(url, p->url, n) == 0 && url[n] && !strchr(url + n, '/')) {
			*rest = url + n;
			return p;
		}
	}
	return NULL;
}

const char *shim_path_allow(const struct shim_path *path)
{
	return path->posts ? "POST, OPTIONS" : "GET, HEAD, OPTIONS";
}

bool shim_path_takes(const struct shim_path *path, const char *method)
{
	if (path->posts)
		return strcmp(method, "POST") == 0;
	return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}
