/* SPDX-License-Identifier: Apache-2.0 */
/* The judge's form: what it is asked, and the categories in what it says. The words are Llama Guard
 * 3's, to the byte; a judge that was trained on them knows no others. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "gateway/moderation.h"

static bool is_white(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool begins(const char *text, size_t len, const char *word)
{
	size_t n = strlen(word);
	return len >= n && !strncasecmp(text, word, n);
}

/* What has to stand in front of text[at], lest it pass for the form; NULL: nothing. */
static const char *defusal(const char *text, size_t len, size_t at)
{
	if (at > 0 && text[at - 1] == '<' &&
		(begins(text + at, len - at, "BEGIN") || begins(text + at, len - at, "END")))
		return " ";
	if (!begins(text + at, len - at, "User:") && !begins(text + at, len - at, "Agent:"))
		return NULL;
	while (at > 0 && (text[at - 1] == ' ' || text[at - 1] == '\t'))
		at--;
	return at > 0 && is_white(text[at - 1]) ? "> " : NULL; /* a line begins here */
}

/* "ROLE: TEXT\n\n" */
static int append_turn(struct buf *out, const char *role, const char *text, size_t len)
{
	while (len && is_white(*text)) {
		text++;
		len--;
	}
	while (len && is_white(text[len - 1]))
		len--;
	int r = buf_printf(out, "%s: ", role);
	size_t run = 0;
	for (size_t i = 0; i < len && r == 0; i++) {
		const char *before = strchr("bBeEuUaA", text[i]) ? defusal(text, len, i) : NULL;
		if (!before)
			continue;
		r = buf_append(out, text + run, i - run);
		r = r ? r : buf_append_str(out, before);
		run = i;
	}
	r = r ? r : buf_append(out, text + run, len - run);
	return r ? r : buf_append_str(out, "\n\n");
}

static int append_categories(struct buf *out, const struct moderation *m)
{
	int r = buf_append_str(out, "<BEGIN UNSAFE CONTENT CATEGORIES>\n");
	for (size_t i = 0; i < m->n_categories && r == 0; i++)
		r = buf_printf(
			out, "%s: %s.\n", m->categories[i].name, m->categories[i].title->bytes);
	return r ? r : buf_append_str(out, "<END UNSAFE CONTENT CATEGORIES>\n\n");
}

static int append_prompt(struct buf *out, const struct moderation *m, enum guard_stage stage,
	const char *user, size_t user_len, const char *agent, size_t agent_len)
{
	const char *role = stage == GUARD_INPUT ? "User" : "Agent";
	int r = buf_printf(out,
		"Task: Check if there is unsafe content in '%s' messages in conversations "
		"according our safety policy with the below categories.\n\n",
		role);
	r = r ? r : append_categories(out, m);
	r = r ? r : buf_append_str(out, "<BEGIN CONVERSATION>\n\n");
	r = r ? r : append_turn(out, "User", user, user_len);
	if (r == 0 && stage == GUARD_OUTPUT)
		r = append_turn(out, "Agent", agent, agent_len);
	return r ? r
		 : buf_printf(out,
			   "<END CONVERSATION>\n\nProvide your safety assessment for ONLY THE LAST "
			   "%s message in the above conversation:\n - First line must read 'safe' "
			   "or 'unsafe'.\n - If unsafe, a second line must include a "
			   "comma-separated list of violated categories.",
			   role);
}

int moderation_prompt(const struct moderation *m, enum guard_stage stage, const char *user,
	size_t user_len, const char *agent, size_t agent_len, struct buf *out)
{
	size_t before = out->len;
	int r = append_prompt(out, m, stage, user, user_len, agent, agent_len);
	if (r < 0)
		out->len = before;
	return r;
}

/* ---- what it says ---- */

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-';
}

static const char *find_category(const struct moderation *m, const char *word, size_t len)
{
	for (size_t i = 0; i < m->n_categories; i++)
		if (strlen(m->categories[i].name) == len &&
			!memcmp(m->categories[i].name, word, len))
			return m->categories[i].name;
	return NULL;
}

/* Whether a list like "S1,S10" has a name. */
static bool has(const char *list, const char *name)
{
	size_t n = strlen(name);
	for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
		if (strcspn(at, ",") == n && !memcmp(at, name, n))
			return true;
	return false;
}

void moderation_categories(const struct moderation *m, const char *answer, size_t len,
	bool complete, char *out, size_t size)
{
	size_t used = 0;
	*out = '\0';
	for (size_t i = 0; i < len;) {
		size_t n = 0;
		while (i + n < len && is_name_byte(answer[i + n]))
			n++;
		const char *name = i + n < len || complete ? find_category(m, answer + i, n) : NULL;
		i += n ? n : 1;
		if (!name || has(out, name) || used + strlen(name) + 2 > size)
			continue;
		if (used)
			out[used++] = ',';
		memcpy(out + used, name, strlen(name) + 1);
		used += strlen(name);
	}
}
