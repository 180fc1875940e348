//! The configuration as the engine's rules. "Off" and "no limit", an `Option` in the configuration, become the largest
//! number here, so that cores compare and never ask.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use gyre_engine::backend::ProxyId;
use gyre_engine::rules::{
    self, ChannelOptions, ChannelProxies, ChannelSyntax, ClientProxies, ClientRules, DataFormat, PersonalChannel,
    RecoveryMode, RpcRules, Rules, StateEvents,
};
use gyre_engine::token::{TokenOptions, Verifier, Verifiers};

use super::proxies::{Proxies, channel_default};
use crate::config::types::{self, Channel, Client, Config, RpcOptions, Token};

/// # Errors
/// Patterns and keys that cannot be used, and contradictions between options; the message names the key.
pub(crate) fn rules(config: &Config, proxies: &Proxies) -> anyhow::Result<Rules> {
    let Channel { without_namespace, namespaces, .. } = &config.channel;
    let rules = Rules {
        without_namespace: channel_options(without_namespace, proxies).context("channel.without_namespace")?,
        namespaces: namespaces
            .iter()
            .map(|namespace| {
                let options = channel_options(&namespace.options, proxies);
                Ok((&*namespace.name, options.with_context(|| format!("channel.namespaces \"{}\"", namespace.name))?))
            })
            .collect::<anyhow::Result<_>>()?,
        channel: syntax(&config.channel),
        history_meta_ttl_s: config.channel.history_meta_ttl.as_secs(),
        client: client(&config.client),
        tokens: verifiers(&config.client)?,
        proxies: client_proxies(&config.client, proxies)?,
        rpc: rpc(config, proxies)?,
    };
    rules.validate().map_err(|what| anyhow!(what))?;
    Ok(rules)
}

fn syntax(channel: &Channel) -> ChannelSyntax {
    ChannelSyntax {
        max_length: channel.max_length.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        private_prefix: channel.private_prefix.clone(),
        namespace_boundary: channel.namespace_boundary.clone(),
        user_boundary: channel.user_boundary.clone(),
        user_separator: channel.user_separator.clone(),
    }
}

fn channel_options(options: &types::ChannelOptions, proxies: &Proxies) -> anyhow::Result<ChannelOptions> {
    let channel_regex = options.channel_regex.as_deref().map(rules::go_regex).transpose();
    Ok(ChannelOptions {
        presence: options.presence,
        join_leave: options.join_leave,
        force_push_join_leave: options.force_push_join_leave,
        history_size: options.history_size,
        history_ttl_s: options.history_ttl.as_secs(),
        history_meta_ttl_s: options.history_meta_ttl.as_secs(),
        force_positioning: options.force_positioning,
        allow_positioning: options.allow_positioning,
        force_recovery: options.force_recovery,
        allow_recovery: options.allow_recovery,
        allow_subscribe_for_client: options.allow_subscribe_for_client,
        allow_subscribe_for_anonymous: options.allow_subscribe_for_anonymous,
        allow_publish_for_client: options.allow_publish_for_client,
        allow_publish_for_subscriber: options.allow_publish_for_subscriber,
        allow_publish_for_anonymous: options.allow_publish_for_anonymous,
        allow_presence_for_client: options.allow_presence_for_client,
        allow_presence_for_subscriber: options.allow_presence_for_subscriber,
        allow_presence_for_anonymous: options.allow_presence_for_anonymous,
        allow_history_for_client: options.allow_history_for_client,
        allow_history_for_subscriber: options.allow_history_for_subscriber,
        allow_history_for_anonymous: options.allow_history_for_anonymous,
        allow_user_limited_channels: options.allow_user_limited_channels,
        recovery_mode: match options.force_recovery_mode {
            types::RecoveryMode::Stream => RecoveryMode::Stream,
            types::RecoveryMode::Cache => RecoveryMode::Cache,
        },
        auto_cache_recover: options.auto_cache_recover,
        proxies: channel_proxies(options, proxies)?,
        state: state_events(options, proxies)?,
        channel_regex: channel_regex.map_err(|error| anyhow!("channel_regex: {error}"))?,
        publication_data_format: data_format(options.publication_data_format),
    })
}

fn channel_proxies(options: &types::ChannelOptions, proxies: &Proxies) -> anyhow::Result<ChannelProxies> {
    let used = |is_on: bool, name: &str, event: &str| -> anyhow::Result<Option<ProxyId>> {
        is_on.then(|| proxies.id(name, &channel_default(event))).transpose()
    };
    Ok(ChannelProxies {
        subscribe: used(options.subscribe_proxy_enabled, &options.subscribe_proxy_name, "subscribe")?,
        publish: used(options.publish_proxy_enabled, &options.publish_proxy_name, "publish")?,
        sub_refresh: used(options.sub_refresh_proxy_enabled, &options.sub_refresh_proxy_name, "sub_refresh")?,
        cache_empty: used(options.cache_empty_proxy_enabled, &options.cache_empty_proxy_name, "cache_empty")?,
    })
}

