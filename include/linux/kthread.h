/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/kthread.h>: kthread_use_mm() and kthread_unuse_mm(), by which a
 * thread takes on the address space of an mm and leaves it.
 *
 * Guard: MMU_NOTIFIER_LINUX_KTHREAD_H.  Define it first to include nothing.
 *
 * Different from the kernel: they set current->mm, nothing is mapped by it;
 * any thread may call them.  Threads are created by libc.
 */
#ifndef MMU_NOTIFIER_LINUX_KTHREAD_H
#define MMU_NOTIFIER_LINUX_KTHREAD_H

#include <linux/sched.h>

#endif
