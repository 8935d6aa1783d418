/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What OpenAI's protocol has, and its dialects, and llmfs has not: a row for each member that would
 * make another answer. It is refused by name, with what llmfs has instead, but where its value says
 * that it is not wanted: false, nothing, an empty list, or what a row has besides. Clients write
 * such values for all that nobody has set.
 *
 * All other members are taken and left, known or not. Of those that are known: user,
 * safety_identifier, store, metadata, service_tier, prompt_cache_key, prompt_cache_retention,
 * parallel_tool_calls (there are no tools), stream_options.include_obfuscation, and of a message
 * its name, refusal and annotations.
 */
#include <errno.h>
#include <string.h>

#include "gateway/shim_request_parts.h"

struct row {
	const char *name;
	bool (*fine)(const json_t *object, const json_t *value); /* besides what says nothing */
	const char *code;
	const char *has; /* what llmfs has, or has not */
};

static bool is_nothing(const json_t *v)
{
	return !v || json_is_false(v) || (json_is_array(v) && !json_array_size(v)) ||
	       (json_is_object(v) && !json_object_size(v)) ||
	       (json_is_string(v) && !json_string_length(v));
}

static bool is_word(const json_t *value, const char *word)
{
	const char *s = json_string_value(value);
	return s && !strcmp(s, word);
}

static bool is_zero(const json_t *object, const json_t *value)
{
	return json_is_number(value) && json_number_value(value) == 0;
}

static bool is_one(const json_t *object, const json_t *value)
{
	return json_is_number(value) && json_number_value(value) == 1;
}

/* The best of as many as are wanted are all of them. */
static bool is_n(const json_t *object, const json_t *value)
{
	const json_t *n = shim_request_member(object, "n");
	return is_one(object, value) || (n && json_is_number(value) && json_is_number(n) &&
						json_number_value(value) == json_number_value(n));
}

static bool is_no_call(const json_t *object, const json_t *value)
{
	return is_word(value, "none") || is_word(value, "auto");
}

static bool is_none(const json_t *object, const json_t *value)
{
	return is_word(value, "none");
}

static bool is_medium(const json_t *object, const json_t *value)
{
	return is_word(value, "medium");
}

static bool is_text(const json_t *object, const json_t *value)
{
	return json_array_size(value) == 1 && is_word(json_array_get(value, 0), "text");
}

static const char parameter[] = "unsupported_parameter", other_value[] = "unsupported_value";

#define TOOLS "models call no tools here: describe them in a message and ask for JSON"
#define LOGPROBS "llmfs does not say how likely the tokens of an answer were"
#define BIAS                                                                                       \
	"no single token can be made more or less likely: there are temperature, top_p, top_k, "   \
	"min_p and the penalties"
#define SAMPLING                                                                                   \
	"llmfs has temperature, top_p, top_k, min_p and the penalties of repetition, presence "    \
	"and frequency"
#define SHAPE "answers can be held to JSON (response_format json_object), to no schema or grammar"
#define ENDS "what ends an answer is stop, max_tokens or ignore_eos"
#define TEXT "llmfs reads and writes text only"

static const struct row rows[] = {
	{"tools", NULL, parameter, TOOLS},
	{"tool_choice", is_no_call, other_value, TOOLS},
	{"functions", NULL, parameter, TOOLS},
	{"function_call", is_no_call, other_value, TOOLS},
	{"logprobs", NULL, parameter, LOGPROBS},
	{"top_logprobs", is_zero, parameter, LOGPROBS},
	{"prompt_logprobs", NULL, parameter, LOGPROBS},
	{"logit_bias", NULL, parameter, BIAS},
	{"allowed_token_ids", NULL, parameter, BIAS},
	{"bad_words", NULL, parameter, BIAS},
	{"modalities", is_text, other_value, TEXT},
	{"audio", NULL, parameter, TEXT},
	{"prediction", NULL, parameter, "llmfs takes no predicted answer"},
	{"web_search_options", NULL, parameter, "llmfs searches nothing"},
	{"reasoning_effort", is_none, parameter, "llmfs does not set how long a model thinks"},
	{"verbosity", is_medium, parameter, "llmfs has max_tokens, and what a message asks for"},
	{"best_of", is_n, parameter, "llmfs gives all n answers and chooses none"},
	{"use_beam_search", NULL, parameter, "llmfs samples, and has n"},
	{"length_penalty", is_one, parameter, SAMPLING},
	{"typical_p", is_one, parameter, SAMPLING},
	{"tfs_z", is_one, parameter, SAMPLING},
	{"mirostat", is_zero, parameter, SAMPLING},
	{"dry_multiplier", is_zero, parameter, SAMPLING},
	{"xtc_probability", is_zero, parameter, SAMPLING},
	{"thinking", NULL, parameter, "llmfs does not set how long a model thinks"},
	{"chat_template", NULL, parameter, "a model's own template is used"},
	{"chat_template_kwargs", NULL, parameter, "a model's own template is used"},
	{"continue_final_message", NULL, parameter, "llmfs goes on with no answer that was begun"},
	{"suffix", NULL, parameter, "llmfs goes on from a prompt and fills no gap in a text"},
	{"min_tokens", is_zero, parameter, ENDS},
	{"stop_token_ids", NULL, parameter, ENDS},
	{"guided_json", NULL, parameter, SHAPE},
	{"guided_regex", NULL, parameter, SHAPE},
	{"guided_choice", NULL, parameter, SHAPE},
	{"guided_grammar", NULL, parameter, SHAPE},
	{"structured_outputs", NULL, parameter, SHAPE},
	{"json_schema", NULL, parameter, SHAPE},
	{"grammar", NULL, parameter, SHAPE},
};

int shim_request_refused(const json_t *object, struct shim_fault *fault)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct row *row = &rows[i];
		const json_t *value = shim_request_member(object, row->name);
		if (!is_nothing(value) && !(row->fine && row->fine(object, value)))
			return shim_request_fault(
				fault, row->code, row->name, "not supported: %s", row->has);
	}
	return 0;
}
