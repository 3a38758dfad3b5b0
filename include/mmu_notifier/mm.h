/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the kernel has under other names, or not at all (DV-2, DV-16): the
 * reverse-map lock, mmu_notifier_rmap_{read,write}_{lock,unlock}(), and the
 * producers mmu_notifier_mmap(), _mremap(), _mprotect() and _madvise(), beside
 * the kernel's vm_munmap() and vm_mmap().
 */
#ifndef MMU_NOTIFIER_MM_H
#define MMU_NOTIFIER_MM_H

#include <mmu_notifier/abi/mm.h>

#endif /* MMU_NOTIFIER_MM_H */
