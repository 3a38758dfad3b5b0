/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/rbtree.h>: red-black trees.
 *
 * Guard: MMU_NOTIFIER_LINUX_RBTREE_H.  Define it first to bring your own.
 *
 * To insert, the user walks down from the root to a NULL link, calls
 * rb_link_node() for it and then rb_insert_color(); or lets rb_add() do so.
 *
 * Different from the kernel: everything is inline; no readers without a lock.
 */
#ifndef MMU_NOTIFIER_LINUX_RBTREE_H
#define MMU_NOTIFIER_LINUX_RBTREE_H

#include <linux/compiler.h>
#include <linux/container_of.h>
#include <linux/rbtree_types.h>
#include <linux/types.h>

#define rb_entry(pointer, type, member) \
	container_of(pointer, type, member)
#define rb_entry_safe(pointer, type, member) \
	__extension__ ({ \
		struct rb_node *__node = (pointer); \
		__node ? rb_entry(__node, type, member) : NULL; \
	})

#define rb_parent(node) \
	((struct rb_node *)((node)->__rb_parent_color & ~1UL))

#define RB_EMPTY_ROOT(root)	(READ_ONCE((root)->rb_node) == NULL)
#define RB_EMPTY_NODE(node) \
	((node)->__rb_parent_color == (unsigned long)(node))
#define RB_CLEAR_NODE(node) \
	((node)->__rb_parent_color = (unsigned long)(node))

/*
 * Keep what a node knows about its subtree, see <linux/rbtree_augmented.h>.
 * propagate: recompute @node and its ancestors, up to but without @stop.
 * copy: @node takes over what @old knows.
 * rotate: @node has taken the place of @old, which is its child now.
 */
struct rb_augment_callbacks {
	void (*propagate)(struct rb_node *node, struct rb_node *stop);
	void (*copy)(struct rb_node *old, struct rb_node *node);
	void (*rotate)(struct rb_node *old, struct rb_node *node);
};

/* ------------------------------------------------------------ the machine */

static inline bool __rb_is_red(const struct rb_node *node)
{
	return node && !(node->__rb_parent_color & 1);
}

static inline void __rb_set_red(struct rb_node *node)
{
	node->__rb_parent_color &= ~1UL;
}

static inline void __rb_set_black(struct rb_node *node)
{
	node->__rb_parent_color |= 1;
}

static inline void __rb_set_parent(struct rb_node *node,
				   struct rb_node *parent)
{
	node->__rb_parent_color = (unsigned long)parent |
				  (node->__rb_parent_color & 1);
}

/* The link to @node's child on one side. */
static inline struct rb_node **__rb_child(struct rb_node *node, bool right)
{
	return right ? &node->rb_right : &node->rb_left;
}

/* The link that points to @node: the root's, or one of its parent. */
static inline struct rb_node **__rb_link(struct rb_node *node,
					 struct rb_root *root)
{
	struct rb_node *parent = rb_parent(node);

	if (!parent)
		return &root->rb_node;
	return __rb_child(parent, node == parent->rb_right);
}

/*
 * Rotates so that @node and its parent exchange places and colours.  Whoever
 * rebalances needs to exchange the colours as well, in every case.
 */
static inline void __rb_rotate(struct rb_node *node, struct rb_root *root,
			       const struct rb_augment_callbacks *augment)
{
	struct rb_node *parent = rb_parent(node);
	bool right = node == parent->rb_right;
	struct rb_node **inner = __rb_child(node, !right);
	unsigned long above = parent->__rb_parent_color;

	*__rb_link(parent, root) = node;
	*__rb_child(parent, right) = *inner;
	if (*inner)
		__rb_set_parent(*inner, parent);
	*inner = parent;
	parent->__rb_parent_color = node->__rb_parent_color;
	__rb_set_parent(parent, node);
	node->__rb_parent_color = above;
	if (augment)
		augment->rotate(parent, node);
}

/* @node, red, was linked in: no red node may have a red parent. */
static inline void __rb_insert(struct rb_node *node, struct rb_root *root,
			       const struct rb_augment_callbacks *augment)
{
	struct rb_node *parent, *grandparent, *uncle;
	bool right;

	for (;;) {
		parent = rb_parent(node);
		if (!parent)
			__rb_set_black(node);
		if (!__rb_is_red(parent))
			return;
		grandparent = rb_parent(parent);
		right = parent == grandparent->rb_right;
		uncle = *__rb_child(grandparent, !right);
		if (!__rb_is_red(uncle))
			break;
		__rb_set_black(parent);
		__rb_set_black(uncle);
		__rb_set_red(grandparent);
		node = grandparent;
	}
	if (node != *__rb_child(parent, right))
		__rb_rotate(node, root, augment);
	__rb_rotate(*__rb_child(grandparent, right), root, augment);
}

/*
 * The paths through @parent's child on one side are short of a black node.
 * That child may be NULL; @parent is NULL if the child is the root.
 */
