//! The guide: pages about the whole, where the other pages are about one type each.
//!
//! It is built by rustdoc alone, so that its examples are compiled and run with the crate's own and
//! a program that uses the crate never sees it.

pub mod architecture;
pub mod batch_files;
pub mod build_scripts;
pub mod changelog;
pub mod engines;
pub mod limits;
pub mod planning;
pub mod retries;
pub mod shards;
pub mod sharing_a_limit;
pub mod testing;
pub mod threads_or_async;
pub mod why;
