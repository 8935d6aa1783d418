/* SPDX-License-Identifier: Apache-2.0 */
/* Files of rules without a kernel: handles, renames and passes over a TREE and a real gateway. */
#include "fs/rules.h"

#include "fs/guards.h"
#include "fs/handle.h"
#include "fs/names.h"
#include "fs/rename.h"
#include "fs/scratch.h"
#include "fs/tree.h"
#include "fs/tree_file.h"

#include "base/clock.h"

#include <errno.h>

#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static struct fs fs;
static struct node guards, input;

static const char one[] = "block one /one1/\n", two[] = "block two /two2/\n",
		  bad[] = "block bad /(/\n";

static struct node child(const struct node *dir, const char *name)
{
	struct node node;
	ck_assert_int_eq(node_child(fs.nodes, dir, name, &node), 0);
	return node;
}

static int saved_as(const char *file, const char *text)
{
	return guards_save(&fs, file, text, strlen(text), NULL, NULL);
}

static void setup(void)
{
	temporary_make();
	temporary_sh("mkdir -p tree state");
	char path[128];
	struct err err = {{0}};
	snprintf(path, sizeof path, "%s/state", temporary);
	struct gateway_options o = {.state_dir = path};
	ck_assert_msg(gateway_open(&fs.gateway, &o, &err) == 0, "%s", err.text);
	char tree[128];
	snprintf(tree, sizeof tree, "%s/tree", temporary);
	ck_assert_int_eq(tree_open(&fs.tree, tree, NULL), 0);
	fs.nodes = nodes_new(fs.gateway, fs.tree);
	struct node root;
	ck_assert_int_eq(node_of_ino(fs.nodes, 1, &root), 0);
	guards = child(&root, "guards");
	input = child(&guards, "input");
	node_put(fs.nodes, &root);
	ck_assert_int_eq(saved_as("input/a.rules", one), 0);
}

static void teardown(void)
{
	node_put(fs.nodes, &input);
	node_put(fs.nodes, &guards);
	fs.nodes = nodes_free(fs.nodes);
	fs.gateway = gateway_free(fs.gateway);
	fs.tree = tree_free(fs.tree);
	temporary_remove();
}

/* ---- what programs do ---- */

static struct handle *opened(const char *name, int flags)
{
	struct node node = child(&input, name);
	struct handle *h = NULL;
	ck_assert_int_eq(handle_open(&h, &fs, &node, flags, 0, 0), 0);
	node_put(fs.nodes, &node);
	return h;
}

static int put(struct handle *h, uint64_t offset, const char *text)
{
	return h->ops->write(h, offset, text, strlen(text));
}

static int flush(struct handle *h)
{
	return h->ops->flush(h);
}

static void closed(struct handle *h)
{
	if (handle_writes(h))
		h->ops->release(h);
	handle_put(h);
}

static int cut(struct handle *h, uint64_t size)
{
	return h->ops->truncate(&fs, &h->node, h, size);
}

static void saved_is(const char *file, const char *text)
{
	struct buf have = {0};
	ck_assert_int_eq(tree_guards_get(fs.tree, file, &have), 0);
	ck_assert_str_eq(have.data ? have.data : "", text);
	buf_free(&have);
}

static bool set_is(const char *file, const char *text)
{
	return gateway_guard_is(fs.gateway, file, text, strlen(text));
}

/* guards/status has that line, and the stage is not closed. */
static bool status_has(const char *line)
{
	struct buf status = {0};
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_GUARD_STATUS, &status), 0);
	bool has = strstr(status.data, line) && !strstr(status.data, "closed");
	buf_free(&status);
	return has;
}

static void shows(const char *name, const char *text)
{
	struct node node = child(&input, name);
	struct buf have = {0};
	uint64_t bytes = 0, ns;
	ck_assert_int_eq(rules_text(&fs, &node, &have), 0);
	ck_assert_str_eq(have.data ? have.data : "", text);
	rules_size(&fs, &node, &bytes, &ns);
	ck_assert_uint_eq(bytes, strlen(text));
	buf_free(&have);
	node_put(fs.nodes, &node);
}

