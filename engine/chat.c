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
 *
 * A control text that a vocabulary does not have as a token is written as text: such models were
 * trained so.
 */
#include "engine/chat.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"

#define MAX_TEXT ((size_t)4 << 30)

struct writer {
	const struct tokenizer *t;
	struct token_list *out;
	struct buf text; /* not tokenised yet */
	bool at_start;   /* `text` opens the sequence or follows a control token */
	int status;      /* the first failure; after it nothing is written any more */
};

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
	bool folds_system;  /* the system text stands in the first user turn; turns alternate */
	bool spaces_answer; /* with a SentencePiece vocabulary a space stands before an answer */
	void (*render)(struct writer *w, const struct conversation *c);
};

/* ---- the writer ---- */

static void flush(struct writer *w)
{
	if (w->status == 0 && w->text.len > 0) {
		w->status = tokenizer_encode(w->t, w->text.data, w->text.len, w->at_start, w->out);
		w->at_start = false;
		buf_clear(&w->text);
	}
}

static void write_bytes(struct writer *w, const char *text, size_t n)
{
	if (w->status == 0 && n > 0)
		w->status = buf_append(&w->text, text, n);
}

static void write_text(struct writer *w, const char *text)
{
	write_bytes(w, text, strlen(text));
}

static void write_id(struct writer *w, uint32_t id)
{
	flush(w);
	if (w->status == 0)
		w->status = token_list_add(w->out, id);
	w->at_start = true;
}

static void write_control(struct writer *w, const char *text)
{
	uint32_t id = tokenizer_control(w->t, text);

	if (id == TOKENIZER_NONE)
		write_text(w, text);
	else
		write_id(w, id);
}

static void write_bos(struct writer *w)
{
	if (tokenizer_bos(w->t) != TOKENIZER_NONE)
		write_id(w, tokenizer_bos(w->t));
}

/* For families whose template leaves the bos to the tokenizer. */
static void write_bos_if_added(struct writer *w)
{
	if (tokenizer_adds_bos(w->t))
		write_bos(w);
}

static void write_eos(struct writer *w)
{
	if (tokenizer_eos(w->t) != TOKENIZER_NONE)
		write_id(w, tokenizer_eos(w->t));
	else
		write_control(w, "</s>");
}

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

static void write_message(struct writer *w, struct engine_message m)
{
	write_bytes(w, m.text, m.len);
}

