// SPDX-License-Identifier: MIT OR Apache-2.0
/* liburcu's flavours as peers: their read sections inlined (_LGPL_SOURCE), as their fastest users have them. */
#define _LGPL_SOURCE
#define URCU_INLINE_SMALL_FUNCTIONS
#include <urcu/urcu-memb.h>
#include <urcu/urcu-mb.h>
#include <urcu/urcu-bp.h>
#include <urcu/urcu-qsbr.h>
#include "urcu.h"

static void called(ulong_t *count)
{
	++*count;
}

static void (*volatile callback)(ulong_t *count) = called;

#define FLAVOUR(name, on_enter, on_leave) \
static ulong_t name ## _empty(ulong_t n) \
{ \
	while (n--) { \
		on_enter; \
		urcu_ ## name ## _read_lock(); \
		urcu_ ## name ## _read_unlock(); \
		on_leave; \
	} \
	return 0; \
} \
\
static ulong_t name ## _call(ulong_t n) \
{ \
	ulong_t calls = 0; \
	\
	while (n--) { \
		on_enter; \
		urcu_ ## name ## _read_lock(); \
		callback(&calls); \
		urcu_ ## name ## _read_unlock(); \
		on_leave; \
	} \
	return calls; \
} \
\
static ulong_t name ## _nested(ulong_t n) \
{ \
	ulong_t calls = 0; \
	\
	while (n--) { \
		on_enter; \
		urcu_ ## name ## _read_lock(); \
		urcu_ ## name ## _read_lock(); \
		callback(&calls); \
		urcu_ ## name ## _read_unlock(); \
		urcu_ ## name ## _read_unlock(); \
		on_leave; \
	} \
	return calls; \
} \
\
static ulong_t name ## _synchronize(ulong_t n) \
{ \
	while (n--) \
		urcu_ ## name ## _synchronize_rcu(); \
	return 0; \
} \
\
static void name ## _attach(void) \
{ \
	urcu_ ## name ## _register_thread(); \
	on_leave; \
} \
\
static void name ## _detach(void) \
{ \
	on_enter; \
	urcu_ ## name ## _unregister_thread(); \
} \
\
const struct urcu urcu_ ## name = { \
	#name, name ## _empty, name ## _call, name ## _nested, name ## _synchronize, name ## _attach, name ## _detach \
};

FLAVOUR(memb, (void)0, (void)0)
FLAVOUR(mb, (void)0, (void)0)
FLAVOUR(bp, (void)0, (void)0)
/* A library's callers may block anywhere between two calls, so they are on line only inside of one. */
FLAVOUR(qsbr, urcu_qsbr_thread_online(), urcu_qsbr_thread_offline())

/* call_rcu() is measured with the first flavour only: there is one of its header in a file. */
static void freed(struct rcu_head *head)
{
	(void)head;
}

void urcu_burst(struct rcu_head *heads, ulong_t n)
{
	while (n--)
		urcu_memb_call_rcu(heads++, freed);
}

void urcu_settle(void)
{
	urcu_memb_barrier();
}
