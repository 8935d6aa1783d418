/* SPDX-License-Identifier: Apache-2.0 */
/* device.h, in the emulator and on a card: what lanes do together, fragments of the tensor cores,
 * and conversions, each against its definition.
 */
#include "tests/simt/meeting.h"

#include "tests/simt/kernel_test.h"
#include "tests/simt/number.h"

static uint32_t bits_of(float f)
{
	uint32_t bits;
	memcpy(&bits, &f, sizeof bits);
	return bits;
}

static float float_of(uint32_t bits)
{
	float f;
	memcpy(&f, &bits, sizeof f);
	return f;
}

/* ---- shuffles and votes ---- */

/* The lane whose value a lane gets. */
static int source(enum meeting_shuffle how, int lane, int by, int width)
{
	int first = lane / width * width, last = first + width - 1, from = lane;
	switch (how) {
	case MEETING_INDEX:
		return first + by % width;
	case MEETING_UP:
		from = lane - by;
		return from < first ? lane : from;
	case MEETING_DOWN:
		from = lane + by;
		break;
	case MEETING_XOR:
		from = lane ^ by;
		break;
	}
	return from > last ? lane : from;
}

KERNEL_TEST(a_shuffle_brings_the_value_of_the_lane_it_names)
{
	static const int widths[] = {32, 16, 8, 2};
	int in[32], out[32];
	for (int i = 0; i < 32; i++)
		in[i] = 1000 + i;
	int *d_in = kernel_test_upload(in, sizeof in), *d_out = kernel_test_device(sizeof out);
	for (int how = MEETING_INDEX; how <= MEETING_XOR; how++) {
		for (int w = 0; w < 4; w++) {
			for (int by = 0; by < 32; by += 3) {
				enum meeting_shuffle h = (enum meeting_shuffle)how;
				EXPECT_CUDA(meeting_shuffle(d_in, d_out, h, by, widths[w]));
				kernel_test_download(out, d_out, sizeof out);
				for (int i = 0; i < 32; i++)
					EXPECT_EQUAL(out[i], 1000 + source(h, i, by, widths[w]));
			}
		}
	}
}

KERNEL_TEST(two_halves_of_a_warp_vote_apart)
{
	int in[32];
	uint32_t out[96], votes = 0;
	for (int i = 0; i < 32; i++) {
		in[i] = i < 16 ? i % 3 == 0 : 1;
		votes |= (uint32_t)in[i] << i;
	}
	uint32_t *d_out = kernel_test_device(sizeof out);
	EXPECT_CUDA(meeting_vote(kernel_test_upload(in, sizeof in), d_out));
	kernel_test_download(out, d_out, sizeof out);
	for (int i = 0; i < 32; i++) {
		EXPECT_EQUAL(out[3 * i], votes & (i < 16 ? 0xffffu : 0xffff0000u));
		EXPECT_EQUAL(out[3 * i + 1], 1);
		EXPECT_EQUAL(out[3 * i + 2], i >= 16);
	}
}

KERNEL_TEST(a_warp_sums_as_a_butterfly_and_all_lanes_get_it)
{
	float in[32], out[64], sum[32], most = -1;
	for (int i = 0; i < 32; i++) {
		in[i] = sum[i] = kernel_test_random_float() * (i % 5 ? 1 : 1e6f);
		most = fmaxf(most, in[i]);
	}
	for (int by = 16; by; by >>= 1) {
		float old[32];
		memcpy(old, sum, sizeof old);
		for (int i = 0; i < 32; i++)
			sum[i] = old[i] + old[i ^ by];
	}
	float *d_out = kernel_test_device(sizeof out);
	EXPECT_CUDA(meeting_reduce(kernel_test_upload(in, sizeof in), d_out));
	kernel_test_download(out, d_out, sizeof out);
	for (int i = 0; i < 32; i++) {
		EXPECT_EQUAL(bits_of(out[i]), bits_of(sum[i]));
		EXPECT_EQUAL(bits_of(out[32 + i]), bits_of(most));
	}
}

/* ---- tensor cores: small integers, so that every sum is exact in every order ---- */

static uint32_t stored(enum meeting_mma kind, int value)
{
	switch (kind) {
	case MEETING_F16:
		return number_to_f16((float)value);
	case MEETING_BF16:
		return number_to_bf16((float)value);
	case MEETING_S8:
		return (uint8_t)value;
	case MEETING_E4M3:
		for (uint32_t e = 0; e < 256; e++) {
			if (number_e4m3((uint8_t)e) == (float)value)
				return e;
		}
	}
	return 0;
}

