/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chat templates by family.
 *
 * A model file carries a program (Jinja) that turns a conversation into text. We do not run
 * programs out of model files: the few shapes that models are trained with are known, and a
 * template is recognised by texts that stand in one shape only. What is written is what the
 * published template of the family writes; what single models add to it on their own (today's date)
 * is not, but for a system message where there is none (chat_opening.c).
 *
 * Control tokens are placed by id; everything else is text and is tokenised as text, the template's
 * words and the message's together, as the libraries do it, so that a message that says
 * "<|im_end|>" stays a message. Only the text of an answer is tokenised apart from the words before
 * it: so it was made, and so the tokens of a conversation begin with the tokens it had one turn
 * earlier, and its KV blocks are found again.
 */
#include "engine/chat.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/chat_writer.h"

struct conversation {
	const struct engine_message *messages;
	size_t n;
	bool add_generation;
};

struct chat_family {
	const char *name;
	/* Texts that all stand in the family's templates, and one that does not; NULL: none. */
	const char *needs[3];
	const char *excludes;
	bool needs_tokens;  /* what it needs are control tokens of each of its models */
	bool folds_system;  /* the system text stands in the first user turn; turns alternate */
	bool spaces_answer; /* with a SentencePiece vocabulary a space stands before an answer */
	void (*render)(struct chat_writer *w, const struct conversation *c);
};

/* ---- messages ---- */

/* What Python's strip() takes away, as the templates' `trim` does. */
static bool is_blank(uint32_t c)
{
	return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
	       c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
	       c == 0x202f || c == 0x205f || c == 0x3000;
}

static struct engine_message trimmed(struct engine_message m)
{
	uint32_t code;

	while (m.len > 0) {
		size_t n = utf8_decode(m.text, m.len, &code);

		if (n == 0 || !is_blank(code))
			break;
		m.text += n;
		m.len -= n;
	}
	while (m.len > 0) {
		size_t n = 1;

		while (n < m.len && utf8_is_inside(m.text[m.len - n]))
			n++;
		if (utf8_decode(m.text + m.len - n, n, &code) != n || !is_blank(code))
			break;
		m.len -= n;
	}
	return m;
}

static void write_message(struct chat_writer *w, struct engine_message m)
{
	chat_writer_bytes(w, m.text, m.len);
}

/* `before` and the answer, tokenised apart from what stands in front of them. */
static void write_answer(struct chat_writer *w, const char *before, struct engine_message m)
{
	chat_writer_flush(w);
	/* Behind a control token SentencePiece puts a space of its own in front. */
	if (w->at_start && m.len > 0 && m.text[0] == ' ' && *before == '\0' &&
		tokenizer_adds_space(w->t)) {
		m.text++;
		m.len--;
	}
	chat_writer_text(w, before);
	write_message(w, m);
}

static const char *role_name(enum engine_role role)
{
	switch (role) {
	case ENGINE_SYSTEM:
		return "system";
	case ENGINE_USER:
		return "user";
	case ENGINE_ASSISTANT:
		return "assistant";
	}
	return "user";
}

/* The system text of a family that folds it, or an empty message; *first is the first turn. */
static struct engine_message folded_system(const struct conversation *c, size_t *first)
{
	if (c->n > 0 && c->messages[0].role == ENGINE_SYSTEM) {
		*first = 1;
		return c->messages[0];
	}
	*first = 0;
	return (struct engine_message){ENGINE_SYSTEM, "", 0};
}

/* ---- the families ---- */

static void render_chatml(struct chat_writer *w, const struct conversation *c)
{
	chat_writer_bos_if_added(w);
	for (size_t i = 0; i < c->n; i++) {
		const struct engine_message *m = &c->messages[i];

		chat_writer_control(w, "<|im_start|>");
		chat_writer_text(w, role_name(m->role));
		chat_writer_text(w, "\n");
		if (m->role == ENGINE_ASSISTANT)
			write_answer(w, "", *m);
		else
			write_message(w, *m);
		chat_writer_control(w, "<|im_end|>");
		chat_writer_text(w, "\n");
	}
	if (c->add_generation) {
		chat_writer_control(w, "<|im_start|>");
		chat_writer_text(w, "assistant\n");
	}
}

static void llama3_header(struct chat_writer *w, enum engine_role role)
{
	chat_writer_control(w, "<|start_header_id|>");
	chat_writer_text(w, role_name(role));
	chat_writer_control(w, "<|end_header_id|>");
	chat_writer_text(w, "\n\n");
}

static void render_llama3(struct chat_writer *w, const struct conversation *c)
{
	chat_writer_bos(w);
	for (size_t i = 0; i < c->n; i++) {
		struct engine_message m = trimmed(c->messages[i]);

		llama3_header(w, m.role);
		if (m.role == ENGINE_ASSISTANT)
			write_answer(w, "", m);
		else
			write_message(w, m);
		chat_writer_control(w, "<|eot_id|>");
	}
	if (c->add_generation)
		llama3_header(w, ENGINE_ASSISTANT);
}

static void render_llama2(struct chat_writer *w, const struct conversation *c)
{
	size_t first;
	struct engine_message system = folded_system(c, &first);

	for (size_t i = first; i < c->n; i++) {
		struct engine_message m = c->messages[i];

		if (m.role == ENGINE_ASSISTANT) {
			write_answer(w, " ", trimmed(m));
			chat_writer_text(w, " ");
			chat_writer_eos(w);
			continue;
		}
		chat_writer_bos(w);
		chat_writer_text(w, "[INST] ");
		if (i == first && first > 0) {
			chat_writer_text(w, "<<SYS>>\n");
			write_message(w, system);
			/* The template trims both texts together: only the end is blank. */
			struct engine_message end = trimmed(m);
			m.len = end.len > 0 ? (size_t)(end.text - m.text) + end.len : 0;
			chat_writer_text(w, m.len > 0 ? "\n<</SYS>>\n\n" : "\n<</SYS>>");
		} else {
			m = trimmed(m);
		}
		write_message(w, m);
		chat_writer_text(w, " [/INST]");
	}
}

/* The first generation writes "[INST] " as text; later ones have tokens for it, and the spaces are
 * gone (SentencePiece puts its own behind a control token). */
static void render_mistral(struct chat_writer *w, const struct conversation *c)
{
	bool tokens = tokenizer_control(w->t, "[INST]") != TOKENIZER_NONE;
	size_t first;
	struct engine_message system = folded_system(c, &first);

	chat_writer_bos(w);
	for (size_t i = first; i < c->n; i++) {
		const struct engine_message *m = &c->messages[i];

		if (m->role == ENGINE_ASSISTANT) {
			write_answer(w, tokens ? "" : " ", tokens ? *m : trimmed(*m));
			chat_writer_eos(w);
			continue;
		}
		chat_writer_control(w, "[INST]");
		chat_writer_text(w, tokens ? "" : " ");
		if (i == first && first > 0) {
			write_message(w, system);
			chat_writer_text(w, "\n\n");
		}
		write_message(w, *m);
		chat_writer_text(w, tokens ? "" : " ");
		chat_writer_control(w, "[/INST]");
	}
}

static void zephyr_header(struct chat_writer *w, enum engine_role role)
{
	static const char *const headers[] = {
		[ENGINE_SYSTEM] = "<|system|>",
		[ENGINE_USER] = "<|user|>",
		[ENGINE_ASSISTANT] = "<|assistant|>",
	};

	chat_writer_control(w, headers[role]);
	chat_writer_text(w, "\n");
}

static void render_zephyr(struct chat_writer *w, const struct conversation *c)
{
	chat_writer_bos_if_added(w);
	for (size_t i = 0; i < c->n; i++) {
		const struct engine_message *m = &c->messages[i];

		zephyr_header(w, m->role);
		if (m->role == ENGINE_ASSISTANT)
			write_answer(w, "", *m);
		else
			write_message(w, *m);
		chat_writer_eos(w);
		chat_writer_text(w, "\n");
	}
	if (c->add_generation)
		zephyr_header(w, ENGINE_ASSISTANT);
}

static void render_gemma(struct chat_writer *w, const struct conversation *c)
{
	size_t first;
	struct engine_message system = folded_system(c, &first);

	chat_writer_bos(w);
	for (size_t i = first; i < c->n; i++) {
		struct engine_message m = trimmed(c->messages[i]);

		chat_writer_control(w, "<start_of_turn>");
		chat_writer_text(w, m.role == ENGINE_ASSISTANT ? "model\n" : "user\n");
		if (i == first && first > 0) {
			write_message(w, system);
			chat_writer_text(w, "\n\n");
		}
		if (m.role == ENGINE_ASSISTANT)
			write_answer(w, "", m);
		else
			write_message(w, m);
		chat_writer_control(w, "<end_of_turn>");
		chat_writer_text(w, "\n");
	}
	if (c->add_generation) {
		chat_writer_control(w, "<start_of_turn>");
		chat_writer_text(w, "model\n");
	}
}

/* For models that only continue text: answers follow what they continue, other messages begin a
 * line. */
static void render_plain(struct chat_writer *w, const struct conversation *c)
{
	chat_writer_bos_if_added(w);
	for (size_t i = 0; i < c->n; i++) {
		if (c->messages[i].role == ENGINE_ASSISTANT) {
			write_answer(w, "", c->messages[i]);
			continue;
		}
		chat_writer_text(w, i > 0 ? "\n" : "");
		write_message(w, c->messages[i]);
	}
}

/* In the order in which they are tried. */
static const struct chat_family families[] = {
	{"chatml", {"<|im_start|>"}, NULL, true, false, false, render_chatml},
	{"llama3", {"<|start_header_id|>", "<|eot_id|>"}, NULL, true, false, false, render_llama3},
	{"gemma", {"<start_of_turn>", "<end_of_turn>"}, NULL, true, true, false, render_gemma},
	{"llama2", {"[INST]", "<<SYS>>"}, NULL, false, true, true, render_llama2},
	{"mistral", {"[INST]", "[/INST]"}, "[SYSTEM_PROMPT]", false, true, true, render_mistral},
	{"zephyr", {"<|user|>", "<|assistant|>", "eos_token"}, "<|end|>", false, false, false,
		render_zephyr},
	{"plain", {NULL}, NULL, false, false, false, render_plain},
};

#define N_FAMILIES (sizeof(families) / sizeof(families[0]))
#define FAMILY_NAMES "chatml, llama2, llama3, mistral, zephyr, gemma, plain"

static bool matches(const struct chat_family *f, const char *text, size_t n)
{
	if (!f->needs[0])
		return false;
	for (size_t i = 0; i < 3 && f->needs[i]; i++)
		if (!memmem(text, n, f->needs[i], strlen(f->needs[i])))
			return false;
	return !f->excludes || !memmem(text, n, f->excludes, strlen(f->excludes));
}

int chat_family_find(const struct chat_family **out, const char *name, const char *template_text,
	size_t n, struct err *err)
{
	*out = NULL;
	for (size_t i = 0; i < N_FAMILIES; i++) {
		if (name ? strcmp(families[i].name, name) == 0
			 : template_text && matches(&families[i], template_text, n)) {
			*out = &families[i];
			return 0;
		}
	}
	if (name)
		return err_set(err, -EINVAL,
			"no chat template is called \"%.32s\"; known are " FAMILY_NAMES, name);
	return err_set(err, -ENOTSUP,
		"the file has %s chat template; write the name of a known one into the model's "
		"file "
		"`template`: " FAMILY_NAMES,
		template_text ? "an unknown" : "no");
}

const char *chat_family_name(const struct chat_family *f)
{
	return f->name;
}

const char *chat_missing_token(const struct chat_family *f, const struct tokenizer *t)
{
	for (size_t i = 0; f->needs_tokens && i < 3 && f->needs[i]; i++)
		if (tokenizer_control(t, f->needs[i]) == TOKENIZER_NONE)
			return f->needs[i];
	return NULL;
}

bool chat_answer_has_space(const struct chat_family *f, const struct tokenizer *t)
{
	return f->spaces_answer && tokenizer_adds_space(t);
}

static int check(const struct chat_family *f, const struct conversation *c, struct err *err)
{
	bool user_next = true;
	size_t first = c->n > 0 && c->messages[0].role == ENGINE_SYSTEM;

	for (size_t i = 0; i < c->n; i++)
		if (utf8_valid_prefix(c->messages[i].text, c->messages[i].len) !=
			c->messages[i].len)
			return err_set(err, -EILSEQ, "message %zu is not UTF-8", i + 1);
	if (!f->folds_system)
		return 0;
	for (size_t i = first; i < c->n; i++) {
		if (c->messages[i].role != (user_next ? ENGINE_USER : ENGINE_ASSISTANT))
			return err_set(err, -EINVAL,
				"a %s conversation is: perhaps a system message, then user and "
				"assistant "
				"in turn; message %zu is %s's",
				f->name, i + 1, role_name(c->messages[i].role));
		user_next = !user_next;
	}
	if (first == c->n && c->n > 0)
		return err_set(err, -EINVAL,
			"a %s conversation needs a user message behind the system message",
			f->name);
	return 0;
}

int chat_render(const struct chat_family *f, const struct tokenizer *t,
	const struct engine_message *messages, size_t n_messages, bool add_generation,
	struct token_list *out, struct err *err)
{
	struct conversation c = {messages, n_messages, add_generation};
	struct chat_writer w = {.t = t, .out = out, .text.max = CHAT_WRITER_MAX, .at_start = true};
	int r = check(f, &c, err);

	if (r)
		return r;
	f->render(&w, &c);
	chat_writer_flush(&w);
	buf_free(&w.text);
	return w.status ? err_set(err, w.status, "out of memory") : 0;
}
