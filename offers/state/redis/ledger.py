"""Budgets and their usage in Redis, and how often persons redeem. As durable as Redis is configured (appendonly)."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from offers.model.money import MICROS
from offers.state.ledger import (
    FORGET_EVERY_S,
    KEPT_S,
    PERIOD_KEPT_S,
    UNKNOWN,
    Amounts,
    KeptRedemption,
    Redemption,
    RedemptionOutcome,
    Usage,
)
from offers.state.redis.server import RedisServer, Script
from offers.state.stores import EVER, Person

_USED = "offers:used"
_EXPIRED_AT_ONCE = 500

# Money is sent as whole units and micros, each exact as a double, the only number of Lua.
# Usage is one hash, with the fields "u" (units), "h" (whole money) and "l" (micros), each with period and budget.
# A redemption is a hash: the fields of KeptRedemption, the second until which it is held, the demands it holds (only
# their first five entries matter), and the caps that count it. What a person has redeemed is a hash from cap and
# redemption to the second, and the second until which that is kept; "" for ever.
_COMMON = """
local function move(d, sign)
  local last = d[2] == '0' and 1 or 2
  local used = {}
  for i = 1, last do
    local at = (i == 1 and '0' or d[2]) .. ':' .. d[1]
    used[i] = {}
    for j, field in ipairs({'u:', 'h:', 'l:'}) do
      local amount = string.format('%.0f', 0 + sign * tonumber(d[j + 2]))  -- 0 + -0 is 0
      if sign > 0 or redis.call('HEXISTS', 'offers:used', field .. at) == 1 then  -- the period may be forgotten
        used[i][j] = redis.call('HINCRBY', 'offers:used', field .. at, amount)
      end
    end
  end
  return used
end
local function over(d, used)
  for i = 1, #used do
    local units, whole, rest = unpack(used[i])
    local most, most_whole, most_rest = tonumber(d[3 + 3 * i]), tonumber(d[4 + 3 * i]), tonumber(d[5 + 3 * i])
    whole = whole + math.floor(rest / 1000000)
    rest = rest % 1000000
    if tonumber(d[3]) > 0 and most >= 0 and units > most then return true end
    if tonumber(d[4]) * 1000000 + tonumber(d[5]) > 0 and most_whole >= 0
      and (whole > most_whole or (whole == most_whole and rest > most_rest)) then return true end
  end
  return false
end
local function take(demands)
  for i, d in ipairs(demands) do
    if over(d, move(d, 1)) then
      for j = 1, i do move(demands[j], -1) end
      return d[1]
    end
  end
  return false
end
local function untake(demands)
  for _, d in ipairs(demands) do move(d, -1) end
end
local function give_back(key)
  untake(cjson.decode(redis.call('HGET', key, 'held') or '[]'))
  local caps = redis.call('HGET', key, 'caps') or ''
  local of = 'offers:redeemed:' .. (redis.call('HGET', key, 'person') or '')
  for cap in string.gmatch(caps, '%S+') do redis.call('HDEL', of, cap .. ' ' .. string.sub(key, 10)) end
end
local function finish(key, phase)
  redis.call('HSET', key, 'phase', phase)
  redis.call('EXPIRE', key, %(kept)d)
  redis.call('ZREM', 'offers:held', string.sub(key, 10))
end
local function expire(key)
  give_back(key)
  redis.call('HDEL', key, 'held', 'caps')
  finish(key, 'expired')
end
""".replace("%(kept)d", str(KEPT_S))
# Arguments: the phase to come into, the name of the redemption, now, until, and in JSON: what is asked, with numbers as
# texts and "" for what is not told; the demands; the caps; the hashes of the person's ids. A demand has eleven entries:
# budget, period; units, whole money and micros of the demand; the same three of the total limit; the same three of the
# period's limit. A cap has: name, key, most, begin, end, rolling seconds, and the second until which it is kept.
_STEP = Script(
    _COMMON
    + """
local phase, key, now, ending = ARGV[1], 'offers:r:' .. ARGV[2], tonumber(ARGV[3]), ARGV[4]
local asked, demands = cjson.decode(ARGV[5]), cjson.decode(ARGV[6])
local caps, persons = cjson.decode(ARGV[7]), cjson.decode(ARGV[8])
local function kept(name) return redis.call('HGET', key, name) or '' end
local was = kept('phase')
if was == '' then was = 'unknown' end
if was == 'held' and tonumber(kept('until')) <= now then
  expire(key)
  was = 'expired'
