//! Processes of a node that are killed at points of a rollout, while clients come and go: it ends once and
//! well, nobody is refused or cut, and one machine is left for the slot.
//!
//! The points are seen from outside: in what the node writes on its disk before it goes on, and in what it
//! shows. Some processes are stopped first, so that the kill meets them in the midst of what they were asked.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::house::{HANG, House, Load, is_able_here};

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What it has looked for, once it is there.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + HANG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "it did not come to this: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn signal(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("it is there");
}

/// The one process of the node with this word on its command line.
fn only(house: &House, word: &str) -> Pid {
    until(word, || match house.processes(word)[..] {
        [pid] => Some(pid),
        _ => None,
    })
}

/// Kills it, and says which it was.
fn kill(house: &House, word: &str) -> Pid {
    let pid = only(house, word);
    signal(pid, Signal::KILL);
    pid
}

/// There is another one in its place.
fn is_replaced(house: &House, word: &str, killed: Pid) {
    until(word, || (only(house, word) != killed).then_some(()));
}

/// The site wants this version. Connections of the one before may take their time to end.
fn wants(house: &House, version: &str) {
    house.web(version, "/healthz", false);
    let file = house.path("site/services/web.toml");
    let text = fs::read_to_string(&file).expect("it was written");
    fs::write(file, text.replace("\ngrace_seconds = 2\n", "\ngrace_seconds = 60\n")).expect("room");
}

/// What the node shows; none: it does not answer.
fn shown(house: &House) -> Option<Value> {
    let listed = house.vyr(&["ps", "--json"], "").ok()?;
    Some(serde_json::from_str(&listed).expect("JSON"))
}

