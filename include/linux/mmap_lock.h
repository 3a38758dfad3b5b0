/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/mmap_lock.h>: the lock on an mm's address space.
 *
 * Guard: MMU_NOTIFIER_LINUX_MMAP_LOCK_H.  Define it first to include nothing.
 *
 * mmap_read_lock(), mmap_write_lock(), their _killable and trylock forms, the
 * unlocks, mmap_write_downgrade(), mmap_assert_locked() and
 * mmap_assert_write_locked().  The lock does not recurse, and any thread may
 * release it (SPEC ML-5).
 *
 * Different from the kernel: a failed assertion is a warning (DV-3), and the
 * _killable forms never fail.
 */
#ifndef MMU_NOTIFIER_LINUX_MMAP_LOCK_H
#define MMU_NOTIFIER_LINUX_MMAP_LOCK_H

#include <linux/lockdep.h>
#include <linux/mm_types.h>
#include <linux/rwsem.h>

/* Nothing keeps track of who holds it, nor of more than one. */
#ifndef mmap_write_lock_nested
#define mmap_write_lock_nested(mm, subclass)	mmap_write_lock(mm)
#endif
#ifndef mmap_read_unlock_non_owner
#define mmap_read_unlock_non_owner(mm)		mmap_read_unlock(mm)
#endif

#endif
