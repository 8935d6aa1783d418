/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_CONTEXT_H
#define ENGINE_CUDA_CONTEXT_H

/*
 * A tenant's place on a device: what a model needs before it can ask for memory there. Also the
 * rule of what happens when CUDA breaks: a fault that sticks ends all tenants of the process, each
 * hears of it at its next cuda_context_enter(); the next tenant that comes has the devices reset
 * first, for which the broken ones are made to let go of all they have there. The process and what
 * it does without CUDA go on.
 *
 * Any thread may use a context, one at a time between enter and leave.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "base/err.h"
#include "base/list.h"

struct cuda_context {
	int device;
	char name[128];        /* "NVIDIA H200" */
	uint32_t major, minor; /* of its compute capability */
	uint32_t n_sm;
	size_t memory_bytes; /* of the device */
	size_t l2_bytes;     /* of its L2 cache */
	cudaStream_t stream; /* the tenant's own, in which all its work stands */
	cublasLtHandle_t blas;
	bool capturing; /* the tenant's word: its stream is being captured */

	/* Of context.c. */
	struct list link; /* in the list of tenants */
	bool is_open;
	bool broken; /* what it had on the device is lost */
	struct err reason;
	void (*let_go)(void *arg);
	void *arg;
};

/* Whether a model could be opened on device number `gpu`; errors as cuda_context_open(). */
int cuda_context_check(uint32_t gpu, struct err *err);

/*
 * Makes *c, which is zeroed, a tenant of device number `gpu`; entered when it succeeds (the caller
 * leaves). After a fault that stuck the devices are reset first. let_go(arg) is called, from
 * another thread perhaps, never while the tenant is inside, when the device is to be reset: it
 * frees all the tenant has there but for the context itself, and must not enter. 0. -ENODEV: there
 * is no such device (the sentence says which there are), or no driver; -ENOTSUP: too old a card;
 * -EIO; -ENOMEM.
 */
int cuda_context_open(struct cuda_context *c, uint32_t gpu, void (*let_go)(void *arg), void *arg,
	struct err *err);

/* Ends the tenancy: let_go(arg), unless that was done, then the stream and the rest. Not from
 * inside. Accepts a zeroed one; afterwards it is zeroed. */
void cuda_context_close(struct cuda_context *c);

/* Before any use of CUDA: from here to cuda_context_leave() the device is there, and the current
 * one of this thread. 0; -EIO with the reason when CUDA broke: not entered then. */
int cuda_context_enter(struct cuda_context *c, struct err *err);
void cuda_context_leave(struct cuda_context *c);

/*
 * As cuda_fault(), inside: of a code that a call or launcher of this tenant returned. When the
 * fault sticks all tenants are broken from now on, with this sentence as the reason.
 */
int cuda_context_fault(struct cuda_context *c, int code, const char *doing, struct err *err);
/* The same of a cublasStatus_t. */
int cuda_context_fault_of_blas(
	struct cuda_context *c, int status, const char *doing, struct err *err);

/* Whether CUDA broke and no tenant has come since, and the reason. */
bool cuda_context_is_broken(struct err *reason);

#endif