static bool exists(const char *name)
{
	struct node node;
	int r = node_child(fs.nodes, &input, name, &node);
	ck_assert(r == 0 || r == -ENOENT);
	node_put(fs.nodes, &node);
	return r == 0;
}

static void scratch(const char *name, const char *text)
{
	struct scratch *s = scratch_new(S_IFREG | 0600, 0, 0);
	struct node node;
	ck_assert_int_ge(scratch_write(s, 0, text, strlen(text)), 0);
	ck_assert_int_eq(node_scratch_add(fs.nodes, &input, name, s, &node), 0);
	node_put(fs.nodes, &node);
}

static int moved(const char *from, const char *to, unsigned flags)
{
	return rename_any(&fs, &input, from, &input, to, flags);
}

/* ---- writing ---- */

START_TEST(what_is_written_is_saved_at_the_flush_and_not_before)
{
	struct handle *h = opened("a.rules", O_WRONLY | O_TRUNC);
	ck_assert_int_eq(put(h, 0, "block two"), 0);
	ck_assert_int_eq(put(h, 9, " /two2/\n"), 0);
	saved_is("input/a.rules", one);
	ck_assert(set_is("input/a.rules", one));
	ck_assert_int_eq(flush(h), 0);
	saved_is("input/a.rules", two);
	ck_assert(set_is("input/a.rules", two));
	closed(h);
	saved_is("input/a.rules", two);
}
END_TEST

START_TEST(what_was_not_flushed_is_saved_at_the_last_close)
{
	struct handle *h = opened("a.rules", O_WRONLY | O_TRUNC);
	ck_assert_int_eq(put(h, 0, two), 0);
	closed(h);
	saved_is("input/a.rules", two);
	ck_assert(set_is("input/a.rules", two));
}
END_TEST

START_TEST(truncating_shows_nothing_and_puts_nothing_out_of_force)
{
	struct handle *h = opened("a.rules", O_WRONLY | O_TRUNC);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(flush(h), 0); /* of a redirection, of children */
	shows("a.rules", "");
	saved_is("input/a.rules", one);
	guards_pass(&fs, NULL);
	ck_assert(set_is("input/a.rules", one));
	ck_assert_int_eq(put(h, 0, two), 0);
	ck_assert_int_eq(flush(h), 0);
	shows("a.rules", two);
	ck_assert(set_is("input/a.rules", two));
	closed(h);
}
END_TEST

START_TEST(a_file_that_was_emptied_is_empty_at_its_last_close)
{
	struct handle *h = opened("a.rules", O_WRONLY);
	ck_assert_int_eq(cut(h, 0), 0);
	ck_assert_int_eq(flush(h), 0);
	ck_assert(set_is("input/a.rules", one));
	closed(h);
	saved_is("input/a.rules", "");
	ck_assert(set_is("input/a.rules", ""));
}
END_TEST

START_TEST(who_appends_after_a_truncation_does_not_bring_the_old_text_back)
{
	struct handle *empty = opened("a.rules", O_WRONLY | O_TRUNC);
	struct handle *h = opened("a.rules", O_WRONLY | O_APPEND);
	ck_assert_int_eq(put(h, 0, two), 0);
	ck_assert_int_eq(flush(h), 0);
	closed(h);
	saved_is("input/a.rules", two);
	closed(empty); /* its truncation came before */
	saved_is("input/a.rules", two);
}
END_TEST

START_TEST(a_faulty_text_is_saved_and_the_flush_says_so_until_it_is_mended)
{
	struct handle *h = opened("a.rules", O_RDWR | O_TRUNC);
	ck_assert_int_eq(put(h, 0, bad), 0);
	ck_assert_int_eq(h->ops->fsync(h), -EINVAL);
	saved_is("input/a.rules", bad);
	ck_assert_int_eq(flush(h), -EINVAL);
	ck_assert_int_eq(cut(h, 0), 0);
	ck_assert_int_eq(put(h, 0, two), 0);
	ck_assert_int_eq(h->ops->fsync(h), 0);
	ck_assert_int_eq(flush(h), 0);
	closed(h);
	saved_is("input/a.rules", two);
}
END_TEST

