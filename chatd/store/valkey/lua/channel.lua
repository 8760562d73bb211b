-- What every script begins with. The server's own replication id is the fence: it is new after every restart
-- and every failover, so the first script to see it starts an epoch. It is read here, not passed in: nodes
-- that learnt it at different moments would start a new epoch at every append.
--
-- chatd:log:CHANNEL:at   hash: s top serial, c chain of epochs ("EPOCH:FIRST EPOCH:FIRST"), t time of the newest
--                        message in ms, b bytes of data ever placed
-- chatd:log:CHANNEL      stream: serial-0 → one field with the message (records.py)
local EPOCHS = 8 -- that a chain holds
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY this server is a replica now')
end
local fence = string.sub(string.match(info, 'master_replid:(%x+)'), 1, 12)

-- The chain with the epoch of now in it, and whether that is new. An epoch begins after the top.
local function touched(chain, top)
  chain = chain or ''
  if string.sub(string.match(chain, '(%x+):%d+$') or '', 1, 12) == fence then return chain, false end
  local links = {}
  for link in string.gmatch(chain, '%S+') do links[#links + 1] = link end
  links[#links + 1] = string.format('%s:%.0f', fence, top + 1)
  return table.concat(links, ' ', math.max(1, #links - EPOCHS + 1)), true
end

-- Serial and value of the first message from `serial` on; nil when there is none.
local function first(stream, serial)
  local found = redis.call('XRANGE', stream, string.format('%.0f', serial), '+', 'COUNT', 1)[1]
  if found then return tonumber(string.match(found[1], '^%d+')), found[2][2] end
end

-- The state of a channel that is only looked at. An epoch that somebody was told of is kept, so that it can be
-- resumed from; where it cannot be (a full or read-only server), the answer is the same until an append.
local function look(at, stream, keep_ms)
  local state = redis.call('HMGET', at, 's', 'c')
  local top = tonumber(state[1] or '0')
  local chain, new = touched(state[2], top)
  if new then
    redis.pcall('HSET', at, 's', top, 'c', chain)
    if top == 0 then redis.pcall('PEXPIRE', at, keep_ms) end -- nobody ever published to it
  end
  return top, first(stream, 0) or top + 1, chain
end
