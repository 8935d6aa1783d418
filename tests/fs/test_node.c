/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/node.h"

#include "fs/scratch.h"

#include "fs/names.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>

#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static struct gateway *gateway;
static struct nodes *nodes;
static struct node root, sessions;

static struct node child(const struct node *dir, const char *name)
{
	struct node node;
	ck_assert_int_eq(node_child(nodes, dir, name, &node), 0);
	return node;
}

static void make(const char *id)
{
	ck_assert_int_eq(gateway_session_create(gateway, id, 1, 1, 0700, NULL, NULL), 0);
}

static void setup(void)
{
	temporary_make();
	struct gateway_options o = {.state_dir = temporary};
	struct err err = {{0}};
	ck_assert_msg(gateway_open(&gateway, &o, &err) == 0, "%s", err.text);
	nodes = nodes_new(gateway, NULL);
	ck_assert_int_eq(node_of_ino(nodes, 1, &root), 0);
	sessions = child(&root, "sessions");
}

static void teardown(void)
{
	node_put(nodes, &sessions);
	node_put(nodes, &root);
	nodes = nodes_free(nodes);
	gateway = gateway_free(gateway);
	temporary_remove();
}

START_TEST(the_root_is_inode_1)
{
	ck_assert_ptr_eq(root.row, table_root());
	ck_assert_uint_eq(node_ino(&root), 1);
	struct node none;
	ck_assert_int_eq(node_of_ino(nodes, 0, &none), -ESTALE);
	ck_assert_int_eq(node_of_ino(nodes, 255, &none), -ESTALE);
	ck_assert_int_eq(node_of_ino(nodes, (uint64_t)77 << 16 | 1, &none), -ESTALE);
}
END_TEST

START_TEST(an_inode_number_stays_while_its_session_does)
{
	make("x");
	struct node dir = child(&sessions, "x"), in = child(&dir, "in"), again;
	uint64_t ino = node_ino(&in);
	node_looked_up(nodes, &in);
	node_put(nodes, &in);
	node_put(nodes, &dir);
	node_forget(nodes, ino, 1);
	dir = child(&sessions, "x");
	in = child(&dir, "in");
	ck_assert_uint_eq(node_ino(&in), ino);
	ck_assert_int_eq(node_of_ino(nodes, ino, &again), 0);
	ck_assert_ptr_eq(again.row, in.row);
	node_put(nodes, &again);
	node_put(nodes, &in);
	node_put(nodes, &dir);
}
END_TEST

START_TEST(a_session_made_again_is_another_inode_and_the_old_one_lives_while_it_is_held)
{
	make("x");
	struct node old = child(&sessions, "x");
	uint64_t ino = node_ino(&old);
	node_looked_up(nodes, &old);
	node_put(nodes, &old);
	ck_assert_int_eq(gateway_session_remove(gateway, "x", NULL), 0);
	struct node gone;
	ck_assert_int_eq(node_child(nodes, &sessions, "x", &gone), -ENOENT);
	make("x");
	struct node fresh = child(&sessions, "x");
	ck_assert_uint_ne(node_ino(&fresh), ino);
	ck_assert_int_eq(node_of_ino(nodes, ino, &old), 0);
	node_put(nodes, &old);
	node_forget(nodes, ino, 1);
	ck_assert_int_eq(node_of_ino(nodes, ino, &old), -ESTALE);
	node_put(nodes, &fresh);
}
END_TEST

