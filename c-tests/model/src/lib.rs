// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library against an executable model of docs/spec/SPEC.md, section 3, with random programs.

pub mod contract;
pub mod language;
pub mod model;
pub mod runner;
pub mod world;
