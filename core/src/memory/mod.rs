//! The memory bank: what is stored, when, and what makes room.

mod bank;
mod policy;
mod state;

pub use bank::ReferenceId;
pub(crate) use bank::{Bank, BankShape};
pub(crate) use policy::Policy;
pub(crate) use state::State;
