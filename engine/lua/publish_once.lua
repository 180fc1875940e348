-- Publish with an idempotency key into a channel without history (or past it: skip_history). Without a key this is a
-- plain PUBLISH or SPUBLISH, no script.
--
-- KEYS  1 result  (HASH: `e` epoch, `s` offset; the same key as in publish.lua)
-- ARGV  1 payload, published as it is
--       2 Pub/Sub channel
--       3 verb: publish or spublish
--       4 result TTL, s
-- Returns {offset, epoch, cached, 0} like publish.lua. The position is 0 and empty, unless the same key was used
-- before for a publish with history: then it is the position of that one.
--
-- Effects, in this order:
--   a. A known result is returned (cached = 1). Nothing changes, not even its TTL.
--   b. The result is written with its TTL, before the publish: it is what a full or read-only Redis refuses, and then
--      nothing has been delivered.
--   c. The payload is published. If that is refused (ACL, unknown verb) the result is taken back: a repeated call must
--      not be told of a success that never was.

local result_key = KEYS[1]
local payload, messages, verb, result_ttl_s = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local result = redis.call('HMGET', result_key, 'e', 's')
if result[1] then
  return {tonumber(result[2] or '0'), result[1], 1, 0}
end

redis.call('HSET', result_key, 'e', '')
redis.call('EXPIRE', result_key, result_ttl_s)
local published = redis.pcall(verb, messages, payload)
if type(published) == 'table' and published.err then
  redis.call('DEL', result_key)
  return published
end
return {0, '', 0, 0}
