/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of messages becomes what a session has: one system text, turns of user and assistant, and
 * the prompt, which is the last. The list is walked twice, for the system text and for the turns,
 * each of which is written to the room behind the one before.
 *
 * What llmfs sees of a list is a little less than what stands in it. All of the messages of the
 * roles system and developer make the system text, wherever they stand, in their order and with an
 * empty line between them; neighbours of the same role are one message, in the same way. Who begins
 * and who comes last is the user: llmfs writes no end to an answer that somebody else has begun.
 * The parts of a message are joined as they are.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/shim_request_parts.h"

struct reading {
	struct shim_ask *out;
	const json_t *list;
	struct buf *room;
	struct shim_fault *fault;
};

/* member: ".role", "" none; a message is an element of a body, which has fewer than 2^32 bytes. */
static void name_param(char param[SHIM_PARAM_SIZE], size_t i, const char *member)
{
	snprintf(param, SHIM_PARAM_SIZE, "messages[%u]%.31s", (unsigned)i, member);
}

static int fault_at(
	struct reading *g, size_t i, const char *member, const char *code, const char *sentence)
{
	char param[SHIM_PARAM_SIZE];
	name_param(param, i, member);
	return shim_request_fault(g->fault, code, param, "%s", sentence);
}

static int wrong_at(
	struct reading *g, size_t i, const char *member, const char *wanted, const json_t *is)
{
	char param[SHIM_PARAM_SIZE];
	name_param(param, i, member);
	return shim_request_wrong_type(g->fault, param, wanted, is);
}

static const char no_tools[] = "models call no tools here: say what one gave in a user's message";
static const char text_only[] =
	"must be text: models read neither images nor sounds nor files here";

/* ---- one message ---- */

static int check_role(struct reading *g, size_t i, const json_t *message, enum session_role *out)
{
	static const struct {
		const char *name;
		enum session_role role;
	} roles[] = {{"system", SESSION_SYSTEM}, {"developer", SESSION_SYSTEM},
		{"user", SESSION_USER}, {"assistant", SESSION_ASSISTANT}};
	const json_t *value = shim_request_member(message, "role");
	if (!value)
		return fault_at(g, i, ".role", "missing_required_parameter", "must be there");
	if (!json_is_string(value))
		return wrong_at(g, i, ".role", "a string", value);
	const char *name = json_string_value(value);
	for (size_t k = 0; k < sizeof roles / sizeof *roles; k++) {
		*out = roles[k].role;
		if (!strcmp(name, roles[k].name))
			return 0;
	}
	if (!strcmp(name, "tool") || !strcmp(name, "function"))
		return fault_at(g, i, ".role", "unsupported_value", no_tools);
	return fault_at(
		g, i, ".role", "invalid_value", "must be system, developer, user or assistant");
}

static int check_part(struct reading *g, size_t i, size_t k, const json_t *part)
{
	char whole[32], type_of[32], text_of[32];
	snprintf(whole, sizeof whole, ".content[%u]", (unsigned)k);
	snprintf(type_of, sizeof type_of, ".content[%u].type", (unsigned)k);
	snprintf(text_of, sizeof text_of, ".content[%u].text", (unsigned)k);
	if (!json_is_object(part))
		return wrong_at(g, i, whole, "an object", part);
	const json_t *type = shim_request_member(part, "type");
	const json_t *text = shim_request_member(part, "text");
	if (!type)
		return fault_at(g, i, type_of, "missing_required_parameter", "must be there: text");
	if (!json_is_string(type))
		return wrong_at(g, i, type_of, "a string", type);
	if (strcmp(json_string_value(type), "text"))
		return fault_at(g, i, type_of, "unsupported_value", text_only);
	if (!text)
		return fault_at(g, i, text_of, "missing_required_parameter", "must be there");
	return json_is_string(text) ? 0 : wrong_at(g, i, text_of, "a string", text);
}

static int check_content(struct reading *g, size_t i, const json_t *message, enum session_role role)
{
	int r = 0;
	const json_t *content = shim_request_member(message, "content");
	if (!content && role != SESSION_ASSISTANT)
		return fault_at(g, i, ".content", "missing_required_parameter",
			"must be there: a string, or an array of text parts");
	if (!content || json_is_string(content))
		return 0;
	if (!json_is_array(content))
		return wrong_at(g, i, ".content", "a string or an array of text parts", content);
	for (size_t k = 0; r == 0 && k < json_array_size(content); k++)
		r = check_part(g, i, k, json_array_get(content, k));
	return r;
}

/* Members that make of a message another thing than a text. */
static int check_rest(struct reading *g, size_t i, const json_t *message)
{
	const json_t *calls = shim_request_member(message, "tool_calls");
	if (calls && (!json_is_array(calls) || json_array_size(calls)))
		return fault_at(g, i, ".tool_calls", "unsupported_parameter", no_tools);
	if (shim_request_member(message, "function_call"))
		return fault_at(g, i, ".function_call", "unsupported_parameter", no_tools);
	if (shim_request_member(message, "audio"))
		return fault_at(g, i, ".audio", "unsupported_parameter", text_only);
	return 0;
}

