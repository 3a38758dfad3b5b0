/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/rbtree_augmented.h>: red-black trees whose nodes keep something about
 * their subtrees.
 *
 * Guard: MMU_NOTIFIER_LINUX_RBTREE_AUGMENTED_H.  Define it first to bring your
 * own.
 */
#ifndef MMU_NOTIFIER_LINUX_RBTREE_AUGMENTED_H
#define MMU_NOTIFIER_LINUX_RBTREE_AUGMENTED_H

#include <linux/rbtree.h>

/*
 * Rebalances after rb_link_node().  The user has already brought up to date
 * what the new node and its ancestors know.
 */
static inline void rb_insert_augmented(struct rb_node *node,
		struct rb_root *root,
		const struct rb_augment_callbacks *augment)
{
	__rb_insert(node, root, augment);
}

static inline void rb_insert_augmented_cached(struct rb_node *node,
		struct rb_root_cached *root, bool leftmost,
		const struct rb_augment_callbacks *augment)
{
	if (leftmost)
		root->rb_leftmost = node;
	rb_insert_augmented(node, &root->rb_root, augment);
}

static inline void rb_erase_augmented(struct rb_node *node,
		struct rb_root *root,
		const struct rb_augment_callbacks *augment)
{
	__rb_erase(node, root, augment);
}

static inline void rb_erase_augmented_cached(struct rb_node *node,
		struct rb_root_cached *root,
		const struct rb_augment_callbacks *augment)
{
	if (root->rb_leftmost == node)
		root->rb_leftmost = rb_next(node);
	rb_erase_augmented(node, &root->rb_root, augment);
}

/*
 * Defines the callbacks @name for nodes of type @type with the rb_node @field,
 * which keep @augmented.  @compute(node, exit) brings node->@augmented up to
 * date from the node and its children; with exit it returns true if that was
 * no change, so that the ancestors need none either.
 */
#define RB_DECLARE_CALLBACKS(storage, name, type, field, augmented, compute) \
static inline __maybe_unused void \
name ## _propagate(struct rb_node *node, struct rb_node *stop) \
{ \
	while (node != stop && \
	       !compute(rb_entry(node, type, field), true)) \
		node = rb_parent(node); \
} \
static inline __maybe_unused void \
name ## _copy(struct rb_node *old, struct rb_node *node) \
{ \
	rb_entry(node, type, field)->augmented = \
		rb_entry(old, type, field)->augmented; \
} \
static inline __maybe_unused void \
name ## _rotate(struct rb_node *old, struct rb_node *node) \
{ \
	name ## _copy(old, node); \
	compute(rb_entry(old, type, field), false); \
} \
storage const struct rb_augment_callbacks name = { \
	name ## _propagate, name ## _copy, name ## _rotate \
};

/*
 * The same where @augmented, of type @scalar, is the largest @value(node) in
 * the subtree.
 */
#define RB_DECLARE_CALLBACKS_MAX(storage, name, type, field, scalar, \
				 augmented, value) \
static inline __maybe_unused bool \
name ## _compute_max(type *node, bool exit) \
{ \
	struct rb_node *left = node->field.rb_left; \
	struct rb_node *right = node->field.rb_right; \
	scalar max = value(node); \
	\
	if (left && max < rb_entry(left, type, field)->augmented) \
		max = rb_entry(left, type, field)->augmented; \
	if (right && max < rb_entry(right, type, field)->augmented) \
		max = rb_entry(right, type, field)->augmented; \
	if (exit && node->augmented == max) \
		return true; \
	node->augmented = max; \
	return false; \
} \
RB_DECLARE_CALLBACKS(storage, name, type, field, augmented, \
		     name ## _compute_max)

#endif
