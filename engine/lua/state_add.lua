-- Add a client to a channel whose state is told to a backend, or renew it. Called on subscribe and on every presence
-- tick.
--
-- KEYS  1 clients        (HASH client -> info)
--       2 client expiry  (ZSET client -> unix ms)
--       3 live           (ZSET channel -> latest expiry of its clients, unix ms; here = announced as occupied)
--       4 pending        (ZSET channel -> unix ms from when on it counts as vacated; here = announced, empty, waiting)
--       5 events         (STREAM of kind: unix ms, space, channel), absent if `occupied` is not wanted
-- ARGV  1 TTL of the entry, s
--       2 client id
--       3 encoded ClientInfo
--       4 channel
--       5 events kept at most; read only with KEYS 5
--       6 a number that is returned
-- Returns 16 * ARGV 6 + 8 * dropped + 4 * cancelled + 2 * appended + new, each of which is 1 or 0; as one number, since
-- that is a good deal cheaper than an array. `new`: the client had no entry, not even an expired one. One of the others
-- at most: `appended` an event, `cancelled` the waiting of a channel that was announced still, `dropped` an event,
-- since the queue is full.
--
-- Effects: client and expiry are written; both keys live as long as the last of their clients. Clients of a live
-- channel whose expiry is not above now are removed; one that is not live has none. The channel is live and not pending
-- from now on; if it was neither, it has become occupied. A full queue refuses the new event, since trimming would take
-- the oldest; the channel is live all the same.

local call = redis.call
local time = redis.call('TIME')
-- As text, and of whole numbers: one with a point would be written out anew for each call that takes it, at length.
local ms = string.format('%03d', math.floor(time[2] / 1000))
local now_ms, own_ms = time[1] .. ms, string.format('%d', time[1] + ARGV[1]) .. ms
local clients_key, expiry_key, live_key, pending_key, events_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local client, info, channel, events_max = ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local latest_ms = own_ms
local flags = call('HSET', clients_key, client, info)
call('ZADD', expiry_key, own_ms, client)
if call('ZADD', live_key, own_ms, channel) == 1 then
  if call('ZREM', pending_key, channel) == 1 then
    flags = flags + 4
  elseif events_key then
    if call('XLEN', events_key) < tonumber(events_max) then
      call('XADD', events_key, '*', 'occupied', now_ms .. ' ' .. channel)
      flags = flags + 2
    else
      flags = flags + 8
    end
  end
elseif call('ZCARD', expiry_key) > 1 then
  local expired = call('ZRANGEBYSCORE', expiry_key, '-inf', now_ms)
  if #expired > 0 then
    -- One by one: what a single call can take is limited by Lua's stack.
    for _, gone in ipairs(expired) do
      call('HDEL', clients_key, gone)
    end
    call('ZREMRANGEBYSCORE', expiry_key, '-inf', now_ms)
  end
  latest_ms = call('ZREVRANGE', expiry_key, 0, 0, 'WITHSCORES')[2]
  if latest_ms ~= own_ms then
    call('ZADD', live_key, latest_ms, channel)
  end
end
call('PEXPIREAT', clients_key, latest_ms)
call('PEXPIREAT', expiry_key, latest_ms)

return flags + 16 * ARGV[6]
