-- Read the presence of a channel whose state is told to a backend.
--
-- KEYS  1 clients        (HASH client -> info)
--       2 client expiry  (ZSET client -> unix ms)
-- Returns a flat array: client id, encoded ClientInfo, client id, ...
--
-- Effects: none. Clients whose expiry is not above now are left out.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local all = redis.call('HGETALL', KEYS[1])
local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms)
if #expired == 0 then
  return all
end

local is_expired = {}
for _, client in ipairs(expired) do
  is_expired[client] = true
end
local present = {}
for at = 1, #all, 2 do
  if not is_expired[all[at]] then
    present[#present + 1] = all[at]
    present[#present + 1] = all[at + 1]
  end
end
return present
