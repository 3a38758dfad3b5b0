/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/sched.h>: struct task_struct and current.  The system's own
 * <linux/sched.h> (CLONE_VM, ...) comes with it.
 *
 * Guard: MMU_NOTIFIER_LINUX_SCHED_H.  Define it first to bring your own.
 *
 * Different from the kernel: a task is a thread of this process; its struct
 * has mm, group_leader, pid, tgid and comm only.
 */
#pragma GCC system_header /* for -Wpedantic: #include_next is an extension */

#ifdef __has_include_next
#if __has_include_next(<linux/sched.h>)
#include_next <linux/sched.h>
#endif
#endif

#ifndef MMU_NOTIFIER_LINUX_SCHED_H
#define MMU_NOTIFIER_LINUX_SCHED_H

#include <linux/mm_types.h>

/*
 * The calling thread's struct task_struct *.  current->mm may be read
 * everywhere, and be assigned.
 */
#ifndef current
#ifndef __cplusplus

#define current mmu_notifier_current()

#else /* not a macro: the standard library has members of that name */

static const struct {
	inline operator struct task_struct *() const
	{
		return mmu_notifier_current();
	}

	inline struct task_struct *operator->() const
	{
		return mmu_notifier_current();
	}
} current = {};

#endif
#endif

#endif
