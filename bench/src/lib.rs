//! The references Vyr is measured against; they land with the benchmarks.
