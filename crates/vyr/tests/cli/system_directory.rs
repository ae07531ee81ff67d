//! The system's data directory, by whatever name, has no development key and believes none.
//!
//! Everything happens in a mount namespace of the test's own, so that the machine's `/var/lib` is
//! neither read nor written.

use crate::common::{Ended, Place, VYR, guest, is_root, not_run};
use crate::judge::document;
use crate::trust::copy;

/// Runs a shell script in a private mount namespace with an empty `/var/lib` that holds `vyr`.
fn script(place: &Place, text: &str) -> Option<Ended> {
    let text = format!(
        "set -eu\nmount -t tmpfs -o mode=755 vyr-test /var/lib\nmkdir -m 700 /var/lib/vyr\n{text}"
    );
    let arguments = ["-m", "--propagation", "private", "sh", "-c", &text];
    let call = place.program("unshare", &arguments);
    let ended = call.env("VYR", VYR).env("GUEST", guest("hello.wasip1")).run();
    let refused = ended.stderr.contains("unshare failed") || ended.stderr.contains("mount: ");
    (!refused).then_some(ended)
}

#[test]
fn the_system_directory_has_no_development_key() {
    let test = "system_directory::the_system_directory_has_no_development_key";
    if !is_root(test) {
        return;
    }
    let place = Place::new();
    let Some(ended) = script(
        &place,
        r#"
        mkdir bound bound/fine
        ln -s /var/lib/vyr linked
        ln -s /var/lib parent
        mount --bind /var/lib/vyr bound
        try() { code=0; "$VYR" "$@" >out 2>err || code=$?; echo "$code"; cat err >&2; }
        try run "$GUEST"
        for name in /var/lib/vyr /var/lib/../lib/./vyr linked parent/vyr bound; do
            try --data-dir "$name" run "$GUEST"
            VYR_DATA_DIR=$name try run "$GUEST"
        done
        ls /var/lib/vyr/keys 2>&1 || true
        # The twin: any other directory has one.
        try --data-dir /var/lib/other run "$GUEST"
        ls /var/lib/other/keys
        "#,
    ) else {
        return not_run(test, "may not mount");
    };
    let ended = ended.ok();
    let lines: Vec<&str> = ended.text().lines().collect();
    assert_eq!(lines[..11], ["3"; 11], "{ended:?}");
    assert_eq!(lines[lines.len() - 3..], ["0", "dev", "dev.pub"], "{ended:?}");
    assert_eq!(lines[11..lines.len() - 3].iter().filter(|line| line.contains("dev")).count(), 0);
    assert!(ended.stderr.contains("nobody may sign here"), "{}", ended.stderr);
    assert!(ended.stderr.contains("vyr key trust"), "{}", ended.stderr);
}

/// Nor is one believed that was put there, with everything it signed.
#[test]
fn the_system_directory_believes_no_development_key() {
    let test = "system_directory::the_system_directory_believes_no_development_key";
    if !is_root(test) {
        return;
    }
    let place = Place::new();
    let json = place.vyr(&["run", &guest("hello.wasip1"), "--json"]).run().ok().json();
    let artifact = json["artifact_digest"].as_str().expect("a digest").to_owned();
    document(&place.data(), &artifact);
    copy(&place.data(), &place.path("copied"));
    let text = format!(
        r#"
        cp -a copied/. /var/lib/vyr/
        chmod 700 /var/lib/vyr
        code=0; "$VYR" run {artifact} || code=$?; echo $code
        code=0; "$VYR" run "$GUEST" || code=$?; echo $code
        "$VYR" key ls
        # The twins: the same directory elsewhere, and with a signer it trusts by name.
        mkdir -m 700 /var/lib/other
        cp -a copied/. /var/lib/other/
        "$VYR" --data-dir /var/lib/other run --quiet {artifact}
        "$VYR" key trust dev --principal somebody >trusted
        "$VYR" run --quiet {artifact}
        "#
    );
    let Some(ended) = script(&place, &text) else {
        return not_run(test, "may not mount");
    };
    let ended = ended.ok();
    let hello = "hello from vyr";
    assert_eq!(ended.text().lines().collect::<Vec<_>>(), ["3", "3", hello, hello], "{ended:?}");
    assert!(ended.stderr.contains("nobody may sign here"), "{}", ended.stderr);
}
