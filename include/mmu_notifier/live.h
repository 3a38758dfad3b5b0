/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The process's own address space, live: its system calls as events.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_LIVE_H
#define MMU_NOTIFIER_LIVE_H

/**
 * Flag of mmu_notifier_live_enable_with(): also spreads a net, a userfaultfd on what interval notifiers watch, which notices,
 * late, what the sites do not see: munmap, mremap, mmap and madvise by other instructions and by io_uring. Where it cannot be
 * had, live is enabled all the same, and `reason` says why.
 */
#define MMU_NOTIFIER_LIVE_NET 1

/**
 * Flag: writes sites through /proc/self/mem at once, without trying mprotect() first.
 */
#define MMU_NOTIFIER_LIVE_PROC_MEM 2

/**
 * Flag: writes sites by replacing their pages at once, without trying the other ways first.
 */
#define MMU_NOTIFIER_LIVE_PAGE_SWAP 4

/**
 * Mechanism in force: the system calls of libc and ld.so.
 */
#define MMU_NOTIFIER_LIVE_BY_SITES 1

/**
 * Mechanism in force: the net, on all that interval notifiers watch. Not set where a part of that could not be put into
 * it: `reason` says why.
 */
#define MMU_NOTIFIER_LIVE_BY_NET 2

/**
 * How sites were written: not at all.
 */
#define MMU_NOTIFIER_LIVE_WRITE_NONE 0

/**
 * How sites were written: in place, while their page was writable by mprotect().
 */
#define MMU_NOTIFIER_LIVE_WRITE_MPROTECT 1

/**
 * How sites were written: in place, through /proc/self/mem.
 */
#define MMU_NOTIFIER_LIVE_WRITE_PROC_MEM 2

/**
 * How sites were written: a changed copy of the page was mapped over it.
 */
#define MMU_NOTIFIER_LIVE_WRITE_PAGE_SWAP 3

/**
 * Kind of change of mmu_notifier_live_self_test(): munmap().
 */
#define MMU_NOTIFIER_LIVE_KIND_MUNMAP 1

/**
 * Kind of change: syscall(SYS_munmap).
 */
#define MMU_NOTIFIER_LIVE_KIND_SYSCALL 2

/**
 * Kind of change: madvise(MADV_DONTNEED).
 */
#define MMU_NOTIFIER_LIVE_KIND_MADVISE 4

/**
 * Kind of change: mprotect().
 */
#define MMU_NOTIFIER_LIVE_KIND_MPROTECT 8

/**
 * Kind of change: mmap(MAP_FIXED).
 */
#define MMU_NOTIFIER_LIVE_KIND_MMAP 16

/**
 * Kind of change: mremap(MREMAP_FIXED).
 */
#define MMU_NOTIFIER_LIVE_KIND_MREMAP 32

/**
 * Kind of change: shmdt().
 */
#define MMU_NOTIFIER_LIVE_KIND_SHMDT 64

/**
 * What is covered, and what was missed so far.
 */
struct mmu_notifier_live_status {
	/**
	 * Set by the caller: the size of its struct in bytes. No more than that is written.
	 */
	unsigned int size;
	/**
	 * 1 between enable and disable.
	 */
	unsigned int enabled;
	/**
	 * MMU_NOTIFIER_LIVE_BY_*: what is in force.
	 */
	unsigned int mechanisms;
	/**
	 * MMU_NOTIFIER_LIVE_WRITE_*: how sites were written.
	 */
	unsigned int write_method;
	/**
	 * Sites that are ours and in place.
	 */
	unsigned int sites;
	/**
	 * Sites that somebody else had patched before. Their calls reach us if his code makes them by syscall(), or by instructions of
	 * the object that his jump leads to: these are taken, too.
	 */
	unsigned int foreign_sites;
	/**
	 * Sites that were ours and that somebody else has taken away since, or whose functions he has. The epoch has risen; from then
	 * on it is as with foreign sites.
	 */
	unsigned int lost_sites;
	/**
	 * Loaded objects with memory system calls of their own, which no site covers.
	 */
	unsigned int blind_objects;
	/**
	 * Calls that were made a start and end pair.
	 */
	unsigned long events;
	/**
	 * Changes that were told after they had been made.
	 */
	unsigned long late;
	/**
	 * Changes of watched memory that were not told.
	 */
	unsigned long missed;
	/**
	 * Memory system calls from inside a callback.
	 */
	unsigned long nested;
	/**
	 * Calls that went on although a range's release had not ended.
	 */
	unsigned long release_timeouts;
	/**
	 * See mmu_notifier_live_epoch().
	 */
	unsigned long epoch;
	/**
	 * Why live is not enabled, or what is not covered; empty if there is nothing to say. NUL-terminated.
	 */
	char reason[160];
};

