/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers: what stands in Authorization, and how OpenAI writes limits and times. Any thread; no
 * state.
 */
#include "gateway/shim_head.h"

#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "gateway/gateway_accounts.h"

const char *shim_head_secret(const char *value, size_t *len)
{
	static const char scheme[] = "Bearer";
	size_t n = sizeof scheme - 1;
	*len = 0;
	if (!value || strncasecmp(value, scheme, n) || (value[n] != ' ' && value[n] != '\t'))
		return NULL;
	const char *secret = value + n + strspn(value + n, " \t");
	size_t left = strlen(secret);
	while (left && (secret[left - 1] == ' ' || secret[left - 1] == '\t'))
		left--;
	*len = left;
	return left ? secret : NULL;
}

void shim_head_span(char out[32], uint64_t ms)
{
	uint64_t s = ms / 1000 + (ms % 1000 != 0);
	if (ms < 1000)
		snprintf(out, 32, "%" PRIu64 "ms", ms);
	else if (ms < 60000 && ms % 1000)
		snprintf(out, 32, "%" PRIu64 ".%03" PRIu64 "s", ms / 1000, ms % 1000);
	else if (s < 60)
		snprintf(out, 32, "%" PRIu64 "s", s);
	else if (s < 3600)
		snprintf(out, 32, "%" PRIu64 "m%" PRIu64 "s", s / 60, s % 60);
	else
		snprintf(out, 32, "%" PRIu64 "h%" PRIu64 "m%" PRIu64 "s", s / 3600, s / 60 % 60,
			s % 60);
}

uint64_t shim_head_retry_s(uint64_t ms)
{
	uint64_t s = ms / 1000 + (ms % 1000 != 0);
	return s ? s : 1;
}

static void add_rate(
	struct MHD_Response *response, const char *of_what, const struct gateway_rate *rate)
{
	char name[48], value[32];
	if (rate->limit == UINT64_MAX)
		return;
	snprintf(name, sizeof name, "x-ratelimit-limit-%s", of_what);
	snprintf(value, sizeof value, "%" PRIu64, rate->limit);
	MHD_add_response_header(response, name, value);
	snprintf(name, sizeof name, "x-ratelimit-remaining-%s", of_what);
	snprintf(value, sizeof value, "%" PRIu64, rate->remaining);
	MHD_add_response_header(response, name, value);
	snprintf(name, sizeof name, "x-ratelimit-reset-%s", of_what);
	shim_head_span(value, rate->reset_ms);
	MHD_add_response_header(response, name, value);
}

void shim_head_rates(struct MHD_Response *response, const struct gateway_rates *rates)
{
	add_rate(response, "requests", &rates->requests);
	add_rate(response, "tokens", &rates->tokens);
}
