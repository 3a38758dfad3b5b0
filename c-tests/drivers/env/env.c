/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The functions behind env/include. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>

#include <linux/futex.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "env.h"

static unsigned int allocated;

unsigned int env_allocated(void)
{
	return __atomic_load_n(&allocated, __ATOMIC_SEQ_CST);
}

void *kmalloc(size_t size, gfp_t flags)
{
	(void)flags;
	__atomic_fetch_add(&allocated, 1, __ATOMIC_SEQ_CST);
	return malloc(size);
}

void *kzalloc(size_t size, gfp_t flags)
{
	(void)flags;
	__atomic_fetch_add(&allocated, 1, __ATOMIC_SEQ_CST);
	return calloc(1, size);
}

void kfree(const void *object)
{
	if (object)
		__atomic_fetch_sub(&allocated, 1, __ATOMIC_SEQ_CST);
	free((void *)object);
}

void env_sleep(wait_queue_head_t *head, unsigned int wakeups)
{
	__atomic_fetch_add(&head->sleepers, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &head->wakeups, FUTEX_WAIT_PRIVATE, wakeups, NULL, NULL, 0);
	__atomic_fetch_sub(&head->sleepers, 1, __ATOMIC_SEQ_CST);
}

void wake_up_all(wait_queue_head_t *head)
{
	__atomic_fetch_add(&head->wakeups, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &head->wakeups, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

struct workqueue_struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct list_head works;
	struct work_struct *running;
};

static void *run_works(void *arg)
{
	struct workqueue_struct *queue = arg;

	pthread_mutex_lock(&queue->lock);
	for (;;) {
		struct work_struct *work;

		while (list_empty(&queue->works))
			pthread_cond_wait(&queue->changed, &queue->lock);
		work = list_first_entry(&queue->works, struct work_struct, entry);
		list_del_init(&work->entry);
		queue->running = work;
		pthread_mutex_unlock(&queue->lock);
		work->func(work);
		pthread_mutex_lock(&queue->lock);
		queue->running = NULL;
		pthread_cond_broadcast(&queue->changed);
	}
	return NULL;
}

struct workqueue_struct *env_workqueue(void)
{
	struct workqueue_struct *queue = calloc(1, sizeof(*queue));
	pthread_t thread;

	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->changed, NULL);
	INIT_LIST_HEAD(&queue->works);
	if (pthread_create(&thread, NULL, run_works, queue))
		abort();
	pthread_detach(thread);
	return queue;
}

bool queue_work(struct workqueue_struct *queue, struct work_struct *work)
{
	bool fresh;

	pthread_mutex_lock(&queue->lock);
	fresh = list_empty(&work->entry);
	if (fresh) {
		work->queue = queue;
		list_add_tail(&work->entry, &queue->works);
		pthread_cond_broadcast(&queue->changed);
	}
	pthread_mutex_unlock(&queue->lock);
	return fresh;
}

bool flush_work(struct work_struct *work)
{
	struct workqueue_struct *queue = work->queue;
	bool waited = false;

	if (!queue)
		return false;
	pthread_mutex_lock(&queue->lock);
	while (queue->running == work || !list_empty(&work->entry)) {
		waited = true;
		pthread_cond_wait(&queue->changed, &queue->lock);
	}
	pthread_mutex_unlock(&queue->lock);
	return waited;
}
