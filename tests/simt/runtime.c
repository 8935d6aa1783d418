/* SPDX-License-Identifier: Apache-2.0 */
/* The device and its copies. One device, with the abilities of the reference card (sm_90) and the
 * shared memory of the smallest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simt/order.h"
#include "tests/simt/block.h"
#include "tests/simt/fault.h"
#include "tests/simt/launch.h"
#include "tests/simt/lock.h"
#include "tests/simt/memory.h"
#include "tests/simt/stream.h"

/* ---- errors ---- */

static const struct {
	cudaError_t error;
	const char *name, *text;
} errors[] = {
	{cudaSuccess, "cudaSuccess", "no error"},
	{cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
	{cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
	{cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
	{cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
		"invalid configuration argument"},
	{cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction",
		"invalid device function"},
	{cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
		"CUDA driver version is insufficient for CUDA runtime version"},
	{cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
	{cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
	{cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
		"no kernel image is available for execution on the device"},
	{cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable",
		"uncorrectable ECC error encountered"},
	{cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle",
		"invalid resource handle"},
	{cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
	{cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
		"an illegal memory access was encountered"},
	{cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
		"too many resources requested for launch"},
	{cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout",
		"the launch timed out and was terminated"},
	{cudaErrorAssert, "cudaErrorAssert", "device-side assert triggered"},
	{cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered",
		"part or all of the requested memory range is already mapped"},
	{cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered",
		"pointer does not correspond to a registered memory region"},
	{cudaErrorHardwareStackError, "cudaErrorHardwareStackError", "hardware stack error"},
	{cudaErrorIllegalInstruction, "cudaErrorIllegalInstruction",
		"an illegal instruction was encountered"},
	{cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
	{cudaErrorInvalidAddressSpace, "cudaErrorInvalidAddressSpace",
		"operation not supported on global/shared address space"},
	{cudaErrorInvalidPc, "cudaErrorInvalidPc", "invalid program counter"},
	{cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
	{cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
	{cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
		"operation not permitted when stream is capturing"},
	{cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
		"operation failed due to a previous error during capture"},
	{cudaErrorGraphExecUpdateFailure, "cudaErrorGraphExecUpdateFailure",
		"the graph update was not performed because it included changes which violated "
		"constraints specific to instantiated graph update"},
	{cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const char *cudaGetErrorName(cudaError_t error)
{
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		if (errors[i].error == error)
			return errors[i].name;
	}
	return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		if (errors[i].error == error)
			return errors[i].text;
	}
	return "unrecognized error code";
}

/* ---- the device ---- */

/* Environment SIMT_DEVICES: how many devices there seem to be; 1 without it. */
static int device_count(void)
{
	const char *e = getenv("SIMT_DEVICES");
	return e ? atoi(e) : 1;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
	*version = CUDART_VERSION;
	return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
	*version = CUDART_VERSION;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
	lock_enter();
	*count = device_count();
	return lock_result(*count ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device)
{
	*device = 0;
	lock_enter();
	return lock_result(device_count() ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
	lock_enter();
	return lock_result(
		device < 0 || device >= device_count() ? cudaErrorInvalidDevice : lock_error());
}

cudaError_t cudaSetDeviceFlags(unsigned flags)
{
	(void)flags;
	return cudaSuccess;
}

cudaError_t cudaDeviceReset(void)
{
	lock_enter();
	stream_reset();
	memory_reset();
	fault_forget();
	return lock_result(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
	size_t available, total;
	if (device < 0 || device >= device_count())
		return cudaErrorInvalidDevice;
	lock_enter();
	cudaMemGetInfo(&available, &total);
	memset(properties, 0, sizeof *properties);
	snprintf(properties->name, sizeof properties->name, "SIMT emulator");
	properties->totalGlobalMem = total;
	properties->sharedMemPerBlock = LAUNCH_SHARED;
	properties->sharedMemPerBlockOptin = LAUNCH_SHARED_OPTIN;
	properties->sharedMemPerMultiprocessor = LAUNCH_SHARED_OPTIN + 1024;
	properties->regsPerBlock = 65536;
	properties->warpSize = BLOCK_WARP;
	properties->maxThreadsPerBlock = BLOCK_MAX;
	properties->maxThreadsPerMultiProcessor = 1536;
	properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
	properties->maxThreadsDim[2] = 64;
	properties->maxGridSize[0] = 0x7fffffff;
	properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
	properties->totalConstMem = 65536;
	properties->major = 9;
	properties->multiProcessorCount = 4;
	properties->canMapHostMemory = 1;
	properties->memoryBusWidth = 64;
	properties->l2CacheSize = 4 << 20;
	return lock_result(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
	struct cudaDeviceProp p;
	cudaError_t rc = cudaGetDeviceProperties(&p, device);
	if (rc)
		return rc;
	const struct {
		enum cudaDeviceAttr attribute;
		int value;
	} all[] = {
		{cudaDevAttrMaxThreadsPerBlock, p.maxThreadsPerBlock},
		{cudaDevAttrMaxSharedMemoryPerBlock, (int)p.sharedMemPerBlock},
		{cudaDevAttrWarpSize, p.warpSize},
		{cudaDevAttrClockRate, 1000000},
		{cudaDevAttrMultiProcessorCount, p.multiProcessorCount},
		{cudaDevAttrMemoryClockRate, 1000000},
		{cudaDevAttrGlobalMemoryBusWidth, p.memoryBusWidth},
		{cudaDevAttrL2CacheSize, p.l2CacheSize},
		{cudaDevAttrMaxThreadsPerMultiProcessor, p.maxThreadsPerMultiProcessor},
		{cudaDevAttrComputeCapabilityMajor, p.major},
		{cudaDevAttrComputeCapabilityMinor, p.minor},
		{cudaDevAttrMaxSharedMemoryPerMultiprocessor, (int)p.sharedMemPerMultiprocessor},
		{cudaDevAttrMaxSharedMemoryPerBlockOptin, (int)p.sharedMemPerBlockOptin},
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		if (all[i].attribute == attribute) {
			*value = all[i].value;
			return cudaSuccess;
		}
	}
	return cudaErrorInvalidValue;
}

/* ---- copies ---- */

struct copy {
	char *to;
	const char *from;
	size_t to_pitch, from_pitch, width, height;
};

static void run_copy(struct work *w)
{
	struct copy *c = (struct copy *)(void *)w->argument;
	for (size_t y = 0; y < c->height; y++)
		memmove(c->to + y * c->to_pitch, c->from + y * c->from_pitch, c->width);
}

/* Whether the first and the last row lie in one allocation of the device. */
static bool on_device(const void *at, size_t pitch, size_t width, size_t height)
{
	return memory_holds(at, pitch * (height - 1) + width, MEMORY_DEVICE);
}

static cudaError_t check_ends(const struct copy *c, enum cudaMemcpyKind kind)
{
	bool to_device = on_device(c->to, c->to_pitch, c->width, c->height);
	bool from_device = on_device(c->from, c->from_pitch, c->width, c->height);
	switch (kind) {
	case cudaMemcpyHostToDevice:
		return to_device && !memory_holds(c->from, 1, MEMORY_DEVICE)
			       ? cudaSuccess
			       : cudaErrorInvalidValue;
	case cudaMemcpyDeviceToHost:
		return from_device && !memory_holds(c->to, 1, MEMORY_DEVICE)
			       ? cudaSuccess
			       : cudaErrorInvalidValue;
	case cudaMemcpyDeviceToDevice:
		return to_device && from_device ? cudaSuccess : cudaErrorInvalidValue;
	case cudaMemcpyHostToHost:
	case cudaMemcpyDefault:
		break;
	}
	return cudaSuccess;
}

/* Pageable memory is read when the copy is done, not at the call: on most machines the runtime
 * copies it first, but where a device reads such memory itself it need not. To pageable memory it
 * waits. */
static cudaError_t add_copy(const struct copy *c, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	if (!c->width || !c->height)
		return lock_error();
	cudaError_t rc = lock_error();
	if (!rc)
		rc = check_ends(c, kind);
	if (rc)
		return rc;
	struct memory *to = memory_find(c->to);
	bool captured = stream_may_wait(stream) != cudaSuccess;
	struct work *w = work_new(WORK_COPY, sizeof *c, run_copy);
	if (!w)
		return cudaErrorMemoryAllocation;
	*(struct copy *)(void *)w->argument = *c;
	rc = stream_add(stream, w);
	if (!rc && !to && !captured) {
		stream_drain(stream);
		order_host_has_waited();
	}
	return rc ? rc : lock_error();
}

cudaError_t cudaMemcpyAsync(
	void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	lock_enter();
	return lock_result(add_copy(&(struct copy){to, from, size, size, size, 1}, kind, stream));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
	size_t width, size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	lock_enter();
	if (width > to_pitch || width > from_pitch)
		return lock_result(cudaErrorInvalidValue);
	return lock_result(add_copy(
		&(struct copy){to, from, to_pitch, from_pitch, width, height}, kind, stream));
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind)
{
	lock_enter();
	cudaError_t rc = add_copy(&(struct copy){to, from, size, size, size, 1}, kind, NULL);
	if (!rc) {
		stream_drain(NULL);
		order_host_has_waited();
	}
	return lock_result(rc ? rc : lock_error());
}

struct set {
	char *to;
	size_t size;
	int value;
};

static void run_set(struct work *w)
{
	struct set *s = (struct set *)(void *)w->argument;
	memset(s->to, s->value, s->size);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t stream)
{
	lock_enter();
	if (!size)
		return lock_result(lock_error());
	if (!memory_holds(to, size, MEMORY_DEVICE))
		return lock_result(cudaErrorInvalidValue);
	struct work *w = work_new(WORK_SET, sizeof(struct set), run_set);
	if (w)
		*(struct set *)(void *)w->argument = (struct set){to, size, value};
	return lock_result(stream_add(stream, w));
}

cudaError_t cudaMemset(void *to, int value, size_t size)
{
	return cudaMemsetAsync(to, value, size, NULL);
}

cudaError_t cudaMallocAsync(void **pointer, size_t size, cudaStream_t stream)
{
	(void)stream;
	return cudaMalloc(pointer, size);
}

cudaError_t cudaFreeAsync(void *pointer, cudaStream_t stream)
{
	(void)stream;
	return cudaFree(pointer);
}
