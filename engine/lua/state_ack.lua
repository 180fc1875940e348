-- Forget events that the backend has taken.
--
-- KEYS  1 lease   (STRING token of the holder)
--       2 events  (STREAM)
-- ARGV  1 token of the caller
--       2, .. ids of the events, 1 to 1,000
-- Returns -1 if the caller does not hold the lease, else how many there were.
--
-- Effects: exactly these go; the stream stays when it is empty.

local lease_key, events_key = KEYS[1], KEYS[2]

if redis.call('GET', lease_key) ~= ARGV[1] then
  return -1
end
return redis.call('XDEL', events_key, unpack(ARGV, 2))
