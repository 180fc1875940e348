-- Add a client to a channel whose state is told to a backend, or renew it. Called on subscribe and on every presence
-- tick.
--
-- KEYS  1 clients        (HASH client -> info)
--       2 client expiry  (ZSET client -> unix ms)
--       3 live           (ZSET channel -> latest expiry of its clients, unix ms; here = announced as occupied)
--       4 pending        (ZSET channel -> unix ms from when on it counts as vacated; here = announced, empty, waiting)
--       5 events         (STREAM of k kind, c channel, t unix ms), absent if `occupied` is not wanted
-- ARGV  1 TTL of the entry, ms
--       2 client id
--       3 encoded ClientInfo
--       4 channel
--       5 events kept at most; read only with KEYS 5
--       6 a number that is returned
-- Returns {new, appended, cancelled, dropped, number}: 1 or 0, and ARGV 6. `new`: the client had no entry, not even an
-- expired one. One of the others at most: `appended` an event, `cancelled` the waiting of a channel that was announced
-- still, `dropped` an event, since the queue is full.
--
-- Effects: clients whose expiry is not above now are removed. Client and expiry are written; both keys live as long as
-- the last of their clients. The channel is live and not pending from now on; if it was neither, it has become
-- occupied. A full queue refuses the new event, since trimming would take the oldest; the channel is live all the
-- same.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local clients_key, expiry_key, live_key, pending_key, events_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ttl_ms, client, info, channel, events_max = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

-- As text: a number would be written out anew for each call that takes it.
local latest_ms = string.format('%.0f', now_ms + ttl_ms)
local is_new = redis.call('HSET', clients_key, client, info)
redis.call('ZADD', expiry_key, latest_ms, client)
-- Many a channel has one client, and then it is the latest.
if redis.call('ZCARD', expiry_key) > 1 then
  local expired = redis.call('ZRANGEBYSCORE', expiry_key, '-inf', now_ms)
  if #expired > 0 then
    -- One by one: what a single call can take is limited by Lua's stack.
    for _, gone in ipairs(expired) do
      redis.call('HDEL', clients_key, gone)
    end
    redis.call('ZREMRANGEBYSCORE', expiry_key, '-inf', now_ms)
  end
  latest_ms = redis.call('ZREVRANGE', expiry_key, 0, 0, 'WITHSCORES')[2]
end
redis.call('PEXPIREAT', clients_key, latest_ms)
redis.call('PEXPIREAT', expiry_key, latest_ms)

local was_live = redis.call('ZADD', live_key, latest_ms, channel) == 0
local cancelled = redis.call('ZREM', pending_key, channel)
local appended, dropped = 0, 0
if events_key and not was_live and cancelled == 0 then
  if redis.call('XLEN', events_key) < tonumber(events_max) then
    redis.call('XADD', events_key, '*', 'k', 'occupied', 'c', channel, 't', now_ms)
    appended = 1
  else
    dropped = 1
  end
end

return {is_new, appended, cancelled, dropped, tonumber(ARGV[6])}