static void check_mma(enum meeting_mma kind, bool by_matrix)
{
	int k = kind == MEETING_F16 || kind == MEETING_BF16 ? 16 : 32, size = k == 16 ? 2 : 1;
	int a[16 * 32], b[32 * 8], d[16 * 8];
	uint8_t raw_a[16 * 32], raw_b[32 * 8];
	uint32_t raw_d[16 * 8];
	for (int i = 0; i < 16 * k; i++) {
		a[i] = (int)kernel_test_random(kind == MEETING_S8 ? 256 : 15) -
		       (kind == MEETING_S8 ? 128 : 7);
		uint32_t v = stored(kind, a[i]);
		memcpy(raw_a + i * size, &v, (size_t)size);
	}
	for (int i = 0; i < k * 8; i++) {
		b[i] = (int)kernel_test_random(kind == MEETING_S8 ? 256 : 15) -
		       (kind == MEETING_S8 ? 128 : 7);
		uint32_t v = stored(kind, b[i]);
		memcpy(raw_b + i * size, &v, (size_t)size);
	}
	for (int i = 0; i < 16 * 8; i++) {
		d[i] = (int)kernel_test_random(1000);
		raw_d[i] = kind == MEETING_S8 ? (uint32_t)d[i] : bits_of((float)d[i]);
	}
	void *dev_d = kernel_test_upload(raw_d, sizeof raw_d);
	EXPECT_CUDA(meeting_mma(kind, kernel_test_upload(raw_a, (size_t)(16 * k * size)),
		kernel_test_upload(raw_b, (size_t)(k * 8 * size)), dev_d, by_matrix));
	kernel_test_download(raw_d, dev_d, sizeof raw_d);
	for (int row = 0; row < 16; row++) {
		for (int column = 0; column < 8; column++) {
			int want = d[row * 8 + column];
			for (int i = 0; i < k; i++)
				want += a[row * k + i] * b[i * 8 + column];
			uint32_t got = raw_d[row * 8 + column];
			EXPECT_EQUAL(kind == MEETING_S8 ? (int)got : (int)float_of(got), want);
		}
	}
}

KERNEL_TEST(mma_of_f16_multiplies_by_the_manuals_layout)
{
	check_mma(MEETING_F16, false);
}

KERNEL_TEST(mma_of_bf16_multiplies_by_the_manuals_layout)
{
	check_mma(MEETING_BF16, false);
}

KERNEL_TEST(ldmatrix_brings_fragments_as_mma_wants_them)
{
	check_mma(MEETING_F16, true);
	check_mma(MEETING_BF16, true);
}

KERNEL_TEST(mma_of_bytes_multiplies_by_the_manuals_layout)
{
	check_mma(MEETING_S8, false);
}

KERNEL_TEST(mma_of_e4m3_multiplies_by_the_manuals_layout)
{
	if (kernel_test_capability() >= 89)
		check_mma(MEETING_E4M3, false);
}

/* ---- conversions ---- */

static uint32_t *convert(enum meeting_convert how, const uint32_t *in, uint32_t n)
{
	uint32_t *d_out = kernel_test_device(n * sizeof *d_out);
	uint32_t *out = kernel_test_host(n * sizeof *out);
	EXPECT_CUDA(meeting_convert(how, kernel_test_upload(in, (n + 1) * sizeof *in), d_out, n));
	kernel_test_download(out, d_out, n * sizeof *out);
	return out;
}

/* The same number, or both none; -0 is not 0. */
static bool same(float a, float b)
{
	return (isnan(a) && isnan(b)) || bits_of(a) == bits_of(b);
}

KERNEL_TEST(every_small_float_is_read_as_its_definition_says)
{
	uint32_t *in = kernel_test_host(65537 * sizeof *in);
	for (uint32_t i = 0; i < 65536; i++)
		in[i] = i;
	uint32_t *f16 = convert(MEETING_FROM_F16, in, 65536);
	uint32_t *bf16 = convert(MEETING_FROM_BF16, in, 65536);
	uint32_t *e4m3 = convert(MEETING_FROM_E4M3, in, 256);
	for (uint32_t i = 0; i < 65536; i++) {
		EXPECT(same(float_of(f16[i]), number_f16((uint16_t)i)));
		EXPECT(same(float_of(bf16[i]), number_bf16((uint16_t)i)));
		EXPECT(i >= 256 || same(float_of(e4m3[i]), number_e4m3((uint8_t)i)));
	}
}

/* e4m3 by search: the nearest of all, of two as near the one whose last bit is 0; 448 at most. */
static uint32_t nearest_e4m3(float f)
{
	uint32_t best = 0;
	float a = fminf(fabsf(f), 448), least = INFINITY;
	if (isnan(f))
		return 0x7f;
	for (uint32_t e = 0; e < 0x7f; e++) {
		float off = fabsf(number_e4m3((uint8_t)e) - a);
		if (off < least || (off == least && !(e & 1))) {
			best = e;
			least = off;
		}
	}
	return best | (signbit(f) ? 0x80 : 0);
}

