/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Queues with a thread each; env.h makes them. */
#ifndef ENV_LINUX_WORKQUEUE_H
#define ENV_LINUX_WORKQUEUE_H

#include <linux/list.h>

struct work_struct;
struct workqueue_struct;

struct work_struct {
	void (*func)(struct work_struct *work);
	struct workqueue_struct *queue;		/* the last one that it was put on */
	struct list_head entry;			/* empty: not queued */
};

#define INIT_WORK(work, function) do {					\
	(work)->func = (function);					\
	(work)->queue = NULL;						\
	INIT_LIST_HEAD(&(work)->entry);					\
} while (0)

/* False: it was queued already. */
bool queue_work(struct workqueue_struct *queue, struct work_struct *work);
/* Returns when the work is neither queued nor running. */
bool flush_work(struct work_struct *work);

#endif
