/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Wait queues: a count of the wake-ups, slept on as a futex. */
#ifndef ENV_LINUX_WAIT_H
#define ENV_LINUX_WAIT_H

#include <linux/types.h>

typedef struct wait_queue_head {
	unsigned int wakeups, sleepers;
} wait_queue_head_t;

void env_sleep(wait_queue_head_t *head, unsigned int wakeups);
void wake_up_all(wait_queue_head_t *head);

#define init_waitqueue_head(head) do {					\
	(head)->wakeups = 0;						\
	(head)->sleepers = 0;						\
} while (0)

#define wait_event(head, condition) do {				\
	for (;;) {							\
		unsigned int seen_ =					\
			__atomic_load_n(&(head).wakeups, __ATOMIC_SEQ_CST); \
									\
		if (condition)						\
			break;						\
		env_sleep(&(head), seen_);				\
	}								\
} while (0)

#endif
