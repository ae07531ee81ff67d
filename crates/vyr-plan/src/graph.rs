//! A plan as a picture: who is connected to what, and who reaches what.

use std::fmt::Write;

use serde::Serialize;

use crate::diff::{named, services};
use crate::intent::Place;
use crate::plan::{LinkKind, Plan};
use crate::reach::{Reach, addresses};
use crate::space::{Block, Set};

/// Who reaches what, as a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// Destinations.
    pub columns: Vec<String>,
    /// A row for each kind of source.
    pub rows: Vec<Row>,
}

/// What one kind of source reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `north.full (2)`: an interface, a profile, its clients.
    pub source: String,
    /// A cell for each column.
    pub cells: Vec<Cell>,
}

/// How much of a destination is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Nothing.
    None,
    /// Some services or addresses of it.
    Some(String),
    /// All of it, every protocol and port.
    All,
}

impl Cell {
    /// One word for a table.
    pub fn word(&self) -> &str {
        match self {
            Self::None => "-",
            Self::Some(services) => services,
            Self::All => "all",
        }
    }
}

/// The reachability matrix of a plan.
pub fn matrix(plan: &Plan) -> Matrix {
    let reach = Reach::of(plan);
    let mut columns: Vec<(String, Set)> = Vec::new();
    for interface in plan.interfaces.iter().filter(|interface| !interface.lan.is_empty()) {
        let name = interface.name.clone();
        columns.push((format!("lan:{name}"), addresses(plan, &Place::Lan(name))));
    }
    for machine in plan.machines.iter().filter(|machine| !machine.management.is_empty()) {
        let name = machine.name.clone();
        columns.push((format!("server:{name}"), addresses(plan, &Place::Server(name))));
    }
    columns.push(("internet".into(), addresses(plan, &Place::Internet)));
    for interface in &plan.interfaces {
        let name = interface.name.clone();
        columns.push((format!("interface:{name}"), addresses(plan, &Place::Interface(name))));
    }
    let mesh = addresses(plan, &Place::Mesh);
    if !mesh.is_empty() {
        let nodes = plan.machines.iter().filter(|machine| machine.link("mesh").is_some());
        let nodes = nodes.map(|machine| addresses(plan, &Place::Node(machine.name.clone())));
        columns.push(("mesh".into(), nodes.fold(Set::empty(), |all, one| all.union(&one))));
    }
    let mut sources: Vec<(String, Set)> = Vec::new();
    for interface in &plan.interfaces {
        for profile in &interface.profiles {
            let of = |client: &crate::plan::Client| {
                client.interface == interface.name
                    && client.profile == profile.name
                    && client.public_key.is_some()
            };
            let clients = plan.clients.iter().filter(|client| of(client)).count();
            if clients > 0 {
                let name = format!("{}.{} ({clients})", interface.name, profile.name);
                sources.push((name, plan.client_addresses(of)));
            }
        }
    }
    for machine in plan.machines.iter().filter(|machine| machine.link("mesh").is_some()) {
        let own = addresses(plan, &Place::Node(machine.name.clone()));
        sources.push((format!("node:{}", machine.name), own));
    }
    let cell = |source: &Set, destination: &Set| {
        // A node does not reach itself through the mesh.
        let destination = destination.subtract(source);
        let wanted = Block { source: source.clone(), destination, service: Set::any_service() };
        let found = reach.permitted_region().within(&wanted);
        let service = found.0.iter().fold(Set::empty(), |all, block| all.union(&named(block)));
        match (found.packet(), reach.permitted_region().missing(&wanted).packet()) {
            (None, _) => Cell::None,
            (Some(_), None) => Cell::All,
            (Some(_), Some(_)) => Cell::Some(match services(&service).as_slice() {
                [all] if all == "any" => "part".into(),
                some => some.join(" "),
            }),
        }
    };
    let rows = sources
        .iter()
        .map(|(name, source)| Row {
            source: name.clone(),
            cells: columns.iter().map(|(_, destination)| cell(source, destination)).collect(),
        })
        .collect();
    Matrix { columns: columns.into_iter().map(|(name, _)| name).collect(), rows }
}

/// Pixels.
const ROW: usize = 22;
const LEFT: usize = 24;
const BOX: usize = 250;