end
local before = redis.call('HGETALL', key)
local function known(one, other) return one ~= '' and other ~= '' end
local function refusal()
  if phase == 'reversed' and was == 'confirmed' and kept('units') == '' then return 'unknown' end
  local offer, currency = kept('offer'), kept('currency')
  if known(offer, asked.offer) and offer ~= asked.offer then return 'offer' end
  if known(kept('person'), persons[1] or '') then
    local is_one = false
    for _, person in ipairs(persons) do is_one = is_one or person == kept('person') end
    if not is_one then return 'person' end
  end
  if known(currency, asked.currency) and currency ~= asked.currency then return 'currency' end
  if phase == 'reversed' or phase == was then
    if known(kept('units'), asked.units) and kept('units') ~= asked.units then return 'units' end
    if known(kept('whole'), asked.whole) and (kept('whole') ~= asked.whole or kept('rest') ~= asked.rest) then
      return 'amount'
    end
  end
  local from = {
    held = ' unknown held confirmed ', confirmed = ' unknown held expired confirmed ',
    released = ' held expired released ', reversed = ' confirmed reversed ',
  }
  return string.find(from[phase], ' ' .. was .. ' ') and '' or was
end
local reason = refusal()
if reason ~= '' then return {reason, '', '', before} end
if phase == was or (phase == 'held' and was == 'confirmed') then
  return {'', '', kept('event_id') == asked.event_id and '' or 'repeated', before}
end
local function finished(phase)
  redis.call('HSET', key, 'event_id', asked.event_id)
  finish(key, phase)
  return {'', '', '', before}
end
if phase == 'released' or phase == 'reversed' then
  give_back(key)
  redis.call('HDEL', key, 'held', 'caps')
  return finished(phase)
end

local function adjusted(held)
  local changes, after = {}, {}
  for i, h in ipairs(held) do
    local d = h
    for _, one in ipairs(demands) do if one[1] == h[1] then d = one end end
    local told = {asked.units ~= '', asked.whole ~= '', asked.whole ~= ''}
    changes[i], after[i] = {h[1], h[2]}, {h[1], h[2]}
    for j = 1, 3 do
      after[i][j + 2] = told[j] and d[j + 2] or h[j + 2]
      changes[i][j + 2] = tonumber(after[i][j + 2]) - tonumber(h[j + 2])
    end
    for j = 6, 11 do changes[i][j] = d == h and '-1' or d[j] end
  end
  return changes, after
