/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/list.h>: circular doubly linked lists (struct list_head), and lists
 * whose head is one pointer (struct hlist_head).
 *
 * Guard: MMU_NOTIFIER_LINUX_LIST_H.  Define it first to bring your own.
 *
 * LIST_HEAD() is the kernel's, even if <sys/queue.h> was included before; if
 * that comes later, its own LIST_HEAD() takes the place of this one.
 *
 * Different from the kernel: no debug checks.
 */
#ifndef MMU_NOTIFIER_LINUX_LIST_H
#define MMU_NOTIFIER_LINUX_LIST_H

#include <asm/barrier.h>
#include <linux/compiler.h>
#include <linux/container_of.h>
#include <linux/types.h>

/* What the links of a deleted node hold: pointers that nothing can be at. */
#ifndef LIST_POISON1
#define LIST_POISON1	((void *)0xdead000000000100UL)
#define LIST_POISON2	((void *)0xdead000000000122UL)
#endif

/*
 * list_head: as head, its next is the first node and its prev the last one; an
 * empty list's head points to itself.
 */

#define LIST_HEAD_INIT(name)	{ &(name), &(name) }
#undef LIST_HEAD
#define LIST_HEAD(name)		struct list_head name = LIST_HEAD_INIT(name)

static inline void INIT_LIST_HEAD(struct list_head *list)
{
	WRITE_ONCE(list->next, list);
	list->prev = list;
}

static inline void __list_add(struct list_head *node, struct list_head *prev,
			      struct list_head *next)
{
	node->next = next;
	node->prev = prev;
	next->prev = node;
	WRITE_ONCE(prev->next, node);
}

static inline void __list_del(struct list_head *prev, struct list_head *next)
{
	next->prev = prev;
	WRITE_ONCE(prev->next, next);
}

static inline void __list_del_entry(struct list_head *node)
{
	__list_del(node->prev, node->next);
}

/* Right after @head: as the first one, if that is the list's head. */
static inline void list_add(struct list_head *node, struct list_head *head)
{
	__list_add(node, head, head->next);
}

/* Right before @head: as the last one, if that is the list's head. */
static inline void list_add_tail(struct list_head *node,
				 struct list_head *head)
{
	__list_add(node, head->prev, head);
}

/* Leaves @node poisoned. */
static inline void list_del(struct list_head *node)
{
	__list_del_entry(node);
	node->next = (struct list_head *)LIST_POISON1;
	node->prev = (struct list_head *)LIST_POISON2;
}

/* Leaves @node an empty list. */
static inline void list_del_init(struct list_head *node)
{
	__list_del_entry(node);
	INIT_LIST_HEAD(node);
}

/* Puts @node in @old's place; if @old is an empty list's head, so is @node. */
static inline void list_replace(struct list_head *old, struct list_head *node)
{
	if (old->next == old)
		INIT_LIST_HEAD(node);
	else
		__list_add(node, old->prev, old->next);
}

static inline void list_replace_init(struct list_head *old,
				     struct list_head *node)
{
	list_replace(old, node);
	INIT_LIST_HEAD(old);
}

/* The same for list_empty_careful() on another thread. */
static inline void list_del_init_careful(struct list_head *node)
{
	__list_del_entry(node);
	WRITE_ONCE(node->prev, node);
	smp_store_release(&node->next, node);
}

static inline void list_move(struct list_head *node, struct list_head *head)
{
	__list_del_entry(node);
	list_add(node, head);
}

static inline void list_move_tail(struct list_head *node,
				  struct list_head *head)
{
	__list_del_entry(node);
	list_add_tail(node, head);
}

/* Moves the nodes from @first to @last, both included, to the end of @head. */
static inline void list_bulk_move_tail(struct list_head *head,
				       struct list_head *first,
				       struct list_head *last)
{
	__list_del(first->prev, last->next);
	first->prev = head->prev;
	WRITE_ONCE(head->prev->next, first);
	last->next = head;
	head->prev = last;
}

/* Exchanges the places of two nodes, which may be in different lists. */
static inline void list_swap(struct list_head *a, struct list_head *b)
{
	struct list_head *before = b->prev;

	__list_del_entry(b);
	list_replace(a, b);
	list_add(a, before == a ? b : before);
}

static inline int list_empty(const struct list_head *head)
{
	return READ_ONCE(head->next) == head;
}

/* Is it empty and nobody about to change it? */
static inline int list_empty_careful(const struct list_head *head)
{
	const struct list_head *next = smp_load_acquire(&head->next);

	return next == head && READ_ONCE(head->prev) == next;
}