START_TEST(offsets_and_sizes_are_those_of_a_file)
{
	struct handle *h = opened("a.rules", O_WRONLY);
	ck_assert_int_eq(put(h, 6, "two"), 0);
	ck_assert_int_eq(put(h, sizeof one - 1, "# more\n"), 0);
	ck_assert_int_eq(flush(h), 0);
	saved_is("input/a.rules", "block two /one1/\n# more\n");
	ck_assert_int_eq(cut(h, 17), 0);
	ck_assert_int_eq(flush(h), 0);
	saved_is("input/a.rules", "block two /one1/\n");
	closed(h);
	h = opened("a.rules", O_WRONLY | O_APPEND);
	ck_assert_int_eq(put(h, 3, "# end\n"), 0); /* the kernel's size may be old */
	ck_assert_int_eq(put(h, 3, "# it is\n"), 0);
	closed(h);
	saved_is("input/a.rules", "block two /one1/\n# end\n# it is\n");
}
END_TEST

START_TEST(two_that_append_at_once_lose_nothing)
{
	struct handle *a = opened("a.rules", O_WRONLY | O_APPEND);
	struct handle *b = opened("a.rules", O_WRONLY | O_APPEND);
	ck_assert_int_eq(put(a, 0, "# a\n"), 0);
	ck_assert_int_eq(put(b, 0, "# b\n"), 0);
	ck_assert_int_eq(flush(b), 0);
	ck_assert_int_eq(flush(a), 0);
	ck_assert_int_eq(put(b, 0, "# c\n"), 0);
	closed(a);
	closed(b);
	saved_is("input/a.rules", "block one /one1/\n# b\n# a\n# c\n");
}
END_TEST

START_TEST(who_truncated_long_ago_appends_to_what_others_have_written_since)
{
	struct handle *h = opened("a.rules", O_WRONLY | O_APPEND | O_TRUNC);
	struct handle *other = opened("a.rules", O_WRONLY | O_APPEND);
	ck_assert_int_eq(put(other, 0, two), 0);
	closed(other);
	ck_assert_int_eq(put(h, 0, "# end\n"), 0);
	closed(h);
	saved_is("input/a.rules", "block two /two2/\n# end\n");
	h = opened("a.rules", O_WRONLY | O_APPEND);
	ck_assert_int_eq(cut(h, 10), 0);
	ck_assert_int_eq(put(h, 0, "/two2/\n"), 0);
	closed(h);
	saved_is("input/a.rules", "block two /two2/\n");
}
END_TEST

START_TEST(a_handle_reads_what_it_has_written)
{
	struct handle *h = opened("a.rules", O_RDWR);
	struct reply reply = {.data = NULL};
	ck_assert_int_eq(put(h, 6, "two"), 0);
	ck_assert_int_eq(h->ops->read(h, 0, 100, &reply, NULL), 0);
	ck_assert_uint_eq(reply.len, sizeof one - 1);
	ck_assert_mem_eq(reply.data, "block two", 9);
	reply_end(&reply);
	closed(h);
}
END_TEST

START_TEST(a_text_of_more_than_256_kib_is_refused_at_the_write)
{
	struct handle *h = opened("a.rules", O_WRONLY);
	ck_assert_int_eq(put(h, TREE_GUARDS_MAX - 1, "\n"), 0);
	ck_assert_int_eq(put(h, TREE_GUARDS_MAX, "x"), -EFBIG);
	ck_assert_int_eq(cut(h, TREE_GUARDS_MAX + 1), -EFBIG);
	ck_assert_int_eq(cut(h, sizeof one - 1), 0);
	closed(h);
	saved_is("input/a.rules", one);
}
END_TEST

START_TEST(a_file_that_was_unlinked_does_not_come_back)
{
	struct handle *h = opened("a.rules", O_WRONLY | O_TRUNC);
	ck_assert_int_eq(put(h, 0, two), 0);
	ck_assert_int_eq(guards_delete(&fs, "input/a.rules"), 0);
	ck_assert_int_eq(flush(h), 0);
	closed(h);
	ck_assert(!exists("a.rules"));
	char **names = gateway_guard_names(fs.gateway);
	ck_assert_uint_eq(names_count(names), 0);
	names_free(names);
}
END_TEST

