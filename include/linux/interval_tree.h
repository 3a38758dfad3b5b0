/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/interval_tree.h>: trees of closed intervals of addresses.
 *
 * Guard: MMU_NOTIFIER_LINUX_INTERVAL_TREE_H.  Define it first to bring your
 * own; the node lies in struct mmu_interval_notifier.
 *
 * interval_tree_insert(), _remove(), _iter_first() and _iter_next() are
 * described in <linux/interval_tree_generic.h>.
 *
 * Different from the kernel: everything is inline.
 */
#ifndef MMU_NOTIFIER_LINUX_INTERVAL_TREE_H
#define MMU_NOTIFIER_LINUX_INTERVAL_TREE_H

#include <linux/interval_tree_generic.h>
#include <linux/rbtree.h>

struct interval_tree_node {
	struct rb_node rb;
	unsigned long start;	/* inclusive */
	unsigned long last;	/* inclusive */
	unsigned long __subtree_last;
};

#define __interval_tree_start(node)	((node)->start)
#define __interval_tree_last(node)	((node)->last)

INTERVAL_TREE_DEFINE(struct interval_tree_node, rb, unsigned long,
		     __subtree_last, __interval_tree_start,
		     __interval_tree_last, static inline, interval_tree)

#endif
