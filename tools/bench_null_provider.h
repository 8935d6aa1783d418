/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TOOLS_BENCH_NULL_PROVIDER_H
#define TOOLS_BENCH_NULL_PROVIDER_H

/* Takes the place of upstream_provider (the linker's --wrap): as long as it is on, a request is
 * answered at once on the gateway's loop, in three tokens as loopback_server does, and no server is
 * asked. What is left is the pipeline without a model. */

#include <stdbool.h>

#include "gateway/loop.h"

/* loop: of the gateway that asks. Not while requests run. */
void bench_null_provider(struct loop *loop, bool on);

#endif