static inline int list_is_singular(const struct list_head *head)
{
	return !list_empty(head) && head->next == head->prev;
}

static inline int list_is_head(const struct list_head *node,
			       const struct list_head *head)
{
	return node == head;
}

static inline int list_is_first(const struct list_head *node,
				const struct list_head *head)
{
	return node->prev == head;
}

static inline int list_is_last(const struct list_head *node,
			       const struct list_head *head)
{
	return node->next == head;
}

/* Makes the first node the last one. */
static inline void list_rotate_left(struct list_head *head)
{
	if (!list_empty(head))
		list_move_tail(head->next, head);
}

/* Makes @node the first one; those before it go to the end. */
static inline void list_rotate_to_front(struct list_head *node,
					struct list_head *head)
{
	list_move_tail(head, node);
}

static inline size_t list_count_nodes(const struct list_head *head)
{
	const struct list_head *node;
	size_t count = 0;

	for (node = head->next; node != head; node = node->next)
		count++;
	return count;
}

/* Moves the nodes between @prev and @next, all of @list's, out of @list. */
static inline void __list_splice(const struct list_head *list,
				 struct list_head *prev,
				 struct list_head *next)
{
	struct list_head *first = list->next;
	struct list_head *last = list->prev;

	if (list_empty(list))
		return;
	first->prev = prev;
	last->next = next;
	next->prev = last;
	WRITE_ONCE(prev->next, first);
}

/* Adds @list's nodes to the front of @head; @list is undefined then. */
static inline void list_splice(const struct list_head *list,
			       struct list_head *head)
{
	__list_splice(list, head, head->next);
}

static inline void list_splice_tail(const struct list_head *list,
				    struct list_head *head)
{
	__list_splice(list, head->prev, head);
}

/* The same, and @list is empty then. */
static inline void list_splice_init(struct list_head *list,
				    struct list_head *head)
{
	list_splice(list, head);
	INIT_LIST_HEAD(list);
}

static inline void list_splice_tail_init(struct list_head *list,
					 struct list_head *head)
{
	list_splice_tail(list, head);
	INIT_LIST_HEAD(list);
}

/*
 * Moves the nodes of @head up to and including @node to @list, whose former
 * contents are lost.  @node may be @head: then nothing is moved.
 */
static inline void list_cut_position(struct list_head *list,
				     struct list_head *head,
				     struct list_head *node)
{
	struct list_head *rest = node->next;

	INIT_LIST_HEAD(list);
	if (node == head)
		return;
	__list_add(list, node, head->next);
	__list_del(head, rest);
}

/* The same up to, but not including @node; all, if that is @head. */
static inline void list_cut_before(struct list_head *list,
				   struct list_head *head,
				   struct list_head *node)
{
	list_cut_position(list, head, node->prev);
}

#define list_entry(pointer, type, member) \
	container_of(pointer, type, member)
#define list_first_entry(head, type, member) \
	list_entry((head)->next, type, member)
#define list_last_entry(head, type, member) \
	list_entry((head)->prev, type, member)
#define list_first_entry_or_null(head, type, member) \
	__extension__ ({ \
		struct list_head *__head = (head); \
		struct list_head *__first = READ_ONCE(__head->next); \
		__first != __head ? list_entry(__first, type, member) : NULL; \
	})
#define list_next_entry(pos, member) \
	list_entry((pos)->member.next, __typeof__(*(pos)), member)
#define list_prev_entry(pos, member) \
	list_entry((pos)->member.prev, __typeof__(*(pos)), member)
/* After the last one comes the first one; the list is not empty. */
#define list_next_entry_circular(pos, head, member) \
	(list_is_last(&(pos)->member, head) ? \
	 list_first_entry(head, __typeof__(*(pos)), member) : \
	 list_next_entry(pos, member))
#define list_prev_entry_circular(pos, head, member) \
	(list_is_first(&(pos)->member, head) ? \
	 list_last_entry(head, __typeof__(*(pos)), member) : \
	 list_prev_entry(pos, member))
#define list_entry_is_head(pos, head, member) \
	(&(pos)->member == (head))

/* @pos is a list_head; the _safe forms allow to delete it in the loop. */
#define list_for_each(pos, head) \
	for (pos = (head)->next; pos != (head); pos = pos->next)
#define list_for_each_continue(pos, head) \
	for (pos = pos->next; pos != (head); pos = pos->next)
#define list_for_each_prev(pos, head) \
	for (pos = (head)->prev; pos != (head); pos = pos->prev)
