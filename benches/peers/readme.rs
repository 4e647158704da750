//! The section of this folder's README.md that says what was measured.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use comfy_table::{Table, presets};
use jiff::Timestamp;

use crate::failure::{Failure, Result};
use crate::report::{NOTHING, notes};
use crate::results::{Results, WorkResults};
use crate::works::Work;

const BEGIN: &str = "<!-- peers: begin -->\n";
const END: &str = "<!-- peers: end -->";

/// How near to 1 a ratio is no difference: less than rounds differ from each other.
const EVEN: f64 = 0.03;

/// Puts the results between the markers of a file.
pub(crate) fn update(path: &Path, results: &Results, how: &str) -> Result {
    let failed = |error| Failure::new(format!("cannot update {}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(failed)?;
    let text = replace(&text, &section(results, how)).ok_or_else(|| {
        let markers = format!("the markers {} and {END}", BEGIN.trim());
        Failure::new(format!("{} lacks {markers}", path.display()))
    })?;
    fs::write(path, text).map_err(failed)
}

/// Replaces what is between the markers, if they are there.
fn replace(text: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{section}{END}{after}"))
}

fn section(results: &Results, how: &str) -> String {
    let date = Timestamp::now().strftime("%Y-%m-%d");
    let first = &results.peers[0];
    let mut text = format!(
        "{date}, {how}.\n\n\
         ![The rates of the servers at each work, relative to each other](../peers.svg)\n\n\
         The rate of `{first}`, and how many times each other's it is, in bold where it is slower:\n\n\
         {}\n",
        table(results)
    );
    let slower: Vec<_> = (1..results.peers.len())
        .map(|peer| (&results.peers[peer], slower(results, peer)))
        .filter(|(_, works)| !works.is_empty())
        .map(|(peer, works)| format!("than `{peer}` at {works}"))
        .collect();
    if !slower.is_empty() {
        // Writing to a string can't fail.
        let _ = write!(text, "\n`{first}` is slower {}.\n", slower.join("; "));
    }
    let notes: String = results
        .works
        .iter()
        .map(|at_work| notes(&results.peers, at_work))
        .collect();
    if !notes.is_empty() {
        let notes = notes.trim_end().replace('\n', "; ");
        let _ = write!(text, "\nNo figure ({NOTHING}): {notes}.\n");
    }
    text + "\n"
}

/// Names the works at which the first server was slower than this one, those of a kind at once.
fn slower(results: &Results, peer: usize) -> String {
    let mut names: Vec<String> = Vec::new();
    for at_work in &results.works {
        if !is_slower(at_work, peer) {
            continue;
        }
        let name = at_work.work.to_string();
        match (at_work.work, names.last_mut()) {
            (Work::PingPong { size, connections }, Some(last))
                if last.starts_with(&format!("pingpong-{size}-")) =>
            {
                let _ = write!(last, "/{connections}");
            }
            _ => names.push(name),
        }
    }
    names.join(", ")
}

fn is_slower(at_work: &WorkResults, peer: usize) -> bool {
    let ratio = at_work.ratio(0, peer);
    ratio.is_some_and(|ratio| ratio.median < 1.0 - EVEN)
}

fn table(results: &Results) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(
        ["work"]
            .into_iter()
            .chain(results.peers.iter().map(String::as_str)),
    );
    for at_work in &results.works {
        let rate = at_work.figures().first().and_then(|&figure| {
            let rate = at_work.cells[0].median(figure)?;
            Some(format!("{} {}", figure.show(rate), figure.header()))
        });
        let mut row = vec![at_work.work.to_string()];
        row.push(rate.unwrap_or_else(|| NOTHING.to_owned()));
        row.extend((1..results.peers.len()).map(|peer| {
            let ratio = at_work.ratio(0, peer).map(|ratio| ratio.median);
            let mark = if is_slower(at_work, peer) { "**" } else { "" };
            ratio.map_or_else(
                || NOTHING.to_owned(),
                |ratio| format!("{mark}{ratio:.2}{mark}"),
            )
        }));
        table.add_row(row);
    }
    table
}
