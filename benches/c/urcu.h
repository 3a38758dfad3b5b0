/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the harness sees of a flavour of liburcu; src/urcu.rs mirrors it. */
#ifndef BENCH_URCU_H
#define BENCH_URCU_H

typedef unsigned long ulong_t;
struct rcu_head;

struct urcu {
	const char *name;
	ulong_t (*empty)(ulong_t n);
	ulong_t (*call)(ulong_t n);
	ulong_t (*nested)(ulong_t n);
	ulong_t (*synchronize)(ulong_t n);
	void (*attach)(void);
	void (*detach)(void);
};

/* call_rcu() of the flavour memb, on so many heads of two words each, and waiting until all were called. */
void urcu_burst(struct rcu_head *heads, ulong_t n);
void urcu_settle(void);

#endif
