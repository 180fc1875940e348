//! HTTP/1.1 on a connection in stream mode: hyper for the protocol, deadlines of our own around it.
//!
//! Runs as one task per HTTP connection on the connection's core, and ends with it or when it becomes a WebSocket.
//! hyper's own timer would need one timer per connection from elsewhere; the connection's timer in the wheel does it:
//! a head must be complete soon after its first byte, and a connection that says nothing may stay a while. While a
//! request is being answered there is no deadline. Never holds the driver borrowed while hyper or the service run.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use gyre_proto::ids::ConnId;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::server::conn::http1::Builder;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};

use crate::driver::Driver;
use crate::stream::Stream;

/// What an HTTP client may take of us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpLimits {
    /// Longest request head in bytes, at least 8192; longer ones are answered with 431.
    pub head_bytes_max: usize,
    /// Time from the first byte of a head, or from the accept, to its end. Then the answer is 408.
    pub head_ms: u64,
    /// Time from the end of a head to the end of its body. Then the connection ends.
    pub body_ms: u64,
    /// How long a connection stays open between requests.
    pub idle_ms: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { head_bytes_max: 64 * 1024, head_ms: 10_000, body_ms: 30_000, idle_ms: 75_000 }
    }
}

/// A connection whose last answer was 101, for `Driver::start_websocket`.
#[derive(Debug)]
pub struct Upgrade {
    /// The connection.
    pub conn: ConnId,
    /// What the peer sent behind the request head.
    pub leftover: Bytes,
}

/// Serves requests on a connection that `Handler::accepted` reported, until it ends (None) or the service answered one
/// with 101. In that case go on with it at once.
pub async fn serve<S, B>(driver: Rc<RefCell<Driver>>, conn: ConnId, service: S, limits: &HttpLimits) -> Option<Upgrade>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let stream = Stream::claim(&driver, conn)?;
    let activity = Rc::new(Activity::default());
    let service = service_fn(|request: Request<Incoming>| {
        let request_open = activity.begin();
        let waits_for_leave = request.headers().contains_key(EXPECT);
        let answer = service.call(request.map(|body| RequestBody::new(body, &activity)));
        // hyper polls it unpinned (`poll_without_shutdown`).
        Box::pin(async move {
            let mut answer = answer.await?;
            let activity = &request_open.0;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                activity.switched.set(true);
            } else if let Some(rest) = activity.unread.take()
                && (waits_for_leave || !read_to_end(RequestBody::new(rest, activity)).await)
            {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| Tracked { body, _request_open: request_open }))
        })
    });
    let mut connection = Builder::new()
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(limits.head_bytes_max.max(8192))
        .serve_connection(stream, service);
    let mut watch = Watch { conn, limits, activity: &activity, state: State::Silent, served: 0, is_draining: false };
    watch.begin(&mut driver.borrow_mut());
    let end = poll_fn(|context| {
        if let Poll::Ready(result) = connection.poll_without_shutdown(context) {
            return Poll::Ready(if result.is_ok() && activity.switched.get() { End::Switched } else { End::Over });
        }
        let look = watch.look(&mut driver.borrow_mut(), context);
        match look {
            Look::Drain => {
                Pin::new(&mut connection).graceful_shutdown();
                // An idle connection ends with the next poll.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Look::Late(is_head_begun) => Poll::Ready(End::Late { is_head_begun }),
            Look::Wait => Poll::Pending,
        }
    })
    .await;
    match end {
        // Dropping the stream ends the connection.
        End::Over | End::Late { is_head_begun: false } => None,
        End::Late { is_head_begun: true } => {
            connection.into_parts().io.end_with(TIMEOUT_ANSWER);
            None
        }
        End::Switched => {
            let parts = connection.into_parts();
            parts.io.release().then_some(Upgrade { conn, leftover: parts.read_buf })
        }
    }
}

/// Time for what is left of a body once the node is shutting down: far less than that may take.
const DRAIN_BODY_MS: u64 = 5_000;

/// Most bytes of a body that are read although nobody wants them, so that the connection can go on. As in Go's server.
const UNREAD_BYTES_MAX: usize = 256 * 1024;

/// Whether the body has ended, soon enough. hyper closes a connection with the answer before that, without saying so: the
/// client's next request would be lost.
async fn read_to_end(mut body: RequestBody) -> bool {
    let mut bytes = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > UNREAD_BYTES_MAX {
            // Dropped for good.
            body.arriving = None;
            return false;
        }
    }
    true
}

const TIMEOUT_ANSWER: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

