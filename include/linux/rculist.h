/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/rculist.h>: the lists of <linux/list.h>, changed by one thread at a
 * time while others walk them without a lock.
 *
 * Guard: MMU_NOTIFIER_LINUX_RCULIST_H.  Define it first to bring your own.
 *
 * A walker may stand on a node that is deleted under it, so that keeps its
 * next; it may be reused after a grace period (of RCU or the SRCU domain of
 * the walkers).
 */
#ifndef MMU_NOTIFIER_LINUX_RCULIST_H
#define MMU_NOTIFIER_LINUX_RCULIST_H

#include <linux/list.h>
#include <linux/rcupdate.h>

/* An initialisation that walkers may see. */
static inline void INIT_LIST_HEAD_RCU(struct list_head *list)
{
	WRITE_ONCE(list->next, list);
	WRITE_ONCE(list->prev, list);
}

/* The links, for rcu_dereference(). */
#define list_next_rcu(list)	((list)->next)
#define hlist_first_rcu(head)	((head)->first)
#define hlist_next_rcu(node)	((node)->next)
#define hlist_pprev_rcu(node)	(*(node)->pprev)

static inline void __list_add_rcu(struct list_head *node,
				  struct list_head *prev,
				  struct list_head *next)
{
	node->next = next;
	node->prev = prev;
	rcu_assign_pointer(prev->next, node);
	next->prev = node;
}

static inline void list_add_rcu(struct list_head *node, struct list_head *head)
{
	__list_add_rcu(node, head, head->next);
}

static inline void list_add_tail_rcu(struct list_head *node,
				     struct list_head *head)
{
	__list_add_rcu(node, head->prev, head);
}

static inline void list_del_rcu(struct list_head *node)
{
	__list_del_entry(node);
	node->prev = (struct list_head *)LIST_POISON2;
}

static inline void list_replace_rcu(struct list_head *old,
				    struct list_head *node)
{
	__list_add_rcu(node, old->prev, old->next);
	old->prev = (struct list_head *)LIST_POISON2;
}

static inline void __hlist_add_rcu(struct hlist_node *node,
				   struct hlist_node **link)
{
	struct hlist_node *next = *link;

	node->next = next;
	WRITE_ONCE(node->pprev, link);
	rcu_assign_pointer(*link, node);
	if (next)
		WRITE_ONCE(next->pprev, &node->next);
}

static inline void hlist_add_head_rcu(struct hlist_node *node,
				      struct hlist_head *head)
{
	__hlist_add_rcu(node, &head->first);
}

static inline void hlist_add_before_rcu(struct hlist_node *node,
					struct hlist_node *next)
{
	__hlist_add_rcu(node, next->pprev);
}

static inline void hlist_add_behind_rcu(struct hlist_node *node,
					struct hlist_node *prev)
{
	__hlist_add_rcu(node, &prev->next);
}

static inline void hlist_add_tail_rcu(struct hlist_node *node,
				      struct hlist_head *head)
{
	struct hlist_node **link = &head->first;

	while (*link)
		link = &(*link)->next;
	__hlist_add_rcu(node, link);
}

/* Leaves @old with its next, and with pprev poisoned. */
static inline void hlist_replace_rcu(struct hlist_node *old,
				     struct hlist_node *node)
{
	node->next = old->next;
	WRITE_ONCE(node->pprev, old->pprev);
	rcu_assign_pointer(*node->pprev, node);
	if (node->next)
		WRITE_ONCE(node->next->pprev, &node->next);
	WRITE_ONCE(old->pprev, (struct hlist_node **)LIST_POISON2);
}

/* Poisons pprev. */
static inline void hlist_del_rcu(struct hlist_node *node)
{
	__hlist_del(node);
	WRITE_ONCE(node->pprev, (struct hlist_node **)LIST_POISON2);
}

/* Makes pprev NULL: hlist_unhashed().  Does nothing if it is so already. */
static inline void hlist_del_init_rcu(struct hlist_node *node)
{
	if (!hlist_unhashed(node)) {
		__hlist_del(node);
		WRITE_ONCE(node->pprev, NULL);
	}
}

#define list_entry_rcu(pointer, type, member) \
	list_entry(rcu_dereference(pointer), type, member)

/* The first one, or the one after @node; NULL if there is none. */
#define list_first_or_null_rcu(head, type, member) \
	__extension__ ({ \
		struct list_head *__head = (head); \
		list_next_or_null_rcu(__head, __head, type, member); \
	})
#define list_next_or_null_rcu(head, node, type, member) \
	__extension__ ({ \
		struct list_head *__next = rcu_dereference((node)->next); \
		__next != (head) ? list_entry(__next, type, member) : NULL; \
	})

#define list_for_each_rcu(pos, head) \
	for (pos = rcu_dereference((head)->next); pos != (head); \
	     pos = rcu_dereference(pos->next))

/*
 * An optional last argument, the condition under which a walk without
 * rcu_read_lock() is right, is not evaluated.
 */
#define list_for_each_entry_rcu(pos, head, member, ...) \
	for (pos = list_entry_rcu((head)->next, __typeof__(*pos), member); \
	     !list_entry_is_head(pos, head, member); \
	     pos = list_entry_rcu(pos->member.next, __typeof__(*pos), member))

#define list_for_each_entry_from_rcu(pos, head, member) \
	for (; !list_entry_is_head(pos, head, member); \
	     pos = list_entry_rcu(pos->member.next, __typeof__(*pos), member))
#define list_for_each_entry_continue_rcu(pos, head, member) \
	for (pos = list_entry_rcu(pos->member.next, __typeof__(*pos), member); \
	     !list_entry_is_head(pos, head, member); \
	     pos = list_entry_rcu(pos->member.next, __typeof__(*pos), member))

#define hlist_for_each_entry_rcu(pos, head, member, ...) \
	for (pos = hlist_entry_safe(rcu_dereference((head)->first), \
				    __typeof__(*pos), member); \
	     pos; \
	     pos = hlist_entry_safe(rcu_dereference(pos->member.next), \
				    __typeof__(*pos), member))

#define hlist_for_each_entry_from_rcu(pos, member) \
	for (; pos; \
	     pos = hlist_entry_safe(rcu_dereference(pos->member.next), \
				    __typeof__(*pos), member))
#define hlist_for_each_entry_continue_rcu(pos, member) \
	for (pos = hlist_entry_safe(rcu_dereference(pos->member.next), \
				    __typeof__(*pos), member); \
	     pos; \
	     pos = hlist_entry_safe(rcu_dereference(pos->member.next), \
				    __typeof__(*pos), member))

/* The same under srcu_read_lock(); the condition is required. */
#define list_for_each_entry_srcu(pos, head, member, condition) \
	list_for_each_entry_rcu(pos, head, member)
#define hlist_for_each_entry_srcu(pos, head, member, condition) \
	hlist_for_each_entry_rcu(pos, head, member)

#endif
