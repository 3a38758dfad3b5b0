/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/rwsem.h>: the type of mm_struct's mmap_lock.
 *
 * Guard: MMU_NOTIFIER_LINUX_RWSEM_H.  Define it first to bring your own: it
 * must have the same size and alignment, for it lies in struct mm_struct.
 *
 * Different from the kernel: there is no down_read() and so on.  The mmap_lock
 * is taken by the functions of <linux/mmap_lock.h>.
 */
#ifndef MMU_NOTIFIER_LINUX_RWSEM_H
#define MMU_NOTIFIER_LINUX_RWSEM_H

/* All zero is unlocked. */
struct rw_semaphore {
	unsigned long opaque[4];
};

#endif
