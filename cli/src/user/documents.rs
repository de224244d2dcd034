//! Documents within a message: OBX-5 of the data type ED (HL7 2.5.1 §2.A.24), which holds a PDF or an image as text.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hl7::walk::Walk;

/// Takes base64 with and without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// A document, or why it is unavailable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    /// Its place: the number of the OBX in the message, and the repetition of OBX-5.
    pub(crate) place: (usize, usize),
    /// The bytes, or the reason in one sentence.
    pub(crate) content: Result<Vec<u8>, &'static str>,
}

impl Document {
    /// A file name for it, which takes nothing from the message: `80f0e422-obx2.pdf`.
    pub(crate) fn file_name(&self, message: &str) -> String {
        let (number, repetition) = self.place;
        let repetition = if repetition > 1 { format!("-{repetition}") } else { String::new() };
        let extension = self.content.as_ref().map_or("bin", |bytes| extension(bytes));
        format!("{message}-obx{number}{repetition}.{extension}")
    }
}

/// The documents of a message, in order.
pub(crate) fn documents<'a>(walk: &'a Walk<'a>) -> impl Iterator<Item = Document> + 'a {
    walk.segments().filter(|it| it.id == "OBX" && it.value_type() == "ED").flat_map(move |segment| {
        let repetitions = segment.repetitions(5).enumerate();
        let documents = repetitions.filter(|(_, text)| !text.is_empty()).map(|(index, text)| {
            let content = content(&walk.decode(segment.part(text, 4)), &walk.decode(segment.part(text, 5)));
            Document { place: (segment.occurrence, index + 1), content }
        });
        documents.collect::<Vec<_>>()
    })
}

/// ED.4 says how ED.5 is written (HL7 table 0299).
fn content(encoding: &str, data: &str) -> Result<Vec<u8>, &'static str> {
    // The sender of the base64, or HL7's own `\.br\`, may have broken long lines.
    let plain = || data.replace("\\.br\\", "").split_whitespace().collect::<String>();
    match encoding.to_ascii_lowercase().as_str() {
        _ if data.is_empty() => Err("it has no data"),
        "base64" => BASE64.decode(plain()).map_err(|_| "it is not base64, as it says it is"),
        "hex" => const_hex::decode(plain()).map_err(|_| "it is not hexadecimal, as it says it is"),
        "a" | "" => Ok(data.as_bytes().to_vec()),
        _ => Err("ED.4 names no encoding that is known"),
    }
}

/// Judges by the first bytes, and not by the message: the extension decides which program opens the file.
fn extension(bytes: &[u8]) -> &'static str {
    const BEGINNINGS: [(&[u8], &str); 9] = [
        (b"%PDF-", "pdf"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff", "jpg"),
        (b"GIF8", "gif"),
        (b"II*\0", "tif"),
        (b"MM\0*", "tif"),
        (b"BM", "bmp"),
        (b"{\\rtf", "rtf"),
        (b"<?xml", "xml"),
    ];
    let known = BEGINNINGS.iter().find(|(beginning, _)| bytes.starts_with(beginning)).map(|(_, name)| *name);
    let is_dicom = bytes.get(128..132) == Some(b"DICM");
    let is_text = || std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0'));
    known.or(is_dicom.then_some("dcm")).unwrap_or_else(|| if is_text() { "txt" } else { "bin" })
}

#[cfg(test)]
mod tests {
    use domain::Er7;

    use super::*;

    #[test]
    fn documents_are_read_as_they_are_written_and_named_by_what_they_are() {
        let pdf = base64::prelude::BASE64_STANDARD.encode("%PDF-1.7 of a patient");
        let (begun, rest) = pdf.split_at(8);
        let obx = |value: &str| format!("OBX|1|ED|a||{value}\r");
        let text = [
            "MSH|^~\\&|||||||ORU^R01|1|P|2.5\r".to_owned(),
            "OBX|1|ST|a||%PDF-\r".to_owned(),
            format!("OBX|1|ED^^HL70125|a||^AP^../../x.exe^Base64^{pdf}\r"),
            obx(&format!("^AP^PDF^BASE64^{begun}\\.br\\{rest}~^^^Hex^89504e470d0a1a0a00")),
            obx("^TEXT^PLAIN^A^one \\T\\ two"),
            obx("^AP^PDF^Base64^%%%"),
            obx("^AP^PDF^uuencode^x"),
            obx("^AP^PDF^Base64^"),
        ];
        let message = Er7::canonical(&text.concat()).unwrap();
        let walk = Walk::of(&message).unwrap();
        let found: Vec<_> = documents(&walk).collect();
        let names: Vec<_> = found.iter().map(|it| it.file_name("80f0e422")).collect();
        let expected = ["obx2.pdf", "obx3.pdf", "obx3-2.png", "obx4.txt", "obx5.bin", "obx6.bin", "obx7.bin"];
        assert_eq!(names, expected.map(|it| format!("80f0e422-{it}")));
        assert_eq!(found[0].content.as_deref(), Ok(b"%PDF-1.7 of a patient".as_slice()));
        assert_eq!(found[1].content, found[0].content);
        assert_eq!(found[3].content.as_deref(), Ok(b"one & two".as_slice()));
        assert!(found[4..].iter().all(|it| it.content.is_err()));
    }
}
