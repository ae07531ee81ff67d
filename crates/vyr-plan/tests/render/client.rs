//! What devices are given.

use vyr_base::{Category, Problem, Source};
use vyr_plan::Plan;
use vyr_plan::render::{self, Form, KeyUse, PrivateKey, RenderError};

use crate::common;

/// Of two pairs, one of them of RFC 7748, 6.1; `wg pubkey` agrees on both.
const ANA: (&str, &str) = (
    "dwdtCnMYpX08FsFyUbJmRcbbHf9aPyfy2PL00dHmzSo=",
    "07LbRaAAHPn4GbVzSk/9+zmKvGfIpNCQEiMCynu4Th8=",
);
const BEN: (&str, &str) = (
    "XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=",
    "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=",
);

fn key(pair: (&str, &str)) -> PrivateKey {
    PrivateKey::parse(pair.0).expect("a private key")
}

/// The worked site, where Ana's laptop and Ben's laptop (staged) have keys that are known here.
fn office() -> Plan {
    let mut files = common::files();
    let clients = files.clients.as_ref().expect("there are clients").text();
    let clients = clients
        .replace("3UEkAPfmTyV9IYaqPii/uisqPz7I1hjVXsTa7na2kE4=", ANA.1)
        .replace("V5WSZ31kjM7KV6zrM1LDJAQOPwEC1HrNzfU4T7nuVFs=", BEN.1);
    files.clients = Some(Source::new("clients.toml", clients));
    common::plan(&common::read(files), None).1
}

fn text(plan: &Plan, id: &str, key: &PrivateKey, form: Form, name: &str) -> String {
    let files = render::client(plan, id, None, key, form).expect("it renders");
    let file = files.into_iter().find(|file| file.name == name).expect("the file is there");
    String::from_utf8(file.bytes.to_vec()).expect("text")
}

macro_rules! golden {
    ($($test:ident: $id:literal $pair:ident $form:ident $file:literal;)*) => { $(
        #[test]
        fn $test() {
            let golden = include_str!(concat!("../golden/clients/", $id, "/", $file));
            let found = text(&office(), $id, &key($pair), Form::$form, $file);
            assert!(found == golden, "{} of {} has changed to:\n{found}", $file, $id);
        }
    )* };
}

golden! {
    everything_by_wg_quick: "ana-laptop" ANA WgQuick "router-north/vyr-north.conf";
    everything_by_another_server: "ana-laptop" ANA WgQuick "nas/vyr-north.conf";
    everything_by_network_manager:
        "ana-laptop" ANA NetworkManager "router-north/vyr-north.nmconnection";
    everything_by_networkd: "ana-laptop" ANA Networkd "router-north/30-vyr-north.netdev";
    routes_of_everything_by_networkd: "ana-laptop" ANA Networkd "router-north/30-vyr-north.network";
    some_by_wg_quick: "ben-laptop" BEN WgQuick "router-north/vyr-north.conf";
    some_by_network_manager: "ben-laptop" BEN NetworkManager "router-north/vyr-north.nmconnection";
    some_by_networkd: "ben-laptop" BEN Networkd "router-north/30-vyr-north.netdev";
    routes_of_some_by_networkd: "ben-laptop" BEN Networkd "router-north/30-vyr-north.network";
}

#[test]
fn public_keys_are_those_of_wireguard() {
    for pair in [ANA, BEN] {
        assert_eq!(key(pair).public_key().to_string(), pair.1);
    }
}

#[test]
fn a_key_is_shown_by_nobody() {
    let plan = office();
    let shown = format!("{:?}", key(ANA));
    assert!(!shown.contains(ANA.0) && shown.contains(ANA.1), "{shown}");
    for form in [Form::WgQuick, Form::NetworkManager, Form::Networkd, Form::QrTerminal, Form::QrPng]
    {
        for file in render::client(&plan, "ana-laptop", None, &key(ANA), form).expect("it renders")
        {
            let inside = file.bytes.windows(ANA.0.len()).any(|part| part == ANA.0.as_bytes());
            let coded = matches!(form, Form::QrTerminal | Form::QrPng);
            assert_eq!(file.secret, inside || coded, "{}", file.name);
            assert!(!format!("{file:?}").contains(ANA.0));
        }
    }
}

