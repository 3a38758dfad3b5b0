// SPDX-License-Identifier: MIT OR Apache-2.0
/* The stand-in's tree: the library's header, out of line as the kernel's is. */
#define MMU_NOTIFIER_LINUX_INTERVAL_TREE_H
#include <linux/interval_tree_generic.h>

struct interval_tree_node {
	struct rb_node rb;
	unsigned long start, last, __subtree_last;
};

#define START(node)	((node)->start)
#define LAST(node)	((node)->last)

INTERVAL_TREE_DEFINE(struct interval_tree_node, rb, unsigned long, __subtree_last, START, LAST, , own_interval_tree)
