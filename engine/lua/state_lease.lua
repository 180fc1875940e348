-- Take a partition of channel states, or give it back. Whoever holds it is the only one who tells its events.
--
-- KEYS  1 lease  (STRING token of the holder, expires)
-- ARGV  1 token: node and a number that the node gives to no other taking
--       2 life, ms; 0 = give it back
-- Returns {held, left, token}: 1 if the caller holds it, else 0; for how long it is held from now on, ms; whose it
-- is. A free one: 0, 0 and an empty token.
--
-- Effects: a free lease is taken, the caller's own renewed or given back, another's left alone.

local lease_key = KEYS[1]
local token, life_ms = ARGV[1], ARGV[2]

if life_ms == '0' then
  if redis.call('GET', lease_key) == token then
    redis.call('DEL', lease_key)
  end
  return {0, 0, ''}
end

if redis.call('SET', lease_key, token, 'NX', 'PX', life_ms) then
  return {1, tonumber(life_ms), token}
end
local holder = redis.call('GET', lease_key)
if holder == token then
  redis.call('PEXPIRE', lease_key, life_ms)
  return {1, tonumber(life_ms), token}
end
return {0, redis.call('PTTL', lease_key), holder}
