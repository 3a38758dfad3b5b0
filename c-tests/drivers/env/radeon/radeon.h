/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What radeon_mn.c uses of the rest of the driver, of TTM and of the fences.  The functions are the scenario's. */
#ifndef ENV_RADEON_H
#define ENV_RADEON_H

#include <linux/kernel.h>
#include <linux/mmu_notifier.h>

struct dma_resv;
struct ttm_device;
struct ttm_tt;

struct ttm_operation_ctx {
	bool interruptible, no_wait_gpu;
};

struct ttm_placement {
	unsigned int domain;
};

struct ttm_buffer_object {
	struct {
		struct dma_resv *resv;
		unsigned long size;
	} base;
	struct ttm_device *bdev;
	struct ttm_tt *ttm;
};

struct radeon_bo {
	struct ttm_buffer_object tbo;
	struct ttm_placement placement;
	struct mmu_interval_notifier notifier;
};

enum dma_resv_usage { DMA_RESV_USAGE_BOOKKEEP = 3 };

#define MAX_SCHEDULE_TIMEOUT	((long)(~0UL >> 1))
#define RADEON_GEM_DOMAIN_CPU	1u
#define DRM_ERROR(...)		radeon_error(__VA_ARGS__)

static inline unsigned long radeon_bo_size(struct radeon_bo *bo)
{
	return bo->tbo.base.size;
}

bool radeon_ttm_tt_is_bound(struct ttm_device *device, struct ttm_tt *ttm);
int radeon_bo_reserve(struct radeon_bo *bo, bool no_intr);
void radeon_bo_unreserve(struct radeon_bo *bo);
long dma_resv_wait_timeout(struct dma_resv *resv, enum dma_resv_usage usage, bool interruptible,
			   unsigned long timeout);
void radeon_ttm_placement_from_domain(struct radeon_bo *bo, u32 domain);
int ttm_bo_validate(struct ttm_buffer_object *bo, struct ttm_placement *placement, struct ttm_operation_ctx *ctx);
__attribute__((__format__(__printf__, 1, 2))) void radeon_error(const char *format, ...);

int radeon_mn_register(struct radeon_bo *bo, unsigned long address);
void radeon_mn_unregister(struct radeon_bo *bo);

#endif
