-- What src/shared/ledger.rs does, number for number, on a server of Redis or Valkey: one call is
-- one exchange. A test runs both. That file says why; this one keeps its order and its names.
--
-- KEYS[1] holds the whole account. ARGV has what `encode` in src/shared/redis.rs puts there. A
-- limit is {units, period, burst} or false, a span {from, to}. Ids are strings: they have 64 bits.
-- Holders are kept in columns, and their limits as text, since there may be hundreds of them.

local LIVE, BUSY, FREE, LAST, TOKENS = 3000000, 300000, 16, 9000000000000000, 2
-- An account that nobody has used for a day is deleted.
local UNUSED = 86400
local min, max, floor, ceil = math.min, math.max, math.floor, math.ceil

local read = 0
local function word()
  read = read + 1
  return ARGV[read]
end
local function number()
  return tonumber(word())
end
local fresh, holder, incarnation, said_limits = word(), word(), word(), word()
local owed, leaves, returns = number(), number() == 1, number() == 1
local pause, lease, slack = number(), number(), number()
local wants, back = {}, {}
for at = 1, 2 do
  wants[at], back[at] = {number(), number()}, {}
  for index = 1, number() do
    back[at][index] = {number(), number()}
  end
end

local function later(date, by)
  return min(date + by, LAST)
end
local function whole(number)
  return min(floor(number), LAST)
end
local function scaled(number, by, per)
  return number * by / per
end
local function length(units, limit)
  return whole(ceil(scaled(units, limit[2], limit[1])))
end
local function burst_time(limit)
  return whole(scaled(limit[3], limit[2], limit[1]))
end