/* Numbers of every size, those half way between two, and the special ones. */
static uint32_t *numbers(uint32_t n)
{
	static const uint32_t special[] = {0, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000,
		0x00000001, 0x477fe000, 0x477fefff, 0x477ff000, 0x33000000, 0x33000001, 0x43e00000,
		0x43e80000, 0x7f7fffff, 0x3a800000, 0x3b000000};
	uint32_t *in = kernel_test_host((n + 1) * sizeof *in);
	for (uint32_t i = 0; i <= n; i++) {
		if (i < sizeof special / sizeof *special)
			in[i] = special[i];
		else if (i % 4 == 0) /* half a step of f16 or of e4m3 */
			in[i] = bits_of(ldexpf((float)(2 * kernel_test_random(2048) + 1),
				(int)kernel_test_random(40) - 32));
		else if (i % 4 == 1)
			in[i] = bits_of(ldexpf((float)(2 * kernel_test_random(16) + 1),
				(int)kernel_test_random(20) - 14));
		else
			in[i] = bits_of(ldexpf(
				kernel_test_random_float(), (int)kernel_test_random(60) - 35));
	}
	return in;
}

KERNEL_TEST(a_float_becomes_the_nearest_small_one)
{
	uint32_t n = 20000, *in = numbers(n);
	uint32_t *f16 = convert(MEETING_TO_F16, in, n), *bf16 = convert(MEETING_TO_BF16, in, n);
	uint32_t *e4m3 = convert(MEETING_TO_E4M3, in, n);
	uint32_t *f16x2 = convert(MEETING_PACK_F16, in, n);
	uint32_t *bf16x2 = convert(MEETING_PACK_BF16, in, n);
	uint32_t *e4m3x2 = convert(MEETING_PACK_E4M3, in, n);
	for (uint32_t i = 0; i < n; i++) {
		float f = float_of(in[i]);
		if (isnan(f)) /* which of the NaNs is nobody's business */
			continue;
		EXPECT_EQUAL(f16[i], number_to_f16(f));
		EXPECT_EQUAL(bf16[i], number_to_bf16(f));
		EXPECT_EQUAL(e4m3[i], nearest_e4m3(f));
		EXPECT_EQUAL(f16x2[i] & 0xffff, f16[i]);
		EXPECT_EQUAL(bf16x2[i] & 0xffff, bf16[i]);
		EXPECT_EQUAL(e4m3x2[i] & 0xff, e4m3[i]);
		if (i + 1 < n && !isnan(float_of(in[i + 1]))) {
			EXPECT_EQUAL(f16x2[i] >> 16, f16[i + 1]);
			EXPECT_EQUAL(bf16x2[i] >> 16, bf16[i + 1]);
			EXPECT_EQUAL(e4m3x2[i] >> 8, e4m3[i + 1]);
		}
	}
}

KERNEL_TEST(dp4a_adds_four_products_of_signed_bytes)
{
	int a[500], b[500], c[500], out[500];
	for (int i = 0; i < 500; i++) {
		a[i] = (int)kernel_test_random(UINT32_MAX);
		b[i] = (int)kernel_test_random(UINT32_MAX);
		c[i] = (int)kernel_test_random(1000) - 500;
	}
	int *d_out = kernel_test_device(sizeof out);
	EXPECT_CUDA(meeting_dp4a(kernel_test_upload(a, sizeof a), kernel_test_upload(b, sizeof b),
		kernel_test_upload(c, sizeof c), d_out, 500));
	kernel_test_download(out, d_out, sizeof out);
	for (int i = 0; i < 500; i++) {
		int want = c[i];
		for (int j = 0; j < 32; j += 8)
			want += (int8_t)(a[i] >> j) * (int8_t)(b[i] >> j);
		EXPECT_EQUAL(out[i], want);
	}
}

KERNEL_TEST(copies_arrive_group_by_group_and_zeros_where_there_is_nothing)
{
	uint32_t in[256], out[256];
	for (uint32_t i = 0; i < 256; i++)
		in[i] = 1 + i;
	uint32_t *d_out = kernel_test_device(sizeof out);
	EXPECT_CUDA(meeting_copy(kernel_test_upload(in, sizeof in), d_out, 200));
	kernel_test_download(out, d_out, sizeof out);
	for (uint32_t i = 0; i < 256; i++)
		EXPECT_EQUAL(out[i], i < 200 ? 1 + i : 0);
}
