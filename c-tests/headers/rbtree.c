// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * <linux/rbtree.h>, <linux/rbtree_augmented.h>: random insertions and removals
 * against a sorted array; after each the tree must be red-black, in order, and
 * know the right sums.  C and C++.
 */
#include <string.h>

#include <linux/rbtree.h>
#include <linux/rbtree_augmented.h>

#include "check.h"

struct item {
	struct rb_node rb;
	int key;
	bool seen;		/* by the walk in postorder */
	int count;		/* augmented: the nodes of the subtree */
};

enum { ITEMS = 200 };
static struct item items[ITEMS];
static struct item *sorted[ITEMS];
static int sorted_count;

static struct item *item_of(const struct rb_node *node)
{
	return rb_entry(node, struct item, rb);
}

static bool less(struct rb_node *a, const struct rb_node *b)
{
	return item_of(a)->key < item_of(b)->key;
}

static int compare(const void *key, const struct rb_node *node)
{
	return *(const int *)key - item_of(node)->key;
}

static int compare_nodes(struct rb_node *node, const struct rb_node *other)
{
	return compare(&item_of(node)->key, other);
}

static int count_of(const struct rb_node *node)
{
	return node ? item_of(node)->count : 0;
}

static bool count_nodes(struct item *item, bool exit)
{
	int count = 1 + count_of(item->rb.rb_left) +
		    count_of(item->rb.rb_right);

	if (exit && item->count == count)
		return true;
	item->count = count;
	return false;
}

RB_DECLARE_CALLBACKS(static, counting, struct item, rb, count, count_nodes)

/* The black height, or -1 if the subtree is no red-black tree. */
static int height(const struct rb_node *node, const struct rb_node *parent)
{
	bool red;
	int left, right;

	if (!node)
		return 0;
	red = !(node->__rb_parent_color & 1);
	left = height(node->rb_left, node);
	right = height(node->rb_right, node);
	if (rb_parent(node) != parent || left < 0 || left != right)
		return -1;
	if (red && (!parent || !(parent->__rb_parent_color & 1)))
		return -1;
	return left + !red;
}

static bool counts_are_right(const struct rb_node *node)
{
	return !node || (count_of(node) == 1 + count_of(node->rb_left) +
					   count_of(node->rb_right) &&
			 counts_are_right(node->rb_left) &&
			 counts_are_right(node->rb_right));
}

static void check_tree(const struct rb_root_cached *root, bool augmented)
{
	const struct rb_root *tree = &root->rb_root;
	struct rb_node *node;
	struct item *pos, *next;
	int i, seen = 0;

	CHECK(height(tree->rb_node, NULL) >= 0);
	CHECK(!augmented || counts_are_right(tree->rb_node));
	CHECK(RB_EMPTY_ROOT(tree) == (sorted_count == 0));

	i = 0;
	for (node = rb_first(tree); node; node = rb_next(node)) {
		CHECK(i < sorted_count && item_of(node) == sorted[i]);
		i++;
	}
	CHECK(i == sorted_count);
	for (node = rb_last(tree); node; node = rb_prev(node)) {
		i--;
		CHECK(i >= 0 && item_of(node) == sorted[i]);
	}
	CHECK(i == 0);
	CHECK(rb_first_cached(root) == rb_first(tree));

	for (i = 0; i < ITEMS; i++)
		items[i].seen = false;
	rbtree_postorder_for_each_entry_safe(pos, next, tree, rb) {
		CHECK(!pos->rb.rb_left || item_of(pos->rb.rb_left)->seen);
		CHECK(!pos->rb.rb_right || item_of(pos->rb.rb_right)->seen);
		pos->seen = true;
		seen++;
	}
	CHECK(seen == sorted_count);
}

/* The array's side of an insertion: after all that are not greater. */
static void sorted_add(struct item *item)
{
	int i = sorted_count++;

	for (; i > 0 && sorted[i - 1]->key > item->key; i--)
		sorted[i] = sorted[i - 1];
	sorted[i] = item;
}

static void sorted_remove(struct item *item)
{
	int i = 0;

	while (sorted[i] != item)
		i++;
	sorted_count--;
	memmove(&sorted[i], &sorted[i + 1],
		(sorted_count - i) * sizeof(sorted[0]));
}

static void insert(struct item *item, struct rb_root_cached *root,
		   bool augmented)
{
	struct rb_node **link = &root->rb_root.rb_node, *parent = NULL;
	bool leftmost = true;

	while (*link) {
		parent = *link;
		item_of(parent)->count++;
		if (item->key < item_of(parent)->key) {
			link = &parent->rb_left;
		} else {
			link = &parent->rb_right;
			leftmost = false;
		}
	}
	item->count = 1;
	rb_link_node(&item->rb, parent, link);
	if (augmented)
		rb_insert_augmented_cached(&item->rb, root, leftmost,
					   &counting);
	else
		rb_insert_color_cached(&item->rb, root, leftmost);
}

