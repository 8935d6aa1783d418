/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_SHOWN_H
#define GATEWAY_SHIM_SHOWN_H

/* What is shown by GET. All as shim_path's begin. */

struct shim_call;

int shim_shown_health(struct shim_call *c);  /* it is there */
int shim_shown_ready(struct shim_call *c);   /* and models/default can answer */
int shim_shown_metrics(struct shim_call *c); /* metrics/prometheus */
int shim_shown_models(struct shim_call *c);  /* those that the key may name */
int shim_shown_model(struct shim_call *c);   /* one of them */

#endif
