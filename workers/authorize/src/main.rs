//! Lambda entry of the API's authorizer.

fn main() {}
