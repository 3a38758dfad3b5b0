// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Preloaded into the programs of coverage.py: switches live events on and says so where strace sees it, with the addresses of
 * the library's text: prctl(MARK, start, end).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <mmu_notifier/live.h>

enum { MARK = 0x4d4d5531 };

static int mark_text(struct dl_phdr_info *object, size_t size, void *inside)
{
	(void)size;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
		uintptr_t start = object->dlpi_addr + segment->p_vaddr;

		if (segment->p_type == PT_LOAD && segment->p_flags & PF_X && start <= (uintptr_t)inside &&
		    (uintptr_t)inside < start + segment->p_memsz) {
			prctl(MARK, start, start + segment->p_memsz, 0, 0);
			return 1;
		}
	}
	return 0;
}

__attribute__((constructor)) static void enable(void)
{
	void *inside = dlsym(RTLD_DEFAULT, "mmu_notifier_live_enable");
	int error = getenv("COVERAGE_OFF") ? 0 : mmu_notifier_live_enable();

	if (error)
		dprintf(STDERR_FILENO, "mmu_notifier_live_enable: %s\n", strerror(-error));
	else
		dl_iterate_phdr(mark_text, inside);
}
