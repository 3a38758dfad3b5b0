/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/mmu_notifier.h>: MMU notifiers.
 *
 * A driver keeps mappings of its own of an mm's pages, and is called when those
 * change: register a struct mmu_notifier to hear of all ranges of an mm, insert
 * a struct mmu_interval_notifier to hear of the ranges that touch an interval,
 * or get and put a shared struct mmu_notifier.  Whoever changes the mappings
 * calls the functions of this header's second half.
 *
 * The structs, the events and the functions that the library exports are in
 * <mmu_notifier/abi/notifier.h> and, where kernels differ, in what
 * <mmu_notifier/kernel.h> includes; here are the inline functions.  As in the
 * kernel, a driver gets many other headers by including this one.  Identifiers
 * like RS-1 name the rules in docs/spec/SPEC.md.
 *
 * Guard: MMU_NOTIFIER_LINUX_MMU_NOTIFIER_H.  Define it first to include
 * nothing.
 *
 * Different from the kernel: a NULL where an object is needed is reported as a
 * BUG (DV-14); the option CONFIG_MMU_NOTIFIER is always on, the stubs that the
 * kernel has for =n are left out; there is no
 * mmu_notifier_range_update_to_read_only() (DV-11).
 */
#ifndef MMU_NOTIFIER_LINUX_MMU_NOTIFIER_H
#define MMU_NOTIFIER_LINUX_MMU_NOTIFIER_H

#ifndef CONFIG_MMU_NOTIFIER
#define CONFIG_MMU_NOTIFIER 1
#endif

#include <asm/page.h>
#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/err.h>
#include <linux/interval_tree.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/mmap_lock.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/types.h>
#include <mmu_notifier/abi/notifier.h>
#include <mmu_notifier/abi/support.h>
#include <mmu_notifier/kernel.h>

#define __mmu_notifier_need(pointer) \
	do { \
		if (unlikely(!(pointer))) \
			mmu_notifier_null_argument(__func__); \
	} while (0)

/*
 * Has @mm ever had a subscriber?  Non-zero from the first registration or
 * insert until @mm is destroyed, even if no subscriber is left (ST-2).  May be
 * called in any context.
 */
static inline int mm_has_notifiers(struct mm_struct *mm)
{
	__mmu_notifier_need(mm);
	return __atomic_load_n(&mm->notifier_subscriptions,
			       __ATOMIC_ACQUIRE) != NULL;
}

/* ---------------------------------------------------------- for drivers */

/*
 * A reference to @mm's notifier with these @ops: the one that exists, or a new
 * one from ops->alloc_notifier() (GP-1 to GP-4).  Give it back with
 * mmu_notifier_put().  Returns an ERR_PTR() on failure.
 *
 * Takes the mmap_lock for writing; the caller must not hold it (else:
 * mmu_notifier_get_locked()), and must hold a user of @mm.  Sleeps.
 */
static inline struct mmu_notifier *
mmu_notifier_get(const struct mmu_notifier_ops *ops, struct mm_struct *mm)
{
	struct mmu_notifier *subscription;

	__mmu_notifier_need(ops);
	__mmu_notifier_need(mm);
	__mmu_notifier_point(GET, mm);
	mmap_write_lock(mm);
	subscription = mmu_notifier_get_locked(ops, mm);
	mmap_write_unlock(mm);
	return subscription;
}

/*
 * Tells the readers of @interval_sub that what they collected is stale.  Only
 * inside of ops->invalidate(), with the @cur_seq that it was given, under the
 * driver's lock that also protects mmu_interval_read_retry().
 * SPEC: 4.3-5
 */
static inline void
mmu_interval_set_seq(struct mmu_interval_notifier *interval_sub,
		     unsigned long cur_seq)
{
	__mmu_notifier_need(interval_sub);
	__mmu_notifier_point(SET_SEQ, interval_sub);
	__WRITE_ONCE(interval_sub->invalidate_seq, cur_seq);
}

