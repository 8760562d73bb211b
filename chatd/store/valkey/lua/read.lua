-- A page of one channel. KEYS: at, stream. ARGV: after, limit, most bytes of data, ms that an unused channel is kept.
-- Returns {chain, top, floor, serial, message, serial, message …}.
local CHUNK = 100
local top, floor, chain = look(KEYS[1], KEYS[2], ARGV[4])
local page = {chain, top, floor}
local serial, room, bytes = math.max(tonumber(ARGV[1]) + 1, floor), tonumber(ARGV[2]), tonumber(ARGV[3])
while room > 0 and serial <= top do
  local found = redis.call('XRANGE', KEYS[2], string.format('%.0f', serial), '+',
    'COUNT', math.min(room, CHUNK))
  for _, message in ipairs(found) do
    local value = message[2][2]
    page[#page + 1] = serial
    page[#page + 1] = value
    serial, room = serial + 1, room - 1
    local users, messages, kinds = struct.unpack('>HHB', value, 17)
    bytes = bytes - (#value - 29 - users - messages - kinds)
    if bytes <= 0 then return page end
  end
  if #found == 0 then return page end
end
return page
