-- Read the presence of a channel.
--
-- KEYS  1 clients        (HASH client -> info)
--       2 client expiry  (ZSET client -> unix s)
-- ARGV  1 now, unix s (the node's clock)
-- Returns a flat array: client id, encoded ClientInfo, client id, ...
--
-- Effects: clients whose expiry is not above `now` are removed, before the read: they are those of nodes that died. A
-- read is a write therefore and cannot go to a replica. No TTL is renewed: watching does not keep anybody present.

local clients_key, expiry_key = KEYS[1], KEYS[2]
local now_s = ARGV[1]

local expired = redis.call('ZRANGEBYSCORE', expiry_key, '-inf', now_s)
if #expired > 0 then
  -- One by one: what a single call can take is limited by Lua's stack.
  for _, client in ipairs(expired) do
    redis.call('HDEL', clients_key, client)
  end
  redis.call('ZREMRANGEBYSCORE', expiry_key, '-inf', now_s)
end

return redis.call('HGETALL', clients_key)
