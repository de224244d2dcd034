//! The messages in files and pipes: one of each, or several, as a batch with its headers or as a plain run.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use domain::{Charset, MAX_UPLOAD_BYTES, Undecodable, Unreceivable};
use hl7::{BatchProblem, Body, Piece};

/// Largest file, in bytes: one is held in memory as a whole.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The files that the arguments of a command name. A folder stands for the files directly in it, sorted by name, without hidden
/// ones; with a pattern, only for those whose names match it ([`matches_name`]).
///
/// # Errors
/// When a folder cannot be listed, or there are no files.
pub fn files(arguments: &[PathBuf], pattern: Option<&str>) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for argument in arguments {
        if argument.is_dir() {
            let listed =
                std::fs::read_dir(argument).and_then(|it| it.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>());
            let mut inside = listed.with_context(|| format!("listing {}", argument.display()))?;
            let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let is_meant = |path: &Path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                pattern.is_none_or(|pattern| matches_name(pattern, &name))
            };
            inside.retain(|path| path.is_file() && !is_hidden(path) && is_meant(path));
            inside.sort();
            files.append(&mut inside);
        } else {
            files.push(argument.clone());
        }
    }
    if files.is_empty() {
        bail!("there are no files");
    }
    Ok(files)
}

/// Whether a name matches a pattern, in which `*` stands for any characters and `?` for one.
#[must_use]
pub fn matches_name(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut read) = (0, 0);
    // The position after the last `*`, and how much of the name it has taken: the one place to go back to.
    let mut star = None;
    loop {
        match (pattern.get(at), name.get(read)) {
            (Some('*'), _) => {
                star = Some((at, read));
                at += 1;
            }
            (None, None) => return true,
            (Some(wanted), Some(character)) if *wanted == '?' || wanted == character => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((place, taken)) = star.filter(|(_, taken)| *taken < name.len()) else { return false };
                star = Some((place, taken + 1));
                (at, read) = (place + 1, taken + 1);
            }
        }
    }
}

/// Whether bytes begin as a message or a batch does: with MSH, FHS or BHS and a field separator after any framing, byte order mark and
/// blanks, in any character set that hospitals send. A separator other than `|` counts if no word follows it, unlike in `BHS: a scale`:
/// MSH-2 follows, the encoding characters (HL7 2.5.1 §2.5.4).
#[must_use]
pub fn begins_as_hl7(bytes: &[u8]) -> bool {
    // UTF-16 has a zero beside each of these letters.
    let shown = bytes.iter().copied().filter(|byte| !matches!(byte, 0 | 0xef | 0xbb | 0xbf | 0xfe | 0xff));
    let beginning: Vec<u8> = shown.skip_while(|byte| byte.is_ascii_whitespace() || *byte == 0x0b).take(5).collect();
    let Some((b"MSH" | b"FHS" | b"BHS", behind)) = beginning.split_first_chunk::<3>() else { return false };
    match behind {
        [] | [b'|', ..] => true,
        [separator, rest @ ..] => separator.is_ascii_punctuation() && rest.iter().all(u8::is_ascii_punctuation),
    }
}

/// Opens a file, or stdin for `-`.
pub fn open(path: &Path) -> std::io::Result<Box<dyn Read>> {
    Ok(if path.as_os_str() == "-" { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(path)?) })
}