static inline void __rb_fill_black(struct rb_node *parent, bool right,
				   struct rb_root *root,
				   const struct rb_augment_callbacks *augment)
{
	struct rb_node *node, *sibling, *inner, *outer;

	for (;;) {
		node = parent ? *__rb_child(parent, right) : root->rb_node;
		if (!parent || __rb_is_red(node))
			break;
		sibling = *__rb_child(parent, !right);
		if (__rb_is_red(sibling)) {
			__rb_rotate(sibling, root, augment);
			sibling = *__rb_child(parent, !right);
		}
		inner = *__rb_child(sibling, right);
		outer = *__rb_child(sibling, !right);
		if (__rb_is_red(inner) || __rb_is_red(outer)) {
			if (!__rb_is_red(outer)) {
				__rb_rotate(inner, root, augment);
				outer = sibling;
				sibling = inner;
			}
			__rb_set_black(outer);
			__rb_rotate(sibling, root, augment);
			return;
		}
		__rb_set_red(sibling);
		node = parent;
		parent = rb_parent(node);
		right = parent && node == parent->rb_right;
	}
	if (node)
		__rb_set_black(node);
}

static inline struct rb_node *__rb_outermost(struct rb_node *node, bool right)
{
	while (node && *__rb_child(node, right))
		node = *__rb_child(node, right);
	return node;
}

/* The next node in order on one side. */
static inline struct rb_node *__rb_neighbour(const struct rb_node *node,
					     bool right)
{
	struct rb_node *parent, *child;

	if (RB_EMPTY_NODE(node))
		return NULL;
	child = right ? node->rb_right : node->rb_left;
	if (child)
		return __rb_outermost(child, !right);
	while ((parent = rb_parent(node)) &&
	       node == *__rb_child(parent, right))
		node = parent;
	return parent;
}

/* --------------------------------------------------------------- in order */

static inline struct rb_node *rb_first(const struct rb_root *root)
{
	return __rb_outermost(root->rb_node, false);
}

static inline struct rb_node *rb_last(const struct rb_root *root)
{
	return __rb_outermost(root->rb_node, true);
}

static inline struct rb_node *rb_next(const struct rb_node *node)
{
	return __rb_neighbour(node, true);
}

static inline struct rb_node *rb_prev(const struct rb_node *node)
{
	return __rb_neighbour(node, false);
}

#define rb_first_cached(root)	((root)->rb_leftmost)

/* --------------------------------------------- postorder: children first */

static inline struct rb_node *__rb_deepest(struct rb_node *node)
{
	while (node && (node->rb_left || node->rb_right))
		node = node->rb_left ? node->rb_left : node->rb_right;
	return node;
}

static inline struct rb_node *rb_first_postorder(const struct rb_root *root)
{
	return __rb_deepest(root->rb_node);
}

static inline struct rb_node *rb_next_postorder(const struct rb_node *node)
{
	struct rb_node *parent = node ? rb_parent(node) : NULL;

	if (parent && node == parent->rb_left && parent->rb_right)
		return __rb_deepest(parent->rb_right);
	return parent;
}

/* Allows to free @pos in the loop; the tree is not valid any more then. */
#define rbtree_postorder_for_each_entry_safe(pos, next_pos, root, member) \
	for (pos = rb_entry_safe(rb_first_postorder(root), \
				 __typeof__(*pos), member); \
	     pos && (next_pos = rb_entry_safe( \
				rb_next_postorder(&pos->member), \
				__typeof__(*pos), member), true); \
	     pos = next_pos)

/* ---------------------------------------------------------------- changes */

/* Hangs @node, red, on the NULL link *@link, which is @parent's. */
static inline void rb_link_node(struct rb_node *node, struct rb_node *parent,
				struct rb_node **link)
{
	node->__rb_parent_color = (unsigned long)parent;
	node->rb_left = NULL;
	node->rb_right = NULL;
	*link = node;
}

/* Rebalances after rb_link_node(). */
static inline void rb_insert_color(struct rb_node *node, struct rb_root *root)
{
	__rb_insert(node, root, NULL);
}

/* @node takes the place of @victim, which must compare equal. */
static inline void rb_replace_node(struct rb_node *victim,
				   struct rb_node *node, struct rb_root *root)
{
	*__rb_link(victim, root) = node;
	*node = *victim;
	if (node->rb_left)
		__rb_set_parent(node->rb_left, node);
	if (node->rb_right)
		__rb_set_parent(node->rb_right, node);
}

