//! chestnut
