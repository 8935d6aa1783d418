/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of CUDA in words and numbers. A launcher or a call returns a code and knows nothing else;
 * whoever called it says here what was being done, and gets what the rest of the engine
 * understands.
 *
 * Most faults concern the call alone: too little memory, say. Some stick: the device's context is
 * lost, and every later call gives the same code until the device is reset. Which those are is
 * told by the code; what follows from it is context.c's affair.
 */
#include "engine/cuda/fault.h"

#include <errno.h>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

/* Asks for nothing of the device, so that it may be called after any fault. */
static void take_back(void)
{
	cudaGetLastError();
}

static int errno_of(cudaError_t code)
{
	switch (code) {
	case cudaErrorMemoryAllocation:
		return -ENOMEM;
	case cudaErrorNoDevice:
	case cudaErrorInvalidDevice:
	case cudaErrorInsufficientDriver:
	case cudaErrorInitializationError:
		return -ENODEV;
	case cudaErrorNoKernelImageForDevice:
	case cudaErrorNotSupported:
		return -ENOTSUP;
	default:
		return -EIO;
	}
}

int cuda_fault(int code, const char *doing, struct err *err)
{
	cudaError_t e = (cudaError_t)code;

	if (e == cudaSuccess)
		return 0;
	take_back();
	return err_set(err, errno_of(e), "the GPU failed while %s: %s (%s)", doing,
		cudaGetErrorString(e), cudaGetErrorName(e));
}

static const char *words_of(cublasStatus_t status)
{
	switch (status) {
	case CUBLAS_STATUS_NOT_INITIALIZED:
		return "the library could not be set up";
	case CUBLAS_STATUS_ALLOC_FAILED:
		return "no memory on it";
	case CUBLAS_STATUS_INVALID_VALUE:
		return "a value it does not take";
	case CUBLAS_STATUS_ARCH_MISMATCH:
		return "this card cannot do it";
	case CUBLAS_STATUS_EXECUTION_FAILED:
		return "it could not be run";
	case CUBLAS_STATUS_NOT_SUPPORTED:
		return "a product it does not have";
	default:
		return "an error inside the library";
	}
}

int cuda_fault_of_blas(int status, const char *doing, struct err *err)
{
	cublasStatus_t s = (cublasStatus_t)status;

	if (s == CUBLAS_STATUS_SUCCESS)
		return 0;
	take_back();
	int r = s == CUBLAS_STATUS_ALLOC_FAILED                                        ? -ENOMEM
		: s == CUBLAS_STATUS_NOT_SUPPORTED || s == CUBLAS_STATUS_ARCH_MISMATCH ? -ENOTSUP
										       : -EIO;
	return err_set(err, r, "the GPU failed while %s: %s (cuBLASLt status %d)", doing,
		words_of(s), status);
}

bool cuda_fault_sticks(int code)
{
	switch ((cudaError_t)code) {
	case cudaErrorECCUncorrectable:
	case cudaErrorHardwareStackError:
	case cudaErrorIllegalAddress:
	case cudaErrorIllegalInstruction:
	case cudaErrorMisalignedAddress:
	case cudaErrorInvalidAddressSpace:
	case cudaErrorInvalidPc:
	case cudaErrorLaunchFailure:
	case cudaErrorLaunchTimeout:
	case cudaErrorAssert:
	case cudaErrorUnknown:
		return true;
	default:
		return false;
	}
}
