-- A user did something, or was seen: renews one time of its status, and keeps the status for longer.
--
-- KEYS  1 status  (HASH: `active` and `online` in unix s, `state` a text)
-- ARGV  1 field: active or online
--       2 now, unix s (the node's clock)
--       3 TTL of the status, ms
--       4 state; empty = it stays what it is
-- Returns 1.
--
-- Effects: the field is set to the later of what it is and now, so that a node whose clock is behind never takes time
-- back. Whoever writes makes the status live for the TTL from now on, also when its time was not the later one. What
-- is not a number counts as 0.

local status_key = KEYS[1]
local field, now_s, ttl_ms, state = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local before_s = tonumber(redis.call('HGET', status_key, field) or '0') or 0
if before_s < tonumber(now_s) then
  redis.call('HSET', status_key, field, now_s)
end
if state ~= '' then
  redis.call('HSET', status_key, 'state', state)
end
redis.call('PEXPIRE', status_key, ttl_ms)
return 1
