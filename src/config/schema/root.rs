//! The top of the table, and the sections that are too small for a file of their own.

use super::channel::{CHANNEL, RPC};
use super::client::CLIENT;
use super::consumers::CONSUMER;
use super::engines::{BROKER, CONTROLLER, ENGINE, MAP_BROKER, PRESENCE_MANAGER, SHARED_POLL};
use super::pro::{API_JWKS, SECTIONS};
use super::shapes::{HTTP_RESPONSE_MAP, PROXY, SERVER_TLS, TLS, WEBSOCKET_TUNING};
use super::*;

/// Every top-level option, in the order in which `defaultconfig` prints them.
pub(crate) const ROOT: &[Field] = &[
    object("http_server", HTTP_SERVER, "Listeners for everything that speaks HTTP.").honoured(),
    object("gyre", GYRE, "Options that only Gyre has.").honoured(),
    object("log", LOG, "Log output.").honoured(),
    object("engine", ENGINE, "Where channel state lives.").honoured(),
    object("broker", BROKER, "Separate Pub/Sub and history.").honoured(),
    object("presence_manager", PRESENCE_MANAGER, "Separate presence.").honoured(),
    object("map_broker", MAP_BROKER, "State of map channels."),
    object("controller", CONTROLLER, "Messages between nodes."),
    object("shared_poll", SHARED_POLL, "Shared poll channels."),
    object("client", CLIENT, "Client connections.").honoured(),
    object("channel", CHANNEL, "Channels and namespaces.").honoured(),
    object("rpc", RPC, "RPC calls of clients.").honoured(),
    named("proxies", NAMED_PROXY, "Backends that options can name.").honoured(),
    object("http_api", HTTP_API, "Server API over HTTP.").honoured(),
    object("grpc_api", GRPC_API, "Server API over gRPC.").honoured(),
    object("websocket", WEBSOCKET, "WebSocket transport.").honoured(),
    object("sse", SSE, "Server-sent events transport."),
    object("http_stream", HTTP_STREAM, "HTTP streaming transport."),
    object("emulation", EMULATION, "Commands of clients on one-way transports."),
    object("webtransport", WEBTRANSPORT, "WebTransport."),
    object("uni_websocket", UNI_WEBSOCKET, "Unidirectional WebSocket transport."),
    object("uni_sse", UNI_SSE, "Unidirectional server-sent events transport."),
    object("uni_http_stream", UNI_HTTP_STREAM, "Unidirectional HTTP streaming transport."),
    object("uni_grpc", UNI_GRPC, "Unidirectional gRPC transport."),
    object("init", INIT, "Endpoint that browsers call before connecting."),
    object("admin", ADMIN, "Admin web interface."),
    object("prometheus", PROMETHEUS, "Metrics for Prometheus.").honoured(),
    object("health", HEALTH, "Health check endpoint.").honoured(),
    object("swagger", SWAGGER, "Description of the server API."),
    object("debug", DEBUG, "Profiling endpoints."),
    object("opentelemetry", OPENTELEMETRY, "Tracing."),
    object("graphite", GRAPHITE, "Metrics for Graphite."),
    object("usage_stats", &[boolean("disabled", "Gyre never reports usage.").honoured()], "Usage reports.").honoured(),
    object("node", NODE, "This node.").honoured(),
    object("shutdown", &[duration("timeout", secs(30), "How long a graceful stop may take.").honoured()], "Stopping.")
        .honoured(),
    text("pid_file", "", "File for the process id.").honoured(),
    boolean("enable_unreleased_features", "Has no meaning here.").honoured(),
    named("consumers", CONSUMER, "Systems from which commands and publications are taken."),
    inline(SECTIONS),
];

const HTTP_SERVER: &[Field] = &[
    text("address", "", "Host to listen on; empty is every address.").honoured(),
    int("port", 8000, "Port to listen on.").honoured().range(0, 65535),
    text("internal_address", "", "Host for internal endpoints; empty is address."),
    text("internal_port", "", "Port for internal endpoints; empty is port."),
    object("tls", TLS, "TLS of both listeners."),
    boolean("tls_external", "TLS only on the external listener."),
    object("internal_tls", TLS, "TLS of a separate internal listener."),
    object("tls_autocert", TLS_AUTOCERT, "Certificates by ACME."),
    object("http3", &[boolean("enabled", "Turns HTTP/3 on.")], "HTTP/3 on the external listener."),
    boolean("h2c_external", "HTTP/2 without TLS on the external listener."),
];

