/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/mm.h>: vm_mmap() and vm_munmap(), and the headers that a driver
 * expects to come along.
 *
 * Guard: MMU_NOTIFIER_LINUX_MM_H.  Define it first to bring your own.
 *
 * Different from the kernel: vm_mmap() maps anonymous memory only, its file is
 * NULL (SPEC DV-16; a file: mmu_notifier_mmap() of <mmu_notifier/mm.h>).
 * There are no pages and no vmas.
 */
#ifndef MMU_NOTIFIER_LINUX_MM_H
#define MMU_NOTIFIER_LINUX_MM_H

#include <asm/page.h>
#include <linux/bug.h>
#include <linux/err.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/mmap_lock.h>
#include <linux/rbtree.h>
#include <linux/sched.h>

#endif
