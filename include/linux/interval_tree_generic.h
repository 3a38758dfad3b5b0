/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/interval_tree_generic.h>: trees of closed intervals, for any type of
 * node.
 *
 * Guard: MMU_NOTIFIER_LINUX_INTERVAL_TREE_GENERIC_H.  Define it first to bring
 * your own.
 */
#ifndef MMU_NOTIFIER_LINUX_INTERVAL_TREE_GENERIC_H
#define MMU_NOTIFIER_LINUX_INTERVAL_TREE_GENERIC_H

#include <linux/rbtree_augmented.h>

/*
 * Defines, with the storage class @storage (may be empty), for nodes of type
 * @type that have an rb_node @field and a @scalar @subtree_last, and whose
 * interval is [@start(node), @last(node)]:
 *
 *	void @prefix_insert(@type *node, struct rb_root_cached *root);
 *	void @prefix_remove(@type *node, struct rb_root_cached *root);
 *	@type *@prefix_iter_first(struct rb_root_cached *root,
 *				  @scalar start, @scalar last);
 *	@type *@prefix_iter_next(@type *node, @scalar start, @scalar last);
 *
 * The last two go through the intervals that intersect [start, last], both
 * inclusive, by ascending start, equal starts in order of insertion; NULL ends
 * it.  The tree is sorted by start and each node knows the greatest last of
 * its subtree, so each step takes logarithmic time.
 *
 * @prefix_reaching, an auxiliary: of the subtree, which has one, the first node
 * in order whose interval reaches up to @from or beyond.
 */
#define INTERVAL_TREE_DEFINE(type, field, scalar, subtree_last, \
			     start, last, storage, prefix) \
\
RB_DECLARE_CALLBACKS_MAX(static, prefix ## _augment, type, field, scalar, \
			 subtree_last, last) \
\
storage __maybe_unused void \
prefix ## _insert(type *node, struct rb_root_cached *root) \
{ \
	struct rb_node **link = &root->rb_root.rb_node, *parent = NULL; \
	scalar node_start = start(node), node_last = last(node); \
	bool leftmost = true; \
	type *above; \
	\
	while (*link) { \
		parent = *link; \
		above = rb_entry(parent, type, field); \
		if (above->subtree_last < node_last) \
			above->subtree_last = node_last; \
		if (node_start < start(above)) { \
			link = &parent->rb_left; \
		} else { \
			link = &parent->rb_right; \
			leftmost = false; \
		} \
	} \
	node->subtree_last = node_last; \
	rb_link_node(&node->field, parent, link); \
	rb_insert_augmented_cached(&node->field, root, leftmost, \
				   &prefix ## _augment); \
} \
\
storage __maybe_unused void \
prefix ## _remove(type *node, struct rb_root_cached *root) \
{ \
	rb_erase_augmented_cached(&node->field, root, &prefix ## _augment); \
} \
\
static inline __maybe_unused bool \
prefix ## _reaches(struct rb_node *node, scalar from) \
{ \
	return node && from <= rb_entry(node, type, field)->subtree_last; \
} \
\
static inline __maybe_unused type * \
prefix ## _reaching(struct rb_node *node, scalar from) \
{ \
	for (;;) { \
		if (prefix ## _reaches(node->rb_left, from)) \
			node = node->rb_left; \
		else if (from <= last(rb_entry(node, type, field))) \
			return rb_entry(node, type, field); \
		else \
			node = node->rb_right; \
	} \
} \
\
storage __maybe_unused type * \
prefix ## _iter_first(struct rb_root_cached *root, scalar from, scalar to) \
{ \
	type *node; \
	\
	if (!prefix ## _reaches(root->rb_root.rb_node, from)) \
		return NULL; \
	node = prefix ## _reaching(root->rb_root.rb_node, from); \
	return start(node) <= to ? node : NULL; \
} \
\
storage __maybe_unused type * \
prefix ## _iter_next(type *node, scalar from, scalar to) \
{ \
	struct rb_node *below, *at = &node->field; \
	\
	do { \
		if (prefix ## _reaches(at->rb_right, from)) { \
			node = prefix ## _reaching(at->rb_right, from); \
			break; \
		} \
		do { \
			below = at; \
			at = rb_parent(at); \
			if (!at) \
				return NULL; \
		} while (below == at->rb_right); \
		node = rb_entry(at, type, field); \
	} while (last(node) < from); \
	return start(node) <= to ? node : NULL; \
}

#endif