#[test]
fn a_key_must_be_the_clients() {
    let plan = office();
    assert_eq!(render::key_use(&plan, "ana-laptop", &key(ANA)).expect("hers"), KeyUse::Active);
    assert_eq!(render::key_use(&plan, "ben-laptop", &key(BEN)).expect("his"), KeyUse::Staged);
    let ana = key(ANA);
    let client = |id, server| render::client(&plan, id, server, &ana, Form::WgQuick);
    let wrong = client("ben-laptop", None).expect_err("it is Ana's");
    assert!(matches!(wrong, RenderError::WrongKey { .. }));
    assert_eq!(wrong.category(), Category::Auth);
    assert!(!wrong.to_string().contains(ANA.0));
    let nobody = client("zoe-laptop", None).expect_err("nobody");
    assert_eq!(nobody.category(), Category::NotFound);
    let nowhere = client("ana-laptop", Some("router-south")).expect_err("not there");
    assert_eq!(nowhere.category(), Category::NotFound);
    assert_eq!(nowhere.hint().as_deref(), Some("it has a way by nas, router-north"));
    assert_eq!(client("ana-laptop", Some("nas")).expect("a way").len(), 1);
    for bad in ["", "AAAA", &ANA.0[1..], &"A".repeat(43), &format!("{}=", "A".repeat(43))] {
        let found = PrivateKey::parse(bad);
        assert!(matches!(found, Err(RenderError::NotAKey)), "{bad:?}");
    }
}

/// What a terminal shows, as rows of dark and light.
fn rows(text: &str) -> Vec<Vec<bool>> {
    let mut rows = Vec::new();
    for line in text.lines() {
        let cells = line.strip_prefix("\x1b[38;5;16;48;5;231m").expect("it is painted");
        let cells = cells.strip_suffix("\x1b[0m").expect("the paint ends");
        let half = |upper: bool| {
            let dark = move |cell: char| match cell {
                ' ' => false,
                '\u{2588}' => true,
                '\u{2580}' => upper,
                '\u{2584}' => !upper,
                other => panic!("{other:?}"),
            };
            cells.chars().map(dark).collect::<Vec<_>>()
        };
        rows.extend([half(true), half(false)]);
    }
    rows
}

#[test]
fn a_code_is_surrounded_by_light_and_the_same_on_a_screen_and_in_an_image() {
    let plan = office();
    let shown = text(&plan, "ana-laptop", &key(ANA), Form::QrTerminal, "nas/vyr-north.txt");
    let mut rows = rows(&shown);
    let side = rows[0].len();
    // An odd number of rows leaves half a line at the end.
    rows.truncate(side);
    let is_quiet = |at: usize| at < 4 || at >= side - 4;
    for (y, row) in rows.iter().enumerate() {
        assert_eq!(row.len(), side);
        for (x, dark) in row.iter().enumerate() {
            assert!(!(*dark && (is_quiet(x) || is_quiet(y))), "{x} {y}");
        }
    }
    assert!(rows[4][4] && rows[4][side - 5] && rows[side - 5][4], "its three corners are dark");

    let files = render::client(&plan, "ana-laptop", Some("nas"), &key(ANA), Form::QrPng);
    let files = files.expect("it renders");
    let mut image =
        png::Decoder::new(std::io::Cursor::new(&*files[0].bytes)).read_info().expect("PNG");
    let mut pixels = vec![0; image.output_buffer_size().expect("it fits")];
    let info = image.next_frame(&mut pixels).expect("an image");
    assert_eq!(usize::try_from(info.width).expect("it fits"), 8 * side);
    for y in 0..8 * side {
        for x in 0..8 * side {
            assert_eq!(pixels[y * 8 * side + x] == 0, rows[y / 8][x / 8], "{x} {y}");
        }
    }
}

#[test]
fn what_does_not_fit_into_a_code_is_refused() {
    let mut plan = office();
    let machine = plan.machines.iter_mut().find(|of| of.name.as_str() == "nas").expect("there");
    for tunnel in &mut machine.links[0].tunnels {
        let many = (0..200).map(|n| format!("10.{n}.0.0/24").parse().expect("a prefix"));
        tunnel.allowed_ips = many.collect();
    }
    for form in [Form::QrTerminal, Form::QrPng] {
        let found = render::client(&plan, "ana-laptop", Some("nas"), &key(ANA), form);
        let found = found.expect_err("too long");
        assert!(matches!(found, RenderError::QrTooLong(_)), "{found}");
        assert_eq!(found.category(), Category::Usage);
    }
}
