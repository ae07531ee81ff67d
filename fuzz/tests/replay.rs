//! Every corpus file, and mutations of them, hold on stable Rust.
//!
//! Variables: `VYR_FUZZ_ROUNDS` mutations a target (a tenth of it for targets on files, as in the
//! default), `VYR_FUZZ_SEED` for other mutations, `VYR_FUZZ_TARGET` with `VYR_FUZZ_INPUT` for
//! [`one_input`]. A failure prints its own replay command.

use std::fs;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vyr_fuzz::mutate::{Random, mutate};
use vyr_fuzz::words::words;
use vyr_fuzz::{TARGETS, Target, target};

/// Mutations a target, so that all of this takes five to ten seconds on two cores, unoptimised.
const ROUNDS: u64 = 10_000;
const SEED: u64 = 1;
/// Targets that work on files, or prove plans, are slower by so much.
const FILE_COST: u64 = 10;
const ON_FILES: [&str; 11] = [
    "oci_layout",
    "oci_index",
    "oci_manifest",
    "blob_read",
    "import_tar",
    "import_graph",
    "round_trip",
    // Not on files, and as slow: each input is compiled and proven.
    "site_toml",
    "clients_toml",
    "contracts_toml",
    "plan_json",
];

/// One input may take so long: a thousand times what the slowest takes, so that only a loop whose
/// time grows with more than the input's length gets there.
const INPUT_TIME_MAX: Duration = Duration::from_secs(20);

