-- Remove a client from the presence of a channel.
--
-- KEYS  1 clients        (HASH client -> info)
--       2 client expiry  (ZSET client -> unix s)
--       3 users          (HASH user -> number of clients), absent without user mapping
--       4 user expiry    (ZSET user -> unix s), absent without user mapping
-- ARGV  1 client id
--       2 user id; read only with KEYS 3
-- Returns 1 if the client was there, 0 if not.
--
-- Effects: client and its expiry go. Only if the client was there is its user's count decremented, so that removing
-- twice (a retry, a late disconnect) does not count twice; a user without clients goes too. No TTL is renewed.

local clients_key, expiry_key, users_key, user_expiry_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local client, user = ARGV[1], ARGV[2]

local was_there = redis.call('HDEL', clients_key, client)
redis.call('ZREM', expiry_key, client)

if users_key and was_there == 1 then
  if redis.call('HINCRBY', users_key, user, -1) <= 0 then
    redis.call('HDEL', users_key, user)
    redis.call('ZREM', user_expiry_key, user)
  end
end

return was_there