static inline void __rb_erase(struct rb_node *node, struct rb_root *root,
			      const struct rb_augment_callbacks *augment)
{
	struct rb_node *out = node;	/* what leaves its place */
	struct rb_node *parent, *child, **link;
	bool right, red;

	/* With two children, @node's successor leaves, for @node's place. */
	if (node->rb_left && node->rb_right)
		out = rb_next(node);
	child = out->rb_left ? out->rb_left : out->rb_right;
	parent = rb_parent(out);
	link = __rb_link(out, root);
	right = parent && link == &parent->rb_right;
	red = __rb_is_red(out);

	*link = child;
	if (child)
		__rb_set_parent(child, parent);
	if (out != node) {
		rb_replace_node(node, out, root);
		if (parent == node)
			parent = out;
	}
	if (augment && out != node) {
		augment->copy(node, out);
		augment->propagate(parent, out);
		augment->propagate(out, NULL);
	} else if (augment) {
		augment->propagate(parent, NULL);
	}
	if (!red)
		__rb_fill_black(parent, right, root, augment);
}

/* @node's own fields are left as they are. */
static inline void rb_erase(struct rb_node *node, struct rb_root *root)
{
	__rb_erase(node, root, NULL);
}

/* ------------------------------------------------- with a known first node */

/* @leftmost: did the walk to the link always go left? */
static inline void rb_insert_color_cached(struct rb_node *node,
					  struct rb_root_cached *root,
					  bool leftmost)
{
	if (leftmost)
		root->rb_leftmost = node;
	rb_insert_color(node, &root->rb_root);
}

/* Returns the new first node if it is another one now, else NULL. */
static inline struct rb_node *rb_erase_cached(struct rb_node *node,
					      struct rb_root_cached *root)
{
	struct rb_node *leftmost = NULL;

	if (root->rb_leftmost == node)
		leftmost = root->rb_leftmost = rb_next(node);
	rb_erase(node, &root->rb_root);
	return leftmost;
}

static inline void rb_replace_node_cached(struct rb_node *victim,
					  struct rb_node *node,
					  struct rb_root_cached *root)
{
	if (root->rb_leftmost == victim)
		root->rb_leftmost = node;
	rb_replace_node(victim, node, &root->rb_root);
}

/* ----------------------------------------------------- with a comparison */

/* Adds @node after all that it is not less than.  Is it the first node? */
static inline bool __rb_add(struct rb_node *node, struct rb_root *root,
			    bool (*less)(struct rb_node *,
					 const struct rb_node *))
{
	struct rb_node **link = &root->rb_node, *parent = NULL;
	bool leftmost = true;

	while (*link) {
		parent = *link;
		if (less(node, parent)) {
			link = &parent->rb_left;
		} else {
			link = &parent->rb_right;
			leftmost = false;
		}
	}
	rb_link_node(node, parent, link);
	rb_insert_color(node, root);
	return leftmost;
}

static inline void rb_add(struct rb_node *node, struct rb_root *root,
			  bool (*less)(struct rb_node *,
				       const struct rb_node *))
{
	__rb_add(node, root, less);
}

/* Returns @node if it is the first one now, else NULL. */
static inline struct rb_node *rb_add_cached(struct rb_node *node,
					    struct rb_root_cached *root,
					    bool (*less)(struct rb_node *,
						const struct rb_node *))
{
	if (!__rb_add(node, &root->rb_root, less))
		return NULL;
	root->rb_leftmost = node;
	return node;
}

/* @compare: <0, 0, >0 if @key is before, at, after the node. */
static inline struct rb_node *rb_find(const void *key,
				      const struct rb_root *root,
				      int (*compare)(const void *key,
						const struct rb_node *))
{
	struct rb_node *node = root->rb_node;
	int order;

	while (node && (order = compare(key, node)) != 0)
		node = order < 0 ? node->rb_left : node->rb_right;
	return node;
}

/* The first one in order of those that compare equal. */
static inline struct rb_node *rb_find_first(const void *key,
					    const struct rb_root *root,
					    int (*compare)(const void *key,
						const struct rb_node *))
{
	struct rb_node *node = root->rb_node, *match = NULL;

	while (node) {
		int order = compare(key, node);

		if (!order)
			match = node;
		node = order <= 0 ? node->rb_left : node->rb_right;
	}
	return match;
}

/* The one after @node, if that compares equal, too. */
static inline struct rb_node *rb_next_match(const void *key,
					    struct rb_node *node,
					    int (*compare)(const void *key,
						const struct rb_node *))
{
	node = rb_next(node);
	return node && !compare(key, node) ? node : NULL;
}

/* All that compare equal. */
#define rb_for_each(node, key, root, compare) \
	for ((node) = rb_find_first(key, root, compare); (node); \
	     (node) = rb_next_match(key, node, compare))

/*
 * Adds @node, and returns NULL; unless there is one that compares equal, then
 * returns that.
 */
static inline struct rb_node *rb_find_add(struct rb_node *node,
					  struct rb_root *root,
					  int (*compare)(struct rb_node *,
						const struct rb_node *))
{
	struct rb_node **link = &root->rb_node, *parent = NULL;

	while (*link) {
		int order = compare(node, *link);

		if (!order)
			return *link;
		parent = *link;
		link = order < 0 ? &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(node, parent, link);
	rb_insert_color(node, root);
	return NULL;
}

#endif