macro_rules! targets {
    ($($name:ident)*) => {
        mod corpus {
            $(#[test] fn $name() { super::replay(stringify!($name)); })*
        }

        mod mutations {
            $(#[test] fn $name() { super::mutations(stringify!($name)); })*
        }

        #[test]
        fn every_target_is_tested() {
            let tested = [$(stringify!($name)),*];
            assert!(TARGETS.iter().map(|(name, _)| *name).eq(tested), "compare with TARGETS");
        }
    };
}

targets! {
    digest canonical_json units strict_json manifest wasm_config wasm_head referrer signature
    allowed_signers revoked_keys trust frontier checkpoint receipt oci_layout oci_index oci_manifest blob_read import_tar
    import_graph round_trip site_toml clients_toml contracts_toml vyr_lock plan_json plan_texts
    network_words bundle guest_frames guest_data guest_messages client_hello image_layers image_documents
    service_toml service_json refused_files services_plan secrets_file
}

fn replay(name: &str) {
    let target = target(name).expect("a target");
    let fails = |(path, input): (PathBuf, Vec<u8>)| {
        judge(target, &input).err().map(|why| format!("{why}\n{}", command(name, &path)))
    };
    let failures: Vec<String> = corpus(name).into_iter().filter_map(fails).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn mutations(name: &str) {
    let target = target(name).expect("a target");
    let rounds = number("VYR_FUZZ_ROUNDS", ROUNDS);
    let rounds = if ON_FILES.contains(&name) { rounds / FILE_COST } else { rounds };
    let corpus: Vec<_> = corpus(name).into_iter().map(|(_, input)| input).collect();
    if let Some(failure) = search(name, target, &corpus, rounds, number("VYR_FUZZ_SEED", SEED)) {
        panic!("{failure}");
    }
}

/// Mutates inputs of `name` until `target` fails; what to print then.
fn search(
    name: &str,
    target: Target,
    corpus: &[Vec<u8>],
    rounds: u64,
    seed: u64,
) -> Option<String> {
    let inputs: Vec<&[u8]> = corpus.iter().map(Vec::as_slice).collect();
    let words = words(name);
    let mut random = Random::new(seed, name);
    (1..=rounds).find_map(|round| {
        let input = mutate(&mut random, &inputs, &words);
        let why = judge(target, &input).err()?;
        let path = keep(name, &input);
        Some(format!("{why}\nround {round} of seed {seed}\n{}", command(name, &path)))
    })
}

/// Runs a target on one input; why it failed.
fn judge(target: Target, input: &[u8]) -> Result<(), String> {
    let started = Instant::now();
    catch_unwind(AssertUnwindSafe(|| target(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        text.unwrap_or_else(|| "a panic without a message".to_owned())
    })?;
    let took = started.elapsed();
    if took <= INPUT_TIME_MAX { Ok(()) } else { Err(format!("one input took {took:?}")) }
}

/// The files of a corpus, in order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|_| panic!("no corpus of {name}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort_unstable();
    let read = |path: PathBuf| {
        let input = fs::read(&path).expect("a file of the corpus");
        (path, input)
    };
    paths.into_iter().map(read).collect()
}

/// Writes a failing input where it stays.
fn keep(name: &str, input: &[u8]) -> PathBuf {
    let file = tempfile::Builder::new().prefix(&format!("vyr-fuzz-{name}-")).tempfile();
    let mut file = file.expect("a temporary file");
    file.write_all(input).expect("room for an input");
    file.into_temp_path().keep().expect("a file of our own")
}

fn command(name: &str, path: &Path) -> String {
    format!(
        "replay: VYR_FUZZ_TARGET={name} VYR_FUZZ_INPUT={} \
         cargo test -p vyr-fuzz --test replay -- --exact one_input --nocapture",
        path.display()
    )
}

fn number(variable: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number"))
}

/// The input a failure named; nothing without the variables.
#[test]
fn one_input() {
    let (Ok(name), Some(path)) =
        (std::env::var("VYR_FUZZ_TARGET"), std::env::var_os("VYR_FUZZ_INPUT"))
    else {
        return;
    };
    let target = target(&name).unwrap_or_else(|| panic!("no target {name}"));
    let input = fs::read(&path).expect("the file of VYR_FUZZ_INPUT");
    println!("{name}, {} bytes: {}", input.len(), input.escape_ascii());
    target(&input);
    println!("{name} holds");
}

/// Targets with a mistake that is not in the product: the search must find each.
mod seeded_defects {
    use std::path::PathBuf;

    use serde_json::Value;
    use vyr_artifact::{Signature, signed_bytes};
    use vyr_base::Digest;
    use vyr_fuzz::sections::{PARTS_MAX, linked, parts, split};
    use vyr_journal::{NodeKeys, Receipt, verify_receipt};

    /// Takes upper-case digits for a second spelling.
    fn lax_digest(input: &[u8]) {
        let Ok(text) = str::from_utf8(input) else { return };
        if let Ok(digest) = text.to_lowercase().parse::<Digest>() {
            assert_eq!(digest.to_string(), text, "a second spelling was taken");
        }
    }

    /// Keeps the last of two keys.
    fn last_key_wins(input: &[u8]) {
        if let Ok(Value::Object(fields)) = serde_json::from_slice(input) {
            let keys = input.split(|byte| *byte == b':').count() - 1;
            assert!(keys != 2 || fields.len() == 2, "a key is there twice");
        }
    }

    /// Believes any signature that can be read.
    fn trust_without_arithmetic(input: &[u8]) {
        let [signers, _, message, armored] = parts(input);
        if signers.starts_with(b"ana ") && Signature::parse(armored).is_ok() {
            let signed = signed_bytes(&Digest::of(b"artifact"));
            assert_eq!(message, signed, "another message was believed");
        }
    }

    /// Believes a receipt for its signature, whatever the proof.
    fn receipt_without_proof(input: &[u8]) {
        let [file, keys] = parts(input);
        let (Ok(receipt), Ok(keys)) = (Receipt::parse(file), NodeKeys::parse(keys)) else { return };
        let ended = receipt.stated().ended();
        if receipt.checkpoint().verify(&keys, ended).is_ok() {
            assert!(verify_receipt(file, &keys, true).is_ok(), "another event was believed");
        }
    }

    /// Follows links by name and forgets to compare sizes.
    fn sizes_unchecked(input: &[u8]) {
        let documents = linked(input);
        let Some((index, blobs)) = documents.split_last() else { return };
        let Ok(index) = serde_json::from_slice::<Value>(index) else { return };
        for entry in index["manifests"].as_array().into_iter().flatten() {
            let digest = entry["digest"].as_str().unwrap_or_default();
            let blob = blobs.iter().find(|blob| Digest::of(blob).to_string() == digest);
            if let (Some(blob), Some(size)) = (blob, entry["size"].as_u64()) {
                assert_eq!(blob.len() as u64, size, "a wrong size was believed");
            }
        }
    }

    /// Takes what comes for as much as it says it is.
    fn length_believed(input: &[u8]) {
        let mut left = input;
        while let Some((head, rest)) = left.split_at_checked(8).filter(|(h, _)| &h[..4] == b"vyrn")
        {
            let length = head[4..].iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
            assert!(
                length <= rest.len() || rest.is_empty(),
                "bytes that did not come were believed"
            );
            left = &rest[length.min(rest.len())..];
        }
    }

    /// Believes the lengths of a bundle's list.
    fn lengths_unchecked(input: &[u8]) {
        let [_, list, _] = parts(input);
        let Ok(list) = serde_json::from_slice::<Value>(list) else { return };
        let entries = list["entries"].as_array().into_iter().flatten();
        let bytes = entries.filter_map(|entry| entry["bytes"].as_u64());
        assert!(bytes.max() < Some(1 << 41), "a length was believed that no file has");
    }

    /// Believes the offsets that a guest names.
    fn offset_believed(input: &[u8]) {
        for payload in split(input, PARTS_MAX) {
            let Ok((offset, _, bytes)) = vyr_channel::parse_data(0, payload) else { return };
            assert!(offset.checked_add(bytes.len() as u64).is_some(), "an offset was believed");
        }
    }

    /// Takes the first record for the whole hello.
    fn one_record_only(input: &[u8]) {
        let [22, 3, _, a, b, 1, 0, c, d, ..] = *input else { return };
        let (record, message) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        assert!(record == 0 || record > message, "a piece of a hello was believed");
    }

    /// Takes every kind of entry that a layer's headers name.
    fn kinds_believed(input: &[u8]) {
        let [layer, ..] = parts::<3>(input);
        let headers = layer.chunks_exact(512).filter(|block| &block[257..262] == b"ustar");
        let mut kinds = headers.map(|header| header[156]);
        assert!(kinds.all(|kind| b"0123456xgLS".contains(&kind)), "an unknown kind was taken");
    }

    /// Takes a value that only looks like base64 for one that is.
    fn padding_believed(input: &[u8]) {
        let values = input.split(|byte| *byte == b'\n').filter_map(|line| {
            let line = str::from_utf8(line).ok()?;
            line.split_once("=base64:").map(|(_, value)| value.len())
        });
        let mut lengths = values;
        assert!(lengths.all(|length| length.is_multiple_of(4)), "padding was believed");
    }

    #[test]
    fn are_found_and_replayed() {
        let defects: [(&str, vyr_fuzz::Target); 11] = [
            ("digest", lax_digest),
            ("strict_json", last_key_wins),
            ("trust", trust_without_arithmetic),
            ("receipt", receipt_without_proof),
            ("import_graph", sizes_unchecked),
            ("network_words", length_believed),
            ("bundle", lengths_unchecked),
            ("guest_data", offset_believed),
            ("client_hello", one_record_only),
            ("image_layers", kinds_believed),
            ("secrets_file", padding_believed),
        ];
        for (name, defect) in defects {
            // What no mutation is needed for shows nothing about the search.
            let mut corpus: Vec<_> = super::corpus(name).into_iter().map(|(_, c)| c).collect();
            corpus.retain(|input| super::judge(defect, input).is_ok());
            let report = super::search(name, defect, &corpus, super::ROUNDS, super::SEED);
            let report = report.unwrap_or_else(|| panic!("{name}: the defect was not found"));
            let (_, rest) = report.split_once("VYR_FUZZ_INPUT=").expect("a replay command");
            let path = PathBuf::from(rest.split(' ').next().expect("a path"));
            let input = std::fs::read(&path).expect("the input was kept");
            assert!(super::judge(defect, &input).is_err(), "{name}: the input does not replay");
            std::fs::remove_file(path).expect("a file of this test");
        }
    }
}
