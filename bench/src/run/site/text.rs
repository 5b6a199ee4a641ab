//! Text that compresses as real text does: prose from a model of words, and the languages of the web from their tokens.
//!
//! A word is drawn by Zipf and Mandelbrot's law, or, more often, from the few that follow the last one, as in real
//! languages. Noise wouldn't compress at all, and a repeated sentence a thousandfold.

use crate::random::Random;
use std::fmt::Write;
use std::sync::LazyLock;

const LIST: &str = include_str!("words.txt");
/// The most frequent words, which have no other forms.
const FUNCTION_WORDS: usize = 160;
/// How often a word is one of those that usually follow the last one, in percent.
const FOLLOWS: usize = 60;
/// How many follow a word.
const FOLLOWERS: usize = 24;

/// All words in all forms, and the shares of the requests up to each, rising to 1.
struct Vocabulary {
    words: Vec<String>,
    cumulative: Vec<f64>,
}

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let mut words: Vec<String> = Vec::new();
    let plain: Vec<&str> = LIST.split_whitespace().collect();
    words.extend(plain.iter().map(|word| (*word).to_owned()));
    for ending in ["s", "ed", "ing", "ly", "er", "less", "ful"] {
        words.extend(plain[FUNCTION_WORDS..].iter().map(|word| format!("{word}{ending}")));
    }
    let mut sum = 0.0;
    let mut cumulative: Vec<f64> = (0..words.len())
        .map(|rank| {
            sum += 1.0 / (rank as f64 + 2.7);
            sum
        })
        .collect();
    cumulative.iter_mut().for_each(|share| *share /= sum);
    Vocabulary { words, cumulative }
});

/// A text under construction.
pub(super) struct Text {
    random: Random,
    out: String,
    /// The word that was written last.
    last: usize,
}

impl Text {
    pub(super) fn new(random: Random, bytes: usize) -> Text {
        Text { random, out: String::with_capacity(bytes + 4_096), last: 0 }
    }

    fn pick<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.random.below(choice.len())]
    }

    fn number(&mut self, low: usize, high: usize) -> usize {
        low + self.random.below(high - low)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    fn add(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// A number below `bound`, small ones more often than large ones.
    fn skewed(&mut self, bound: usize) -> usize {
        self.random.below(bound).min(self.random.below(bound))
    }

    /// `fill` writes pieces until the text is as long as it should be, but for `closing`.
    fn until(&mut self, bytes: usize, closing: &str, mut fill: impl FnMut(&mut Text)) -> String {
        while self.out.len() + closing.len() < bytes {
            fill(self);
        }
        self.add(closing);
        std::mem::take(&mut self.out)
    }

    fn word(&mut self) -> &'static str {
        let vocabulary = &*VOCABULARY;
        let draw = if self.chance(FOLLOWS) {
            // Which words follow is the language's, the same in all texts.
            let nth = self.skewed(FOLLOWERS);
            Random::stream(self.last as u64, nth as u64).fraction()
        } else {
            self.random.fraction()
        };
        self.last =
            vocabulary.cumulative.partition_point(|share| *share <= draw).min(vocabulary.words.len() - 1);
        &vocabulary.words[self.last]
    }

    /// A word that means something.
    fn noun(&mut self) -> &'static str {
        let plain = LIST.split_whitespace().count() - FUNCTION_WORDS;
        &VOCABULARY.words[FUNCTION_WORDS + self.random.below(plain)]
    }

    fn sentence(&mut self) {
        let words = self.number(6, 22);
        for index in 0..words {
            let word = self.word();
            if index == 0 {
                let mut letters = word.chars();
                self.out.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
                self.add(letters.as_str());
            } else {
                let joint = if self.chance(7) { ", " } else { " " };
                self.add(joint);
                self.add(word);
            }
        }
        let end = self.pick(&[". ", ". ", ". ", ". ", "? ", "; "]);
        self.add(end);
    }

    fn sentences(&mut self, low: usize, high: usize) {
        for _ in 0..self.number(low, high) {
            self.sentence();
        }
        self.out.truncate(self.out.trim_end().len());
    }

    fn name(&mut self, joint: &str) -> String {
        let parts: Vec<&str> = (0..self.number(1, 4)).map(|_| self.noun()).collect();
        parts.join(joint)
    }

    fn hash(&mut self) -> String {
        format!("{:08x}", self.random.draw() >> 32)
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        let _infallible = self.out.write_fmt(text);
    }
}

