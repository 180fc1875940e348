-- Publish into a channel with history: number, store and publish as one step that no other client sees half done.
--
-- KEYS  1 stream  (STREAM of items, entry `<offset>-0`, one field `d`)
--       2 meta    (HASH: `e` epoch, `s` top offset, `v` version, `ve` version epoch)
--       3 result  (HASH: `e` epoch, `s` offset) or absent: a publish without idempotency key
-- ARGV  1 payload, an encoded Publication
--       2 history size, items
--       3 history TTL, s
--       4 Pub/Sub channel; empty = store only
--       5 meta TTL, s; 0 = never expires
--       6 candidate epoch, used if the stream has none
--       7 verb: publish or spublish
--       8 result TTL, s; read only with KEYS 3
--       9 delta: 1 = send the previous publication along, 0 = do not
--      10 version, decimal without leading zeros, up to 2^64-1; 0 = none
--      11 version epoch; empty = any
-- Returns {offset, epoch, cached, suppressed}: integer, string, 0 or 1, 0 or 1.
--
-- Effects, in this order:
--   a. A known result is returned (cached = 1). Nothing changes, not even a TTL.
--   b. A missing epoch becomes the candidate.
--   c. A version that is not above the stored one is refused (suppressed = 1, offset = top): no TTL, no result. Only a
--      newer one is stored; a publish without version leaves the stored one alone.
--   d. The top offset is incremented. From here on all happens: Redis refuses the first write of a script or none.
--   e. The TTL of meta is renewed, before the items' so that no item outlives what it is numbered by.
--   f. The delta base is read before the append: it is the newest item until then.
--   g. Offset 1 deletes the stream: meta was lost (expired, evicted), what is left belongs to a dead epoch, must not be
--      read as this one's, and its higher entry ids would make the append fail.
--   h. The item is appended, the window cut to exactly the size, its TTL restarted.
--   i. The envelope is published: after the append, so that who sees offset n can read n; inside the script, so that
--      Pub/Sub order is offset order with any number of publishers. A refused verb or channel (ACL) is an error of the
--      call with the item already stored.
--   j. The result is remembered, last: a call that failed is not answered from memory when it is repeated.
--
-- Offsets are exact up to 2^53 (numbers here are doubles), versions are compared as text and exact up to 2^64-1.

local stream_key, meta_key, result_key = KEYS[1], KEYS[2], KEYS[3]
local payload, size, ttl_s, messages, meta_ttl_s = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local candidate, verb, result_ttl_s, delta = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local version, version_epoch = ARGV[10], ARGV[11]

local function is_at_most(a, b)
  if #a ~= #b then
    return #a < #b
  end
  return a <= b
end

if result_key then
  local result = redis.call('HMGET', result_key, 'e', 's')
  if result[1] then
    return {tonumber(result[2] or '0'), result[1], 1, 0}
  end
end

local epoch
if version == '0' then
  epoch = redis.call('HGET', meta_key, 'e')
else
  local meta = redis.call('HMGET', meta_key, 'e', 's', 'v', 've')
  epoch = meta[1]
  local stored, stored_epoch = meta[3], meta[4] or ''
  if stored and (version_epoch == '' or version_epoch == stored_epoch) and is_at_most(version, stored) then
    if not epoch then
      epoch = candidate
      redis.call('HSET', meta_key, 'e', epoch)
    end
    return {tonumber(meta[2] or '0'), epoch, 0, 1}
  end
end
if not epoch then
  epoch = candidate
  redis.call('HSET', meta_key, 'e', epoch)
end
if version ~= '0' then
  redis.call('HSET', meta_key, 'v', version, 've', version_epoch)
end

local offset = redis.call('HINCRBY', meta_key, 's', 1)
-- Not tostring(): that is "1e+14" from 10^14 on.
local offset_text = string.format('%.0f', offset)
if meta_ttl_s ~= '0' then
  redis.call('EXPIRE', meta_key, meta_ttl_s)
end

local base = ''
if offset == 1 then
  redis.call('DEL', stream_key)
elseif delta == '1' then
  local newest = redis.call('XREVRANGE', stream_key, '+', '-', 'COUNT', 1)[1]
  if newest then
    base = newest[2][2]
  end
end

redis.call('XADD', stream_key, 'MAXLEN', size, offset_text .. '-0', 'd', payload)
redis.call('EXPIRE', stream_key, ttl_s)

if messages ~= '' then
  local envelope
  if delta == '1' then
    envelope = '__d1:' .. offset_text .. ':' .. epoch .. ':'
      .. #base .. ':' .. base .. ':' .. #payload .. ':' .. payload
  else
    envelope = '__p1:' .. offset_text .. ':' .. epoch .. '__' .. payload
  end
  redis.call(verb, messages, envelope)
end

if result_key then
  redis.call('HSET', result_key, 'e', epoch, 's', offset_text)
  redis.call('EXPIRE', result_key, result_ttl_s)
end

return {offset, epoch, 0, 0}