fn state_events(options: &types::ChannelOptions, proxies: &Proxies) -> anyhow::Result<Option<StateEvents>> {
    if !options.state_proxy_enabled {
        return Ok(None);
    }
    let wants = |kind: &str| options.state_events.is_empty() || options.state_events.iter().any(|event| event == kind);
    Ok(Some(StateEvents {
        proxy: proxies.id(&options.state_proxy_name, &channel_default("state"))?,
        occupied: wants("occupied"),
        vacated: wants("vacated"),
    }))
}

fn client_proxies(client: &Client, proxies: &Proxies) -> anyhow::Result<ClientProxies> {
    let used = |is_on: bool, path: &str| is_on.then(|| proxies.id("", path)).transpose();
    Ok(ClientProxies {
        connect: used(client.proxy.connect.enabled, "client.proxy.connect")?,
        refresh: used(client.proxy.refresh.enabled, "client.proxy.refresh")?,
        emulated_headers: proxies.emulated_headers(),
        keeps_meta: proxies.list.iter().any(|proxy| proxy.include_connection_meta),
    })
}

fn rpc(config: &Config, proxies: &Proxies) -> anyhow::Result<RpcRules> {
    let rpc = &config.rpc;
    let used =
        |options: &RpcOptions| options.proxy_enabled.then(|| proxies.id(&options.proxy_name, "rpc.proxy")).transpose();
    let namespaces =
        rpc.namespaces.iter().map(|namespace| Ok((namespace.name.as_str().into(), used(&namespace.options)?)));
    Ok(RpcRules {
        namespace_boundary: rpc.namespace_boundary.clone(),
        without_namespace: used(&rpc.without_namespace)?,
        namespaces: namespaces.collect::<anyhow::Result<_>>()?,
        ping_method: rpc.ping.enabled.then(|| rpc.ping.method.as_str().into()),
        has_user_status: config.user_status.enabled,
    })
}

fn data_format(format: types::DataFormat) -> DataFormat {
    match format {
        types::DataFormat::NotEmpty => DataFormat::NotEmpty,
        types::DataFormat::Json => DataFormat::Json,
        types::DataFormat::JsonObject => DataFormat::JsonObject,
        types::DataFormat::Binary => DataFormat::Binary,
    }
}

fn client(client: &Client) -> ClientRules {
    let personal = &client.subscribe_to_user_personal_channel;
    ClientRules {
        insecure: client.insecure,
        allow_anonymous_connect_without_token: client.allow_anonymous_connect_without_token,
        disallow_anonymous_connection_tokens: client.disallow_anonymous_connection_tokens,
        channel_limit: client.channel_limit.unwrap_or(usize::MAX),
        user_connection_limit: client.user_connection_limit.unwrap_or(usize::MAX),
        connection_limit: client.connection_limit.unwrap_or(usize::MAX),
        connection_rate_limit: client.connection_rate_limit.map_or(u64::MAX, |per_second| per_second as u64),
        queue_max_size: client.queue_max_size.unwrap_or(usize::MAX),
        ping_interval_ms: client.ping_interval.map_or(0, ms),
        pong_timeout_ms: client.pong_timeout.map_or(0, ms),
        stale_close_delay_ms: client.stale_close_delay.map_or(u64::MAX, ms),
        expired_close_delay_ms: ms(client.expired_close_delay),
        expired_sub_close_delay_ms: ms(client.expired_sub_close_delay),
        presence_update_interval_ms: client.presence_update_interval.map_or(u64::MAX, ms),
        channel_position_check_delay_ms: client.channel_position_check_delay.map_or(u64::MAX, ms),
        history_max_publication_limit: client.history_max_publication_limit.unwrap_or(usize::MAX),
        recovery_max_publication_limit: client.recovery_max_publication_limit.unwrap_or(usize::MAX),
        connect_include_server_time: client.connect_include_server_time,
        personal_channel: personal.enabled.then(|| PersonalChannel {
            namespace: personal.personal_channel_namespace.clone(),
            single_connection: personal.single_connection,
        }),
    }
}

fn verifiers(client: &Client) -> anyhow::Result<Verifiers> {
    let verifier = |token: &Token| {
        Verifier::new(TokenOptions {
            hmac_secret_key: token.hmac_secret_key.expose().to_owned(),
            hmac_previous_secret_key: token.hmac_previous_secret_key.expose().to_owned(),
            hmac_previous_secret_key_valid_until: token.hmac_previous_secret_key_valid_until,
            audience: token.audience.clone(),
            audience_regex: token.audience_regex.clone(),
            issuer: token.issuer.clone(),
            issuer_regex: token.issuer_regex.clone(),
            user_id_claim: token.user_id_claim.clone(),
            insecure_skip_signature_verify: client.insecure_skip_token_signature_verify,
        })
    };
    let own = &client.subscription_token;
    Ok(Verifiers {
        connection: verifier(&client.token).map_err(|what| anyhow!("client.token: {what}"))?,
        subscription: match own.enabled {
            true => Some(verifier(&own.token).map_err(|what| anyhow!("client.subscription_token: {what}"))?),
            false => None,
        },
    })
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
