/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcublasLt is half a gigabyte, and a machine without a GPU has no use for it. So it is not
 * linked but opened: by its name, as the loader finds it, then in the folder of the toolkit that
 * this was built with. Each function here has the name and the type of the library's (the toolkit's
 * header checks that) and passes its call on. Any thread may call; the library is opened once.
 */
#include "engine/cuda/blas_door.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)
#define LIBRARY "libcublasLt.so." NUMBER(CUBLAS_VER_MAJOR)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void *library;
static char missing[512];

static void open_library(void)
{
	library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		const char *why = dlerror();
		snprintf(missing, sizeof(missing), "cuBLASLt cannot be loaded: %s",
			why ? why : LIBRARY);
		library = dlopen(BLAS_DOOR_FOLDER "/" LIBRARY, RTLD_NOW | RTLD_LOCAL);
	}
}

const char *blas_door_missing(void)
{
	pthread_once(&once, open_library);
	return library ? NULL : missing;
}

static void *find(const char *name)
{
	return blas_door_missing() ? NULL : dlsym(library, name);
}

#define FORWARD(name, parameters, ...)                                                             \
	cublasStatus_t name parameters                                                             \
	{                                                                                          \
		typedef cublasStatus_t function parameters;                                        \
		static void *found;                                                                \
		void *real = __atomic_load_n(&found, __ATOMIC_RELAXED);                            \
		if (!real) {                                                                       \
			real = find(#name);                                                        \
			__atomic_store_n(&found, real, __ATOMIC_RELAXED);                          \
		}                                                                                  \
		return real ? ((function *)real)(__VA_ARGS__) : CUBLAS_STATUS_NOT_INITIALIZED;     \
	}

FORWARD(cublasLtCreate, (cublasLtHandle_t * handle), handle)
FORWARD(cublasLtDestroy, (cublasLtHandle_t handle), handle)
FORWARD(cublasLtMatmulDescCreate,
	(cublasLtMatmulDesc_t * desc, cublasComputeType_t compute, cudaDataType_t scale), desc,
	compute, scale)
FORWARD(cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t desc), desc)
FORWARD(cublasLtMatmulDescSetAttribute,
	(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const void *value,
		size_t size),
	desc, attribute, value, size)
FORWARD(cublasLtMatrixLayoutCreate,
	(cublasLtMatrixLayout_t * layout, cudaDataType type, uint64_t rows, uint64_t cols,
		int64_t ld),
	layout, type, rows, cols, ld)
FORWARD(cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t layout), layout)
FORWARD(cublasLtMatrixLayoutSetAttribute,
	(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute,
		const void *value, size_t size),
	layout, attribute, value, size)
FORWARD(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t * preference), preference)
FORWARD(cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t preference), preference)
FORWARD(cublasLtMatmulPreferenceSetAttribute,
	(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
		const void *value, size_t size),
	preference, attribute, value, size)
FORWARD(cublasLtMatmulAlgoGetHeuristic,
	(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
		cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
		cublasLtMatmulPreference_t preference, int n_wanted,
		cublasLtMatmulHeuristicResult_t results[], int *n_found),
	handle, desc, a, b, c, d, preference, n_wanted, results, n_found)
FORWARD(cublasLtMatmul,
	(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
		cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
		const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
		cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace,
		size_t workspace_size, cudaStream_t stream),
	handle, desc, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algo,
	workspace, workspace_size, stream)
