/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Who sleeps in the library, on what, and who wakes them: for tests and explorers.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_WAIT_H
#define MMU_NOTIFIER_WAIT_H

/**
 * What a thread sleeps for.
 */
enum mmu_notifier_wait_reason {
	/**
	 * A short lock inside the library, or a driver's spin lock.
	 */
	MMU_NOTIFIER_WAIT_LOCK = 0,
	/**
	 * mmap_lock.
	 */
	MMU_NOTIFIER_WAIT_MMAP_LOCK = 1,
	/**
	 * The reverse-map lock.
	 */
	MMU_NOTIFIER_WAIT_RMAP_LOCK = 2,
	/**
	 * mmu_interval_read_begin(): the end of a busy period (RB-3).
	 */
	MMU_NOTIFIER_WAIT_READ_BEGIN = 3,
	/**
	 * mmu_interval_notifier_remove(): the end of a busy period (IR-6).
	 */
	MMU_NOTIFIER_WAIT_REMOVE = 4,
	/**
	 * A grace period: unregister, mm exit, synchronize, or the worker on behalf of a put (DV-6).
	 */
	MMU_NOTIFIER_WAIT_GRACE_PERIOD = 5,
	/**
	 * mmu_notifier_synchronize(): free_notifier calls that are owed (DV-5).
	 */
	MMU_NOTIFIER_WAIT_FREE = 6,
	/**
	 * A thread of the library's own: it has nothing to do.
	 */
	MMU_NOTIFIER_WAIT_IDLE = 7,
	/**
	 * A thread that changes memory: the release stage of a range. No longer than its time-out.
	 */
	MMU_NOTIFIER_WAIT_RELEASE = 8,
	/**
	 * A reader of a queue of events (the Rust and Python faces): the next one, or its time.
	 */
	MMU_NOTIFIER_WAIT_EVENT = 9,
};

/**
 * One of the three functions of a hook.
 */
typedef void (*mmu_notifier_wait_fn)(void *data,
				     const void *queue,
				     enum mmu_notifier_wait_reason reason);

/**
 * Functions that are told of every sleep and every wake. A NULL member is skipped.
 *
 * `queue` identifies what is slept on; it is a key and must not be dereferenced.
 */
struct mmu_notifier_wait_hook {
	/**
	 * The calling thread is about to sleep on `queue`.
	 */
	mmu_notifier_wait_fn wait_begin;
	/**
	 * The calling thread runs again. It may find that it has to sleep once more.
	 */
	mmu_notifier_wait_fn wait_end;
	/**
	 * The calling thread wakes all that sleep on `queue` (for MMU_NOTIFIER_WAIT_LOCK: one of them).
	 */
	mmu_notifier_wait_fn wake;
	/**
	 * Passed to the functions.
	 */
	void *data;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Has `hook` told of every sleep and every wake inside the library from now on; NULL removes it.
 *
 * The struct has to stay valid, unchanged, for the rest of the process. Its functions run on the thread concerned. They must
 * not call the library.
 */
void mmu_notifier_set_wait_hook(const struct mmu_notifier_wait_hook *hook);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMU_NOTIFIER_WAIT_H */
