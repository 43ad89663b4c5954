//! The body of a request, within its limits.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Instant;

use http_body::Body;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use tokio::time::timeout;

use crate::error::ApiError;
use crate::options::Limits;

/// Reads a body to its end.
///
/// # Errors
/// 413 for a body that is, or says that it is, too large; 408 for one that comes too slowly; 415 for one that would
/// have to be unpacked, since a small one may unpack to anything.
pub async fn read(headers: &HeaderMap, mut body: Incoming, limits: &Limits) -> Result<Vec<u8>, ApiError> {
    let plain = |value: &hyper::header::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().any(|value| !plain(value)) {
        return Err(ApiError::encoded());
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limits.body_bytes as u64) {
        return Err(ApiError::too_large(limits.body_bytes));
    }
    let (started, mut bytes) = (Instant::now(), Vec::new());
    loop {
        let next = timeout(limits.body_time, poll_fn(|context| Pin::new(&mut body).poll_frame(context))).await;
        let frame = match next {
            Err(_) => return Err(ApiError::slow()),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(_))) => return Err(ApiError::bad_request("the body ends too early")),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limits.body_bytes {
                return Err(ApiError::too_large(limits.body_bytes));
            }
            bytes.extend_from_slice(&data);
        }
        let late = started.elapsed().saturating_sub(limits.body_time).as_secs_f64();
        if (bytes.len() as f64) < late * limits.body_rate as f64 {
            return Err(ApiError::slow());
        }
    }
}