START_TEST(a_handle_of_a_file_that_was_unlinked_hides_nothing_of_the_next)
{
	struct handle *h = opened("a.rules", O_WRONLY);
	ck_assert_int_eq(guards_delete(&fs, "input/a.rules"), 0);
	ck_assert_int_eq(saved_as("input/a.rules", two), 0);
	ck_assert_int_eq(cut(h, 0), 0);
	shows("a.rules", two);
	closed(h);
	shows("a.rules", two);
}
END_TEST

START_TEST(a_file_that_is_made_again_is_not_believed_before_it_is_written)
{
	temporary_sh("cd tree/guards/input && rm a.rules && touch -d '1 minute ago' a.rules");
	struct handle *h = opened("a.rules", O_WRONLY | O_TRUNC);
	ck_assert(!guards_pass(&fs, NULL));
	ck_assert(set_is("input/a.rules", one));
	ck_assert_int_eq(put(h, 0, two), 0);
	closed(h);
	ck_assert(set_is("input/a.rules", two));
}
END_TEST

/* ---- renames ---- */

START_TEST(a_scratch_file_renamed_over_rules_is_in_force)
{
	scratch("sedXYZ", two);
	ck_assert_int_eq(moved("sedXYZ", "a.rules", RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(moved("sedXYZ", "a.rules", 0), 0);
	ck_assert(!exists("sedXYZ"));
	saved_is("input/a.rules", two);
	ck_assert(set_is("input/a.rules", two));
	scratch("new", one);
	ck_assert_int_eq(moved("new", "b.rules", RENAME_NOREPLACE), 0);
	ck_assert(set_is("input/b.rules", one));
}
END_TEST

START_TEST(a_rename_of_a_faulty_text_succeeds)
{
	scratch("new", bad);
	ck_assert_int_eq(moved("new", "a.rules", 0), 0);
	saved_is("input/a.rules", bad);
	shows("a.rules", bad);
}
END_TEST

START_TEST(rules_renamed_away_and_back_are_never_out_of_tree)
{
	ck_assert_int_eq(moved("a.rules", "a.rules~", 0), 0);
	ck_assert(!exists("a.rules"));
	saved_is("input/a.rules~", one);
	struct node backup = child(&input, "a.rules~");
	char text[64] = "";
	ck_assert_uint_eq(
		scratch_read(backup.object->scratch, 0, text, sizeof text), sizeof one - 1);
	ck_assert_str_eq(text, one);
	node_put(fs.nodes, &backup);
	ck_assert_int_eq(moved("a.rules~", "a.rules", 0), 0);
	saved_is("input/a.rules", one);
	ck_assert(set_is("input/a.rules", one));
	temporary_sh("test \"$(ls -A tree/guards/input)\" = a.rules");
}
END_TEST

START_TEST(rules_whose_name_is_back_stay_in_force_until_their_text_comes)
{
	ck_assert_int_eq(moved("a.rules", "a.rules~", 0), 0);
	ck_assert(!set_is("input/a.rules", one)); /* it is going away */
	ck_assert_int_eq(guards_create(&fs, "input/a.rules"), 0);
	ck_assert_int_eq(guards_create(&fs, "input/a.rules"), -EEXIST);
	ck_assert(set_is("input/a.rules", one));
	struct handle *h = opened("a.rules", O_WRONLY | O_TRUNC);
	shows("a.rules", "");
	ck_assert_int_eq(put(h, 0, two), 0);
	closed(h);
	ck_assert(set_is("input/a.rules", two));
}
END_TEST

START_TEST(a_backup_that_was_changed_comes_back_as_it_is_then)
{
	ck_assert_int_eq(moved("a.rules", "a.off", 0), 0);
	struct node off = child(&input, "a.off");
	ck_assert_int_ge(scratch_write(off.object->scratch, 0, two, strlen(two)), 0);
	node_put(fs.nodes, &off);
	ck_assert_int_eq(moved("a.off", "a.rules", 0), 0);
	saved_is("input/a.rules", two);
	ck_assert(set_is("input/a.rules", two));
	temporary_sh("test \"$(ls -A tree/guards/input)\" = a.rules");
}
END_TEST

START_TEST(what_tree_keeps_of_a_backup_goes_with_the_backup)
{
	ck_assert_int_eq(moved("a.rules", "a.rules~", 0), 0);
	ck_assert_int_eq(saved_as("input/a.rules", two), 0);
	ck_assert_int_eq(moved("a.rules", "a.rules~", 0), 0); /* over the older backup */
	struct node backup = child(&input, "a.rules~");
	ck_assert_int_eq(rename_drop_scratch(&fs, &input, "a.rules~", &backup), 0);
	node_put(fs.nodes, &backup);
	temporary_sh("test -z \"$(ls -A tree/guards/input)\"");
}
END_TEST

START_TEST(rules_renamed_to_other_rules_are_in_force_under_that_name)
{
	ck_assert_int_eq(saved_as("input/b.rules", two), 0);
	ck_assert_int_eq(moved("a.rules", "b.rules", RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(moved("a.rules", "c.rules", RENAME_NOREPLACE), 0);
	ck_assert(set_is("input/c.rules", one));
	struct buf status = {0};
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_GUARD_STATUS, &status), 0);
	ck_assert_ptr_null(strstr(status.data, "is in")); /* its rules are not there twice */
	buf_free(&status);
	ck_assert_int_eq(moved("c.rules", "b.rules", 0), 0);
	ck_assert(set_is("input/b.rules", one));
	char **names = gateway_guard_names(fs.gateway);
	ck_assert_uint_eq(names_count(names), 1);
	names_free(names);
	temporary_sh("test \"$(ls -A tree/guards/input)\" = b.rules");
}
END_TEST

START_TEST(einval_never_comes_from_a_rename)
{
	scratch("new", bad);
	ck_assert_int_eq(moved("new", "no name.rules", 0), -EPERM);
	ck_assert_int_eq(moved("a.rules", "no name.rules", 0), -EPERM);
	saved_is("input/a.rules", one);
}
END_TEST

START_TEST(scratch_files_of_one_directory_are_not_in_another)
{
	struct node none;
	scratch("4913", "");
	ck_assert(exists("4913"));
	ck_assert_int_eq(node_child(fs.nodes, &guards, "4913", &none), -ENOENT);
	char **names = node_scratch_names(fs.nodes, &guards);
	ck_assert_uint_eq(names_count(names), 0);
	names_free(names);
}
END_TEST

START_TEST(names_say_which_file_it_is)
{
	char file[TREE_GUARDS_NAME];
	ck_assert_int_eq(guards_file(TABLE_GUARDS_INPUT, "a.rules", file), 0);
	ck_assert_str_eq(file, "input/a.rules");
	ck_assert_int_eq(guards_file(TABLE_GUARDS, "moderation", file), 0);
	ck_assert_str_eq(file, "moderation");
	static const char *const others[] = {"a.rules~", ".a.rules.swp", "4913", "sedAbCd",
		"#a.rules#", ".#a.rules", "moderation", ".rules"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		ck_assert_msg(guards_file(TABLE_GUARDS_OUTPUT, others[i], file) == -ENOENT, "%s",
			others[i]);
	ck_assert_int_eq(guards_file(TABLE_GUARDS_INPUT, "a b.rules", file), -EINVAL);
	ck_assert_int_eq(guards_file(TABLE_SESSION, "a.rules", file), -ENOENT);
}
END_TEST

/* ---- passes ---- */

static void older(const char *files)
{
	char script[200];
	snprintf(script, sizeof script, "cd tree/guards && touch -d '1 minute ago' %s", files);
	temporary_sh(script);
}

START_TEST(a_pass_sets_what_tree_has_and_removes_what_it_has_no_longer)
{
	temporary_sh(
		"cd tree/guards && echo 'block two /two2/' > input/b.rules && rm input/a.rules");
	char *deleted[] = {(char[]){"input/a.rules"}, NULL};
	ck_assert(!guards_pass(&fs, deleted));
	ck_assert(set_is("input/b.rules", two));
	char **names = gateway_guard_names(fs.gateway);
	ck_assert_uint_eq(names_count(names), 1);
	names_free(names);
}
END_TEST

START_TEST(a_file_renamed_away_in_tree_is_looked_for_again)
{
	temporary_sh("mv tree/guards/input/a.rules tree/guards/input/a.off");
	ck_assert(guards_pass(&fs, NULL));
	temporary_sh("mv tree/guards/input/a.off tree/guards/input/a.rules");
	ck_assert(!guards_pass(&fs, NULL));
	ck_assert(set_is("input/a.rules", one));
}
END_TEST

START_TEST(a_file_that_is_found_empty_in_tree_keeps_its_last_rules)
{
	bool young;
	int left = 10; /* tries: it is so for a moment only */
	do {
		ck_assert_int_eq(saved_as("input/a.rules", one), 0);
		uint64_t from = clock_mono_ns();
		temporary_empty("tree/guards/input/a.rules");
		young = guards_pass(&fs, NULL); /* it may still be written */
		ck_assert(young || clock_mono_ns() - from >= TREE_FILE_YOUNG_MS * 1000000ull);
	} while (!young && --left);
	ck_assert(young);
	ck_assert(set_is("input/a.rules", one));
	older("input/a.rules");
	guards_pass(&fs, NULL);
	ck_assert(status_has("input/a.rules 1 rule of an earlier text\n"));
	temporary_sh("echo '# none' > tree/guards/input/a.rules");
	ck_assert(!guards_pass(&fs, NULL));
	ck_assert(status_has("input/a.rules 0 rules\n"));
}
END_TEST

START_TEST(a_fault_that_was_another_files_ends_with_that_file)
{
	ck_assert_int_eq(saved_as("input/b.rules", one), 1);
	ck_assert_int_eq(guards_delete(&fs, "input/a.rules"), 0);
	ck_assert(!guards_pass(&fs, NULL));
	struct buf status = {0};
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_GUARD_STATUS, &status), 0);
	ck_assert_str_eq(status.data, "input/b.rules 1 rule\n");
	buf_free(&status);
}
END_TEST

START_TEST(a_file_that_is_too_long_has_a_fault)
{
	struct buf status = {0};
	temporary_sh("yes '# rules' | head -c 300000 > tree/guards/input/b.rules");
	for (int i = 0; i < 2; i++)
		ck_assert(!guards_pass(&fs, NULL));
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_GUARD_STATUS, &status), 0);
	ck_assert_ptr_nonnull(strstr(status.data, "input/b.rules:1:1: "));
	ck_assert_ptr_nonnull(strstr(status.data, "closed"));
	buf_free(&status);
}
END_TEST

