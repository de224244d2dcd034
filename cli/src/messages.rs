//! The messages in files and pipes: one of each, or several, as a batch with its headers or as a plain run.

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use domain::{Charset, Er7, MAX_MESSAGE_BYTES, Received, Undecodable, Unreceivable};
use hl7::{BatchProblem, Split};

/// Largest file, in bytes: one is held in memory as a whole.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The files that are meant by what is on the command line: of a folder those directly in it, by name, without hidden ones.
///
/// # Errors
/// When a folder cannot be listed, or there are no files.
pub(crate) fn files(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for argument in arguments {
        if argument.is_dir() {
            let listed =
                std::fs::read_dir(argument).and_then(|it| it.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>());
            let mut inside = listed.with_context(|| format!("listing {}", argument.display()))?;
            let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            inside.retain(|path| path.is_file() && !is_hidden(path));
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

/// Opens a file, or stdin for `-`.
pub(crate) fn open(path: &Path) -> std::io::Result<Box<dyn Read>> {
    Ok(if path.as_os_str() == "-" { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(path)?) })
}

/// What a file or a pipe has in it.
#[derive(PartialEq, Eq)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    /// What all of it is in; else each message says so itself.
    charset: Option<Charset>,
    split: Split,
    messages: Vec<Range<usize>>,
}

impl Body {
    /// Takes bytes apart as the API does, in the character set that the user names, if any.
    pub(crate) fn of(bytes: Vec<u8>, named: Option<Charset>) -> Self {
        // A byte order mark stands at the beginning of a file and is meant for all of it.
        let charset = named.or_else(|| Charset::of_mark(&bytes));
        let split = hl7::split(&bytes, charset.or_else(|| Charset::of_message(&bytes).ok()).unwrap_or(Charset::UTF_8));
        // What is no batch is one message as a whole, whatever blanks stand before it.
        let whole = 0..bytes.len();
        let messages = if split.is_batch() { split.messages().collect() } else { std::iter::once(whole).collect() };
        Self { bytes, charset, split, messages }
    }

    /// Reads all of a file, or says why that cannot be done.
    pub(crate) fn read(path: &Path, named: Option<Charset>) -> Result<Self, String> {
        let mut bytes = Vec::new();
        let read = open(path).and_then(|source| source.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        Self::within_limit(read.map(|_| bytes), named)
    }

    /// The same of a file that is to be sent: of one message that is too large it reads no more than is needed to know so.
    pub(crate) fn read_for_api(path: &Path, named: Option<Charset>) -> Result<Self, String> {
        let begin = || -> std::io::Result<_> {
            let mut source = open(path)?;
            let mut bytes = Vec::new();
            source.by_ref().take(MAX_MESSAGE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
            Ok((source, bytes))
        };
        let (source, bytes) = begin().map_err(|error| unreadable(&error))?;
        if bytes.is_empty() {
            return Err("the file is empty".to_owned());
        }
        let begun = Self::of(bytes, named);
        if begun.bytes.len() <= MAX_MESSAGE_BYTES {
            return Ok(begun);
        }
        if !begun.is_batch() {
            return Err(TOO_LARGE.to_owned());
        }
        let mut bytes = begun.bytes;
        let read = source.take(MAX_FILE_BYTES + 1 - bytes.len() as u64).read_to_end(&mut bytes);
        Self::within_limit(read.map(|_| bytes), named)
    }

    fn within_limit(read: std::io::Result<Vec<u8>>, named: Option<Charset>) -> Result<Self, String> {
        match read {
            Ok(bytes) if bytes.len() as u64 > MAX_FILE_BYTES => Err("too large: a file may have at most 1 GiB".to_owned()),
            Ok(bytes) => Ok(Self::of(bytes, named)),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// Whether there is more in it than one message.
    pub(crate) fn is_batch(&self) -> bool {
        self.split.is_batch()
    }

    /// Where its parts are.
    pub(crate) fn split(&self) -> &Split {
        &self.split
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What its headers and trailers are in.
    pub(crate) fn charset(&self) -> Charset {
        self.charset.or_else(|| Charset::of_message(&self.bytes).ok()).unwrap_or(Charset::UTF_8)
    }

    /// How many messages there are; at least one, which may be empty.
    pub(crate) fn count(&self) -> usize {
        self.messages.len()
    }

    /// The messages, in their order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        (1..=self.messages.len()).filter_map(|number| self.message(number))
    }

    /// One of them, by its number from 1.
    pub(crate) fn message(&self, number: usize) -> Option<Message<'_>> {
        let range = self.messages.get(number.checked_sub(1)?)?;
        let bytes = self.bytes.get(range.clone())?;
        Some(Message { number, offset: range.start, bytes, charset: self.charset })
    }

    /// What a message is called: by its file, and in a batch by its number.
    pub(crate) fn name(&self, file: &str, number: usize) -> String {
        if self.is_batch() { format!("{file}#{number}") } else { file.to_owned() }
    }

    /// What is wrong with the batch, and not with a message of it.
    pub(crate) fn problems(&self) -> Vec<BatchProblem> {
        self.split.problems(&self.bytes, self.charset())
    }
}

/// `Debug` shows a length, never content.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes, {} messages)", self.bytes.len(), self.messages.len())
    }
}

/// Why a file is not sent.
pub(crate) const TOO_LARGE: &str = "too large: a message may have at most 4 MiB";

fn unreadable(error: &std::io::Error) -> String {
    format!("cannot be read: {error}")
}

/// A message where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The how manieth of its file, from 1.
    pub(crate) number: usize,
    /// Where it begins in its file.
    offset: usize,
    /// As they stand.
    pub(crate) bytes: &'a [u8],
    charset: Option<Charset>,
}

impl Message<'_> {
    /// What it is in: what the user names, a byte order mark, else MSH-18, else UTF-8.
    ///
    /// # Errors
    /// When MSH-18 names what is not known, and it is not UTF-8.
    pub(crate) fn charset(&self) -> Result<Charset, Undecodable> {
        self.charset.map_or_else(|| Charset::of_message(self.bytes), Ok)
    }

    /// What the user names, or the byte order mark of the file.
    pub(crate) fn inherited_charset(&self) -> Option<Charset> {
        self.charset
    }

    /// The message, in canonical form.
    ///
    /// # Errors
    /// [`Unreceivable`], with an offset into the message.
    pub(crate) fn read(&self) -> Result<Er7, Unreceivable> {
        Received::new(self.bytes.to_vec(), self.charset()?).message()
    }

    /// Why it cannot be read, with an offset into the file. Quotes nothing of it.
    pub(crate) fn explain(&self, error: &Unreceivable) -> String {
        let Unreceivable::Undecodable(undecodable) = error else { return error.to_string() };
        let at = self.offset + undecodable.offset();
        match undecodable {
            Undecodable::Byte { charset, .. } => format!("not valid {}: byte {at} of the file cannot be decoded", charset.name()),
            Undecodable::UnknownCharset { .. } => {
                format!("MSH-18 names no character set that is known here, and it is not valid UTF-8: byte {at} of the file")
            }
        }
    }
}

