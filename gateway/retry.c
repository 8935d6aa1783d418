/* SPDX-License-Identifier: Apache-2.0 */
/* A window of ten seconds, one number for each: what is older than it is forgotten as time goes on.
 */
#include "gateway/retry.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

uint64_t retry_backoff_ms(uint32_t n_before, uint64_t random)
{
	uint64_t most = RETRY_BASE_MS;
	for (uint32_t i = 0; i < n_before && most < RETRY_CAP_MS; i++)
		most *= 2;
	if (most > RETRY_CAP_MS)
		most = RETRY_CAP_MS;
	return random % (most + 1);
}

int retry_wait(uint32_t n_before, uint64_t random, uint64_t retry_after_ms, uint64_t left_ms,
	uint64_t *wait_ms, struct err *err)
{
	uint64_t wait = retry_backoff_ms(n_before, random);
	if (wait < retry_after_ms)
		wait = retry_after_ms;
	*wait_ms = wait;
	if (retry_after_ms > RETRY_AFTER_MAX_MS || (retry_after_ms && retry_after_ms >= left_ms))
		return err_set(err, -ETIMEDOUT, "it wants to be asked again in %" PRIu64 " s",
			(retry_after_ms + 999) / 1000);
	if (wait >= left_ms)
		return err_set(err, -ETIMEDOUT, "there is no time left to try it again");
	return 0;
}

/* Forgets what is older than the window. */
static void move(struct retry_budget *b, uint64_t now_ns)
{
	uint64_t now = now_ns / 1000000000;
	if (now <= b->second)
		return;
	if (now - b->second >= RETRY_WINDOW_S) {
		memset(b->requests, 0, sizeof b->requests);
		memset(b->retries, 0, sizeof b->retries);
		b->second = now;
	}
	while (b->second < now) {
		b->second++;
		b->requests[b->second % RETRY_WINDOW_S] = 0;
		b->retries[b->second % RETRY_WINDOW_S] = 0;
	}
}

void retry_budget_request(struct retry_budget *b, uint64_t now_ns)
{
	move(b, now_ns);
	b->requests[b->second % RETRY_WINDOW_S]++;
}

bool retry_budget_take(struct retry_budget *b, uint64_t now_ns)
{
	uint64_t requests = 0, retries = 0;
	move(b, now_ns);
	for (size_t i = 0; i < RETRY_WINDOW_S; i++) {
		requests += b->requests[i];
		retries += b->retries[i];
	}
	if ((double)retries + 1 > RETRY_BUDGET_LEAST + b->ratio * (double)requests)
		return false;
	b->retries[b->second % RETRY_WINDOW_S]++;
	return true;
}