START_TEST(scratch_files_are_bounded_renamed_and_go_with_their_directory)
{
	make("x");
	struct node dir = child(&sessions, "x"), file, none;
	char name[16];
	for (int i = 0; i < 17; i++) {
		snprintf(name, sizeof name, "s%d", i);
		int r = node_scratch_add(
			nodes, &dir, name, scratch_new(S_IFREG | 0600, 1, 1), &file);
		ck_assert_int_eq(r, i < 16 ? 0 : -ENOSPC);
		if (r == 0)
			node_put(nodes, &file);
	}
	ck_assert_int_eq(node_scratch_remove(nodes, &dir, "s3"), 0);
	ck_assert_int_eq(node_scratch_remove(nodes, &dir, "s3"), -ENOENT);
	ck_assert_int_eq(node_scratch_rename(nodes, &dir, "s4", "s5", true), -EEXIST);
	ck_assert_int_eq(node_scratch_rename(nodes, &dir, "s4", "s5", false), 0);
	ck_assert_int_eq(node_child(nodes, &dir, "s4", &none), -ENOENT);
	char **names = node_scratch_names(nodes, &dir);
	ck_assert_uint_eq(names_count(names), 14);
	names_free(names);
	file = child(&dir, "s5");
	uint64_t ino = node_ino(&file);
	ck_assert_int_eq(gateway_session_remove(gateway, "x", NULL), 0);
	node_unlist(nodes, OBJECT_SESSION, "x");
	ck_assert_int_eq(node_child(nodes, &dir, "s6", &none), -ENOENT);
	ck_assert_int_eq(
		node_scratch_add(nodes, &dir, "new", scratch_new(S_IFREG, 1, 1), &none), -ENOENT);
	ck_assert_int_eq(node_of_ino(nodes, ino, &none), 0); /* still held */
	node_put(nodes, &none);
	node_put(nodes, &file);
	ck_assert_int_eq(node_of_ino(nodes, ino, &none), -ESTALE);
	node_put(nodes, &dir);
}
END_TEST

START_TEST(what_is_not_there_is_not_found)
{
	struct node none;
	char name[300];
	memset(name, 'x', sizeof name);
	name[sizeof name - 1] = '\0';
	ck_assert_int_eq(node_child(nodes, &root, "nothing", &none), -ENOENT);
	ck_assert_int_eq(node_child(nodes, &sessions, name, &none), -ENAMETOOLONG);
	struct node status = child(&root, "status");
	ck_assert_int_eq(node_child(nodes, &status, "x", &none), -ENOTDIR);
	node_put(nodes, &status);
	struct node models = child(&root, "models");
	ck_assert_int_eq(node_child(nodes, &models, "default", &none), -ENOENT);
	node_put(nodes, &models);
}
END_TEST

START_TEST(virtual_models_are_objects_with_rows_of_their_own)
{
	struct node models = child(&root, "models"), file, none;
	struct node autom = child(&models, "auto"), cascade = child(&models, "cascade");
	ck_assert(autom.object->kind == OBJECT_MODEL && cascade.object->kind == OBJECT_MODEL);
	ck_assert_ptr_ne(autom.object, cascade.object);
	ck_assert_str_eq(autom.row->name, "auto");
	ck_assert_int_eq(node_child(nodes, &autom, "path", &none), -ENOENT);
	ck_assert(!node_has_scratch(&autom));
	file = child(&cascade, "state");
	ck_assert_ptr_eq(file.object, cascade.object);
	ck_assert_uint_ne(node_ino(&file), node_ino(&cascade));
	node_put(nodes, &file);
	node_put(nodes, &cascade);
	node_put(nodes, &autom);
	node_put(nodes, &models);
}
END_TEST

START_TEST(each_plain_number_has_an_inode_of_its_own)
{
	struct node metrics = child(&root, "metrics");
	const char *const *names = gateway_metric_names();
	ck_assert_ptr_nonnull(names[0]);
	ck_assert_ptr_nonnull(names[1]);
	struct node a = child(&metrics, names[0]), b = child(&metrics, names[1]), again;
	ck_assert_uint_ne(node_ino(&a), node_ino(&b));
	ck_assert_int_eq(node_of_ino(nodes, node_ino(&b), &again), 0);
	ck_assert_uint_eq(again.sub, b.sub);
	node_put(nodes, &again);
	node_put(nodes, &a);
	node_put(nodes, &b);
	node_put(nodes, &metrics);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/node");
	TCase *t = tcase_create("node");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, the_root_is_inode_1);
	tcase_add_test(t, an_inode_number_stays_while_its_session_does);
	tcase_add_test(
		t, a_session_made_again_is_another_inode_and_the_old_one_lives_while_it_is_held);
	tcase_add_test(t, scratch_files_are_bounded_renamed_and_go_with_their_directory);
	tcase_add_test(t, what_is_not_there_is_not_found);
	tcase_add_test(t, virtual_models_are_objects_with_rows_of_their_own);
	tcase_add_test(t, each_plain_number_has_an_inode_of_its_own);
	suite_add_tcase(s, t);
	return run_suite(s);
}