/// Prose alone.
#[cfg(test)]
pub(super) fn prose(random: Random, bytes: usize) -> String {
    Text::new(random, bytes).until(bytes, "\n", |text| {
        text.sentences(3, 8);
        text.add("\n\n");
    })
}

/// A page of a generated site: the frame is the same on all pages, the article isn't.
pub(super) fn html(random: Random, bytes: usize) -> String {
    let mut text = Text::new(random, bytes);
    let title = text.name(" ");
    text.put(format_args!(
        "<!doctype html>\n<html lang=\"en\" class=\"no-js\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title} | Meadow</title>\n\
         <meta property=\"og:title\" content=\"{title}\">\n<meta name=\"description\" content=\""
    ));
    text.sentence();
    text.add("\">\n");
    for ending in ["css", "css", "js", "js", "js", "woff2", "woff2"] {
        let (name, hash) = (text.name("-"), text.hash());
        text.put(format_args!(
            "<link rel=\"preload\" href=\"/assets/{name}-{hash}.{ending}\" crossorigin>\n"
        ));
    }
    text.add("</head>\n<body>\n<header class=\"site-header\">\n<nav class=\"site-nav\" aria-label=\"Main\">\n<ul>\n");
    for _ in 0..24 {
        let (path, label) = (text.name("/"), text.name(" "));
        text.put(format_args!(
            "<li class=\"site-nav__item\"><a class=\"site-nav__link\" href=\"/{path}/\">{label}</a></li>\n"
        ));
    }
    text.put(format_args!("</ul>\n</nav>\n</header>\n<main id=\"content\">\n<article>\n<h1>{title}</h1>\n"));
    const CLOSING: &str = "</article>\n</main>\n<footer class=\"site-footer\"><p>&copy; 2026 Meadow. All rights \
                           reserved.</p></footer>\n</body>\n</html>\n";
    text.until(bytes, CLOSING, block)
}

/// A part of an article.
fn block(text: &mut Text) {
    match text.number(0, 12) {
        0 => {
            let (id, title) = (text.name("-"), text.name(" "));
            text.put(format_args!(
                "<h2 id=\"{id}\"><a class=\"anchor\" href=\"#{id}\" aria-hidden=\"true\">#</a>{title}</h2>\n"
            ));
        }
        1 => {
            text.add("<ul class=\"list\">\n");
            for _ in 0..text.number(3, 8) {
                text.add("<li>");
                text.sentence();
                text.add("</li>\n");
            }
            text.add("</ul>\n");
        }
        2 => {
            let (name, hash) = (text.name("-"), text.hash());
            let (width, height) = (text.number(20, 160) * 8, text.number(20, 90) * 8);
            text.put(format_args!(
                "<figure class=\"figure\"><img src=\"/assets/{name}-{hash}.avif\" width=\"{width}\" height=\"{height}\" \
                 loading=\"lazy\" decoding=\"async\" alt=\""
            ));
            text.sentence();
            text.add("\"></figure>\n");
        }
        3 => {
            text.add("<div class=\"grid grid--3\">\n");
            for _ in 0..3 {
                let (path, title) = (text.name("/"), text.name(" "));
                text.put(format_args!(
                    "<div class=\"card\"><a class=\"card__link\" href=\"/{path}/\"><h3 class=\"card__title\">{title}</h3></a>\
                     <p class=\"card__text\">"
                ));
                text.sentence();
                text.add("</p></div>\n");
            }
            text.add("</div>\n");
        }
        _ => {
            text.add("<p>");
            text.sentences(2, 7);
            text.add("</p>\n");
        }
    }
}

