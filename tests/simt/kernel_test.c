/* SPDX-License-Identifier: Apache-2.0 */
/* The harness of kernel tests: main(), and what a test allocates. A test that fails leaves by
 * longjmp() to the loop, which frees its memory and resets the device before the next one.
 *
 *   PROGRAM [NAME...]   only these tests
 */
#include "kernel_test.h"

#include <limits.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>

#ifdef KERNEL_TEST_EMULATED
#	include "tests/simt/include/simt.h"
#endif

#define SKIP 77

static struct kernel_test *tests, **tests_end = &tests;
static jmp_buf out;
static uint32_t state;

static struct block {
	struct block *next;
	void *memory;
	bool device;
} * blocks;

void kernel_test_register(struct kernel_test *t)
{
	*tests_end = t;
	tests_end = &t->next;
}

void kernel_test_fail(const char *file, int line, const char *format, ...)
{
	va_list list;
	printf("%s:%d:F: ", file, line);
	va_start(list, format);
	vprintf(format, list);
	va_end(list);
	printf("\n");
#ifdef KERNEL_TEST_EMULATED
	const char *fault = simt_take_fault();
	if (fault)
		printf("\t%s\n", fault);
#endif
	longjmp(out, 1);
}

static void *remember(void *memory, bool device)
{
	struct block *b = memory ? (struct block *)malloc(sizeof *b) : NULL;
	if (!b) {
		kernel_test_fail(__FILE__, __LINE__, "no memory");
		return NULL;
	}
	*b = (struct block){blocks, memory, device};
	blocks = b;
	return memory;
}

static void free_blocks(void)
{
	while (blocks) {
		struct block *b = blocks;
		blocks = b->next;
		if (b->device)
			cudaFree(b->memory);
		else
			free(b->memory);
		free(b);
	}
}

void *kernel_test_device(size_t size)
{
	void *memory = NULL;
	EXPECT_CUDA(cudaMalloc(&memory, size ? size : 1));
	EXPECT_CUDA(cudaMemset(memory, 0xff, size ? size : 1));
	EXPECT_CUDA(cudaDeviceSynchronize()); /* streams that do not wait for this one read it */
	return remember(memory, true);
}

void *kernel_test_upload(const void *from, size_t size)
{
	void *memory = kernel_test_device(size);
	EXPECT_CUDA(cudaMemcpy(memory, from, size, cudaMemcpyHostToDevice));
	return memory;
}

void kernel_test_download(void *to, const void *device, size_t size)
{
	EXPECT_CUDA(cudaDeviceSynchronize());
	EXPECT_CUDA(cudaMemcpy(to, device, size, cudaMemcpyDeviceToHost));
}

void *kernel_test_host(size_t size)
{
	return remember(calloc(1, size ? size : 1), false);
}

uint32_t kernel_test_random(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return (uint32_t)((uint64_t)state * n >> 32);
}

float kernel_test_random_float(void)
{
	return (float)kernel_test_random(1 << 24) * 0x1p-23f - 1;
}

int kernel_test_capability(void)
{
	struct cudaDeviceProp p;
	EXPECT_CUDA(cudaGetDeviceProperties(&p, 0));
	return 10 * p.major + p.minor;
}

bool kernel_test_emulated(void)
{
#ifdef KERNEL_TEST_EMULATED
	return true;
#else
	return false;
#endif
}

static const struct kernel_test *running;
static bool skipped; /* and it has been said */

bool kernel_test_skips(bool cannot, const char *why)
{
	if (cannot && !skipped)
		printf("skip   %s: %s\n", running->name, why);
	skipped = skipped || cannot;
	return cannot;
}

static bool run(const struct kernel_test *t, const char *how)
{
	running = t;
	state = 2463534242u;
	if (setjmp(out)) {
		printf("FAILED %s%s\n", t->name, how);
		free_blocks();
		cudaDeviceReset();
		cudaGetLastError();
		return false;
	}
	t->run();
	EXPECT_CUDA(cudaDeviceSynchronize());
	free_blocks();
	if (!skipped)
		printf("ok %s%s\n", t->name, how);
	return true;
}

/* Under the address sanitizer one order of threads: it looks at places, and three times of it would
 * be minutes; the build without it runs all. */
#ifdef __SANITIZE_ADDRESS__
#	define LAST_ORDER SIMT_NORMAL
#else
#	define LAST_ORDER SIMT_SHUFFLED
#endif

__attribute__((weak)) bool kernel_test_one_order;

/* How many of its runs failed. */
static int run_orders(const struct kernel_test *t)
{
#ifdef KERNEL_TEST_EMULATED
	static const char *const how[] = {"", ", reversed", ", shuffled"};
	int failed = 0;
	for (int o = kernel_test_one_order ? LAST_ORDER : SIMT_NORMAL; o <= LAST_ORDER; o++) {
		simt_set_order((enum simt_order)o, 7);
		failed += !run(t, how[o]);
	}
	return failed;
#else
	return !run(t, "");
#endif
}

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], name))
			return true;
	}
	return argc < 2;
}

/* The emulator's device memory is malloc()'s. Megabytes that go back to the kernel at each free and
 * come back as zeros are half of the time of tests that open models again and again. */
static void keep_what_is_freed(void)
{
#ifdef KERNEL_TEST_EMULATED
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
}

int main(int argc, char **argv)
{
	int devices = 0, n = 0, failed = 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	keep_what_is_freed();
	if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) {
		printf("no CUDA device: skipped\n");
		return SKIP;
	}
	for (struct kernel_test *t = tests; t; t = t->next) {
		if (!wanted(t->name, argc, argv))
			continue;
		n++;
		skipped = false;
		failed += run_orders(t) ? 1 : 0;
	}
	/* As libcheck says it: tools/test_summary.py reads it. */
	printf("%d%%: Checks: %d, Failures: %d, Errors: 0\n", n ? 100 * (n - failed) / n : 0, n,
		failed);
	return failed || !n ? EXIT_FAILURE : EXIT_SUCCESS;
}
