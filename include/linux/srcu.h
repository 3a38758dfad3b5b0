/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/srcu.h>: sleepable read sections, in domains of one's own.
 *
 * Guard: MMU_NOTIFIER_LINUX_SRCU_H.  Define it first to bring your own.
 *
 * Domains are independent of each other, and of the one that the notifiers
 * use: a driver may synchronize its own domain inside of a callback.
 *
 * The functions are in <mmu_notifier/abi/rcu.h>.
 *
 * Different from the kernel: init_srcu_struct() cannot fail; in the child of a
 * fork a domain is as other threads left it, so make a new one.
 */
#ifndef MMU_NOTIFIER_LINUX_SRCU_H
#define MMU_NOTIFIER_LINUX_SRCU_H

#include <asm/barrier.h>
#include <linux/compiler.h>
#include <linux/types.h>
#include <mmu_notifier/abi/rcu.h>

/* All zero is an idle domain. */
struct srcu_struct {
	unsigned long opaque[16];
};

#define DEFINE_SRCU(name)		struct srcu_struct name = { { 0 } }
#define DEFINE_STATIC_SRCU(name)	static DEFINE_SRCU(name)

/* Reads a pointer that a writer publishes, inside of a read section. */
#define srcu_dereference(pointer, domain) \
	((void)(domain), smp_load_acquire(&(pointer)))

#define srcu_dereference_check(pointer, domain, condition) \
	srcu_dereference(pointer, domain)

/* Every grace period is as fast as can be. */
#ifndef synchronize_srcu_expedited
#define synchronize_srcu_expedited	synchronize_srcu
#endif

/* For assertions only: nothing keeps track. */
#define srcu_read_lock_held(domain)	((void)(domain), 1)

#endif