/*
 * Ends the read section that mmu_interval_read_begin() opened, which returned
 * @seq.  True: the interval was invalidated since, begin again.  False: what
 * was collected is valid as long as the driver's lock is held.
 *
 * The caller holds the driver's lock, under which ops->invalidate() calls
 * mmu_interval_set_seq().
 * SPEC: 4.3-3
 */
static inline bool
mmu_interval_read_retry(struct mmu_interval_notifier *interval_sub,
			unsigned long seq)
{
	__mmu_notifier_need(interval_sub);
	__mmu_notifier_point(READ_RETRY, interval_sub);
	return interval_sub->invalidate_seq != seq;
}

/*
 * The same as a hint, without any lock and in any context: true is certain,
 * false may be wrong by the time it is returned.  It allows to give up early;
 * mmu_interval_read_retry() must still follow a false.
 * SPEC: 4.3-2
 */
static inline bool
mmu_interval_check_retry(struct mmu_interval_notifier *interval_sub,
			 unsigned long seq)
{
	__mmu_notifier_need(interval_sub);
	__mmu_notifier_point(CHECK_RETRY, interval_sub);
	return __READ_ONCE(interval_sub->invalidate_seq) != seq;
}

/*
 * May a callback for @range sleep?  If not, one that would have to returns
 * -EAGAIN (invalidate_range_start) or false (invalidate) (RS-4, HS-4).
 */
static inline bool
mmu_notifier_range_blockable(const struct mmu_notifier_range *range)
{
	__mmu_notifier_need(range);
	return (range->flags & MMU_NOTIFIER_RANGE_BLOCKABLE) != 0;
}

/* --------------------------------- for those who change the mappings of mm */

/*
 * Describes a change of the addresses from @start, inclusive, to @end,
 * exclusive, in bytes, of @mm.  @event says what happens to them; @flags is 0,
 * for start functions set MMU_NOTIFIER_RANGE_BLOCKABLE themselves.  Takes no
 * lock.  range->owner is not touched: it stays indeterminate.
 */
#if MMU_NOTIFIER_KERNEL < 0x060300
static inline void
mmu_notifier_range_init(struct mmu_notifier_range *range,
			enum mmu_notifier_event event, unsigned flags,
			struct vm_area_struct *vma, struct mm_struct *mm,
			unsigned long start, unsigned long end)
{
	__mmu_notifier_need(range);
	range->vma = vma;
	range->event = event;
	range->mm = mm;
	range->start = start;
	range->end = end;
	range->flags = flags;
}
#else
static inline void
mmu_notifier_range_init(struct mmu_notifier_range *range,
			enum mmu_notifier_event event, unsigned flags,
			struct mm_struct *mm, unsigned long start,
			unsigned long end)
{
	__mmu_notifier_need(range);
	range->event = event;
	range->mm = mm;
	range->start = start;
	range->end = end;
	range->flags = flags;
}
#endif

/*
 * The same with an @owner, by which a driver recognises the changes that it
 * makes itself (MMU_NOTIFY_MIGRATE, MMU_NOTIFY_EXCLUSIVE).  May be NULL.
 */
#if MMU_NOTIFIER_KERNEL < 0x060300
static inline void
mmu_notifier_range_init_owner(struct mmu_notifier_range *range,
			      enum mmu_notifier_event event,
			      unsigned int flags, struct vm_area_struct *vma,
			      struct mm_struct *mm, unsigned long start,
			      unsigned long end, void *owner)
{
	mmu_notifier_range_init(range, event, flags, vma, mm, start, end);
	range->owner = owner;
}
#else
static inline void
mmu_notifier_range_init_owner(struct mmu_notifier_range *range,
			      enum mmu_notifier_event event,
			      unsigned int flags, struct mm_struct *mm,
			      unsigned long start, unsigned long end,
			      void *owner)
{
	mmu_notifier_range_init(range, event, flags, mm, start, end);
	range->owner = owner;
}
#endif

