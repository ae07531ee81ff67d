//! What is no image, or not for this machine: each with its message and what to do instead.

use std::fs;

use serde_json::{Value, json};
use vyr_base::{Category, Problem};
use vyr_vm::image::{
    Compression, Limits, ManifestError, PullError, Reason, Selected, Silent, Source, select,
};

use crate::maker::{Layout, PLAIN, file, plain_image, tar};
use crate::place::Place;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn blob(media_type: &str, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": DIGEST, "size": size})
}

fn image(layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": blob(CONFIG, 2), "layers": layers})
}

fn read(document: &Value) -> Result<Selected, ManifestError> {
    select(document.to_string().as_bytes(), &Limits::default())
}

fn refused(document: &Value, what: &str) -> ManifestError {
    let refused = read(document).expect_err(what);
    assert!(refused.to_string().contains(what), "{refused}");
    assert_eq!(refused.category(), Category::Usage);
    assert!(refused.hint().is_some(), "{refused}");
    refused
}

#[test]
fn layers_of_other_kinds_are_refused() {
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let error = refused(&image(&[blob(PLAIN, 1), blob(foreign, 1)]), "layer 1 is a foreign layer");
    assert_eq!(error.reason(), Some(Reason::ImageLayerInvalid));
    let mut elsewhere = blob(PLAIN, 1);
    elsewhere["urls"] = json!(["https://x.example"]);
    refused(&image(&[elsewhere]), "foreign layer");
    refused(&image(&[blob(&format!("{PLAIN}+encrypted"), 1)]), "is encrypted");
    refused(&image(&[blob("application/zip", 1)]), "application/zip");
    refused(&image(&[blob("application/wasm", 1)]), "application/wasm");
    // The twin.
    let kinds = [PLAIN, "application/vnd.docker.image.rootfs.diff.tar.gzip"];
    let layers: Vec<Value> = kinds.iter().map(|kind| blob(kind, 1)).collect();
    let Selected::Image(taken) = read(&image(&layers)).expect("taken") else { panic!("an image") };
    assert_eq!(taken.layers[1].1, Compression::Gzip);
}

#[test]
fn what_is_no_image_is_refused() {
    refused(&json!({"schemaVersion": 1, "fsLayers": [], "history": []}), "schema 1");
    refused(&json!({"schemaVersion": 1, "manifests": "odd"}), "schema 1");
    let helm = "application/vnd.cncf.helm.config.v1+json";
    let chart = json!({"schemaVersion": 2, "config": blob(helm, 2), "layers": []});
    refused(&chart, "helm");
    refused(&json!({"schemaVersion": 2}), "no container image");
    let both =
        json!({"schemaVersion": 2, "manifests": [], "config": blob(CONFIG, 2), "layers": []});
    refused(&both, "no container image");
    for text in ["", "[]", "{", "null", "{\"layers\": 3}"] {
        let error = select(text.as_bytes(), &Limits::default()).expect_err(text);
        assert_eq!(error.category(), Category::Usage, "{text}");
    }
    let odd = json!({"schemaVersion": 2, "config": blob(CONFIG, 2), "layers": [{"digest": "md5:x", "size": 1}]});
    assert!(matches!(read(&odd), Err(ManifestError::Json(_))));
}

#[test]
fn too_much_is_refused_before_it_is_fetched() {
    let layers: Vec<Value> = (0..129).map(|_| blob(PLAIN, 1)).collect();
    let error = refused(&image(&layers), "128 layers");
    assert_eq!(error.reason(), Some(Reason::ImageTooLarge));
    read(&image(&layers[..128])).expect("128 are taken");
    refused(&image(&[blob(PLAIN, 11 << 30)]), "bytes");
    refused(&image(&[blob(PLAIN, u64::MAX), blob(PLAIN, u64::MAX)]), "bytes");
    let mut fat = image(&[]);
    fat["config"]["size"] = json!(5 << 20);
    refused(&fat, "bytes of config");
}

