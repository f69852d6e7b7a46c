//! The suite.
fn main(){}