#define list_for_each_safe(pos, next_pos, head) \
	for (pos = (head)->next, next_pos = pos->next; pos != (head); \
	     pos = next_pos, next_pos = pos->next)
#define list_for_each_prev_safe(pos, prev_pos, head) \
	for (pos = (head)->prev, prev_pos = pos->prev; pos != (head); \
	     pos = prev_pos, prev_pos = pos->prev)

/*
 * @pos is the struct around the node.  _continue begins after @pos, _from
 * begins at @pos.
 */
#define list_for_each_entry_from(pos, head, member) \
	for (; !list_entry_is_head(pos, head, member); \
	     pos = list_next_entry(pos, member))
#define list_for_each_entry(pos, head, member) \
	for (pos = list_first_entry(head, __typeof__(*pos), member); \
	     !list_entry_is_head(pos, head, member); \
	     pos = list_next_entry(pos, member))
#define list_for_each_entry_continue(pos, head, member) \
	for (pos = list_next_entry(pos, member); \
	     !list_entry_is_head(pos, head, member); \
	     pos = list_next_entry(pos, member))
#define list_for_each_entry_from_reverse(pos, head, member) \
	for (; !list_entry_is_head(pos, head, member); \
	     pos = list_prev_entry(pos, member))
#define list_for_each_entry_reverse(pos, head, member) \
	for (pos = list_last_entry(head, __typeof__(*pos), member); \
	     !list_entry_is_head(pos, head, member); \
	     pos = list_prev_entry(pos, member))
#define list_for_each_entry_continue_reverse(pos, head, member) \
	for (pos = list_prev_entry(pos, member); \
	     !list_entry_is_head(pos, head, member); \
	     pos = list_prev_entry(pos, member))

/* The same with a second cursor, which allows to delete @pos in the loop. */
#define list_for_each_entry_safe_from(pos, next_pos, head, member) \
	for (next_pos = list_next_entry(pos, member); \
	     !list_entry_is_head(pos, head, member); \
	     pos = next_pos, next_pos = list_next_entry(next_pos, member))
#define list_for_each_entry_safe(pos, next_pos, head, member) \
	for (pos = list_first_entry(head, __typeof__(*pos), member), \
	     next_pos = list_next_entry(pos, member); \
	     !list_entry_is_head(pos, head, member); \
	     pos = next_pos, next_pos = list_next_entry(next_pos, member))
#define list_for_each_entry_safe_continue(pos, next_pos, head, member) \
	for (pos = list_next_entry(pos, member), \
	     next_pos = list_next_entry(pos, member); \
	     !list_entry_is_head(pos, head, member); \
	     pos = next_pos, next_pos = list_next_entry(next_pos, member))
#define list_for_each_entry_safe_reverse(pos, prev_pos, head, member) \
	for (pos = list_last_entry(head, __typeof__(*pos), member), \
	     prev_pos = list_prev_entry(pos, member); \
	     !list_entry_is_head(pos, head, member); \
	     pos = prev_pos, prev_pos = list_prev_entry(prev_pos, member))

/* A @pos for _continue that begins with the first one, if @pos is NULL. */
#define list_prepare_entry(pos, head, member) \
	((pos) ? (pos) : list_entry(head, __typeof__(*(pos)), member))

/* Before list_for_each_entry_safe_continue() can go on after lock breaks. */
#define list_safe_reset_next(pos, next_pos, member) \
	(next_pos = list_next_entry(pos, member))

/*
 * hlist: a node's pprev is the address of the pointer to it, which is the
 * head's or the previous node's.  A node with pprev NULL is in no list.
 */

#define HLIST_HEAD_INIT		{ NULL }
#define HLIST_HEAD(name)	struct hlist_head name = HLIST_HEAD_INIT

static inline void INIT_HLIST_HEAD(struct hlist_head *head)
{
	head->first = NULL;
}

static inline void INIT_HLIST_NODE(struct hlist_node *node)
{
	node->next = NULL;
	node->pprev = NULL;
}

static inline int hlist_unhashed(const struct hlist_node *node)
{
	return !node->pprev;
}

/* The same while others may change it. */
static inline int hlist_unhashed_lockless(const struct hlist_node *node)
{
	return !READ_ONCE(node->pprev);
}

static inline int hlist_empty(const struct hlist_head *head)
{
	return !READ_ONCE(head->first);
}

static inline bool hlist_is_singular_node(const struct hlist_node *node,
					  const struct hlist_head *head)
{
	return !node->next && node->pprev == &head->first;
}

