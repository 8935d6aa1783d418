/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A setting of an API key either says what is allowed, or is kept as it was written; and no
 * beginning of one that is taken was hopeless. Scopes that name models allow no other, and what is
 * stored as a digest comes back as it is. The first byte picks the setting. There are no users.
 */

#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/api_grant.h"
#include "gateway/api_secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int getpwnam_r(
	const char *name, struct passwd *row, char *strings, size_t size, struct passwd **found)
{
	(void)name, (void)row, (void)strings, (void)size;
	*found = NULL;
	return 0;
}

static void must(bool claim)
{
	if (!claim)
		abort();
}

static void check_digest(const char *text, size_t n)
{
	char copy[128], again[API_SECRET_STORED];
	struct api_digest digest;
	if (n >= sizeof copy)
		return;
	memcpy(copy, text, n);
	copy[n] = '\0';
	if (!api_secret_read(copy, &digest))
		return;
	api_secret_print(&digest, again);
	must(!strcmp(again, copy));
}

static void check_taken(const struct api_grant_value *v, const char *file, size_t n)
{
	struct api_grant g = {0};
	g.values[v->setting] = *v;
	for (size_t i = 0; i <= n && n < 256; i++)
		must(!api_grant_is_hopeless(file, v->text, i));
	must(api_grant_allows(&g, API_CHAT, "a name with blanks", NULL) < 0 || !v->names_models);
	must(v->setting != API_GRANT_EXPIRES || v->expires_s >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (!n)
		return 0;
	const char *file = api_grant_names()[*data % API_GRANT_SETTINGS];
	const char *text = (const char *)data + 1;
	struct api_grant_value v;
	struct err err = {0};
	n--;
	check_digest(text, n);
	int r = api_grant_read(&v, file, text, n, &err);
	must(r == 0 || *err.text);
	if (r == 0 && n) {
		must(strlen(v.text) == n && !memcmp(v.text, text, n));
		check_taken(&v, file, n);
	}
	api_grant_value_free(&v);
	return 0;
}
