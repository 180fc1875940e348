//! `consumers[]`: systems from which a node takes commands and publications.

use super::shapes::{REDIS, TLS};
use super::*;

pub(super) const CONSUMER: &[Field] = &[
    text("name", "", "Unique name; letters, digits and underscore."),
    boolean("enabled", "Runs the consumer."),
    text("type", "", "Which of the objects below is used."),
    object("postgresql", POSTGRESQL, "Outbox table in PostgreSQL."),
    object("kafka", KAFKA, "Kafka topics."),
    object("nats_jetstream", NATS_JETSTREAM, "A NATS JetStream stream."),
    object("redis_stream", REDIS_STREAM, "Redis streams."),
    object("google_pub_sub", GOOGLE_PUB_SUB, "Google Cloud Pub/Sub subscriptions."),
    object("aws_sqs", AWS_SQS, "AWS SQS queues."),
    object("azure_service_bus", AZURE_SERVICE_BUS, "Azure Service Bus queues."),
];

/// The six names of the mode end in a word that depends on the system; only a macro can join literals in a const.
macro_rules! publication_data_mode {
    ($word:literal) => {
        object(
            "publication_data_mode",
            &[
                boolean("enabled", "Takes messages as publication data instead of commands."),
                text(
                    concat!("channels_", $word),
                    "centrifugo-channels",
                    "Where the channels are, separated by commas.",
                ),
                text(concat!("idempotency_key_", $word), "centrifugo-idempotency-key", "Where the idempotency key is."),
                text(concat!("delta_", $word), "centrifugo-delta", "Where the delta flag is."),
                text(concat!("version_", $word), "centrifugo-version", "Where the version is."),
                text(concat!("version_epoch_", $word), "centrifugo-version-epoch", "Where the version's epoch is."),
                text(concat!("tags_", $word, "_prefix"), "centrifugo-tag-", "What names of tags start with."),
            ],
            "Messages that hold publication data only.",
        )
    };
}

const POSTGRESQL: &[Field] = &[
    text("dsn", "", "Connection string."),
    text("outbox_table_name", "", "Name of the outbox table."),
    int("num_partitions", 1, "Partitions of the table."),
    int("partition_select_limit", 100, "Rows per read."),
    duration("partition_poll_interval", millis(300), "How often a partition is read."),
    text("partition_notification_channel", "", "Channel of NOTIFY that wakes the reader."),
    text("partition_notification_dsn", "", "Connection string for LISTEN, when it differs."),
    object("tls", TLS, "TLS towards PostgreSQL."),
    boolean("use_try_lock", "Skips a partition that another node holds instead of waiting."),
];

const KAFKA: &[Field] = &[
    texts("brokers", &[], "Addresses of brokers."),
    texts("topics", &[], "Topics to read."),
    text("consumer_group", "", "Consumer group."),
    int("max_poll_records", 100, "Records per poll."),
    int("fetch_max_bytes", 0, "Bytes per fetch; 0 is the client's default."),
    duration("fetch_max_wait", millis(500), "How long a fetch may wait for data."),
    boolean("fetch_read_uncommitted", "Reads records of open transactions."),
    int("partition_queue_max_size", 1000, "Records of a partition that may wait before fetching pauses."),
    duration("dial_timeout", secs(3), "How long dialling may take."),
    object("tls", TLS, "TLS towards Kafka."),
    text("sasl_mechanism", "", "plain, scram-sha-256, scram-sha-512 or aws-msk-iam."),
    text("sasl_user", "", "SASL user."),
    text("sasl_password", "", "SASL password."),
    text("assume_role_arn", "", "AWS role to assume."),
    text("instance_id", "", "Static group member id."),
    text("method_header", "centrifugo-method", "Header that holds the command's method."),
    publication_data_mode!("header"),
];

const NATS_JETSTREAM: &[Field] = &[
    text("url", "nats://127.0.0.1:4222", "Address of NATS."),
    text("credentials_file", "", "Path of a credentials file."),
    text("username", "", "User."),
    text("password", "", "Password."),
    text("token", "", "Token."),
    text("stream_name", "", "Stream to read."),
    boolean("use_existing_consumer", "Does not create the durable consumer."),
    texts("subjects", &[], "Subjects to read."),
    text("durable_consumer_name", "", "Name of the durable consumer."),
    text("deliver_policy", "new", "Where a new consumer starts."),
    int("max_ack_pending", 100, "Messages that may wait for acknowledgement."),
    text("method_header", "centrifugo-method", "Header that holds the command's method."),
    publication_data_mode!("header"),
    object("tls", TLS, "TLS towards NATS."),
];

const REDIS_STREAM: &[Field] = &[
    inline(REDIS),
    texts("streams", &[], "Streams to read."),
    text("consumer_group", "", "Consumer group."),
    duration("visibility_timeout", secs(30), "After so long a message of a dead consumer is taken over."),
    int("num_workers", 1, "Readers of this node."),
    text("payload_value", "payload", "Stream field that holds the payload."),
    text("method_value", "method", "Stream field that holds the command's method."),
    publication_data_mode!("value"),
];

const GOOGLE_PUB_SUB: &[Field] = &[
    text("project_id", "", "Google Cloud project."),
    texts("subscriptions", &[], "Subscriptions to read."),
    int("max_outstanding_messages", 100, "Messages that may be in work."),
    int("max_outstanding_bytes", 1_000_000, "Bytes that may be in work."),
    text("auth_mechanism", "", "How to authenticate."),
    text("credentials_file", "", "Path of a credentials file."),
    text("method_attribute", "centrifugo-method", "Attribute that holds the command's method."),
    publication_data_mode!("attribute"),
];

const AWS_SQS: &[Field] = &[
    texts("queues", &[], "Queue URLs to read."),
    boolean("sns_envelope", "Messages are wrapped by SNS."),
    text("region", "", "AWS region."),
    int("max_number_of_messages", 10, "Messages per read."),
    duration("wait_time_time", secs(20), "How long a read may wait. The doubled word is the option's real name."),
    duration("visibility_timeout", secs(30), "After so long an unfinished message is delivered again."),
    int("max_concurrency", 1, "Messages handled at the same time."),
    text("credentials_profile", "", "Profile in the AWS credentials file."),
    text("assume_role_arn", "", "AWS role to assume."),
    text("method_attribute", "centrifugo-method", "Attribute that holds the command's method."),
    text("localstack_endpoint", "", "Endpoint of a local stand-in for AWS."),
    publication_data_mode!("attribute"),
];

const AZURE_SERVICE_BUS: &[Field] = &[
    text("connection_string", "", "Connection string."),
    boolean("use_azure_identity", "Authenticates with Azure identity instead."),
    text("fully_qualified_namespace", "", "Namespace host."),
    text("tenant_id", "", "Azure tenant."),
    text("client_id", "", "Azure client."),
    text("client_secret", "", "Azure client secret."),
    texts("queues", &[], "Queues to read."),
    boolean("use_sessions", "Queues use sessions."),
    int("max_concurrent_calls", 1, "Messages handled at the same time."),
    int("max_receive_messages", 1, "Messages per read."),
    text("method_property", "centrifugo-method", "Property that holds the command's method."),
    publication_data_mode!("property"),
];
