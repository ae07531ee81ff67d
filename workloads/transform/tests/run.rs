//! The whole transformation, from bytes to bytes.

use serde_json::{Value, json};
use transform::{Config, MAX_GROUPS, MAX_LINE_BYTES, run};

/// What cargo and dpkg really write, shortened.
const CARGO: &str = concat!(
    r#"{"reason":"compiler-artifact","package_id":"registry+https://x#memchr@2.8.0","target":{"kind":["lib"],"name":"memchr"},"profile":{"opt_level":"3","test":false},"features":["std","alloc"],"filenames":["/t/libmemchr.rlib"],"executable":null,"fresh":true}"#,
    "\n",
    r#"{"reason":"build-script-executed","package_id":"registry+https://x#libc@0.2.180","cfgs":[],"env":[],"out_dir":"/t/out"}"#,
    "\n",
    r#"{"reason":"compiler-message","message":{"rendered":"warning: \"x\"\n","level":"warning"}}"#,
    "\r\n",
    r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"hello"},"fresh":false}"#,
    "\n\n",
    r#"{"reason":"build-finished","success":true}"#,
);

fn transform(args: &[&str], input: impl AsRef<[u8]>) -> String {
    let config = Config::parse(args.iter().map(|arg| (*arg).to_owned())).expect("arguments");
    let mut out = Vec::new();
    run(input.as_ref(), &mut out, &config).expect("memory does not fail");
    String::from_utf8(out).expect("UTF-8")
}

/// The events written, and the summary.
fn parsed(args: &[&str], input: impl AsRef<[u8]>) -> (Vec<Value>, Value) {
    let out = transform(args, input);
    assert!(out.ends_with('\n'));
    let mut lines: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let summary = lines.pop().expect("a summary")["summary"].take();
    (lines, summary)
}

#[test]
fn by_default_everything_is_kept_in_order_and_as_written() {
    let out = transform(&[], "{\"z\" : 1.50, \"a\":\"\\u0041\" , \"a\":{ \"k\":[] }}\n{}\n");
    assert_eq!(
        out,
        concat!(
            r#"{"z":1.50,"a":"\u0041","a":{ "k":[] },"seq":1,"bytes":43}"#,
            "\n",
            r#"{"seq":2,"bytes":2}"#,
            "\n",
            r#"{"summary":{"events":2,"kept":2,"malformed":0,"oversized":0,"bytes_in":47,"#,
            r#""count_by":"reason","by":{"(none)":2}}}"#,
            "\n",
        )
    );
}

#[test]
fn cargo_messages_are_counted_by_reason() {
    let (events, summary) = parsed(&[], CARGO);
    assert_eq!(events.len(), 5);
    assert_eq!(events[0]["target"]["name"], "memchr");
    assert_eq!(
        events[4],
        json!({"reason": "build-finished", "success": true, "seq": 5, "bytes": 42})
    );
    let by = json!({
        "compiler-artifact": 2, "build-finished": 1, "build-script-executed": 1, "compiler-message": 1,
    });
    assert_eq!(summary["by"], by);
    assert!(transform(&[], CARGO).len() > CARGO.len() / 2);
}

#[test]
fn where_keep_and_add_compose() {
    let args = [
        "--where",
        "reason=compiler-artifact",
        "--where",
        "fresh!=false",
        "--keep",
        "target.kind.0,target.name,features.1,profile.absent,reason.x,executable",
        "--add",
        "build={\"id\":7}",
        "--add",
        "reason=replaced",
        "--count-by",
        "target.kind",
    ];
    let (events, summary) = parsed(&args, CARGO);
    let kept = json!({
        "target": {"kind": ["lib"], "name": "memchr"}, "features": ["alloc"], "executable": null,
        "build": {"id": 7}, "reason": "replaced", "seq": 1, "bytes": 252,
    });
    assert_eq!(events, [kept]);
    assert_eq!(summary["events"], 5);
    assert_eq!(summary["kept"], 1);
    assert_eq!(summary["by"], json!({"[\"lib\"]": 1}));
}

#[test]
fn an_absent_value_differs_from_every_value() {
    let (events, _) = parsed(&["--where", "success!=true"], CARGO);
    assert_eq!(events.len(), 4);
    let (events, _) = parsed(&["--where", "message.rendered=warning: \"x\"\n"], CARGO);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["seq"], 3);
}

