//! The metrics as Prometheus sees them: its linter, its scrapes, its queries, its alerts.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::metrics::{scrape, with_metrics};
use crate::support::{
    available, connect, eventually, exchange, finish, noise, ping, read_to_end, reserve_addr, skip,
};

/// A running Prometheus with a folder of its own. It ends when the test ends.
struct Prometheus {
    addr: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Prometheus {
    /// Starts a Prometheus with this configuration and these rules.
    fn start(config: &str, rules: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("echod-prometheus-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        fs::write(folder.join("echod.rules.yml"), rules).unwrap();
        // With port 0, Prometheus does not say which port it got.
        let (_reserved, addr) = reserve_addr();
        let child = Command::new("prometheus")
            .arg(format!("--web.listen-address={addr}"))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!(
                "--config.file={}",
                folder.join("prometheus.yml").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut prometheus = Self {
            addr,
            child,
            folder,
        };
        eventually("a Prometheus that is ready", || {
            assert!(
                prometheus.child.try_wait().unwrap().is_none(),
                "{}",
                prometheus.log()
            );
            std::net::TcpStream::connect(addr).is_ok()
                && prometheus.get("/-/ready").starts_with("HTTP/1.0 200")
        });
        prometheus
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    fn get(&self, path: &str) -> String {
        let mut client = connect(self.addr);
        write!(client, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        String::from_utf8(read_to_end(&client).unwrap()).unwrap()
    }

    fn json(&self, path: &str) -> Value {
        let response = self.get(path);
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    /// Returns the value of a query, or `None` while it has none.
    fn query(&self, query: &str) -> Option<f64> {
        let path = format!(
            "/api/v1/query?query={}",
            query.replace('"', "%22").replace(' ', "%20")
        );
        let answer = self.json(&path);
        assert_eq!(answer["status"], "success", "{answer}");
        let value = answer.pointer("/data/result/0/value/1")?;
        Some(value.as_str()?.parse().unwrap())
    }

    fn wait_for(&self, query: &str, expected: f64) {
        eventually(&format!("{query} = {expected}"), || {
            self.query(query) == Some(expected)
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if !std::thread::panicking() {
            finish(&mut self.child);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The page for operators.
fn page() -> String {
    fs::read_to_string(project().join("systemd/monitoring.md")).unwrap()
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the code block of the page that begins with this line.
fn block(page: &str, first_line: &str) -> String {
    let blocks = page.split("```yaml\n").skip(1);
    let block = blocks
        .map(|rest| rest.split("```").next().unwrap())
        .find(|block| block.starts_with(first_line));
    block.unwrap().to_owned()
}

/// Returns the configuration of the page, with another target and a shorter interval.
fn config(target: SocketAddr) -> String {
    let config = block(&page(), "scrape_configs:");
    assert!(config.contains("127.0.0.1:9007"));
    let config = config.replace("127.0.0.1:9007", &target.to_string());
    let faster = "global:\n  scrape_interval: 200ms\n  evaluation_interval: 200ms\n";
    format!("{faster}{config}")
}

#[test]
fn prometheus_scrapes_the_metrics_and_a_counter_has_the_bytes_sent() {
    if !available(&["prometheus"]) {
        return;
    }
    let (daemon, target) = with_metrics(&[]);
    let prometheus = Prometheus::start(&config(target), &block(&page(), "groups:"));
    prometheus.wait_for("up{job=\"echod\"}", 1.0);

    let received = "echod_received_bytes_total{service=\"echo\"}";
    prometheus.wait_for(received, 0.0);
    let message = noise(1, 123_456);
    let live = connect(daemon.addr);
    ping(&live, &message[..1000]);
    // The bytes must be counted while the connection is open.
    prometheus.wait_for(received, 1000.0);
    assert_eq!(exchange(daemon.addr, &message), message);
    prometheus.wait_for(received, 124_456.0);
    prometheus.wait_for("echod_sent_bytes_total{service=\"echo\"}", 124_456.0);
    prometheus.wait_for("sum(echod_connections{service=\"echo\"})", 1.0);
    the_dashboard_has_data(&prometheus);
    drop(live);
    prometheus.wait_for("sum(echod_connections{service=\"echo\"})", 0.0);
    prometheus.wait_for("sum(echod_connections_closed_total{service=\"echo\"})", 2.0);
    assert!(prometheus.query("process_resident_memory_bytes").unwrap() > 1e6);

    // Prometheus has accepted every sample, knows the type and the unit of each metric, and evaluates the
    // alerts.
    let metadata = prometheus.json("/api/v1/targets/metadata?metric=echod_received_bytes");
    assert_eq!(
        metadata.pointer("/data/0/type").unwrap(),
        "counter",
        "{metadata}"
    );
    assert_eq!(
        metadata.pointer("/data/0/unit").unwrap(),
        "bytes",
        "{metadata}"
    );
    eventually("evaluated alerts", || {
        let rules = prometheus.json("/api/v1/rules");
        let rules = rules.pointer("/data/groups/0/rules").unwrap();
        let rules = rules.as_array().unwrap();
        assert!(rules.len() >= 5);
        rules.iter().all(|rule| rule["health"] == "ok")
    });
    prometheus.wait_for("count(ALERTS)or(vector(0))", 0.0);
    // When the daemon ends, an alert begins.
    assert_eq!(daemon.stop().code, Some(0));
    prometheus.wait_for("up{job=\"echod\"}", 0.0);
    prometheus.wait_for("count(ALERTS{alertname=\"EchodDown\"})", 1.0);
    let log = prometheus.log();
    assert!(
        !log.contains("level=warn") && !log.contains("level=error"),
        "{log}"
    );
}

/// Runs every query of the dashboard, as Grafana would.
fn the_dashboard_has_data(prometheus: &Prometheus) {
    let dashboard = fs::read_to_string(project().join("systemd/grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let query = target["expr"].as_str().unwrap();
            let query = query
                .replace("$__rate_interval", "10s")
                .replace("$instance", ".*");
            assert!(!query.contains('$'), "{query}");
            eventually(&format!("data for {query}"), || {
                prometheus.query(&query).is_some()
            });
        }
    }
}

fn promtool(args: &[&str], input: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn promtool_reports_nothing() {
    if !available(&["promtool"]) {
        return;
    }
    // Enable every metric, including that of the limit per source.
    let (daemon, addr) = with_metrics(&["--max-per-source=100"]);
    assert_eq!(exchange(daemon.addr, b"hello"), b"hello");
    let output = promtool(&["check", "metrics"], &scrape(addr));
    assert!(output.status.success(), "{output:?}");
    assert_eq!((&*output.stdout, &*output.stderr), (&b""[..], &b""[..]));
    // Check that promtool would report an error.
    let wrong = "# TYPE echod_things counter\nechod_things 1\n";
    assert!(!promtool(&["check", "metrics"], wrong).status.success());
}

/// Prometheus accepts much that is not valid `OpenMetrics`. Its Python client has a strict parser.
#[test]
fn pythons_parser_finds_the_same_in_both_formats() {
    // Debian's package is for Debian's Python, which need not be the first in `PATH`.
    let python = |args: &[&str]| Command::new("/usr/bin/python3").args(args).output();
    let import = "import prometheus_client.openmetrics.parser";
    if !python(&["-c", import]).is_ok_and(|output| output.status.success()) {
        return skip("no prometheus_client in Debian's Python (python3-prometheus-client)");
    }
    let program = r#"
import sys
from urllib.request import Request, urlopen
from prometheus_client import parser
from prometheus_client.openmetrics import parser as strict

def get(accept):
    request = Request(sys.argv[1], headers={"Accept": accept})
    with urlopen(request, timeout=30) as response:
        return response.headers.get_content_type(), response.read().decode()

def series(parse, text):
    return {(s.name, tuple(sorted(s.labels.items()))) for f in parse(text) for s in f.samples}

plain, text = get("text/plain")
opened, open_text = get("application/openmetrics-text;version=1.0.0")
assert (plain, opened) == ("text/plain", "application/openmetrics-text")
found = series(parser.text_string_to_metric_families, text)
assert found == series(strict.text_string_to_metric_families, open_text)
assert len(found) > 50
"#;
    let (_daemon, addr) = with_metrics(&["--max-per-source=100"]);
    let output = python(&["-c", program, &format!("http://{addr}/metrics")]).unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn promtool_checks_the_alerts_of_the_page() {
    if !available(&["promtool"]) {
        return;
    }
    let folder = std::env::temp_dir().join(format!("echod-rules-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let rules = folder.join("echod.rules.yml");
    fs::write(&rules, block(&page(), "groups:")).unwrap();
    let output = promtool(&["check", "rules", rules.to_str().unwrap()], "");
    assert!(output.status.success(), "{output:?}");
    // The file has each alert, and samples that trigger it.
    fs::write(
        folder.join("tests.yml"),
        include_str!("prometheus/alerts.yml"),
    )
    .unwrap();
    let tests = folder.join("tests.yml");
    let output = promtool(&["test", "rules", tests.to_str().unwrap()], "");
    assert!(output.status.success(), "{output:?}");
    fs::remove_dir_all(&folder).unwrap();
}

/// Returns the words of a text that are names of metrics of this daemon or its process.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("echod_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn the_page_has_every_metric_and_no_other() {
    let (_daemon, addr) = with_metrics(&["--max-per-source=100"]);
    let text = scrape(addr);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let exposed: BTreeSet<_> = samples
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    let page = page();
    assert_eq!(names(&page), exposed);
    let alerts = block(&page, "groups:");
    assert!(names(&alerts).is_subset(&exposed));
}