#[test]
fn an_index_gives_the_image_for_this_machine() {
    let entry = |digest: char, os: &str, architecture: &str, variant: Option<&str>| {
        let digest = format!("sha256:{}", digest.to_string().repeat(64));
        json!({"mediaType": MANIFEST, "digest": digest, "size": 3, "platform":
            {"os": os, "architecture": architecture, "variant": variant}})
    };
    let index = |manifests: &[Value]| json!({"schemaVersion": 2, "manifests": manifests});
    let chosen = |manifests: &[Value]| match read(&index(manifests)) {
        Ok(Selected::Of(descriptor)) => descriptor.digest.hex().chars().next(),
        _ => None,
    };
    let other = entry('1', "linux", "arm64", None);
    let newer = entry('2', "linux", "amd64", Some("v3"));
    let ours = entry('3', "linux", "amd64", None);
    let second = entry('4', "linux", "amd64", None);
    let all = [other.clone(), newer.clone(), ours.clone(), second.clone()];
    assert_eq!(chosen(&all), Some('3'));
    assert_eq!(chosen(&[second, ours, newer.clone()]), Some('4'));
    assert_eq!(chosen(&[other.clone(), newer]), Some('2'));
    refused(&index(&[other]), "linux/arm64");
    refused(&index(&[]), "none at all");
}

#[test]
fn a_directory_that_is_no_layout_says_what_it_is() {
    let place = Place::new();
    let pull = |name: &str| {
        let path = place.path(name);
        let source = Source::Layout(&path, None);
        place.images.pull(&source, &Limits::default(), &Silent).expect_err(name)
    };
    assert_eq!(pull("missing").category(), Category::NotFound);
    for (name, content, what) in [
        ("context", "Dockerfile", "a build context"),
        ("docker", "manifest.json", "an unpacked docker archive"),
        ("some", "x", "some directory"),
    ] {
        fs::create_dir(place.path(name)).expect("a directory");
        fs::write(place.path(name).join(content), "{}").expect("a file");
        let error = pull(name);
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("skopeo copy")), "{error}");
    }
    fs::write(place.path("image.tar"), "x").expect("a file");
    assert!(pull("image.tar").to_string().contains("a file"));
}

#[test]
fn a_layout_is_checked_like_a_registry() {
    let limits = Limits::default();
    let place = Place::new();
    let root = place.path("layout");
    let image = plain_image(&root, &[vec![file("a", b"first")], vec![file("b", b"second")]]);
    let pull = || place.images.pull(&Source::Layout(&root, None), &limits, &Silent);
    let layer = vyr_base::Digest::of(&tar(&[file("b", b"second")]));
    let path = root.join("blobs/sha256").join(layer.hex());
    let bytes = fs::read(&path).expect("a layer");
    let with = |changed: &[u8]| {
        fs::write(&path, changed).expect("a file");
        pull().expect_err("refused")
    };
    let mut other = bytes.clone();
    other[600] ^= 1;
    let error = with(&other);
    assert!(error.to_string().starts_with("what came for"), "{error}");
    assert_eq!(error.reason(), Some(Reason::ImageLayerInvalid));
    assert!(with(&bytes[..900]).to_string().contains("less than"));
    assert!(with(&[&bytes[..], b"x"].concat()).to_string().contains("more than"));
    // A link to somewhere else is no blob.
    fs::write(place.path("elsewhere"), &bytes).expect("a file");
    fs::remove_file(&path).expect("there");
    std::os::unix::fs::symlink(place.path("elsewhere"), &path).expect("a link");
    assert!(matches!(pull().expect_err("a link"), PullError::Blob(_)));
    // None of it became an image.
    let shown = place.images.show(&image, &limits).expect_err("no image");
    assert_eq!(shown.category(), Category::NotFound, "{shown}");
    fs::remove_file(&path).expect("there");
    fs::write(&path, &bytes).expect("a file");
    assert_eq!(pull().expect("whole").layers, 2);
    place.images.show(&image, &limits).expect("an image");
    assert_eq!(pull().expect("again").fetched_bytes, 0);
    assert_eq!(place.files("partial"), Vec::<String>::new());
}

#[test]
fn a_layout_with_several_images_wants_to_know_which() {
    let place = Place::new();
    let root = place.path("layout");
    let layout = Layout::new(&root);
    let tar = tar(&[file("a", b"")]);
    let one = layout.image(&json!({"Cmd": ["1"]}), &[(tar.clone(), tar.clone(), PLAIN)]);
    let two = layout.image(&json!({"Cmd": ["2"]}), &[(tar.clone(), tar, PLAIN)]);
    let first = layout.finish(&[("one", &one), ("two", &two)]);
    let pull =
        |digest| place.images.pull(&Source::Layout(&root, digest), &Limits::default(), &Silent);
    let error = pull(None).expect_err("two");
    assert!(error.hint().is_some_and(|hint| hint.contains(&first.to_string())), "{error}");
    assert_eq!(pull(Some(first)).expect("the first").digest, first);
}