/// A problem of a batch as a sentence.
pub(crate) fn describe(problem: &BatchProblem) -> String {
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
pub(crate) fn charset(text: &str) -> Result<Charset, String> {
    Charset::for_hl7(text).ok_or_else(|| "no character set that is known here, such as iso-8859-1 or 8859/1".to_owned())
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
        let found = files(&[PathBuf::from("-"), folder.path().to_owned(), PathBuf::from("not there")]).unwrap();
        assert_eq!(found, [Path::new("-"), &folder.path().join("a.hl7"), &folder.path().join("b.hl7"), Path::new("not there")]);
        assert!(files(&[folder.path().join("deeper")]).is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_known_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.hl7");
        let error = |path: &Path| Body::read_for_api(path, None).unwrap_err();
        // Sparse: 4 GiB that are not on the disk, and must not be in memory.
        std::fs::File::create(&path).unwrap().set_len(4 << 30).unwrap();
        assert_eq!(error(&path), TOO_LARGE);
        std::fs::File::create(&path).unwrap().set_len(MAX_MESSAGE_BYTES as u64).unwrap();
        assert_eq!(Body::read_for_api(&path, None).unwrap().bytes.len(), MAX_MESSAGE_BYTES);
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
        let body = Body::read_for_api(&path, None).unwrap();
        assert_eq!((body.count(), body.problems()), (6, Vec::new()));
        assert!(body.messages().all(|it| it.bytes == message.as_bytes()));
        std::fs::write(&path, message.repeat(6)).unwrap();
        assert_eq!(Body::read_for_api(&path, None).unwrap().count(), 6);
    }

    #[test]
    fn one_message_is_the_whole_file_and_a_batch_has_names() {
        let bytes = format!("\r\n\u{b}{MSH}\u{1c}\r\n").into_bytes();
        let body = Body::of(bytes.clone(), None);
        assert_eq!(body.messages().map(|it| it.bytes).collect::<Vec<_>>(), [bytes]);
        assert_eq!((body.name("a", 1), body.count()), ("a".to_owned(), 1));
        let body = Body::of(MSH.repeat(2).into_bytes(), None);
        assert_eq!(body.messages().map(|it| body.name("a", it.number)).collect::<Vec<_>>(), ["a#1", "a#2"]);
        for nothing in ["", "\r\n"] {
            let body = Body::of(nothing.as_bytes().to_vec(), None);
            assert!(matches!(body.message(1).unwrap().read(), Err(Unreceivable::Empty(_))));
            assert!(body.message(2).is_none() && body.message(0).is_none());
        }
    }

    #[test]
    fn a_byte_order_mark_speaks_for_all_messages_and_a_named_character_set_too() {
        let message = MSH.replace("2.5", "2.5||||||8859/1") + "PID|1||7||M\u{fc}LLER\r";
        let text = message.repeat(2);
        let read = |bytes: Vec<u8>, named| {
            let body = Body::of(bytes, named);
            body.messages().map(|it| it.read().unwrap().as_str().to_owned()).collect::<Vec<_>>()
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
    fn what_cannot_be_read_is_told_with_its_place_in_the_file() {
        let bytes = [MSH.as_bytes(), MSH.as_bytes(), b"PID|SECRET\xff\r"].concat();
        let body = Body::of(bytes, None);
        let message = body.message(2).unwrap();
        let error = message.explain(&message.read().unwrap_err());
        assert_eq!(error, format!("not valid UTF-8: byte {} of the file cannot be decoded", 2 * MSH.len() + "PID|SECRET".len()));
        assert_eq!(format!("{body:?}"), format!("Body({} bytes, 2 messages)", body.bytes.len()));
        let body = Body::of([MSH.replace("2.5", "2.5||||||KLINGON").as_bytes(), b"PID|\xff\r"].concat(), None);
        let message = body.message(1).unwrap();
        assert!(message.explain(&message.read().unwrap_err()).starts_with("MSH-18 names no character set"));
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
        assert!(charset("klingon").is_err());
    }
}
