// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A stand-in for the kernel's implementation, as a peer to measure against,
 * written from docs/spec/SPEC.md: an intrusive red-black tree, one spin lock
 * per mm that is held while the tree is searched (RS-1), read sections that
 * count with full fences on both sides.  Only what the loops need: blockable
 * ranges, callbacks that succeed, no allocation failure.
 *
 * With TREE=kernel the tree is the kernel's own (kernel_tree.c), which shows
 * that the one of own_tree.c is as fast.  With FLOOR, read sections are empty:
 * the walk without any protection.
 *
 * Kind to the stand-in: a wake-up without sleepers costs nothing (the kernel
 * takes the wait queue's lock), and sleepers spin.
 */
#include "rename.h"
#include <linux/mmu_notifier.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define TREE_NAME(verb) RENAME1(TREE, interval_tree_ ## verb)

void TREE_NAME(insert)(struct interval_tree_node *node, struct rb_root_cached *root);
void TREE_NAME(remove)(struct interval_tree_node *node, struct rb_root_cached *root);
struct interval_tree_node *TREE_NAME(iter_first)(struct rb_root_cached *root, unsigned long start, unsigned long last);
struct interval_tree_node *TREE_NAME(iter_next)(struct interval_tree_node *node, unsigned long start, unsigned long last);

#define noinline_ __attribute__((__noinline__))

struct mmu_notifier_subscriptions {
	struct hlist_head list;
	bool has_itree;
	unsigned int lock;
	unsigned long seq, active;
	struct rb_root_cached tree;
	struct hlist_head deferred;
};

/* --------------------------------------------------------------- its locks */

static inline void pause(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

static inline void take(struct mmu_notifier_subscriptions *s)
{
	unsigned int free = 0;

	while (!__atomic_compare_exchange_n(&s->lock, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		do
			pause();
		while (__atomic_load_n(&s->lock, __ATOMIC_RELAXED));
		free = 0;
	}
}

static inline void drop(struct mmu_notifier_subscriptions *s)
{
	__atomic_store_n(&s->lock, 0, __ATOMIC_RELEASE);
}

/* The kernel's smp_mb() on x86, which is faster than mfence. */
static inline void full_fence(void)
{
#ifdef __x86_64__
	__asm__ __volatile__("lock; addl $0,-4(%%rsp)" : : : "memory", "cc");
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Two counters of locks and two of unlocks for each thread, where the kernel has them for each CPU. */
static int section_index;
static __thread unsigned long section_counts[2][2] __maybe_unused;

static inline int section_lock(void)
{
	int index = __atomic_load_n(&section_index, __ATOMIC_RELAXED) & 1;

#ifndef FLOOR
	*(volatile unsigned long *)&section_counts[0][index] += 1;
	full_fence();
#endif
	return index;
}

static inline void section_unlock(int index)
{
#ifndef FLOOR
	full_fence();
	*(volatile unsigned long *)&section_counts[1][index] += 1;
#endif
	(void)index;
}

static __thread int nested[8];
static __thread unsigned int depth;

void mmu_notifier_rcu_read_lock(void)
{
	nested[depth++] = section_lock();
}

void mmu_notifier_rcu_read_unlock(void)
{
	section_unlock(nested[--depth]);
}

/* ------------------------------------------------------------ address spaces */

struct mm_struct *mm_alloc(void)
{
	struct mm_struct *mm = calloc(1, sizeof(*mm));

	if (mm) {
		mm->mm_users.counter = 1;
		mm->mm_count.counter = 1;
	}
	return mm;
}

static void mm_drop(struct mm_struct *mm)
{
	if (__atomic_sub_fetch(&mm->mm_count.counter, 1, __ATOMIC_ACQ_REL) == 0) {
		free(mm->notifier_subscriptions);
		free(mm);
	}
}

void mmput(struct mm_struct *mm)
{
	mm_drop(mm);
}

void mmu_notifier_null_argument(const char *function)
{
	fprintf(stderr, "stand-in: %s: NULL\n", function);
	abort();
}

static struct mmu_notifier_subscriptions *subscriptions(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *s = mm->notifier_subscriptions;

	if (!s) {
		s = aligned_alloc(64, 128);
		if (!s)
			abort();
		*s = (struct mmu_notifier_subscriptions){ .seq = 2 };
		__atomic_store_n(&mm->notifier_subscriptions, s, __ATOMIC_RELEASE);
	}
	return s;
}

/* -------------------------------------------------------------------- the list */

int mmu_notifier_register(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *s = subscriptions(mm);

	__atomic_add_fetch(&mm->mm_count.counter, 1, __ATOMIC_RELAXED);
	notifier->mm = mm;
	notifier->users = 1;
	take(s);
	hlist_add_head_rcu(&notifier->hlist, &s->list);
	drop(s);
	return 0;
}

/* Only while nobody walks: there is no grace period. */
void mmu_notifier_unregister(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *s = mm->notifier_subscriptions;

	take(s);
	hlist_del(&notifier->hlist);
	drop(s);
	mm_drop(mm);
}

static int list_start(struct mmu_notifier_subscriptions *s, struct mmu_notifier_range *range)
{
	struct mmu_notifier *notifier;
	int result = 0, failed, index = section_lock();

	hlist_for_each_entry_rcu(notifier, &s->list, hlist) {
		const struct mmu_notifier_ops *ops = notifier->ops;

		if (!ops->invalidate_range_start)
			continue;
		failed = ops->invalidate_range_start(notifier, range);
		if (unlikely(failed)) {
			fprintf(stderr, "stand-in: a callback failed\n");
			result = failed;
		}
	}
	section_unlock(index);
	return result;
}

static void list_end(struct mmu_notifier_subscriptions *s, struct mmu_notifier_range *range)
{
	struct mmu_notifier *notifier;
	int index = section_lock();

	hlist_for_each_entry_rcu(notifier, &s->list, hlist) {
		const struct mmu_notifier_ops *ops = notifier->ops;

		if (ops->invalidate_range_end)
			ops->invalidate_range_end(notifier, range);
	}
	section_unlock(index);
}

int __mmu_notifier_test_young(struct mm_struct *mm, unsigned long address)
{
	struct mmu_notifier *notifier;
	int young = 0, index = section_lock();

	hlist_for_each_entry_rcu(notifier, &mm->notifier_subscriptions->list, hlist) {
		if (!notifier->ops->test_young)
			continue;
		young = notifier->ops->test_young(notifier, mm, address);
		if (young)
			break;
	}
	section_unlock(index);
	return young;
}

/* --------------------------------------------------------------- the intervals */

/* Out of line, so that an mm with a list only does not pay for it. */
static noinline_ int tree_start(struct mmu_notifier_subscriptions *s, const struct mmu_notifier_range *range)
{
	struct interval_tree_node *node;
	struct mmu_interval_notifier *sub;
	unsigned long seq, last = range->end - 1;

	take(s);
	s->active++;
	node = TREE_NAME(iter_first)(&s->tree, range->start, last);
	if (node)
		s->seq |= 1;
	seq = s->seq;
	drop(s);

	for (; node; node = TREE_NAME(iter_next)(node, range->start, last)) {
		sub = container_of(node, struct mmu_interval_notifier, interval_tree);
		if (unlikely(!sub->ops->invalidate(sub, range, seq)))
			fprintf(stderr, "stand-in: a callback failed\n");
	}
	return 0;
}

static noinline_ void tree_end(struct mmu_notifier_subscriptions *s)
{
	struct mmu_interval_notifier *sub;
	struct hlist_node *next;

	take(s);
	if (--s->active || !(s->seq & 1)) {
		drop(s);
		return;
	}
	__atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_RELEASE);
	hlist_for_each_entry_safe(sub, next, &s->deferred, deferred_item) {
		if (RB_EMPTY_NODE(&sub->interval_tree.rb))
			TREE_NAME(insert)(&sub->interval_tree, &s->tree);
		else
			TREE_NAME(remove)(&sub->interval_tree, &s->tree);
		hlist_del(&sub->deferred_item);
	}
	drop(s);
}

int __mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *s = range->mm->notifier_subscriptions;

	if (s->has_itree)
		tree_start(s, range);
	if (!hlist_empty(&s->list))
		return list_start(s, range);
	return 0;
}

void __mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *s = range->mm->notifier_subscriptions;

	if (s->has_itree)
		tree_end(s);
	if (!hlist_empty(&s->list))
		list_end(s, range);
}

int mmu_interval_notifier_insert(struct mmu_interval_notifier *sub, struct mm_struct *mm, unsigned long start,
				 unsigned long length, const struct mmu_interval_notifier_ops *ops)
{
	struct mmu_notifier_subscriptions *s = __atomic_load_n(&mm->notifier_subscriptions, __ATOMIC_ACQUIRE);

	if (unlikely(!s || !s->has_itree)) {
		s = subscriptions(mm);
		s->has_itree = true;
	}
	sub->mm = mm;
	sub->ops = ops;
	RB_CLEAR_NODE(&sub->interval_tree.rb);
	sub->interval_tree.start = start;
	sub->interval_tree.last = start + length - 1;
	__atomic_add_fetch(&mm->mm_count.counter, 1, __ATOMIC_RELAXED);

	take(s);
	if (s->active && s->seq & 1) {
		hlist_add_head(&sub->deferred_item, &s->deferred);
		sub->invalidate_seq = s->seq;
	} else if (s->active) {
		s->seq |= 1;
		TREE_NAME(insert)(&sub->interval_tree, &s->tree);
		sub->invalidate_seq = s->seq;
	} else {
		sub->invalidate_seq = s->seq - 1;
		TREE_NAME(insert)(&sub->interval_tree, &s->tree);
	}
	drop(s);
	return 0;
}

/* A sleeper of the kernel waits for its wake-up; this one only has to be right. */
static void wait_while(struct mmu_notifier_subscriptions *s, unsigned long seq)
{
	while (__atomic_load_n(&s->seq, __ATOMIC_ACQUIRE) == seq)
		sched_yield();
}

void mmu_interval_notifier_remove(struct mmu_interval_notifier *sub)
{
	struct mm_struct *mm = sub->mm;
	struct mmu_notifier_subscriptions *s = mm->notifier_subscriptions;
	unsigned long seq = 0;

	take(s);
	if (!(s->seq & 1)) {
		TREE_NAME(remove)(&sub->interval_tree, &s->tree);
	} else if (RB_EMPTY_NODE(&sub->interval_tree.rb)) {
		hlist_del(&sub->deferred_item);
	} else {
		hlist_add_head(&sub->deferred_item, &s->deferred);
		seq = s->seq;
	}
	drop(s);
	if (seq) {
		wait_while(s, seq);
		take(s);	/* the list is done when its processor lets go */
		drop(s);
	}
	mm_drop(mm);
}

unsigned long mmu_interval_read_begin(struct mmu_interval_notifier *sub)
{
	struct mmu_notifier_subscriptions *s = sub->mm->notifier_subscriptions;
	unsigned long seq;
	bool colliding;

	take(s);
	seq = READ_ONCE(sub->invalidate_seq);
	colliding = seq == s->seq;
	drop(s);
	if (unlikely(colliding))
		wait_while(s, seq);
	return seq;
}
