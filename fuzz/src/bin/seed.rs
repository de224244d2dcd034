//! Writes what the fuzzer begins with: `seed FOLDER`, in it a folder for each target. Messages are the made-up ones of `crates/corpus` and
//! those of the folder that `SLUICE_CORPUS` names.

use std::path::PathBuf;

use domain::{Charset, Er7};
use sluice_hl7::{Delimiters, write_json};

fn main() -> std::io::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder] = arguments.as_slice() else { panic!("seed FOLDER") };
    for target in ["canonical", "rendition", "document", "batch", "ack", "validation"] {
        std::fs::create_dir_all(folder.join(target))?;
    }
    let write = |target: &str, n: usize, bytes: &[u8]| std::fs::write(folder.join(target).join(format!("seed-{n}")), bytes);
    let mut messages: Vec<Vec<u8>> = ["|^~\\&", "|^~\\&#", "$%*!@"]
        .into_iter()
        .map(|delimiters| {
            let field = &delimiters[..1];
            let text = "MSH|A|B|C|D|20260101||ORU^R01^ORU_R01|7|P|2.5.1||||AL|NE||8859/1\rPID|1||7^^^A&B~8||DOE^J\\F\\\rOBX|1|CE|x||a^b\r";
            text.replacen("MSH", &format!("MSH{delimiters}"), 1).replace('|', field).into_bytes()
        })
        .collect();
    for label in ["utf-16le", "utf-16be", "shift_jis", "iso-2022-jp"] {
        let text = "MSH|^~\\&|A|||||||||||||||UNICODE UTF-16\r\nPID|||||山田^太郎\r\n";
        messages.extend(Charset::for_label(label).and_then(|it| it.encode(text)));
    }
    let mut samples = corpus::messages()?;
    let others = samples.split_off(corpus::made_up()?.len());
    messages.extend(samples.into_iter().map(|it| it.bytes));
    let mut others: Vec<_> = others.into_iter().map(|it| it.bytes).collect();
    // Small ones are mutated more often.
    others.sort_by_key(Vec::len);
    messages.extend(others.into_iter().take(400));
    eprintln!("{} messages to begin with", messages.len());
    for (n, bytes) in messages.iter().enumerate() {
        for target in ["canonical", "rendition", "ack", "validation"] {
            write(target, n, bytes)?;
        }
        let batch = [b"FHS|^~\\&|A\rBHS|^~\\&|A|B\r", &bytes[..], b"\r", bytes, b"\rBTS|2\rFTS|1\r"].concat();
        write("batch", n, &batch)?;
        let Some(message) = std::str::from_utf8(bytes).ok().and_then(|it| Er7::canonical(it).ok()) else { continue };
        let Ok(delimiters) = Delimiters::of(&message) else { continue };
        let mut json = Vec::new();
        write_json(&message, &delimiters, &mut json)?;
        write("document", n, &json)?;
    }
    Ok(())
}