const TLS_AUTOCERT: &[Field] = &[
    boolean("enabled", "Turns it on."),
    texts("host_whitelist", &[], "Host names to ask certificates for."),
    text("cache_dir", "", "Directory that keeps certificates."),
    text("email", "", "Contact address."),
    text("server_name", "", "Name for clients that send none."),
    boolean("http", "Answers HTTP-01 challenges."),
    text("http_addr", ":80", "Where challenges are answered."),
];

const GYRE: &[Field] = &[
    text(
        "cores",
        "auto",
        "Which CPUs run a core: auto, a number of cores, a list of CPUs such as 2-5,8, numa:0, no-smt, or numa:0,no-smt.",
    )
    .honoured(),
    int("reserved_cores", 0, "CPUs left to the control thread, interrupts and the rest of the host.")
        .honoured()
        .range(0, 8192),
];

const LOG: &[Field] = &[
    text("level", "info", "none, trace, debug, info, warn, error or fatal.").honoured(),
    text("file", "", "File to append to; nothing goes to the terminal then.").honoured(),
];

const NAMED_PROXY: &[Field] = &[text("name", "", "Unique name; default is taken.").honoured(), inline(PROXY)];

const HTTP_API: &[Field] = &[
    boolean("disabled", "Turns the API off.").honoured(),
    boolean("external", "Serves the API on the external listener."),
    boolean("insecure", "Asks for no key.").honoured(),
    text("handler_prefix", "/api", "Path.").honoured(),
    text("key", "", "Key of callers.").honoured(),
    text("error_mode", "", "transport answers errors with HTTP status codes.").honoured(),
    object("jwks", API_JWKS, "Tokens in place of the key.").closed_edition(),
];

const GRPC_API: &[Field] = &[
    boolean("enabled", "Turns the API on.").honoured(),
    boolean("reflection", "Describes itself to callers.").honoured(),
    text("address", "", "Host to listen on; empty is every address.").honoured(),
    int("port", 10000, "Port to listen on.").honoured().range(0, 65535),
    text("key", "", "Key of callers; empty lets everybody in.").honoured(),
    text("error_mode", "", "transport answers errors with gRPC status codes.").honoured(),
    object("tls", SERVER_TLS, "TLS of the listener.").honoured(),
    int("max_receive_message_size", 0, "Largest message in bytes; 0 is 4 MiB.").honoured().range(0, u32::MAX as i64),
    object("jwks", API_JWKS, "Tokens in place of the key.").closed_edition(),
];

const WEBSOCKET: &[Field] = &[
    boolean("disabled", "Turns the transport off.").honoured(),
    text("handler_prefix", "/connection/websocket", "Path.").honoured(),
    inline(WEBSOCKET_TUNING),
    int("compression_prepared_message_cache_size", 0, "Bytes of compressed messages to keep.").closed_edition(),
    boolean("process_commands_off_read_loop", "Handles commands apart from reading.").closed_edition(),
];

const SSE: &[Field] = &[
    boolean("enabled", "Turns the transport on."),
    text("handler_prefix", "/connection/sse", "Path."),
    int("max_request_body_size", 65536, "Largest request body in bytes."),
];

const HTTP_STREAM: &[Field] = &[
    boolean("enabled", "Turns the transport on."),
    text("handler_prefix", "/connection/http_stream", "Path."),
    int("max_request_body_size", 65536, "Largest request body in bytes."),
];

const EMULATION: &[Field] = &[
    text("handler_prefix", "/emulation", "Path."),
    int("max_request_body_size", 65536, "Largest request body in bytes."),
];

const WEBTRANSPORT: &[Field] = &[
    boolean("enabled", "Turns the transport on."),
    text("handler_prefix", "/connection/webtransport", "Path."),
    int("message_size_limit", 65536, "Largest message of a client in bytes."),
];

const UNI_WEBSOCKET: &[Field] = &[
    boolean("enabled", "Turns the transport on."),
    text("handler_prefix", "/connection/uni_websocket", "Path."),
    inline(WEBSOCKET_TUNING),
    boolean("disable_closing_handshake", "Closes without waiting for the client's close frame."),
    boolean("disable_disconnect_push", "Sends no disconnect push before closing."),
    boolean("join_push_messages", "Joins several pushes in one frame."),
];

