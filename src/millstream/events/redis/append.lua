-- Appends to the streams of many jobs at once, and tells on one channel which these are.
--
-- KEYS   of each entry: the job's stream, the hash of what is known of it, and that of who looks at it
-- ARGV   emitter, channel, what is told there, most events of a stream, seconds that the keys of an ended job are kept;
--        then of each entry a header (MessagePack, see `script.py`), and the bytes of its events
-- Returns for each entry {head before, k before, head, k, is over, id of each event…}; the ids only where they are
-- wanted, "" for an event that was not taken.
local VOLATILE, TERMINAL = string.byte('v'), string.byte('$')
local emitter, most, ttl = ARGV[1], ARGV[4], ARGV[5]
local place, now = 6, nil

local function micros()
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
  end
  return now
end

local function digits(number)  -- Lua itself would write large ones as 1.8e+15
  return string.format('%.0f', number)
end

local function id(seq, k)
  return string.format('%.0f-%.0f', seq, k)
end

-- What is known of a job whose hash is gone: where its stream ends, if that is still there.
local function recalled(stream)
  if redis.call('EXISTS', stream) == 0 then
    return 0, 0, 0, false
  end
  local info = redis.call('XINFO', 'STREAM', stream)
  local last = '0-0'
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last = info[i + 1]
    end
  end
  local seq, k = string.match(last, '(%d+)-(%d+)')
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  return tonumber(seq), tonumber(k), micros(), newest ~= nil and newest[2][1] == 'end'
end

local replies = {}
for i = 1, #KEYS, 3 do
  local stream, state, activity = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local entry = cmsgpack.unpack(ARGV[place])
  local first, segment, attempt, number = entry[1], 'attempt:' .. entry[2], entry[3], entry[4]
  local seen_seq, seen_k, is_refill, is_for_known, is_wanted, kinds =
    entry[5], entry[6], entry[7], entry[8], entry[9], entry[10]
  local by = 'by:' .. emitter
  local known = redis.call('HMGET', state, 'head', 'k', 'base', 'over', segment, by)
  local head, k, base, is_over = tonumber(known[1]), tonumber(known[2]), tonumber(known[3]), known[4] ~= false
  local is_new = head == nil
  if is_new then
    head, k, base, is_over = recalled(stream)
  end
  local reply = {head, k, head, k, is_over and 1 or 0}
  local ids = {}
  if not (is_over or first > head + 1 or (is_for_known and is_new and head == 0)) then
    local is_again = number <= (tonumber(known[6]) or 0)
    local newest_attempt = tonumber(known[5]) or 0
    local is_current = attempt >= newest_attempt
    if seen_seq == head and seen_k > k then
      k = seen_k
    end
    if is_refill and base < micros() then
      base = micros()
    end
    local seq = first
    for j = 1, #kinds do
      local kind, data = kinds:byte(j), ARGV[place + j]
      local at = ''
      if is_over then
        at = ''
      elseif kind == VOLATILE then
        if is_current and not is_again then
          k = math.max(k, base) + 1
          at = id(head, k)
          redis.call('XADD', stream, 'MAXLEN', '~', most, at, 'e', data)
        end
      else
        if seq == head + 1 then
          head, k = seq, 0
          at = id(head, 0)
          is_over = kind == TERMINAL
          redis.call('XADD', stream, 'MAXLEN', '~', most, at, is_over and 'end' or 'e', data)
        end
        seq = seq + 1
      end
      ids[j] = at
    end
    local fields = {'head', digits(head), 'k', digits(k), 'base', digits(base), by, number}
    if attempt > newest_attempt then
      fields[#fields + 1] = segment
      fields[#fields + 1] = attempt
    end
    if is_over then
      fields[#fields + 1] = 'over'
      fields[#fields + 1] = 1
    end
    redis.call('HSET', state, unpack(fields))
    if is_over then
      redis.call('EXPIRE', stream, ttl)
      redis.call('EXPIRE', state, ttl)
      redis.call('EXPIRE', activity, ttl)
    end
    reply[3], reply[4], reply[5] = head, k, is_over and 1 or 0
  end
  if is_wanted then
    for j = 1, #kinds do
      reply[5 + j] = ids[j] or ''
    end
  end
  place = place + 1 + #kinds
  replies[#replies + 1] = reply
end
if ARGV[3] ~= '' then
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return replies
