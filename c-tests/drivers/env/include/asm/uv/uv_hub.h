/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The machine: this thread runs on processor 3 of blade 0; each blade has 8. */
#ifndef ENV_ASM_UV_UV_HUB_H
#define ENV_ASM_UV_UV_HUB_H

#define uv_blade_processor_id()			3
#define uv_numa_blade_id()			0
#define uv_blade_nr_possible_cpus(blade)	((void)(blade), 8)

#endif