enum End {
    Switched,
    Over,
    Late { is_head_begun: bool },
}

/// What hyper is doing, as far as the service and the bodies of its answers tell.
#[derive(Debug, Default)]
struct Activity {
    requests_open: Cell<u32>,
    bodies_open: Cell<u32>,
    requests: Cell<u64>,
    switched: Cell<bool>,
    /// The body of the request that is being answered, left before its end.
    unread: RefCell<Option<Incoming>>,
}

impl Activity {
    fn begin(self: &Rc<Self>) -> RequestOpen {
        self.requests_open.set(self.requests_open.get() + 1);
        self.requests.set(self.requests.get() + 1);
        RequestOpen(Rc::clone(self))
    }
}

/// Lives from the end of a request's head to the end of its answer's body.
struct RequestOpen(Rc<Activity>);

impl Drop for RequestOpen {
    fn drop(&mut self) {
        self.0.requests_open.set(self.0.requests_open.get() - 1);
    }
}

/// Where a connection is between its requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has arrived yet.
    Silent,
    /// The head of a request has begun to arrive.
    Head,
    /// The body of a request is arriving.
    Body,
    /// A request is being answered.
    Answering,
    /// All requests are answered.
    Idle,
}

enum Look {
    Wait,
    Drain,
    /// A deadline passed; true in the middle of a head.
    Late(bool),
}

/// Keeps the deadline of one connection.
struct Watch<'a> {
    conn: ConnId,
    limits: &'a HttpLimits,
    activity: &'a Activity,
    state: State,
    served: u64,
    is_draining: bool,
}

impl Watch<'_> {
    fn begin(&self, driver: &mut Driver) {
        driver.stream_deadline(self.conn, Some(driver.now_ms() + self.limits.head_ms));
    }

    /// After every poll of hyper.
    fn look(&mut self, driver: &mut Driver, context: &Context<'_>) -> Look {
        let served = std::mem::replace(&mut self.served, self.activity.requests.get()) != self.served;
        let heard = driver.stream_heard(self.conn);
        let now = driver.now_ms();
        if self.activity.bodies_open.get() > 0 {
            if self.state != State::Body {
                self.state = State::Body;
                driver.stream_deadline(self.conn, Some(now + self.limits.body_ms));
            }
        } else if self.activity.requests_open.get() > 0 {
            if self.state != State::Answering {
                self.state = State::Answering;
                driver.stream_deadline(self.conn, None);
            }
        } else if served || matches!(self.state, State::Body | State::Answering) {
            self.state = State::Idle;
            driver.stream_deadline(self.conn, Some(now + self.limits.idle_ms));
        } else if heard && self.state == State::Idle {
            self.state = State::Head;
            driver.stream_deadline(self.conn, Some(now + self.limits.head_ms));
        } else if heard {
            // A first head has its deadline from the accept.
            self.state = State::Head;
        }
        if driver.stream_timed_out(self.conn, context) {
            return Look::Late(self.state == State::Head);
        }
        if driver.is_draining() && !std::mem::replace(&mut self.is_draining, true) {
            match self.state {
                // Nothing was asked yet, and the rest may never come.
                State::Head => return Look::Late(true),
                State::Body => driver.stream_deadline(self.conn, Some(now + DRAIN_BODY_MS)),
                State::Silent | State::Answering | State::Idle => {}
            }
            return Look::Drain;
        }
        Look::Wait
    }
}

/// The body of a request, which tells when it has arrived. A service may drop it before.
#[derive(Debug)]
pub struct RequestBody {
    /// Until it is dropped.
    body: Option<Incoming>,
    /// Until the end.
    arriving: Option<BodyOpen>,
}

impl RequestBody {
    fn new(body: Incoming, activity: &Rc<Activity>) -> Self {
        let arriving = (!body.is_end_stream()).then(|| {
            activity.bodies_open.set(activity.bodies_open.get() + 1);
            BodyOpen(Rc::clone(activity))
        });
        Self { body: Some(body), arriving }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(BodyOpen(activity)) = &self.arriving {
            activity.unread.replace(self.body.take());
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(&mut *body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) || body.is_end_stream() {
            self.arriving = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

/// Lives while the body of a request is arriving.
#[derive(Debug)]
struct BodyOpen(Rc<Activity>);

impl Drop for BodyOpen {
    fn drop(&mut self) {
        self.0.bodies_open.set(self.0.bodies_open.get() - 1);
    }
}

/// The body of an answer, which tells when it has been sent.
struct Tracked<B> {
    body: B,
    _request_open: RequestOpen,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
