/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SPEC 1.6 and 2 in C. Generated from the assertions of src/abi: run `make headers`. */
#define MMU_NOTIFIER_KERNEL 0x050e00
#include <linux/llist.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>

_Static_assert(sizeof(atomic_t) == 4, "size of atomic_t");
_Static_assert(_Alignof(atomic_t) == 4, "alignment of atomic_t");
_Static_assert(sizeof(pte_t) == 8, "size of pte_t");
_Static_assert(_Alignof(pte_t) == 8, "alignment of pte_t");
_Static_assert(offsetof(pte_t, pte) == 0, "pte_t.pte");
_Static_assert(sizeof(struct hlist_node) == 16, "size of struct hlist_node");
_Static_assert(_Alignof(struct hlist_node) == 8, "alignment of struct hlist_node");
_Static_assert(offsetof(struct hlist_node, next) == 0, "struct hlist_node.next");
_Static_assert(offsetof(struct hlist_node, pprev) == 8, "struct hlist_node.pprev");
_Static_assert(sizeof(struct hlist_head) == 8, "size of struct hlist_head");
_Static_assert(_Alignof(struct hlist_head) == 8, "alignment of struct hlist_head");
_Static_assert(offsetof(struct hlist_head, first) == 0, "struct hlist_head.first");
_Static_assert(sizeof(struct llist_node) == 8, "size of struct llist_node");
_Static_assert(_Alignof(struct llist_node) == 8, "alignment of struct llist_node");
_Static_assert(offsetof(struct llist_node, next) == 0, "struct llist_node.next");
_Static_assert(sizeof(struct callback_head) == 16, "size of struct callback_head");
_Static_assert(_Alignof(struct callback_head) == 8, "alignment of struct callback_head");
_Static_assert(offsetof(struct callback_head, next) == 0, "struct callback_head.next");
_Static_assert(offsetof(struct callback_head, func) == 8, "struct callback_head.func");
_Static_assert(sizeof(struct rb_node) == 24, "size of struct rb_node");
_Static_assert(_Alignof(struct rb_node) == 8, "alignment of struct rb_node");
_Static_assert(offsetof(struct rb_node, __rb_parent_color) == 0, "struct rb_node.__rb_parent_color");
_Static_assert(offsetof(struct rb_node, rb_right) == 8, "struct rb_node.rb_right");
_Static_assert(offsetof(struct rb_node, rb_left) == 16, "struct rb_node.rb_left");
_Static_assert(sizeof(struct interval_tree_node) == 48, "size of struct interval_tree_node");
_Static_assert(_Alignof(struct interval_tree_node) == 8, "alignment of struct interval_tree_node");
_Static_assert(offsetof(struct interval_tree_node, rb) == 0, "struct interval_tree_node.rb");
_Static_assert(offsetof(struct interval_tree_node, start) == 24, "struct interval_tree_node.start");
_Static_assert(offsetof(struct interval_tree_node, last) == 32, "struct interval_tree_node.last");
_Static_assert(offsetof(struct interval_tree_node, __subtree_last) == 40, "struct interval_tree_node.__subtree_last");
_Static_assert(sizeof(struct mmu_notifier) == 56, "size of struct mmu_notifier");
_Static_assert(_Alignof(struct mmu_notifier) == 8, "alignment of struct mmu_notifier");
_Static_assert(offsetof(struct mmu_notifier, hlist) == 0, "struct mmu_notifier.hlist");
_Static_assert(offsetof(struct mmu_notifier, ops) == 16, "struct mmu_notifier.ops");
_Static_assert(offsetof(struct mmu_notifier, mm) == 24, "struct mmu_notifier.mm");
_Static_assert(offsetof(struct mmu_notifier, rcu) == 32, "struct mmu_notifier.rcu");
_Static_assert(offsetof(struct mmu_notifier, users) == 48, "struct mmu_notifier.users");
_Static_assert(sizeof(struct mmu_interval_notifier) == 88, "size of struct mmu_interval_notifier");
_Static_assert(_Alignof(struct mmu_interval_notifier) == 8, "alignment of struct mmu_interval_notifier");
_Static_assert(offsetof(struct mmu_interval_notifier, interval_tree) == 0, "struct mmu_interval_notifier.interval_tree");
_Static_assert(offsetof(struct mmu_interval_notifier, ops) == 48, "struct mmu_interval_notifier.ops");
_Static_assert(offsetof(struct mmu_interval_notifier, mm) == 56, "struct mmu_interval_notifier.mm");
_Static_assert(offsetof(struct mmu_interval_notifier, deferred_item) == 64, "struct mmu_interval_notifier.deferred_item");
_Static_assert(offsetof(struct mmu_interval_notifier, invalidate_seq) == 80, "struct mmu_interval_notifier.invalidate_seq");
_Static_assert(sizeof(enum mmu_notifier_event) == 4, "size of enum mmu_notifier_event");
_Static_assert(_Alignof(enum mmu_notifier_event) == 4, "alignment of enum mmu_notifier_event");
_Static_assert(sizeof(struct mmu_notifier_range) == 48, "size of struct mmu_notifier_range");
_Static_assert(_Alignof(struct mmu_notifier_range) == 8, "alignment of struct mmu_notifier_range");
_Static_assert(offsetof(struct mmu_notifier_range, vma) == 0, "struct mmu_notifier_range.vma");
_Static_assert(offsetof(struct mmu_notifier_range, mm) == 8, "struct mmu_notifier_range.mm");
_Static_assert(offsetof(struct mmu_notifier_range, start) == 16, "struct mmu_notifier_range.start");
_Static_assert(offsetof(struct mmu_notifier_range, end) == 24, "struct mmu_notifier_range.end");
_Static_assert(offsetof(struct mmu_notifier_range, flags) == 32, "struct mmu_notifier_range.flags");
_Static_assert(offsetof(struct mmu_notifier_range, event) == 36, "struct mmu_notifier_range.event");
_Static_assert(offsetof(struct mmu_notifier_range, owner) == 40, "struct mmu_notifier_range.owner");
_Static_assert(sizeof(struct mmu_notifier_ops) == 80, "size of struct mmu_notifier_ops");
_Static_assert(_Alignof(struct mmu_notifier_ops) == 8, "alignment of struct mmu_notifier_ops");
_Static_assert(offsetof(struct mmu_notifier_ops, release) == 0, "struct mmu_notifier_ops.release");
_Static_assert(offsetof(struct mmu_notifier_ops, clear_flush_young) == 8, "struct mmu_notifier_ops.clear_flush_young");
_Static_assert(offsetof(struct mmu_notifier_ops, clear_young) == 16, "struct mmu_notifier_ops.clear_young");
_Static_assert(offsetof(struct mmu_notifier_ops, test_young) == 24, "struct mmu_notifier_ops.test_young");
_Static_assert(offsetof(struct mmu_notifier_ops, change_pte) == 32, "struct mmu_notifier_ops.change_pte");
_Static_assert(offsetof(struct mmu_notifier_ops, invalidate_range_start) == 40, "struct mmu_notifier_ops.invalidate_range_start");
_Static_assert(offsetof(struct mmu_notifier_ops, invalidate_range_end) == 48, "struct mmu_notifier_ops.invalidate_range_end");
_Static_assert(offsetof(struct mmu_notifier_ops, invalidate_range) == 56, "struct mmu_notifier_ops.invalidate_range");
_Static_assert(offsetof(struct mmu_notifier_ops, alloc_notifier) == 64, "struct mmu_notifier_ops.alloc_notifier");
_Static_assert(offsetof(struct mmu_notifier_ops, free_notifier) == 72, "struct mmu_notifier_ops.free_notifier");
_Static_assert(sizeof(struct mmu_interval_notifier_ops) == 8, "size of struct mmu_interval_notifier_ops");
_Static_assert(_Alignof(struct mmu_interval_notifier_ops) == 8, "alignment of struct mmu_interval_notifier_ops");
_Static_assert(offsetof(struct mmu_interval_notifier_ops, invalidate) == 0, "struct mmu_interval_notifier_ops.invalidate");
_Static_assert(sizeof(struct rw_semaphore) == 32, "size of struct rw_semaphore");
_Static_assert(_Alignof(struct rw_semaphore) == 8, "alignment of struct rw_semaphore");
_Static_assert(sizeof(struct mm_struct) == 144, "size of struct mm_struct");
_Static_assert(_Alignof(struct mm_struct) == 8, "alignment of struct mm_struct");
_Static_assert(offsetof(struct mm_struct, mm_users) == 0, "struct mm_struct.mm_users");
_Static_assert(offsetof(struct mm_struct, mm_count) == 4, "struct mm_struct.mm_count");
_Static_assert(offsetof(struct mm_struct, mmap_lock) == 8, "struct mm_struct.mmap_lock");
_Static_assert(offsetof(struct mm_struct, notifier_subscriptions) == 40, "struct mm_struct.notifier_subscriptions");
_Static_assert(offsetof(struct mm_struct, pgd) == 48, "struct mm_struct.pgd");
_Static_assert(offsetof(struct mm_struct, context) == 56, "struct mm_struct.context");
_Static_assert(offsetof(struct mm_struct, pasid) == 64, "struct mm_struct.pasid");
_Static_assert(sizeof(struct task_struct) == 48, "size of struct task_struct");
_Static_assert(_Alignof(struct task_struct) == 8, "alignment of struct task_struct");
_Static_assert(offsetof(struct task_struct, mm) == 0, "struct task_struct.mm");
_Static_assert(offsetof(struct task_struct, group_leader) == 8, "struct task_struct.group_leader");
_Static_assert(offsetof(struct task_struct, pid) == 16, "struct task_struct.pid");
_Static_assert(offsetof(struct task_struct, tgid) == 20, "struct task_struct.tgid");
_Static_assert(offsetof(struct task_struct, comm) == 24, "struct task_struct.comm");
_Static_assert(offsetof(struct task_struct, personality) == 40, "struct task_struct.personality");

int main(void)
{
	return 0;
}