/* roles [n] */
static int check_messages(struct reading *g, enum session_role *roles)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < json_array_size(g->list); i++) {
		const json_t *message = json_array_get(g->list, i);
		if (!json_is_object(message))
			return wrong_at(g, i, "", "an object", message);
		r = check_role(g, i, message, &roles[i]);
		r = r ? r : check_rest(g, i, message);
		r = r ? r : check_content(g, i, message, roles[i]);
	}
	return r;
}

/* ---- whose turn it is ---- */

static int check_order(struct reading *g, const enum session_role *roles)
{
	size_t n = json_array_size(g->list), first = 0, last = n - 1;
	while (first < n && roles[first] == SESSION_SYSTEM)
		first++;
	while (last && roles[last] == SESSION_SYSTEM)
		last--;
	if (first == n)
		return fault_at(g, n - 1, ".role", "invalid_value",
			"there is nothing but system messages: the last must be the user's");
	if (roles[first] != SESSION_USER)
		return fault_at(g, first, ".role", "invalid_value",
			"must be user: a conversation begins with the user's message, behind those "
			"of the system");
	if (roles[last] != SESSION_USER)
		return fault_at(g, last, ".role", "invalid_value",
			"must be user: the last message is the prompt; llmfs does not go on with "
			"an answer that was begun");
	return 0;
}

/* ---- texts ---- */

static int say_content(struct buf *room, const json_t *message)
{
	int r = 0;
	const json_t *content = shim_request_member(message, "content");
	if (json_is_string(content))
		return shim_request_say(room, content);
	for (size_t k = 0; r == 0 && k < json_array_size(content); k++)
		r = shim_request_say(room, json_object_get(json_array_get(content, k), "text"));
	return r;
}

/* Behind what was said since `from`, with an empty line between them where both say something. */
static int say_more(struct buf *room, size_t from, const json_t *message)
{
	size_t before = room->len;
	int r = before > from ? buf_append(room, "\n\n", 2) : 0;
	size_t begin = room->len;
	r = r ? r : say_content(room, message);
	if (room->len == begin)
		room->len = before;
	return r;
}

static int add_turn(struct reading *g, enum session_role role, size_t from)
{
	struct shim_text text;
	int r = shim_request_end(g->room, from, &text);
	if (r == 0)
		g->out->turns[g->out->n_turns++] =
			(struct session_message){role, text.text, text.len};
	return r;
}

static int system_text(struct reading *g, const enum session_role *roles)
{
	int r = 0;
	size_t from = g->room->len;
	for (size_t i = 0; r == 0 && i < json_array_size(g->list); i++)
		if (roles[i] == SESSION_SYSTEM)
			r = say_more(g->room, from, json_array_get(g->list, i));
	return r || g->room->len == from ? r : add_turn(g, SESSION_SYSTEM, from);
}

static int turns(struct reading *g, const enum session_role *roles)
{
	int r = 0;
	size_t from = g->room->len;
	enum session_role role = SESSION_USER;
	for (size_t i = 0; r == 0 && i < json_array_size(g->list); i++) {
		if (roles[i] == SESSION_SYSTEM)
			continue;
		if (roles[i] != role) {
			r = add_turn(g, role, from);
			from = g->room->len;
			role = roles[i];
		}
		r = r ? r : say_more(g->room, from, json_array_get(g->list, i));
	}
	return r ? r : shim_request_end(g->room, from, g->out->prompts);
}

static int read_list(struct reading *g, enum session_role *roles)
{
	size_t n = json_array_size(g->list);
	g->out->turns = calloc(n, sizeof *g->out->turns);
	g->out->prompts = calloc(1, sizeof *g->out->prompts);
	if (!g->out->turns || !g->out->prompts)
		return -ENOMEM;
	int r = check_messages(g, roles);
	r = r ? r : check_order(g, roles);
	r = r ? r : system_text(g, roles);
	r = r ? r : turns(g, roles);
	g->out->n_prompts = r == 0;
	if (r == 0 && !g->out->prompts->len)
		r = fault_at(g, n - 1, ".content", "invalid_value",
			"must not be empty: it is the prompt");
	return r;
}

int shim_request_messages(
	struct shim_ask *out, const json_t *object, struct buf *room, struct shim_fault *fault)
{
	struct reading g = {out, shim_request_member(object, "messages"), room, fault};
	if (!g.list)
		return shim_request_fault(
			fault, "missing_required_parameter", "messages", "must be there: an array");
	if (!json_is_array(g.list))
		return shim_request_wrong_type(fault, "messages", "an array", g.list);
	if (!json_array_size(g.list))
		return shim_request_fault(fault, "empty_array", "messages", "must not be empty");
	enum session_role *roles = calloc(json_array_size(g.list), sizeof *roles);
	int r = roles ? read_list(&g, roles) : -ENOMEM;
	free(roles);
	return r;
}
