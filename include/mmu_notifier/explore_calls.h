/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Schedule points in front of the calls of the library, in drivers that are
 * compiled with MMU_NOTIFIER_EXPLORE.  Included by <linux/mmu_notifier.h>.
 *
 * A macro takes the place of each function where it is called; its address is
 * that of the function still.  __object is what the call is about.
 */
#ifndef MMU_NOTIFIER_EXPLORE_CALLS_H
#define MMU_NOTIFIER_EXPLORE_CALLS_H

/* Their declarations come first: they must not become calls of macros. */
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/srcu.h>
#include <mmu_notifier/explore.h>
#include <mmu_notifier/mm.h>

#define __mmu_notifier_call(KIND, object, call) \
	__extension__ ({ \
		__typeof__(object) __object = (object); \
		mmu_notifier_explore_point(MMU_NOTIFIER_EXPLORE_##KIND, \
					   __object); \
		call; \
	})

#define mmu_interval_read_begin(sub) \
	__mmu_notifier_call(READ_BEGIN, sub, mmu_interval_read_begin(__object))
#define mmu_interval_notifier_insert(sub, mm, start, length, ops) \
	__mmu_notifier_call(INSERT, sub, \
		mmu_interval_notifier_insert(__object, mm, start, length, ops))
#define mmu_interval_notifier_insert_locked(sub, mm, start, length, ops) \
	__mmu_notifier_call(INSERT, sub, \
		mmu_interval_notifier_insert_locked(__object, mm, start, length, ops))
#define mmu_interval_notifier_remove(sub) \
	__mmu_notifier_call(REMOVE, sub, mmu_interval_notifier_remove(__object))

#define mmu_notifier_register(sub, mm) \
	__mmu_notifier_call(REGISTER, sub, mmu_notifier_register(__object, mm))
#define __mmu_notifier_register(sub, mm) \
	__mmu_notifier_call(REGISTER, sub, __mmu_notifier_register(__object, mm))
#define mmu_notifier_unregister(sub, mm) \
	__mmu_notifier_call(UNREGISTER, sub, mmu_notifier_unregister(__object, mm))
#define mmu_notifier_get_locked(ops, mm) \
	__mmu_notifier_call(GET, mm, mmu_notifier_get_locked(ops, __object))
#define mmu_notifier_put(sub) \
	__mmu_notifier_call(PUT, sub, mmu_notifier_put(__object))
#define mmu_notifier_synchronize() \
	__mmu_notifier_call(SYNCHRONIZE, NULL, mmu_notifier_synchronize())
#define mmu_notifier_synchronize_rcu() \
	__mmu_notifier_call(SYNCHRONIZE, NULL, mmu_notifier_synchronize_rcu())
#define synchronize_srcu(domain) \
	__mmu_notifier_call(SYNCHRONIZE, domain, synchronize_srcu(__object))
#define srcu_barrier(domain) \
	__mmu_notifier_call(SYNCHRONIZE, domain, srcu_barrier(__object))

#define mmap_read_lock(mm) \
	__mmu_notifier_call(MM_LOCK, mm, mmap_read_lock(__object))
#define mmap_read_lock_killable(mm) \
	__mmu_notifier_call(MM_LOCK, mm, mmap_read_lock_killable(__object))
#define mmap_read_trylock(mm) \
	__mmu_notifier_call(MM_LOCK, mm, mmap_read_trylock(__object))
#define mmap_read_unlock(mm) \
	__mmu_notifier_call(MM_UNLOCK, mm, mmap_read_unlock(__object))
#define mmap_write_lock(mm) \
	__mmu_notifier_call(MM_LOCK, mm, mmap_write_lock(__object))
#define mmap_write_lock_killable(mm) \
	__mmu_notifier_call(MM_LOCK, mm, mmap_write_lock_killable(__object))
#define mmap_write_trylock(mm) \
	__mmu_notifier_call(MM_LOCK, mm, mmap_write_trylock(__object))
#define mmap_write_unlock(mm) \
	__mmu_notifier_call(MM_UNLOCK, mm, mmap_write_unlock(__object))
#define mmap_write_downgrade(mm) \
	__mmu_notifier_call(MM_UNLOCK, mm, mmap_write_downgrade(__object))
#define mmu_notifier_rmap_read_lock(mm) \
	__mmu_notifier_call(MM_LOCK, mm, mmu_notifier_rmap_read_lock(__object))
#define mmu_notifier_rmap_read_unlock(mm) \
	__mmu_notifier_call(MM_UNLOCK, mm, mmu_notifier_rmap_read_unlock(__object))
#define mmu_notifier_rmap_write_lock(mm) \
	__mmu_notifier_call(MM_LOCK, mm, mmu_notifier_rmap_write_lock(__object))
#define mmu_notifier_rmap_write_unlock(mm) \
	__mmu_notifier_call(MM_UNLOCK, mm, mmu_notifier_rmap_write_unlock(__object))

#define mmget_not_zero(mm) \
	__mmu_notifier_call(REFERENCE, mm, mmget_not_zero(__object))
#define mmput(mm) \
	__mmu_notifier_call(REFERENCE, mm, mmput(__object))
#define mmput_async(mm) \
	__mmu_notifier_call(REFERENCE, mm, mmput_async(__object))
#define mmdrop(mm) \
	__mmu_notifier_call(REFERENCE, mm, mmdrop(__object))

#define vm_mmap(...) \
	__mmu_notifier_call(CHANGE, NULL, vm_mmap(__VA_ARGS__))
#define vm_munmap(...) \
	__mmu_notifier_call(CHANGE, NULL, vm_munmap(__VA_ARGS__))
#define mmu_notifier_mmap(...) \
	__mmu_notifier_call(CHANGE, NULL, mmu_notifier_mmap(__VA_ARGS__))
#define mmu_notifier_mremap(...) \
	__mmu_notifier_call(CHANGE, NULL, mmu_notifier_mremap(__VA_ARGS__))
#define mmu_notifier_mprotect(...) \
	__mmu_notifier_call(CHANGE, NULL, mmu_notifier_mprotect(__VA_ARGS__))
#define mmu_notifier_madvise(...) \
	__mmu_notifier_call(CHANGE, NULL, mmu_notifier_madvise(__VA_ARGS__))

#endif
