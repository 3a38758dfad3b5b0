/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/mm_types.h>: struct mm_struct.
 *
 * Guard: MMU_NOTIFIER_LINUX_MM_TYPES_H.  Define it first to include nothing.
 *
 * Different from the kernel: the struct is the library's.  A driver may use
 * its members mm_users, mm_count (by atomic_read()), mmap_lock, pgd and
 * context.id; there are no vmas.
 */
#ifndef MMU_NOTIFIER_LINUX_MM_TYPES_H
#define MMU_NOTIFIER_LINUX_MM_TYPES_H

#include <asm/page.h>
#include <linux/atomic.h>
#include <linux/rwsem.h>
#include <linux/types.h>
#include <mmu_notifier/abi/mm.h>

#endif
