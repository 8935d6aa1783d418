/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fs/program_fixture.h"

#include <check.h>
#include <errno.h>

#include "fs/guards.h"
#include "fs/names.h"
#include "fs/rename.h"
#include "fs/rules.h"
#include "fs/scratch.h"
#include "fs/tree.h"
#include "fs/tree_file.h"
#include "gateway/gateway_guards.h"
#include "tests/fs/temporary.h"

struct fs program_fs;
struct node program_guards, program_input;

const char program_one[] = "block one /one1/\n", program_two[] = "block two /two2/\n",
	   program_bad[] = "block bad /(/\n";

struct node program_child(const struct node *dir, const char *name)
{
	struct node node;
	ck_assert_int_eq(node_child(program_fs.nodes, dir, name, &node), 0);
	return node;
}

int program_saved_as(const char *file, const char *text)
{
	return guards_save(&program_fs, file, text, strlen(text), NULL, NULL);
}

void program_begin(void)
{
	temporary_make();
	temporary_sh("mkdir -p tree state");
	char path[128];
	struct err err = {{0}};
	snprintf(path, sizeof path, "%s/state", temporary);
	struct gateway_options o = {.state_dir = path};
	ck_assert_msg(gateway_open(&program_fs.gateway, &o, &err) == 0, "%s", err.text);
	char tree[128];
	snprintf(tree, sizeof tree, "%s/tree", temporary);
	ck_assert_int_eq(tree_open(&program_fs.tree, tree, NULL), 0);
	program_fs.nodes = nodes_new(program_fs.gateway, program_fs.tree);
	struct node root;
	ck_assert_int_eq(node_of_ino(program_fs.nodes, 1, &root), 0);
	program_guards = program_child(&root, "guards");
	program_input = program_child(&program_guards, "input");
	node_put(program_fs.nodes, &root);
	ck_assert_int_eq(program_saved_as("input/a.rules", program_one), 0);
}

void program_end(void)
{
	node_put(program_fs.nodes, &program_input);
	node_put(program_fs.nodes, &program_guards);
	program_fs.nodes = nodes_free(program_fs.nodes);
	program_fs.gateway = gateway_free(program_fs.gateway);
	program_fs.tree = tree_free(program_fs.tree);
	temporary_remove();
}

struct handle *program_opens(const char *name, int flags)
{
	struct node node = program_child(&program_input, name);
	struct handle *h = NULL;
	ck_assert_int_eq(handle_open(&h, &program_fs, &node, flags, 0, 0), 0);
	node_put(program_fs.nodes, &node);
	return h;
}

int program_writes(struct handle *h, uint64_t offset, const char *text)
{
	return h->ops->write(h, offset, text, strlen(text));
}

int program_flushes(struct handle *h)
{
	return h->ops->flush(h);
}

void program_closes(struct handle *h)
{
	if (handle_writes(h))
		h->ops->release(h);
	handle_put(h);
}

int program_cuts(struct handle *h, uint64_t size)
{
	return h->ops->truncate(&program_fs, &h->node, h, size);
}

void program_saved_is(const char *file, const char *text)
{
	struct buf have = {0};
	ck_assert_int_eq(tree_guards_get(program_fs.tree, file, &have), 0);
	ck_assert_str_eq(have.data ? have.data : "", text);
	buf_free(&have);
}

bool program_set_is(const char *file, const char *text)
{
	return gateway_guard_is(program_fs.gateway, file, text, strlen(text));
}

bool program_status_has(const char *line)
{
	struct buf status = {0};
	ck_assert_int_eq(gateway_render(program_fs.gateway, GATEWAY_GUARD_STATUS, &status), 0);
	bool has = strstr(status.data, line) && !strstr(status.data, "closed");
	buf_free(&status);
	return has;
}

void program_shows(const char *name, const char *text)
{
	struct node node = program_child(&program_input, name);
	struct buf have = {0};
	uint64_t bytes = 0, ns;
	ck_assert_int_eq(rules_text(&program_fs, &node, &have), 0);
	ck_assert_str_eq(have.data ? have.data : "", text);
	rules_size(&program_fs, &node, &bytes, &ns);
	ck_assert_uint_eq(bytes, strlen(text));
	buf_free(&have);
	node_put(program_fs.nodes, &node);
}

bool program_exists(const char *name)
{
	struct node node;
	int r = node_child(program_fs.nodes, &program_input, name, &node);
	ck_assert(r == 0 || r == -ENOENT);
	node_put(program_fs.nodes, &node);
	return r == 0;
}

void program_scratch(const char *name, const char *text)
{
	struct scratch *s = scratch_new(S_IFREG | 0600, 0, 0);
	struct node node;
	ck_assert_int_ge(scratch_write(s, 0, text, strlen(text)), 0);
	ck_assert_int_eq(node_scratch_add(program_fs.nodes, &program_input, name, s, &node), 0);
	node_put(program_fs.nodes, &node);
}

int program_moves(const char *from, const char *to, unsigned flags)
{
	return rename_any(&program_fs, &program_input, from, &program_input, to, flags, 0);
}
