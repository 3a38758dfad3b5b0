/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Schedule points, and what a driver exports to be explored (docs/explore.md).
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_EXPLORE_H
#define MMU_NOTIFIER_EXPLORE_H

#include <stdint.h>

/**
 * What a thread is about to do at a schedule point, or has just done. `address` names the object that it is about.
 */
enum mmu_notifier_explore_kind {
	/**
	 * Something that only the driver knows.
	 */
	MMU_NOTIFIER_EXPLORE_POINT = 0,
	/**
	 * Nothing: the thread spins and waits for others to go on.
	 */
	MMU_NOTIFIER_EXPLORE_YIELD = 1,
	/**
	 * To take the lock at `address`. The caller goes on when nobody holds it.
	 */
	MMU_NOTIFIER_EXPLORE_LOCK = 2,
	/**
	 * To take the lock at `address` if it is free.
	 */
	MMU_NOTIFIER_EXPLORE_TRYLOCK = 3,
	/**
	 * Has taken it. No schedule point.
	 */
	MMU_NOTIFIER_EXPLORE_TAKEN = 4,
	/**
	 * Has released the lock at `address`.
	 */
	MMU_NOTIFIER_EXPLORE_UNLOCK = 5,
	/**
	 * READ_ONCE().
	 */
	MMU_NOTIFIER_EXPLORE_LOAD = 6,
	/**
	 * WRITE_ONCE().
	 */
	MMU_NOTIFIER_EXPLORE_STORE = 7,
	/**
	 * mmu_interval_read_begin().
	 */
	MMU_NOTIFIER_EXPLORE_READ_BEGIN = 8,
	/**
	 * mmu_interval_read_retry().
	 */
	MMU_NOTIFIER_EXPLORE_READ_RETRY = 9,
	/**
	 * mmu_interval_check_retry().
	 */
	MMU_NOTIFIER_EXPLORE_CHECK_RETRY = 10,
	/**
	 * mmu_interval_set_seq().
	 */
	MMU_NOTIFIER_EXPLORE_SET_SEQ = 11,
	/**
	 * mmu_interval_notifier_insert() and _insert_locked().
	 */
	MMU_NOTIFIER_EXPLORE_INSERT = 12,
	/**
	 * mmu_interval_notifier_remove().
	 */
	MMU_NOTIFIER_EXPLORE_REMOVE = 13,
	/**
	 * mmu_notifier_register() and its kin.
	 */
	MMU_NOTIFIER_EXPLORE_REGISTER = 14,
	/**
	 * mmu_notifier_unregister().
	 */
	MMU_NOTIFIER_EXPLORE_UNREGISTER = 15,
	/**
	 * mmu_notifier_get() and mmu_notifier_get_locked().
	 */
	MMU_NOTIFIER_EXPLORE_GET = 16,
	/**
	 * mmu_notifier_put().
	 */
	MMU_NOTIFIER_EXPLORE_PUT = 17,
	/**
	 * mmu_notifier_synchronize(), synchronize_srcu() and the like.
	 */
	MMU_NOTIFIER_EXPLORE_SYNCHRONIZE = 18,
	/**
	 * mmu_notifier_invalidate_range_start().
	 */
	MMU_NOTIFIER_EXPLORE_START = 19,
	/**
	 * mmu_notifier_invalidate_range_start_nonblock(): until NONBLOCK_DONE, the thread must not sleep.
	 */
	MMU_NOTIFIER_EXPLORE_START_NONBLOCK = 20,
	/**
	 * It has succeeded (`address` is the mm) or failed (NULL). No schedule point.
	 */
	MMU_NOTIFIER_EXPLORE_NONBLOCK_DONE = 21,
	/**
	 * mmu_notifier_invalidate_range_end().
	 */
	MMU_NOTIFIER_EXPLORE_END = 22,
	/**
	 * Questions about accessed marks, change_pte() and secondary TLBs.
	 */
	MMU_NOTIFIER_EXPLORE_SECONDARY = 23,
	/**
	 * To take the mmap_lock or the reverse-map lock of the mm.
	 */
	MMU_NOTIFIER_EXPLORE_MM_LOCK = 24,
	/**
	 * To release one of them.
	 */
	MMU_NOTIFIER_EXPLORE_MM_UNLOCK = 25,
	/**
	 * mmget(), mmput(), mmgrab(), mmdrop() and the like.
	 */
	MMU_NOTIFIER_EXPLORE_REFERENCE = 26,
	/**
	 * vm_munmap() and other changes that the library makes by itself.
	 */
	MMU_NOTIFIER_EXPLORE_CHANGE = 27,
	/**
	 * might_sleep(). No schedule point: the thread must be allowed to.
	 */
	MMU_NOTIFIER_EXPLORE_MIGHT_SLEEP = 28,
};

/**
 * A thread of a scenario.
 */
struct mmu_notifier_scenario_thread {
	/**
	 * Its name in traces and schedules. NULL ends the array.
	 */
	const char *name;
	/**
	 * What it does. Runs once in each run, on a thread of its own.
	 */
	void (*run)(void);
};

/**
 * What a driver that is loaded into an explorer exports under the name `mmu_notifier_scenario`.
 */
struct mmu_notifier_scenario {
	/**
	 * Makes everything afresh; called before each run. May be NULL.
	 */
	void (*setup)(void);
	/**
	 * Frees what `setup` made; called after each run, unless threads are left that sleep for ever. May be NULL.
	 */
	void (*teardown)(void);
	/**
	 * Called after each step, while all threads stand still: returns what is wrong, or NULL. It must not wait. May be NULL.
	 */
	const char *(*check)(void);
	/**
	 * Stands for all that later steps depend on, what the threads remember included: states of the same number are not
	 * explored again. May be NULL.
	 */
	uint64_t (*state)(void);
	/**
	 * The threads; the last one has no name.
	 */
	const struct mmu_notifier_scenario_thread *threads;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The calling thread is about to do what `kind`, an enum mmu_notifier_explore_kind, says; `address` is a key, and is not
 * dereferenced. If the thread belongs to a scenario, others may run before this returns; otherwise nothing happens.
 */
void mmu_notifier_explore_point(unsigned int kind,
				const void *address);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMU_NOTIFIER_EXPLORE_H */
