//! The tables on standard output.

use comfy_table::{CellAlignment, Table, presets};

use crate::results::{Results, WorkloadResults};

/// The cell of a table if there is no figure.
pub(crate) const NOTHING: &str = "–";

/// Returns a table for each workload, with notes on the servers that failed.
pub(crate) fn tables(results: &Results) -> String {
    let tables = results.workloads.iter().map(|measured| {
        let table = table(&results.contenders, measured);
        let notes = notes(&results.contenders, measured);
        format!("{}\n\n{table}\n{notes}", measured.workload)
    });
    tables.collect::<Vec<_>>().join("\n")
}

/// Returns a line for each contender that failed this workload.
pub(crate) fn notes(contenders: &[String], measured: &WorkloadResults) -> String {
    let cells = contenders.iter().zip(&measured.cells);
    let failures = cells.filter_map(|(contender, cell)| Some((contender, cell.failure()?)));
    let note = |(contender, failure)| format!("{contender}, {}: {failure}\n", measured.workload);
    failures.map(note).collect()
}

fn table(contenders: &[String], measured: &WorkloadResults) -> Table {
    let figures = measured.figures();
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let mut header = vec!["server".to_owned()];
    header.extend(figures.iter().map(|figure| figure.header().to_owned()));
    if contenders.len() > 1 {
        header.extend([format!("{}/server", contenders[0]), "range".to_owned()]);
    }
    table.set_header(header);
    for (index, (contender, cell)) in contenders.iter().zip(&measured.cells).enumerate() {
        let mut row = vec![contender.clone()];
        row.extend(figures.iter().map(|&figure| {
            let value = cell.median(figure);
            value.map_or_else(|| NOTHING.to_owned(), |value| figure.show(value))
        }));
        if contenders.len() > 1 {
            let ratio = measured.ratio(0, index).filter(|_| index > 0);
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