end
local function is_reached(cap, second, is_again)
  local most, first, last, rolling = tonumber(cap[3]), tonumber(cap[4]), tonumber(cap[5]), tonumber(cap[6])
  local seconds, count, is_joined = {second}, 0, false
  for _, person in ipairs(persons) do
    local found = redis.call('HGETALL', 'offers:redeemed:' .. person)
    for i = 1, #found, 2 do
      local counts = string.sub(found[i], 1, #cap[2] + 1) == cap[2] .. ' '
      if counts and is_again then  -- older redemptions are forgotten before their counts
        local phase = redis.call('HGET', 'offers:r:' .. string.sub(found[i], #cap[2] + 2), 'phase') or 'confirmed'
        counts = phase == 'confirmed'
        is_joined = is_joined or (counts and person ~= kept('person'))
      end
      if counts then
        local one = tonumber(string.match(found[i + 1], '^%d+'))
        seconds[#seconds + 1] = one
        if first <= one and one < last then count = count + 1 end
      end
    end
  end
  if is_again and not is_joined then return false end
  if rolling == 0 then return count >= most and first <= second and second < last end
  table.sort(seconds)
  for i = 1, #seconds - most do
    local one, other = seconds[i], seconds[i + most]
    if other - one < rolling and one <= second and second <= other then return true end
  end
  return false
end
-- A held redemption is counted with what was confirmed under ids that have become the same person.
local function is_reached_again(cap)
  local own = redis.call('HGET', 'offers:redeemed:' .. kept('person'), cap[2] .. ' ' .. ARGV[2])
  return own and is_reached(cap, tonumber(string.match(own, '^%d+')), true)
end

local changes, after = demands, demands
if was == 'held' then changes, after = adjusted(cjson.decode(kept('held'))) end
local lacking = take(changes)
if lacking then return {'exhausted', lacking, '', before} end
if persons[1] and (was ~= 'held' or kept('person') == '') then
  for _, cap in ipairs(caps) do
    if is_reached(cap, tonumber(asked.second), false) then
      untake(changes)
      return {'capped', cap[1], '', before}
    end
  end
  local of, names, matters = 'offers:redeemed:' .. persons[1], {}, {}
  for _, cap in ipairs(caps) do
    local so_far = matters[cap[2]]
    if so_far ~= '' and (not so_far or cap[7] == '' or tonumber(cap[7]) > tonumber(so_far)) then
      matters[cap[2]] = cap[7]
    end
  end
  local found = redis.call('HGETALL', of)
  for i = 1, #found, 2 do
    local last = string.match(found[i + 1], ':(%d+)$')
    if last and tonumber(last) <= now then redis.call('HDEL', of, found[i]) end
  end
  for cap, last in pairs(matters) do
    redis.call('HSET', of, cap .. ' ' .. ARGV[2], asked.second .. ':' .. last)
    names[#names + 1] = cap
  end
  redis.call('HSET', key, 'caps', table.concat(names, ' '))
  local longest = now + 1
  for _, value in ipairs(redis.call('HVALS', of)) do
    local last = string.match(value, ':(%d+)$')
    longest = last and longest and math.max(longest, tonumber(last))
  end
  if longest then redis.call('EXPIRE', of, longest - now) else redis.call('PERSIST', of) end
elseif persons[1] then
  for _, cap in ipairs(caps) do
    if is_reached_again(cap) then
      untake(changes)
      return {'capped', cap[1], '', before}
    end
  end
end
local function told(name, otherwise)
  if asked[name] ~= '' then return asked[name] end
  local before = kept(name)
  return (was == 'held' or otherwise == '') and before ~= '' and before or otherwise
end
redis.call('HSET', key, 'held', cjson.encode(after), 'units', told('units', '1'), 'whole', told('whole', '0'),
  'rest', told('rest', '0'), 'currency', told('currency', ''), 'offer', told('offer', ''))
if kept('person') == '' then redis.call('HSET', key, 'person', persons[1] or '') end
if phase == 'held' then
  redis.call('HSET', key, 'phase', phase, 'until', ending, 'event_id', asked.event_id)
  redis.call('ZADD', 'offers:held', ending, ARGV[2])
  return {'', '', '', before}
end
redis.call('HSET', key, 'confirm_event_id', asked.event_id)
return finished(phase)
"""
)
_EXPIRE = Script(
    _COMMON
    + """
local due = redis.call('ZRANGEBYSCORE', 'offers:held', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, redemption in ipairs(due) do expire('offers:r:' .. redemption) end
return #due
"""
)


class RedisLedger:
    """A Ledger in Redis."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._forget_at = 0

    def reserve(self, asked: Redemption, now: int, until: int) -> RedemptionOutcome:
        """See Ledger."""
        return self._do("held", asked, now, until)

    def confirm(self, asked: Redemption, now: int) -> RedemptionOutcome:
        """See Ledger."""
        return self._do("confirmed", asked, now)

    def release(self, asked: Redemption, now: int) -> RedemptionOutcome:
        """See Ledger."""
        return self._do("released", asked, now)

    def reverse(self, asked: Redemption, now: int) -> RedemptionOutcome:
        """See Ledger."""
        return self._do("reversed", asked, now)

    def find(self, name: str) -> KeptRedemption:
        """See Ledger."""
        return _kept(self._server.ask([("HGETALL", f"offers:r:{name}")])[0])

    def redeemed(self, persons: Sequence[Person]) -> list[tuple[int, int]]:
        """See Ledger."""
        replies = self._server.ask([("HGETALL", self._redeemed(person)) for person in persons])
        return sorted(
            (int(field.partition(b" ")[0]), int(value.partition(b":")[0]))
            for reply in replies
            for field, value in _pairs(reply)
        )

    def forget(self, persons: Sequence[Person]) -> None:
        """See Ledger."""
        self._server.ask([("DEL", *map(self._redeemed, persons))])

    def expire(self, now: int) -> int:
        """See Ledger. Redis itself removes old redemptions, by its own clock."""
        expired = 0
        while True:
            count: int = self._server.run(_EXPIRE, now, _EXPIRED_AT_ONCE)
            expired += count
            if count < _EXPIRED_AT_ONCE:
                break
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY_S
            fields = self._server.ask([("HKEYS", _USED)])[0]
            old = [one for one in fields if 0 < int(one.split(b":", 2)[1]) <= now - PERIOD_KEPT_S]
            if old:
                self._server.ask([("HDEL", _USED, *old)])
        return expired

    def usage(self) -> Iterable[Usage]:
        """See Ledger."""
        amounts = dict(_pairs(self._server.ask([("HGETALL", _USED)])[0]))
        usage = []
        for field, units in amounts.items():
            sort, period, budget = field.split(b":", 2)
            if sort == b"u":
                at = b":%b:%b" % (period, budget)
                micros = int(amounts[b"h" + at]) * MICROS + int(amounts[b"l" + at])
                usage.append(Usage(budget.decode(), int(period), int(units), micros))
        return usage

    def close(self) -> None:
        """See Ledger."""
        self._server.close()

    def _redeemed(self, person: Person) -> str:
        return f"offers:redeemed:{self._hash(person)}"

    def _hash(self, person: Person) -> str:
        return self._server.hash(person).hex()

    def _do(self, phase: str, asked: Redemption, now: int, until: int = 0) -> RedemptionOutcome:
        """Bring a redemption into a phase."""
        demands, persons = [_demand(*demand) for demand in asked.demands], [self._hash(one) for one in asked.persons]
        parts = map(orjson.dumps, (_told(asked), demands, _caps(asked), persons))
        reason, lacking, repeated, kept = self._server.run(_STEP, phase, asked.name, now, until, *parts)
        return RedemptionOutcome(not reason, reason.decode(), lacking.decode(), bool(repeated), _kept(kept))


def _told(asked: Redemption) -> dict[str, str]:
    units, micros, currency = asked.amounts
    whole, rest = ("", "") if micros is None else map(str, divmod(micros, MICROS))
    return {
        "event_id": asked.event_id, "offer": asked.offer, "second": str(asked.second),
        "units": "" if units is None else str(units), "whole": whole, "rest": rest, "currency": currency,
    }  # fmt: skip


def _demand(
    budget: str, period: int, units: int, micros: int,
    max_units: int, max_micros: int, max_period_units: int, max_period_micros: int,
) -> list[str]:  # fmt: skip
    numbers = (
        period, units, *divmod(micros, MICROS), max_units, *divmod(max_micros, MICROS),
        max_period_units, *divmod(max_period_micros, MICROS),
    )  # fmt: skip
    return [budget, *map(str, numbers)]


def _caps(asked: Redemption) -> list[list[str]]:
    told = []
    for cap in asked.caps:
        until = cap.matters_until(asked.second)
        numbers = (cap.key, cap.max_count, cap.begin, cap.end, cap.rolling_s, "" if until == EVER else until)
        told.append([cap.name, *map(str, numbers)])
    return told


def _pairs(reply: Any) -> list[tuple[bytes, bytes]]:  # noqa: ANN401 - a map, or by older protocols a list
    return list(reply.items()) if isinstance(reply, dict) else list(zip(reply[::2], reply[1::2], strict=True))


def _kept(reply: Any) -> KeptRedemption:  # noqa: ANN401 - a map, or by older protocols a list
    found = {name.decode(): value.decode() for name, value in _pairs(reply)}
    if not found:
        return UNKNOWN
    micros = int(found["whole"]) * MICROS + int(found["rest"]) if found.get("whole") else None
    amounts = Amounts(int(found["units"]) if found.get("units") else None, micros, found.get("currency", ""))
    event_id, confirm_event_id, offer, person = (
        found.get(name, "") for name in ("event_id", "confirm_event_id", "offer", "person")
    )
    return KeptRedemption(found["phase"], event_id, confirm_event_id, offer, bytes.fromhex(person), amounts)
