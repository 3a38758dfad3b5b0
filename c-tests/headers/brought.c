// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A driver's environment that has some of the grey operations itself:
 *
 *   HOW=1  as functions before our headers,
 *   HOW=2  as macros before our headers,
 *   HOW=3  as functions behind an #undef after our headers.
 *
 * Ours compile beside them.  Where the environment comes last or has macros,
 * the driver gets the environment's.  C and C++.
 */
#include <linux/types.h>

#include "check.h"

static int calls;

static inline void own_atomic_add(int i, atomic_t *v)
{
	calls += v->counter + i;
}

static inline void own_synchronize_rcu(void)
{
	calls += 100;
}

#if HOW == 2
#define atomic_add(i, v)	own_atomic_add(i, v)
#define synchronize_rcu()	own_synchronize_rcu()
#endif

#if HOW >= 2
#include <linux/mmu_notifier.h>
#endif

#if HOW == 3
#undef atomic_add
#undef synchronize_rcu
#endif

#if HOW != 2
static inline __attribute__((__unused__)) void atomic_add(int i, atomic_t *v)
{
	own_atomic_add(i, v);
}

static inline __attribute__((__unused__)) void synchronize_rcu(void)
{
	own_synchronize_rcu();
}
#endif

#if HOW == 1
#include <linux/mmu_notifier.h>
#endif

/* What our synchronize_rcu() calls (HOW=1). */
void mmu_notifier_synchronize_rcu(void)
{
	own_synchronize_rcu();
}

#if HOW != 2
static void call_it(void (*function)(void))
{
	function();
}
#endif

int main(void)
{
	atomic_t v = { 7 };

	atomic_add(3, &v);
	CHECK(calls == (HOW == 1 ? 0 : 10) && v.counter == (HOW == 1 ? 10 : 7));
	calls = 0;
	synchronize_rcu();
	CHECK(calls == 100);
#if HOW != 2
	/* They are functions in the kernel, and have addresses. */
	calls = 0;
	call_it(synchronize_rcu);
	CHECK(calls == 100);
#endif
	return check_result();
}