START_TEST(what_is_no_regular_file_is_reported_and_changes_nothing)
{
	temporary_sh("cd tree/guards/input && echo 'block two /two2/' > ../t && rm a.rules && "
		     "ln -s ../t a.rules");
	guards_pass(&fs, NULL);
	ck_assert(status_has("input/a.rules 1 rule of an earlier text\ninput/a.rules:1:1: not a "
			     "regular file\n"));
	struct buf status = {0};
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_STATUS, &status), 0);
	ck_assert_ptr_nonnull(strstr(status.data, "guards/input/a.rules in TREE: not a regular"));
	buf_clear(&status);
	temporary_sh("cd tree/guards/input && rm a.rules && cp ../t a.rules");
	guards_pass(&fs, NULL);
	ck_assert(set_is("input/a.rules", two));
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_STATUS, &status), 0);
	ck_assert_str_eq(status.data, "ok\n");
	buf_free(&status);
}
END_TEST

START_TEST(root_takes_no_rules_that_others_can_write)
{
	if (geteuid() != 0)
		return; /* nobody else's rights are at stake */
	temporary_sh(
		"cd tree/guards/input && echo 'block two /two2/' > a.rules && chmod 666 a.rules");
	guards_pass(&fs, NULL);
	ck_assert(status_has("input/a.rules 1 rule of an earlier text\ninput/a.rules:1:1: "));
	temporary_sh("chmod 644 tree/guards/input/a.rules; chmod 777 tree/guards/input");
	guards_pass(&fs, NULL);
	ck_assert(status_has("input/a.rules 1 rule of an earlier text\ninput/a.rules:1:1: "));
	temporary_sh("chmod 755 tree/guards/input");
	guards_pass(&fs, NULL);
	ck_assert(set_is("input/a.rules", two));
}
END_TEST

