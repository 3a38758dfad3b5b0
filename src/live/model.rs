//! In a model, what of this room loom can explore: not the sites, the hook and the kernel behind them.

pub mod cover;
pub mod epoch;
pub mod queue;
pub mod stage;
