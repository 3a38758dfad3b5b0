/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ENV_LINUX_REFCOUNT_H
#define ENV_LINUX_REFCOUNT_H

#include <linux/atomic.h>

typedef struct {
	atomic_t refs;
} refcount_t;

#endif