const UNI_SSE: &[Field] = &[
    boolean("enabled", "Turns the transport on."),
    text("handler_prefix", "/connection/uni_sse", "Path."),
    int("max_request_body_size", 65536, "Largest request body in bytes."),
    object("connect_code_to_http_response", HTTP_RESPONSE_MAP, "HTTP answers to refused connections."),
];

const UNI_HTTP_STREAM: &[Field] = &[
    boolean("enabled", "Turns the transport on."),
    text("handler_prefix", "/connection/uni_http_stream", "Path."),
    int("max_request_body_size", 65536, "Largest request body in bytes."),
    object("connect_code_to_http_response", HTTP_RESPONSE_MAP, "HTTP answers to refused connections."),
];

const UNI_GRPC: &[Field] = &[
    boolean("enabled", "Turns the transport on."),
    text("address", "", "Host to listen on."),
    int("port", 11000, "Port to listen on."),
    int("max_receive_message_size", 0, "Largest message in bytes; 0 is 4 MiB."),
    object("tls", TLS, "TLS of the listener."),
];

const INIT: &[Field] =
    &[boolean("enabled", "Turns the endpoint on."), text("handler_prefix", "/connection/init", "Path.")];

const ADMIN: &[Field] = &[
    boolean("enabled", "Turns the interface on."),
    boolean("insecure", "Asks for no password."),
    boolean("external", "Serves it on the external listener."),
    text("handler_prefix", "", "Path."),
    text("password", "", "Password of the operator."),
    text("secret", "", "Key that signs sessions."),
    text("web_path", "", "Directory of another web interface."),
    text("web_proxy_address", "", "Address of a development server for the web interface."),
    text("api_key", "", "Key for tracing.").closed_edition(),
    field("oidc", Kind::Opaque, "Single sign-on.").closed_edition(),
];

const PROMETHEUS: &[Field] = &[
    boolean("enabled", "Serves metrics.").honoured(),
    text("handler_prefix", "/metrics", "Path.").honoured(),
    boolean("instrument_http_handlers", "Counts HTTP requests."),
    boolean("recovered_publications_histogram", "Measures how much recoveries deliver."),
    boolean("native_histograms", "Also emits native histograms."),
    texts("additional_client_names", &[], "Client names that get a label of their own.").closed_edition(),
    boolean("channel_namespace_resolution", "Labels series by namespace.").closed_edition(),
    boolean("expose_transport_accept_protocol", "Labels series by HTTP version.").closed_edition(),
    field("client_labels", Kind::Opaque, "Client labels that become labels of series.").closed_edition(),
];

const HEALTH: &[Field] =
    &[boolean("enabled", "Serves the endpoint.").honoured(), text("handler_prefix", "/health", "Path.").honoured()];

const SWAGGER: &[Field] = &[boolean("enabled", "Serves the endpoint."), text("handler_prefix", "/swagger", "Path.")];

const DEBUG: &[Field] = &[boolean("enabled", "Serves the endpoints."), text("handler_prefix", "/debug/pprof", "Path.")];

const OPENTELEMETRY: &[Field] = &[
    boolean("enabled", "Turns tracing on."),
    boolean("api", "Traces server API calls."),
    boolean("consuming", "Traces consumers."),
    boolean("google_cloud_adc_auth", "Authenticates with Google Cloud credentials."),
    boolean("metrics", "Exports metrics too.").closed_edition(),
    texts("resource_detectors", &[], "What describes this process in traces.").closed_edition(),
];

const GRAPHITE: &[Field] = &[
    boolean("enabled", "Sends metrics."),
    text("host", "localhost", "Host of Graphite."),
    int("port", 2003, "Port of Graphite."),
    text("prefix", "centrifugo", "Starts every metric."),
    duration("interval", secs(10), "How often metrics are sent."),
    boolean("tags", "Uses tags."),
];

const NODE: &[Field] = &[
    text("name", "", "Name of this node; empty is host name and port.").honoured(),
    duration("info_metrics_aggregate_interval", secs(60), "Over how long metrics shown for a node are counted."),
];
