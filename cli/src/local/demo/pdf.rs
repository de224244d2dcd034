//! A PDF as a laboratory sends one: a page of text, and images that make it large.

/// In base64, this makes a message larger than 96 KiB, so that it goes through the overflow bucket.
const IMAGE_BYTES: usize = 96 * 1024;

/// A valid PDF 1.4 of one page, with an embedded gray image.
pub(super) fn report() -> Vec<u8> {
    let text = "BT /F1 18 Tf 72 760 Td (Laboratory report) Tj 0 -28 Td /F1 11 Tf \
                (Synthetic: no person in it exists.) Tj ET q 256 0 0 256 72 440 cm /I1 Do Q";
    let side = 256;
    let image: Vec<u8> = (0..IMAGE_BYTES).map(noise).collect();
    let dictionary = format!(
        "/Type /XObject /Subtype /Image /Width {side} /Height {} /ColorSpace /DeviceGray /BitsPerComponent 8",
        IMAGE_BYTES / side
    );
    let objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 5 0 R \
          /Resources << /Font << /F1 4 0 R >> /XObject << /I1 6 0 R >> >> >>"
            .to_vec(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_vec(),
        stream("", text.as_bytes()),
        stream(&dictionary, &image),
    ];

    let mut pdf = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (index, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", pdf.len()));
        pdf.extend_from_slice(format!("{} 0 obj\n", index + 1).as_bytes());
        pdf.extend_from_slice(object);
        pdf.extend_from_slice(b"\nendobj\n");
    }
    let start = pdf.len();
    pdf.extend_from_slice(table.as_bytes());
    let trailer = format!("trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n", objects.len() + 1);
    pdf.extend_from_slice(trailer.as_bytes());
    pdf
}

fn stream(dictionary: &str, content: &[u8]) -> Vec<u8> {
    let mut object = format!("<< {dictionary} /Length {} >>\nstream\n", content.len()).into_bytes();
    object.extend_from_slice(content);
    object.extend_from_slice(b"\nendstream");
    object
}

/// Gray that looks like a scan and does not repeat itself.
fn noise(index: usize) -> u8 {
    let mixed = (index as u32).wrapping_mul(2_654_435_761);
    (mixed >> 24) as u8
}

#[cfg(test)]
mod tests {
    use super::report;

    #[test]
    fn the_cross_reference_table_points_at_the_objects() {
        let pdf = report();
        let text: String = pdf.iter().map(|byte| *byte as char).collect(); // one character a byte
        let at = |offset: usize| text.chars().skip(offset).collect::<String>();
        let start = text.rsplit("startxref\n").next().unwrap().lines().next().unwrap().parse().unwrap();
        let table = at(start);
        let mut lines = table.lines();
        assert_eq!(lines.next(), Some("xref"));
        assert_eq!(lines.next(), Some("0 7"));
        assert_eq!(lines.next(), Some("0000000000 65535 f "));
        for number in 1..=6 {
            let (offset, _) = lines.next().unwrap().split_once(' ').unwrap();
            assert!(at(offset.parse().unwrap()).starts_with(&format!("{number} 0 obj\n")), "object {number}");
        }
        assert!(text.ends_with("%%EOF\n"));
    }
}