-- The limits of all holders: those that are configured and those that are announced.
local function limits_of(holders)
  local texts, configured, announced = {}, {}, {}
  for _, text in ipairs(holders.limits) do
    if not texts[text] then
      texts[text] = true
      local numbers = {}
      for digits in string.gmatch(text, '%d+') do
        numbers[#numbers + 1] = tonumber(digits)
      end
      local function limit(first)
        return numbers[first] > 0 and {numbers[first], numbers[first + 1], numbers[first + 2]}
      end
      configured[#configured + 1] = {limit(1), limit(4)}
      announced[#announced + 1] = {limit(7), limit(10)}
    end
  end
  return configured, announced
end

local function lowest(all, low)
  for _, limits in ipairs(all) do
    for at = 1, 2 do
      local one, other = low[at], limits[at]
      if one and other then
        local rate, others = one[1] / one[2], other[1] / other[2]
        local lower = others < rate or others == rate and other[2] < one[2]
        local named = lower and other or one
        low[at] = {named[1], named[2], min(one[3], other[3])}
      else
        low[at] = one or other
      end
    end
  end
  return low
end

local function take_back(axis, back, floor)
  local free, kept = axis.free, {}
  for _, span in ipairs(back) do
    free[#free + 1] = span
  end
  table.sort(free, function(one, other) return one[1] < other[1] end)
  for _, span in ipairs(free) do
    local from, to, last = max(span[1], floor), min(span[2], axis.next), kept[#kept]
    if from < to then
      if last and from <= last[2] then
        last[2] = max(last[2], to)
      else
        kept[#kept + 1] = {from, to}
      end
    end
  end
  if #kept > 0 and kept[#kept][2] == axis.next then
    axis.next = table.remove(kept)[1]
  end
  while #kept > FREE do
    table.remove(kept, 1)
  end
  axis.free = kept
  axis.next = max(axis.next, floor)
end

local function settle(axis, owed, limit, now)
  local length = length(math.abs(owed), limit)
  if owed > 0 then
    axis.next = later(axis.next, length)
  else
    local last = axis.free[#axis.free]
    local least = min(axis.next, last and max(last[2], now) or now)
    axis.next = max(axis.next - length, least)
  end
end

local function parts(axis, skipped, length)
  local found = {}
  for index = skipped + 1, #axis.free + 1 do
    local span = axis.free[index] or {axis.next, LAST}
    local to = min(span[2], later(span[1], length))
    if to > span[1] then
      found[#found + 1] = {span[1], to}
      length = length - (to - span[1])
    end
  end
  return found
end

local function usable(credit, cost, worth)
  local function sum(from, to)
    local sum = 0
    for _, span in ipairs(credit) do
      sum = sum + max(min(span[2], to) - max(span[1], from), 0)
    end
    return sum
  end
  for _, span in ipairs(credit) do
    local from = max(span[2] - worth, 0)
    if sum(from, span[2]) >= min(cost, worth) and sum(from, LAST) >= cost then
      return true
    end
  end
  return false
end

local function grant(axis, want, limit, active, now)
  local share = scaled(floor(min(lease, LAST) / max(active, 1)), limit[1], limit[2])
  local units = max(want[1], min(want[2], whole(share)))
  if units == 0 then
    return {}
  end
  local worth, least, length = burst_time(limit), length(want[1], limit), length(units, limit)
  local room = worth - min(least, worth)
  local good_for = max(min(slack, room), min(lease, floor(room / 2)))
  take_back(axis, {}, max(now - (worth - good_for), 0))
  length = later(length, slack - min(slack, room))
  local skipped, credit = 0, parts(axis, 0, length)
  while skipped < #axis.free and not usable(credit, least, worth) do
    skipped = skipped + 1
    credit = parts(axis, skipped, length)
  end
  local free = {}
  for _, span in ipairs(credit) do
    local given_back = false
    for _, part in ipairs(axis.free) do
      if part[1] == span[1] then
        part[1], given_back = span[2], true
        break
      end
    end
    if not given_back then
      axis.next = span[2]
    end
  end
  for _, part in ipairs(axis.free) do
    if part[1] < part[2] then
      free[#free + 1] = part
    end
  end
  axis.free = free
  return credit
end

local time = redis.call('TIME')
local now = min(time[1] * 1000000 + time[2], LAST)

-- A server that was restarted, and a replica that takes over, may have the account as it was some
-- time ago: then it begins anew. INFO may be forbidden.
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''

local text, is_read, state = redis.call('GET', KEYS[1])
if text then
  is_read, state = pcall(cmsgpack.unpack, text)
  if not (is_read and type(state) == 'table' and state.tollgate == 1) then
    return redis.error_reply('WRONGTYPE the key holds something else')
  end
end
-- A user that may not call INFO cannot tell, and leaves what others know.
local is_known = state and state.server ~= '' and server ~= ''
if not state or (is_known and state.server ~= server) then
  state = {tollgate = 1, server = server, incarnation = fresh, seen = now,
    paused_until = state and state.paused_until or 0,
    axes = {{next = now, free = {}}, {next = now, free = {}}},
    holders = {id = {}, limits = {}, live_until = {}, busy_until = {}}}
end
state.server = server ~= '' and server or state.server
local before = state.holders
if now < state.seen then
  local set_back = state.seen - now
  local function earlier(date)
    return max(date - set_back, 0)
  end
  state.incarnation, state.paused_until = fresh, earlier(state.paused_until)
  for at = 1, 2 do
    state.axes[at] = {next = earlier(state.axes[at].next), free = {}}
  end
  for index = 1, #before.id do
    before.live_until[index] = earlier(before.live_until[index])
    before.busy_until[index] = earlier(before.busy_until[index])
  end
end
state.seen = now

if pause > 0 then
  state.paused_until = max(state.paused_until, later(now, pause))
end
local held = {true, true}
if #before.id > 0 then
  local configured, announced = limits_of(before)
  held = lowest(announced, lowest(configured, {false, false}))
end

-- The others that live, and this holder behind them.
local wants_some = max(wants[1][1], wants[1][2], wants[2][1], wants[2][2]) > 0
local active, busy_until = wants_some and 1 or 0, 0
local holders = {id = {}, limits = {}, live_until = {}, busy_until = {}}
local last = 0
for index, id in ipairs(before.id) do
  if before.live_until[index] >= now then
    if id == holder then
      busy_until = before.busy_until[index]
    else
      last = last + 1
      holders.id[last], holders.limits[last] = id, before.limits[index]
      holders.live_until[last] = before.live_until[index]
      holders.busy_until[last] = before.busy_until[index]
      active = active + (before.busy_until[index] >= now and 1 or 0)
    end
  end
end
state.holders, last = holders, last + 1
holders.id[last], holders.limits[last] = holder, said_limits

local configured, announced = limits_of(holders)
configured = lowest(configured, {false, false})
local limits, stop, credit = lowest(announced, {configured[1], configured[2]}), now, {{}, {}}
for at, axis in ipairs(state.axes) do
  local limit = limits[at]
  local saves_up = held[at] and not returns
  local worth = limit and saves_up and burst_time(limit) or 0
  local floor = max(state.paused_until, now - worth, 0)
  take_back(axis, incarnation == state.incarnation and back[at] or {}, floor)
  if limit then
    if at == TOKENS then
      settle(axis, owed, limit, max(now, floor))
    end
    credit[at] = grant(axis, wants[at], limit, active, now)
    local latest = credit[at][#credit[at]]
    stop = latest and max(stop, latest[2]) or stop
  end
end

if leaves then
  holders.id[last], holders.limits[last] = nil, nil
else
  holders.live_until[last] = stop + LIVE
  holders.busy_until[last] = wants_some and stop + BUSY or busy_until
end
redis.call('SET', KEYS[1], cmsgpack.pack(state), 'EX', UNUSED)

local reply = {state.incarnation, now, state.paused_until > now and state.paused_until or 0, last}
local function say(list)
  for _, number in ipairs(list) do
    reply[#reply + 1] = number
  end
end
for at = 1, 2 do
  say(configured[at] or {0, 0, 0})
  say(limits[at] or {0, 0, 0})
  say({#credit[at]})
  for _, span in ipairs(credit[at]) do
    say(span)
  end
end
return reply
