-- Look after a pending channel whose time has come.
--
-- KEYS  1 lease          (STRING token of the holder)
--       2 clients        (HASH client -> info)
--       3 client expiry  (ZSET client -> unix ms)
--       4 live           (ZSET channel -> latest expiry of its clients, unix ms)
--       5 pending        (ZSET channel -> unix ms from when on it counts as vacated)
--       6 events         (STREAM of kind: unix ms, space, channel), absent if `vacated` is not wanted
-- ARGV  1 token of the caller
--       2 channel
--       3 events kept at most; read only with KEYS 6
-- Returns -1 if the caller does not hold the lease; 0 if the channel is not pending, or its time has not come; 1 if
-- it has clients; else it is vacated: 2 with an event, 3 without since the queue is full, 4 without since none is
-- wanted.
--
-- Effects: the channel is not pending any more. One with clients is live with their latest expiry; of one without, the
-- keys go. A full queue refuses the new event; the channel is vacated all the same.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local lease_key, clients_key, expiry_key, live_key, pending_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local events_key = KEYS[6]
local token, channel, events_max = ARGV[1], ARGV[2], ARGV[3]

if redis.call('GET', lease_key) ~= token then
  return -1
end
local due_ms = redis.call('ZSCORE', pending_key, channel)
if not due_ms or tonumber(due_ms) > now_ms then
  return 0
end

redis.call('ZREM', pending_key, channel)
local latest_ms = redis.call('ZREVRANGE', expiry_key, 0, 0, 'WITHSCORES')[2]
if latest_ms and tonumber(latest_ms) > now_ms then
  redis.call('ZADD', live_key, latest_ms, channel)
  return 1
end
redis.call('UNLINK', clients_key, expiry_key)
if not events_key then
  return 4
end
if redis.call('XLEN', events_key) >= tonumber(events_max) then
  return 3
end
redis.call('XADD', events_key, '*', 'vacated', string.format('%.0f ', now_ms) .. channel)
return 2