/*
 * Announces the change that @range describes, and returns when nobody uses the
 * old mappings any more; mmu_notifier_invalidate_range_end() must follow with
 * the same @range after the change.
 *
 * Sets MMU_NOTIFIER_RANGE_BLOCKABLE if @range->mm has notifiers.  Sleeps.  The
 * caller holds the mmap_lock or the reverse-map lock of the mm, for reading or
 * writing (DV-2), and no driver's lock.  A callback that fails does so against
 * the contract and is warned of (RS-5, HS-5, HS-9).
 */
static inline void
mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range)
{
	__mmu_notifier_need(range);
	__mmu_notifier_need(range->mm);
	might_sleep();
	__mmu_notifier_point(START, range->mm);
	if (mm_has_notifiers(range->mm)) {
		range->flags |= MMU_NOTIFIER_RANGE_BLOCKABLE;
		__mmu_notifier_invalidate_range_start(range);
	}
}

/*
 * The same for a caller that cannot wait: no callback may sleep.  Clears
 * MMU_NOTIFIER_RANGE_BLOCKABLE if @range->mm has notifiers.  Returns 0 on
 * success.  Otherwise, most often -EAGAIN, the change must not be made and no
 * end must follow (RS-4, HS-6 to HS-8).
 */
static inline int __must_check
mmu_notifier_invalidate_range_start_nonblock(struct mmu_notifier_range *range)
{
	int result = 0;

	__mmu_notifier_need(range);
	__mmu_notifier_need(range->mm);
	__mmu_notifier_point(START_NONBLOCK, range->mm);
	if (mm_has_notifiers(range->mm)) {
		range->flags &= ~(unsigned)MMU_NOTIFIER_RANGE_BLOCKABLE;
		result = __mmu_notifier_invalidate_range_start(range);
	}
	__mmu_notifier_point(NONBLOCK_DONE, result ? NULL : range->mm);
	return result;
}

/*
 * The change is made.  @range is the one of a successful start, unchanged, and
 * the caller holds what it held there (RE-1 to RE-7).  Sleeps if @range is
 * blockable.
 */
static inline void
mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range)
{
	__mmu_notifier_need(range);
	__mmu_notifier_need(range->mm);
	might_sleep_if(mmu_notifier_range_blockable(range));
	__mmu_notifier_point(END, range->mm);
	if (mm_has_notifiers(range->mm))
#if MMU_NOTIFIER_KERNEL < 0x060600
		__mmu_notifier_invalidate_range_end(range, false);
#else
		__mmu_notifier_invalidate_range_end(range);
#endif
}

#if MMU_NOTIFIER_KERNEL < 0x060600
/*
 * The same for a caller that has called mmu_notifier_invalidate_range() by
 * itself: ops->invalidate_range, which an end calls in these kernels, is not.
 */
static inline void
mmu_notifier_invalidate_range_only_end(struct mmu_notifier_range *range)
{
	__mmu_notifier_need(range);
	__mmu_notifier_need(range->mm);
	__mmu_notifier_point(END, range->mm);
	if (mm_has_notifiers(range->mm))
		__mmu_notifier_invalidate_range_end(range, true);
}
#endif

/*
 * Drop what secondary TLBs hold of the addresses from @start, inclusive, to
 * @end, exclusive, in bytes; 0 and ULONG_MAX stand for all (YG-3, YG-4).  For
 * code that flushes the primary TLB.  No callback sleeps; the caller may hold a
 * spinlock.
 */
#if MMU_NOTIFIER_KERNEL < 0x060600
static inline void __mmu_notifier_invalidate_range(struct mm_struct *mm,
						   unsigned long start,
						   unsigned long end)
{
	__mmu_notifier_arch_invalidate_secondary_tlbs(mm, start, end);
}

