//! Changes of `scale`: one number, and every other byte as it was.

use vyr_base::{Category, Problem, Source};
use vyr_plan::Files;
use vyr_plan::intent::{ScaleEditError, ScaleEdited, edit_scale};

use crate::shop::{files, texts};

fn name(text: &str) -> vyr_plan::intent::Name {
    text.parse().expect("a name")
}

/// The worked site with another text of web.
fn with(web: &str) -> Files {
    let mut texts = texts();
    texts.insert("services/web.toml".into(), web.to_owned());
    files(&texts)
}

fn scaled(text: &str, count: u8) -> ScaleEdited {
    edit_scale(&with(text), &name("web"), &name("http"), count)
        .unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn count(text: &str) -> u8 {
    let read = vyr_service::manifest::read("web", &Source::new("services/web.toml", text));
    read.unwrap_or_else(|faults| panic!("{}\n{text}", faults[0])).manifest.processes[&name("http")]
        .scale
}

/// A manifest in which a process is declared in one way of many, with a comment in every place.
fn declared(process: &str) -> String {
    format!(
        "# of web\nversion = 1 # one\nimage.ref = \"registry.example/shop/web:2.4\"\n\
         secrets.none = true\n{process}# the end, [processes.http] scale = {{ min = 7 }}\n"
    )
}

/// A form of a process, and what it becomes with three instances.
const FORMS: &[(&str, &str)] = &[
    // The number is there.
    ("scale = { min = 2 } # two", "scale = { min = 3 } # two"),
    ("scale = {min=2,max=2}", "scale = {min=3,max=3}"),
    ("scale.min = 2", "scale.min = 3"),
    ("scale.max = 2\nscale.min = 2", "scale.max = 3\nscale.min = 3"),
    ("[processes.http.scale] # why\nmin = 2 # two", "[processes.http.scale] # why\nmin = 3 # two"),
    ("  [processes.http.scale]\n  \"min\" = 2", "  [processes.http.scale]\n  \"min\" = 3"),
    // One number of the two.
    ("scale = { max = 1 }", "scale = { max = 3, min = 3 }"),
    ("scale.max = 1 # one", "scale.max = 3 # one\nscale.min = 3"),
    ("[processes.http.scale]\nmax = 1", "[processes.http.scale]\nmax = 3\nmin = 3"),
    // A table without a number.
    ("scale = {}", "scale = { min = 3 }"),
    ("[processes.http.scale] # none", "[processes.http.scale] # none\nmin = 3"),
];

/// The whole of a process without any `scale`, and what it becomes.
const WHOLE: &[(&str, &str)] = &[
    (
        "[processes.http] # here\nresources.memory = \"1Gi\"\n",
        "[processes.http] # here\nscale = { min = 3 }\nresources.memory = \"1Gi\"\n",
    ),
    (
        "[processes]\n  [processes.http]\n  resources.memory = \"1Gi\"\n",
        "[processes]\n  [processes.http]\n  scale = { min = 3 }\n  resources.memory = \"1Gi\"\n",
    ),
    (
        "[processes.http.resources]\nmemory = \"1Gi\"\n",
        "[processes.http.scale]\nmin = 3\n\n[processes.http.resources]\nmemory = \"1Gi\"\n",
    ),
    (
        "[processes.\"http\"]\nresources.memory = \"1Gi\"\n",
        "[processes.\"http\"]\nscale = { min = 3 }\nresources.memory = \"1Gi\"\n",
    ),
    (
        "[processes]\nhttp = { resources = { memory = \"1Gi\" } }\n",
        "[processes]\nhttp = { scale = { min = 3 }, resources = { memory = \"1Gi\" } }\n",
    ),
    (
        "[processes]\n http.resources.memory = \"1Gi\"\n",
        "[processes]\n http.scale.min = 3\n http.resources.memory = \"1Gi\"\n",
    ),
    (
        "processes.http.resources = { memory = \"1Gi\" }\n",
        "processes.http.scale.min = 3\nprocesses.http.resources = { memory = \"1Gi\" }\n",
    ),
    (
        "processes = { http.resources.memory = \"1Gi\" }\n",
        "processes = { http.scale.min = 3, http.resources.memory = \"1Gi\" }\n",
    ),
    (
        "[processes.other]\nresources.memory = \"1Gi\"\n[processes.http]\nresources.memory = \"1Gi\"\n",
        "[processes.other]\nresources.memory = \"1Gi\"\n[processes.http]\nscale = { min = 3 }\n\
         resources.memory = \"1Gi\"\n",
    ),
];

#[test]
fn every_form_takes_a_number_and_keeps_every_other_byte() {
    let of = |scale: &str| {
        declared(&format!("[processes.http]\nresources.memory = \"1Gi\" # much\n{scale}\n"))
    };
    let mut cases: Vec<(String, String)> =
        FORMS.iter().map(|(from, to)| (of(from), of(to))).collect();
    cases.extend(WHOLE.iter().map(|(from, to)| (declared(from), declared(to))));
    for (from, to) in cases {
        let before = count(&from);
        let edited = scaled(&from, 3);
        assert_eq!(edited.text, to);
        assert_eq!((edited.before, edited.file.as_str()), (before, "services/web.toml"));
        assert_eq!(count(&to), 3);
        // And in the lines of another system.
        let (from, to) = (from.replace('\n', "\r\n"), to.replace('\n', "\r\n"));
        assert_eq!(scaled(&from, 3).text, to);
        // The same number again: nothing.
        assert_eq!(scaled(&to, 3), ScaleEdited { before: 3, text: to.clone(), ..edited.clone() });
        assert_eq!(count(&scaled(&to, 0).text), 0);
        assert_eq!(count(&scaled(&to, 100).text), 100);
    }
}

#[test]
fn what_is_not_there_is_refused_with_what_there_is() {
    let site = files(&texts());
    let refused = |service: &str, process: &str, count| {
        let error = edit_scale(&site, &name(service), &name(process), count).expect_err("refused");
        (error.category(), error.hint().expect("a hint"), error)
    };
    let (category, hint, _) = refused("shop", "http", 1);
    assert_eq!((category, hint.as_str()), (Category::NotFound, "there is db, web"));
    let (category, hint, _) = refused("web", "htpp", 1);
    assert_eq!((category, hint.as_str()), (Category::NotFound, "there is http, worker"));
    // More than a process has is a rule of manifests, and what breaks one is never written.
    let (category, hint, error) = refused("web", "http", 101);
    assert!(matches!(error, ScaleEditError::Form { .. }) && category == Category::Usage, "{error}");
    assert!(hint.contains("[processes.http]"), "{hint}");
    let broken = with("version = 1\n[processes.http]\n");
    let error = edit_scale(&broken, &name("web"), &name("http"), 1).expect_err("faults");
    let ScaleEditError::Faults(faults) = &error else { panic!("{error}") };
    assert!(faults.len() > 1 && error.category() == Category::Usage, "{error}");
}
