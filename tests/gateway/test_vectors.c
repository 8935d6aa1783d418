/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/run_suite.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "gateway/idmap.h"
#include "gateway/vectors.h"
#include "gateway/vectors_parts.h"

static uint64_t seed = 11;

static uint32_t dice(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((seed >> 33) % n);
}

static float noise(void)
{
	float sum = -6;

	for (unsigned i = 0; i < 12; i++)
		sum += (float)dice(1 << 20) / (float)(1 << 20);
	return sum;
}

static void to_unit(float *x, uint32_t dim)
{
	double sum = 0;

	for (uint32_t i = 0; i < dim; i++)
		sum += (double)x[i] * (double)x[i];
	for (uint32_t i = 0; i < dim; i++)
		x[i] = (float)(x[i] / sqrt(sum));
}

static void stranger(float *x, uint32_t dim)
{
	for (uint32_t i = 0; i < dim; i++)
		x[i] = noise();
	to_unit(x, dim);
}

/* A vector whose cosine with `of` is `cosine`. */
static void relative(float *x, const float *of, uint32_t dim, float cosine)
{
	double along = 0;

	stranger(x, dim);
	for (uint32_t i = 0; i < dim; i++)
		along += (double)x[i] * (double)of[i];
	for (uint32_t i = 0; i < dim; i++)
		x[i] -= (float)along * of[i];
	to_unit(x, dim);
	for (uint32_t i = 0; i < dim; i++)
		x[i] = cosine * of[i] + sqrtf(1 - cosine * cosine) * x[i];
}

static double exact(const float *a, const float *b, uint32_t dim)
{
	double sum = 0;

	for (uint32_t i = 0; i < dim; i++)
		sum += (double)a[i] * (double)b[i];
	return sum;
}

static struct vectors *new_set(uint32_t dim)
{
	struct vectors *v = vectors_new(dim, VECTORS_MAX, (size_t)1 << 30);

	ck_assert_ptr_nonnull(v);
	return v;
}

/* n vectors in a scope with ids from first on; every third a relative of `of`, at all distances. */
static float *fill(struct vectors *v, uint64_t scope, uint64_t first, uint32_t n, uint32_t dim,
	const float *of)
{
	float *x = malloc((size_t)n * dim * sizeof(*x));

	for (uint32_t i = 0; i < n; i++) {
		if (i % 3 == 0 && dim > 1)
			relative(x + (size_t)i * dim, of, dim, (float)dice(10000) / 10000);
		else
			stranger(x + (size_t)i * dim, dim);
		ck_assert_int_eq(vectors_add(v, scope, first + i, x + (size_t)i * dim), 0);
	}
	return x;
}

/* What a search finds is what there is: by a plain comparison with all of x, but for scores that
 * are within rounding of the threshold. */
static void check_all_found(struct vectors *v, const float *x, uint32_t n, uint32_t dim,
	const float *query, float least)
{
	static struct vectors_hit hits[4096];
	static bool found[4096];
	size_t got = vectors_search(v, 5, query, least, 4096, hits);

	memset(found, 0, sizeof(found));
	for (size_t i = 0; i < got; i++) {
		found[hits[i].id] = true;
		ck_assert(fabs(hits[i].score - exact(query, x + hits[i].id * dim, dim)) < 1e-5);
		ck_assert(i == 0 || hits[i - 1].score > hits[i].score ||
			  (hits[i - 1].score == hits[i].score && hits[i - 1].id < hits[i].id));
	}
	for (uint32_t i = 0; i < n; i++) {
		double score = exact(query, x + (size_t)i * dim, dim);
		if (fabs(score - (double)least) > 1e-5)
			ck_assert_msg(found[i] == (score > (double)least), "%u: %f", i, score);
	}
}

START_TEST(nothing_at_or_above_the_threshold_is_missed_because_of_eight_bits)
{
	static const uint32_t dims[] = {1, 2, 3, 16, 31, 64, 100, 384, 768};

	for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
		const uint32_t dim = dims[d], n = 1509;
		float of[768];
		stranger(of, dim);
		struct vectors *v = new_set(dim);
		float *x = fill(v, 5, 0, n, dim, of);
		for (int least = 99; least >= -99; least -= least > 70 ? 1 : 40)
			check_all_found(v, x, n, dim, of, (float)least / 100);
		free(x);
		vectors_free(v);
	}
}
END_TEST

