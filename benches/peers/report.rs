//! The tables on standard output.

use comfy_table::{CellAlignment, Table, presets};

use crate::results::{Results, WorkResults};

/// What stands where there is no figure.
pub(crate) const NOTHING: &str = "–";

/// Returns a table for each work, with notes on who could not do it.
pub(crate) fn tables(results: &Results) -> String {
    let tables = results.works.iter().map(|at_work| {
        let table = table(&results.peers, at_work);
        let notes = notes(&results.peers, at_work);
        format!("{}\n\n{table}\n{notes}", at_work.work)
    });
    tables.collect::<Vec<_>>().join("\n")
}

/// Returns a line for each peer that could not do this work.
pub(crate) fn notes(peers: &[String], at_work: &WorkResults) -> String {
    let cells = peers.iter().zip(&at_work.cells);
    let failures = cells.filter_map(|(peer, cell)| Some((peer, cell.failure()?)));
    let note = |(peer, failure)| format!("{peer}, {}: {failure}\n", at_work.work);
    failures.map(note).collect()
}

fn table(peers: &[String], at_work: &WorkResults) -> Table {
    let figures = at_work.figures();
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let mut header = vec!["peer".to_owned()];
    header.extend(figures.iter().map(|figure| figure.header().to_owned()));
    if peers.len() > 1 {
        header.extend([format!("{}/peer", peers[0]), "range".to_owned()]);
    }
    table.set_header(header);
    for (index, (peer, cell)) in peers.iter().zip(&at_work.cells).enumerate() {
        let mut row = vec![peer.clone()];
        row.extend(figures.iter().map(|&figure| {
            let value = cell.median(figure);
            value.map_or_else(|| NOTHING.to_owned(), |value| figure.show(value))
        }));
        if peers.len() > 1 {
            let ratio = at_work.ratio(0, index).filter(|_| index > 0);
            row.push(ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median)));
            let range = |least, most| format!("{least:.2}–{most:.2}");
            row.push(ratio.map_or_else(String::new, |ratio| range(ratio.least, ratio.most)));
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
