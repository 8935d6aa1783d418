/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/kv.h"

#include <stdbool.h>

#include "tests/run_suite.h"

#define N KV_BLOCK_TOK

static uint32_t ids_a[N], ids_b[N], ids_c[N];

static void make_ids(void)
{
	for (uint32_t i = 0; i < N; i++) {
		ids_a[i] = i;
		ids_b[i] = 100 + i;
		ids_c[i] = 200 + i;
	}
}

/* Every block in one bucket, with one hash. */
static uint64_t same_hash(uint64_t parent, const uint32_t ids[N], uint64_t salt)
{
	(void)parent, (void)ids, (void)salt;
	return 7;
}

static uint32_t put(struct kv *kv, uint32_t parent, const uint32_t *ids, uint64_t salt)
{
	uint32_t block = kv_alloc(kv);

	ck_assert_uint_ne(block, KV_NONE);
	return kv_publish(kv, block, parent, ids, salt);
}

START_TEST(a_published_block_is_found_while_in_use_and_after)
{
	struct kv *kv = kv_new(4, NULL);
	uint32_t a = put(kv, KV_NONE, ids_a, 0);

	ck_assert_uint_eq(kv_find(kv, KV_NONE, ids_a, 0), a);
	ck_assert_uint_eq(kv_n_used(kv), 1);
	kv_release(kv, &a, 1);
	ck_assert_uint_eq(kv_n_used(kv), 1);
	kv_release(kv, &a, 1);
	ck_assert_uint_eq(kv_n_used(kv), 0);
	ck_assert_uint_eq(kv_n_cached(kv), 1);
	ck_assert_uint_eq(kv_find(kv, KV_NONE, ids_a, 0), a);
	ck_assert_uint_eq(kv_n_cached(kv), 0);
	kv_free(kv);
}
END_TEST

START_TEST(salt_and_parent_and_ids_separate_even_if_all_hashes_collide)
{
	struct kv *kv = kv_new(16, same_hash);
	uint32_t a = put(kv, KV_NONE, ids_a, 1);
	uint32_t b = put(kv, KV_NONE, ids_b, 1);
	uint32_t a_c = put(kv, a, ids_c, 1);

	ck_assert_uint_eq(kv_find(kv, KV_NONE, ids_a, 2), KV_NONE);
	ck_assert_uint_eq(kv_find(kv, KV_NONE, ids_c, 1), KV_NONE);
	ck_assert_uint_eq(kv_find(kv, b, ids_c, 1), KV_NONE);
	ck_assert_uint_eq(kv_find(kv, a, ids_c, 1), a_c);
	ck_assert_uint_eq(kv_find(kv, KV_NONE, ids_b, 1), b);
	kv_free(kv);
}
END_TEST

START_TEST(a_child_of_an_evicted_parent_is_never_found_behind_its_successor)
{
	struct kv *kv = kv_new(2, same_hash);
	uint32_t a = put(kv, KV_NONE, ids_a, 0);
	uint32_t child = put(kv, a, ids_c, 0);
	uint32_t b, x;

	/* Against the contract's order, so that the parent is reused first. */
	kv_release(kv, &a, 1);
	kv_release(kv, &child, 1);
	b = kv_alloc(kv);
	ck_assert_uint_eq(b, a);
	x = kv_publish(kv, b, KV_NONE, ids_b, 0);
	ck_assert_uint_eq(x, b);
	ck_assert_uint_eq(kv_find(kv, b, ids_c, 0), KV_NONE);
	kv_free(kv);
}
END_TEST

START_TEST(equal_blocks_become_one)
{
	struct kv *kv = kv_new(4, NULL);
	uint32_t a = put(kv, KV_NONE, ids_a, 0);
	uint32_t again = put(kv, KV_NONE, ids_a, 0);

	ck_assert_uint_eq(again, a);
	ck_assert_uint_eq(kv_n_used(kv), 1);
	kv_release(kv, &a, 1);
	ck_assert_uint_eq(kv_n_used(kv), 1);
	kv_release(kv, &again, 1);
	ck_assert_uint_eq(kv_n_used(kv), 0);
	kv_free(kv);
}
END_TEST

