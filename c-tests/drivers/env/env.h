/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the scenarios have of the environment.
 *
 * include/ holds headers for what a driver wants of the kernel and what is not
 * the notifiers' business; hfi1/ and radeon/ hold the private headers of a
 * driver that are too large to be taken along.  Each declares what the drivers
 * of the tests use, no more.
 */
#ifndef ENV_H
#define ENV_H

#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>

struct workqueue_struct;

/* Objects of kmalloc() and kzalloc() that kfree() has not had yet. */
unsigned int env_allocated(void);

/* A queue with its thread, which lives until the process ends. */
struct workqueue_struct *env_workqueue(void);

/*
 * Ranges as the kernel of the driver makes them.  ranges.c is compiled with
 * the driver's MMU_NOTIFIER_KERNEL; the scenario is compiled without, and does
 * not know the layout.
 */
struct env_range {
	unsigned long opaque[8];
};

void env_range_init(struct env_range *range, enum mmu_notifier_event event, struct mm_struct *mm,
		    unsigned long start, unsigned long end);
void env_range_start(struct env_range *range);
int env_range_start_nonblock(struct env_range *range);
void env_range_end(struct env_range *range);

#endif
