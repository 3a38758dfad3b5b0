/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <asm/page.h>: the page size, the size that one PMD entry maps, and pte_t.
 *
 * Guard: MMU_NOTIFIER_ASM_PAGE_H.  Define it first to bring your own.
 *
 * Different from the kernel: the base page has 4 KiB unless PAGE_SHIFT is
 * defined before.  A definition that is already there (<sys/user.h>) stays;
 * the spelling is <sys/user.h>'s, so that it may also come later.
 */
#ifndef MMU_NOTIFIER_ASM_PAGE_H
#define MMU_NOTIFIER_ASM_PAGE_H

#ifndef PAGE_SHIFT
#define PAGE_SHIFT	12
#endif
#ifndef PAGE_SIZE
#define PAGE_SIZE	(1UL << PAGE_SHIFT)
#endif
#ifndef PAGE_MASK
#define PAGE_MASK	(~(PAGE_SIZE-1))
#endif

/* A page of page table holds PAGE_SIZE / 8 entries. */
#ifndef PMD_SHIFT
#define PMD_SHIFT	(2 * PAGE_SHIFT - 3)
#endif
#ifndef PUD_SHIFT
#define PUD_SHIFT	(3 * PAGE_SHIFT - 6)
#endif
#ifndef PUD_SIZE
#define PUD_SIZE	(1UL << PUD_SHIFT)
#endif
#ifndef PMD_SIZE
#define PMD_SIZE	(1UL << PMD_SHIFT)
#endif
#ifndef PMD_MASK
#define PMD_MASK	(~(PMD_SIZE - 1))
#endif

/* A page table entry.  The library passes it on and looks not inside. */
typedef struct {
	unsigned long pte;
} pte_t;

#endif
