-- Look after a live channel whose clients should have expired all: their node may have died.
--
-- KEYS  1 lease          (STRING token of the holder)
--       2 clients        (HASH client -> info)
--       3 client expiry  (ZSET client -> unix ms)
--       4 live           (ZSET channel -> latest expiry of its clients, unix ms)
--       5 pending        (ZSET channel -> unix ms from when on it counts as vacated)
-- ARGV  1 token of the caller
--       2 channel
--       3 delay until a channel that stays empty counts as vacated, ms
-- Returns -1 if the caller does not hold the lease; 0 if the channel is not live, or its time has not come; 1 if it has
-- clients; 2 if it had none and is pending from now on.
--
-- Effects: a channel with clients has their latest expiry. Of one without, the keys go, and it is pending instead of
-- live.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local lease_key, clients_key, expiry_key, live_key, pending_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, channel, delay_ms = ARGV[1], ARGV[2], ARGV[3]

if redis.call('GET', lease_key) ~= token then
  return -1
end
local expires_ms = redis.call('ZSCORE', live_key, channel)
if not expires_ms or tonumber(expires_ms) > now_ms then
  return 0
end

local latest_ms = redis.call('ZREVRANGE', expiry_key, 0, 0, 'WITHSCORES')[2]
if latest_ms and tonumber(latest_ms) > now_ms then
  redis.call('ZADD', live_key, latest_ms, channel)
  return 1
end
redis.call('ZREM', live_key, channel)
redis.call('UNLINK', clients_key, expiry_key)
redis.call('ZADD', pending_key, 'NX', now_ms + delay_ms, channel)
return 2