START_TEST(entries_just_above_the_threshold_are_found_and_just_below_are_not)
{
	enum { DIM = 384, N = 640 };
	float of[DIM], x[DIM];
	struct vectors_hit hits[N];
	struct vectors *v = new_set(DIM);

	stranger(of, DIM);
	for (uint32_t i = 0; i < N; i++) {
		relative(x, of, DIM, i % 2 ? 0.9501f : 0.9499f);
		ck_assert_int_eq(vectors_add(v, 1, i, x), 0);
	}
	ck_assert_uint_eq(vectors_search(v, 1, of, 0.95f, N, hits), N / 2);
	for (uint32_t i = 0; i < N / 2; i++)
		ck_assert_uint_eq(hits[i].id % 2, 1);
	vectors_free(v);
}
END_TEST

/* Vectors that are bad for eight bits: one large number, few numbers, all the same, tiny ones. */
START_TEST(lopsided_vectors_are_found_as_well)
{
	enum { DIM = 384, N = 384 };
	static float x[N][DIM];
	struct vectors *v = new_set(DIM);

	for (uint32_t i = 0; i < N; i++) {
		if (i % 4 == 0)
			x[i][i] = 1;
		for (uint32_t k = 0; k < DIM && i % 4; k++)
			x[i][k] = i % 4 == 1   ? (k % 100 == i % 100 ? 1 : 1e-6f * (float)k)
				  : i % 4 == 2 ? (k < i ? -1.f : 1.f)
					       : 1e-3f + (k == i ? 1.f : 0.f);
		to_unit(x[i], DIM);
		ck_assert_int_eq(vectors_add(v, 5, i, x[i]), 0);
	}
	for (uint32_t i = 0; i < N; i += 5)
		check_all_found(v, x[0], N, DIM, x[i], 0.9f);
	vectors_free(v);
}
END_TEST

START_TEST(scalar_and_vector_paths_find_the_same_with_the_same_scores)
{
	enum { DIM = 384, N = 3000, K = 50 };
	float of[DIM];
	struct vectors_hit hits[K], other[K];
	struct vectors *v = new_set(DIM);

	stranger(of, DIM);
	float *x = fill(v, 9, 0, N, DIM, of);
	for (int least = 95; least > -100; least -= 30) {
		vectors_use(v, sketch_path_at(0));
		size_t n = vectors_search(v, 9, of, (float)least / 100, K, hits);
		for (size_t p = 1; sketch_path_at(p); p++) {
			vectors_use(v, sketch_path_at(p));
			memset(other, 0, sizeof(other));
			ck_assert_uint_eq(
				vectors_search(v, 9, of, (float)least / 100, K, other), n);
			for (size_t i = 0; i < n; i++) {
				ck_assert_uint_eq(other[i].id, hits[i].id);
				ck_assert(other[i].score == hits[i].score);
			}
		}
	}
	free(x);
	vectors_free(v);
}
END_TEST

START_TEST(sums_of_bytes_are_the_same_on_every_path)
{
	int8_t a[1024], b[1024];

	for (unsigned round = 0; round < 200; round++) {
		for (uint32_t i = 0; i < 1024; i++) {
			a[i] = (int8_t)(round ? (int)dice(255) - 127 : 127);
			b[i] = (int8_t)(round ? (int)dice(255) - 127 : -127);
		}
		for (uint32_t n = 0; n <= 1024; n += 64) {
			int32_t sum = 0;
			for (uint32_t i = 0; i < n; i++)
				sum += a[i] * b[i];
			for (size_t p = 0; sketch_path_at(p); p++)
				ck_assert_int_eq(sketch_path_at(p)->dot(a, b, n), sum);
		}
	}
}
END_TEST

START_TEST(bounds_of_heads_are_never_below_the_product_on_any_path)
{
	enum { DIM = 384 };
	struct sketch_shape s;
	static struct sketch_query q;
	static int8_t heads[DIM * 16], tails[DIM * 16];
	struct sketch_lanes lanes;
	float scales[16], x[16][DIM], query[DIM], bounds[16];
	const struct sketch_group g = {heads, &lanes, tails, scales};
	uint32_t mask;

	ck_assert_int_eq(sketch_shape_init(&s, DIM), 0);
	for (unsigned round = 0; round < 300; round++) {
		stranger(query, DIM);
		sketch_query_init(&q, &s, query);
		for (uint32_t i = 0; i < 16; i++) {
			relative(x[i], query, DIM, (float)dice(1000) / 1000);
			sketch_put(&s, &g, i, x[i]);
		}
		for (size_t p = 0; sketch_path_at(p); p++) {
			const struct sketch_path *path = sketch_path_at(p);
			ck_assert_uint_eq(
				path->next(&q, heads, &lanes, 0, 1, -9, &mask, bounds), 0);
			ck_assert_uint_eq(mask, 0xFFFF);
			for (uint32_t i = 0; i < 16; i++) {
				double score = exact(query, x[i], DIM);
				float better = sketch_bound(&q, path, &g, i, bounds[i]);
				ck_assert_msg(bounds[i] >= score, "%f %f", bounds[i], score);
				ck_assert_msg(better >= score, "%f %f", better, score);
				ck_assert_msg(better < score + 0.05, "%f %f", better, score);
			}
		}
	}
	sketch_shape_clear(&s);
}
END_TEST

