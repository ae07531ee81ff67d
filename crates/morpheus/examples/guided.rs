//! The program of the README.

use std::error::Error;
use std::path::Path;

use morpheus::{Guidance, Options, Report};

pub(crate) fn run(agent: &Path) -> Result<Report, Box<dyn Error>> {
    let guidance = Guidance::connect(agent, Options::default())?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    morpheus::tokio::guide(&mut builder, &guidance);
    let tasks = (0..64).map(|_| async {
        let mut sum = 0_u64;
        for n in 0..1_000_000 {
            sum = std::hint::black_box(sum + n);
            if n % 1_000 == 0 {
                morpheus::tokio::checkpoint().await;
            }
        }
    });
    builder.build()?.block_on(async {
        for task in tasks.map(tokio::spawn).collect::<Vec<_>>() {
            task.await?;
        }
        Ok(guidance.report())
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{:#?}", run(Path::new("/run/morpheus.sock"))?);
    Ok(())
}
