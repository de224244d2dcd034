//! The worst that may be sent, in any size. All but the last can be read.

/// What there is.
pub(crate) const NAMES: [&str; 25] = [
    "`|`",
    "`~`",
    "`&`",
    "`^`",
    "`\\`",
    "a letter in every field",
    "a letter in every field of CSR",
    "a letter in every component",
    "a letter in every subcomponent",
    "a letter in every repetition",
    "one value",
    "one value, no line end in it, of `MSH`",
    "segments of one letter",
    "blank segments",
    "`MSH\\|` lines",
    "`\\E\\E\\`",
    "`\\X41\\`",
    "`\\X` with as many digits",
    "`\\X` with as many digits, not closed",
    "`\\.br\\`",
    "NUL",
    "quotes and `\\.`",
    "MSH-2 of one character",
    "MSH-18 of many repetitions",
    "UTF-16 with a lone surrogate",
];

const MSH: &str = "MSH|^~\\&|||||||ORU^R01|1|P|2.8.2";

/// One of [`NAMES`], of `size` bytes or a few less.
pub(crate) fn input(name: &str, size: usize) -> Vec<u8> {
    let fill = |before: &str, what: &str, after: &str| {
        let room = size.saturating_sub(before.len() + after.len());
        [before, &what.repeat(room / what.len()), after].concat().into_bytes()
    };
    let field = |what: &str| fill(&format!("{MSH}\rPID|||"), what, "\r");
    let note = |before: &str, what: &str, after: &str| fill(&format!("{MSH}\rNTE|||{before}"), what, &format!("{after}\r"));
    match name {
        "`|`" => field("|"),
        "`~`" => field("~"),
        "`&`" => field("&"),
        "`^`" => field("^"),
        "`\\`" => field("\\"),
        "a letter in every field" => field("a|"),
        // The longest names there are, for the shortest values.
        "a letter in every field of CSR" => {
            fill(&format!("{}\r", MSH.replace("2.8.2", "2.4")), &format!("CSR{}\r", "|a".repeat(16)), "")
        }
        "a letter in every component" => field("a^"),
        "a letter in every subcomponent" => field("a&"),
        "a letter in every repetition" => field("a~"),
        "one value" => field("a"),
        "one value, no line end in it, of `MSH`" => fill(&format!("{MSH}|||||||||"), "MSH", "\r"),
        "segments of one letter" => fill(&format!("{MSH}\r"), "A\r", "A\r"),
        "blank segments" => fill(&format!("{MSH}\r"), "\r", "A\r"),
        "`MSH\\|` lines" => fill(&format!("{MSH}\r"), "MSH|\r", ""),
        "`\\E\\E\\`" => note("", "\\E", "\\"),
        "`\\X41\\`" => note("", "\\X41\\", ""),
        "`\\X` with as many digits" => note("\\X", "41", "\\"),
        "`\\X` with as many digits, not closed" => note("\\X", "41", ""),
        "`\\.br\\`" => note("", "\\.br\\", ""),
        "NUL" => note("", "\0", ""),
        "quotes and `\\.`" => note("", "\"\u{1}", "\\."),
        "MSH-2 of one character" => fill("MSH|", "^", "|A\r"),
        "MSH-18 of many repetitions" => fill(&format!("{MSH}||||||"), "8859/0~", "UNICODE UTF-8\r"),
        _ => {
            let text = String::from_utf8(fill(MSH, "|a", "")).unwrap_or_default();
            let text: String = text.chars().take(text.len() / 2).collect();
            let mut bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            bytes.extend(0xd800_u16.to_le_bytes());
            bytes.extend(b"\r\0");
            bytes
        }
    }
}
