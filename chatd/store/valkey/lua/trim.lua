-- Forget what retention no longer promises. KEYS: at, stream. ARGV: messages, oldest ms, bytes.
-- Returns the floor if it moved, else 0. Times and bytes never fall along a channel: a binary search finds where.
local stream, count = KEYS[2], tonumber(ARGV[1])
local oldest_ms, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[1], 's', 'b')
local top, bytes = tonumber(state[1] or '0'), tonumber(state[2] or '0')
local old = first(stream, 0)
if not old then return 0 end

local function kept(serial)
  local _, value = first(stream, serial)
  local time, upto = struct.unpack('>I8I8', value)
  local users, messages, kinds = struct.unpack('>HHB', value, 17)
  local size = #value - 29 - users - messages - kinds
  return time >= oldest_ms and bytes - upto + size <= most
end

local low, high = math.max(old, top - count + 1), top + 1
if low < high and not kept(low) then
  while low < high do
    local middle = math.floor((low + high) / 2)
    if kept(middle) then high = middle else low = middle + 1 end
  end
end
if low == old then return 0 end
redis.call('XTRIM', stream, 'MINID', string.format('%.0f', low))
return low
