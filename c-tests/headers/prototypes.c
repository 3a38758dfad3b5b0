// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Compiled only: what <linux/mmu_notifier.h> alone must bring along has the
 * types that drivers count on.  The table is the one of docs/spec/HEADERS.md.
 */
#include <linux/mmu_notifier.h>

#define HAS_TYPE(function, result, arguments) \
	do { result (*pointer) arguments = &function; (void)pointer; } while (0)

#define HAS_MEMBER(type, member, member_type) \
	do { member_type *pointer = &((type *)0)->member; (void)pointer; } \
	while (0)

void prototypes(void);
void prototypes(void)
{
	HAS_TYPE(mmu_notifier_register, int,
		 (struct mmu_notifier *, struct mm_struct *));
	HAS_TYPE(__mmu_notifier_register, int,
		 (struct mmu_notifier *, struct mm_struct *));
	HAS_TYPE(mmu_notifier_unregister, void,
		 (struct mmu_notifier *, struct mm_struct *));
	HAS_TYPE(mmu_notifier_get_locked, struct mmu_notifier *,
		 (const struct mmu_notifier_ops *, struct mm_struct *));
	HAS_TYPE(mmu_notifier_get, struct mmu_notifier *,
		 (const struct mmu_notifier_ops *, struct mm_struct *));
	HAS_TYPE(mmu_notifier_put, void, (struct mmu_notifier *));
	HAS_TYPE(mmu_notifier_synchronize, void, (void));
	HAS_TYPE(mmu_interval_read_begin, unsigned long,
		 (struct mmu_interval_notifier *));
	HAS_TYPE(mmu_interval_read_retry, bool,
		 (struct mmu_interval_notifier *, unsigned long));
	HAS_TYPE(mmu_interval_check_retry, bool,
		 (struct mmu_interval_notifier *, unsigned long));
	HAS_TYPE(mmu_interval_set_seq, void,
		 (struct mmu_interval_notifier *, unsigned long));
	HAS_TYPE(mmu_interval_notifier_insert, int,
		 (struct mmu_interval_notifier *, struct mm_struct *,
		  unsigned long, unsigned long,
		  const struct mmu_interval_notifier_ops *));
	HAS_TYPE(mmu_interval_notifier_insert_locked, int,
		 (struct mmu_interval_notifier *, struct mm_struct *,
		  unsigned long, unsigned long,
		  const struct mmu_interval_notifier_ops *));
	HAS_TYPE(mmu_interval_notifier_remove, void,
		 (struct mmu_interval_notifier *));
	HAS_TYPE(mmu_notifier_range_blockable, bool,
		 (const struct mmu_notifier_range *));
	HAS_TYPE(mmu_notifier_range_init, void,
		 (struct mmu_notifier_range *, enum mmu_notifier_event,
		  unsigned, struct mm_struct *, unsigned long, unsigned long));
	HAS_TYPE(mmu_notifier_range_init_owner, void,
		 (struct mmu_notifier_range *, enum mmu_notifier_event,
		  unsigned int, struct mm_struct *, unsigned long,
		  unsigned long, void *));
	HAS_TYPE(mmu_notifier_invalidate_range_start, void,
		 (struct mmu_notifier_range *));
	HAS_TYPE(mmu_notifier_invalidate_range_start_nonblock, int,
		 (struct mmu_notifier_range *));
	HAS_TYPE(mmu_notifier_invalidate_range_end, void,
		 (struct mmu_notifier_range *));
	HAS_TYPE(mmu_notifier_arch_invalidate_secondary_tlbs, void,
		 (struct mm_struct *, unsigned long, unsigned long));
	HAS_TYPE(mmu_notifier_test_young, int,
		 (struct mm_struct *, unsigned long));
	HAS_TYPE(mmu_notifier_clear_young, int,
		 (struct mm_struct *, unsigned long, unsigned long));
	HAS_TYPE(mmu_notifier_clear_flush_young, int,
		 (struct mm_struct *, unsigned long, unsigned long));
	HAS_TYPE(mmu_notifier_change_pte, void,
		 (struct mm_struct *, unsigned long, pte_t));
	HAS_TYPE(mm_has_notifiers, int, (struct mm_struct *));
	HAS_TYPE(mmu_notifier_release, void, (struct mm_struct *));
	HAS_TYPE(mmu_notifier_subscriptions_init, void, (struct mm_struct *));
	HAS_TYPE(mmu_notifier_subscriptions_destroy, void,
		 (struct mm_struct *));

	HAS_TYPE(mm_alloc, struct mm_struct *, (void));
	HAS_TYPE(mmgrab, void, (struct mm_struct *));
	HAS_TYPE(mmdrop, void, (struct mm_struct *));
	HAS_TYPE(mmget, void, (struct mm_struct *));
	HAS_TYPE(mmget_not_zero, bool, (struct mm_struct *));
	HAS_TYPE(mmput, void, (struct mm_struct *));
	HAS_TYPE(mmput_async, void, (struct mm_struct *));
	HAS_TYPE(get_task_mm, struct mm_struct *, (struct task_struct *));

	HAS_TYPE(mmap_read_lock, void, (struct mm_struct *));
	HAS_TYPE(mmap_read_unlock, void, (struct mm_struct *));
	HAS_TYPE(mmap_write_lock, void, (struct mm_struct *));
	HAS_TYPE(mmap_write_unlock, void, (struct mm_struct *));
	HAS_TYPE(mmap_read_trylock, bool, (struct mm_struct *));
	HAS_TYPE(mmap_write_trylock, bool, (struct mm_struct *));
	HAS_TYPE(mmap_read_lock_killable, int, (struct mm_struct *));
	HAS_TYPE(mmap_write_lock_killable, int, (struct mm_struct *));
	HAS_TYPE(mmap_write_downgrade, void, (struct mm_struct *));
	HAS_TYPE(mmap_assert_locked, void, (const struct mm_struct *));
	HAS_TYPE(mmap_assert_write_locked, void, (const struct mm_struct *));

	HAS_TYPE(interval_tree_insert, void,
		 (struct interval_tree_node *, struct rb_root_cached *));
	HAS_TYPE(interval_tree_remove, void,
		 (struct interval_tree_node *, struct rb_root_cached *));
	HAS_TYPE(interval_tree_iter_first, struct interval_tree_node *,
		 (struct rb_root_cached *, unsigned long, unsigned long));
	HAS_TYPE(interval_tree_iter_next, struct interval_tree_node *,
		 (struct interval_tree_node *, unsigned long, unsigned long));

	HAS_TYPE(srcu_read_lock, int, (struct srcu_struct *));
	HAS_TYPE(srcu_read_unlock, void, (struct srcu_struct *, int));
	HAS_TYPE(synchronize_srcu, void, (struct srcu_struct *));
	HAS_TYPE(init_srcu_struct, int, (struct srcu_struct *));
	HAS_TYPE(cleanup_srcu_struct, void, (struct srcu_struct *));
	HAS_TYPE(srcu_barrier, void, (struct srcu_struct *));
	HAS_TYPE(call_srcu, void,
		 (struct srcu_struct *, struct rcu_head *,
		  void (*)(struct rcu_head *)));

	HAS_TYPE(ERR_PTR, void *, (long));
	HAS_TYPE(PTR_ERR, long, (const void *));
	HAS_TYPE(IS_ERR, bool, (const void *));
	HAS_TYPE(IS_ERR_OR_NULL, bool, (const void *));
	HAS_TYPE(ERR_CAST, void *, (const void *));

	HAS_MEMBER(struct mmu_notifier, hlist, struct hlist_node);
	HAS_MEMBER(struct mmu_notifier, ops, const struct mmu_notifier_ops *);
	HAS_MEMBER(struct mmu_notifier, mm, struct mm_struct *);
	HAS_MEMBER(struct mmu_interval_notifier, interval_tree,
		   struct interval_tree_node);
	HAS_MEMBER(struct mmu_interval_notifier, ops,
		   const struct mmu_interval_notifier_ops *);
	HAS_MEMBER(struct mmu_interval_notifier, mm, struct mm_struct *);
	HAS_MEMBER(struct mmu_notifier_range, start, unsigned long);
	HAS_MEMBER(struct mmu_notifier_range, end, unsigned long);
	HAS_MEMBER(struct mmu_notifier_range, event, enum mmu_notifier_event);
	HAS_MEMBER(struct mmu_notifier_range, owner, void *);
	HAS_MEMBER(struct mmu_notifier_range, flags, unsigned);
	HAS_MEMBER(struct mm_struct, mm_users, atomic_t);
	HAS_MEMBER(struct mm_struct, mm_count, atomic_t);
	HAS_MEMBER(struct mm_struct, mmap_lock, struct rw_semaphore);
	HAS_MEMBER(struct task_struct, mm, struct mm_struct *);
	HAS_MEMBER(struct task_struct, pid, int);
	HAS_MEMBER(struct task_struct, group_leader, struct task_struct *);
	HAS_MEMBER(struct interval_tree_node, rb, struct rb_node);
	HAS_MEMBER(struct interval_tree_node, start, unsigned long);
	HAS_MEMBER(struct interval_tree_node, last, unsigned long);

	/* The environment that a driver is used to. */
	struct task_struct *task = current;

	current->mm = NULL;
	(void)(task == current && current->pid);
	(void)current->group_leader->pid;
	(void)current->mm->context.id;
	(void)current->mm->pgd;
	HAS_TYPE(rcu_read_lock, void, (void));
	HAS_TYPE(rcu_read_unlock, void, (void));
	HAS_TYPE(spin_lock, void, (spinlock_t *));
	HAS_TYPE(spin_unlock, void, (spinlock_t *));
	HAS_TYPE(list_add_rcu, void, (struct list_head *, struct list_head *));
	HAS_TYPE(hlist_del_init_rcu, void, (struct hlist_node *));
	HAS_TYPE(atomic_dec_and_test, bool, (atomic_t *));
}

