/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The trace points go to the scenario. */
#ifndef ENV_HFI1_TRACE_H
#define ENV_HFI1_TRACE_H

void hfi1_trace(const char *event);

#define trace_hfi1_mmu_rb_insert(...)		hfi1_trace("insert")
#define trace_hfi1_mmu_rb_search(...)		hfi1_trace("search")
#define trace_hfi1_mmu_rb_evict(...)		hfi1_trace("evict")
#define trace_hfi1_mmu_mem_invalidate(...)	hfi1_trace("invalidate")
#define trace_hfi1_mmu_release_node(...)	hfi1_trace("release")

#endif
