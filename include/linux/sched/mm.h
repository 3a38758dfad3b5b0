/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/sched/mm.h>: the life of an mm.
 *
 * Guard: MMU_NOTIFIER_LINUX_SCHED_MM_H.  Define it first to include nothing.
 *
 * mm_alloc(); mmget(), mmget_not_zero(), mmput() and mmput_async() for the
 * users of the address space (SPEC ML-1, ML-2); mmgrab() and mmdrop() for the
 * struct itself (ML-3); get_task_mm().
 */
#ifndef MMU_NOTIFIER_LINUX_SCHED_MM_H
#define MMU_NOTIFIER_LINUX_SCHED_MM_H

#include <linux/mm_types.h>
#include <linux/sched.h>

#endif
