/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The address space and the thread. Included by <linux/mm_types.h>, <linux/sched.h> and others.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_MM_H
#define MMU_NOTIFIER_ABI_MM_H

#include <asm/page.h>
#include <linux/rwsem.h>
#include <linux/types.h>

struct file;
struct mm_struct;
struct mmu_notifier_subscriptions;
typedef struct mm_context_t mm_context_t;

/**
 * Architecture state that two drivers look at.
 */
struct mm_context_t {
	/**
	 * An identifier that no other live mm has.
	 */
	unsigned long long id;
};

/**
 * Links of the registry of all live mms. Private.
 */
struct mm_links {
	/**
	 * Next mm, or NULL.
	 */
	struct mm_struct *next;
	/**
	 * Previous mm, or NULL.
	 */
	struct mm_struct *prev;
};

/**
 * An address space.
 */
struct mm_struct {
	/**
	 * Users of the address space; the last mmput() ends it (ML-2).
	 */
	atomic_t mm_users;
	/**
	 * References to this struct; the last mmdrop() frees it (ML-3).
	 */
	atomic_t mm_count;
	/**
	 * Rank 1: taken before every other lock of the mm.
	 */
	struct rw_semaphore mmap_lock;
	/**
	 * NULL until the first registration (ST-1).
	 */
	struct mmu_notifier_subscriptions *notifier_subscriptions;
	/**
	 * For drivers that hand it to their device; the library never reads it.
	 */
	void *pgd;
	/**
	 * Architecture state.
	 */
	struct mm_context_t context;
	/**
	 * For drivers of shared virtual addressing: the mm's process address space id. The library never reads it. In a new mm
	 * it is all ones, which stands for none.
	 */
	unsigned int pasid;
	/**
	 * Private: rank 2, the reverse-map lock (DV-2).
	 */
	struct rw_semaphore rmap_lock;
	/**
	 * Private: the process's own mm keeps here what it had before a fork (DV-13).
	 */
	struct mmu_notifier_subscriptions *inherited;
	/**
	 * Private: what the worker gets when the last mmput_async() could not end the mm itself.
	 */
	struct callback_head async_work;
	/**
	 * Private: registry of all mms.
	 */
	struct mm_links links;
};

/**
 * A thread, as far as drivers look at it.
 */
