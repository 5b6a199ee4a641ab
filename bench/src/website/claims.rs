//! The scorecard as a page: each claim with its experiment, its verdict, and what the lab showed.

use crate::claims::book::{Book, Claim, Takes};
use crate::claims::chapter::{Chapter, Scene, Shown};
use crate::claims::verdict::{Judged, Verdict};
use crate::failure::Result;
use crate::record::{read_record, read_trials};
use crate::report::results::Results;
use crate::report::scorecard;
use crate::report::svg::escape;
use crate::website::prose;
use std::collections::BTreeSet;
use std::path::Path;

/// What a folder holds, or what can be told without a run.
struct Told {
    chapter: Chapter,
    judged: Vec<Judged>,
    /// Where the numbers are from; none: only scenes were shown.
    source: Option<String>,
}

impl Told {
    fn read(folder: &Path) -> Result<Told> {
        let Some(chapter) = Chapter::read(folder)? else {
            let chapter = Chapter::open(&[])?;
            let judged = chapter.judge(None);
            return Ok(Told { chapter, judged, source: None });
        };
        let (record, trials) = (read_record(folder)?, read_trials(folder)?);
        let judged = chapter.judge(Some((&record, &trials)));
        let cpu = record.environment.cpu.model.as_deref().unwrap_or("an unknown processor");
        let day = record.started.split('T').next().unwrap_or_default();
        let source = format!("{cpu}, {day}, {}", Results::of(&record, &trials).source());
        Ok(Told { chapter, judged, source: Some(source) })
    }

    /// The verdict on a claim. Without a run there is one on those that a scene decides.
    fn verdict(&self, claim: &Claim) -> Option<&Judged> {
        let judged = self.judged.iter().find(|judged| judged.id == claim.id)?;
        (self.source.is_some() || claim.tier == Takes::Seconds).then_some(judged)
    }
}

/// What belongs between the page's markers. `folder` is a run of the claims; if there is none, the page says how to
/// make one.
///
/// # Errors
///
/// The run can't be read.
pub(super) fn section(folder: &Path) -> Result<String> {
    let told = Told::read(folder)?;
    let book = told.chapter.book();
    let mut html = introduction(&told);
    html.push_str(
        "<table role=\"table\" class=\"claims\">\n<caption>What is said, how it is tried, and what became of it</caption>\n\
         <thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">Claim</th>\
         <th role=\"columnheader\" scope=\"col\">Experiment</th><th role=\"columnheader\" scope=\"col\">Verdict</th>\
         </tr></thead>\n<tbody role=\"rowgroup\">\n",
    );
    book.claims.iter().for_each(|claim| html.push_str(&row(claim, book, &told)));
    html.push_str("</tbody>\n</table>\n</section>\n");
    html.push_str(&scenes(&told));
    Ok(html)
}

fn introduction(told: &Told) -> String {
    let says = match &told.source {
        Some(source) => format!(
            "<p>{} One run on one machine: {}. Its raw trials are in <code>results/claims</code>; \
             <code>bench claims</code> asks your machine.</p>\n",
            escape(&scorecard::counts(&told.judged)),
            escape(source)
        ),
        None => "<p class=\"notice\">Verdicts that need no measurement are here. The others come from a run of all claims, \
                 25 minutes on a quiet machine: <code>cargo run --release -p bench -- claims</code>. Then \
                 <code>cargo run --release -p bench -- site RUN</code> puts them into this page.</p>\n"
            .to_owned(),
    };
    format!("<section aria-labelledby=\"scorecard\">\n<h2 id=\"scorecard\">Scorecard</h2>\n{says}")
}

fn row(claim: &Claim, book: &Book, told: &Told) -> String {
    let (class, verdict) = match told.verdict(claim) {
        None => ("unrun", "<b>needs a run</b>".to_owned()),
        Some(judged) => {
            let figure =
                if judged.figure.is_empty() { String::new() } else { format!(" {}", prose(&judged.figure)) };
            let sentence = prose(&judged.sentence);
            (class(judged.verdict), format!("<b>{}</b>{figure}<p>{sentence}</p>", judged.verdict))
        }
    };
    format!(
        "<tr role=\"row\" id=\"{0}\" class=\"{class}\"><th role=\"rowheader\" scope=\"row\"><a href=\"#{0}\">{0}</a> {1}</th>\
         <td role=\"cell\">{2}<details><summary>Expected, and refuted by</summary><p>{3}</p><p>Refuted by: {4}</p></details></td>\
         <td role=\"cell\">{verdict}</td></tr>\n",
        escape(&claim.id),
        prose(&claim.says),
        experiment(claim, book),
        prose(&claim.hypothesis),
        prose(&claim.refuted),
    )
}

const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::DoesNotHold => "fails",
        Verdict::HoldsUnderACondition => "turns",
        Verdict::CannotBeTold => "open",
    }
}

/// The loads that its rules look at, and its scene.
fn experiment(claim: &Claim, book: &Book) -> String {
    let mut html = String::new();
    let mut seen = BTreeSet::new();
    for rule in &claim.rules {
        if let Some(scene) = rule.test.scene()
            && seen.insert(scene)
        {
            html.push_str(&format!("<p><a href=\"#show-{scene}\"><code>lab show {scene}</code></a></p>"));
        }
        let scenario = rule.test.scenario().filter(|scenario| seen.insert(scenario));
        if let Some(found) = book.scenarios.iter().find(|known| Some(known.name.as_str()) == scenario) {
            html.push_str(&format!("<p>{}</p>", prose(&found.about)));
        }
    }
    if html.is_empty() { "<p>None of the harness’s.</p>".to_owned() } else { html }
}

/// What `lab show` prints for each scene.
fn scenes(told: &Told) -> String {
    let mut html = String::from(
        "<section class=\"part\" aria-labelledby=\"shown\">\n<h2 id=\"shown\">What the lab showed</h2>\n\
         <p>A scene makes the system calls that a claim is about, and writes down each with what it returned. Nothing \
         here stands without a call. <code>cargo run -p lab -- show C16</code> shows one on your machine.</p>\n",
    );
    for scene in &lab::show::SCENES {
        let Some(Scene { shown, lines }) = told.chapter.scene(scene.claim) else { continue };
        let outcome = match shown {
            Shown::AsClaimed => "It came out as the claim says.".to_owned(),
            Shown::Otherwise => "It came out otherwise.".to_owned(),
            Shown::Impossible(reason) => format!("It can’t be shown on this machine: {}.", escape(reason)),
        };
        html.push_str(&format!(
            "<article class=\"scene\" id=\"show-{0}\">\n<h3><a href=\"#{0}\">{0}</a> {1}</h3>\n\
             <pre tabindex=\"0\" role=\"region\" aria-label=\"lab show {0}\">{2}</pre>\n<p>{3} {outcome}</p>\n</article>\n",
            scene.claim,
            prose(scene.title),
            escape(&lines.join("\n")),
            escape(&scene.explanation.replace('\n', " ")),
        ));
    }
    html.push_str("</section>\n");
    html
}
