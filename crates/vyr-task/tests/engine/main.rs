//! Integration tests of the engine, one binary so that Wasmtime is linked once.

mod cache;
mod guests;
mod guided;
mod hostile;
mod isolation;
mod keyvalue;
mod source;
mod states;
mod states_end;
mod support;
