/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Ranges of memory with two stages: what has to happen before a change, and what may take longer.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_STAGE_H
#define MMU_NOTIFIER_STAGE_H

#include <linux/mmu_notifier.h>
#include <mmu_notifier/abi/versions.h>

struct mmu_notifier_live_range;

/**
 * The stages of a range. All are called without a lock of the library.
 */
struct mmu_notifier_live_range_ops {
	/**
	 * The invalidate stage: memory of the range is about to change, and the calling thread will change it. Stops the device
	 * and marks the range as stale, under the driver's lock, with mmu_interval_set_seq(&range->interval, seq).
	 *
	 * Must not allocate or free, nor take a lock that is held while anybody does. Returns true; false refuses a
	 * non-blockable `event`, in which it must not sleep. May be called again until `done`.
	 */
	bool (*invalidate)(struct mmu_notifier_live_range *range,
			   const struct mmu_notifier_range *event,
			   unsigned long seq);
	/**
	 * The release stage: called once, on a thread of the library, after the first `invalidate` has returned. May allocate, free,
	 * unmap, lock, and insert or remove other ranges. Must not wait for the thread that changes the memory.
	 */
	void (*release)(struct mmu_notifier_live_range *range);
	/**
	 * May be NULL. Called once after `release`, on a thread of the library, which uses the range no longer: it may be freed or
	 * inserted again. May do what `release` may.
	 */
	void (*done)(struct mmu_notifier_live_range *range);
};

/**
 * A range of memory whose changes are told in two stages.
 */
struct mmu_notifier_live_range {
	/**
	 * Where the range is, and its sequence number: for mmu_interval_read_begin() and mmu_interval_set_seq(), and
	 * read by mmu_notifier_live_range_retry(). Not for mmu_interval_notifier_remove().
	 */
	struct mmu_interval_notifier interval;
	/**
	 * The stages; set by insert.
	 */
	const struct mmu_notifier_live_range_ops *ops;
	/**
	 * The library's.
	 */
	struct mmu_notifier_live_range *next;
	/**
	 * The library's.
	 */
	void *finish[2];
	/**
	 * The library's: a time of CLOCK_MONOTONIC.
	 */
	unsigned long deadline[2];
	/**
	 * The library's: how long a thread that changes the memory waits for `release`, in milliseconds.
	 */
	unsigned int timeout_ms;
	/**
	 * The library's: where the range stands.
	 */
	unsigned int place;
	/**
	 * The library's: the layout of the event that `invalidate` takes.
	 */
	unsigned int abi;
	/**
	 * The library's.
	 */
	unsigned int flags;
	/**
	 * An event has touched the range, which is used up: see mmu_notifier_live_range_retry().
	 */
	unsigned int changed;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Watches `length` bytes of `mm` from `start` on, for one change. The struct may be uninitialised; it and `ops` are the
 * library's until mmu_notifier_live_range_remove() returns true, or `done` is called. The caller holds a user of `mm`
 * (`current->mm` has one). For kernels before 6.3, the event of `invalidate` is theirs.
 *
 * `timeout_ms`: how long a thread that changes the memory waits, before it does so, until `release` has returned, in
 * milliseconds; 0: it does not wait. When the time is over it goes on, and mmu_notifier_live_epoch() rises. A range that is
 * waited for refuses non-blockable changes (-EAGAIN for who makes them).
 *
 * An insert during other changes takes effect at their end, as with any interval notifier. So, after the insert:
 * mmu_interval_read_begin(&range->interval), which waits for that; then map the memory; then, under the lock that
 * `invalidate` takes, mmu_notifier_live_range_retry(). If that is true, the memory has changed since the insert, and
 * `release` runs or has run.
 *
 * Starts the library's threads if they do not run. May be called from a stage; not with a lock held that `invalidate`
 * takes, nor inside an event. Returns 0, or what mmu_interval_notifier_insert() returns; -EAGAIN: no thread could be
 * started; -EBUSY: one would have to be, inside an event. Rules: II-1 to II-11, DV-14.
 */
int mmu_notifier_live_range_insert(struct mmu_notifier_live_range *range,
				   struct mm_struct *mm,
				   unsigned long start,
				   unsigned long length,
				   const struct mmu_notifier_live_range_ops *ops,
				   unsigned int timeout_ms);

/**
 * mmu_notifier_live_range_insert() for an `invalidate` whose event has the layout `abi`.
 */
int mmu_notifier_abi_live_range_insert(struct mmu_notifier_live_range *range,
				       struct mm_struct *mm,
				       unsigned long start,
				       unsigned long length,
				       const struct mmu_notifier_live_range_ops *ops,
				       unsigned int timeout_ms,
				       unsigned int abi);

/**
 * Ends a range. True: no change has touched it, neither `release` nor `done` is called, and the struct is the caller's.
 * False: a change was faster; `release` has run and `done` has returned, if there is one. The range must stay valid until
 * this returns: a driver whose `done` frees holds a reference.
 *
 * Sleeps. Not from `invalidate` or another callback of an event of the same address space (DV-7). From `release` and
 * `done`, where it never sleeps, it always returns false, and `done` of the range is still to come. Rules: IR-1 to IR-9,
 * DV-7, DV-9, DV-14.
 */
bool mmu_notifier_live_range_remove(struct mmu_notifier_live_range *range);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

/**
 * Has the memory changed since the insert? To be asked under the lock that `invalidate` takes, with what
 * mmu_interval_read_begin() returned, before what was mapped is used. As mmu_interval_read_retry(), which does
 * not know of a change between the insert and the begin; a range is good for one.
 */
static inline bool mmu_notifier_live_range_retry(struct mmu_notifier_live_range *range, unsigned long seq)
{
	return __atomic_load_n(&range->changed, __ATOMIC_RELAXED) ||
	       mmu_interval_read_retry(&range->interval, seq);
}

#if MMU_NOTIFIER_KERNEL < 0x060300
/* The event of `invalidate` is another struct: the library is told. */
#define mmu_notifier_live_range_insert(range, mm, start, length, ops, timeout_ms) \
	mmu_notifier_abi_live_range_insert(range, mm, start, length, ops, timeout_ms, \
					   MMU_NOTIFIER_ABI)
#endif

#endif  /* MMU_NOTIFIER_STAGE_H */
