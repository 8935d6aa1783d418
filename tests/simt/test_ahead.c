/* SPDX-License-Identifier: Apache-2.0 */
/* Asking for weights ahead changes no number, whatever is asked for and by whom. What is asked for
 * is in test_asked.c, as only the emulator can say it. */
#include "tests/simt/ahead_case.h"

/* All that a launch leaves, what it must not touch included. */
static void run(const struct ahead_case *c, const struct ahead_data *d, struct cuda_ahead a,
	uint8_t out[AHEAD_OUT_BYTES])
{
	EXPECT_CUDA(cudaMemset(d->out, 0xff, AHEAD_OUT_BYTES));
	EXPECT_CUDA(cudaDeviceSynchronize());
	int rc = c->run(d, a, c->type);
	if (rc)
		kernel_test_fail(
			__FILE__, __LINE__, "%s: %s", c->name, cudaGetErrorName((cudaError_t)rc));
	kernel_test_download(out, d->out, AHEAD_OUT_BYTES);
}

static bool is_wanted(const struct ahead_case *c)
{
	return c->type != CUDA_TYPE_E4M3 || kernel_test_capability() >= 89;
}

KERNEL_TEST(asking_ahead_changes_no_number)
{
	static uint8_t without[AHEAD_OUT_BYTES], with[AHEAD_OUT_BYTES], nothing[AHEAD_OUT_BYTES];
	static const struct cuda_ahead asks[] = {
		{NULL, 16, 1}, {NULL, 50000, 4}, {NULL, 1 << 18, 9}};
	struct ahead_data d = ahead_data();

	memset(nothing, 0xff, sizeof(nothing));
	for (size_t i = 0; i < AHEAD_CASES; i++) {
		const struct ahead_case *c = &ahead_cases[i];

		if (!is_wanted(c))
			continue;
		run(c, &d, (struct cuda_ahead){0}, without);
		EXPECT(memcmp(without, nothing, sizeof(nothing)) != 0);
		for (size_t k = 0; k < sizeof(asks) / sizeof(asks[0]); k++) {
			struct cuda_ahead a = asks[k];

			a.from = d.numbers + 256 * k;
			run(c, &d, a, with);
			if (memcmp(without, with, sizeof(with)) != 0)
				kernel_test_fail(__FILE__, __LINE__,
					"%s: %u bytes asked for, and others come out", c->name,
					a.bytes);
		}
	}
}
