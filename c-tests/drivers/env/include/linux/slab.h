/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Allocation, by malloc(); see env.h for what is counted. */
#ifndef ENV_LINUX_SLAB_H
#define ENV_LINUX_SLAB_H

#include <linux/types.h>

typedef unsigned int gfp_t;

#define GFP_KERNEL	1u

void *kmalloc(size_t size, gfp_t flags);
void *kzalloc(size_t size, gfp_t flags);
void kfree(const void *object);

#endif