/// The plan as SVG: machines with their links above, the matrix below.
pub fn svg(plan: &Plan) -> String {
    let matrix = matrix(plan);
    let mut body = String::new();
    let mut x = LEFT;
    let mut deepest = 0;
    let mut mesh_at = Vec::new();
    for machine in &plan.machines {
        let mut lines: Vec<(String, &str)> = Vec::new();
        for ip in &machine.management {
            lines.push((format!("ssh {ip}"), "quiet"));
        }
        for link in &machine.links {
            let class = match plan.interface(link.interface.as_str()) {
                Some(interface) if interface.experimental => "lab",
                Some(_) => "link",
                None => "mesh",
            };
            let peers = link.peers.len();
            let what = if link.kind == LinkKind::Mesh { "nodes" } else { "keys" };
            let next = if link.second_of.is_some() { " · next key" } else { "" };
            let line = format!("{} · {peers} {what} · mtu {}{next}", link.name, link.mtu);
            lines.push((line, class));
            lines.extend(link.routes.iter().map(|route| (format!("  {route}"), "quiet")));
        }
        let height = 40 + ROW * lines.len();
        deepest = deepest.max(height);
        if machine.link("mesh").is_some() {
            mesh_at.push(x + BOX / 2);
        }
        let _ = write!(
            body,
            "<rect x='{x}' y='70' width='{BOX}' height='{height}' rx='8' class='box'/>"
        );
        let _ = write!(
            body,
            "<text x='{}' y='94' class='name'>{}</text>",
            x + 14,
            escaped(machine.name.as_str())
        );
        for (number, (line, class)) in lines.iter().enumerate() {
            let y = 94 + ROW * (number + 1);
            let _ = write!(
                body,
                "<text x='{}' y='{y}' class='{class}'>{}</text>",
                x + 14,
                escaped(line)
            );
        }
        x += BOX + 20;
    }
    if let (Some(first), Some(last)) = (mesh_at.first(), mesh_at.last()) {
        let _ = write!(body, "<path d='M{first} 56 H{last}' class='wire'/>");
        for at in &mesh_at {
            let _ = write!(body, "<path d='M{at} 56 V70' class='wire'/>");
        }
    }
    let top = 70 + deepest + 50;
    let first =
        14 + 8 * matrix.rows.iter().map(|row| row.source.chars().count()).max().unwrap_or(0);
    let wide = matrix.columns.iter().map(|name| 16 + 8 * name.chars().count());
    let cells = matrix.rows.iter().flat_map(|row| row.cells.iter().zip(0..));
    let mut widths: Vec<usize> = wide.collect();
    for (cell, column) in cells {
        widths[column] = widths[column].max(16 + 8 * cell.word().chars().count());
    }
    let mut at = LEFT + first;
    let starts: Vec<usize> = widths
        .iter()
        .map(|width| {
            let start = at;
            at += width;
            start
        })
        .collect();
    for (name, start) in matrix.columns.iter().zip(&starts) {
        let _ = write!(body, "<text x='{start}' y='{top}' class='head'>{}</text>", escaped(name));
    }
    for (number, row) in matrix.rows.iter().enumerate() {
        let y = top + ROW * (number + 1);
        let _ =
            write!(body, "<text x='{LEFT}' y='{y}' class='head'>{}</text>", escaped(&row.source));
        for ((cell, start), width) in row.cells.iter().zip(&starts).zip(&widths) {
            let class = match cell {
                Cell::None => "none",
                Cell::Some(_) => "some",
                Cell::All => "all",
            };
            let _ = write!(
                body,
                "<rect x='{}' y='{}' width='{}' height='{}' class='{class}'/>",
                start - 4,
                y - 15,
                width - 4,
                ROW - 3
            );
            let _ = write!(body, "<text x='{start}' y='{y}'>{}</text>", escaped(cell.word()));
        }
    }
    let width = at.max(x) + LEFT;
    let height = top + ROW * (matrix.rows.len() + 2);
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' \
         viewBox='0 0 {width} {height}' font-family='monospace' font-size='13'>\
         <style>text{{fill:#223}}.box{{fill:#f6f7fa;stroke:#8a93a6}}.name,.title{{font-weight:bold}}\
         .title{{font-size:16px}}.quiet{{fill:#667}}.link{{fill:#0a5}}.lab{{fill:#b50}}.mesh{{fill:#05a}}\
         .wire{{stroke:#05a;fill:none;stroke-width:2}}.head{{font-weight:bold}}.none{{fill:#f3f3f3}}\
         .some{{fill:#fdeebf}}.all{{fill:#cfeeda}}</style>\
         <rect width='{width}' height='{height}' fill='#fff'/>\
         <text x='{LEFT}' y='34' class='title'>{} · plan of epoch {}</text>{body}</svg>\n",
        escaped(plan.site.as_str()),
        plan.epoch,
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
