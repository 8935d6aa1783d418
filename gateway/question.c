/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of the questions, and of what may be said to them.
 *
 * A model that tells probabilities is asked for those of the first word: a function of the texts,
 * with no draw in it. One that only writes is taken at its word, and strictly: what is not one of
 * the words is no answer, since a sentence in which "yes" occurs may say anything.
 *
 * No state, any thread.
 */
#include "gateway/question.h"

#include <string.h>
#include <strings.h>

#include "base/utf8.h"

static const size_t prompt_most = 4096, answer_most = 12288;
static const float least_share = 1e-4f;

struct form {
	const char *words[QUESTION_WORDS_MAX + 1];
	unsigned choice[QUESTION_WORDS_MAX]; /* that a word stands for */
	size_t n_words, n_choices;
	const char *neither;
};

static const struct form forms[] = {
	[QUESTION_QUALITY] = {.words = {"yes", "no", "Yes", "No"},
		.choice = {QUESTION_YES, QUESTION_NO, QUESTION_YES, QUESTION_NO},
		.n_words = 4,
		.n_choices = 2,
		.neither = "neither yes nor no"},
	[QUESTION_CLASS] = {.words = {"simple", "moderate", "complex"},
		.choice = {0, 1, 2},
		.n_words = 3,
		.n_choices = 3,
		.neither = "none of simple, moderate and complex"},
};

const char *const *question_words(enum question_kind kind, size_t *n)
{
	*n = forms[kind].n_words;
	return forms[kind].words;
}

const char *question_else(enum question_kind kind)
{
	return forms[kind].neither;
}

/* ---- asking ---- */

/* Not in the middle of a character: so many bytes of the beginning, so many of the end. */
static size_t head_of(const char *text, size_t most)
{
	while (most && utf8_is_inside(text[most]))
		most--;
	return most;
}

static size_t tail_of(const char *text, size_t len, size_t most)
{
	while (most && utf8_is_inside(text[len - most]))
		most--;
	return most;
}

static int append_defused(const char *text, size_t len, struct buf *out)
{
	size_t from = 0;
	int r = 0;
	for (size_t i = 1; r == 0 && i < len; i++) {
		size_t rest = len - i;
		if (text[i - 1] != '<' || !((rest >= 5 && !strncasecmp(text + i, "begin", 5)) ||
						  (rest >= 3 && !strncasecmp(text + i, "end", 3))))
			continue;
		r = buf_append(out, text + from, i - from);
		r = r ? r : buf_append_str(out, " ");
		from = i;
	}
	return r || from >= len ? r : buf_append(out, text + from, len - from);
}

/* "<BEGIN NAME>\nTEXT\n<END NAME>\n\n" */
static int append_text(const char *name, const char *text, size_t len, size_t most, struct buf *out)
{
	size_t head = len > most ? head_of(text, most / 2) : len;
	int r = buf_printf(out, "<BEGIN %s>\n", name);
	r = r ? r : append_defused(text, head, out);
	if (r == 0 && head < len) {
		size_t tail = tail_of(text, len, most / 2);
		r = buf_append_str(out, "\n[...]\n");
		r = r ? r : append_defused(text + len - tail, tail, out);
	}
	return r ? r : buf_printf(out, "\n<END %s>\n\n", name);
}

int question_quality(
	const char *prompt, size_t len, const char *answer, size_t answer_len, struct buf *out)
{
	int r = buf_append_str(out,
		"Task: Judge whether the answer below is a good answer to the prompt below: "
		"correct, complete and to the point.\n\n");
	r = r ? r : append_text("PROMPT", prompt, len, prompt_most, out);
	r = r ? r : append_text("ANSWER", answer, answer_len, answer_most, out);
	return r ? r
		 : buf_append_str(out,
			   "Is it a good answer? Answer with one word and nothing else: yes or "
			   "no.");
}

int question_class(const char *prompt, size_t len, struct buf *out)
{
	int r = buf_append_str(out,
		"Task: Say how much the prompt below asks of a language model. Do not answer the "
		"prompt.\n\n"
		"simple: any model can do it: a fact, a greeting, a translation of a sentence.\n"
		"moderate: an explanation, a summary, a comparison, a short text or program.\n"
		"complex: several steps that build on one another, a proof, a design, a fault to "
		"be found.\n\n");
	r = r ? r : append_text("PROMPT", prompt, len, prompt_most, out);
	return r ? r
		 : buf_append_str(out,
			   "Answer with one word and nothing else: simple, moderate or complex.");
}

/* ---- what it says ---- */

bool question_weigh(enum question_kind kind, const float *p, struct question_said *out)
{
	const struct form *f = &forms[kind];
	double share[QUESTION_CHOICES_MAX] = {0}, sum = 0;
	for (size_t i = 0; i < f->n_words; i++) {
		share[f->choice[i]] += (double)p[i];
		sum += (double)p[i];
	}
	if (!(sum >= (double)least_share)) /* NAN: not known */
		return false;
	*out = (struct question_said){0};
	for (unsigned c = 0; c < f->n_choices; c++) {
		out->share[c] = share[c] / sum;
		if (share[c] > share[out->choice])
			out->choice = c;
	}
	return true;
}

/* The line that begins at *at, without what may stand around a word; *at becomes that of the next
 * one. Empty lines are passed over. */
static const char *next_line(const char *text, size_t len, size_t *at, size_t *line_len)
{
	static const char around[] = " \t\r\n\"'`*";
	const char *line = text + len;
	size_t n = 0;
	while (!n && *at < len) {
		const char *end = memchr(text + *at, '\n', len - *at);
		line = text + *at;
		n = end ? (size_t)(end - line) : len - *at;
		*at += n + (end != NULL);
		for (; n && *line && strchr(around, *line); n--)
			line++;
		while (n && line[n - 1] && (strchr(around, line[n - 1]) || line[n - 1] == '.'))
			n--;
	}
	*line_len = n;
	return line;
}

static bool is_word(const char *line, size_t len, const char *word)
{
	return strlen(word) == len && !strncasecmp(line, word, len);
}

int question_read(enum question_kind kind, const char *text, size_t len, bool ended,
	struct question_said *out)
{
	const struct form *f = &forms[kind];
	size_t at = 0, n;
	const char *line = next_line(text, len, &at, &n);
	if (!ended && (!n || text[at - 1] != '\n'))
		return 0;
	for (size_t i = 0; i < f->n_words; i++) {
		if (!is_word(line, n, f->words[i]))
			continue;
		*out = (struct question_said){.choice = f->choice[i]};
		out->share[out->choice] = 1;
		return 1;
	}
	return -1;
}
