/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl of sessions, models, budgets, API keys and the cache: a verb a line, carried out by the write
 * that completes the line; a last line without a newline by the close, unless it is the beginning
 * of no verb: then the write itself is refused, as shells say nothing of a close. A refused verb
 * poisons the handle: what follows in the same open was meant to come after it.
 *
 * Several programs may write one line: `{ printf lo; sleep 1; echo ad; } > ctl`. What has no end
 * yet when one of them closes its copy waits, if it may still become a verb: only whoever has
 * opened the file hears that it is none so far, and the last close carries out what nobody has
 * closed before.
 *
 * The secret that an API key's `new` has made is read from the open that wrote it, once, whatever
 * offsets the kernel counts, and ends. Who opens the file to read it finds it empty, as each other
 * ctl. A secret that nobody has read when its open ends is known to nobody, and revoked. What held
 * it here is wiped.
 */
#include "fs/faults.h"
#include "fs/handle.h"
#include "gateway/gateway_accounts.h"
#include "gateway/gateway_keys.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_parts.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <string.h>

#define MAX_LINE 4096

/* ---- the secret of an API key; under the lock ---- */

static bool reads(const struct handle *h)
{
	return (h->flags & O_ACCMODE) == O_RDWR;
}

static void wipe_secret(struct handle *h)
{
	if (h->before.data)
		explicit_bzero(h->before.data, h->before.cap);
	buf_clear(&h->before);
	h->base = 0;
}

/* Room for a line of it, once and before there is one: what grows leaves copies behind, and of a
 * secret that was made nothing may fail. */
static int make_room(struct handle *h)
{
	return h->before.data ? 0 : buf_reserve(&h->before, API_KEY_SECRET + 1);
}

static int key_verb(struct handle *h, const char *line, size_t n, struct err *err)
{
	struct api_key *key = h->node.object->api_key;
	char secret[API_KEY_SECRET] = "";
	int r = make_room(h);
	r = r ? r : api_key_ctl(key, line, n, reads(h) ? secret : NULL, err);
	if (r == 0)
		wipe_secret(h);
	if (r == 0 && *secret)
		r = buf_printf(&h->before, "%s\n", secret);
	explicit_bzero(secret, sizeof secret);
	return r;
}

/* ---- verbs ---- */

static int verb(struct handle *h, const char *line, size_t n)
{
	while (n && (line[n - 1] == ' ' || line[n - 1] == '\r'))
		n--;
	if (n == 0)
		return 0;
	struct err err = {{0}};
	int r;
	switch (h->node.row->place) {
	case TABLE_MODEL:
		r = model_ctl(h->node.object->model, line, n, &err);
		break;
	case TABLE_ACCOUNT:
		r = account_ctl(h->node.object->account, line, n, &err);
		break;
	case TABLE_API_KEY:
		r = key_verb(h, line, n, &err);
		break;
	case TABLE_CACHE:
		r = gateway_cache_ctl(h->fs->gateway, line, n, &err);
		break;
	default:
		return session_ctl(h->node.object->session, h->uid, h->gid, line, n, NULL);
	}
	faults_note(h->fs, &h->node, r, &err);
	return r;
}

/* A line of blanks is none yet: more may come behind them. */
static bool is_hopeless(const struct handle *h, const char *line, size_t n)
{
	if (strspn(line, " ") >= n)
		return false;
	switch (h->node.row->place) {
	case TABLE_MODEL:
		return model_ctl_is_hopeless(line, n);
	case TABLE_ACCOUNT:
		return account_ctl_is_hopeless(line, n);
	case TABLE_API_KEY:
		return api_key_ctl_is_hopeless(line, n, reads(h));
	case TABLE_CACHE:
		return gateway_cache_ctl_is_hopeless(line, n);
	default:
		return session_ctl_is_hopeless(line, n);
	}
}

/* Carries out the whole lines of h->text, with `all` also what stands behind them. */
static int verbs(struct handle *h, bool all)
{
	int r = 0;
	while (r == 0 && h->text.len) {
		const char *end = memchr(h->text.data, '\n', h->text.len);
		if (!end && !all && !is_hopeless(h, h->text.data, h->text.len))
			return h->text.len > MAX_LINE ? -EINVAL : 0;
		size_t n = end ? (size_t)(end - h->text.data) : h->text.len;
		r = verb(h, h->text.data, n);
		buf_consume(&h->text, end ? n + 1 : n);
	}
	return r;
}

static int ctl_write(struct handle *h, uint64_t offset, const char *bytes, size_t n)
{
	pthread_mutex_lock(&h->lock);
	int r = h->poison;
	if (r == 0)
		r = buf_append(&h->text, bytes, n);
	if (r == 0)
		r = verbs(h, false);
	h->refusal = 0;
	h->poison = r;
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* Under the lock. -EINVAL: what is there is no verb yet, and stays. */
static int carry_out(struct handle *h)
{
	char line[MAX_LINE];
	size_t n = h->text.len;
	if (n > sizeof line)
		return h->poison = -EINVAL;
	if (n)
		memcpy(line, h->text.data, n);
	int r = verbs(h, true);
	if (r == -EINVAL && !is_hopeless(h, line, n))
		buf_append(&h->text, line, n);
	else
		h->poison = r;
	h->refusal = r;
	return r;
}

static int ctl_flush(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	int r = h->poison ? h->poison : carry_out(h);
	pthread_mutex_unlock(&h->lock);
	return r;
}

static int ctl_flush_heir(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	int r = h->poison;
	pthread_mutex_unlock(&h->lock);
	return r;
}

static void ctl_release(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	if (h->poison == 0 && h->refusal == 0)
		carry_out(h);
	pthread_mutex_unlock(&h->lock);
}

static int ctl_read(
	struct handle *h, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	pthread_mutex_lock(&h->lock);
	int r = reply_slice(out, h->before.data, h->before.len, h->base, size);
	h->base += r == 0 ? out->len : 0;
	if (h->before.len && h->base == h->before.len)
		wipe_secret(h);
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* What was read may lack the end of its line. */
static void ctl_end(struct handle *h)
{
	struct err err = {{0}};
	if (h->before.len && h->base + 1 < h->before.len) {
		h->before.data[h->before.len - 1] = '\0';
		if (api_key_unread(h->node.object->api_key, h->before.data, &err) == 0)
			faults_note(h->fs, &h->node, -ECANCELED,
				&(struct err){"new: its secret was not read before the file was "
					      "closed, and is revoked: exec 3<>ctl; echo new >&3; "
					      "cat <&3; exec 3>&-"});
	}
	wipe_secret(h);
}

const struct file_ops ctl_ops = {
	.direct = true,
	.read = ctl_read,
	.write = ctl_write,
	.flush = ctl_flush,
	.flush_heir = ctl_flush_heir,
	.release = ctl_release,
	.end = ctl_end,
};