START_TEST(a_search_sees_its_own_scope_only)
{
	enum { DIM = 32 };
	float of[DIM];
	struct vectors_hit hits[200];
	struct vectors *v = new_set(DIM);
	struct vectors_stats stats;

	stranger(of, DIM);
	for (uint64_t i = 0; i < 1000; i++)
		ck_assert_int_eq(vectors_add(v, i % 10, i, of), 0);
	for (uint64_t scope = 0; scope < 10; scope++) {
		ck_assert_uint_eq(vectors_search(v, scope, of, 0.9f, 200, hits), 100);
		for (uint64_t i = 0; i < 100; i++)
			ck_assert_uint_eq(hits[i].id, i * 10 + scope);
	}
	ck_assert_uint_eq(vectors_search(v, 10, of, -1, 200, hits), 0);
	vectors_count(v, &stats);
	ck_assert_uint_eq(stats.n, 1000);
	ck_assert_uint_eq(stats.n_scopes, 10);
	vectors_free(v);
}
END_TEST

START_TEST(what_was_removed_is_not_found_and_all_else_is)
{
	enum { DIM = 48, N = 4000 };
	static float x[N][DIM];
	static bool there[N];
	struct vectors_hit hits[1];
	struct vectors *v = new_set(DIM);
	struct vectors_stats stats;
	size_t n = 0, high = 0;

	for (unsigned step = 0; step < 40000; step++) {
		uint32_t i = dice(N);
		if (there[i]) {
			ck_assert_int_eq(vectors_add(v, i % 7, i, x[i]), -EEXIST);
			ck_assert_int_eq(vectors_remove(v, i), 0);
			ck_assert_int_eq(vectors_remove(v, i), -ENOENT);
			n--;
		} else {
			stranger(x[i], DIM);
			ck_assert_int_eq(vectors_add(v, i % 7, i, x[i]), 0);
			n++;
		}
		there[i] = !there[i];
		i = dice(N);
		if (*x[i] == 0)
			continue;
		size_t found = vectors_search(v, i % 7, x[i], 0.999f, 1, hits);
		ck_assert_uint_eq(found, there[i]);
		ck_assert(!found || hits[0].id == i);
		vectors_count(v, &stats);
		ck_assert_uint_eq(stats.n, n);
		high = stats.bytes > high ? stats.bytes : high;
	}
	for (uint32_t i = 0; i < N; i++)
		ck_assert_int_eq(vectors_remove(v, i), there[i] ? 0 : -ENOENT);
	vectors_count(v, &stats);
	ck_assert_uint_eq(stats.n, 0);
	ck_assert_uint_eq(stats.n_scopes, 0);
	ck_assert_uint_lt(stats.bytes, high);
	vectors_free(v);
}
END_TEST

START_TEST(of_equal_scores_the_smaller_id_is_first)
{
	float of[4] = {0, 1, 0, 0};
	struct vectors_hit hits[3];
	struct vectors *v = new_set(4);

	for (uint64_t i = 100; i-- > 0;)
		vectors_add(v, 0, i, of);
	ck_assert_uint_eq(vectors_search(v, 0, of, 0.5f, 3, hits), 3);
	for (uint64_t i = 0; i < 3; i++)
		ck_assert_uint_eq(hits[i].id, i);
	ck_assert_uint_eq(vectors_search(v, 0, of, 0.5f, 0, hits), 0);
	vectors_free(v);
}
END_TEST

START_TEST(vectors_that_are_not_of_length_one_are_refused_and_bad_queries_find_nothing)
{
	float x[3] = {1, 0, 0};
	struct vectors_hit hit;
	struct vectors *v = new_set(3);

	ck_assert_int_eq(vectors_add(v, 0, 1, x), 0);
	ck_assert_int_eq(vectors_add(v, 0, 2, (float[]){0, 0, 0}), -EINVAL);
	ck_assert_int_eq(vectors_add(v, 0, 2, (float[]){1, 1, 0}), -EINVAL);
	ck_assert_int_eq(vectors_add(v, 0, 2, (float[]){1, NAN, 0}), -EINVAL);
	ck_assert_int_eq(vectors_add(v, 0, 2, (float[]){INFINITY, 0, 0}), -EINVAL);
	ck_assert_uint_eq(vectors_search(v, 0, (float[]){NAN, 0, 0}, -1, 1, &hit), 0);
	ck_assert_uint_eq(vectors_search(v, 0, (float[]){INFINITY, 0, 0}, -1, 1, &hit), 0);
	ck_assert_uint_eq(vectors_search(v, 0, x, NAN, 1, &hit), 0);
	ck_assert_uint_eq(vectors_search(v, 0, x, 0.9f, 1, &hit), 1);
	vectors_free(v);
}
END_TEST

