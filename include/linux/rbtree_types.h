/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/rbtree_types.h>: the node and the roots of red-black trees.
 *
 * Guard: MMU_NOTIFIER_LINUX_RBTREE_TYPES_H.  Define it first to bring your
 * own; the nodes lie in structs of the ABI.
 */
#ifndef MMU_NOTIFIER_LINUX_RBTREE_TYPES_H
#define MMU_NOTIFIER_LINUX_RBTREE_TYPES_H

#include <linux/types.h>

/*
 * Bit 0 of __rb_parent_color is the colour, 1 for black; the rest is the
 * parent.  A node in no tree may say so by being its own parent.
 */
struct rb_node {
	unsigned long __rb_parent_color;
	struct rb_node *rb_right;
	struct rb_node *rb_left;
} __attribute__((__aligned__(sizeof(long))));

struct rb_root {
	struct rb_node *rb_node;
};

/* A root that knows its first node. */
struct rb_root_cached {
	struct rb_root rb_root;
	struct rb_node *rb_leftmost;
};

#define RB_ROOT		(struct rb_root) { NULL }
#define RB_ROOT_CACHED	(struct rb_root_cached) { { NULL }, NULL }

#endif
