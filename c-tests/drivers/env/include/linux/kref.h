/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ENV_LINUX_KREF_H
#define ENV_LINUX_KREF_H

#include <linux/refcount.h>

struct kref {
	refcount_t refcount;
};

static inline void kref_init(struct kref *kref)
{
	atomic_set(&kref->refcount.refs, 1);
}

static inline unsigned int kref_read(const struct kref *kref)
{
	return atomic_read(&kref->refcount.refs);
}

static inline void kref_get(struct kref *kref)
{
	atomic_inc(&kref->refcount.refs);
}

/* The last one calls release(): returns 1. */
static inline int kref_put(struct kref *kref, void (*release)(struct kref *kref))
{
	if (!atomic_dec_and_test(&kref->refcount.refs))
		return 0;
	release(kref);
	return 1;
}

#endif