static inline void mmu_notifier_invalidate_range(struct mm_struct *mm,
						 unsigned long start,
						 unsigned long end)
{
	__mmu_notifier_need(mm);
	__mmu_notifier_point(SECONDARY, mm);
	if (mm_has_notifiers(mm))
		__mmu_notifier_invalidate_range(mm, start, end);
}
#else
static inline void
mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
					    unsigned long start,
					    unsigned long end)
{
	__mmu_notifier_need(mm);
	__mmu_notifier_point(SECONDARY, mm);
	if (mm_has_notifiers(mm))
		__mmu_notifier_arch_invalidate_secondary_tlbs(mm, start, end);
}
#endif

/* What a question about accessed marks answers: an int, a bool since 7.1. */
#if MMU_NOTIFIER_KERNEL < 0x070100
typedef int mmu_notifier_young_t;
#else
typedef bool mmu_notifier_young_t;
#endif

/*
 * Has a secondary MMU accessed the addresses from @start, inclusive, to @end,
 * exclusive, in bytes?  Clears its accessed marks, and flushes its TLB.  The
 * result is the OR of all callbacks' (YG-1), 0 if there are none.  No callback
 * sleeps; the caller may hold a spinlock.
 */
static inline mmu_notifier_young_t
mmu_notifier_clear_flush_young(struct mm_struct *mm, unsigned long start,
			       unsigned long end)
{
	__mmu_notifier_need(mm);
	__mmu_notifier_point(SECONDARY, mm);
	if (!mm_has_notifiers(mm))
		return 0;
	return __mmu_notifier_clear_flush_young(mm, start, end);
}

/* The same without the flush (YG-1). */
static inline mmu_notifier_young_t
mmu_notifier_clear_young(struct mm_struct *mm, unsigned long start,
			 unsigned long end)
{
	__mmu_notifier_need(mm);
	__mmu_notifier_point(SECONDARY, mm);
	if (!mm_has_notifiers(mm))
		return 0;
	return __mmu_notifier_clear_young(mm, start, end);
}

/*
 * Has a secondary MMU accessed the page at @address, in bytes?  Changes
 * nothing.  The result is the first non-zero one of the callbacks (YG-2).  No
 * callback sleeps; the caller may hold a spinlock.
 */
static inline mmu_notifier_young_t
mmu_notifier_test_young(struct mm_struct *mm, unsigned long address)
{
	__mmu_notifier_need(mm);
	__mmu_notifier_point(SECONDARY, mm);
	if (!mm_has_notifiers(mm))
		return 0;
	return __mmu_notifier_test_young(mm, address);
}

#if MMU_NOTIFIER_KERNEL < 0x060a00
/*
 * The page at @address, in bytes, is about to be mapped by @pte (YG-3).  Only
 * between a start and its end.  No callback sleeps; the caller may hold a
 * spinlock.
 */
static inline void mmu_notifier_change_pte(struct mm_struct *mm,
					   unsigned long address, pte_t pte)
{
	__mmu_notifier_need(mm);
	__mmu_notifier_point(SECONDARY, mm);
	if (mm_has_notifiers(mm))
		__mmu_notifier_change_pte(mm, address, pte);
}
#endif

/* ----------------------------------------------- the life of an mm_struct */

/* @mm is new: it has no notifiers. */
static inline void mmu_notifier_subscriptions_init(struct mm_struct *mm)
{
	__mmu_notifier_need(mm);
	mm->notifier_subscriptions = NULL;
}

/*
 * @mm's last user is gone: every notifier is told and unlinked (RL-1 to RL-7).
 * mmput() calls it.  Sleeps; the caller holds no lock.
 */
static inline void mmu_notifier_release(struct mm_struct *mm)
{
	__mmu_notifier_need(mm);
	if (mm_has_notifiers(mm))
		__mmu_notifier_release(mm);
}