/**
 * A system call of the program, as it was made.
 */
struct mmu_notifier_live_call {
	/**
	 * Its number, SYS_munmap for one.
	 */
	long number;
	/**
	 * Its arguments.
	 */
	unsigned long arguments[6];
	/**
	 * The stack pointer of the code that made it. In libc the word there is often the address that its function returns to.
	 */
	unsigned long stack;
};

/**
 * Called by the thread that makes the call, inside its section. Must not call the library.
 */
struct mmu_notifier_live_gap {
	/**
	 * Called with `data`.
	 */
	void (*run)(void *data);
	/**
	 * Its argument.
	 */
	void *data;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * From now on every change that the process makes to its own address space by a system call is a start and end pair on
 * `current->mm` of its threads: before the change, by the calling thread, which goes on when the subscribers are done.
 * Waits for calls of other threads that began before, for up to a second; as long as one is left, the status has a reason, and each look
 * at the epoch finds another one.
 *
 * 0; or a negative errno: -ENOTSUP if the process cannot be covered (mmu_notifier_live_status() has the reason), -ENOMEM. Calls
 * that are made while it is enabled change nothing and return 0. Sleeps and allocates; the first time it takes the mmap_lock and
 * the reverse-map lock of the process's own address space. Callable from any thread that holds no lock of these, nor one that a
 * callback takes; not from callbacks.
 */
int mmu_notifier_live_enable(void);

/**
 * As mmu_notifier_live_enable(), with MMU_NOTIFIER_LIVE_ flags. -EINVAL: a flag that is not known.
 */
int mmu_notifier_live_enable_with(unsigned int flags);

/**
 * Ends live events. When it returns no callback runs on behalf of a system call, and the system calls are what they were,
 * but for those that somebody else has changed since. 0, also if it was not enabled; or -EDEADLK if called from such a callback.
 * Waits for callbacks that run: no lock that one takes may be held.
 */
int mmu_notifier_live_disable(void);

/**
 * Says what is covered and what was missed so far. The caller sets `status->size` to `sizeof(*status)`, and no more than that
 * is written. 0; or -EINVAL: NULL, or a size that is too small to be one. Allocates, and asks the loader for the loaded objects:
 * callable from any thread, not from callbacks.
 */
int mmu_notifier_live_status(struct mmu_notifier_live_status *status);

/**
 * Rises whenever a change of watched memory was not told, told late, or not waited for: what was validated under another
 * epoch has to be validated again before it is used. It never falls, and begins at 0. Neither allocates nor waits: callable from
 * anywhere, callbacks included.
 */
unsigned long mmu_notifier_live_epoch(void);

/**
 * Inside a callback: which system call of this thread it is called for. 0; or -EINVAL if it is not called for one, but by fork() or
 * by an explicit producer, or if there is no callback; or if `call` is NULL. Neither allocates nor takes a lock.
 */
int mmu_notifier_live_call(struct mmu_notifier_live_call *call);

/**
 * Inside a callback: 1 if the change that it is called for was noticed by the net, hence may be made already, and nobody waits for the
 * callback; 0 if it is announced, or if there is no callback. Neither allocates nor takes a lock.
 */
int mmu_notifier_live_is_late(void);

/**
 * Tries whether events arrive in time, by real changes of memory of its own. Returns the kinds of changes of which they do not, as
 * MMU_NOTIFIER_LIVE_KIND_ bits: 0 if all do. Or a negative errno: -EINVAL if live is not enabled, -ENOMEM. Not from callbacks.
 */
int mmu_notifier_live_self_test(void);

/**
 * For tests: has `gap` called in each system call that nobody watches, by its thread, after it was looked who watches and before
 * the call is made. NULL: no more. The struct stays valid, unchanged, for the rest of the process; the function must not call
 * the library.
 */
void mmu_notifier_live_set_gap(const struct mmu_notifier_live_gap *gap);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMU_NOTIFIER_LIVE_H */
