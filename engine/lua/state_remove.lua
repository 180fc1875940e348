-- Remove a client from a channel whose state is told to a backend.
--
-- KEYS  1 clients        (HASH client -> info)
--       2 client expiry  (ZSET client -> unix ms)
--       3 live           (ZSET channel -> latest expiry of its clients, unix ms)
--       4 pending        (ZSET channel -> unix ms from when on it counts as vacated)
-- ARGV  1 client id
--       2 channel
--       3 delay until a channel that stays empty counts as vacated, ms; may be 0
-- Returns {removed, pending}: 1 or 0. `pending`: it was the last one, and the channel waits from now on.
--
-- Effects: nothing at all if the client is not there (a retry, a late disconnect): whether the others have expired is
-- for the tick to say, which knows of outages. Else client and expiry go. Of a live channel without unexpired clients
-- the keys go, and it is pending instead of live; a time that it waits for already stays. One with clients has their
-- latest expiry. Expired clients of a channel that has others are left for the next who comes.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local clients_key, expiry_key, live_key, pending_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local client, channel, delay_ms = ARGV[1], ARGV[2], ARGV[3]

-- Looked at first: what is taken out may be the last of its key, and in a slot that is being moved a script must not
-- touch a key that is not there.
local expires_ms = redis.call('ZSCORE', expiry_key, client)
if not expires_ms and redis.call('HDEL', clients_key, client) == 0 then
  return {0, 0}
end

local latest = redis.call('ZREVRANGE', expiry_key, 0, 1, 'WITHSCORES')
local latest_ms = latest[2]
if latest[1] == client then
  latest_ms = latest[4]
end
local is_live = redis.call('ZSCORE', live_key, channel)
if latest_ms and tonumber(latest_ms) > now_ms then
  redis.call('HDEL', clients_key, client)
  redis.call('ZREM', expiry_key, client)
  if is_live then
    redis.call('ZADD', live_key, latest_ms, channel)
  end
  return {1, 0}
end

redis.call('UNLINK', clients_key, expiry_key)
if not is_live then
  return {1, 0}
end
redis.call('ZREM', live_key, channel)
redis.call('ZADD', pending_key, 'NX', now_ms + delay_ms, channel)
return {1, 1}