#[test]
fn faults_are_counted_never_fatal() {
    let deep = "[".repeat(100_000);
    let input = [
        "{\"a\":1}",
        "not json",
        "[1]",
        "17",
        "{\"a\":1} x",
        "{\"a\":",
        "{\"a\":01}",
        "{\"a\":\"\t\"}",
        "{a:1}",
        "{\"a\":1,}",
        &deep,
        "   ",
        "{\"a\":2}",
    ];
    let mut input = input.join("\n").into_bytes();
    input.extend_from_slice(b"\n{\"a\":\"\xff\"}\n");
    let (events, summary) = parsed(&[], input);
    assert_eq!(events.len(), 2);
    assert_eq!(events[1], json!({"a": 2, "seq": 12, "bytes": 7}));
    assert_eq!(summary["malformed"], 11);
    assert_eq!(summary["events"], 2);
}

#[test]
fn deep_nesting_in_an_event_is_no_recursion() {
    let line = format!("{{\"a\":{}1{}}}", "[".repeat(300_000), "]".repeat(300_000));
    let (_, summary) = {
        // Too deep for `Value`, so only the last line is parsed.
        let out = transform(&["--count-by", "a.0.x"], &line);
        let last = out.lines().last().unwrap().to_owned();
        (out, serde_json::from_str::<Value>(&last).unwrap()["summary"].take())
    };
    assert_eq!(summary["kept"], 1);
}

#[test]
fn oversized_lines_are_left_out_and_numbered() {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_LINE_BYTES));
    let most = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_LINE_BYTES - 8));
    assert_eq!(most.len(), MAX_LINE_BYTES);
    let (events, summary) = parsed(&[], format!("{long}\n{most}\n{long}"));
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["seq"], &events[0]["bytes"]), (&json!(2), &json!(MAX_LINE_BYTES)));
    assert_eq!((&summary["oversized"], &summary["events"]), (&json!(2), &json!(1)));
}

#[test]
fn groups_are_bounded_and_the_largest_come_first() {
    let mut input = String::new();
    for group in 0..MAX_GROUPS + 50 {
        for _ in 0..=usize::from(group == 77) {
            input += &format!("{{\"k\":\"g{group:05}\",\"n\":2}}\n");
        }
    }
    input += "{\"k\":\"(other)\",\"n\":2}\n";
    let out = transform(&["--count-by", "k", "--sum", "n"], &input);
    let last = out.lines().last().unwrap();
    assert!(last.contains(r#""by":{"g00077":2,"g00000":1,"g00001":1,"#), "{last}");
    let summary: Value = serde_json::from_str(last).unwrap();
    let by = summary["summary"]["by"].as_object().unwrap();
    assert_eq!(by.len(), 101);
    assert_eq!(by["(other)"], MAX_GROUPS + 50 + 1 - 100);
    assert_eq!(by.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), 4096 + 52);
    assert_eq!(summary["summary"]["sum"]["total"], 2 * (4096 + 52));
}

#[test]
fn long_group_names_are_cut_between_characters() {
    let line = format!("{{\"k\":\"x{}\"}}", "é".repeat(1000));
    let (_, summary) = parsed(&["--count-by", "k"], line);
    let name = format!("x{}", "é".repeat(127));
    assert_eq!(summary["by"], json!({ name: 1 }));
}

#[test]
fn sums_are_exact_for_integers() {
    let input = concat!(
        "{\"n\":9007199254740993}\n{\"n\":-1}\n{\"n\":\"5\"}\n{\"n\":null}\n{}\n",
        "{\"n\":9223372036854775807}\n",
    );
    let (_, summary) = parsed(&["--sum", "n"], input);
    let total = "9232379236109516799".parse::<u64>().unwrap();
    let expected = json!({"path": "n", "values": 3, "total": total, "by": {"(none)": total}});
    assert_eq!(summary["sum"], expected);

    // Past the largest float: passed on as written, and not a number that can be added.
    let out = transform(&["--sum", "n"], "{\"n\":1}\n{\"n\":2.5e0}\n{\"n\":1e999}\n");
    assert!(out.contains("{\"n\":1e999,"), "{out}");
    assert!(out.contains(r#""values":2,"total":3.5,"#), "{out}");
}

#[test]
fn names_of_our_own_replace_those_of_the_input() {
    let (events, _) =
        parsed(&["--add", "a=1"], r#"{"seq":"x","a":0,"bytes":9,"\u0061":3,"b\"":4}"#);
    assert_eq!(events, [json!({"b\"": 4, "a": 1, "seq": 1, "bytes": 46})]);
}

#[test]
fn no_input_is_a_summary() {
    let (events, summary) = parsed(&[], "");
    assert!(events.is_empty());
    assert_eq!((&summary["events"], &summary["by"]), (&json!(0), &json!({})));
}

#[test]
fn an_output_that_fails_is_an_error() {
    let full = std::io::Cursor::new([0_u8; 10]);
    assert!(run(CARGO.as_bytes(), full, &Config::default()).is_err());
}
