//! chestnut-forest
