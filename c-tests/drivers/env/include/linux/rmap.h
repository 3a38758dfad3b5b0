/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ENV_LINUX_RMAP_H
#define ENV_LINUX_RMAP_H

struct vm_area_struct;
struct vm_fault;
struct vm_operations_struct;

typedef unsigned int vm_fault_t;

#endif
