//! What a run found, as a page: findings, the picture, the small table.

use crate::failure::{Failure, Result};
use crate::record::{read_record, read_trials};
use crate::report::readme;
use crate::report::results::Results;
use crate::report::svg::escape;
use crate::website::prose;
use std::fs;
use std::path::Path;

/// The picture that stands on the page: cost against tail.
pub(super) const PICTURE: &str = "cost-and-tail.svg";

/// What belongs between the page's markers, and the picture.
///
/// # Errors
///
/// The run can't be read.
pub(super) fn section(folder: &Path) -> Result<(String, String)> {
    let (record, trials) = (read_record(folder)?, read_trials(folder)?);
    let results = Results::of(&record, &trials);
    let picture = folder.join(PICTURE);
    let picture =
        fs::read_to_string(&picture).map_err(Failure::context(format!("read {}", picture.display())))?;
    let mut html = String::from("<ul class=\"findings\">\n");
    for finding in readme::findings(&results) {
        html.push_str(&format!("<li>{}</li>\n", prose(&finding)));
    }
    html.push_str("</ul>\n");
    html.push_str(&format!(
        "<figure><a href=\"{PICTURE}\"><img src=\"{PICTURE}\" width=\"960\" height=\"806\" alt=\"CPU time per request \
         against the wait beside a slow disk, for each server. The table has some of the numbers.\"></a></figure>\n"
    ));
    let table = readme::table(&results);
    html.push_str(
        "<table role=\"table\">\n\
         <caption>Medians (the sentences: mean ratios of rounds); one worker on one CPU, over loopback</caption>\n",
    );
    let heads: String = table
        .heads
        .iter()
        .map(|head| format!("<th role=\"columnheader\" scope=\"col\">{}</th>", escape(head)))
        .collect();
    html.push_str(&format!(
        "<thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">Server</th>{heads}</tr></thead>\n\
         <tbody role=\"rowgroup\">\n"
    ));
    for (name, cells) in &table.rows {
        let cells: String = cells
            .iter()
            .zip(&table.heads)
            .map(|(cell, head)| {
                format!("<td role=\"cell\" data-head=\"{}\">{}</td>", escape(head), escape(cell))
            })
            .collect();
        html.push_str(&format!(
            "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">{}</th>{cells}</tr>\n",
            prose(name)
        ));
    }
    html.push_str("</tbody>\n</table>\n");
    let cpu = record.environment.cpu.model.as_deref().unwrap_or("an unknown processor");
    let day = record.started.split('T').next().unwrap_or_default();
    html.push_str(&format!(
        "<p>{}, {day}, {}. “Too noisy”: the 95 % interval spans more than a factor of three.</p>\n",
        escape(cpu),
        escape(&results.source())
    ));
    Ok((html, picture))
}
