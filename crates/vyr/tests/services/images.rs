//! A database that is somebody else's: Debian's PostgreSQL, which was never made for microVMs, asked from
//! the host over plain TCP. It has a user of its own, makes its files before it starts, and takes its
//! password from the secrets.

use vyr_space::{is_able, not_run};

use crate::debian;
use crate::house::is_able_here;

const PASSWORD: &str = "pw-of-the-test";

/// Before the server, as its user: what it needs on disk, which is gone with the instance.
const FIRST: &str = r#"#!/bin/sh
set -eu
umask 077
sed -n 's/^PASSWORD=//p' /run/secrets/platform.env >/dev/shm/password
/opt/bin/initdb -D /var/lib/postgresql/data -U app --pwfile=/dev/shm/password -A scram-sha-256 \
    --locale=C -E UTF8 --no-sync
rm /dev/shm/password
echo 'host all all ::/0 scram-sha-256' >>/var/lib/postgresql/data/pg_hba.conf
"#;

const MANIFEST: &str = r#"version = 1
image.ref = "REGISTRY/postgresql:15"
[env]
user = "postgres"
prestart = ["/opt/first.sh"]
prestart_timeout_seconds = 600
[processes.server]
command = ["/opt/bin/postgres", "-D", "/var/lib/postgresql/data", "-c", "listen_addresses=::",
    "-c", "unix_socket_directories=", "-c", "jit=off", "-c", "shared_buffers=16MB"]
resources = { memory = "512Mi", disk = "1Gi" }
ports = [{ name = "sql", internal = 5432 }]
health = { type = "tcp", port = 5432, interval_seconds = 1, grace_seconds = 120 }
stop_signal = "SIGINT"
[[routes]]
port = 5432
process = "server"
to = "sql"
[secrets]
required = ["PASSWORD"]
"#;

#[test]
fn postgresql_answers_through_the_ingress() {
    let test = "services::images::postgresql_answers_through_the_ingress";
    // 90 MB of packages, and files of a database made by an emulated processor.
    if std::env::var_os("VYR_FULL").is_none() {
        return not_run(test, "at full size only (make test-full)");
    }
    if !is_able(test, &["psql"]) {
        return;
    }
    let Some(house) = is_able_here(test) else { return };
    let root = house.path("postgresql");
    // The database does without: compiled queries, translations, and Perl for Debian's own tools.
    let mut packages = Vec::new();
    for without in ["libllvm*", "libz3-*", "perl*", "libperl*", "locales", "libc-l10n", "dpkg"] {
        packages.extend(["--without", without]);
    }
    packages.push("postgresql");
    if let Err(why) = debian::root(&root, &packages, &["sh", "sed", "rm", "id"], ("postgres", 70)) {
        return not_run(test, &why);
    }
    let link = "mkdir opt && ln -s \"../$(echo usr/lib/postgresql/*/bin)\" opt/bin && \
                rm -rf var/lib/postgresql && install -d -o 70 -g 70 var/lib/postgresql";
    let script = format!("cd '{}' && {link}", root.display());
    house.space().run("sh", &["-c", &script], "").expect("room");
    debian::script(&root, "opt/first.sh", FIRST);
    house.push("postgresql", "15", &root, &[]);
    house.service("db", MANIFEST);
    house.vyr(&["secret", "set", "PASSWORD", "--service", "db"], PASSWORD).expect("a secret");
    house.deploy();

    let sql = |password: &str, sql: &str| {
        let at = format!("host=::1 user=app dbname=postgres password={password}");
        let words = ["300", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", &at, "-c", sql];
        house.space().run("timeout", &words, "")
    };
    sql(PASSWORD, "create table orders (n int)").expect("a table");
    sql(PASSWORD, "insert into orders select generate_series(1, 1000)").expect("rows");
    assert_eq!(sql(PASSWORD, "select sum(n) from orders").expect("an answer"), "500500\n");
    // It is the database that answers, and it knows who it lets in.
    let refused = sql("another", "select 1").expect_err("another password");
    assert!(refused.contains("password authentication failed"), "{refused}");
    let user = house.vyr(&["exec", "db", "--", "/bin/id", "-u"], "").expect("a session");
    assert_eq!(user, "70\n");
}