const PROPERTIES: [&str; 36] = [
    "display",
    "position",
    "margin",
    "margin-top",
    "margin-bottom",
    "padding",
    "padding-left",
    "padding-right",
    "width",
    "max-width",
    "min-height",
    "height",
    "color",
    "background-color",
    "border",
    "border-radius",
    "border-bottom",
    "box-shadow",
    "font-size",
    "font-weight",
    "font-family",
    "line-height",
    "letter-spacing",
    "text-align",
    "text-decoration",
    "transition",
    "transform",
    "opacity",
    "overflow",
    "z-index",
    "flex",
    "align-items",
    "justify-content",
    "gap",
    "grid-template-columns",
    "cursor",
];
const VALUES: [&str; 24] = [
    "block",
    "flex",
    "none",
    "relative",
    "absolute",
    "0",
    "auto",
    "100%",
    "inherit",
    "center",
    "hidden",
    "var(--color-text)",
    "var(--color-accent)",
    "var(--space-m)",
    "var(--space-l)",
    "1fr 1fr",
    "pointer",
    "600",
    "0 auto",
    "space-between",
    "transparent",
    "inline-flex",
    "1.5",
    "all .2s ease-in-out",
];
const STATES: [&str; 12] =
    ["", "", "", "", "", "", ":hover", ":focus-visible", "::before", "::after", ">*", ":not(:last-child)"];

/// A minified style sheet.
pub(super) fn css(random: Random, bytes: usize) -> String {
    let mut text = Text::new(random, bytes);
    text.add(":root{--space-m:1rem;--space-l:2rem;--color-text:#1b1f24;--color-accent:#0072b2}");
    text.until(bytes, "\n", |text| {
        let is_wide = text.chance(6);
        if is_wide {
            let width = text.number(20, 90) * 16;
            text.put(format_args!("@media (min-width:{width}px){{"));
        }
        let (name, state) = (text.name("-"), text.pick(&STATES));
        text.put(format_args!(".{name}{state}{{"));
        for _ in 0..text.number(2, 8) {
            let property = text.pick(&PROPERTIES);
            match text.number(0, 10) {
                0 | 1 => {
                    let number = text.number(1, 64);
                    text.put(format_args!("{property}:{}px;", number * 2));
                }
                2 => {
                    let number = text.number(1, 400);
                    text.put(format_args!("{property}:{}.{}rem;", number / 100, number % 100));
                }
                3 => {
                    let colour = text.hash();
                    text.put(format_args!("{property}:#{};", &colour[..6]));
                }
                _ => {
                    let value = text.pick(&VALUES);
                    text.put(format_args!("{property}:{value};"));
                }
            }
        }
        text.out.pop();
        text.add(if is_wide { "}}" } else { "}" });
    })
}

/// A minified script.
pub(super) fn js(random: Random, bytes: usize) -> String {
    let mut text = Text::new(random, bytes);
    text.add("\"use strict\";(()=>{");
    text.until(bytes, "})();\n", |text| {
        let (f, a, b, c) = (text.local(), text.local(), text.local(), text.local());
        let (method, property, other, string) = (text.member(), text.member(), text.member(), text.name(" "));
        let number = text.number(0, 4_096);
        match text.number(0, 11) {
            0 => text.put(format_args!("function {f}({a},{b}){{return {a}.{method}({b}.{property},{number})}}")),
            1 => text.put(format_args!("const {f}=({a},{b})=>{a}.{property}===void 0?{b}:{a}.{method}({b});")),
            2 => text.put(format_args!("if({a}.{property}&&!{b}.{other}){{{c}({a},\"{string}\");return}}")),
            3 => text.put(format_args!("for(let {a}=0;{a}<{b}.length;{a}++){c}.{method}({b}[{a}],{number});")),
            4 => text.put(format_args!("throw new TypeError(\"{string}: \"+{a}.{property});")),
            5 => text.put(format_args!("{a}.addEventListener(\"{method}\",{b}=>{{{c}.{other}={b}.target.{property}}});")),
            6 => text.put(format_args!("var {f}=Object.assign({{}},{a},{{{property}:{number},{other}:!0}});")),
            7 => text.put(format_args!("{a}.{property}=async function({b}){{const {c}=await {f}({b});return {c}.{method}()}};")),
            8 => text.put(format_args!("switch({a}.{property}){{case {number}:return {b}.{other};default:{c}.{method}({a})}}")),
            9 => text.put(format_args!("{f}.{method}=\"{string}\",{a}.{property}={b}[{number}]||{c};")),
            _ => text.put(format_args!("class {f} extends {a}{{constructor({b}){{super({b});this.{property}={b}.{other}}}{method}(){{return this.{property}}}}}")),
        }
    })
}