/* `before` and the answer, tokenised apart from what stands in front of them. */
static void write_answer(struct writer *w, const char *before, struct engine_message m)
{
	flush(w);
	/* Behind a control token SentencePiece puts a space of its own in front. */
	if (w->at_start && m.len > 0 && m.text[0] == ' ' && *before == '\0' &&
		tokenizer_adds_space(w->t)) {
		m.text++;
		m.len--;
	}
	write_text(w, before);
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

static void render_chatml(struct writer *w, const struct conversation *c)
{
	write_bos_if_added(w);
	for (size_t i = 0; i < c->n; i++) {
		const struct engine_message *m = &c->messages[i];

		write_control(w, "<|im_start|>");
		write_text(w, role_name(m->role));
		write_text(w, "\n");
		if (m->role == ENGINE_ASSISTANT)
			write_answer(w, "", *m);
		else
			write_message(w, *m);
		write_control(w, "<|im_end|>");
		write_text(w, "\n");
	}
	if (c->add_generation) {
		write_control(w, "<|im_start|>");
		write_text(w, "assistant\n");
	}
}

static void llama3_header(struct writer *w, enum engine_role role)
{
	write_control(w, "<|start_header_id|>");
	write_text(w, role_name(role));
	write_control(w, "<|end_header_id|>");
	write_text(w, "\n\n");
}

static void render_llama3(struct writer *w, const struct conversation *c)
{
	write_bos(w);
	for (size_t i = 0; i < c->n; i++) {
		struct engine_message m = trimmed(c->messages[i]);

		llama3_header(w, m.role);
		if (m.role == ENGINE_ASSISTANT)
			write_answer(w, "", m);
		else
			write_message(w, m);
		write_control(w, "<|eot_id|>");
	}
	if (c->add_generation)
		llama3_header(w, ENGINE_ASSISTANT);
}

static void render_llama2(struct writer *w, const struct conversation *c)
{
	size_t first;
	struct engine_message system = folded_system(c, &first);

	for (size_t i = first; i < c->n; i++) {
		struct engine_message m = c->messages[i];

		if (m.role == ENGINE_ASSISTANT) {
			write_answer(w, " ", trimmed(m));
			write_text(w, " ");
			write_eos(w);
			continue;
		}
		write_bos(w);
		write_text(w, "[INST] ");
		if (i == first && first > 0) {
			write_text(w, "<<SYS>>\n");
			write_message(w, system);
			/* The template trims both texts together: only the end is blank. */
			struct engine_message end = trimmed(m);
			m.len = end.len > 0 ? (size_t)(end.text - m.text) + end.len : 0;
			write_text(w, m.len > 0 ? "\n<</SYS>>\n\n" : "\n<</SYS>>");
		} else {
			m = trimmed(m);
		}
		write_message(w, m);
		write_text(w, " [/INST]");
	}
}

/* The first generation writes "[INST] " as text; later ones have tokens for it, and the spaces are
 * gone (SentencePiece puts its own behind a control token). */
static void render_mistral(struct writer *w, const struct conversation *c)
{
	bool tokens = tokenizer_control(w->t, "[INST]") != TOKENIZER_NONE;
	size_t first;
	struct engine_message system = folded_system(c, &first);

	write_bos(w);
	for (size_t i = first; i < c->n; i++) {
		const struct engine_message *m = &c->messages[i];

		if (m->role == ENGINE_ASSISTANT) {
			write_answer(w, tokens ? "" : " ", tokens ? *m : trimmed(*m));
			write_eos(w);
			continue;
		}
		write_control(w, "[INST]");
		write_text(w, tokens ? "" : " ");
		if (i == first && first > 0) {
			write_message(w, system);
			write_text(w, "\n\n");
		}
		write_message(w, *m);
		write_text(w, tokens ? "" : " ");
		write_control(w, "[/INST]");
	}
}

static void zephyr_header(struct writer *w, enum engine_role role)
{
	static const char *const headers[] = {
		[ENGINE_SYSTEM] = "<|system|>",
		[ENGINE_USER] = "<|user|>",
		[ENGINE_ASSISTANT] = "<|assistant|>",
	};

	write_control(w, headers[role]);
	write_text(w, "\n");
}

static void render_zephyr(struct writer *w, const struct conversation *c)
{
	write_bos_if_added(w);
	for (size_t i = 0; i < c->n; i++) {
		const struct engine_message *m = &c->messages[i];

		zephyr_header(w, m->role);
		if (m->role == ENGINE_ASSISTANT)
			write_answer(w, "", *m);
		else
			write_message(w, *m);
		write_eos(w);
		write_text(w, "\n");
	}
	if (c->add_generation)
		zephyr_header(w, ENGINE_ASSISTANT);
}

static void render_gemma(struct writer *w, const struct conversation *c)
{
	size_t first;
	struct engine_message system = folded_system(c, &first);

	write_bos(w);
	for (size_t i = first; i < c->n; i++) {
		struct engine_message m = trimmed(c->messages[i]);

		write_control(w, "<start_of_turn>");
		write_text(w, m.role == ENGINE_ASSISTANT ? "model\n" : "user\n");
		if (i == first && first > 0) {
			write_message(w, system);
			write_text(w, "\n\n");
		}
		if (m.role == ENGINE_ASSISTANT)
			write_answer(w, "", m);
		else
			write_message(w, m);
		write_control(w, "<end_of_turn>");
		write_text(w, "\n");
	}
	if (c->add_generation) {
		write_control(w, "<start_of_turn>");
		write_text(w, "model\n");
	}
}

/* For models that only continue text: answers follow what they continue, other messages begin a
 * line. */
static void render_plain(struct writer *w, const struct conversation *c)
{
	write_bos_if_added(w);
	for (size_t i = 0; i < c->n; i++) {
		if (c->messages[i].role == ENGINE_ASSISTANT) {
			write_answer(w, "", c->messages[i]);
			continue;
		}
		write_text(w, i > 0 ? "\n" : "");
		write_message(w, c->messages[i]);
	}
}

/* In the order in which they are tried. */
static const struct chat_family families[] = {
	{"chatml", {"<|im_start|>"}, NULL, false, false, render_chatml},
	{"llama3", {"<|start_header_id|>", "<|eot_id|>"}, NULL, false, false, render_llama3},
	{"gemma", {"<start_of_turn>", "<end_of_turn>"}, NULL, true, false, render_gemma},
	{"llama2", {"[INST]", "<<SYS>>"}, NULL, true, true, render_llama2},
	{"mistral", {"[INST]", "[/INST]"}, "[SYSTEM_PROMPT]", true, true, render_mistral},
	{"zephyr", {"<|user|>", "<|assistant|>", "eos_token"}, "<|end|>", false, false,
		render_zephyr},
	{"plain", {NULL}, NULL, false, false, render_plain},
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
	struct writer w = {.t = t, .out = out, .text.max = MAX_TEXT, .at_start = true};
	int r = check(f, &c, err);

	if (r)
		return r;
	f->render(&w, &c);
	flush(&w);
	buf_free(&w.text);
	return w.status ? err_set(err, w.status, "out of memory") : 0;
}
