//! Services: deployed, scaled, brought back, listed, read, entered, halted.

mod deploy;
mod edited;
mod exec;
mod logs;
mod ps;
mod release;
mod rollback;
mod scale;
mod slot;

pub(crate) use deploy::deploy;
pub(crate) use exec::exec;
pub(crate) use logs::logs;
pub(crate) use ps::ps;
pub(crate) use release::release;
pub(crate) use scale::scale;
pub(crate) use slot::service;
