-- A node says that it is there and hears who else is. KEYS: the registry. ARGV: name, value, ttl ms.
-- By the server's clock, so that nodes need not agree on theirs. Returns {what was said last under this
-- name, or '', value, value …}.
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local before = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], struct.pack('>I8', now_ms + ARGV[3]) .. ARGV[2])
local all = redis.call('HGETALL', KEYS[1])
local there = { before and string.sub(before, 9) or '' }
for i = 1, #all, 2 do
  if struct.unpack('>I8', all[i + 1]) > now_ms then
    there[#there + 1] = string.sub(all[i + 1], 9)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return there