fn instances(listed: &Value) -> &[Value] {
    listed["slots"][0]["instances"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Machines that the node has directories of.
fn machines(house: &House) -> BTreeSet<String> {
    let entries = fs::read_dir(house.path("data/machines")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.len() == 16 && !name.starts_with('.')).collect()
}

/// The VMM of an instance, if it runs.
fn vmm(house: &House, instance: &str) -> Option<Pid> {
    let record = fs::read(house.path(&format!("data/machines/{instance}/machine.json"))).ok()?;
    let record: Value = serde_json::from_slice(&record).ok()?;
    let pid = Pid::from_raw(i32::try_from(record["pid"].as_i64()?).ok()?)?;
    house.processes("qemu-system").contains(&pid).then_some(pid)
}

fn events(house: &House) -> Vec<Value> {
    let listed = house.vyr(&["events", "--json"], "").expect("a journal");
    listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A rollout that goes on, and what was there before it.
struct Rollout<'a> {
    version: &'a str,
    deploy: Child,
    load: Load,
    plan: Vec<u8>,
    machines: BTreeSet<String>,
    events: usize,
}

/// How it went for those who had to do with it.
struct Went {
    /// The exit code of `vyr deploy`, and what it said.
    code: Option<i32>,
    said: String,
    /// Clients that were refused or cut.
    failed: u32,
    /// Who serves now.
    instance: String,
}

impl<'a> Rollout<'a> {
    fn begin(house: &House, version: &'a str) -> Self {
        wants(house, version);
        let plan = fs::read(house.path("data/services/plan.json")).expect("the plan before");
        let (machines, events, load) = (machines(house), events(house).len(), house.load());
        let mut command = house.command(&["deploy", "--key", &house.key(), "--plain-http"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let deploy = house.space().inside(|| command.spawn()).expect("it starts");
        Self { version, deploy, load, plan, machines, events }
    }

    /// The plan was taken, and nothing else is written down of it.
    fn is_taken(&self, house: &House) {
        let plan = house.path("data/services/plan.json");
        until("a plan that is taken", || {
            fs::read(&plan).is_ok_and(|now| now != self.plan).then_some(())
        });
    }

    /// The new instance has a machine, which is being started.
    fn has_machine(&self, house: &House) -> String {
        until("a new machine", || machines(house).difference(&self.machines).next().cloned())
    }

    /// Its VMM runs.
    fn boots(&self, house: &House) -> Pid {
        let instance = self.has_machine(house);
        until("a VMM", || vmm(house, &instance))
    }

    /// Somebody is in this state who is new, or was there.
    fn is(&self, house: &House, state: &str, new: bool) {
        until(state, || {
            let listed = shown(house)?;
            let is_it = |of: &&Value| {
                let id = of["instance"].as_str().expect("an id");
                of["state"] == state && self.machines.contains(id) != new
            };
            instances(&listed).iter().find(is_it).map(drop)
        });
    }

    /// Waits for the end of it.
    fn end(mut self, house: &House) -> Went {
        let status = until("the end of vyr deploy", || self.deploy.try_wait().expect("it is ours"));
        let (code, mut said) = (status.code(), String::new());
        let stderr = self.deploy.stderr.as_mut().expect("it is piped");
        stderr.read_to_string(&mut said).expect("UTF-8");
        if code != Some(0) {
            // It says that it does not know the end, and what to do.
            assert_eq!(code, Some(6), "{said}");
            assert!(said.contains("the node hung up") && said.contains("vyr ps --why"), "{said}");
            if said.contains("run it again") {
                house.deploy();
            }
        }
        let instance = until("one instance that serves", || {
            let listed = shown(house)?;
            let [only] = instances(&listed) else { return None };
            let is_over = listed["deploying"].is_null() && listed["slots"][0]["because"].is_null();
            (is_over && only["serving"] == true).then(|| only["instance"].clone())
        });
        let instance = instance.as_str().expect("an id").to_owned();
        // What was replaced has ended, and what did not come up: this one's machine is there.
        until("one machine", || {
            let own = vmm(house, &instance)?;
            (house.processes("qemu-system") == [own]).then_some(())
        });
        let (answers, failed) = self.load.end();
        assert!(answers > 0, "nobody was there to see");
        assert_eq!(house.get("/"), format!("version {}\n", self.version));
        // In the journal it has begun once and ended once, well.
        let all = events(house);
        let of = |event: &str| -> Vec<&Value> {
            let since = all[self.events..].iter().map(|of| &of["body"]);
            since.filter(|of| of["event"] == event).map(|of| &of["payload"]).collect()
        };
        let begun: Vec<&Value> = of("deploy.begun").iter().map(|of| &of["deploy"]).collect();
        let ended = of("deploy.ended");
        let ended = ended.iter().map(|of| &of["predicate"]["deploy"]);
        let ended: Vec<(&Value, &Value)> =
            ended.map(|of| (&of["deploy"], &of["outcome"])).collect();
        let succeeded = Value::from("succeeded");
        assert!(begun.len() == 1 && ended == [(begun[0], &succeeded)], "{begun:?} {ended:?}");
        Went { code, said, failed, instance }
    }
}

/// The rest of a request that was begun is answered, whole.
fn is_answered(mut client: TcpStream, version: &str) {
    client.write_all(b"\r\n").expect("it is open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer to its end");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    assert_eq!(head.split(' ').nth(1), Some("200"), "{answer}");
    assert_eq!(length.and_then(|length| length.parse().ok()), Some(body.len()), "{answer}");
    assert_eq!(body, format!("version {version}\n"));
}

#[test]
fn a_node_that_is_killed_in_a_rollout_ends_it_once_and_nobody_is_cut() {
    let test = "services::kills::a_node_that_is_killed_in_a_rollout_ends_it_once_and_nobody_is_cut";
    let Some(mut house) = is_able_here(test) else { return };
    wants(&house, "v1");
    house.deploy();

    // The plan is taken, and nothing has begun.
    let rollout = Rollout::begin(&house, "v2");
    rollout.is_taken(&house);
    house.kill_node();
    house.start_node();
    let went = rollout.end(&house);
    assert_eq!((went.code, went.failed), (Some(6), 0), "{}", went.said);

    // The new instance boots.
    let rollout = Rollout::begin(&house, "v1");
    rollout.boots(&house);
    house.kill_node();
    house.start_node();
    let went = rollout.end(&house);
    assert_eq!((went.code, went.failed), (Some(6), 0), "{}", went.said);

    // It is ready, and the old one has a client left: they have the same end.
    let client = house.half_a_request();
    let rollout = Rollout::begin(&house, "v2");
    rollout.is(&house, "draining", false);
    house.kill_node();
    house.start_node();
    is_answered(client, "v1");
    let went = rollout.end(&house);
    assert_eq!(went.failed, 0, "{}", went.said);
}

#[test]
fn an_api_that_is_killed_in_a_rollout_takes_over_what_it_began() {
    let test = "services::kills::an_api_that_is_killed_in_a_rollout_takes_over_what_it_began";
    let Some(house) = is_able_here(test) else { return };
    wants(&house, "v1");
    house.deploy();

    // As the new instance becomes ready.
    let rollout = Rollout::begin(&house, "v2");
    rollout.is(&house, "ready", true);
    let killed = kill(&house, "__api");
    is_replaced(&house, "__api", killed);
    let went = rollout.end(&house);
    assert_eq!(went.failed, 0, "{}", went.said);

    // It has ordered a machine and is held up: that one comes up without it. Its successor, which is not
    // told that by any file of its own, finds it, and starts no other.
    let rollout = Rollout::begin(&house, "v1");
    let instance = rollout.has_machine(&house);
    let api = only(&house, "__api");
    signal(api, Signal::STOP);
    let log = house.path(&format!("data/machines/{instance}/log"));
    until("a guest that is asked how it is", || {
        let log = fs::read(&log).unwrap_or_default();
        String::from_utf8_lossy(&log).contains("response:200").then_some(())
    });
    signal(api, Signal::KILL);
    is_replaced(&house, "__api", api);
    let went = rollout.end(&house);
    assert_eq!((went.code, went.failed), (Some(6), 0), "{}", went.said);
    assert_eq!(went.instance, instance);
}

#[test]
fn a_part_that_is_killed_in_a_rollout_is_started_again_and_the_rollout_goes_on() {
    let test = "services::kills::a_part_that_is_killed_in_a_rollout_is_started_again_and_the_rollout_goes_on";
    let Some(house) = is_able_here(test) else { return };
    wants(&house, "v1");
    house.deploy();
    // Nobody hears of it but the node.
    let goes_on = |rollout: Rollout<'_>| {
        let went = rollout.end(&house);
        assert_eq!((went.code, went.failed), (Some(0), 0), "{}", went.said);
    };

    // `images`, asked for an image that it does not have.
    let images = only(&house, "__images");
    signal(images, Signal::STOP);
    let rollout = Rollout::begin(&house, "v2");
    until("an image that is fetched", || {
        let listed = shown(&house)?;
        (listed["slots"][0]["because"] == "fetches_image").then_some(())
    });
    signal(images, Signal::KILL);
    is_replaced(&house, "__images", images);
    goes_on(rollout);

    // `net`, asked for the link of the new instance.
    let net = only(&house, "__net");
    signal(net, Signal::STOP);
    let rollout = Rollout::begin(&house, "v1");
    until("a machine that is started", || {
        let listed = shown(&house)?;
        (listed["slots"][0]["because"] == "starts_machine").then_some(())
    });
    signal(net, Signal::KILL);
    is_replaced(&house, "__net", net);
    goes_on(rollout);

    // `machines`, as the new instance boots.
    let rollout = Rollout::begin(&house, "v2");
    rollout.boots(&house);
    let machines = kill(&house, "__machines");
    is_replaced(&house, "__machines", machines);
    goes_on(rollout);

    // The VMM of the new instance: another one boots.
    let rollout = Rollout::begin(&house, "v1");
    let (instance, vmm) = (rollout.has_machine(&house), rollout.boots(&house));
    signal(vmm, Signal::KILL);
    let went = rollout.end(&house);
    assert_eq!((went.code, went.failed), (Some(0), 0), "{}", went.said);
    assert_ne!(went.instance, instance);

    // The ingress, as the new instance becomes ready. Its own clients are cut, and who comes before the next
    // one is there is refused; nobody else is, and it ends as well.
    let rollout = Rollout::begin(&house, "v2");
    rollout.is(&house, "ready", true);
    house.kill_ingress();
    house.until_served();
    let went = rollout.end(&house);
    assert_eq!(went.code, Some(0), "{}", went.said);
    let load = house.load();
    for _ in 0..20 {
        assert_eq!(house.get("/"), "version v2\n");
    }
    assert_eq!(load.end().1, 0);
}

#[test]
fn a_request_that_was_begun_before_the_node_was_killed_is_answered() {
    let test = "services::kills::a_request_that_was_begun_before_the_node_was_killed_is_answered";
    let Some(mut house) = is_able_here(test) else { return };
    wants(&house, "v1");
    house.deploy();
    // One that has its end while there is no node, and one that outlives it.
    let [meanwhile, later] = [house.half_a_request(), house.half_a_request()];
    house.kill_node();
    is_answered(meanwhile, "v1");
    house.start_node();
    is_answered(later, "v1");
}
