-- Add a client to the presence of a channel, or renew it. Called on subscribe and on every presence tick.
--
-- KEYS  1 clients        (HASH client -> info)
--       2 client expiry  (ZSET client -> unix s)
--       3 users          (HASH user -> number of clients), absent without user mapping
--       4 user expiry    (ZSET user -> unix s), absent without user mapping
-- ARGV  1 TTL of the keys, s
--       2 expiry of this entry, unix s (the node's clock + TTL)
--       3 client id
--       4 encoded ClientInfo
--       5 user id; read only with KEYS 3
-- Returns 1 if the client is new, 0 if it was there.
--
-- Effects: client and its expiry are written, then the user's. All keys live for the TTL from now on, so the presence
-- of a channel that nobody renews disappears whole. A user's clients are counted when the client is new, or when the
-- user is unknown: user mapping may have been turned on while clients were there.
--
-- A client whose expiry was purged (presence.lua) is not taken off its user's count, its user is not known there. The
-- user then leaves by its own expiry, one TTL after its last client was renewed.
--
-- Not here: TTLs of hash fields (Redis 7.4) in place of the ZSETs. They would need a form of each presence script, and
-- only reads from replicas gain by them.

local clients_key, expiry_key, users_key, user_expiry_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ttl_s, expires_at_s, client, info, user = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local is_new = redis.call('HSET', clients_key, client, info)
redis.call('EXPIRE', clients_key, ttl_s)
redis.call('ZADD', expiry_key, expires_at_s, client)
redis.call('EXPIRE', expiry_key, ttl_s)

if users_key then
  local is_unknown = redis.call('ZADD', user_expiry_key, expires_at_s, user)
  if is_new == 1 or is_unknown == 1 then
    redis.call('HINCRBY', users_key, user, 1)
  end
  redis.call('EXPIRE', users_key, ttl_s)
  redis.call('EXPIRE', user_expiry_key, ttl_s)
end

return is_new
