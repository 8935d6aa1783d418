/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Any bytes as guards/moderation: they are taken, or refused with a fault that lies within them.
 * And as texts to be judged: the form around them can be read back, whatever they are. Up to the
 * first NUL they are the file, and the user's text, behind it the agent's.
 */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "gateway/moderation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool claim)
{
	if (!claim)
		abort();
}

static void check_fault(const struct guard_fault *f, const char *text, size_t n)
{
	unsigned lines = 1;
	for (size_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	must(f->line >= 1 && f->line <= lines && f->column >= 1 && f->column <= n + 1);
	must(*f->reason && utf8_valid_prefix(f->reason, strlen(f->reason)) == strlen(f->reason));
}

/* Lines that begin with a word, blanks in front left out. */
static size_t lines_with(const char *text, size_t n, const char *word)
{
	size_t count = 0, len = strlen(word);
	for (size_t i = 0; i < n; i++) {
		if (i > 0 && !memchr("\n\r\v\f", text[i - 1], 4))
			continue;
		while (i < n && (text[i] == ' ' || text[i] == '\t'))
			i++;
		count += n - i >= len && !strncasecmp(text + i, word, len);
	}
	return count;
}

static size_t places_of(const char *text, size_t n, const char *word)
{
	size_t count = 0, len = strlen(word);
	for (size_t i = 0; i + len <= n; i++)
		count += !strncasecmp(text + i, word, len);
	return count;
}

static void check_form(const char *user, size_t user_len, const char *agent, size_t agent_len)
{
	struct guard_fault fault;
	struct moderation *m;
	must(moderation_parse(&m, "model j", 7, &fault) == 0);
	for (int stage = 0; stage < 2; stage++) {
		struct buf out = {0};
		must(moderation_prompt(m, (enum guard_stage)stage, user, user_len, agent, agent_len,
			     &out) == 0);
		must(places_of(out.data, out.len, "<BEGIN") == 2);
		must(places_of(out.data, out.len, "<END") == 2);
		must(lines_with(out.data, out.len, "User:") == 1);
		must(lines_with(out.data, out.len, "Agent:") == (stage == GUARD_OUTPUT));
		buf_free(&out);
	}
	moderation_put(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *text = (const char *)data, *nul = memchr(data, '\0', n);
	size_t first = nul ? (size_t)(nul - text) : n, rest = nul ? n - first - 1 : 0;
	struct guard_fault fault;
	struct moderation *m = NULL;
	int r = moderation_parse(&m, text, n, &fault);

	must(r == 0 || r == -EINVAL);
	if (r < 0) {
		must(m == NULL);
		check_fault(&fault, text, n);
	} else {
		char names[64];

		must(m->threshold > 0 && m->threshold <= 1 && m->timeout_ms && m->window_chars);
		must(m->n_categories && m->replacement && *moderation_summary(m));
		moderation_categories(m, text, n, true, names, sizeof(names));
		must(strlen(names) < sizeof(names));
	}
	moderation_put(m);
	check_form(text, first, nul ? nul + 1 : "", rest);
	return 0;
}
