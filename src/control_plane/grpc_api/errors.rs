//! Errors of the server API as gRPC statuses: transport error mode (server-api.md 1.4), and what the library says in other
//! words than stubs expect.

use bytes::Bytes;
use gyre_proto::api;
use hyper::Response;
use hyper::header::HeaderValue;
use prost::Message;
use tonic::{Code, Status};

/// An error of a call as its status. The error itself is in the details, as stubs know to read it.
pub(super) fn status(error: &api::Error) -> Status {
    let code = match error.code {
        102 | 104 => Code::NotFound,
        107 | 108 => Code::InvalidArgument,
        112 => Code::OutOfRange,
        113 => Code::AlreadyExists,
        _ => Code::Internal,
    };
    let detail = Detail { type_url: ERROR_TYPE.to_owned(), value: error.encode_to_vec() };
    let details = Details { code: code as i32, message: error.message.clone(), details: vec![detail] };
    Status::with_details(code, error.message.clone(), Bytes::from(details.encode_to_vec()))
}

const ERROR_TYPE: &str = "type.googleapis.com/centrifugal.centrifugo.api.Error";

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
struct Details {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// A message over the limit is RESOURCE_EXHAUSTED everywhere but in the library, which says OUT_OF_RANGE.
pub(super) fn too_large<B>(mut response: Response<B>) -> Response<B> {
    const STATUS: &str = "grpc-status";
    const OUT_OF_RANGE: &str = "11";
    let headers = response.headers_mut();
    let is_too_large = headers.get(STATUS).is_some_and(|status| status == OUT_OF_RANGE)
        && headers.get("grpc-message").is_some_and(|text| text.as_bytes().starts_with(b"Error"));
    if is_too_large {
        headers.insert(STATUS, HeaderValue::from_static("8"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stubs in transport error mode tell errors apart by these numbers.
    #[test]
    fn codes() {
        for (code, expected) in [
            (100, Code::Internal),
            (102, Code::NotFound),
            (104, Code::NotFound),
            (107, Code::InvalidArgument),
            (108, Code::InvalidArgument),
            (112, Code::OutOfRange),
            (113, Code::AlreadyExists),
            (999, Code::Internal),
        ] {
            let error = api::Error { code, message: "why".to_owned() };
            let status = status(&error);
            assert_eq!((status.code(), status.message()), (expected, "why"), "{code}");
            let details = Details::decode(status.details()).unwrap();
            assert_eq!(api::Error::decode(&*details.details[0].value).unwrap(), error);
        }
    }
}
