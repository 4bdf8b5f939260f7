//! chestnut-train
