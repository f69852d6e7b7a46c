//! x
pub mod atoti;
pub mod config;
pub mod proto;
