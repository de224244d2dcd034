//! The gateway's config file: several feeds, each with its own settings.
//!
//! ```toml
//! [[listen]]
//! name = "adt"
//! address = "127.0.0.1:2575"
//! charset = "8859/1"
//! application-ack = "safe"
//! peers = ["10.1.0.0/16", "192.168.4.7"]
//! silent-after = "15m"
//! tls = { certificate = "gateway.crt", key = "gateway.key", client-ca = "clients.crt" }
//!
//! [[connect]]
//! name = "bc5800"
//! address = "10.1.2.3:5500"
//! silent-after = "2h"
//! ```

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use domain::Charset;
use jiff::SignedDuration;
use mllp::{ApplicationAck, Endpoint, Feed, IpNet, PeerTls, TlsFiles};
use serde::Deserialize;
use toml::Spanned;

use crate::error::Misused;

/// The most characters of a feed's name.
const MAX_NAME: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    listen: Vec<Listen>,
    #[serde(default)]
    connect: Vec<Connect>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Listen {
    name: Spanned<Name>,
    address: Spanned<SocketAddr>,
    charset: Option<Named>,
    #[serde(default)]
    application_ack: When,
    peers: Option<Spanned<Vec<Network>>>,
    #[serde(alias = "silent_after")]
    silent_after: Option<Lasting>,
    tls: Option<Tls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Connect {
    name: Spanned<Name>,
    address: Spanned<HostAndPort>,
    charset: Option<Named>,
    #[serde(default)]
    application_ack: When,
    #[serde(alias = "silent_after")]
    silent_after: Option<Lasting>,
    tls: Option<ToServer>,
}

/// TLS to a peer that is a server.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ToServer {
    ca: PathBuf,
    /// Certificate and key that the peer asks for.
    own: Option<[PathBuf; 2]>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// When the gateway sends the application acknowledgment.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum When {
    /// As soon as the message is on the gateway's disk.
    #[default]
    Safe,
    /// When the lake has stored or refused it.
    Stored,
}

impl From<When> for ApplicationAck {
    fn from(when: When) -> Self {
        match when {
            When::Safe => Self::Safe,
            When::Stored => Self::Stored,
        }
    }
}

#[derive(Clone, Deserialize, PartialEq)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let is_good = |character: char| character.is_ascii_alphanumeric() || "._-:".contains(character);
        if (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_good) {
            Ok(Self(name))
        } else {
            Err(format!("a name has 1 to {MAX_NAME} letters, digits, `.`, `_`, `-` and `:`"))
        }
    }
}

#[derive(Clone, Deserialize, PartialEq)]
#[serde(try_from = "String")]
struct HostAndPort(String);

impl TryFrom<String> for HostAndPort {
    type Error = String;

    fn try_from(address: String) -> Result<Self, String> {
        host_and_port(&address).map(Self)
    }
}

/// Checks that an address is a host, a colon and a port.
pub(super) fn host_and_port(address: &str) -> Result<String, String> {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(address.to_owned()),
        _ => Err("not a host and a port, such as analyzer.example:5500".to_owned()),
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Named(Charset);

impl TryFrom<String> for Named {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        client::messages::charset(&name).map(Self)
    }
}

/// An address, or a network in CIDR notation.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Network(IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        net.map(Self).ok_or_else(|| "not an IP address, nor a network such as 10.0.0.0/8".to_owned())
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Lasting(Duration);

impl TryFrom<String> for Lasting {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let lasting = text.parse::<SignedDuration>().ok().and_then(|lasting| Duration::try_from(lasting).ok());
        lasting.filter(|lasting| !lasting.is_zero()).map(Self).ok_or_else(|| "not a time such as 90s, 15m or 2h".to_owned())
    }
}

/// Reads the feeds from a file.
///
/// # Errors
/// When the file cannot be read, or has a mistake: the text says in which line and column.
pub(super) fn read(path: &Path) -> Result<Vec<Feed>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    feeds(&bytes, folder).map_err(|error| Misused::because(format!("{}: {error:#}", path.display())))
}

fn feeds(bytes: &[u8], folder: &Path) -> Result<Vec<Feed>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default());
        anyhow!("{}: not UTF-8", place(&before, before.len()))
    })?;
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map(|span| format!("{}: ", place(text, span.start))).unwrap_or_default();
        anyhow!("{at}{}", error.message())
    })?;
    let mut feeds: Vec<Feed> = Vec::new();
    let mut add = |name: &Spanned<Name>, at: usize, feed: Feed| {
        if feeds.iter().any(|other| other.name == feed.name) {
            return Err(anyhow!("{}: another feed has this name", place(text, name.span().start)));
        }
        if feeds.iter().any(|other| other.endpoint == feed.endpoint) {
            return Err(anyhow!("{}: another feed has this address", place(text, at)));
        }
        feeds.push(feed);
        Ok(())
    };
    for listen in file.listen {
        // A feed without `peers` lets everybody connect. An empty list looks like the opposite, so it is a mistake.
        if let Some(peers) = listen.peers.as_ref().filter(|it| it.get_ref().is_empty()) {
            return Err(anyhow!(
                "{}: nobody may connect; leave `peers` out to allow every address",
                place(text, peers.span().start)
            ));
        }
        let feed = Feed {
            name: listen.name.get_ref().0.clone(),
            endpoint: Endpoint::Listen(*listen.address.get_ref()),
            charset: listen.charset.map(|charset| charset.0),
            application_ack: listen.application_ack.into(),
            peers: listen.peers.into_iter().flat_map(Spanned::into_inner).map(|network| network.0).collect(),
            silent_after: listen.silent_after.map(|lasting| lasting.0),
            tls: listen.tls.map(|tls| TlsFiles {
                certificates: folder.join(tls.certificate),
                key: folder.join(tls.key),
                client_ca: tls.client_ca.map(|path| folder.join(path)),
            }),
            peer_tls: None,
        };
        add(&listen.name, listen.address.span().start, feed)?;
    }
    for connect in file.connect {
        let feed = Feed {
            name: connect.name.get_ref().0.clone(),
            charset: connect.charset.map(|charset| charset.0),
            application_ack: connect.application_ack.into(),
            silent_after: connect.silent_after.map(|lasting| lasting.0),
            peer_tls: connect.tls.map(|tls| PeerTls {
                ca: folder.join(tls.ca),
                own: tls.own.map(|[certificate, key]| (folder.join(certificate), folder.join(key))),
                name: tls.name,
            }),
            ..Feed::new(Endpoint::Connect(connect.address.get_ref().0.clone()))
        };
        add(&connect.name, connect.address.span().start, feed)?;
    }
    if feeds.is_empty() {
        return Err(anyhow!("{}: there is no [[listen]] and no [[connect]]", place(text, text.len())));
    }
    Ok(feeds)
}

