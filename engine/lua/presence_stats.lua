-- Count clients and distinct users of a channel, with user mapping. Without it the caller counts what presence.lua
-- reads.
--
-- KEYS  1 clients        (HASH client -> info)
--       2 client expiry  (ZSET client -> unix s)
--       3 users          (HASH user -> number of clients)
--       4 user expiry    (ZSET user -> unix s)
-- ARGV  1 now, unix s (the node's clock)
-- Returns {clients, users}, integers.
--
-- Effects: clients and users whose expiry is not above `now` are removed, before the count. Users may lag behind
-- clients by one TTL, see presence_add.lua. No TTL is renewed.

local function purge(hash_key, expiry_key)
  local expired = redis.call('ZRANGEBYSCORE', expiry_key, '-inf', ARGV[1])
  if #expired > 0 then
    for _, member in ipairs(expired) do
      redis.call('HDEL', hash_key, member)
    end
    redis.call('ZREMRANGEBYSCORE', expiry_key, '-inf', ARGV[1])
  end
end

purge(KEYS[1], KEYS[2])
purge(KEYS[3], KEYS[4])
return {redis.call('HLEN', KEYS[1]), redis.call('HLEN', KEYS[3])}
