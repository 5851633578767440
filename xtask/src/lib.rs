//! The one front door to the project: build the image, boot it, test it, measure what it trusts.
//!
//! [`cli`] reads the arguments, [`commands`] has a module for each command; the rest is what they are made of.
#![forbid(unsafe_code)]

pub mod any_key;
pub mod attestation;
pub mod audit;
pub mod cli;
pub mod commands;
pub mod digest;
pub mod engine_bench;
pub mod example;
pub mod guest_build;
pub mod image_build;
pub mod install;
pub mod local_issuer;
pub mod local_relay;
mod local_service;
pub mod models;
pub mod openai_clients;
pub mod pack_bench;
pub mod packages;
pub mod packs;
pub mod peers;
pub mod process;
pub mod progress;
pub mod protocol_bench;
pub mod qemu;
pub mod release;
pub mod reproduce;
pub mod sbom;
pub mod service_bench;
mod statistics;
pub mod tcb;
pub mod workspace;
