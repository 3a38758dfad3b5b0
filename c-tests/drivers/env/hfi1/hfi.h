/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What mmu_rb.c and mmu_rb.h use of the rest of the driver and of the kernel at large. */
#ifndef ENV_HFI_H
#define ENV_HFI_H

#include <linux/cache.h>
#include <linux/kref.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#define ALIGN(x, size)		(((x) + (size) - 1) & ~((__typeof__(x))(size) - 1))
#define PTR_ALIGN(pointer, size) ((__typeof__(pointer))ALIGN((unsigned long)(pointer), size))
#define PAGE_ALIGN(address)	ALIGN(address, PAGE_SIZE)

#endif
