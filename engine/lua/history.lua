-- Read the position of a channel and a page of its history. One step, so that items and position belong together: this
-- is the read of the history call, of recovery, of a subscribe and of the periodic position check.
--
-- KEYS  1 stream  (STREAM of items, entry `<offset>-0`, one field `d`)
--       2 meta    (HASH: `e` epoch, `s` top offset)
-- ARGV  1 meta TTL, s; 0 = never expires
--       2 candidate epoch, used if the stream has none
--       3 limit, items: 0 = position only, -1 = all
--       4 since, an offset up to 2^64-1; empty = from the end where the order begins
--       5 reverse: 0 = oldest first, items above `since`; 1 = newest first, items below `since`
-- Returns {top offset, epoch, items}: integer, string, array of [`<offset>-0`, [`d`, payload]] as XRANGE gives them.
-- An item that was cut off or has expired is missing; the caller finds the gap by the offsets.
--
-- Effects, in this order:
--   a. A missing epoch becomes the candidate, so that whoever has a position has an epoch. A read is a write therefore
--      and cannot go to a replica.
--   b. The TTL of meta is renewed: a channel that somebody watches keeps its epoch.
--   c. Items are read. Top 0 has none: what a stream without meta still holds belongs to a dead epoch (publish.lua
--      deletes it with offset 1).

local stream_key, meta_key = KEYS[1], KEYS[2]
local meta_ttl_s, candidate, limit, since, reverse = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local meta = redis.call('HMGET', meta_key, 'e', 's')
local epoch, top = meta[1], tonumber(meta[2] or '0')
if not epoch then
  epoch = candidate
  redis.call('HSET', meta_key, 'e', epoch)
end
if meta_ttl_s ~= '0' then
  redis.call('EXPIRE', meta_key, meta_ttl_s)
end
if limit == '0' or top == 0 then
  return {top, epoch, {}}
end

local verb, first, last
if reverse == '1' then
  verb, first, last = 'XREVRANGE', '+', '-'
  if since ~= '' then
    local below = tonumber(since) - 1
    if below < 1 then
      return {top, epoch, {}}
    end
    -- Above the top a double may not be exact, and need not be.
    if below < top then
      first = string.format('%.0f', below)
    end
  end
else
  verb, first, last = 'XRANGE', '-', '+'
  if since ~= '' then
    -- The smallest id above `<since>-0`. An exclusive range would need Redis 6.2, an addition is not exact.
    first = since .. '-1'
  end
end

local items
if limit == '-1' then
  items = redis.call(verb, stream_key, first, last)
else
  items = redis.call(verb, stream_key, first, last, 'COUNT', limit)
end
return {top, epoch, items}
