/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ENV_LINUX_DEVICE_H
#define ENV_LINUX_DEVICE_H

#include <linux/bitops.h>
#include <linux/minmax.h>

struct device;

typedef struct {
	long counter;
} atomic_long_t;

static inline void atomic_long_inc(atomic_long_t *v)
{
	__atomic_fetch_add(&v->counter, 1, __ATOMIC_SEQ_CST);
}

static inline long atomic_long_read(const atomic_long_t *v)
{
	return __atomic_load_n(&v->counter, __ATOMIC_SEQ_CST);
}

/* How many nodes the machine may have. */
#define MAX_NUMNODES	4

#endif