START_TEST(a_ceiling_refuses_and_removal_makes_room)
{
	enum { DIM = 64 };
	float x[DIM];
	struct vectors *v = vectors_new(DIM, 50, (size_t)1 << 30);
	struct vectors_stats stats;
	uint64_t n;

	stranger(x, DIM);
	for (uint64_t i = 0; i < 50; i++)
		ck_assert_int_eq(vectors_add(v, 0, i, x), 0);
	ck_assert_int_eq(vectors_add(v, 0, 50, x), -ENOSPC);
	ck_assert_int_eq(vectors_remove(v, 7), 0);
	ck_assert_int_eq(vectors_add(v, 0, 50, x), 0);
	vectors_free(v);

	for (size_t max = 1000; max < 2000000; max += 77777) {
		v = vectors_new(DIM, VECTORS_MAX, max);
		for (n = 0; vectors_add(v, n % 3, n, x) == 0; n++)
			;
		ck_assert_int_eq(vectors_add(v, n % 3, n, x), -ENOSPC);
		vectors_count(v, &stats);
		ck_assert_uint_eq(stats.n, n);
		ck_assert(n == 0 || stats.bytes <= max);
		vectors_free(v);
	}
	ck_assert_uint_gt(n, 3000);
	ck_assert_ptr_null(vectors_free(NULL));
}
END_TEST

START_TEST(a_small_scope_costs_little_beside_its_rows)
{
	enum { DIM = 384, N = 10000 };
	float x[DIM];
	struct vectors *v = new_set(DIM);
	struct vectors_stats stats;

	stranger(x, DIM);
	for (uint64_t i = 0; i < N; i++)
		ck_assert_int_eq(vectors_add(v, i, i, x), 0);
	vectors_count(v, &stats);
	ck_assert_uint_lt(stats.bytes, (size_t)N * (DIM * sizeof(float) + 400));
	vectors_free(v);
}
END_TEST

START_TEST(a_map_of_ids_forgets_what_was_removed_and_nothing_else)
{
	struct idmap m = {0};
	uint64_t value;
	static bool there[1000];

	ck_assert(!idmap_get(&m, 1, &value));
	ck_assert(!idmap_remove(&m, 1));
	for (unsigned step = 0; step < 100000; step++) {
		const uint64_t i = dice(1000), key = i % 2 ? i : i << 48;
		ck_assert(idmap_get(&m, key, &value) == there[i]);
		ck_assert(!there[i] || value == i * 3);
		if (there[i]) {
			ck_assert(idmap_remove(&m, key));
		} else {
			ck_assert_int_eq(idmap_reserve(&m), 0);
			idmap_put(&m, key, i * 3);
		}
		there[i] = !there[i];
	}
	idmap_free(&m);
}
END_TEST

static Suite *vectors_suite(void)
{
	Suite *s = suite_create("vectors");
	TCase *t = tcase_create("vectors");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, nothing_at_or_above_the_threshold_is_missed_because_of_eight_bits);
	tcase_add_test(t, entries_just_above_the_threshold_are_found_and_just_below_are_not);
	tcase_add_test(t, lopsided_vectors_are_found_as_well);
	tcase_add_test(t, scalar_and_vector_paths_find_the_same_with_the_same_scores);
	tcase_add_test(t, sums_of_bytes_are_the_same_on_every_path);
	tcase_add_test(t, bounds_of_heads_are_never_below_the_product_on_any_path);
	tcase_add_test(t, a_search_sees_its_own_scope_only);
	tcase_add_test(t, what_was_removed_is_not_found_and_all_else_is);
	tcase_add_test(t, of_equal_scores_the_smaller_id_is_first);
	tcase_add_test(
		t, vectors_that_are_not_of_length_one_are_refused_and_bad_queries_find_nothing);
	tcase_add_test(t, a_ceiling_refuses_and_removal_makes_room);
	tcase_add_test(t, a_small_scope_costs_little_beside_its_rows);
	tcase_add_test(t, a_map_of_ids_forgets_what_was_removed_and_nothing_else);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	return run_suite(vectors_suite());
}
