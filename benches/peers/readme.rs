//! Writes the results into a section of README.md beside this file.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use comfy_table::{Table, presets};
use jiff::Timestamp;

use crate::failure::{Failure, Result};
use crate::report::{NOTHING, notes};
use crate::results::{Results, WorkloadResults};
use crate::workloads::Workload;

const BEGIN: &str = "<!-- peers: begin -->\n";
const END: &str = "<!-- peers: end -->";

/// A ratio this close to 1 is no difference, because rounds differ by more.
const EVEN: f64 = 0.03;

/// Replaces the text between the markers of a file by the results.
pub(crate) fn update(path: &Path, results: &Results, how: &str) -> Result {
    let failed = |error| Failure::new(format!("cannot update {}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(failed)?;
    let text = replace(&text, &section(results, how)).ok_or_else(|| {
        let markers = format!("the markers {} and {END}", BEGIN.trim());
        Failure::new(format!("{} lacks {markers}", path.display()))
    })?;
    fs::write(path, text).map_err(failed)
}

/// Returns `text` with `section` between the markers, or `None` if a marker is missing.
fn replace(text: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{section}{END}{after}"))
}

fn section(results: &Results, how: &str) -> String {
    let date = Timestamp::now().strftime("%Y-%m-%d");
    let first = &results.contenders[0];
    let mut text = format!(
        "{date}, {how}.\n\n\
         ![The rates of the servers at each workload, relative to each other](../peers.svg)\n\n\
         The rate of `{first}`, and its ratio to the rate of each other server, in bold where `{first}` is \
         slower:\n\n\
         {}\n",
        table(results)
    );
    let slower: Vec<_> = (1..results.contenders.len())
        .map(|contender| (&results.contenders[contender], slower(results, contender)))
        .filter(|(_, workloads)| !workloads.is_empty())
        .map(|(contender, workloads)| format!("than `{contender}` at {workloads}"))
        .collect();
    if !slower.is_empty() {
        // Writing to a string can't fail.
        let _ = write!(text, "\n`{first}` is slower {}.\n", slower.join("; "));
    }
    let notes: String = results
        .workloads
        .iter()
        .map(|measured| notes(&results.contenders, measured))
        .collect();
    if !notes.is_empty() {
        let notes = notes.trim_end().replace('\n', "; ");
        let _ = write!(text, "\nNo figure ({NOTHING}): {notes}.\n");
    }
    text + "\n"
}

/// Names the workloads at which the first server was slower than `contender`. Several ping-pongs of the same
/// size share a name.
fn slower(results: &Results, contender: usize) -> String {
    let mut names: Vec<String> = Vec::new();
    for measured in &results.workloads {
        if !is_slower(measured, contender) {
            continue;
        }
        let name = measured.workload.to_string();
        match (measured.workload, names.last_mut()) {
            (Workload::PingPong { size, connections }, Some(last))
                if last.starts_with(&format!("pingpong-{size}-")) =>
            {
                let _ = write!(last, "/{connections}");
            }
            _ => names.push(name),
        }
    }
    names.join(", ")
}

fn is_slower(measured: &WorkloadResults, contender: usize) -> bool {
    let ratio = measured.ratio(0, contender);
    ratio.is_some_and(|ratio| ratio.median < 1.0 - EVEN)
}

fn table(results: &Results) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(
        ["workload"]
            .into_iter()
            .chain(results.contenders.iter().map(String::as_str)),
    );
    for measured in &results.workloads {
        let rate = measured.figures().first().and_then(|&figure| {
            let rate = measured.cells[0].median(figure)?;
            Some(format!("{} {}", figure.show(rate), figure.header()))
        });
        let mut row = vec![measured.workload.to_string()];
        row.push(rate.unwrap_or_else(|| NOTHING.to_owned()));
        row.extend((1..results.contenders.len()).map(|contender| {
            let ratio = measured.ratio(0, contender).map(|ratio| ratio.median);
            let mark = if is_slower(measured, contender) {
                "**"
            } else {
                ""
            };
            ratio.map_or_else(
                || NOTHING.to_owned(),
                |ratio| format!("{mark}{ratio:.2}{mark}"),
            )
        }));
        table.add_row(row);
    }
    table
}
