//! `/metrics` in Prometheus' text format, and `/healthz`. Neither holds anything of a message, nor a peer's address.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::overview::Overview;
use crate::report::GatewayReport;

/// How long a client may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest head of a request.
const HEAD_BYTES: usize = 8 * 1024;
const HEADERS: usize = 64;

/// How long to wait when the system has no more file handles.
const NO_HANDLES: Duration = Duration::from_millis(100);

/// Serves metrics until the future is dropped, one client at a time: usually one client asks, and seldom.
pub(crate) async fn serve(listener: TcpListener, overview: Arc<Overview>) {
    loop {
        match listener.accept().await {
            // A client that sends no request in time, or does not read its answer, gets nothing.
            Ok((stream, _)) => drop(timeout(PATIENCE, answer(stream, &overview)).await),
            Err(_) => tokio::time::sleep(NO_HANDLES).await,
        }
    }
}

async fn answer(mut stream: TcpStream, overview: &Overview) -> std::io::Result<()> {
    let mut head = Vec::new();
    let (status, kind, body) = loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => break respond(request.method, request.path, overview),
            Ok(httparse::Status::Partial) if head.len() < HEAD_BYTES => {}
            _ => break ("400 Bad Request", "text/plain", String::new()),
        }
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn respond(method: Option<&str>, path: Option<&str>, overview: &Overview) -> (&'static str, &'static str, String) {
    const TEXT: &str = "text/plain; charset=utf-8";
    match (method, path.map(|path| path.split('?').next().unwrap_or_default())) {
        (Some("GET"), Some("/metrics")) => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", text(&overview.report())),
        (Some("GET"), Some("/healthz")) => ("200 OK", TEXT, "ok\n".to_owned()),
        (Some("GET"), _) => ("404 Not Found", TEXT, "Ask for /metrics or /healthz.\n".to_owned()),
        _ => ("405 Method Not Allowed", TEXT, String::new()),
    }
}

/// A report in Prometheus' text format.
fn text(report: &GatewayReport) -> String {
    let counters = [
        ("received", "Frames read to their end.", report.received),
        ("acknowledged", "Frames answered with CA or AA.", report.acknowledged),
        ("rejected", "Frames answered with another code.", report.rejected),
        ("cut", "Frames that have begun and not ended.", report.cut),
        ("delivered", "Frames delivered to the API.", report.delivered),
        ("duplicates", "Delivered frames that the lake had before.", report.duplicates),
        ("refused", "Frames that the API refuses for good.", report.refused),
        ("damaged", "Damaged records of the spool.", report.damaged),
        ("tries_again", "Submissions without a final answer.", report.tries_again),
        ("questions", "Questions how far messages are.", report.questions),
        ("stored", "Frames that the lake has stored.", report.stored),
        ("held", "Times that the lake held a frame.", report.held),
        ("lost", "Times that the lake had lost a frame.", report.lost),
        ("turned_away", "Connections closed because no place was free.", report.turned_away),
        ("handshakes_failed", "Connections that ended before TLS was agreed on.", report.handshakes_failed),
        ("not_allowed", "Connections from addresses that the feed does not allow.", report.not_allowed),
        ("evicted", "Idle connections closed to make room.", report.evicted),
        ("foreign", "Connections whose peer spoke another protocol.", report.foreign),
        ("astm", "Connections whose peer spoke ASTM.", report.astm),
        ("mismatched", "Frames of the hybrid protocol with a wrong size or checksum.", report.mismatched),
        ("large", "Frames of more bytes than a request to the API may have, read whole.", report.large),
        ("crowded", "Large frames passed over because there was no memory for them.", report.crowded),
        ("uploaded", "Large frames delivered to the API.", report.uploaded),
        ("unframed", "Connections whose peer sent a message without a frame.", report.unframed),
    ];
    let gauges = [
        ("spooled", "Messages acknowledged and not delivered.", report.spooled as u64),
        ("spool_bytes", "Bytes of the spool on disk.", report.spool_bytes),
        ("oldest_seconds", "Age of the oldest message that is not delivered.", report.oldest_seconds),
        ("awaited", "Messages delivered and kept until the lake has stored them.", report.awaited as u64),
        ("oldest_awaited_seconds", "Age of the oldest of these.", report.oldest_awaited_seconds),
        ("connections", "Open connections.", report.connections),
    ];
    let mut text = String::new();
    for (name, help, value) in counters {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "# HELP sluice_mllp_{name}_total {help}\n# TYPE sluice_mllp_{name}_total counter\nsluice_mllp_{name}_total {value}\n"
        );
    }
    for (name, help, value) in gauges {
        let _ = write!(text, "# HELP sluice_mllp_{name} {help}\n# TYPE sluice_mllp_{name} gauge\nsluice_mllp_{name} {value}\n");
    }
    let mut of_feeds = |name: &str, kind: &str, help: &str, value: &dyn Fn(&crate::report::FeedReport) -> Option<i64>| {
        let _ = write!(text, "# HELP sluice_mllp_feed_{name} {help}\n# TYPE sluice_mllp_feed_{name} {kind}\n");
        for feed in &report.feeds {
            if let Some(value) = value(feed) {
                let _ = writeln!(text, "sluice_mllp_feed_{name}{{feed=\"{}\"}} {value}", label(&feed.name));
            }
        }
    };
    let number = |value: u64| Some(i64::try_from(value).unwrap_or(i64::MAX));
    of_feeds("received_total", "counter", "Frames read to their end.", &|feed| number(feed.received));
    of_feeds("last_seconds", "gauge", "Seconds since the last frame.", &|feed| number(feed.last_seconds));
    of_feeds("silent", "gauge", "1 when that is longer than silent-after.", &|feed| Some(i64::from(feed.is_silent)));
    of_feeds("connections", "gauge", "Open connections.", &|feed| number(feed.connections));
    of_feeds("spooled", "gauge", "Messages acknowledged and not delivered.", &|feed| number(feed.spooled as u64));
    of_feeds("oldest_seconds", "gauge", "Age of the oldest of these.", &|feed| number(feed.oldest_seconds));
    of_feeds("awaited", "gauge", "Messages delivered and kept until the lake has stored them.", &|feed| {
        number(feed.awaited as u64)
    });
    of_feeds("certificate_days", "gauge", "Days until the certificate expires.", &|feed| feed.certificate_days);
    text
}

/// The value of a label, escaped as the text format requires.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
