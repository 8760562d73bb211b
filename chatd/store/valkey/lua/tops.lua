-- The ends of many channels. KEYS: at, stream of each. ARGV: ms that an unused channel is kept.
-- Returns {chain, top, floor, chain, top, floor …}.
local ends = {}
for i = 1, #KEYS, 2 do
  local top, floor, chain = look(KEYS[i], KEYS[i + 1], ARGV[1])
  ends[#ends + 1] = chain
  ends[#ends + 1] = top
  ends[#ends + 1] = floor
end
return ends
