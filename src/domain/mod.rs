//! The words of the field and the rules about them. No I/O, no async, no clock:
//! every decision takes data and a time, and returns a verdict with a named reason.

#[macro_use]
pub mod class;
pub mod address;
pub mod component;
pub mod connection;
pub mod delivery;
pub mod explain;
pub mod hex;
pub mod hold;
pub mod id;
pub mod incident;
pub mod key;
pub mod kind;
pub mod link;
pub mod number;
pub mod owed;
pub mod reply;
pub mod subscription;
pub mod surge;
pub mod time;
pub mod truth;
