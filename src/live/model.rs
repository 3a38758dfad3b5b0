//! In a model, what of this room loom can explore: not the sites, the hook and the kernel behind them.

pub mod epoch;
/// Of the net, the protocol.
pub mod net {
    pub mod cover;
}
pub mod queue;
pub mod stage;