impl Text {
    /// A name as minifiers give.
    fn local(&mut self) -> String {
        const LETTERS: &[u8] = b"etnriaosclduhmfpgvybwESxTNCkIALRDOM_PFqBHj$z";
        let first = char::from(LETTERS[self.skewed(LETTERS.len())]);
        if self.chance(60) {
            return first.to_string();
        }
        format!("{first}{}", char::from(LETTERS[self.skewed(LETTERS.len())]))
    }

    /// A name that minifiers leave alone.
    fn member(&mut self) -> String {
        const KNOWN: [&str; 20] = [
            "push",
            "map",
            "filter",
            "forEach",
            "length",
            "current",
            "props",
            "state",
            "children",
            "key",
            "ref",
            "value",
            "prototype",
            "constructor",
            "call",
            "apply",
            "bind",
            "createElement",
            "querySelector",
            "setAttribute",
        ];
        if self.chance(55) {
            return self.pick(&KNOWN).to_owned();
        }
        let (first, second) = (self.noun(), self.noun());
        format!("{first}{}{}", second[..1].to_ascii_uppercase(), &second[1..])
    }
}

/// What a page's script fetches: an array of records.
pub(super) fn json(random: Random, bytes: usize) -> String {
    let mut text = Text::new(random, bytes);
    text.add("{\"items\":[");
    let mut id = text.number(1_000, 90_000);
    let whole = text.until(bytes, "", |text| {
        id += text.number(1, 40);
        let (slug, title, tag, image) = (text.name("-"), text.name(" "), text.noun(), text.hash());
        let (month, day, price, draft) =
            (text.number(1, 13), text.number(1, 29), text.number(100, 99_999), text.chance(10));
        text.put(format_args!(
            "{{\"id\":{id},\"slug\":\"{slug}\",\"title\":\"{title}\",\"date\":\"2026-{month:02}-{day:02}T09:30:00Z\",\
             \"tags\":[\"{tag}\"],\"image\":\"/assets/{image}.avif\",\"price\":{}.{:02},\"draft\":{draft},\"summary\":\"",
            price / 100,
            price % 100
        ));
        text.sentence();
        text.add("\"},");
    });
    format!("{}]}}\n", whole.trim_end_matches(','))
}

/// A drawing: mostly numbers.
pub(super) fn svg(random: Random, bytes: usize) -> String {
    let mut text = Text::new(random, bytes);
    text.add("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 512 512\" fill=\"none\">");
    text.until(bytes, "</svg>\n", |text| {
        let colour = text.hash();
        let (x, y) = (text.number(0, 5_120), text.number(0, 5_120));
        text.put(format_args!(
            "<path fill=\"#{}\" d=\"M{}.{} {}.{}",
            &colour[..6],
            x / 10,
            x % 10,
            y / 10,
            y % 10
        ));
        for _ in 0..text.number(2, 14) {
            let command = text.pick(&["c", "c", "c", "l", "s", "h"]);
            text.add(command);
            let count = match command {
                "c" => 6,
                "s" => 4,
                "l" => 2,
                _ => 1,
            };
            for index in 0..count {
                let tenths = text.number(0, 400);
                let sign = if text.chance(50) {
                    "-"
                } else if index == 0 {
                    ""
                } else {
                    " "
                };
                text.put(format_args!("{sign}{}.{}", tenths / 10, tenths % 10));
            }
        }
        text.add("z\"/>");
    })
}
