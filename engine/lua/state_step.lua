-- The look of a partition's holder at what is to be done: channels to look after, events to tell.
--
-- KEYS  1 lease    (STRING token of the holder)
--       2 tick     (STRING unix ms of the last look that was a tick)
--       3 live     (ZSET channel -> latest expiry of its clients, unix ms)
--       4 pending  (ZSET channel -> unix ms from when on it counts as vacated)
--       5, .. events of a backend  (STREAM of kind: unix ms, space, channel), none or more
-- ARGV  1 token of the caller
--       2 life of the lease, ms
--       3 how old the last tick may be, ms; -1 = of any age
--       4 channels of 3 wanted at most
--       5 channels of 4 wanted at most
--       6 events of each stream wanted at most, 1 or more
-- Returns {0} if the caller does not hold the lease. Else {1, now, last tick, live channels, pending channels, events
-- of KEYS 5, ..}: unix ms; -1 = there has been none; channels whose time is not above now, the earliest first; stream
-- entries as XRANGE gives them, the oldest first.
--
-- Effects: a lease with less than two thirds of its life is renewed. The look is a tick, and noted as such unless
-- another was within a second, if the last tick is not older than it may be, or if there was none. Else nobody has
-- looked for so long that entries may have expired only because Redis could not be reached: nothing is noted, and no
-- channels are returned, until the caller has waited for clients to be renewed and says -1.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local lease_key, tick_key, live_key, pending_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, life_ms, age_max_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local live_max, pending_max, events_max = ARGV[4], ARGV[5], ARGV[6]

if redis.call('GET', lease_key) ~= token then
  return {0}
end
-- Not every time: each renewal is a write that goes to replicas and to the disk.
if redis.call('PTTL', lease_key) * 3 < life_ms * 2 then
  redis.call('PEXPIRE', lease_key, life_ms)
end

-- What is no number is somebody else's making: there has been none.
local ticked_ms = tonumber(redis.call('GET', tick_key) or -1) or -1
local live, pending = {}, {}
if ticked_ms < 0 or age_max_ms < 0 or now_ms - ticked_ms <= age_max_ms then
  -- A clock that was set back is no reason to be silent until it has caught up.
  if ticked_ms < 0 or now_ms - ticked_ms >= 1000 or now_ms < ticked_ms then
    -- A Redis that is full refuses this; events must be told all the same, which makes room.
    redis.pcall('SET', tick_key, now_ms)
  end
  live = redis.call('ZRANGEBYSCORE', live_key, '-inf', now_ms, 'LIMIT', 0, live_max)
  pending = redis.call('ZRANGEBYSCORE', pending_key, '-inf', now_ms, 'LIMIT', 0, pending_max)
end

local reply = {1, now_ms, ticked_ms, live, pending}
for at = 5, #KEYS do
  local events_key = KEYS[at]
  reply[#reply + 1] = redis.call('XRANGE', events_key, '-', '+', 'COUNT', events_max)
end
return reply
