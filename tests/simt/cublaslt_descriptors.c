/* SPDX-License-Identifier: Apache-2.0 */
/* cuBLASLt's handles and descriptors: made, set, asked and destroyed, with the library's refusals.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/simt/cublaslt.h"
#include "tests/simt/lock.h"

static const struct {
	cublasStatus_t status;
	const char *name;
} statuses[] = {
	{CUBLAS_STATUS_SUCCESS, "CUBLAS_STATUS_SUCCESS"},
	{CUBLAS_STATUS_NOT_INITIALIZED, "CUBLAS_STATUS_NOT_INITIALIZED"},
	{CUBLAS_STATUS_ALLOC_FAILED, "CUBLAS_STATUS_ALLOC_FAILED"},
	{CUBLAS_STATUS_INVALID_VALUE, "CUBLAS_STATUS_INVALID_VALUE"},
	{CUBLAS_STATUS_ARCH_MISMATCH, "CUBLAS_STATUS_ARCH_MISMATCH"},
	{CUBLAS_STATUS_MAPPING_ERROR, "CUBLAS_STATUS_MAPPING_ERROR"},
	{CUBLAS_STATUS_EXECUTION_FAILED, "CUBLAS_STATUS_EXECUTION_FAILED"},
	{CUBLAS_STATUS_INTERNAL_ERROR, "CUBLAS_STATUS_INTERNAL_ERROR"},
	{CUBLAS_STATUS_NOT_SUPPORTED, "CUBLAS_STATUS_NOT_SUPPORTED"},
	{CUBLAS_STATUS_LICENSE_ERROR, "CUBLAS_STATUS_LICENSE_ERROR"},
};

const char *cublasLtGetStatusName(cublasStatus_t status)
{
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
		if (statuses[i].status == status)
			return statuses[i].name;
	}
	return "unknown status";
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
	return cublasLtGetStatusName(status);
}

size_t cublasLtGetVersion(void)
{
	return 130000;
}

static cublasStatus_t made(const void *p)
{
	return p ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
	lock_enter();
	*handle = lock_error() ? NULL : calloc(1, sizeof **handle);
	lock_leave();
	return *handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
	free(handle);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(
	cublasLtMatmulDesc_t *desc, cublasComputeType_t compute, cudaDataType_t scale)
{
	(void)compute;
	*desc = NULL;
	if (scale != CUDA_R_32F)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	*desc = calloc(1, sizeof **desc);
	if (*desc) {
		(*desc)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
		(*desc)->bias_type = (cudaDataType)-1;
	}
	return made(*desc);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
	free(desc);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
	cublasLtMatmulDescAttributes_t attribute, const void *value, size_t size)
{
	const struct {
		cublasLtMatmulDescAttributes_t attribute;
		void *field;
		size_t size;
	} fields[] = {
		{CUBLASLT_MATMUL_DESC_TRANSA, &desc->op_a, sizeof desc->op_a},
		{CUBLASLT_MATMUL_DESC_TRANSB, &desc->op_b, sizeof desc->op_b},
		{CUBLASLT_MATMUL_DESC_EPILOGUE, &desc->epilogue, sizeof desc->epilogue},
		{CUBLASLT_MATMUL_DESC_BIAS_POINTER, &desc->bias, sizeof desc->bias},
		{CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &desc->bias_type, sizeof desc->bias_type},
		{CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &desc->a_scale, sizeof desc->a_scale},
		{CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &desc->b_scale, sizeof desc->b_scale},
		{CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &desc->a_mode, sizeof desc->a_mode},
		{CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &desc->b_mode, sizeof desc->b_mode},
	};
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		if (fields[i].attribute != attribute)
			continue;
		if (size != fields[i].size)
			return CUBLAS_STATUS_INVALID_VALUE;
		memcpy(fields[i].field, value, size);
		return CUBLAS_STATUS_SUCCESS;
	}
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(
	cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld)
{
	*layout = malloc(sizeof **layout);
	if (*layout)
		**layout = (matrix_layout){type, rows, cols, ld, CUBLASLT_ORDER_COL};
	return made(*layout);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
	free(layout);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
	cublasLtMatrixLayoutAttribute_t attribute, const void *value, size_t size)
{
	if (attribute == CUBLASLT_MATRIX_LAYOUT_ORDER && size == sizeof layout->order)
		memcpy(&layout->order, value, size);
	else if (attribute == CUBLASLT_MATRIX_LAYOUT_LD && size == sizeof layout->ld)
		memcpy(&layout->ld, value, size);
	else if (attribute == CUBLASLT_MATRIX_LAYOUT_ROWS && size == sizeof layout->rows)
		memcpy(&layout->rows, value, size);
	else if (attribute == CUBLASLT_MATRIX_LAYOUT_COLS && size == sizeof layout->cols)
		memcpy(&layout->cols, value, size);
	else
		return CUBLAS_STATUS_INVALID_VALUE;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
	*preference = calloc(1, sizeof **preference);
	for (int i = 0; *preference && i < 4; i++)
		(*preference)->alignment[i] = 256;
	return made(*preference);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
	free(preference);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
	cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t size)
{
	if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
		if (size != sizeof preference->workspace)
			return CUBLAS_STATUS_INVALID_VALUE;
		memcpy(&preference->workspace, value, size);
	}
	if (attribute >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
		attribute <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES) {
		if (size != sizeof preference->alignment[0])
			return CUBLAS_STATUS_INVALID_VALUE;
		memcpy(&preference
				->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
			value, size);
	}
	return CUBLAS_STATUS_SUCCESS;
}
