/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/sched/mm.h>: the life of an mm.
 *
 * Guard: MMU_NOTIFIER_LINUX_SCHED_MM_H.  Define it first to include nothing.
 *
 * mm_alloc(); mmget(), mmget_not_zero(), mmput() and mmput_async() for the
 * users of the address space (SPEC ML-1, ML-2); mmgrab() and mmdrop() for the
 * struct itself (ML-3); get_task_mm().
 *
 * Different from the kernel: there is no reclaim.  What a driver says of it
 * around an allocation or a lock is accepted and means nothing.
 */
#ifndef MMU_NOTIFIER_LINUX_SCHED_MM_H
#define MMU_NOTIFIER_LINUX_SCHED_MM_H

#include <linux/mm_types.h>
#include <linux/sched.h>

/* What is allocated until the _restore does not wait for reclaim (SPEC 4.1). */
#ifndef memalloc_noreclaim_save
#define memalloc_noreclaim_save()		0U
#define memalloc_noreclaim_restore(flags)	((void)(flags))
#endif
#ifndef memalloc_nofs_save
#define memalloc_nofs_save()			0U
#define memalloc_nofs_restore(flags)		((void)(flags))
#endif
#ifndef memalloc_noio_save
#define memalloc_noio_save()			0U
#define memalloc_noio_restore(flags)		((void)(flags))
#endif

/* For lockdep: a lock that is taken in between is taken by reclaim, too. */
#ifndef fs_reclaim_acquire
#define fs_reclaim_acquire(gfp)			((void)(gfp))
#define fs_reclaim_release(gfp)			((void)(gfp))
#endif
#ifndef might_alloc
#define might_alloc(gfp)			((void)(gfp))
#endif

#endif