START_TEST(what_is_no_regular_file_and_never_was_closes_its_stage)
{
	struct buf status = {0};
	temporary_sh("ln -s a.rules tree/guards/input/new.rules");
	guards_pass(&fs, NULL);
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_GUARD_STATUS, &status), 0);
	ck_assert_ptr_nonnull(strstr(status.data, "input/new.rules closed"));
	buf_free(&status);
	temporary_sh("rm tree/guards/input/new.rules");
	guards_pass(&fs, (char *[]){(char[]){"input/new.rules"}, NULL});
	ck_assert(status_has("input/a.rules 1 rule\n"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/rules");
	TCase *t = tcase_create("rules");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_is_written_is_saved_at_the_flush_and_not_before);
	tcase_add_test(t, what_was_not_flushed_is_saved_at_the_last_close);
	tcase_add_test(t, truncating_shows_nothing_and_puts_nothing_out_of_force);
	tcase_add_test(t, a_file_that_was_emptied_is_empty_at_its_last_close);
	tcase_add_test(t, who_appends_after_a_truncation_does_not_bring_the_old_text_back);
	tcase_add_test(t, a_faulty_text_is_saved_and_the_flush_says_so_until_it_is_mended);
	tcase_add_test(t, offsets_and_sizes_are_those_of_a_file);
	tcase_add_test(t, two_that_append_at_once_lose_nothing);
	tcase_add_test(t, who_truncated_long_ago_appends_to_what_others_have_written_since);
	tcase_add_test(t, a_handle_reads_what_it_has_written);
	tcase_add_test(t, a_text_of_more_than_256_kib_is_refused_at_the_write);
	tcase_add_test(t, a_file_that_was_unlinked_does_not_come_back);
	tcase_add_test(t, a_handle_of_a_file_that_was_unlinked_hides_nothing_of_the_next);
	tcase_add_test(t, a_file_that_is_made_again_is_not_believed_before_it_is_written);
	tcase_add_test(t, a_scratch_file_renamed_over_rules_is_in_force);
	tcase_add_test(t, a_rename_of_a_faulty_text_succeeds);
	tcase_add_test(t, rules_renamed_away_and_back_are_never_out_of_tree);
	tcase_add_test(t, rules_whose_name_is_back_stay_in_force_until_their_text_comes);
	tcase_add_test(t, a_backup_that_was_changed_comes_back_as_it_is_then);
	tcase_add_test(t, what_tree_keeps_of_a_backup_goes_with_the_backup);
	tcase_add_test(t, rules_renamed_to_other_rules_are_in_force_under_that_name);
	tcase_add_test(t, einval_never_comes_from_a_rename);
	tcase_add_test(t, scratch_files_of_one_directory_are_not_in_another);
	tcase_add_test(t, names_say_which_file_it_is);
	tcase_add_test(t, a_pass_sets_what_tree_has_and_removes_what_it_has_no_longer);
	tcase_add_test(t, a_file_renamed_away_in_tree_is_looked_for_again);
	tcase_add_test(t, a_file_that_is_found_empty_in_tree_keeps_its_last_rules);
	tcase_add_test(t, a_fault_that_was_another_files_ends_with_that_file);
	tcase_add_test(t, a_file_that_is_too_long_has_a_fault);
	tcase_add_test(t, what_is_no_regular_file_is_reported_and_changes_nothing);
	tcase_add_test(t, what_is_no_regular_file_and_never_was_closes_its_stage);
	tcase_add_test(t, root_takes_no_rules_that_others_can_write);
	suite_add_tcase(s, t);
	return run_suite(s);
}