/// Reads all of a file, or says why that cannot be done. `named` is the charset that the user names for all of it.
///
/// # Errors
/// A sentence: the file cannot be read, or is larger than 1 GiB.
pub fn read(path: &Path, named: Option<Charset>) -> Result<Body, String> {
    let mut bytes = Vec::new();
    let read = open(path).and_then(|source| source.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    within_limit(read.map(|_| bytes), named)
}

/// Reads a file that is to be sent. If it is one message that is too large, reads only as much as shows that.
///
/// # Errors
/// A sentence: [`TOO_LARGE`], the file is empty, cannot be read, or is larger than 1 GiB.
pub fn read_for_api(path: &Path, named: Option<Charset>) -> Result<Body, String> {
    let begin = || -> std::io::Result<_> {
        let mut source = open(path)?;
        let mut bytes = Vec::new();
        source.by_ref().take(MAX_UPLOAD_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok((source, bytes))
    };
    let (source, bytes) = begin().map_err(|error| unreadable(&error))?;
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    let begun = Body::of(bytes, named);
    if begun.bytes().len() <= MAX_UPLOAD_BYTES {
        return Ok(begun);
    }
    if !begun.is_batch() {
        return Err(TOO_LARGE.to_owned());
    }
    let mut bytes = Vec::from(begun.into_bytes());
    let read = source.take(MAX_FILE_BYTES + 1 - bytes.len() as u64).read_to_end(&mut bytes);
    within_limit(read.map(|_| bytes), named)
}

fn within_limit(read: std::io::Result<Vec<u8>>, named: Option<Charset>) -> Result<Body, String> {
    match read {
        Ok(bytes) if bytes.len() as u64 > MAX_FILE_BYTES => Err("too large: a file may have at most 1 GiB".to_owned()),
        Ok(bytes) => Ok(Body::of(bytes, named)),
        Err(error) => Err(unreadable(&error)),
    }
}

/// The name of a message: that of its file, and in a batch also its number.
pub fn name(body: &Body, file: &str, number: usize) -> String {
    if body.is_batch() { format!("{file}#{number}") } else { file.to_owned() }
}

/// Why a message cannot be read, with an offset into the file. Quotes nothing of it.
pub fn explain(piece: &Piece<'_>, error: &Unreceivable) -> String {
    let Unreceivable::Undecodable(undecodable) = error else { return error.to_string() };
    let at = piece.offset() + undecodable.offset();
    match undecodable {
        Undecodable::Byte { charset, .. } => format!("not valid {}: byte {at} of the file cannot be decoded", charset.name()),
        Undecodable::UnknownCharset { .. } => {
            format!(
                "MSH-18 names no character set that Sluice knows, and it is not valid UTF-8: byte {at} of the file; name the set \
                 with --charset"
            )
        }
    }
}

/// Why a file is not sent.
pub const TOO_LARGE: &str = "too large: a message may have at most 64 MiB";

/// Why a file is not sent without `--any`.
pub const NOT_HL7: &str = "does not begin as HL7 does, and nothing can be taken back from a lake: --any sends it all the same";

fn unreadable(error: &std::io::Error) -> String {
    format!("cannot be read: {error}")
}

/// A problem of a batch as a sentence.
pub fn describe(problem: &BatchProblem) -> String {
    let (found, declared) = (problem.found, problem.declared.unwrap_or_default());
    match problem.code {
        "bts-count" => format!("BTS-1 says that the batch has {declared} messages; found: {found}"),
        "fts-count" => format!("FTS-1 says that the file has {declared} batches; found: {found}"),
        "no-bts" => format!("a batch has no BTS at its end, and may have been cut short; messages found: {found}"),
        "no-fts" => format!("the file has no FTS at its end, and may have been cut short; batches found: {found}"),
        other => format!("{other}; found: {found}"),
    }
}

/// A character set by a name of the IANA registry or of HL7 table 0211.
pub fn charset(text: &str) -> Result<Charset, String> {
    Charset::for_hl7(text).ok_or_else(|| "unknown character set; use a name such as iso-8859-1 or 8859/1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSH: &str = "MSH|^~\\&|A||||||ADT^A01|7|P|2.5\r";

    fn latin_1() -> Charset {
        Charset::for_label("iso-8859-1").unwrap()
    }

    #[test]
    fn a_folder_means_the_files_in_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.hl7", "a.hl7", ".hidden"] {
            std::fs::write(folder.path().join(name), "MSH").unwrap();
        }
        std::fs::create_dir(folder.path().join("deeper")).unwrap();
        let found = files(&[PathBuf::from("-"), folder.path().to_owned(), PathBuf::from("not there")], None).unwrap();
        assert_eq!(found, [Path::new("-"), &folder.path().join("a.hl7"), &folder.path().join("b.hl7"), Path::new("not there")]);
        assert!(files(&[folder.path().join("deeper")], None).is_err());
        assert_eq!(files(&[folder.path().to_owned()], Some("b*")).unwrap(), [folder.path().join("b.hl7")]);
    }

    #[test]
    fn a_pattern_matches_file_names() {
        for (pattern, name) in [("*.hl7", "a.hl7"), ("*", ""), ("?.h*7", "a.hl7"), ("a", "a"), ("*a*a", "baab.a"), ("é*", "éa")]
        {
            assert!(matches_name(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.hl7", "a.hl7.bak"), ("?", ""), ("", "a"), ("a", "A"), ("*a?", "a"), ("a*b*c", "acb")] {
            assert!(!matches_name(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_file_that_is_not_hl7_is_recognized_by_its_beginning() {
        for text in [MSH, "\r\n\u{b}MSH|", "\u{feff}FHS|", "  BHS|", "MSH", "MSH| |", "MSH$%~\\&$", "MSH^~\\&|HIS"] {
            assert!(begins_as_hl7(text.as_bytes()), "{text}");
            for label in ["utf-16le", "utf-16be"] {
                assert!(begins_as_hl7(&Charset::for_label(label).unwrap().encode(text).unwrap()), "{label} {text}");
            }
        }
        for text in ["", "MS", "PID|1", "-----BEGIN PRIVATE KEY-----", "msh|", "text\rMSH|", "{\"a\": 1}", "\u{7f}ELF"] {
            assert!(!begins_as_hl7(text.as_bytes()), "{text}");
        }
        for text in ["MSH is a hormone", "BHS: a scale", "MSHA", "FHS\nnext", "BHS:5", "MSH-1 is a field"] {
            assert!(!begins_as_hl7(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_sent_is_recognized_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.hl7");
        let error = |path: &Path| read_for_api(path, None).unwrap_err();
        // Sparse: 4 GiB that are not on the disk, and must not be in memory.
        std::fs::File::create(&path).unwrap().set_len(4 << 30).unwrap();
        assert_eq!(error(&path), TOO_LARGE);
        std::fs::File::create(&path).unwrap().set_len(MAX_UPLOAD_BYTES as u64).unwrap();
        assert_eq!(read_for_api(&path, None).unwrap().bytes().len(), MAX_UPLOAD_BYTES);
        std::fs::File::create(&path).unwrap();
        assert_eq!(error(&path), "the file is empty");
        assert!(error(&folder.path().join("none")).contains("cannot be read"));
    }

    #[test]
    fn a_batch_may_be_larger_than_a_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batch.hl7");
        let message = format!("{MSH}NTE|1||{}\r", "x".repeat(1 << 20));
        std::fs::write(&path, format!("BHS|^~\\&|\r{}BTS|6\r", message.repeat(6))).unwrap();
        let body = read_for_api(&path, None).unwrap();
        assert_eq!((body.count(), body.problems()), (6, Vec::new()));
        assert!(body.messages().all(|it| it.bytes() == message.as_bytes()));
        std::fs::write(&path, message.repeat(6)).unwrap();
        assert_eq!(read_for_api(&path, None).unwrap().count(), 6);
    }

    #[test]
    fn one_message_is_the_whole_file_and_a_batch_has_names() {
        let bytes = format!("\r\n\u{b}{MSH}\u{1c}\r\n").into_bytes();
        let body = Body::of(bytes.clone(), None);
        assert_eq!(body.messages().map(|it| it.bytes()).collect::<Vec<_>>(), [bytes]);
        assert_eq!((name(&body, "a", 1), body.count()), ("a".to_owned(), 1));
        let body = Body::of(MSH.repeat(2).into_bytes(), None);
        assert_eq!(body.messages().map(|it| name(&body, "a", it.number())).collect::<Vec<_>>(), ["a#1", "a#2"]);
        for nothing in ["", "\r\n"] {
            let body = Body::of(nothing.as_bytes().to_vec(), None);
            assert!(matches!(body.message(1).unwrap().read(), Err(Unreceivable::Empty(_))));
            assert!(body.message(2).is_none() && body.message(0).is_none());
        }
    }

    #[test]
    fn a_byte_order_mark_or_a_named_character_set_applies_to_all_messages() {
        let message = MSH.replace("2.5", "2.5||||||8859/1") + "PID|1||7||M\u{fc}LLER\r";
        let text = message.repeat(2);
        let read = |bytes: Vec<u8>, named| {
            let body = Body::of(bytes, named);
            body.messages().map(|it| it.read().unwrap().er7.as_str().to_owned()).collect::<Vec<_>>()
        };
        let expected = [message.clone(), message];
        assert_eq!(read(latin_1().encode(&text).unwrap(), None), expected);
        assert_eq!(read(format!("\u{feff}{text}").into_bytes(), None), expected);
        assert_eq!(read(text.clone().into_bytes(), Some(Charset::UTF_8)), expected);
        for label in ["utf-16le", "utf-16be"] {
            let charset = Charset::for_label(label).unwrap();
            assert_eq!(read(charset.encode(&text).unwrap(), None), expected, "{label}");
            assert_eq!(read(charset.encode(&format!("\u{feff}{text}")).unwrap(), None), expected, "{label}");
        }
    }

    #[test]
    fn an_unreadable_message_is_reported_with_its_place_in_the_file() {
        let bytes = [MSH.as_bytes(), MSH.as_bytes(), b"PID|SECRET\xff\r"].concat();
        let body = Body::of(bytes, None);
        let message = body.message(2).unwrap();
        let error = explain(&message, &message.read().unwrap_err());
        assert_eq!(error, format!("not valid UTF-8: byte {} of the file cannot be decoded", 2 * MSH.len() + "PID|SECRET".len()));
        assert_eq!(format!("{body:?}"), format!("Body({} bytes, 2 messages)", body.bytes().len()));
        let body = Body::of([MSH.replace("2.5", "2.5||||||KLINGON").as_bytes(), b"PID|\xff\r"].concat(), None);
        let message = body.message(1).unwrap();
        assert!(explain(&message, &message.read().unwrap_err()).starts_with("MSH-18 names no character set"));
    }

    #[test]
    fn problems_of_a_batch_are_sentences() {
        let of = |text: String| Body::of(text.into_bytes(), None).problems().iter().map(describe).collect::<Vec<_>>();
        assert_eq!(of(format!("BHS|\r{MSH}BTS|3\r")), ["BTS-1 says that the batch has 3 messages; found: 1"]);
        assert_eq!(of(format!("FHS|\rBHS|\r{MSH}BTS|1\rFTS|2\r")), ["FTS-1 says that the file has 2 batches; found: 1"]);
        let cut = of(format!("FHS|\rBHS|\r{MSH}"));
        assert!(cut[0].contains("no BTS") && cut[1].contains("no FTS"), "{cut:?}");
    }

    #[test]
    fn an_encoding_has_a_name_of_iana_or_of_hl7() {
        for label in ["iso-8859-1", "8859/1", "Latin1"] {
            assert_eq!(charset(label).unwrap().name(), "windows-1252", "{label}");
        }
        // The API knows each by the name that goes into `Content-Type`.
        for label in ["8859/2", "8859/9", "8859/15", "UNICODE UTF-8", "GB 18030-2000", "utf-16le"] {
            let found = charset(label).unwrap();
            assert_eq!(Charset::for_label(found.name()), Some(found), "{label}");
        }
        assert!(charset("klingon").is_err());
    }
}