/* @mm's last reference is gone (DS-1).  mmdrop() calls it. */
static inline void mmu_notifier_subscriptions_destroy(struct mm_struct *mm)
{
	__mmu_notifier_need(mm);
	if (mm_has_notifiers(mm))
		__mmu_notifier_subscriptions_destroy(mm);
}

#undef __mmu_notifier_need

/* --------------------------------------- schedule points at exported calls */

#ifdef MMU_NOTIFIER_EXPLORE
#include <mmu_notifier/explore_calls.h>
#endif

/* ------------------------------------------------ page table operations */

/*
 * For code that has page tables: an operation of the architecture, which that
 * code supplies (ptep_clear_flush_young() and so on), together with the
 * notifiers' half for the one page that @ptep or @pmdp maps at @address.
 * @vma needs a member vm_mm.  The results are ORed.
 */
#define __mmu_notifier_young(primary, secondary, vma, address, entry, size) \
	__extension__ ({ \
		__typeof__(vma) __vma = (vma); \
		unsigned long __address = (address); \
		int __young = primary(__vma, __address, entry); \
		\
		__young | secondary(__vma->vm_mm, __address, \
				    __address + (size)); \
	})

#define ptep_clear_flush_young_notify(vma, address, ptep) \
	__mmu_notifier_young(ptep_clear_flush_young, \
			     mmu_notifier_clear_flush_young, \
			     vma, address, ptep, PAGE_SIZE)

#define pmdp_clear_flush_young_notify(vma, address, pmdp) \
	__mmu_notifier_young(pmdp_clear_flush_young, \
			     mmu_notifier_clear_flush_young, \
			     vma, address, pmdp, PMD_SIZE)

#define ptep_clear_young_notify(vma, address, ptep) \
	__mmu_notifier_young(ptep_test_and_clear_young, \
			     mmu_notifier_clear_young, \
			     vma, address, ptep, PAGE_SIZE)

#define pmdp_clear_young_notify(vma, address, pmdp) \
	__mmu_notifier_young(pmdp_test_and_clear_young, \
			     mmu_notifier_clear_young, \
			     vma, address, pmdp, PMD_SIZE)

#if MMU_NOTIFIER_KERNEL < 0x060600
/*
 * An entry is cleared and flushed by an operation of the architecture, and
 * secondary TLBs drop what they hold of the page.  The value is the old entry.
 */
#define __mmu_notifier_clear_flush(operation, vma, address, entry, size) \
	__extension__ ({ \
		__typeof__(vma) __vma = (vma); \
		unsigned long __address = (address) & ~((unsigned long)(size) - 1); \
		__typeof__(operation(__vma, __address, entry)) __old = \
			operation(__vma, __address, entry); \
		\
		mmu_notifier_invalidate_range(__vma->vm_mm, __address, \
					      __address + (size)); \
		__old; \
	})

#define ptep_clear_flush_notify(vma, address, ptep) \
	__mmu_notifier_clear_flush(ptep_clear_flush, vma, address, ptep, \
				   PAGE_SIZE)

#define pmdp_huge_clear_flush_notify(vma, address, pmdp) \
	__mmu_notifier_clear_flush(pmdp_huge_clear_flush, vma, address, pmdp, \
				   PMD_SIZE)

#define pudp_huge_clear_flush_notify(vma, address, pudp) \
	__mmu_notifier_clear_flush(pudp_huge_clear_flush, vma, address, pudp, \
				   PUD_SIZE)
#endif

#if MMU_NOTIFIER_KERNEL < 0x060a00
/* The notifiers hear of @pte before it is set by set_pte_at(). */
#define set_pte_at_notify(mm, address, ptep, pte) \
	do { \
		struct mm_struct *__mm = (mm); \
		unsigned long __address = (address); \
		pte_t __pte = (pte); \
		\
		mmu_notifier_change_pte(__mm, __address, __pte); \
		set_pte_at(__mm, __address, ptep, __pte); \
	} while (0)
#endif

#endif