START_TEST(the_pool_ends_and_what_was_let_go_first_is_reused_first_tails_before_heads)
{
	struct kv *kv = kv_new(4, NULL);
	uint32_t seq1[2], seq2[2];

	seq1[0] = put(kv, KV_NONE, ids_a, 0);
	seq1[1] = put(kv, seq1[0], ids_b, 0);
	seq2[0] = put(kv, KV_NONE, ids_c, 0);
	seq2[1] = put(kv, seq2[0], ids_b, 0);
	ck_assert_uint_eq(kv_alloc(kv), KV_NONE);
	kv_release(kv, seq1, 2);
	kv_release(kv, seq2, 2);
	ck_assert_uint_eq(kv_n_cached(kv), 4);
	ck_assert_uint_eq(kv_alloc(kv), seq1[1]);
	ck_assert_uint_eq(kv_find(kv, KV_NONE, ids_a, 0), seq1[0]); /* in use again */
	ck_assert_uint_eq(kv_alloc(kv), seq2[1]);
	ck_assert_uint_eq(kv_alloc(kv), seq2[0]);
	ck_assert_uint_eq(kv_alloc(kv), KV_NONE);
	ck_assert_uint_eq(kv_find(kv, KV_NONE, ids_c, 0), KV_NONE);
	kv_free(kv);
}
END_TEST

START_TEST(blocks_without_content_are_reused_before_findable_ones)
{
	struct kv *kv = kv_new(2, NULL);
	uint32_t a = put(kv, KV_NONE, ids_a, 0);
	uint32_t partial = kv_alloc(kv);

	kv_release(kv, &a, 1);
	kv_release(kv, &partial, 1);
	ck_assert_uint_eq(kv_alloc(kv), partial);
	ck_assert_uint_eq(kv_find(kv, KV_NONE, ids_a, 0), a);
	kv_free(kv);
}
END_TEST

START_TEST(a_hundred_thousand_random_operations_keep_the_books)
{
	enum { BLOCKS = 37, SEQS = 8, LONGEST = 6 };
	struct kv *kv = kv_new(BLOCKS, NULL);
	uint32_t held[SEQS][LONGEST], n_held[SEQS] = {0};
	uint32_t random = 1, found = 0;

	for (int step = 0; step < 100000; step++) {
		uint32_t seq, ids[N] = {0}, block, n_used = 0;
		bool seen[BLOCKS] = {false};

		random = random * 1664525u + 1013904223u;
		seq = random >> 16 & (SEQS - 1);
		ids[0] = random >> 24 & 3;
		if (n_held[seq] == LONGEST || (random >> 28) == 0) {
			kv_release(kv, held[seq], n_held[seq]);
			n_held[seq] = 0;
		} else {
			uint32_t n = n_held[seq], parent = n ? held[seq][n - 1] : KV_NONE;

			block = kv_find(kv, parent, ids, 0);
			found += block != KV_NONE;
			if (block == KV_NONE) {
				block = kv_alloc(kv);
				if (block != KV_NONE)
					block = kv_publish(kv, block, parent, ids, 0);
			}
			if (block != KV_NONE)
				held[seq][n_held[seq]++] = block;
		}
		for (uint32_t i = 0; i < SEQS; i++)
			for (uint32_t k = 0; k < n_held[i]; k++) {
				n_used += !seen[held[i][k]];
				seen[held[i][k]] = true;
			}
		if (kv_n_used(kv) != n_used || kv_n_used(kv) + kv_n_cached(kv) > BLOCKS)
			ck_abort_msg("step %d: %u used, counted %u", step, kv_n_used(kv), n_used);
	}
	ck_assert_uint_gt(found, 10000);
	kv_free(kv);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("engine/kv");
	TCase *t = tcase_create("kv");

	tcase_add_checked_fixture(t, make_ids, NULL);
	tcase_add_test(t, a_published_block_is_found_while_in_use_and_after);
	tcase_add_test(t, salt_and_parent_and_ids_separate_even_if_all_hashes_collide);
	tcase_add_test(t, a_child_of_an_evicted_parent_is_never_found_behind_its_successor);
	tcase_add_test(t, equal_blocks_become_one);
	tcase_add_test(
		t, the_pool_ends_and_what_was_let_go_first_is_reused_first_tails_before_heads);
	tcase_add_test(t, blocks_without_content_are_reused_before_findable_ones);
	tcase_add_test(t, a_hundred_thousand_random_operations_keep_the_books);
	suite_add_tcase(s, t);
	return run_suite(s);
}