/* Puts @node where *@link is; that follows it then. */
static inline void __hlist_add(struct hlist_node *node,
			       struct hlist_node **link)
{
	struct hlist_node *next = *link;

	node->next = next;
	WRITE_ONCE(node->pprev, link);
	if (next)
		WRITE_ONCE(next->pprev, &node->next);
	WRITE_ONCE(*link, node);
}

static inline void __hlist_del(struct hlist_node *node)
{
	struct hlist_node *next = node->next;
	struct hlist_node **pprev = node->pprev;

	WRITE_ONCE(*pprev, next);
	if (next)
		WRITE_ONCE(next->pprev, pprev);
}

static inline void hlist_add_head(struct hlist_node *node,
				  struct hlist_head *head)
{
	__hlist_add(node, &head->first);
}

static inline void hlist_add_before(struct hlist_node *node,
				    struct hlist_node *next)
{
	__hlist_add(node, next->pprev);
}

static inline void hlist_add_behind(struct hlist_node *node,
				    struct hlist_node *prev)
{
	__hlist_add(node, &prev->next);
}

/* Makes @node look as if in a list, so that it can be deleted as usual. */
static inline void hlist_add_fake(struct hlist_node *node)
{
	node->pprev = &node->next;
}

static inline bool hlist_fake(const struct hlist_node *node)
{
	return node->pprev == &node->next;
}

/* Leaves @node poisoned. */
static inline void hlist_del(struct hlist_node *node)
{
	__hlist_del(node);
	node->next = (struct hlist_node *)LIST_POISON1;
	node->pprev = (struct hlist_node **)LIST_POISON2;
}

/* Leaves @node in no list; does nothing if it is in none. */
static inline void hlist_del_init(struct hlist_node *node)
{
	if (!hlist_unhashed(node)) {
		__hlist_del(node);
		INIT_HLIST_NODE(node);
	}
}

static inline size_t hlist_count_nodes(const struct hlist_head *head)
{
	const struct hlist_node *node;
	size_t count = 0;

	for (node = head->first; node; node = node->next)
		count++;
	return count;
}

/* Moves all nodes of @from, of which @last is the last one, before @to's. */
static inline void hlist_splice_init(struct hlist_head *from,
				     struct hlist_node *last,
				     struct hlist_head *to)
{
	last->next = to->first;
	if (last->next)
		last->next->pprev = &last->next;
	to->first = from->first;
	to->first->pprev = &to->first;
	from->first = NULL;
}

/* Moves all nodes from @from to @to, whose former contents are lost. */
static inline void hlist_move_list(struct hlist_head *from,
				   struct hlist_head *to)
{
	to->first = from->first;
	if (to->first)
		to->first->pprev = &to->first;
	from->first = NULL;
}

#define hlist_entry(pointer, type, member) \
	container_of(pointer, type, member)
#define hlist_entry_safe(pointer, type, member) \
	__extension__ ({ \
		struct hlist_node *__node = (pointer); \
		__node ? hlist_entry(__node, type, member) : NULL; \
	})

/* @pos is a hlist_node; the _safe forms allow to delete it in the loop. */
#define hlist_for_each(pos, head) \
	for (pos = (head)->first; pos; pos = pos->next)
#define hlist_for_each_safe(pos, next_pos, head) \
	for (pos = (head)->first; \
	     pos && (next_pos = pos->next, true); \
	     pos = next_pos)

/* @pos is the struct around the node, and NULL after the last one. */
#define hlist_for_each_entry(pos, head, member) \
	for (pos = hlist_entry_safe((head)->first, __typeof__(*pos), member); \
	     pos; \
	     pos = hlist_entry_safe(pos->member.next, __typeof__(*pos), \
				    member))
#define hlist_for_each_entry_continue(pos, member) \
	for (pos = hlist_entry_safe(pos->member.next, __typeof__(*pos), \
				    member); \
	     pos; \
	     pos = hlist_entry_safe(pos->member.next, __typeof__(*pos), \
				    member))
#define hlist_for_each_entry_from(pos, member) \
	for (; pos; \
	     pos = hlist_entry_safe(pos->member.next, __typeof__(*pos), \
				    member))

/* The second cursor, a hlist_node, allows to delete @pos in the loop. */
#define hlist_for_each_entry_safe(pos, next_node, head, member) \
	for (pos = hlist_entry_safe((head)->first, __typeof__(*pos), member); \
	     pos && (next_node = pos->member.next, true); \
	     pos = hlist_entry_safe(next_node, __typeof__(*pos), member))

#endif
