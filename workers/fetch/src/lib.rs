//! `GET /er7/{messageId}` and `GET /er7`: reads, with the credentials of whoever asks.
