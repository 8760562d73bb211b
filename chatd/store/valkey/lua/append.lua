-- Place messages of one channel. KEYS: at, stream, set of all channels, then the remembered id of each message.
-- ARGV: channel, topic, now ms, messages kept at least, ms that ids are remembered, 1 to write always,
-- then a request for each message (records.py).
-- Returns {chain, time, outcome …}: serial * 8 + 0 placed, 1 duplicate, 2 conflict, 3 no target, 4 another's.
local FIXED_KEYS, FIXED, EVENT_BYTES = 3, 6, 65536
local at, stream = KEYS[1], KEYS[2]
local topic, keep, ttl_ms = ARGV[2], ARGV[4], ARGV[5]
local state = redis.call('HMGET', at, 's', 'c', 't', 'b')
local top, bytes = tonumber(state[1] or '0'), tonumber(state[4] or '0')
local time = math.max(tonumber(state[3] or '0'), tonumber(ARGV[3]))
local before = top
local chain, new = touched(state[2], top)
if new then redis.call('HSET', at, 's', top, 'c', chain) end

local function judged(user, to, own)
  local serial, target = first(stream, to)
  if serial ~= to then return 3 end
  local users, messages, kinds = struct.unpack('>HHB', target, 17)
  local kind = 30 + users + messages
  if string.sub(target, kind, kind + kinds - 1) ~= 'text' then return 3 end
  if own and string.sub(target, 30, 29 + users) ~= user then return 4 end
end

local event, event_bytes = {}, 0
local function publish()
  if #event > 0 then redis.call('PUBLISH', topic, 'P' .. fence .. table.concat(event)) end
  event, event_bytes = {}, 0
end

local outcomes = {chain, time}
for i = 1, #ARGV - FIXED do
  local request, id = ARGV[FIXED + i], KEYS[FIXED_KEYS + i]
  local digest, record = string.sub(request, 1, 16), string.sub(request, 18)
  local users, messages, kinds, to = struct.unpack('>HHBI8', record)
  local found, refused = redis.call('GET', id), nil
  if found then
    outcomes[i + 2] = struct.unpack('>I8', found) * 8 + (string.sub(found, 9) == digest and 1 or 2)
  else
    if to > 0 then
      refused = judged(string.sub(record, 14, 13 + users), to, string.byte(request, 17) == 1)
    end
    if refused then
      outcomes[i + 2] = refused
    else
      top = top + 1
      bytes = bytes + #record - 13 - users - messages - kinds
      redis.call('XADD', stream, 'MAXLEN', '~', keep, string.format('%.0f-0', top),
        'm', struct.pack('>I8I8', time, bytes) .. record)
      redis.call('SET', id, struct.pack('>I8', top) .. digest, 'PX', ttl_ms)
      event[#event + 1] = struct.pack('>I8I8I4', top, time, #record) .. record
      event_bytes = event_bytes + #record
      if event_bytes >= EVENT_BYTES then publish() end
      outcomes[i + 2] = top * 8
    end
  end
end

if top > before then
  redis.call('HSET', at, 's', top, 't', time, 'b', bytes)
  if before == 0 then
    redis.call('PERSIST', at)
    redis.call('SADD', KEYS[3], ARGV[1])
  end
  publish()
elseif ARGV[6] == '1' and not new then
  redis.call('HSET', at, 's', top) -- WAIT waits for what this connection wrote: a retry must wait too
end
return outcomes
