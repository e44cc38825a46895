"""What runs inside Valkey: each script counts or sets aside everywhere, or nowhere."""

from __future__ import annotations

TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found, answer, full, wait = {}, {1}, 0, 0
for i, key in ipairs(KEYS) do
  local amount, period, cost = tonumber(ARGV[3*i-2]), tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i])
  local width = period / 60
  local bucket, total, counts = math.floor(now / width), 0, {}
  local all = redis.call('HGETALL', key)
  for j = 1, #all, 2 do
    local at, count = tonumber(all[j]), tonumber(all[j+1])
    if at < bucket - 60 then
      redis.call('HDEL', key, all[j])
    else
      total = total + count
      counts[#counts+1] = {at, count}
    end
  end
  table.sort(counts, function(a, b) return a[1] < b[1] end)
  if full == 0 and total + cost > amount then
    full = i
    local surplus = total + cost - amount
    for _, counted in ipairs(counts) do
      if surplus > 0 then
        surplus = surplus - counted[2]
        wait = math.ceil((counted[1] + 61) * width - now)
      end
    end
    if cost > amount then wait = -1 end
  end
  found[i] = {bucket, total, cost, amount, width, period}
end
if full > 0 then answer = {0, full, wait} end
for i, key in ipairs(KEYS) do
  local bucket, total, cost, amount, width, period = unpack(found[i])
  if full == 0 then
    total = total + cost
    redis.call('HINCRBY', key, string.format('%.0f', bucket), cost)
    redis.call('PEXPIRE', key, math.ceil(period + 2 * width))
  end
  answer[#answer+1] = bucket
  answer[#answer+1] = math.max(amount - total, 0)
  answer[#answer+1] = total > 0 and math.ceil(period + width) or 0
end
return answer
"""
"""KEYS: windows. ARGV per window: amount, period in ms, cost. Returns {1} or {0, the one that is
full, ms to wait or -1}, and per window its bucket, what is left, ms until all is."""

CORRECT = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])
end
"""
"""KEYS: a window. ARGV: bucket, difference."""

SEED = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[1], 'spent', ARGV[1], 'reserved', 0)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
"""
"""KEYS: an account's three. ARGV: spent so far, ms to keep it."""

RESERVE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local hold, ttl = ARGV[1], tonumber(ARGV[2])
local want, least = tonumber(ARGV[3]), tonumber(ARGV[4])
local count, room, tight = #KEYS / 3, nil, 0
local before = redis.call('HGET', KEYS[3], hold)
if before then return {1, tonumber(before)} end
for i = 1, count do
  local account, ends, amounts = KEYS[3*i-2], KEYS[3*i-1], KEYS[3*i]
  if redis.call('EXISTS', account) == 0 then return {-1, i} end
  for _, lost in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now)) do
    local held = redis.call('HGET', amounts, lost)
    if not held then
      redis.call('DEL', account)
      return {-1, i}
    end
    if held ~= '0' then redis.call('HINCRBY', account, 'reserved', '-' .. held) end
    redis.call('ZREM', ends, lost)
    redis.call('HDEL', amounts, lost)
  end
  local spent = tonumber(redis.call('HGET', account, 'spent'))
  local left = tonumber(ARGV[3+2*i]) - spent - tonumber(redis.call('HGET', account, 'reserved'))
  if room == nil or left < room then room, tight = left, i end
end
local grant = want
if want > room then
  if room < least then return {0, tight} end
  grant = room
end
grant = string.format('%.0f', grant)
for i = 1, count do
  local account, ends, amounts = KEYS[3*i-2], KEYS[3*i-1], KEYS[3*i]
  redis.call('HINCRBY', account, 'reserved', grant)
  redis.call('ZADD', ends, now + ttl, hold)
  redis.call('HSET', amounts, hold, grant)
  for _, key in ipairs({account, ends, amounts}) do redis.call('PEXPIRE', key, ARGV[4+2*i]) end
end
return {1, tonumber(grant)}
"""
"""KEYS: three per account: spent and reserved, when holds end, what they hold. ARGV: hold, ms until
it ends by itself, amount wanted, least that helps; per account: limit, ms to keep it. Returns
{1, granted}, {0, the tightest account} or {-1, an account that was not seeded}. An account of which
Valkey has evicted a part is taken for one that was not seeded."""

SETTLE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #KEYS / 3 do
  local account, ends, amounts = KEYS[3*i-2], KEYS[3*i-1], KEYS[3*i]
  local held = redis.call('HGET', amounts, ARGV[1])
  if held ~= '0' and redis.call('EXISTS', account) == 1 then
    if held then redis.call('HINCRBY', account, 'reserved', '-' .. held) end
    redis.call('HINCRBY', account, 'spent', ARGV[2])
    redis.call('ZADD', ends, now + ARGV[3], ARGV[1])
    redis.call('HSET', amounts, ARGV[1], 0)
    for _, key in ipairs({ends, amounts}) do
      redis.call('PEXPIRE', key, redis.call('PTTL', account))
    end
  end
end
"""
"""KEYS: as for RESERVE. ARGV: hold, what the call cost, ms to remember that it is settled: for so
long it holds 0, and neither script does again what is sent again, or comes in the wrong order. An
account that is gone is seeded anew from the ledger, which has this cost."""
