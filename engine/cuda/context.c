/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices and their tenants.
 *
 * All of the process's use of CUDA goes on between enter and leave, which hold `door` for reading;
 * a reset holds it for writing, so nobody is inside then. `broken` is set by whoever meets a fault
 * that sticks; from then on nobody enters, those inside come out soon, since every call fails, and
 * the next cuda_context_open() resets. It has every tenant let go of what it has, for a reset
 * takes away pinned memory too, and a tenant that touched that afterwards would be a crash.
 *
 * A fault is taken to stick when its code is one of those, or when the device does not answer after
 * it: the codes of later CUDA versions are not known here.
 *
 * Lock order: door, then lock. Writers go first at the door: with many models stepping all the time
 * there would be no moment without a reader.
 */
#include "engine/cuda/context.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "engine/cuda/blas_door.h"
#include "engine/cuda/fault.h"

#define MAX_DEVICES 64
#define LEAST_MAJOR 8 /* bf16 in tensor cores, cp.async */

static pthread_rwlock_t door = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below */
static struct list tenants = LIST_INIT(tenants);
static bool broken;
static struct err reason;
static bool used[MAX_DEVICES]; /* which had tenants, and so something to reset */

/* ---- when CUDA breaks ---- */

bool cuda_context_is_broken(struct err *why)
{
	pthread_mutex_lock(&lock);
	bool is = broken;
	if (is && why)
		*why = reason;
	pthread_mutex_unlock(&lock);
	return is;
}

static void break_all(const struct err *why)
{
	pthread_mutex_lock(&lock);
	if (!broken)
		reason = *why;
	broken = true;
	list_for_each (at, &tenants) {
		struct cuda_context *c = list_entry(at, struct cuda_context, link);
		if (!c->broken)
			c->reason = reason;
		c->broken = true;
	}
	pthread_mutex_unlock(&lock);
}

/* Whether the device does not answer any more. While a graph is captured it cannot be asked: who
 * ends the capture hears of it then. Only the own stream is waited for: to wait for the device
 * while another tenant captures is an error, and the end of that capture. */
static bool is_lost(const struct cuda_context *c)
{
	bool lost = !c->capturing && cudaStreamSynchronize(c->stream) != cudaSuccess;

	cudaGetLastError();
	return lost;
}

int cuda_context_fault(struct cuda_context *c, int code, const char *doing, struct err *err)
{
	struct err said = {""};
	int r = cuda_fault(code, doing, &said);

	if (r == 0)
		return 0;
	if (err)
		*err = said;
	if (cuda_fault_sticks(code) || (r == -EIO && is_lost(c)))
		break_all(&said);
	return r;
}

int cuda_context_fault_of_blas(
	struct cuda_context *c, int status, const char *doing, struct err *err)
{
	struct err said = {""};
	int r = cuda_fault_of_blas(status, doing, &said);

	if (r == 0)
		return 0;
	if (err)
		*err = said;
	if (r == -EIO && is_lost(c))
		break_all(&said);
	return r;
}

/* ---- tenancy; at the door ---- */

/* What the context itself has on the device. */
static void end_context(struct cuda_context *c)
{
	if (c->blas)
		cublasLtDestroy(c->blas);
	if (c->stream)
		cudaStreamDestroy(c->stream);
	c->blas = NULL;
	c->stream = NULL;
}

static void empty_place(struct cuda_context *c)
{
	cudaSetDevice(c->device);
	c->let_go(c->arg);
	end_context(c);
}

/* Nobody is inside. Every tenant is a broken one. What CUDA says before the reset means nothing. */
static int reset_devices(struct err *err)
{
	int r = 0;

	list_for_each (at, &tenants) {
		empty_place(list_entry(at, struct cuda_context, link));
		list_remove(at);
	}
	for (int i = 0; i < MAX_DEVICES && r == 0; i++) {
		if (!used[i])
			continue;
		cudaSetDevice(i);
		r = cuda_fault(cudaDeviceReset(), "being reset", err);
		cudaGetLastError();
	}
	return r;
}

static int recover(struct err *err)
{
	int r = 0;

	if (!cuda_context_is_broken(NULL))
		return 0;
	pthread_rwlock_wrlock(&door);
	pthread_mutex_lock(&lock);
	if (broken)
		r = reset_devices(err);
	broken = broken && r != 0;
	pthread_mutex_unlock(&lock);
	pthread_rwlock_unlock(&door);
	return r;
}

/* ---- opening ---- */

