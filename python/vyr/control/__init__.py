"""Generated from `crates/vyr-api/proto`; see `scripts/python-test.sh`."""
