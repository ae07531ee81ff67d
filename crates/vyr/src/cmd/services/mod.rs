//! Services: deployed, listed, read, entered.

mod deploy;
mod exec;
mod logs;
mod ps;
mod release;

pub(crate) use deploy::deploy;
pub(crate) use exec::exec;
pub(crate) use logs::logs;
pub(crate) use ps::ps;
pub(crate) use release::release;