static int check_device(uint32_t gpu, struct err *err)
{
	int n = 0, code = cudaGetDeviceCount(&n);
	int r = cuda_fault(code, "being looked for", err);

	/* Without any driver CUDA says that it is too old. */
	if (r == -ENODEV)
		return err_set(err, r,
			"this machine has no GPU that CUDA can use, or no driver for CUDA %d: %s",
			CUDART_VERSION / 1000, cudaGetErrorString((cudaError_t)code));
	if (r == 0 && n <= 0)
		return err_set(err, -ENODEV, "this machine has no GPU that CUDA can use");
	if (r == 0 && (gpu >= (uint32_t)n || gpu >= MAX_DEVICES))
		return err_set(
			err, -ENODEV, "there is no GPU %u: this machine has %d, from 0 on", gpu, n);
	return r;
}

static int describe(struct cuda_context *c, struct err *err)
{
	struct cudaDeviceProp p;
	int r = cuda_fault(cudaGetDeviceProperties(&p, c->device), "saying what it is", err);

	if (r < 0)
		return r;
	snprintf(c->name, sizeof(c->name), "%.127s", p.name);
	c->major = (uint32_t)p.major;
	c->minor = (uint32_t)p.minor;
	c->n_sm = (uint32_t)p.multiProcessorCount;
	c->memory_bytes = p.totalGlobalMem;
	c->l2_bytes = (size_t)p.l2CacheSize;
	if (p.major < LEAST_MAJOR)
		return err_set(err, -ENOTSUP,
			"GPU %d (%s) has compute capability %d.%d, and %d.0 is the least that is "
			"supported",
			c->device, c->name, p.major, p.minor, LEAST_MAJOR);
	return 0;
}

int cuda_context_check(uint32_t gpu, struct err *err)
{
	struct cuda_context c = {.device = (int)gpu};
	int r = recover(err);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&door);
	r = check_device(gpu, err);
	if (r == 0)
		r = describe(&c, err);
	pthread_rwlock_unlock(&door);
	return r;
}

/* In words, as the library itself cannot say that it is not there. */
static int make_blas(struct cuda_context *c, struct err *err)
{
	if (blas_door_missing())
		return err_set(err, -ENOTSUP, "%s", blas_door_missing());
	return cuda_context_fault_of_blas(c, cublasLtCreate(&c->blas), "setting up products", err);
}

static int fill(struct cuda_context *c, struct err *err)
{
	int r = cuda_context_fault(c, cudaSetDevice(c->device), "being chosen", err);

	if (r == 0)
		r = describe(c, err);
	if (r == 0)
		r = cuda_context_fault(c,
			cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking),
			"making a stream", err);
	if (r == 0)
		r = make_blas(c, err);
	return r;
}

int cuda_context_open(
	struct cuda_context *c, uint32_t gpu, void (*let_go)(void *arg), void *arg, struct err *err)
{
	int r = recover(err);

	if (r < 0)
		return r;
	*c = (struct cuda_context){.device = (int)gpu, .let_go = let_go, .arg = arg};
	list_init(&c->link);
	pthread_rwlock_rdlock(&door);
	r = check_device(gpu, err);
	if (r == 0)
		r = fill(c, err);
	if (r < 0) {
		end_context(c);
		pthread_rwlock_unlock(&door);
		*c = (struct cuda_context){0};
		return r;
	}
	pthread_mutex_lock(&lock);
	c->is_open = used[gpu] = true;
	c->broken = broken; /* another tenant may just have met a fault */
	c->reason = reason;
	list_append(&tenants, &c->link);
	pthread_mutex_unlock(&lock);
	return 0;
}

void cuda_context_close(struct cuda_context *c)
{
	if (!c->is_open)
		return;
	pthread_rwlock_rdlock(&door);
	pthread_mutex_lock(&lock);
	bool there = !list_empty(&c->link); /* else a reset has emptied its place */
	list_remove(&c->link);
	pthread_mutex_unlock(&lock);
	if (there)
		empty_place(c);
	pthread_rwlock_unlock(&door);
	*c = (struct cuda_context){0};
}

int cuda_context_enter(struct cuda_context *c, struct err *err)
{
	pthread_rwlock_rdlock(&door);
	pthread_mutex_lock(&lock);
	bool is_broken = c->broken;
	if (is_broken && err)
		*err = c->reason;
	pthread_mutex_unlock(&lock);
	if (is_broken) {
		pthread_rwlock_unlock(&door);
		return -EIO;
	}
	int r = cuda_context_fault(c, cudaSetDevice(c->device), "being chosen", err);
	if (r < 0)
		pthread_rwlock_unlock(&door);
	return r;
}

void cuda_context_leave(struct cuda_context *c)
{
	(void)c;
	pthread_rwlock_unlock(&door);
}