/* The macros: a name that is missing fails here. */
#if !defined(CONFIG_MMU_NOTIFIER) || !CONFIG_MMU_NOTIFIER
#error CONFIG_MMU_NOTIFIER
#endif
#if !defined(ptep_clear_flush_young_notify) || \
	!defined(pmdp_clear_flush_young_notify) || \
	!defined(ptep_clear_young_notify) || \
	!defined(pmdp_clear_young_notify) || !defined(set_pte_at_notify)
#error page table operations
#endif
#if !defined(PAGE_SIZE) || !defined(PAGE_SHIFT) || !defined(PAGE_MASK)
#error asm/page.h
#endif
#if !defined(smp_rmb) || !defined(smp_wmb) || \
	!defined(smp_load_acquire) || !defined(smp_store_release)
#error asm/barrier.h
#endif
#if !defined(BUG_ON) || !defined(WARN_ON) || !defined(WARN_ON_ONCE)
#error linux/bug.h
#endif
#if !defined(READ_ONCE) || !defined(WRITE_ONCE) || !defined(__acquires) || \
	!defined(__iomem) || !defined(__user) || !defined(barrier) || \
	!defined(likely) || !defined(unlikely)
#error linux/compiler.h
#endif
#if !defined(LIST_HEAD) || !defined(container_of) || !defined(list_entry) || \
	!defined(list_first_entry) || !defined(list_for_each_entry) || \
	!defined(list_for_each_entry_safe) || \
	!defined(hlist_for_each_entry_safe) || \
	!defined(hlist_for_each_entry_rcu) || \
	!defined(list_for_each_entry_rcu) || !defined(kfree_rcu)
#error linux/list.h, linux/rculist.h
#endif
#if !defined(RB_ROOT_CACHED) || !defined(rb_entry) || \
	!defined(rb_first_cached) || !defined(RB_CLEAR_NODE) || \
	!defined(RB_EMPTY_NODE) || !defined(INTERVAL_TREE_DEFINE)
#error linux/rbtree.h
#endif
#if !defined(DEFINE_SRCU) || !defined(DEFINE_STATIC_SRCU)
#error linux/srcu.h
#endif
#if !defined(lockdep_assert_held) || !defined(spin_lock_irqsave)
#error linux/lockdep.h, linux/spinlock.h
#endif