/* Random operations: the tree grows, shrinks, is emptied. */
static void test_random(bool augmented, int keys)
{
	struct rb_root_cached root = RB_ROOT_CACHED;
	int step, i;

	sorted_count = 0;
	for (i = 0; i < ITEMS; i++)
		RB_CLEAR_NODE(&items[i].rb);
	for (step = 0; step < 1500; step++) {
		struct item *item = &items[check_random(ITEMS)];
		bool growing = step % 500 < 300;

		if (RB_EMPTY_NODE(&item->rb)) {
			if (!growing && check_random(4))
				continue;
			item->key = (int)check_random(keys);
			sorted_add(item);
			insert(item, &root, augmented);
		} else {
			if (growing && check_random(4))
				continue;
			sorted_remove(item);
			if (augmented)
				rb_erase_augmented_cached(&item->rb, &root,
							  &counting);
			else
				rb_erase_cached(&item->rb, &root);
			RB_CLEAR_NODE(&item->rb);
		}
		check_tree(&root, augmented);
	}
	while (sorted_count) {
		struct item *item = sorted[check_random(sorted_count)];

		sorted_remove(item);
		if (augmented)
			rb_erase_augmented_cached(&item->rb, &root, &counting);
		else
			rb_erase_cached(&item->rb, &root);
		check_tree(&root, augmented);
	}
}

/* Every removal from every tree of up to 10 nodes, built in order. */
static void test_each_removal(void)
{
	int size, victim, i;

	for (size = 1; size <= 10; size++) {
		for (victim = 0; victim < size; victim++) {
			struct rb_root_cached root = RB_ROOT_CACHED;

			sorted_count = 0;
			for (i = 0; i < size; i++) {
				items[i].key = i;
				sorted_add(&items[i]);
				insert(&items[i], &root, true);
			}
			check_tree(&root, true);
			sorted_remove(&items[victim]);
			rb_erase_augmented_cached(&items[victim].rb, &root,
						  &counting);
			check_tree(&root, true);
		}
	}
}

static void test_helpers(void)
{
	struct rb_root_cached root = RB_ROOT_CACHED;
	struct rb_root plain = RB_ROOT;
	struct item extra;
	int key;

	CHECK(!rb_first(&plain) && !rb_last(&plain));
	CHECK(!rb_first_postorder(&plain) && !rb_next_postorder(NULL));
	CHECK(!rb_entry_safe(rb_first(&plain), struct item, rb));
	RB_CLEAR_NODE(&extra.rb);
	CHECK(RB_EMPTY_NODE(&extra.rb));
	CHECK(!rb_next(&extra.rb) && !rb_prev(&extra.rb));

	sorted_count = 0;
	for (key = 9; key >= 0; key--) {
		items[key].key = key;
		sorted_add(&items[key]);
		CHECK(rb_add_cached(&items[key].rb, &root, less) ==
		      &items[key].rb);
	}
	items[10].key = 5;
	sorted_add(&items[10]);
	CHECK(!rb_add_cached(&items[10].rb, &root, less));
	check_tree(&root, false);
	for (key = -1; key <= 10; key++) {
		struct rb_node *node = rb_find(&key, &root.rb_root, compare);

		CHECK(!node == (key < 0 || key > 9));
		CHECK(!node || item_of(node)->key == key);
	}

	for (key = -1; key <= 10; key++) {
		struct rb_node *node;
		int matches = 0;

		node = rb_find_first(&key, &root.rb_root, compare);
		CHECK(!node == (key < 0 || key > 9));
		CHECK(!node || !rb_prev(node) ||
		      item_of(rb_prev(node))->key < key);
		rb_for_each(node, &key, &root.rb_root, compare)
			matches += item_of(node)->key == key;
		CHECK(matches == (key < 0 || key > 9 ? 0 : key == 5 ? 2 : 1));
	}

	for (key = 0; key < 10; key++) {	/* first, last, root, .. */
		extra.key = key;
		rb_replace_node_cached(&items[key].rb, &extra.rb, &root);
		sorted[key + (key > 5)] = &extra;
		check_tree(&root, false);
		rb_replace_node_cached(&extra.rb, &items[key].rb, &root);
		sorted[key + (key > 5)] = &items[key];
	}
	check_tree(&root, false);

	CHECK(!rb_erase_cached(&items[3].rb, &root));
	CHECK(rb_erase_cached(&items[0].rb, &root) == &items[1].rb);

	for (key = 0; key < 10; key++)
		CHECK(!rb_find_add(&items[key].rb, &plain, compare_nodes));
	CHECK(rb_find_add(&items[10].rb, &plain, compare_nodes) == &items[5].rb);
	for (key = 0; key < 10; key++) {
		CHECK(rb_first(&plain) == &items[key].rb);
		rb_erase(&items[key].rb, &plain);
	}

	rb_add(&items[0].rb, &plain, less);
	rb_erase(&items[0].rb, &plain);
	CHECK(RB_EMPTY_ROOT(&plain));
	items[0].count = 1;
	rb_link_node(&items[0].rb, NULL, &plain.rb_node);
	rb_insert_augmented(&items[0].rb, &plain, &counting);
	rb_erase_augmented(&items[0].rb, &plain, &counting);
	CHECK(RB_EMPTY_ROOT(&plain));
}

int main(void)
{
	test_random(false, 1000);
	test_random(false, 5);
	test_random(true, 1000);
	test_random(true, 20);
	test_each_removal();
	test_helpers();
	return check_result();
}
