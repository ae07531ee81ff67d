//! What a service's machine is made of: the image as a root disk.
//!
//! The map: [`image`] takes an OCI image from a registry or a layout to a read-only squashfs.
//!
//! Deliberately elsewhere: which image a service wants and where it runs (`vyr-service`); this
//! crate carries out and decides nothing.

pub mod image;
