/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which answer of HTTP an errno of the pipeline is: a row each. Clients look at the status, to know
 * whether to try again, and at the code; both are OpenAI's where it has them. A spent budget is 429
 * there as well, but trying again does not help: no_retry.
 */
#include <errno.h>
#include <stddef.h>

#include "gateway/shim_reply.h"

static const char invalid[] = "invalid_request_error", server[] = "server_error",
		  rate[] = "rate_limit_error";

static const struct row {
	int code;
	struct shim_error error;
} rows[] = {
	{EPERM, {400, invalid, "content_filter", true}},
	{EINVAL, {400, invalid, "invalid_value", true}},
	{EILSEQ, {400, invalid, "invalid_value", true}},
	{ENOTSUP, {400, invalid, "unsupported_value", true}},
	{EMSGSIZE, {400, invalid, "context_length_exceeded", true}},
	{EFBIG, {413, invalid, "request_too_large", true}},
	{EACCES, {502, server, "bad_upstream", true}}, /* its key there is refused */
	{ENOENT, {404, invalid, "model_not_found", true}},
	{EDQUOT, {429, "insufficient_quota", "insufficient_quota", true}},
	{EAGAIN, {429, rate, "rate_limit_exceeded", false}},
	{EBUSY, {429, rate, "rate_limit_exceeded", false}},
	{EPROTO, {502, server, "bad_upstream", true}}, /* what may help was tried by us */
	{EHOSTUNREACH, {503, server, "model_unavailable", false}},
	{ESHUTDOWN, {503, server, "shutting_down", false}},
	{ECANCELED, {503, server, "cancelled", false}},
	{ETIMEDOUT, {504, server, "timeout", false}},
};

void shim_error_of(int code, struct shim_error *out)
{
	int positive = code < 0 ? -code : code;
	*out = (struct shim_error){500, server, NULL, false};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (rows[i].code == positive)
			*out = rows[i].error;
}
