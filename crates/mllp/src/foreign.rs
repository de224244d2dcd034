//! Peers that speak another protocol than MLLP, told by their first bytes.
//!
//! A web page may send an HTTP request to any port of the machine that its reader sits at, and choose the body: VT, a message, FS and
//! CR. So the first bytes of another protocol end the connection before anything behind them is read.

/// Bytes that senders put between frames to keep a connection alive: NUL, STX, LF, CR and blanks.
pub(crate) const KEEP_ALIVE: [u8; 6] = [0, 0x02, b'\n', b'\r', b' ', b'\t'];

/// How many bytes of a stray run are examined.
pub(crate) const HEAD_BYTES: usize = 32;

/// ENQ, with which a sender of ASTM E1381 requests the line.
const ENQ: u8 = 0x05;

/// The kind of bytes outside of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stray {
    /// Another protocol, by its name. The connection is closed.
    Protocol(&'static str),
    /// An analyzer that speaks ASTM E1381 (LIS1-A).
    Astm,
    /// A message without a frame around it.
    Unframed,
    /// Unknown bytes.
    Unknown,
}

/// Identifies the first bytes outside of a frame, without the keep-alive bytes before them.
pub(crate) fn tell(head: &[u8]) -> Stray {
    if let Some(name) = protocol(head) {
        return Stray::Protocol(name);
    }
    if head.first() == Some(&ENQ) {
        return Stray::Astm;
    }
    let is_segment = [&b"MSH"[..], b"FHS", b"BHS"].iter().any(|name| head.starts_with(name));
    if is_segment { Stray::Unframed } else { Stray::Unknown }
}

fn protocol(head: &[u8]) -> Option<&'static str> {
    const STARTS: [(&[u8], &str); 16] = [
        (b"EHLO ", "SMTP"),
        (b"HELO ", "SMTP"),
        (b"LHLO ", "SMTP"),
        // The greeting of a server of SMTP or FTP, where the gateway has connected.
        (b"220 ", "SMTP"),
        (b"220-", "SMTP"),
        (b"PING\r", "Redis"),
        (b"PING\n", "Redis"),
        (b"INFO\r", "Redis"),
        (b"HELLO ", "Redis"),
        (b"AUTH ", "Redis"),
        (b"-NOAUTH", "Redis"),
        (b"-ERR", "Redis"),
        (b"+PONG", "Redis"),
        (b"SSH-", "SSH"),
        (b"HTTP/", "HTTP"),
        (b"PRI * HTTP/2", "HTTP"),
    ];
    let is_tls = matches!(head, [0x16, 0x03, 0..=4, ..]);
    if is_tls {
        return Some("TLS");
    }
    if let Some((_, name)) = STARTS.iter().find(|(start, _)| head.starts_with(start)) {
        return Some(name);
    }
    if is_http_request(head) {
        return Some("HTTP");
    }
    is_redis_array(head).then_some("Redis")
}

/// A method and a blank, followed by any target for the methods that browsers send, else by a path, `*` or a URL.
fn is_http_request(head: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] = [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"CONNECT", b"TRACE"];
    let Some(end) = memchr::memchr(b' ', head) else { return false };
    let (method, target) = head.split_at_checked(end).unwrap_or_default();
    let is_token =
        !method.is_empty() && method.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(byte));
    METHODS.contains(&method) || is_token && [&b" /"[..], b" * HTTP", b" http"].iter().any(|start| target.starts_with(start))
}

/// The array of a command in RESP: `*1\r\n$4\r\nPING\r\n`.
fn is_redis_array(head: &[u8]) -> bool {
    let Some(rest) = head.strip_prefix(b"*") else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && rest.get(digits..).is_some_and(|behind| behind.starts_with(b"\r\n$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_of_other_protocols_are_known() {
        let cases: [(&[u8], Stray); 17] = [
            (b"GET / HTTP/1.1\r\nHost: x", Stray::Protocol("HTTP")),
            (b"POST /a HTTP/1.1\r\n", Stray::Protocol("HTTP")),
            (b"OPTIONS * HTTP/1.1\r\n", Stray::Protocol("HTTP")),
            (b"PROPFIND /a HTTP/1.1", Stray::Protocol("HTTP")),
            (b"PRI * HTTP/2.0\r\n\r\nSM", Stray::Protocol("HTTP")),
            (b"\x16\x03\x01\x02\x00\x01", Stray::Protocol("TLS")),
            (b"EHLO mail.example\r\n", Stray::Protocol("SMTP")),
            (b"220 mail.example ESMTP", Stray::Protocol("SMTP")),
            (b"*1\r\n$4\r\nPING\r\n", Stray::Protocol("Redis")),
            (b"PING\r\n", Stray::Protocol("Redis")),
            (b"SSH-2.0-OpenSSH_9.2", Stray::Protocol("SSH")),
            (b"\x05", Stray::Astm),
            (b"MSH|^~\\&|A|B", Stray::Unframed),
            (b"BHS|^~\\&|A|B", Stray::Unframed),
            (b"ping", Stray::Unknown),
            (b"GET", Stray::Unknown),
            (b"", Stray::Unknown),
        ];
        for (head, expected) in cases {
            assert_eq!(tell(head), expected, "{head:?}");
        }
    }
}