/// A place in a text, as people count lines and columns.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[[listen]]
name = "adt"
address = "127.0.0.1:2575"
charset = "8859/1"
application-ack = "stored"
peers = ["10.1.0.0/16", "192.168.4.7", "fd00::/8"]
silent-after = "15m"
tls = { certificate = "gateway.crt", key = "/etc/gateway.key" }

[[listen]]
name = "oru"
address = "127.0.0.1:2576"

[[connect]]
name = "bc5800"
address = "analyzer.example:5500"
silent_after = "2h 30m"
"#;

    #[test]
    fn a_config_file_names_feeds_and_their_settings() {
        let feeds = feeds(GOOD.as_bytes(), Path::new("/etc/sluice")).unwrap();
        assert_eq!(feeds.iter().map(|feed| feed.name.as_str()).collect::<Vec<_>>(), ["adt", "oru", "bc5800"]);
        let adt = &feeds[0];
        assert_eq!((adt.charset, adt.application_ack), (Charset::for_hl7("8859/1"), ApplicationAck::Stored));
        assert_eq!(adt.peers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.0/16", "192.168.4.7/32", "fd00::/8"]);
        assert_eq!(adt.silent_after, Some(Duration::from_secs(900)));
        let tls = adt.tls.as_ref().unwrap();
        assert_eq!(tls.certificates, Path::new("/etc/sluice/gateway.crt"), "beside the config file");
        assert_eq!(tls.key, Path::new("/etc/gateway.key"));
        assert_eq!((feeds[1].application_ack, feeds[1].peers.len()), (ApplicationAck::Safe, 0));
        assert_eq!(feeds[2].endpoint, Endpoint::Connect("analyzer.example:5500".to_owned()));
        assert_eq!(feeds[2].silent_after, Some(Duration::from_secs(9_000)));
    }

    #[test]
    fn the_config_file_in_the_manual_is_valid() {
        let page = include_str!("../../../../docs/MLLP.md");
        let (_, block) = page.split_once("```toml\n").unwrap();
        let (block, _) = block.split_once("```").unwrap();
        let feeds = feeds(block.as_bytes(), Path::new("/etc/sluice")).unwrap();
        assert_eq!(feeds.iter().map(|feed| feed.name.as_str()).collect::<Vec<_>>(), ["adt", "bc5800"]);
        assert_eq!((feeds[0].peers.len(), feeds[0].tls.is_some()), (2, true));
        assert_eq!(feeds[1].peer_tls.as_ref().unwrap().ca, Path::new("/etc/sluice/analyzers.crt"));
    }

    #[test]
    fn a_mistake_in_the_config_file_names_its_line_and_column() {
        let cases = [
            ("127.0.0.1:2576", "nowhere", "line 13, column 11"),
            ("10.1.0.0/16", "10.1.0.0/99", "line 7, column"),
            (r#"["10.1.0.0/16", "192.168.4.7", "fd00::/8"]"#, "[]", "line 7, column 9: nobody may connect"),
            ("15m", "soon", "line 8, column 16: not a time"),
            ("8859/1", "klingon", "line 5, column 11: unknown character set"),
            ("\"stored\"", "\"perhaps\"", "line 6, column 19"),
            ("silent-after = \"15m\"", "silent-since = \"15m\"", "line 8, column 1: unknown field"),
            ("name = \"oru\"", "name = \"adt\"", "line 12, column 8: another feed has this name"),
            ("127.0.0.1:2576", "127.0.0.1:2575", "line 13, column 11: another feed has this address"),
            ("analyzer.example:5500", "analyzer.example", "line 17, column 11: not a host and a port"),
            ("name = \"oru\"", "name = \"o r u\"", "line 12, column 8: a name has"),
            ("[[connect]]", "[[connect]", "line 15, column"),
        ];
        for (good, bad, expected) in cases {
            let text = GOOD.replacen(good, bad, 1);
            let error = feeds(text.as_bytes(), Path::new("")).unwrap_err().to_string();
            assert!(error.contains(expected), "{bad}: {error}");
        }
        let refused: [(&[u8], &str); 2] =
            [(b"", "line 1, column 1: there is no"), (b"# a\n# \xc3\xa4\xff", "line 2, column 4: not UTF-8")];
        for (text, expected) in refused {
            assert!(feeds(text, Path::new("")).unwrap_err().to_string().contains(expected), "{expected}");
        }
    }
}