struct task_struct {
	/**
	 * The thread's address space; readable and assignable, NULL on the library's worker.
	 */
	struct mm_struct *mm;
	/**
	 * The thread that the process started with.
	 */
	struct task_struct *group_leader;
	/**
	 * Thread id.
	 */
	int pid;
	/**
	 * Process id.
	 */
	int tgid;
	/**
	 * Name, NUL-terminated.
	 */
	char comm[16];
	/**
	 * As personality(2) says.
	 */
	unsigned int personality;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The calling thread's task; `current` is this. `current->mm` is the process's own address space unless something else
 * was assigned, and NULL on the library's worker. Never NULL. Callable from anywhere.
 */
struct task_struct *mmu_notifier_current(void);

/**
 * Makes an address space that maps nothing, with mm_users 1 and mm_count 1. NULL if there is no memory. End it with
 * mmput(). Rule: ML-1.
 */
struct mm_struct *mm_alloc(void);

/**
 * Adds a user; the caller knows that there is one. Never sleeps. Rule: ML-1.
 */
void mmget(struct mm_struct *mm);

/**
 * Adds a user unless there is none, and says whether it did. The caller holds a reference. Never sleeps. Rule: ML-1.
 */
bool mmget_not_zero(struct mm_struct *mm);

/**
 * Drops a user. The last one ends the address space before this returns: every notifier's release is called, and the
 * users' reference is dropped.
 *
 * The last one sleeps; it must not be dropped with a lock of `mm` held, nor, if `mm` still has notifiers, from a callback of
 * one (DV-7). Rules: ML-2, RL-1 to RL-7.
 */
void mmput(struct mm_struct *mm);

/**
 * As mmput(), and legal from callbacks: there, the end of the address space is left to another thread. Rule: ML-2.
 */
void mmput_async(struct mm_struct *mm);

/**
 * Adds a reference to the struct, which keeps it but not the address space. Never sleeps. Rule: ML-1.
 */
void mmgrab(struct mm_struct *mm);

/**
 * Drops a reference; the last one frees the struct. Never sleeps; legal from callbacks. Rules: ML-3, DS-1.
 */
void mmdrop(struct mm_struct *mm);

/**
 * The address space of `task` with one more user; NULL if it has none, or one that has ended. End with mmput().
 */
struct mm_struct *get_task_mm(struct task_struct *task);

/**
 * Makes `mm` the calling thread's address space (`current->mm`) until kthread_unuse_mm(), and takes a reference to it.
 * Does not nest.
 */
void kthread_use_mm(struct mm_struct *mm);

/**
 * Gives the calling thread back the `current->mm` that it had before kthread_use_mm(), and drops the reference.
 */
void kthread_unuse_mm(struct mm_struct *mm);

/**
 * Takes mmap_lock for reading. Sleeps while somebody writes, or waits to write. Not recursive. Another thread may unlock
 * it. Rules: ML-5, DV-2.
 */
void mmap_read_lock(struct mm_struct *mm);

/**
 * mmap_read_lock(); always returns 0, as no signal interrupts it.
 */
int mmap_read_lock_killable(struct mm_struct *mm);

/**
 * Takes mmap_lock for reading unless somebody writes or waits, and says whether it did. Never sleeps. Rule: ML-5.
 */
bool mmap_read_trylock(struct mm_struct *mm);

/**
 * Releases mmap_lock after reading. A lock that nobody reads under is a warning. Rule: ML-5.
 */
void mmap_read_unlock(struct mm_struct *mm);

/**
 * Takes mmap_lock for writing. Sleeps while anybody holds it. Not recursive. Another thread may unlock it. Rule: ML-5.
 */
void mmap_write_lock(struct mm_struct *mm);

/**
 * mmap_write_lock(); always returns 0, as no signal interrupts it.
 */
int mmap_write_lock_killable(struct mm_struct *mm);

/**
 * Takes mmap_lock for writing if it is free, and says whether it did. Never sleeps. Rule: ML-5.
 */
bool mmap_write_trylock(struct mm_struct *mm);

/**
 * Releases mmap_lock after writing. A lock that nobody writes under is a warning. Rule: ML-5.
 */
void mmap_write_unlock(struct mm_struct *mm);

/**
 * Turns mmap_lock held for writing into mmap_lock held for reading; no other writer comes between. Never sleeps. Rule: ML-5.
 */
void mmap_write_downgrade(struct mm_struct *mm);

/**
 * A warning unless somebody holds mmap_lock. Rules: ML-5, DV-3.
 */
void mmap_assert_locked(const struct mm_struct *mm);

/**
 * A warning unless somebody holds mmap_lock for writing. Rules: ML-5, DV-3.
 */
void mmap_assert_write_locked(const struct mm_struct *mm);

/**
 * Takes the reverse-map lock for reading: the other lock under which a range may start and end. Taken after mmap_lock.
 * Sleeps while somebody writes, or waits to write; registration is such a writer. Rule: DV-2.
 */
void mmu_notifier_rmap_read_lock(struct mm_struct *mm);

/**
 * Releases the reverse-map lock after reading. Rule: DV-2.
 */
void mmu_notifier_rmap_read_unlock(struct mm_struct *mm);

/**
 * Takes the reverse-map lock for writing. Rule: DV-2.
 */
void mmu_notifier_rmap_write_lock(struct mm_struct *mm);

/**
 * Releases the reverse-map lock after writing. Rule: DV-2.
 */
void mmu_notifier_rmap_write_unlock(struct mm_struct *mm);

/**
 * munmap() of `len` bytes (rounded up to pages) from `start` (page-aligned), inside an UNMAP event on `current->mm`, which
 * has to be the process's own (-EINVAL otherwise, as for all these). Takes mmap_lock for writing. Returns 0 or a negative
 * errno. Rules: DV-16, SPEC 4.4.
 */
int vm_munmap(unsigned long start,
	      size_t len);

/**
 * mmap() of anonymous memory: `file` is NULL (-EINVAL otherwise), `flag` gets MAP_ANONYMOUS. With MAP_FIXED, inside an
 * UNMAP event on `current->mm`. Takes mmap_lock for writing. Returns the address, or a negative errno in the same word.
 * Rules: DV-16, SPEC 4.4.
 */
unsigned long vm_mmap(struct file *file,
		      unsigned long addr,
		      unsigned long len,
		      unsigned long prot,
		      unsigned long flag,
		      unsigned long offset);

/**
 * mmap(), of a file too. With MAP_FIXED, inside an UNMAP event on `current->mm` for what is replaced. Takes mmap_lock for
 * writing. Returns the address, or a negative errno in the same word. Rules: DV-16, SPEC 4.4.
 */
unsigned long mmu_notifier_mmap(unsigned long addr,
				unsigned long len,
				unsigned long prot,
				unsigned long flags,
				int fd,
				unsigned long offset);

/**
 * mremap(), inside an UNMAP event on `current->mm` for the old range if it moves, for its tail if it shrinks, and for
 * what MREMAP_FIXED replaces at `new_addr`. Lengths are bytes, rounded up to pages. Takes mmap_lock for writing. Returns the
 * address, or a negative errno in the same word. Rules: DV-16, SPEC 4.4.
 */
unsigned long mmu_notifier_mremap(unsigned long old_addr,
				  unsigned long old_len,
				  unsigned long new_len,
				  unsigned long flags,
				  unsigned long new_addr);

/**
 * mprotect() of `len` bytes (rounded up to pages) from `start` (page-aligned), inside a PROTECTION_VMA event on
 * `current->mm`. Takes mmap_lock for writing. Returns 0 or a negative errno. Rules: DV-16, SPEC 4.4.
 */
int mmu_notifier_mprotect(unsigned long start,
			  size_t len,
			  unsigned long prot);

/**
 * madvise() of `len` bytes (rounded up to pages) from `start` (page-aligned). If the advice takes pages away, inside a CLEAR
 * event on `current->mm`, with mmap_lock taken for reading. Returns 0 or a negative errno; -EINVAL also if `current->mm` is
 * not the process's own. Rules: DV-16, SPEC 4.4.
 */
int mmu_notifier_madvise(unsigned long start,
			 size_t len,
			 int advice);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMU_NOTIFIER_ABI_MM_H */
